//! Arithmetic on next-token logits: pure functions on slices, sums in `f64`.

use crate::exp::{Bounds, bounds, position, sum_exp};

/// Index of the largest logit; of equal ones the first. `None` for an empty slice or when every entry is NaN.
pub fn argmax(logits: &[f32]) -> Option<u32> {
    // −∞ where there is no number at all, and then no entry equals it.
    let at = position(logits, bounds(logits).top)?;
    u32::try_from(at).ok()
}

/// `ln Σ exp(logit)` in nats, within 1e-6; −∞ for an empty slice. NaN if an entry is NaN or +∞.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    log_sum_exp_within(logits, bounds(logits))
}

fn log_sum_exp_within(logits: &[f32], bounds: Bounds) -> f64 {
    if bounds.nan || bounds.top == f32::INFINITY {
        return f64::NAN;
    }
    if bounds.top == f32::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    f64::from(bounds.top) + sum_exp(logits, bounds.top).ln()
}

/// Natural log-probabilities of all entries, in `f64`.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let total = log_sum_exp_exact(logits);
    logits
        .iter()
        .map(|&logit| f64::from(logit) - total)
        .collect()
}

fn log_sum_exp_exact(logits: &[f32]) -> f64 {
    let top = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    top + logits
        .iter()
        .map(|&logit| (f64::from(logit) - top).exp())
        .sum::<f64>()
        .ln()
}

/// Natural log-probability of token `id`; `None` outside the vocabulary.
pub fn log_prob(logits: &[f32], id: u32) -> Option<f64> {
    log_prob_within(logits, bounds(logits), id)
}

/// [`log_prob`] when the row's ends are known.
pub(crate) fn log_prob_within(logits: &[f32], bounds: Bounds, id: u32) -> Option<f64> {
    let logit = *logits.get(usize::try_from(id).ok()?)?;
    Some(f64::from(logit) - log_sum_exp_within(logits, bounds))
}

/// Kullback-Leibler divergence `KL(p ‖ q)` in nats of the two next-token distributions; `p` comes first, as the
/// unablated model does in Ships (Zhou et al., ICLR 2025, equation 9). 0 for equal logits, never below 0.
///
/// `None` if the lengths differ or the slices are empty.
pub fn kl_divergence(p: &[f32], q: &[f32]) -> Option<f64> {
    if p.len() != q.len() || p.is_empty() {
        return None;
    }
    let (log_p, log_q) = (log_softmax(p), log_softmax(q));
    let sum: f64 = log_p
        .iter()
        .zip(&log_q)
        .filter(|(log_p, _)| **log_p > f64::NEG_INFINITY)
        .map(|(log_p, log_q)| log_p.exp() * (log_p - log_q))
        .sum();
    Some(sum.max(0.0))
}

/// The `count` largest entries, largest first; equal ones by index. NaN entries are left out.
pub fn top(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut entries = largest(logits, count);
    entries.sort_unstable_by(descending);
    entries
}

/// Adding 0 makes one number of both zeros.
fn descending(a: &(u32, f32), b: &(u32, f32)) -> std::cmp::Ordering {
    (b.1 + 0.0).total_cmp(&(a.1 + 0.0)).then(a.0.cmp(&b.0))
}

/// [`top`] in any order.
pub(crate) fn largest(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    /// Entries looked at together.
    const GROUP: usize = 16;
    if count == 0 {
        return Vec::new();
    }
    // There are `count` parts of the row whose largest entries are all as large as the smallest of those, so nothing below it
    // is among the `count` largest.
    let mut least = f32::NEG_INFINITY;
    let (groups, rest) = logits.as_chunks::<GROUP>();
    let mut maxima: Vec<f32> = Vec::new();
    for run in groups.chunks(GROUP) {
        let mut top = [f32::NEG_INFINITY; GROUP];
        for group in run {
            for (top, &logit) in top.iter_mut().zip(group) {
                *top = if logit > *top { logit } else { *top };
            }
        }
        maxima.extend(top);
    }
    if count < maxima.len() {
        let (_, nth, _) = maxima.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
        least = *nth;
    }
    let mut entries: Vec<(u32, f32)> = Vec::new();
    let mut collect = |start: u32, group: &[f32]| {
        let numbers = (start..).zip(group.iter().copied());
        entries.extend(numbers.filter(|(_, logit)| *logit >= least));
    };
    let mut start = 0;
    for group in groups {
        // Most groups have none.
        if group
            .iter()
            .fold(false, |any, &logit| any | (logit >= least))
        {
            collect(start, group);
        }
        start += GROUP as u32;
    }
    collect(start, rest);
    if count < entries.len() {
        entries.select_nth_unstable_by(count - 1, descending);
        entries.truncate(count);
    }
    entries
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn argmax_takes_the_first_of_equals_and_skips_nan() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), Some(1));
        assert_eq!(argmax(&[f32::NAN, -1.0]), Some(1));
        assert_eq!(argmax(&[f32::NAN]), None);
        assert_eq!(argmax(&[]), None);
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY]), Some(1));
        assert_eq!(argmax(&[-0.0, 0.0]), Some(0));
    }

    #[test]
    fn kl_of_a_known_pair() {
        // p = (1/2, 1/2), q = (1/4, 3/4): KL = ½ ln 2 + ½ ln ⅔ = ½ ln(4/3).
        let kl = kl_divergence(&[0.0, 0.0], &[0.25_f32.ln(), 0.75_f32.ln()]).unwrap();
        assert!((kl - 0.5 * (4.0_f64 / 3.0).ln()).abs() < 1e-7, "{kl}");
        assert_eq!(kl_divergence(&[1.0], &[1.0, 2.0]), None);
    }

    proptest! {
        #[test]
        fn probabilities_sum_to_one(logits in prop::collection::vec(-30.0_f32..30.0, 1..600)) {
            let total: f64 = log_softmax(&logits).iter().map(|value| value.exp()).sum();
            prop_assert!((total - 1.0).abs() < 1e-12);
            prop_assert!((log_sum_exp(&logits) - log_sum_exp_exact(&logits)).abs() < 1e-6);
        }

        #[test]
        fn kl_is_zero_for_equals_and_never_negative(
            p in prop::collection::vec(-20.0_f32..20.0, 50),
            q in prop::collection::vec(-20.0_f32..20.0, 50),
        ) {
            prop_assert_eq!(kl_divergence(&p, &p), Some(0.0));
            prop_assert!(kl_divergence(&p, &q).unwrap() >= 0.0);
        }

        #[test]
        fn top_agrees_with_a_full_sort(logits in prop::collection::vec(-90_i8..90, 0..700), count in 0_usize..90) {
            let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
            let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            all.truncate(count);
            prop_assert_eq!(top(&logits, count), all);
        }
    }
}
