//! LoRA adapters: numbers by PEFT, and what must hold whatever the numbers are.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

mod device;

use std::path::PathBuf;

use lm_core::{
    Adapter, AdapterConfig, Capture, Checkpoint, Head, HeadAblation, LanguageModel, OpenModel,
    Positions, Run, Site, Targets, TorchModel,
};
use lm_testkit::{GoldenCase, Tolerance, assert_close, golden};
use ndarray::Array2;

/// Adapter case, the case of its model, and its folders.
const CASES: &[(&str, &str, &[&str])] = &[
    (
        "lora-llama",
        "llama-gqa-tied",
        &["adapter", "qv", "patterns", "rslora", "regex"],
    ),
    ("lora-gpt2", "gpt2", &["adapter"]),
    ("lora-phi3", "phi3", &["adapter"]),
    ("lora-gpt-neox", "gpt-neox", &["adapter"]),
];

fn base(case: &str) -> TorchModel {
    device::open(golden(case).unwrap().model())
}

fn folder(case: &str, name: &str) -> PathBuf {
    golden(case).unwrap().folder().join(name)
}

/// Rows of the padded batch without padding.
fn rows(case: &GoldenCase) -> Vec<Vec<u32>> {
    let ids = case.tokens("input_ids").unwrap();
    let lengths = &case.integers("lengths").unwrap().values;
    ids.into_iter()
        .zip(lengths)
        .map(|(row, &length)| row[row.len() - length as usize..].to_vec())
        .collect()
}

fn everywhere() -> Run {
    Run {
        logits: Positions::All,
        ..Run::default()
    }
}

fn logits(model: &impl OpenModel, rows: &[Vec<u32>]) -> Vec<Array2<f32>> {
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    model.run(&rows, &everywhere()).unwrap().logits
}

fn bits(logits: &[Array2<f32>]) -> Vec<u32> {
    logits
        .iter()
        .flatten()
        .map(|value| value.to_bits())
        .collect()
}

/// Compares with `name` of a case, `[row, position, vocab]`, padded on the left.
fn check(case: &GoldenCase, name: &str, found: &[Array2<f32>]) {
    let expected = case.floats(name).unwrap();
    for (row, found) in found.iter().enumerate() {
        let length = expected.shape[1];
        for (position, found) in found.outer_iter().enumerate() {
            let pads = length - rows(case)[row].len();
            let what = format!("{name}, row {row}, position {position}");
            let expected = expected.at(&[row, pads + position]);
            assert_close(&what, found.to_slice().unwrap(), expected, Tolerance::F32);
        }
    }
}

fn near(what: &str, found: &[Array2<f32>], expected: &[Array2<f32>]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let (found, expected) = (found.as_standard_layout(), expected.as_standard_layout());
        let (found, expected) = (found.as_slice().unwrap(), expected.as_slice().unwrap());
        assert_close(what, found, expected, Tolerance::F32);
    }
}

/// An adapter on every matrix of a model, with a B that is not zero.
fn random(checkpoint: &Checkpoint) -> Adapter {
    let config = AdapterConfig::new(3, 6.0, Targets::all());
    let mut adapter = Adapter::new(checkpoint, config, 5).unwrap();
    let mut state = 1_u32;
    for (_, b) in adapter.matrices_mut() {
        b.mapv_inplace(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 * 0.2 - 0.1
        });
    }
    adapter
}

#[test]
fn logits_are_those_of_peft_and_the_base_stays_as_it_was() {
    for (name, of, folders) in CASES {
        let case = golden(name).unwrap();
        let model = base(of);
        let before = logits(&model, &rows(&case));
        check(&case, "base.logits", &before);
        for folder in *folders {
            let adapter = model.open_adapter(case.folder().join(folder)).unwrap();
            let adapted = model.with_adapters(&[&adapter]).unwrap();
            check(
                &case,
                &format!("{folder}.logits"),
                &logits(&adapted, &rows(&case)),
            );
            assert_eq!(bits(&logits(&model, &rows(&case))), bits(&before), "{name}");
            let merged = model.merged(&adapter).unwrap();
            let found = logits(&merged, &rows(&case));
            // The merged model outlives the adapter, and does not touch the one below.
            drop((adapted, adapter));
            check(&case, &format!("{folder}.logits"), &found);
            if case.has(&format!("{folder}.merged")) {
                check(&case, &format!("{folder}.merged"), &found);
            }
            assert_eq!(bits(&logits(&model, &rows(&case))), bits(&before), "{name}");
            drop(merged);
            assert_eq!(bits(&logits(&model, &rows(&case))), bits(&before), "{name}");
        }
    }
}

