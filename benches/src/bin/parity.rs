//! How far the engine is from Hugging Face transformers on the real model, as a Markdown table: the largest difference of
//! any last-position logit over the 20 prompts of `golden/smollm2`, for each way of running, and how many of the greedy
//! continuations are the reference's.
//!
//! ```console
//! $ cargo xtask golden smollm2                              # once: the reference's full logits, into the cache
//! $ cargo run --release --package lm-benches --bin parity
//! ```
#![allow(clippy::print_stdout, reason = "the table is what the program is for")]

use std::path::Path;

use lm_core::{
    Dtype, GenerateOptions, LanguageModel, LoadOptions, OpenModel, Request, Run, TorchModel,
    generate,
};
use lm_testkit::{GoldenCase, Tensor, golden, read_tensors};

type Failure = Box<dyn std::error::Error>;

const PROMPTS: usize = 20;

/// Prompts longer than this are left out of the batch, which they would fill with padding, and of the single steps.
const SHORT: usize = 200;

fn main() -> Result<(), Failure> {
    let model = lm_testkit::demo_model().ok_or("no demo model: run `cargo xtask setup`")?;
    let logits = lm_testkit::reference("smollm2-logits.safetensors")
        .ok_or("no reference logits: run `cargo xtask golden smollm2`")?;
    let reference = Reference::open(&logits)?;
    println!(
        "| weights | dtype | run | prompts | largest logit difference | greedy tokens equal |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let copy = lm_testkit::reference("smollm2-hf");
    reference.measure("GGUF", &model, Dtype::F32)?;
    if let Some(copy) = &copy {
        reference.measure("safetensors", copy, Dtype::F32)?;
        reference.measure("safetensors", copy, Dtype::Bf16)?;
    }
    Ok(())
}

struct Reference {
    case: GoldenCase,
    /// `[prompt, vocab]`.
    logits: Vec<Vec<f32>>,
    tokens: Vec<Vec<u32>>,
}

impl Reference {
    fn open(path: &Path) -> Result<Self, Failure> {
        let tensors = read_tensors(path)?;
        let Some(Tensor::Floats(logits)) = tensors.get("logits") else {
            return Err(format!("{}: no `logits`", path.display()).into());
        };
        let case = golden("smollm2")?;
        let tokens = (0..PROMPTS)
            .map(|prompt| Ok(case.tokens(&format!("{prompt:02}.tokens"))?.remove(0)))
            .collect::<Result<_, Failure>>()?;
        let logits = (0..PROMPTS)
            .map(|prompt| logits.at(&[prompt]).to_vec())
            .collect();
        Ok(Self {
            case,
            logits,
            tokens,
        })
    }

    fn short(&self) -> Vec<usize> {
        (0..PROMPTS)
            .filter(|&prompt| self.tokens[prompt].len() < SHORT)
            .collect()
    }

    fn measure(&self, weights: &str, path: &Path, dtype: Dtype) -> Result<(), Failure> {
        let model = TorchModel::open_with(path, LoadOptions::default().dtype(dtype))?;
        let all: Vec<usize> = (0..PROMPTS).collect();
        let row = |run: &str, prompts: &[usize], difference: f32, greedy: &str| {
            println!(
                "| {weights} | {dtype} | {run} | {} | {difference:.1e} | {greedy} |",
                prompts.len()
            );
        };

        let greedy = self.greedy(&model)?;
        let whole = self.largest(&all, |prompt| {
            let output = model.run(&[&self.tokens[prompt]], &Run::default())?;
            Ok(output.logits[0].row(0).to_vec())
        })?;
        row(
            "whole prompt",
            &all,
            whole,
            &format!("{greedy} of {PROMPTS}"),
        );

        let short = self.short();
        let rows: Vec<&[u32]> = short
            .iter()
            .map(|&prompt| self.tokens[prompt].as_slice())
            .collect();
        let batch = model.begin(rows.len())?.extend(&rows)?;
        let index = |prompt: usize| {
            short
                .iter()
                .position(|&other| other == prompt)
                .unwrap_or_default()
        };
        let padded = self.largest(&short, |prompt| Ok(batch.row(index(prompt)).to_vec()))?;
        row("left-padded batch", &short, padded, "");

        let several: Vec<usize> = all
            .iter()
            .copied()
            .filter(|&prompt| self.tokens[prompt].len() > 1)
            .collect();
        let parts = self.largest(&several, |prompt| {
            let tokens = &self.tokens[prompt];
            let (first, second) = tokens.split_at(tokens.len() / 3 + 1);
            let mut session = model.begin(1)?;
            session.extend(&[first])?;
            Ok(session.extend(&[second])?.row(0).to_vec())
        })?;
        row("prompt in two parts", &several, parts, "");

        let steps = self.largest(&short, |prompt| {
            let mut session = model.begin(1)?;
            let mut last = Vec::new();
            for &token in &self.tokens[prompt] {
                last = session.append(&[token])?.row(0).to_vec();
            }
            Ok(last)
        })?;
        row("one token at a time", &short, steps, "");
        Ok(())
    }

    fn largest(
        &self,
        prompts: &[usize],
        mut logits: impl FnMut(usize) -> Result<Vec<f32>, Failure>,
    ) -> Result<f32, Failure> {
        let mut largest = 0.0_f32;
        for &prompt in prompts {
            for (found, expected) in logits(prompt)?.iter().zip(&self.logits[prompt]) {
                largest = largest.max((found - expected).abs());
            }
        }
        Ok(largest)
    }

    /// Prompts whose 64 greedy tokens are the reference's.
    fn greedy(&self, model: &TorchModel) -> Result<usize, Failure> {
        // A folder from transformers has the tokenizer; the ids are compared, so any will do.
        let text = model.text()?;
        let options = GenerateOptions {
            max_new_tokens: 64,
            batch: 1,
            ..GenerateOptions::default()
        };
        let mut equal = 0;
        for (prompt, tokens) in self.tokens.iter().enumerate() {
            let request = Request {
                id: prompt.to_string(),
                tokens: tokens.clone(),
            };
            let found =
                generate::generate(model, text, &[request], &options, &mut generate::ignore)?;
            let expected = self.case.tokens(&format!("{prompt:02}.greedy"))?.remove(0);
            equal += usize::from(found[0][0].tokens == expected);
        }
        Ok(equal)
    }
}
