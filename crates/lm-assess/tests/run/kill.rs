//! SIGKILL, at random moments and at chosen bytes.
#![cfg(unix)]

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use lm_assess::progress::Progress;
use lm_assess::run::{Fsync, Journal, JournalOptions, Results, Run, RunError, Storage};
use lm_core::RowKey;
use serde::{Deserialize, Serialize};

use super::study::{
    self, Item, assert_none_doubled, config, folder, items, journal_in, undisturbed,
};

/// What the child process is told, in this variable.
const CHILD: &str = "LM_ASSESS_RUN_CHILD";

const ITEMS: usize = 30;
/// Results that a finished run has: one item in eleven fails, and there are two repeats.
const RESULTS: usize = 2 * 27;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Orders {
    journal: String,
    fsync: Policy,
    /// Microseconds of work for an item.
    work: u64,
    /// Bytes after which the process kills itself, in the middle of a write.
    kill_after: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
enum Policy {
    #[default]
    EveryRecord,
    Some,
    Never,
}

/// Writes a few bytes at a time, so that there are many moments at which a record is half there.
#[derive(Debug)]
struct Doomed {
    file: File,
    left: Option<u64>,
}

impl Storage for Doomed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let size = bytes.len().min(13);
        let now = self.left.map_or(size, |left| size.min(left as usize));
        let written = Storage::write(&mut self.file, &bytes[..now])?;
        if let Some(left) = &mut self.left {
            *left -= written as u64;
            if *left == 0 {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL)?;
            }
        }
        Ok(written)
    }

    fn sync(&mut self) -> io::Result<()> {
        Storage::sync(&mut self.file)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        Storage::truncate(&mut self.file, length)
    }
}

/// Says on standard output what has been acknowledged.
struct Acknowledge<'a>(&'a RefCell<VecDeque<String>>);

impl Progress for Acknowledge<'_> {
    fn begin(&mut self, _: &str, _: Option<u64>) {}

    fn advance(&mut self, steps: u64) {
        for _ in 0..steps {
            let task = self.0.borrow_mut().pop_front().unwrap();
            io::stdout()
                .write_all(format!("ack {task}\n").as_bytes())
                .unwrap();
        }
        io::stdout().flush().unwrap();
    }

    fn note(&mut self, _: &str) {}

    fn end(&mut self) {}
}

#[test]
fn child() {
    let Some(orders) = std::env::var_os(CHILD) else {
        return;
    };
    let orders: Orders = serde_json::from_str(orders.to_str().unwrap()).unwrap();
    let items = items(ITEMS);
    let run = Run::new(config(), &items).unwrap();
    let mut options = JournalOptions::default();
    options.fsync = match orders.fsync {
        Policy::EveryRecord => Fsync::EveryRecord,
        Policy::Some => Fsync::Every {
            records: 4,
            within: Duration::from_secs(3600),
        },
        Policy::Never => Fsync::Never,
    };
    let path = Path::new(&orders.journal);
    let journal = Journal::open_through(path, run.header(), options, |file| {
        Box::new(Doomed {
            file,
            left: orders.kill_after,
        })
    });
    let done = RefCell::new(VecDeque::new());
    let outcome = run
        .execute_into(
            journal.unwrap(),
            &path.with_extension("times.jsonl"),
            &mut Acknowledge(&done),
            |tasks| {
                std::thread::sleep(Duration::from_micros(orders.work));
                for task in tasks {
                    done.borrow_mut()
                        .push_back(format!("{} {}", task.item.0, task.repeat));
                }
                tasks.iter().map(study::work).collect()
            },
        )
        .unwrap();
    assert_eq!(outcome.left, 0);
}

fn spawn(orders: &Orders) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, serde_json::to_string(orders).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for a child and adds what it acknowledged, which is a whole line each.
fn end(mut child: Child, acknowledged: &mut BTreeSet<(String, u32)>) -> ExitStatus {
    let mut out = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    let mut errors = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    let status = child.wait().unwrap();
    assert!(
        status.success() || status.signal() == Some(9),
        "{status} {errors}"
    );
    for line in out
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
    {
        // The harness puts `test … ... ` before the first.
        if let Some((_, task)) = line.trim_end().split_once("ack ") {
            let (item, repeat) = task.split_once(' ').unwrap();
            acknowledged.insert((item.to_owned(), repeat.parse().unwrap()));
        }
    }
    status
}

/// Everything acknowledged is in the journal, as it stands after a kill.
fn assert_nothing_lost(journal: &Path, acknowledged: &BTreeSet<(String, u32)>) {
    if !journal.exists() {
        assert!(acknowledged.is_empty());
        return;
    }
    let results = Results::read(journal).unwrap();
    let failed: BTreeSet<_> = results
        .failures()
        .map(|(item, repeat, _)| (item.to_owned(), repeat))
        .collect();
    for (item, repeat) in acknowledged {
        let key = (item.clone(), *repeat);
        assert!(
            results.get(item, *repeat).is_some() || failed.contains(&key),
            "{key:?} was acknowledged and is lost"
        );
    }
}

