//! From rows to a data set: what is the same, what is left out, and why.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::assemble::{self, Kinds};
use super::error::{DataError, Place, Position, Problem, listed};
use super::item::Item;
use super::mapping::Mapping;
use super::options::{Format, Layout, OnBadRow, ReadOptions};
use super::read::Stop;
use super::set::{DataSet, Duplicate, MAX_LISTED, Origin, Skip};

/// Items with their names looked up, so that none comes twice.
#[derive(Debug, Default)]
pub(super) struct Unique {
    items: Vec<Item>,
    by_id: HashMap<String, usize>,
    /// By the hash of the content, whatever the id.
    by_content: HashMap<String, usize>,
    duplicates: Vec<Duplicate>,
}

impl Unique {
    /// Adds an item unless it is there already.
    pub(super) fn add(&mut self, item: Item) -> Result<(), Problem> {
        let content = super::identity::content_id(&item.content);
        let same_id = self.by_id.get(&item.id).and_then(|at| self.items.get(*at));
        let same_content = self
            .by_content
            .get(&content)
            .and_then(|at| self.items.get(*at));
        if let Some(first) = same_id
            && first.content != item.content
        {
            return Err(Problem::SameId {
                id: item.id,
                first: place(first),
            });
        }
        if let Some(first) = same_content
            && first.label != item.label
        {
            let text = |label: &Option<String>| {
                label
                    .as_ref()
                    .map_or("nothing".to_owned(), |label| format!("`{label}`"))
            };
            return Err(Problem::Labels {
                first: place(first),
                expected: text(&first.label),
                found: text(&item.label),
            });
        }
        if let Some(first) = same_id.or(same_content) {
            let differs = [
                ("target", first.target != item.target),
                ("groups", first.groups != item.groups),
                ("extra", first.extra != item.extra),
            ];
            self.duplicates.push(Duplicate {
                first: first.id.clone(),
                first_place: first.place.clone(),
                again: item.id.clone(),
                again_place: item.place.clone(),
                kept: same_id.is_none(),
                differs: differs
                    .into_iter()
                    .filter_map(|(what, differs)| differs.then_some(what))
                    .collect(),
            });
            if same_id.is_some() {
                return Ok(());
            }
        }
        self.by_id.insert(item.id.clone(), self.items.len());
        self.by_content.entry(content).or_insert(self.items.len());
        self.items.push(item);
        Ok(())
    }

    pub(super) fn finish(self, origins: Vec<Origin>) -> DataSet {
        DataSet::from_parts(self.items, self.by_id, origins, self.duplicates)
    }
}

fn place(item: &Item) -> String {
    match &item.place {
        Some(place) => place.to_string(),
        None => "an earlier item".to_owned(),
    }
}

