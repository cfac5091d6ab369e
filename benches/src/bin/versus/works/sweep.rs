//! Query-level scores of every head (Ships; Zhou et al., ICLR 2025, equation 9): the head's attention made uniform, and
//! `KL(base ‖ ablated)` at the last position of each prompt, in nats.
//!
//! The dataset-level score needs the same passes, and instead of the logits what the unembedding sees; the sweep hands out
//! logits, so that both sides put each prompt's last position through the unembedding.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use lm_core::{AblationKind, Dtype, HeadAblation, OpenModel as _, TorchModel, logits};
use serde::{Deserialize, Serialize};

use super::{Call, Prompt, Started, tokens};
use crate::agree::Tolerance;
use crate::demand::{Demand, Pass};
use crate::job::Found;

/// Heads of the warm-up.
const WARM_UP_HEADS: usize = 8;

/// Of a score relative to it; scores near 0 are the rounding of logits.
pub(super) const TOLERANCE: Tolerance = Tolerance {
    absolute: 1e-6,
    relative: 1e-4,
    others: 0.0,
};

/// Scores every head on each prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sweep {
    pub(crate) prompts: Vec<Prompt>,
    /// How the peer goes about it.
    pub(crate) heads: Heads,
}

/// How the peer runs the heads of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Heads {
    /// A forward pass a head.
    Forwards,
    /// A forward pass a layer, its heads as the rows of a batch.
    Rows,
}

pub(super) struct Running<'m> {
    work: &'m Sweep,
    model: &'m TorchModel,
    /// For each prompt a score a head, layer by layer.
    scores: Vec<Vec<f64>>,
    /// Of the last call, in the divergence.
    divergence: Duration,
}

impl Sweep {
    pub(super) fn start<'m>(&'m self, model: &'m TorchModel) -> Running<'m> {
        Running {
            work: self,
            model,
            scores: Vec::new(),
            divergence: Duration::ZERO,
        }
    }

    /// The arithmetic that no sweep can do without: the base model, and for each head what follows the head. In its own layer
    /// that is its columns of the output projection and the feed-forward part; the layers above whole; in the last layer keys
    /// and values, and everything else for the last positions only. A beginning that all prompts share counts once a head.
    pub(super) fn passes(&self, demand: &Demand, dtype: Dtype) -> Vec<Pass> {
        let prompts = &self.prompts;
        let shared = self.shared();
        let rows = prompts.len() as f64;
        let positions = tokens(prompts) - shared as f64 * (rows - 1.0);
        let own = || prompts.iter().map(|prompt| prompt.tokens.len() - shared);
        let whole = demand.rows([shared], 0) + demand.rows(own(), shared);
        let layers = demand.layers as f64;
        let layer = |weights: u64| 2.0 * weights as f64 / layers;
        let columns = layer(demand.output) / demand.heads as f64;
        let last = positions * layer(demand.keys)
            + rows * (layer(demand.blocks) - layer(demand.keys))
            + 4.0 * demand.attention as f64 / layers * tokens(prompts);
        let mut operations = whole + 2.0 * rows * demand.unembedding as f64;
        for index in 0..demand.layers {
            let above = (demand.layers - 1 - index) as f64;
            let changed = if above > 0.0 { positions } else { rows };
            let each = changed * (columns + layer(demand.mlp))
                + (above - 1.0).max(0.0) * whole / layers
                + if above > 0.0 { last } else { 0.0 }
                + 2.0 * rows * demand.unembedding as f64;
            operations += demand.heads as f64 * each;
        }
        vec![Pass {
            count: 1.0,
            operations,
            bytes: demand.bytes(dtype),
        }]
    }

    /// Tokens that all prompts begin with, less the last of the shortest; none of a single prompt.
    fn shared(&self) -> usize {
        let Some((first, others)) = self
            .prompts
            .split_first()
            .filter(|(_, others)| !others.is_empty())
        else {
            return 0;
        };
        let with = |other: &Prompt| {
            let pairs = first.tokens.iter().zip(&other.tokens);
            let same = pairs.take_while(|(a, b)| a == b).count();
            same.min(other.tokens.len().saturating_sub(1))
        };
        let least = others.iter().map(with).min().unwrap_or(0);
        least.min(first.tokens.len().saturating_sub(1))
    }
}

impl Started for Running<'_> {
    fn call(&mut self, call: Call) -> Result<()> {
        let (prompts, heads) = match call {
            Call::WarmUp => (1, WARM_UP_HEADS),
            Call::Timed => (usize::MAX, usize::MAX),
        };
        let prompts = self.work.prompts.iter().take(prompts);
        let prompts: Vec<&[u32]> = prompts.map(|own| own.tokens.as_slice()).collect();
        let kind = AblationKind::Undifferentiated { epsilon: 0.0 };
        let each = self.model.shape().all_heads().take(heads);
        // The model as it is comes first: an ablation of nothing.
        let ablations: Vec<HeadAblation> = [HeadAblation::none()]
            .into_iter()
            .chain(each.map(|head| HeadAblation::none().with(head, kind)))
            .collect();
        let mut scores = vec![Vec::with_capacity(ablations.len()); prompts.len()];
        let mut base = None;
        let mut divergence = Duration::ZERO;
        self.model
            .sweep(&prompts, &ablations, &mut |index, found| {
                if index == 0 {
                    base = Some(found.to_owned());
                }
                let Some(base) = base.as_ref().filter(|_| index > 0) else {
                    return Ok(());
                };
                let begin = Instant::now();
                for ((scores, base), changed) in scores
                    .iter_mut()
                    .zip(base.outer_iter())
                    .zip(found.outer_iter())
                {
                    let rows = base.as_slice().zip(changed.as_slice());
                    let score =
                        rows.and_then(|(base, changed)| logits::kl_divergence(base, changed));
                    scores.push(score.unwrap_or(f64::NAN));
                }
                divergence += begin.elapsed();
                Ok(())
            })?;
        self.scores = scores;
        self.divergence = divergence;
        Ok(())
    }

    fn found(&mut self) -> Result<Found> {
        let prompts = self.work.prompts.iter().map(|own| own.number);
        let numbers: BTreeMap<String, Vec<f64>> = prompts
            .zip(std::mem::take(&mut self.scores))
            .map(|(number, scores)| (format!("scores on prompt {number}"), scores))
            .collect();
        Ok(Found {
            numbers,
            ..Found::default()
        })
    }

    fn part(&self) -> Option<(&'static str, f64)> {
        Some(("divergence", self.divergence.as_secs_f64()))
    }
}
