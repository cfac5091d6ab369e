//! Agreement between raters, beyond what chance alone would bring.

use std::collections::BTreeMap;

use serde::Serialize;

use super::check;
use super::error::{Result, StatsError};

/// Agreement of two raters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Kappa {
    /// (observed - expected) / (1 - expected).
    pub estimate: f64,
    /// Its large-sample standard error.
    pub standard_error: f64,
    /// The interval's lower end, estimate - z × standard error; not cut at -1.
    pub low: f64,
    /// Its upper end; not cut at 1.
    pub high: f64,
    /// Its confidence level.
    pub level: f64,
    /// Items.
    pub n: u64,
    /// Agreement, weighted if there are weights.
    pub observed: f64,
    /// Agreement that independent raters with these margins would reach.
    pub expected: f64,
}

/// What a disagreement between ordered categories costs, by their distance d among c.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum KappaWeights {
    /// Every disagreement costs the same: Cohen's kappa.
    Equal,
    /// d / (c - 1).
    Linear,
    /// d² / (c - 1)².
    Quadratic,
}

/// Cohen's kappa of two raters who named the same items, in the same order; `None` for no items, and where chance alone
/// would agree always (both named one category only).
///
/// Cohen, "A coefficient of agreement for nominal scales", 1960; the standard error as for [`kappa_of_table`].
///
/// # Errors
/// Unequal lengths; a level outside (0, 1).
pub fn cohen_kappa<T: Ord>(first: &[T], second: &[T], level: f64) -> Result<Option<Kappa>> {
    check::lengths(("first", first), ("second", second))?;
    let mut number = BTreeMap::new();
    for label in first.iter().chain(second) {
        let next = number.len();
        number.entry(label).or_insert(next);
    }
    let mut table = vec![vec![0_u64; number.len()]; number.len()];
    for (a, b) in first.iter().zip(second) {
        if let (Some(&row), Some(&column)) = (number.get(a), number.get(b)) {
            table[row][column] += 1;
        }
    }
    kappa_of_table(&table, KappaWeights::Equal, level)
}

/// Kappa, weighted or not, from the square table of counts: rows are the first rater's categories, columns the second's, both
/// in the order that the weights speak of. `None` as for [`cohen_kappa`].
///
/// With shares p, margins r and c, weights w = 1 - cost, and w̄ᵢ = Σⱼ cⱼ wᵢⱼ, w̄ⱼ = Σᵢ rᵢ wᵢⱼ:
///
/// ```text
/// variance = (Σ pᵢⱼ (wᵢⱼ - (w̄ᵢ + w̄ⱼ)(1 - κ))² - (κ - expected (1 - κ))²) / (n (1 - expected)²)
/// ```
///
/// Cohen, "Weighted kappa", 1968; Fleiss, Cohen and Everitt, "Large sample standard errors of kappa and weighted kappa", 1969.
///
/// # Errors
/// A table that is not square or has more than 2⁶⁴ - 1 items; a level outside (0, 1).
pub fn kappa_of_table(
    table: &[Vec<u64>],
    weights: KappaWeights,
    level: f64,
) -> Result<Option<Kappa>> {
    let z = check::deviate(level)?;
    let size = table.len();
    for (index, row) in table.iter().enumerate() {
        if row.len() != size {
            return Err(StatsError::argument(
                format!("table[{index}]"),
                format!("{size} columns, as there are rows"),
                row.len(),
            ));
        }
    }
    let n = table
        .iter()
        .flatten()
        .try_fold(0_u64, |sum, &count| sum.checked_add(count))
        .ok_or_else(|| StatsError::argument("table", "at most 2⁶⁴ - 1 items", "more"))?;
    if n == 0 {
        return Ok(None);
    }
    let share = |row: usize, column: usize| table[row][column] as f64 / n as f64;
    let widest = size.saturating_sub(1).max(1) as f64;
    let weight = |row: usize, column: usize| {
        let distance = row.abs_diff(column) as f64 / widest;
        match weights {
            KappaWeights::Equal => f64::from(u8::from(row == column)),
            KappaWeights::Linear => 1.0 - distance,
            KappaWeights::Quadratic => 1.0 - distance * distance,
        }
    };
    let sum = |of: &dyn Fn(usize) -> f64| (0..size).map(of).sum::<f64>();
    let rows: Vec<f64> = (0..size)
        .map(|row| sum(&|column| share(row, column)))
        .collect();
    let columns: Vec<f64> = (0..size)
        .map(|column| sum(&|row| share(row, column)))
        .collect();
    // One category only, for both: chance agrees always. Seen in the counts, not in rounded shares.
    let only = |used: Vec<usize>| (used.len() == 1).then(|| used[0]);
    let used_rows = (0..size).filter(|&row| rows[row] > 0.0).collect();
    let used_columns = (0..size).filter(|&column| columns[column] > 0.0).collect();
    if only(used_rows).is_some_and(|row| Some(row) == only(used_columns)) {
        return Ok(None);
    }
    let observed = sum(&|row| sum(&|column| share(row, column) * weight(row, column)));
    let expected = sum(&|row| sum(&|column| rows[row] * columns[column] * weight(row, column)));
    let estimate = (observed - expected) / (1.0 - expected);
    let by_row: Vec<f64> = (0..size)
        .map(|row| sum(&|column| columns[column] * weight(row, column)))
        .collect();
    let by_column: Vec<f64> = (0..size)
        .map(|column| sum(&|row| rows[row] * weight(row, column)))
        .collect();
    let square = sum(&|row| {
        sum(&|column| {
            let term = weight(row, column) - (by_row[row] + by_column[column]) * (1.0 - estimate);
            share(row, column) * term * term
        })
    });
    let mean = estimate - expected * (1.0 - estimate);
    // Perfect agreement has variance 0, and rounding may put it below.
    let variance = (square - mean * mean).max(0.0) / (n as f64 * (1.0 - expected).powi(2));
    let standard_error = variance.sqrt();
    Ok(Some(Kappa {
        estimate,
        standard_error,
        low: estimate - z * standard_error,
        high: estimate + z * standard_error,
        level,
        n,
        observed,
        expected,
    }))
}