fn assert_finished(
    journal: &Path,
    expected: &[u8],
    acknowledged: &BTreeSet<(String, u32)>,
    kills: usize,
) {
    assert_nothing_lost(journal, acknowledged);
    assert_none_doubled(journal);
    assert_eq!(study::results_by_line(journal).len(), RESULTS);
    // A kill between the disk and the announcement leaves records that nobody heard of: at most a group of four.
    assert!(
        acknowledged.len() + 4 * kills >= 2 * ITEMS,
        "{} heard of",
        acknowledged.len()
    );
    assert!(study::report(journal) == expected, "another report");
}

#[test]
fn killed_at_random_moments_nothing_is_lost_or_doubled() {
    let expected = undisturbed(&items(ITEMS));
    let mut kills = 0;
    let mut draws = (0..).map(|step| RowKey::new(1, "moments", 0).uniform(step));
    // Only to aim at the time when there is something to kill.
    let mut whole = Duration::from_millis(50);
    let mut policies = [Policy::EveryRecord, Policy::Some, Policy::Never]
        .into_iter()
        .cycle();
    while kills < 200 {
        let folder = folder();
        let journal = journal_in(&folder);
        let orders = Orders {
            journal: journal.to_str().unwrap().to_owned(),
            fsync: policies.next().unwrap(),
            work: 200,
            kill_after: None,
        };
        let mut acknowledged = BTreeSet::new();
        let mut sessions = 0;
        loop {
            let started = Instant::now();
            let mut child = spawn(&orders);
            // After some kills it may finish, so that there are finished runs to look at.
            let spared = sessions > 12;
            if !spared {
                std::thread::sleep(whole.mul_f64(draws.next().unwrap()));
                child.kill().unwrap();
            }
            let finished = end(child, &mut acknowledged).success();
            if finished && sessions == 0 {
                whole = started.elapsed().min(Duration::from_millis(200));
            }
            sessions += 1;
            if finished {
                break;
            }
            kills += 1;
            assert_nothing_lost(&journal, &acknowledged);
        }
        assert_finished(&journal, &expected, &acknowledged, sessions - 1);
    }
}

#[test]
fn killed_at_chosen_bytes_nothing_is_lost_or_doubled() {
    let expected = undisturbed(&items(ITEMS));
    let mut draws = (0..).map(|step| RowKey::new(2, "bytes", 0).uniform(step));
    let mut kills = 0;
    let mut torn = 0;
    while kills < 120 {
        let folder = folder();
        let journal = journal_in(&folder);
        let mut orders = Orders {
            journal: journal.to_str().unwrap().to_owned(),
            ..Orders::default()
        };
        let mut acknowledged = BTreeSet::new();
        let before = kills;
        loop {
            // A whole journal has about 20,000 bytes.
            orders.kill_after = Some(1 + (draws.next().unwrap() * 8000.0) as u64);
            if end(spawn(&orders), &mut acknowledged).success() {
                break;
            }
            kills += 1;
            assert_nothing_lost(&journal, &acknowledged);
            let bytes = std::fs::read(&journal).unwrap();
            torn += usize::from(bytes.last() != Some(&b'\n'));
        }
        assert_finished(&journal, &expected, &acknowledged, kills - before);
    }
    assert!(torn > 60, "{torn} of {kills} kills left half a record");
}

#[test]
fn a_second_process_is_refused_and_told_who_writes() {
    let folder = folder();
    let journal = journal_in(&folder);
    let mut child = spawn(&Orders {
        journal: journal.to_str().unwrap().to_owned(),
        work: 1_000_000,
        ..Orders::default()
    });
    // The first acknowledgement says that it has the journal.
    let mut out = child.stdout.take().unwrap();
    let mut heard = Vec::new();
    while !heard.windows(4).any(|four| four == b"ack ") {
        let mut byte = [0];
        out.read_exact(&mut byte).unwrap();
        heard.push(byte[0]);
    }
    let items: Vec<Item> = items(ITEMS);
    let run = Run::new(config(), &items).unwrap();
    let refused = || study::run_all(&run, &journal).unwrap_err();
    let holder = format!("process {} on ", child.id());
    assert!(
        matches!(refused(), RunError::Busy { holder: found, .. } if found.starts_with(&holder))
    );
    // Taking the note away lets nobody in.
    std::fs::remove_file(folder.path().join("journal.jsonl.lock")).unwrap();
    assert!(matches!(refused(), RunError::Busy { .. }));
    // Reading is free.
    assert!(Results::read(&journal).is_ok());
    child.kill().unwrap();
    child.wait().unwrap();
    // The lock dies with its holder.
    assert_eq!(study::run_all(&run, &journal).unwrap().left, 0);
    assert!(study::report(&journal) == undisturbed(&items));
}
