//! Damage to the file: at the end it is repaired, elsewhere it is an error, and no bytes make it panic or lie.

use std::fs;

use lm_assess::run::{Results, Run, RunError};
use lm_testkit::{overwrite, truncate};
use proptest::prelude::*;

use super::study::{
    Heard, Item, config, folder, items, journal_in, lines, report, results_by_line, run_all,
    undisturbed, work,
};

/// Items whose last one has the longest result.
const ITEMS: usize = 4;

fn whole(items: &[Item]) -> Vec<u8> {
    let folder = folder();
    let journal = journal_in(&folder);
    run_all(&Run::new(config(), items).unwrap(), &journal).unwrap();
    fs::read(&journal).unwrap()
}

#[test]
fn cut_at_every_byte_of_its_last_record_a_run_resumes_exactly() {
    let items = items(ITEMS);
    let bytes = whole(&items);
    let expected = undisturbed(&items);
    let last = lines(&bytes).pop().unwrap();
    assert!(last.len() >= 500, "{} bytes", last.len());
    let folder = folder();
    let journal = journal_in(&folder);
    let run = Run::new(config(), &items).unwrap();
    for at in last.clone() {
        fs::write(&journal, &bytes).unwrap();
        truncate(&journal, at as u64).unwrap();
        let mut done = 0;
        let mut heard = Heard::default();
        let outcome = run
            .execute(&journal, &mut heard, |task| {
                done += 1;
                work(task)
            })
            .unwrap();
        assert_eq!(done, 1, "cut at {at}");
        assert!(
            fs::read(&journal).unwrap() == bytes,
            "cut at {at}: another journal"
        );
        assert!(report(&journal) == expected, "cut at {at}");
        // At the beginning of the record there is nothing to report.
        let cut = (at - last.start) as u64;
        assert_eq!(outcome.cut.map_or(0, |cut| cut.bytes), cut);
        assert_eq!(heard.notes.len(), usize::from(cut > 0));
    }
}

#[test]
fn with_any_byte_of_its_last_record_changed_a_run_resumes_exactly() {
    let items = items(ITEMS);
    let bytes = whole(&items);
    let last = lines(&bytes).pop().unwrap();
    let folder = folder();
    let journal = journal_in(&folder);
    let run = Run::new(config(), &items).unwrap();
    for at in last.clone() {
        for other in [bytes[at] ^ 1, bytes[at] ^ 0x80, b'\n', 0] {
            if other == bytes[at] {
                continue;
            }
            fs::write(&journal, &bytes).unwrap();
            overwrite(&journal, at as u64, &[other]).unwrap();
            let outcome = run_all(&run, &journal).unwrap();
            let cut = outcome.cut.unwrap();
            assert_eq!(
                (cut.offset, cut.records),
                (last.start as u64, 0),
                "byte {at}"
            );
            assert!(fs::read(&journal).unwrap() == bytes, "byte {at} as {other}");
        }
    }
}

#[test]
fn damage_before_the_end_is_an_error_with_its_place_and_nothing_is_touched() {
    let items = items(ITEMS);
    let bytes = whole(&items);
    let all = lines(&bytes);
    let folder = folder();
    let journal = journal_in(&folder);
    let run = Run::new(config(), &items).unwrap();
    // The last but one, its newline included.
    let number = all.len() - 2;
    let range = all[number].clone();
    for at in range.clone() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        fs::write(&journal, &damaged).unwrap();
        for error in [
            run_all(&run, &journal).unwrap_err(),
            run.plan(&journal).unwrap_err(),
            Results::read(&journal).unwrap_err(),
        ] {
            let RunError::Corrupt { record, offset, .. } = error else {
                panic!("byte {at}: {error}");
            };
            assert_eq!((record, offset), (number as u64, range.start as u64));
        }
        assert!(fs::read(&journal).unwrap() == damaged);
    }
    // A line that is missing altogether is seen by its number.
    let mut without = bytes.clone();
    without.drain(range.clone());
    fs::write(&journal, &without).unwrap();
    let error = run_all(&run, &journal).unwrap_err().to_string();
    let expected = format!(
        "record {number} at byte {}: expected number {number}, found {}",
        range.start,
        number + 1
    );
    assert!(error.ends_with(&expected), "{error}");
}

