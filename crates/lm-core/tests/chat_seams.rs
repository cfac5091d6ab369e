//! Every template there is, the real ones of set-up too: a reply is continued at its last character, and no message can write
//! a control token. The vocabulary is a byte-level one that also has the control words of the template.
#![allow(missing_docs)]

mod chat_cases;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lm_core::chat::RenderOptions;
use lm_core::{ChatOptions, ContentPolicy, Conversation, EncodedChat, TextInterface};
use lm_testkit::{TinyLlama, golden_folder};
use serde_json::{Value, json};

use chat_cases::{real_template, tokens};

/// Words of a template that look like control tokens.
fn control_words(source: &str) -> BTreeSet<String> {
    let mut words: BTreeSet<String> = [tokens().bos, tokens().eos].into_iter().flatten().collect();
    for (open, close) in [('<', '>'), ('[', ']')] {
        for (start, _) in source.match_indices(open) {
            let Some(length) = source[start..].find(close) else {
                continue;
            };
            let inside = &source[start + 1..start + length];
            let named = inside
                .chars()
                .all(|c| c.is_alphanumeric() || "|_/-▁｜".contains(c));
            let shouted =
                open == '<' || inside.chars().all(|c| c.is_uppercase() || "_/".contains(c));
            // Not a name in a list, nor an index.
            if named && shouted && inside.chars().any(char::is_alphabetic) {
                words.insert(format!("{open}{inside}{close}"));
            }
        }
    }
    words
}

struct Model {
    name: String,
    text: TextInterface,
    control: BTreeSet<u32>,
    words: BTreeSet<String>,
}

impl Model {
    fn new(name: &str, source: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        TinyLlama::default().write(folder.path()).unwrap();
        let path = folder.path().join("tokenizer.json");
        let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let words = control_words(source);
        let added = json["added_tokens"].as_array_mut().unwrap();
        let known: BTreeSet<String> = added
            .iter()
            .map(|token| token["content"].as_str().unwrap().to_owned())
            .collect();
        let mut id = added
            .iter()
            .map(|token| token["id"].as_u64().unwrap())
            .max()
            .unwrap();
        for word in words.iter().filter(|word| !known.contains(*word)) {
            id += 1;
            added.push(json!({
                "id": id, "content": word, "special": true,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            }));
        }
        std::fs::write(&path, json.to_string()).unwrap();
        let config = json!({
            "bos_token": tokens().bos, "eos_token": tokens().eos, "chat_template": source,
        });
        std::fs::write(
            folder.path().join("tokenizer_config.json"),
            config.to_string(),
        )
        .unwrap();
        let text = TextInterface::from_folder(folder.path()).unwrap();
        let ids = |word: &String| text.tokenizer().token_to_id(word).unwrap();
        Self {
            name: name.to_owned(),
            control: words.iter().map(ids).collect(),
            words,
            text,
        }
    }

    fn render(
        &self,
        conversation: &Conversation,
        render: RenderOptions,
    ) -> Result<EncodedChat, String> {
        let render = render.with_now(std::time::UNIX_EPOCH);
        let options = ChatOptions::default().with_render(render);
        let encoded = self.text.encode_chat(conversation, &options);
        encoded.map_err(|error| error.to_string())
    }

    fn reply(&self, conversation: &Conversation) -> Result<EncodedChat, String> {
        self.render(conversation, RenderOptions::for_reply(conversation))
    }

    fn control_of(&self, ids: &[u32]) -> Vec<String> {
        let name = |&id: &u32| self.text.tokenizer().id_to_token(id).unwrap();
        ids.iter()
            .filter(|id| self.control.contains(id))
            .map(name)
            .collect()
    }
}

/// The real templates that are here, and the repository's own.
fn models(test: &str) -> Vec<Model> {
    let path = golden_folder().join("chat-real/expected.json");
    let expected: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let real: HashMap<String, String> =
        serde_json::from_value(expected["templates"].clone()).unwrap();
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    for name in real.into_keys() {
        match real_template(&name) {
            Some(source) => {
                sources.insert(name, source);
            }
            None => lm_testkit::note_skip(test, &name, "`cargo xtask setup` fetches it"),
        }
    }
    for entry in std::fs::read_dir(golden_folder().join("chat-templates/templates")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        // Tries what templates can do, and is no model's.
        if name == "features.jinja" {
            continue;
        }
        sources.insert(name.to_owned(), std::fs::read_to_string(&path).unwrap());
    }
    sources
        .iter()
        .map(|(name, source)| Model::new(name, source))
        .collect()
}

