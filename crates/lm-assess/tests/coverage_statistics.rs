//! How often intervals hold the truth: computed exactly for rates, simulated with a fixed seed for bootstraps.

use lm_assess::stats::{
    BootstrapMethod, BootstrapOptions, Design, JudgeValidation, PairedMethod, Pairs, bootstrap,
    clopper_pearson, corrected_rate, paired_difference, wilson,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// ln n!.
fn ln_factorial(n: u64) -> f64 {
    (1..=n).map(|k| (k as f64).ln()).sum()
}

/// P(X = k) for all k.
fn binomial(n: u64, p: f64) -> Vec<f64> {
    let of = |k: u64| {
        let ways = ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k);
        (ways + k as f64 * p.ln() + (n - k) as f64 * (-p).ln_1p()).exp()
    };
    (0..=n).map(of).collect()
}

/// 199 rates and, beside them, some that are rare.
fn grid() -> impl Iterator<Item = f64> {
    let rare = [1e-4, 1e-3, 2e-3, 3e-3, 4e-3];
    (1..200)
        .map(|step| f64::from(step) / 200.0)
        .chain(rare)
        .chain(rare.map(|p| 1.0 - p))
}

const SIZES: [u64; 8] = [1, 2, 5, 10, 20, 50, 100, 200];

type Interval = fn(u64, u64, f64) -> lm_assess::stats::Result<Option<lm_assess::stats::Estimate>>;

/// For each rate of the grid, the probability that the interval holds it.
fn coverage(interval: Interval, n: u64, level: f64) -> Vec<f64> {
    let intervals: Vec<_> = (0..=n)
        .map(|k| interval(k, n, level).unwrap().unwrap())
        .collect();
    grid()
        .map(|p| {
            let held = intervals
                .iter()
                .zip(binomial(n, p))
                .filter(|(interval, _)| interval.low <= p && p <= interval.high);
            held.map(|(_, share)| share).sum()
        })
        .collect()
}

#[test]
fn clopper_pearson_never_covers_less_than_its_level() {
    for level in [0.8, 0.95, 0.99] {
        for n in SIZES {
            for (coverage, p) in coverage(clopper_pearson, n, level).iter().zip(grid()) {
                // Sums of two hundred probabilities round.
                assert!(
                    *coverage >= level - 1e-12,
                    "n {n}, p {p}, level {level}: {coverage}"
                );
            }
        }
    }
}

#[test]
fn wilson_covers_its_level_on_average() {
    for n in SIZES.into_iter().filter(|&n| n >= 10) {
        let coverage = coverage(wilson, n, 0.95);
        let mean = coverage.iter().sum::<f64>() / coverage.len() as f64;
        assert!((0.94..=0.96).contains(&mean), "n {n}: {mean}");
        // On average only: some rate falls below, which Clopper's and Pearson's must not.
        assert!(coverage.iter().any(|&coverage| coverage < 0.95), "n {n}");
    }
}

/// Both intervals of paired differences, over all tables of 30 pairs.
#[test]
fn paired_differences_cover_about_their_level() {
    let n = 30_u64;
    for method in [PairedMethod::Tango, PairedMethod::Newcombe] {
        let mut means = Vec::new();
        for (first_only, second_only) in [(0.1, 0.1), (0.3, 0.1), (0.05, 0.25), (0.4, 0.4)] {
            let mut covered = 0.0;
            for b in 0..=n {
                for c in 0..=n - b {
                    let rest = n - b - c;
                    let ways =
                        ln_factorial(n) - ln_factorial(b) - ln_factorial(c) - ln_factorial(rest);
                    let rest_share: f64 = 1.0 - first_only - second_only;
                    let share = (ways
                        + b as f64 * f64::ln(first_only)
                        + c as f64 * f64::ln(second_only)
                        + rest as f64 * rest_share.ln())
                    .exp();
                    // The split of the others does not enter Tango's interval; for Newcombe's half of them are yes.
                    let pairs = Pairs {
                        both: rest / 2,
                        first_only: b,
                        second_only: c,
                        neither: rest - rest / 2,
                    };
                    let found = paired_difference(&pairs, method, 0.95).unwrap().unwrap();
                    let truth = first_only - second_only;
                    if found.low <= truth && truth <= found.high {
                        covered += share;
                    }
                }
            }
            means.push(covered);
        }
        assert!(
            means.iter().all(|covered| (0.92..=0.98).contains(covered)),
            "{method:?}: {means:?}"
        );
    }
}

struct Source(ChaCha8Rng);

