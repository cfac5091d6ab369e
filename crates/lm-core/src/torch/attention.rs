//! Self-attention with a cache; changes to heads on the fused path, written out only where weights are kept or scores capped.

use tch::{Kind, Tensor};

use super::cache::KvCache;
use super::edits::{Edits, LayerEdit};
use super::layers::{Linear, Norm};
use super::layout::{Layout, Mask};
use super::prefix::{self, SplitMask, Stored};
use super::rotary::{Angles, Rotary};
use super::taps::Taps;
use crate::Result;
use crate::sites::Site;
use crate::spec::{AttentionSpec, QkNorm};

/// Projections of a block's attention.
#[derive(Debug)]
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
    pub(super) layout: &'a Layout,
}

/// A [`Mask`] on the device.
#[derive(Debug)]
pub(super) enum AttentionMask {
    Everything,
    Newest(i64),
    Causal,
    /// `[row, 1, query, key]`, boolean; one row where all are alike.
    Explicit(Tensor),
}

impl AttentionMask {
    /// For `width` queries and `slots` keys.
    pub(super) fn new(
        mask: &Mask,
        width: usize,
        slots: usize,
        device: tch::Device,
    ) -> Result<Self> {
        Ok(match mask {
            Mask::Everything => Self::Everything,
            Mask::Newest(count) => Self::Newest(*count as i64),
            Mask::Causal => Self::Causal,
            Mask::Explicit(sees) => {
                let mask =
                    Tensor::f_from_slice(sees)?.f_view([-1, 1, width as i64, slots as i64])?;
                Self::Explicit(mask.f_to_device(device)?)
            }
        })
    }

    /// Which keys a query may see, for `scores` `[…, query, key]`: boolean, `[row or 1, 1, query, key]`.
    fn sees(&self, scores: &Tensor) -> Result<Tensor> {
        let size = scores.size();
        let (queries, keys) = match size[..] {
            [.., queries, keys] => (queries, keys),
            _ => (0, 0),
        };
        let all = || Tensor::f_ones([1, 1, queries, keys], (Kind::Bool, scores.device()));
        Ok(match self {
            Self::Everything => all()?,
            Self::Newest(count) => {
                let sees = all()?;
                drop(sees.f_narrow(3, 0, keys - count)?.f_fill_(0)?);
                sees
            }
            Self::Causal => all()?.f_tril(0)?,
            Self::Explicit(sees) => sees.shallow_clone(),
        })
    }

    /// The same weight for each key a query may see, in `f32`: `[row or 1, 1, query, key]`.
    fn equal_weights(&self, scores: &Tensor) -> Result<Tensor> {
        let sees = self.sees(scores)?.f_to_kind(Kind::Float)?;
        let count = sees.f_sum_dim_intlist(-1, true, Kind::Float)?;
        Ok(sees.f_div(&count)?)
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
        let (rows, width, _) = x.size3()?;
        let [mut query, mut key, mut value] = self.projected(x, shared)?;
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
        let mut heads = if taps.at(site) {
            let mut weights = self.weights(&query, &stored.keys()?, &shared.mask)?;
            if !uniform.is_empty() {
                weights = self.with_uniform(&weights, uniform, &shared.mask)?;
            }
            taps.weights(site, &weights, shared.layout)?;
            weights.f_matmul(&self.repeated(&stored.values()?)?)?
        } else {
            let heads = self.attend_stored(&query, &stored, shared)?;
            if uniform.is_empty() {
                heads
            } else {
                self.with_means(&heads, uniform, &stored.values()?, &shared.mask)?
            }
        };
        if let Some(edit) = edit {
            heads = edit.outputs(heads)?;
        }
        let joined = heads.f_transpose(1, 2)?.f_reshape([rows, width, -1])?;
        let joined = taps.pass(Site::HeadOutput(layer), joined)?;
        self.output.forward(&joined)
    }

