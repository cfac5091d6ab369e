//! The one decoder: embedding, blocks, final norm, unembedding, as the [`DecoderSpec`] says.

use tch::{Kind, Tensor};

use super::attention::{Attention, Shared};
use super::cache::KvCache;
use super::edits::Edits;
use super::frozen::Frozen;
use super::host::to_array2;
use super::layers::{self, Mlp, Norm};
use super::layout::{Layout, Mask, Step};
use super::mask::AttentionMask;
use super::overlay::Overlay;
use super::prefix::{Owners, SplitMask};
use super::rotary::Rotary;
use super::soft;
use super::stages::{ByStage, Place};
use super::taps::Taps;
use crate::logits;
use crate::sites::Site;
use crate::spec::{BlockKind, DecoderSpec};
use crate::{Error, Result};

/// Positions whose logits are on the host together while scoring.
const SCORED_AT_ONCE: usize = 128;

/// Weights and arithmetic of a model.
#[derive(Clone, Debug)]
pub(super) struct Decoder {
    pub(super) spec: DecoderSpec,
    /// `[vocab, hidden]`.
    pub(super) embedding: Frozen,
    /// Learned positions, `[positions, hidden]`.
    pub(super) positions: Option<Frozen>,
    pub(super) blocks: Vec<Block>,
    pub(super) final_norm: Norm,
    /// `[vocab, hidden]`; the embedding's when tied, unless the last layer is on another device than the first.
    pub(super) unembedding: Option<Frozen>,
    /// `[vocab]`.
    pub(super) unembedding_bias: Option<Frozen>,
    pub(super) places: ByStage<Place>,
    pub(super) rotary: ByStage<Rotaries>,
}

/// Rotary embeddings on one device.
#[derive(Clone, Debug)]
pub(super) struct Rotaries {
    pub(super) plain: Option<Rotary>,
    /// Of the layers with a window, where it is another one.
    pub(super) windowed: Option<Rotary>,
}

impl Rotaries {
    /// That of layers with such a window.
    pub(super) fn of(&self, window: Option<usize>) -> Option<&Rotary> {
        let windowed = self.windowed.as_ref().filter(|_| window.is_some());
        windowed.or(self.plain.as_ref())
    }
}

/// One layer. Which norms there are follows from its [`BlockKind`].
#[derive(Clone, Debug)]
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
    pub(super) overlay: &'a Overlay,
}

impl Block {
    /// `x`: `[row, position, hidden]`, the residual stream before and after the block.
    fn forward(
        &self,
        layer: usize,
        x: &Tensor,
        shared: &Shared<'_>,
        cache: Option<&mut KvCache>,
        taps: &mut Taps<'_>,
    ) -> Result<Tensor> {
        let normed = self.read(x, shared.overlay)?;
        let read = normed.as_ref().unwrap_or(x);
        let attended = self.attention.forward(layer, read, shared, cache, taps)?;
        self.after_attention(layer, (x, read), attended, shared.overlay, taps)
    }

    /// What the attention reads, if it is not `x` itself.
    pub(super) fn read(&self, x: &Tensor, overlay: &Overlay) -> Result<Option<Tensor>> {
        normed(self.attention_norm.as_ref(), x, overlay)
    }

    /// The block's result from `x`, what the attention has `read` of it, and what it gave.
    pub(super) fn after_attention(
        &self,
        layer: usize,
        (x, read): (&Tensor, &Tensor),
        attended: Tensor,
        overlay: &Overlay,
        taps: &mut Taps<'_>,
    ) -> Result<Tensor> {
        let post = normed(self.attention_post_norm.as_ref(), &attended, overlay)?;
        let attended = taps.pass(Site::AttentionOutput(layer), post.unwrap_or(attended))?;
        let (after, fed) = match self.kind {
            BlockKind::ParallelSharedNorm => (None, self.mlp.forward(layer, read, overlay)?),
            BlockKind::ParallelOwnNorms => (None, self.fed(layer, x, overlay)?),
            BlockKind::PreNorm | BlockKind::PostNorm | BlockKind::SandwichNorm => {
                let after = x.f_add(&attended)?;
                let fed = self.fed(layer, &after, overlay)?;
                (Some(after), fed)
            }
        };
        let post = normed(self.mlp_post_norm.as_ref(), &fed, overlay)?;
        let fed = taps.pass(Site::MlpOutput(layer), post.unwrap_or(fed))?;
        match after {
            Some(after) => Ok(after.f_add(&fed)?),
            // In the order in which transformers adds them.
            None => Ok(x.f_add(&attended.f_add(&fed)?)?),
        }
    }

    /// The feed-forward part, after its norm if it has one.
    fn fed(&self, layer: usize, x: &Tensor, overlay: &Overlay) -> Result<Tensor> {
        let normed = normed(self.mlp_norm.as_ref(), x, overlay)?;
        let read = normed.as_ref().unwrap_or(x);
        self.mlp.forward(layer, read, overlay)
    }
}

/// `norm(x)`, if there is a norm.
fn normed(norm: Option<&Norm>, x: &Tensor, overlay: &Overlay) -> Result<Option<Tensor>> {
    norm.map(|norm| overlay.norm(norm, x)).transpose()
}

