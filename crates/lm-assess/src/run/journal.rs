//! The journal: a file that grows by one record at a time and can be cut off anywhere.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lm_core::files;
use serde_json::Value;
use serde_json::value::RawValue;

use super::canonical::{canonical, differences, sha256};
use super::clock::{Clock, SystemClock};
use super::error::{Differences, Result, RunError};
use super::frame::{MAX_RECORD, frame};
use super::lock::Lock;
use super::record::{Entry, FORMAT, Kind, Machine, Record};
use super::scan::{Cut, First, scan};
use super::shard::Shard;
use super::storage::{Storage, write_all};

/// When a journal is brought to the disk, and so what an acknowledged record survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    /// At each record, before it is acknowledged: it survives a loss of power.
    #[default]
    EveryRecord,
    /// When a record comes and that many wait, or it was that long ago; and at the end of a run. From then on a record is
    /// acknowledged and survives a loss of power; those that wait survive the end of the process only.
    Every {
        /// Records, at least 1.
        records: u64,
        /// Time since the last synchronisation, by a clock that does not jump.
        within: Duration,
    },
    /// Never. A record is acknowledged when the operating system has it: it survives the end of the process, by whatever
    /// signal, and not a loss of power.
    Never,
}

/// How a journal is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JournalOptions {
    /// When it is brought to the disk; at every record unless set.
    pub fsync: Fsync,
    /// The clock of [`Fsync::Every`]; the system's unless set.
    pub clock: Arc<dyn Clock>,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            fsync: Fsync::default(),
            clock: Arc::new(SystemClock::new()),
        }
    }
}

/// What the first record of a journal says.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub(super) identity: Value,
    pub(super) shard: Shard,
    pub(super) machine: Machine,
}

impl Header {
    fn line(&self) -> Result<Vec<u8>> {
        let mut record = Record::new(0, Kind::Run);
        record.format = Some(FORMAT.to_owned());
        record.identity_sha256 = Some(sha256(canonical(&self.identity).as_bytes()));
        record.identity = Some(self.identity.clone());
        record.shard = Some(self.shard);
        record.machine = Some(self.machine.clone());
        let payload =
            serde_json::to_vec(&record).map_err(RunError::json("the journal's first record"))?;
        Ok(frame(&payload))
    }

    /// Every field in which a journal is another run's, or another part's.
    pub(super) fn differences(&self, first: &First) -> Differences {
        let mut all = differences(&self.identity, &first.identity);
        let shard = |shard: Shard| Value::from(shard.to_string());
        let parts = |own| Value::Object([("shard".to_owned(), shard(own))].into_iter().collect());
        all.0
            .extend(differences(&parts(self.shard), &parts(first.shard)).0);
        all
    }
}

/// What a journal knows of an item's repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has a result.
    Done,
    /// It failed, and may be tried again.
    Failed,
}

/// What a journal knows, by item and repeat.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(HashMap<String, BTreeMap<u32, Status>>);

impl Known {
    pub(super) fn get(&self, item: &str, repeat: u32) -> Option<Status> {
        self.0.get(item)?.get(&repeat).copied()
    }

    /// Refuses a second result: a run writes none.
    pub(super) fn see(&mut self, entry: Entry) -> std::result::Result<Option<Machine>, String> {
        let (item, repeat, status) = match entry {
            Entry::Machine(machine) => return Ok(Some(machine)),
            Entry::Done { item, repeat, .. } => (item, repeat, Status::Done),
            Entry::Failed { item, repeat, .. } => (item, repeat, Status::Failed),
        };
        if self.get(&item, repeat) == Some(Status::Done) {
            return Err(format!(
                "expected item `{item}`, repeat {repeat} once, found it after its result"
            ));
        }
        self.insert(&item, repeat, status);
        Ok(None)
    }

