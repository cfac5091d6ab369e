//! What the workspace's tests stand on: reference numbers, tolerances, tiny models. Never published, never linked with
//! libtorch.
//!
//! | task | start at |
//! | --- | --- |
//! | numbers that Hugging Face transformers computed | [`golden`] |
//! | compare with them | [`assert_close`], [`Tolerance`] |
//! | the real model, when it is on this machine | [`demo_model_or_skip!`], [`reference_or_skip!`] |
//! | a real tokenizer or chat template, likewise | [`real_tokenizer_or_skip!`], [`real_template_or_skip!`] |
//! | a model folder in a few milliseconds, sound or broken | [`TinyLlama`] |
//! | a model whose behaviour is known exactly | [`planted`] |
//! | break a file | [`truncate`], [`overwrite`] |
//!
//! ```
//! use lm_testkit::{Tolerance, assert_close, golden};
//!
//! let case = golden("llama-gqa-tied")?;
//! let whole = case.floats("whole.logits")?;
//! let steps = case.floats("steps.logits")?;
//! assert_eq!(whole.shape, [1, 16, 96]);
//! assert_close("logits by single tokens", &steps.values, &whole.values, Tolerance::F32);
//! # Ok::<(), lm_testkit::GoldenError>(())
//! ```
#![forbid(unsafe_code)]

mod array;
mod close;
mod corrupt;
mod golden;
mod local;
pub mod planted;
mod tiny;

pub use array::Array;
pub use close::{Mismatch, Tolerance, assert_close, compare, root_mean_square};
pub use corrupt::{overwrite, truncate};
pub use golden::{GoldenCase, GoldenError, Tensor, golden, golden_folder, read_tensors};
pub use local::{cache_folder, demo_model, note_skip, real_template, real_tokenizer, reference};
pub use tiny::{TinyError, TinyLlama, TinyModel};
