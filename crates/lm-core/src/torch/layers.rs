//! The small parts of a block: projection, norm, feed-forward.

use tch::{Kind, Tensor};

use super::frozen::Frozen;
use crate::Result;
use crate::spec::{Activation, MlpKind, NormKind, NormSpec};

/// `x · Wᵀ + b`.
#[derive(Debug)]
pub(super) struct Linear {
    /// `[out, in]`.
    pub(super) weight: Frozen,
    /// `[out]`.
    pub(super) bias: Option<Frozen>,
}

impl Linear {
    /// `[…, in]` to `[…, out]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, self.bias.as_deref())?)
    }
}

/// A norm over the last axis.
#[derive(Debug)]
pub(super) struct Norm {
    /// `[hidden]`.
    pub(super) weight: Frozen,
    pub(super) spec: NormSpec,
}

impl Norm {
    /// `[…, hidden]` to the same shape: statistics in `f32`, cast back before the weight is applied, as Hugging Face does
    /// (the fused operator applies the weight before the cast, which differs in bf16).
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self.spec.kind {
            NormKind::Rms => {
                let kind = x.f_kind()?;
                let wide = x.f_to_kind(Kind::Float)?;
                let variance = wide.f_square()?.f_mean_dim(-1, true, Kind::Float)?;
                let scale = variance.f_add_scalar(self.spec.epsilon)?.f_rsqrt()?;
                Ok(self.weight.f_mul(&wide.f_mul(&scale)?.f_to_kind(kind)?)?)
            }
        }
    }
}

/// Feed-forward part of a block.
#[derive(Debug)]
pub(super) struct Mlp {
    pub(super) gate: Linear,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) activation: Activation,
    pub(super) kind: MlpKind,
}

impl Mlp {
    /// `[…, hidden]` to the same shape.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self.kind {
            MlpKind::Gated => {
                let gate = self.gate.forward(x)?;
                let gate = match self.activation {
                    Activation::Silu => gate.f_silu()?,
                };
                self.down.forward(&gate.f_mul(&self.up.forward(x)?)?)
            }
        }
    }
}
