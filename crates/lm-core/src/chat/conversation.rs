//! Who said what.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions that stand above the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
    /// Any other role a template may know, such as `developer`.
    Other(String),
}

impl Role {
    /// The name templates and files use.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for Role {
    fn from(name: &str) -> Self {
        match name {
            "system" => Self::System,
            "user" => Self::User,
            "assistant" => Self::Assistant,
            "tool" => Self::Tool,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|name| Self::from(name.as_str()))
    }
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// Further fields some templates read, such as `name`, `tool_calls` or `reasoning_content`; passed on as they are.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Message {
    /// A turn without further fields.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            extra: serde_json::Map::new(),
        }
    }
}

/// A conversation; as JSON the list of `{"role", "content"}` objects that Hugging Face libraries use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Conversation {
    messages: Vec<Message>,
}

impl Conversation {
    /// No message yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a system message.
    #[must_use]
    pub fn system(self, content: impl Into<String>) -> Self {
        self.with(Message::new(Role::System, content))
    }

    /// Adds a user message.
    #[must_use]
    pub fn user(self, content: impl Into<String>) -> Self {
        self.with(Message::new(Role::User, content))
    }

    /// Adds an assistant message. If it stays the last one, the model continues it.
    #[must_use]
    pub fn assistant(self, content: impl Into<String>) -> Self {
        self.with(Message::new(Role::Assistant, content))
    }

    /// Adds a message.
    #[must_use]
    pub fn with(mut self, message: Message) -> Self {
        self.messages.push(message);
        self
    }

    /// Adds a message in place, for a conversation that grows turn by turn.
    pub fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// The messages in order.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The last message.
    #[must_use]
    pub fn last(&self) -> Option<&Message> {
        self.messages.last()
    }

    /// Whether nothing has been said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Number of messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether a message has this text in its content or its further fields.
    pub(super) fn contains(&self, text: &str) -> bool {
        self.messages.iter().any(|message| {
            message.content.contains(text) || message.extra.values().any(|value| holds(value, text))
        })
    }

    /// Whether the last turn is the model's, which it then continues instead of opening a new one.
    #[must_use]
    pub fn ends_in_assistant(&self) -> bool {
        self.last()
            .is_some_and(|message| message.role == Role::Assistant)
    }
}

fn holds(value: &serde_json::Value, text: &str) -> bool {
    match value {
        serde_json::Value::String(found) => found.contains(text),
        serde_json::Value::Array(values) => values.iter().any(|value| holds(value, text)),
        serde_json::Value::Object(map) => map
            .iter()
            .any(|(key, value)| key.contains(text) || holds(value, text)),
        _ => false,
    }
}

impl From<Vec<Message>> for Conversation {
    fn from(messages: Vec<Message>) -> Self {
        Self { messages }
    }
}

impl FromIterator<Message> for Conversation {
    fn from_iter<I: IntoIterator<Item = Message>>(messages: I) -> Self {
        Self {
            messages: messages.into_iter().collect(),
        }
    }
}
