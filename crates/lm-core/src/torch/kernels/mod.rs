//! Our own kernels for the CPU, where libtorch's leave much of the machine unused.
//!
//! * [`few_rows`]: one step of decoding reads every weight for one row or a few. libtorch's products were made for many: for few they
//!   read a part of what the memory gives, and two rows can cost more than twice one (`docs/speed.md`). Here the matrix is read
//!   once, as it is stored, by all rows together; nothing is packed, so no memory is added. The sums do not depend on how many
//!   rows, threads or instructions there are: see [`product`].
//! * [`widened::linear`]: the same for many rows of bfloat16, on processors whose `f32` products are the faster ones.
//! * [`rms_norm`], [`rotary`]: one pass over the numbers instead of one for each of six or seven operators, of which each costs
//!   some microseconds before it begins.
//!
//! Each returns `None` where libtorch must do it: another device, dtype or layout, gradients, a processor without AVX2. The plain
//! ways stay beside the calls, and tests hold the two equal.

mod lanes;
mod norm;
mod product;
mod rotary;
mod team;
mod widened;

use tch::{Device, Kind, Tensor};

use self::lanes::Instructions;
use self::norm::Rms;
use self::product::{Bf16, Element, F16, Product};
use self::rotary::{Heads, Rotation};
use crate::Result;
use crate::spec::RotaryStyle;

/// Up to so many rows [`few_rows`] is faster than libtorch (`docs/speed.md`).
const MOST_ROWS: i64 = 32;

/// `x` `[…, in]` times the transpose of `weight` `[out, in]`, plus `bias` `[out]`.
pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
    match few_rows(x, weight, bias)? {
        None => widened::linear(x, weight, bias),
        product => Ok(product),
    }
}

/// [`linear`] for at most [`MOST_ROWS`] rows.
fn few_rows(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
    let (shape, size) = (x.size(), weight.size());
    let (&[out, width], Some((&last, outer))) = (size.as_slice(), shape.split_last()) else {
        return Ok(None);
    };
    let rows = outer.iter().product::<i64>();
    let fits = width > 0 && last == width && (1..=MOST_ROWS).contains(&rows);
    let fits = fits && bias.is_none_or(|bias| bias.size() == [out]);
    let Some((instructions, kind)) = usable(fits, x, [Some(weight), bias])? else {
        return Ok(None);
    };
    let shape: Vec<i64> = outer.iter().copied().chain([out]).collect();
    let (x, result) = (x.f_contiguous()?, fresh(&shape, kind)?);
    match kind {
        Kind::Float => multiply::<f32>(instructions, &x, weight, bias, &result),
        Kind::Half => multiply::<F16>(instructions, &x, weight, bias, &result),
        _ => multiply::<Bf16>(instructions, &x, weight, bias, &result),
    }
    Ok(Some(result))
}

/// The root-mean-square norm of `x` `[…, width]` with `weight` `[width]`; the normed values are rounded to the run's dtype
/// `narrow_first`, or only after the weight is applied.
pub(super) fn rms_norm(
    x: &Tensor,
    weight: &Tensor,
    epsilon: f64,
    narrow_first: bool,
) -> Result<Option<Tensor>> {
    let (shape, size) = (x.size(), weight.size());
    let fits = shape.last().is_some_and(|&last| last > 0 && size == [last]);
    let Some((instructions, kind)) = usable(fits, x, [Some(weight), None])? else {
        return Ok(None);
    };
    let (x, result) = (x.f_contiguous()?, fresh(&shape, kind)?);
    let sizes = (epsilon as f32, narrow_first);
    match kind {
        Kind::Float => norm::<f32>(instructions, &x, weight, sizes, &result),
        Kind::Half => norm::<F16>(instructions, &x, weight, sizes, &result),
        _ => norm::<Bf16>(instructions, &x, weight, sizes, &result),
    }
    Ok(Some(result))
}

/// `x` `[row, position, head, head_dim]` turned by `cos` and `sin` `[row or 1, 1, position, dim]`: `[row, head, position,
/// head_dim]`. What lies beyond `dim` in a head passes unchanged.
pub(super) fn rotary(
    x: &Tensor,
    (cos, sin): (&Tensor, &Tensor),
    style: RotaryStyle,
) -> Result<Option<Tensor>> {
    let (&[rows, width, heads, head_dim], &[of_rows, 1, positions, dim]) =
        (x.size().as_slice(), cos.size().as_slice())
    else {
        return Ok(None);
    };
    let fits = rows * width * heads > 0
        && positions == width
        && (of_rows == rows || of_rows == 1)
        && (1..=head_dim).contains(&dim)
        && dim % 2 == 0
        && sin.size() == cos.size();
    let Some((instructions, kind)) = usable(fits, x, [Some(cos), Some(sin)])? else {
        return Ok(None);
    };
    let x = x.f_contiguous()?;
    let result = fresh(&[rows, heads, width, head_dim], kind)?;
    let shape = [width, heads, head_dim, dim].map(|extent| extent as usize);
    match kind {
        Kind::Float => turn::<f32>(instructions, &x, (cos, sin), shape, style, &result),
        Kind::Half => turn::<F16>(instructions, &x, (cos, sin), shape, style, &result),
        _ => turn::<Bf16>(instructions, &x, (cos, sin), shape, style, &result),
    }
    Ok(Some(result))
}

