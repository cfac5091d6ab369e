//! Parts of a run and their merge.

use std::path::PathBuf;

use lm_assess::progress::Silent;
use lm_assess::run::{Results, Run, RunError, Shard, merge};
use proptest::prelude::*;
use serde_json::Value;

use super::study::{Answer, Item, config, folder, items, journal_in, run_all, undisturbed, work};

fn part<'a>(items: &'a [Item], index: u32, count: u32) -> Run<'a, Item> {
    Run::new(config(), items)
        .unwrap()
        .shard(Shard::new(index, count).unwrap())
}

fn parts(items: &[Item], count: u32, folder: &tempfile::TempDir) -> Vec<PathBuf> {
    let of = |index| {
        let shard = Shard::new(index, count).unwrap();
        let path = folder.path().join(shard.file_name());
        assert_eq!(run_all(&part(items, index, count), &path).unwrap().left, 0);
        path
    };
    (0..count).map(of).collect()
}

#[test]
fn one_two_and_seven_parts_give_the_same_bytes() {
    let items = items(30);
    let expected = undisturbed(&items);
    for count in [1, 2, 7] {
        let folder = folder();
        let mut journals = parts(&items, count, &folder);
        assert!(merge(&journals).unwrap().report().unwrap() == expected);
        journals.reverse();
        assert!(merge(&journals).unwrap().report().unwrap() == expected);
        // The whole and its parts belong together, and nothing counts twice.
        journals.extend(parts(&items, 1, &folder));
        assert!(merge(&journals).unwrap().report().unwrap() == expected);
    }
}

#[test]
fn a_report_is_json_with_everything_in_the_order_of_ids() {
    let items = items(30);
    let report: Value = serde_json::from_slice(&undisturbed(&items)).unwrap();
    assert_eq!(report["format"], "lm-safety/results/1");
    // Items 5, 16 and 27 fail.
    assert_eq!(
        report["counts"],
        serde_json::json!({"expected": 60, "done": 54, "failed": 6, "missing": 0})
    );
    assert_eq!(report["complete"], false);
    let results = report["results"].as_array().unwrap();
    let keys: Vec<(&str, u64)> = results
        .iter()
        .map(|result| {
            (
                result["item"].as_str().unwrap(),
                result["repeat"].as_u64().unwrap(),
            )
        })
        .collect();
    assert!(keys.is_sorted());
    assert_eq!(keys.len(), 54);
    assert_eq!(report["failures"][0]["error"], "no answer to item-16");
    assert_eq!(report["identity"]["method"], "artificial");
}

#[test]
fn numbers_come_back_to_the_bit() {
    let items = items(40);
    let folder = folder();
    let journal = journal_in(&folder);
    let run = Run::new(config(), &items).unwrap();
    run_all(&run, &journal).unwrap();
    let results = Results::read(&journal).unwrap();
    let mut seen = 0;
    for task in run.plan(&folder.path().join("none")).unwrap().left {
        let Ok(expected) = work(&task) else { continue };
        let found = results.values::<Answer>().unwrap();
        let (_, _, found) = found
            .iter()
            .find(|(item, repeat, _)| (*item, *repeat) == (task.item.0.as_str(), task.repeat))
            .unwrap();
        assert_eq!(found.score.to_bits(), expected.score.to_bits());
        assert_eq!(found.small.to_bits(), expected.small.to_bits());
        assert_eq!(*found, expected);
        seen += 1;
    }
    assert_eq!(seen, 72);
    let error = results.values::<u8>().unwrap_err().to_string();
    assert!(
        error.starts_with("item `item-0`, repeat 0: invalid type"),
        "{error}"
    );
}

