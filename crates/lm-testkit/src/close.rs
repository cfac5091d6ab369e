use std::fmt;

/// How far a number may be from the expected one: `|found - expected| <= absolute + relative * |expected|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Allowed at zero, in the unit of the numbers.
    pub absolute: f32,
    /// Allowed for each unit of the expected magnitude.
    pub relative: f32,
}

impl Tolerance {
    /// Tiny models in f32: another order of summation, nothing else. transformers' own f32 run uses at most half of it
    /// against its f64 run (`golden/common.py` refuses a case that doesn't hold this), so an engine has the other half.
    pub const F32: Self = Self {
        absolute: 1e-5,
        relative: 1e-4,
    };

    /// Two of our own ways to one result, on tiny models in f32 and whatever inputs: each has the rounding that [`Self::F32`]
    /// allows for one, and some of thousands of logits lie near 0. A mistake is larger by orders.
    pub const TWO_WAYS: Self = Self {
        absolute: 5e-5,
        relative: 2e-4,
    };

    /// Tiny models in bf16, three blocks. bf16 keeps 8 bits: transformers' own two attention kernels are up to 0.19 apart
    /// in the hidden states and 0.09 in the logits of `golden/llama-bf16`. Errors of that size hide in it, so hold
    /// [`root_mean_square`] of the difference from the f32 run against transformers' as well.
    pub const BF16: Self = Self {
        absolute: 0.2,
        relative: 0.05,
    };

    /// Logits of SmolLM2-135M-Instruct in f32, 30 blocks, prompts of up to 1,700 tokens. The logits of a position span
    /// 30 to 43; 2e-3 is less than 1e-4 of that.
    pub const SMOLLM2_LOGITS: Self = Self {
        absolute: 2e-3,
        relative: 0.0,
    };

    /// Not one bit of difference, except that the two zeros are equal.
    pub const EXACT: Self = Self {
        absolute: 0.0,
        relative: 0.0,
    };

    /// Whether `found` is near enough; never for a NaN, and an infinity only to itself.
    pub fn allows(self, found: f32, expected: f32) -> bool {
        // In f64, so that the bound itself does not round. Equality first: the difference of two infinities is a NaN.
        found == expected
            || (f64::from(found) - f64::from(expected)).abs()
                <= f64::from(self.absolute) + f64::from(self.relative) * f64::from(expected).abs()
                && expected.is_finite()
    }
}

/// Why two lists of numbers are not close.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Mismatch {
    /// They are not equally long.
    Length {
        /// How many numbers were found.
        found: usize,
        /// How many were expected.
        expected: usize,
    },
    /// Some numbers are out of tolerance.
    Values {
        /// Index of the number furthest beyond its bound; a NaN is further than anything.
        worst: usize,
        /// The number found there.
        found: f32,
        /// The number expected there.
        expected: f32,
        /// How many numbers are out of tolerance.
        violations: usize,
        /// How many numbers were compared.
        compared: usize,
        /// What was allowed.
        tolerance: Tolerance,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { found, expected } => {
                write!(f, "expected {expected} numbers, found {found}")
            }
            Self::Values {
                worst,
                found,
                expected,
                violations,
                compared,
                tolerance,
            } => write!(
                f,
                "{violations} of {compared} out of tolerance ({:e} + {:e} × |expected|); the worst at {worst}: \
                 expected {expected:e}, found {found:e}, difference {:.3e}",
                tolerance.absolute,
                tolerance.relative,
                (f64::from(*found) - f64::from(*expected)).abs()
            ),
        }
    }
}

impl std::error::Error for Mismatch {}

/// Compares two lists number by number.
///
/// # Errors
/// [`Mismatch`] when the lengths differ or a number is out of tolerance.
pub fn compare(found: &[f32], expected: &[f32], tolerance: Tolerance) -> Result<(), Mismatch> {
    if found.len() != expected.len() {
        return Err(Mismatch::Length {
            found: found.len(),
            expected: expected.len(),
        });
    }
    let excess = |i: usize| {
        let difference = (f64::from(found[i]) - f64::from(expected[i])).abs();
        let beyond = difference - f64::from(tolerance.relative) * f64::from(expected[i]).abs();
        if beyond.is_nan() {
            f64::INFINITY
        } else {
            beyond
        }
    };
    let outside: Vec<usize> = (0..found.len())
        .filter(|&i| !tolerance.allows(found[i], expected[i]))
        .collect();
    match outside
        .iter()
        .copied()
        .max_by(|&a, &b| excess(a).total_cmp(&excess(b)))
    {
        None => Ok(()),
        Some(worst) => Err(Mismatch::Values {
            worst,
            found: found[worst],
            expected: expected[worst],
            violations: outside.len(),
            compared: found.len(),
            tolerance,
        }),
    }
}

