//! Splits: nothing is lost, nothing leaks, shares are kept, and what cannot be is refused.

use std::collections::{BTreeMap, BTreeSet};

use lm_assess::data::split::{By, Method, Split, SplitOptions};
use lm_assess::data::{DataSet, Item};
use proptest::prelude::*;

use crate::file;

const PARTS: [(&str, f64); 3] = [("train", 0.7), ("dev", 0.1), ("test", 0.2)];

/// Items by text, label, topic and person.
fn set(rows: &[(String, u8, u8, u8)]) -> DataSet {
    let items = rows
        .iter()
        .enumerate()
        .map(|(at, (text, label, topic, person))| {
            Item::user(format!(
                "{text}{}",
                if text.is_empty() {
                    format!("only {at}")
                } else {
                    String::new()
                }
            ))
            .with_id(format!("id{at}"))
            .with_label(label.to_string())
            .with_group("topic", topic.to_string())
            .with_group("person", person.to_string())
        });
    // Texts may repeat, so labels must not contradict each other: an item with a known text takes the first label.
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    let items = items.map(|mut item| {
        let label = labels
            .entry(item.text())
            .or_insert_with(|| item.label.clone().unwrap_or_default());
        item.label = Some(label.clone());
        item
    });
    DataSet::from_items(items).expect("a data set")
}

fn plain(count: usize, labels: usize) -> DataSet {
    set(&(0..count)
        .map(|at| (String::new(), (at % labels) as u8, (at % 7) as u8, 0))
        .collect::<Vec<_>>())
}

fn is_partition(split: &Split, count: usize) {
    let mut all: Vec<usize> = split
        .parts
        .iter()
        .flat_map(|part| part.indices.clone())
        .collect();
    all.extend(&split.unused);
    all.sort_unstable();
    assert_eq!(all, (0..count).collect::<Vec<_>>());
}