    fn insert(&mut self, item: &str, repeat: u32, status: Status) {
        match self.0.get_mut(item) {
            Some(repeats) => drop(repeats.insert(repeat, status)),
            None => drop(
                self.0
                    .insert(item.to_owned(), BTreeMap::from([(repeat, status)])),
            ),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    records: u64,
    bytes: u64,
}

/// A journal, open for writing by this process alone.
///
/// The format is in `docs/journal.md`. Records that stand in the file when it is opened are brought to the disk then, so all
/// of them count as acknowledged.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    storage: Box<dyn Storage>,
    /// Where the last whole record ends.
    good: Position,
    /// Where the last one ends that survives a loss of power.
    synced: Position,
    options: JournalOptions,
    last_sync: Duration,
    known: Known,
    cut: Option<Cut>,
    broken: bool,
    // Released last.
    _lock: Lock,
}

impl Journal {
    /// Opens the journal at `path`, or begins it: alone, repaired at its end, and only if it belongs to the run and the shard
    /// that `header` describes.
    ///
    /// # Errors
    /// [`RunError::Busy`], [`RunError::OtherRun`], [`RunError::Corrupt`], [`RunError::NotAJournal`], [`RunError::Format`],
    /// [`RunError::Record`]: the file is then as it was. [`RunError::Io`] and [`RunError::Write`] when the system refuses.
    pub fn open(path: &Path, header: &Header, options: JournalOptions) -> Result<Self> {
        Self::open_through(path, header, options, |file| Box::new(file))
    }

