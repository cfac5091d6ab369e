//! Choosing a token from logits, on the host, in pure functions.
//!
//! Every row has a key of its own, and a draw is a function of (key, step): it depends neither on the row's neighbours, nor
//! on the batch, nor on a restart. Only the logits can differ.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Result, logits};

/// How a token is chosen. Filters apply in the order of transformers: repetition penalty, temperature, top-k, top-p, min-p.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Divides the logits; 0, the default, takes the largest.
    pub temperature: f32,
    /// Keeps the `k` most likely tokens.
    pub top_k: Option<usize>,
    /// Keeps the most likely tokens until their probabilities reach `p`.
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

    /// The next token after `history` (prompt and generated tokens) given its `logits`, `[vocab]`. `None` if no logit is a
    /// number.
    pub fn choose(&self, logits: &[f32], history: &[u32], key: &RowKey, step: u64) -> Option<u32> {
        let penalised;
        #[allow(clippy::float_cmp, reason = "exactly 1 means off")]
        let logits = if self.repetition_penalty == 1.0 {
            logits
        } else {
            penalised = penalise(logits, history, self.repetition_penalty);
            &penalised
        };
        if self.temperature <= 0.0 {
            return logits::argmax(logits);
        }
        let kept = self.candidates(logits);
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let mut rest = key.uniform(step) * total;
        for &(id, weight) in &kept {
            rest -= weight;
            if rest < 0.0 {
                return Some(id);
            }
        }
        // Rounding may leave a sliver at the end.
        kept.iter()
            .rev()
            .find(|(_, weight)| *weight > 0.0)
            .map(|(id, _)| *id)
    }

    /// The tokens that may be chosen, with weights proportional to their probabilities; the largest weight is 1.
    fn candidates(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let Some(top) = logits::argmax(logits) else {
            return Vec::new();
        };
        let top = f64::from(logits[top as usize]);
        let temperature = f64::from(self.temperature);
        let weight = |logit: f32| {
            if logit.is_nan() {
                0.0
            } else {
                ((f64::from(logit) - top) / temperature).exp()
            }
        };
        let mut kept: Vec<(u32, f64)> = match self.top_k {
            Some(k) => logits::top(logits, k)
                .into_iter()
                .map(|(id, logit)| (id, weight(logit)))
                .collect(),
            None => (0..)
                .zip(logits.iter().map(|&logit| weight(logit)))
                .collect(),
        };
        if let Some(p) = self.top_p {
            nucleus(&mut kept, f64::from(p));
        }
        if let Some(p) = self.min_p {
            kept.retain(|(_, weight)| *weight >= f64::from(p));
        }
        kept
    }
}

