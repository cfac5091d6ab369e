//! Which unit goes to which part.

use std::collections::BTreeMap;

use super::units::{Unit, units};
use super::{Method, Part, Split, SplitOptions};
use crate::data::error::{DataError, cut};
use crate::data::identity::draw;
use crate::data::set::DataSet;

/// Shares are sums of decimal fractions; a share of a whole item is not lost to rounding.
const ROUNDING: f64 = 1e-9;

pub(super) fn split(
    options: &SplitOptions,
    parts: &[(String, f64)],
    data: &DataSet,
) -> Result<Split, DataError> {
    let placed = Placed::new(options, parts, data)?;
    let parts = parts
        .iter()
        .enumerate()
        .map(|(at, (name, _))| placed.part(name, data, |part| part == at))
        .collect();
    Ok(Split {
        parts,
        unused: Vec::new(),
    })
}

pub(super) fn folds(
    options: &SplitOptions,
    folds: usize,
    data: &DataSet,
) -> Result<Vec<Split>, DataError> {
    let names: Vec<_> = (0..folds)
        .map(|fold| (format!("fold {fold}"), 1.0 / folds as f64))
        .collect();
    let placed = Placed::new(options, &names, data)?;
    for (stratum, units) in placed.units_by_stratum() {
        if units < folds {
            return Err(DataError::Split(format!(
                "`{}` is in {units} units (groups and near-duplicates count as one); {folds} folds need {folds}",
                cut(&stratum)
            )));
        }
    }
    Ok((0..folds)
        .map(|fold| Split {
            parts: vec![
                placed.part("train", data, |part| part != fold),
                placed.part("test", data, |part| part == fold),
            ],
            unused: Vec::new(),
        })
        .collect())
}

struct Placed<'a> {
    units: Vec<Unit>,
    /// Of each unit.
    parts: Vec<usize>,
    /// Of each item; empty if not stratified.
    strata: Vec<&'a str>,
}

impl<'a> Placed<'a> {
    fn new(
        options: &SplitOptions,
        parts: &[(String, f64)],
        data: &'a DataSet,
    ) -> Result<Self, DataError> {
        let strata = match &options.stratify {
            Some(by) => by.of_all(data)?,
            None => Vec::new(),
        };
        let units = units(options, data)?;
        if units.len() < parts.len() {
            return Err(DataError::Split(format!(
                "{} items are {} units (groups and near-duplicates count as one); {} parts need at least as many",
                data.len(),
                units.len(),
                parts.len()
            )));
        }
        let shares: Vec<f64> = parts.iter().map(|(_, share)| *share).collect();
        let chosen = match options.method {
            Method::Stable => units
                .iter()
                .map(|unit| by_hash(draw(options.seed, "split", &unit.key), &shares))
                .collect(),
            Method::Balanced => Balance::new(&units, &strata, &shares, options.seed).place(&units),
        };
        let placed = Self {
            units,
            parts: chosen,
            strata,
        };
        for (at, (name, share)) in parts.iter().enumerate() {
            if !placed.parts.contains(&at) {
                return Err(DataError::Split(format!(
                    "part `{}` with a share of {share:.4} would have no item of {} in {} units",
                    cut(name),
                    data.len(),
                    placed.units.len()
                )));
            }
        }
        Ok(placed)
    }

    fn part(&self, name: &str, data: &DataSet, of: impl Fn(usize) -> bool) -> Part {
        let chosen = self.units.iter().zip(&self.parts);
        let mut indices: Vec<usize> = chosen
            .filter(|(_, part)| of(**part))
            .flat_map(|(unit, _)| unit.items.iter().copied())
            .collect();
        indices.sort_unstable();
        let mut strata = BTreeMap::new();
        for stratum in indices.iter().filter_map(|index| self.strata.get(*index)) {
            *strata.entry((*stratum).to_owned()).or_default() += 1;
        }
        let item = |index: &usize| data.items().get(*index);
        Part {
            name: name.to_owned(),
            ids: indices
                .iter()
                .filter_map(item)
                .map(|item| item.id.clone())
                .collect(),
            indices,
            strata,
        }
    }

    fn units_by_stratum(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for unit in &self.units {
            let mut strata: Vec<_> = unit
                .items
                .iter()
                .filter_map(|index| self.strata.get(*index))
                .collect();
            strata.sort_unstable();
            strata.dedup();
            for stratum in strata {
                *counts.entry((*stratum).to_owned()).or_default() += 1;
            }
        }
        counts
    }
}

/// Where a number in `0..=u64::MAX` falls among the shares.
fn by_hash(number: u64, shares: &[f64]) -> usize {
    let at = (number >> 11) as f64 / (1_u64 << 53) as f64;
    let mut sum = 0.0;
    for (part, share) in shares.iter().enumerate() {
        sum += share;
        if at < sum {
            return part;
        }
    }
    // Only where rounding leaves the sum below 1.
    shares.len().saturating_sub(1)
}

/// Placement by counts: what each part still lacks of each stratum.
struct Balance {
    /// Units with their items by stratum, in the order they are placed.
    order: Vec<(usize, BTreeMap<usize, f64>)>,
    /// `[stratum][part]`: share less what is placed.
    lacking: Vec<Vec<f64>>,
    sizes: Vec<f64>,
    parts: usize,
}

