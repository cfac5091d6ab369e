//! Confidence intervals of any statistic, by drawing the observations again.

use std::ops::Range;

use serde::Serialize;

use super::check;
use super::error::{Result, StatsError};
use super::random::{Purpose, Stream};
use super::special::{normal_cdf, normal_quantile};

/// What is drawn again, with replacement: as the data came about, so must they be drawn.
///
/// Several answers to one prompt, turns of one dialogue or prompts of one template are not independent: they are a cluster,
/// and clusters are drawn whole. Groups whose sizes were fixed beforehand are strata, each drawn for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Design {
    /// Items by cluster; an item alone is a cluster of one.
    clusters: Vec<Vec<usize>>,
    /// Ranges of `clusters` that are drawn for themselves.
    strata: Vec<Range<usize>>,
}

impl Design {
    /// `n` independent items.
    pub fn items(n: usize) -> Self {
        Self {
            clusters: (0..n).map(|item| vec![item]).collect(),
            strata: std::iter::once(0..n).collect(),
        }
    }

    /// Items of one label are drawn together. Clusters are in the order of their first item.
    pub fn clusters<T: Ord>(labels: &[T]) -> Self {
        let clusters = by_label(labels);
        let strata = std::iter::once(0..clusters.len()).collect();
        Self { clusters, strata }
    }

    /// Independent items in groups of fixed sizes: each resample has as many of each label as the data.
    pub fn strata<T: Ord>(labels: &[T]) -> Self {
        let mut clusters = Vec::with_capacity(labels.len());
        let mut strata = Vec::new();
        for stratum in by_label(labels) {
            let start = clusters.len();
            clusters.extend(stratum.into_iter().map(|item| vec![item]));
            strata.push(start..clusters.len());
        }
        Self { clusters, strata }
    }

    /// How many clusters (or items, or items of all strata) are drawn.
    pub fn units(&self) -> usize {
        self.clusters.len()
    }

    /// The items of replicate `replicate`, a function of `seed`, `replicate` and the design. Cluster sizes may differ, so
    /// their number may differ from that of the data.
    pub fn draw(&self, seed: u64, replicate: u64) -> Vec<usize> {
        let mut stream = Stream::new(seed, Purpose::Bootstrap, replicate);
        let mut items = Vec::with_capacity(self.clusters.len());
        for stratum in &self.strata {
            for _ in stratum.clone() {
                let drawn = stratum.start + stream.below(stratum.len());
                items.extend(self.clusters.get(drawn).into_iter().flatten());
            }
        }
        items
    }

    /// The items without those of one unit, for the jackknife.
    pub fn without(&self, unit: usize) -> Vec<usize> {
        let others = self.clusters.iter().enumerate();
        others
            .filter(|(index, _)| *index != unit)
            .flat_map(|(_, items)| items.iter().copied())
            .collect()
    }

    /// All items.
    fn all(&self) -> Vec<usize> {
        self.clusters.iter().flatten().copied().collect()
    }
}

/// Indices by label, in the order in which labels first occur.
fn by_label<T: Ord>(labels: &[T]) -> Vec<Vec<usize>> {
    let mut of_label = std::collections::BTreeMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, label) in labels.iter().enumerate() {
        let group = *of_label.entry(label).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(group) {
            group.push(index);
        }
    }
    groups
}

/// How the interval comes from the replicates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum BootstrapMethod {
    /// Their quantiles.
    Percentile,
    /// Quantiles corrected for bias and for a spread that depends on the value: [`bca_interval`].
    #[default]
    Bca,
}

/// How a bootstrap is run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BootstrapOptions {
    /// Resamples, 9,999 unless set.
    pub replicates: u64,
    /// BCa unless set.
    pub method: BootstrapMethod,
    /// Confidence level, 0.95 unless set.
    pub level: f64,
    /// Seed of all draws, 0 unless set.
    pub seed: u64,
}

