//! Training: numbers by PyTorch and transformers, and what must hold whatever the numbers are.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

use std::ops::ControlFlow;
use std::path::Path;

use lm_core::torch::train::{Example, Loss, StepReport, TrainOptions, Trained, Trainer, train};
use lm_core::{Adapter, AdapterConfig, OpenModel, Positions, Run, Targets, TorchModel};
use lm_testkit::{GoldenCase, Tolerance, assert_close, golden, read_tensors};
use ndarray::Array2;
use serde_json::Value;

fn llama() -> TorchModel {
    TorchModel::open(golden("llama-gqa-tied").unwrap().model()).unwrap()
}

/// Examples of `[…, row, position]`, without padding.
fn examples(case: &GoldenCase, prefix: &str) -> Vec<Example> {
    let [ids, attention, targets] = ["input_ids", "attention_mask", "target_mask"]
        .map(|name| &case.integers(&format!("{prefix}{name}")).unwrap().values);
    let width = *case
        .integers(&format!("{prefix}input_ids"))
        .unwrap()
        .shape
        .last()
        .unwrap();
    let rows = ids
        .chunks(width)
        .zip(attention.chunks(width))
        .zip(targets.chunks(width));
    rows.map(|((ids, attention), targets)| {
        let kept = |values: &[i64]| -> Vec<u32> {
            let own = values.iter().zip(attention).filter(|(_, kept)| **kept == 1);
            own.map(|(value, _)| u32::try_from(*value).unwrap())
                .collect()
        };
        let targets = kept(targets).into_iter().map(|target| target == 1);
        Example::new(kept(ids), targets.collect()).unwrap()
    })
    .collect()
}

fn slices(all: &[Array2<f32>]) -> Vec<f32> {
    all.iter().flatten().copied().collect()
}

fn weights(adapter: &Adapter) -> Vec<f32> {
    let all = adapter.matrices().iter().flat_map(|own| [&own.a, &own.b]);
    all.flatten().copied().collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A small state of affairs: B is not zero, so that A has gradients.
fn random(model: &TorchModel, dropout: f64) -> Adapter {
    let config = AdapterConfig::new(3, 6.0, Targets::all()).with_dropout(dropout);
    let mut adapter = Adapter::new(model.checkpoint(), config, 5).unwrap();
    let mut state = 1_u32;
    for (_, b) in adapter.matrices_mut() {
        b.mapv_inplace(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 * 0.2 - 0.1
        });
    }
    adapter
}

fn some(count: usize) -> Vec<Example> {
    (0..count as u32)
        .map(|index| {
            let prompt: Vec<u32> = (0..1 + index % 4)
                .map(|i| 3 + (index * 7 + i * 5) % 60)
                .collect();
            let reply: Vec<u32> = (0..1 + index % 5).map(|i| 10 + (index + i) % 9).collect();
            Example::reply(&prompt, &reply).unwrap()
        })
        .collect()
}

fn likelihood(count: usize) -> impl FnMut(usize, &[f64]) -> lm_core::Result<Loss> {
    move |_, log_probs| Ok(Loss::negative_log_likelihood(log_probs, count))
}

fn count(examples: &[Example]) -> usize {
    examples.iter().map(Example::target_count).sum()
}

