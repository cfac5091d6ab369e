//! Scores of many continuations: equal to one by one, and no token read twice.
#![allow(missing_docs)]

mod scripted;

use std::collections::BTreeSet;

use lm_core::{LanguageModel, ScoreOptions, check_score_many};
use proptest::prelude::*;
use scripted::{Call, Scripted};

const PREFIX: [u32; 3] = [5, 6, 7];

fn slices(continuations: &[Vec<u32>]) -> Vec<&[u32]> {
    continuations.iter().map(Vec::as_slice).collect()
}

fn of(batch: usize) -> ScoreOptions {
    ScoreOptions { batch }
}

fn one_by_one(model: &Scripted, continuations: &[Vec<u32>]) -> Vec<Vec<u64>> {
    let score = |continuation: &Vec<u32>| model.score(&PREFIX, continuation).unwrap();
    bits(&continuations.iter().map(score).collect::<Vec<_>>())
}

fn bits(scores: &[Vec<f64>]) -> Vec<Vec<u64>> {
    let row = |scores: &Vec<f64>| scores.iter().map(|score| score.to_bits()).collect();
    scores.iter().map(row).collect()
}

/// Distinct beginnings that something comes after.
fn must_be_read(continuations: &[Vec<u32>]) -> usize {
    let beginnings = |tokens: &Vec<u32>| {
        (1..tokens.len())
            .map(|end| tokens[..end].to_vec())
            .collect::<Vec<_>>()
    };
    continuations
        .iter()
        .flat_map(beginnings)
        .collect::<BTreeSet<_>>()
        .len()
}

fn most_rows(calls: &[Call]) -> usize {
    let rows = |call: &Call| match call {
        Call::Begin(rows) => *rows,
        Call::Select(rows) => rows.len(),
        Call::Extend(lengths) | Call::ExtendScored(lengths) | Call::Rewind(lengths) => {
            lengths.len()
        }
    };
    calls.iter().map(rows).max().unwrap_or(0)
}

fn tokens_fed(calls: &[Call]) -> usize {
    let fed = |call: &Call| match call {
        Call::Extend(lengths) | Call::ExtendScored(lengths) => lengths.iter().sum(),
        _ => 0,
    };
    calls.iter().map(fed).sum()
}

fn passes(calls: &[Call]) -> usize {
    let pass = |call: &&Call| matches!(call, Call::Extend(_) | Call::ExtendScored(_));
    calls.iter().filter(pass).count()
}

/// Tries of many branches and of long tails.
fn continuations() -> impl Strategy<Value = Vec<Vec<u32>>> {
    let token = prop_oneof![Just(0..1_u32), Just(0..4_u32)].prop_flat_map(|of| of);
    let short = prop::collection::vec(0..4_u32, 1..7);
    let long = prop::collection::vec(token, 1..60);
    prop::collection::vec(prop_oneof![6 => short, 1 => long], 1..40)
}

#[test]
fn the_prefix_and_common_beginnings_are_read_once() {
    let model = Scripted::of(30);
    let continuations = [
        vec![1, 2, 3],
        vec![1, 2, 4],
        vec![1, 2],
        vec![9],
        vec![1, 8, 8, 8],
        vec![1, 2, 3],
    ];
    let found = model
        .score_many(&PREFIX, &slices(&continuations), &of(8))
        .unwrap();
    assert_eq!(
        model.calls(),
        [
            Call::Begin(1),
            Call::Extend(vec![3]),
            // 1; then 1 2 and 1 8; then 1 8 8. No last token is read.
            Call::Extend(vec![1]),
            Call::Select(vec![0, 0]),
            Call::Extend(vec![1, 1]),
            Call::Select(vec![1]),
            Call::Extend(vec![1]),
        ]
    );
    assert_eq!(bits(&found), one_by_one(&model, &continuations));
}

/// A session that scores what it reads goes on to where the paths part, each row as far as it can.
#[test]
fn tails_are_read_in_one_pass() {
    let mut model = Scripted::of(30);
    model.scoring = true;
    let continuations = [
        [vec![1, 2], vec![3; 40]].concat(),
        [vec![1, 2, 4], vec![5; 20]].concat(),
        vec![1, 2, 4, 5, 5],
        vec![7, 7, 7],
        vec![7, 7, 8],
        vec![9],
    ];
    let found = model
        .score_many(&PREFIX, &slices(&continuations), &of(8))
        .unwrap();
    assert_eq!(
        model.calls(),
        [
            Call::Begin(1),
            Call::Extend(vec![3]),
            // 1 2, and 7 7; then all but the last token of the tails, the first of which are 3 and 4.
            Call::Select(vec![0, 0]),
            Call::ExtendScored(vec![2, 2]),
            Call::Select(vec![0, 0]),
            Call::ExtendScored(vec![39, 20]),
        ]
    );
    assert_eq!(bits(&found), one_by_one(&model, &continuations));
}

