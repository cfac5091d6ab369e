//! One item of a data set.

use std::collections::BTreeMap;

use lm_core::{Conversation, Message, Prompt};
use serde::Serialize;
use serde_json::{Map, Value};

use super::error::Place;
use super::identity::{content_id, near_key};

/// One prompt or conversation, and what is known about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Item {
    /// Its name in every result: from the data, else the hash of its content ([`content_id`]).
    pub id: String,
    /// What a model is asked. A conversation may end in a reply, which the model then continues.
    #[serde(flatten)]
    pub content: Prompt,
    /// The class it belongs to, as its text: `true`, `1`, `mild`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What a reply is held against or should begin with: AdvBench's `target`, a reference answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What it belongs to: `category`, `topic`, `source`, `person`, or names of the reader's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, String>,
    /// Columns that stand for nothing above, as they were.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
    /// Where it stood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl Item {
    /// An item of this content, under the hash of it.
    #[must_use]
    pub fn new(content: Prompt) -> Self {
        Self {
            id: content_id(&content),
            content,
            label: None,
            target: None,
            groups: BTreeMap::new(),
            extra: Map::new(),
            place: None,
        }
    }

    /// One request, as a user's turn.
    #[must_use]
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Prompt::Chat(Conversation::new().user(text)))
    }

    /// A text for the model as it stands, without a chat template. Control tokens in it are control tokens.
    #[must_use]
    pub fn raw(text: impl Into<String>) -> Self {
        Self::new(Prompt::Raw(text.into()))
    }

    /// A conversation.
    #[must_use]
    pub fn chat(conversation: Conversation) -> Self {
        Self::new(Prompt::Chat(conversation))
    }

    /// The same under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// The same, labelled.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// The same with a target.
    #[must_use]
    pub fn with_target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// The same as a member of a group, such as `topic`.
    #[must_use]
    pub fn with_group(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.groups.insert(name.into(), value.into());
        self
    }

    /// The same with a field that is only kept.
    #[must_use]
    pub fn with_extra(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.insert(name.into(), value.into());
        self
    }

    /// The label as yes or no: `true`, `yes` and `1` are yes, `false`, `no` and `0` no; `None` for any other, or none.
    #[must_use]
    pub fn label_as_bool(&self) -> Option<bool> {
        match self.label.as_deref()? {
            "true" | "True" | "TRUE" | "yes" | "1" => Some(true),
            "false" | "False" | "FALSE" | "no" | "0" => Some(false),
            _ => None,
        }
    }

    /// All that is said in it, messages apart by a line break.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.content {
            Prompt::Raw(text) => text.clone(),
            Prompt::Chat(conversation) => conversation
                .messages()
                .iter()
                .map(|message| message.content.as_str())
                .collect::<Vec<_>>()
                .join("\n"),
        }
    }

    /// The same for all items whose words are the same; see [`near_key`].
    #[must_use]
    pub fn near_key(&self) -> String {
        near_key(&self.content)
    }
}

/// The messages of a content; a raw text has one without a role.
pub(super) fn parts(content: &Prompt) -> Vec<(&str, &str, Option<&Message>)> {
    match content {
        Prompt::Raw(text) => vec![("", text.as_str(), None)],
        Prompt::Chat(conversation) => conversation
            .messages()
            .iter()
            .map(|message| {
                (
                    message.role.as_str(),
                    message.content.as_str(),
                    Some(message),
                )
            })
            .collect(),
    }
}
