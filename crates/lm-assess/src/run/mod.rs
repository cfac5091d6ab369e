//! Runs that survive: a journal, exact resume, shards and their merge.
//!
//! A [`Run`] does its work on each item once and writes each result into a [`Journal`] before it goes on. Killed anywhere, it
//! goes on where it was, and the report is byte for byte that of a run nobody disturbed: seeds hang on items, results hold no
//! time, and a journal of another model, seed, template or version of code is refused, with the field that differs. Parts of
//! a run ([`Shard`]) have a journal each; [`merge`] joins them in any order.
//!
//! The format is one JSON object a line; `docs/journal.md` says how another tool reads it.

mod canonical;
mod clock;
mod driver;
mod error;
mod frame;
mod identity;
mod journal;
mod lock;
mod plan;
mod record;
mod results;
mod scan;
mod shard;
mod storage;
mod times;

pub use canonical::canonical;
pub use clock::{Clock, SystemClock};
pub use driver::{Outcome, Run, Task};
pub use error::{Difference, Differences, Result, RunError};
pub use frame::MAX_RECORD;
pub use identity::{Item, RunConfig};
pub use journal::{Fsync, Header, Journal, JournalOptions, Status};
pub use plan::{Estimate, Plan, Prices, Tokens};
pub use record::{FORMAT, Machine};
pub use results::{Counts, RESULTS_FORMAT, Results, merge};
pub use scan::Cut;
pub use shard::Shard;
pub use storage::Storage;
