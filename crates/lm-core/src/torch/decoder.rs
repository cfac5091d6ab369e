//! The one decoder: embedding, blocks, final norm, unembedding, as the [`DecoderSpec`] says.

use ndarray::Array2;
use tch::{Device, Kind, Tensor};

use super::attention::{Attention, AttentionMask, Edits, Shared};
use super::cache::KvCache;
use super::frozen::Frozen;
use super::host::to_array2;
use super::layers::{Mlp, Norm};
use super::layout::{Layout, Step};
use super::rotary::Rotary;
use crate::sites::{Capture, Captured, Positions, Site};
use crate::spec::{BlockKind, DecoderSpec};
use crate::{Error, Result};

/// Weights and arithmetic of a model.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) spec: DecoderSpec,
    /// `[vocab, hidden]`.
    pub(super) embedding: Frozen,
    /// Learned positions, `[positions, hidden]`.
    pub(super) positions: Option<Frozen>,
    pub(super) blocks: Vec<Block>,
    pub(super) final_norm: Norm,
    /// `[vocab, hidden]`; the embedding's when tied.
    pub(super) unembedding: Option<Frozen>,
    /// `[vocab]`.
    pub(super) unembedding_bias: Option<Frozen>,
    pub(super) rotary: Option<Rotary>,
    /// Of the layers with a window, where it is another one.
    pub(super) window_rotary: Option<Rotary>,
    pub(super) kind: Kind,
    pub(super) device: Device,
}

/// One layer. Which norms there are follows from its [`BlockKind`].
#[derive(Debug)]
pub(super) struct Block {
    pub(super) kind: BlockKind,
    pub(super) attention_norm: Option<Norm>,
    pub(super) attention: Attention,
    pub(super) attention_post_norm: Option<Norm>,
    pub(super) mlp_norm: Option<Norm>,
    pub(super) mlp: Mlp,
    pub(super) mlp_post_norm: Option<Norm>,
}

/// Tokens of one forward pass.
#[derive(Debug)]
pub(super) struct Input<'a> {
    pub(super) chunks: &'a [&'a [u32]],
    /// The layout with these tokens in it.
    pub(super) layout: &'a Layout,
    pub(super) step: &'a Step,
    pub(super) edits: &'a Edits,
}

impl Block {
    /// `x`: `[row, position, hidden]`, the residual stream before and after the block.
    fn forward(
        &self,
        layer: usize,
        x: &Tensor,
        shared: &Shared<'_>,
        cache: Option<&mut KvCache>,
    ) -> Result<Tensor> {
        let normed = normed(self.attention_norm.as_ref(), x)?;
        let attended =
            self.attention
                .forward(layer, normed.as_ref().unwrap_or(x), shared, cache)?;
        match self.kind {
            BlockKind::ParallelSharedNorm => {
                let fed = self.mlp.forward(normed.as_ref().unwrap_or(x))?;
                Ok(x.f_add(&attended.f_add(&fed)?)?)
            }
            BlockKind::ParallelOwnNorms => {
                let fed = self.fed(x)?;
                Ok(x.f_add(&attended.f_add(&fed)?)?)
            }
            BlockKind::PreNorm | BlockKind::PostNorm | BlockKind::SandwichNorm => {
                let post = self::normed(self.attention_post_norm.as_ref(), &attended)?;
                let x = x.f_add(post.as_ref().unwrap_or(&attended))?;
                let fed = self.fed(&x)?;
                let post = self::normed(self.mlp_post_norm.as_ref(), &fed)?;
                Ok(x.f_add(post.as_ref().unwrap_or(&fed))?)
            }
        }
    }

    /// The feed-forward part, after its norm if it has one.
    fn fed(&self, x: &Tensor) -> Result<Tensor> {
        let normed = normed(self.mlp_norm.as_ref(), x)?;
        self.mlp.forward(normed.as_ref().unwrap_or(x))
    }
}

/// `norm(x)`, if there is a norm.
fn normed(norm: Option<&Norm>, x: &Tensor) -> Result<Option<Tensor>> {
    norm.map(|norm| norm.forward(x)).transpose()
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
        let positions = on_device(&input.step.positions)?;
        let lengths = input.layout.lengths();
        // Layers with the same window share mask and angles.
        let mut shared: Vec<(Option<usize>, Shared<'_>)> = Vec::new();
        for layer in 0..self.spec.layers {
            let window = self.spec.window(layer);
            if shared.iter().any(|(known, _)| *known == window) {
                continue;
            }
            let rotary = match (&self.window_rotary, window) {
                (Some(rotary), Some(_)) => Some(rotary),
                _ => self.rotary.as_ref(),
            };
            let mask = input.layout.mask(input.step.start, window);
            let rotary = match rotary {
                Some(rotary) => Some((rotary, rotary.angles(&positions, &lengths, self.kind)?)),
                None => None,
            };
            let of_window = Shared {
                rotary,
                mask: AttentionMask::new(&mask, width, input.layout.slots(), self.device)?,
                edits: input.edits,
            };
            shared.push((window, of_window));
        }
        if let Some(cache) = cache.as_deref_mut() {
            cache.prepare(input.step.start, width)?;
        }
        let mut x = self.embed(&on_device(&ids)?, &positions)?;
        states.keep(Site::Hidden(0), &x)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            let window = self.spec.window(layer);
            let Some((_, shared)) = shared.iter().find(|(known, _)| *known == window) else {
                continue;
            };
            x = block.forward(layer, &x, shared, cache.as_deref_mut())?;
            states.keep(Site::Hidden(layer + 1), &x)?;
        }
        if states.wants(Site::FinalNorm) {
            states.keep(Site::FinalNorm, &self.final_norm.forward(&x)?)?;
        }
        Ok(x)
    }

    /// The first residual, `[row, position, hidden]`.
    fn embed(&self, ids: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let mut x = Tensor::f_embedding(&self.embedding, ids, -1, false, false)?;
        if let Some(scale) = self.spec.embedding.scale {
            // Rounded to the run's dtype first, as transformers does.
            x = x.f_mul(&Tensor::f_from_slice(&[scale])?.f_to_device_(
                self.device,
                self.kind,
                false,
                false,
            )?)?;
        }
        if let Some(table) = &self.positions {
            x = x.f_add(&Tensor::f_embedding(table, positions, -1, false, false)?)?;
        }
        Ok(x)
    }

    /// `[…, hidden]` before the final norm to `[…, vocab]` in `f32`.
    pub(super) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let normed = self.final_norm.forward(hidden)?;
        let weight = self.unembedding.as_ref().unwrap_or(&self.embedding);
        let mut logits = normed.f_linear::<&Tensor>(weight, self.unembedding_bias.as_deref())?;
        if let Some(cap) = self.spec.unembedding.soft_cap {
            logits = logits.f_div_scalar(cap)?.f_tanh()?.f_mul_scalar(cap)?;
        }
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
