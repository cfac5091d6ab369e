//! One micro-batch: log-probabilities of its targets, and gradients by the adapter's matrices.

use ndarray::Array2;
use tch::{Device, Kind, Tensor};

use super::data::Example;
use super::dropout::Dropout;
use super::learnt::Learnt;
use super::loss::Loss;
use crate::adapter::{SoftPrompt, modules};
use crate::model::{self, OpenModel as _};
use crate::sites::Capture;
use crate::spec::LayerPart;
use crate::torch::TorchModel;
use crate::torch::decoder::{Decoder, Input, Started};
use crate::torch::edits::Edits;
use crate::torch::host::from_array2;
use crate::torch::layout::Layout;
use crate::torch::overlay::{Added, Overlay};
use crate::torch::soft;
use crate::torch::taps::{Patches, Taps};
use crate::{Error, Result};

/// The adapter's matrices where their layers are, as leaves that gradients gather in.
#[derive(Debug)]
pub(super) struct Leaves {
    matrices: Vec<Leaf>,
    /// `[virtual token, hidden]`, `f32`, and the ids that stand for it before each row.
    prompt: Option<Tensor>,
    virtual_ids: Vec<u32>,
}

#[derive(Debug)]
struct Leaf {
    /// `[rank, in]` and `[out, rank]`, `f32`.
    a: Tensor,
    b: Tensor,
    scaling: f64,
    /// Layer, projection, and its rows of B.
    projections: Vec<(usize, LayerPart, Option<Tensor>)>,
}

impl Leaves {
    pub(super) fn new(model: &TorchModel, learnt: &Learnt) -> Result<Self> {
        let places = &model.decoder().places;
        let modules = modules(model.checkpoint());
        let leaf = |values: &Array2<f32>, device: Device| -> Result<Tensor> {
            let values = from_array2(&values.view(), Kind::Float, device)?;
            Ok(values.f_detach()?.f_set_requires_grad(true)?)
        };
        let mut matrices = Vec::new();
        if let Some(adapter) = &learnt.adapter {
            for (own, module) in adapter.placed(&modules)? {
                // One matrix of the checkpoint, and so of one layer.
                let layer = module.projections.first().map(|first| first.layer);
                let device = places.of(layer.unwrap_or_default()).device;
                let projections = module.projections.iter().map(|projection| {
                    let rows = projection.outputs().map(|rows| -> Result<Tensor> {
                        let rows: Vec<i64> = rows.into_iter().map(|row| row as i64).collect();
                        Ok(Tensor::f_from_slice(&rows)?.f_to_device(device)?)
                    });
                    Ok((projection.layer, projection.part, rows.transpose()?))
                });
                matrices.push(Leaf {
                    a: leaf(&own.a, device)?,
                    b: leaf(&own.b, device)?,
                    scaling: own.scaling,
                    projections: projections.collect::<Result<_>>()?,
                });
            }
        }
        let mut prompt = None;
        if let Some(own) = &learnt.prompt {
            soft::check(model, own)?;
            prompt = Some(leaf(own.values(), places.first().device)?);
        }
        Ok(Self {
            matrices,
            prompt,
            virtual_ids: soft::ids(model, learnt.prompt.as_ref().map_or(0, SoftPrompt::tokens)),
        })
    }

    fn overlay(&self, dropout: Option<&Dropout>) -> Overlay {
        let mut overlay = Overlay::learning();
        if let Some(prompt) = &self.prompt {
            overlay.set_soft_prompt(prompt.shallow_clone());
        }
        for (index, leaf) in self.matrices.iter().enumerate() {
            for (layer, part, outputs) in &leaf.projections {
                let added = Added {
                    a: leaf.a.shallow_clone(),
                    b: leaf.b.shallow_clone(),
                    outputs: outputs.as_ref().map(Tensor::shallow_clone),
                    scaling: leaf.scaling,
                    rows: None,
                    dropout: dropout.map(|dropout| dropout.of(index)),
                };
                overlay.add(*layer, *part, added);
            }
        }
        overlay
    }

