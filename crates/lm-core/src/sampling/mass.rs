//! Probabilities as whole numbers, whose sums do not depend on their order.

use crate::exp::{RUN, exp};

/// How the logits of one row become masses.
///
/// The mass of a logit is `exp((logit − top) / temperature)` in units of `2⁻⁴⁴` (`2⁻³¹` in rows longer than `2¹⁹`), rounded to
/// a whole number: so a whole row sums to at most `2⁶³`. A mass of 0 (`logit` below `top` by more than 31.2 · `temperature`, or
/// not a number) is never drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Masses {
    top: f32,
    /// One over the temperature.
    rate: f32,
    /// Adding it to a number from 0 to 1 leaves the wanted bits of that number.
    unit: f64,
}

impl Masses {
    /// For a row of `length` entries, the largest of which is `top`, a finite number.
    pub(super) fn new(top: f32, temperature: f32, length: usize) -> Self {
        // An f64 from 2^m has 52 − m bits after the point.
        let unit = if length <= 1 << 19 {
            (1_u64 << 8) as f64
        } else {
            (1_u64 << 21) as f64
        };
        Self {
            top,
            // A rate of infinity would make 0 · ∞ of the top itself.
            rate: temperature.recip().min(f32::MAX),
            unit,
        }
    }

    /// The distance below the top at which masses have become 0.
    pub(super) fn reach(&self) -> f32 {
        31.2 / self.rate
    }

    pub(super) fn top(&self) -> f32 {
        self.top
    }

    /// The mass of one logit.
    pub(super) fn of(&self, logit: f32) -> u64 {
        self.count(exp((logit - self.top) * self.rate))
    }

    fn count(&self, weight: f32) -> u64 {
        (f64::from(weight) + self.unit).to_bits() - self.unit.to_bits()
    }

    /// The masses of a run of at most [`RUN`] logits.
    #[inline]
    pub(super) fn fill<'m>(&self, run: &[f32], masses: &'m mut [u64; RUN]) -> &'m [u64] {
        let mut weights = [0.0; RUN];
        for (weight, &logit) in weights.iter_mut().zip(run) {
            *weight = exp((logit - self.top) * self.rate);
        }
        for (mass, &weight) in masses.iter_mut().zip(&weights) {
            *mass = self.count(weight);
        }
        &masses[..run.len().min(RUN)]
    }

    /// The mass of the logits of a run of at most [`RUN`] that are at least `least`.
    #[inline]
    pub(super) fn sum(&self, run: &[f32], least: f32) -> u64 {
        let mut weights = [0.0; RUN];
        for (weight, &logit) in weights.iter_mut().zip(run) {
            let kept = exp((logit - self.top) * self.rate);
            *weight = if logit >= least { kept } else { 0.0 };
        }
        let mut sums = [0_u64; 4];
        for chunk in weights.as_chunks::<4>().0 {
            for (sum, &weight) in sums.iter_mut().zip(chunk) {
                // The unit's own bits are taken off in one go; what wraps around comes back.
                *sum = sum.wrapping_add((f64::from(weight) + self.unit).to_bits());
            }
        }
        let all = sums.into_iter().fold(0_u64, u64::wrapping_add);
        all.wrapping_sub(self.unit.to_bits().wrapping_mul(RUN as u64))
    }
}

/// The smallest whole number that is at least `share · total`, and at least 1; of a share above 1 the total.
pub(super) fn share_of(share: f32, total: u64) -> u64 {
    let bits = share.clamp(0.0, 1.0).to_bits();
    let (exponent, fraction) = (bits >> 23, bits & 0x7f_ffff);
    let (mantissa, shift) = match exponent {
        0 => (fraction, 149),
        exponent => (fraction | 0x80_0000, 150_u32.saturating_sub(exponent)),
    };
    let product = u128::from(mantissa) * u128::from(total);
    // 24 and 63 bits: below 2^87.
    let whole = product.checked_shr(shift).unwrap_or(0);
    let exact = whole.checked_shl(shift) == Some(product);
    u64::try_from(whole)
        .unwrap_or(u64::MAX)
        .saturating_add(u64::from(!exact))
        .max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_are_exact() {
        assert_eq!(share_of(1.0, u64::MAX >> 1), u64::MAX >> 1);
        assert_eq!(share_of(0.5, 7), 4);
        assert_eq!(share_of(0.5, 8), 4);
        assert_eq!(share_of(0.25, 1), 1);
        // The f32 nearest to 0.1 is 13421773 · 2^-27, a little more than a tenth.
        assert_eq!(share_of(0.1, 1 << 27), 13_421_773);
        assert_eq!(share_of(0.1, 10), 2);
        assert_eq!(share_of(f32::MIN_POSITIVE, u64::MAX >> 1), 1);
        assert_eq!(share_of(f32::from_bits(1), u64::MAX >> 1), 1);
    }

    #[test]
    fn the_top_has_the_whole_mass_and_the_rest_is_in_proportion() {
        for (length, whole) in [(3, 1_u64 << 44), ((1 << 19) + 1, 1 << 31)] {
            for temperature in [1e-30, 0.1, 1.0, 7.0, 1e30] {
                let masses = Masses::new(2.5, temperature, length);
                assert_eq!(masses.of(2.5), whole);
                assert_eq!(masses.of(f32::NAN), 0);
                assert_eq!(masses.of(f32::NEG_INFINITY), 0);
                for distance in [0.01_f32, 0.7, 3.0, 11.0, 29.0] {
                    let y = -f64::from(distance * temperature) / f64::from(temperature);
                    let logit = 2.5 - distance * temperature;
                    // What the logit really is, after rounding.
                    let exact = ((f64::from(logit) - 2.5) / f64::from(temperature)).exp();
                    let found = masses.of(logit) as f64 / whole as f64;
                    let bound = exact * (3e-7 + 2e-7 * y.abs()) + 1.0 / whole as f64;
                    assert!((found - exact).abs() <= bound, "{temperature} {distance}");
                }
            }
            let masses = Masses::new(0.0, 2.0, length);
            assert_eq!(masses.of(-masses.reach()), 0);
        }
    }

    proptest! {
        #[test]
        fn runs_agree_with_single_entries(
            run in prop::collection::vec(prop_oneof![-40.0_f32..0.0, Just(f32::NAN), Just(f32::NEG_INFINITY)], 0..RUN),
            least in -30.0_f32..0.0,
        ) {
            let masses = Masses::new(0.0, 1.0, run.len());
            let single: Vec<u64> = run.iter().map(|&logit| masses.of(logit)).collect();
            let mut filled = [0; RUN];
            prop_assert_eq!(masses.fill(&run, &mut filled), &single);
            prop_assert_eq!(masses.sum(&run, f32::NEG_INFINITY), single.iter().sum::<u64>());
            let kept = run.iter().zip(&single).filter(|(logit, _)| **logit >= least);
            prop_assert_eq!(masses.sum(&run, least), kept.map(|(_, mass)| mass).sum::<u64>());
        }
    }
}
