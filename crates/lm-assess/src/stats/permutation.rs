//! Tests by exchange: how often a difference as large comes about when labels or signs mean nothing.

use serde::Serialize;

use super::check;
use super::error::{Result, StatsError};
use super::random::{Purpose, Stream};

/// Which differences speak against the null hypothesis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Alternative {
    /// Either sign.
    #[default]
    TwoSided,
    /// The first is greater.
    Greater,
    /// The first is less.
    Less,
}

/// How a permutation test is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PermutationOptions {
    /// Two-sided unless set.
    pub alternative: Alternative,
    /// Random exchanges where there are more than `exact_up_to`; 9,999 unless set.
    pub permutations: u64,
    /// All exchanges are gone through if there are at most so many; 100,000 unless set, at most 2²⁴.
    pub exact_up_to: u64,
    /// Seed of all draws, 0 unless set.
    pub seed: u64,
}

impl Default for PermutationOptions {
    fn default() -> Self {
        Self {
            alternative: Alternative::TwoSided,
            permutations: 9_999,
            exact_up_to: 100_000,
            seed: 0,
        }
    }
}

/// The result of a permutation test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Permutation {
    /// The observed difference of means.
    pub statistic: f64,
    /// The p-value: the share of all exchanges, or (b + 1)/(m + 1) with b of m random ones, that are as extreme.
    pub p_value: f64,
    /// Exchanges gone through.
    pub permutations: u64,
    /// Whether these were all.
    pub exact: bool,
    /// The alternative.
    pub alternative: Alternative,
}

/// Largest `exact_up_to`.
const MOST_EXACT: u64 = 1 << 24;

/// Differences that differ by less than this share of the scale count as equal: sums in another order round differently.
const EQUAL: f64 = 1e-12;

impl PermutationOptions {
    fn check(&self) -> Result<()> {
        if self.permutations == 0 {
            return Err(StatsError::argument("permutations", "at least 1", 0));
        }
        if self.exact_up_to > MOST_EXACT {
            let expected = format!("at most {MOST_EXACT}");
            return Err(StatsError::argument(
                "exact_up_to",
                expected,
                self.exact_up_to,
            ));
        }
        Ok(())
    }
}

/// Compares exchanges with what was observed.
struct Count {
    observed: f64,
    tolerance: f64,
    alternative: Alternative,
    extreme: u64,
    all: u64,
}

impl Count {
    fn add(&mut self, statistic: f64) {
        let is = match self.alternative {
            Alternative::TwoSided => statistic.abs() >= self.observed.abs() - self.tolerance,
            Alternative::Greater => statistic >= self.observed - self.tolerance,
            Alternative::Less => statistic <= self.observed + self.tolerance,
        };
        self.extreme += u64::from(is);
        self.all += 1;
    }

    fn result(&self, exact: bool) -> Permutation {
        // The observed arrangement is among all of them, but not among random ones: without the 1, p could be 0.
        let own = u64::from(!exact);
        Permutation {
            statistic: self.observed,
            p_value: (self.extreme + own) as f64 / (self.all + own) as f64,
            permutations: self.all,
            exact,
            alternative: self.alternative,
        }
    }
}