    /// What has gathered, in the order of [`Learnt::values`]; zeros where nothing has.
    pub(super) fn gradients(&self) -> Result<Vec<Vec<f32>>> {
        let all = self.matrices.iter().flat_map(|leaf| [&leaf.a, &leaf.b]);
        all.chain(&self.prompt)
            .map(|leaf| {
                let gradient = leaf.f_grad()?;
                let mut values = vec![0.0_f32; leaf.numel()];
                if gradient.defined() {
                    let gradient = gradient.f_to_device(Device::Cpu)?.f_contiguous()?;
                    let count = values.len();
                    gradient.f_copy_data(&mut values, count)?;
                }
                Ok(values)
            })
            .collect()
    }
}

/// Log-probability of each example's targets, summed, under the adapter, or under the model alone. No gradients.
pub(super) fn log_probs(
    model: &TorchModel,
    leaves: Option<&Leaves>,
    examples: &[&Example],
) -> Result<Vec<f64>> {
    let _no_grad = tch::no_grad_guard();
    let overlay = leaves.map_or_else(Overlay::default, |leaves| leaves.overlay(None));
    let prefix = leaves.map_or(&[][..], |leaves| &leaves.virtual_ids);
    let rows = Rows::new(model, examples, prefix)?;
    rows.started(model, &overlay, |started, taps| {
        let mut x = started.embedded(model.decoder())?;
        for layer in 0..model.decoder().blocks.len() {
            x = model.decoder().block(layer, &x, started, taps)?;
        }
        to_host(&rows.sums(model.decoder(), &x)?)
    })
}

/// The same with gradients: `loss` turns the log-probabilities into a number and its derivative by each, which flows back
/// into the leaves, on top of what they hold. Returns that number.
pub(super) fn backward(
    model: &TorchModel,
    leaves: &Leaves,
    examples: &[&Example],
    dropout: Option<&Dropout>,
    checkpointing: bool,
    loss: &mut dyn FnMut(&[f64]) -> Result<Loss>,
) -> Result<f64> {
    let decoder = model.decoder();
    let layers = decoder.blocks.len();
    let overlay = leaves.overlay(dropout);
    let rows = Rows::new(model, examples, &leaves.virtual_ids)?;
    rows.started(model, &overlay, |started, taps| {
        let embedded = started.embedded(decoder)?;
        if !checkpointing {
            let mut x = embedded;
            for layer in 0..layers {
                x = decoder.block(layer, &x, started, taps)?;
            }
            return rows.flow_back(&rows.sums(decoder, &x)?, loss);
        }
        let mut inputs = vec![embedded];
        {
            let _no_grad = tch::no_grad_guard();
            for layer in 0..layers {
                let Some(x) = inputs.last() else { break };
                let x = decoder.block(layer, x, started, taps)?;
                inputs.push(x);
            }
        }
        let leaf = |x: Option<Tensor>| -> Result<Tensor> {
            let x = x.ok_or_else(|| Error::argument("blocks", "at least one", 0))?;
            Ok(x.f_detach()?.f_set_requires_grad(true)?)
        };
        let last = leaf(inputs.pop())?;
        let value = rows.flow_back(&rows.sums(decoder, &last)?, loss)?;
        let mut gradient = last.f_grad()?;
        drop(last);
        for layer in (0..layers).rev() {
            let input = leaf(inputs.pop())?;
            let output = decoder.block(layer, &input, started, taps)?;
            output.f_mul(&gradient)?.f_sum(None)?.f_backward()?;
            gradient = input.f_grad()?;
        }
        if leaves.prompt.is_some() {
            let embedded = started.embedded(decoder)?;
            embedded.f_mul(&gradient)?.f_sum(None)?.f_backward()?;
        }
        Ok(value)
    })
}

/// Examples as the rows of a pass.
struct Rows {
    /// Virtual tokens, then the example's.
    chunks: Vec<Vec<u32>>,
    /// Of each target: its row, the flat index of the position before it, and its token.
    row: Vec<i64>,
    before: Vec<i64>,
    token: Vec<i64>,
}

