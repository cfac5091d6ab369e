//! Where a model's files keep its template.

use std::path::Path;

use serde::Deserialize;

use super::{ChatTemplate, TemplateError};
use crate::tokenizer::{SpecialTokens, TokenizerConfig, TokenizerError};

/// The name of the template for ordinary use.
const DEFAULT: &str = "default";

/// `chat_template` of `tokenizer_config.json`: one template, or several by name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum TemplateSource {
    /// One template for everything.
    Single(String),
    /// Several, such as `default` and `tool_use`.
    Named(Vec<NamedTemplate>),
}

/// One of several templates.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NamedTemplate {
    /// Its name.
    pub name: String,
    /// Its text.
    pub template: String,
}

impl TemplateSource {
    /// The text of the template named so, or of the only one. `origin` names the file in errors.
    ///
    /// # Errors
    /// [`TemplateError::NoSuchTemplate`].
    pub fn get(&self, name: &str, origin: &str) -> Result<&str, TemplateError> {
        match self {
            Self::Single(template) => Ok(template),
            Self::Named(templates) => templates
                .iter()
                .find(|template| template.name == name)
                .map(|template| template.template.as_str())
                .ok_or_else(|| TemplateError::NoSuchTemplate {
                    origin: origin.to_owned(),
                    wanted: name.to_owned(),
                    names: templates
                        .iter()
                        .map(|template| template.name.as_str())
                        .collect::<Vec<_>>()
                        .join(", "),
                }),
        }
    }
}

impl ChatTemplate {
    /// Reads the template of a model folder: `chat_template.jinja`, else `chat_template.json`, else `chat_template` in
    /// `tokenizer_config.json`; the special tokens from the last. `None` if the folder has none, as a base model's.
    ///
    /// # Errors
    /// A file that cannot be read or parsed, or a template that is not valid.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Option<Self>, TemplateError> {
        let folder = folder.as_ref();
        let config_path = folder.join("tokenizer_config.json");
        let config = if config_path.is_file() {
            TokenizerConfig::from_file(&config_path).map_err(config_error)?
        } else {
            TokenizerConfig::default()
        };
        let tokens = config.special_tokens;

        let path = folder.join("chat_template.jinja");
        if path.is_file() {
            let text = read(&path)?;
            return Self::new(text, path.display().to_string())
                .map(|template| Some(template.with_special_tokens(tokens)));
        }
        let path = folder.join("chat_template.json");
        if path.is_file() {
            #[derive(Deserialize)]
            struct File {
                chat_template: TemplateSource,
            }
            let origin = path.display().to_string();
            let file: File =
                serde_json::from_str(&read(&path)?).map_err(|error| TemplateError::Config {
                    origin: origin.clone(),
                    reason: error.to_string(),
                })?;
            return Self::from_source(&file.chat_template, &origin, tokens).map(Some);
        }
        config
            .chat_template
            .map(|source| Self::from_source(&source, &config_path.display().to_string(), tokens))
            .transpose()
    }

    /// Compiles the default template of a source.
    ///
    /// # Errors
    /// As [`TemplateSource::get`] and [`ChatTemplate::new`].
    pub fn from_source(
        source: &TemplateSource,
        origin: &str,
        tokens: SpecialTokens,
    ) -> Result<Self, TemplateError> {
        Ok(Self::new(source.get(DEFAULT, origin)?, origin)?.with_special_tokens(tokens))
    }
}

fn read(path: &Path) -> Result<String, TemplateError> {
    std::fs::read_to_string(path).map_err(|source| TemplateError::Read {
        path: path.to_owned(),
        source,
    })
}

fn config_error(error: TokenizerError) -> TemplateError {
    match error {
        TokenizerError::Read { path, source } => TemplateError::Read { path, source },
        TokenizerError::Parse { origin, reason } => TemplateError::Config { origin, reason },
        other => TemplateError::Config {
            origin: "tokenizer_config.json".to_owned(),
            reason: other.to_string(),
        },
    }
}
