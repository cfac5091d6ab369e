//! Settings of a training run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::optimizer::AdamWOptions;
use crate::{Error, MAX_ROWS, Result};

/// How training goes. Dropout is the adapter's own ([`AdapterConfig::dropout`](crate::AdapterConfig)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainOptions {
    /// Updates of the weights.
    pub steps: usize,
    /// Examples of a micro-batch.
    pub rows: usize,
    /// Micro-batches of a step; their gradients are summed.
    pub accumulation: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Steps in which the rate rises from 0.
    pub warmup: usize,
    /// Settings of the optimiser.
    pub optimizer: AdamWOptions,
    /// Largest norm of all gradients together; larger ones are scaled down to it.
    pub max_grad_norm: Option<f64>,
    /// Whether only the inputs of blocks are kept in the forward pass and each block is computed again in the backward pass:
    /// less memory, a third more time, equal gradients.
    pub checkpointing: bool,
    /// Whether rows of a micro-batch are of similar length.
    pub group_by_length: bool,
    /// Of the order of examples and of dropout.
    pub seed: u64,
    /// Steps between two evaluations on the held-out examples; 0 for none.
    pub evaluate_every: usize,
    /// Evaluations without a new best after which training stops; the best weights are returned then.
    pub patience: Option<usize>,
    /// File that the state of training is written to, and resumed from if it exists.
    pub state: Option<PathBuf>,
    /// Steps between two writes of it; 0 for only at the end.
    pub save_every: usize,
}

impl TrainOptions {
    /// `steps` steps of `rows` examples at up to `learning_rate`; a tenth of them warm up, gradients are clipped at 1.
    #[must_use]
    pub fn new(steps: usize, rows: usize, learning_rate: f64) -> Self {
        Self {
            steps,
            rows,
            accumulation: 1,
            learning_rate,
            warmup: steps / 10,
            optimizer: AdamWOptions::default(),
            max_grad_norm: Some(1.0),
            checkpointing: false,
            group_by_length: false,
            seed: 0,
            evaluate_every: 0,
            patience: None,
            state: None,
            save_every: 0,
        }
    }

    /// Refuses values outside their ranges.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn check(&self) -> Result<()> {
        for (name, value) in [("rows", self.rows), ("accumulation", self.accumulation)] {
            if !(1..=MAX_ROWS).contains(&value) {
                return Err(Error::argument(name, format!("1 to {MAX_ROWS}"), value));
            }
        }
        if self.steps == 0 {
            return Err(Error::argument("steps", "at least 1", 0));
        }
        if self.warmup > self.steps {
            let expected = format!("at most {} steps", self.steps);
            return Err(Error::argument("warmup", expected, self.warmup));
        }
        let AdamWOptions {
            beta1,
            beta2,
            epsilon,
            weight_decay,
        } = self.optimizer;
        for (name, value, most) in [
            ("learning rate", self.learning_rate, f64::MAX),
            ("beta1", beta1, 1.0 - f64::EPSILON),
            ("beta2", beta2, 1.0 - f64::EPSILON),
            ("epsilon", epsilon, f64::MAX),
            ("weight decay", weight_decay, f64::MAX),
            ("max_grad_norm", self.max_grad_norm.unwrap_or(0.0), f64::MAX),
        ] {
            if !(0.0..=most).contains(&value) {
                let expected = format!(
                    "a finite number from 0{}",
                    if most < 1.0 { " to below 1" } else { "" }
                );
                return Err(Error::argument(name, expected, value));
            }
        }
        if self.patience.is_some() && self.evaluate_every == 0 {
            let expected = "evaluations, by `evaluate_every`";
            return Err(Error::argument("patience", expected, "none"));
        }
        Ok(())
    }
}
