//! Scores against a yes or a no: the ROC curve, the area under it, DeLong's variance and test.

use serde::Serialize;

use super::check;
use super::error::Result;
use super::ranks::mid_ranks;
use super::special::normal_two_sided;

/// A point of the ROC curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RocPoint {
    /// Scores from here on count as yes; `None` at the origin, where none does.
    pub threshold: Option<f64>,
    /// Share of the negative items that count as yes.
    pub false_positive_rate: f64,
    /// Share of the positive items that count as yes.
    pub true_positive_rate: f64,
}

/// The ROC curve from (0, 0) to (1, 1), a point for each distinct score from the highest; `None` with one class only.
///
/// # Errors
/// Unequal lengths; a score that is infinite or NaN.
pub fn roc_curve(scores: &[f64], positive: &[bool]) -> Result<Option<Vec<RocPoint>>> {
    let Some(classes) = Classes::new("scores", scores, positive)? else {
        return Ok(None);
    };
    let mut order: Vec<(f64, bool)> = scores
        .iter()
        .copied()
        .zip(positive.iter().copied())
        .collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut points = vec![RocPoint {
        threshold: None,
        false_positive_rate: 0.0,
        true_positive_rate: 0.0,
    }];
    let (mut hits, mut alarms) = (0_u64, 0_u64);
    #[allow(clippy::float_cmp, reason = "ties are equal scores")]
    for group in order.chunk_by(|a, b| a.0 == b.0) {
        let found = group.iter().filter(|(_, positive)| *positive).count() as u64;
        hits += found;
        alarms += group.len() as u64 - found;
        points.push(RocPoint {
            threshold: group.first().map(|(score, _)| *score),
            false_positive_rate: alarms as f64 / classes.negatives.len() as f64,
            true_positive_rate: hits as f64 / classes.positives.len() as f64,
        });
    }
    Ok(Some(points))
}

/// The area under a ROC curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Auroc {
    /// Probability that a positive item scores above a negative one, ties counted half.
    pub estimate: f64,
    /// DeLong's standard error; `None` if a class has fewer than two items.
    pub standard_error: Option<f64>,
    /// The interval's lower end, estimate - z × standard error, at least 0. `None` without a standard error, and if that is 0,
    /// as with classes that do not overlap: an interval of no width would claim what such data do not show.
    pub low: Option<f64>,
    /// Its upper end, at most 1.
    pub high: Option<f64>,
    /// Its confidence level.
    pub level: f64,
    /// Positive items.
    pub positives: u64,
    /// Negative items.
    pub negatives: u64,
}

/// The area under the ROC curve with DeLong's interval; `None` with one class only.
///
/// DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating characteristic
/// curves: a nonparametric approach", 1988, computed by ranks as in Sun and Xu, "Fast implementation of DeLong's algorithm",
/// 2014.
///
/// # Errors
/// Unequal lengths; a score that is infinite or NaN; a level outside (0, 1).
pub fn auroc(scores: &[f64], positive: &[bool], level: f64) -> Result<Option<Auroc>> {
    let z = check::deviate(level)?;
    let Some(classes) = Classes::new("scores", scores, positive)? else {
        return Ok(None);
    };
    let placements = classes.placements();
    let estimate = placements.area();
    let standard_error = covariance(&placements, &placements).map(f64::sqrt);
    let interval = standard_error.filter(|&error| error > 0.0).map(|error| {
        (
            (estimate - z * error).max(0.0),
            (estimate + z * error).min(1.0),
        )
    });
    Ok(Some(Auroc {
        estimate,
        standard_error,
        low: interval.map(|(low, _)| low),
        high: interval.map(|(_, high)| high),
        level,
        positives: classes.positives.len() as u64,
        negatives: classes.negatives.len() as u64,
    }))
}

/// Two areas of the same items.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DeLong {
    /// Area of the first scores.
    pub first: f64,
    /// Area of the second scores.
    pub second: f64,
    /// First less second.
    pub difference: f64,
    /// Standard error of the difference; `None` if a class has fewer than two items.
    pub standard_error: Option<f64>,
    /// The interval's lower end, at least -1; `None` without a standard error above 0.
    pub low: Option<f64>,
    /// Its upper end, at most 1.
    pub high: Option<f64>,
    /// Its confidence level.
    pub level: f64,
    /// Two-sided p-value of equal areas; `None` without a standard error above 0, as for scores in the same order.
    pub p_value: Option<f64>,
}

