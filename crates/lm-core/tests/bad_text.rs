//! Tokenizers, chat templates and stop tokens that are missing or wrong: each is refused with the text asserted here.
//! Nothing here needs libtorch.
#![allow(missing_docs)]

use std::fs;

use lm_core::{Checkpoint, Conversation, Prompt, TextInterface};
use lm_testkit::{TinyLlama, TinyModel};
use serde_json::{Value, json};

/// Opens the text side of `model` after `spoil` went over its folder; the error calls the folder `<model>`.
fn open(model: &TinyModel, spoil: impl FnOnce(&std::path::Path)) -> Result<TextInterface, String> {
    let folder = tempfile::tempdir().unwrap();
    model.write(folder.path()).unwrap();
    spoil(folder.path());
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    TextInterface::open(&checkpoint).map_err(|error| {
        error
            .to_string()
            .replace(&folder.path().display().to_string(), "<model>")
    })
}

fn refused(model: &TinyModel, spoil: impl FnOnce(&std::path::Path)) -> String {
    open(model, spoil).unwrap_err()
}

fn with_template(template: &str) -> TinyModel {
    let mut model = TinyLlama::default().build();
    let config = model.tokenizer_config.as_mut().unwrap();
    config["chat_template"] = json!(template);
    model
}

fn hello() -> Prompt {
    Prompt::Chat(Conversation::new().user("Hello!"))
}

#[test]
fn the_model_that_the_others_break_is_sound() {
    let text = open(&TinyLlama::default().build(), |_| {}).unwrap();
    let ids = text.encode(&hello()).unwrap().into_ids();
    assert_eq!(ids[0], TinyLlama::BOS);
    assert_eq!(text.stop_ids(), [TinyLlama::EOS]);
}

#[test]
fn a_template_that_does_not_compile_names_file_and_line() {
    let broken =
        "{{ bos_token }}\n{% for message in messages %}\n{{ message['content' }}\n{% endfor %}";
    let expected = "line 3: syntax error: unexpected `}`, expected `]`";
    assert_eq!(
        refused(&with_template(broken), |_| {}),
        format!("<model>/tokenizer_config.json, {expected}")
    );
    // The file of newer folders comes first, and is the one that is named.
    assert_eq!(
        refused(&TinyLlama::default().build(), |folder| {
            fs::write(folder.join("chat_template.jinja"), broken).unwrap();
        }),
        format!("<model>/chat_template.jinja, {expected}")
    );
}

#[test]
fn a_template_that_fails_while_it_runs_names_file_and_line() {
    let text = open(
        &with_template("{{ bos_token }}\n{{ 'a' | no_such_filter }}"),
        |_| {},
    );
    let error = match text {
        Ok(text) => text.encode(&hello()).unwrap_err().to_string(),
        Err(error) => error,
    };
    assert!(
        error.ends_with(
            "tokenizer_config.json, line 2: unknown filter: filter no_such_filter is unknown"
        ),
        "{error}"
    );
    let refuses = "{% if messages %}\n\n{{ raise_exception('only even rounds') }}{% endif %}";
    let text = open(&with_template(refuses), |_| {}).unwrap();
    let error = text.encode(&hello()).unwrap_err().to_string();
    assert!(
        error.ends_with("tokenizer_config.json, line 3: the template refuses this conversation: only even rounds"),
        "{error}"
    );
}

#[test]
fn a_template_of_another_type() {
    let mut model = TinyLlama::default().build();
    model.tokenizer_config.as_mut().unwrap()["chat_template"] = json!(7);
    let error = refused(&model, |_| {});
    assert!(
        error.starts_with("<model>/tokenizer_config.json: ") && error.contains("TemplateSource"),
        "{error}"
    );
}

#[test]
fn a_conversation_needs_a_template_and_a_raw_prompt_does_not() {
    let mut model = TinyLlama::default().build();
    let config = model.tokenizer_config.as_mut().unwrap();
    config.as_object_mut().unwrap().remove("chat_template");
    let text = open(&model, |_| {}).unwrap();
    let error = text.encode(&hello()).unwrap_err().to_string();
    assert!(
        error.ends_with(": no chat template: use a raw prompt, or a model with `chat_template`"),
        "{error}"
    );
    text.encode(&Prompt::Raw("Hello!".to_owned())).unwrap();
}

