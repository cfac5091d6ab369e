//! Steps of training, one at a time.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::data::Example;
use super::dropout::Dropout;
use super::learnt::Learnt;
use super::loss::Loss;
use super::optimizer::{self, AdamW};
use super::options::TrainOptions;
use super::pass::{self, Leaves};
use super::schedule::cosine_with_warmup;
use crate::adapter::{Adapter, SoftPrompt};
use crate::torch::TorchModel;
use crate::{Error, Result};

/// An adapter or a soft prompt in training over a model that stays as it is.
#[derive(Debug)]
pub struct Trainer<'m> {
    pub(super) model: &'m TorchModel,
    pub(super) learnt: Learnt,
    pub(super) optimizer: AdamW,
    pub(super) options: TrainOptions,
    /// Steps done.
    pub(super) step: usize,
    leaves: Leaves,
}

/// What one step found, before its update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepReport {
    /// Number of the step, from 0.
    pub step: usize,
    /// The loss, in nats where it is a negative log-likelihood.
    pub loss: f64,
    /// Norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// Learning rate of the update.
    pub learning_rate: f64,
    /// Loss on the held-out examples after the step, if they were evaluated.
    pub held_out: Option<f64>,
}

impl<'m> Trainer<'m> {
    /// Begins with `adapter` as it is.
    ///
    /// # Errors
    /// An adapter for another model, options outside their ranges.
    pub fn new(model: &'m TorchModel, adapter: Adapter, options: TrainOptions) -> Result<Self> {
        adapter.config().check()?;
        Self::begin(model, adapter.into(), options)
    }

    /// Begins with a soft prompt, which stands before every example and is all that is trained.
    ///
    /// # Errors
    /// A prompt that does not fit the model, options outside their ranges.
    pub fn of_soft_prompt(
        model: &'m TorchModel,
        prompt: SoftPrompt,
        options: TrainOptions,
    ) -> Result<Self> {
        Self::begin(model, prompt.into(), options)
    }

    pub(super) fn begin(
        model: &'m TorchModel,
        learnt: Learnt,
        options: TrainOptions,
    ) -> Result<Self> {
        options.check()?;
        let mut learnt = learnt;
        for own in learnt.values_mut().filter(|own| !own.is_standard_layout()) {
            // Updates go through slices.
            *own = own.as_standard_layout().into_owned();
        }
        Ok(Self {
            model,
            optimizer: AdamW::new(options.optimizer, learnt.values().map(Array2::len)),
            options,
            step: 0,
            leaves: Leaves::new(model, &learnt)?,
            learnt,
        })
    }

