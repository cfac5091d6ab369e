//! Decisions against the truth.

use std::collections::BTreeMap;

use serde::Serialize;

use super::check;
use super::error::Result;

/// Yes-or-no decisions by what was true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Decisions {
    /// Yes, and rightly.
    pub true_positives: u64,
    /// Yes, and wrongly.
    pub false_positives: u64,
    /// No, and wrongly.
    pub false_negatives: u64,
    /// No, and rightly.
    pub true_negatives: u64,
}

impl Decisions {
    /// Counts decisions on the same items, in the same order.
    ///
    /// # Errors
    /// Unequal lengths.
    pub fn from_outcomes(truth: &[bool], decided: &[bool]) -> Result<Self> {
        check::lengths(("truth", truth), ("decided", decided))?;
        let mut counts = Self::default();
        for (truth, decided) in truth.iter().zip(decided) {
            *match (truth, decided) {
                (true, true) => &mut counts.true_positives,
                (false, true) => &mut counts.false_positives,
                (true, false) => &mut counts.false_negatives,
                (false, false) => &mut counts.true_negatives,
            } += 1;
        }
        Ok(counts)
    }

    /// Share of right decisions; `None` for no items.
    pub fn accuracy(&self) -> Option<f64> {
        let right = self.true_positives as f64 + self.true_negatives as f64;
        share(
            right,
            self.false_positives as f64 + self.false_negatives as f64,
        )
    }

    /// Share of rightly decided among yes decisions; `None` without one.
    pub fn precision(&self) -> Option<f64> {
        share(self.true_positives as f64, self.false_positives as f64)
    }

    /// Share of found among the true ones, also called sensitivity or true-positive rate; `None` without one.
    pub fn recall(&self) -> Option<f64> {
        share(self.true_positives as f64, self.false_negatives as f64)
    }

    /// Share of left alone among those that are not, also called true-negative rate; `None` without one.
    pub fn specificity(&self) -> Option<f64> {
        share(self.true_negatives as f64, self.false_positives as f64)
    }

    /// Harmonic mean of precision and recall, 2TP / (2TP + FP + FN); `None` where neither a truth nor a decision is yes.
    pub fn f1(&self) -> Option<f64> {
        share(
            2.0 * self.true_positives as f64,
            self.false_positives as f64 + self.false_negatives as f64,
        )
    }
}

/// part / (part + rest).
fn share(part: f64, rest: f64) -> Option<f64> {
    let whole = part + rest;
    (whole > 0.0).then(|| part / whole)
}

/// Decisions between several labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfusionMatrix<T> {
    /// All labels that occur, sorted.
    pub labels: Vec<T>,
    /// `counts[i][j]`: items of label `i` decided to be `j`.
    pub counts: Vec<Vec<u64>>,
}

impl<T: Ord + Clone> ConfusionMatrix<T> {
    /// Counts decisions on the same items, in the same order.
    ///
    /// # Errors
    /// Unequal lengths.
    pub fn from_outcomes(truth: &[T], decided: &[T]) -> Result<Self> {
        check::lengths(("truth", truth), ("decided", decided))?;
        let mut labels: Vec<T> = truth.iter().chain(decided).cloned().collect();
        labels.sort();
        labels.dedup();
        let number: BTreeMap<&T, usize> = labels.iter().zip(0..).collect();
        let mut counts = vec![vec![0; labels.len()]; labels.len()];
        for pair in truth.iter().zip(decided) {
            if let (Some(&row), Some(&column)) = (number.get(pair.0), number.get(pair.1)) {
                counts[row][column] += 1;
            }
        }
        Ok(Self { labels, counts })
    }

    /// Share of right decisions; `None` for no items.
    pub fn accuracy(&self) -> Option<f64> {
        let count = |(row, counts): (usize, &Vec<u64>)| -> (f64, f64) {
            let right = counts.get(row).map_or(0.0, |&count| count as f64);
            let all: f64 = counts.iter().map(|&count| count as f64).sum();
            (right, all - right)
        };
        let (right, wrong) = self
            .counts
            .iter()
            .enumerate()
            .map(count)
            .fold((0.0, 0.0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
        share(right, wrong)
    }

    /// One label against all others, where the label is `labels[index]`; `None` past the last.
    pub fn against_others(&self, index: usize) -> Option<Decisions> {
        let mut decisions = Decisions::default();
        self.labels.get(index)?;
        for (row, counts) in self.counts.iter().enumerate() {
            for (column, &count) in counts.iter().enumerate() {
                let cell = match (row == index, column == index) {
                    (true, true) => &mut decisions.true_positives,
                    (false, true) => &mut decisions.false_positives,
                    (true, false) => &mut decisions.false_negatives,
                    (false, false) => &mut decisions.true_negatives,
                };
                *cell = cell.saturating_add(count);
            }
        }
        Some(decisions)
    }
}
