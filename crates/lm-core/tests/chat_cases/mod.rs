//! What the tests of chat templates share: how their expectations are stored, and the real templates.
#![allow(dead_code, reason = "each test crate uses its part")]

use std::time::{Duration, UNIX_EPOCH};

use lm_core::chat::RenderOptions;
use lm_core::tokenizer::SpecialTokens;
use serde::Deserialize;

/// Options as a case stores them.
#[derive(Deserialize)]
pub(crate) struct Options {
    #[serde(default)]
    pub(crate) add_generation_prompt: bool,
    #[serde(default)]
    pub(crate) continue_final_message: bool,
    #[serde(default)]
    tools: Option<Vec<serde_json::Value>>,
    #[serde(default)]
    extra: serde_json::Map<String, serde_json::Value>,
}

impl Options {
    /// At `now` in seconds since 1970.
    pub(crate) fn at(&self, now: f64) -> RenderOptions {
        let mut options =
            RenderOptions::default().with_now(UNIX_EPOCH + Duration::from_secs_f64(now));
        options.add_generation_prompt = self.add_generation_prompt;
        options.continue_final_message = self.continue_final_message;
        options.tools.clone_from(&self.tools);
        options.extra.clone_from(&self.extra);
        options
    }
}

/// What the templates were given for special tokens.
pub(crate) fn tokens() -> SpecialTokens {
    SpecialTokens {
        bos: Some("<s>".to_owned()),
        eos: Some("</s>".to_owned()),
        ..SpecialTokens::default()
    }
}

/// The text of a real template, by its name in `golden/chat-real`; `None` if it is not on this machine.
pub(crate) fn real_template(name: &str) -> Option<String> {
    let (kind, name) = name.split_once('/').unwrap();
    if kind == "templates" {
        let path = lm_testkit::real_template(name.strip_suffix(".jinja").unwrap())?;
        return Some(std::fs::read_to_string(path).unwrap());
    }
    let config = lm_testkit::real_tokenizer(name)?.join("tokenizer_config.json");
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap();
    Some(config["chat_template"].as_str().unwrap().to_owned())
}
