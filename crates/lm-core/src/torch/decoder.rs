//! The one decoder: embedding, blocks, final norm, unembedding, as the [`DecoderSpec`] says.

use ndarray::Array2;
use tch::{Device, Kind, Tensor};

use super::attention::{Attention, AttentionMask, Edits, Shared};
use super::cache::KvCache;
use super::frozen::Frozen;
use super::host::to_array2;
use super::layers::{Mlp, Norm};
use super::layout::Step;
use super::rotary::Rotary;
use crate::sites::{Capture, Captured, Positions, Site};
use crate::spec::DecoderSpec;
use crate::{Error, Result};

/// Weights and arithmetic of a model.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) spec: DecoderSpec,
    /// `[vocab, hidden]`.
    pub(super) embedding: Frozen,
    pub(super) blocks: Vec<Block>,
    pub(super) final_norm: Norm,
    /// `[vocab, hidden]`; the embedding's when tied.
    pub(super) unembedding: Option<Frozen>,
    pub(super) rotary: Rotary,
    pub(super) kind: Kind,
    pub(super) device: Device,
}

/// One layer.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) attention_norm: Norm,
    pub(super) attention: Attention,
    pub(super) mlp_norm: Norm,
    pub(super) mlp: Mlp,
}

/// Tokens of one forward pass.
#[derive(Debug)]
pub(super) struct Input<'a> {
    pub(super) chunks: &'a [&'a [u32]],
    pub(super) step: &'a Step,
    pub(super) edits: &'a Edits,
}

impl Decoder {
    /// The residual stream after the last block, `[row, position, hidden]`, before the final norm. Chunks stand at the
    /// right end of each row. `states` keeps what it is asked to.
    pub(super) fn forward(
        &self,
        input: &Input<'_>,
        mut cache: Option<&mut KvCache>,
        states: &mut States<'_>,
    ) -> Result<Tensor> {
        let (rows, width) = (input.chunks.len(), input.step.width);
        let on_device = |values: &[i64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?
                .f_view([rows as i64, width as i64])?
                .f_to_device(self.device)?)
        };
        let mut ids = Vec::with_capacity(rows * width);
        for chunk in input.chunks {
            // Any token does in a hole: it is not read by anyone.
            ids.extend(std::iter::repeat_n(0, width - chunk.len()));
            ids.extend(chunk.iter().map(|&id| i64::from(id)));
        }
        let shared = Shared {
            rotary: &self.rotary,
            angles: self
                .rotary
                .angles(&on_device(&input.step.positions)?, self.kind)?,
            mask: AttentionMask::new(&input.step.mask, rows, width, self.device)?,
            edits: input.edits,
        };
        if let Some(cache) = cache.as_deref_mut() {
            cache.prepare(input.step.start, width)?;
        }
        let mut x = Tensor::f_embedding(&self.embedding, &on_device(&ids)?, -1, false, false)?;
        states.keep(Site::Hidden(0), &x)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            let attended = block.attention.forward(
                layer,
                &block.attention_norm.forward(&x)?,
                &shared,
                cache.as_deref_mut(),
            )?;
            x = x.f_add(&attended)?;
            x = x.f_add(&block.mlp.forward(&block.mlp_norm.forward(&x)?)?)?;
            states.keep(Site::Hidden(layer + 1), &x)?;
        }
        if states.wants(Site::FinalNorm) {
            states.keep(Site::FinalNorm, &self.final_norm.forward(&x)?)?;
        }
        Ok(x)
    }

    /// `[…, hidden]` before the final norm to `[…, vocab]` in `f32`.
    pub(super) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let normed = self.final_norm.forward(hidden)?;
        let weight = self.unembedding.as_ref().unwrap_or(&self.embedding);
        let logits = normed.f_linear::<&Tensor>(weight, None)?;
        Ok(logits.f_to_kind(Kind::Float)?)
    }

    /// Logits after the newest token of each row, `[row, vocab]`.
    pub(super) fn last_logits(&self, hidden: &Tensor, width: usize) -> Result<Tensor> {
        self.logits(&hidden.f_select(1, width as i64 - 1)?)
    }
}

/// Collects the states a [`Capture`] names, row by row, on the host.
#[derive(Debug)]
pub(super) struct States<'a> {
    capture: &'a Capture,
    /// Tokens of each row's chunk.
    lengths: Vec<usize>,
    /// `[row][site]`.
    kept: Vec<Vec<Option<Array2<f32>>>>,
}

impl<'a> States<'a> {
    pub(super) fn new(capture: &'a Capture, chunks: &[&[u32]]) -> Self {
        Self {
            capture,
            lengths: chunks.iter().map(|chunk| chunk.len()).collect(),
            kept: vec![vec![None; capture.sites.len()]; chunks.len()],
        }
    }

    fn wants(&self, site: Site) -> bool {
        self.capture.sites.contains(&site)
    }

    /// `x`: `[row, position, hidden]`.
    fn keep(&mut self, site: Site, x: &Tensor) -> Result<()> {
        if !self.wants(site) {
            return Ok(());
        }
        for (row, (kept, &length)) in self.kept.iter_mut().zip(&self.lengths).enumerate() {
            let own = x.f_select(0, row as i64)?;
            let value = to_array2(&newest(&own, length, self.capture.positions)?)?;
            for (slot, wanted) in kept.iter_mut().zip(&self.capture.sites) {
                if *wanted == site {
                    *slot = Some(value.clone());
                }
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Vec<Captured>> {
        let missing =
            |site: &Site| Error::argument("site", "one the model has", format!("{site:?}"));
        self.kept
            .into_iter()
            .map(|row| {
                let values = row
                    .into_iter()
                    .zip(&self.capture.sites)
                    .map(|(value, site)| value.ok_or_else(|| missing(site)))
                    .collect::<Result<_>>()?;
                Ok(Captured { values })
            })
            .collect()
    }
}

/// Of a row `[position, …]` whose newest `length` positions are tokens, those that `positions` names.
pub(super) fn newest(row: &Tensor, length: usize, positions: Positions) -> Result<Tensor> {
    let count = match positions {
        Positions::Last => 1,
        Positions::All => length as i64,
    };
    let width = row.size().first().copied().unwrap_or(0);
    Ok(row.f_narrow(0, width - count, count)?)
}
