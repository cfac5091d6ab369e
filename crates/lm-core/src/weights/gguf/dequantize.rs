//! From ggml's blocks to `f32`.
//!
//! Each block type is one function from the bytes of a block to its weights. Blocks are fixed-size arrays, so that
//! bounds are known to the compiler and the inner loops vectorise. The order of the floating-point operations is that
//! of the `gguf` Python package, to which the results are bit-equal; a product is never fused with a sum.

use rayon::prelude::*;

use super::types::GgmlType;

/// The types that can be turned into `f32`.
pub const DEQUANTIZABLE: &[GgmlType] = &[
    GgmlType::F32,
    GgmlType::F16,
    GgmlType::Bf16,
    GgmlType::Q4_0,
    GgmlType::Q4_1,
    GgmlType::Q5_0,
    GgmlType::Q5_1,
    GgmlType::Q8_0,
    GgmlType::Q4K,
    GgmlType::Q5K,
    GgmlType::Q6K,
];

/// Weights in a unit of parallel work: whole blocks of every type, small enough for the second-level cache.
const CHUNK_WEIGHTS: usize = 1 << 15;

/// Why weights could not be turned into `f32`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DequantizeError {
    /// No conversion exists for the type.
    #[error("{ty} cannot be dequantised, supported are {}", supported())]
    Unsupported {
        /// The type of the weights.
        ty: GgmlType,
    },

    /// The bytes are not whole blocks, or not as many as `out` has room for.
    #[error("{bytes} bytes of {ty} do not hold the {weights} weights asked for")]
    Length {
        /// The type of the weights.
        ty: GgmlType,
        /// Number of bytes given.
        bytes: usize,
        /// Number of weights the output has room for.
        weights: usize,
    },
}

fn supported() -> String {
    let names: Vec<_> = DEQUANTIZABLE.iter().map(|ty| ty.name()).collect();
    names.join(", ")
}

/// Writes the weights in `bytes`, which are whole blocks of type `ty`, to `out`.
///
/// # Errors
/// [`DequantizeError::Unsupported`] for a type not in [`DEQUANTIZABLE`]; [`DequantizeError::Length`] if `out` does not
/// have one element for each weight. `out` is then unchanged.
pub fn dequantize(ty: GgmlType, bytes: &[u8], out: &mut [f32]) -> Result<(), DequantizeError> {
    check_length(ty, bytes, out)?;
    match ty {
        GgmlType::F32 => blocks(bytes, out, |block, [weight]| {
            *weight = f32::from_le_bytes(*block);
        }),
        GgmlType::F16 => blocks(bytes, out, |block, [weight]| *weight = f16_to_f32(*block)),
        GgmlType::Bf16 => blocks(bytes, out, |block, [weight]| *weight = bf16_to_f32(*block)),
        GgmlType::Q4_0 => blocks(bytes, out, q4_0),
        GgmlType::Q4_1 => blocks(bytes, out, q4_1),
        GgmlType::Q5_0 => blocks(bytes, out, q5_0),
        GgmlType::Q5_1 => blocks(bytes, out, q5_1),
        GgmlType::Q8_0 => blocks(bytes, out, q8_0),
        GgmlType::Q4K => blocks(bytes, out, q4_k),
        GgmlType::Q5K => blocks(bytes, out, q5_k),
        GgmlType::Q6K => blocks(bytes, out, q6_k),
        _ => return Err(DequantizeError::Unsupported { ty }),
    }
    Ok(())
}

/// [`dequantize`] on all of rayon's threads.
///
/// # Errors
/// Those of [`dequantize`].
pub fn dequantize_parallel(
    ty: GgmlType,
    bytes: &[u8],
    out: &mut [f32],
) -> Result<(), DequantizeError> {
    check_length(ty, bytes, out)?;
    let chunk_bytes = CHUNK_WEIGHTS / ty.block_weights() * ty.block_bytes();
    out.par_chunks_mut(CHUNK_WEIGHTS)
        .zip(bytes.par_chunks(chunk_bytes))
        .try_for_each(|(out, bytes)| dequantize(ty, bytes, out))
}

fn check_length(ty: GgmlType, bytes: &[u8], out: &[f32]) -> Result<(), DequantizeError> {
    let whole = bytes.len().is_multiple_of(ty.block_bytes())
        && out.len().is_multiple_of(ty.block_weights());
    if whole && bytes.len() / ty.block_bytes() == out.len() / ty.block_weights() {
        Ok(())
    } else {
        Err(DequantizeError::Length {
            ty,
            bytes: bytes.len(),
            weights: out.len(),
        })
    }
}

