//! What must stay together.

use std::collections::{BTreeMap, HashMap};

use super::SplitOptions;
use crate::data::error::DataError;
use crate::data::set::DataSet;

/// Items that go to one part.
#[derive(Debug)]
pub(super) struct Unit {
    /// Ascending.
    pub(super) items: Vec<usize>,
    /// What it is known by, whatever else is in the data set.
    pub(super) key: String,
}

pub(super) fn units(options: &SplitOptions, data: &DataSet) -> Result<Vec<Unit>, DataError> {
    let count = data.len();
    let mut parents: Vec<usize> = (0..count).collect();
    let mut keys: Vec<String> = Vec::with_capacity(count);
    let mut seen: HashMap<(usize, String), usize> = HashMap::new();
    for (kind, by) in options.together.iter().enumerate() {
        for (index, value) in by.of_all(data)?.into_iter().enumerate() {
            let first = *seen.entry((kind, value.to_owned())).or_insert(index);
            join(&mut parents, first, index);
        }
    }
    for (index, item) in data.items().iter().enumerate() {
        let near = item.near_key();
        // A unit's key is the smallest of its items' keys, so most items can come and go without changing it.
        keys.push(match options.together.first() {
            Some(by) => format!("group {}", by.of(item).unwrap_or_default()),
            None if options.near_duplicates => format!("near {near}"),
            None => format!("id {}", item.id),
        });
        if options.near_duplicates {
            let first = *seen.entry((usize::MAX, near)).or_insert(index);
            join(&mut parents, first, index);
        }
    }
    let mut units: BTreeMap<usize, Unit> = BTreeMap::new();
    for (index, key) in keys.into_iter().enumerate() {
        let unit = units
            .entry(root(&mut parents, index))
            .or_insert_with(|| Unit {
                items: Vec::new(),
                key: key.clone(),
            });
        unit.items.push(index);
        if key < unit.key {
            unit.key = key;
        }
    }
    Ok(units.into_values().collect())
}

fn join(parents: &mut [usize], one: usize, other: usize) {
    let (one, other) = (root(parents, one), root(parents, other));
    if let Some(parent) = parents.get_mut(one.max(other)) {
        *parent = one.min(other);
    }
}

/// The first item that this one is joined with; paths are halved on the way.
fn root(parents: &mut [usize], mut at: usize) -> usize {
    while let Some(&parent) = parents.get(at) {
        if parent == at {
            break;
        }
        let above = parents.get(parent).copied().unwrap_or(parent);
        if let Some(slot) = parents.get_mut(at) {
            *slot = above;
        }
        at = above;
    }
    at
}
