//! How a file is to be read.

use std::collections::BTreeMap;

use serde::Serialize;

use super::error::DataError;

/// How rows are written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Format {
    /// A JSON object on each line.
    Jsonl,
    /// One JSON array of objects.
    Json,
    /// Comma-separated values with a header (RFC 4180).
    Csv,
    /// The same with tabs.
    Tsv,
    /// A prompt on each line.
    Lines,
    /// A YAML mapping with a list `seeds`, as PyRIT has it.
    Yaml,
    /// Apache Parquet; needs feature `parquet`.
    Parquet,
}

impl Format {
    /// Its name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "JSON Lines",
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::Tsv => "TSV",
            Self::Lines => "plain lines",
            Self::Yaml => "YAML",
            Self::Parquet => "Parquet",
        }
    }
}

/// What the columns of a file mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Layout {
    /// One column holds the request (`prompt`, `text` or `question`, unless [`ReadOptions::column`] says another), as a text or as a list
    /// of messages.
    Columns,
    /// Hugging Face: `messages`, a list of `{"role", "content"}`.
    Messages,
    /// ShareGPT: `conversations`, a list of `{"from", "value"}`.
    ShareGpt,
    /// AdvBench: `goal`, `target`.
    AdvBench,
    /// HarmBench: `Behavior`, `BehaviorID`, `SemanticCategory`, `FunctionalCategory`, `ContextString`. The context stands before the
    /// behaviour, as in HarmBench's direct request.
    HarmBench,
    /// JailbreakBench: `Goal`, `Target`, `Behavior`, `Category`, `Source`.
    JailbreakBench,
    /// PyRIT's seed data sets.
    PyritSeeds,
    /// PyRIT's human-scored replies: `objective`, `assistant_response`, `human_score`.
    PyritScores,
}

/// What a column can stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Field {
    /// The item's id. Without one, the hash of its content.
    Id,
    /// The request: a text, or a list of messages.
    Prompt,
    /// The conversation: a list of messages.
    Messages,
    /// A system message before it.
    System,
    /// A text that the request is about; see [`ReadOptions::column`].
    Context,
    /// How the reply begins, or all of it: the conversation ends inside it.
    Reply,
    /// What a reply is held against.
    Target,
    /// The class.
    Label,
    /// The group `category`.
    Category,
    /// The group `topic`.
    Topic,
    /// The group `source`.
    Source,
    /// The group `person`.
    Person,
}

/// What to do with a row that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnBadRow {
    /// The file is refused, with the row's line.
    #[default]
    Error,
    /// The row is left out, counted and listed: see [`Origin`](super::Origin).
    Skip,
}

/// How a file is to be read. Every setting has a default.
#[derive(Clone, Debug)]
#[must_use]
pub struct ReadOptions {
    pub(super) format: Option<Format>,
    pub(super) layout: Option<Layout>,
    pub(super) columns: BTreeMap<Field, String>,
    pub(super) groups: BTreeMap<String, String>,
    pub(super) on_bad_row: OnBadRow,
    pub(super) raw: bool,
    pub(super) refuse_unknown_columns: bool,
    pub(super) max_line_bytes: usize,
    pub(super) max_rows: u64,
    pub(super) max_file_bytes: u64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            format: None,
            layout: None,
            columns: BTreeMap::new(),
            groups: BTreeMap::new(),
            on_bad_row: OnBadRow::Error,
            raw: false,
            refuse_unknown_columns: false,
            max_line_bytes: 16 << 20,
            max_rows: 10_000_000,
            max_file_bytes: 4 << 30,
        }
    }
}

