//! The same items under two conditions, each with a yes or a no.

use serde::Serialize;

use super::check;
use super::error::{Result, StatsError};
use super::proportions::{Estimate, score_limits};
use super::special::{fair_binomial_cdf, fair_binomial_pmf};

/// Pairs by their two outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pairs {
    /// Yes under both conditions.
    pub both: u64,
    /// Yes under the first only.
    pub first_only: u64,
    /// Yes under the second only.
    pub second_only: u64,
    /// No under both.
    pub neither: u64,
}

impl Pairs {
    /// Counts the outcomes of the same items, in the same order.
    ///
    /// # Errors
    /// Unequal lengths.
    pub fn from_outcomes(first: &[bool], second: &[bool]) -> Result<Self> {
        check::lengths(("first", first), ("second", second))?;
        let mut pairs = Self::default();
        for (a, b) in first.iter().zip(second) {
            *match (a, b) {
                (true, true) => &mut pairs.both,
                (true, false) => &mut pairs.first_only,
                (false, true) => &mut pairs.second_only,
                (false, false) => &mut pairs.neither,
            } += 1;
        }
        Ok(pairs)
    }

    /// All pairs; `None` for more than a `u64` can count.
    pub fn n(&self) -> Option<u64> {
        [self.first_only, self.second_only, self.neither]
            .iter()
            .try_fold(self.both, |sum, &count| sum.checked_add(count))
    }
}

/// McNemar's test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct McNemar {
    /// Pairs that changed from yes to no.
    pub first_only: u64,
    /// Pairs that changed from no to yes.
    pub second_only: u64,
    /// Exact two-sided p-value; never rejects more often than its level.
    pub p_value: f64,
    /// Mid-p-value; less conservative, and close to the level on average.
    pub mid_p_value: f64,
}

/// McNemar's exact test of whether both conditions have the same rate: given the pairs that differ, each direction has
/// probability ½. Without such a pair both p-values come from zero trials: 1, and ½ for the mid-p-value.
///
/// ```text
/// m = min(first_only, second_only), n = first_only + second_only
/// p = min(1, 2 P(X ≤ m)),   mid-p = p - P(X = m), or 1 - P(X = m)/2 where both are equal
/// ```
///
/// McNemar, 1947; the mid-p-value as in Fagerland, Lydersen and Laake, "The McNemar test for binary matched-pairs data:
/// mid-p and asymptotic are better than exact conditional", 2013.
pub fn mcnemar(pairs: &Pairs) -> McNemar {
    let (first_only, second_only) = (pairs.first_only, pairs.second_only);
    let fewer = first_only.min(second_only);
    let (fewer, more) = (fewer as f64, first_only.max(second_only) as f64);
    let at = fair_binomial_pmf(fewer, more);
    let (p_value, mid_p_value) = if first_only == second_only {
        (1.0, 1.0 - at / 2.0)
    } else {
        let p = (2.0 * fair_binomial_cdf(fewer, more)).min(1.0);
        (p, p - at)
    };
    McNemar {
        first_only,
        second_only,
        p_value,
        mid_p_value,
    }
}

/// The interval of a paired difference of rates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum PairedMethod {
    /// Tango's score interval: those differences that the score test does not reject. Tango, "Equivalence test and confidence
    /// interval for the difference in proportions for the paired-sample design", 1998, equations 26 and 27.
    #[default]
    Tango,
    /// Newcombe's hybrid of two Wilson intervals with a correction for the correlation. Newcombe, "Improved confidence
    /// intervals for the difference between binomial proportions based on paired data", 1998, method 10.
    Newcombe,
}

/// Rate under the first condition less that under the second, of the same items; `None` for no pairs.
///
/// # Errors
/// More than 2⁶⁴ - 1 pairs; a level outside (0, 1).
pub fn paired_difference(
    pairs: &Pairs,
    method: PairedMethod,
    level: f64,
) -> Result<Option<Estimate>> {
    let z = check::deviate(level)?;
    let n = pairs.n().ok_or_else(|| {
        StatsError::argument("pairs", "at most 2⁶⁴ - 1 in all", format!("{pairs:?}"))
    })?;
    if n == 0 {
        return Ok(None);
    }
    let estimate = (pairs.first_only as f64 - pairs.second_only as f64) / n as f64;
    let (low, high) = match method {
        PairedMethod::Tango => (tango_limit(pairs, n, -z), tango_limit(pairs, n, z)),
        PairedMethod::Newcombe => newcombe(pairs, n, z),
    };
    Ok(Some(Estimate {
        estimate,
        low,
        high,
        level,
        n,
    }))
}

fn newcombe(pairs: &Pairs, n: u64, z: f64) -> (f64, f64) {
    let yes = [
        pairs.both + pairs.first_only,
        pairs.both + pairs.second_only,
    ];
    let [(l1, u1), (l2, u2)] = yes.map(|yes| score_limits(yes, n, z));
    let [p1, p2] = yes.map(|yes| yes as f64 / n as f64);
    let margins: f64 = yes
        .iter()
        .map(|&yes| yes as f64 * (n - yes) as f64)
        .product();
    let excess = pairs.both as f64 * pairs.neither as f64
        - pairs.first_only as f64 * pairs.second_only as f64;
    let phi = if margins == 0.0 {
        0.0
    } else if excess > 0.0 {
        (excess - n as f64 / 2.0).max(0.0) / margins.sqrt()
    } else {
        excess / margins.sqrt()
    };
    // Never below 0 for |φ| ≤ 1, but for rounding.
    let joined = |a: f64, b: f64| (a * a - 2.0 * phi * a * b + b * b).max(0.0).sqrt();
    let estimate = p1 - p2;
    (
        estimate - joined(p1 - l1, u2 - p2),
        estimate + joined(u1 - p1, p2 - l2),
    )
}

/// The difference δ at which the score statistic is -`z`: it falls as δ grows, from +∞ at -1 to -∞ at 1.
fn tango_limit(pairs: &Pairs, n: u64, z: f64) -> f64 {
    let n = n as f64;
    let (b, c) = (pairs.first_only as f64, pairs.second_only as f64);
    let statistic = |delta: f64| {
        // The likeliest P(second only) at this difference is the larger root of 2n q² + v q - c δ (1 - δ).
        let v = (2.0 * n - b + c) * delta - b - c;
        let w = -c * delta * (1.0 - delta);
        let root = (v * v - 8.0 * n * w).max(0.0).sqrt();
        // Without cancellation for either sign of v.
        let q = if v <= 0.0 {
            (root - v) / (4.0 * n)
        } else {
            -2.0 * w / (root + v)
        };
        let variance = n * (2.0 * q + delta * (1.0 - delta));
        (b - c - n * delta) / variance.max(f64::MIN_POSITIVE).sqrt()
    };
    let (mut low, mut high) = (-1.0, 1.0);
    // Bisection to neighbouring numbers.
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return middle;
        }
        if statistic(middle) > -z {
            low = middle;
        } else {
            high = middle;
        }
    }
}