#[test]
fn twenty_steps_are_those_of_transformers_and_the_base_stays_as_it_was() {
    let case = golden("train-lora").unwrap();
    let text = std::fs::read_to_string(case.folder().join("settings.json")).unwrap();
    let settings: Value = serde_json::from_str(&text).unwrap();
    let number = |name: &str| settings[name].as_f64().unwrap();
    let model = llama();
    let prompts = golden("llama-gqa-tied").unwrap().padded_rows().unwrap();
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let run = Run {
        logits: Positions::All,
        ..Run::default()
    };
    let before = model.run(&prompts, &run).unwrap().logits;
    let (all, held_out) = (examples(&case, ""), examples(&case, "held_out."));
    for checkpointing in [false, true] {
        let mut options = TrainOptions::new(20, 3, number("peak_learning_rate"));
        options.warmup = 4;
        options.optimizer.weight_decay = number("weight_decay");
        options.max_grad_norm = Some(number("max_grad_norm"));
        options.checkpointing = checkpointing;
        let start = model.open_adapter(case.folder().join("start")).unwrap();
        let mut trainer = Trainer::new(&model, start, options).unwrap();
        let close = |what: &str, found: Vec<f64>, name: &str| {
            let found: Vec<f32> = found.into_iter().map(|value| value as f32).collect();
            let bound = Tolerance {
                absolute: 1e-7,
                relative: 1e-4,
            };
            assert_close(what, &found, &case.floats(name).unwrap().values, bound);
        };
        let loss = trainer.evaluate(&held_out).unwrap();
        close("held out before", vec![loss], "held_out.loss_before");
        let reports: Vec<StepReport> = all
            .chunks(6)
            .map(|step| {
                let batches: Vec<Vec<&Example>> =
                    step.chunks(3).map(|batch| batch.iter().collect()).collect();
                trainer.step(&batches).unwrap()
            })
            .collect();
        let of = |read: fn(&StepReport) -> f64| reports.iter().map(read).collect::<Vec<_>>();
        close("losses", of(|report| report.loss), "losses");
        close("norms", of(|report| report.grad_norm), "grad_norms");
        close("rates", of(|report| report.learning_rate), "learning_rates");
        let loss = trainer.evaluate(&held_out).unwrap();
        close("held out after", vec![loss], "held_out.loss_after");
        let end = model.open_adapter(case.folder().join("final")).unwrap();
        let found = weights(trainer.adapter().unwrap());
        assert_close("final", &found, &weights(&end), Tolerance::F32);
    }
    let after = model.run(&prompts, &run).unwrap().logits;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(
            bits(before.as_slice().unwrap()),
            bits(after.as_slice().unwrap())
        );
    }
}

#[test]
fn preference_optimisation_stands_on_it() {
    let case = golden("train-dpo").unwrap();
    let model = llama();
    let adapter = model.open_adapter(case.folder().join("adapter")).unwrap();
    let expected = read_tensors(&case.folder().join("gradients.safetensors")).unwrap();
    let (chosen, rejected) = (examples(&case, "chosen."), examples(&case, "rejected."));
    let both: Vec<&Example> = chosen.iter().chain(&rejected).collect();
    let close = |found: &[f64], name: &str| {
        let found: Vec<f32> = found.iter().map(|value| *value as f32).collect();
        assert_close(
            name,
            &found,
            &case.floats(name).unwrap().values,
            Tolerance::F32,
        );
    };
    for checkpointing in [false, true] {
        let mut options = TrainOptions::new(1, 8, 1e-3);
        options.checkpointing = checkpointing;
        let mut trainer = Trainer::new(&model, adapter.clone(), options).unwrap();
        let policy = trainer.log_probs(&both).unwrap();
        let reference = trainer.reference_log_probs(&both).unwrap();
        close(&policy[..4], "chosen.policy_log_probs");
        close(&policy[4..], "rejected.policy_log_probs");
        close(&reference[..4], "chosen.reference_log_probs");
        close(&reference[4..], "rejected.reference_log_probs");
        let mut dpo = |_: usize, log_probs: &[f64]| {
            let (mut value, mut slopes) = (0.0, vec![0.0; 8]);
            for triple in 0..4 {
                let reward = |at: usize| 0.1 * (log_probs[at] - reference[at]);
                let margin = reward(triple) - reward(triple + 4);
                value += (1.0 + (-margin).exp()).ln() / 4.0;
                slopes[triple] = -0.1 / (1.0 + margin.exp()) / 4.0;
                slopes[triple + 4] = -slopes[triple];
            }
            Ok(Loss { value, slopes })
        };
        let (value, gradients) = trainer
            .gradients(std::slice::from_ref(&both), &mut dpo)
            .unwrap();
        close(&[value], "loss");
        for (own, gradients) in adapter.matrices().iter().zip(gradients.chunks(2)) {
            for (which, gradient) in ["A", "B"].into_iter().zip(gradients) {
                let name = format!("base_model.model.{}.lora_{which}.weight", own.module);
                let lm_testkit::Tensor::Floats(expected) = &expected[&name] else {
                    panic!("{name}");
                };
                let found = gradient.as_slice().unwrap();
                assert_close(&name, found, &expected.values, Tolerance::F32);
            }
        }
    }
}

