//! The fast sweep gives what one whole run an ablation gives, in every family, for every kind of ablation.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

mod device;

use lm_core::{
    AblationKind, Error, Head, HeadAblation, LanguageModel, OpenModel, TorchModel, logits,
    sweep_plainly,
};
use lm_testkit::{Tolerance, assert_close, golden};
use ndarray::Array2;

const MODELS: &[&str] = &[
    "falcon-grouped",
    "falcon-multi-query",
    "falcon-sequential",
    "gemma",
    "gemma2",
    "gemma3",
    "glm",
    "glm4",
    "gpt-neo",
    "gpt-neox",
    "gpt-neox-sequential",
    "gpt2",
    "gptj",
    "llama-bias",
    "llama-gqa-tied",
    "llama-mha-untied",
    "llama-rope-dynamic",
    "llama-rope-longrope",
    "mistral",
    "olmo2",
    "phi",
    "phi-qk-norm",
    "phi3",
    "phi3-longrope",
    "qwen2",
    "qwen3",
];

const KINDS: &[AblationKind] = &[
    AblationKind::Undifferentiated { epsilon: 0.0 },
    AblationKind::Undifferentiated { epsilon: 0.1 },
    AblationKind::Contribution { factor: 0.0 },
    AblationKind::Contribution { factor: -0.5 },
    AblationKind::MeanQuery,
];

/// Every head with every kind, in order; then sets within a layer, across layers, combined kinds, nothing, and all backwards.
fn ablations(model: &TorchModel) -> Vec<HeadAblation> {
    let heads: Vec<Head> = model.shape().all_heads().collect();
    let (first, last) = (heads[0], heads[heads.len() - 1]);
    let mut all = vec![HeadAblation::none()];
    for kind in KINDS {
        all.extend(
            heads
                .iter()
                .map(|&head| HeadAblation::none().with(head, *kind)),
        );
    }
    all.push(HeadAblation::undifferentiated(
        heads.iter().copied().filter(|head| head.layer == 0),
    ));
    all.push(HeadAblation::undifferentiated([first, last]));
    all.push(HeadAblation::silenced(heads.iter().copied()));
    all.push(
        HeadAblation::none()
            .with(last, KINDS[4])
            .with(last, KINDS[1])
            .with(last, KINDS[3])
            .with(first, KINDS[2]),
    );
    all.push(
        KINDS
            .iter()
            .fold(HeadAblation::none(), |all, kind| all.with(first, *kind)),
    );
    all.push(HeadAblation::none());
    all.extend(
        heads
            .iter()
            .rev()
            .map(|&head| HeadAblation::none().with(head, KINDS[0])),
    );
    all
}

fn results(
    sweep: impl FnOnce(
        &mut dyn FnMut(usize, ndarray::ArrayView2<'_, f32>) -> Result<(), Error>,
    ) -> Result<(), Error>,
) -> Vec<Array2<f32>> {
    let mut all = Vec::new();
    sweep(&mut |index, logits| {
        assert_eq!(index, all.len(), "in order");
        all.push(logits.to_owned());
        Ok(())
    })
    .unwrap();
    all
}

#[test]
fn the_fast_sweep_equals_one_run_an_ablation() {
    for name in MODELS {
        let golden = golden(name).unwrap();
        let model = device::open(golden.model());
        let first = golden.tokens("whole.input_ids").unwrap().remove(0);
        let beginning = |rest: &[u32]| [&first[..6], rest].concat();
        let sets: [Vec<Vec<u32>>; 4] = [
            vec![first.clone()],
            vec![first[..1].to_vec()],
            // A common beginning, unequal rests.
            vec![
                beginning(&[3, 1, 4]),
                beginning(&[1]),
                beginning(&[5, 9, 2, 6]),
                beginning(&[5, 9]),
            ],
            // None in common.
            vec![first[1..6].to_vec(), first[2..4].to_vec()],
        ];
        let ablations = ablations(&model);
        for (set, prompts) in sets.iter().enumerate() {
            let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
            let found = results(|each| model.sweep(&prompts, &ablations, each));
            let expected = results(|each| sweep_plainly(&model, &prompts, &ablations, each));
            assert_eq!(found.len(), ablations.len());
            for ((ablation, found), expected) in ablations.iter().zip(&found).zip(&expected) {
                assert_close(
                    &format!("{name}, prompts {set}, {ablation:?}"),
                    found.as_standard_layout().as_slice().unwrap(),
                    expected.as_slice().unwrap(),
                    Tolerance::TWO_WAYS,
                );
            }
            // What is made of it: divergences from the model as it is, to 1e-5 of the largest.
            let plain = |all: &[Array2<f32>], row: usize| -> Vec<f64> {
                let base = all[0].row(row).to_vec();
                all.iter()
                    .map(|one| logits::kl_divergence(&base, &one.row(row).to_vec()).unwrap())
                    .collect()
            };
            for row in 0..prompts.len() {
                let (found, expected) = (plain(&found, row), plain(&expected, row));
                let largest = expected.iter().copied().fold(0.0, f64::max);
                for (found, expected) in found.iter().zip(&expected) {
                    assert!(
                        (found - expected).abs() <= 1e-5 * largest + 1e-9,
                        "{name}: {found} against {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_sweep_stops_when_told_and_refuses_before_it_begins() {
    let model = device::open(golden("llama-gqa-tied").unwrap().model());
    let heads = model
        .shape()
        .all_heads()
        .map(|head| HeadAblation::silenced([head]));
    let mut all: Vec<HeadAblation> = heads.collect();
    let mut seen = 0;
    let stopped = model.sweep(&[&[1, 2, 3]], &all, &mut |index, _| {
        seen = index + 1;
        if index == 2 {
            return Err(Error::Empty {
                what: "patience".to_owned(),
                unit: "minute",
            });
        }
        Ok(())
    });
    assert_eq!(
        stopped.unwrap_err().to_string(),
        "patience is empty, expected at least one minute"
    );
    assert_eq!(seen, 3);
    all.push(HeadAblation::silenced([Head::new(99, 0)]));
    let refused = model.sweep(&[&[1, 2, 3]], &all, &mut |_, _| panic!("nothing runs"));
    assert!(refused.unwrap_err().to_string().starts_with("head 99-0"));
    let refused = model.sweep(
        &[&[1, 2, model.vocab_size() as u32]],
        &all[..1],
        &mut |_, _| panic!("nothing runs"),
    );
    assert!(refused.unwrap_err().to_string().contains("token id"));
    model
        .sweep(&[&[1]], &[], &mut |_, _| panic!("nothing to do"))
        .unwrap();
}
