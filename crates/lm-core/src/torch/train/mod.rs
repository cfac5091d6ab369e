//! Training of adapters and soft prompts over a frozen model.
//!
//! | task | start at |
//! | --- | --- |
//! | fine-tune on prompts and replies | [`train`], [`Example`], [`TrainOptions`] |
//! | train a soft prompt | [`train_soft_prompt`], [`SoftPrompt`](crate::SoftPrompt) |
//! | another loss (DPO, list-wise, …) | [`Trainer::step_with`], a closure from log-probabilities to [`Loss`] |
//! | log-probabilities, gradients | [`Trainer::log_probs`], [`Trainer::gradients`] |
//!
//! Gradients go to the adapter's matrices only; the model's weights have none and are never written. The matrices are `f32`
//! on the host whatever the model runs in; the device holds a copy. A loss is a plain function: it is given the summed
//! log-probability of each sequence and returns its value and its derivative by each, so no tensor type crosses.

mod data;
mod dropout;
mod learnt;
mod loss;
mod optimizer;
mod options;
mod pass;
mod run;
mod schedule;
mod state;
mod trainer;

pub use data::{Example, epoch_batches};
pub(super) use dropout::Dropout;
pub use loss::Loss;
pub use optimizer::AdamWOptions;
pub use options::TrainOptions;
pub use run::{Trained, train, train_soft_prompt};
pub use schedule::cosine_with_warmup;
pub use trainer::{StepReport, Trainer};
