//! The kinds of work. Each file here is one: what it is given, our side of it, and the arithmetic it takes; the peers' sides
//! have the same names in `benches/peers/works`.

pub(crate) mod adapter;
pub(crate) mod generate;
pub(crate) mod hidden;
pub(crate) mod sweep;

use anyhow::Result;
use lm_core::{Dtype, TorchModel};
use serde::{Deserialize, Serialize};

pub(crate) use self::adapter::AdapterSteps;
pub(crate) use self::generate::Generate;
pub(crate) use self::hidden::Hidden;
pub(crate) use self::sweep::Sweep;

use crate::agree::Tolerance;
use crate::demand::{Demand, Pass};
use crate::job::Found;

/// What a process works on once its model is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Task {
    /// Nothing.
    Load,
    Generate(Generate),
    Hidden(Hidden),
    Sweep(Sweep),
    Adapter(AdapterSteps),
}

/// A call of a work that has been started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A little of it, before the clock starts.
    WarmUp,
    /// All of it.
    Timed,
}

/// A work that has been started. `call` is what is timed; `found` afterwards says what the last call found.
pub(crate) trait Started {
    fn call(&mut self, call: Call) -> Result<()>;

    fn found(&mut self) -> Result<Found>;

    /// Seconds of the last call that went into a part of it.
    fn part(&self) -> Option<(&'static str, f64)> {
        None
    }
}

impl Task {
    /// Our side of it; nothing for [`Task::Load`].
    pub(crate) fn start<'m>(
        &'m self,
        model: &'m TorchModel,
    ) -> Result<Option<Box<dyn Started + 'm>>> {
        Ok(Some(match self {
            Self::Load => return Ok(None),
            Self::Generate(work) => Box::new(work.start(model)),
            Self::Hidden(work) => Box::new(work.start(model)?),
            Self::Sweep(work) => Box::new(work.start(model)),
            Self::Adapter(work) => Box::new(work.start(model)?),
        }))
    }

    /// What it asks of a machine at the least.
    pub(crate) fn passes(&self, demand: &Demand, dtype: Dtype) -> Vec<Pass> {
        match self {
            Self::Load => Vec::new(),
            Self::Generate(work) => work.passes(demand, dtype),
            Self::Hidden(work) => work.passes(demand, dtype),
            Self::Sweep(work) => work.passes(demand, dtype),
            Self::Adapter(work) => work.passes(demand, dtype),
        }
    }

    /// How near the two sides' numbers of this name must be.
    pub(crate) fn tolerance(&self, name: &str) -> Tolerance {
        match self {
            Self::Load | Self::Generate(_) => Tolerance::EXACT,
            Self::Hidden(_) => hidden::tolerance(name),
            Self::Sweep(_) => sweep::TOLERANCE,
            Self::Adapter(_) => adapter::TOLERANCE,
        }
    }

    /// The same work on `count` of its prompts, of middling lengths, and what its time is to be multiplied by: all tokens over
    /// those of the sample. A work without prompts is its own sample.
    pub(crate) fn sampled(&self, count: usize) -> (Self, f64) {
        let mut task = self.clone();
        let prompts = match &mut task {
            Self::Hidden(work) => &mut work.prompts,
            Self::Sweep(work) => &mut work.prompts,
            Self::Load | Self::Generate(_) | Self::Adapter(_) => return (task, 1.0),
        };
        let all = tokens(prompts);
        let length = prompts.len();
        if count < length {
            // The middle of each of `count` stretches of the order by length: two prompts are not two short ones.
            prompts.sort_by_key(|prompt| prompt.tokens.len());
            let kept: Vec<Prompt> = (0..count)
                .filter_map(|index| prompts.get((2 * index + 1) * length / (2 * count)).cloned())
                .collect();
            *prompts = kept;
            prompts.sort_by_key(|prompt| prompt.number);
        }
        let scale = all / tokens(prompts).max(1.0);
        (task, scale)
    }

    /// How many prompts it has.
    pub(crate) fn prompts(&self) -> usize {
        match self {
            Self::Load => 0,
            Self::Generate(_) | Self::Adapter(_) => 1,
            Self::Hidden(work) => work.prompts.len(),
            Self::Sweep(work) => work.prompts.len(),
        }
    }
}

/// One of several prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Prompt {
    /// Its place in the whole list, kept in a sample of it.
    pub(crate) number: usize,
    pub(crate) tokens: Vec<u32>,
}

impl Prompt {
    pub(crate) fn numbered(prompts: impl IntoIterator<Item = Vec<u32>>) -> Vec<Self> {
        let prompts = prompts.into_iter().enumerate();
        prompts
            .map(|(number, tokens)| Self { number, tokens })
            .collect()
    }
}

/// Tokens of all of them, to count with.
fn tokens(prompts: &[Prompt]) -> f64 {
    prompts
        .iter()
        .map(|prompt| prompt.tokens.len())
        .sum::<usize>() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_of_middling_lengths_and_scaled_by_tokens() {
        let prompts = [1, 8, 3, 6, 5, 4, 7, 2].map(|length| vec![0; length]);
        let all = Task::Sweep(Sweep {
            prompts: Prompt::numbered(prompts),
            heads: sweep::Heads::Forwards,
        });
        let (sample, scale) = all.sampled(2);
        let Task::Sweep(work) = &sample else {
            panic!("{sample:?}")
        };
        // Of the lengths in order, 1 to 8, the third and the seventh.
        let kept = work
            .prompts
            .iter()
            .map(|own| (own.number, own.tokens.len()));
        assert_eq!(kept.collect::<Vec<_>>(), [(2, 3), (6, 7)]);
        assert!((scale - 3.6).abs() < 1e-12, "{scale}");
        assert_eq!(all.sampled(8), (all.clone(), 1.0));
        assert_eq!(Task::Load.sampled(1), (Task::Load, 1.0));
    }
}
