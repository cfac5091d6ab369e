#![cfg_attr(feature = "torch", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "torch"),
    doc = "The traits, readers and text code of lm-core, without its libtorch engine (feature `torch`)."
)]

mod adapter;
mod capture_file;
pub mod chat;
mod error;
mod exp;
mod family;
pub mod files;
pub mod generate;
mod heads;
mod kv_heads;
pub mod logits;
mod model;
mod patch;
mod provenance;
pub mod sampling;
pub mod score;
mod sites;
pub mod spec;
pub mod strategy;
mod text;
pub mod tokenizer;
#[cfg(feature = "torch")]
pub mod torch;
pub mod weights;

pub use adapter::{Adapter, AdapterConfig, LowRank, SoftPrompt, Targets};
pub use capture_file::{CaptureFile, capture_to_file};
pub use chat::{Conversation, Message, Role};
pub use error::{Error, Result};
pub use generate::{
    CancelToken, Determinism, Dialogue, FinishReason, GenerateOptions, Generation, Piece, Request,
};
pub use heads::{AblationKind, Head, HeadAblation, HeadEdit};
pub use kv_heads::{KvAblation, KvAblationKind, KvEdit, KvHead};
pub use model::{
    ChatModel, Intervened, Intervention, LanguageModel, MAX_ROWS, ModelShape, OpenModel,
    OpenSession, PlainSession, Reply, Run, RunOutput, Scored, ScoringSession, Session, TokenCounts,
    check_chunks, check_rewind, check_score, check_selection, require_rows, sweep_plainly,
};
pub use patch::{Patch, PatchAction};
pub use provenance::Provenance;
pub use sampling::{RowKey, Sampling};
pub use score::{ScoreOptions, check_score_many};
pub use sites::{Capture, Captured, Positions, Site};
pub use spec::DecoderSpec;
pub use strategy::Strategy;
pub use text::{ChatOptions, EncodedChat, Prompt, TextInterface};
pub use tokenizer::ContentPolicy;
#[cfg(feature = "torch")]
pub use torch::{Adapted, Device, Dtype, LoadOptions, Placement, SoftPrompted, TorchModel};
pub use weights::Checkpoint;
