//! Messages with each character replaced by one of its own from Unicode's private planes, white space excepted, so that
//! trimming works as before; and back.

use std::collections::HashMap;

use serde_json::Value;

use super::{Conversation, Message, RenderedChat};

/// Planes 15 and 16, all of them for private use.
const PRIVATE: [(u32, u32); 2] = [(0xF_0000, 0xF_FFFD), (0x10_0000, 0x10_FFFD)];

/// Whether `character` is in those planes.
pub(super) fn is_private(character: char) -> bool {
    PRIVATE
        .iter()
        .any(|&(first, last)| (first..=last).contains(&u32::from(character)))
}

/// Fields of a message that a template compares with words of its own, and those words; any other text there is disguised.
const KEYWORDS: [(&str, &[&str]); 2] = [
    (
        "type",
        &[
            "function", "text", "object", "string", "number", "integer", "boolean", "array",
        ],
    ),
    ("role", &["system", "user", "assistant", "tool"]),
];

/// The field whose keys are a model's words too.
const ARGUMENTS: &str = "arguments";

/// Stand-ins given so far.
#[derive(Default)]
pub(super) struct Disguise<'a> {
    given: HashMap<(usize, char), char>,
    /// By stand-in: message and character.
    back: HashMap<char, (usize, char)>,
    next: u32,
    /// Characters that stay, because a filter of the template escapes them.
    plain: &'static [char],
    /// Words that stay, because the template looks for them.
    words: &'a [String],
    /// By message and word the two characters that stand around it, if any are to.
    marks: HashMap<(usize, &'a str), [char; 2]>,
    marked: bool,
}

impl<'a> Disguise<'a> {
    /// One that leaves characters of `plain` and `words` as they are, `marked` with the words between two marks.
    pub(super) fn new(plain: &'static [char], words: &'a [String], marked: bool) -> Self {
        Self {
            next: PRIVATE[0].0,
            plain,
            words,
            marked,
            ..Self::default()
        }
    }

    fn stand_in(&mut self) -> Option<char> {
        if self.next > PRIVATE[0].1 && self.next < PRIVATE[1].0 {
            self.next = PRIVATE[1].0;
        }
        let stand_in = char::from_u32(self.next).filter(|_| self.next <= PRIVATE[1].1)?;
        self.next += 1;
        Some(stand_in)
    }

    fn marks(&mut self, message: usize, word: &'a str) -> Option<[char; 2]> {
        if let Some(&marks) = self.marks.get(&(message, word)) {
            return Some(marks);
        }
        let marks = [self.stand_in()?, self.stand_in()?];
        self.marks.insert((message, word), marks);
        Some(marks)
    }

    /// `text` in stand-ins; `None` when there are no more of them.
    fn wear(&mut self, message: usize, text: &str) -> Option<String> {
        let mut worn = String::with_capacity(4 * text.len());
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let words = self.words.iter();
            let longest = words
                .filter(|word| rest.starts_with(word.as_str()))
                .max_by_key(|word| word.len());
            if let Some(word) = longest {
                let [open, close] = if self.marked {
                    self.marks(message, word)?.map(Some)
                } else {
                    [None; 2]
                };
                worn.extend(open);
                worn.push_str(word);
                worn.extend(close);
                rest = rest.get(word.len()..)?;
                continue;
            }
            rest = rest.get(character.len_utf8()..)?;
            let stays = character.is_whitespace() || self.plain.contains(&character);
            worn.push(match self.given.get(&(message, character)) {
                _ if stays => character,
                Some(&known) => known,
                None => {
                    let stand_in = self.stand_in()?;
                    self.given.insert((message, character), stand_in);
                    self.back.insert(stand_in, (message, character));
                    stand_in
                }
            });
        }
        Some(worn)
    }

    fn wear_value(&mut self, message: usize, value: &Value) -> Option<Value> {
        Some(match value {
            Value::String(text) => Value::String(self.wear(message, text)?),
            Value::Array(values) => Value::Array(
                values
                    .iter()
                    .map(|value| self.wear_value(message, value))
                    .collect::<Option<_>>()?,
            ),
            Value::Object(map) => Value::Object(
                map.iter()
                    .map(|(key, value)| {
                        let keyword = KEYWORDS.iter().any(|(field, words)| {
                            field == key && value.as_str().is_some_and(|word| words.contains(&word))
                        });
                        let worn = match value {
                            _ if keyword => value.clone(),
                            Value::Object(arguments) if key == ARGUMENTS => {
                                self.wear_keys(message, arguments)?
                            }
                            _ => self.wear_value(message, value)?,
                        };
                        Some((key.clone(), worn))
                    })
                    .collect::<Option<_>>()?,
            ),
            other => other.clone(),
        })
    }

    fn wear_keys(&mut self, message: usize, map: &serde_json::Map<String, Value>) -> Option<Value> {
        let worn = map
            .iter()
            .map(|(key, value)| Some((self.wear(message, key)?, self.wear_value(message, value)?)));
        Some(Value::Object(worn.collect::<Option<_>>()?))
    }

    pub(super) fn wear_conversation(
        &mut self,
        conversation: &Conversation,
    ) -> Option<Conversation> {
        conversation
            .messages()
            .iter()
            .enumerate()
            .map(|(index, message)| {
                let extra = Value::Object(message.extra.clone());
                let Value::Object(extra) = self.wear_value(index, &extra)? else {
                    return None;
                };
                Some(Message {
                    role: message.role.clone(),
                    content: self.wear(index, &message.content)?,
                    extra,
                })
            })
            .collect()
    }

    /// The text behind the stand-ins, and where each character came from. White space and other plain characters between two
    /// characters of one message are that message's, and so is a word that still stands at a mark.
    pub(super) fn take_off(&self, worn: &str) -> RenderedChat {
        let worn: Vec<char> = worn.chars().collect();
        let owned = self.words_at_marks(&worn);
        let marks: Vec<char> = self.marks.values().flatten().copied().collect();
        let mut text = String::with_capacity(worn.len());
        let mut from: Vec<Option<usize>> = Vec::with_capacity(worn.len());
        for (&character, owner) in worn.iter().zip(owned) {
            if marks.contains(&character) {
                continue;
            }
            let (original, source) = match self.back.get(&character) {
                Some(&(message, original)) => (original, Some(message)),
                None => (character, owner),
            };
            text.push(original);
            from.push(source);
        }
        let mut rendered = RenderedChat { text, from };
        rendered.bridge(self.plain);
        rendered
    }

    /// For each character the message whose mark it stands at, as part of that mark's word.
    fn words_at_marks(&self, worn: &[char]) -> Vec<Option<usize>> {
        let mut owned = vec![None; worn.len()];
        for (&(message, word), [open, close]) in &self.marks {
            for (at, character) in worn.iter().enumerate() {
                let own = if character == open {
                    let after = worn.iter().skip(at + 1).copied();
                    at + 1..at + 1 + shared(word.chars(), after)
                } else if character == close {
                    let before = worn.iter().take(at).rev().copied();
                    at - shared(word.chars().rev(), before)..at
                } else {
                    continue;
                };
                owned.get_mut(own).unwrap_or_default().fill(Some(message));
            }
        }
        owned
    }
}

/// How many characters two texts begin with alike.
fn shared(one: impl Iterator<Item = char>, other: impl Iterator<Item = char>) -> usize {
    one.zip(other)
        .take_while(|(one, other)| one == other)
        .count()
}