/// The instructions and the dtype to use, if a kernel of ours can do it: `fits`, and all on the CPU, of one dtype that we know,
/// without gradients; others than `x` contiguous.
fn usable(
    fits: bool,
    x: &Tensor,
    others: [Option<&Tensor>; 2],
) -> Result<Option<(Instructions, Kind)>> {
    let (true, Some(instructions)) = (fits, Instructions::of_this_processor()) else {
        return Ok(None);
    };
    let kind = x.f_kind()?;
    if !matches!(kind, Kind::Float | Kind::BFloat16 | Kind::Half)
        || x.device() != Device::Cpu
        || x.requires_grad()
    {
        return Ok(None);
    }
    for other in others.into_iter().flatten() {
        let alike = other.device() == Device::Cpu && other.f_kind()? == kind;
        if !alike || other.requires_grad() || !other.is_contiguous() {
            return Ok(None);
        }
    }
    Ok(Some((instructions, kind)))
}

fn fresh(shape: &[i64], kind: Kind) -> Result<Tensor> {
    Ok(Tensor::f_empty(shape, (kind, Device::Cpu))?)
}

fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1)
}

/// Tensors as [`usable`] has found them, `x` and `result` contiguous, of shapes that fit; so for all below.
fn multiply<T: Element>(
    instructions: Instructions,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    result: &Tensor,
) {
    let width = weight.size().last().map_or(1, |&width| width as usize);
    // SAFETY: weights are frozen, and nobody writes to the input of an operator.
    let (x, matrix) = unsafe { (elements::<T>(x), elements::<T>(weight)) };
    // SAFETY: as above.
    let bias = bias.map(|bias| unsafe { elements::<T>(bias) });
    let product = Product {
        matrix,
        width,
        vectors: &T::vectors(x, width),
        bias,
    };
    // SAFETY: the result has a number for each vector and row, and nobody else has seen it.
    unsafe { product.run(instructions, result.data_ptr().cast(), threads()) };
}

fn norm<T: Element>(
    instructions: Instructions,
    x: &Tensor,
    weight: &Tensor,
    (epsilon, narrow_first): (f32, bool),
    result: &Tensor,
) {
    // SAFETY: weights are frozen, nobody writes to the input of an operator, and nobody else has seen the result.
    let (x, weight, out) = unsafe {
        (
            elements::<T>(x),
            elements::<T>(weight),
            elements_mut::<T>(result),
        )
    };
    let width = weight.len();
    team::run_on(threads(), out, width, &|first, out| {
        let x = &x[first * width..][..out.len()];
        instructions.run(Rms {
            x,
            weight,
            epsilon,
            narrow_first,
            out,
        });
    });
}

fn turn<T: Element>(
    instructions: Instructions,
    x: &Tensor,
    (cos, sin): (&Tensor, &Tensor),
    [width, heads, head_dim, dim]: [usize; 4],
    style: RotaryStyle,
    result: &Tensor,
) {
    // SAFETY: nobody writes to the inputs of an operator, and nobody else has seen the result.
    let (x, cos, sin, out) = unsafe {
        (
            elements::<T>(x),
            elements::<T>(cos),
            elements::<T>(sin),
            elements_mut::<T>(result),
        )
    };
    let rotation = Rotation {
        x,
        cos,
        sin,
        width,
        heads,
        head_dim,
        dim,
        style,
    };
    let of_head = width * head_dim;
    team::run_on(threads(), out, of_head, &|first, out| {
        let range = first..first + out.len() / of_head;
        instructions.run(Heads {
            rotation,
            range,
            out,
        });
    });
}

/// The elements of a tensor.
///
/// # Safety
/// It must be contiguous, on the CPU, of `T`'s kind, and alive and unwritten as long as the slice.
unsafe fn elements<T: Element>(tensor: &Tensor) -> &[T] {
    let (data, count) = (tensor.data_ptr().cast::<T>(), tensor.numel());
    if data.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: see above; a tensor's data is aligned for its elements.
    unsafe { std::slice::from_raw_parts(data, count) }
}

