//! Text-only baselines against scikit-learn, and on data sets whose separability is known.

use lm_assess::baseline::{Accuracy, Baseline, FitOptions, usual};
use lm_assess::data::split::{By, Split};
use lm_assess::data::{DataSet, Item};
use serde_json::Value;

fn expected() -> Value {
    let path = lm_testkit::golden_folder().join("text-baselines/expected.json");
    let text = std::fs::read_to_string(path).expect("the golden file");
    serde_json::from_str(&text).expect("JSON")
}

fn texts(expected: &Value, part: &str) -> Vec<(String, bool)> {
    let rows = expected[part].as_array().expect("rows");
    rows.iter()
        .map(|row| (row[0].as_str().expect("a text").to_owned(), row[1] == 1))
        .collect()
}

#[test]
fn weights_and_probabilities_are_scikit_learns() {
    let expected = expected();
    let (train, test) = (texts(&expected, "train"), texts(&expected, "test"));
    let cases = [
        (
            "ngrams 1 1",
            Baseline::NGrams {
                shortest: 1,
                longest: 1,
            },
        ),
        (
            "ngrams 1 2",
            Baseline::NGrams {
                shortest: 1,
                longest: 2,
            },
        ),
        (
            "ngrams 2 3",
            Baseline::NGrams {
                shortest: 2,
                longest: 3,
            },
        ),
        ("length", Baseline::Length),
        ("first word", Baseline::FirstWord),
    ];
    assert_eq!(
        cases.len(),
        expected["cases"].as_object().expect("cases").len()
    );
    for (name, baseline) in cases {
        for case in expected["cases"][name].as_array().expect("strengths") {
            let c = case["c"].as_f64().expect("a number");
            let fitted = FitOptions::new(baseline).c(c).fit(&train).expect("a fit");
            let weights = case["weights"].as_object().expect("weights");
            assert_eq!(fitted.weights().len(), weights.len(), "{name}");
            for (feature, found) in fitted.weights() {
                let wanted = weights[feature].as_f64().expect("a number");
                assert!(
                    (found - wanted).abs() < 1e-6,
                    "{name} at {c}, `{feature}`: {found} for {wanted}"
                );
            }
            let wanted = case["intercept"].as_f64().expect("a number");
            assert!(
                (fitted.intercept() - wanted).abs() < 1e-6,
                "{name} at {c}: {} for {wanted}",
                fitted.intercept()
            );
            for (part, key) in [
                (&train, "train_probabilities"),
                (&test, "test_probabilities"),
            ] {
                let wanted = case[key].as_array().expect("probabilities");
                for ((text, _), wanted) in part.iter().zip(wanted) {
                    let (found, wanted) =
                        (fitted.probability(text), wanted.as_f64().expect("a number"));
                    assert!(
                        (found - wanted).abs() < 1e-6,
                        "{name} at {c}, `{text}`: {found} for {wanted}"
                    );
                }
            }
        }
    }
}

/// Thirty topics, each with a request and its twin. `opening` says how a class begins, `ending` what it ends with.
fn twins(opening: [&str; 2], ending: [&str; 2]) -> DataSet {
    let items = (0..60).map(|at| {
        let (topic, class) = (at / 2, at % 2);
        Item::user(format!("{} topic{topic} {}", opening[class], ending[class]))
            .with_label(["mild", "plain"][class])
            .with_group("topic", topic.to_string())
    });
    DataSet::from_items(items).expect("a data set")
}

#[test]
fn what_the_first_word_tells_is_seen_by_the_first_word() {
    let data = twins(["please", "kindly"], ["now", "now"]);
    let reports = usual(&data, "mild", Some(By::group("topic")), 5, 1).expect("reports");
    let [ngrams, length, first] = &reports[..] else {
        panic!("{reports:?}")
    };
    let all = Accuracy {
        true_right: 30,
        true_total: 30,
        false_right: 30,
        false_total: 30,
    };
    assert_eq!(first.whole, all);
    assert!(first.separates(0.95) && ngrams.separates(0.95));
    // Both openings have six letters: lengths tell nothing.
    assert!(!length.separates(0.6), "{length:?}");
    assert_eq!(first.folds.len(), 5);
    assert_eq!(
        (first.whole.rate(), first.whole.majority()),
        (Some(1.0), Some(0.5))
    );
}

