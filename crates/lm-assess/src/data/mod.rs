//! Data sets: prompts and conversations from the formats that people have, with identities and splits.
//!
//! ```no_run
//! use lm_assess::data::{DataSet, Field, ReadOptions};
//! use lm_assess::data::split::{By, SplitOptions};
//!
//! let options = ReadOptions::new().column(Field::Prompt, "Question");
//! let data = DataSet::read("questions.csv", &options)?;
//! let split = SplitOptions::new([("train", 0.8), ("test", 0.2)])
//!     .stratify(By::Label)
//!     .together(By::group("topic"))
//!     .split(&data)?;
//! # Ok::<(), lm_assess::Error>(())
//! ```

mod assemble;
mod collect;
mod error;
mod identity;
mod item;
mod mapping;
mod options;
mod read;
mod set;
pub mod split;

pub use error::{DataError, Place, Position, Problem};
pub use identity::{content_id, near_key};
pub use item::Item;
pub use options::{Field, Format, Layout, OnBadRow, ReadOptions};
pub use set::{DataSet, Duplicate, Origin, Skip};
