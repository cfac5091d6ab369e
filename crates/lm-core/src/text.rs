//! Between text and token ids: a model's tokenizer, chat template and stop tokens together.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::chat::{
    ChatTemplate, Conversation, RenderOptions, RenderedChat, TemplateError, TemplateSource,
};
use crate::family::{self, JsonConfig};
use crate::generate::{self, GenerateOptions, Request};
use crate::model::{LanguageModel, Reply, TokenCounts};
use crate::tokenizer::{ContentPolicy, GgufVocabulary, TokenIds, Tokenizer};
use crate::weights::gguf::Metadata;
use crate::weights::{Checkpoint, TextSource, read_json};
use crate::{Error, Result};

/// What a model is asked: a text as it stands, or a conversation for its chat template.
///
/// In JSON `{"prompt": "…"}` or `{"messages": [{"role": "user", "content": "…"}]}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// A raw text, encoded as the model's own pipeline does. It is trusted: control tokens in it are control tokens.
    #[serde(rename = "prompt")]
    Raw(String),
    /// A conversation. One that ends in an assistant turn is continued inside it. Its messages are not trusted: see
    /// [`TextInterface::encode_chat`].
    #[serde(rename = "messages")]
    Chat(Conversation),
}

/// How a conversation is encoded.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ChatOptions {
    /// What may be made of text in messages; it stays text unless set.
    pub policy: ContentPolicy,
    /// Whether a reasoning model is to think first; its template decides unless set.
    pub thinking: Option<bool>,
    /// What else the template is asked. Unless set, what a reply needs: see [`RenderOptions::for_reply`].
    pub render: Option<RenderOptions>,
}

impl ChatOptions {
    /// Sets what may be made of text in messages.
    #[must_use]
    pub fn with_policy(mut self, policy: ContentPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets whether a reasoning model is to think first.
    #[must_use]
    pub fn with_thinking(mut self, thinking: bool) -> Self {
        self.thinking = Some(thinking);
        self
    }

    /// Sets what the template is asked.
    #[must_use]
    pub fn with_render(mut self, render: RenderOptions) -> Self {
        self.render = Some(render);
        self
    }
}

/// An encoded conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedChat {
    /// What the model is fed.
    pub ids: TokenIds,
    /// The text it stands for.
    pub text: String,
    /// For each message the ids that hold its words, header and end of turn not included; `None` for a message that the
    /// template does not show, or not in one piece, and for all where a trusted conversation's parts cannot be told apart.
    pub messages: Vec<Option<Range<usize>>>,
}

/// A model's tokenizer, its chat template and the tokens at which it stops.
#[derive(Debug)]
pub struct TextInterface {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    stop_ids: Vec<u32>,
    path: PathBuf,
}

