//! Time until something happens, of items some of which were not watched long enough.

use serde::Serialize;

use super::check;
use super::error::{Result, StatsError};
use super::special::chi_squared_sf;

/// A step of a survival curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SurvivalStep {
    /// The time, in the unit of the data.
    pub time: f64,
    /// Items still watched just before it.
    pub at_risk: u64,
    /// Events at it.
    pub events: u64,
    /// Items last seen at it without an event; they count as at risk there.
    pub censored: u64,
    /// Probability that the event comes later than this time.
    pub survival: f64,
    /// Greenwood's standard error; `None` where the curve is 0.
    pub standard_error: Option<f64>,
    /// The interval's lower end; `None` where the curve is 0 or 1.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
}

/// A survival curve.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Survival {
    /// A step for each distinct time, in order; the curve is 1 before the first and constant between two.
    pub steps: Vec<SurvivalStep>,
    /// First time at which the curve is at most ½; `None` if it never is.
    pub median: Option<f64>,
    /// Confidence level of the steps' intervals.
    pub level: f64,
    /// Items.
    pub n: u64,
}

/// The curve of Kaplan and Meier; `None` for no items. `event[i]` tells whether the event came at `times[i]`, or the item was
/// last seen then.
///
/// ```text
/// S(t) = Π (1 - dᵢ/nᵢ),   s² = S² Σ dᵢ/(nᵢ (nᵢ - dᵢ)),   ends: S^exp(± z s / (S ln S))
/// ```
///
/// Kaplan and Meier, 1958; Greenwood, 1926; the interval on the scale log(-log S) as in Kalbfleisch and Prentice, "The
/// statistical analysis of failure time data", 1980, which stays in [0, 1].
///
/// # Errors
/// Unequal lengths; a time that is infinite, NaN or negative; a level outside (0, 1).
pub fn kaplan_meier(times: &[f64], event: &[bool], level: f64) -> Result<Option<Survival>> {
    let z = check::deviate(level)?;
    let observed = observations(times, event)?;
    if observed.is_empty() {
        return Ok(None);
    }
    let mut at_risk = observed.len() as u64;
    let (mut survival, mut greenwood) = (1.0, 0.0);
    let mut steps = Vec::new();
    #[allow(clippy::float_cmp, reason = "ties are equal times")]
    for group in observed.chunk_by(|a, b| a.0 == b.0) {
        let events = group.iter().filter(|(_, event)| *event).count() as u64;
        let left = (at_risk - events) as f64;
        survival *= left / at_risk as f64;
        greenwood += events as f64 / (at_risk as f64 * left);
        let standard_error = (survival > 0.0).then(|| survival * greenwood.sqrt());
        let interval = (survival > 0.0 && survival < 1.0).then(|| {
            let spread = (z * greenwood.sqrt() / survival.ln()).abs().exp();
            (survival.powf(spread), survival.powf(1.0 / spread))
        });
        steps.push(SurvivalStep {
            time: group.first().map_or(f64::NAN, |(time, _)| *time),
            at_risk,
            events,
            censored: group.len() as u64 - events,
            survival,
            standard_error,
            low: interval.map(|(low, _)| low),
            high: interval.map(|(_, high)| high),
        });
        at_risk -= group.len() as u64;
    }
    // ½ may be reached as a product that rounds to a little more.
    let median = steps
        .iter()
        .find(|step| step.survival <= 0.5 + 1e-12)
        .map(|step| step.time);
    Ok(Some(Survival {
        steps,
        median,
        level,
        n: observed.len() as u64,
    }))
}

/// A log-rank test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LogRank {
    /// The statistic, chi-squared under equal curves.
    pub statistic: f64,
    /// Its degrees of freedom, groups - 1.
    pub degrees: usize,
    /// P-value of equal curves.
    pub p_value: f64,
}

/// Whether groups, each with its times and events as in [`kaplan_meier`], have the same survival curve; `None` where nothing
/// can be compared: no event while items of at least two groups are at risk, or a group that is at risk at none.
///
/// Events less expected ones, in the metric of their hypergeometric covariance, over groups but the last. Mantel, 1966; Peto
/// and Peto, 1972.
///
/// # Errors
/// Fewer than two groups; unequal lengths; a time that is infinite, NaN or negative.
pub fn log_rank(groups: &[(&[f64], &[bool])]) -> Result<Option<LogRank>> {
    if groups.len() < 2 {
        return Err(StatsError::argument(
            "groups",
            "at least 2 groups",
            groups.len(),
        ));
    }
    let degrees = groups.len() - 1;
    let mut pooled = Vec::new();
    for (group, (times, event)) in groups.iter().enumerate() {
        let observed = observations(times, event)?;
        pooled.extend(
            observed
                .into_iter()
                .map(|(time, event)| (time, event, group)),
        );
    }
    pooled.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut at_risk: Vec<f64> = groups.iter().map(|(times, _)| times.len() as f64).collect();
    let mut excess = vec![0.0; degrees];
    let mut covariance = vec![vec![0.0; degrees]; degrees];
    #[allow(clippy::float_cmp, reason = "ties are equal times")]
    for tied in pooled.chunk_by(|a, b| a.0 == b.0) {
        let all: f64 = at_risk.iter().sum();
        let events = tied.iter().filter(|(_, event, _)| *event).count() as f64;
        // One item at risk is always the one with the event.
        let spread = if all > 1.0 {
            events * (all - events) / (all - 1.0)
        } else {
            0.0
        };
        for row in 0..degrees {
            let share = at_risk[row] / all;
            let own = tied.iter().filter(|item| item.1 && item.2 == row).count() as f64;
            excess[row] += own - events * share;
            for column in 0..degrees {
                let same = f64::from(u8::from(row == column));
                covariance[row][column] += spread * share * (same - at_risk[column] / all);
            }
        }
        for (_, _, group) in tied {
            at_risk[*group] -= 1.0;
        }
    }
    Ok(quadratic(covariance, &excess).map(|statistic| LogRank {
        statistic,
        degrees,
        p_value: chi_squared_sf(statistic, degrees as f64),
    }))
}

/// vᵀ M⁻¹ v of a covariance M, by Cholesky's factors; `None` if M is singular.
fn quadratic(mut m: Vec<Vec<f64>>, v: &[f64]) -> Option<f64> {
    let size = v.len();
    let largest = (0..size).map(|i| m[i][i]).fold(0.0, f64::max);
    let mut solved = vec![0.0; size];
    for row in 0..size {
        for column in 0..=row {
            let known: f64 = (0..column).map(|k| m[row][k] * m[column][k]).sum();
            let rest = m[row][column] - known;
            if row == column {
                // What is left of a singular matrix is rounding.
                if rest <= largest * 1e-12 {
                    return None;
                }
                m[row][row] = rest.sqrt();
            } else {
                m[row][column] = rest / m[column][column];
            }
        }
        let known: f64 = (0..row).map(|k| m[row][k] * solved[k]).sum();
        solved[row] = (v[row] - known) / m[row][row];
    }
    Some(solved.iter().map(|value| value * value).sum())
}

/// Times with events, by time.
fn observations(times: &[f64], event: &[bool]) -> Result<Vec<(f64, bool)>> {
    check::lengths(("times", times), ("event", event))?;
    check::each("times", times, "a finite number from 0", |time| {
        time.is_finite() && time >= 0.0
    })?;
    let mut observed: Vec<(f64, bool)> = times.iter().copied().zip(event.iter().copied()).collect();
    // -0 is 0.
    for (time, _) in &mut observed {
        *time += 0.0;
    }
    observed.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(observed)
}
