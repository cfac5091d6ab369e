//! bfloat16 products of many rows, as `f32` products of the widened numbers.
//!
//! Where a processor multiplies bfloat16 numbers in instructions of its own at twice the speed of `f32` or more, libtorch's product
//! is the one to take: AMX tiles, and AMD's AVX-512 (measured: 844 against 202 GFLOP/s). Elsewhere bfloat16 is the slower one: an
//! Intel Xeon with AVX-512 bf16 and without AMX gave 176 against 300 GFLOP/s, and without either it is slower still. There the
//! matrix is widened, some rows at a time so that the copy stays in the cache, and the sums are rounded once, as libtorch's are.

use std::arch::x86_64::__cpuid_count;
use std::sync::LazyLock;

use tch::{Device, Kind, Tensor};

use crate::Result;

/// Elements of a matrix that are widened at a time: 4 MB.
const AT_ONCE: i64 = 1 << 20;

/// `x` `[…, in]` times the transpose of `weight` `[out, in]`, plus `bias`, where that is the faster way for bfloat16.
pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
    let on_host = |tensor: &Tensor| tensor.device() == Device::Cpu && !tensor.requires_grad();
    let narrow = |tensor: &Tensor| -> Result<bool> {
        Ok(on_host(tensor) && tensor.f_kind()? == Kind::BFloat16)
    };
    let suits = narrow(x)? && narrow(weight)? && bias.map_or(Ok(true), narrow)?;
    if !suits || *MULTIPLIES_BF16_FAST {
        return Ok(None);
    }
    widened(x, weight, bias).map(Some)
}

fn widened(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out, width) = weight.size2()?;
    let x = x.f_to_kind(Kind::Float)?;
    let step = (AT_ONCE / width.max(1)).max(1);
    let mut parts = Vec::new();
    for first in (0..out).step_by(step as usize) {
        let part = |all: &Tensor| -> Result<Tensor> {
            let own = all.f_narrow(0, first, step.min(out - first))?;
            Ok(own.f_to_kind(Kind::Float)?)
        };
        let bias = bias.map(part).transpose()?;
        let product = x.f_linear(&part(weight)?, bias.as_ref())?;
        parts.push(product.f_to_kind(Kind::BFloat16)?);
    }
    match parts.as_slice() {
        [whole] => Ok(whole.shallow_clone()),
        _ => Ok(Tensor::f_cat(&parts, -1)?),
    }
}

/// Asks the processor, not a clock: the same machine must give the same numbers every time.
static MULTIPLIES_BF16_FAST: LazyLock<bool> = LazyLock::new(|| {
    let bit = |register: u32, bit: u32| register >> bit & 1 == 1;
    let highest = __cpuid_count(0, 0);
    if highest.eax < 7 {
        return false;
    }
    let amx_bf16 = bit(__cpuid_count(7, 0).edx, 22);
    let avx512_bf16 = bit(__cpuid_count(7, 1).eax, 5);
    // "GenuineIntel": its AVX-512 bf16 products are no faster than its f32 ones.
    let intel = highest.ebx == u32::from_le_bytes(*b"Genu");
    amx_bf16 || avx512_bf16 && !intel
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_widened_product_is_rounded_once() {
        let random = |shape: &[i64]| -> Tensor {
            let x = Tensor::f_randn(shape, (Kind::Float, Device::Cpu)).unwrap();
            x.f_to_kind(Kind::BFloat16).unwrap()
        };
        let wide = |x: &Tensor| x.f_to_kind(Kind::Double).unwrap();
        // The second takes several parts, the last of them shorter.
        for (rows, width, out) in [(40, 48, 30), (33, 4096, 700)] {
            let (x, weight, bias) = (
                random(&[2, rows, width]),
                random(&[out, width]),
                random(&[out]),
            );
            for bias in [None, Some(&bias)] {
                let found = widened(&x, &weight, bias).unwrap();
                let wide_bias = bias.map(wide);
                let exact = wide(&x)
                    .f_linear(&wide(&weight), wide_bias.as_ref())
                    .unwrap();
                assert_eq!((found.size(), found.kind()), (exact.size(), Kind::BFloat16));
                let apart = wide(&found).f_sub(&exact).unwrap().f_abs().unwrap();
                // Half of the last place of eight bits, and what f32 sums leave.
                let bound = exact
                    .f_abs()
                    .unwrap()
                    .f_mul_scalar(2.0_f64.powi(-8))
                    .unwrap();
                let bound = bound.f_add_scalar(1e-3).unwrap();
                let over = apart.f_sub(&bound).unwrap().f_max().unwrap();
                assert!(over.f_double_value(&[]).unwrap() <= 0.0);
            }
        }
    }
}