impl TextInterface {
    /// Reads them from where the weights are.
    ///
    /// # Errors
    /// A tokenizer that is missing or malformed, a template that does not compile, stop tokens that are not token ids.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self> {
        match checkpoint.text_source() {
            TextSource::Folder(folder) => Self::from_folder(folder),
            TextSource::Gguf(metadata) => Self::from_gguf(checkpoint.path(), metadata),
        }
    }

    /// Reads them from a model folder; weights need not be there.
    ///
    /// # Errors
    /// Those of [`TextInterface::open`].
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let tokenizer = Tokenizer::from_folder(folder)?;
        let mut stop_ids = None;
        for file in ["generation_config.json", "config.json"] {
            let path = folder.join(file);
            if stop_ids.is_none() && path.is_file() {
                stop_ids = stop_tokens(&path, &read_json(&path)?)?;
            }
        }
        Ok(Self {
            stop_ids: stop_ids.unwrap_or_else(|| tokenizer.eos_id().into_iter().collect()),
            template: ChatTemplate::from_folder(folder)?,
            tokenizer,
            path: folder.to_owned(),
        })
    }

    fn from_gguf(path: &Path, metadata: &Metadata) -> Result<Self> {
        let tokenizer = Tokenizer::from_gguf_vocabulary(gguf_vocabulary(path, metadata)?)?;
        let refuse = |source| Error::Gguf {
            path: path.to_owned(),
            source,
        };
        // llama.cpp ends a generation at each of these.
        let mut stop_ids = Vec::new();
        for key in [
            "tokenizer.ggml.eos_token_id",
            "tokenizer.ggml.eot_token_id",
            "tokenizer.ggml.eom_token_id",
        ] {
            if let Some(id) = metadata.optional(key, Metadata::u32).map_err(refuse)? {
                stop_ids.push(id);
            }
        }
        stop_ids.dedup();
        let template = metadata
            .optional("tokenizer.chat_template", Metadata::str)
            .map_err(refuse)?
            .map(|text| {
                let source = TemplateSource::Single(text.to_owned());
                let origin = format!("{}: tokenizer.chat_template", path.display());
                ChatTemplate::from_source(&source, &origin, tokenizer.special_tokens())
            })
            .transpose()?;
        Ok(Self {
            tokenizer,
            template,
            stop_ids,
            path: path.to_owned(),
        })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The chat template, if the model has one.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// Tokens that end a reply.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// The ids the model is fed for `prompt`, with BOS exactly where the model's own pipeline has it, and never twice.
    ///
    /// # Errors
    /// An empty prompt, a conversation without a template, and what template and tokenizer refuse.
    pub fn encode(&self, prompt: &Prompt) -> Result<TokenIds> {
        match prompt {
            Prompt::Raw(text) => require_tokens(self.tokenizer.encode_raw(text)?),
            Prompt::Chat(conversation) => self.encode_conversation(conversation),
        }
    }

    fn encode_conversation(&self, conversation: &Conversation) -> Result<TokenIds> {
        Ok(self.encode_chat(conversation, &ChatOptions::default())?.ids)
    }

    /// Renders and encodes a conversation. What stands in its messages never becomes a control token, unless `options` trust
    /// it: neither a special token nor another that the tokenizer adds to its vocabulary, nor one put together with the
    /// template's own text. A conversation without such text has the ids it has in other libraries. Roles, tools and the
    /// variables of [`RenderOptions`] are the caller's own words, and trusted.
    ///
    /// A conversation that ends in an assistant turn is continued there, and never inside a block of reasoning.
    ///
    /// # Errors
    /// A model without a template; what template and tokenizer refuse; a template that looks into the messages in a way that
    /// leaves its words and theirs not to be told apart, unless they are trusted.
    pub fn encode_chat(
        &self,
        conversation: &Conversation,
        options: &ChatOptions,
    ) -> Result<EncodedChat> {
        let Some(template) = &self.template else {
            return Err(Error::NoTemplate {
                path: self.path.clone(),
            });
        };
        let mut render = match &options.render {
            Some(render) => render.clone(),
            None => RenderOptions::for_reply(conversation),
        };
        if let Some(thinking) = options.thinking {
            // The names that templates know it by.
            for name in ["enable_thinking", "thinking"] {
                render = render.with_extra(name, thinking);
            }
        }
        let rendered = match template.render_with_sources(conversation, &render) {
            Err(TemplateError::LooksIntoContent { .. })
                if options.policy == ContentPolicy::Trusted =>
            {
                let text = template.render(conversation, &render)?;
                let from = vec![None; text.chars().count()];
                RenderedChat { text, from }
            }
            rendered => rendered?,
        };
        if render.continue_final_message {
            template.require_outside_reasoning(&rendered)?;
        }
        // The template writes BOS itself where the model wants it.
        let encoded =
            self.tokenizer
                .encode_sourced(&rendered.text, &rendered.from, options.policy)?;
        let mut messages = encoded.ranges;
        messages.resize(conversation.len(), None);
        Ok(EncodedChat {
            ids: require_tokens(encoded.ids)?,
            text: rendered.text,
            messages,
        })
    }

    /// Replies of `model` to `conversation`; what [`ChatModel::reply`](crate::ChatModel::reply) of a local model does.
    ///
    /// # Errors
    /// Those of [`TextInterface::encode`] and of [`generate::generate`].
    pub fn reply(
        &self,
        model: &dyn LanguageModel,
        conversation: &Conversation,
        options: &GenerateOptions,
    ) -> Result<Vec<Reply>> {
        let tokens = self.encode_conversation(conversation)?.into_ids();
        let prompt = tokens.len();
        let request = Request::unnamed(tokens);
        let generations =
            generate::generate(model, self, &[request], options, &mut generate::ignore)?;
        let reply = |generation: generate::Generation| Reply {
            usage: TokenCounts {
                prompt,
                completion: generation.tokens.len(),
            },
            text: generation.text,
            finish: generation.finish,
        };
        Ok(generations.into_iter().flatten().map(reply).collect())
    }
}

fn require_tokens(ids: TokenIds) -> Result<TokenIds> {
    if ids.ids().is_empty() {
        return Err(Error::Empty {
            what: "prompt".to_owned(),
            unit: "token",
        });
    }
    Ok(ids)
}

/// `eos_token_id`, a number or a list of numbers.
fn stop_tokens(path: &Path, config: &Value) -> Result<Option<Vec<u32>>> {
    JsonConfig::new(path, config)?;
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let found = match config.get("eos_token_id") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(list)) => list.iter().map(id).collect::<Option<Vec<u32>>>(),
        Some(value) => id(value).map(|id| vec![id]),
    };
    found.map(Some).ok_or_else(|| Error::Config {
        path: path.to_owned(),
        key: "eos_token_id".to_owned(),
        expected: "a token id or a list of them".to_owned(),
        found: family::short(&config["eos_token_id"]),
    })
}

fn gguf_vocabulary(path: &Path, metadata: &Metadata) -> Result<GgufVocabulary> {
    let read = || -> Result<GgufVocabulary, crate::weights::gguf::GgufError> {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let strings = |name: &str| -> Result<Vec<String>, _> {
            let found = metadata.optional(&key(name), Metadata::strings)?;
            Ok(found
                .map(|all| all.iter().map(str::to_owned).collect())
                .unwrap_or_default())
        };
        let text = |name: &str| -> Result<Option<String>, _> {
            Ok(metadata.optional(name, Metadata::str)?.map(str::to_owned))
        };
        let id = |name: &str| metadata.optional(&key(name), Metadata::u32);
        let flag = |name: &str| metadata.optional(&key(name), Metadata::bool);
        Ok(GgufVocabulary {
            model: metadata.str(&key("model"))?.to_owned(),
            pre: text(&key("pre"))?,
            architecture: text("general.architecture")?,
            tokens: metadata
                .strings(&key("tokens"))?
                .iter()
                .map(str::to_owned)
                .collect(),
            token_types: metadata
                .optional(&key("token_type"), Metadata::i32s)?
                .unwrap_or_default()
                .to_vec(),
            scores: metadata
                .optional(&key("scores"), Metadata::f32s)?
                .unwrap_or_default()
                .to_vec(),
            merges: strings("merges")?,
            bos: id("bos_token_id")?,
            eos: id("eos_token_id")?,
            unk: id("unknown_token_id")?,
            pad: id("padding_token_id")?,
            add_bos: flag("add_bos_token")?,
            add_eos: flag("add_eos_token")?,
            add_space_prefix: flag("add_space_prefix")?,
        })
    };
    read().map_err(|source| Error::Gguf {
        path: path.to_owned(),
        source,
    })
}
