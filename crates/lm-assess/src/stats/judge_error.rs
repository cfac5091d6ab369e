//! A rate counted by a judge that errs: what it would have been with a perfect one.

use serde::Serialize;

use super::check;
use super::error::Result;
use super::proportions::Estimate;

/// What a judge said about items that people had labelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct JudgeValidation {
    /// Items with the property that the judge found to have it.
    pub true_positives: u64,
    /// Items with the property.
    pub positives: u64,
    /// Items without the property that the judge found to be without it.
    pub true_negatives: u64,
    /// Items without the property.
    pub negatives: u64,
}

/// The rate behind a rate that a judge counted: the estimate of Rogan and Gladen, cut to [0, 1], with the interval of Lang
/// and Reiczigel, which knows that sensitivity and specificity are themselves counted.
///
/// `flagged` of `n` items were found to have the property; the items of `validation` are others. `None` without items of a
/// kind, and for a judge no better than chance (sensitivity + specificity ≤ 1, as counted or as adjusted below), from which no
/// rate can be recovered.
///
/// ```text
/// estimate = (p + Sp - 1) / (Se + Sp - 1)
/// p' = (k + z²/2)/(n + z²),   Se' = (k₊ + 1)/(n₊ + 2),   Sp' = (k₋ + 1)/(n₋ + 2),   P' = (p' + Sp' - 1)/(Se' + Sp' - 1)
/// P' + 2z² (P' Se'(1-Se')/(n₊+2) - (1-P') Sp'(1-Sp')/(n₋+2))
///    ± z √(p'(1-p')/(n+z²) + P'² Se'(1-Se')/(n₊+2) + (1-P')² Sp'(1-Sp')/(n₋+2)) / (Se' + Sp' - 1)
/// ```
///
/// Rogan and Gladen, "Estimating prevalence from the results of a screening test", 1978; Lang and Reiczigel, "Confidence
/// limits for prevalence of disease adjusted for estimated sensitivity and specificity", 2014. The interval's centre is
/// adjusted, so close to an end it need not hold the estimate.
///
/// # Errors
/// A count above its total; a level outside (0, 1).
pub fn corrected_rate(
    flagged: u64,
    n: u64,
    validation: &JudgeValidation,
    level: f64,
) -> Result<Option<Estimate>> {
    check::count("flagged", flagged, n)?;
    check::count(
        "true_positives",
        validation.true_positives,
        validation.positives,
    )?;
    check::count(
        "true_negatives",
        validation.true_negatives,
        validation.negatives,
    )?;
    let z = check::deviate(level)?;
    if n == 0 || validation.positives == 0 || validation.negatives == 0 {
        return Ok(None);
    }
    let (k, trials) = (flagged as f64, n as f64);
    let (hits, positives) = (
        validation.true_positives as f64,
        validation.positives as f64,
    );
    let (passes, negatives) = (
        validation.true_negatives as f64,
        validation.negatives as f64,
    );
    // In whole numbers, so that a judge exactly at chance is seen to be.
    if hits * negatives + passes * positives <= positives * negatives {
        return Ok(None);
    }
    let recover = |p: f64, se: f64, sp: f64| (p + sp - 1.0) / (se + sp - 1.0);
    let estimate = recover(k / trials, hits / positives, passes / negatives).clamp(0.0, 1.0);

    let weight = trials + z * z;
    let p = (k + z * z / 2.0) / weight;
    let (se, sp) = (
        (hits + 1.0) / (positives + 2.0),
        (passes + 1.0) / (negatives + 2.0),
    );
    let youden = se + sp - 1.0;
    if youden <= 0.0 {
        return Ok(None);
    }
    let centre = recover(p, se, sp);
    let se_variance = se * (1.0 - se) / (positives + 2.0);
    let sp_variance = sp * (1.0 - sp) / (negatives + 2.0);
    let shift = 2.0 * z * z * (centre * se_variance - (1.0 - centre) * sp_variance);
    let error = (p * (1.0 - p) / weight
        + centre * centre * se_variance
        + (1.0 - centre) * (1.0 - centre) * sp_variance)
        .sqrt()
        / youden;
    Ok(Some(Estimate {
        estimate,
        low: (centre + shift - z * error).clamp(0.0, 1.0),
        high: (centre + shift + z * error).clamp(0.0, 1.0),
        level,
        n,
    }))
}