/// The derivative along a direction is the gradient's, in every family: fused matrices, soft caps, windows, parallel blocks.
#[test]
fn gradients_are_derivatives_and_checkpointing_changes_none() {
    for name in [
        "llama-bias",
        "gpt2",
        "phi3",
        "gpt-neox",
        "gemma2",
        "gemma3",
        "falcon-grouped",
        "glm4",
        "olmo2",
        "qwen3",
    ] {
        let model = TorchModel::open(golden(name).unwrap().model()).unwrap();
        let adapter = random(&model, 0.0);
        let data = some(4);
        let batch: Vec<&Example> = data.iter().collect();
        let trainer = |adapter: Adapter, checkpointing: bool| {
            let mut options = TrainOptions::new(1, 4, 1e-3);
            options.checkpointing = checkpointing;
            Trainer::new(&model, adapter, options).unwrap()
        };
        let gradients = |checkpointing| {
            let mut trainer = trainer(adapter.clone(), checkpointing);
            let found =
                trainer.gradients(std::slice::from_ref(&batch), &mut likelihood(count(&data)));
            found.unwrap()
        };
        let (loss, plain) = gradients(false);
        let (again, recomputed) = gradients(true);
        assert!((loss - again).abs() < 1e-9, "{name}");
        let bound = Tolerance {
            absolute: 1e-7,
            relative: 1e-5,
        };
        assert_close(name, &slices(&recomputed), &slices(&plain), bound);

        let flat = slices(&plain);
        let norm = flat
            .iter()
            .map(|value| f64::from(*value).powi(2))
            .sum::<f64>()
            .sqrt();
        let moved = |by: f64| {
            let mut adapter = adapter.clone();
            for ((a, b), of) in adapter.matrices_mut().zip(plain.chunks(2)) {
                *a += &(&of[0] * (by / norm) as f32);
                *b += &(&of[1] * (by / norm) as f32);
            }
            trainer(adapter, false).evaluate(&data).unwrap()
        };
        let slope = (moved(5e-3) - moved(-5e-3)) / 1e-2;
        assert!(
            (slope / norm - 1.0).abs() < 0.01,
            "{name}: {slope} against {norm}"
        );
    }
}

#[test]
fn accumulation_is_one_batch_and_neighbours_change_nothing() {
    let model = llama();
    let data = some(6);
    let gradients = |batches: Vec<Vec<&Example>>| {
        let options = TrainOptions::new(1, 6, 1e-3);
        let mut trainer = Trainer::new(&model, random(&model, 0.0), options).unwrap();
        let (loss, found) = trainer
            .gradients(&batches, &mut likelihood(count(&data)))
            .unwrap();
        (loss, slices(&found))
    };
    let whole = gradients(vec![data.iter().collect()]);
    let parts = [
        data.chunks(2).map(|part| part.iter().collect()).collect(),
        data.iter().map(|one| vec![one]).collect(),
        vec![data.iter().rev().collect()],
    ];
    for batches in parts {
        let (loss, found) = gradients(batches);
        assert!((loss - whole.0).abs() < 1e-6);
        assert_close(
            "gradients",
            &found,
            &whole.1,
            Tolerance {
                absolute: 1e-6,
                relative: 1e-4,
            },
        );
    }
}

