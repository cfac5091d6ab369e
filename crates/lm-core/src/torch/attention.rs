//! Self-attention with a cache, and the two head ablations on the fused path.

use tch::{Kind, Tensor};

use super::cache::KvCache;
use super::layers::{Linear, Norm};
use super::layout::Mask;
use super::rotary::{Angles, Rotary};
use crate::Result;
use crate::heads::{AblationKind, HeadAblation};
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
    pub(super) edits: &'a Edits,
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
}

/// A [`HeadAblation`] as factors on the device, by layer.
#[derive(Debug, Default)]
pub(super) struct Edits {
    layers: Vec<LayerEdit>,
}

#[derive(Debug, Default)]
struct LayerEdit {
    /// `[1, head, 1, 1]`: multiplied into the queries.
    query: Option<Tensor>,
    /// `[1, head, 1, 1]`: multiplied into the heads' outputs.
    output: Option<Tensor>,
}

impl Edits {
    /// The ablation must have been checked against the model.
    pub(super) fn new(
        ablation: &HeadAblation,
        layers: usize,
        heads: usize,
        kind: Kind,
        device: tch::Device,
    ) -> Result<Self> {
        if ablation.is_empty() {
            return Ok(Self::default());
        }
        let mut factors = vec![(None, None); layers];
        for edit in ablation.edits() {
            let Some((query, output)) = factors.get_mut(edit.head.layer) else {
                continue;
            };
            let (slot, factor) = match edit.kind {
                AblationKind::Undifferentiated { epsilon } => (query, epsilon),
                AblationKind::Contribution { factor } => (output, factor),
            };
            let all = slot.get_or_insert_with(|| vec![1.0_f32; heads]);
            if let Some(own) = all.get_mut(edit.head.head) {
                *own = factor;
            }
        }
        let on_device = |factors: Option<Vec<f32>>| -> Result<Option<Tensor>> {
            let Some(factors) = factors else {
                return Ok(None);
            };
            let factors = Tensor::f_from_slice(&factors)?.f_view([1, -1, 1, 1])?;
            Ok(Some(factors.f_to_kind(kind)?.f_to_device(device)?))
        };
        let layers = factors
            .into_iter()
            .map(|(query, output)| {
                Ok(LayerEdit {
                    query: on_device(query)?,
                    output: on_device(output)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { layers })
    }

    fn of(&self, layer: usize) -> Option<&LayerEdit> {
        self.layers.get(layer)
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
    ) -> Result<Tensor> {
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

        // Undifferentiated attention scales what meets the keys, after everything that could undo it: a scale on the
        // projection would leave a bias in, and a norm after it would take it out again.
        let edit = shared.edits.of(layer);
        if let Some(factors) = edit.and_then(|edit| edit.query.as_ref()) {
            query = query.f_mul(factors)?;
        }
        let (key, value) = match cache {
            Some(cache) => cache.append(layer, &key, &value)?,
            None => (key, value),
        };
        let mut heads = self.attend(&query, &key, &value, &shared.mask)?;
        if let Some(factors) = edit.and_then(|edit| edit.output.as_ref()) {
            heads = heads.f_mul(factors)?;
        }
        let joined = heads.f_transpose(1, 2)?.f_reshape([rows, width, -1])?;
        self.output.forward(&joined)
    }

    /// `[row, head, query, head_dim]` over keys and values `[row, kv_head, key, head_dim]`.
    fn attend(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        mask: &AttentionMask,
    ) -> Result<Tensor> {
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
        let groups = (self.spec.heads / self.spec.kv_heads) as i64;
        let repeat = |x: &Tensor| x.f_repeat_interleave_self_int(groups, 1, None);
        if let Some(cap) = self.spec.soft_cap {
            let (key, value) = (repeat(key)?, repeat(value)?);
            return self.capped(query, &key, &value, explicit, causal, cap);
        }
        if explicit.is_some() && groups > 1 && query.device().is_cuda() {
            // With a mask and grouped heads CUDA would fall back to the plain kernel; repeated keys keep the fused one.
            return Ok(Tensor::f_scaled_dot_product_attention(
                query,
                &repeat(key)?,
                &repeat(value)?,
                explicit,
                0.0,
                causal,
                self.spec.scale,
                false,
            )?);
        }
        Ok(Tensor::f_scaled_dot_product_attention(
            query,
            key,
            value,
            explicit,
            0.0,
            causal,
            self.spec.scale,
            groups > 1,
        )?)
    }

    /// Attention written out, with a soft cap on the scores, which no fused kernel has. Softmax in `f32`.
    fn capped(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        explicit: Option<&Tensor>,
        causal: bool,
        cap: f64,
    ) -> Result<Tensor> {
        let mut scores = query
            .f_matmul(&key.f_transpose(2, 3)?)?
            .f_mul_scalar(self.spec.scale)?
            .f_div_scalar(cap)?
            .f_tanh()?
            .f_mul_scalar(cap)?;
        if let Some(sees) = explicit {
            scores = scores.f_masked_fill(&sees.f_logical_not()?, f64::NEG_INFINITY)?;
        } else if causal {
            let sees = scores.f_ones_like()?.f_tril(0)?.f_to_kind(Kind::Bool)?;
            scores = scores.f_masked_fill(&sees.f_logical_not()?, f64::NEG_INFINITY)?;
        }
        let weights = scores
            .f_softmax(-1, Kind::Float)?
            .f_to_kind(query.f_kind()?)?;
        Ok(weights.f_matmul(value)?)
    }
}
