//! `x · Wᵀ + b` for a few rows of `x`, at the speed at which the matrix can be read.
//!
//! One step of decoding reads every weight for one row or a few. libtorch's products were made for many: on two cores they read
//! a third to a half of what the memory gives for one row, and two rows cost more than twice one ([`docs/speed.md`]). Here the
//! matrix is read once, as it is stored, by all rows together; nothing is packed, so no memory is added.
//!
//! The sums do not depend on how many rows, threads or instructions there are: see [`kernel`].
//!
//! [`docs/speed.md`]: https://github.com/lm-safety/lm-safety/blob/main/docs/speed.md

mod kernel;
mod lanes;
mod team;

use tch::{Device, Kind, Tensor};

use self::kernel::{Bf16, Element, Product};
use self::lanes::Instructions;
use crate::Result;

/// Up to so many rows this module is the faster one (`cargo xtask bench -- linear`).
const MOST_ROWS: usize = 32;

/// `x` `[…, in]` times the transpose of `weight` `[out, in]`, plus `bias` `[out]`; `None` where libtorch must do it: many rows,
/// another device, dtype or layout, gradients, a processor without AVX2.
pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
    let Some(instructions) = Instructions::of_this_processor() else {
        return Ok(None);
    };
    let (shape, size) = (x.size(), weight.size());
    let (&[out, width], Some((&last, outer))) = (size.as_slice(), shape.split_last()) else {
        return Ok(None);
    };
    let rows = outer.iter().product::<i64>();
    let fits = width > 0 && last == width && (1..=MOST_ROWS as i64).contains(&rows);
    let kind = weight.f_kind()?;
    let alike = |tensor: &Tensor| -> Result<bool> {
        Ok(tensor.device() == Device::Cpu && tensor.f_kind()? == kind)
    };
    let usable = fits
        && alike(x)?
        && alike(weight)?
        && bias.map_or(Ok(true), alike)?
        && bias.is_none_or(|bias| bias.size() == [out] && bias.is_contiguous())
        && weight.is_contiguous()
        && !x.requires_grad()
        && !weight.requires_grad();
    if !usable {
        return Ok(None);
    }
    let shape: Vec<i64> = outer.iter().copied().chain([out]).collect();
    let (x, result) = (
        x.f_contiguous()?,
        Tensor::f_empty(shape, (kind, Device::Cpu))?,
    );
    match kind {
        Kind::Float => multiply::<f32>(instructions, &x, weight, bias, &result),
        Kind::BFloat16 => multiply::<Bf16>(instructions, &x, weight, bias, &result),
        _ => return Ok(None),
    }
    Ok(Some(result))
}

/// [`linear`] into `result`; all tensors are contiguous, on the CPU, of `T` and of fitting shapes.
fn multiply<T: Element>(
    instructions: Instructions,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    result: &Tensor,
) {
    let width = weight.size().last().map_or(0, |&width| width as usize);
    // SAFETY: contiguous tensors on the CPU whose kind is `T`'s, which outlive the slices; nobody writes to inputs, as weights are
    // frozen and operators only read, and nobody else has seen the result.
    let (x, matrix, bias) = unsafe {
        (
            elements::<T>(x),
            elements::<T>(weight),
            bias.map(|bias| elements::<T>(bias)),
        )
    };
    let vectors = T::vectors(x, width);
    let out = result.data_ptr().cast::<T>();
    let product = Product {
        matrix,
        width,
        vectors: &vectors,
        bias,
    };
    // SAFETY: as above; the result has a number for each vector and row.
    unsafe { product.run(instructions, out, tch::get_num_threads().max(1) as usize) };
}

/// The elements of a tensor.
///
/// # Safety
/// It must be contiguous, on the CPU, of `T`'s kind, alive and unwritten as long as the slice.
unsafe fn elements<T: Element>(tensor: &Tensor) -> &[T] {
    let (data, count) = (tensor.data_ptr().cast::<T>(), tensor.numel());
    if data.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: see above; a tensor's data is aligned for its elements.
    unsafe { std::slice::from_raw_parts(data, count) }
}