impl Balance {
    fn new(units: &[Unit], strata: &[&str], shares: &[f64], seed: u64) -> Self {
        let mut numbers: BTreeMap<&str, usize> =
            strata.iter().map(|stratum| (*stratum, 0)).collect();
        for (number, slot) in numbers.values_mut().enumerate() {
            *slot = number;
        }
        let stratum = |index: &usize| {
            strata
                .get(*index)
                .and_then(|name| numbers.get(name))
                .copied()
                .unwrap_or(0)
        };
        let mut sizes = vec![0.0; numbers.len().max(1)];
        let mut order: Vec<_> = units
            .iter()
            .enumerate()
            .map(|(at, unit)| {
                let mut counts = BTreeMap::new();
                for index in &unit.items {
                    *counts.entry(stratum(index)).or_insert(0.0) += 1.0;
                }
                for (stratum, count) in &counts {
                    if let Some(size) = sizes.get_mut(*stratum) {
                        *size += count;
                    }
                }
                (at, counts)
            })
            .collect();
        let draws: Vec<u64> = units
            .iter()
            .map(|unit| draw(seed, "split", &unit.key))
            .collect();
        // The largest first: small ones even out what large ones leave.
        order.sort_by_cached_key(|(at, _)| {
            let unit = units.get(*at);
            (
                std::cmp::Reverse(unit.map_or(0, |unit| unit.items.len())),
                draws.get(*at).copied(),
                unit.map(|unit| unit.key.clone()),
            )
        });
        let lacking = sizes
            .iter()
            .map(|size| shares.iter().map(|share| share * size).collect())
            .collect();
        Self {
            order,
            lacking,
            sizes,
            parts: shares.len(),
        }
    }

    fn place(mut self, units: &[Unit]) -> Vec<usize> {
        let mut chosen = vec![0; units.len()];
        let order = std::mem::take(&mut self.order);
        let (single, several): (Vec<_>, Vec<_>) = order
            .into_iter()
            .partition(|(at, _)| units.get(*at).is_some_and(|unit| unit.items.len() == 1));
        for (at, counts) in several {
            let part = self.most_lacking(&counts);
            for (stratum, count) in counts {
                self.give(stratum, part, count);
            }
            if let Some(slot) = chosen.get_mut(at) {
                *slot = part;
            }
        }
        // Rounding that earlier strata left to each part.
        let mut carried = vec![0.0; self.parts];
        for stratum in 0..self.sizes.len() {
            let of_stratum: Vec<usize> = single
                .iter()
                .filter(|(_, counts)| counts.contains_key(&stratum))
                .map(|(at, _)| *at)
                .collect();
            let counts = self.round(stratum, of_stratum.len(), &carried);
            let parts = counts
                .iter()
                .enumerate()
                .flat_map(|(part, count)| std::iter::repeat_n(part, *count));
            for (at, part) in of_stratum.into_iter().zip(parts) {
                if let Some(slot) = chosen.get_mut(at) {
                    *slot = part;
                }
            }
            for (sum, lacking) in carried
                .iter_mut()
                .zip(self.lacking.get(stratum).into_iter().flatten())
            {
                *sum += lacking;
            }
        }
        chosen
    }

    fn give(&mut self, stratum: usize, part: usize, count: f64) {
        if let Some(lacking) = self
            .lacking
            .get_mut(stratum)
            .and_then(|parts| parts.get_mut(part))
        {
            *lacking -= count;
        }
    }

    fn lacks(&self, stratum: usize, part: usize) -> f64 {
        self.lacking
            .get(stratum)
            .and_then(|parts| parts.get(part))
            .copied()
            .unwrap_or(0.0)
    }

    /// The part that lacks most of what a unit has, each stratum by its size, and of items altogether.
    fn most_lacking(&self, counts: &BTreeMap<usize, f64>) -> usize {
        let all: f64 = self.sizes.iter().sum();
        let items: f64 = counts.values().sum();
        let score = |part: usize| {
            let of_strata: f64 = counts
                .iter()
                .map(|(stratum, count)| {
                    let size = self.sizes.get(*stratum).copied().unwrap_or(1.0);
                    count * self.lacks(*stratum, part) / size
                })
                .sum();
            let lacking: f64 = (0..self.sizes.len())
                .map(|stratum| self.lacks(stratum, part))
                .sum();
            of_strata + items * lacking / all
        };
        first_greatest((0..self.parts).map(|part| (part, score(part))))
    }

    /// How many of a stratum's single items each part gets: whole shares first, then one each to parts that lack a fraction, by what
    /// strata before have left to them.
    fn round(&mut self, stratum: usize, items: usize, carried: &[f64]) -> Vec<usize> {
        let mut counts = vec![0; self.parts];
        for _ in 0..items {
            let lacks: Vec<f64> = (0..self.parts)
                .map(|part| self.lacks(stratum, part))
                .collect();
            let whole = lacks.iter().any(|lacks| *lacks >= 1.0 - ROUNDING);
            let part = first_greatest(
                lacks
                    .iter()
                    .zip(carried)
                    .enumerate()
                    .filter(|(_, (lacks, _))| whole || **lacks > ROUNDING)
                    .map(|(part, (lacks, carried))| {
                        (part, if whole { *lacks } else { lacks + carried })
                    }),
            );
            self.give(stratum, part, 1.0);
            if let Some(count) = counts.get_mut(part) {
                *count += 1;
            }
        }
        counts
    }
}

fn first_greatest(scores: impl Iterator<Item = (usize, f64)>) -> usize {
    let better = |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
    scores.fold((0, f64::NEG_INFINITY), better).0
}