/// The elements of a tensor that nobody else has seen yet. They are not initialised, but every bit pattern is a number, and all are
/// written before one is read.
///
/// # Safety
/// As [`elements`], and nobody else may read or write them as long as the slice lives.
#[allow(
    clippy::mut_from_ref,
    reason = "a tensor is a handle to its numbers, not their owner"
)]
unsafe fn elements_mut<T: Element>(tensor: &Tensor) -> &mut [T] {
    let (data, count) = (tensor.data_ptr().cast::<T>(), tensor.numel());
    if data.is_null() || count == 0 {
        return &mut [];
    }
    // SAFETY: see above.
    unsafe { std::slice::from_raw_parts_mut(data, count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of a normal distribution, some of them large.
    fn random(shape: &[i64], kind: Kind) -> Tensor {
        let x = Tensor::f_randn(shape, (Kind::Float, Device::Cpu)).unwrap();
        let sizes = Tensor::f_rand(shape, (Kind::Float, Device::Cpu)).unwrap();
        let scaled = x.f_mul(&sizes.f_mul_scalar(4.0).unwrap().f_exp().unwrap());
        scaled.unwrap().f_to_kind(kind).unwrap()
    }

    /// Largest difference of two tensors, in units of the larger number and 1.
    fn apart(a: &Tensor, b: &Tensor) -> f64 {
        let wide = |x: &Tensor| x.f_to_kind(Kind::Double).unwrap();
        let (a, b) = (wide(a), wide(b));
        let size = b.f_abs().unwrap().f_clamp_min(1.0).unwrap();
        let apart = a.f_sub(&b).unwrap().f_abs().unwrap().f_div(&size).unwrap();
        apart.f_max().unwrap().f_double_value(&[]).unwrap()
    }

    #[test]
    fn products_are_libtorchs() {
        for (kind, bound) in [
            (Kind::Float, 1e-5),
            (Kind::Half, 1e-3),
            (Kind::BFloat16, 8e-3),
        ] {
            for (shape, out) in [(vec![1, 576], 96), (vec![2, 3, 41], 7), (vec![32, 64], 1)] {
                let width = *shape.last().unwrap();
                let (x, weight) = (random(&shape, kind), random(&[out, width], kind));
                let bias = random(&[out], kind);
                let found = linear(&x, &weight, Some(&bias)).unwrap().unwrap();
                let wide = |x: &Tensor| x.f_to_kind(Kind::Double).unwrap();
                let exact = wide(&x)
                    .f_linear(&wide(&weight), Some(&wide(&bias)))
                    .unwrap();
                assert_eq!((found.size(), found.kind()), (exact.size(), kind));
                let sizes = wide(&x)
                    .f_abs()
                    .unwrap()
                    .f_linear(&wide(&weight).f_abs().unwrap(), None::<&Tensor>);
                let scale = sizes.unwrap().f_max().unwrap().f_double_value(&[]).unwrap();
                let (found, exact) = (wide(&found).f_div_scalar(scale), exact.f_div_scalar(scale));
                assert!(apart(&found.unwrap(), &exact.unwrap()) < bound);
            }
        }
    }

    #[test]
    fn norms_are_those_of_operators() {
        for (kind, bound) in [
            (Kind::Float, 1e-6),
            (Kind::Half, 1e-3),
            (Kind::BFloat16, 8e-3),
        ] {
            for narrow_first in [true, false] {
                for shape in [vec![1, 1, 576], vec![70, 9, 32], vec![2, 3, 4, 21]] {
                    let width = *shape.last().unwrap();
                    let (x, weight) = (random(&shape, kind), random(&[width], kind));
                    let found = rms_norm(&x, &weight, 1e-5, narrow_first).unwrap().unwrap();
                    let wide = x.f_to_kind(Kind::Double).unwrap();
                    let mean = wide.f_square().unwrap().f_mean_dim(-1, true, Kind::Double);
                    let scale = mean.unwrap().f_add_scalar(1e-5).unwrap().f_rsqrt().unwrap();
                    let mut normed = wide.f_mul(&scale).unwrap();
                    if narrow_first {
                        normed = normed.f_to_kind(kind).unwrap();
                    }
                    let expected = normed.f_mul(&weight).unwrap();
                    assert!(apart(&found, &expected) < bound, "{kind:?} {shape:?}");
                }
            }
        }
    }

    #[test]
    fn what_autograd_must_see_is_left_to_libtorch() {
        let x = random(&[2, 32], Kind::Float)
            .f_set_requires_grad(true)
            .unwrap();
        let weight = random(&[32, 32], Kind::Float);
        assert!(linear(&x, &weight, None).unwrap().is_none());
        let gain = weight.f_select(0, 0).unwrap();
        assert!(rms_norm(&x, &gain, 1e-5, true).unwrap().is_none());
        // And another dtype, a transposed matrix, many rows.
        let plain = x.f_detach().unwrap();
        assert!(
            linear(&plain, &weight.f_tr().unwrap(), None)
                .unwrap()
                .is_none()
        );
        let double = |x: &Tensor| x.f_to_kind(Kind::Double).unwrap();
        let product = linear(&double(&plain), &double(&weight), None);
        assert!(product.unwrap().is_none());
        let many = random(&[MOST_ROWS + 1, 32], Kind::Float);
        assert!(linear(&many, &weight, None).unwrap().is_none());
        assert!(linear(&plain, &weight, None).unwrap().is_some());
    }
}
