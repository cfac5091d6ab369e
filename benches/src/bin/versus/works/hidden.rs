//! Hidden states at the last position of many prompts, and the logit lens on them.
//!
//! What is kept of a prompt is what transformers' `hidden_states` has at its last token, `[layers + 1, hidden]`: the
//! embedding, the residual after each block but the last, and after the last block the one that has been through the final
//! norm. With the lens, the five likeliest tokens at each of them, the final norm applied once.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use lm_core::{
    Capture, CaptureFile, Dtype, Intervention, OpenModel as _, Positions, Run, Site, TorchModel,
    capture_to_file, logits,
};
use lm_testkit::{Tensor, read_tensors};
use ndarray::{ArrayView2, Axis, concatenate};
use serde::{Deserialize, Serialize};

use super::{Call, Prompt, Started};
use crate::agree::Tolerance;
use crate::demand::{Demand, Pass};
use crate::job::Found;

/// Tokens that run together.
const TOKENS_AT_ONCE: usize = 1024;
/// States whose logits are on the host together: 25 MB at a vocabulary of 49,152.
const LENS_AT_ONCE: usize = 128;
/// Tokens of the lens that are kept.
const TOP: usize = 5;
/// Prompts of the warm-up.
const WARM_UP: usize = 4;
const LENS_IDS: &str = "lens ids of prompt ";

/// Takes hidden states of prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hidden {
    pub(crate) prompts: Vec<Prompt>,
    /// Whether each state is also put through the unembedding.
    pub(crate) lens: bool,
    /// Numbers of the prompts whose values are compared.
    pub(crate) checked: Vec<usize>,
}

pub(super) fn tolerance(name: &str) -> Tolerance {
    if name.starts_with(LENS_IDS) {
        // Two tokens of nearly equal logits may stand in either order.
        return Tolerance {
            others: 0.02,
            ..Tolerance::EXACT
        };
    }
    Tolerance {
        absolute: 1e-3,
        relative: 1e-5,
        others: 0.0,
    }
}

pub(super) struct Running<'m> {
    work: &'m Hidden,
    model: &'m TorchModel,
    /// Where the states go.
    file: PathBuf,
    /// For each prompt that ran, by its number: tokens and logits, state by state.
    lens: BTreeMap<usize, Vec<(u32, f32)>>,
}

impl Hidden {
    pub(super) fn start<'m>(&'m self, model: &'m TorchModel) -> Result<Running<'m>> {
        let name = format!("versus-hidden-{}.safetensors", std::process::id());
        Ok(Running {
            work: self,
            model,
            file: std::env::temp_dir().join(name),
            lens: BTreeMap::new(),
        })
    }

    pub(super) fn passes(&self, demand: &Demand, dtype: Dtype) -> Vec<Pass> {
        let lengths = self.prompts.iter().map(|prompt| prompt.tokens.len());
        let mut operations = demand.rows(lengths, 0);
        if self.lens {
            let states = self.prompts.len() as f64 * (demand.layers + 1) as f64;
            operations += 2.0 * states * demand.unembedding as f64;
        }
        vec![Pass {
            count: 1.0,
            operations,
            bytes: demand.bytes(dtype),
        }]
    }
}

