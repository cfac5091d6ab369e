//! A study with artificial work, and ways to look at what it left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lm_assess::progress::{Progress, Silent};
use lm_assess::run::{Outcome, Results, Run, RunConfig, RunError, Task};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) type Item = (String, String);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) score: f64,
    pub(crate) small: f32,
}

pub(crate) fn items(count: usize) -> Vec<Item> {
    let item = |index: usize| {
        (
            format!("item-{index}"),
            format!("Line {index}:\n\"ä\" \u{2028}"),
        )
    };
    (0..count).map(item).collect()
}

pub(crate) fn config() -> RunConfig {
    RunConfig::new("artificial", "1", 7).repeats(2)
}

/// A function of the task alone; one item in eleven always fails.
pub(crate) fn work(task: &Task<'_, Item>) -> Result<Answer, String> {
    let (id, text) = task.item;
    let number: usize = id.trim_start_matches("item-").parse().unwrap();
    if number % 11 == 5 {
        return Err(format!("no answer to {id}"));
    }
    // Of different lengths, the longest above 500 bytes.
    let words =
        (0..1 + number % 4 * 30).map(|step| format!("{:.3} ", task.key.uniform(step as u64)));
    Ok(Answer {
        text: words.chain([text.clone()]).collect(),
        score: task.key.uniform(1000) / 3.0,
        small: task.key.uniform(1001) as f32,
    })
}

pub(crate) fn run_all(run: &Run<'_, Item>, journal: &Path) -> Result<Outcome, RunError> {
    run.execute(journal, &mut Silent, work)
}

pub(crate) fn report(journal: &Path) -> Vec<u8> {
    Results::read(journal).unwrap().report().unwrap()
}

/// The report of a run nobody disturbed.
pub(crate) fn undisturbed(items: &[Item]) -> Vec<u8> {
    let folder = folder();
    let journal = folder.path().join("journal.jsonl");
    let run = Run::new(config(), items).unwrap();
    let outcome = run_all(&run, &journal).unwrap();
    assert_eq!(outcome.left, 0);
    report(&journal)
}

/// In memory where that can be had: what is tested is not the disk, and thousands of `fsync` take their time.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

pub(crate) fn journal_in(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("journal.jsonl")
}

/// How often each item's repeat has a result, by another reader than ours: plain JSON.
pub(crate) fn results_by_line(journal: &Path) -> BTreeMap<(String, u64), usize> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(journal).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let record = &line["record"];
        if record["kind"] == "done" {
            let key = (
                record["item"].as_str().unwrap().to_owned(),
                record["repeat"].as_u64().unwrap(),
            );
            *counts.entry(key).or_default() += 1;
        }
    }
    counts
}

pub(crate) fn assert_none_doubled(journal: &Path) {
    for (key, count) in results_by_line(journal) {
        assert_eq!(count, 1, "{key:?}");
    }
}

/// Byte ranges of a journal's lines.
pub(crate) fn lines(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut start = 0;
    let mut all = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        all.push(start..start + line.len());
        start += line.len();
    }
    all
}

/// Remembers what was announced.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) steps: u64,
    pub(crate) total: Option<u64>,
    pub(crate) notes: Vec<String>,
}

impl Progress for Heard {
    fn begin(&mut self, _: &str, total: Option<u64>) {
        self.total = total;
    }

    fn advance(&mut self, steps: u64) {
        self.steps += steps;
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    fn end(&mut self) {}
}