/// What all blocks of a pass share.
#[derive(Debug)]
pub(super) struct Started<'a> {
    ids: Tensor,
    positions: Tensor,
    overlay: &'a Overlay,
    shared: Shares<'a>,
}

/// What attention is told in a pass, by run of layers and by window.
#[derive(Debug)]
pub(super) struct Shares<'a>(ByStage<Vec<(Option<usize>, Shared<'a>)>>);

impl<'a> Shares<'a> {
    pub(super) fn of(&self, decoder: &Decoder, layer: usize) -> Result<&Shared<'a>> {
        let window = decoder.spec.window(layer);
        let mut known = self.0.of(layer).iter();
        let own = known.find(|(known, _)| *known == window);
        own.map(|(_, shared)| shared)
            .ok_or_else(|| Error::argument("layer", "one of the model's", layer))
    }
}

impl Started<'_> {
    /// The first residual, `[row, position, hidden]`.
    pub(super) fn embedded(&self, decoder: &Decoder) -> Result<Tensor> {
        decoder.embed(&self.ids, &self.positions, self.overlay)
    }
}

impl Decoder {
    /// One block of a pass without a cache: the residual stream after block `layer`.
    pub(super) fn block(
        &self,
        layer: usize,
        x: &Tensor,
        started: &Started<'_>,
        taps: &mut Taps<'_>,
    ) -> Result<Tensor> {
        let x = self.places.entered(layer, x.shallow_clone())?;
        let shared = started.shared.of(self, layer)?;
        let block = self.blocks.get(layer);
        let block = block.ok_or_else(|| Error::argument("layer", "one of the model's", layer))?;
        block.forward(layer, &x, shared, None, taps)
    }

    /// Mask and angles of a pass, and its ids where it begins. `shared_keys` says which rows share the keys of how many first
    /// slots, if any do.
    pub(super) fn start<'a>(
        &'a self,
        input: &Input<'a>,
        shared_keys: Option<(&Owners, usize)>,
    ) -> Result<Started<'a>> {
        let positions = self.on_first(&input.step.positions, input.step.width)?;
        let fixed = (input.edits, input.overlay);
        Ok(Started {
            ids: self.on_first(&padded(input.chunks, input.step.width), input.step.width)?,
            shared: self.shared(input.layout, input.step, &positions, shared_keys, fixed)?,
            overlay: input.overlay,
            positions,
        })
    }

    /// `[row, width]`, with the first layer.
    pub(super) fn on_first(&self, values: &[i64], width: usize) -> Result<Tensor> {
        let tensor = Tensor::f_from_slice(values)?.f_view([-1, width as i64])?;
        Ok(tensor.f_to_device(self.places.first().device)?)
    }

    /// What the attention of all blocks is told.
    pub(super) fn shared<'a>(
        &'a self,
        layout: &Layout,
        step: &Step,
        positions: &Tensor,
        shared_keys: Option<(&Owners, usize)>,
        (edits, overlay): (&'a Edits, &'a Overlay),
    ) -> Result<Shares<'a>> {
        let lengths = layout.lengths();
        let mut masks: Vec<(Option<usize>, Mask)> = Vec::new();
        for layer in 0..self.spec.layers {
            let window = self.spec.window(layer);
            if masks.iter().all(|(known, _)| *known != window) {
                masks.push((window, layout.mask(step.start, window)));
            }
        }
        let on = |first: usize, place: &Place| {
            let positions = positions.f_to_device(place.device)?;
            let of_window = |(window, mask): &(Option<usize>, Mask)| -> Result<_> {
                let window = *window;
                let rotary = self.rotary.of(first).of(window).map(|rotary| {
                    let angles = rotary.angles(&positions, &lengths, place.kind)?;
                    Ok::<_, Error>((rotary, angles))
                });
                let split = match shared_keys.filter(|_| window.is_none()) {
                    Some((owners, slots)) => {
                        let format = (place.kind, place.device);
                        SplitMask::new(mask, layout, owners, slots, step.width, format)?
                    }
                    None => None,
                };
                let shared = Shared {
                    rotary: rotary.transpose()?,
                    split,
                    mask: AttentionMask::new(mask, step.width, layout.slots(), place.device)?,
                    edits,
                    layout: layout.clone(),
                    overlay,
                };
                Ok((window, shared))
            };
            masks.iter().map(of_window).collect()
        };
        Ok(Shares(self.places.map(on)?))
    }

    /// The residual stream after the last block. Chunks stand at the right end of each row. `taps` reads and writes on the
    /// way.
    pub(super) fn forward(
        &self,
        input: &Input<'_>,
        mut cache: Option<&mut KvCache>,
        taps: &mut Taps<'_>,
    ) -> Result<Last> {
        let sharing = cache.as_deref();
        let shared_keys = sharing.and_then(|cache| Some((cache.owners()?, cache.shared_slots())));
        let started = self.start(input, shared_keys)?;
        if let Some(cache) = cache.as_deref_mut() {
            cache.prepare(input.step.start, input.step.width)?;
        }
        let mut x = taps.pass(Site::Hidden(0), started.embedded(self)?)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            x = self.places.entered(layer, x)?;
            let shared = started.shared.of(self, layer)?;
            x = block.forward(layer, &x, shared, cache.as_deref_mut(), taps)?;
            x = taps.pass(Site::Hidden(layer + 1), x)?;
        }
        let normed = taps.at(Site::FinalNorm);
        if normed {
            x = taps.pass(Site::FinalNorm, self.final_norm.forward(&x)?)?;
        }
        Ok(Last { states: x, normed })
    }

    /// The first residual, `[row, position, hidden]`.
    pub(super) fn embed(
        &self,
        ids: &Tensor,
        positions: &Tensor,
        overlay: &Overlay,
    ) -> Result<Tensor> {
        let mut x = match overlay.soft_prompt() {
            Some(prompt) => soft::embedded(prompt, &self.embedding, ids)?,
            None => Tensor::f_embedding(&self.embedding, ids, -1, false, false)?,
        };
        if let Some(scale) = self.spec.embedding.scale {
            // Rounded to the run's dtype first, as transformers does.
            let scale = Tensor::f_from_slice(&[scale])?;
            x = x.f_mul(&self.places.first().take(&scale)?)?;
        }
        if let Some(table) = &self.positions {
            x = x.f_add(&Tensor::f_embedding(table, positions, -1, false, false)?)?;
        }
        Ok(x)
    }

    /// `[…, hidden]` before the final norm to `[…, vocab]` in `f32`.
    pub(super) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.unembed(&self.final_norm.forward(hidden)?)
    }

    /// The same from states after the final norm.
    fn unembed(&self, normed: &Tensor) -> Result<Tensor> {
        let weight = self.unembedding.as_ref().unwrap_or(&self.embedding);
        let mut logits = layers::product(normed, weight, self.unembedding_bias.as_deref())?;
        if let Some(cap) = self.spec.unembedding.soft_cap {
            logits = logits.f_div_scalar(cap)?.f_tanh()?.f_mul_scalar(cap)?;
        }
        Ok(logits.f_to_kind(Kind::Float)?)
    }
}

