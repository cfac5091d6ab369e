//! The base model Gemma 3 270M against transformers: q/k norms, sliding windows, two rotary bases, Q5_0, Q4_K and Q6_K.
//! Opt-in, because Gemma's terms of use apply to the model: `cargo xtask golden gemma3-270m` fetches it.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

use lm_core::{Capture, OpenModel, Positions, Run, TorchModel};
use lm_testkit::{Tolerance, assert_close, cache_folder};

/// Hidden states of this model reach tens of thousands, so that f32 rounding shows more than in tiny models: the absolute
/// part is a share of a state's largest value.
fn near(name: &str, found: &[f32], expected: &[f32]) {
    let largest = expected
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    let tolerance = Tolerance {
        absolute: 2e-5 * largest,
        relative: 1e-3,
    };
    assert_close(name, found, expected, tolerance);
}

#[test]
fn equals_transformers() {
    let Some(path) = lm_testkit::reference("gemma3-270m.safetensors") else {
        let remedy = "opt-in: `cargo xtask golden gemma3-270m` fetches it";
        return lm_testkit::note_skip("gemma3_270m::equals_transformers", "Gemma 3 270M", remedy);
    };
    let cache = cache_folder().unwrap();
    let expected = lm_testkit::read_tensors(&path).unwrap();
    let model = TorchModel::open(cache.join("models/gemma-3-270m-q4_k_m.gguf")).unwrap();
    let floats = |name: String| match expected.get(&name) {
        Some(lm_testkit::Tensor::Floats(array)) => array,
        other => panic!("{name}: {other:?}"),
    };
    let mut prompts = 0;
    while let Some(lm_testkit::Tensor::Integers(ids)) =
        expected.get(&format!("{prompts}.input_ids"))
    {
        let ids: Vec<u32> = ids
            .values
            .iter()
            .map(|&id| u32::try_from(id).unwrap())
            .collect();
        let mut capture = Capture::hidden_states(model.shape().layers, Positions::Last);
        capture.sites.remove(0);
        let run = Run {
            capture,
            ..Run::default()
        };
        let output = model.run(&[&ids], &run).unwrap();
        let states = floats(format!("{prompts}.hidden"));
        for (layer, found) in output.captured[0].values.iter().enumerate() {
            let name = format!("prompt {prompts}, hidden {}", layer + 1);
            near(&name, found.as_slice().unwrap(), states.at(&[layer]));
        }
        let logits = &floats(format!("{prompts}.logits")).values;
        near(
            &format!("prompt {prompts}, logits"),
            output.logits[0].as_slice().unwrap(),
            logits,
        );
        prompts += 1;
    }
    assert_eq!(prompts, 5);
}
