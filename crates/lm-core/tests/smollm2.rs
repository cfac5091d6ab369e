//! The real chat model, from its GGUF file and from a safetensors copy, against Hugging Face transformers on the same file
//! in f32: 20 prompts, raw and chat, 1 to about 1,700 tokens.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use lm_core::spec::{LayerPart, Part};
use lm_core::{
    Checkpoint, GenerateOptions, LanguageModel, OpenModel, Prompt, Request, Run, TextInterface,
    TorchModel, generate,
};
use lm_testkit::{GoldenCase, Tolerance, assert_close, demo_model_or_skip, golden};

const PROMPTS: usize = 20;

/// One model for the tests of this file: it is immutable and shared between threads.
fn model(path: &Path) -> &'static TorchModel {
    static MODEL: OnceLock<TorchModel> = OnceLock::new();
    MODEL.get_or_init(|| TorchModel::open(path).unwrap())
}

fn case() -> GoldenCase {
    golden("smollm2").unwrap()
}

fn tokens(case: &GoldenCase, prompt: usize) -> Vec<u32> {
    case.tokens(&format!("{prompt:02}.tokens"))
        .unwrap()
        .remove(0)
}

/// The largest 512, every 24th, and the log-sum-exp of all 49,152 logits.
fn check_logits(case: &GoldenCase, name: &str, prompt: usize, logits: &[f32]) {
    let expected = |what: &str| &case.floats(&format!("{prompt:02}.{what}")).unwrap().values;
    let top = case
        .tokens(&format!("{prompt:02}.top_ids"))
        .unwrap()
        .remove(0);
    let found: Vec<f32> = top.iter().map(|&id| logits[id as usize]).collect();
    let close = |what: &str, found: &[f32]| {
        assert_close(
            &format!("{name}, prompt {prompt}: {what}"),
            found,
            expected(what),
            Tolerance::SMOLLM2_LOGITS,
        );
    };
    close("top_logits", &found);
    let strided: Vec<f32> = logits.iter().step_by(24).copied().collect();
    close("strided_logits", &strided);
    close(
        "log_sum_exp",
        &[lm_core::logits::log_sum_exp(logits) as f32],
    );
    let mean = logits.iter().map(|&logit| f64::from(logit)).sum::<f64>() / logits.len() as f64;
    close("mean_logit", &[mean as f32]);
}

/// The reference's tokens, unless ours left them where the reference's own top two were nearly tied.
fn check_greedy(case: &GoldenCase, name: &str, prompt: usize, found: &[u32]) {
    let expected = case
        .tokens(&format!("{prompt:02}.greedy"))
        .unwrap()
        .remove(0);
    let top_two = case.floats(&format!("{prompt:02}.greedy_top_two")).unwrap();
    for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
        if found != expected {
            let [first, second] = top_two.at(&[step]) else {
                panic!("two logits a step")
            };
            assert!(
                first - second < 1e-3,
                "{name}, prompt {prompt}, step {step}: {found}, expected {expected}"
            );
            return;
        }
    }
    assert_eq!(found.len(), expected.len(), "{name}, prompt {prompt}");
}