#[test]
fn each_row_may_have_its_own_adapter_and_keeps_it_in_a_session() {
    let case = golden("lora-llama").unwrap();
    let model = base("llama-gqa-tied");
    let [first, second] =
        ["adapter", "qv"].map(|name| model.open_adapter(case.folder().join(name)).unwrap());
    assert_eq!(case.integers("rows.adapter").unwrap().values, [0, 1, -1]);
    let adapters = [&first, &second];
    let assigned = [Some(0), Some(1), None];
    let view = model.with_row_adapters(&adapters, &assigned).unwrap();
    let prompts = rows(&case);
    check(&case, "rows.logits", &logits(&view, &prompts));
    let both = model.with_adapters(&adapters).unwrap();
    check(&case, "both.logits", &logits(&both, &prompts));

    // In a session: the last tokens by one step each, after the rows were turned round.
    let expected = logits(&view, &prompts);
    let mut session = view.begin(3).unwrap();
    let (heads, tails): (Vec<&[u32]>, Vec<u32>) = prompts
        .iter()
        .map(|row| (&row[..row.len() - 1], row[row.len() - 1]))
        .unzip();
    session.extend(&heads).unwrap();
    session.select(&[2, 0, 1, 0]).unwrap();
    let found = session
        .append(&[tails[2], tails[0], tails[1], tails[0]])
        .unwrap();
    for (row, from) in [2, 0, 1, 0].into_iter().enumerate() {
        let expected = expected[from].rows().into_iter().next_back().unwrap();
        assert_close(
            &format!("row {from}"),
            found.row(row).to_slice().unwrap(),
            expected.to_slice().unwrap(),
            Tolerance::F32,
        );
    }

    for error in [
        view.begin(2).err().unwrap(),
        view.next_logits(&prompts[0]).unwrap_err(),
    ] {
        assert!(error.to_string().contains("expected 3"), "{error}");
    }
    let error = model.with_row_adapters(&adapters, &[Some(2)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "adapter of row 0: expected one of 2 adapters, found 2"
    );
}

#[test]
fn an_adapter_works_with_captures_ablations_scores_and_hashes() {
    let case = golden("lora-llama").unwrap();
    let model = base("llama-gqa-tied");
    let adapter = model.open_adapter(case.folder().join("adapter")).unwrap();
    let (view, merged) = (
        model.with_adapters(&[&adapter]).unwrap(),
        model.merged(&adapter).unwrap(),
    );
    let run = Run {
        intervention: HeadAblation::silenced([Head::new(1, 2)]).into(),
        capture: Capture::of(
            [Site::Hidden(2), Site::HeadOutput(0), Site::MlpOutput(1)],
            Positions::All,
        ),
        logits: Positions::All,
    };
    let prompts = rows(&case);
    let all: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let (found, expected) = (
        view.run(&all, &run).unwrap(),
        merged.run(&all, &run).unwrap(),
    );
    near("logits", &found.logits, &expected.logits);
    for (found, expected) in found.captured.iter().zip(&expected.captured) {
        near("captured", &found.values, &expected.values);
    }
    let plain = logits(&view, &prompts);
    assert_ne!(bits(&plain), bits(&found.logits), "the ablation bites");

    let (prefix, rest) = prompts[0].split_at(3);
    let scores = view.score(prefix, rest).unwrap();
    for (index, score) in scores.iter().enumerate() {
        let row = plain[0].row(prefix.len() - 1 + index);
        let expected = lm_core::logits::log_prob(row.to_slice().unwrap(), rest[index]).unwrap();
        assert!((score - expected).abs() < 1e-5, "{score} {expected}");
    }
    let hash = vec![adapter.hash()];
    assert_eq!(view.provenance().unwrap().adapters, hash);
    assert_eq!(merged.provenance().unwrap().adapters, hash);
    assert!(model.provenance().unwrap().adapters.is_empty());
}

/// In every family the two ways to one result agree, so each projection is where its name says.
#[test]
fn merged_is_on_the_fly_in_every_family() {
    for name in [
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
        "gpt2",
        "gptj",
        "llama-bias",
        "llama-sharded",
        "mistral",
        "olmo2",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
    ] {
        let case = golden(name).unwrap();
        let model = device::open(case.model());
        let adapter = random(model.checkpoint());
        let prompts = case.padded_rows().unwrap();
        let found = logits(&model.with_adapters(&[&adapter]).unwrap(), &prompts);
        near(
            name,
            &found,
            &logits(&model.merged(&adapter).unwrap(), &prompts),
        );
        assert_ne!(bits(&found), bits(&logits(&model, &prompts)), "{name}");
    }
}

/// GGUF's llama files have the rows of queries and keys in another order; an adapter's names are Hugging Face's all the same.
#[test]
fn an_adapter_is_the_same_on_a_gguf_file() {
    let case = golden("gguf-llama").unwrap();
    let prompts = case.padded_rows().unwrap();
    let file = case.folder().join("f32.gguf");
    let [a, b] = [case.model(), file].map(device::open);
    let adapter = random(a.checkpoint());
    assert_eq!(adapter, random(b.checkpoint()));
    let [a, b] = [a, b].map(|model| logits(&model.with_adapters(&[&adapter]).unwrap(), &prompts));
    near("gguf", &b, &a);
}

#[test]
fn a_folder_written_back_is_read_again() {
    for (name, of, folders) in CASES {
        let checkpoint = Checkpoint::open(golden(of).unwrap().model()).unwrap();
        for own in *folders {
            let from = folder(name, own);
            let adapter = Adapter::open(&from, &checkpoint).unwrap();
            let to = tempfile::tempdir().unwrap();
            adapter.save(to.path()).unwrap();
            assert_eq!(Adapter::open(to.path(), &checkpoint).unwrap(), adapter);
            // Every key that is written stands in PEFT's own file, with the same value.
            let [written, peft] = [to.path(), &from].map(|folder| {
                let text = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap();
                serde_json::from_str::<serde_json::Value>(&text).unwrap()
            });
            for (key, value) in written.as_object().unwrap() {
                assert_eq!(Some(value), peft.get(key), "{name}/{own}: {key}");
            }
            let [written, peft] = [to.path(), &from].map(|folder| {
                lm_testkit::read_tensors(&folder.join("adapter_model.safetensors")).unwrap()
            });
            assert_eq!(written, peft, "{name}/{own}");
        }
    }
}

#[test]
fn a_new_adapter_changes_nothing_and_is_its_seed() {
    let model = base("llama-gqa-tied");
    let make = |seed| {
        let config = AdapterConfig::new(4, 8.0, Targets::names(["q_proj", "down_proj"]));
        Adapter::new(model.checkpoint(), config, seed).unwrap()
    };
    let adapter = make(1);
    assert_eq!(adapter, make(1));
    assert_ne!(adapter.hash(), make(2).hash());
    let prompts = golden("llama-gqa-tied").unwrap().padded_rows().unwrap();
    let found = logits(&model.with_adapters(&[&adapter]).unwrap(), &prompts);
    assert_eq!(bits(&found), bits(&logits(&model, &prompts)));
    for own in adapter.matrices() {
        let bound = 1.0 / (own.a.ncols() as f32).sqrt();
        let most = own
            .a
            .iter()
            .fold(0.0_f32, |most, value| most.max(value.abs()));
        assert!(most <= bound && most > 0.8 * bound, "{}", own.module);
    }
}

/// The fast sweep goes through adapters too, and through those of single rows as the plain one does.
#[test]
fn a_sweep_under_adapters_equals_one_run_an_ablation() {
    for (name, of, _) in CASES {
        let case = golden(name).unwrap();
        let model = base(of);
        let adapter = model.open_adapter(case.folder().join("adapter")).unwrap();
        let ablations: Vec<HeadAblation> = model
            .shape()
            .all_heads()
            .map(|head| HeadAblation::undifferentiated([head]))
            .collect();
        let rows = rows(&case);
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let assigned: Vec<Option<usize>> =
            (0..rows.len()).map(|row| (row == 1).then_some(0)).collect();
        for adapted in [
            model.with_adapters(&[&adapter]).unwrap(),
            model.with_row_adapters(&[&adapter], &assigned).unwrap(),
        ] {
            let mut expected: Vec<Array2<f32>> = Vec::new();
            lm_core::sweep_plainly(&adapted, &rows, &ablations, &mut |_, logits| {
                expected.push(logits.to_owned());
                Ok(())
            })
            .unwrap();
            let mut found: Vec<Array2<f32>> = Vec::new();
            adapted
                .sweep(&rows, &ablations, &mut |_, logits| {
                    found.push(logits.to_owned());
                    Ok(())
                })
                .unwrap();
            near(name, &found, &expected);
        }
    }
}

/// In bf16 the base rounds; what an adapter adds is computed in f32 and moves the logits as it does there.
#[test]
fn adapters_hold_in_bf16() {
    for (name, of, _) in CASES {
        let case = golden(name).unwrap();
        let (wide, narrow) = (base(of), {
            let options = device::options().dtype(lm_core::Dtype::Bf16);
            TorchModel::open_with(golden(of).unwrap().model(), options).unwrap()
        });
        let rows = rows(&case);
        let of_model = |model: &TorchModel| -> [Vec<Array2<f32>>; 3] {
            let adapter = model.open_adapter(case.folder().join("adapter")).unwrap();
            [
                logits(model, &rows),
                logits(&model.with_adapters(&[&adapter]).unwrap(), &rows),
                logits(&model.merged(&adapter).unwrap(), &rows),
            ]
        };
        let (wide, narrow) = (of_model(&wide), of_model(&narrow));
        let flat = |all: &[Array2<f32>]| -> Vec<f32> { all.iter().flatten().copied().collect() };
        // The change that the adapter makes, not the numbers it is a part of: bf16 keeps 8 bits of those.
        let change = |all: &[Vec<Array2<f32>>; 3], with: usize| -> Vec<f32> {
            let (with, without) = (flat(&all[with]), flat(&all[0]));
            with.iter().zip(&without).map(|(a, b)| a - b).collect()
        };
        for with in [1, 2] {
            let (wide, narrow) = (change(&wide, with), change(&narrow, with));
            let size = |values: &[f32]| {
                values
                    .iter()
                    .map(|value| f64::from(value * value))
                    .sum::<f64>()
                    .sqrt()
            };
            let apart: Vec<f32> = wide.iter().zip(&narrow).map(|(a, b)| a - b).collect();
            assert!(
                size(&apart) < 0.2 * size(&wide),
                "{name}: {} of {}",
                size(&apart),
                size(&wide)
            );
        }
    }
}
