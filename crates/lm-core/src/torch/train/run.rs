//! A whole run: order, evaluation, early stop, state.

use std::ops::ControlFlow;

use super::data::{Example, epoch_batches};
use super::learnt::Learnt;
use super::options::TrainOptions;
use super::state::{self, Progress};
use super::trainer::{StepReport, Trainer};
use crate::adapter::{Adapter, SoftPrompt};
use crate::torch::TorchModel;
use crate::{Error, Result};

/// What a run ended with.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Trained<T> {
    /// With patience the weights of the best evaluation, else the last.
    pub weights: T,
    /// Steps done, those before a resumption included.
    pub steps: usize,
    /// Best loss on the held-out examples, if they were evaluated.
    pub held_out: Option<f64>,
}

/// Trains `adapter` on `data` for [`TrainOptions::steps`] steps, in passes over all of it, each in an order of its own that
/// the seed determines. `watch` is called after each step and may end the run.
///
/// If [`TrainOptions::state`] names a file that exists, the run goes on from there, and ends with the same bits as one that was
/// never interrupted: order and dropout are functions of seed and step. The file is replaced at once or not at all, so a kill
/// at any moment leaves the last whole one.
///
/// # Errors
/// No examples; those of [`Trainer::step`]; a state of another run.
pub fn train(
    model: &TorchModel,
    adapter: Adapter,
    data: &[Example],
    held_out: &[Example],
    options: &TrainOptions,
    watch: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Trained<Adapter>> {
    let before = adapter.clone();
    let trainer = Trainer::new(model, adapter, options.clone())?;
    let trained = run(trainer, data, held_out, watch)?;
    Ok(trained.map(|weights| weights.adapter.unwrap_or(before)))
}

/// The same for a soft prompt, which stands before every example.
///
/// # Errors
/// As [`train`].
pub fn train_soft_prompt(
    model: &TorchModel,
    prompt: SoftPrompt,
    data: &[Example],
    held_out: &[Example],
    options: &TrainOptions,
    watch: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Trained<SoftPrompt>> {
    let before = prompt.clone();
    let trainer = Trainer::of_soft_prompt(model, prompt, options.clone())?;
    let trained = run(trainer, data, held_out, watch)?;
    Ok(trained.map(|weights| weights.prompt.unwrap_or(before)))
}

impl<T> Trained<T> {
    fn map<U>(self, weights: impl FnOnce(T) -> U) -> Trained<U> {
        Trained {
            weights: weights(self.weights),
            steps: self.steps,
            held_out: self.held_out,
        }
    }
}

fn run(
    mut trainer: Trainer<'_>,
    data: &[Example],
    held_out: &[Example],
    watch: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Trained<Learnt>> {
    let options = &trainer.options.clone();
    let need = |what: &str, there: bool| match there {
        true => Ok(()),
        false => Err(Error::Empty {
            what: what.to_owned(),
            unit: "example",
        }),
    };
    need("training data", !data.is_empty())?;
    need(
        "held-out data",
        options.evaluate_every == 0 || !held_out.is_empty(),
    )?;
    let mut progress = Progress::default();
    let mut saved = None;
    if let Some(path) = &options.state {
        let run = state::fingerprint(&trainer, data, held_out)?;
        if path.exists() {
            progress = state::resume(path, &run, &mut trainer)?;
        }
        saved = Some((path, run));
    }
    let mut order = Order::new(data, options);
    let out_of_patience = |progress: &Progress| {
        options
            .patience
            .is_some_and(|most| progress.since >= most.max(1))
    };
    while trainer.steps() < options.steps && !out_of_patience(&progress) {
        let batches = order.step(trainer.steps(), data);
        let mut report = trainer.step(&batches)?;
        let done = trainer.steps();
        if options.evaluate_every > 0 && done.is_multiple_of(options.evaluate_every) {
            let loss = trainer.evaluate(held_out)?;
            report.held_out = Some(loss);
            if progress.best.as_ref().is_none_or(|(best, _)| loss < *best) {
                progress.best = Some((loss, trainer.learnt.clone()));
                progress.since = 0;
            } else {
                progress.since += 1;
            }
        }
        let flow = watch(&report);
        let due = options.save_every > 0 && done.is_multiple_of(options.save_every);
        let last = done == options.steps || out_of_patience(&progress) || flow.is_break();
        if let Some((path, run)) = saved.as_ref().filter(|_| due || last) {
            state::save(path, run, &trainer, &progress)?;
        }
        if flow.is_break() {
            break;
        }
    }
    let steps = trainer.steps();
    let held_out = progress.best.as_ref().map(|(loss, _)| *loss);
    let best = progress.best.filter(|_| options.patience.is_some());
    Ok(Trained {
        weights: best.map_or(trainer.learnt, |(_, learnt)| learnt),
        steps,
        held_out,
    })
}

/// The batches of the passes, one after the other.
struct Order<'a> {
    options: &'a TrainOptions,
    lengths: Vec<usize>,
    /// The pass in hand.
    epoch: u64,
    batches: Vec<Vec<usize>>,
}

impl<'a> Order<'a> {
    fn new(data: &[Example], options: &'a TrainOptions) -> Self {
        let mut order = Self {
            options,
            lengths: data.iter().map(|example| example.tokens().len()).collect(),
            epoch: 0,
            batches: Vec::new(),
        };
        order.turn_to(0);
        order
    }

    fn turn_to(&mut self, epoch: u64) {
        let TrainOptions {
            rows,
            group_by_length,
            seed,
            ..
        } = *self.options;
        self.epoch = epoch;
        self.batches = epoch_batches(&self.lengths, rows, group_by_length, seed, epoch);
    }

    /// The micro-batches of a step: a function of its number, so that a resumed run goes on where it was.
    fn step<'d>(&mut self, step: usize, data: &'d [Example]) -> Vec<Vec<&'d Example>> {
        let each = self.batches.len().max(1);
        let first = step * self.options.accumulation;
        let mut batches = Vec::with_capacity(self.options.accumulation);
        for number in first..first + self.options.accumulation {
            let epoch = (number / each) as u64;
            if epoch != self.epoch {
                self.turn_to(epoch);
            }
            let indices = self.batches.get(number % each).into_iter().flatten();
            batches.push(indices.filter_map(|&index| data.get(index)).collect());
        }
        batches
    }
}