#[test]
fn a_reply_is_continued_at_its_last_character() {
    let (mut shown, mut closed) = (0, 0);
    for model in models("chat_seams::continued") {
        let name = &model.name;
        let asked = Conversation::new().user("Recommend a book.");
        for content in [
            "Sure! I would",
            "Sure! I would: ",
            "yes\n\nno",
            "Recommend a book.",
        ] {
            let begun = asked.clone().assistant(content);
            let prompt = model.reply(&asked).unwrap();
            let found = model.reply(&begun).unwrap();
            let full = model.render(&begun, RenderOptions::default()).unwrap();
            shown += 1;
            // It ends in the content, and the last id is the content's: nothing closes the turn.
            assert!(
                found.text.trim_end().ends_with(content.trim_end()),
                "{name}: {:?}",
                found.text
            );
            let range = found.messages[1]
                .clone()
                .unwrap_or_else(|| panic!("{name}: {:?}", found.messages));
            assert_eq!(range.end, found.ids.len(), "{name}");
            let ids = model
                .text
                .tokenizer()
                .decode(&found.ids[range], false)
                .unwrap();
            assert_eq!(ids.trim(), content.trim(), "{name}");
            // The whole turn begins with it, and where its end is a control token that one is not in it.
            if let Some(rest) = full.text.strip_prefix(&found.text) {
                if model
                    .words
                    .iter()
                    .any(|word| rest.trim_start().starts_with(word))
                {
                    closed += 1;
                    assert!(full.ids.len() > found.ids.len(), "{name}");
                    assert_eq!(full.ids[..found.ids.len()], found.ids[..], "{name}");
                }
            } else {
                // Templates that think aloud in the last turn show it otherwise.
                assert!(
                    full.text.contains("think"),
                    "{name}: {:?} {:?}",
                    found.text,
                    full.text
                );
            }
            // One header, one BOS: no control token that a new reply's prompt has not.
            let (ours, theirs) = (model.control_of(&found.ids), model.control_of(&prompt.ids));
            let thinks = |word: &String| word.contains("think");
            let ours: Vec<_> = ours.into_iter().filter(|word| !thinks(word)).collect();
            let theirs: Vec<_> = theirs.into_iter().filter(|word| !thinks(word)).collect();
            if prompt.text != model.render(&asked, RenderOptions::default()).unwrap().text {
                assert_eq!(
                    ours, theirs,
                    "{name}: {:?} and {:?}",
                    found.text, prompt.text
                );
            }
            let bos = tokens().bos.unwrap();
            assert!(
                ours.iter().filter(|word| **word == bos).count() <= 1,
                "{name}"
            );
        }
    }
    assert!(
        shown >= 4 * 5 && closed > shown / 2,
        "{closed} of {shown} turns end in a control token"
    );
}

#[test]
fn no_message_writes_a_control_token() {
    for model in models("chat_seams::forged") {
        let name = &model.name;
        let words: Vec<&str> = model.words.iter().map(String::as_str).collect();
        let plain = Conversation::new()
            .user("Hello")
            .assistant("Hi")
            .user("Bye");
        let expected = model.control_of(&model.reply(&plain).unwrap().ids);
        let conversations = [
            plain.clone(),
            Conversation::new()
                .user(format!("Hello{}", words.concat()))
                .assistant("Hi")
                .user("Bye"),
            Conversation::new()
                .user("Hello")
                .assistant("Hi")
                .user(format!("{} .", words.join(" "))),
            // No reasoning in the answer: what templates do with it is theirs to do.
            Conversation::new()
                .user("Hello")
                .assistant(format!(
                    "Hi {}",
                    words
                        .iter()
                        .copied()
                        .filter(|word| !word.contains("think"))
                        .collect::<Vec<_>>()
                        .join("\n")
                ))
                .user("Bye"),
        ];
        for conversation in conversations {
            match model.reply(&conversation) {
                Ok(found) => {
                    assert_eq!(
                        model.control_of(&found.ids),
                        expected,
                        "{name}: {:?}",
                        found.text
                    );
                    let trusted = ChatOptions::default()
                        .with_policy(ContentPolicy::Trusted)
                        .with_render(
                            RenderOptions::for_reply(&conversation).with_now(std::time::UNIX_EPOCH),
                        );
                    let trusted = model.text.encode_chat(&conversation, &trusted).unwrap();
                    assert_eq!(trusted.text, found.text, "{name}");
                }
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }
}

#[test]
fn reasoning_in_an_earlier_answer_is_the_template_s_to_show() {
    let mut shown = 0;
    for model in models("chat_seams::reasoning") {
        let conversation = Conversation::new()
            .user("Is 7 prime?")
            .assistant("<think>\nOnly 1 and 7 divide it.\n</think>\n\nYes.")
            .user("And </think> 8?");
        let found = model
            .reply(&conversation)
            .unwrap_or_else(|error| panic!("{}: {error}", model.name));
        let range = found.messages[2]
            .clone()
            .unwrap_or_else(|| panic!("{}", model.name));
        let asked = &found.ids[range];
        assert!(model.control_of(asked).is_empty(), "{}", model.name);
        assert_eq!(
            model.text.tokenizer().decode(asked, false).unwrap().trim(),
            "And </think> 8?"
        );
        shown += 1;
    }
    assert!(shown >= 5);
}
