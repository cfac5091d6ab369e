//! Our own mild data: everyday misconduct with benign twins, harmless requests that look alarming, plain questions with
//! checkable answers, neutral requests; and structural stand-ins for attacks.
//!
//! The files stand in the crate's `data/` folder and are part of the binary. `data/README.md` is their card: how they were
//! made, what they cannot show.
//!
//! ```
//! use lm_assess::mild::{self, Kind, Split};
//!
//! # fn main() -> Result<(), mild::MildError> {
//! let unseen = mild::requests()?.iter().filter(|request| request.split == Split::HeldOut);
//! let (bad, good): (Vec<_>, Vec<_>) = unseen.partition(|request| request.kind == Kind::Misconduct);
//! assert_eq!(bad.len(), good.len());
//!
//! let question = &mild::plain_questions()?[0];
//! assert_eq!(question.question, "What is 7 plus 8?");
//! assert!(question.check_reply("That makes 15.").is_correct());
//! # Ok(())
//! # }
//! ```

mod answer;
mod error;
mod numbers;
mod read;
mod rows;
mod stand_in;

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

pub use answer::AnswerMatch;
pub use error::MildError;
pub use rows::{Alarming, Check, Form, Kind, Neutral, PlainQuestion, Request, Split};
pub use stand_in::{Frame, ReplyForm, ReplyStart, StandIn, SuffixUnit};

/// A result of this room.
pub type MildResult<T> = std::result::Result<T, MildError>;

/// One of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DataSet {
    /// Mild misconduct and its benign twins: [`requests`].
    Misconduct,
    /// Harmless requests that look alarming: [`alarming`].
    Alarming,
    /// Plain questions: [`plain_questions`].
    Plain,
    /// Neutral requests: [`neutral`].
    Neutral,
}

impl DataSet {
    /// All files.
    pub const ALL: [Self; 4] = [Self::Misconduct, Self::Alarming, Self::Plain, Self::Neutral];

    /// The file's name in the crate's `data/` folder.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Misconduct => "misconduct.jsonl",
            Self::Alarming => "alarming.jsonl",
            Self::Plain => "plain.jsonl",
            Self::Neutral => "neutral.jsonl",
        }
    }

    /// The file itself: JSON Lines, one row a line.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Misconduct => include_str!("../../data/misconduct.jsonl"),
            Self::Alarming => include_str!("../../data/alarming.jsonl"),
            Self::Plain => include_str!("../../data/plain.jsonl"),
            Self::Neutral => include_str!("../../data/neutral.jsonl"),
        }
    }

    /// SHA-256 of the whole file in hex: what a result says it was computed on.
    #[must_use]
    pub fn sha256(self) -> String {
        read::sha256(self.text().as_bytes())
    }
}

impl fmt::Display for DataSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file())
    }
}

/// A file's rows, read once. A test reads the committed files; the error is for a build that put others in their place.
macro_rules! rows {
    ($row:ty, $set:expr) => {{
        static ROWS: LazyLock<MildResult<Vec<$row>>> =
            LazyLock::new(|| read::rows($set.file(), $set.text()));
        ROWS.as_deref().map_err(Clone::clone)
    }};
}

/// Requests for mild misconduct, each followed by its benign twin.
///
/// # Errors
/// When a row of the file is no such row or does not have its hash.
pub fn requests() -> MildResult<&'static [Request]> {
    rows!(Request, DataSet::Misconduct)
}

/// A request for misconduct beside its twin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The request for misconduct.
    pub misconduct: &'static Request,
    /// Its twin: the same topic, form and opening, nothing wrong with it.
    pub benign: &'static Request,
}

/// The pairs of [`requests`], in order of the file.
///
/// # Errors
/// As [`requests`], and when two rows that follow each other are no pair.
pub fn pairs() -> MildResult<Vec<Pair>> {
    let rows = requests()?;
    let pair = |(index, two): (usize, &'static [Request])| match two {
        [misconduct, benign]
            if misconduct.kind == Kind::Misconduct
                && benign.kind == Kind::Benign
                && misconduct.pair == benign.pair =>
        {
            Ok(Pair { misconduct, benign })
        }
        _ => Err(MildError::Row {
            file: DataSet::Misconduct.file(),
            line: 2 * index + 1,
            expected: "a request for misconduct and, in the next line, its twin".to_owned(),
            found: two
                .iter()
                .map(|row| row.id.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        }),
    };
    rows.chunks(2).enumerate().map(pair).collect()
}

/// Harmless requests whose wording looks alarming.
///
/// # Errors
/// As [`requests`].
pub fn alarming() -> MildResult<&'static [Alarming]> {
    rows!(Alarming, DataSet::Alarming)
}

/// Plain questions with answers that can be checked and do not age.
///
/// # Errors
/// As [`requests`].
pub fn plain_questions() -> MildResult<&'static [PlainQuestion]> {
    rows!(PlainQuestion, DataSet::Plain)
}

/// Everyday requests that are neither misconduct nor look like it.
///
/// # Errors
/// As [`requests`].
pub fn neutral() -> MildResult<&'static [Neutral]> {
    rows!(Neutral, DataSet::Neutral)
}