fn rows() -> impl Strategy<Value = Vec<(String, u8, u8, u8)>> {
    let text = prop_oneof![
        6 => Just(String::new()),
        1 => "(Hello|hello|HELLO!|bye|Bye, bye)",
    ];
    proptest::collection::vec((text, 0..3_u8, 0..12_u8, 0..40_u8), 30..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_split_is_a_partition_without_leaks(rows in rows(), seed in any::<u64>(), stable in any::<bool>(), two in any::<bool>()) {
        let data = set(&rows);
        let method = if stable { Method::Stable } else { Method::Balanced };
        let mut by = vec![By::group("person")];
        let mut options = SplitOptions::new(PARTS).seed(seed).method(method).together(by[0].clone());
        if two {
            by.push(By::group("topic"));
            options = options.together(by[1].clone());
        }
        // Few large units may leave a part empty, which is an error and not a split.
        if let Ok(split) = options.split(&data) {
            is_partition(&split, data.len());
            prop_assert_eq!(split.leaks(&data, &by), []);
            prop_assert!(split.parts.iter().all(|part| !part.indices.is_empty()));
            prop_assert_eq!(&split, &options.split(&data).expect("the same again"));
        }
    }

    #[test]
    fn single_items_keep_every_share_to_one_item(count in 30..200_usize, labels in 1..6_usize, seed in any::<u64>()) {
        let data = plain(count, labels);
        let options = SplitOptions::new(PARTS).seed(seed).stratify(By::Label);
        let split = options.split(&data).expect("a split");
        is_partition(&split, count);
        let mut sizes: BTreeMap<&str, f64> = BTreeMap::new();
        for item in &data {
            *sizes.entry(item.label.as_deref().expect("a label")).or_default() += 1.0;
        }
        for (part, (_, share)) in split.parts.iter().zip(PARTS) {
            for (label, size) in &sizes {
                let found = part.strata.get(*label).copied().unwrap_or(0) as f64;
                prop_assert!((found - share * size).abs() < 1.0, "{label}: {found} of {size} at {share}");
            }
            // What strata round does not add up.
            let all = part.indices.len() as f64;
            prop_assert!((all - share * count as f64).abs() < 2.0, "{all} of {count} at {share}");
        }
    }

    #[test]
    fn groups_keep_every_share_to_the_largest(rows in rows(), seed in any::<u64>()) {
        let data = set(&rows);
        let options = SplitOptions::new(PARTS).seed(seed).together(By::group("person")).near_duplicates_together(false);
        let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
        for item in &data {
            *sizes.entry(item.groups["person"].as_str()).or_default() += 1;
        }
        let largest = sizes.values().copied().max().unwrap_or(0) as f64;
        if let Ok(split) = options.split(&data) {
            for (part, (name, share)) in split.parts.iter().zip(PARTS) {
                let off = part.indices.len() as f64 - share * data.len() as f64;
                prop_assert!(off.abs() <= largest, "{name}: {off} of {largest}");
            }
        }
    }

    #[test]
    fn the_order_of_items_does_not_matter(rows in rows(), seed in any::<u64>(), stable in any::<bool>()) {
        let data = set(&rows);
        let turned = DataSet::from_items(data.items().iter().rev().cloned()).expect("a data set");
        let method = if stable { Method::Stable } else { Method::Balanced };
        let options = SplitOptions::new(PARTS).seed(seed).method(method).together(By::group("person"));
        if let (Ok(one), Ok(other)) = (options.split(&data), options.split(&turned)) {
            for (one, other) in one.parts.iter().zip(&other.parts) {
                let (one, other): (BTreeSet<_>, BTreeSet<_>) = (one.ids.iter().collect(), other.ids.iter().collect());
                prop_assert_eq!(one, other);
            }
        }
    }

    #[test]
    fn nobody_moves_when_items_are_added_to_a_stable_split(rows in rows(), seed in any::<u64>()) {
        let data = set(&rows);
        let more = DataSet::from_items(
            data.items().iter().cloned().chain((0..50).map(|at| Item::user(format!("new item {at}")).with_label("0"))),
        )
        .expect("a data set");
        let options = SplitOptions::new(PARTS).seed(seed).method(Method::Stable);
        if let (Ok(before), Ok(after)) = (options.split(&data), options.split(&more)) {
            for (before, after) in before.parts.iter().zip(&after.parts) {
                prop_assert!(before.indices.iter().all(|index| after.indices.contains(index)));
            }
        }
    }

    #[test]
    fn folds_are_each_tested_once(count in 20..120_usize, folds in 2..7_usize, seed in any::<u64>()) {
        let data = plain(count, 2);
        let splits = SplitOptions::for_folds().seed(seed).stratify(By::Label).folds(folds, &data).expect("folds");
        prop_assert_eq!(splits.len(), folds);
        let mut tested = Vec::new();
        for split in &splits {
            is_partition(split, count);
            let test = split.part("test").expect("a test part");
            prop_assert!((test.indices.len() as f64 - count as f64 / folds as f64).abs() < 2.0);
            tested.extend(test.indices.clone());
        }
        tested.sort_unstable();
        prop_assert_eq!(tested, (0..count).collect::<Vec<_>>());
    }
}

/// The shares of a stable split come out in expectation: 4,000 items, so a standard deviation is 0.7 % at most.
#[test]
fn stable_shares_are_near() {
    let split = SplitOptions::new(PARTS)
        .method(Method::Stable)
        .split(&plain(4000, 2))
        .expect("a split");
    for (part, (name, share)) in split.parts.iter().zip(PARTS) {
        let found = part.indices.len() as f64 / 4000.0;
        assert!((found - share).abs() < 0.03, "{name}: {found}");
    }
}

#[test]
fn rare_strata_do_not_all_go_to_the_largest_part() {
    // A hundred labels of one item each: rounding each alone would leave `test` empty.
    let split = SplitOptions::new([("train", 0.8), ("test", 0.2)])
        .stratify(By::Label)
        .split(&plain(100, 100))
        .expect("a split");
    assert_eq!(split.parts[1].indices.len(), 20);
}

#[test]
fn seeds_differ_and_near_duplicates_stay() {
    let data = plain(60, 2);
    let of = |seed| {
        SplitOptions::new(PARTS)
            .seed(seed)
            .split(&data)
            .expect("a split")
    };
    assert_ne!(of(1), of(2));
    let texts = ["Hello, you!", "hello you", "HELLO YOU?"];
    let items = (0..40)
        .map(|at| Item::user(format!("text {at}")))
        .chain(texts.map(Item::user));
    let data = DataSet::from_items(items).expect("a data set");
    let halves = [("a", 0.5), ("b", 0.5)];
    let apart = |together| {
        (0..20)
            .filter(|seed| {
                let options = SplitOptions::new(halves)
                    .seed(*seed)
                    .near_duplicates_together(together);
                !options
                    .split(&data)
                    .expect("a split")
                    .leaks(&data, &[])
                    .is_empty()
            })
            .count()
    };
    assert_eq!(apart(true), 0);
    assert!(apart(false) > 5);
}

#[test]
fn what_cannot_be_split_is_refused() {
    let data = plain(20, 2);
    let refused = |options: SplitOptions| options.split(&data).expect_err("a refusal").to_string();
    let by_topic = || SplitOptions::new([("a", 0.5), ("b", 0.5)]);
    assert_eq!(
        refused(by_topic().together(By::group("person"))),
        "cannot split: 20 items are 1 units (groups and near-duplicates count as one); 2 parts need at least as many"
    );
    assert_eq!(
        refused(by_topic().together(By::group("house"))),
        "cannot split: item `id0` has no group `house`"
    );
    assert_eq!(
        refused(SplitOptions::new([("a", 0.999), ("b", 0.001)])),
        "cannot split: part `b` with a share of 0.0010 would have no item of 20 in 20 units"
    );
    assert_eq!(
        refused(SplitOptions::new([("a", 0.5)])),
        "`parts`: expected shares that sum to 1, found 0.5"
    );
    assert_eq!(
        refused(SplitOptions::new([("a", -0.5), ("b", 1.5)])),
        "`parts`: expected shares above 0, found -0.5 for `a`"
    );
    assert_eq!(
        refused(SplitOptions::new([("a", f64::NAN)])),
        "`parts`: expected shares above 0, found NaN for `a`"
    );
    assert_eq!(
        refused(SplitOptions::new([("a", 0.5), ("a", 0.5)])),
        "`parts`: expected names that differ, found `a` twice"
    );
    assert_eq!(
        refused(SplitOptions::for_folds()),
        "`parts`: expected at least one, found none"
    );
    assert_eq!(
        refused(by_topic().method(Method::Stable).stratify(By::Label)),
        "`stratify`: expected the method `Balanced`, since counts depend on all items, found `Stable` with `label`"
    );
    let folds = |options: SplitOptions, count| {
        options
            .folds(count, &data)
            .expect_err("a refusal")
            .to_string()
    };
    assert_eq!(
        folds(SplitOptions::for_folds().together(By::group("topic")), 8),
        "cannot split: 20 items are 7 units (groups and near-duplicates count as one); 8 parts need at least as many"
    );
    assert_eq!(
        folds(SplitOptions::for_folds().stratify(By::group("topic")), 3),
        "cannot split: `6` is in 2 units (groups and near-duplicates count as one); 3 folds need 3"
    );
    assert_eq!(
        folds(SplitOptions::for_folds(), 1),
        "`folds`: expected at least 2, found 1"
    );
    assert_eq!(
        folds(by_topic(), 3),
        "`parts`: expected none for folds, found 2"
    );
    let unlabelled = DataSet::from_items([Item::user("x"), Item::user("y")]).expect("a data set");
    let found = by_topic()
        .stratify(By::Label)
        .split(&unlabelled)
        .expect_err("no label");
    assert_eq!(
        found.to_string(),
        format!(
            "cannot split: item `{}` has no label",
            unlabelled.items()[0].id
        )
    );
}

#[test]
fn given_splits_are_checked() {
    let data = plain(5, 2);
    let split =
        Split::by_indices(&data, [("train", vec![3, 0]), ("test", vec![1])]).expect("a split");
    assert_eq!(split.parts[0].ids, ["id0", "id3"]);
    assert_eq!(split.unused, [2, 4]);
    is_partition(&split, 5);
    let (_folder, path) = file("split.json", split.to_json());
    assert_eq!(Split::read(&path, &data).expect("a split"), split);
    assert_eq!(
        Split::by_ids(
            &data,
            [("train", vec!["id3", "id0"]), ("test", vec!["id1"])]
        )
        .expect("a split"),
        split
    );

    let by_indices = |parts: Vec<(&str, Vec<usize>)>| {
        Split::by_indices(&data, parts)
            .expect_err("a refusal")
            .to_string()
    };
    assert_eq!(
        by_indices(vec![("a", vec![0, 5])]),
        "cannot split: part `a`: expected an index below 5, found 5"
    );
    assert_eq!(
        by_indices(vec![("a", vec![0, 0])]),
        "cannot split: item `id0` is twice in part `a`"
    );
    assert_eq!(
        by_indices(vec![("a", vec![0]), ("b", vec![0])]),
        "cannot split: item `id0` is in two parts: `a`, `b`"
    );
    assert_eq!(
        by_indices(vec![("a", vec![])]),
        "cannot split: part `a` is empty"
    );
    assert_eq!(
        by_indices(vec![("a", vec![0]), ("a", vec![1])]),
        "cannot split: two parts are named `a`"
    );

    let read = |text: &str| {
        let (folder, path) = file("s.json", text);
        let error = Split::read(&path, &data)
            .expect_err("a refusal")
            .to_string();
        error.replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(
        read("{\"a\": [\"id9\"]}"),
        "s.json: part `a`: no item has the id `id9`"
    );
    assert_eq!(
        read("{\"a\": [-1]}"),
        "s.json: part `a`: expected an index below 5, found -1"
    );
    assert_eq!(
        read("{\"a\": [null]}"),
        "s.json: part `a`: expected an id or an index, found nothing"
    );
    assert_eq!(
        read("{\"a\": 3}"),
        "s.json: part `a`: expected a list, found the number 3"
    );
    assert_eq!(
        read("[]"),
        "s.json: expected an object with a list for each part, found a list of 0"
    );
    assert_eq!(
        read("{\"a\": [0], \"b\": [\"id0\"]}"),
        "s.json: item `id0` is in two parts: `a`, `b`"
    );
}

#[test]
fn a_leak_is_named() {
    let items = [("Hi there", "x"), ("hi, THERE", "y"), ("other", "x")]
        .map(|(text, topic)| Item::user(text).with_id(text).with_group("topic", topic));
    let data = DataSet::from_items(items).expect("a data set");
    let split = Split::by_indices(&data, [("a", vec![0]), ("b", vec![1, 2])]).expect("a split");
    let leaks = split.leaks(&data, &[By::group("topic")]);
    assert_eq!(leaks.len(), 2);
    assert_eq!(
        (leaks[0].by.clone(), leaks[0].value.as_str()),
        (Some(By::group("topic")), "x")
    );
    assert_eq!(
        leaks[0].parts,
        [
            ("a".into(), "Hi there".into()),
            ("b".into(), "other".into())
        ]
    );
    assert_eq!((leaks[1].by.clone(), leaks[1].parts.len()), (None, 2));
}