    /// The adapter as it is now, if one is trained.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.learnt.adapter.as_ref()
    }

    /// The soft prompt as it is now, if one is trained.
    pub fn soft_prompt(&self) -> Option<&SoftPrompt> {
        self.learnt.prompt.as_ref()
    }

    /// Steps done.
    pub fn steps(&self) -> usize {
        self.step
    }

    /// Natural log-probability of each example's target tokens, summed, under what is trained, without dropout: `[example]`.
    ///
    /// # Errors
    /// No examples; tokens outside the vocabulary or the context; what libtorch refuses.
    pub fn log_probs(&self, examples: &[&Example]) -> Result<Vec<f64>> {
        pass::log_probs(self.model, Some(&self.leaves), examples)
    }

    /// The same under the model alone: the reference of preference optimisation.
    ///
    /// # Errors
    /// As [`Trainer::log_probs`].
    pub fn reference_log_probs(&self, examples: &[&Example]) -> Result<Vec<f64>> {
        pass::log_probs(self.model, None, examples)
    }

    /// Mean negative log-likelihood of a target token of `examples`, in nats, without dropout, computed in micro-batches.
    ///
    /// # Errors
    /// As [`Trainer::log_probs`].
    pub fn evaluate(&self, examples: &[Example]) -> Result<f64> {
        let mut sum = 0.0;
        for batch in examples.chunks(self.options.rows) {
            let batch: Vec<&Example> = batch.iter().collect();
            sum += self.log_probs(&batch)?.iter().sum::<f64>();
        }
        match targets(examples.iter()) {
            0 => Err(Error::Empty {
                what: "held-out examples".to_owned(),
                unit: "target",
            }),
            count => Ok(-sum / count as f64),
        }
    }

    /// One step on micro-batches: the negative log-likelihood of all their targets together, over their number.
    ///
    /// # Errors
    /// As [`Trainer::step_with`].
    pub fn step(&mut self, batches: &[Vec<&Example>]) -> Result<StepReport> {
        let count = targets(batches.iter().flatten().copied());
        self.step_with(batches, &mut |_, log_probs| {
            Ok(Loss::negative_log_likelihood(log_probs, count))
        })
    }

    /// One step with a loss of one's own: `loss(micro_batch, log_probs)` is called once a micro-batch with the summed
    /// log-probability of each of its examples; values and gradients of the micro-batches are added.
    ///
    /// # Errors
    /// Those of [`Trainer::log_probs`] and of `loss`; a loss or gradient that is not finite, after which no weight has changed.
    pub fn step_with(
        &mut self,
        batches: &[Vec<&Example>],
        loss: &mut dyn FnMut(usize, &[f64]) -> Result<Loss>,
    ) -> Result<StepReport> {
        let (value, gradients) = self.flat_gradients(batches, loss)?;
        let grad_norm = optimizer::norm(&gradients);
        if !grad_norm.is_finite() {
            let name = format!("gradient norm of step {}", self.step);
            return Err(Error::argument(name, "a finite number", grad_norm));
        }
        let options = &self.options;
        let learning_rate = cosine_with_warmup(
            self.step,
            options.steps,
            options.warmup,
            options.learning_rate,
        );
        let factor = options
            .max_grad_norm
            .map_or(1.0, |most| (most / (grad_norm + 1e-6)).min(1.0));
        let weights = self.learnt.values_mut();
        let weights = weights.map(|own| own.as_slice_mut().unwrap_or_default());
        #[allow(
            clippy::cast_possible_truncation,
            reason = "multiplies gradients, which are f32"
        )]
        self.optimizer
            .update(weights, &gradients, factor as f32, learning_rate);
        self.leaves = Leaves::new(self.model, &self.learnt)?;
        let step = self.step;
        self.step += 1;
        Ok(StepReport {
            step,
            loss: value,
            grad_norm,
            learning_rate,
            held_out: None,
        })
    }

    /// The loss of [`Trainer::step_with`] and its gradient: of an adapter by A `[rank, in]` and B `[out, rank]` of each of
    /// [`Adapter::matrices`] in turn, of a soft prompt `[virtual token, hidden]`. No weight changes.
    ///
    /// # Errors
    /// As [`Trainer::step_with`].
    pub fn gradients(
        &mut self,
        batches: &[Vec<&Example>],
        loss: &mut dyn FnMut(usize, &[f64]) -> Result<Loss>,
    ) -> Result<(f64, Vec<Array2<f32>>)> {
        let (value, gradients) = self.flat_gradients(batches, loss)?;
        let all = self.learnt.values().zip(gradients);
        let shaped = all.map(|(own, values)| {
            Array2::from_shape_vec(own.dim(), values).map_err(|error| Error::Engine {
                engine: "ndarray".to_owned(),
                source: Box::new(error),
            })
        });
        Ok((value, shaped.collect::<Result<_>>()?))
    }

    fn flat_gradients(
        &mut self,
        batches: &[Vec<&Example>],
        loss: &mut dyn FnMut(usize, &[f64]) -> Result<Loss>,
    ) -> Result<(f64, Vec<Vec<f32>>)> {
        // Fresh ones: gradients gather in them, and an earlier call may have ended in the middle.
        self.leaves = Leaves::new(self.model, &self.learnt)?;
        crate::model::require_rows(batches.len())?;
        let (share, seed) = (self.learnt.dropout(), self.options.seed);
        let mut value = 0.0;
        for (index, batch) in batches.iter().enumerate() {
            let dropout = Dropout::new(share, seed, self.step as u64, index as u64);
            value += pass::backward(
                self.model,
                &self.leaves,
                batch,
                dropout.as_ref(),
                self.options.checkpointing,
                &mut |log_probs| loss(index, log_probs),
            )?;
        }
        Ok((value, self.leaves.gradients()?))
    }

    /// Takes back weights, moments and step.
    pub(super) fn restore(&mut self, learnt: Learnt, optimizer: AdamW, step: usize) -> Result<()> {
        self.leaves = Leaves::new(self.model, &learnt)?;
        self.learnt = learnt;
        self.optimizer = optimizer;
        self.step = step;
        Ok(())
    }
}

fn targets<'a>(examples: impl Iterator<Item = &'a Example>) -> usize {
    examples.map(Example::target_count).sum()
}