/// Applies `convert` to each block of `BYTES` bytes and `WEIGHTS` weights.
#[inline]
fn blocks<const BYTES: usize, const WEIGHTS: usize>(
    bytes: &[u8],
    out: &mut [f32],
    convert: impl Fn(&[u8; BYTES], &mut [f32; WEIGHTS]),
) {
    let (blocks, _) = bytes.as_chunks();
    let (outs, _) = out.as_chunks_mut();
    for (block, out) in blocks.iter().zip(outs) {
        convert(block, out);
    }
}

/// IEEE half to single precision, exact; the payload of a NaN is kept, as numpy does.
///
/// Without branches or subnormal arithmetic: it vectorises without special instructions, and does not depend on
/// whether the thread flushes subnormal numbers to zero.
#[inline]
fn f16_to_f32(half: [u8; 2]) -> f32 {
    const SMALLEST_SUBNORMAL: f32 = 1.0 / (1 << 24) as f32;
    let half = u32::from(u16::from_le_bytes(half));
    let sign = (half & 0x8000) << 16;
    let magnitude = half & 0x7fff;
    // The exponent's bias goes from 15 to 127; that of infinity and NaN must end up at the top.
    let rebias: u32 = if magnitude >= 0x7c00 { 224 } else { 112 };
    let normal = (magnitude << 13) + (rebias << 23);
    let subnormal = (magnitude as f32 * SMALLEST_SUBNORMAL).to_bits();
    f32::from_bits(
        sign | if magnitude < 0x0400 {
            subnormal
        } else {
            normal
        },
    )
}

#[inline]
fn bf16_to_f32(half: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(half)) << 16)
}

/// Splits bytes into the values of their lower and upper four bits: the first and the second half of the weights.
#[inline]
fn nibbles<const HALF: usize>(
    bytes: &[u8; HALF],
    out: &mut [f32],
    convert: impl Fn(usize, u8) -> f32,
) {
    let (low, high) = out.split_at_mut(HALF);
    for (position, (out, byte)) in low.iter_mut().zip(bytes).enumerate() {
        *out = convert(position, byte & 0x0f);
    }
    for (position, (out, byte)) in high.iter_mut().zip(bytes).enumerate() {
        *out = convert(HALF + position, byte >> 4);
    }
}

/// Scale, 32 × 4 bits: `scale * (q - 8)`.
#[inline]
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let [s0, s1, quants @ ..] = block;
    let scale = f16_to_f32([*s0, *s1]);
    nibbles::<16>(quants, out, |_, quant| {
        scale * (i32::from(quant) - 8) as f32
    });
}

/// Scale, minimum, 32 × 4 bits: `scale * q + minimum`.
#[inline]
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let [s0, s1, m0, m1, quants @ ..] = block;
    let scale = f16_to_f32([*s0, *s1]);
    let minimum = f16_to_f32([*m0, *m1]);
    nibbles::<16>(quants, out, |_, quant| scale * f32::from(quant) + minimum);
}

/// The fifth bit of each of 32 quants, in place.
#[inline]
fn fifth_bits(packed: [u8; 4]) -> [u8; 32] {
    let packed = u32::from_le_bytes(packed);
    std::array::from_fn(|position| ((packed >> position & 1) << 4) as u8)
}

/// Scale, 32 fifth bits, 32 × 4 bits: `scale * (q - 16)`.
#[inline]
fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let [s0, s1, h0, h1, h2, h3, quants @ ..] = block;
    let scale = f16_to_f32([*s0, *s1]);
    let fifth = fifth_bits([*h0, *h1, *h2, *h3]);
    nibbles::<16>(quants, out, |position, quant| {
        scale * (i32::from(quant | fifth[position]) - 16) as f32
    });
}

/// Scale, minimum, 32 fifth bits, 32 × 4 bits: `scale * q + minimum`.
#[inline]
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let [s0, s1, m0, m1, h0, h1, h2, h3, quants @ ..] = block;
    let scale = f16_to_f32([*s0, *s1]);
    let minimum = f16_to_f32([*m0, *m1]);
    let fifth = fifth_bits([*h0, *h1, *h2, *h3]);
    nibbles::<16>(quants, out, |position, quant| {
        scale * f32::from(quant | fifth[position]) + minimum
    });
}

/// Scale, 32 × 8 signed bits: `q * scale`.
#[inline]
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let [s0, s1, quants @ ..] = block;
    let scale = f16_to_f32([*s0, *s1]);
    for (out, quant) in out.iter_mut().zip(quants) {
        *out = f32::from(quant.cast_signed()) * scale;
    }
}

