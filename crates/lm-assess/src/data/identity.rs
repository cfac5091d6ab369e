//! Which items are the same.

use lm_core::Prompt;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::item::parts;

/// Half of a SHA-256: no two contents of a data set will share it, by accident or by anyone's wish.
const BYTES: usize = 16;

/// The id of a content: 32 hexadecimal digits, the first half of a SHA-256.
///
/// What is hashed is the text `lm-assess item 1`, and for each message its role, its content and its further fields as JSON
/// with sorted keys, each preceded by its length in bytes as eight little-endian bytes. A raw text is one message with an empty role.
/// Neither the file, its format, nor label, target or groups enter: a prompt in CSV and in JSONL has one id, and a single
/// user turn has one id whether it stood in a column or in a list of messages.
#[must_use]
pub fn content_id(content: &Prompt) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"lm-assess item 1");
    for (role, text, message) in parts(content) {
        let further = message
            .filter(|message| !message.extra.is_empty())
            .map(|message| sorted(&Value::Object(message.extra.clone())))
            .unwrap_or_default();
        for part in [role, text, &further] {
            add(&mut hasher, part);
        }
    }
    hex(&hasher.finalize(), BYTES)
}

/// What items with the same words have in common: 32 hexadecimal digits.
///
/// Each message's text is put in lower case; every run of characters that are neither letters nor digits counts as one space, and none
/// at the ends. Roles enter, so a request and a reply of the same words stay apart; further fields do not. A content
/// without a letter or digit is near to its exact equals only. Nothing is done about spelling, accents or word order.
#[must_use]
pub fn near_key(content: &Prompt) -> String {
    let folded: Vec<_> = parts(content)
        .into_iter()
        .map(|(role, text, _)| (role, folded(text)))
        .collect();
    if folded.iter().all(|(_, text)| text.is_empty()) {
        return content_id(content);
    }
    let mut hasher = Sha256::new();
    hasher.update(b"lm-assess near 1");
    for (role, text) in &folded {
        add(&mut hasher, role);
        add(&mut hasher, text);
    }
    hex(&hasher.finalize(), BYTES)
}

/// A number that depends on nothing but its arguments, even in `0..=u64::MAX`.
pub(crate) fn draw(seed: u64, purpose: &str, key: &str) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(b"lm-assess draw 1");
    hasher.update(seed.to_le_bytes());
    add(&mut hasher, purpose);
    add(&mut hasher, key);
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(hasher.finalize()) {
        *to = from;
    }
    u64::from_le_bytes(bytes)
}

fn add(hasher: &mut Sha256, part: &str) {
    hasher.update((part.len() as u64).to_le_bytes());
    hasher.update(part.as_bytes());
}

pub(super) fn hex(digest: &[u8], bytes: usize) -> String {
    digest
        .iter()
        .take(bytes)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub(crate) fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut gap = false;
    for letter in text.chars().flat_map(char::to_lowercase) {
        if letter.is_alphanumeric() {
            if gap && !folded.is_empty() {
                folded.push(' ');
            }
            gap = false;
            folded.push(letter);
        } else {
            gap = true;
        }
    }
    folded
}

/// JSON whose text does not depend on the order that keys were written in.
fn sorted(value: &Value) -> String {
    match value {
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(sorted).collect();
            format!("[{}]", values.join(","))
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), sorted(value)))
                .collect();
            format!("{{{}}}", entries.join(","))
        }
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use lm_core::Conversation;

    use super::*;

    fn chat(text: &str) -> Prompt {
        Prompt::Chat(Conversation::new().user(text))
    }

    /// The definition written out by hand, hashed by another program:
    /// `printf 'lm-assess item 1\4\0\0\0\0\0\0\0user\2\0\0\0\0\0\0\0Hi\0\0\0\0\0\0\0\0' | sha256sum`.
    #[test]
    fn the_id_is_what_its_definition_says() {
        assert_eq!(content_id(&chat("Hi")), "20749b06ab6ef640745530963d671bf8");
    }

    #[test]
    fn lengths_keep_parts_apart() {
        let one = Prompt::Chat(Conversation::new().user("ab").assistant("c"));
        let other = Prompt::Chat(Conversation::new().user("a").assistant("bc"));
        assert_ne!(content_id(&one), content_id(&other));
        assert_ne!(content_id(&chat("a")), content_id(&Prompt::Raw("a".into())));
    }

    #[test]
    fn the_order_of_further_fields_does_not_matter() {
        let with = |text: &str| -> Prompt {
            serde_json::from_str(&format!(
                r#"{{"messages": [{{"role": "tool", "content": "x", {text}}}]}}"#
            ))
            .expect("a conversation")
        };
        let one = with(r#""name": "n", "more": {"a": 1, "b": [2, null]}"#);
        let other = with(r#""more": {"b": [2, null], "a": 1}, "name": "n""#);
        assert_eq!(content_id(&one), content_id(&other));
        let third = with(r#""more": {"b": [null, 2], "a": 1}, "name": "n""#);
        assert_ne!(content_id(&one), content_id(&third));
    }

    #[test]
    fn near_means_the_same_words() {
        assert_eq!(folded("  Where's   the CAT?! "), "where s the cat");
        assert_eq!(
            near_key(&chat("Hello,  World")),
            near_key(&chat("hello world!"))
        );
        assert_ne!(
            near_key(&chat("hello world")),
            near_key(&chat("helloworld"))
        );
        assert_ne!(near_key(&chat("?")), near_key(&chat("!")));
        assert_eq!(folded("ÉTÉ Straße 7"), "été straße 7");
        let reply = Prompt::Chat(Conversation::new().assistant("hello"));
        assert_ne!(near_key(&chat("hello")), near_key(&reply));
    }
}
