//! Reading a journal: every whole record, and what to make of a damaged one.
//!
//! An interrupted write leaves damage at the end only. So does a loss of power, but there the end may be longer: of what was
//! written since the last `fsync`, any part may be missing, a later one may be there. Every record therefore says how many
//! before it had been synchronised (`synced`). Damage is
//!
//! - a *torn tail* if no whole record follows, or only such as were written before the damaged one was synchronised. Nothing
//!   in it was acknowledged as safe from a loss of power; it is cut off;
//! - *corruption* otherwise, and an error: an interruption cannot have caused it, so someone has to look.
//!
//! Damage to the very last record looks like a torn tail whatever caused it. The item is then done again.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use serde_json::Value;

use super::canonical::{canonical, sha256};
use super::error::{Result, RunError};
use super::frame::{MAX_LINE, unframe, within};
use super::record::{Entry, FORMAT, Kind, Machine, Record};
use super::shard::Shard;

/// The first record.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct First {
    pub(super) identity: Value,
    pub(super) shard: Shard,
    pub(super) machine: Machine,
}

/// What was cut off a journal's end, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cut {
    /// Where the journal's last good record ends, in bytes.
    pub offset: u64,
    /// How many bytes follow.
    pub bytes: u64,
    /// How many whole records are among them. More than 0 only after a loss of power, under a policy that synchronises less
    /// often than at every record.
    pub records: u64,
    /// What is wrong with the first record of the tail.
    pub problem: String,
}

/// Where a journal's good part ends.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) first: First,
    /// Records of the good part.
    pub(super) records: u64,
    /// Bytes of the good part.
    pub(super) bytes: u64,
    pub(super) cut: Option<Cut>,
}

/// Reads the journal at `path`, already open as `file`, and shows each entry with its number and offset.
pub(super) fn scan(
    path: &Path,
    file: &File,
    mut see: impl FnMut(Entry) -> std::result::Result<(), String>,
) -> Result<Scanned> {
    let mut lines = Lines {
        reader: BufReader::with_capacity(1 << 16, file),
        offset: 0,
        line: Vec::new(),
    };
    lines.next().map_err(RunError::io(path))?;
    let first = first(path, &lines.line)?;
    let mut records = 1;
    loop {
        let offset = lines.offset;
        if !lines.next().map_err(RunError::io(path))? {
            return Ok(Scanned {
                first,
                records,
                bytes: offset,
                cut: None,
            });
        }
        let payload = match unframe(&lines.line) {
            Ok(payload) => payload,
            Err(problem) => {
                let cut = tail(path, &mut lines, offset, records, problem)?;
                return Ok(Scanned {
                    first,
                    records,
                    bytes: offset,
                    cut: Some(cut),
                });
            }
        };
        let entry = parse(payload).and_then(|record| {
            if record.seq == records {
                record.entry()
            } else {
                Err(format!("expected number {records}, found {}", record.seq))
            }
        });
        entry
            .and_then(&mut see)
            .map_err(|problem| RunError::Record {
                path: path.to_owned(),
                record: records,
                offset,
                problem,
            })?;
        records += 1;
    }
}

/// Looks at what follows a damaged record: a tail to cut, or corruption.
fn tail(
    path: &Path,
    lines: &mut Lines<'_>,
    offset: u64,
    record: u64,
    problem: &str,
) -> Result<Cut> {
    let mut whole = 0;
    // The damaged line is looked into as well: its own newline may be what is damaged of the record before.
    let mut found = within(&lines.line).map(parse);
    loop {
        // What is whole but makes no sense, or is older than its place, is not known to be torn either.
        if let Some(later) = found {
            let unsynced = |later: Record| {
                later.seq > record && later.synced.is_some_and(|synced| synced <= record)
            };
            if !later.is_ok_and(unsynced) {
                return Err(RunError::Corrupt {
                    path: path.to_owned(),
                    record,
                    offset,
                    problem: problem.to_owned(),
                });
            }
            whole += 1;
        }
        if !lines.next().map_err(RunError::io(path))? {
            break;
        }
        let line = &lines.line;
        found = unframe(line).ok().or_else(|| within(line)).map(parse);
    }
    Ok(Cut {
        offset,
        bytes: lines.offset.saturating_sub(offset),
        records: whole,
        problem: problem.to_owned(),
    })
}

fn parse(payload: &[u8]) -> std::result::Result<Record, String> {
    serde_json::from_slice(payload).map_err(|error| error.to_string())
}

fn first(path: &Path, line: &[u8]) -> Result<First> {
    let refuse = |found: String| RunError::NotAJournal {
        path: path.to_owned(),
        found,
    };
    if line.is_empty() {
        return Err(refuse("an empty file".to_owned()));
    }
    let payload = unframe(line)
        .map_err(|problem| refuse(format!("a first line that is no record: {problem}")))?;
    // The format first: another one may have other fields.
    let value: Value =
        serde_json::from_slice(payload).map_err(|error| refuse(error.to_string()))?;
    let format = value.get("format").and_then(Value::as_str);
    if format != Some(FORMAT) {
        let found = value.get("format").map_or("none".to_owned(), canonical);
        return Err(RunError::Format {
            path: path.to_owned(),
            expected: format!("\"{FORMAT}\""),
            found,
        });
    }
    let record = parse(payload).map_err(refuse)?;
    match (
        record.kind,
        record.identity,
        record.identity_sha256,
        record.shard,
        record.machine,
    ) {
        (Kind::Run, Some(identity), Some(hash), Some(shard), Some(machine)) if record.seq == 0 => {
            let own = sha256(canonical(&identity).as_bytes());
            if own == hash {
                Ok(First {
                    identity,
                    shard,
                    machine,
                })
            } else {
                let problem =
                    format!("an identity whose SHA-256 is {own} while the record states {hash}");
                Err(refuse(problem))
            }
        }
        _ => Err(refuse("a first record of other fields".to_owned())),
    }
}

/// Lines of a file one by one, none kept.
struct Lines<'a> {
    reader: BufReader<&'a File>,
    /// Bytes read so far.
    offset: u64,
    line: Vec<u8>,
}

impl Lines<'_> {
    /// Reads the next line; what is longer than any record comes in pieces. False at the end.
    fn next(&mut self) -> std::io::Result<bool> {
        self.line.clear();
        let limit = MAX_LINE as u64;
        let read = self
            .reader
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut self.line)?;
        self.offset += read as u64;
        Ok(read > 0)
    }
}
