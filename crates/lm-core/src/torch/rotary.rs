//! Rotary position embedding, in the order of operations of Hugging Face transformers.

use std::f64::consts::PI;

use tch::{Device, Kind, Tensor};

use super::frozen::Frozen;
use crate::Result;
use crate::spec::{RotaryScaling, RotarySpec, RotaryStyle};

/// Frequencies of the rotated pairs.
#[derive(Clone, Debug)]
pub(super) struct Rotary {
    frequencies: Frequencies,
    /// Cosines and sines are multiplied by this.
    scale: f64,
    dim: i64,
    style: RotaryStyle,
}

/// `[dim / 2]`, `f32`.
#[derive(Clone, Debug)]
enum Frequencies {
    Fixed(Frozen),
    /// The first for rows of at most `original` tokens, the second for longer ones.
    ByLength {
        short: Frozen,
        long: Frozen,
        original: usize,
    },
    /// The base grows with the row.
    Dynamic {
        /// `2i / dim`.
        exponents: Frozen,
        theta: f64,
        factor: f64,
        original: usize,
    },
}

/// Cosines and sines of a pass, `[row, 1, position, dim]` in the run's dtype.
#[derive(Debug)]
pub(super) struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Angles {
    /// The same for so many times the rows.
    pub(super) fn repeated(&self, times: i64) -> Result<Self> {
        let repeated = |values: &Tensor| -> Result<Tensor> {
            match values.size4()?.0 {
                1 => Ok(values.shallow_clone()),
                _ => Ok(values.f_repeat([times, 1, 1, 1])?),
            }
        };
        Ok(Self {
            cos: repeated(&self.cos)?,
            sin: repeated(&self.sin)?,
        })
    }

    /// Those of the last position.
    pub(super) fn of_last(&self) -> Result<Self> {
        let last = |values: &Tensor| -> Result<Tensor> {
            let positions = values.size4()?.2;
            Ok(values.f_narrow(2, positions - 1, 1)?)
        };
        Ok(Self {
            cos: last(&self.cos)?,
            sin: last(&self.sin)?,
        })
    }
}

impl Rotary {
    /// Whether the angles of a token depend on how long its row was when it was read.
    pub(super) fn depends_on_length(&self) -> bool {
        !matches!(self.frequencies, Frequencies::Fixed(_))
    }

