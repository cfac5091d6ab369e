//! What can go wrong with a run.

use std::fmt;
use std::path::{Path, PathBuf};

/// What can go wrong with a run: which file, record, item or field, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The operating system refused a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// A record could not be written, or not be brought to the disk. The run can be resumed from this journal.
    #[error(
        "{}: record {record} of {wanted} bytes could not be {}: {source}; {}",
        path.display(), doing, after(*repaired)
    )]
    Write {
        /// The journal.
        path: PathBuf,
        /// Number of the record.
        record: u64,
        /// Bytes of the record.
        wanted: usize,
        /// `written` or `synchronised`.
        doing: &'static str,
        /// Whether the journal was cut back to its last good record. If not, the next opening does so.
        repaired: bool,
        /// What the system said.
        source: std::io::Error,
    },

    /// The journal is no longer written to, because an earlier failure left it in an unknown state.
    #[error("{}: an earlier write failed; open the journal again to resume", path.display())]
    Broken {
        /// The journal.
        path: PathBuf,
    },

    /// Another process, or another part of this one, writes to the journal.
    #[error("{}: in use by {holder}", path.display())]
    Busy {
        /// The journal.
        path: PathBuf,
        /// What the holder said of itself: process id and host.
        holder: String,
    },

    /// A file that does not begin as a journal does. It is left as it is.
    #[error("{}: expected a journal, whose first record is of kind `run`; found {found}", path.display())]
    NotAJournal {
        /// The file.
        path: PathBuf,
        /// What stands there.
        found: String,
    },

    /// A journal of a format that this version does not read.
    #[error("{}: expected the format {expected}, found {found}", path.display())]
    Format {
        /// The journal.
        path: PathBuf,
        /// The format of this version.
        expected: String,
        /// The format of the file.
        found: String,
    },

    /// Damage before the end of a journal, where no interruption can have caused it. Nothing is skipped or cut.
    #[error("{}: record {record} at byte {offset} is damaged ({problem}), and whole records follow it", path.display())]
    Corrupt {
        /// The journal.
        path: PathBuf,
        /// Number of the record that should stand there.
        record: u64,
        /// Where it begins, in bytes.
        offset: u64,
        /// What is wrong with it.
        problem: String,
    },

    /// A record whose checksum holds and whose content makes no sense.
    #[error("{}: record {record} at byte {offset}: {problem}", path.display())]
    Record {
        /// The journal.
        path: PathBuf,
        /// Number of the record.
        record: u64,
        /// Where it begins, in bytes.
        offset: u64,
        /// What was expected and what was found.
        problem: String,
    },

    /// A journal that belongs to another run than the one that asks for it.
    #[error("{}: the journal of another run: {differences}", path.display())]
    OtherRun {
        /// The journal.
        path: PathBuf,
        /// Every field that differs.
        differences: Differences,
    },

    /// Results that were obtained under different configurations.
    #[error("results of different runs do not merge: {differences}")]
    Mixed {
        /// Every field that differs; expected is what came first.
        differences: Differences,
    },

    /// Two results of one item that are not the same bytes.
    #[error(
        "item `{item}`, repeat {repeat}: expected one result, found two, with SHA-256 {first} and {second}"
    )]
    Conflict {
        /// Id of the item.
        item: String,
        /// Number of the repetition.
        repeat: u32,
        /// SHA-256 of one result's JSON; the smaller of the two.
        first: String,
        /// Of the other's.
        second: String,
    },

    /// What happened with one of several journals.
    #[error("{}: {source}", path.display())]
    While {
        /// The journal.
        path: PathBuf,
        /// What happened.
        source: Box<RunError>,
    },

    /// A list of journals with nothing in it.
    #[error("no journal to merge")]
    NothingToMerge,

    /// Items that cannot be told apart, or not be named.
    #[error("item {index}: {problem}")]
    Item {
        /// Position in the list, from 0.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },

    /// A result that cannot become a record.
    #[error("item `{item}`, repeat {repeat}: {problem}")]
    Result {
        /// Id of the item.
        item: String,
        /// Number of the repetition.
        repeat: u32,
        /// Why.
        problem: String,
    },

    /// A value outside its range.
    #[error("{name}: expected {expected}, found {found}")]
    Argument {
        /// The option or flag.
        name: String,
        /// What would have been usable.
        expected: String,
        /// What was given.
        found: String,
    },

    /// A value that has no JSON form.
    #[error("{what} cannot be written as JSON: {source}")]
    Json {
        /// What it is.
        what: String,
        /// What the serialiser said.
        source: serde_json::Error,
    },

    /// An error of lm-core.
    #[error(transparent)]
    Core(#[from] lm_core::Error),
}

/// A result of this room.
pub type Result<T, E = RunError> = std::result::Result<T, E>;

impl RunError {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(super) fn argument(
        name: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Argument {
            name: name.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    pub(super) fn json(what: &str) -> impl FnOnce(serde_json::Error) -> Self {
        let what = what.to_owned();
        move |source| Self::Json { what, source }
    }
}

fn after(repaired: bool) -> &'static str {
    if repaired {
        "the journal ends with its last good record, and the run can be resumed"
    } else {
        "the journal could not be repaired now; opening it to resume the run will do so"
    }
}

/// One field in which two configurations differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field, with dots for nesting.
    pub field: String,
    /// Its value, as JSON, in the configuration that was asked for; `absent` if it has none.
    pub expected: String,
    /// Its value in the file.
    pub found: String,
}

/// Every field in which two configurations differ; never empty in an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences(pub Vec<Difference>);

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, difference) in self.0.iter().enumerate() {
            let Difference {
                field,
                expected,
                found,
            } = difference;
            let between = if index == 0 { "" } else { "; " };
            write!(f, "{between}`{field}`: expected {expected}, found {found}")?;
        }
        Ok(())
    }
}
