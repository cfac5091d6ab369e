//! Rows that came from one row share its keys and values, and are nevertheless rows of their own: whatever is done to them,
//! each has the logits it would have alone, recomputed from its tokens.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

mod device;

use std::sync::OnceLock;

use lm_core::{HeadAblation, LanguageModel, OpenModel, PlainSession, Session, TorchModel};
use lm_testkit::{Tolerance, assert_close, golden};
use proptest::prelude::*;

/// Grouped heads, one key/value head, learned positions, windows, soft caps, two rotary bases.
const MODELS: &[&str] = &[
    "llama-gqa-tied",
    "llama-mha-untied",
    "falcon-multi-query",
    "gpt2",
    "mistral",
    "gemma2",
    "gemma3",
    "gpt-neo",
];

fn model(index: usize) -> &'static TorchModel {
    static MODEL: [OnceLock<TorchModel>; 8] = [const { OnceLock::new() }; 8];
    MODEL[index].get_or_init(|| device::open(golden(MODELS[index]).unwrap().model()))
}

#[derive(Clone, Debug)]
enum Action {
    /// Appends so many tokens to each row, as many as there is an entry for, by turns.
    Extend(Vec<usize>),
    Select(Vec<usize>),
    Rewind(Vec<usize>),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => prop::collection::vec(1_usize..5, 1..4).prop_map(Action::Extend),
        3 => prop::collection::vec(0_usize..8, 1..8).prop_map(Action::Select),
        1 => prop::collection::vec(0_usize..14, 1..4).prop_map(Action::Rewind),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn forked_rows_are_rows_of_their_own(
        index in 0..MODELS.len(),
        prompts in prop::collection::vec(4_usize..9, 1..4),
        actions in prop::collection::vec(action(), 1..8),
        seed in 0_u32..1000,
    ) {
        let model = model(index);
        let context = model.context_length().unwrap().min(30);
        let vocab = u32::try_from(model.vocab_size()).unwrap();
        let mut fast = model.begin(prompts.len()).unwrap();
        let mut plain = PlainSession::new(model, prompts.len()).unwrap();
        let mut next = seed;
        let mut tokens = |count: usize| -> Vec<u32> {
            (0..count).map(|_| { next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); (next >> 8) % vocab }).collect()
        };
        let first: Vec<Vec<u32>> = prompts.iter().map(|&count| tokens(count)).collect();
        let feed = |fast: &mut Box<dyn Session + '_>, plain: &mut PlainSession<'_, TorchModel>, chunks: &[Vec<u32>]| {
            let chunks: Vec<&[u32]> = chunks.iter().map(Vec::as_slice).collect();
            let (found, expected) = (fast.extend(&chunks).unwrap(), plain.extend(&chunks).unwrap());
            for (row, (found, expected)) in found.outer_iter().zip(expected.outer_iter()).enumerate() {
                assert_close(
                    &format!("{}, row {row}", MODELS[index]),
                    found.as_slice().unwrap(),
                    expected.as_slice().unwrap(),
                    Tolerance::TWO_WAYS,
                );
            }
        };
        feed(&mut fast, &mut plain, &first);
        for action in actions {
            match action {
                Action::Extend(counts) => {
                    let longest = (0..plain.rows()).map(|row| plain.len(row)).max().unwrap();
                    if longest + 5 > context {
                        continue;
                    }
                    let chunks: Vec<Vec<u32>> = (0..plain.rows()).map(|row| tokens(counts[row % counts.len()])).collect();
                    feed(&mut fast, &mut plain, &chunks);
                }
                Action::Select(rows) => {
                    let rows: Vec<usize> = rows.iter().map(|row| row % plain.rows()).collect();
                    fast.select(&rows).unwrap();
                    plain.select(&rows).unwrap();
                }
                Action::Rewind(lengths) => {
                    let lengths: Vec<usize> =
                        (0..plain.rows()).map(|row| lengths[row % lengths.len()].min(plain.len(row))).collect();
                    fast.rewind(&lengths).unwrap();
                    plain.rewind(&lengths).unwrap();
                }
            }
            for row in 0..plain.rows() {
                prop_assert_eq!(fast.len(row), plain.len(row));
            }
        }
        // Whatever happened last is seen in what follows.
        let longest = (0..plain.rows()).map(|row| plain.len(row)).max().unwrap();
        if longest + 2 <= context {
            let chunks: Vec<Vec<u32>> = (0..plain.rows()).map(|row| tokens(1 + row % 2)).collect();
            feed(&mut fast, &mut plain, &chunks);
        }
    }
}

#[test]
fn an_ablation_holds_over_shared_keys_and_own_ones() {
    for (index, name) in MODELS.iter().enumerate() {
        let model = model(index);
        let shape = model.shape();
        let ablation = HeadAblation::undifferentiated(shape.all_heads().step_by(2));
        let view = model.ablated(ablation.clone()).unwrap();
        let mut fast = model.begin_ablated(1, &ablation).unwrap();
        let mut plain = PlainSession::new(&view, 1).unwrap();
        for session in [fast.as_mut(), &mut plain as &mut dyn Session] {
            session.extend(&[&[5, 9, 2, 17, 30, 8, 4]]).unwrap();
            session.select(&[0; 6]).unwrap();
        }
        for step in 0..4_u32 {
            let tokens: Vec<u32> = (0..6).map(|row| 3 + row * 5 + step).collect();
            let (found, expected) = (
                fast.append(&tokens).unwrap(),
                plain.append(&tokens).unwrap(),
            );
            assert_close(
                name,
                found.as_slice().unwrap(),
                expected.as_slice().unwrap(),
                Tolerance::TWO_WAYS,
            );
        }
    }
}

/// Holes longer than any block of keys a kernel takes at once: a row that sees nothing in a whole block is not lost in it.
#[test]
fn a_short_row_beside_a_long_one_forks_as_it_would_alone() {
    let folder = tempfile::tempdir().unwrap();
    lm_testkit::TinyLlama {
        context: 2048,
        ..lm_testkit::TinyLlama::default()
    }
    .write(folder.path())
    .unwrap();
    for dtype in [lm_core::Dtype::F32, lm_core::Dtype::Bf16] {
        let options = device::options().dtype(dtype);
        let model = TorchModel::open_with(folder.path(), options).unwrap();
        let tolerance = match dtype {
            lm_core::Dtype::F32 => Tolerance::TWO_WAYS,
            _ => Tolerance {
                absolute: 0.1,
                relative: 0.1,
            },
        };
        let long: Vec<u32> = (0..1700).map(|i| (i * 7) % 90).collect();
        let short = [5, 9, 2];
        let mut together = model.begin(2).unwrap();
        together.extend(&[&long, &short]).unwrap();
        together.select(&[1, 0, 1, 1, 0]).unwrap();
        let chunk = [3, 1, 4, 1];
        let found = together
            .extend(&[&chunk[..2], &chunk, &chunk[..1], &chunk, &chunk[..3]])
            .unwrap();
        let rows = [
            (&short[..], 2),
            (&long[..], 4),
            (&short[..], 1),
            (&short[..], 4),
            (&long[..], 3),
        ];
        for (row, (beginning, count)) in rows.into_iter().enumerate() {
            let whole = [beginning, &chunk[..count]].concat();
            let expected = model.next_logits(&whole).unwrap();
            assert_close(
                &format!("{dtype}, row {row}"),
                found.row(row).to_slice().unwrap(),
                expected.as_slice().unwrap(),
                tolerance,
            );
        }
    }
}
