//! Choosing a token from logits, on the host, in pure functions.
//!
//! Every row has a key of its own, and a draw is a function of (key, step): it depends neither on the row's neighbours, nor
//! on the batch, nor on a restart. Only the logits can differ.
//!
//! Probabilities are whole numbers here: `exp((logit − top) / temperature)` in units of 2⁻⁴⁴, from an exponential in `f32` that is
//! the same on every machine. Their sums are exact, so what a filter keeps has one answer, whatever the order of adding: the
//! tokens ranked by logit and then by id are kept by top-p as long as those before hold less than `p` of the sum over what top-k
//! kept, and by min-p where `logit ≥ top + temperature · ln p` in `f64`. A weight is within `(3 + 2 ln(1 / weight)) · 10⁻⁷` of
//! its value relatively. A draw takes the place `⌊u · sum⌋`, by ids after temperature and min-p alone, by rank otherwise. Nothing
//! is sorted but a few hundred entries, whatever the logits are.

mod candidates;
mod key;
mod mass;
mod ranked;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use self::candidates::Candidates;
pub use self::key::RowKey;
use crate::exp::{Bounds, bounds, position};
use crate::{Error, Result};

/// How a token is chosen. Filters apply in the order of transformers: repetition penalty, temperature, top-k, top-p, min-p.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Divides the logits; 0, the default, takes the largest.
    pub temperature: f32,
    /// Keeps the `k` most likely tokens; of equal ones the smaller ids.
    pub top_k: Option<usize>,
    /// Keeps the most likely tokens until their probabilities reach `p`; of equal ones the smaller ids.
    pub top_p: Option<f32>,
    /// Keeps tokens at least `p` times as likely as the most likely one.
    pub min_p: Option<f32>,
    /// Divides positive and multiplies negative logits of tokens that have occurred, prompt included (Keskar et al., 2019);
    /// 1 changes nothing.
    pub repetition_penalty: f32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: None,
            top_p: None,
            min_p: None,
            repetition_penalty: 1.0,
        }
    }
}

impl Sampling {
    /// Takes the most likely token; of equal ones the smallest id.
    pub fn greedy() -> Self {
        Self::default()
    }

    /// Samples from the whole distribution at `temperature`.
    pub fn temperature(temperature: f32) -> Self {
        Self {
            temperature,
            ..Self::default()
        }
    }

    /// Refuses values outside their ranges.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn check(&self) -> Result<()> {
        let number = |name: &str, value: f32, expected: &str, fits: bool| {
            if fits {
                Ok(())
            } else {
                Err(Error::argument(name, expected, value))
            }
        };
        let share = |value: f32| value > 0.0 && value <= 1.0;
        let temperature = self.temperature;
        number(
            "temperature",
            temperature,
            "a number from 0",
            temperature.is_finite() && temperature >= 0.0,
        )?;
        if self.top_k == Some(0) {
            return Err(Error::argument("top-k", "at least 1", 0));
        }
        if let Some(p) = self.top_p {
            number("top-p", p, "above 0, at most 1", share(p))?;
        }
        if let Some(p) = self.min_p {
            number("min-p", p, "above 0, at most 1", share(p))?;
        }
        let penalty = self.repetition_penalty;
        number(
            "repetition penalty",
            penalty,
            "a positive number",
            penalty.is_finite() && penalty > 0.0,
        )
    }

    /// The next token after `history` (prompt and generated tokens) given its `logits`, `[vocab]`. `None` if no logit is above
    /// −∞. Where logits are +∞, only they are chosen from, evenly; those that are not a number are never chosen.
    pub fn choose(&self, logits: &[f32], history: &[u32], key: &RowKey, step: u64) -> Option<u32> {
        let penalised;
        #[allow(clippy::float_cmp, reason = "exactly 1 means off")]
        let logits = if self.repetition_penalty == 1.0 {
            logits
        } else {
            penalised = penalise(logits, history, self.repetition_penalty);
            &penalised
        };
        self.choose_within(logits, bounds(logits), key, step)
    }

    /// [`Sampling::choose`] when the row's ends are known: beside the token's log-probability they are needed only once.
    pub(crate) fn choose_known(
        &self,
        logits: &[f32],
        ends: Bounds,
        history: &[u32],
        key: &RowKey,
        step: u64,
    ) -> Option<u32> {
        #[allow(clippy::float_cmp, reason = "exactly 1 means off")]
        if self.repetition_penalty == 1.0 {
            self.choose_within(logits, ends, key, step)
        } else {
            self.choose(logits, history, key, step)
        }
    }

    fn choose_within(
        &self,
        logits: &[f32],
        bounds: Bounds,
        key: &RowKey,
        step: u64,
    ) -> Option<u32> {
        if bounds.top == f32::NEG_INFINITY {
            return None;
        }
        if self.temperature <= 0.0 {
            return u32::try_from(position(logits, bounds.top)?).ok();
        }
        if bounds.top == f32::INFINITY {
            // What is left of the distribution as one logit grows beyond the others.
            let limit = |&logit: &f32| match logit {
                f32::INFINITY => 0.0,
                _ => f32::NEG_INFINITY,
            };
            let limit: Vec<f32> = logits.iter().map(limit).collect();
            let bounds = Bounds {
                top: 0.0,
                bottom: 0.0,
                nan: false,
            };
            return self.draw(&limit, bounds, key, step);
        }
        self.draw(logits, bounds, key, step)
    }

    /// A token by its probability among those that the filters keep. The largest logit is finite.
    fn draw(&self, logits: &[f32], bounds: Bounds, key: &RowKey, step: u64) -> Option<u32> {
        let candidates = Candidates::new(self, logits, bounds)?;
        candidates.at(key.below(step, candidates.kept()))
    }
}

fn penalise(logits: &[f32], history: &[u32], penalty: f32) -> Vec<f32> {
    let mut penalised = logits.to_vec();
    for &id in history {
        // From the original, so that a token that occurred twice is penalised once.
        if let (Some(slot), Some(&logit)) =
            (penalised.get_mut(id as usize), logits.get(id as usize))
        {
            *slot = if logit > 0.0 {
                logit / penalty
            } else {
                logit * penalty
            };
        }
    }
    penalised
}
