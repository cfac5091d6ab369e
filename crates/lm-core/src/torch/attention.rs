//! Self-attention with a cache; changes to heads on the fused path, written out only where weights are kept or scores capped.

use tch::{Kind, Tensor};

use super::cache::KvCache;
use super::edits::{Edits, LayerEdit};
use super::layers::{Linear, Norm};
use super::layout::Layout;
use super::mask::AttentionMask;
use super::overlay::Overlay;
use super::prefix::{self, SplitMask, Stored};
use super::rotary::{Angles, Rotary};
use super::taps::Taps;
use crate::Result;
use crate::sites::Site;
use crate::spec::{AttentionSpec, LayerPart, QkNorm};

/// Projections of a block's attention.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) output: Linear,
    /// Norms of queries and keys.
    pub(super) qk_norm: Option<(Norm, Norm)>,
    pub(super) spec: AttentionSpec,
}

/// What all blocks of a pass with the same window share.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    pub(super) rotary: Option<(&'a Rotary, Angles)>,
    pub(super) mask: AttentionMask,
    /// The mask for shared keys and own ones apart, where the cache has both and there is no window.
    pub(super) split: Option<SplitMask>,
    pub(super) edits: &'a Edits,
    pub(super) layout: Layout,
    pub(super) overlay: &'a Overlay,
}

impl Shared<'_> {
    /// The same for so many times the rows, none of them with holes in what they share.
    pub(super) fn repeated(&self, times: i64) -> Result<Self> {
        self.mapped(
            |angles| angles.repeated(times),
            |mask| mask.repeated(times),
            |split| split.repeated(times),
        )
    }

    /// The same for the last query alone.
    pub(super) fn of_last(&self) -> Result<Self> {
        self.mapped(Angles::of_last, AttentionMask::of_last, SplitMask::of_last)
    }

    fn mapped(
        &self,
        angles: impl FnOnce(&Angles) -> Result<Angles>,
        mask: impl FnOnce(&AttentionMask) -> Result<AttentionMask>,
        split: impl FnOnce(&SplitMask) -> Result<SplitMask>,
    ) -> Result<Self> {
        let rotary = self.rotary.as_ref();
        Ok(Self {
            rotary: rotary
                .map(|(rotary, own)| Ok::<_, crate::Error>((*rotary, angles(own)?)))
                .transpose()?,
            mask: mask(&self.mask)?,
            split: self.split.as_ref().map(split).transpose()?,
            edits: self.edits,
            layout: self.layout.clone(),
            overlay: self.overlay,
        })
    }
}

impl Attention {
    /// `x`: `[row, position, hidden]`, normed. Returns the same shape, after the output projection. `cache` takes the new
    /// keys and values and gives back all of them; without one, the new ones are all there are.
    pub(super) fn forward(
        &self,
        layer: usize,
        x: &Tensor,
        shared: &Shared<'_>,
        cache: Option<&mut KvCache>,
        taps: &mut Taps<'_>,
    ) -> Result<Tensor> {
        let mut query = self.queries(layer, x, shared)?;
        let (mut key, mut value) = self.keys_and_values(layer, x, shared)?;
        let edit = shared.edits.of(layer);
        if let Some(edit) = edit {
            [query, key, value] = edit.inputs([query, key, value])?;
        }
        let stored = match cache {
            Some(cache) => cache.append(layer, &key, &value)?,
            None => Stored::own(key, value),
        };
        let uniform = edit.map_or(&[][..], LayerEdit::uniform);
        let site = Site::AttentionWeights(layer);
        let heads = if taps.at(site) {
            let mut weights = self.weights(&query, &stored.keys()?, &shared.mask)?;
            if !uniform.is_empty() {
                weights = self.with_uniform(&weights, uniform, &shared.mask)?;
            }
            taps.weights(site, &weights, &shared.layout)?;
            let heads = weights.f_matmul(&for_heads_of(&query, &stored.values()?)?)?;
            match edit {
                Some(edit) => edit.outputs(heads)?,
                None => heads,
            }
        } else {
            self.heads(&query, &stored, shared, edit)?
        };
        let joined = taps.pass(Site::HeadOutput(layer), joined(&heads)?)?;
        shared
            .overlay
            .linear(layer, LayerPart::Output, &self.output, &joined)
    }