/// Agreement of a panel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PanelAgreement {
    /// (observed - expected) / (1 - expected).
    pub estimate: f64,
    /// Mean agreement of two raters of an item.
    pub observed: f64,
    /// Agreement of two ratings drawn at random.
    pub expected: f64,
    /// Items that count.
    pub n: u64,
}

/// Fleiss' kappa of equally many raters an item, who need not be the same persons: `counts` has a row for each item and in it
/// the raters for each category. `None` for no items, and where all ratings are of one category.
///
/// Fleiss, "Measuring nominal scale agreement among many raters", 1971. Where raters are missing for some items, take
/// [`krippendorff_alpha`].
///
/// # Errors
/// Rows of unequal length; fewer than two raters, or another number for some item.
pub fn fleiss_kappa(counts: &[Vec<u64>]) -> Result<Option<PanelAgreement>> {
    let Some(head) = counts.first() else {
        return Ok(None);
    };
    let total = |row: &[u64]| row.iter().map(|&count| u128::from(count)).sum::<u128>();
    let raters = total(head);
    if raters < 2 {
        return Err(StatsError::argument(
            "counts[0]",
            "at least 2 raters",
            raters,
        ));
    }
    for (index, row) in counts.iter().enumerate() {
        if row.len() != head.len() {
            return Err(StatsError::argument(
                format!("counts[{index}]"),
                format!("{} categories, as `counts[0]` has", head.len()),
                row.len(),
            ));
        }
        if total(row) != raters {
            return Err(StatsError::argument(
                format!("counts[{index}]"),
                format!("{raters} raters, as `counts[0]` has"),
                total(row),
            ));
        }
    }
    let (items, raters) = (counts.len() as f64, raters as f64);
    let mut used = 0;
    let mut expected = 0.0;
    for category in 0..head.len() {
        let ratings: f64 = counts
            .iter()
            .filter_map(|row| row.get(category))
            .map(|&count| count as f64)
            .sum();
        used += usize::from(ratings > 0.0);
        expected += (ratings / (items * raters)).powi(2);
    }
    if used < 2 {
        return Ok(None);
    }
    let pairs = |row: &Vec<u64>| -> f64 {
        row.iter()
            .map(|&count| count as f64 * (count as f64 - 1.0))
            .sum()
    };
    let agreeing: f64 = counts.iter().map(pairs).sum();
    let observed = agreeing / (items * raters * (raters - 1.0));
    Ok(Some(PanelAgreement {
        estimate: (observed - expected) / (1.0 - expected),
        observed,
        expected,
        n: counts.len() as u64,
    }))
}

/// Krippendorff's alpha for categories without order: `ratings` has an item in each row and in it the raters' ratings, `None`
/// where one gave none. Items with fewer than two ratings do not count. `None` if no item counts, or all ratings that count
/// are of one category.
///
/// 1 - D_o/D_e over the coincidence matrix: each item's pairs of ratings, weighted by 1/(ratings - 1). `observed` and
/// `expected` are 1 - D_o and 1 - D_e. Krippendorff, "Content analysis", 2004, section 11.3.
pub fn krippendorff_alpha<T: Ord>(ratings: &[Vec<Option<T>>]) -> Option<PanelAgreement> {
    let mut totals: BTreeMap<&T, f64> = BTreeMap::new();
    let (mut agreeing, mut all, mut items) = (0.0, 0.0, 0);
    for row in ratings {
        let mut of_item: BTreeMap<&T, f64> = BTreeMap::new();
        for rating in row.iter().flatten() {
            *of_item.entry(rating).or_insert(0.0) += 1.0;
        }
        let given: f64 = of_item.values().sum();
        if given < 2.0 {
            continue;
        }
        items += 1;
        all += given;
        for (rating, count) in of_item {
            agreeing += count * (count - 1.0) / (given - 1.0);
            *totals.entry(rating).or_insert(0.0) += count;
        }
    }
    if totals.len() < 2 {
        return None;
    }
    let observed = agreeing / all;
    let expected = totals
        .values()
        .map(|count| count * (count - 1.0))
        .sum::<f64>()
        / (all * (all - 1.0));
    Some(PanelAgreement {
        estimate: (observed - expected) / (1.0 - expected),
        observed,
        expected,
        n: items,
    })
}
