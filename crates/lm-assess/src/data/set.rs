//! A data set and where it comes from.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Serialize;

use super::collect::Unique;
use super::error::{DataError, Place, Position};
use super::item::Item;
use super::options::{Format, Layout, ReadOptions};

/// Rows that were left out are counted all, and listed up to this many a file.
pub(super) const MAX_LISTED: usize = 100;

/// A row that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Skip {
    /// Where.
    pub position: Position,
    /// Why.
    pub reason: String,
}

/// A content that came more than once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Duplicate {
    /// Id of the item that came first.
    pub first: String,
    /// Where it stood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_place: Option<Place>,
    /// Id of the one that came again.
    pub again: String,
    /// Where it stood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again_place: Option<Place>,
    /// Whether it is in the data set: it has an id of its own. With the same id it is left out.
    pub kept: bool,
    /// What else is not the same: `target`, `groups`, `extra`. (Another label is an error.)
    pub differs: Vec<&'static str>,
}

/// A file that items were read from, and what became of its rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Origin {
    /// Its name, without the folder.
    pub file: String,
    /// Its size, bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// As what it was read.
    pub format: Format,
    /// What its columns were taken for; `None` where every row was left out before a column was seen.
    pub layout: Option<Layout>,
    /// Rows, those left out among them. Empty lines do not count.
    pub rows: u64,
    /// Rows left out because they could not be read.
    pub skipped: u64,
    /// The same by kind of problem ([`Problem::kind`](super::Problem::kind)).
    pub skipped_by_kind: BTreeMap<&'static str, u64>,
    /// The first hundred of them.
    pub skips: Vec<Skip>,
}

/// Items, each with an id that no other has, in the order they were read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataSet {
    items: Vec<Item>,
    origins: Vec<Origin>,
    duplicates: Vec<Duplicate>,
    #[serde(skip)]
    by_id: HashMap<String, usize>,
}

impl DataSet {
    pub(super) fn from_parts(
        items: Vec<Item>,
        by_id: HashMap<String, usize>,
        origins: Vec<Origin>,
        duplicates: Vec<Duplicate>,
    ) -> Self {
        Self {
            items,
            origins,
            duplicates,
            by_id,
        }
    }

    /// Reads a file. Its format is told from its name and first bytes, the meaning of its columns from their names, unless the options
    /// say; [`origins`](Self::origins) tells what was chosen.
    ///
    /// # Errors
    /// A file or row that cannot be read; see [`DataError`]. With [`OnBadRow::Skip`](super::OnBadRow::Skip) rows are left out
    /// instead, except where the file as a whole is in doubt: its columns, an open quote, a broken list.
    pub fn read(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Self, DataError> {
        super::read::file(path.as_ref(), options)
    }

    /// Of items made by the caller. One that comes twice is left out and reported, as when read.
    ///
    /// # Errors
    /// [`DataError::Item`] where two items have one id and different contents, or one content and different labels.
    pub fn from_items(items: impl IntoIterator<Item = Item>) -> Result<Self, DataError> {
        let mut unique = Unique::default();
        for (index, item) in items.into_iter().enumerate() {
            unique
                .add(item)
                .map_err(|problem| DataError::Item { index, problem })?;
        }
        Ok(unique.finish(Vec::new()))
    }

    /// Several data sets as one, in order. What is in more than one of them is left out after the first and reported.
    ///
    /// # Errors
    /// As [`from_items`](Self::from_items).
    pub fn joined(sets: impl IntoIterator<Item = Self>) -> Result<Self, DataError> {
        let mut unique = Unique::default();
        let (mut origins, mut duplicates) = (Vec::new(), Vec::new());
        let mut index = 0;
        for set in sets {
            origins.extend(set.origins);
            duplicates.extend(set.duplicates);
            for item in set.items {
                unique
                    .add(item)
                    .map_err(|problem| DataError::Item { index, problem })?;
                index += 1;
            }
        }
        let mut joined = unique.finish(origins);
        duplicates.append(&mut joined.duplicates);
        joined.duplicates = duplicates;
        Ok(joined)
    }

    /// The items.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// An item by its id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Item> {
        self.items.get(self.position(id)?)
    }

    /// The index of an item by its id.
    #[must_use]
    pub fn position(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// The files it was read from; empty for items made in memory.
    #[must_use]
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// Contents that came more than once, in the order of the later ones.
    #[must_use]
    pub fn duplicates(&self) -> &[Duplicate] {
        &self.duplicates
    }

    /// Items whose words are the same (see [`near_key`](super::near_key)): indices, at least two in each list.
    #[must_use]
    pub fn near_duplicates(&self) -> Vec<Vec<usize>> {
        let mut by_key: HashMap<String, usize> = HashMap::new();
        let mut lists: Vec<Vec<usize>> = Vec::new();
        for (index, item) in self.items.iter().enumerate() {
            let at = *by_key.entry(item.near_key()).or_insert(lists.len());
            match lists.get_mut(at) {
                Some(list) => list.push(index),
                None => lists.push(vec![index]),
            }
        }
        lists.retain(|list| list.len() > 1);
        lists
    }
}

impl<'a> IntoIterator for &'a DataSet {
    type Item = &'a Item;
    type IntoIter = std::slice::Iter<'a, Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}
