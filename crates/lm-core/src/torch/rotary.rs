//! Rotary position embedding, in the order of operations of Hugging Face transformers.

use std::f64::consts::PI;

use tch::{Device, Kind, Tensor};

use super::frozen::Frozen;
use crate::Result;
use crate::spec::{RotaryScaling, RotarySpec, RotaryStyle};

/// Frequencies of the rotated pairs.
#[derive(Debug)]
pub(super) struct Rotary {
    /// `[dim / 2]`, `f32`.
    frequencies: Frozen,
    dim: i64,
    style: RotaryStyle,
}

/// Cosines and sines of a pass, `[row, 1, position, dim]` in the run's dtype.
#[derive(Debug)]
pub(super) struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    /// `factors`: the checkpoint's divisors, for [`RotaryScaling::Factors`].
    pub(super) fn new(spec: &RotarySpec, factors: Option<&Tensor>, device: Device) -> Result<Self> {
        let dim = spec.dim as i64;
        // The reference computes the frequencies in f32; the powers are taken by the same kernel so that they agree.
        let exponents =
            Tensor::f_arange_start_step(0, dim, 2, (Kind::Float, device))?.f_div_scalar(dim)?;
        let powers = Tensor::f_pow_scalar(spec.theta, &exponents)?;
        let plain = powers.f_reciprocal()?;
        let frequencies = match spec.scaling {
            RotaryScaling::None => plain,
            RotaryScaling::Linear { factor } => plain.f_div_scalar(factor)?,
            RotaryScaling::Factors => match factors {
                Some(factors) => plain.f_div(&factors.f_to_kind(Kind::Float)?)?,
                None => plain,
            },
            RotaryScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            } => {
                let wavelength = plain.f_reciprocal()?.f_mul_scalar(2.0 * PI)?;
                let slow = plain.f_div_scalar(factor)?;
                // 0 at the longest wavelength of the ramp, 1 at the shortest.
                let ramp = wavelength
                    .f_reciprocal()?
                    .f_mul_scalar(original_context)?
                    .f_sub_scalar(low_freq_factor)?
                    .f_div_scalar(high_freq_factor - low_freq_factor)?;
                let keep = ramp.f_clamp(0.0, 1.0)?;
                let stretched = slow.f_mul(&keep.f_neg()?.f_add_scalar(1.0)?)?;
                stretched.f_add(&plain.f_mul(&keep)?)?
            }
        };
        Ok(Self {
            frequencies: Frozen::new(frequencies),
            dim,
            style: spec.style,
        })
    }

    /// Angles for `positions`, `[row, position]` of any integer or float kind.
    pub(super) fn angles(&self, positions: &Tensor, kind: Kind) -> Result<Angles> {
        let positions = positions
            .f_to_kind(Kind::Float)?
            .f_unsqueeze(1)?
            .f_unsqueeze(-1)?;
        let half = positions.f_mul(&self.frequencies)?;
        let angles = match self.style {
            RotaryStyle::Half => Tensor::f_cat(&[&half, &half], -1)?,
        };
        Ok(Angles {
            cos: angles.f_cos()?.f_to_kind(kind)?,
            sin: angles.f_sin()?.f_to_kind(kind)?,
        })
    }

    /// Rotates `x`, `[row, head, position, head_dim]`; what lies beyond the rotated part of a head passes unchanged.
    pub(super) fn apply(&self, x: &Tensor, angles: &Angles) -> Result<Tensor> {
        let head_dim = x.size().last().copied().unwrap_or(self.dim);
        if head_dim == self.dim {
            return self.rotate(x, angles);
        }
        let rotated = self.rotate(&x.f_narrow(-1, 0, self.dim)?, angles)?;
        let rest = x.f_narrow(-1, self.dim, head_dim - self.dim)?;
        Ok(Tensor::f_cat(&[rotated, rest], -1)?)
    }

    fn rotate(&self, x: &Tensor, angles: &Angles) -> Result<Tensor> {
        let turned = match self.style {
            RotaryStyle::Half => {
                let half = self.dim / 2;
                let (first, second) = (x.f_narrow(-1, 0, half)?, x.f_narrow(-1, half, half)?);
                Tensor::f_cat(&[&second.f_neg()?, &first], -1)?
            }
        };
        Ok(x.f_mul(&angles.cos)?.f_add(&turned.f_mul(&angles.sin)?)?)
    }
}