/// Token ids of rows of `width` positions, tokens at the right end.
pub(super) fn padded(chunks: &[&[u32]], width: usize) -> Vec<i64> {
    let mut ids = Vec::with_capacity(chunks.len() * width);
    for chunk in chunks {
        // Any token does in a hole: it is not read by anyone.
        ids.extend(std::iter::repeat_n(0, width - chunk.len()));
        ids.extend(chunk.iter().map(|&id| i64::from(id)));
    }
    ids
}

/// What comes out of the last block, `[row, position, hidden]`.
#[derive(Debug)]
pub(super) struct Last {
    states: Tensor,
    /// Whether the final norm is behind it.
    normed: bool,
}

impl Last {
    /// Logits after the newest token of each row, `[row, vocab]`.
    pub(super) fn newest_logits(&self, decoder: &Decoder) -> Result<Tensor> {
        let width = self.states.size().get(1).copied().unwrap_or(0);
        self.unembedded(decoder, &self.states.f_select(1, width - 1)?)
    }

    /// Logits `[n, vocab]` at the positions `indices`, counted in the pass, of one row.
    pub(super) fn logits(&self, decoder: &Decoder, row: usize, indices: &[i64]) -> Result<Tensor> {
        let index = Tensor::f_from_slice(indices)?.f_to_device(self.states.device())?;
        let own = self
            .states
            .f_select(0, row as i64)?
            .f_index_select(0, &index)?;
        self.unembedded(decoder, &own)
    }

    /// Natural log-probability of each of `tokens`, which stand after the positions `after`: those of all rows of the pass,
    /// one row after the other.
    pub(super) fn log_probs(
        &self,
        decoder: &Decoder,
        after: &[i64],
        tokens: &[u32],
    ) -> Result<Vec<f64>> {
        let states = self.states.f_flatten(0, 1)?;
        let mut scores = Vec::with_capacity(tokens.len());
        // Logits of a few positions at a time: a long text times a large vocabulary would not fit.
        let runs = after.chunks(SCORED_AT_ONCE);
        for (after, tokens) in runs.zip(tokens.chunks(SCORED_AT_ONCE)) {
            let index = Tensor::f_from_slice(after)?.f_to_device(states.device())?;
            let logits = self.unembedded(decoder, &states.f_index_select(0, &index)?)?;
            for (logits, &id) in to_array2(&logits)?.outer_iter().zip(tokens) {
                let found = logits
                    .as_slice()
                    .and_then(|logits| logits::log_prob(logits, id));
                scores.push(
                    found
                        .ok_or_else(|| Error::argument("token id", "one of the vocabulary", id))?,
                );
            }
        }
        Ok(scores)
    }

    fn unembedded(&self, decoder: &Decoder, states: &Tensor) -> Result<Tensor> {
        if self.normed {
            decoder.unembed(states)
        } else {
            decoder.logits(states)
        }
    }
}