    pub(super) fn new(spec: &RotarySpec, device: Device) -> Result<Self> {
        let dim = spec.dim as i64;
        // The reference computes the frequencies in f32; the powers are taken by the same kernel so that they agree.
        let exponents =
            Tensor::f_arange_start_step(0, dim, 2, (Kind::Float, device))?.f_div_scalar(dim)?;
        let powers = Tensor::f_pow_scalar(spec.theta, &exponents)?;
        let plain = powers.f_reciprocal()?;
        let list = |values: &[f64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_to_device_(device, Kind::Float, false, false)?)
        };
        let mut scale = 1.0;
        let fixed = |frequencies| Frequencies::Fixed(Frozen::new(frequencies));
        let frequencies = match &spec.scaling {
            RotaryScaling::None => fixed(plain),
            RotaryScaling::Linear { factor } => fixed(plain.f_div_scalar(*factor)?),
            RotaryScaling::Factors { factors } => fixed(plain.f_div(&list(factors)?)?),
            RotaryScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            } => {
                let wavelength = plain.f_reciprocal()?.f_mul_scalar(2.0 * PI)?;
                let slow = plain.f_div_scalar(*factor)?;
                // 0 at the longest wavelength of the ramp, 1 at the shortest.
                let ramp = wavelength
                    .f_reciprocal()?
                    .f_mul_scalar(*original_context)?
                    .f_sub_scalar(*low_freq_factor)?
                    .f_div_scalar(high_freq_factor - low_freq_factor)?;
                fixed(blended(&slow, &plain, &ramp.f_clamp(0.0, 1.0)?)?)
            }
            RotaryScaling::Yarn {
                factor,
                attention_factor,
                beta_fast,
                beta_slow,
                original_context,
                truncate,
            } => {
                scale = *attention_factor;
                // The dimension whose frequency turns so many times within the original context.
                let at = |turns: f64| {
                    let dim = spec.dim as f64;
                    dim * (original_context / (turns * 2.0 * PI)).ln() / (2.0 * spec.theta.ln())
                };
                let (low, high) = (at(*beta_fast), at(*beta_slow));
                let (low, high) = if *truncate {
                    (low.floor(), high.ceil())
                } else {
                    (low, high)
                };
                let (low, high) = (low.max(0.0), high.min(spec.dim as f64 - 1.0));
                let width = if low == high { 0.001 } else { high - low };
                let ramp = Tensor::f_arange(dim / 2, (Kind::Float, device))?
                    .f_sub_scalar(low)?
                    .f_div_scalar(width)?
                    .f_clamp(0.0, 1.0)?;
                let slow = powers.f_mul_scalar(*factor)?.f_reciprocal()?;
                fixed(blended(&plain, &slow, &ramp)?)
            }
            RotaryScaling::Dynamic {
                factor,
                original_context,
            } => Frequencies::Dynamic {
                exponents: Frozen::new(exponents),
                theta: spec.theta,
                factor: *factor,
                original: *original_context,
            },
            RotaryScaling::LongRope {
                short_factors,
                long_factors,
                attention_factor,
                original_context,
            } => {
                scale = *attention_factor;
                let divided = |factors| -> Result<Frozen> {
                    Ok(Frozen::new(powers.f_mul(&list(factors)?)?.f_reciprocal()?))
                };
                Frequencies::ByLength {
                    short: divided(short_factors)?,
                    long: divided(long_factors)?,
                    original: *original_context,
                }
            }
        };
        Ok(Self {
            frequencies,
            scale,
            dim,
            style: spec.style,
        })
    }

    /// Angles for `positions`, `[row, position]` of any integer or float kind; `lengths` are the rows' tokens, those of this
    /// pass included. (transformers takes the longest row's length for all; here a row does not depend on its neighbours.)
    pub(super) fn angles(
        &self,
        positions: &Tensor,
        lengths: &[usize],
        kind: Kind,
    ) -> Result<Angles> {
        let positions = positions
            .f_to_kind(Kind::Float)?
            .f_unsqueeze(1)?
            .f_unsqueeze(-1)?;
        let half = positions.f_mul(&self.frequencies(lengths)?)?;
        let angles = match self.style {
            RotaryStyle::Half => Tensor::f_cat(&[&half, &half], -1)?,
            RotaryStyle::Interleaved => half.f_repeat_interleave_self_int(2, -1, None)?,
        };
        let finished = |values: Tensor| -> Result<Tensor> {
            let scaled = if self.scale == 1.0 {
                values
            } else {
                values.f_mul_scalar(self.scale)?
            };
            Ok(scaled.f_to_kind(kind)?)
        };
        Ok(Angles {
            cos: finished(angles.f_cos()?)?,
            sin: finished(angles.f_sin()?)?,
        })
    }

    /// `[dim / 2]`, or `[row, 1, 1, dim / 2]` where they depend on the row.
    fn frequencies(&self, lengths: &[usize]) -> Result<Tensor> {
        let of_row = |length: usize| -> Result<Tensor> {
            Ok(match &self.frequencies {
                Frequencies::Fixed(fixed) => fixed.shallow_clone(),
                Frequencies::ByLength {
                    short,
                    long,
                    original,
                } => if length > *original { long } else { short }.shallow_clone(),
                Frequencies::Dynamic {
                    exponents,
                    theta,
                    factor,
                    original,
                } => {
                    let (dim, original) = (self.dim as f64, *original as f64);
                    let stretch =
                        factor * (length as f64).max(original) / original - (factor - 1.0);
                    let theta = theta * stretch.powf(dim / (dim - 2.0));
                    Tensor::f_pow_scalar(theta, exponents)?.f_reciprocal()?
                }
            })
        };
        if let Frequencies::Fixed(fixed) = &self.frequencies {
            return Ok(fixed.shallow_clone());
        }
        let rows = lengths
            .iter()
            .map(|&length| of_row(length))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_stack(&rows, 0)?.f_unsqueeze(1)?.f_unsqueeze(1)?)
    }

    /// Rotates `x`, `[row, position, head, head_dim]`, and returns `[row, head, position, head_dim]`; what lies beyond the
    /// rotated part of a head passes unchanged.
    pub(super) fn apply(&self, x: &Tensor, angles: &Angles) -> Result<Tensor> {
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        if let Some(x) = super::kernels::rotary(x, (&angles.cos, &angles.sin), self.style)? {
            return Ok(x);
        }
        self.apply_by_operators(&x.f_transpose(1, 2)?, angles)
    }

    /// `x`: `[row, head, position, head_dim]`, and so the result.
    fn apply_by_operators(&self, x: &Tensor, angles: &Angles) -> Result<Tensor> {
        let head_dim = x.size().last().copied().unwrap_or(self.dim);
        if head_dim == self.dim {
            return self.rotate(x, angles);
        }
        let rotated = self.rotate(&x.f_narrow(-1, 0, self.dim)?, angles)?;
        let rest = x.f_narrow(-1, self.dim, head_dim - self.dim)?;
        Ok(Tensor::f_cat(&[rotated, rest], -1)?)
    }

    fn rotate(&self, x: &Tensor, angles: &Angles) -> Result<Tensor> {
        let half = self.dim / 2;
        let turned = match self.style {
            RotaryStyle::Half => {
                let (first, second) = (x.f_narrow(-1, 0, half)?, x.f_narrow(-1, half, half)?);
                Tensor::f_cat(&[&second.f_neg()?, &first], -1)?
            }
            RotaryStyle::Interleaved => {
                let (even, odd) = (x.f_slice(-1, 0, None, 2)?, x.f_slice(-1, 1, None, 2)?);
                Tensor::f_stack(&[&odd.f_neg()?, &even], -1)?.f_flatten(-2, -1)?
            }
        };
        Ok(x.f_mul(&angles.cos)?.f_add(&turned.f_mul(&angles.sin)?)?)
    }
}

