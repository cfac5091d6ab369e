//! Token ids that know whether BOS is among them.

use std::ops::Deref;

use serde::Serialize;

/// Token ids of one text, and whether they begin with BOS.
///
/// The flag is read from the ids themselves, never from a model's name or a setting, so a caller that joins pieces or
/// feeds a model can ask instead of guessing; BOS twice is the commonest silent fault of chat code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct TokenIds {
    ids: Vec<u32>,
    has_bos: bool,
}

impl TokenIds {
    /// Wraps ids; `bos` is the model's BOS id, if it has one.
    #[must_use]
    pub fn new(ids: Vec<u32>, bos: Option<u32>) -> Self {
        let has_bos = bos.is_some() && ids.first().copied() == bos;
        Self { ids, has_bos }
    }

    /// Whether the first id is the model's BOS.
    #[must_use]
    pub fn has_bos(&self) -> bool {
        self.has_bos
    }

    /// The ids.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The ids, owned.
    #[must_use]
    pub fn into_ids(self) -> Vec<u32> {
        self.ids
    }
}

impl Deref for TokenIds {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.ids
    }
}

impl AsRef<[u32]> for TokenIds {
    fn as_ref(&self) -> &[u32] {
        &self.ids
    }
}

impl From<TokenIds> for Vec<u32> {
    fn from(ids: TokenIds) -> Self {
        ids.ids
    }
}
