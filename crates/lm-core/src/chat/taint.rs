//! Which characters of a rendered conversation came from its messages.
//!
//! Searching the text for a message's content can be fooled: content may repeat the template's words, and templates trim,
//! split and repeat content. So the conversation is rendered a second time in [disguise](Disguise). What came from message `m`
//! is then visible character by character, whatever the template did to it. The disguise off, the second text must be the first
//! one.
//!
//! A template may look into a message for words, such as `</think>`, which are then literals of its own. Those stay undisguised,
//! and a third rendering with a mark on each side of every such word shows which were printed from a message and which the
//! template wrote itself. Where no rendering agrees with the first one, nothing is guessed.

use std::time::SystemTime;

use super::disguise::{Disguise, is_private};
use super::scan::literals;
use super::{ChatTemplate, Conversation, RenderOptions, TemplateError};

/// A rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedChat {
    /// The text.
    pub text: String,
    /// For each character of the text the message it came from, `None` where the template wrote it.
    pub from: Vec<Option<usize>>,
}

impl RenderedChat {
    /// Gives white space and `plain` characters between two characters of one message to that message.
    pub(super) fn bridge(&mut self, plain: &[char]) {
        // The last character of a message, while only plain ones have followed.
        let mut open: Option<(usize, usize)> = None;
        for (at, character) in self.text.chars().enumerate() {
            match self.from.get(at).copied().flatten() {
                Some(message) => {
                    if let Some((_, last)) = open.filter(|&(owner, _)| owner == message) {
                        let between = self.from.get_mut(last..at).unwrap_or_default();
                        between.fill(Some(message));
                    }
                    open = Some((message, at));
                }
                None if character.is_whitespace() || plain.contains(&character) => {}
                None => open = None,
            }
        }
    }

    /// Gives white space at the end, after a character of `message`, to that message.
    fn end_in(&mut self, message: usize) {
        let spaces = self
            .text
            .chars()
            .rev()
            .take_while(|last| last.is_whitespace())
            .count();
        let at = self.from.len() - spaces;
        if at > 0 && self.from.get(at - 1) == Some(&Some(message)) {
            self.from
                .get_mut(at..)
                .unwrap_or_default()
                .fill(Some(message));
        }
    }
}

/// The most literals of a template that may stand in one conversation's messages, a rendering each.
const MAX_WORDS: usize = 32;

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
        if Disguise::new(&[], &[], false)
            .wear_conversation(conversation)
            .is_none()
        {
            return Err(refused(
                "the messages have more distinct characters than can be told apart",
            ));
        }
        let look = Look {
            template: self,
            conversation,
            options,
            text: &text,
        };
        // A template that prints content as JSON escapes these; then they must be themselves.
        for plain in [&[][..], &['"', '\\']] {
            let found = look
                .with_words(plain)
                .or_else(|| look.disguised(plain, &[]));
            if let Some(mut found) = found {
                if options.continue_final_message {
                    found.end_in(conversation.len() - 1);
                }
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

/// A rendering to be explained.
struct Look<'a> {
    template: &'a ChatTemplate,
    conversation: &'a Conversation,
    options: &'a RenderOptions,
    text: &'a str,
}

impl Look<'_> {
    /// What a disguised rendering says of the text; `None` if it gives another text.
    fn disguised(&self, plain: &'static [char], words: &[String]) -> Option<RenderedChat> {
        let found = self.rendered(Disguise::new(plain, words, false))?;
        (found.text == self.text).then_some(found)
    }

    /// The same with words of the template left as they are in the messages, and told apart by marks.
    fn with_words(&self, plain: &'static [char]) -> Option<RenderedChat> {
        let mut words: Vec<String> = literals(self.template.source())
            .into_iter()
            .filter(|word| self.conversation.contains(word))
            .collect();
        if words.is_empty() || words.len() > MAX_WORDS {
            return None;
        }
        let told_apart = |words: &[String]| {
            let unmarked = self.disguised(plain, words)?;
            agree(unmarked, &self.rendered(Disguise::new(plain, words, true))?)
        };
        if let Some(found) = told_apart(&words) {
            return Some(found);
        }
        // Marks beside a word that is only looked for in places may change what the template does: as few as will do.
        for at in (0..words.len()).rev() {
            let word = words.remove(at);
            if self.disguised(plain, &words).is_none() {
                words.insert(at, word);
            }
        }
        told_apart(&words)
    }

    /// A disguised rendering with the disguise off; `None` where stand-ins run out, or the template refuses the disguised
    /// conversation, into which it has then looked.
    fn rendered(&self, mut disguise: Disguise<'_>) -> Option<RenderedChat> {
        let worn = disguise.wear_conversation(self.conversation)?;
        let worn = self.template.render(&worn, self.options).ok()?;
        Some(disguise.take_off(&worn))
    }
}