/// Takes the rows of one file.
pub(super) struct Collector<'a> {
    path: &'a Path,
    options: &'a ReadOptions,
    mapping: Option<Mapping>,
    kinds: Kinds,
    /// Every column that any row had, for those the caller named.
    unseen: Option<Vec<String>>,
    columns: Vec<String>,
    unique: Unique,
    rows: u64,
    skipped: u64,
    skips: Vec<Skip>,
    skipped_by_kind: BTreeMap<&'static str, u64>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(path: &'a Path, options: &'a ReadOptions) -> Self {
        Self {
            path,
            options,
            mapping: None,
            kinds: Kinds::default(),
            unseen: None,
            columns: Vec::new(),
            unique: Unique::default(),
            rows: 0,
            skipped: 0,
            skips: Vec::new(),
            skipped_by_kind: BTreeMap::new(),
        }
    }

    pub(super) fn max_line_bytes(&self) -> usize {
        self.options.max_line_bytes
    }

    /// The columns of a file that has them once for all rows.
    pub(super) fn columns(&mut self, names: &[String]) -> Result<(), DataError> {
        let mapping = Mapping::new(self.options, names).map_err(|problem| self.file(problem))?;
        let main = mapping.main().map(|(_, column)| column);
        for column in mapping.named.iter().map(String::as_str).chain(main) {
            if !names.iter().any(|name| name == column) {
                let found = names.to_vec();
                let column = column.to_owned();
                return Err(self.file(Problem::NoColumn { column, found }.to_string()));
            }
        }
        self.mapping = Some(mapping);
        Ok(())
    }

    /// Takes a layout that the format implies.
    pub(super) fn layout(&mut self, layout: Layout) -> Result<(), DataError> {
        let mut options = self.options.clone();
        options.layout.get_or_insert(layout);
        let mapping = Mapping::new(&options, &[]).map_err(|problem| self.file(problem))?;
        self.mapping = Some(mapping);
        Ok(())
    }

    /// Takes a row that was read.
    pub(super) fn row(
        &mut self,
        position: Position,
        fields: Map<String, Value>,
    ) -> Result<(), DataError> {
        self.count(position)?;
        if self.mapping.is_none() {
            let names: Vec<String> = fields.keys().cloned().collect();
            match Mapping::new(self.options, &names) {
                Ok(mapping) => self.mapping = Some(mapping),
                Err(problem) => {
                    let path = PathBuf::from(self.place(position).to_string());
                    return Err(DataError::File { path, problem });
                }
            }
        }
        let Some(mapping) = &self.mapping else {
            return Ok(());
        };
        let unseen = self.unseen.get_or_insert_with(|| mapping.named.clone());
        if !unseen.is_empty() {
            unseen.retain(|column| !fields.contains_key(column));
            for name in fields.keys() {
                if self.columns.len() < 100 && !self.columns.contains(name) {
                    self.columns.push(name.clone());
                }
            }
        }
        let item = assemble::item(fields, position, mapping, self.options, &mut self.kinds);
        let added = item.and_then(|mut item| {
            item.place = Some(Place {
                file: file_name(self.path),
                position,
            });
            self.unique.add(item)
        });
        added.or_else(|problem| self.leave_out(position, problem))
    }

    /// Takes a row that could not be read.
    pub(super) fn bad(&mut self, position: Position, problem: Problem) -> Result<(), DataError> {
        self.count(position)?;
        self.leave_out(position, problem)
    }

    fn count(&mut self, position: Position) -> Result<(), DataError> {
        self.rows += 1;
        if self.rows > self.options.max_rows {
            let limit = self.options.max_rows;
            return Err(self.file(format!(
                "more than {limit} rows (`max_rows`); the first beyond is {position}"
            )));
        }
        Ok(())
    }

    fn leave_out(&mut self, position: Position, problem: Problem) -> Result<(), DataError> {
        if self.options.on_bad_row == OnBadRow::Error {
            return Err(self.at(position, problem));
        }
        self.skipped += 1;
        *self.skipped_by_kind.entry(problem.kind()).or_default() += 1;
        if self.skips.len() < MAX_LISTED {
            self.skips.push(Skip {
                position,
                reason: problem.to_string(),
            });
        }
        Ok(())
    }

    fn place(&self, position: Position) -> Place {
        Place {
            file: self.path.display().to_string(),
            position,
        }
    }

    /// An error of a row.
    pub(super) fn at(&self, position: Position, problem: Problem) -> DataError {
        DataError::Row {
            place: self.place(position),
            problem,
        }
    }

    /// An error of a row that is not in the format, after which no other can be read.
    pub(super) fn syntax(&self, position: Position, format: Format, message: &str) -> DataError {
        self.at(
            position,
            Problem::Syntax {
                format: format.name(),
                message: message.to_owned(),
            },
        )
    }

    /// An error of the whole file.
    pub(super) fn file(&self, problem: String) -> DataError {
        DataError::File {
            path: self.path.to_owned(),
            problem,
        }
    }

    pub(super) fn stop(&self, stop: Stop) -> DataError {
        match stop {
            Stop::Io(source) => DataError::Io {
                path: self.path.to_owned(),
                source,
            },
            Stop::TooLarge(limit) => {
                self.file(format!("more than {limit} bytes (`max_file_bytes`)"))
            }
        }
    }

    pub(super) fn finish(
        self,
        format: Format,
        bytes: u64,
        sha256: String,
    ) -> Result<DataSet, DataError> {
        if bytes == 0 {
            return Err(self.file("the file is empty".to_owned()));
        }
        if self.rows == 0 {
            return Err(self.file(format!("no row in {} bytes of {}", bytes, format.name())));
        }
        if let Some(column) = self.unseen.iter().flatten().next() {
            return Err(self.file(format!(
                "no row has the column `{column}`; there are: {}",
                listed(&self.columns)
            )));
        }
        let origin = Origin {
            file: file_name(self.path),
            bytes,
            sha256,
            format,
            layout: self.mapping.map(|mapping| mapping.layout),
            rows: self.rows,
            skipped: self.skipped,
            skipped_by_kind: self.skipped_by_kind,
            skips: self.skips,
        };
        Ok(self.unique.finish(vec![origin]))
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}