/// `a` where `ramp` is 0, `b` where it is 1.
fn blended(a: &Tensor, b: &Tensor, ramp: &Tensor) -> Result<Tensor> {
    let rest = ramp.f_neg()?.f_add_scalar(1.0)?;
    Ok(a.f_mul(&rest)?.f_add(&b.f_mul(ramp)?)?)
}

#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn one_pass_gives_the_bits_of_the_operators() {
        let random = |shape: &[i64]| Tensor::f_randn(shape, (Kind::Float, Device::Cpu)).unwrap();
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
            for style in [RotaryStyle::Half, RotaryStyle::Interleaved] {
                // Rows, rows of angles, positions, heads, elements of a head, those that turn; the last is large.
                for [rows, of_rows, width, heads, head_dim, dim] in [
                    [1, 1, 1, 9, 64, 64],
                    [3, 3, 4, 2, 12, 6],
                    [4, 1, 5, 3, 20, 2],
                    [5, 5, 60, 8, 64, 48],
                ] {
                    let rotary = Rotary {
                        frequencies: Frequencies::Fixed(Frozen::new(random(&[1]))),
                        scale: 1.0,
                        dim,
                        style,
                    };
                    let angles = || {
                        let angles = random(&[of_rows, 1, width, dim]);
                        angles.f_to_kind(kind).unwrap()
                    };
                    let angles = Angles {
                        cos: angles(),
                        sin: angles(),
                    };
                    let x = random(&[rows, width, heads, head_dim])
                        .f_to_kind(kind)
                        .unwrap();
                    let turned = x.f_transpose(1, 2).unwrap();
                    let expected = rotary.apply_by_operators(&turned, &angles).unwrap();
                    let found =
                        super::super::kernels::rotary(&x, (&angles.cos, &angles.sin), style);
                    assert!(found.unwrap().unwrap().f_equal(&expected).unwrap());
                }
            }
        }
    }
}
