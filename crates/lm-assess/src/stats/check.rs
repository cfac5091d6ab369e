//! What every function asks of its arguments.

use super::error::{Result, StatsError};
use super::special::normal_quantile;

/// A confidence level.
pub(super) fn level(level: f64) -> Result<()> {
    if level > 0.0 && level < 1.0 {
        Ok(())
    } else {
        Err(StatsError::argument("level", "between 0 and 1", level))
    }
}

/// The normal deviate of a two-sided confidence level: 1.96 for 0.95.
pub(super) fn deviate(level: f64) -> Result<f64> {
    self::level(level)?;
    Ok(-normal_quantile((1.0 - level) / 2.0))
}

/// A count of successes among trials.
pub(super) fn count(name: &str, successes: u64, trials: u64) -> Result<()> {
    if successes <= trials {
        Ok(())
    } else {
        let expected = format!("at most the {trials} trials");
        Err(StatsError::argument(name, expected, successes))
    }
}

/// Numbers, neither NaN nor infinite.
pub(super) fn finite(name: &str, values: &[f64]) -> Result<()> {
    each(name, values, "a finite number", f64::is_finite)
}

/// A number, neither NaN nor infinite.
pub(super) fn number(name: &str, value: f64) -> Result<()> {
    if value.is_finite() {
        Ok(())
    } else {
        Err(StatsError::argument(name, "a finite number", value))
    }
}

/// Every value passes `fits`.
pub(super) fn each(
    name: &str,
    values: &[f64],
    expected: &str,
    fits: impl Fn(f64) -> bool,
) -> Result<()> {
    match values.iter().position(|&value| !fits(value)) {
        None => Ok(()),
        Some(index) => Err(StatsError::argument(
            format!("{name}[{index}]"),
            expected,
            values.get(index).copied().unwrap_or(f64::NAN),
        )),
    }
}

/// Two slices of one length.
pub(super) fn lengths<A, B>(
    (first, a): (&'static str, &[A]),
    (second, b): (&'static str, &[B]),
) -> Result<()> {
    if a.len() == b.len() {
        Ok(())
    } else {
        Err(StatsError::Lengths {
            first,
            second,
            expected: a.len(),
            found: b.len(),
        })
    }
}