/// Whether two independent groups have the same distribution, by the difference of their means; `None` if one is empty.
///
/// All C(n₁+n₂, n₁) ways to share out the values, or random ones with p = (b+1)/(m+1) (Phipson and Smyth, "Permutation
/// p-values should never be zero", 2010). Two-sided: differences at least as large in size.
///
/// # Errors
/// A value, or the sum of all, that is infinite or NaN; options out of their range.
pub fn two_sample_permutation(
    first: &[f64],
    second: &[f64],
    options: &PermutationOptions,
) -> Result<Option<Permutation>> {
    check::finite("first", first)?;
    check::finite("second", second)?;
    options.check()?;
    if first.is_empty() || second.is_empty() {
        return Ok(None);
    }
    let (n1, n2) = (first.len() as f64, second.len() as f64);
    let mut pool = [first, second].concat();
    check::number("sum of all values", pool.iter().map(|v| v.abs()).sum())?;
    let total: f64 = pool.iter().sum();
    let difference = |sum: f64| sum / n1 - (total - sum) / n2;
    let scale = pool
        .iter()
        .fold(0.0_f64, |most, value| most.max(value.abs()));
    let mut count = Count {
        observed: difference(first.iter().sum()),
        tolerance: scale * EQUAL,
        alternative: options.alternative,
        extreme: 0,
        all: 0,
    };
    let exact = binomial_up_to(pool.len(), first.len(), options.exact_up_to);
    if exact {
        let mut chosen: Vec<usize> = (0..first.len()).collect();
        loop {
            count.add(difference(
                chosen.iter().filter_map(|&index| pool.get(index)).sum(),
            ));
            if !next_combination(&mut chosen, pool.len()) {
                break;
            }
        }
    } else {
        let original = pool.clone();
        for replicate in 0..options.permutations {
            let mut stream = Stream::new(options.seed, Purpose::Permutation, replicate);
            pool.copy_from_slice(&original);
            // Fisher and Yates, as far as the first group.
            for index in 0..first.len() {
                let other = index + stream.below(pool.len() - index);
                pool.swap(index, other);
            }
            count.add(difference(pool.iter().take(first.len()).sum()));
        }
    }
    Ok(Some(count.result(exact)))
}

/// Whether paired values differ, by the mean of `first - second`, whose signs mean nothing if they do not; `None` for no pairs.
///
/// All 2ⁿ signs, or random ones with p = (b+1)/(m+1). Fisher, "The design of experiments", 1935, section 21.
///
/// # Errors
/// Unequal lengths; a value, or the sum of all differences, that is infinite or NaN; options out of their range.
pub fn paired_permutation(
    first: &[f64],
    second: &[f64],
    options: &PermutationOptions,
) -> Result<Option<Permutation>> {
    check::lengths(("first", first), ("second", second))?;
    check::finite("first", first)?;
    check::finite("second", second)?;
    options.check()?;
    if first.is_empty() {
        return Ok(None);
    }
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    check::finite("first - second", &differences)?;
    let n = differences.len();
    let mean = |sum: f64| sum / n as f64;
    let size: f64 = differences.iter().map(|value| value.abs()).sum();
    check::number("sum of all differences", size)?;
    let mut count = Count {
        observed: mean(differences.iter().sum()),
        tolerance: mean(size) * EQUAL,
        alternative: options.alternative,
        extreme: 0,
        all: 0,
    };
    let signed = |bits: &mut dyn FnMut(usize) -> bool| -> f64 {
        let flip = |(index, value): (usize, &f64)| if bits(index) { -value } else { *value };
        differences.iter().enumerate().map(flip).sum()
    };
    let exact = n < 64 && (1_u64 << n) <= options.exact_up_to;
    if exact {
        for signs in 0..1_u64 << n {
            count.add(mean(signed(&mut |index| signs >> index & 1 == 1)));
        }
    } else {
        for replicate in 0..options.permutations {
            let mut stream = Stream::new(options.seed, Purpose::Permutation, replicate);
            let mut word = 0;
            count.add(mean(signed(&mut |index| {
                if index % 64 == 0 {
                    word = stream.next_u64();
                }
                word >> (index % 64) & 1 == 1
            })));
        }
    }
    Ok(Some(count.result(exact)))
}

/// Whether C(n, k) is at most `bound`.
fn binomial_up_to(n: usize, k: usize, bound: u64) -> bool {
    let k = k.min(n - k);
    let mut ways = 1_u128;
    for i in 0..k {
        // Exact at each step: a product of i + 1 neighbours is divisible by (i + 1)!.
        ways = ways * (n - i) as u128 / (i + 1) as u128;
        if ways > u128::from(bound) {
            return false;
        }
    }
    ways <= u128::from(bound)
}

/// The next sorted choice of indices below `n`; false after the last.
fn next_combination(chosen: &mut [usize], n: usize) -> bool {
    let k = chosen.len();
    let Some(place) = (0..k).rev().find(|&place| {
        chosen
            .get(place)
            .is_some_and(|&index| index < n - k + place)
    }) else {
        return false;
    };
    let next = chosen.get(place).map_or(0, |index| index + 1);
    for (slot, index) in chosen.iter_mut().skip(place).zip(next..) {
        *slot = index;
    }
    true
}
