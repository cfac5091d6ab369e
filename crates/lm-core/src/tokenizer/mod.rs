//! Text to token ids and back, exactly as the model's own pipeline does it.
//!
//! | task | start at |
//! | --- | --- |
//! | from a model folder | [`Tokenizer::from_folder`] |
//! | from a GGUF file's metadata | [`Tokenizer::from_gguf_vocabulary`] |
//! | a raw prompt, with the model's BOS | [`Tokenizer::encode_raw`] |
//! | text a chat template rendered | [`Tokenizer::encode_fragment`] |
//! | streamed output | [`Tokenizer::decode_stream`], [`StopStrings`] |
//!
//! The pipelines are those of the `tokenizers` crate; this module builds them from GGUF, keeps the facts about BOS and
//! the other tokens with a role, and streams.

mod config;
mod error;
mod gguf;
mod ids;
mod pre_tokenizer;
mod sourced;
mod stop;
mod stream;

use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::OnceLock;

use serde::Serialize;
use sha2::{Digest, Sha256};

pub use config::{SpecialTokens, TokenizerConfig};
pub use error::TokenizerError;
pub use gguf::GgufVocabulary;
pub use ids::TokenIds;
pub use sourced::{ContentPolicy, SourcedIds};
pub use stop::{StopMatcher, StopStep, StopStrings};
pub use stream::DecodeStream;

/// A model's tokenizer; immutable, cheap to share behind an `Arc`.
pub struct Tokenizer {
    pipeline: tokenizers::Tokenizer,
    frame: Frame,
    bos: Option<u32>,
    eos: Option<u32>,
    unk: Option<u32>,
    pad: Option<u32>,
    vocab_size: usize,
    special_ids: Vec<u32>,
    hash: OnceLock<String>,
    /// Made when untrusted text is first encoded.
    guard: OnceLock<sourced::Guard>,
}

/// The ids that the pipeline puts around a raw text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Frame {
    prefix: Vec<u32>,
    suffix: Vec<u32>,
}

