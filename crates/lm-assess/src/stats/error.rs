/// What the statistics refuse.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StatsError {
    /// A value that the method cannot use.
    #[error("`{argument}`: expected {expected}, found {found}")]
    Argument {
        /// The argument, with the index for an element of a slice.
        argument: String,
        /// What would have been usable.
        expected: String,
        /// What was given.
        found: String,
    },

    /// Two slices that belong together, item by item, and are not equally long.
    #[error("`{second}`: expected {expected} elements, as `{first}` has, found {found}")]
    Lengths {
        /// The argument that sets the length.
        first: &'static str,
        /// The other one.
        second: &'static str,
        /// Length of the first.
        expected: usize,
        /// Length of the second.
        found: usize,
    },
}

impl StatsError {
    pub(super) fn argument(
        argument: impl Into<String>,
        expected: impl Into<String>,
        found: impl std::fmt::Display,
    ) -> Self {
        Self::Argument {
            argument: argument.into(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }
}

/// A result of the statistics.
pub type Result<T, E = StatsError> = std::result::Result<T, E>;