impl Source {
    fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * 0.5_f64.powi(53)
    }

    fn normal(&mut self) -> f64 {
        // Box and Muller.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// Share of simulated data sets of `clusters` clusters of five whose interval holds the mean, 0: each cluster has an effect of
/// its own, so that its items are alike.
fn clustered_coverage(clusters: usize, method: BootstrapMethod, by_cluster: bool) -> f64 {
    let sets = 1_000;
    let mut held = 0;
    for set in 0..sets {
        let mut source = Source(ChaCha8Rng::seed_from_u64(set));
        let mut values = Vec::new();
        let mut labels = Vec::new();
        for cluster in 0..clusters {
            let effect = source.normal();
            for _ in 0..5 {
                values.push(effect + 0.5 * source.normal());
                labels.push(cluster);
            }
        }
        let design = if by_cluster {
            Design::clusters(&labels)
        } else {
            Design::items(values.len())
        };
        let options = BootstrapOptions {
            replicates: 399,
            method,
            seed: set,
            ..BootstrapOptions::default()
        };
        let mean = |items: &[usize]| {
            let sum: f64 = items.iter().map(|&item| values[item]).sum();
            (!items.is_empty()).then(|| sum / items.len() as f64)
        };
        let found = bootstrap(&design, &options, mean).unwrap().unwrap();
        let (low, high) = found.low.zip(found.high).unwrap();
        held += u32::from(low <= 0.0 && 0.0 <= high);
    }
    f64::from(held) / sets as f64
}

#[test]
fn cluster_bootstraps_cover_about_their_level() {
    for method in [BootstrapMethod::Percentile, BootstrapMethod::Bca] {
        let covered = clustered_coverage(50, method, true);
        assert!((0.92..=0.97).contains(&covered), "{method:?}: {covered}");
    }
    // What it is for: items drawn as if they were independent cover far less.
    let covered = clustered_coverage(50, BootstrapMethod::Percentile, false);
    assert!(covered < 0.8, "items: {covered}");
}

/// Independent items of a skewed distribution, ln x normal: the ratio of sums, a statistic with bias.
#[test]
fn bootstraps_of_items_cover_about_their_level() {
    for method in [BootstrapMethod::Percentile, BootstrapMethod::Bca] {
        let sets = 1_000;
        let mut held = 0;
        for set in 0..sets {
            let mut source = Source(ChaCha8Rng::seed_from_u64(10_000 + set));
            // y is 2 x up to a factor of mean 1: the ratio of means is 2.
            let pairs: Vec<(f64, f64)> = (0..60)
                .map(|_| {
                    let x = (0.5 * source.normal()).exp();
                    (x, 2.0 * x * (0.4 * source.normal() - 0.08).exp())
                })
                .collect();
            let ratio = |items: &[usize]| {
                let sum = items.iter().map(|&item| pairs[item]);
                let (x, y) = sum.fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
                (x > 0.0).then(|| y / x)
            };
            let options = BootstrapOptions {
                replicates: 399,
                method,
                seed: set,
                ..BootstrapOptions::default()
            };
            let found = bootstrap(&Design::items(60), &options, ratio)
                .unwrap()
                .unwrap();
            let (low, high) = found.low.zip(found.high).unwrap();
            held += u32::from(low <= 2.0 && 2.0 <= high);
        }
        let covered = f64::from(held) / sets as f64;
        assert!((0.92..=0.97).contains(&covered), "{method:?}: {covered}");
    }
}

/// The corrected rate over all outcomes of 100 judged and 40 + 40 labelled items: a judge that finds 90 % and spares 85 %.
#[test]
fn a_corrected_rate_covers_about_its_level() {
    let (sensitivity, specificity) = (0.9, 0.85);
    let (found, spared) = (binomial(40, sensitivity), binomial(40, specificity));
    for rate in [0.1, 0.3, 0.6] {
        let flagged = binomial(100, rate * sensitivity + (1.0 - rate) * (1.0 - specificity));
        let (mut covered, mut naive) = (0.0, 0.0);
        for (k, share) in (0..).zip(&flagged) {
            let plain = wilson(k, 100, 0.95).unwrap().unwrap();
            if plain.low <= rate && rate <= plain.high {
                naive += share;
            }
            // What is rarer than 1e-6 does not change the third digit.
            for (hits, of_hits) in (0..).zip(&found).filter(|(_, share)| **share > 1e-6) {
                for (passes, of_passes) in (0..).zip(&spared).filter(|(_, share)| **share > 1e-6) {
                    let validation = JudgeValidation {
                        true_positives: hits,
                        positives: 40,
                        true_negatives: passes,
                        negatives: 40,
                    };
                    let interval = corrected_rate(k, 100, &validation, 0.95).unwrap().unwrap();
                    if interval.low <= rate && rate <= interval.high {
                        covered += share * of_hits * of_passes;
                    }
                }
            }
        }
        assert!((0.93..=0.99).contains(&covered), "rate {rate}: {covered}");
        if rate < 0.2 {
            assert!(naive < 0.6, "uncorrected {rate}: {naive}");
        }
    }
}
