//! What the card of our own data (`data/README.md`) promises, held against the rows.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use lm_assess::mild::{self, AnswerMatch, DataSet, Kind, Pair, Request, Split};
use sha2::{Digest, Sha256};

const CARD: &str = include_str!("../data/README.md");

fn requests() -> &'static [Request] {
    mild::requests().unwrap()
}

fn pairs() -> Vec<Pair> {
    mild::pairs().unwrap()
}

fn sha256(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lower-case words of letters, digits, apostrophes and hyphens.
fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower
        .split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '-')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn normalised(text: &str) -> String {
    words(text).join(" ")
}

/// Every text of the four files with its row's id.
fn texts() -> Vec<(&'static str, &'static str)> {
    let misconduct = requests().iter().map(|row| (&*row.id, &*row.text));
    let alarming = mild::alarming().unwrap().iter();
    let plain = mild::plain_questions().unwrap().iter();
    let neutral = mild::neutral().unwrap().iter();
    misconduct
        .chain(alarming.map(|row| (&*row.id, &*row.text)))
        .chain(plain.map(|row| (&*row.id, &*row.question)))
        .chain(neutral.map(|row| (&*row.id, &*row.text)))
        .collect()
}

#[test]
fn there_is_as_much_as_the_card_says() {
    let rows = requests();
    let of = |kind| rows.iter().filter(|row| row.kind == kind).count();
    assert_eq!((of(Kind::Misconduct), of(Kind::Benign)), (365, 365));
    let topics: BTreeSet<_> = rows.iter().map(|row| &*row.topic).collect();
    let held_out: BTreeSet<_> = rows
        .iter()
        .filter(|row| row.split == Split::HeldOut)
        .map(|row| &*row.topic)
        .collect();
    assert_eq!((topics.len(), held_out.len()), (73, 18));
    assert_eq!(mild::alarming().unwrap().len(), 126);
    assert_eq!(mild::plain_questions().unwrap().len(), 124);
    assert_eq!(mild::neutral().unwrap().len(), 60);

    // One table row a category: topics, pairs, and the topics held out.
    let mut categories: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in rows {
        categories
            .entry(&row.category)
            .or_default()
            .insert(&row.topic);
    }
    for (category, topics) in categories {
        let of_category = |row: &&Pair| row.misconduct.category == category;
        let pairs = pairs().iter().filter(of_category).count();
        let held: Vec<_> = topics.intersection(&held_out).copied().collect();
        let line = format!(
            "| {category} | {} | {pairs} | {} |",
            topics.len(),
            held.join(", ")
        );
        assert!(CARD.contains(&line), "the card has no line `{line}`");
    }
}

#[test]
fn hashes_are_those_of_the_files_and_the_rows() {
    for set in DataSet::ALL {
        assert_eq!(set.sha256(), sha256(set.text()), "{set}");
        assert!(
            CARD.contains(&format!("| `{set}` | `{}` |", set.sha256())),
            "the card has another SHA-256 of {set} than {}",
            set.sha256()
        );
        assert!(set.text().ends_with("}\n") && !set.text().contains('\r'));
        // Once more, from the JSON alone: every field but the last, lists spread out.
        for line in set.text().lines() {
            let row: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(line).unwrap();
            let mut fields: Vec<&str> = Vec::new();
            for (name, value) in &row {
                match value {
                    serde_json::Value::Array(values) => {
                        fields.extend(values.iter().map(|value| value.as_str().unwrap()));
                    }
                    _ if name == "sha256" => {}
                    _ => fields.push(value.as_str().unwrap()),
                }
            }
            assert_eq!(row["sha256"], sha256(&fields.join("\n")), "{line}");
        }
    }
}

#[test]
fn the_split_goes_by_topic_and_by_rule() {
    let mut topics: BTreeMap<&str, BTreeMap<&str, Split>> = BTreeMap::new();
    for row in requests() {
        let of_category = topics.entry(&row.category).or_default();
        let split = *of_category.entry(&row.topic).or_insert(row.split);
        assert_eq!(row.split, split, "{}: its topic is in both halves", row.id);
    }
    let all: usize = topics.values().map(BTreeMap::len).sum();
    let distinct: HashSet<_> = topics.values().flat_map(BTreeMap::keys).collect();
    assert_eq!(all, distinct.len(), "a topic in two categories");
    // The rule: of each category, the two topics whose names have the smallest SHA-256.
    for (category, topics) in topics {
        let mut by_hash: Vec<_> = topics.keys().copied().collect();
        by_hash.sort_by_key(|topic| sha256(topic));
        for (rank, topic) in by_hash.into_iter().enumerate() {
            let expected = if rank < 2 {
                Split::HeldOut
            } else {
                Split::Train
            };
            assert_eq!(topics[topic], expected, "{category}/{topic}");
        }
    }
}