/// What every source of a tokenizer must provide.
struct Parts {
    pipeline: tokenizers::Tokenizer,
    frame: Frame,
    bos: Option<u32>,
    eos: Option<u32>,
    unk: Option<u32>,
    pad: Option<u32>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. Such a file does not say which token is BOS; see [`with_config`](Self::with_config).
    ///
    /// # Errors
    /// [`TokenizerError::Read`] and [`TokenizerError::Parse`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let path = path.as_ref();
        let bytes = read(path)?;
        Self::parse(&bytes, &path.display().to_string())
    }

    /// Reads the content of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`TokenizerError::Parse`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenizerError> {
        Self::parse(bytes, "<memory>")
    }

    /// Reads `tokenizer.json` and, if it is there, `tokenizer_config.json` of a model folder.
    ///
    /// # Errors
    /// [`TokenizerError::NotFound`] with the converting command where only the formats of other libraries are present;
    /// else as [`from_file`](Self::from_file) and [`with_config`](Self::with_config).
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let folder = folder.as_ref();
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            return Err(not_found(folder));
        }
        let tokenizer = Self::from_file(path)?;
        let path = folder.join("tokenizer_config.json");
        if !path.is_file() {
            return Ok(tokenizer);
        }
        let config = TokenizerConfig::from_file(&path)?;
        tokenizer.with_config(&config, &path.display().to_string())
    }

    /// Builds the pipeline that GGUF metadata describes.
    ///
    /// # Errors
    /// A model or pre-tokenizer this crate does not know, lists that do not fit the vocabulary, duplicate tokens,
    /// malformed merges, ids out of range: each its own [`TokenizerError`].
    pub fn from_gguf_vocabulary(vocabulary: GgufVocabulary) -> Result<Self, TokenizerError> {
        Ok(Self::new(gguf::build(vocabulary)?))
    }

    /// Takes over what `tokenizer_config.json` says: the tokens with a role, and whether BOS and EOS are added.
    /// `origin` names the file in errors.
    ///
    /// As in transformers, `add_bos_token` or `add_eos_token`, if either is written, replace what the pipeline of
    /// `tokenizer.json` would add; if neither is, that pipeline decides.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownSpecialToken`].
    pub fn with_config(
        mut self,
        config: &TokenizerConfig,
        origin: &str,
    ) -> Result<Self, TokenizerError> {
        let find = |field, text: &Option<String>| match text {
            None => Ok(None),
            Some(token) => match self.pipeline.token_to_id(token) {
                Some(id) => Ok(Some(id)),
                None => Err(TokenizerError::UnknownSpecialToken {
                    origin: origin.to_owned(),
                    field,
                    token: token.clone(),
                }),
            },
        };
        let tokens = &config.special_tokens;
        let (bos, eos) = (
            find("bos_token", &tokens.bos)?,
            find("eos_token", &tokens.eos)?,
        );
        let (unk, pad) = (
            find("unk_token", &tokens.unk)?,
            find("pad_token", &tokens.pad)?,
        );
        (self.bos, self.eos, self.unk, self.pad) = (bos, eos, unk, pad);
        if config.add_bos_token.is_some() || config.add_eos_token.is_some() {
            let added = |flag: Option<bool>, id: Option<u32>| {
                id.filter(|_| flag == Some(true)).into_iter().collect()
            };
            self.frame = Frame {
                prefix: added(config.add_bos_token, bos),
                suffix: added(config.add_eos_token, eos),
            };
        }
        self.hash = OnceLock::new();
        Ok(self)
    }

    fn parse(bytes: &[u8], origin: &str) -> Result<Self, TokenizerError> {
        let parse_error = |reason: String| TokenizerError::Parse {
            origin: origin.to_owned(),
            reason,
        };
        let mut pipeline =
            guarded(|| tokenizers::Tokenizer::from_bytes(bytes)).map_err(parse_error)?;
        // Settings of some training run; transformers resets both on every call.
        guarded(|| pipeline.with_truncation(None).map(|_| ())).map_err(parse_error)?;
        pipeline.with_padding(None);
        let frame = guarded(|| Frame::of(&pipeline)).map_err(parse_error)?;
        Ok(Self::new(Parts {
            pipeline,
            frame,
            bos: None,
            eos: None,
            unk: None,
            pad: None,
        }))
    }

    fn new(parts: Parts) -> Self {
        let mut special_ids: Vec<u32> = parts
            .pipeline
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special)
            .map(|(id, _)| id)
            .collect();
        special_ids.sort_unstable();
        Self {
            vocab_size: parts.pipeline.get_vocab_size(true),
            pipeline: parts.pipeline,
            frame: parts.frame,
            bos: parts.bos,
            eos: parts.eos,
            unk: parts.unk,
            pad: parts.pad,
            special_ids,
            hash: OnceLock::new(),
            guard: OnceLock::new(),
        }
    }

    /// Number of tokens, added ones included. A model's embedding may have more rows, as padding.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of the token that begins a sequence.
    #[must_use]
    pub fn bos_id(&self) -> Option<u32> {
        self.bos
    }

    /// The id of the token that ends a sequence. Chat models often end a turn with another one as well; those ids are
    /// in the model's `generation_config.json`.
    #[must_use]
    pub fn eos_id(&self) -> Option<u32> {
        self.eos
    }

    /// The id of the unknown token.
    #[must_use]
    pub fn unk_id(&self) -> Option<u32> {
        self.unk
    }

    /// The id of the padding token.
    #[must_use]
    pub fn pad_id(&self) -> Option<u32> {
        self.pad
    }

    /// Ids of the tokens flagged special, ascending; [`decode`](Self::decode) can leave them out.
    #[must_use]
    pub fn special_ids(&self) -> &[u32] {
        &self.special_ids
    }

    /// Whether a raw text gets BOS.
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        self.bos.is_some() && self.frame.prefix.first().copied() == self.bos
    }

    /// Whether a raw text gets EOS.
    #[must_use]
    pub fn adds_eos(&self) -> bool {
        self.eos.is_some() && self.frame.suffix.last().copied() == self.eos
    }

    /// The texts of the tokens with a role, for a chat template.
    #[must_use]
    pub fn special_tokens(&self) -> SpecialTokens {
        let text = |id: Option<u32>| id.and_then(|id| self.id_to_token(id));
        SpecialTokens {
            bos: text(self.bos),
            eos: text(self.eos),
            unk: text(self.unk),
            pad: text(self.pad),
        }
    }

    /// The id of a token as the vocabulary spells it (`Ġthe`, `▁the`, `<|im_end|>`).
    #[must_use]
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.pipeline.token_to_id(token)
    }

    /// The vocabulary's spelling of an id.
    #[must_use]
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.pipeline.id_to_token(id)
    }

    /// SHA-256 in hex over everything that decides which ids a text gets: vocabulary, merges, added tokens, normaliser,
    /// pre-tokenizer, decoder, and what is put around a raw text.
    ///
    /// Equal pipelines have equal hashes whatever they were loaded from, but one model's GGUF and `tokenizer.json` may
    /// write an equivalent pipeline differently and then differ here. Computed on first use.
    #[must_use]
    pub fn hash(&self) -> &str {
        self.hash.get_or_init(|| self.compute_hash())
    }

    fn compute_hash(&self) -> String {
        let mut hasher = HashWriter(Sha256::new());
        let pipeline = &self.pipeline;
        let mut added: Vec<_> = pipeline.get_added_tokens_decoder().into_iter().collect();
        added.sort_unstable_by_key(|&(id, _)| id);
        hasher.section("lm-safety tokenizer 1", &());
        hasher.section("normalizer", &pipeline.get_normalizer());
        hasher.section("pre_tokenizer", &pipeline.get_pre_tokenizer());
        hasher.section("model", pipeline.get_model());
        hasher.section("decoder", &pipeline.get_decoder());
        hasher.section("added_tokens", &added);
        hasher.section("frame", &self.frame);
        hasher.section("roles", &[self.bos, self.eos, self.unk, self.pad]);
        hasher.finish()
    }

    /// Encodes a raw text as the model's own pipeline does, BOS and EOS included where it adds them, but never a second
    /// BOS: a text that already begins with what the pipeline would put in front is left as it is.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn encode_raw(&self, text: &str) -> Result<TokenIds, TokenizerError> {
        let fragment = self.encode_ids(text)?;
        let prefix: &[u32] = if fragment.starts_with(&self.frame.prefix) {
            &[]
        } else {
            &self.frame.prefix
        };
        let ids = [prefix, &fragment, &self.frame.suffix].concat();
        Ok(TokenIds::new(ids, self.bos))
    }

    /// Encodes a text that is already complete, such as what a chat template rendered: nothing is added. Special tokens
    /// written in the text become their ids, so the text must be trusted.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn encode_fragment(&self, text: &str) -> Result<TokenIds, TokenizerError> {
        Ok(TokenIds::new(self.encode_ids(text)?, self.bos))
    }

    fn encode_ids(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        guarded(|| self.pipeline.encode_fast(text, false))
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|reason| TokenizerError::Encode { reason })
    }

    /// The text of ids. Ids without a token (padding rows of an embedding) give no text, as in transformers.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`].
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TokenizerError> {
        guarded(|| self.pipeline.decode(ids, skip_special))
            .map_err(|reason| TokenizerError::Decode { reason })
    }

    /// Begins to decode ids as they come.
    #[must_use]
    pub fn decode_stream(&self, skip_special: bool) -> DecodeStream<'_> {
        DecodeStream::new(self, skip_special)
    }

    /// The token of an id, unless decoding leaves it out.
    fn visible_token(&self, id: u32, skip_special: bool) -> Option<String> {
        self.pipeline.id_to_token(id).filter(|token| {
            !(skip_special && self.pipeline.get_added_vocabulary().is_special_token(token))
        })
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size)
            .field("bos", &self.bos)
            .field("eos", &self.eos)
            .field("frame", &self.frame)
            .finish_non_exhaustive()
    }
}

