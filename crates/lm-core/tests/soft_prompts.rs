//! Soft prompts: as good as the tokens they were made of, and trained by the same loop.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

use std::ops::ControlFlow;

use lm_core::torch::train::{Example, Loss, TrainOptions, Trainer, train_soft_prompt};
use lm_core::{LanguageModel, SoftPrompt, TorchModel};
use lm_testkit::{Tolerance, assert_close, golden};
use ndarray::Array2;

fn open(case: &str) -> TorchModel {
    TorchModel::open(golden(case).unwrap().model()).unwrap()
}

fn close(name: &str, found: &[f32], expected: &[f32]) {
    assert_close(name, found, expected, Tolerance::F32);
}

const PREFIX: [u32; 3] = [5, 40, 17];
const ROWS: [&[u32]; 3] = [&[9, 8, 7, 30], &[50], &[12, 60, 3]];

fn data() -> Vec<Example> {
    ROWS.iter()
        .map(|row| Example::reply(row, &[20, 21]).unwrap())
        .collect()
}

/// Learned positions, a scale on embeddings, windows, and none of these.
#[test]
fn a_prompt_of_tokens_is_those_tokens() {
    for name in ["llama-gqa-tied", "gpt2", "gemma2", "mistral", "phi3"] {
        let model = open(name);
        let prompt = model.soft_prompt_of(&PREFIX).unwrap();
        let soft = model.with_soft_prompt(&prompt).unwrap();
        let context = model.context_length().unwrap();
        assert_eq!(soft.context_length(), Some(context - 3));
        let plain: Vec<Vec<u32>> = ROWS.iter().map(|row| [&PREFIX, *row].concat()).collect();
        let whole: Vec<&[u32]> = plain.iter().map(Vec::as_slice).collect();

        let (mut found, mut expected) = (soft.begin(3).unwrap(), model.begin(3).unwrap());
        let equal = |found: Array2<f32>, expected: Array2<f32>| {
            close(
                name,
                found.as_slice().unwrap(),
                expected.as_slice().unwrap(),
            );
        };
        equal(
            found.extend(&ROWS).unwrap(),
            expected.extend(&whole).unwrap(),
        );
        assert_eq!((found.len(0), found.len(1)), (4, 1));
        found.select(&[2, 0]).unwrap();
        expected.select(&[2, 0]).unwrap();
        equal(
            found.append(&[4, 5]).unwrap(),
            expected.append(&[4, 5]).unwrap(),
        );
        found.rewind(&[2, 0]).unwrap();
        expected.rewind(&[5, 0]).unwrap();
        let (own, other): ([&[u32]; 2], [&[u32]; 2]) = ([&[11], ROWS[1]], [&[11], whole[1]]);
        equal(
            found.extend(&own).unwrap(),
            expected.extend(&other).unwrap(),
        );
        assert_eq!((found.len(0), found.len(1)), (3, 1));

        let scores = soft.score(ROWS[0], ROWS[2]).unwrap();
        for (score, expected) in scores.iter().zip(model.score(whole[0], ROWS[2]).unwrap()) {
            assert!(
                (score - expected).abs() < 1e-5,
                "{name}: {score} {expected}"
            );
        }
        // The model itself knows no virtual tokens.
        let id = u32::try_from(model.vocab_size()).unwrap();
        model.next_logits(&[id]).unwrap_err();
        soft.next_logits(&[id]).unwrap_err();
    }
}

