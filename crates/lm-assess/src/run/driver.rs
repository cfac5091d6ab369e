//! Doing the work: each item once, whatever comes in between.

use std::fmt::{self, Display};
use std::fs::File;
use std::path::Path;

use lm_core::{CancelToken, RowKey};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::to_raw_value;

use super::error::{Result, RunError};
use super::identity::{Item, RunConfig, data_hash};
use super::journal::{Header, Journal, JournalOptions, Known, Status, is_new};
use super::plan::Plan;
use super::scan::{Cut, scan};
use super::shard::Shard;
use super::times::{self, Time, Times};
use crate::progress::Progress;

/// One piece of work: an item, once.
#[non_exhaustive]
pub struct Task<'a, T> {
    /// The item.
    pub item: &'a T,
    /// Which repetition, from 0.
    pub repeat: u32,
    /// The source of its draws: a function of the run's seed, the item's id and the repetition. Nothing else may decide a
    /// result.
    pub key: RowKey,
}

impl<T> Clone for Task<'_, T> {
    fn clone(&self) -> Self {
        Self {
            item: self.item,
            repeat: self.repeat,
            key: self.key.clone(),
        }
    }
}

impl<T: Item> fmt::Debug for Task<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the item itself, whose text a log should not hold.
        write!(f, "Task({}, {})", self.item.id(), self.repeat)
    }
}

/// A run over a list of items: what it is, and how it is done.
///
/// ```
/// use lm_assess::progress::Silent;
/// use lm_assess::run::{Results, Run, RunConfig};
///
/// # let folder = std::env::temp_dir().join(format!("lm-assess-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let items = [("greeting", "Hello!"), ("question", "Why is the sky blue?")];
/// let run = Run::new(RunConfig::new("length", "1", 7), &items)?;
/// let journal = folder.join("journal.jsonl");
/// // Ended in whatever way, the same call goes on where it was.
/// let outcome = run.execute(&journal, &mut Silent, |task| Ok::<_, String>(task.item.1.len()))?;
/// assert_eq!((outcome.done, outcome.left), (2, 0));
/// Results::read(&journal)?.write(&folder.join("results.json"))?;
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct Run<'a, T> {
    config: RunConfig,
    items: &'a [T],
    header: Header,
    options: JournalOptions,
    attempts: u32,
    batch: usize,
    cancel: Option<CancelToken>,
}

/// How a session of a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Pieces of work with a result, earlier sessions' included.
    pub done: u64,
    /// Those that failed and have none; the next session tries them again.
    pub failed: u64,
    /// Those that were not tried.
    pub left: u64,
    /// Whether the run was cancelled.
    pub cancelled: bool,
    /// What was cut off the journal's end before this session.
    pub cut: Option<Cut>,
    /// Why times are missing in the sidecar file, if they are. Nothing depends on them.
    pub times_lost: Option<String>,
}

impl<'a, T: Item> Run<'a, T> {
    /// The run that `config` describes, on `items`, all of them here.
    ///
    /// # Errors
    /// [`RunError::Item`] for ids that are empty or equal; [`RunError::Argument`] for a configuration that makes no run.
    pub fn new(config: RunConfig, items: &'a [T]) -> Result<Self> {
        let identity = config.identity(items.len(), &data_hash(items)?)?;
        let header = Header {
            identity,
            shard: Shard::WHOLE,
            machine: config.machine(),
        };
        Ok(Self {
            config,
            items,
            header,
            options: JournalOptions::default(),
            attempts: 1,
            batch: 1,
            cancel: None,
        })
    }

    /// Does only this part of the items; everything unless set. Each part has a journal of its own.
    pub fn shard(mut self, shard: Shard) -> Self {
        self.header.shard = shard;
        self
    }

    /// How the journal is opened.
    pub fn journal(mut self, options: JournalOptions) -> Self {
        self.options = options;
        self
    }

    /// How often a piece of work that fails is tried in one session, 1 unless set.
    ///
    /// # Errors
    /// [`RunError::Argument`] for 0.
    pub fn attempts(mut self, attempts: u32) -> Result<Self> {
        if attempts == 0 {
            return Err(RunError::argument("attempts", "at least 1", "0"));
        }
        self.attempts = attempts;
        Ok(self)
    }

    /// How many pieces of work [`Run::execute_batches`] hands out at once, 1 unless set. Not a part of what run this is.
    ///
    /// # Errors
    /// [`RunError::Argument`] for 0.
    pub fn batch(mut self, batch: usize) -> Result<Self> {
        if batch == 0 {
            return Err(RunError::argument("batch", "at least 1", "0"));
        }
        self.batch = batch;
        Ok(self)
    }

