//! Which keys a query may see, on the device.

use tch::{Device, Kind, Tensor};

use super::layout::Mask;
use crate::Result;

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
    pub(super) fn new(mask: &Mask, width: usize, slots: usize, device: Device) -> Result<Self> {
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

    /// Which keys a query may see: boolean, `[row or 1, 1, query, key]`.
    pub(super) fn sees(&self, queries: i64, keys: i64, device: Device) -> Result<Tensor> {
        let all = || Tensor::f_ones([1, 1, queries, keys], (Kind::Bool, device));
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

    /// The mean of the `values`, `[row, head, key, head_dim]`, that each of `queries` queries may see.
    pub(super) fn means(&self, values: &Tensor, queries: i64) -> Result<Tensor> {
        let kind = values.f_kind()?;
        let values = values.f_to_kind(Kind::Float)?;
        let weights = self.equal_weights(queries, values.size4()?.2, values.device())?;
        Ok(weights.f_matmul(&values)?.f_to_kind(kind)?)
    }

    /// The same for the last query alone.
    pub(super) fn of_last(&self) -> Result<Self> {
        Ok(match self {
            Self::Everything | Self::Causal => Self::Everything,
            Self::Newest(count) => Self::Newest(*count),
            Self::Explicit(sees) => {
                let queries = sees.size4()?.2;
                Self::Explicit(sees.f_narrow(2, queries - 1, 1)?)
            }
        })
    }

    /// The same for so many times the rows.
    pub(super) fn repeated(&self, times: i64) -> Result<Self> {
        Ok(match self {
            Self::Everything => Self::Everything,
            Self::Causal => Self::Causal,
            Self::Newest(count) => Self::Newest(*count),
            Self::Explicit(sees) if sees.size4()?.0 > 1 => {
                Self::Explicit(sees.f_repeat([times, 1, 1, 1])?)
            }
            Self::Explicit(sees) => Self::Explicit(sees.shallow_clone()),
        })
    }

    /// The same weight for each key a query may see, in `f32`: `[row or 1, 1, query, key]`.
    pub(super) fn equal_weights(&self, queries: i64, keys: i64, device: Device) -> Result<Tensor> {
        let sees = self.sees(queries, keys, device)?.f_to_kind(Kind::Float)?;
        let count = sees.f_sum_dim_intlist(-1, true, Kind::Float)?;
        Ok(sees.f_div(&count)?)
    }
}