/// Keeps the heaviest entries until those before an entry hold `p` of the whole, sorted from the heaviest; sorts no more of
/// the list than it keeps, to a power of four.
fn nucleus(entries: &mut Vec<(u32, f64)>, p: f64) {
    let descending = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let wanted = p * entries.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut sorted = 0;
    let mut before = 0.0;
    let mut width = 64;
    while sorted < entries.len() {
        let end = width.min(entries.len());
        if end < entries.len() {
            entries[sorted..].select_nth_unstable_by(end - 1 - sorted, descending);
        }
        entries[sorted..end].sort_unstable_by(descending);
        for index in sorted..end {
            if before >= wanted {
                entries.truncate(index);
                return;
            }
            before += entries[index].1;
        }
        sorted = end;
        width *= 4;
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

/// The source of one row's draws.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowKey([u8; 32]);

impl RowKey {
    /// The key of repetition `repeat` of the item called `item` in the run with seed `seed`. Depends on nothing else, so
    /// that shards, batches and restarts draw alike.
    pub fn new(seed: u64, item: &str, repeat: u64) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"lm-safety row key 1\0");
        hasher.update(seed.to_le_bytes());
        hasher.update(repeat.to_le_bytes());
        hasher.update(item.as_bytes());
        Self(hasher.finalize().into())
    }

    /// A number in [0, 1) for `step`, the same at every call.
    pub fn uniform(&self, step: u64) -> f64 {
        let mut generator = ChaCha8Rng::from_seed(self.0);
        generator.set_stream(step);
        // 53 bits, as many as an f64 holds.
        (generator.next_u64() >> 11) as f64 * (0.5_f64).powi(53)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(sampling: Sampling, logits: &[f32], draws: u64) -> Vec<f64> {
        let key = RowKey::new(7, "item", 0);
        let mut counts = vec![0.0; logits.len()];
        for step in 0..draws {
            counts[sampling.choose(logits, &[], &key, step).unwrap() as usize] +=
                1.0 / draws as f64;
        }
        counts
    }

    #[test]
    fn draws_follow_the_distribution() {
        // p = 1/7, 2/7, 4/7 at temperature 1; 1/21, 4/21, 16/21 at temperature ½.
        let logits = [0.0, 2.0_f32.ln(), 4.0_f32.ln()];
        let near = |found: Vec<f64>, expected: [f64; 3]| {
            for (found, expected) in found.iter().zip(expected) {
                // Four standard errors of 20,000 draws.
                assert!(
                    (found - expected).abs()
                        < 4.0 * (expected * (1.0 - expected) / 20_000.0).sqrt() + 1e-12,
                    "{found} {expected}"
                );
            }
        };
        near(
            shares(Sampling::temperature(1.0), &logits, 20_000),
            [1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0],
        );
        near(
            shares(Sampling::temperature(0.5), &logits, 20_000),
            [1.0 / 21.0, 4.0 / 21.0, 16.0 / 21.0],
        );
        let top_k = Sampling {
            top_k: Some(2),
            ..Sampling::temperature(1.0)
        };
        near(shares(top_k, &logits, 20_000), [0.0, 1.0 / 3.0, 2.0 / 3.0]);
        // 4/7 < 0.6, so the second is needed too; 4/7 > 0.5, so it is not.
        let top_p = |p| Sampling {
            top_p: Some(p),
            ..Sampling::temperature(1.0)
        };
        near(
            shares(top_p(0.6), &logits, 20_000),
            [0.0, 1.0 / 3.0, 2.0 / 3.0],
        );
        near(shares(top_p(0.5), &logits, 100), [0.0, 0.0, 1.0]);
        // A quarter as likely as the first: kept at 0.25, dropped at 0.3.
        let min_p = |p| Sampling {
            min_p: Some(p),
            ..Sampling::temperature(1.0)
        };
        near(
            shares(min_p(0.3), &logits, 20_000),
            [0.0, 1.0 / 3.0, 2.0 / 3.0],
        );
        near(
            shares(min_p(0.24), &logits, 20_000),
            [1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0],
        );
    }

    #[test]
    fn a_repeated_token_is_penalised_once_and_towards_zero_probability() {
        let sampling = Sampling {
            repetition_penalty: 2.0,
            ..Sampling::greedy()
        };
        let key = RowKey::new(0, "", 0);
        assert_eq!(sampling.choose(&[3.0, 2.0], &[0, 0], &key, 0), Some(1));
        assert_eq!(
            penalise(&[3.0, -2.0, 1.0], &[0, 1, 0], 2.0),
            [1.5, -4.0, 1.0]
        );
    }

    #[test]
    fn a_draw_depends_on_seed_item_repeat_and_step_only() {
        let key = RowKey::new(1, "a", 0);
        assert_eq!(
            key.uniform(5).to_bits(),
            RowKey::new(1, "a", 0).uniform(5).to_bits()
        );
        let others = [
            RowKey::new(2, "a", 0),
            RowKey::new(1, "b", 0),
            RowKey::new(1, "a", 1),
        ];
        for other in others {
            assert_ne!(key.uniform(5).to_bits(), other.uniform(5).to_bits());
        }
        assert_ne!(key.uniform(5).to_bits(), key.uniform(6).to_bits());
    }

    #[test]
    fn values_outside_their_ranges_are_refused() {
        let refused = |sampling: Sampling| sampling.check().unwrap_err().to_string();
        assert_eq!(
            refused(Sampling::temperature(-1.0)),
            "temperature: expected a number from 0, found -1"
        );
        assert_eq!(
            refused(Sampling::temperature(f32::NAN)),
            "temperature: expected a number from 0, found NaN"
        );
        let base = Sampling::default();
        assert_eq!(
            refused(Sampling {
                top_k: Some(0),
                ..base
            }),
            "top-k: expected at least 1, found 0"
        );
        assert_eq!(
            refused(Sampling {
                top_p: Some(0.0),
                ..base
            }),
            "top-p: expected above 0, at most 1, found 0"
        );
        assert_eq!(
            refused(Sampling {
                min_p: Some(1.5),
                ..base
            }),
            "min-p: expected above 0, at most 1, found 1.5"
        );
        let penalty = Sampling {
            repetition_penalty: 0.0,
            ..base
        };
        assert_eq!(
            refused(penalty),
            "repetition penalty: expected a positive number, found 0"
        );
        assert!(base.check().is_ok());
    }

    proptest! {
        #[test]
        fn nucleus_agrees_with_a_full_sort(weights in prop::collection::vec(0.0_f64..1.0, 1..400), p in 0.01_f64..1.0) {
            let mut kept: Vec<(u32, f64)> = (0..).zip(weights.iter().copied()).collect();
            nucleus(&mut kept, p);
            let mut all: Vec<(u32, f64)> = (0..).zip(weights.iter().copied()).collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            let wanted = p * weights.iter().sum::<f64>();
            let mut before = 0.0;
            let expected: Vec<(u32, f64)> = all
                .into_iter()
                .take_while(|(_, weight)| { let keep = before < wanted; before += weight; keep })
                .collect();
            prop_assert_eq!(kept, expected);
        }

        #[test]
        fn whatever_is_chosen_is_a_candidate(
            logits in prop::collection::vec(-10.0_f32..10.0, 1..50),
            temperature in 0.1_f32..3.0,
            top_k in 1_usize..60,
            top_p in 0.05_f32..1.0,
            step in 0_u64..1000,
        ) {
            let sampling = Sampling { top_k: Some(top_k), top_p: Some(top_p), ..Sampling::temperature(temperature) };
            let id = sampling.choose(&logits, &[], &RowKey::new(3, "x", 0), step).unwrap();
            let allowed = logits::top(&logits, top_k);
            prop_assert!(allowed.iter().any(|(allowed, _)| *allowed == id));
        }
    }
}
