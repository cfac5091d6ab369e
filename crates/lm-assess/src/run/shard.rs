//! Which part of the items a process does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::RunError;

/// Part `index` of `count`, written `index/count` with the index from 0: `0/1` is everything.
///
/// An item belongs to the part that its id names: the first eight bytes of SHA-256 of the id (UTF-8), as a big-endian
/// number, modulo `count`. Neither the order of items nor what others are in the list has a say, so a list may grow. All
/// repeats of an item are in one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: u32,
    count: u32,
}

impl Shard {
    /// Everything.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Part `index`, from 0, of `count`.
    ///
    /// # Errors
    /// [`RunError::Argument`] unless `index < count`.
    pub fn new(index: u32, count: u32) -> Result<Self, RunError> {
        if index < count {
            Ok(Self { index, count })
        } else {
            Err(refused(&format!("{index}/{count}")))
        }
    }

    /// Number of this part, from 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// How many parts there are.
    pub fn count(self) -> u32 {
        self.count
    }

    /// Whether the item called `id` belongs to this part.
    pub fn contains(self, id: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
        let (first, _) = digest.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        u64::from_be_bytes(*first) % u64::from(self.count) == u64::from(self.index)
    }

    /// A name for the journal of this part: `journal-0-of-1.jsonl`.
    pub fn file_name(self) -> String {
        format!("journal-{}-of-{}.jsonl", self.index, self.count)
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = RunError;

    fn from_str(text: &str) -> Result<Self, RunError> {
        let number = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| text.parse().ok()).flatten()
        };
        let parts = text
            .split_once('/')
            .and_then(|(index, count)| Some((number(index)?, number(count)?)));
        let (index, count) = parts.ok_or_else(|| refused(text))?;
        Self::new(index, count)
    }
}

fn refused(found: &str) -> RunError {
    RunError::argument(
        "shard",
        "index/count with index from 0 and below count",
        format!("`{found}`"),
    )
}

impl TryFrom<String> for Shard {
    type Error = RunError;

    fn try_from(text: String) -> Result<Self, RunError> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_where_its_hash_says() {
        // Python: int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "big") % n for n in (1, 2, 7).
        for (id, places) in [
            ("a", [0, 0, 4]),
            ("Hello", [0, 1, 3]),
            ("é", [0, 1, 3]),
            ("item-17", [0, 0, 5]),
        ] {
            for (count, place) in [1, 2, 7].into_iter().zip(places) {
                let shards = (0..count).map(|index| Shard { index, count });
                let found: Vec<_> = shards
                    .filter(|shard| shard.contains(id))
                    .map(Shard::index)
                    .collect();
                assert_eq!(found, [place], "{id} of {count}");
            }
        }
    }

    #[test]
    fn a_part_that_does_not_exist_is_refused() {
        assert_eq!("2/7".parse::<Shard>().unwrap().to_string(), "2/7");
        for text in [
            "",
            "1",
            "1/1",
            "0/0",
            "-1/2",
            "+0/2",
            "0/2/3",
            "a/b",
            "0/4294967296",
        ] {
            assert_eq!(
                text.parse::<Shard>().unwrap_err().to_string(),
                format!(
                    "shard: expected index/count with index from 0 and below count, found `{text}`"
                )
            );
        }
    }
}