#[test]
fn prompts_become_the_same_tokens() {
    let model = model(&demo_model_or_skip!());
    let (case, text) = (case(), model.text().unwrap());
    let lines = std::fs::read_to_string(case.folder().join("prompts.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), PROMPTS);
    for (prompt, line) in lines.lines().enumerate() {
        let parsed: Prompt = serde_json::from_str(line).unwrap();
        assert_eq!(
            text.encode(&parsed).unwrap().ids(),
            tokens(&case, prompt),
            "prompt {prompt}"
        );
    }
}

#[test]
fn logits_of_the_last_position() {
    let model = model(&demo_model_or_skip!());
    let case = case();
    for prompt in 0..PROMPTS {
        let output = model
            .run(&[&tokens(&case, prompt)], &Run::default())
            .unwrap();
        check_logits(&case, "whole", prompt, output.logits[0].as_slice().unwrap());
    }
}

#[test]
fn logits_in_a_left_padded_batch() {
    let model = model(&demo_model_or_skip!());
    let case = case();
    // The longest prompt would make every row of the batch as long as itself.
    let mut prompts: Vec<(usize, Vec<u32>)> = (0..PROMPTS)
        .map(|prompt| (prompt, tokens(&case, prompt)))
        .collect();
    prompts.retain(|(_, tokens)| tokens.len() < 200);
    assert!(prompts.len() >= PROMPTS - 4);
    let rows: Vec<&[u32]> = prompts
        .iter()
        .map(|(_, tokens)| tokens.as_slice())
        .collect();
    let logits = model.begin(rows.len()).unwrap().extend(&rows).unwrap();
    for ((prompt, _), logits) in prompts.iter().zip(logits.outer_iter()) {
        check_logits(&case, "batch", *prompt, logits.as_slice().unwrap());
    }
}

#[test]
fn logits_of_a_prompt_in_two_parts() {
    let model = model(&demo_model_or_skip!());
    let case = case();
    for prompt in 0..PROMPTS {
        let tokens = tokens(&case, prompt);
        if tokens.len() < 2 {
            continue;
        }
        let (first, second) = tokens.split_at(tokens.len() / 3 + 1);
        let mut session = model.begin(1).unwrap();
        session.extend(&[first]).unwrap();
        let logits = session.extend(&[second]).unwrap();
        check_logits(&case, "two parts", prompt, logits.as_slice().unwrap());
    }
}

#[test]
fn logits_of_a_prompt_one_token_at_a_time() {
    let model = model(&demo_model_or_skip!());
    let case = case();
    for prompt in 0..PROMPTS {
        let tokens = tokens(&case, prompt);
        if tokens.len() > 60 {
            continue;
        }
        let mut session = model.begin(1).unwrap();
        let mut last = None;
        for token in tokens {
            last = Some(session.append(&[token]).unwrap());
        }
        check_logits(&case, "steps", prompt, last.unwrap().as_slice().unwrap());
    }
}

#[test]
fn greedy_tokens_and_text() {
    let model = model(&demo_model_or_skip!());
    let (case, text) = (case(), model.text().unwrap());
    let options = GenerateOptions {
        max_new_tokens: 64,
        batch: 1,
        ..GenerateOptions::default()
    };
    let request = |prompt: usize| Request {
        id: prompt.to_string(),
        tokens: tokens(&case, prompt),
    };
    let generate = |requests: &[Request], options: &GenerateOptions| {
        generate::generate(model, text, requests, options, &mut generate::ignore).unwrap()
    };
    // Most of them together: unequal rows that end at different steps. The long ones alone.
    let (long, short): (Vec<usize>, Vec<usize>) =
        (0..PROMPTS).partition(|&prompt| tokens(&case, prompt).len() >= 200);
    let requests: Vec<Request> = short.iter().map(|&prompt| request(prompt)).collect();
    let together = generate(
        &requests,
        &GenerateOptions {
            batch: PROMPTS,
            ..options.clone()
        },
    );
    for (&prompt, generations) in short.iter().zip(&together) {
        check_greedy(&case, "in a batch", prompt, &generations[0].tokens);
    }
    for &prompt in long.iter().chain(&short[..4]) {
        let alone = generate(&[request(prompt)], &options).remove(0).remove(0);
        check_greedy(&case, "alone", prompt, &alone.tokens);
        assert_eq!(
            alone.text,
            text.tokenizer().decode(&alone.tokens, true).unwrap()
        );
        assert_eq!(alone.logprobs.len(), alone.tokens.len());
    }
}

/// The same weights as a Hugging Face folder: other names, other order of rows, other file format, same numbers.
#[test]
fn a_safetensors_copy_is_the_same_model() {
    let path = demo_model_or_skip!();
    let folder = tempfile::tempdir().unwrap();
    write_copy(&Checkpoint::open(&path).unwrap(), folder.path());
    let copy = TorchModel::open(folder.path()).unwrap();
    assert_eq!(
        copy.checkpoint().model_hash().unwrap(),
        model(&path).checkpoint().model_hash().unwrap()
    );
    assert!(copy.text().is_err(), "weights alone have no tokenizer");
    let case = case();
    for prompt in 0..PROMPTS {
        let tokens = tokens(&case, prompt);
        if tokens.len() < 200 {
            let output = copy.run(&[&tokens], &Run::default()).unwrap();
            check_logits(
                &case,
                "safetensors copy",
                prompt,
                output.logits[0].as_slice().unwrap(),
            );
        }
    }
}

fn write_copy(checkpoint: &Checkpoint, folder: &Path) {
    let spec = checkpoint.spec();
    let config = serde_json::json!({
        "model_type": "llama",
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.attention.heads,
        "num_key_value_heads": spec.attention.kv_heads,
        "intermediate_size": spec.mlp.intermediate_size,
        "max_position_embeddings": spec.context_length,
        "rms_norm_eps": spec.norm.epsilon,
        "rope_theta": spec.rotary.as_ref().unwrap().theta,
        "tie_word_embeddings": spec.unembedding.tied,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let name = |part: Part| match part {
        Part::Embedding => "model.embed_tokens.weight".to_owned(),
        Part::FinalNorm => "model.norm.weight".to_owned(),
        Part::Layer(layer, tensor) => {
            let name = match tensor {
                LayerPart::AttentionNorm => "input_layernorm",
                LayerPart::Query => "self_attn.q_proj",
                LayerPart::Key => "self_attn.k_proj",
                LayerPart::Value => "self_attn.v_proj",
                LayerPart::Output => "self_attn.o_proj",
                LayerPart::MlpNorm => "post_attention_layernorm",
                LayerPart::Gate => "mlp.gate_proj",
                LayerPart::Up => "mlp.up_proj",
                LayerPart::Down => "mlp.down_proj",
                other => panic!("SmolLM2 has no {other:?}"),
            };
            format!("model.layers.{layer}.{name}.weight")
        }
        other => panic!("SmolLM2 has no {other:?}"),
    };
    let tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = spec
        .parts()
        .into_iter()
        .map(|part| {
            let values = checkpoint.read_f32(part).unwrap();
            let bytes = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            (name(part), (spec.part_shape(part), bytes))
        })
        .collect();
    let views: BTreeMap<&String, safetensors::tensor::TensorView<'_>> = tensors
        .iter()
        .map(|(name, (shape, bytes))| {
            let view =
                safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes)
                    .unwrap();
            (name, view)
        })
        .collect();
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
}

#[test]
fn the_text_interface_is_the_models_own() {
    let model = model(&demo_model_or_skip!());
    let text: &TextInterface = model.text().unwrap();
    assert_eq!(text.stop_ids(), [2]);
    assert!(!text.tokenizer().adds_bos());
    assert!(text.template().is_some());
    assert_eq!(model.context_length(), Some(8192));
}