impl Default for BootstrapOptions {
    fn default() -> Self {
        Self {
            replicates: 9_999,
            method: BootstrapMethod::Bca,
            level: 0.95,
            seed: 0,
        }
    }
}

/// A bootstrap interval and what it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BootstrapEstimate {
    /// The statistic of the data.
    pub estimate: f64,
    /// The interval's lower end; `None` where the method defines none.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
    /// Its confidence level.
    pub level: f64,
    /// Clusters, or items where each is drawn for itself.
    pub n: usize,
    /// Standard deviation of the replicates; `None` for fewer than two.
    pub standard_error: Option<f64>,
    /// Replicates that the interval rests on.
    pub replicates: usize,
    /// Resamples without a statistic (a rate of none, say). The interval leaves them out, so it holds for data that have one:
    /// many of them are a reason to distrust it.
    pub undefined: usize,
    /// The method.
    pub method: BootstrapMethod,
    /// Seed of all draws.
    pub seed: u64,
}

/// Estimates `statistic` and its interval. It is called with indices of items, repeated as they were drawn, and returns
/// `None` where it has no value. `None` if it has none for the data themselves.
///
/// # Errors
/// No replicates; a level outside (0, 1); a statistic that is infinite or NaN.
pub fn bootstrap(
    design: &Design,
    options: &BootstrapOptions,
    statistic: impl Fn(&[usize]) -> Option<f64>,
) -> Result<Option<BootstrapEstimate>> {
    check::level(options.level)?;
    if options.replicates == 0 {
        return Err(StatsError::argument("replicates", "at least 1", 0));
    }
    if design.units() == 0 {
        return Ok(None);
    }
    let Some(estimate) = statistic(&design.all()) else {
        return Ok(None);
    };
    let drawn = replicates(design, options.seed, 0..options.replicates, &statistic);
    let defined: Vec<f64> = drawn.iter().copied().flatten().collect();
    let interval = match options.method {
        BootstrapMethod::Percentile => {
            check::number("statistic", estimate)?;
            percentile_interval(&defined, options.level)?
        }
        BootstrapMethod::Bca => {
            let jackknife: Option<Vec<f64>> = (0..design.units())
                .map(|unit| statistic(&design.without(unit)))
                .collect();
            match jackknife {
                Some(jackknife) => bca_interval(estimate, &defined, &jackknife, options.level)?,
                None => None,
            }
        }
    };
    Ok(Some(BootstrapEstimate {
        estimate,
        low: interval.map(|(low, _)| low),
        high: interval.map(|(_, high)| high),
        level: options.level,
        n: design.units(),
        standard_error: standard_deviation(&defined),
        replicates: defined.len(),
        undefined: drawn.len() - defined.len(),
        method: options.method,
        seed: options.seed,
    }))
}

/// The statistic of the replicates in `range`. Ranges can be computed apart, in any order, and joined.
pub fn replicates(
    design: &Design,
    seed: u64,
    range: Range<u64>,
    statistic: impl Fn(&[usize]) -> Option<f64>,
) -> Vec<Option<f64>> {
    range
        .map(|replicate| statistic(&design.draw(seed, replicate)))
        .collect()
}

/// The (1-level)/2 and (1+level)/2 quantiles of the replicates, with linear interpolation (Hyndman and Fan's type 7). `None`
/// for no replicates. Efron, "Bootstrap methods: another look at the jackknife", 1979.
///
/// # Errors
/// A level outside (0, 1); a replicate that is infinite or NaN.
pub fn percentile_interval(replicates: &[f64], level: f64) -> Result<Option<(f64, f64)>> {
    check::level(level)?;
    check::finite("replicates", replicates)?;
    let sorted = sorted(replicates);
    let tail = (1.0 - level) / 2.0;
    Ok(quantile(&sorted, tail).zip(quantile(&sorted, 1.0 - tail)))
}

