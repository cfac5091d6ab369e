//! What can go wrong in this crate: each room has an enum of its own, and this one holds them.

use crate::stats::StatsError;

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something is wrong with data.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// An error of a run.
    #[error(transparent)]
    Run(#[from] crate::run::RunError),
    /// Our own data or a stand-in.
    #[error(transparent)]
    Mild(#[from] crate::mild::MildError),
    /// The statistics refused an argument.
    #[error(transparent)]
    Stats(#[from] StatsError),
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