/// Against the derivative along the gradient, and with blocks computed again.
#[test]
fn its_gradient_is_the_derivative() {
    for name in ["llama-gqa-tied", "gpt2", "gemma2"] {
        let model = open(name);
        let (data, options) = (data(), TrainOptions::new(1, 3, 0.1));
        let batch = vec![data.iter().collect::<Vec<_>>()];
        let prompt = model.soft_prompt_of(&PREFIX).unwrap();
        let gradient = |checkpointing: bool| {
            let mut options = options.clone();
            options.checkpointing = checkpointing;
            let mut trainer = Trainer::of_soft_prompt(&model, prompt.clone(), options).unwrap();
            let loss =
                |_: usize, log_probs: &[f64]| Ok(Loss::negative_log_likelihood(log_probs, 6));
            let (_, mut found) = trainer.gradients(&batch, &mut { loss }).unwrap();
            found.remove(0)
        };
        let found = gradient(false);
        let bound = Tolerance {
            absolute: 1e-7,
            relative: 1e-5,
        };
        assert_close(
            name,
            gradient(true).as_slice().unwrap(),
            found.as_slice().unwrap(),
            bound,
        );
        let norm = found
            .iter()
            .map(|value| f64::from(*value).powi(2))
            .sum::<f64>()
            .sqrt();
        let moved = |by: f64| {
            let values = prompt.values() + &(&found * (by / norm) as f32);
            let prompt = SoftPrompt::new(values).unwrap();
            let trainer = Trainer::of_soft_prompt(&model, prompt, options.clone()).unwrap();
            trainer.evaluate(&data).unwrap()
        };
        let slope = (moved(5e-3) - moved(-5e-3)) / 1e-2;
        assert!(
            (slope / norm - 1.0).abs() < 0.02,
            "{name}: {slope} against {norm}"
        );
    }
}

#[test]
fn it_learns_resumes_and_is_saved() {
    let model = open("llama-gqa-tied");
    let before = model.next_logits(ROWS[0]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut options = TrainOptions::new(30, 3, 0.05);
    let start = SoftPrompt::normal(4, 32, 0.02, 1).unwrap();
    let run = |options: &TrainOptions, until: usize| {
        train_soft_prompt(
            &model,
            start.clone(),
            &data(),
            &[],
            options,
            &mut |report| match report.step + 1 == until {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            },
        )
        .unwrap()
    };
    let whole = run(&options, 99);
    options.state = Some(folder.path().join("state"));
    assert_eq!(run(&options, 11).steps, 11);
    assert_eq!(run(&options, 99), whole);
    let loss = |prompt: &SoftPrompt| {
        let trainer = Trainer::of_soft_prompt(&model, prompt.clone(), options.clone());
        trainer.unwrap().evaluate(&data()).unwrap()
    };
    assert!(
        loss(&whole.weights) < 0.7 * loss(&start),
        "{} {}",
        loss(&whole.weights),
        loss(&start)
    );
    assert_eq!(model.next_logits(ROWS[0]).unwrap(), before);

    let path = folder.path().join("prompt.safetensors");
    whole.weights.save(&path).unwrap();
    assert_eq!(SoftPrompt::open(&path).unwrap(), whole.weights);
    let soft = model.with_soft_prompt(&whole.weights).unwrap();
    assert_ne!(soft.next_logits(ROWS[0]).unwrap(), before);
}

#[test]
fn prompts_that_do_not_fit_are_refused() {
    let model = open("llama-gqa-tied");
    let context = model.context_length().unwrap();
    for prompt in [SoftPrompt::zeros(2, 31), SoftPrompt::zeros(context, 32)] {
        let prompt = prompt.unwrap();
        model.with_soft_prompt(&prompt).unwrap_err();
        Trainer::of_soft_prompt(&model, prompt, TrainOptions::new(1, 1, 0.1)).unwrap_err();
    }
    SoftPrompt::zeros(0, 32).unwrap_err();
    SoftPrompt::zeros(usize::MAX, 1).unwrap_err();
    SoftPrompt::new(Array2::from_elem((1, 32), f32::NAN)).unwrap_err();
    model.soft_prompt_of(&[]).unwrap_err();
    model.soft_prompt_of(&[96]).unwrap_err();
    let soft = model
        .with_soft_prompt(&SoftPrompt::zeros(context - 2, 32).unwrap())
        .unwrap();
    soft.next_logits(&[1, 2]).unwrap();
    soft.next_logits(&[1, 2, 3]).unwrap_err();
    let other = golden("lora-llama")
        .unwrap()
        .folder()
        .join("qv/adapter_model.safetensors");
    let error = SoftPrompt::open(other).unwrap_err().to_string();
    assert!(
        error.contains("expected the tensor `prompt_embeddings` alone"),
        "{error}"
    );
}