#[test]
fn dropout_is_its_seed() {
    let model = llama();
    let data = some(4);
    let gradients = |share: f64, seed: u64, checkpointing: bool| {
        let mut options = TrainOptions::new(1, 4, 1e-3);
        (options.seed, options.checkpointing) = (seed, checkpointing);
        let mut trainer = Trainer::new(&model, random(&model, share), options).unwrap();
        let batch = vec![data.iter().collect()];
        let (_, found) = trainer
            .gradients(&batch, &mut likelihood(count(&data)))
            .unwrap();
        // Evaluation has no dropout.
        (slices(&found), trainer.evaluate(&data).unwrap())
    };
    let (none, plain) = gradients(0.0, 1, false);
    assert_eq!(bits(&none), bits(&gradients(0.0, 2, false).0));
    let (half, evaluated) = gradients(0.5, 1, false);
    assert_eq!(evaluated.to_bits(), plain.to_bits());
    assert_eq!(bits(&half), bits(&gradients(0.5, 1, false).0));
    assert_ne!(bits(&half), bits(&none));
    assert_ne!(bits(&half), bits(&gradients(0.5, 2, false).0));
    // A block that is computed again drops the same inputs.
    let bound = Tolerance {
        absolute: 1e-7,
        relative: 1e-5,
    };
    assert_close("recomputed", &gradients(0.5, 1, true).0, &half, bound);
}

/// Everything that has a state: dropout, order in groups, evaluation, moments.
fn options(state: Option<&Path>) -> TrainOptions {
    let mut options = TrainOptions::new(12, 2, 0.02);
    options.accumulation = 2;
    options.group_by_length = true;
    options.checkpointing = true;
    options.optimizer.weight_decay = 0.01;
    options.evaluate_every = 3;
    options.patience = Some(50);
    options.seed = 7;
    options.state = state.map(Path::to_owned);
    options.save_every = 1;
    options
}