#[test]
fn what_only_length_tells_is_seen_by_length() {
    let data = twins(["say", "say"], ["a", "a a a a a a"]);
    let reports = usual(&data, "mild", Some(By::group("topic")), 5, 1).expect("reports");
    assert!(reports[1].separates(0.95), "{:?}", reports[1]);
    assert!(!reports[2].separates(0.6), "{:?}", reports[2]);
}

#[test]
fn what_no_text_tells_is_not_seen() {
    // The class is the parity of the topic's number, which no words but the topic's own name tell.
    let items = (0..60).map(|at| {
        Item::user(format!("tell me of topic{at}"))
            .with_label((at / 3 % 2).to_string())
            .with_group("topic", at.to_string())
    });
    let data = DataSet::from_items(items).expect("a data set");
    for report in usual(&data, "1", Some(By::group("topic")), 5, 3).expect("reports") {
        assert!(!report.separates(0.75), "{report:?}");
    }
}

#[test]
fn accuracies_without_texts_are_none() {
    let none = Accuracy::default();
    assert_eq!(
        (none.rate(), none.balanced(), none.majority()),
        (None, None, None)
    );
    let one = Accuracy {
        true_right: 1,
        true_total: 4,
        ..none
    };
    assert_eq!(
        (one.rate(), one.balanced(), one.majority()),
        (Some(0.25), None, Some(1.0))
    );
}

#[test]
fn what_cannot_be_fitted_is_refused() {
    let refused = |options: FitOptions, rows: &[(&str, bool)]| {
        options.fit(rows).expect_err("a refusal").to_string()
    };
    let rows = [("a", true), ("b", false)];
    let first = FitOptions::new(Baseline::FirstWord);
    assert_eq!(
        refused(first, &rows[..1]),
        "text baseline: expected training texts of both classes, found 1 of one and 0 of the other"
    );
    assert_eq!(
        refused(first, &[]),
        "text baseline: expected training texts of both classes, found 0 of one and 0 of the other"
    );
    assert_eq!(
        refused(first.c(0.0), &rows),
        "`c`: expected a number above 0, found 0"
    );
    assert_eq!(
        refused(first.c(f64::NAN), &rows),
        "`c`: expected a number above 0, found NaN"
    );
    assert_eq!(
        refused(
            FitOptions::new(Baseline::NGrams {
                shortest: 2,
                longest: 1
            }),
            &rows
        ),
        "`baseline`: expected at least 1 word, and the longest not below the shortest, found 2 to 1 words"
    );
    let data = DataSet::from_items([Item::user("a").with_label("1"), Item::user("b")])
        .expect("a data set");
    let split = Split::by_indices(&data, [("train", vec![0]), ("test", vec![1])]).expect("a split");
    let found = first
        .try_split(&data, &split, ("train", "test"), "1")
        .expect_err("no label");
    assert_eq!(
        found.to_string(),
        format!("text baseline: item `{}` has no label", data.items()[1].id)
    );
    let found = first
        .try_split(&data, &split, ("train", "dev"), "1")
        .expect_err("no part");
    assert_eq!(found.to_string(), "cannot split: no part `dev`");
}

/// A strength at which Newton's full step overshoots: the fit still ends, and is certain.
#[test]
fn a_weak_penalty_is_fitted_too() {
    let rows = [("a b", true), ("a c", true), ("d b", false), ("d c", false)];
    let fitted = FitOptions::new(Baseline::USUAL[0])
        .c(1e6)
        .fit(&rows)
        .expect("a fit");
    assert!(fitted.probability("a") > 0.99 && fitted.probability("d") < 0.01);
}
