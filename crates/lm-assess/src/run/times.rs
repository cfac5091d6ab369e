//! When things happened, beside the journal: nothing reads it back, and results never hold a time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// A line of the sidecar file.
#[derive(Debug, Serialize)]
pub(super) struct Time<'a> {
    pub(super) item: &'a str,
    pub(super) repeat: u32,
    /// Milliseconds since 1970 by the calendar's clock, which may have jumped.
    pub(super) start_ms: i128,
    /// Seconds the work took, by the clock that does not.
    pub(super) seconds: f64,
    /// Items done in the same call, which share its time.
    pub(super) batch: usize,
}

/// `journal.jsonl` has its times in `journal.times.jsonl`.
pub(super) fn beside(journal: &Path) -> PathBuf {
    journal.with_extension("times.jsonl")
}

#[derive(Debug)]
pub(super) struct Times(File);

impl Times {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        // A line that was torn must not spoil the next one.
        if file.seek(SeekFrom::End(0))? > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(Self(file))
    }

    pub(super) fn write(&mut self, time: &Time<'_>) -> io::Result<()> {
        let mut line = serde_json::to_vec(time)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }
}

pub(super) fn milliseconds(time: SystemTime) -> i128 {
    let signed = |duration: Duration| i128::try_from(duration.as_millis()).unwrap_or(i128::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => signed(after),
        Err(before) => -signed(before.duration()),
    }
}