/// The bias-corrected and accelerated interval from an estimate, its bootstrap replicates, and its values with each unit left
/// out.
///
/// ```text
/// z₀ = Φ⁻¹(share of replicates below the estimate, equal ones counted half)
/// a  = Σ dᵢ³ / (6 (Σ dᵢ²)^1.5),   dᵢ = mean of the jackknife values - jackknife value i
/// ends: quantiles of the replicates at Φ(z₀ + (z₀ ± z)/(1 - a (z₀ ± z)))
/// ```
///
/// A jackknife whose values are all equal has a = 0. `None` where the method has no answer: no replicates or no jackknife
/// values, all replicates on one side of the estimate (z₀ is infinite), or a correction past its pole (1 - a(z₀ ± z) ≤ 0).
/// Efron, "Better bootstrap confidence intervals", 1987; Efron and Tibshirani, "An introduction to the bootstrap", 1993,
/// equations 14.9 to 14.15.
///
/// # Errors
/// A level outside (0, 1); an estimate, replicate or jackknife value that is infinite or NaN.
pub fn bca_interval(
    estimate: f64,
    replicates: &[f64],
    jackknife: &[f64],
    level: f64,
) -> Result<Option<(f64, f64)>> {
    let z = check::deviate(level)?;
    check::number("estimate", estimate)?;
    check::finite("replicates", replicates)?;
    check::finite("jackknife", jackknife)?;
    if replicates.is_empty() || jackknife.is_empty() {
        return Ok(None);
    }
    let below = replicates.iter().filter(|value| **value < estimate).count();
    let not_above = replicates
        .iter()
        .filter(|value| **value <= estimate)
        .count();
    let share = (below + not_above) as f64 / (2 * replicates.len()) as f64;
    if share <= 0.0 || share >= 1.0 {
        return Ok(None);
    }
    let bias = normal_quantile(share);
    let acceleration = acceleration(jackknife);
    let corrected = |z: f64| {
        let shifted = bias + z;
        let scale = 1.0 - acceleration * shifted;
        (scale > 0.0).then(|| normal_cdf(bias + shifted / scale))
    };
    let sorted = sorted(replicates);
    let end = |z| corrected(z).and_then(|share| quantile(&sorted, share));
    Ok(end(-z).zip(end(z)))
}

fn acceleration(jackknife: &[f64]) -> f64 {
    // It has no unit; without one, no power overflows.
    let (_, jackknife) = in_units_of_the_largest(jackknife);
    let mean = jackknife.iter().sum::<f64>() / jackknife.len() as f64;
    let spread = |power| {
        jackknife
            .iter()
            .map(|value| (mean - value).powi(power))
            .sum::<f64>()
    };
    // Values that are equal on paper differ by rounding of the mean: no skew can be read from that.
    let rounding = mean.abs() * 1e-14;
    if jackknife
        .iter()
        .all(|value| (value - mean).abs() <= rounding)
    {
        return 0.0;
    }
    spread(3) / (6.0 * spread(2).powf(1.5))
}

/// The largest size among the values, or 1 for zeros only, and the values divided by it.
fn in_units_of_the_largest(values: &[f64]) -> (f64, Vec<f64>) {
    let largest = values.iter().fold(0.0_f64, |most, v| most.max(v.abs()));
    let unit = if largest > 0.0 { largest } else { 1.0 };
    (unit, values.iter().map(|value| value / unit).collect())
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Type 7 of Hyndman and Fan: position (n - 1) p between order statistics.
fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let position = sorted.len().checked_sub(1)? as f64 * p;
    let below = sorted.get(position.floor() as usize)?;
    let above = sorted.get(position.ceil() as usize)?;
    let (gap, share) = (above - below, position.fract());
    Some(if gap.is_finite() {
        below + gap * share
    } else {
        below * (1.0 - share) + above * share
    })
}

fn standard_deviation(values: &[f64]) -> Option<f64> {
    let (unit, values) = in_units_of_the_largest(values);
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| unit * (squares / (n - 1.0)).sqrt())
}