    /// The same, with something between the journal and its file.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_through(
        path: &Path,
        header: &Header,
        options: JournalOptions,
        through: impl FnOnce(File) -> Box<dyn Storage>,
    ) -> Result<Self> {
        if matches!(options.fsync, Fsync::Every { records: 0, .. }) {
            return Err(RunError::argument("fsync", "at least 1 record", "0"));
        }
        let mut lock = Lock::take(path)?;
        // Begun whole or not at all, so that a file without a first record is never one of ours.
        if is_new(path).map_err(RunError::io(path))? {
            files::replace(path, &header.line()?)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .open(path)
            .map_err(RunError::io(path))?;
        lock.also(&file, path)?;

        let mut known = Known::default();
        let mut machine = None;
        let scanned = scan(path, &file, |entry| {
            if let Some(other) = known.see(entry)? {
                machine = Some(other);
            }
            Ok(())
        })?;
        let differences = header.differences(&scanned.first);
        if !differences.0.is_empty() {
            return Err(RunError::OtherRun {
                path: path.to_owned(),
                differences,
            });
        }
        let good = Position {
            records: scanned.records,
            bytes: scanned.bytes,
        };
        let mut storage = through(file);
        if scanned.cut.is_some() {
            storage.truncate(good.bytes).map_err(RunError::io(path))?;
        }
        // A process that was ended may have left records that are not on the disk yet.
        storage.sync().map_err(RunError::io(path))?;
        let last_sync = options.clock.monotonic();
        let mut journal = Self {
            path: path.to_owned(),
            storage,
            good,
            synced: good,
            options,
            last_sync,
            known,
            cut: scanned.cut,
            broken: false,
            _lock: lock,
        };
        if machine.unwrap_or(scanned.first.machine) != header.machine {
            let mut record = Record::new(0, Kind::Machine);
            record.machine = Some(header.machine.clone());
            journal.append(record)?;
            journal.sync()?;
        }
        Ok(journal)
    }

    /// Writes a result down.
    ///
    /// # Errors
    /// [`RunError::Write`]: the journal was cut back to its last good record. After a failed write it can be gone on with,
    /// after a failed synchronisation it must be opened again. [`RunError::Result`] if there is a result already, or this one
    /// has no JSON form of one line, or is longer than [`MAX_RECORD`].
    pub fn done(&mut self, item: &str, repeat: u32, data: &RawValue) -> Result<()> {
        self.not_done(item, repeat)?;
        if data.get().contains('\n') {
            return Err(refused(
                item,
                repeat,
                "expected JSON on one line, found more",
            ));
        }
        let mut record = Record::new(0, Kind::Done);
        record.item = Some(item.to_owned());
        record.repeat = Some(repeat);
        record.data = Some(data.to_owned());
        self.append(record)?;
        self.known.insert(item, repeat, Status::Done);
        Ok(())
    }

    /// Writes down that an item failed, and why.
    ///
    /// # Errors
    /// As [`Journal::done`].
    pub fn failed(&mut self, item: &str, repeat: u32, error: &str) -> Result<()> {
        self.not_done(item, repeat)?;
        let mut record = Record::new(0, Kind::Failed);
        record.item = Some(item.to_owned());
        record.repeat = Some(repeat);
        record.error = Some(error.to_owned());
        self.append(record)?;
        self.known.insert(item, repeat, Status::Failed);
        Ok(())
    }

    /// Acknowledges what is still waiting, under [`Fsync::Every`].
    ///
    /// # Errors
    /// [`RunError::Write`].
    pub fn sync(&mut self) -> Result<()> {
        if self.broken {
            return Err(self.is_broken());
        }
        if self.options.fsync == Fsync::Never || self.synced == self.good {
            return Ok(());
        }
        self.synchronise(0)
    }

    /// How many records are acknowledged, the first one included; what that means is up to [`Fsync`].
    pub fn acknowledged(&self) -> u64 {
        match self.options.fsync {
            Fsync::Never => self.good.records,
            _ => self.synced.records,
        }
    }

    /// What is known of an item's repetition.
    pub fn status(&self, item: &str, repeat: u32) -> Option<Status> {
        self.known.get(item, repeat)
    }

    /// What was cut off the file's end when it was opened.
    pub fn cut(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    fn not_done(&self, item: &str, repeat: u32) -> Result<()> {
        match self.status(item, repeat) {
            Some(Status::Done) => Err(refused(item, repeat, "it has a result already")),
            _ => Ok(()),
        }
    }

    /// Gives the record its number and writes it.
    fn append(&mut self, mut record: Record) -> Result<()> {
        if self.broken {
            return Err(self.is_broken());
        }
        record.seq = self.good.records;
        record.synced = (self.options.fsync != Fsync::Never).then_some(self.synced.records);
        let payload = serde_json::to_vec(&record).map_err(RunError::json("a record"))?;
        if payload.len() > MAX_RECORD {
            return Err(RunError::argument(
                "record",
                format!("at most {MAX_RECORD} bytes"),
                payload.len().to_string(),
            ));
        }
        let line = frame(&payload);
        if let Err(source) = write_all(self.storage.as_mut(), &line) {
            let repaired = self.storage.truncate(self.good.bytes).is_ok();
            self.broken = !repaired;
            return Err(self.failure(record.seq, line.len(), "written", repaired, source));
        }
        self.good.records += 1;
        self.good.bytes += line.len() as u64;
        let due = match self.options.fsync {
            Fsync::EveryRecord => true,
            Fsync::Never => false,
            Fsync::Every { records, within } => {
                let waited = self
                    .options
                    .clock
                    .monotonic()
                    .saturating_sub(self.last_sync);
                self.good.records - self.synced.records >= records || waited >= within
            }
        };
        if due {
            self.synchronise(line.len())
        } else {
            Ok(())
        }
    }

    fn synchronise(&mut self, wanted: usize) -> Result<()> {
        if let Err(source) = self.storage.sync() {
            // What the system failed to write it may drop and then report success: only what was safe before counts.
            let repaired = self.storage.truncate(self.synced.bytes).is_ok();
            self.broken = true;
            let record = self.good.records.saturating_sub(1);
            return Err(self.failure(record, wanted, "synchronised", repaired, source));
        }
        self.synced = self.good;
        self.last_sync = self.options.clock.monotonic();
        Ok(())
    }

    fn failure(
        &self,
        record: u64,
        wanted: usize,
        doing: &'static str,
        repaired: bool,
        source: io::Error,
    ) -> RunError {
        RunError::Write {
            path: self.path.clone(),
            record,
            wanted,
            doing,
            repaired,
            source,
        }
    }

    fn is_broken(&self) -> RunError {
        RunError::Broken {
            path: self.path.clone(),
        }
    }
}

fn refused(item: &str, repeat: u32, problem: &str) -> RunError {
    RunError::Result {
        item: item.to_owned(),
        repeat,
        problem: problem.to_owned(),
    }
}

/// Whether there is no file yet, or an empty one.
pub(super) fn is_new(path: &Path) -> io::Result<bool> {
    match path.metadata() {
        Ok(metadata) => Ok(metadata.is_file() && metadata.len() == 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}