impl Rows {
    fn new(model: &TorchModel, examples: &[&Example], prefix: &[u32]) -> Result<Self> {
        let chunks: Vec<&[u32]> = examples.iter().map(|example| example.tokens()).collect();
        model::require_rows(chunks.len())?;
        let spec = model.spec();
        model::check_chunks(
            &chunks,
            &vec![0; chunks.len()],
            spec.vocab_size,
            Some(spec.context_length.saturating_sub(prefix.len())),
        )?;
        let width = chunks.iter().map(|chunk| chunk.len()).max().unwrap_or(0) + prefix.len();
        let (mut rows, mut before, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
        for (row, example) in examples.iter().enumerate() {
            let start = row * width + width - example.tokens().len();
            for (position, &token) in example.tokens().iter().enumerate() {
                if example.targets().get(position) == Some(&true) {
                    rows.push(row as i64);
                    before.push((start + position) as i64 - 1);
                    tokens.push(i64::from(token));
                }
            }
        }
        let whole = chunks.into_iter().map(|chunk| [prefix, chunk].concat());
        Ok(Self {
            chunks: whole.collect(),
            row: rows,
            before,
            token: tokens,
        })
    }

    /// Calls `run` with what a pass over the rows shares.
    fn started<T>(
        &self,
        model: &TorchModel,
        overlay: &Overlay,
        run: impl FnOnce(&Started<'_>, &mut Taps<'_>) -> Result<T>,
    ) -> Result<T> {
        let chunks: Vec<&[u32]> = self.chunks.iter().map(Vec::as_slice).collect();
        let lengths: Vec<usize> = chunks.iter().map(|chunk| chunk.len()).collect();
        let (layout, step) = Layout::new(lengths.len()).extended(&lengths);
        let edits = Edits::default();
        let input = Input {
            chunks: &chunks,
            layout: &layout,
            step: &step,
            edits: &edits,
            overlay,
        };
        let (capture, patches) = (Capture::none(), Patches::default());
        let starts = vec![0; lengths.len()];
        let mut taps = Taps::new(&capture, &patches, &model.shape(), &starts, &chunks);
        run(&model.decoder().start(&input, None)?, &mut taps)
    }

    /// Log-probability of each row's targets, summed in `f64`, of states `[row, position, hidden]`: `[row]`.
    fn sums(&self, decoder: &Decoder, states: &Tensor) -> Result<Tensor> {
        let device = states.device();
        let index = |values: &[i64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_to_device(device)?)
        };
        let picked = states.f_flatten(0, 1)?;
        let picked = picked.f_index_select(0, &index(&self.before)?)?;
        let all = decoder.logits(&picked)?.f_log_softmax(-1, Kind::Float)?;
        let own = all.f_gather(1, &index(&self.token)?.f_unsqueeze(1)?, false)?;
        let own = own.f_squeeze_dim(1)?.f_to_kind(Kind::Double)?;
        let zeros = Tensor::f_zeros([self.chunks.len() as i64], (Kind::Double, device))?;
        Ok(zeros.f_index_add(0, &index(&self.row)?, &own)?)
    }

    fn flow_back(
        &self,
        sums: &Tensor,
        loss: &mut dyn FnMut(&[f64]) -> Result<Loss>,
    ) -> Result<f64> {
        let log_probs = to_host(&sums.f_detach()?)?;
        let Loss { value, slopes } = loss(&log_probs)?;
        if slopes.len() != log_probs.len() {
            let expected = format!("one for each of {} examples", log_probs.len());
            return Err(Error::argument(
                "slopes of the loss",
                expected,
                slopes.len(),
            ));
        }
        if !value.is_finite() || !slopes.iter().all(|slope| slope.is_finite()) {
            return Err(Error::argument("loss", "finite numbers", value));
        }
        let slopes = Tensor::f_from_slice(&slopes)?.f_to_device(sums.device())?;
        sums.f_mul(&slopes)?.f_sum(None)?.f_backward()?;
        Ok(value)
    }
}

fn to_host(values: &Tensor) -> Result<Vec<f64>> {
    let values = values.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut host = vec![0.0_f64; values.numel()];
    let count = host.len();
    values.f_copy_data(&mut host, count)?;
    Ok(host)
}
