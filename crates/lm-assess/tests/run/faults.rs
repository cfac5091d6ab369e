//! A disk that is full, breaks off, writes less than asked, or loses power; a clock that jumps.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use lm_assess::progress::Silent;
use lm_assess::run::{
    Clock, Fsync, Journal, JournalOptions, Outcome, Results, Run, RunError, Storage,
};
use lm_core::{CancelToken, RowKey};
use lm_testkit::note_skip;
use serde_json::Value;
use serde_json::value::to_raw_value;

use super::study::{
    Heard, Item, assert_none_doubled, config, folder, items, journal_in, lines, report, run_all,
    undisturbed, work,
};

/// What a storage is to do wrong, and what it has seen.
#[derive(Debug, Default)]
struct Fault {
    /// Most bytes of a write.
    short: Option<usize>,
    /// Bytes until the disk is full.
    room: Option<u64>,
    /// Synchronisations until they fail.
    syncs: Option<u64>,
    /// Whether cutting fails.
    cuts: bool,
    /// Whether every other write is interrupted by a signal.
    interrupted: bool,
    turn: bool,
    written: u64,
    synced: u64,
}

#[derive(Debug)]
struct Faulty {
    file: File,
    fault: Arc<Mutex<Fault>>,
}

impl Storage for Faulty {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut fault = self.fault.lock().unwrap();
        fault.turn = !fault.turn;
        if fault.interrupted && fault.turn {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mut size = bytes.len().min(fault.short.unwrap_or(usize::MAX));
        if let Some(room) = &mut fault.room {
            if *room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            size = size.min(*room as usize);
            *room -= size as u64;
        }
        let written = Storage::write(&mut self.file, &bytes[..size])?;
        fault.written += written as u64;
        Ok(written)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut fault = self.fault.lock().unwrap();
        if let Some(left) = &mut fault.syncs {
            if *left == 0 {
                return Err(io::Error::other("the disk is gone"));
            }
            *left -= 1;
        }
        fault.synced = self.file.metadata()?.len();
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        if self.fault.lock().unwrap().cuts {
            return Err(io::Error::other("the disk is gone"));
        }
        Storage::truncate(&mut self.file, length)
    }
}

fn options(fsync: Fsync) -> JournalOptions {
    let mut options = JournalOptions::default();
    options.fsync = fsync;
    options
}

fn open(
    run: &Run<'_, Item>,
    path: &Path,
    fsync: Fsync,
    fault: &Arc<Mutex<Fault>>,
) -> Result<Journal, RunError> {
    let fault = fault.clone();
    Journal::open_through(path, run.header(), options(fsync), |file| {
        Box::new(Faulty { file, fault })
    })
}

fn run_with(
    run: &Run<'_, Item>,
    path: &Path,
    fsync: Fsync,
    fault: Fault,
) -> Result<Outcome, RunError> {
    let journal = open(run, path, fsync, &Arc::new(Mutex::new(fault)))?;
    let times = path.with_extension("times.jsonl");
    run.execute_into(journal, &times, &mut Silent, |tasks| {
        tasks.iter().map(work).collect()
    })
}

const GROUPS: Fsync = Fsync::Every {
    records: 4,
    within: Duration::from_secs(3600),
};

