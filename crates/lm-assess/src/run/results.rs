//! What runs have brought, from one journal or many.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use lm_core::files;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::canonical::{canonical, differences, sha256};
use super::driver::Run;
use super::error::{Result, RunError};
use super::identity::Item;
use super::record::{Data, Entry};
use super::scan::scan;

/// The format of the report.
pub const RESULTS_FORMAT: &str = "lm-safety/results/1";

/// An item's id and a repetition.
type Key = (String, u32);

/// Results of one run, from any number of journals.
///
/// Joining is commutative, associative and idempotent: whatever the order, the grouping, or the number of times a journal is
/// given, the outcome is the same, to the byte of [`Results::report`]. A result outweighs a failure; of two failures the text
/// that sorts first is kept; of two results that differ neither.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    identity: Value,
    done: BTreeMap<Key, Data>,
    /// Keys without a result.
    failed: BTreeMap<Key, String>,
}

/// How complete results are. Items are counted once for each repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// What the run has in all, whatever the shard.
    pub expected: u64,
    /// With a result.
    pub done: u64,
    /// Tried, without a result.
    pub failed: u64,
    /// Not tried, or not in these journals.
    pub missing: u64,
}

impl Results {
    /// Reads a journal, which another process may be writing to. What is damaged at its end does not count.
    ///
    /// # Errors
    /// [`RunError::Io`], [`RunError::NotAJournal`], [`RunError::Format`], [`RunError::Corrupt`], [`RunError::Record`].
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(RunError::io(path))?;
        let mut done = BTreeMap::new();
        let mut failed: BTreeMap<Key, String> = BTreeMap::new();
        let scanned = scan(path, &file, |entry| {
            match entry {
                Entry::Machine(_) => {}
                Entry::Done { item, repeat, data } => {
                    let key = (item, repeat);
                    if done.contains_key(&key) {
                        let (item, repeat) = key;
                        return Err(format!(
                            "expected item `{item}`, repeat {repeat} once, found it a second time"
                        ));
                    }
                    failed.remove(&key);
                    done.insert(key, data);
                }
                Entry::Failed {
                    item,
                    repeat,
                    error,
                } => {
                    let key = (item, repeat);
                    if !done.contains_key(&key) {
                        keep_first(&mut failed, key, error);
                    }
                }
            }
            Ok(())
        })?;
        Ok(Self {
            identity: scanned.first.identity,
            done,
            failed,
        })
    }

    /// Joins the results of two journals, or of two joins.
    ///
    /// # Errors
    /// [`RunError::Mixed`] if they are not of one run; [`RunError::Conflict`] if an item has two different results.
    pub fn join(mut self, other: Self) -> Result<Self> {
        let differences = differences(&self.identity, &other.identity);
        if !differences.0.is_empty() {
            return Err(RunError::Mixed { differences });
        }
        for (key, data) in other.done {
            match self.done.get(&key) {
                Some(own) if *own != data => {
                    let mut hashes = [own, &data].map(|data| sha256(data.0.get().as_bytes()));
                    hashes.sort_unstable();
                    let [first, second] = hashes;
                    let (item, repeat) = key;
                    return Err(RunError::Conflict {
                        item,
                        repeat,
                        first,
                        second,
                    });
                }
                Some(_) => {}
                None => {
                    self.failed.remove(&key);
                    self.done.insert(key, data);
                }
            }
        }
        for (key, error) in other.failed {
            if !self.done.contains_key(&key) {
                keep_first(&mut self.failed, key, error);
            }
        }
        Ok(self)
    }

    /// What run they are of.
    pub fn identity(&self) -> &Value {
        &self.identity
    }

    /// The JSON of a result, as it was written.
    pub fn get(&self, item: &str, repeat: u32) -> Option<&RawValue> {
        self.done
            .get(&(item.to_owned(), repeat))
            .map(|data| &*data.0)
    }

    /// All results as values, by item and repeat, in the order of ids (by their bytes) and repeats.
    ///
    /// # Errors
    /// [`RunError::Result`] for one that is no `R`.
    pub fn values<R: DeserializeOwned>(&self) -> Result<Vec<(&str, u32, R)>> {
        let read = |((item, repeat), data): (&'_ Key, &Data)| {
            serde_json::from_str(data.0.get()).map_err(|error| RunError::Result {
                item: item.clone(),
                repeat: *repeat,
                problem: error.to_string(),
            })
        };
        self.done
            .iter()
            .map(|(key, data)| Ok((key.0.as_str(), key.1, read((key, data))?)))
            .collect()
    }

    /// Item, repeat and text of what failed and has no result.
    pub fn failures(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.failed
            .iter()
            .map(|((item, repeat), error)| (item.as_str(), *repeat, error.as_str()))
    }

    /// How complete they are.
    pub fn counts(&self) -> Counts {
        let number = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or_default();
        let items = number(self.identity.pointer("/data/items"));
        let expected = items.saturating_mul(number(self.identity.get("repeats")));
        let (done, failed) = (self.done.len() as u64, self.failed.len() as u64);
        Counts {
            expected,
            done,
            failed,
            missing: expected.saturating_sub(done).saturating_sub(failed),
        }
    }

    /// Which of a run's items and repeats have no result, failed ones included.
    ///
    /// # Errors
    /// [`RunError::Mixed`] if the results are of another run.
    pub fn missing<'a, T: Item>(&self, run: &Run<'a, T>) -> Result<Vec<(&'a str, u32)>> {
        let differences = differences(run.identity(), &self.identity);
        if !differences.0.is_empty() {
            return Err(RunError::Mixed { differences });
        }
        let absent = |item: &str, repeat| self.get(item, repeat).is_none();
        Ok(run.tasks_where(absent))
    }

    /// One JSON with all of it, and no time and no machine in it: a function of what was done, to the byte, not of how often
    /// the run was interrupted or into how many parts it was cut. Each result is on a line of its own.
    ///
    /// # Errors
    /// [`RunError::Json`].
    pub fn report(&self) -> Result<Vec<u8>> {
        #[derive(Serialize)]
        struct Line<'a> {
            item: &'a str,
            repeat: u32,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<&'a RawValue>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<&'a str>,
        }
        let counts = self.counts();
        let identity = canonical(&self.identity);
        let json = |value: &dyn Fn() -> serde_json::Result<String>| {
            value().map_err(RunError::json("the report"))
        };
        let head = [
            ("format", json(&|| serde_json::to_string(RESULTS_FORMAT))?),
            (
                "identity_sha256",
                json(&|| serde_json::to_string(&sha256(identity.as_bytes())))?,
            ),
            ("identity", identity),
            ("counts", json(&|| serde_json::to_string(&counts))?),
            ("complete", (counts.done == counts.expected).to_string()),
        ];
        let mut text = String::from("{");
        for (name, value) in head {
            text.push_str(&format!("\"{name}\":{value},\n"));
        }
        let done = self.done.iter().map(|((item, repeat), data)| Line {
            item,
            repeat: *repeat,
            data: Some(&data.0),
            error: None,
        });
        let failed = self.failed.iter().map(|((item, repeat), error)| Line {
            item,
            repeat: *repeat,
            data: None,
            error: Some(error),
        });
        let lines: [(&str, Vec<Line<'_>>); 2] =
            [("results", done.collect()), ("failures", failed.collect())];
        for (index, (name, lines)) in lines.iter().enumerate() {
            text.push_str(&format!("\"{name}\":["));
            for (index, line) in lines.iter().enumerate() {
                text.push_str(if index == 0 { "\n" } else { ",\n" });
                text.push_str(&json(&|| serde_json::to_string(line))?);
            }
            text.push_str(if lines.is_empty() { "]" } else { "\n]" });
            text.push_str(if index == 0 { ",\n" } else { "}\n" });
        }
        Ok(text.into_bytes())
    }

    /// Writes [`Results::report`] to a file, which is there whole or not at all.
    ///
    /// # Errors
    /// As [`Results::report`]; [`RunError::Core`] where the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(files::replace(path, &self.report()?)?)
    }
}

fn keep_first(failed: &mut BTreeMap<Key, String>, key: Key, error: String) {
    let kept = failed.entry(key).or_insert_with(|| error.clone());
    if error < *kept {
        *kept = error;
    }
}

/// Reads and joins the journals of a run's parts, in any order.
///
/// # Errors
/// As [`Results::read`] and [`Results::join`], the latter within [`RunError::While`] with the journal that did not fit;
/// [`RunError::NothingToMerge`] without any.
pub fn merge<P: AsRef<Path>>(journals: &[P]) -> Result<Results> {
    let mut all: Option<Results> = None;
    for path in journals.iter().map(AsRef::as_ref) {
        let own = Results::read(path)?;
        all = Some(match all {
            None => own,
            Some(all) => all.join(own).map_err(|source| RunError::While {
                path: path.to_owned(),
                source: Box::new(source),
            })?,
        });
    }
    all.ok_or(RunError::NothingToMerge)
}