    /// Stops when `token` is cancelled, after the call that is under way. What that call returns is dropped: it may itself
    /// have been cut short by the same token.
    pub fn cancel(mut self, token: CancelToken) -> Self {
        self.cancel = Some(token);
        self
    }

    /// What run this is, as the first record of its journals states it.
    pub fn identity(&self) -> &Value {
        &self.header.identity
    }

    /// What a journal of this run begins with, to open one by hand.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What would be done, given the journal at `path`, which may be absent. Writes nothing.
    ///
    /// # Errors
    /// As [`Journal::open`], but for [`RunError::Busy`] and [`RunError::Write`].
    pub fn plan(&self, path: &Path) -> Result<Plan<'a, T>> {
        let mut known = Known::default();
        let mut cut = None;
        if !is_new(path).map_err(RunError::io(path))? {
            let file = File::open(path).map_err(RunError::io(path))?;
            let scanned = scan(path, &file, |entry| known.see(entry).map(drop))?;
            let differences = self.header.differences(&scanned.first);
            if !differences.0.is_empty() {
                return Err(RunError::OtherRun {
                    path: path.to_owned(),
                    differences,
                });
            }
            cut = scanned.cut;
        }
        Ok(self.planned(|item, repeat| known.get(item, repeat), cut))
    }

    fn planned(
        &self,
        status: impl Fn(&str, u32) -> Option<Status>,
        cut: Option<Cut>,
    ) -> Plan<'a, T> {
        let shard = self.header.shard;
        let mut plan = Plan {
            items: self.items.len(),
            repeats: self.config.times(),
            shard,
            shard_items: 0,
            done: 0,
            failed: 0,
            left: Vec::new(),
            cut,
        };
        let own = self.items.iter().filter(|item| shard.contains(item.id()));
        for item in own {
            plan.shard_items += 1;
            for repeat in 0..self.config.times() {
                let status = status(item.id(), repeat);
                plan.done += u64::from(status == Some(Status::Done));
                plan.failed += u64::from(status == Some(Status::Failed));
                if status != Some(Status::Done) {
                    plan.left.push(Task {
                        item,
                        repeat,
                        key: RowKey::new(self.config.seed(), item.id(), u64::from(repeat)),
                    });
                }
            }
        }
        plan
    }

    /// Does what is left, one piece of work at a time, and writes each result into the journal at `path`. What `work` returns
    /// must depend on nothing but the task and what [`RunConfig`] holds. An error of `work` is recorded, and the run goes on.
    ///
    /// # Errors
    /// As [`Journal::open`] and [`Journal::done`]. The same call resumes the run.
    pub fn execute<R: Serialize, E: Display>(
        &self,
        path: &Path,
        progress: &mut dyn Progress,
        mut work: impl FnMut(&Task<'a, T>) -> std::result::Result<R, E>,
    ) -> Result<Outcome> {
        self.execute_batches(path, progress, |tasks| {
            tasks.iter().map(&mut work).collect()
        })
    }

    /// The same with up to [`Run::batch`] pieces of work at a time, for engines that are faster so. `work` returns as many
    /// results as it was given tasks, in their order.
    ///
    /// # Errors
    /// As [`Run::execute`]; [`RunError::Argument`] for another number of results.
    pub fn execute_batches<R: Serialize, E: Display>(
        &self,
        path: &Path,
        progress: &mut dyn Progress,
        work: impl FnMut(&[Task<'a, T>]) -> Vec<std::result::Result<R, E>>,
    ) -> Result<Outcome> {
        let journal = Journal::open(path, &self.header, self.options.clone())?;
        self.execute_into(journal, &times::beside(path), progress, work)
    }

    /// The same into a journal that is already open, with the times in a file named here.
    ///
    /// # Errors
    /// As [`Run::execute_batches`].
    pub fn execute_into<R: Serialize, E: Display>(
        &self,
        mut journal: Journal,
        times: &Path,
        progress: &mut dyn Progress,
        work: impl FnMut(&[Task<'a, T>]) -> Vec<std::result::Result<R, E>>,
    ) -> Result<Outcome> {
        let plan = self.planned(|item, repeat| journal.status(item, repeat), None);
        progress.begin("run", Some(plan.left.len() as u64));
        let cut = journal.cut().cloned();
        if let Some(cut) = &cut {
            progress.note(&format!(
                "{} bytes, {} whole records among them, were cut off the journal's end: {}",
                cut.bytes, cut.records, cut.problem
            ));
        }
        let (times, times_lost) = match Times::open(times) {
            Ok(times) => (Some(times), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let acknowledged = journal.acknowledged();
        let mut session = Session {
            run: self,
            journal: &mut journal,
            progress,
            times,
            times_lost,
            acknowledged,
        };
        let ended = session.work(&plan.left, work);
        // What was done is to be safe also where something failed later.
        let synced = session.journal.sync();
        session.told();
        if let Some(lost) = &session.times_lost {
            session
                .progress
                .note(&format!("times are missing in the sidecar file: {lost}"));
        }
        let times_lost = session.times_lost.take();
        progress.end();
        let cancelled = ended?;
        synced?;
        let now = self.planned(|item, repeat| journal.status(item, repeat), None);
        Ok(Outcome {
            done: now.done,
            failed: now.failed,
            left: now.left.len() as u64 - now.failed,
            cancelled,
            cut,
            times_lost,
        })
    }

    /// Items and repeats of all shards for which `wanted` holds.
    pub(super) fn tasks_where(&self, wanted: impl Fn(&str, u32) -> bool) -> Vec<(&'a str, u32)> {
        let items = self.items.iter().map(Item::id);
        items
            .flat_map(|id| (0..self.config.times()).map(move |repeat| (id, repeat)))
            .filter(|(id, repeat)| wanted(id, *repeat))
            .collect()
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(CancelToken::is_cancelled)
    }
}

/// What is at hand while work is done.
struct Session<'s, 'a, T> {
    run: &'s Run<'a, T>,
    journal: &'s mut Journal,
    progress: &'s mut dyn Progress,
    times: Option<Times>,
    times_lost: Option<String>,
    /// Records that `progress` knows of.
    acknowledged: u64,
}

impl<'a, T: Item> Session<'_, 'a, T> {
    /// Whether the run was cancelled.
    fn work<R: Serialize, E: Display>(
        &mut self,
        left: &[Task<'a, T>],
        mut work: impl FnMut(&[Task<'a, T>]) -> Vec<std::result::Result<R, E>>,
    ) -> Result<bool> {
        let clock = self.run.options.clock.clone();
        for tasks in left.chunks(self.run.batch) {
            let mut waiting = tasks.to_vec();
            for attempt in 1..=self.run.attempts {
                if waiting.is_empty() {
                    break;
                }
                if self.run.is_cancelled() {
                    return Ok(true);
                }
                let (start, began) = (clock.now(), clock.monotonic());
                let results = work(&waiting);
                let seconds = clock.monotonic().saturating_sub(began).as_secs_f64();
                if self.run.is_cancelled() {
                    return Ok(true);
                }
                if results.len() != waiting.len() {
                    return Err(RunError::argument(
                        "results of a batch",
                        waiting.len().to_string(),
                        results.len().to_string(),
                    ));
                }
                let batch = waiting.len();
                let mut again = Vec::new();
                for (task, result) in waiting.into_iter().zip(results) {
                    match result {
                        Ok(result) => self.done(&task, &result)?,
                        Err(error) if attempt == self.run.attempts => {
                            let error = error.to_string();
                            self.journal.failed(task.item.id(), task.repeat, &error)?;
                        }
                        Err(_) => {
                            again.push(task);
                            continue;
                        }
                    }
                    self.told();
                    self.time(&Time {
                        item: task.item.id(),
                        repeat: task.repeat,
                        start_ms: times::milliseconds(start),
                        seconds,
                        batch,
                    });
                }
                waiting = again;
            }
        }
        Ok(false)
    }

    fn done<R: Serialize>(&mut self, task: &Task<'a, T>, result: &R) -> Result<()> {
        let (item, repeat) = (task.item.id(), task.repeat);
        let data = to_raw_value(result).map_err(|error| RunError::Result {
            item: item.to_owned(),
            repeat,
            problem: error.to_string(),
        })?;
        self.journal.done(item, repeat, &data)
    }

    /// Progress counts what is acknowledged.
    fn told(&mut self) {
        let now = self.journal.acknowledged();
        let new = now.saturating_sub(self.acknowledged);
        if new > 0 {
            self.progress.advance(new);
        }
        self.acknowledged = now;
    }

    fn time(&mut self, time: &Time<'_>) {
        if let Some(times) = &mut self.times
            && let Err(error) = times.write(time)
        {
            self.times = None;
            self.times_lost = Some(error.to_string());
        }
    }
}