#[test]
fn full_at_any_byte_a_journal_ends_with_its_last_record_and_resumes() {
    let items = items(4);
    let run = Run::new(config(), &items).unwrap();
    let folder = folder();
    let journal = journal_in(&folder);
    run_all(&run, &journal).unwrap();
    let whole = fs::read(&journal).unwrap();
    let all = lines(&whole);
    let first = all[0].end;
    let expected = report(&journal);
    for room in 0..whole.len() - first {
        fs::remove_file(&journal).unwrap();
        let fault = Fault {
            room: Some(room as u64),
            ..Fault::default()
        };
        let error = run_with(&run, &journal, Fsync::EveryRecord, fault).unwrap_err();
        let text = error.to_string();
        let RunError::Write {
            path,
            record,
            wanted,
            repaired,
            ..
        } = error
        else {
            panic!("room for {room}: {text}");
        };
        // What fits whole is there, and nothing else.
        let fits = all.iter().filter(|line| line.end <= first + room).count();
        assert_eq!(
            (path, record, repaired),
            (journal.clone(), fits as u64, true)
        );
        assert_eq!(wanted, all[fits].len());
        assert!(
            text.contains(&format!(
                "record {fits} of {wanted} bytes could not be written"
            )),
            "{text}"
        );
        assert!(text.contains("can be resumed"), "{text}");
        assert!(fs::read(&journal).unwrap() == whole[..all[fits].start]);
        if room % 97 == 0 {
            run_all(&run, &journal).unwrap();
            assert!(fs::read(&journal).unwrap() == whole);
            assert!(report(&journal) == expected);
        }
    }
}

#[test]
fn a_journal_goes_on_once_there_is_room_again() {
    let items = items(2);
    let run = Run::new(config(), &items).unwrap();
    let folder = folder();
    let journal = journal_in(&folder);
    let fault = Arc::new(Mutex::new(Fault::default()));
    let mut open = open(&run, &journal, Fsync::EveryRecord, &fault).unwrap();
    let data = to_raw_value(&1.5).unwrap();
    open.done("item-0", 0, &data).unwrap();
    fault.lock().unwrap().room = Some(20);
    assert!(matches!(
        open.done("item-0", 1, &data),
        Err(RunError::Write { record: 2, .. })
    ));
    assert_eq!(open.status("item-0", 1), None);
    assert_eq!(open.acknowledged(), 2);
    fault.lock().unwrap().room = None;
    open.done("item-0", 1, &data).unwrap();
    // Its result is there; a second one is refused.
    assert_eq!(
        open.done("item-0", 1, &data).unwrap_err().to_string(),
        "item `item-0`, repeat 1: it has a result already"
    );
    assert!(open.failed("item-0", 1, "").is_err());
    let lines = to_raw_value(&[1]).unwrap().get().replace(']', "\n]");
    let lines = serde_json::value::RawValue::from_string(lines).unwrap();
    assert!(open.done("item-1", 0, &lines).is_err());
    assert_eq!(Results::read(&journal).unwrap().counts().done, 2);
}

#[test]
fn a_journal_that_cannot_be_repaired_is_repaired_when_it_is_opened() {
    let items = items(4);
    let run = Run::new(config(), &items).unwrap();
    let folder = folder();
    let journal = journal_in(&folder);
    let fault = Fault {
        room: Some(700),
        cuts: true,
        ..Fault::default()
    };
    let fault = Arc::new(Mutex::new(fault));
    let mut open = open(&run, &journal, Fsync::EveryRecord, &fault).unwrap();
    let data = to_raw_value(&"x".repeat(300)).unwrap();
    open.done("item-0", 0, &data).unwrap();
    let error = open.done("item-0", 1, &data).unwrap_err();
    assert!(matches!(
        error,
        RunError::Write {
            repaired: false,
            ..
        }
    ));
    assert!(
        error.to_string().contains("opening it to resume"),
        "{error}"
    );
    // Nothing may be written behind half a record.
    fault.lock().unwrap().room = None;
    assert!(matches!(
        open.done("item-0", 1, &data),
        Err(RunError::Broken { .. })
    ));
    assert!(matches!(open.sync(), Err(RunError::Broken { .. })));
    drop(open);
    let outcome = run_all(&run, &journal).unwrap();
    assert!(outcome.cut.is_some());
    assert_eq!(outcome.left, 0);
    assert_none_doubled(&journal);
}

