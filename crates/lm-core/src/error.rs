//! What can go wrong in this crate.

use std::path::{Path, PathBuf};

use crate::heads::Head;

/// Everything that can go wrong in this crate: what was expected, what was found, and in which file, tensor or row.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// Neither a file, nor a folder, nor a model in the local hub cache.
    #[error("no model `{given}`: {looked}")]
    NoSuchModel {
        /// What the caller asked for.
        given: String,
        /// Where it was looked for, and what would bring it.
        looked: String,
    },

    /// A folder that lacks a file every checkpoint has, or holds it in a form that is not read.
    #[error("{}: {problem}", path.display())]
    Checkpoint {
        /// The folder or file.
        path: PathBuf,
        /// What is missing or wrong, and what would mend it.
        problem: String,
    },

    /// A JSON file that is not JSON.
    #[error("{}: not valid JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where the parser stopped.
        source: serde_json::Error,
    },

    /// A value of `config.json` or of GGUF metadata that cannot be used.
    #[error("{}: `{key}`: expected {expected}, found {found}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The key, with dots for nesting.
        key: String,
        /// What would have been usable.
        expected: String,
        /// What stands there.
        found: String,
    },

    /// A model family this version does not know.
    #[error("{}: unknown model family {found}; known are {known}", path.display())]
    UnknownFamily {
        /// The file that names the family.
        path: PathBuf,
        /// The name found.
        found: String,
        /// The names that would have worked.
        known: String,
    },

    /// A model family that is known and not read.
    #[error("{}: the model family `{name}` is not supported: {reason}", path.display())]
    UnsupportedFamily {
        /// The file that names the family.
        path: PathBuf,
        /// The name found.
        name: String,
        /// Why.
        reason: String,
    },

    /// A weight that the configuration implies is absent.
    #[error("{}: tensor `{name}` not found", path.display())]
    MissingTensor {
        /// Its name in the file.
        name: String,
        /// The checkpoint.
        path: PathBuf,
    },

    /// A weight whose shape is not the one the configuration implies.
    #[error("{}: tensor `{name}`: expected shape {expected:?}, found {found:?}", path.display())]
    Shape {
        /// Its name in the file.
        name: String,
        /// The checkpoint.
        path: PathBuf,
        /// The shape by the configuration.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },

    /// A weight stored in a type that is not read.
    #[error("{}: tensor `{name}`: expected F32, F16 or BF16, found {found}", path.display())]
    TensorType {
        /// Its name in the file.
        name: String,
        /// The checkpoint.
        path: PathBuf,
        /// The type in the file.
        found: String,
    },

    /// A weight that holds NaN or an infinity.
    #[error("{}: tensor `{name}`: element {index} is {value}, expected finite weights", path.display())]
    NotFinite {
        /// Its name in the file.
        name: String,
        /// The checkpoint.
        path: PathBuf,
        /// Flat index of the first such element.
        index: usize,
        /// Its value.
        value: f32,
    },

    /// A malformed safetensors file.
    #[error("{}: {source}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What the format's own reader said.
        source: safetensors::SafeTensorError,
    },

    /// A malformed or unsupported GGUF file.
    #[error("{}: {source}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: crate::weights::gguf::GgufError,
    },

    /// A tokenizer that could not be built or that refused a text.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenizer::TokenizerError),

    /// A chat template that could not be read or rendered.
    #[error(transparent)]
    Template(#[from] crate::chat::TemplateError),

    /// The checkpoint carries no chat template, so a conversation cannot be encoded.
    #[error("{}: no chat template: use a raw prompt, or a model with `chat_template`", path.display())]
    NoTemplate {
        /// The checkpoint.
        path: PathBuf,
    },

    /// A prompt or a batch with nothing in it.
    #[error("{what} is empty, expected at least one {unit}")]
    Empty {
        /// Which input.
        what: String,
        /// What it should hold.
        unit: &'static str,
    },

    /// More tokens than the model has positions.
    #[error("row {row}: {found} tokens, but the model's context holds {limit}")]
    Context {
        /// Row of the batch.
        row: usize,
        /// Tokens asked for.
        found: usize,
        /// Positions the model has.
        limit: usize,
    },

    /// A token id outside the vocabulary.
    #[error(
        "row {row}, position {position}: token id {id}, but the vocabulary has {vocab} entries"
    )]
    TokenId {
        /// Row of the batch.
        row: usize,
        /// Position in the row's chunk.
        position: usize,
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },

    /// An attention head the model does not have.
    #[error("head {head}: the model has layers 0 to {} and query heads 0 to {} (layer-head, both from 0)", layers.saturating_sub(1), heads.saturating_sub(1))]
    Head {
        /// The head.
        head: Head,
        /// Layers of the model.
        layers: usize,
        /// Query heads of a layer.
        heads: usize,
    },

    /// An argument outside its range.
    #[error("{name}: expected {expected}, found {found}")]
    Argument {
        /// Name of the option, flag or parameter.
        name: String,
        /// What would have been accepted.
        expected: String,
        /// What was given.
        found: String,
    },

    /// A device that this machine or this build of libtorch does not have. Never replaced by another silently.
    #[error("device {asked}: {why}")]
    Device {
        /// The device asked for.
        asked: String,
        /// Why it can't be had, and what would help.
        why: String,
    },

    /// libtorch refused an operation. The C++ frames stay in the source.
    #[cfg(feature = "torch")]
    #[error("libtorch: {summary}")]
    Torch {
        /// First line of libtorch's text.
        summary: String,
        /// The whole of it.
        source: tch::TchError,
    },

    /// An error of an engine that is not ours, behind one of our traits.
    #[error("{engine}: {source}")]
    Engine {
        /// Its name.
        engine: String,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A result whose error is this crate's.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { path, source }
    }

    #[allow(
        clippy::needless_pass_by_value,
        reason = "numbers and texts alike are what was found"
    )]
    pub(crate) fn argument(
        name: impl Into<String>,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self::Argument {
            name: name.into(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }
}

#[cfg(feature = "torch")]
impl From<tch::TchError> for Error {
    fn from(source: tch::TchError) -> Self {
        let text = source.to_string();
        let summary = text.lines().next().unwrap_or_default().to_owned();
        Self::Torch { summary, source }
    }
}
