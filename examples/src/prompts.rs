//! Prompts as JSON Lines, and prompts as tokens.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use lm_core::{Conversation, LanguageModel as _, Prompt, Request, TorchModel};
use serde::Deserialize;

/// A prompt and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// For messages: the flag, or file and line.
    pub origin: String,
    /// The name it was given. Its draws depend on the name, so that it can be moved to another file.
    pub id: Option<String>,
    /// The prompt.
    pub prompt: Prompt,
}

const EXPECTED: &str =
    r#"{"prompt": "raw text"} or {"messages": [{"role": "user", "content": "…"}]}"#;

/// A line as it may stand in a file. Data sets carry labels beside their prompts, so other fields are passed over.
#[derive(Deserialize)]
struct Line {
    id: Option<Id>,
    prompt: Option<String>,
    messages: Option<Conversation>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Text(String),
}

/// Reads JSON Lines: a raw `prompt` or chat `messages` on each line, with an optional `id` (a text or a number) that no other
/// line has. Empty lines are passed over.
///
/// # Errors
/// A file that can't be read, that holds no prompt, or a line that is neither of the two; the error names file and line.
pub fn read(path: &Path) -> Result<Vec<Item>> {
    let bytes =
        fs::read(path).with_context(|| format!("--prompts: cannot read {}", path.display()))?;
    let mut items = Vec::new();
    let mut ids = HashMap::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let number = index + 1;
        let origin = format!("{}:{number}", path.display());
        if line.trim_ascii().is_empty() {
            continue;
        }
        let item = parse(line, origin.clone())
            .with_context(|| format!("{origin}: expected {EXPECTED}"))?;
        if let Some(id) = &item.id
            && let Some(first) = ids.insert(id.clone(), number)
        {
            bail!(
                "{origin}: id {id:?} was already given in line {first}, expected a different one on each line"
            );
        }
        items.push(item);
    }
    ensure!(
        !items.is_empty(),
        "{}: found no prompt, expected {EXPECTED} on each line",
        path.display()
    );
    Ok(items)
}

fn parse(line: &[u8], origin: String) -> Result<Item> {
    // Through text, because the JSON reader's own complaint about a byte does not say that it is no UTF-8.
    let line = std::str::from_utf8(line).context("found bytes that are not UTF-8")?;
    let line: Line = serde_json::from_str(line).map_err(|error| {
        // Its line is always 1, beside the number of the real one.
        let text = error.to_string();
        let place = format!(" at line 1 column {}", error.column());
        anyhow::anyhow!(
            "column {}: {}",
            error.column(),
            text.trim_end_matches(&place)
        )
    })?;
    let prompt = match (line.prompt, line.messages) {
        (Some(text), None) => Prompt::Raw(text),
        (None, Some(conversation)) if conversation.is_empty() => {
            bail!("found `messages` with no message in it")
        }
        (None, Some(conversation)) => Prompt::Chat(conversation),
        (Some(_), Some(_)) => bail!("found both `prompt` and `messages`"),
        (None, None) => bail!("found neither `prompt` nor `messages`"),
    };
    let id = line.id.map(|id| match id {
        Id::Number(number) => number.to_string(),
        Id::Text(text) => text,
    });
    Ok(Item { origin, id, prompt })
}

impl Item {
    /// The tokens the model is fed. An item without a name is named by its tokens.
    ///
    /// # Errors
    /// What template and tokenizer refuse, and a prompt that is longer than the model's context.
    pub fn request(&self, model: &TorchModel) -> Result<Request> {
        let tokens = model
            .text()?
            .encode(&self.prompt)
            .with_context(|| self.origin.clone())?
            .into_ids();
        if let Some(limit) = model.context_length().filter(|&limit| tokens.len() > limit) {
            bail!(
                "{}: {} tokens, but the model's context holds {limit}",
                self.origin,
                tokens.len()
            );
        }
        Ok(match &self.id {
            Some(id) => Request {
                id: id.clone(),
                tokens,
            },
            None => Request::unnamed(tokens),
        })
    }

    /// The last thing said, for headings.
    pub fn summary(&self) -> &str {
        match &self.prompt {
            Prompt::Raw(text) => text,
            Prompt::Chat(conversation) => {
                conversation.last().map_or("", |message| &message.content)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(bytes: impl AsRef<[u8]>) -> Result<Vec<Item>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.jsonl");
        fs::write(&path, bytes).unwrap();
        let place = format!("{}/", folder.path().display());
        read(&path).map_err(|error| format!("{error:#}").replace(&place, ""))
    }

    #[test]
    fn both_forms_are_read_in_order() {
        let items = from(
            "{\"prompt\": \"Once\", \"id\": 7, \"label\": true}\r\n\n\
             {\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"id\": \"b\"}",
        )
        .unwrap();
        let ids: Vec<_> = items.iter().map(|item| item.id.as_deref()).collect();
        assert_eq!(ids, [Some("7"), Some("b")]);
        assert_eq!(items[0].prompt, Prompt::Raw("Once".to_owned()));
        assert_eq!(
            items[1].prompt,
            Prompt::Chat(Conversation::new().user("Hi"))
        );
        assert!(items[1].origin.ends_with("p.jsonl:3"));
    }

    #[test]
    fn a_bad_line_is_named() {
        let good = "{\"prompt\": \"a\"}\n";
        for (line, found) in [
            (
                "{\"promt\": \"a\"}",
                "found neither `prompt` nor `messages`",
            ),
            (
                "{\"prompt\": \"a\", \"messages\": []}",
                "found both `prompt` and `messages`",
            ),
            (
                "{\"messages\": []}",
                "found `messages` with no message in it",
            ),
            (
                "{\"prompt\": 3}",
                "column 12: invalid type: integer `3`, expected a string",
            ),
            (
                "{\"messages\": [{\"role\": \"user\"}]}",
                "column 30: missing field `content`",
            ),
            (
                "{\"prompt\": \"a\"",
                "column 14: EOF while parsing an object",
            ),
            ("plain text", "column 1: expected value"),
        ] {
            assert_eq!(
                from(format!("{good}{line}\n")).unwrap_err(),
                format!("p.jsonl:2: expected {EXPECTED}: {found}")
            );
        }
        let error = from(b"{\"prompt\": \"\xff\"}".as_slice()).unwrap_err();
        assert!(
            error.contains("p.jsonl:1: ") && error.contains("not UTF-8"),
            "{error}"
        );
    }

    #[test]
    fn a_name_is_given_once() {
        let error =
            from("{\"prompt\": \"a\", \"id\": \"x\"}\n\n{\"prompt\": \"b\", \"id\": \"x\"}\n")
                .unwrap_err();
        assert_eq!(
            error,
            "p.jsonl:3: id \"x\" was already given in line 1, expected a different one on each line"
        );
        // Two prompts without a name have no name in common.
        assert_eq!(
            from("{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}")
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn an_empty_file_is_refused() {
        assert_eq!(
            from("\n \n").unwrap_err(),
            format!("p.jsonl: found no prompt, expected {EXPECTED} on each line")
        );
        let error = format!("{:#}", read(Path::new("/no/such.jsonl")).unwrap_err());
        assert!(
            error.starts_with("--prompts: cannot read /no/such.jsonl: "),
            "{error}"
        );
    }
}