#[test]
fn short_and_interrupted_writes_are_gone_on_with() {
    let items = items(6);
    let run = Run::new(config(), &items).unwrap();
    for short in [1, 2, 7, 100] {
        let folder = folder();
        let journal = journal_in(&folder);
        let fault = Fault {
            short: Some(short),
            interrupted: true,
            ..Fault::default()
        };
        run_with(&run, &journal, Fsync::EveryRecord, fault).unwrap();
        assert!(report(&journal) == undisturbed(&items));
    }
    // A write that takes nothing would go on forever.
    let folder = folder();
    let fault = Fault {
        short: Some(0),
        ..Fault::default()
    };
    let error = run_with(&run, &journal_in(&folder), Fsync::EveryRecord, fault).unwrap_err();
    assert!(
        matches!(error, RunError::Write { record: 1, .. }),
        "{error}"
    );
}

#[test]
fn what_fails_to_reach_the_disk_is_not_acknowledged() {
    let items = items(6);
    let run = Run::new(config(), &items).unwrap();
    for (fsync, syncs, records) in [
        // One synchronisation when a journal is opened; the first record counts.
        (Fsync::EveryRecord, 1, 1),
        (Fsync::EveryRecord, 3, 3),
        (GROUPS, 1, 1),
        (GROUPS, 2, 5),
    ] {
        let folder = folder();
        let journal = journal_in(&folder);
        let fault = Fault {
            syncs: Some(syncs),
            ..Fault::default()
        };
        let error = run_with(&run, &journal, fsync, fault)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("could not be synchronised: the disk is gone"),
            "{error}"
        );
        let bytes = fs::read(&journal).unwrap();
        assert_eq!(lines(&bytes).len(), records, "{fsync:?} {syncs}");
        run_all(&run, &journal).unwrap();
        assert_none_doubled(&journal);
        assert!(report(&journal) == undisturbed(&items));
    }
}

#[test]
fn progress_counts_what_is_acknowledged() {
    let items = items(3);
    let run = Run::new(config(), &items).unwrap();
    for (fsync, steps) in [
        (Fsync::EveryRecord, [0, 1, 2, 3, 4, 5]),
        (GROUPS, [0, 0, 0, 0, 4, 4]),
        (Fsync::Never, [0, 1, 2, 3, 4, 5]),
    ] {
        let folder = folder();
        let path = journal_in(&folder);
        let fault = Arc::new(Mutex::new(Fault::default()));
        let mut journal = open(&run, &path, fsync, &fault).unwrap();
        for (number, steps) in steps.into_iter().enumerate() {
            assert_eq!(journal.acknowledged(), 1 + steps);
            let text = number.to_string();
            journal
                .done(&text, 0, &to_raw_value(&number).unwrap())
                .unwrap();
        }
        journal.sync().unwrap();
        assert_eq!(journal.acknowledged(), 7);
        // And acknowledged is what was brought to the disk.
        let length = fs::metadata(&path).unwrap().len();
        assert_eq!(
            fault.lock().unwrap().synced == length,
            fsync != Fsync::Never
        );
        drop(journal);
        fs::remove_file(&path).unwrap();
        let mut heard = Heard::default();
        let run = Run::new(config(), &items).unwrap().journal(options(fsync));
        run.execute(&path, &mut heard, work).unwrap();
        assert_eq!((heard.steps, heard.total), (6, Some(6)));
    }
    let never = Run::new(config(), &items)
        .unwrap()
        .journal(options(Fsync::Every {
            records: 0,
            within: Duration::ZERO,
        }));
    let folder = folder();
    let error = run_all(&never, &journal_in(&folder))
        .unwrap_err()
        .to_string();
    assert_eq!(error, "fsync: expected at least 1 record, found 0");
}