/// So many rows are padded beside a longer one, and no more; so many positions are read at once, and no more.
#[test]
fn a_pass_is_neither_mostly_pads_nor_too_large() {
    let mut model = Scripted::of(40);
    model.scoring = true;
    for (short, expected) in [(16, vec![30]), (17, vec![1, 29])] {
        // As many rows of one token each as `short` says, and one of thirty.
        let mut continuations: Vec<Vec<u32>> = (0..short).map(|row| vec![row, 1]).collect();
        continuations.push(vec![39; 31]);
        let found = model
            .score_many(&PREFIX, &slices(&continuations), &of(64))
            .unwrap();
        let calls = model.calls();
        let last_rows = |call: &Call| match call {
            Call::ExtendScored(lengths) => lengths.last().copied(),
            _ => None,
        };
        let lengths: Vec<usize> = calls.iter().filter_map(last_rows).collect();
        assert_eq!(lengths, expected);
        assert_eq!(bits(&found), one_by_one(&model, &continuations));
    }
    model.calls();
    let long: Vec<Vec<u32>> = (0..2).map(|row| vec![row; 1200]).collect();
    model.score_many(&PREFIX, &slices(&long), &of(64)).unwrap();
    let calls = model.calls();
    assert!(
        calls.contains(&Call::ExtendScored(vec![512, 512])),
        "{calls:?}"
    );
    assert_eq!(tokens_fed(&calls), 3 + 2 * 1199);
    assert_eq!(passes(&calls), 1 + 3);
}

/// With one row at a time the session goes back to where the paths part.
#[test]
fn a_batch_of_one_goes_back_instead_of_reading_again() {
    let model = Scripted::of(30);
    let continuations = [vec![1, 2, 3], vec![1, 4, 3], vec![2, 4]];
    let found = model
        .score_many(&PREFIX, &slices(&continuations), &of(1))
        .unwrap();
    let calls = model.calls();
    assert_eq!(most_rows(&calls), 1);
    assert_eq!(tokens_fed(&calls), 3 + 4);
    assert!(calls.contains(&Call::Rewind(vec![4])), "{calls:?}");
    assert_eq!(bits(&found), one_by_one(&model, &continuations));
}

#[test]
fn ten_thousand_candidates_of_a_shared_alphabet() {
    let model = Scripted::of(10);
    // The numbers 0000 to 9999: 10 + 100 + 1,000 beginnings instead of 30,000.
    let candidates: Vec<Vec<u32>> = (0..10_000_u32)
        .map(|number| [1000, 100, 10, 1].map(|place| number / place % 10).to_vec())
        .collect();
    let found = model
        .score_many(&PREFIX, &slices(&candidates), &ScoreOptions::default())
        .unwrap();
    let calls = model.calls();
    assert_eq!(tokens_fed(&calls), 3 + 1_110);
    assert_eq!(most_rows(&calls), 60);
    // Wide batches, not one row after the other: per digit its own step, then two parts of two steps.
    assert_eq!(passes(&calls), 1 + 10 * (1 + 2 * 2));
    let sample: Vec<usize> = (0..10_000).step_by(997).collect();
    let expected = one_by_one(
        &model,
        &sample
            .iter()
            .map(|&at| candidates[at].clone())
            .collect::<Vec<_>>(),
    );
    for (&at, expected) in sample.iter().zip(&expected) {
        assert_eq!(&bits(&found[at..=at])[0], expected);
    }
    // There is nothing else that four digits could be.
    let all: f64 = found
        .iter()
        .map(|scores| scores.iter().sum::<f64>().exp())
        .sum();
    assert!((all - 1.0).abs() < 1e-5, "{all}");
}

/// As deep as a thread's stack would not be.
#[test]
fn long_continuations_that_part_late() {
    struct Short;
    impl LanguageModel for Short {
        fn vocab_size(&self) -> usize {
            8
        }
        fn next_logits(&self, tokens: &[u32]) -> lm_core::Result<ndarray::Array1<f32>> {
            Ok((0..8).map(|id| (id + tokens.len() % 3) as f32).collect())
        }
    }
    let mut continuations = vec![vec![1; 3_000]; 3];
    for (token, continuation) in (0..).zip(&mut continuations) {
        continuation.extend([token, 1]);
    }
    let found = Short
        .score_many(&PREFIX, &slices(&continuations), &of(1))
        .unwrap();
    for (found, continuation) in found.iter().zip(&continuations) {
        assert_eq!(found, &Short.score(&PREFIX, continuation).unwrap());
    }
}

