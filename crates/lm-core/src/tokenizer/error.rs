//! What can go wrong between a file and token ids.

use std::path::PathBuf;

/// Everything that can go wrong while a tokenizer is built or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A tokenizer file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// The folder holds no `tokenizer.json`.
    #[error("no tokenizer.json in {}: {hint}", folder.display())]
    NotFound {
        /// The folder that was searched.
        folder: PathBuf,
        /// What was there instead, and how to convert it.
        hint: String,
    },

    /// A tokenizer file is not what its name says.
    #[error("{origin}: {reason}")]
    Parse {
        /// The file, or `<memory>`.
        origin: String,
        /// What was expected and what was found.
        reason: String,
    },

    /// GGUF names a tokenizer model this crate does not build.
    #[error("tokenizer.ggml.model is `{found}`; known: {known}")]
    UnknownModel {
        /// The name in the file.
        found: String,
        /// The names this crate knows, comma-separated.
        known: String,
    },

    /// GGUF names a byte-level pre-tokenizer this crate does not know.
    ///
    /// Guessing one would give plausible but wrong ids, so this is an error.
    #[error("tokenizer.ggml.pre is `{found}`; known: {known}")]
    UnknownPreTokenizer {
        /// The name in the file.
        found: String,
        /// The names this crate knows, comma-separated.
        known: String,
    },

    /// A byte-level GGUF vocabulary without `tokenizer.ggml.pre`.
    #[error(
        "tokenizer.ggml.pre is missing, and byte-level ids depend on it; convert the model again with a current converter (known: {known})"
    )]
    MissingPreTokenizer {
        /// The names this crate knows, comma-separated.
        known: String,
    },

    /// The vocabulary has no token.
    #[error("tokenizer.ggml.tokens is empty")]
    EmptyVocabulary,

    /// A per-token list of another length than the vocabulary.
    #[error("{key}: expected {expected} entries, one for each token, found {found}")]
    Length {
        /// The metadata key.
        key: &'static str,
        /// The vocabulary size.
        expected: usize,
        /// The length of the list.
        found: usize,
    },

    /// Two ids with one text.
    #[error("duplicate token {token:?}: ids {first} and {second}")]
    DuplicateToken {
        /// The text.
        token: String,
        /// The lower id.
        first: u32,
        /// The higher id.
        second: u32,
    },

    /// A token longer than any real vocabulary has.
    #[error("token {id} is {found} bytes long; at most {limit} are accepted")]
    TokenTooLong {
        /// The token's id.
        id: u32,
        /// Its length in bytes.
        found: usize,
        /// The cap in bytes.
        limit: usize,
    },

    /// A token type outside 1..=6.
    #[error("tokenizer.ggml.token_type[{id}] is {found}; expected 1 to 6")]
    TokenType {
        /// The token's id.
        id: u32,
        /// The value found.
        found: i32,
    },

    /// A score that cannot be ordered.
    #[error("tokenizer.ggml.scores[{id}] is not a number")]
    Score {
        /// The token's id.
        id: u32,
    },

    /// A merge that is not two tokens of the vocabulary whose join is a third.
    #[error("tokenizer.ggml.merges[{index}] is {merge:?}: {reason}")]
    Merge {
        /// The rank of the merge.
        index: usize,
        /// The line as written.
        merge: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A special id outside the vocabulary.
    #[error("{key} is {id}, but the vocabulary has {vocab_size} tokens")]
    SpecialId {
        /// The metadata key.
        key: &'static str,
        /// The id found.
        id: u32,
        /// The vocabulary size.
        vocab_size: usize,
    },

    /// The pipeline is told to add a token that has no id.
    #[error("{flag} is set, but {key} is missing")]
    MissingSpecialId {
        /// The flag that asks for the token.
        flag: &'static str,
        /// The key that would name it.
        key: &'static str,
    },

    /// A special token named by the configuration is not in the vocabulary.
    #[error("{origin}: {field} is {token:?}, which the vocabulary does not have")]
    UnknownSpecialToken {
        /// The file that names it.
        origin: String,
        /// `bos_token`, `eos_token`, `unk_token` or `pad_token`.
        field: &'static str,
        /// The text.
        token: String,
    },

    /// A message holds the text of a control token.
    #[error("message {message} contains `{token}`, which is a control token of this model")]
    ControlToken {
        /// Index of the message, from 0.
        message: usize,
        /// The token.
        token: String,
    },

    /// A character that encoding needs for itself.
    #[error("the text contains U+{:X}, a character for private use that cannot be encoded here", u32::from(*character))]
    PrivateUse {
        /// The character.
        character: char,
    },

    /// The pipeline refused a text.
    #[error("cannot encode the text: {reason}")]
    Encode {
        /// What the pipeline said.
        reason: String,
    },

    /// The pipeline refused token ids.
    #[error("cannot decode the token ids: {reason}")]
    Decode {
        /// What the pipeline said.
        reason: String,
    },

    /// An empty stop string, which would match before the first character.
    #[error("stop string {index} is empty")]
    EmptyStopString {
        /// Its place in the list.
        index: usize,
    },
}
