//! What a line of the journal says.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::shard::Shard;

/// The format this version writes, and the only one it reads.
pub const FORMAT: &str = "lm-safety/journal/1";

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// The first record: what run this is.
    Run,
    /// A machine other than the one before goes on.
    Machine,
    /// A result.
    Done,
    /// A failure, which the next session tries again.
    Failed,
}

/// Every field of every kind. Flat, because a [`RawValue`] can stand in nothing else; [`Record::entry`] looks whether the
/// fields fit the kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Number of the record, from 0.
    pub(super) seq: u64,
    /// How many records were known to survive a loss of power when this one was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) synced: Option<u64>,
    pub(super) kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) identity_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shard: Option<Shard>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) machine: Option<Machine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) item: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) repeat: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// What did the work: noted, because it may explain a result, but not what makes a run another run (see
/// [`RunConfig`](super::RunConfig)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Machine {
    /// File or folder name of the model.
    pub model: Option<String>,
    /// Device of the run.
    pub device: Option<String>,
    /// Threads of one operation.
    pub threads: Option<usize>,
}

/// What became of one item, once.
#[derive(Debug, PartialEq)]
pub(super) enum Entry {
    Done {
        item: String,
        repeat: u32,
        data: Data,
    },
    Failed {
        item: String,
        repeat: u32,
        error: String,
    },
    Machine(Machine),
}

/// A result's JSON, to the byte as it was written.
#[derive(Clone, Debug)]
pub(super) struct Data(pub(super) Box<RawValue>);

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Record {
    pub(super) fn new(seq: u64, kind: Kind) -> Self {
        Self {
            seq,
            synced: None,
            kind,
            format: None,
            identity: None,
            identity_sha256: None,
            shard: None,
            machine: None,
            item: None,
            repeat: None,
            data: None,
            error: None,
        }
    }

    /// The record's content, if it is not the first.
    pub(super) fn entry(self) -> Result<Entry, String> {
        let kind = self.kind;
        let only_first = self.format.is_some()
            || self.identity.is_some()
            || self.identity_sha256.is_some()
            || self.shard.is_some();
        match (
            kind,
            self.item,
            self.repeat,
            self.data,
            self.error,
            self.machine,
        ) {
            _ if only_first => None,
            (Kind::Done, Some(item), Some(repeat), Some(data), None, None) => Some(Entry::Done {
                item,
                repeat,
                data: Data(data),
            }),
            (Kind::Failed, Some(item), Some(repeat), None, Some(error), None) => {
                Some(Entry::Failed {
                    item,
                    repeat,
                    error,
                })
            }
            (Kind::Machine, None, None, None, None, Some(machine)) => Some(Entry::Machine(machine)),
            _ => None,
        }
        .ok_or_else(|| {
            format!("expected the fields of a later record, found kind {kind:?} with other ones")
        })
    }
}