#[test]
fn what_is_missing_is_counted_and_named() {
    let items = items(10);
    let folder = folder();
    let journals = parts(&items, 2, &folder);
    let one = merge(&journals[..1]).unwrap();
    let whole = part(&items, 0, 1);
    let missing = one.missing(&whole).unwrap();
    let other = Shard::new(1, 2).unwrap();
    for (item, _) in &missing {
        assert!(other.contains(item) || *item == "item-5", "{item}");
    }
    let counts = one.counts();
    assert_eq!(counts.expected, 20);
    assert_eq!(counts.missing + counts.failed, missing.len() as u64);
    assert!(counts.missing > 0);
    let all = merge(&journals).unwrap();
    assert_eq!(all.missing(&whole).unwrap(), [("item-5", 0), ("item-5", 1)]);
    assert!(matches!(
        merge::<PathBuf>(&[]),
        Err(RunError::NothingToMerge)
    ));
    let fewer = &items[..9];
    assert!(matches!(
        all.missing(&Run::new(config(), fewer).unwrap()),
        Err(RunError::Mixed { .. })
    ));
}

#[test]
fn two_results_of_one_item_are_refused_from_either_side() {
    let items = items(3);
    let folder = folder();
    let run = Run::new(config(), &items).unwrap();
    let [a, b] = ["a.jsonl", "b.jsonl"].map(|name| folder.path().join(name));
    run_all(&run, &a).unwrap();
    run.execute(&b, &mut Silent, |task| {
        work(task).map(|mut answer| {
            if task.item.0 == "item-2" && task.repeat == 1 {
                answer.score += 1e-9;
            }
            answer
        })
    })
    .unwrap();
    let texts = [[&a, &b], [&b, &a]].map(|journals| match merge(&journals).unwrap_err() {
        RunError::While { source, .. } => source.to_string(),
        other => other.to_string(),
    });
    assert_eq!(texts[0], texts[1]);
    assert!(texts[0].starts_with("item `item-2`, repeat 1: expected one result, found two"));
}

#[test]
fn a_result_outweighs_a_failure_whatever_the_order() {
    let items = items(3);
    let folder = folder();
    let run = Run::new(config(), &items).unwrap();
    let [a, b, c] = ["a.jsonl", "b.jsonl", "c.jsonl"].map(|name| folder.path().join(name));
    run_all(&run, &a).unwrap();
    for (path, text) in [(&b, "reset"), (&c, "late")] {
        run.execute(path, &mut Silent, |_| Err::<u8, _>(text))
            .unwrap();
    }
    for order in [[&a, &b, &c], [&b, &c, &a], [&c, &a, &b]] {
        assert_eq!(merge(&order).unwrap(), Results::read(&a).unwrap());
    }
    let failed = |order: [&PathBuf; 2]| {
        let merged = merge(&order).unwrap();
        merged
            .failures()
            .map(|(.., text)| text.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(failed([&b, &c]), ["late"; 6]);
    assert_eq!(failed([&c, &b]), ["late"; 6]);
    // And the next session tries again, to the same end.
    run_all(&run, &b).unwrap();
    assert_eq!(Results::read(&b).unwrap(), Results::read(&a).unwrap());
}

/// Results of the parts that a set names, joined one after the other.
fn joined(parts: &[Results]) -> Results {
    let mut parts = parts.iter().cloned();
    let first = parts.next().unwrap();
    parts.fold(first, |all, part| all.join(part).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn joining_is_commutative_associative_and_idempotent(
        (order, split) in (Just((0..7).collect::<Vec<usize>>()).prop_shuffle(), 1_usize..7),
        again in prop::collection::vec(0_usize..7, 0..5),
    ) {
        let items = items(12);
        let folder = folder();
        let all: Vec<Results> = parts(&items, 7, &folder)
            .iter()
            .map(|path| Results::read(path).unwrap())
            .collect();
        let shuffled: Vec<Results> = order.iter().chain(&again).map(|&at| all[at].clone()).collect();
        let expected = joined(&all);
        prop_assert_eq!(&joined(&shuffled), &expected);
        let (left, right) = shuffled.split_at(split);
        prop_assert_eq!(&joined(left).join(joined(right)).unwrap(), &expected);
        prop_assert_eq!(&joined(right).join(joined(left)).unwrap(), &expected);
        prop_assert!(expected.report().unwrap() == undisturbed(&items));
    }
}
