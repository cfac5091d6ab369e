//! What can go wrong with data, and where.

use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

/// Where a row stands in its file. Counts from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Position {
    /// The line on which the row begins, the header included.
    Line(u64),
    /// The row of a file that has no lines.
    Row(u64),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// As its text: `line 3`.
impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A row's file and position. The file is a name without its folder in results, and the path as it was given in errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file.
    pub file: String,
    /// Where in it.
    pub position: Position,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            // The form that editors and terminals follow.
            Position::Line(line) => write!(f, "{}:{line}", self.file),
            Position::Row(row) => write!(f, "{}: row {row}", self.file),
        }
    }
}

/// What is wrong with one row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The row is not written in the file's format.
    #[error("not valid {format}: {message}")]
    Syntax {
        /// The format.
        format: &'static str,
        /// What the parser met.
        message: String,
    },

    /// Bytes that are no text.
    #[error("not valid UTF-8 at byte {offset} of the file")]
    Utf8 {
        /// Offset from the start of the file, from 0.
        offset: u64,
    },

    /// A row of a size that no prompt has.
    #[error("longer than {limit} bytes (`max_line_bytes`)")]
    TooLong {
        /// The limit, bytes.
        limit: usize,
    },

    /// A CSV row with more or fewer fields than the header.
    #[error("expected {expected} fields as in the header, found {found}")]
    FieldCount {
        /// Columns of the header.
        expected: usize,
        /// Fields of the row.
        found: usize,
    },

    /// A value that is not what its field needs.
    #[error("column `{column}`: expected {expected}, found {found}")]
    Value {
        /// The column or key, with dots for nesting.
        column: String,
        /// What would have been usable.
        expected: String,
        /// What stands there.
        found: String,
    },

    /// A row without a column that it needs.
    #[error("no column `{column}`; there are: {}", listed(found))]
    NoColumn {
        /// The column.
        column: String,
        /// Those that are there.
        found: Vec<String>,
    },

    /// A row with a column that nothing is made of, where that was refused.
    #[error("column `{column}` stands for no field, and `refuse_unknown_columns` is set")]
    UnknownColumn {
        /// The column.
        column: String,
    },

    /// One id, two contents.
    #[error("id `{id}` is that of {first} too, whose content differs")]
    SameId {
        /// The id.
        id: String,
        /// Where it stood first.
        first: String,
    },

    /// One content, two labels.
    #[error(
        "the same content as {first}, which is labelled {expected}; here it is labelled {found}"
    )]
    Labels {
        /// Where the content stood first.
        first: String,
        /// Its label there.
        expected: String,
        /// Its label here.
        found: String,
    },
}

impl Problem {
    /// A short name of the kind, under which skipped rows are counted.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "syntax",
            Self::Utf8 { .. } => "utf8",
            Self::TooLong { .. } => "too_long",
            Self::FieldCount { .. } => "field_count",
            Self::Value { .. } => "value",
            Self::NoColumn { .. } => "no_column",
            Self::UnknownColumn { .. } => "unknown_column",
            Self::SameId { .. } => "same_id",
            Self::Labels { .. } => "labels",
        }
    }
}

/// Names for a message; a file may have thousands.
pub(super) fn listed(names: &[String]) -> String {
    const SHOWN: usize = 12;
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{}`", cut(name)))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

/// The beginning of a text that somebody else wrote, on one line, for a message.
pub(super) fn cut(text: &str) -> String {
    const SHOWN: usize = 40;
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// Everything that can go wrong with data: which file and row, what was expected, what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// A file that cannot be read as a whole: its format, its size, its columns.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would mend it.
        problem: String,
    },

    /// A row that cannot be read.
    #[error("{place}: {problem}")]
    Row {
        /// Its file and position.
        place: Place,
        /// What is wrong with it.
        problem: Problem,
    },

    /// Items put together in memory that do not fit: the index counts from 0.
    #[error("item {index}: {problem}")]
    Item {
        /// Which item.
        index: usize,
        /// What is wrong with it.
        problem: Problem,
    },

    /// Options that contradict each other or themselves.
    #[error("`{option}`: expected {expected}, found {found}")]
    Options {
        /// The option.
        option: &'static str,
        /// What would have been usable.
        expected: String,
        /// What was given.
        found: String,
    },

    /// A split that these items do not allow.
    #[error("cannot split: {0}")]
    Split(String),

    /// A baseline that cannot be fitted or tried on these items.
    #[error("text baseline: {0}")]
    Baseline(String),
}