/// DeLong's test of two scores on the same items; `None` with one class only. Source as for [`auroc`].
///
/// # Errors
/// Unequal lengths; a score that is infinite or NaN; a level outside (0, 1).
pub fn delong_test(
    first: &[f64],
    second: &[f64],
    positive: &[bool],
    level: f64,
) -> Result<Option<DeLong>> {
    let z = check::deviate(level)?;
    let (Some(one), Some(two)) = (
        Classes::new("first", first, positive)?,
        Classes::new("second", second, positive)?,
    ) else {
        return Ok(None);
    };
    let (one, two) = (one.placements(), two.placements());
    let difference = one.area() - two.area();
    // The variance of the differences themselves, so that equal scores give exactly 0.
    let between = one.minus(&two);
    let standard_error = covariance(&between, &between).map(f64::sqrt);
    let usable = standard_error.filter(|&error| error > 0.0);
    Ok(Some(DeLong {
        first: one.area(),
        second: two.area(),
        difference,
        standard_error,
        low: usable.map(|error| (difference - z * error).max(-1.0)),
        high: usable.map(|error| (difference + z * error).min(1.0)),
        level,
        p_value: usable.map(|error| normal_two_sided(difference / error)),
    }))
}

struct Classes {
    positives: Vec<f64>,
    negatives: Vec<f64>,
}

/// DeLong's structural components: for each item its share of the other class that it beats, ties counted half.
struct Placements {
    positives: Vec<f64>,
    negatives: Vec<f64>,
}

impl Classes {
    /// `None` with one class only.
    fn new(name: &'static str, scores: &[f64], positive: &[bool]) -> Result<Option<Self>> {
        check::lengths((name, scores), ("positive", positive))?;
        check::finite(name, scores)?;
        let of = |class: bool| -> Vec<f64> {
            let items = scores.iter().zip(positive);
            items
                .filter(|item| *item.1 == class)
                .map(|item| *item.0)
                .collect()
        };
        let (positives, negatives) = (of(true), of(false));
        Ok(
            (!positives.is_empty() && !negatives.is_empty()).then_some(Self {
                positives,
                negatives,
            }),
        )
    }

    fn placements(&self) -> Placements {
        let pooled = [self.positives.as_slice(), &self.negatives].concat();
        let ranks = mid_ranks(&pooled);
        let (above, below) = ranks.split_at(self.positives.len());
        // Rank among all less rank in its own class: how many of the other class are lower.
        let lower = |ranks: &[f64], own: &[f64]| -> Vec<f64> {
            let within = mid_ranks(own);
            ranks
                .iter()
                .zip(within)
                .map(|(all, own)| all - own)
                .collect()
        };
        let (m, n) = (self.positives.len() as f64, self.negatives.len() as f64);
        Placements {
            positives: lower(above, &self.positives)
                .iter()
                .map(|count| count / n)
                .collect(),
            negatives: lower(below, &self.negatives)
                .iter()
                .map(|count| (m - count) / m)
                .collect(),
        }
    }
}

impl Placements {
    fn area(&self) -> f64 {
        self.positives.iter().sum::<f64>() / self.positives.len() as f64
    }

    fn minus(&self, other: &Self) -> Self {
        let minus =
            |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
        Self {
            positives: minus(&self.positives, &other.positives),
            negatives: minus(&self.negatives, &other.negatives),
        }
    }
}

fn covariance(a: &Placements, b: &Placements) -> Option<f64> {
    let of = |a: &[f64], b: &[f64]| {
        let n = a.len() as f64;
        let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
        let products: f64 = a
            .iter()
            .zip(b)
            .map(|(a, b)| (a - mean_a) * (b - mean_b))
            .sum();
        (a.len() > 1).then(|| products / (n - 1.0) / n)
    };
    Some(of(&a.positives, &b.positives)? + of(&a.negatives, &b.negatives)?)
}