impl ReadOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the format; told from the file's name and first bytes unless set.
    pub fn format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// Sets what the columns mean; told from their names unless set.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = Some(layout);
        self
    }

    /// Says which column stands for a field, over what the layout says. A column of JSON is a key of the top level.
    ///
    /// [`Field::Context`] is put before the request, apart by an empty line, three hyphens and an empty line.
    pub fn column(mut self, field: Field, column: impl Into<String>) -> Self {
        self.columns.insert(field, column.into());
        self
    }

    /// Says which column is a group of this name, for stratified or grouped splits.
    pub fn group(mut self, name: impl Into<String>, column: impl Into<String>) -> Self {
        self.groups.insert(name.into(), column.into());
        self
    }

    /// Sets what becomes of a row that cannot be read; an error unless set.
    pub fn on_bad_row(mut self, on_bad_row: OnBadRow) -> Self {
        self.on_bad_row = on_bad_row;
        self
    }

    /// Reads requests as raw texts for the model ([`lm_core::Prompt::Raw`]) instead of users' turns. A raw text is trusted: control
    /// tokens in it are control tokens.
    pub fn raw(mut self, raw: bool) -> Self {
        self.raw = raw;
        self
    }

    /// Refuses columns that stand for no field. Unless set, they are kept in [`Item::extra`](super::Item::extra).
    pub fn refuse_unknown_columns(mut self, refuse: bool) -> Self {
        self.refuse_unknown_columns = refuse;
        self
    }

    /// Sets the bytes that a line, a CSV record, an element of a JSON array or a row may have; 16 MiB unless set. No more than this of a
    /// file is held in memory at once besides its items. A YAML file may have four times as much as a whole.
    pub fn max_line_bytes(mut self, bytes: usize) -> Self {
        self.max_line_bytes = bytes;
        self
    }

    /// Sets the number of rows a file may have; ten million unless set.
    pub fn max_rows(mut self, rows: u64) -> Self {
        self.max_rows = rows;
        self
    }

    /// Sets the bytes a file may have; 4 GiB unless set.
    pub fn max_file_bytes(mut self, bytes: u64) -> Self {
        self.max_file_bytes = bytes;
        self
    }

    pub(super) fn check(&self) -> Result<(), DataError> {
        let refuse = |option, expected: &str, found: String| {
            Err(DataError::Options {
                option,
                expected: expected.to_owned(),
                found,
            })
        };
        if self.max_line_bytes == 0 {
            return refuse("max_line_bytes", "at least 1", "0".into());
        }
        let both = [Field::Prompt, Field::Messages]
            .map(|field| self.columns.get(&field))
            .map(|column| column.is_some());
        if both == [true, true] {
            return refuse("column", "either a prompt or messages", "both".into());
        }
        for alone in [Field::System, Field::Reply] {
            if self.raw && self.columns.contains_key(&alone) {
                let found = format!("{alone:?}");
                return refuse("raw", "no column for a message of its own", found);
            }
        }
        if self.raw && self.columns.contains_key(&Field::Messages) {
            return refuse("raw", "a column of texts", "Messages".into());
        }
        let mut used: BTreeMap<&str, String> = BTreeMap::new();
        let fields = self
            .columns
            .iter()
            .map(|(field, column)| (column.as_str(), format!("{field:?}")));
        let groups = self
            .groups
            .iter()
            .map(|(name, column)| (column.as_str(), format!("group `{name}`")));
        for (column, what) in fields.chain(groups) {
            // A group may be what a field is: a label to stratify by is often the category.
            if let Some(before) = used.get(column)
                && !what.starts_with("group")
            {
                let found = format!("`{column}` for {before} and {what}");
                return refuse("column", "one field a column", found);
            }
            used.entry(column).or_insert(what);
        }
        for name in ["category", "topic", "source", "person"] {
            let named = self
                .columns
                .keys()
                .any(|field| group_name(*field) == Some(name));
            if named && self.groups.contains_key(name) {
                let found = format!("two columns for `{name}`");
                return refuse("group", "one column a group", found);
            }
        }
        Ok(())
    }
}

/// The group that a field is.
pub(super) fn group_name(field: Field) -> Option<&'static str> {
    match field {
        Field::Category => Some("category"),
        Field::Topic => Some("topic"),
        Field::Source => Some("source"),
        Field::Person => Some("person"),
        _ => None,
    }
}
