//! Exponentials of a row of logits, written so that the compiler turns them into vector instructions of any processor.
//!
//! Additions and products of `f32` in a fixed order, nothing else: the same bits on every machine.

use std::f64::consts::LN_2;

/// Entries that are worked on together, in buffers that stay in the fastest cache.
pub(crate) const RUN: usize = 256;

/// Numbers that are kept apart in a sum or a maximum, so that it runs in vector registers.
const LANES: usize = 16;

/// Below this the exponential counts as that of this: 1.6e-38, the last whole power that is a normal `f32`.
const LOWEST: f32 = -87.0;

/// Adding and subtracting it rounds a small `f32` to a whole number, which the sum also holds in its lowest bits.
const ROUNDER: f32 = 12_582_912.0; // 1.5 · 2^23

/// ln 2 in two parts. The first has nine bits, so that its product with a whole number up to 126 is exact.
const LN_2_HIGH: f32 = 355.0 / 512.0;
const LN_2_LOW: f32 = (LN_2 - 355.0 / 512.0) as f32;

/// What a row is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bounds {
    /// The largest number, −∞ if there is none.
    pub(crate) top: f32,
    /// The smallest number above −∞; +∞ if there is none.
    pub(crate) bottom: f32,
    /// Whether an entry is not a number.
    pub(crate) nan: bool,
}

/// The ends of a row.
pub(crate) fn bounds(row: &[f32]) -> Bounds {
    let mut top = [f32::NEG_INFINITY; LANES];
    let mut bottom = [f32::INFINITY; LANES];
    let mut nan = [0_u32; LANES];
    let mut take = |lane: usize, value: f32| {
        // Comparisons with NaN are false.
        top[lane] = if value > top[lane] { value } else { top[lane] };
        let low = if value > f32::NEG_INFINITY {
            value
        } else {
            f32::INFINITY
        };
        bottom[lane] = if low < bottom[lane] {
            low
        } else {
            bottom[lane]
        };
        nan[lane] |= u32::from(value.is_nan());
    };
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in chunk.iter().enumerate() {
            take(lane, value);
        }
    }
    for (lane, &value) in rest.iter().enumerate() {
        take(lane, value);
    }
    Bounds {
        top: top.into_iter().fold(f32::NEG_INFINITY, f32::max),
        bottom: bottom.into_iter().fold(f32::INFINITY, f32::min),
        nan: nan.into_iter().any(|nan| nan != 0),
    }
}

/// The first entry equal to `value`.
pub(crate) fn position(row: &[f32], value: f32) -> Option<usize> {
    let (chunks, rest) = row.as_chunks::<LANES>();
    for (index, chunk) in chunks.iter().enumerate() {
        if chunk
            .iter()
            .fold(false, |found, &entry| found | (entry == value))
        {
            let within = chunk.iter().position(|&entry| entry == value)?;
            return Some(index * LANES + within);
        }
    }
    let within = rest.iter().position(|&entry| entry == value)?;
    Some(chunks.len() * LANES + within)
}

/// `exp(y)` for `y ≤ 0`, within 2.5e-7 of it relatively; at most 1.7e-38 for `y` below −87 and for NaN. 1 for 0.
///
/// `y = n ln 2 + r` with `|r| ≤ ½ ln 2`, where the Taylor polynomial of degree 7 leaves out less than `|r|⁸/8! · 1.05`, 5.5e-9;
/// the rest of the bound is the rounding of `r` and of the last two steps.
#[inline(always)]
pub(crate) fn exp(y: f32) -> f32 {
    let y = if y > LOWEST { y } else { LOWEST };
    let shifted = y * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let r = (y - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut series = 1.0 / 5040.0;
    series = series * r + 1.0 / 720.0;
    series = series * r + 1.0 / 120.0;
    series = series * r + 1.0 / 24.0;
    series = series * r + 1.0 / 6.0;
    series = series * r + 0.5;
    series = series * r + 1.0;
    series = series * r + 1.0;
    // Times 2^n: n sits in the lowest bits of `shifted`, and the exponent begins at bit 23.
    f32::from_bits(series.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// `Σ exp(entry − top)`; the terms in `f32`, their sum in `f64`. `top` is the largest entry and finite.
pub(crate) fn sum_exp(row: &[f32], top: f32) -> f64 {
    let mut terms = [0.0; RUN];
    let mut sums = [0.0_f64; 4];
    for run in row.chunks(RUN) {
        for (term, &logit) in terms.iter_mut().zip(run) {
            *term = exp(logit - top);
        }
        let (chunks, rest) = terms[..run.len()].as_chunks::<4>();
        for chunk in chunks {
            for (sum, &term) in sums.iter_mut().zip(chunk) {
                *sum += f64::from(term);
            }
        }
        for (sum, &term) in sums.iter_mut().zip(rest) {
            *sum += f64::from(term);
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_stays_within_its_bound() {
        assert_eq!(exp(0.0).to_bits(), 1.0_f32.to_bits());
        assert_eq!(exp(-0.0).to_bits(), 1.0_f32.to_bits());
        let mut worst = 0.0_f64;
        // Every 61st float of (-87, -1e-9), and so all remainders and powers.
        let mut bits = (-1e-9_f32).to_bits();
        while bits < (-87.0_f32).to_bits() {
            let y = f32::from_bits(bits);
            let exact = f64::from(y).exp();
            worst = worst.max((f64::from(exp(y)) - exact).abs() / exact);
            bits += 61;
        }
        assert!(worst < 2.5e-7, "{worst}");
        for y in [-87.0, -88.0, -1e30, f32::NEG_INFINITY, f32::NAN] {
            assert!((0.0..1.7e-38).contains(&exp(y)), "{y}");
        }
    }

    #[test]
    fn bounds_see_every_entry_and_no_nan() {
        for length in [1, 15, 16, 17, 40] {
            for place in 0..length {
                let mut row = vec![0.5; length];
                row[place] = 2.0;
                assert_eq!(bounds(&row).top.to_bits(), 2.0_f32.to_bits());
                assert_eq!(position(&row, 2.0), Some(place));
                row[place] = -2.0;
                assert_eq!(bounds(&row).bottom.to_bits(), (-2.0_f32).to_bits());
                row[place] = f32::NEG_INFINITY;
                assert!(length == 1 || bounds(&row).bottom.to_bits() == 0.5_f32.to_bits());
                assert!(!bounds(&row).nan);
                row[place] = f32::NAN;
                assert!(bounds(&row).nan);
                assert_eq!(bounds(&row).top > 0.0, length > 1);
            }
        }
        assert_eq!(position(&[f32::NAN, 1.0], f32::NEG_INFINITY), None);
    }
}