/// Fails the test unless `found` is close to `expected`; the message names `name`, the worst index with both numbers, and
/// how many are out of tolerance.
///
/// # Panics
/// When they are not close.
#[track_caller]
pub fn assert_close(name: &str, found: &[f32], expected: &[f32], tolerance: Tolerance) {
    if let Err(mismatch) = compare(found, expected, tolerance) {
        panic!("{name}: {mismatch}");
    }
}

/// Root of the mean squared difference; `None` for lists that are empty or not equally long.
pub fn root_mean_square(a: &[f32], b: &[f32]) -> Option<f64> {
    if a.is_empty() || a.len() != b.len() {
        return None;
    }
    let sum: f64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
        .sum();
    Some((sum / a.len() as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: Tolerance = Tolerance {
        absolute: 0.1,
        relative: 0.0,
    };

    #[test]
    fn the_worst_number_is_named_and_the_violations_are_counted() {
        let found = [1.0, 2.5, 3.0, 4.25, 5.0];
        let expected = [1.0, 2.0, 3.0625, 3.0, 5.0];
        let Err(Mismatch::Values {
            worst,
            violations,
            compared,
            ..
        }) = compare(&found, &expected, TENTH)
        else {
            panic!("three numbers are off");
        };
        assert_eq!((worst, violations, compared), (3, 2, 5));
    }

    #[test]
    #[should_panic(
        expected = "row 3: 1 of 2 out of tolerance (1e-1 + 0e0 × |expected|); the worst at 1: expected 2e0, found 3e0, difference 1.000e0"
    )]
    fn the_message_says_what_and_where() {
        assert_close("row 3", &[1.0, 3.0], &[1.0, 2.0], TENTH);
    }

    #[test]
    fn the_relative_part_grows_with_the_expected_magnitude() {
        let tolerance = Tolerance {
            absolute: 0.0,
            relative: 0.125,
        };
        assert!(tolerance.allows(-9.0, -8.0));
        assert!(!tolerance.allows(-9.125, -8.0));
        assert!(!tolerance.allows(0.001, 0.0));
    }

    #[test]
    fn a_nan_is_never_close_and_an_infinity_only_to_itself() {
        let loose = Tolerance {
            absolute: f32::MAX,
            relative: 1.0,
        };
        for (found, expected) in [
            (f32::NAN, 0.0),
            (0.0, f32::NAN),
            (f32::NAN, f32::NAN),
            (f32::INFINITY, 0.0),
            (0.0, f32::INFINITY),
        ] {
            assert!(!loose.allows(found, expected), "{found} against {expected}");
        }
        assert!(Tolerance::EXACT.allows(f32::NEG_INFINITY, f32::NEG_INFINITY));
        let Err(Mismatch::Values {
            worst, violations, ..
        }) = compare(&[9.0, f32::NAN], &[0.0, 0.0], TENTH)
        else {
            panic!("both are off");
        };
        assert_eq!(
            (worst, violations),
            (1, 2),
            "the NaN is worse than any number"
        );
    }

    #[test]
    fn lengths_must_agree() {
        assert_eq!(
            compare(&[1.0], &[1.0, 1.0], TENTH),
            Err(Mismatch::Length {
                found: 1,
                expected: 2
            })
        );
        let longer = Mismatch::Length {
            found: 2,
            expected: 1,
        };
        assert_eq!(compare(&[1.0, 1.0], &[1.0], TENTH), Err(longer));
        assert_eq!(root_mean_square(&[1.0], &[]), None);
        assert_eq!(root_mean_square(&[], &[]), None);
    }

    #[test]
    fn the_root_mean_square_is_that_of_the_difference() {
        assert_eq!(root_mean_square(&[3.0, 0.0], &[0.0, 3.0]), Some(3.0));
    }
}
