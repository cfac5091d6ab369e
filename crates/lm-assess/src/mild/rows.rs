//! The rows of the four files.

use lm_core::Conversation;
use serde::{Deserialize, Serialize};

use super::numbers::numbers;
use super::read::Row;

/// Whether a request asks for misconduct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It asks for everyday misconduct: a fib, a petty rudeness, cheating at a game.
    Misconduct,
    /// It asks for nothing wrong.
    Benign,
}

impl Kind {
    /// As in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Misconduct => "misconduct",
            Self::Benign => "benign",
        }
    }
}

/// What a topic is for. A topic is in one half only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// To train and to tune on.
    Train,
    /// To report on: nothing may be chosen by these.
    HeldOut,
}

impl Split {
    /// As in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::HeldOut => "held-out",
        }
    }
}

/// The form of a request; twins have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// "Write …", "Suggest …".
    Imperative,
    /// "How do I …?", "What …?"
    Question,
    /// "Can you …?", "Could you …?"
    CanYou,
    /// "I want …", "I'd like …".
    Want,
    /// "Help me …".
    Help,
    /// "Give me …".
    Give,
    /// "This happened, so …".
    Statement,
}

impl Form {
    /// As in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Imperative => "imperative",
            Self::Question => "question",
            Self::CanYou => "can-you",
            Self::Want => "want",
            Self::Help => "help",
            Self::Give => "give",
            Self::Statement => "statement",
        }
    }
}

/// A request of one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// `<pair>-<kind>`.
    pub id: String,
    /// What it is about; the split goes by it.
    pub topic: String,
    /// The group of topics.
    pub category: String,
    /// Misconduct or not.
    pub kind: Kind,
    /// `<topic>-<number>`, the same for a request and its twin.
    pub pair: String,
    /// The form of the sentence.
    pub form: Form,
    /// The half that its topic is in.
    pub split: Split,
    /// The sentence.
    pub text: String,
    /// SHA-256 in hex of the fields above, in this order, joined by line feeds.
    pub sha256: String,
}

/// A harmless request whose wording looks alarming.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarming {
    /// `alarming-<category>-<number>`.
    pub id: String,
    /// Where it comes from: `cooking`, `computing`, …
    pub category: String,
    /// The part of the text that looks alarming, apart from its case.
    pub word: String,
    /// The request.
    pub text: String,
    /// As [`Request::sha256`].
    pub sha256: String,
}

/// How a reply to a plain question is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// By the number it ends with.
    Number,
    /// By the words it holds.
    Text,
}

impl Check {
    /// As in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Text => "text",
        }
    }
}

/// A plain question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainQuestion {
    /// `plain-<category>-<number>`.
    pub id: String,
    /// `arithmetic`, `capitals`, …
    pub category: String,
    /// The question.
    pub question: String,
    /// How a reply is checked.
    pub check: Check,
    /// What is right, the usual answer first: one number in digits, or one or more texts.
    pub answers: Vec<String>,
    /// SHA-256 in hex of the fields above, in this order, each answer a field of its own, joined by line feeds.
    pub sha256: String,
}

/// A neutral request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neutral {
    /// `neutral-<category>-<number>`.
    pub id: String,
    /// `write`, `explain`, …
    pub category: String,
    /// The request.
    pub text: String,
    /// As [`Request::sha256`].
    pub sha256: String,
}

impl Request {
    /// The request as a user's only message.
    #[must_use]
    pub fn conversation(&self) -> Conversation {
        Conversation::new().user(&self.text)
    }
}

impl Alarming {
    /// The request as a user's only message.
    #[must_use]
    pub fn conversation(&self) -> Conversation {
        Conversation::new().user(&self.text)
    }
}

impl PlainQuestion {
    /// The question as a user's only message.
    #[must_use]
    pub fn conversation(&self) -> Conversation {
        Conversation::new().user(&self.question)
    }
}

impl Neutral {
    /// The request as a user's only message.
    #[must_use]
    pub fn conversation(&self) -> Conversation {
        Conversation::new().user(&self.text)
    }
}

impl Row for Request {
    fn id(&self) -> &str {
        &self.id
    }

    fn hash(&self) -> &str {
        &self.sha256
    }

    fn fields(&self) -> Vec<&str> {
        vec![
            &self.id,
            &self.topic,
            &self.category,
            self.kind.as_str(),
            &self.pair,
            self.form.as_str(),
            self.split.as_str(),
            &self.text,
        ]
    }
}

impl Row for Alarming {
    fn id(&self) -> &str {
        &self.id
    }

    fn hash(&self) -> &str {
        &self.sha256
    }

    fn fields(&self) -> Vec<&str> {
        vec![&self.id, &self.category, &self.word, &self.text]
    }

    fn problem(&self) -> Option<(String, String)> {
        let (word, text) = (self.word.to_lowercase(), self.text.to_lowercase());
        (word.is_empty() || !text.contains(&word)).then(|| {
            (
                format!("a text with {:?} in it", self.word),
                self.text.clone(),
            )
        })
    }
}

impl Row for PlainQuestion {
    fn id(&self) -> &str {
        &self.id
    }

    fn hash(&self) -> &str {
        &self.sha256
    }

    fn fields(&self) -> Vec<&str> {
        let head = [
            &*self.id,
            &self.category,
            &self.question,
            self.check.as_str(),
        ];
        let answers = self.answers.iter().map(String::as_str);
        head.into_iter().chain(answers).collect()
    }

    fn problem(&self) -> Option<(String, String)> {
        let found = || format!("{:?}", self.answers);
        match (self.check, self.answers.as_slice()) {
            (Check::Number, [answer]) if numbers(answer).len() == 1 => None,
            (Check::Number, _) => Some(("one number as answer".to_owned(), found())),
            (Check::Text, []) => Some(("at least one answer".to_owned(), found())),
            (Check::Text, _) => None,
        }
    }
}

impl Row for Neutral {
    fn id(&self) -> &str {
        &self.id
    }

    fn hash(&self) -> &str {
        &self.sha256
    }

    fn fields(&self) -> Vec<&str> {
        vec![&self.id, &self.category, &self.text]
    }
}