/// After a loss of power the disk holds what was synchronised, and any part of the rest.
#[test]
fn what_is_acknowledged_survives_a_loss_of_power() {
    let items = items(12);
    let expected = undisturbed(&items);
    let mut whole_records_cut = 0;
    for case in 0..300 {
        let mut draws = (0..).map(|step| RowKey::new(3, "power", case).uniform(step));
        let mut draw = move || draws.next().unwrap();
        let folder = folder();
        let path = journal_in(&folder);
        let cancel = CancelToken::new();
        let run = Run::new(config(), &items).unwrap().cancel(cancel.clone());
        let fsync = if case % 3 == 0 {
            Fsync::EveryRecord
        } else {
            Fsync::Every {
                records: 1 + case % 7,
                within: Duration::from_secs(3600),
            }
        };
        let fault = Arc::new(Mutex::new(Fault::default()));
        let journal = open(&run, &path, fsync, &fault).unwrap();
        // Power goes before this task; what stands in the file then is taken.
        let last = 1 + (draw() * 22.0) as usize;
        let taken = RefCell::new(None);
        let mut heard = Heard::default();
        let mut done = Vec::new();
        run.execute_into(journal, &folder.path().join("times"), &mut heard, |tasks| {
            if done.len() == last {
                *taken.borrow_mut() =
                    Some((fs::read(&path).unwrap(), fault.lock().unwrap().synced));
                cancel.cancel();
            }
            done.extend(tasks.iter().map(|task| (task.item.0.clone(), task.repeat)));
            tasks.iter().map(work).collect()
        })
        .unwrap();
        let (mut bytes, synced) = taken.into_inner().unwrap();
        let synced = synced as usize;
        assert!(synced <= bytes.len());
        // Of the rest, each sector is there or is zeros, and the length may be behind.
        let length = synced + (draw() * 2.0 * (bytes.len() - synced) as f64) as usize;
        bytes.truncate(length.max(synced));
        let mut at = synced;
        while at < bytes.len() {
            let end = (at / 64 * 64 + 64).min(bytes.len());
            if draw() < 0.3 {
                bytes[at..end].fill(0);
            }
            at = end;
        }
        fs::write(&path, &bytes).unwrap();
        // Acknowledged are the records whose lines end within what was synchronised.
        let acknowledged = lines(&bytes[..synced]).len() - 1;
        let results = Results::read(&path).unwrap();
        for (item, repeat) in &done[..acknowledged] {
            let failed = results
                .failures()
                .any(|(other, again, _)| (other, again) == (item, *repeat));
            assert!(
                failed || results.get(item, *repeat).is_some(),
                "case {case}: {item} {repeat}"
            );
        }
        let run = Run::new(config(), &items).unwrap();
        let outcome = run_all(&run, &path).unwrap();
        whole_records_cut += outcome.cut.map_or(0, |cut| cut.records);
        assert_none_doubled(&path);
        assert!(report(&path) == expected, "case {case}");
    }
    assert!(
        whole_records_cut > 20,
        "{whole_records_cut}: holes before whole records were not seen"
    );
}

/// Jumps back by a year at each look.
#[derive(Debug, Default)]
struct Jumping(AtomicU64);

impl Clock for Jumping {
    fn now(&self) -> SystemTime {
        let years = self.0.fetch_add(1, Ordering::Relaxed);
        SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * 365)
            - Duration::from_secs(86_400 * 365 * years)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(1500 * self.0.load(Ordering::Relaxed))
    }
}

#[test]
fn a_clock_that_jumps_changes_nothing_but_the_times() {
    let items = items(6);
    let folder = folder();
    let journal = journal_in(&folder);
    let mut jumping = options(Fsync::Every {
        records: 1000,
        within: Duration::from_secs(2),
    });
    jumping.clock = Arc::new(Jumping::default());
    let run = Run::new(config(), &items).unwrap().journal(jumping);
    assert_eq!(run_all(&run, &journal).unwrap().left, 0);
    assert!(report(&journal) == undisturbed(&items));
    let times = fs::read_to_string(folder.path().join("journal.times.jsonl")).unwrap();
    let starts: Vec<i64> = times
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            assert!(line["seconds"].as_f64().unwrap() >= 0.0);
            line["start_ms"].as_i64().unwrap()
        })
        .collect();
    assert_eq!(starts.len(), 12);
    assert!(starts.windows(2).all(|pair| pair[1] < pair[0]));
    assert!(starts[11] < 0);
    // There is no time in journal or report.
    for bytes in [fs::read(&journal).unwrap(), report(&journal)] {
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.contains("start_ms") && !text.contains("seconds"));
    }
}

