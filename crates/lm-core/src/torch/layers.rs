//! The small parts of a block: projection, norm, feed-forward.

use tch::{Kind, Tensor};

use super::frozen::Frozen;
use super::overlay::Overlay;
use crate::Result;
use crate::spec::{Activation, LayerPart, NormKind, NormSpec};

/// `x · Wᵀ + b`.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    /// `[out, in]`.
    pub(super) weight: Frozen,
    /// `[out]`.
    pub(super) bias: Option<Frozen>,
}

impl Linear {
    /// `[…, in]` to `[…, out]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        product(x, &self.weight, self.bias.as_deref())
    }

    /// The same by an operator that autograd knows.
    pub(super) fn forward_for_gradients(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, self.bias.as_deref())?)
    }
}

/// `x · Wᵀ + b` for `x` `[…, in]`, `weight` `[out, in]`, `bias` `[out]`.
pub(super) fn product(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    if let Some(product) = super::kernels::linear(x, weight, bias)? {
        return Ok(product);
    }
    Ok(x.f_linear(weight, bias)?)
}

/// A norm over the last axis.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    /// `[width]`.
    pub(super) weight: Frozen,
    /// `[width]`.
    pub(super) bias: Option<Frozen>,
    pub(super) spec: NormSpec,
}

impl Norm {
    /// `[…, width]` to the same shape: statistics in `f32`, cast back before or after the weight is applied, as Hugging Face
    /// does for the family (the fused RMS operator always applies it before, which differs in bf16).
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        if self.spec.kind != NormKind::Layer {
            let narrow_first = self.spec.kind == NormKind::Rms;
            let (weight, epsilon) = (&self.weight, self.spec.epsilon);
            if let Some(normed) = super::kernels::rms_norm(x, weight, epsilon, narrow_first)? {
                return Ok(normed);
            }
        }
        self.forward_for_gradients(x)
    }

    /// The same by operators that autograd knows.
    pub(super) fn forward_for_gradients(&self, x: &Tensor) -> Result<Tensor> {
        let kind = x.f_kind()?;
        match self.spec.kind {
            NormKind::Rms => Ok(self.weight.f_mul(&self.normed(x)?.f_to_kind(kind)?)?),
            NormKind::RmsWide => Ok(self.weight.f_mul(&self.normed(x)?)?.f_to_kind(kind)?),
            NormKind::Layer => {
                let (weight, epsilon) = (&*self.weight, self.spec.epsilon);
                Ok(x.f_layer_norm(
                    weight.size(),
                    Some(weight),
                    self.bias.as_deref(),
                    epsilon,
                    false,
                )?)
            }
        }
    }

    /// `x / √(mean(x²) + ε)` in `f32`.
    fn normed(&self, x: &Tensor) -> Result<Tensor> {
        let wide = x.f_to_kind(Kind::Float)?;
        let variance = wide.f_square()?.f_mean_dim(-1, true, Kind::Float)?;
        Ok(wide.f_mul(&variance.f_add_scalar(self.spec.epsilon)?.f_rsqrt()?)?)
    }
}

/// Feed-forward part of a block.
#[derive(Clone, Debug)]
pub(super) struct Mlp {
    /// Of a gated one.
    pub(super) gate: Option<Linear>,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) activation: Activation,
}

impl Mlp {
    /// `[…, hidden]` to the same shape.
    pub(super) fn forward(&self, layer: usize, x: &Tensor, overlay: &Overlay) -> Result<Tensor> {
        let project = |part: LayerPart, linear: &Linear| overlay.linear(layer, part, linear, x);
        let up = project(LayerPart::Up, &self.up)?;
        let inner = match &self.gate {
            Some(gate) => self.activate(project(LayerPart::Gate, gate)?)?.f_mul(&up)?,
            None => self.activate(up)?,
        };
        overlay.linear(layer, LayerPart::Down, &self.down, &inner)
    }

    /// In place where no gradient needs what was there.
    fn activate(&self, mut x: Tensor) -> Result<Tensor> {
        let in_place = !x.requires_grad();
        Ok(match self.activation {
            Activation::Silu if in_place => x.f_silu_()?,
            Activation::Silu => x.f_silu()?,
            Activation::Gelu => x.f_gelu("none")?,
            Activation::GeluTanh => x.f_gelu("tanh")?,
            Activation::Relu => x.f_relu()?,
        })
    }
}
