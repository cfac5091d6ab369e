//! Learning rates.

use std::f64::consts::PI;

/// Learning rate of `step`, counted from 0, of `steps`: linear from 0 to `peak` in `warmup` steps, then half a cosine down to
/// 0. As transformers' cosine schedule, so the first step of a warm-up has rate 0.
pub fn cosine_with_warmup(step: usize, steps: usize, warmup: usize, peak: f64) -> f64 {
    if step < warmup {
        return peak * step as f64 / warmup as f64;
    }
    let rest = steps.saturating_sub(warmup).max(1) as f64;
    let done = ((step - warmup) as f64 / rest).min(1.0);
    peak * 0.5 * (1.0 + (PI * done).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners() {
        let rate = |step| cosine_with_warmup(step, 12, 4, 2.0);
        for (step, expected) in [(0, 0.0), (1, 0.5), (4, 2.0), (8, 1.0), (12, 0.0), (99, 0.0)] {
            assert!(
                (rate(step) - expected).abs() < 1e-12,
                "{step}: {}",
                rate(step)
            );
        }
        assert!((cosine_with_warmup(0, 0, 0, 1.0) - 1.0).abs() < 1e-12);
    }
}