#[test]
fn a_time_that_has_passed_brings_records_to_the_disk() {
    let items = items(1);
    let run = Run::new(config(), &items).unwrap();
    let folder = folder();
    let clock = Arc::new(Jumping::default());
    let mut options = options(Fsync::Every {
        records: 1000,
        within: Duration::from_secs(3),
    });
    options.clock = clock.clone();
    let mut journal = Journal::open(&journal_in(&folder), run.header(), options).unwrap();
    let data = to_raw_value(&0).unwrap();
    journal.done("a", 0, &data).unwrap();
    assert_eq!(journal.acknowledged(), 1);
    clock.0.fetch_add(2, Ordering::Relaxed);
    journal.done("b", 0, &data).unwrap();
    assert_eq!(journal.acknowledged(), 3);
}

#[test]
fn times_that_cannot_be_written_stop_nothing() {
    let items = items(3);
    let folder = folder();
    let journal = journal_in(&folder);
    fs::create_dir(folder.path().join("journal.times.jsonl")).unwrap();
    let run = Run::new(config(), &items).unwrap();
    let mut heard = Heard::default();
    let outcome = run.execute(&journal, &mut heard, work).unwrap();
    assert!(outcome.times_lost.is_some());
    assert!(
        heard.notes[0].starts_with("times are missing"),
        "{:?}",
        heard.notes
    );
    assert!(report(&journal) == undisturbed(&items));
}

const FULL: &str = "LM_ASSESS_FULL_DISK";

/// A real file system of 40 kB, which the kernel lets an ordinary user mount in a name space of its own.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_really_full_is_reported_and_the_run_resumes() {
    let script = r#"mount -t tmpfs -o size=40k tmpfs "$1" && exec "$2" --exact faults::on_a_small_disk --nocapture"#;
    let folder = folder();
    let tried = Command::new("unshare")
        .args(["-rm", "sh", "-c", "mount -t tmpfs tmpfs \"$1\"", "sh"])
        .arg(folder.path())
        .output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        return note_skip(
            "run::faults::a_disk_that_is_really_full_is_reported_and_the_run_resumes",
            "a name space for mounts",
            "`unshare -rm` must be allowed",
        );
    }
    let child = Command::new("unshare")
        .args(["-rm", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .env(FULL, folder.path())
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    let out = String::from_utf8_lossy(&child.stdout);
    assert!(out.contains("was full"), "{out}");
}

#[test]
fn on_a_small_disk() {
    let Some(disk) = std::env::var_os(FULL) else {
        return;
    };
    let disk = Path::new(&disk);
    let items = items(8);
    let run = Run::new(config(), &items).unwrap();
    let long = |task: &lm_assess::run::Task<'_, Item>| {
        work(task).map(|mut answer| {
            answer.text.push_str(&"long ".repeat(200));
            answer
        })
    };
    let ballast = disk.join("ballast");
    fs::write(&ballast, [1; 16 << 10]).unwrap();
    let journal = disk.join("journal.jsonl");
    let error = run.execute(&journal, &mut Silent, long).unwrap_err();
    let RunError::Write {
        repaired: true,
        ref source,
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    let before = Results::read(&journal).unwrap().counts();
    assert!(before.done > 2 && before.missing > 0, "{before:?}");
    fs::remove_file(ballast).unwrap();
    run.execute(&journal, &mut Silent, long).unwrap();
    assert_none_doubled(&journal);
    let elsewhere = folder();
    let other = journal_in(&elsewhere);
    run.execute(&other, &mut Silent, long).unwrap();
    assert!(report(&journal) == report(&other));
    use io::Write as _;
    io::stdout().write_all(b"was full\n").unwrap();
}