/// `text` with the sources that `marked`, the same but for white space, knows more of; `None` if they contradict each other.
fn agree(mut text: RenderedChat, marked: &RenderedChat) -> Option<RenderedChat> {
    let solid = |text: &str, from: &[Option<usize>]| -> Vec<(usize, char, Option<usize>)> {
        text.chars()
            .zip(from)
            .enumerate()
            .filter(|(_, (character, _))| !character.is_whitespace())
            .map(|(at, (character, from))| (at, character, *from))
            .collect()
    };
    let (ours, theirs) = (
        solid(&text.text, &text.from),
        solid(&marked.text, &marked.from),
    );
    if ours.len() != theirs.len() {
        return None;
    }
    for ((at, character, from), (_, other, source)) in ours.into_iter().zip(theirs) {
        if character != other || (from.is_some() && from != source) {
            return None;
        }
        *text.from.get_mut(at)? = source;
    }
    text.bridge(&[]);
    Some(text)
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
        // Half a word: no literal of the template.
        let template = "{{ messages[0].content.split('</th' ~ 'ink>')[-1] }}";
        assert!(sources(template, &Conversation::new().user("plain")).is_ok());
        let error = sources(template, &Conversation::new().user("a</think>b")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a test: cannot tell the template's words from the messages': what it writes depends on words inside a message"
        );
    }

    /// What Qwen3 and R1 do to an answer that begins with its reasoning.
    const REASONING: &str = "{% for m in messages %}{% if m.role == 'assistant' and '</think>' in m.content %}\
        {{ '<think>\n' ~ m.content.split('</think>')[0].split('<think>')[-1].strip('\n') ~ '\n</think>\n\n' \
        ~ m.content.split('</think>')[-1].lstrip('\n') }}{% else %}{{ m.content }}{% endif %}{% endfor %}";

    #[test]
    fn the_template_s_reasoning_marks_are_told_from_the_message_s() {
        let conversation = Conversation::new()
            .user("a </think> b")
            .assistant("<think>\nc d\n</think>\n\n.");
        let found = sources(REASONING, &conversation).unwrap();
        // The user's mark is the user's; those around the reasoning are the template's.
        let user = "0".repeat(12);
        let opened = ".".repeat("<think>\n".len());
        let closed = ".".repeat("\n</think>\n\n".len());
        assert_eq!(found, format!("{user}{opened}111{closed}1"));
    }

    #[test]
    fn a_word_that_is_looked_for_and_printed_is_the_message_s() {
        let template =
            "{% if '<x>' in messages[0].content %}<x>{% endif %}\n{{ messages[0].content }}";
        let found = sources(template, &Conversation::new().user("<x>\n<x> b")).unwrap();
        assert_eq!(found, "...000000000");
        // Cut off on one side.
        let template = "{% set c = messages[0].content %}{% if '<x>' in c %}{{ c.split('q')[0] }}<x>{% endif %}";
        let found = sources(template, &Conversation::new().user("a <x>q b")).unwrap();
        assert_eq!(found, "00000...");
    }

    #[test]
    fn a_template_whose_output_changes_with_the_markers_is_refused() {
        let template =
            "{% if messages[0].content.startswith('<x>') %}<x>{% endif %}{{ messages[0].content }}";
        assert!(sources(template, &Conversation::new().user("b <x>")).is_ok());
        assert!(sources(template, &Conversation::new().user("<x> b")).is_err());
    }
}