impl Running<'_> {
    /// The sites of what is kept; with the lens the last residual before the norm as well.
    fn capture(&self) -> Capture {
        let layers = self.model.shape().layers;
        let states = (0..layers).map(Site::Hidden).chain([Site::FinalNorm]);
        let before = self.work.lens.then_some(Site::Hidden(layers));
        Capture::of(states.chain(before), Positions::Last)
    }

    /// States and lens of `prompts`, some at a time, similar lengths together.
    fn with_lens(&mut self, prompts: &[&Prompt]) -> Result<()> {
        let capture = self.capture();
        let layers = self.model.shape().layers;
        let lengths: Vec<usize> = prompts.iter().map(|own| own.tokens.len()).collect();
        let mut file = CaptureFile::create(&self.file, &capture, &self.model.shape(), &lengths)?;
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by_key(|&row| lengths.get(row).copied());
        let longest = lengths.iter().copied().max().unwrap_or(1);
        let run = Run {
            capture,
            ..Run::default()
        };
        for batch in order.chunks((TOKENS_AT_ONCE / longest.max(1)).max(1)) {
            let own: Vec<&Prompt> = batch
                .iter()
                .filter_map(|&row| prompts.get(row).copied())
                .collect();
            let rows: Vec<&[u32]> = own.iter().map(|prompt| prompt.tokens.as_slice()).collect();
            let output = self.model.run(&rows, &run)?;
            let mut states: Vec<ArrayView2<'_, f32>> = Vec::new();
            for (&row, captured) in batch.iter().zip(&output.captured) {
                file.write(row, captured)?;
                // All residuals; the normed one is not normed again.
                let residuals = captured.values.iter().enumerate();
                let residuals = residuals.filter(|(site, _)| *site != layers);
                states.extend(residuals.map(|(_, values)| values.view()));
            }
            let states = concatenate(Axis(0), &states)?;
            let mut top = Vec::with_capacity(TOP * states.nrows());
            for some in states.axis_chunks_iter(Axis(0), LENS_AT_ONCE) {
                for row in self.model.unembed(some)?.outer_iter() {
                    top.extend(logits::top(row.as_slice().unwrap_or_default(), TOP));
                }
            }
            for (prompt, top) in own.iter().zip(top.chunks(TOP * (layers + 1))) {
                self.lens.insert(prompt.number, top.to_vec());
            }
        }
        file.finish()?;
        Ok(())
    }
}

impl Started for Running<'_> {
    fn call(&mut self, call: Call) -> Result<()> {
        let count = match call {
            Call::WarmUp => WARM_UP,
            Call::Timed => usize::MAX,
        };
        let work = self.work;
        let prompts: Vec<&Prompt> = work.prompts.iter().take(count).collect();
        if work.lens {
            return self.with_lens(&prompts);
        }
        let rows: Vec<&[u32]> = prompts.iter().map(|own| own.tokens.as_slice()).collect();
        let (nothing, capture) = (Intervention::none(), self.capture());
        capture_to_file(
            self.model,
            &rows,
            &nothing,
            &capture,
            &self.file,
            TOKENS_AT_ONCE,
        )?;
        Ok(())
    }

    fn found(&mut self) -> Result<Found> {
        let tensors = read_tensors(&self.file)?;
        let kept = self.capture().sites;
        let mut numbers = BTreeMap::new();
        for (row, prompt) in self.work.prompts.iter().enumerate() {
            let number = prompt.number;
            if !self.work.checked.contains(&number) {
                continue;
            }
            let mut states = Vec::new();
            for site in kept.iter().take(self.model.shape().layers + 1) {
                let Some(Tensor::Floats(values)) = tensors.get(&site.to_string()) else {
                    bail!("{}: no tensor {site}", self.file.display());
                };
                states.extend(values.at(&[row]).iter().map(|&value| f64::from(value)));
            }
            numbers.insert(format!("states of prompt {number}"), states);
            if self.work.lens {
                let found = self.lens.get(&number);
                let found = found.with_context(|| format!("prompt {number} had no lens"))?;
                let ids = found.iter().map(|(id, _)| f64::from(*id));
                let logits = found.iter().map(|(_, logit)| f64::from(*logit));
                numbers.insert(format!("{LENS_IDS}{number}"), ids.collect());
                numbers.insert(format!("lens logits of prompt {number}"), logits.collect());
            }
        }
        Ok(Found {
            numbers,
            ..Found::default()
        })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // It may not have been written yet, and what is left in a temporary folder does no harm.
        let _ = fs::remove_file(&self.file);
    }
}