#[test]
fn a_file_that_is_no_journal_is_left_alone() {
    let items = items(1);
    let run = Run::new(config(), &items).unwrap();
    let folder = folder();
    let journal = journal_in(&folder);
    let bytes = whole(&items);
    let first = lines(&bytes)[0].clone();
    let mut half = bytes.clone();
    half.truncate(first.end - 1);
    let other_format = String::from_utf8(bytes.clone()).unwrap();
    let payload = &other_format[first.start..first.end];
    let payload = &payload[payload.find("\"record\":").unwrap() + 9..payload.len() - 2];
    let payload = payload.replace("journal/1", "journal/2");
    for (content, problem) in [
        (b"a,b\n1,2\n".to_vec(), "expected a journal"),
        (b"{}\n".to_vec(), "expected a journal"),
        (vec![0; 4096], "expected a journal"),
        (half, "expected a journal"),
        (bytes[first.end..].to_vec(), "expected the format"),
        (
            framed(&payload),
            "expected the format \"lm-safety/journal/1\", found \"lm-safety/journal/2\"",
        ),
        (
            framed("{\"seq\":0,\"kind\":\"run\",\"format\":\"lm-safety/journal/1\"}"),
            "other fields",
        ),
    ] {
        fs::write(&journal, &content).unwrap();
        let error = run_all(&run, &journal).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
        assert!(fs::read(&journal).unwrap() == content);
    }
    // An empty file, as from `mktemp`, is as good as none.
    fs::write(&journal, "").unwrap();
    run_all(&run, &journal).unwrap();
    assert!(fs::read(&journal).unwrap() == bytes);
}

/// Another writer's frame, by the words of `docs/journal.md`.
fn framed(payload: &str) -> Vec<u8> {
    let crc = payload.bytes().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    });
    format!(
        "{{\"len\":{},\"crc\":\"{:08x}\",\"record\":{payload}}}\n",
        payload.len(),
        !crc
    )
    .into_bytes()
}

#[test]
fn records_that_make_no_sense_are_named() {
    let items = items(1);
    let run = Run::new(config(), &items).unwrap();
    let bytes = whole(&items);
    let all = lines(&bytes);
    let folder = folder();
    let journal = journal_in(&folder);
    for (record, problem) in [
        (
            r#"{"seq":3,"synced":3,"kind":"done","item":"x","repeat":0}"#,
            "expected the fields",
        ),
        (
            r#"{"seq":3,"synced":3,"kind":"done","item":"x","repeat":0,"data":1,"more":2}"#,
            "unknown field `more`",
        ),
        (
            r#"{"seq":3,"synced":3,"kind":"else","item":"x","repeat":0,"data":1}"#,
            "unknown variant `else`",
        ),
        (
            r#"{"seq":3,"synced":3,"kind":"done","item":"x","repeat":-1,"data":1}"#,
            "invalid value",
        ),
        (
            r#"{"seq":4,"synced":3,"kind":"done","item":"x","repeat":0,"data":1}"#,
            "expected number 3, found 4",
        ),
        (
            r#"{"seq":3,"synced":3,"kind":"done","item":"item-0","repeat":1,"data":1}"#,
            "expected item `item-0`, repeat 1 once",
        ),
        ("not JSON", "expected ident"),
    ] {
        let mut content = bytes.clone();
        content.extend(framed(record));
        fs::write(&journal, &content).unwrap();
        for error in [
            run_all(&run, &journal).unwrap_err(),
            Results::read(&journal).unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(error.contains(problem), "{error}");
            assert!(
                error.contains(&format!("record 3 at byte {}", all[2].end)),
                "{error}"
            );
        }
        assert!(fs::read(&journal).unwrap() == content);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), behind in any::<bool>()) {
        let items = items(2);
        let run = Run::new(config(), &items).unwrap();
        let folder = folder();
        let journal = journal_in(&folder);
        let mut content = if behind { whole(&items) } else { Vec::new() };
        content.extend(&bytes);
        fs::write(&journal, &content).unwrap();
        let _ = run.plan(&journal);
        let read = Results::read(&journal);
        let opened = run_all(&run, &journal);
        if behind {
            // Nothing that follows is a record, so it is a tail.
            prop_assert_eq!(read.unwrap().report().unwrap(), undisturbed(&items));
            prop_assert_eq!(opened.unwrap().cut.map_or(0, |cut| cut.bytes), bytes.len() as u64);
        }
    }

    #[test]
    fn a_changed_journal_is_refused_or_tells_the_truth(
        at in any::<prop::sample::Index>(),
        remove in 0_usize..400,
        insert in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let items = items(3);
        let bytes = whole(&items);
        let folder = folder();
        let journal = journal_in(&folder);
        fs::write(&journal, &bytes).unwrap();
        let truth = Results::read(&journal).unwrap();
        let mut changed = bytes.clone();
        let start = at.index(bytes.len());
        changed.splice(start..(start + remove).min(bytes.len()), insert);
        fs::write(&journal, &changed).unwrap();
        if let Ok(read) = Results::read(&journal) {
            for (item, repeat) in results_by_line_of(&bytes, &folder) {
                if let Some(found) = read.get(&item, repeat) {
                    prop_assert_eq!(found.get(), truth.get(&item, repeat).unwrap().get());
                }
            }
            prop_assert!(read.counts().done <= truth.counts().done);
        }
    }
}

fn results_by_line_of(bytes: &[u8], folder: &tempfile::TempDir) -> Vec<(String, u32)> {
    let path = folder.path().join("whole.jsonl");
    fs::write(&path, bytes).unwrap();
    let keys = results_by_line(&path).into_keys();
    keys.map(|(item, repeat)| (item, u32::try_from(repeat).unwrap()))
        .collect()
}