/// Scale and minimum of the eight groups of 32 weights in a block of Q4_K or Q5_K.
///
/// The factors have six bits each. Those of the first four groups are the low bits of bytes 0–3 (scales) and 4–7
/// (minima); those of the last four have their low four bits in bytes 8–11 and their high two on top of the former.
#[inline]
fn k_scales(scale: f32, minimum: f32, packed: &[u8; 12]) -> [(f32, f32); 8] {
    std::array::from_fn(|group| {
        let (scale_bits, minimum_bits) = if group < 4 {
            (packed[group] & 0x3f, packed[group + 4] & 0x3f)
        } else {
            let low = packed[group + 4];
            (
                low & 0x0f | packed[group - 4] >> 2 & 0x30,
                low >> 4 | packed[group] >> 2 & 0x30,
            )
        };
        (
            scale * f32::from(scale_bits),
            minimum * f32::from(minimum_bits),
        )
    })
}

/// Scale, minimum, 8 × 2 factors, 256 × 4 bits: `scale * q - minimum` by groups of 32.
#[inline]
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let [s0, s1, m0, m1, rest @ ..] = block;
    let (factors, quants) = split::<12, 128, 140>(rest);
    let scales = k_scales(f16_to_f32([*s0, *s1]), f16_to_f32([*m0, *m1]), factors);
    let (quants, _) = quants.as_chunks::<32>();
    let (outs, _) = out.as_chunks_mut::<64>();
    for ((quants, out), pair) in quants.iter().zip(outs).zip(scales.as_chunks::<2>().0) {
        nibbles(quants, out, |position, quant| {
            let (scale, minimum) = pair[position / 32];
            scale * f32::from(quant) - minimum
        });
    }
}

/// Scale, minimum, 8 × 2 factors, 256 fifth bits, 256 × 4 bits: `scale * q - minimum` by groups of 32.
#[inline]
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let [s0, s1, m0, m1, rest @ ..] = block;
    let (factors, rest) = split::<12, 160, 172>(rest);
    let (fifth, quants) = split::<32, 128, 160>(rest);
    let scales = k_scales(f16_to_f32([*s0, *s1]), f16_to_f32([*m0, *m1]), factors);
    let (quants, _) = quants.as_chunks::<32>();
    let (outs, _) = out.as_chunks_mut::<64>();
    for (pair, (quants, out)) in quants.iter().zip(outs).enumerate() {
        nibbles(quants, out, |position, quant| {
            let group = 2 * pair + position / 32;
            let (scale, minimum) = scales[group];
            // Bit `group` of byte `l` belongs to weight `l` of that group.
            let fifth = (fifth[position % 32] >> group & 1) << 4;
            scale * f32::from(quant | fifth) - minimum
        });
    }
}

/// 256 × 4 bits, 256 × 2 upper bits, 16 signed factors, scale: `scale * factor * (q - 32)` by groups of 16.
#[inline]
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (low, rest) = split::<128, 82, 210>(block);
    let (high, rest) = split::<64, 18, 82>(rest);
    let (factors, scale) = split::<16, 2, 18>(rest);
    let scale = f16_to_f32(*scale);
    let scales = factors.map(|factor| scale * f32::from(factor.cast_signed()));

    let (low, _) = low.as_chunks::<64>();
    let (high, _) = high.as_chunks::<32>();
    let (scales, _) = scales.as_chunks::<8>();
    let (outs, _) = out.as_chunks_mut::<128>();
    for (((low, high), scales), out) in low.iter().zip(high).zip(scales).zip(outs) {
        nibbles(low, out, |position, quant| {
            // The four quarters of 32 weights share their bytes of upper bits, two bits each.
            let upper = (high[position % 32] >> (2 * (position / 32)) & 3) << 4;
            scales[position / 16] * (i32::from(quant | upper) - 32) as f32
        });
    }
}

/// An array's first `HEAD` and last `TAIL` elements, which are `LENGTH` together.
#[inline]
fn split<const HEAD: usize, const TAIL: usize, const LENGTH: usize>(
    array: &[u8; LENGTH],
) -> (&[u8; HEAD], &[u8; TAIL]) {
    const { assert!(HEAD + TAIL == LENGTH) };
    match (array.first_chunk(), array.last_chunk()) {
        (Some(head), Some(tail)) => (head, tail),
        _ => unreachable!("checked at compile time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_equals_the_half_crate() {
        for bits in 0..=u16::MAX {
            let expected = half::f16::from_bits(bits);
            let found = f16_to_f32(bits.to_le_bytes());
            if expected.is_nan() {
                // That crate sets the quiet bit, numpy and we keep the payload as it is.
                assert!(found.is_nan(), "{bits:#06x}");
            } else {
                assert_eq!(found.to_bits(), expected.to_f32().to_bits(), "{bits:#06x}");
            }
        }
    }

    #[test]
    fn chunks_are_whole_blocks_of_every_type() {
        for ty in DEQUANTIZABLE {
            assert!(CHUNK_WEIGHTS.is_multiple_of(ty.block_weights()), "{ty}");
        }
    }
}
