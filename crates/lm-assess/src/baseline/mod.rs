//! Text-only baselines: how well two classes can be told apart without a model.
//!
//! A probe of a model's states says something about the model only where the words alone do not say as much. These baselines are
//! logistic regressions on word n-grams, on a text's length, and on its first word. Where one of them is nearly always right, a data set's
//! classes are told by their form, and a probe's accuracy on it means little.
//!
//! ```
//! use lm_assess::baseline::{Baseline, FitOptions};
//!
//! let train = [("plan a trip", true), ("plan a meal", true), ("why does it rain", false), ("why is it dark", false)];
//! let fitted = FitOptions::new(Baseline::FirstWord).fit(&train)?;
//! assert!(fitted.probability("plan a party") > 0.5);
//! # Ok::<(), lm_assess::Error>(())
//! ```

mod features;
mod logistic;

use std::collections::BTreeMap;

use serde::Serialize;

use self::features::Features;
use crate::data::split::{By, Part, Split};
use crate::data::{DataError, DataSet};

/// What a baseline sees of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Baseline {
    /// How often each run of `shortest..=longest` words comes. Words are runs of letters, digits and underscores, in lower case.
    NGrams {
        /// Words of the shortest runs, at least 1.
        shortest: usize,
        /// Words of the longest runs.
        longest: usize,
    },
    /// The number of its characters and of its words, standardised by the training texts.
    Length,
    /// Its first word. One that no training text begins with tells nothing.
    FirstWord,
}

impl Baseline {
    /// The three that a report shows: words and pairs of words, length, first word.
    pub const USUAL: [Self; 3] = [
        Self::NGrams {
            shortest: 1,
            longest: 2,
        },
        Self::Length,
        Self::FirstWord,
    ];
}

/// How a baseline is fitted.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct FitOptions {
    baseline: Baseline,
    c: f64,
}

impl FitOptions {
    /// Fits this baseline.
    pub fn new(baseline: Baseline) -> Self {
        Self { baseline, c: 1.0 }
    }

    /// Sets scikit-learn's `C`, the inverse of the penalty; 1 unless set. What is least is `½ |w|² + C Σ log(1 + exp(-y (w·x + b)))` with
    /// `y` 1 or -1; the intercept `b` is not penalised.
    pub fn c(mut self, c: f64) -> Self {
        self.c = c;
        self
    }

    /// Fits to texts and their classes.
    ///
    /// # Errors
    /// [`DataError::Options`] for a `C` or a range of words that cannot be; [`DataError::Baseline`] if a class has no text, or if the
    /// optimum is not reached.
    pub fn fit<T: AsRef<str>>(&self, train: &[(T, bool)]) -> Result<Fitted, DataError> {
        self.check()?;
        let yes = train.iter().filter(|(_, class)| *class).count();
        if yes == 0 || yes == train.len() {
            return Err(DataError::Baseline(format!(
                "expected training texts of both classes, found {yes} of one and {} of the other",
                train.len() - yes
            )));
        }
        let texts: Vec<&str> = train.iter().map(|(text, _)| text.as_ref()).collect();
        let features = Features::new(self.baseline, &texts);
        let rows: Vec<_> = texts.iter().map(|text| features.row(text)).collect();
        let classes: Vec<bool> = train.iter().map(|(_, class)| *class).collect();
        let solution = logistic::fit(&rows, &classes, features.len(), self.c)
            .map_err(|problem| DataError::Baseline(problem.to_owned()))?;
        Ok(Fitted {
            features,
            weights: solution.weights,
            intercept: solution.intercept,
        })
    }

    /// Fits on one part of a split and tries on another. `positive` is the label of the one class; every other label is the other.
    ///
    /// # Errors
    /// As [`fit`](Self::fit); [`DataError::Split`] for a part that is not there, [`DataError::Baseline`] for an item without a label.
    pub fn try_split(
        &self,
        data: &DataSet,
        split: &Split,
        (train, test): (&str, &str),
        positive: &str,
    ) -> Result<Accuracy, DataError> {
        let part = |name: &str| {
            split
                .part(name)
                .ok_or_else(|| DataError::Split(format!("no part `{name}`")))
        };
        let train = labelled(data, part(train)?, positive)?;
        let test = labelled(data, part(test)?, positive)?;
        Ok(self.fit(&train)?.accuracy(&test))
    }

    /// Fits on `train` and tries on `test` of every fold ([`SplitOptions::folds`](crate::data::split::SplitOptions::folds)).
    ///
    /// # Errors
    /// As [`try_split`](Self::try_split).
    pub fn cross_validate(
        &self,
        data: &DataSet,
        folds: &[Split],
        positive: &str,
    ) -> Result<Report, DataError> {
        let folds: Vec<Accuracy> = folds
            .iter()
            .map(|split| self.try_split(data, split, ("train", "test"), positive))
            .collect::<Result<_, _>>()?;
        let mut whole = Accuracy::default();
        for fold in &folds {
            whole.add(*fold);
        }
        Ok(Report {
            baseline: self.baseline,
            c: self.c,
            whole,
            folds,
        })
    }

