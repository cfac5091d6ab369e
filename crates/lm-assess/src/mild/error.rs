//! What can go wrong with our own data and its stand-ins.

/// Everything that can go wrong in this room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MildError {
    /// A row is not what its file holds.
    #[error("{file}:{line}: expected {expected}, found {found}")]
    Row {
        /// The file, without its folder.
        file: &'static str,
        /// The line, from 1.
        line: usize,
        /// What should stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A row was changed without its hash, or the hash without the row.
    #[error(
        "{file}:{line}: row `{id}` carries the SHA-256 {stored}, but its fields have {computed}"
    )]
    Hash {
        /// The file, without its folder.
        file: &'static str,
        /// The line, from 1.
        line: usize,
        /// The row.
        id: String,
        /// The hash in the row.
        stored: String,
        /// The hash of its fields.
        computed: String,
    },
    /// A parameter of a stand-in is outside its range.
    #[error("{stand_in}: expected `{name}` {expected}, found {found}")]
    Parameter {
        /// The stand-in.
        stand_in: &'static str,
        /// The parameter.
        name: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: usize,
    },
    /// A stand-in changes a request, and the conversation does not end in one.
    #[error("{stand_in}: expected a conversation that ends in a user's message, found {found}")]
    Conversation {
        /// The stand-in.
        stand_in: &'static str,
        /// How the conversation ends.
        found: String,
    },
}
