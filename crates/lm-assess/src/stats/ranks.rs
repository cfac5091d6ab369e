//! What only the order of values says: shifts, correlations.

use serde::Serialize;

use super::check;
use super::error::Result;
use super::special::{normal_two_sided, student_two_sided};

/// Ranks from 1, equal values with the mean of theirs.
///
/// # Errors
/// A value that is infinite or NaN.
pub fn ranks(values: &[f64]) -> Result<Vec<f64>> {
    check::finite("values", values)?;
    Ok(mid_ranks(values))
}

pub(super) fn mid_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<(f64, usize)> = values.iter().copied().zip(0..).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0.0;
    #[allow(clippy::float_cmp, reason = "ties are equal values")]
    for tied in order.chunk_by(|a, b| a.0 == b.0) {
        let size = tied.len() as f64;
        for &(_, index) in tied {
            ranks[index] = before + (size + 1.0) / 2.0;
        }
        before += size;
    }
    ranks
}

/// Sizes of the groups of equal values, those of one left out.
fn ties(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[allow(clippy::float_cmp, reason = "ties are equal values")]
    let groups = sorted.chunk_by(|a, b| a == b);
    groups
        .map(<[f64]>::len)
        .filter(|&size| size > 1)
        .map(|size| size as f64)
        .collect()
}

/// A Mann-Whitney test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MannWhitney {
    /// Pairs in which the first group's value is greater, ties counted half.
    pub u: f64,
    /// Share of such pairs: the probability that a value of the first group exceeds one of the second.
    pub superiority: f64,
    /// 2 × superiority - 1, from -1 to 1.
    pub rank_biserial: f64,
    /// Two-sided p-value of equal distributions; `None` if all values are equal.
    pub p_value: Option<f64>,
    /// Whether it is exact, or the normal approximation.
    pub exact: bool,
    /// Sizes of both groups.
    pub n: [u64; 2],
}

/// Largest group for which the distribution of U is gone through.
const EXACT_GROUP: usize = 30;

/// The Mann-Whitney U test (Wilcoxon's rank-sum test); `None` if a group is empty.
///
/// Exact where no values are equal and both groups have at most 30; else normal with variance
/// n₁n₂/12 ((N + 1) - Σ(t³ - t)/(N (N - 1))) over ties of size t, and a continuity correction of ½. Mann and Whitney, 1947;
/// Lehmann, "Nonparametrics", 1975, section 1.4.
///
/// # Errors
/// A value that is infinite or NaN.
pub fn mann_whitney(first: &[f64], second: &[f64]) -> Result<Option<MannWhitney>> {
    check::finite("first", first)?;
    check::finite("second", second)?;
    if first.is_empty() || second.is_empty() {
        return Ok(None);
    }
    let pooled = [first, second].concat();
    let (m, n) = (first.len() as f64, second.len() as f64);
    let rank_sum: f64 = mid_ranks(&pooled).iter().take(first.len()).sum();
    let u = rank_sum - m * (m + 1.0) / 2.0;
    let larger = u.max(m * n - u);
    let ties = ties(&pooled);
    let exact = ties.is_empty() && first.len().max(second.len()) <= EXACT_GROUP;
    let p_value = if exact {
        Some((2.0 * u_at_least(larger, first.len(), second.len())).min(1.0))
    } else {
        let all = m + n;
        let tied: f64 = ties.iter().map(|t| t * (t * t - 1.0)).sum();
        // Not in shares, so that values that are all equal give exactly 0.
        let variance = m * n / 12.0 * (all * (all * all - 1.0) - tied) / (all * (all - 1.0));
        let excess = larger - m * n / 2.0 - 0.5;
        // The correction goes past the middle where U is at it.
        (variance > 0.0).then(|| normal_two_sided(excess.max(0.0) / variance.sqrt()))
    };
    let superiority = u / (m * n);
    Ok(Some(MannWhitney {
        u,
        superiority,
        rank_biserial: 2.0 * superiority - 1.0,
        p_value,
        exact,
        n: [first.len() as u64, second.len() as u64],
    }))
}

