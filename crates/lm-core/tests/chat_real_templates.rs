//! The templates of real models, byte by byte, against Jinja2 as transformers uses it (`golden/chat-real`). They are not in
//! this repository: `cargo xtask setup` fetches them.

mod chat_cases;

use std::collections::HashMap;

use lm_core::chat::{ChatTemplate, Conversation, TemplateError};
use lm_testkit::{golden_folder, real_template_or_skip, real_tokenizer_or_skip};
use serde::Deserialize;

use chat_cases::{Options, real_template, tokens};

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

fn expected() -> Expected {
    let path = golden_folder().join("chat-real/expected.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Renders every case of a template and compares; reports all that differ, not the first only.
fn check(name: &str, source: &str) {
    let expected = expected();
    let template = ChatTemplate::new(source, name)
        .unwrap()
        .with_special_tokens(tokens());
    assert_eq!(
        template.hash(),
        expected.templates[name],
        "{name}: not the template that golden/chat-real was made with"
    );
    let mut different = Vec::new();
    let mut cases = 0;
    for case in expected.cases.iter().filter(|case| case.template == name) {
        cases += 1;
        let options = expected.options[case.options].at(expected.now);
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

fn check_here(name: &str) {
    check(name, &real_template(name).unwrap());
}

/// A test for each template, so that each one that is missing is said to be skipped.
macro_rules! templates {
    (files: $($file:ident)*; tokenizers: $($tokenizer:ident)*) => {
        mod files {
            $(#[test]
            fn $file() {
                super::real_template_or_skip!(stringify!($file));
                super::check_here(concat!("templates/", stringify!($file), ".jinja"));
            })*
        }
        mod tokenizers {
            $(#[test]
            fn $tokenizer() {
                super::real_tokenizer_or_skip!(stringify!($tokenizer));
                super::check_here(concat!("tokenizers/", stringify!($tokenizer)));
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
    files: chatml cohere deepseek_v2 exaone exaone4 gemma gemma3 jamba llama2 llama3 llama4 mistral_v1 mistral_v2v3
        mistral_v7_tekken phi_3 phi_35 phi_4 vicuna vicuna_old zephyr;
    tokenizers: chatglm3 deepseek_v3 gemma3 llama3_1 mistral_nemo qwen2_5 qwen3
}
