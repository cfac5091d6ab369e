//! Many tests at once: p-values adjusted so that they can be held against the level of one.

use super::check;
use super::error::Result;

/// Holm's step-down adjustment: rejecting what is at most α keeps the probability of any false rejection at most α, whatever
/// the dependence. In the order given.
///
/// The i-th smallest of m becomes the largest of (m - j + 1) p₍ⱼ₎ over j ≤ i, at most 1. Holm, "A simple sequentially
/// rejective multiple test procedure", 1979.
///
/// # Errors
/// A p-value outside [0, 1].
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>> {
    let order = ascending(p_values)?;
    let m = p_values.len();
    let mut adjusted = p_values.to_vec();
    let mut largest = 0.0_f64;
    for (rank, &index) in order.iter().enumerate() {
        largest = largest.max((m - rank) as f64 * p_values[index]).min(1.0);
        adjusted[index] = largest;
    }
    Ok(adjusted)
}

/// Benjamini's and Hochberg's step-up adjustment: rejecting what is at most q keeps the expected share of false rejections
/// among all at most q, for independent (or positively dependent) tests. In the order given.
///
/// The i-th smallest of m becomes the smallest of m p₍ⱼ₎ / j over j ≥ i, at most 1. Benjamini and Hochberg, "Controlling the
/// false discovery rate", 1995.
///
/// # Errors
/// A p-value outside [0, 1].
pub fn benjamini_hochberg(p_values: &[f64]) -> Result<Vec<f64>> {
    let order = ascending(p_values)?;
    let m = p_values.len() as f64;
    let mut adjusted = p_values.to_vec();
    let mut smallest = 1.0_f64;
    for (rank, &index) in order.iter().enumerate().rev() {
        smallest = smallest.min(m * p_values[index] / (rank + 1) as f64);
        adjusted[index] = smallest;
    }
    Ok(adjusted)
}

/// Indices from the smallest p-value.
fn ascending(p_values: &[f64]) -> Result<Vec<usize>> {
    check::each("p_values", p_values, "between 0 and 1", |p| {
        (0.0..=1.0).contains(&p)
    })?;
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    Ok(order)
}
