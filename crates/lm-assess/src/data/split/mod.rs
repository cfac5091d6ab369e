//! Parts of a data set: by fractions, as folds of a cross-validation, or as somebody else made them.
//!
//! Items that belong together stay together: with one value of a group ([`SplitOptions::together`]), and, unless switched off, with the
//! same words ([`near_key`](super::near_key)). What is joined by either, or through a third item, is one *unit*; a unit is in one part as a
//! whole. Nothing depends on the order of the items, only on their ids, groups and words, and on the seed.
//!
//! | method | counts | when items are added |
//! | --- | --- | --- |
//! | [`Method::Balanced`] | as near to the fractions as whole units allow, in each stratum | others may move |
//! | [`Method::Stable`] | near the fractions in expectation | nobody moves, unless an item joins two units |
//!
//! Both at once is impossible: exact counts depend on all items.

mod given;
mod place;
mod units;

use std::collections::BTreeMap;

use serde::Serialize;

use super::error::{DataError, cut};
use super::item::Item;
use super::set::DataSet;

/// A property of items.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum By {
    /// Their label.
    Label,
    /// The group of this name: `topic`, `person`, `source`, ….
    Group(String),
}

impl By {
    /// The group of this name.
    pub fn group(name: impl Into<String>) -> Self {
        Self::Group(name.into())
    }

    fn name(&self) -> &str {
        match self {
            Self::Label => "label",
            Self::Group(name) => name,
        }
    }

    fn of<'a>(&self, item: &'a Item) -> Option<&'a str> {
        match self {
            Self::Label => item.label.as_deref(),
            Self::Group(name) => item.groups.get(name).map(String::as_str),
        }
    }

    /// The value of every item. One without it would be put anywhere, unnoticed.
    fn of_all<'a>(&self, data: &'a DataSet) -> Result<Vec<&'a str>, DataError> {
        data.items()
            .iter()
            .map(|item| {
                self.of(item).ok_or_else(|| {
                    let place = item.place.as_ref().map(|place| format!(" ({place})"));
                    DataError::Split(format!(
                        "item `{}`{} has no {}",
                        cut(&item.id),
                        place.unwrap_or_default(),
                        match self {
                            Self::Label => "label".to_owned(),
                            Self::Group(name) => format!("group `{}`", cut(name)),
                        }
                    ))
                })
            })
            .collect()
    }
}

/// How units are given to parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// By counts: without groups, every stratum of a part is less than one item from its share; with groups and one stratum, a part is
    /// less than the largest unit from its share; with both, as near as going from the largest unit to the smallest comes.
    #[default]
    Balanced,
    /// By a hash of the unit alone.
    Stable,
}

/// How to split by fractions, or into folds.
#[derive(Clone, Debug)]
#[must_use]
pub struct SplitOptions {
    parts: Vec<(String, f64)>,
    seed: u64,
    stratify: Option<By>,
    together: Vec<By>,
    near_duplicates: bool,
    method: Method,
}

impl SplitOptions {
    /// Parts by name and share; the shares sum to 1.
    pub fn new<N: Into<String>>(parts: impl IntoIterator<Item = (N, f64)>) -> Self {
        Self {
            parts: parts
                .into_iter()
                .map(|(name, share)| (name.into(), share))
                .collect(),
            seed: 0,
            stratify: None,
            together: Vec::new(),
            near_duplicates: true,
            method: Method::Balanced,
        }
    }

    /// For [`folds`](Self::folds), which names its parts itself.
    pub fn for_folds() -> Self {
        Self::new::<String>([])
    }

    /// Sets the seed; 0 unless set.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Keeps the share of each value alike in all parts.
    pub fn stratify(mut self, by: By) -> Self {
        self.stratify = Some(by);
        self
    }

    /// Keeps items with the same value in one part. Several properties may be named.
    pub fn together(mut self, by: By) -> Self {
        self.together.push(by);
        self
    }

    /// Sets whether items with the same words stay in one part; they do unless switched off.
    pub fn near_duplicates_together(mut self, together: bool) -> Self {
        self.near_duplicates = together;
        self
    }

    /// Sets the method; [`Method::Balanced`] unless set.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Splits by the shares.
    ///
    /// # Errors
    /// [`DataError::Options`] for shares that are not positive or do not sum to 1, parts of one name, or a stratified stable split.
    /// [`DataError::Split`] where an item lacks a property that is asked for, or a part would stay empty.
    pub fn split(&self, data: &DataSet) -> Result<Split, DataError> {
        self.check()?;
        place::split(self, &self.parts, data)
    }

