//! Which characters of a rendered conversation came from its messages.
//!
//! Searching the text for a message's content can be fooled: content may repeat the template's words, and templates trim,
//! split and repeat content. So the conversation is rendered a second time with each character of each message replaced by a
//! character of its own from Unicode's private planes, white space excepted, so that trimming works as before. What came from
//! message `m` is then visible character by character, whatever the template did to it. Put back, the second text must be the
//! first one; where it is not, the template looked into the content, and nothing is guessed.

use std::collections::HashMap;
use std::time::SystemTime;

use serde_json::Value;

use super::{ChatTemplate, Conversation, Message, RenderOptions, TemplateError};

/// A rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedChat {
    /// The text.
    pub text: String,
    /// For each character of the text the message it came from, `None` where the template wrote it.
    pub from: Vec<Option<usize>>,
}

/// Planes 15 and 16, all of them for private use.
const PRIVATE: [(u32, u32); 2] = [(0xF_0000, 0xF_FFFD), (0x10_0000, 0x10_FFFD)];

/// Whether `character` is in those planes.
fn is_private(character: char) -> bool {
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
struct Disguise {
    given: HashMap<(usize, char), char>,
    /// By stand-in: message and character.
    back: HashMap<char, (usize, char)>,
    next: u32,
    /// Characters that stay, because a filter of the template escapes them.
    plain: &'static [char],
}

impl Disguise {
    fn new(plain: &'static [char]) -> Self {
        Self {
            next: PRIVATE[0].0,
            plain,
            ..Self::default()
        }
    }

    /// `text` in stand-ins; `None` when there are no more of them.
    fn wear(&mut self, message: usize, text: &str) -> Option<String> {
        text.chars()
            .map(|character| {
                if character.is_whitespace() || self.plain.contains(&character) {
                    return Some(character);
                }
                if let Some(&known) = self.given.get(&(message, character)) {
                    return Some(known);
                }
                if self.next > PRIVATE[0].1 && self.next < PRIVATE[1].0 {
                    self.next = PRIVATE[1].0;
                }
                let stand_in = char::from_u32(self.next).filter(|_| self.next <= PRIVATE[1].1)?;
                self.next += 1;
                self.given.insert((message, character), stand_in);
                self.back.insert(stand_in, (message, character));
                Some(stand_in)
            })
            .collect()
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

    fn wear_conversation(&mut self, conversation: &Conversation) -> Option<Conversation> {
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
    /// characters of one message are that message's.
    fn take_off(&self, worn: &str) -> RenderedChat {
        let mut text = String::with_capacity(worn.len());
        let mut from: Vec<Option<usize>> = Vec::new();
        // The last character of a message, while only plain ones have followed.
        let mut open: Option<(usize, usize)> = None;
        for character in worn.chars() {
            match self.back.get(&character) {
                Some(&(message, original)) => {
                    text.push(original);
                    if let Some((_, last)) = open.filter(|&(owner, _)| owner == message) {
                        from.iter_mut()
                            .skip(last + 1)
                            .for_each(|own| *own = Some(message));
                    }
                    open = Some((message, from.len()));
                    from.push(Some(message));
                }
                None => {
                    text.push(character);
                    if !character.is_whitespace() && !self.plain.contains(&character) {
                        open = None;
                    }
                    from.push(None);
                }
            }
        }
        RenderedChat { text, from }
    }
}

impl ChatTemplate {
    /// [`ChatTemplate::render`], and which message each character came from.
    ///
    /// # Errors
    /// Those of [`ChatTemplate::render`]; [`TemplateError::LooksIntoContent`] where what the template writes depends on words
    /// inside a message, so that its own words and the message's cannot be told apart.
    pub fn render_with_sources(
        &self,
        conversation: &Conversation,
        options: &RenderOptions,
    ) -> Result<RenderedChat, TemplateError> {
        // Both renderings see the same time.
        let options = &RenderOptions {
            now: Some(options.now.unwrap_or_else(SystemTime::now)),
            ..options.clone()
        };
        let text = self.render(conversation, options)?;
        let refused = |reason: &str| TemplateError::LooksIntoContent {
            origin: self.origin().to_owned(),
            reason: reason.to_owned(),
        };
        if self.source().chars().any(is_private) {
            return Err(refused("it contains characters for private use"));
        }
        // A template that prints content as JSON escapes these; then they must be themselves.
        for plain in [&[][..], &['"', '\\']] {
            let mut disguise = Disguise::new(plain);
            let Some(worn) = disguise.wear_conversation(conversation) else {
                return Err(refused(
                    "the messages have more distinct characters than can be told apart",
                ));
            };
            // A template that refuses the disguised conversation looked into it as well.
            let Ok(worn) = self.render(&worn, options) else {
                continue;
            };
            let found = disguise.take_off(&worn);
            if found.text == text {
                return Ok(found);
            }
        }
        Err(refused("what it writes depends on words inside a message"))
    }

    /// Refuses a text that ends inside a block of reasoning that the template opened.
    ///
    /// # Errors
    /// [`TemplateError::InsideReasoning`].
    pub fn require_outside_reasoning(&self, rendered: &RenderedChat) -> Result<(), TemplateError> {
        let own: String = rendered
            .text
            .chars()
            .zip(&rendered.from)
            .filter_map(|(character, from)| from.is_none().then_some(character))
            .collect();
        if own.rfind("<think>") > own.rfind("</think>") {
            return Err(TemplateError::InsideReasoning {
                origin: self.origin().to_owned(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(template: &str, conversation: &Conversation) -> Result<String, TemplateError> {
        let template = ChatTemplate::new(template, "a test").unwrap();
        let found = template.render_with_sources(conversation, &RenderOptions::default())?;
        assert_eq!(found.text.chars().count(), found.from.len());
        // A digit for a message, a dot for the template.
        Ok(found
            .from
            .iter()
            .map(|from| from.map_or_else(|| ".".to_owned(), |from| from.to_string()))
            .collect())
    }

    #[test]
    fn content_is_told_from_the_template_after_trimming_and_repeating() {
        let conversation = Conversation::new().user("  a b ").assistant("<u>");
        for (template, expected) in [
            (
                "{% for m in messages %}<u>{{ m.content }}{% endfor %}",
                ".....000....111",
            ),
            (
                "{% for m in messages %}<u>{{ m.content | trim }}{% endfor %}",
                "...000...111",
            ),
            (
                "{{ messages[0].content[2:3] }}<{{ messages[1].content }}>",
                "0.111.",
            ),
            ("{{ messages[1].content | tojson }}", ".111."),
        ] {
            assert_eq!(
                sources(template, &conversation).unwrap(),
                expected,
                "{template}"
            );
        }
    }

    #[test]
    fn quotes_in_json() {
        let conversation = Conversation::new().user("say \"a\\b\" now");
        assert_eq!(
            sources("{{ messages[0].content | tojson }}", &conversation).unwrap(),
            ".0000000000000000."
        );
    }

    #[test]
    fn a_template_that_looks_into_content_is_refused_and_only_then() {
        let template = "{{ messages[0].content.split('</think>')[-1] }}";
        assert!(sources(template, &Conversation::new().user("plain")).is_ok());
        let error = sources(template, &Conversation::new().user("a</think>b")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a test: cannot tell the template's words from the messages': what it writes depends on words inside a message"
        );
    }
}