    /// Queries of `x`, `[row, head, position, head_dim]`, with norm and rotary embedding.
    pub(super) fn queries(&self, layer: usize, x: &Tensor, shared: &Shared<'_>) -> Result<Tensor> {
        let norm = self.qk_norm.as_ref().map(|(norm, _)| norm);
        let projected = shared
            .overlay
            .linear(layer, LayerPart::Query, &self.query, x)?;
        self.turned(&projected, self.spec.heads, norm, shared)
    }

    /// Keys and values of `x`, `[row, kv_head, position, head_dim]`, keys with norm and rotary embedding.
    pub(super) fn keys_and_values(
        &self,
        layer: usize,
        x: &Tensor,
        shared: &Shared<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let project =
            |part: LayerPart, linear: &Linear| shared.overlay.linear(layer, part, linear, x);
        let norm = self.qk_norm.as_ref().map(|(_, norm)| norm);
        let key = project(LayerPart::Key, &self.key)?;
        let key = self.turned(&key, self.spec.kv_heads, norm, shared)?;
        let value = project(LayerPart::Value, &self.value)?;
        let value = self.by_head(&value, self.spec.kv_heads)?;
        Ok((key, value.f_transpose(1, 2)?))
    }

    /// What the heads `[row, head, position, head_dim]` become in the residual.
    pub(super) fn projected(
        &self,
        layer: usize,
        heads: &Tensor,
        shared: &Shared<'_>,
    ) -> Result<Tensor> {
        shared
            .overlay
            .linear(layer, LayerPart::Output, &self.output, &joined(heads)?)
    }

    /// `[row, position, head · head_dim]` with an axis for heads.
    fn by_head(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let (rows, width, _) = x.size3()?;
        Ok(x.f_view([rows, width, heads as i64, self.spec.head_dim as i64])?)
    }

    /// Projected queries or keys, normed where the family does so, and rotated.
    fn turned(
        &self,
        projected: &Tensor,
        heads: usize,
        norm: Option<&Norm>,
        shared: &Shared<'_>,
    ) -> Result<Tensor> {
        let x = match (norm, self.spec.qk_norm) {
            (Some(norm), Some(QkNorm::Projection)) => {
                self.by_head(&shared.overlay.norm(norm, projected)?, heads)?
            }
            (Some(norm), Some(QkNorm::Head)) => shared
                .overlay
                .norm(norm, &self.by_head(projected, heads)?)?,
            _ => self.by_head(projected, heads)?,
        };
        match &shared.rotary {
            Some((rotary, angles)) => rotary.apply(&x, angles),
            None => Ok(x.f_transpose(1, 2)?),
        }
    }

    /// What the heads put out, `[row, head, query, head_dim]`, with the changes that come after queries and keys have met.
    pub(super) fn heads(
        &self,
        query: &Tensor,
        stored: &Stored<'_>,
        shared: &Shared<'_>,
        edit: Option<&LayerEdit>,
    ) -> Result<Tensor> {
        let heads = self.attend_stored(query, stored, shared)?;
        let Some(edit) = edit else {
            return Ok(heads);
        };
        let uniform = edit.uniform();
        if uniform.is_empty() {
            return edit.outputs(heads);
        }
        edit.outputs(self.with_means(&heads, uniform, &stored.values()?, &shared.mask)?)
    }

    /// `[row, head, query, head_dim]` over all keys and values of a row, wherever they are kept.
    pub(super) fn attend_stored(
        &self,
        query: &Tensor,
        stored: &Stored<'_>,
        shared: &Shared<'_>,
    ) -> Result<Tensor> {
        match (&stored.prefix, &shared.split, self.spec.soft_cap) {
            (Some(prefix), Some(mask), None) => {
                prefix::attend(query, stored, *prefix, mask, self.spec.scale)
            }
            _ => self.attend(query, &stored.keys()?, &stored.values()?, &shared.mask),
        }
    }

