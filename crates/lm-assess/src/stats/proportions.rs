//! One rate, and the difference of two independent ones.

use serde::Serialize;

use super::check;
use super::error::{Result, StatsError};
use super::special::beta_quantile;

/// An estimate with a two-sided confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The estimate.
    pub estimate: f64,
    /// The interval's lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Its confidence level, such as 0.95.
    pub level: f64,
    /// Observations it rests on.
    pub n: u64,
}

/// Wilson's score interval of a rate; `None` for no trials.
///
/// ```text
/// (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)
/// ```
///
/// Wilson, "Probable inference, the law of succession, and statistical inference", 1927. Its coverage is near the level on
/// average and below it for some rates; where it must never be below, take [`clopper_pearson`].
///
/// # Errors
/// More successes than trials; a level outside (0, 1).
pub fn wilson(successes: u64, trials: u64, level: f64) -> Result<Option<Estimate>> {
    check::count("successes", successes, trials)?;
    let z = check::deviate(level)?;
    if trials == 0 {
        return Ok(None);
    }
    let (low, high) = score_limits(successes, trials, z);
    Ok(Some(Estimate {
        estimate: successes as f64 / trials as f64,
        low,
        high,
        level,
        n: trials,
    }))
}

/// Wilson's limits; exactly 0 and 1 where they are that on paper.
pub(super) fn score_limits(successes: u64, trials: u64, z: f64) -> (f64, f64) {
    let (k, n) = (successes as f64, trials as f64);
    let failures = (trials - successes) as f64;
    let half = z * (k * failures / n + z * z / 4.0).sqrt();
    let larger = k + z * z / 2.0 + half;
    // Without cancellation: the product of both roots is k²/(n (n + z²)).
    let low = k * k / n / larger;
    let high = if failures == 0.0 {
        1.0
    } else {
        (larger / (n + z * z)).min(1.0)
    };
    (low, high)
}

/// Up to here the limits of [`clopper_pearson`] are compared with 40 digits; far beyond, a rate near 1 has no digits left.
const MOST_TRIALS: u64 = 1_000_000_000_000;

/// Clopper's and Pearson's exact interval of a rate: it covers the true one with at least the level's probability, whatever
/// that rate is. `None` for no trials.
///
/// The limits have ten digits. They are quantiles of beta distributions, B(α/2; k, n-k+1) and B(1-α/2; k+1, n-k). Clopper and Pearson, "The use of
/// confidence or fiducial limits illustrated in the case of the binomial", 1934.
///
/// # Errors
/// More successes than trials, or more than 10¹² trials; a level outside (0, 1).
pub fn clopper_pearson(successes: u64, trials: u64, level: f64) -> Result<Option<Estimate>> {
    check::count("successes", successes, trials)?;
    check::level(level)?;
    if trials > MOST_TRIALS {
        let expected = format!("at most {MOST_TRIALS}");
        return Err(StatsError::argument("trials", expected, trials));
    }
    if trials == 0 {
        return Ok(None);
    }
    let (k, failures) = (successes as f64, (trials - successes) as f64);
    let tail = (1.0 - level) / 2.0;
    let low = if successes == 0 {
        0.0
    } else {
        beta_quantile(k, failures + 1.0, tail).0
    };
    let high = if successes == trials {
        1.0
    } else {
        // From the other end, where the tail is exact.
        beta_quantile(failures, k + 1.0, tail).1
    };
    Ok(Some(Estimate {
        estimate: k / trials as f64,
        low,
        high,
        level,
        n: trials,
    }))
}

/// Newcombe's hybrid score interval of p₁ - p₂, two rates of independent groups; `None` if a group is empty. `n` is the sum
/// of both.
///
/// With Wilson's limits l and u of each: d - √((p₁-l₁)² + (u₂-p₂)²) to d + √((u₁-p₁)² + (p₂-l₂)²). Newcombe, "Interval
/// estimation for the difference between independent proportions", 1998, method 10. For the same items under two conditions
/// take [`paired_difference`](super::paired_difference).
///
/// # Errors
/// More successes than trials; a level outside (0, 1).
pub fn difference(
    (successes_1, trials_1): (u64, u64),
    (successes_2, trials_2): (u64, u64),
    level: f64,
) -> Result<Option<Estimate>> {
    check::count("successes 1", successes_1, trials_1)?;
    check::count("successes 2", successes_2, trials_2)?;
    let z = check::deviate(level)?;
    if trials_1 == 0 || trials_2 == 0 {
        return Ok(None);
    }
    let p1 = successes_1 as f64 / trials_1 as f64;
    let p2 = successes_2 as f64 / trials_2 as f64;
    let (l1, u1) = score_limits(successes_1, trials_1, z);
    let (l2, u2) = score_limits(successes_2, trials_2, z);
    let estimate = p1 - p2;
    Ok(Some(Estimate {
        estimate,
        low: estimate - (p1 - l1).hypot(u2 - p2),
        high: estimate + (u1 - p1).hypot(p2 - l2),
        level,
        n: trials_1.saturating_add(trials_2),
    }))
}
