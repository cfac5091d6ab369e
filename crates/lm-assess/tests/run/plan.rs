//! What a run would do, and how it goes about it.

use std::cell::Cell;
use std::fs;

use lm_assess::progress::Silent;
use lm_assess::run::{Prices, Results, Run, RunError, Shard, Tokens};
use lm_core::{CancelToken, RowKey};

use super::study::{Item, config, folder, items, journal_in, report, run_all, undisturbed, work};

#[test]
fn a_dry_run_counts_and_writes_nothing() {
    let items = items(12);
    let folder = folder();
    let journal = journal_in(&folder);
    let cancel = CancelToken::new();
    let run = Run::new(config(), &items).unwrap().cancel(cancel.clone());
    let plan = run.plan(&journal).unwrap();
    assert_eq!((plan.items, plan.repeats, plan.shard_items), (12, 2, 12));
    assert_eq!((plan.done, plan.failed, plan.left.len()), (0, 0, 24));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    let mut calls = 0;
    run.execute(&journal, &mut Silent, |task| {
        calls += 1;
        if calls == 14 {
            cancel.cancel();
        }
        work(task)
    })
    .unwrap();
    // 13 were finished, items 0 to 5 twice and item 6 once; item 5 failed.
    let before = fs::read(&journal).unwrap();
    let plan = run.plan(&journal).unwrap();
    assert_eq!((plan.done, plan.failed, plan.left.len()), (11, 2, 13));
    assert_eq!(plan.left[0].item.0, "item-5");
    assert!(fs::read(&journal).unwrap() == before);

    // 13 pieces of 100 and 20 tokens, at 3 and 15 a million.
    let each = |_: &Item| Tokens {
        input: 100,
        output: 20,
    };
    let prices = Prices {
        input_per_million: 3.0,
        output_per_million: 15.0,
    };
    let estimate = plan.estimate(each, Some(prices)).unwrap();
    assert_eq!(
        estimate.tokens,
        Tokens {
            input: 1300,
            output: 260
        }
    );
    assert!((estimate.cost.unwrap() - 0.0078).abs() < 1e-15);
    assert_eq!(plan.estimate(each, None).unwrap().cost, None);
    let wrong = Prices {
        input_per_million: f64::NAN,
        ..prices
    };
    assert_eq!(
        plan.estimate(each, Some(wrong)).unwrap_err().to_string(),
        "price of input: expected a number from 0, found NaN"
    );
    let many = |_: &Item| Tokens {
        input: u64::MAX,
        output: 0,
    };
    assert!(plan.estimate(many, None).is_err());
}

#[test]
fn parts_of_a_plan_add_up() {
    let items = items(25);
    let folder = folder();
    let parts = (0..7).map(|index| {
        let run = Run::new(config(), &items)
            .unwrap()
            .shard(Shard::new(index, 7).unwrap());
        let plan = run.plan(&journal_in(&folder)).unwrap();
        assert_eq!(plan.left.len(), 2 * plan.shard_items);
        plan.shard_items
    });
    assert_eq!(parts.sum::<usize>(), 25);
}

#[test]
fn a_cancelled_run_drops_what_was_under_way_and_goes_on_later() {
    let items = items(8);
    let expected = undisturbed(&items);
    for at in 0..16 {
        let folder = folder();
        let journal = journal_in(&folder);
        let cancel = CancelToken::new();
        let run = Run::new(config(), &items).unwrap().cancel(cancel.clone());
        let calls = Cell::new(0);
        let outcome = run
            .execute(&journal, &mut Silent, |task| {
                calls.set(calls.get() + 1);
                if calls.get() == at + 1 {
                    // As a generation does that the same token stops: something, but not the whole of it.
                    cancel.cancel();
                    return work(task).map(|mut answer| {
                        answer.text.clear();
                        answer
                    });
                }
                work(task)
            })
            .unwrap();
        assert!(outcome.cancelled);
        assert_eq!(outcome.done + outcome.failed, at);
        assert_eq!(outcome.left, 16 - at);
        let run = Run::new(config(), &items).unwrap();
        assert!(!run_all(&run, &journal).unwrap().cancelled);
        assert!(report(&journal) == expected);
    }
}

#[test]
fn draws_hang_on_seed_item_and_repeat_only() {
    let items = items(5);
    let run = Run::new(config(), &items).unwrap();
    let folder = folder();
    for task in run.plan(&journal_in(&folder)).unwrap().left {
        assert_eq!(
            task.key,
            RowKey::new(7, &task.item.0, u64::from(task.repeat))
        );
    }
}

#[test]
fn batches_change_nothing_but_the_calls() {
    let items = items(9);
    let expected = undisturbed(&items);
    for batch in [1, 4, 100] {
        let folder = folder();
        let journal = journal_in(&folder);
        let run = Run::new(config(), &items).unwrap().batch(batch).unwrap();
        let mut calls = 0;
        run.execute_batches(&journal, &mut Silent, |tasks| {
            calls += 1;
            tasks.iter().map(work).collect()
        })
        .unwrap();
        assert_eq!(calls, 18_usize.div_ceil(batch));
        assert!(report(&journal) == expected);
    }
    let folder = folder();
    let run = Run::new(config(), &items).unwrap().batch(4).unwrap();
    let error = run
        .execute_batches(&journal_in(&folder), &mut Silent, |_| {
            vec![Ok::<_, String>(1)]
        })
        .unwrap_err();
    assert_eq!(error.to_string(), "results of a batch: expected 4, found 1");
    assert!(Run::new(config(), &items).unwrap().batch(0).is_err());
}

#[test]
fn what_fails_is_tried_again_as_often_as_asked() {
    let items = items(4);
    let expected = undisturbed(&items);
    let folder = folder();
    let journal = journal_in(&folder);
    let flaky = |attempts: u32| {
        let run = Run::new(config(), &items)
            .unwrap()
            .attempts(attempts)
            .unwrap()
            .batch(3)
            .unwrap();
        let mut calls = std::collections::HashMap::new();
        run.execute_batches(&journal, &mut Silent, |tasks| {
            tasks
                .iter()
                .map(|task| {
                    let calls = calls.entry((task.item.0.clone(), task.repeat)).or_insert(0);
                    *calls += 1;
                    if *calls < 3 {
                        Err("busy".to_owned())
                    } else {
                        work(task)
                    }
                })
                .collect()
        })
        .unwrap()
    };
    let outcome = flaky(2);
    assert_eq!((outcome.done, outcome.failed, outcome.left), (0, 8, 0));
    let results = Results::read(&journal).unwrap();
    assert!(results.failures().all(|(.., text)| text == "busy"));
    let outcome = flaky(3);
    assert_eq!((outcome.done, outcome.failed), (8, 0));
    assert!(report(&journal) == expected);
    assert!(matches!(
        Run::new(config(), &items).unwrap().attempts(0),
        Err(RunError::Argument { .. })
    ));
}

#[test]
fn a_missing_folder_is_named() {
    let items = items(1);
    let run = Run::new(config(), &items).unwrap();
    let folder = folder();
    let path = folder.path().join("none/journal.jsonl");
    let error = run_all(&run, &path).unwrap_err().to_string();
    assert!(error.contains("none/journal.jsonl"), "{error}");
    assert_eq!(run.plan(&path).unwrap().left.len(), 2);
}
