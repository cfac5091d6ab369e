//! Steps of training a LoRA adapter: forward, backward, clipping, AdamW.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use lm_core::torch::train::{Example, TrainOptions, Trainer};
use lm_core::{Adapter, Dtype, TorchModel};
use serde::{Deserialize, Serialize};

use super::{Call, Started};
use crate::agree::Tolerance;
use crate::demand::{Demand, Pass};
use crate::job::Found;

/// Steps before the clock starts.
pub(crate) const WARM_UP_STEPS: usize = 2;

/// Of the loss of each step, in nats: the later ones show that the updates are the same, too.
pub(super) const TOLERANCE: Tolerance = Tolerance {
    absolute: 1e-4,
    relative: 0.0,
    others: 0.0,
};

/// Trains an adapter on one batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AdapterSteps {
    /// The folder of the adapter that training begins with.
    pub(crate) adapter: PathBuf,
    /// Parameters of the adapter.
    pub(crate) parameters: u64,
    /// Rows of the batch, equally long.
    pub(crate) rows: Vec<Vec<u32>>,
    /// Tokens at the beginning of each row that are not learnt.
    pub(crate) given: usize,
    /// All steps: those of the warm-up and one a repeat.
    pub(crate) steps: usize,
    /// Highest learning rate; a cosine leads from it to 0.
    pub(crate) learning_rate: f64,
    /// Largest norm of the gradients.
    pub(crate) max_grad_norm: f64,
}

pub(super) struct Running<'m> {
    trainer: Trainer<'m>,
    batch: Vec<Example>,
    losses: Vec<f64>,
}

impl AdapterSteps {
    pub(super) fn start<'m>(&self, model: &'m TorchModel) -> Result<Running<'m>> {
        let adapter = Adapter::open(&self.adapter, model.checkpoint())?;
        let mut options = TrainOptions::new(self.steps, self.rows.len(), self.learning_rate);
        options.warmup = 0;
        options.max_grad_norm = Some(self.max_grad_norm);
        let batch = self.rows.iter().map(|tokens| {
            let targets = (0..tokens.len()).map(|index| index >= self.given);
            Example::new(tokens.clone(), targets.collect())
        });
        Ok(Running {
            trainer: Trainer::new(model, adapter, options)?,
            batch: batch.collect::<lm_core::Result<_>>()?,
            losses: Vec::new(),
        })
    }

    /// One step. Behind a matrix that stays as it is, the gradient of its input is all that is wanted: the price of the
    /// forward pass once more. Of the adapter's matrices the gradient is wanted, too.
    pub(super) fn passes(&self, demand: &Demand, dtype: Dtype) -> Vec<Pass> {
        let lengths = || self.rows.iter().map(Vec::len);
        let tokens = lengths().sum::<usize>() as f64;
        let targets: usize = lengths()
            .map(|length| length - self.given.min(length))
            .sum();
        let weights = 2.0 * demand.blocks as f64 * tokens;
        let attention = demand.rows(lengths(), 0) - weights;
        vec![Pass {
            count: 1.0,
            operations: 2.0 * weights
                + 3.0 * attention
                + 4.0 * demand.unembedding as f64 * targets as f64
                + 6.0 * self.parameters as f64 * tokens,
            bytes: 2.0 * demand.bytes(dtype),
        }]
    }
}

impl Started for Running<'_> {
    fn call(&mut self, call: Call) -> Result<()> {
        let steps = match call {
            Call::WarmUp => WARM_UP_STEPS,
            Call::Timed => 1,
        };
        for _ in 0..steps {
            let report = self.trainer.step(&[self.batch.iter().collect()])?;
            self.losses.push(report.loss);
        }
        Ok(())
    }

    fn found(&mut self) -> Result<Found> {
        Ok(Found {
            numbers: BTreeMap::from([("loss of each step".to_owned(), self.losses.clone())]),
            ..Found::default()
        })
    }
}