/// P(U ≥ u) when every choice of `m` ranks among `m + n` is equally likely.
fn u_at_least(u: f64, m: usize, n: usize) -> f64 {
    // ways[size][sum]: choices of `size` of the ranks so far whose excess over the smallest choice is `sum`.
    let widest = m * n;
    let mut ways = vec![vec![0.0; widest + 1]; m + 1];
    ways[0][0] = 1.0;
    for rank in 0..m + n {
        for size in (1..=m.min(rank + 1)).rev() {
            // As the size-th smallest, this rank exceeds the least possible by so much.
            let Some(excess) = (rank + 1).checked_sub(size).filter(|&excess| excess <= n) else {
                continue;
            };
            for sum in (excess..=widest).rev() {
                let more = ways[size - 1][sum - excess];
                ways[size][sum] += more;
            }
        }
    }
    let all: f64 = ways[m].iter().sum();
    let extreme: f64 = ways[m].iter().skip(u.round() as usize).sum();
    extreme / all
}

/// A rank correlation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RankCorrelation {
    /// From -1 to 1.
    pub estimate: f64,
    /// Two-sided p-value of independence; `None` for fewer than three items.
    pub p_value: Option<f64>,
    /// Whether it is exact, or an approximation for many items.
    pub exact: bool,
    /// Items.
    pub n: u64,
}

/// Spearman's rho: Pearson's correlation of the ranks; `None` for fewer than two items or where one side is constant.
///
/// The p-value is that of t = ρ √((n-2)/(1-ρ²)) with n - 2 degrees of freedom; for ten items or fewer a rough one, and 0 for a
/// perfect order.
///
/// # Errors
/// Unequal lengths; a value that is infinite or NaN.
pub fn spearman(first: &[f64], second: &[f64]) -> Result<Option<RankCorrelation>> {
    paired_values(first, second)?;
    let n = first.len() as f64;
    let mean = (n + 1.0) / 2.0;
    let centred =
        |values: &[f64]| -> Vec<f64> { mid_ranks(values).iter().map(|rank| rank - mean).collect() };
    let (a, b) = (centred(first), centred(second));
    let product = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    // Multiples of ¼: sums are exact, so that constant ranks give 0 and equal ranks 1.
    let (aa, bb) = (product(&a, &a), product(&b, &b));
    if aa == 0.0 || bb == 0.0 {
        return Ok(None);
    }
    #[allow(clippy::float_cmp, reason = "exact sums")]
    let scale = if aa == bb { aa } else { aa.sqrt() * bb.sqrt() };
    let estimate = (product(&a, &b) / scale).clamp(-1.0, 1.0);
    let degrees = n - 2.0;
    let t = estimate * (degrees / ((1.0 + estimate) * (1.0 - estimate))).sqrt();
    Ok(Some(RankCorrelation {
        estimate,
        p_value: (degrees > 0.0).then(|| student_two_sided(t, degrees)),
        exact: false,
        n: first.len() as u64,
    }))
}

/// Most items for which Kendall's exact distribution is gone through, as in SciPy.
const EXACT_ITEMS: usize = 33;