    fn check(&self) -> Result<(), DataError> {
        if !self.c.is_finite() || self.c <= 0.0 {
            return Err(DataError::Options {
                option: "c",
                expected: "a number above 0".to_owned(),
                found: self.c.to_string(),
            });
        }
        match self.baseline {
            Baseline::NGrams { shortest, longest } if shortest == 0 || longest < shortest => {
                Err(DataError::Options {
                    option: "baseline",
                    expected: "at least 1 word, and the longest not below the shortest".to_owned(),
                    found: format!("{shortest} to {longest} words"),
                })
            }
            _ => Ok(()),
        }
    }
}

fn labelled(data: &DataSet, part: &Part, positive: &str) -> Result<Vec<(String, bool)>, DataError> {
    part.indices
        .iter()
        .filter_map(|index| data.items().get(*index))
        .map(|item| match &item.label {
            Some(label) => Ok((item.text(), label == positive)),
            None => Err(DataError::Baseline(format!(
                "item `{}` has no label",
                item.id
            ))),
        })
        .collect()
}

/// A fitted baseline.
#[derive(Clone, Debug)]
pub struct Fitted {
    features: Features,
    weights: Vec<f64>,
    intercept: f64,
}

impl Fitted {
    /// The probability that a text is of the class `true`.
    #[must_use]
    pub fn probability(&self, text: &str) -> f64 {
        logistic::sigmoid(self.score(text))
    }

    /// Weights by the names of their features: n-grams, first words, or `characters` and `words`.
    #[must_use]
    pub fn weights(&self) -> BTreeMap<&str, f64> {
        let weight = |at: usize| self.weights.get(at).copied().unwrap_or(0.0);
        self.features
            .names()
            .map(|(name, at)| (name, weight(at)))
            .collect()
    }

    /// The log-odds of a text that has no known feature.
    #[must_use]
    pub fn intercept(&self) -> f64 {
        self.intercept
    }

    /// How often it is right. A text with a probability of exactly one half counts as `false`, as in scikit-learn.
    pub fn accuracy<T: AsRef<str>>(&self, test: &[(T, bool)]) -> Accuracy {
        let mut counts = Accuracy::default();
        for (text, class) in test {
            let right = (self.score(text.as_ref()) > 0.0) == *class;
            let (right_of, of) = match class {
                true => (&mut counts.true_right, &mut counts.true_total),
                false => (&mut counts.false_right, &mut counts.false_total),
            };
            *right_of += usize::from(right);
            *of += 1;
        }
        counts
    }

    fn score(&self, text: &str) -> f64 {
        logistic::score(&self.features.row(text), &self.weights, self.intercept)
    }
}

/// Counts of right answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Accuracy {
    /// Texts of class `true` that were taken for it.
    pub true_right: usize,
    /// Texts of class `true`.
    pub true_total: usize,
    /// Texts of class `false` that were taken for it.
    pub false_right: usize,
    /// Texts of class `false`.
    pub false_total: usize,
}

impl Accuracy {
    /// The share of right answers; `None` without texts.
    #[must_use]
    pub fn rate(self) -> Option<f64> {
        let total = self.true_total + self.false_total;
        (total > 0).then(|| (self.true_right + self.false_right) as f64 / total as f64)
    }

    /// The mean of both classes' shares, which guessing cannot raise above one half; `None` where a class has no text.
    #[must_use]
    pub fn balanced(self) -> Option<f64> {
        let share = |right: usize, total: usize| (total > 0).then(|| right as f64 / total as f64);
        let (yes, no) = (
            share(self.true_right, self.true_total)?,
            share(self.false_right, self.false_total)?,
        );
        Some(f64::midpoint(yes, no))
    }

    /// The share that always naming the larger class would have; `None` without texts.
    #[must_use]
    pub fn majority(self) -> Option<f64> {
        let total = self.true_total + self.false_total;
        (total > 0).then(|| self.true_total.max(self.false_total) as f64 / total as f64)
    }

    fn add(&mut self, other: Self) {
        self.true_right += other.true_right;
        self.true_total += other.true_total;
        self.false_right += other.false_right;
        self.false_total += other.false_total;
    }
}

/// What a baseline reaches in a cross-validation.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Which.
    pub baseline: Baseline,
    /// Its `C`.
    pub c: f64,
    /// Over all folds: every item once.
    pub whole: Accuracy,
    /// Of each fold.
    pub folds: Vec<Accuracy>,
}

impl Report {
    /// Whether text alone tells the classes apart in at least this share of both, such as 0.95.
    #[must_use]
    pub fn separates(&self, balanced: f64) -> bool {
        self.whole
            .balanced()
            .is_some_and(|reached| reached >= balanced)
    }
}

/// The usual baselines on one data set, in folds that keep groups and near-duplicates together.
///
/// # Errors
/// As [`SplitOptions::folds`](crate::data::split::SplitOptions::folds) with the labels as strata, and [`FitOptions::cross_validate`].
pub fn usual(
    data: &DataSet,
    positive: &str,
    together: Option<By>,
    folds: usize,
    seed: u64,
) -> Result<Vec<Report>, DataError> {
    let mut options = crate::data::split::SplitOptions::for_folds()
        .seed(seed)
        .stratify(By::Label);
    if let Some(by) = together {
        options = options.together(by);
    }
    let folds = options.folds(folds, data)?;
    Baseline::USUAL
        .into_iter()
        .map(|baseline| FitOptions::new(baseline).cross_validate(data, &folds, positive))
        .collect()
}
