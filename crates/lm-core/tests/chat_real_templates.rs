//! The templates of real models, byte by byte, against Jinja2 as transformers uses it (`golden/chat-real`). They are not in
//! this repository: `cargo xtask setup` fetches them.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use lm_core::chat::{ChatTemplate, Conversation, RenderOptions, TemplateError};
use lm_core::tokenizer::SpecialTokens;
use lm_testkit::{golden_folder, real_template_or_skip, real_tokenizer_or_skip};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    now: f64,
    templates: HashMap<String, String>,
    conversations: HashMap<String, Conversation>,
    options: Vec<Options>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    conversation: String,
    options: usize,
    /// What was rendered.
    text: Option<String>,
    /// What the template said when it refused the conversation.
    raised: Option<String>,
}

#[derive(Deserialize)]
struct Options {
    #[serde(default)]
    add_generation_prompt: bool,
    #[serde(default)]
    continue_final_message: bool,
    #[serde(default)]
    tools: Option<Vec<serde_json::Value>>,
    #[serde(default)]
    extra: serde_json::Map<String, serde_json::Value>,
}

fn expected() -> Expected {
    let path = golden_folder().join("chat-real/expected.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Renders every case of a template and compares; reports all that differ, not the first only.
fn check(name: &str, source: &str) {
    let expected = expected();
    let tokens = SpecialTokens {
        bos: Some("<s>".to_owned()),
        eos: Some("</s>".to_owned()),
        ..SpecialTokens::default()
    };
    let template = ChatTemplate::new(source, name)
        .unwrap()
        .with_special_tokens(tokens);
    assert_eq!(
        template.hash(),
        expected.templates[name],
        "{name}: not the template that golden/chat-real was made with"
    );
    let mut different = Vec::new();
    let mut cases = 0;
    for case in expected.cases.iter().filter(|case| case.template == name) {
        cases += 1;
        let asked = &expected.options[case.options];
        let mut options =
            RenderOptions::default().with_now(UNIX_EPOCH + Duration::from_secs_f64(expected.now));
        options.add_generation_prompt = asked.add_generation_prompt;
        options.continue_final_message = asked.continue_final_message;
        options.tools = asked.tools.clone();
        options.extra = asked.extra.clone();
        let found = template.render(&expected.conversations[&case.conversation], &options);
        let equal = match (&found, &case.text, &case.raised) {
            (Ok(found), Some(text), _) => found == text,
            (Err(TemplateError::Raised { message, .. }), _, Some(raised)) => message == raised,
            _ => false,
        };
        if !equal {
            different.push(format!(
                "{}, options {}:\n   found {found:?}\nexpected {:?}",
                case.conversation,
                case.options,
                case.text.as_ref().or(case.raised.as_ref())
            ));
        }
    }
    assert!(cases >= 28, "{name}: only {cases} cases");
    assert!(
        different.is_empty(),
        "{name}: {} of {cases} cases differ\n{}",
        different.len(),
        different.join("\n")
    );
}

fn check_file(name: &str, path: &Path) {
    let source = std::fs::read_to_string(path).unwrap();
    check(&format!("templates/{name}.jinja"), &source);
}

fn check_tokenizers(name: &str, folder: &Path) {
    let config = std::fs::read(folder.join("tokenizer_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let source = config["chat_template"].as_str().unwrap();
    check(&format!("tokenizers/{name}"), source);
}

/// A test for each template, so that each one that is missing is said to be skipped.
macro_rules! templates {
    (files: $($file:ident)*; tokenizers: $($tokenizer:ident)*) => {
        mod files {
            $(#[test]
            fn $file() {
                let path = super::real_template_or_skip!(stringify!($file));
                super::check_file(stringify!($file), &path);
            })*
        }
        mod tokenizers {
            $(#[test]
            fn $tokenizer() {
                let folder = super::real_tokenizer_or_skip!(stringify!($tokenizer));
                super::check_tokenizers(stringify!($tokenizer), &folder);
            })*
        }
        /// None of the reference is left out.
        #[test]
        fn every_template_of_the_reference_has_a_test() {
            let mut known: Vec<String> = expected().templates.into_keys().collect();
            let mut here = vec![
                $(format!("templates/{}.jinja", stringify!($file)),)*
                $(format!("tokenizers/{}", stringify!($tokenizer)),)*
            ];
            known.sort();
            here.sort();
            assert_eq!(known, here);
        }
    };
}

templates! {
    files: chatml cohere deepseek_v2 exaone exaone4 gemma gemma3 jamba llama3 llama4 mistral_v1 mistral_v2v3
        mistral_v7_tekken phi_3 phi_35 phi_4;
    tokenizers: chatglm3 deepseek_v3 gemma3 llama3_1 mistral_nemo qwen2_5 qwen3
}
