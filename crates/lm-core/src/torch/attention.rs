//! Self-attention with a cache, and the two head ablations on the fused path.

use tch::{Kind, Tensor};

use super::cache::KvCache;
use super::layers::Linear;
use super::layout::Mask;
use super::rotary::{Angles, Rotary};
use crate::Result;
use crate::heads::{AblationKind, HeadAblation};
use crate::spec::AttentionSpec;

/// Projections of a block's attention.
#[derive(Debug)]
pub(super) struct Attention {
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) output: Linear,
    pub(super) spec: AttentionSpec,
}

/// What all blocks of a pass share.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    pub(super) rotary: &'a Rotary,
    pub(super) angles: Angles,
    pub(super) mask: AttentionMask,
    pub(super) edits: &'a Edits,
}

/// A [`Mask`] on the device.
#[derive(Debug)]
pub(super) enum AttentionMask {
    Everything,
    Causal,
    /// `[row, 1, query, key]`, boolean.
    Explicit(Tensor),
}

impl AttentionMask {
    pub(super) fn new(mask: &Mask, rows: usize, width: usize, device: tch::Device) -> Result<Self> {
        Ok(match mask {
            Mask::Everything => Self::Everything,
            Mask::Causal => Self::Causal,
            Mask::Explicit(sees) => {
                let mask =
                    Tensor::f_from_slice(sees)?.f_view([rows as i64, 1, width as i64, -1])?;
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
        let split = |projected: Tensor, heads: usize| -> Result<Tensor> {
            Ok(projected
                .f_view([rows, width, heads as i64, dim])?
                .f_transpose(1, 2)?)
        };
        let query = split(self.query.forward(x)?, self.spec.heads)?;
        let key = split(self.key.forward(x)?, self.spec.kv_heads)?;
        let value = split(self.value.forward(x)?, self.spec.kv_heads)?;
        let mut query = shared.rotary.apply(&query, &shared.angles)?;
        let key = shared.rotary.apply(&key, &shared.angles)?;

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
            AttentionMask::Causal => (None, true),
            AttentionMask::Explicit(mask) => (Some(mask), false),
        };
        let groups = (self.spec.heads / self.spec.kv_heads) as i64;
        if explicit.is_some() && groups > 1 && query.device().is_cuda() {
            // With a mask and grouped heads CUDA would fall back to the plain kernel; repeated keys keep the fused one.
            let repeat = |x: &Tensor| x.f_repeat_interleave_self_int(groups, 1, None);
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
}
