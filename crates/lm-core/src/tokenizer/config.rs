//! `tokenizer_config.json`: which tokens have a role, and the chat template beside them.

use serde::{Deserialize, Deserializer};

use crate::chat::TemplateSource;

/// The texts of the tokens with a role; a template sees them as `bos_token`, `eos_token`, `unk_token`, `pad_token`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SpecialTokens {
    /// Beginning of sequence.
    #[serde(default, rename = "bos_token", deserialize_with = "token_text")]
    pub bos: Option<String>,
    /// End of sequence.
    #[serde(default, rename = "eos_token", deserialize_with = "token_text")]
    pub eos: Option<String>,
    /// Unknown.
    #[serde(default, rename = "unk_token", deserialize_with = "token_text")]
    pub unk: Option<String>,
    /// Padding.
    #[serde(default, rename = "pad_token", deserialize_with = "token_text")]
    pub pad: Option<String>,
}

/// What this crate reads of `tokenizer_config.json`; unknown keys are ignored.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct TokenizerConfig {
    /// The tokens with a role.
    #[serde(flatten)]
    pub special_tokens: SpecialTokens,
    /// Whether BOS is put before a raw text.
    #[serde(default)]
    pub add_bos_token: Option<bool>,
    /// Whether EOS is put after a raw text.
    #[serde(default)]
    pub add_eos_token: Option<bool>,
    /// The chat template, one or several by name. Newer folders keep it in `chat_template.jinja` instead.
    #[serde(default)]
    pub chat_template: Option<TemplateSource>,
}

/// A token is written as its text, or as an object with the text under `content`.
fn token_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Token {
        Text(String),
        Object { content: String },
    }
    Ok(
        Option::<Token>::deserialize(deserializer)?.map(|token| match token {
            Token::Text(text) | Token::Object { content: text } => text,
        }),
    )
}