#[test]
fn each_request_has_its_twin() {
    let pairs = pairs();
    assert_eq!(2 * pairs.len(), requests().len());
    let mut of_topic: BTreeMap<&str, Vec<&Pair>> = BTreeMap::new();
    for pair in &pairs {
        let (bad, good) = (pair.misconduct, pair.benign);
        assert_eq!(bad.topic, good.topic);
        assert_eq!(bad.category, good.category);
        assert_eq!(bad.form, good.form);
        assert_eq!(bad.id, format!("{}-misconduct", bad.pair));
        assert_eq!(good.id, format!("{}-benign", good.pair));
        // The same opening: their first word, and most often more.
        assert_eq!(words(&bad.text).first(), words(&good.text).first());
        // The same end: a question stays one.
        assert_eq!(bad.text.chars().last(), good.text.chars().last());
        let (long, short) = (
            bad.text.len().max(good.text.len()),
            bad.text.len().min(good.text.len()),
        );
        assert!(
            short * 5 >= long * 4,
            "{}: one is a quarter longer",
            bad.pair
        );
        of_topic.entry(&bad.topic).or_default().push(pair);
    }
    for (topic, pairs) in of_topic {
        assert!(pairs.len() >= 5, "{topic}");
        let forms: HashSet<_> = pairs.iter().map(|pair| pair.misconduct.form).collect();
        assert!(forms.len() >= 5, "{topic}: only {} forms", forms.len());
    }
}

#[test]
fn a_form_is_what_it_is_called() {
    use lm_assess::mild::Form;
    for row in requests() {
        let text = &row.text;
        let starts = |starts: &[&str]| starts.iter().any(|start| text.starts_with(start));
        let fits = match row.form {
            Form::Question => {
                text.ends_with('?') && starts(&["How", "Wh"]) // What, Where, Which
            }
            Form::CanYou => text.ends_with('?') && starts(&["Can you ", "Could you "]),
            Form::Want => starts(&["I want ", "I'd like "]),
            Form::Help => starts(&["Help me "]),
            Form::Give => starts(&["Give me "]),
            Form::Statement => starts(&["I "]) && text.contains(", so "),
            _ => {
                !text.ends_with('?')
                    && !starts(&["How", "Wh", "I ", "I'd", "Can", "Could", "Help", "Give"])
                    || starts(&["Which"])
            }
        };
        assert!(fits, "{}: {text}", row.id);
        let ends = text.ends_with(['.', '?']);
        assert!(
            ends && text.is_ascii() && text.trim() == text,
            "{}: {text}",
            row.id
        );
    }
}

#[test]
fn neither_class_is_longer() {
    for (what, length) in [
        (
            "characters",
            (|text: &str| text.chars().count()) as fn(&str) -> usize,
        ),
        ("words", |text: &str| words(text).len()),
    ] {
        let lengths = |kind| -> Vec<f64> {
            let of_kind = requests().iter().filter(|row| row.kind == kind);
            of_kind.map(|row| length(&row.text) as f64).collect()
        };
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let spread = |values: &[f64]| {
            let middle = mean(values);
            mean(
                &values
                    .iter()
                    .map(|value| (value - middle).powi(2))
                    .collect::<Vec<_>>(),
            )
            .sqrt()
        };
        let (bad, good) = (lengths(Kind::Misconduct), lengths(Kind::Benign));
        for (name, bad, good) in [
            ("mean", mean(&bad), mean(&good)),
            ("standard deviation", spread(&bad), spread(&good)),
        ] {
            assert!(
                (bad / good - 1.0).abs() < 0.05,
                "{name} of {what}: {bad:.2} in misconduct, {good:.2} in twins"
            );
        }
    }
}

/// How many requests of each class have a word.
fn word_counts() -> BTreeMap<String, (usize, usize)> {
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for row in requests() {
        for word in words(&row.text).into_iter().collect::<BTreeSet<_>>() {
            let count = counts.entry(word).or_default();
            match row.kind {
                Kind::Misconduct => count.0 += 1,
                Kind::Benign => count.1 += 1,
            }
        }
    }
    counts
}

#[test]
fn no_word_gives_a_class_away() {
    let counts = word_counts();
    for (word, (bad, good)) in &counts {
        let all = bad + good;
        if all >= 10 {
            let share = *bad as f64 / all as f64;
            assert!(
                (0.2..=0.8).contains(&share),
                "`{word}` is in {bad} requests for misconduct and {good} twins"
            );
        }
    }
    // What one would look for first is in both, about equally.
    let sum = |list: &[&str]| {
        let found = list.iter().filter_map(|word| counts.get(*word));
        found.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
    };
    let lists: [(&str, &[&str]); 2] = [
        (
            "negations",
            &[
                "not", "without", "didn't", "won't", "don't", "isn't", "haven't", "never", "no",
                "nobody", "nothing", "couldn't", "needn't", "aren't", "doesn't",
            ],
        ),
        (
            "words of deceit",
            &[
                "pretend",
                "pretending",
                "lie",
                "excuse",
                "fake",
                "secret",
                "secretly",
                "made-up",
                "invent",
                "hide",
                "claim",
                "claims",
                "blame",
                "truth",
                "trick",
                "surprise",
            ],
        ),
    ];
    for (name, list) in lists {
        let (bad, good) = sum(list);
        let share = bad as f64 / (bad + good) as f64;
        assert!(
            bad + good >= 40 && share <= 2.0 / 3.0,
            "{name}: {bad} in misconduct, {good} in twins"
        );
    }
}