#[test]
fn what_is_refused_names_the_continuation() {
    let mut model = Scripted::of(10);
    model.context = Some(6);
    let refused = |prefix: &[u32], continuations: &[&[u32]]| {
        let error = model
            .score_many(prefix, continuations, &of(2))
            .unwrap_err()
            .to_string();
        let checked = check_score_many(prefix, continuations, 10, Some(6));
        assert_eq!(checked.unwrap_err().to_string(), error);
        error
    };
    assert_eq!(
        refused(&PREFIX, &[]),
        "list of continuations is empty, expected at least one continuation"
    );
    assert_eq!(
        refused(&[], &[&[1]]),
        "prefix is empty, expected at least one token"
    );
    assert_eq!(
        refused(&PREFIX, &[&[1], &[]]),
        "continuation 1 is empty, expected at least one token"
    );
    assert_eq!(
        refused(&PREFIX, &[&[1], &[2], &[1, 10]]),
        "row 2, position 4: token id 10, but the vocabulary has 10 entries"
    );
    assert_eq!(
        refused(&PREFIX, &[&[1, 2, 3], &[1, 2, 3, 4]]),
        "row 1: 7 tokens, but the model's context holds 6"
    );
    assert_eq!(
        refused(&[1, 11], &[&[1]]),
        "row 0, position 1: token id 11, but the vocabulary has 10 entries"
    );
    for batch in [0, usize::MAX] {
        let error = model.score_many(&PREFIX, &[&[1]], &of(batch)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("batch: expected from 1 to 1048576, found {batch}")
        );
    }
    assert_eq!(model.calls(), []);
    // As long as the context is long enough.
    model.score_many(&PREFIX, &[&[1, 2, 3]], &of(2)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn scores_equal_those_one_by_one(
        continuations in continuations(),
        batch in 1..9_usize,
        scoring: bool,
    ) {
        let mut model = Scripted::of(12);
        model.scoring = scoring;
        let found = model.score_many(&PREFIX, &slices(&continuations), &of(batch)).unwrap();
        let calls = model.calls();
        prop_assert_eq!(tokens_fed(&calls), PREFIX.len() + must_be_read(&continuations));
        prop_assert!(most_rows(&calls) <= batch);
        prop_assert_eq!(bits(&found), one_by_one(&model, &continuations));
    }
}

#[cfg(feature = "torch")]
mod device;

#[cfg(feature = "torch")]
mod with_weights {
    use lm_core::{HeadAblation, OpenModel, PlainSession, ScoringSession, Session, TorchModel};
    use lm_testkit::{TinyLlama, golden};

    use super::*;

    /// The engine scores one continuation in one pass, and many in a session: two ways to one result.
    #[test]
    fn many_equal_one_by_one() {
        let folder = tempfile::tempdir().unwrap();
        TinyLlama::default().write(folder.path()).unwrap();
        let model = TorchModel::open(folder.path()).unwrap();
        let heads: Vec<_> = model.shape().all_heads().take(2).collect();
        let ablated = model.ablated(HeadAblation::silenced(heads)).unwrap();
        let models: [&dyn LanguageModel; 2] = [&model, &ablated];
        // 125 numbers of three digits, and some that are shorter or longer.
        let mut continuations: Vec<Vec<u32>> = (0..125)
            .map(|number| vec![50 + number / 25, 50 + number / 5 % 5, 50 + number % 5])
            .collect();
        continuations.extend([
            vec![50],
            vec![51, 7],
            vec![52; 9],
            vec![50, 51, 52, 53, 9, 9],
        ]);
        for model in models {
            for batch in [1, 4, 7, 64] {
                let found = model
                    .score_many(&PREFIX, &slices(&continuations), &of(batch))
                    .unwrap();
                for (found, continuation) in found.iter().zip(&continuations) {
                    let expected = model.score(&PREFIX, continuation).unwrap();
                    assert_eq!(found.len(), expected.len());
                    for (found, expected) in found.iter().zip(&expected) {
                        assert!(
                            (found - expected).abs() < 1e-4,
                            "batch {batch}: {found}, {expected}"
                        );
                    }
                }
            }
        }
    }

    /// Grouped heads, one key/value head, learned positions, windows, soft caps, two rotary bases, parallel blocks.
    const MODELS: &[&str] = &[
        "llama-gqa-tied",
        "llama-mha-untied",
        "falcon-multi-query",
        "gpt2",
        "gptj",
        "mistral",
        "gemma2",
        "gemma3",
        "gpt-neo",
        "glm4",
        "olmo2",
        "phi3",
        "qwen3",
    ];

    fn close(name: &str, found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len(), "{name}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-4,
                "{name}: {found}, {expected}"
            );
        }
    }

    /// By the plainest session: one token after the other, each row from its beginning.
    fn plain_scores(model: &TorchModel, before: &[u32], chunk: &[u32]) -> Vec<f64> {
        let mut session = PlainSession::new(model, 1).unwrap();
        let mut next = session.extend(&[&[before, &chunk[..1]].concat()]).unwrap();
        let mut scores = Vec::new();
        for &id in &chunk[1..] {
            let row = next.row(0).to_vec();
            scores.push(lm_core::logits::log_prob(&row, id).unwrap());
            next = session.append(&[id]).unwrap();
        }
        scores
    }

    /// A trie of tails of unequal lengths, some longer than a window, in every family's arithmetic.
    #[test]
    fn tails_equal_one_by_one_in_every_family() {
        for name in MODELS {
            let model = device::open(golden(name).unwrap().model());
            let context = model.context_length().unwrap().min(40);
            let tail = |row: u32, length: usize| -> Vec<u32> {
                let length = u32::try_from(length.min(context - 5)).unwrap();
                (0..length).map(|i| (row * 7 + i * i + 3) % 60).collect()
            };
            let continuations: Vec<Vec<u32>> = [(1, 30), (2, 11), (3, 1), (4, 2), (1, 12), (5, 19)]
                .into_iter()
                .map(|(row, length)| tail(row, length))
                .chain([[&[1, 2, 3][..], &tail(6, 9)].concat(), vec![1, 2, 4, 5, 6]])
                .collect();
            let alone = |tail: &Vec<u32>| {
                let whole = [&PREFIX[2..], tail].concat();
                plain_scores(&model, &PREFIX[..2], &whole)
            };
            let expected: Vec<Vec<f64>> = continuations.iter().map(alone).collect();
            for batch in [1, 3, 64] {
                let found = model
                    .score_many(&PREFIX, &slices(&continuations), &of(batch))
                    .unwrap();
                for (found, expected) in found.iter().zip(&expected) {
                    close(&format!("{name}, batch {batch}"), found, expected);
                }
            }
        }
    }

    /// Rows of unequal lengths, forked and cut, go on as if they had been fed token by token; behind a soft prompt too.
    #[test]
    fn a_session_scores_what_it_reads() {
        let model = device::open(golden("llama-gqa-tied").unwrap().model());
        let soft_prompt = model.soft_prompt_of(&[5, 40, 17]).unwrap();
        let soft = model.with_soft_prompt(&soft_prompt).unwrap();
        let views: [(&dyn LanguageModel, &[u32]); 2] = [(&model, &[]), (&soft, &[5, 40, 17])];
        for (view, virtual_tokens) in views {
            let mut session = view.begin(2).unwrap();
            let scoring = session.scoring().unwrap();
            let mut rows: Vec<Vec<u32>> = vec![vec![]; 2];
            let feed =
                |scoring: &mut dyn ScoringSession, rows: &mut Vec<Vec<u32>>, chunks: &[&[u32]]| {
                    let found = scoring.extend_scored(chunks).unwrap();
                    assert_eq!(found.scores.len(), chunks.len());
                    for ((row, chunk), scores) in rows.iter_mut().zip(chunks).zip(&found.scores) {
                        let before = [virtual_tokens, row.as_slice()].concat();
                        close("scores", scores, &plain_scores(&model, &before, chunk));
                        row.extend_from_slice(chunk);
                    }
                    for (row, next) in rows.iter().zip(found.next.outer_iter()) {
                        let whole = [virtual_tokens, row.as_slice()].concat();
                        let expected = model.next_logits(&whole).unwrap();
                        let mut logits = next.iter().zip(&expected);
                        assert!(logits.all(|(found, expected)| (found - expected).abs() < 1e-4));
                    }
                };
            feed(scoring, &mut rows, &[&[9, 8, 7, 30, 4], &[50]]);
            feed(scoring, &mut rows, &[&[12], &[60, 3, 9]]);
            scoring.select(&[1, 0, 1, 1, 1, 1]).unwrap();
            rows = [1, 0, 1, 1, 1, 1]
                .map(|row: usize| rows[row].clone())
                .into();
            feed(
                scoring,
                &mut rows,
                &[&[1, 2, 3], &[4], &[5, 6], &[7], &[8, 9, 10, 11], &[12, 13]],
            );
            scoring.rewind(&[5, 3, 2, 1, 4, 6]).unwrap();
            for (row, length) in rows.iter_mut().zip([5, 3, 2, 1, 4, 6]) {
                row.truncate(length);
            }
            feed(
                scoring,
                &mut rows,
                &[&[1], &[4, 5, 6], &[5, 6], &[7, 1], &[8], &[12, 13, 2, 2]],
            );
            let error = scoring.extend_scored(&[&[1]]).unwrap_err().to_string();
            assert_eq!(error, "chunks: expected one for each of 6 rows, found 1");
        }
    }
}