impl Frame {
    /// Finds out what a pipeline puts around a text, by trying.
    fn of(pipeline: &tokenizers::Tokenizer) -> tokenizers::Result<Self> {
        const PROBE: &str = "a";
        let bare = pipeline.encode_fast(PROBE, false)?;
        let framed = pipeline.encode_fast(PROBE, true)?;
        let (bare, framed) = (bare.get_ids(), framed.get_ids());
        let start = framed
            .windows(bare.len().max(1))
            .position(|window| window == bare)
            .unwrap_or(0);
        let end = (start + bare.len()).min(framed.len());
        Ok(Self {
            prefix: framed[..start].to_vec(),
            suffix: framed[end..].to_vec(),
        })
    }
}

impl TokenizerConfig {
    /// Reads a `tokenizer_config.json`.
    ///
    /// # Errors
    /// [`TokenizerError::Read`] and [`TokenizerError::Parse`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let path = path.as_ref();
        serde_json::from_slice(&read(path)?).map_err(|error| TokenizerError::Parse {
            origin: path.display().to_string(),
            reason: error.to_string(),
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    std::fs::read(path).map_err(|source| TokenizerError::Read {
        path: path.to_owned(),
        source,
    })
}

fn not_found(folder: &Path) -> TokenizerError {
    let present: Vec<&str> = ["tokenizer.model", "vocab.json", "merges.txt"]
        .into_iter()
        .filter(|name| folder.join(name).is_file())
        .collect();
    let hint = if present.is_empty() {
        "nothing of another tokenizer is there either".to_owned()
    } else {
        format!(
            "found {}; convert with `python -c \"from transformers import AutoTokenizer; AutoTokenizer.from_pretrained('{folder}').save_pretrained('{folder}')\"`",
            present.join(", "),
            folder = folder.display(),
        )
    };
    TokenizerError::NotFound {
        folder: folder.to_owned(),
        hint,
    }
}

/// Runs a call into `tokenizers`, whose boxed errors become text and whose panics become errors.
///
/// The pipeline comes from a file, and 0.23.2 panics on some malformed ones (a merge longer than every token, a strip
/// of more characters than a token has). No state outlives a failed call: a pipeline is either dropped or unchanged.
fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .map_or_else(
                || "the pipeline is malformed".to_owned(),
                |message| format!("the pipeline is malformed: {message}"),
            )),
    }
}

/// Hashes what is written to it.
struct HashWriter(Sha256);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl HashWriter {
    /// One named part as JSON. A line break, which compact JSON never has, ends it, so that parts cannot run together.
    fn section<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        self.0.update(name.as_bytes());
        self.0.update(b"\n");
        if let Err(error) = serde_json::to_writer(&mut *self, value) {
            // Unreachable for these types, whose keys are strings; still a stable contribution.
            self.0.update(error.to_string().as_bytes());
        }
        self.0.update(b"\n");
    }

    fn finish(self) -> String {
        self.0
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}