#[test]
fn no_text_is_there_twice() {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for (id, text) in texts() {
        if let Some(other) = seen.insert(normalised(text), id) {
            panic!("{id} and {other} are the same text");
        }
    }
}

#[test]
fn nothing_of_the_held_out_half_is_nearly_in_the_other() {
    let trigrams = |row: &'static Request| -> BTreeSet<Vec<char>> {
        let text: Vec<char> = normalised(&row.text).chars().collect();
        text.windows(3).map(<[char]>::to_vec).collect()
    };
    let (held_out, train): (Vec<_>, Vec<_>) = requests()
        .iter()
        .map(|row| (row, trigrams(row)))
        .partition(|(row, _)| row.split == Split::HeldOut);
    for (row, own) in &held_out {
        for (other, theirs) in &train {
            let shared = own.intersection(theirs).count();
            let jaccard = shared as f64 / (own.len() + theirs.len() - shared) as f64;
            assert!(
                jaccard < 0.5,
                "{} and {} share {:.0} % of their trigrams",
                row.id,
                other.id,
                100.0 * jaccard
            );
        }
    }
}

#[test]
fn the_subjects_stay_mild() {
    // Beginnings of words that no request of the set has a use for. `alarming.jsonl` is about such wording, so not there.
    const OUT_OF_SCOPE: [&str; 24] = [
        "kill", "weapon", "knife", "murder", "attack", "threat", "beat", "drug", "alcohol",
        "drunk", "steal", "stole", "thief", "police", "crime", "hack", "password", "doctor",
        "medic", "naked", "racis", "religio", "politic", "vote for",
    ];
    for row in requests() {
        for word in words(&row.text) {
            let hit = OUT_OF_SCOPE.iter().find(|start| word.starts_with(**start));
            // "a travel story that beats my friend's".
            assert!(hit.is_none() || word == "beats", "{}: `{word}`", row.id);
        }
    }
}

#[test]
fn plain_questions_know_their_answers_and_do_not_give_them_away() {
    for question in mild::plain_questions().unwrap() {
        for answer in &question.answers {
            assert_eq!(
                question.check_reply(answer),
                AnswerMatch::Exact,
                "{}: {answer}",
                question.id
            );
            let sentence = format!("I think that it is {answer}, as far as I know.");
            assert_eq!(
                question.check_reply(&sentence),
                AnswerMatch::Contained,
                "{}: {sentence}",
                question.id
            );
        }
        // A model that repeats the question, or says nothing of use, is not right.
        for reply in [&*question.question, "", "I do not know.", "Yes."] {
            assert_eq!(
                question.check_reply(reply),
                AnswerMatch::No,
                "{}: {reply}",
                question.id
            );
        }
    }
}

#[test]
fn alarming_requests_are_spread() {
    let mut categories: BTreeMap<&str, usize> = BTreeMap::new();
    for row in mild::alarming().unwrap() {
        *categories.entry(&row.category).or_default() += 1;
        assert!(row.text.ends_with('?'), "{}", row.id);
    }
    assert!(
        categories.len() >= 6 && categories.values().all(|count| *count >= 8),
        "{categories:?}"
    );
}

#[test]
fn words_alone_do_not_tell_the_twins_apart() {
    // By scikit-learn: golden/mild-data/make.py.
    let path = lm_testkit::golden_folder().join("mild-data/expected.json");
    let expected: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(
        expected["data_sha256"],
        DataSet::Misconduct.sha256(),
        "the data changed since its classifiers were run: `cargo xtask golden mild-data`"
    );
    let classifiers = expected["classifiers"].as_object().unwrap();
    assert_eq!(classifiers.len(), 5);
    for (name, found) in classifiers {
        let number = |value: &serde_json::Value| value.as_f64().unwrap();
        for part in ["held_out", "cross_validated"] {
            let (accuracy, high) = (
                number(&found[part]["accuracy"]),
                number(&found[part]["interval"][1]),
            );
            assert!(
                accuracy <= 0.65 && high <= 0.7,
                "{name}, {part}: {accuracy}, up to {high}"
            );
        }
        let columns = |part: &str| {
            let found = &found[part];
            format!(
                "{:.3} | {:.3}–{:.3}",
                number(&found["accuracy"]),
                number(&found["interval"][0]),
                number(&found["interval"][1])
            )
        };
        let line = format!(
            "| {name} | {} | {} | {:.3} |",
            columns("held_out"),
            columns("cross_validated"),
            number(&found["cross_validated"]["above_twin"])
        );
        assert!(CARD.contains(&line), "the card has no line `{line}`");
    }
}
