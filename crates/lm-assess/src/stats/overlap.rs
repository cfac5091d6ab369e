//! Two rankings whose tops matter most and whose members may differ; how much a few hold of the whole.

use std::collections::BTreeSet;

use serde::Serialize;

use super::check;
use super::error::{Result, StatsError};

/// Rank-biased overlap of two rankings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RankBiasedOverlap {
    /// As if the lists went on as they agree so far (RBO_ext); from 0 to 1.
    pub estimate: f64,
    /// The least that any continuation of the lists can give.
    pub low: f64,
    /// The most.
    pub high: f64,
    /// The weight of depth d is (1 - p) pᵈ⁻¹.
    pub p: f64,
}

/// Rank-biased overlap of two rankings without ties, best first, which may differ in length and members; `None` if one is
/// empty.
///
/// RBO = (1 - p) Σ pᵈ⁻¹ X_d / d with X_d the members common to both down to depth d; the first 1/(1 - p) ranks have about
/// 0.86 of the weight at p = 0.9. Webber, Moffat and Zobel, "A similarity measure for indefinite rankings", 2010: `estimate` is
/// equation 32, `low` equation 11 with the longer list read to its end, `high` is `low` and the residual, section 4.3.
/// Values that tie have no order: break ties by a rule that does not see the other ranking (by name, say).
///
/// # Errors
/// p outside (0, 1); a member twice in one ranking.
pub fn rank_biased_overlap<T: Ord>(
    first: &[T],
    second: &[T],
    p: f64,
) -> Result<Option<RankBiasedOverlap>> {
    if !(p > 0.0 && p < 1.0) {
        return Err(StatsError::argument("p", "between 0 and 1", p));
    }
    no_duplicates("first", first)?;
    no_duplicates("second", second)?;
    let (long, short) = if first.len() >= second.len() {
        (first, second)
    } else {
        (second, first)
    };
    let (l, s) = (long.len(), short.len());
    if s == 0 {
        return Ok(None);
    }
    let common = overlaps(long, short);
    let at = |depth: usize| {
        depth
            .checked_sub(1)
            .and_then(|index| common.get(index))
            .copied()
            .unwrap_or(0.0)
    };
    let (x_l, x_s) = (at(l), at(s));
    let (long_depth, short_depth) = (l as f64, s as f64);
    // p to the depth less one, so that nothing is divided by a tiny p.
    let weight = |depth: usize| p.powf(depth as f64 - 1.0);

    let (mut seen, mut beyond, mut certain) = (0.0, 0.0, 0.0);
    for depth in 1..=l {
        let d = depth as f64;
        seen += at(depth) / d * weight(depth);
        certain += (at(depth) - x_l) / d * weight(depth);
        if depth > s {
            beyond += x_s * (d - short_depth) / (short_depth * d) * weight(depth);
        }
    }
    let tail = ((x_l - x_s) / long_depth + x_s / short_depth) * p * weight(l);
    let estimate = (1.0 - p) * (seen + beyond) + tail;
    let low = (1.0 - p) * (certain - x_l * (-p).ln_1p() / p);

    // At best, each member that a list still gets is one that the other has already, until all are shared at depth `full`.
    let full = l + s - x_l as usize;
    let mut most = 0.0;
    for depth in 1..full {
        let known = at(depth.min(l));
        let added = depth.saturating_sub(s) + depth.saturating_sub(l);
        most += (known + added as f64) / depth as f64 * weight(depth);
    }
    let high = (1.0 - p) * most + weight(full);
    Ok(Some(RankBiasedOverlap {
        estimate: estimate.clamp(0.0, 1.0),
        low: low.clamp(0.0, 1.0),
        high: high.clamp(0.0, 1.0),
        p,
    }))
}

/// Members common to both down to each depth of the longer.
fn overlaps<T: Ord>(long: &[T], short: &[T]) -> Vec<f64> {
    let (mut of_long, mut of_short) = (BTreeSet::new(), BTreeSet::new());
    let mut common = 0;
    let mut overlaps = Vec::with_capacity(long.len());
    for (index, member) in long.iter().enumerate() {
        of_long.insert(member);
        if let Some(other) = short.get(index) {
            of_short.insert(other);
            common += usize::from(other != member && of_long.contains(other));
        }
        common += usize::from(of_short.contains(member));
        overlaps.push(common as f64);
    }
    overlaps
}

fn no_duplicates<T: Ord>(name: &str, ranking: &[T]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match ranking.iter().position(|member| !seen.insert(member)) {
        None => Ok(()),
        Some(index) => Err(StatsError::argument(
            format!("{name}[{index}]"),
            "each member once",
            "one that stands further up",
        )),
    }
}

/// The Gini coefficient: 0 where all values are equal, (n - 1)/n where one has everything; `None` for no values, or nothing to
/// share.
///
/// Half the mean absolute difference over the mean: Σ (2i - n - 1) x₍ᵢ₎ / (n Σ x), from the smallest. Gini, 1912.
///
/// # Errors
/// A value that is infinite, NaN or negative.
pub fn gini(values: &[f64]) -> Result<Option<f64>> {
    check::each("values", values, "a finite number from 0", |value| {
        value.is_finite() && value >= 0.0
    })?;
    // By the largest, so that no sum overflows.
    let largest = values.iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return Ok(None);
    }
    let mut sorted: Vec<f64> = values.iter().map(|value| value / largest).collect();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let total: f64 = sorted.iter().sum();
    let weighted: f64 = sorted
        .iter()
        .enumerate()
        .map(|(index, value)| (2.0 * index as f64 - n + 1.0) * value)
        .sum();
    Ok(Some(weighted / (n * total)))
}