fn run(model: &TorchModel, options: &TrainOptions, until: usize) -> Trained<Adapter> {
    let data = some(13);
    let (held_out, data) = data.split_at(4);
    let mut watch = |report: &StepReport| match report.step + 1 == until {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    train(
        model,
        random(model, 0.25),
        data,
        held_out,
        options,
        &mut watch,
    )
    .unwrap()
}

#[test]
fn a_run_that_is_stopped_and_resumed_ends_with_the_same_bits() {
    let model = llama();
    let whole = run(&model, &options(None), 99);
    assert_eq!(whole.steps, 12);
    assert_eq!(whole, run(&model, &options(None), 99));
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.safetensors");
    for stop in [1, 5, 6, 11] {
        assert_eq!(run(&model, &options(Some(&state)), stop).steps, stop);
    }
    let resumed = run(&model, &options(Some(&state)), 99);
    assert_eq!(
        bits(&weights(&resumed.weights)),
        bits(&weights(&whole.weights))
    );
    assert_eq!(resumed, whole);
    // Nothing is left to do, and it says the same.
    assert_eq!(run(&model, &options(Some(&state)), 99), whole);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

const CHILD: &str = "LM_TRAINING_STATE";

/// Only does something as the child of the next test.
#[test]
fn child_that_is_killed() {
    if let Some(state) = std::env::var_os(CHILD) {
        let data = some(13);
        let (held_out, data) = data.split_at(4);
        let model = llama();
        let adapter = random(&model, 0.25);
        let options = options(Some(Path::new(&state)));
        train(&model, adapter, data, held_out, &options, &mut |report| {
            if report.step == 5 {
                // Killed here, or while step 4 is written.
                std::thread::sleep(std::time::Duration::from_secs(60));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    }
}

#[test]
fn a_run_that_is_killed_goes_on_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.safetensors");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_is_killed", "--test-threads=1"])
        .env(CHILD, &state)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !state.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    let model = llama();
    let whole = run(&model, &options(None), 99);
    assert_eq!(run(&model, &options(Some(&state)), 99), whole);
}

#[test]
fn patience_ends_a_run_that_gets_worse_and_keeps_the_best() {
    let model = llama();
    let (data, held_out) = (some(4), some(9)[6..].to_vec());
    let mut options = TrainOptions::new(200, 4, 0.05);
    (options.evaluate_every, options.patience) = (2, Some(3));
    let mut seen = Vec::new();
    let found = train(
        &model,
        random(&model, 0.0),
        &data,
        &held_out,
        &options,
        &mut |report| {
            seen.extend(report.held_out);
            ControlFlow::Continue(())
        },
    )
    .unwrap();
    let best = seen.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(found.steps < 200 && seen.len() >= 4, "{seen:?}");
    assert_eq!(found.held_out, Some(best));
    assert_eq!(seen[seen.len() - 4], best);
    let trainer = Trainer::new(&model, found.weights, options).unwrap();
    assert_eq!(trainer.evaluate(&held_out).unwrap(), best);
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let model = llama();
    let data = some(4);
    let new = |options: TrainOptions| Trainer::new(&model, random(&model, 0.0), options);
    let wrong = |change: fn(&mut TrainOptions)| {
        let mut options = TrainOptions::new(2, 2, 0.1);
        change(&mut options);
        new(options).unwrap_err();
    };
    wrong(|options| options.steps = 0);
    wrong(|options| options.rows = 0);
    wrong(|options| options.accumulation = 0);
    wrong(|options| options.accumulation = usize::MAX);
    wrong(|options| options.warmup = 3);
    wrong(|options| options.learning_rate = f64::NAN);
    wrong(|options| options.optimizer.beta2 = 1.0);
    wrong(|options| options.max_grad_norm = Some(-1.0));
    wrong(|options| options.patience = Some(1));

    let mut trainer = new(TrainOptions::new(2, 2, 0.1)).unwrap();
    let before = weights(trainer.adapter().unwrap());
    let batch: Vec<Vec<&Example>> = vec![data.iter().collect()];
    trainer.step(&[]).unwrap_err();
    trainer.step(&[vec![]]).unwrap_err();
    trainer.evaluate(&[]).unwrap_err();
    let long = Example::reply(&vec![3; 5000], &[4]).unwrap();
    trainer.step(&[vec![&long]]).unwrap_err();
    let outside = Example::reply(&[3], &[96]).unwrap();
    trainer.step(&[vec![&outside]]).unwrap_err();
    for loss in [
        Loss {
            value: f64::NAN,
            slopes: vec![0.0; 4],
        },
        Loss {
            value: 0.0,
            slopes: vec![f64::INFINITY; 4],
        },
        Loss {
            value: 0.0,
            slopes: vec![0.0; 3],
        },
    ] {
        trainer
            .step_with(&batch, &mut |_, _| Ok(loss.clone()))
            .unwrap_err();
    }
    let huge = Loss {
        value: 0.0,
        slopes: vec![1e300; 4],
    };
    trainer
        .step_with(&batch, &mut |_, _| Ok(huge.clone()))
        .unwrap_err();
    assert_eq!(bits(&weights(trainer.adapter().unwrap())), bits(&before));
    assert_eq!(trainer.steps(), 0);

    let go = |data: &[Example], options: &TrainOptions| {
        train(&model, random(&model, 0.0), data, &[], options, &mut |_| {
            ControlFlow::Continue(())
        })
    };
    let mut options = TrainOptions::new(2, 2, 0.1);
    go(&[], &options).unwrap_err();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    options.state = Some(state.clone());
    go(&data, &options).unwrap();
    let other = go(&data[1..], &options).unwrap_err().to_string();
    assert!(other.contains("the state of another run"), "{other}");
    options.learning_rate = 0.2;
    go(&data, &options).unwrap_err();
    options.learning_rate = 0.1;
    let length = std::fs::metadata(&state).unwrap().len();
    for length in [length - 1, 300, 7, 0] {
        lm_testkit::truncate(&state, length).unwrap();
        let text = go(&data, &options).unwrap_err().to_string();
        assert!(text.contains(&state.display().to_string()), "{text}");
    }
    let from = golden("lora-llama")
        .unwrap()
        .folder()
        .join("qv/adapter_model.safetensors");
    std::fs::copy(from, &state).unwrap();
    go(&data, &options).unwrap_err();
}