    /// `[row, head, query, head_dim]` over keys and values `[row, kv_head, key, head_dim]`.
    fn attend(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        mask: &AttentionMask,
    ) -> Result<Tensor> {
        if self.spec.soft_cap.is_some() {
            // No fused kernel has a cap on the scores.
            return Ok(self
                .weights(query, key, mask)?
                .f_matmul(&for_heads_of(query, value)?)?);
        }
        let (explicit, causal) = match mask {
            AttentionMask::Everything => (None, false),
            AttentionMask::Newest(count) => {
                let newest = |x: &Tensor| -> Result<Tensor> {
                    let slots = x.size().get(2).copied().unwrap_or(0);
                    Ok(x.f_narrow(2, slots - count, *count)?)
                };
                return self.attend(
                    query,
                    &newest(key)?,
                    &newest(value)?,
                    &AttentionMask::Everything,
                );
            }
            AttentionMask::Causal => (None, true),
            AttentionMask::Explicit(mask) => (Some(mask), false),
        };
        let mut grouped = query.size4()?.1 > key.size4()?.1;
        let repeated;
        let (key, value) = if explicit.is_some() && grouped && query.device().is_cuda() {
            // With a mask and grouped heads CUDA would fall back to the plain kernel; repeated keys keep the fused one.
            grouped = false;
            repeated = (for_heads_of(query, key)?, for_heads_of(query, value)?);
            (&repeated.0, &repeated.1)
        } else {
            (key, value)
        };
        Ok(Tensor::f_scaled_dot_product_attention(
            query,
            key,
            value,
            explicit,
            0.0,
            causal,
            self.spec.scale,
            grouped,
        )?)
    }

    /// Attention weights `[row, head, query, key]`, written out: softmax in `f32`, then the run's dtype.
    fn weights(&self, query: &Tensor, key: &Tensor, mask: &AttentionMask) -> Result<Tensor> {
        let mut scores = query
            .f_matmul(&for_heads_of(query, key)?.f_transpose(2, 3)?)?
            .f_mul_scalar(self.spec.scale)?;
        if let Some(cap) = self.spec.soft_cap {
            scores = scores.f_div_scalar(cap)?.f_tanh()?.f_mul_scalar(cap)?;
        }
        if !matches!(mask, AttentionMask::Everything) {
            let (_, _, queries, keys) = scores.size4()?;
            let sees = mask.sees(queries, keys, scores.device())?;
            scores = scores.f_masked_fill(&sees.f_logical_not()?, f64::NEG_INFINITY)?;
        }
        Ok(scores
            .f_softmax(-1, Kind::Float)?
            .f_to_kind(query.f_kind()?)?)
    }

    /// Query heads that share a key/value head.
    pub(super) fn group(&self) -> usize {
        self.spec.heads / self.spec.kv_heads
    }

    /// Weights `[row, head, query, key]` with those of `uniform` equal for all that may be seen.
    fn with_uniform(
        &self,
        weights: &Tensor,
        uniform: &[i64],
        mask: &AttentionMask,
    ) -> Result<Tensor> {
        let (rows, _, queries, keys) = weights.size4()?;
        let equal = mask
            .equal_weights(queries, keys, weights.device())?
            .f_to_kind(weights.f_kind()?)?;
        let equal = equal.f_expand([rows, uniform.len() as i64, queries, keys], false)?;
        let index = Tensor::f_from_slice(uniform)?.f_to_device(weights.device())?;
        Ok(weights.f_index_copy(1, &index, &equal)?)
    }

    /// Heads' outputs with those of `uniform` the mean of the values they may see.
    fn with_means(
        &self,
        heads: &Tensor,
        uniform: &[i64],
        value: &Tensor,
        mask: &AttentionMask,
    ) -> Result<Tensor> {
        let groups = self.group() as i64;
        let index = |heads: Vec<i64>| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(&heads)?.f_to_device(value.device())?)
        };
        let read = index(uniform.iter().map(|head| head / groups).collect())?;
        let values = value.f_index_select(1, &read)?.f_to_kind(Kind::Float)?;
        // Only the shape of the scores is asked.
        let means = mask.means(&values, heads.size4()?.2)?;
        let means = means.f_to_kind(heads.f_kind()?)?;
        Ok(heads.f_index_copy(1, &index(uniform.to_vec())?, &means)?)
    }
}

/// `[row, head, position, head_dim]` to `[row, position, head · head_dim]`.
pub(super) fn joined(heads: &Tensor) -> Result<Tensor> {
    let (rows, _, width, _) = heads.size4()?;
    Ok(heads.f_transpose(1, 2)?.f_reshape([rows, width, -1])?)
}

/// Keys or values, one for each of the heads of `query`.
fn for_heads_of(query: &Tensor, x: &Tensor) -> Result<Tensor> {
    match query.size4()?.1 / x.size4()?.1 {
        1 => Ok(x.shallow_clone()),
        groups => Ok(x.f_repeat_interleave_self_int(groups, 1, None)?),
    }
}