#[test]
fn prompts_with_nothing_in_them() {
    let text = open(&TinyLlama::default().build(), |_| {}).unwrap();
    let empty = Prompt::Chat(Conversation::new());
    assert_eq!(
        text.encode(&empty).unwrap_err().to_string(),
        "the conversation has no message"
    );
    // This tokenizer begins every text with BOS, so there is always a token; without that there is none.
    assert_eq!(
        text.encode(&Prompt::Raw(String::new())).unwrap().ids(),
        [TinyLlama::BOS]
    );
    let mut model = TinyLlama::default().build();
    model.tokenizer.as_mut().unwrap()["post_processor"] = Value::Null;
    let text = open(&model, |_| {}).unwrap();
    assert_eq!(
        text.encode(&Prompt::Raw(String::new()))
            .unwrap_err()
            .to_string(),
        "prompt is empty, expected at least one token"
    );
    let silent = open(&with_template("{# nothing #}"), |_| {}).unwrap();
    assert_eq!(
        silent.encode(&hello()).unwrap_err().to_string(),
        "prompt is empty, expected at least one token"
    );
}

#[test]
fn a_folder_with_the_vocabulary_of_another_library_only() {
    let mut model = TinyLlama::default().build();
    model.tokenizer = None;
    assert_eq!(
        refused(&model, |_| {}),
        "no tokenizer.json in <model>: nothing of another tokenizer is there either"
    );
    let error = refused(&model, |folder| {
        fs::write(folder.join("tokenizer.model"), "pieces").unwrap();
    });
    assert_eq!(
        error,
        "no tokenizer.json in <model>: found tokenizer.model; convert with `python -c \"from transformers import \
         AutoTokenizer; AutoTokenizer.from_pretrained('<model>').save_pretrained('<model>')\"`"
    );
}

#[test]
fn a_corrupt_tokenizer_names_its_file() {
    for text in [
        "",
        "{",
        "[]",
        "null",
        "{\"version\": \"1.0\"}",
        "{\"version\": \"1.0\", \"added_tokens\": 3, \"model\": {}}",
    ] {
        let error = refused(&TinyLlama::default().build(), |folder| {
            fs::write(folder.join("tokenizer.json"), text).unwrap();
        });
        assert!(
            error.starts_with("<model>/tokenizer.json: "),
            "{text}: {error}"
        );
    }
    let mut model = TinyLlama::default().build();
    model.tokenizer_config.as_mut().unwrap()["bos_token"] = json!("<|absent|>");
    assert_eq!(
        refused(&model, |_| {}),
        "<model>/tokenizer_config.json: bos_token is \"<|absent|>\", which the vocabulary does not have"
    );
    let error = refused(&TinyLlama::default().build(), |folder| {
        fs::write(folder.join("tokenizer_config.json"), "{,}").unwrap();
    });
    assert_eq!(
        error,
        "<model>/tokenizer_config.json: key must be a string at line 1 column 2"
    );
}

#[test]
fn stop_tokens_that_are_no_token_ids() {
    for (value, found) in [
        (json!("<|close|>"), "\"<|close|>\""),
        (json!(-1), "-1"),
        (json!(2.5), "2.5"),
        (json!([263, "x"]), "[263,\"x\"]"),
        (json!([[263]]), "[[263]]"),
        (json!({"id": 263}), "{\"id\":263}"),
        (json!(u64::from(u32::MAX) + 1), "4294967296"),
        (json!(true), "true"),
    ] {
        let mut model = TinyLlama::default().build();
        model.generation_config["eos_token_id"] = value;
        assert_eq!(
            refused(&model, |_| {}),
            format!(
                "<model>/generation_config.json: `eos_token_id`: expected a token id or a list of them, found {found}"
            )
        );
    }
    let mut model = TinyLlama::default().build();
    model.generation_config = json!([263]);
    assert_eq!(
        refused(&model, |_| {}),
        "<model>/generation_config.json: `(whole file)`: expected an object, found an array"
    );
    let error = refused(&TinyLlama::default().build(), |folder| {
        fs::write(folder.join("generation_config.json"), "{\n").unwrap();
    });
    assert_eq!(
        error,
        "<model>/generation_config.json: not valid JSON: EOF while parsing an object at line 2 column 0"
    );
}

#[test]
fn stop_tokens_come_from_the_first_file_that_names_them() {
    let stops = |generation: Value, config: Value| {
        let mut model = TinyLlama::default().build();
        model.generation_config = json!({"eos_token_id": generation});
        model.config["eos_token_id"] = config;
        open(&model, |_| {}).unwrap().stop_ids().to_vec()
    };
    assert_eq!(stops(json!([7, 9]), json!(5)), [7, 9]);
    assert_eq!(stops(Value::Null, json!(5)), [5]);
    assert_eq!(stops(Value::Null, Value::Null), [TinyLlama::EOS]);
}
