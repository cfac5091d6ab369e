//! What can go wrong in this crate: each room has an enum of its own, and this one holds them.

use crate::stats::StatsError;

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The statistics refused an argument.
    #[error(transparent)]
    Stats(#[from] StatsError),
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