    /// Splits into folds: the `k`-th of the splits has the `k`-th fold as part `test`, and all others as part `train`.
    ///
    /// # Errors
    /// As [`split`](Self::split); also for fewer than two folds, fewer units than folds, or, if stratified, a stratum with fewer units
    /// than folds.
    pub fn folds(&self, folds: usize, data: &DataSet) -> Result<Vec<Split>, DataError> {
        if !self.parts.is_empty() {
            return Err(DataError::Options {
                option: "parts",
                expected: "none for folds".to_owned(),
                found: self.parts.len().to_string(),
            });
        }
        if folds < 2 {
            return Err(DataError::Options {
                option: "folds",
                expected: "at least 2".to_owned(),
                found: folds.to_string(),
            });
        }
        self.check_method()?;
        place::folds(self, folds, data)
    }

    fn check_method(&self) -> Result<(), DataError> {
        match (&self.stratify, self.method) {
            (Some(by), Method::Stable) => Err(DataError::Options {
                option: "stratify",
                expected: "the method `Balanced`, since counts depend on all items".to_owned(),
                found: format!("`Stable` with `{}`", by.name()),
            }),
            _ => Ok(()),
        }
    }

    fn check(&self) -> Result<(), DataError> {
        let refuse = |expected: &str, found: String| {
            Err(DataError::Options {
                option: "parts",
                expected: expected.to_owned(),
                found,
            })
        };
        if self.parts.is_empty() {
            return refuse("at least one", "none".to_owned());
        }
        for (index, (name, share)) in self.parts.iter().enumerate() {
            if !share.is_finite() || *share <= 0.0 {
                return refuse("shares above 0", format!("{share} for `{}`", cut(name)));
            }
            if self
                .parts
                .iter()
                .take(index)
                .any(|(before, _)| before == name)
            {
                return refuse("names that differ", format!("`{}` twice", cut(name)));
            }
        }
        let sum: f64 = self.parts.iter().map(|(_, share)| share).sum();
        if (sum - 1.0).abs() > 1e-9 {
            return refuse("shares that sum to 1", sum.to_string());
        }
        self.check_method()
    }
}

/// Items of one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its items' indices in the data set, ascending.
    pub indices: Vec<usize>,
    /// Their ids, in the same order.
    pub ids: Vec<String>,
    /// How many of them are in each stratum, of a stratified split.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub strata: BTreeMap<String, usize>,
}

/// Parts that share no item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Split {
    /// The parts, in the order they were named.
    pub parts: Vec<Part>,
    /// Items in no part: only a given split has them. Indices, ascending.
    pub unused: Vec<usize>,
}

/// A value that is in two parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Leak {
    /// Of which property; `None`: items with the same words.
    pub by: Option<By>,
    /// The value, or for items with the same words their [`near_key`](super::near_key).
    pub value: String,
    /// For each part that has it: the part's name and its first item there.
    pub parts: Vec<(String, String)>,
}

impl Split {
    /// A part by its name.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// What a split lets through: values of these properties, and near-duplicates, on more than one side. Empty for a split made by
    /// [`SplitOptions`] with the same properties. Items without a property share nothing.
    #[must_use]
    pub fn leaks(&self, data: &DataSet, by: &[By]) -> Vec<Leak> {
        let mut found = Vec::new();
        for by in by.iter().map(Some).chain([None]) {
            let mut seen: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
            for part in &self.parts {
                for item in part
                    .indices
                    .iter()
                    .filter_map(|index| data.items().get(*index))
                {
                    let value = match by {
                        Some(by) => by.of(item).map(str::to_owned),
                        None => Some(item.near_key()),
                    };
                    let Some(value) = value else {
                        continue;
                    };
                    let parts = seen.entry(value).or_default();
                    if parts.last().is_none_or(|(name, _)| *name != part.name) {
                        parts.push((part.name.clone(), item.id.clone()));
                    }
                }
            }
            found.extend(seen.into_iter().filter(|(_, parts)| parts.len() > 1).map(
                |(value, parts)| Leak {
                    by: by.cloned(),
                    value,
                    parts,
                },
            ));
        }
        found
    }
}