    /// Queries `[row, head, position, head_dim]`, keys and values `[row, kv_head, position, head_dim]`, with norm and rotary
    /// embedding.
    fn projected(&self, x: &Tensor, shared: &Shared<'_>) -> Result<[Tensor; 3]> {
        let (rows, width, _) = x.size3()?;
        let dim = self.spec.head_dim as i64;
        let split = |projected: &Tensor, heads: usize| -> Result<Tensor> {
            Ok(projected.f_view([rows, width, heads as i64, dim])?)
        };
        let (mut query, mut key) = (self.query.forward(x)?, self.key.forward(x)?);
        if let (Some((of_query, of_key)), Some(QkNorm::Projection)) =
            (&self.qk_norm, self.spec.qk_norm)
        {
            (query, key) = (of_query.forward(&query)?, of_key.forward(&key)?);
        }
        (query, key) = (
            split(&query, self.spec.heads)?,
            split(&key, self.spec.kv_heads)?,
        );
        if let (Some((of_query, of_key)), Some(QkNorm::Head)) = (&self.qk_norm, self.spec.qk_norm) {
            (query, key) = (of_query.forward(&query)?, of_key.forward(&key)?);
        }
        (query, key) = (query.f_transpose(1, 2)?, key.f_transpose(1, 2)?);
        let value = split(&self.value.forward(x)?, self.spec.kv_heads)?.f_transpose(1, 2)?;
        if let Some((rotary, angles)) = &shared.rotary {
            (query, key) = (rotary.apply(&query, angles)?, rotary.apply(&key, angles)?);
        }
        Ok([query, key, value])
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
                .f_matmul(&self.repeated(value)?)?);
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
        let mut grouped = self.groups() > 1;
        let repeated;
        let (key, value) = if explicit.is_some() && grouped && query.device().is_cuda() {
            // With a mask and grouped heads CUDA would fall back to the plain kernel; repeated keys keep the fused one.
            grouped = false;
            repeated = (self.repeated(key)?, self.repeated(value)?);
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

    /// Query heads that share a key/value head.
    fn groups(&self) -> i64 {
        (self.spec.heads / self.spec.kv_heads) as i64
    }

    /// Keys or values, one for each query head.
    fn repeated(&self, x: &Tensor) -> Result<Tensor> {
        match self.groups() {
            1 => Ok(x.shallow_clone()),
            groups => Ok(x.f_repeat_interleave_self_int(groups, 1, None)?),
        }
    }

    /// Attention weights `[row, head, query, key]`, written out: softmax in `f32`, then the run's dtype.
    fn weights(&self, query: &Tensor, key: &Tensor, mask: &AttentionMask) -> Result<Tensor> {
        let mut scores = query
            .f_matmul(&self.repeated(key)?.f_transpose(2, 3)?)?
            .f_mul_scalar(self.spec.scale)?;
        if let Some(cap) = self.spec.soft_cap {
            scores = scores.f_div_scalar(cap)?.f_tanh()?.f_mul_scalar(cap)?;
        }
        if !matches!(mask, AttentionMask::Everything) {
            let sees = mask.sees(&scores)?;
            scores = scores.f_masked_fill(&sees.f_logical_not()?, f64::NEG_INFINITY)?;
        }
        Ok(scores
            .f_softmax(-1, Kind::Float)?
            .f_to_kind(query.f_kind()?)?)
    }

    /// Weights `[row, head, query, key]` with those of `uniform` equal for all that may be seen.
    fn with_uniform(
        &self,
        weights: &Tensor,
        uniform: &[i64],
        mask: &AttentionMask,
    ) -> Result<Tensor> {
        let equal = mask.equal_weights(weights)?.f_to_kind(weights.f_kind()?)?;
        let mut size = weights.size();
        if let Some(heads) = size.get_mut(1) {
            *heads = uniform.len() as i64;
        }
        let index = Tensor::f_from_slice(uniform)?.f_to_device(weights.device())?;
        Ok(weights.f_index_copy(1, &index, &equal.f_expand(size, false)?)?)
    }

    /// Heads' outputs with those of `uniform` the mean of the values they may see.
    fn with_means(
        &self,
        heads: &Tensor,
        uniform: &[i64],
        value: &Tensor,
        mask: &AttentionMask,
    ) -> Result<Tensor> {
        let groups = self.groups();
        let index = |heads: Vec<i64>| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(&heads)?.f_to_device(value.device())?)
        };
        let read = index(uniform.iter().map(|head| head / groups).collect())?;
        let values = value.f_index_select(1, &read)?.f_to_kind(Kind::Float)?;
        // Only the shape of the scores is asked.
        let scores = heads.f_narrow(1, 0, 1)?.f_narrow(3, 0, 1)?.f_expand(
            [-1, -1, -1, value.size().get(2).copied().unwrap_or(0)],
            false,
        )?;
        let means = mask.equal_weights(&scores)?.f_matmul(&values)?;
        let means = means.f_to_kind(heads.f_kind()?)?;
        Ok(heads.f_index_copy(1, &index(uniform.to_vec())?, &means)?)
    }
}