/// Kendall's tau-b, which allows for ties; `None` for fewer than two items or where one side is constant.
///
/// ```text
/// τ_b = (concordant - discordant) / √((n₀ - ties in first) (n₀ - ties in second)),   n₀ = n (n - 1)/2
/// ```
///
/// The p-value is exact without ties for at most 33 items; else normal with the variance under ties of Kendall, "Rank
/// correlation methods", 1970, chapter 4. Discordant pairs are counted as in Knight, 1966: n log n.
///
/// # Errors
/// Unequal lengths; a value that is infinite or NaN.
pub fn kendall(first: &[f64], second: &[f64]) -> Result<Option<RankCorrelation>> {
    paired_values(first, second)?;
    let n = first.len() as f64;
    // Ranks, so that -0 and 0 are one value.
    let (first, second) = (mid_ranks(first), mid_ranks(second));
    let mut pairs: Vec<(f64, f64)> = first.iter().copied().zip(second.iter().copied()).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let tied_pairs = |sizes: &[f64]| sizes.iter().map(|t| t * (t - 1.0) / 2.0).sum::<f64>();
    let (ties_1, ties_2) = (ties(&first), ties(&second));
    let (tied_1, tied_2) = (tied_pairs(&ties_1), tied_pairs(&ties_2));
    let both: Vec<f64> = pairs
        .chunk_by(|a, b| a == b)
        .map(|group| group.len() as f64)
        .collect();
    let mut order: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
    let discordant = inversions(&mut order) as f64;
    let all = n * (n - 1.0) / 2.0;
    if all - tied_1 <= 0.0 || all - tied_2 <= 0.0 {
        return Ok(None);
    }
    let excess = all - tied_1 - tied_2 + tied_pairs(&both) - 2.0 * discordant;
    // Whole numbers: equal orders give exactly 1.
    #[allow(clippy::float_cmp, reason = "exact counts")]
    let scale = if tied_1 == tied_2 {
        all - tied_1
    } else {
        (all - tied_1).sqrt() * (all - tied_2).sqrt()
    };
    let estimate = (excess / scale).clamp(-1.0, 1.0);
    let exact = ties_1.is_empty() && ties_2.is_empty() && first.len() <= EXACT_ITEMS;
    let p_value = if first.len() < 3 {
        None
    } else if exact {
        let fewer = discordant.min(all - discordant);
        Some((2.0 * inversions_at_most(fewer as usize, first.len())).min(1.0))
    } else {
        let of = |ties: &[f64], term: fn(f64) -> f64| ties.iter().map(|&t| term(t)).sum::<f64>();
        let twice = n * (n - 1.0);
        let pairs = |t: f64| t * (t - 1.0) * (2.0 * t + 5.0);
        let triples = |t: f64| t * (t - 1.0) * (t - 2.0);
        let variance = (twice * (2.0 * n + 5.0) - of(&ties_1, pairs) - of(&ties_2, pairs)) / 18.0
            + 2.0 * tied_1 * tied_2 / twice
            + of(&ties_1, triples) * of(&ties_2, triples) / (9.0 * twice * (n - 2.0));
        Some(normal_two_sided(excess / variance.sqrt()))
    };
    Ok(Some(RankCorrelation {
        estimate,
        p_value,
        exact,
        n: first.len() as u64,
    }))
}

fn paired_values(first: &[f64], second: &[f64]) -> Result<()> {
    check::lengths(("first", first), ("second", second))?;
    check::finite("first", first)?;
    check::finite("second", second)
}

/// Pairs in falling order; sorts on the way.
fn inversions(values: &mut [f64]) -> u64 {
    if values.len() < 2 {
        return 0;
    }
    let (left, right) = values.split_at_mut(values.len() / 2);
    let mut count = inversions(left) + inversions(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut rest, mut other) = (left.iter().peekable(), right.iter().peekable());
    loop {
        match (rest.peek(), other.peek()) {
            (Some(a), Some(b)) if b < a => {
                count += rest.len() as u64;
                merged.extend(other.next());
            }
            (Some(_), _) => merged.extend(rest.next()),
            (None, Some(_)) => merged.extend(other.next()),
            (None, None) => break,
        }
    }
    values.copy_from_slice(&merged);
    count
}

/// P(at most `most` inversions) in a random order of `n` items.
fn inversions_at_most(most: usize, n: usize) -> f64 {
    let mut shares = vec![0.0; most + 1];
    shares[0] = 1.0;
    for size in 2..=n {
        // The new last item is behind 0 to size - 1 others, each equally likely.
        for count in (0..=most).rev() {
            let from = count.saturating_sub(size - 1);
            shares[count] = shares[from..=count].iter().sum::<f64>() / size as f64;
        }
    }
    shares.iter().sum()
}
