//! The functions behind the distributions: normal, beta, binomial, chi-squared, Student.
//!
//! `statrs` has them too, but starts the inverse of the beta distribution inside [1e-4, 0.9999] and takes the logarithm of
//! the beta function as a difference of large numbers; at a million trials that is not 1e-10. `erf` and `lgamma` are libm's.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use libm::{erfc, lgamma};

/// Iterations after which a continued fraction or a root counts as found; neither comes near it.
const MOST: usize = 100_000;

/// Stands for zero in a denominator of Lentz's method.
const TINY: f64 = 1e-300;

/// P(Z ≤ z) of a standard normal Z.
pub(super) fn normal_cdf(z: f64) -> f64 {
    0.5 * erfc(-z * FRAC_1_SQRT_2)
}

/// P(|Z| ≥ |z|) of a standard normal Z.
pub(super) fn normal_two_sided(z: f64) -> f64 {
    erfc(z.abs() * FRAC_1_SQRT_2)
}

/// The z with P(Z ≤ z) = p, for p in (0, 1).
///
/// Newton's method on ln Φ, which is concave: from the left of the root, where exp(-z²/2)/2 ≥ Φ(z) puts the start, every
/// step stays left of it and no step overshoots.
pub(super) fn normal_quantile(p: f64) -> f64 {
    if p > 0.5 {
        return -normal_quantile(1.0 - p);
    }
    let target = p.ln();
    let mut z = -(-2.0 * (2.0 * p).ln()).max(0.0).sqrt();
    for _ in 0..MOST {
        let below = normal_cdf(z);
        let density = (-0.5 * z * z).exp() / (2.0 * PI).sqrt();
        let step = (target - below.ln()) * below / density;
        z += step;
        if step.abs() <= 1e-15 * z.abs().max(1.0) {
            break;
        }
    }
    z
}

/// ln Γ(n + 1) less Stirling's formula for it, (n + ½) ln n - n + ½ ln 2π.
fn stirling_error(n: f64) -> f64 {
    if n < 16.0 {
        return lgamma(n + 1.0) - (n + 0.5) * n.ln() + n - 0.5 * (2.0 * PI).ln();
    }
    // Bernoulli numbers: the next term is below 1e-16 from 16 on.
    let s = 1.0 / (n * n);
    let terms = [
        1.0 / 12.0,
        -1.0 / 360.0,
        1.0 / 1260.0,
        -1.0 / 1680.0,
        1.0 / 1188.0,
        -691.0 / 360_360.0,
    ];
    terms.iter().rev().fold(0.0, |sum, term| sum * s + term) / n
}

/// x ln(x/m) + m - x, without cancellation near x = m (Loader, "Fast and accurate computation of binomial probabilities",
/// 2000).
fn deviance(x: f64, m: f64) -> f64 {
    if (x - m).abs() >= 0.1 * (x + m) {
        return x * (x / m).ln() + m - x;
    }
    let v = (x - m) / (x + m);
    let mut sum = (x - m) * v;
    let mut term = 2.0 * x * v;
    for j in 1..MOST {
        term *= v * v;
        let next = sum + term / (2 * j + 1) as f64;
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

/// ln of xᵃ yᵇ / B(a, b), with y = 1 - x given so that neither end loses digits. Loader's form of it.
fn ln_beta_kernel(a: f64, b: f64, x: f64, y: f64) -> f64 {
    let n = a + b;
    stirling_error(n)
        - stirling_error(a)
        - stirling_error(b)
        - deviance(a, n * x)
        - deviance(b, n * y)
        + 0.5 * (a * b / (2.0 * PI * n)).ln()
}

/// The continued fraction of the incomplete beta function (DLMF 8.17.22) by Lentz's method, for x < (a + 1)/(a + b + 2).
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let safe = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / safe(1.0 - (a + b) * x / (a + 1.0));
    let mut h = d;
    for m in 1..MOST {
        let m = m as f64;
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / safe(1.0 + even * d);
        c = safe(1.0 + even / c);
        h *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / safe(1.0 + odd * d);
        c = safe(1.0 + odd / c);
        h *= d * c;
        if (d * c - 1.0).abs() < 1e-16 {
            break;
        }
    }
    h
}

/// Largest b that [`beta_sum`] takes: its terms, about √b of them, stay below 1e5 or so.
const MOST_SUMMED: f64 = 1e8;

/// What [`beta_fraction`] is for a whole `b` much smaller than `a`, where the fraction loses digits as a/b grows: I_x(a, b) is then
/// the probability of at most b - 1 failures in a + b - 1 trials, a sum of positive terms (DLMF 8.17.5), here over its last.
fn beta_sum(a: f64, b: f64, x: f64, y: f64) -> f64 {
    let (mut term, mut sum, mut j) = (1.0 / y, 1.0 / y, b - 1.0);
    while j > 0.0 && term > sum * 1e-17 {
        term *= j / (a + b - j) * (x / y);
        sum += term;
        j -= 1.0;
    }
    sum
}

/// ln of the regularised incomplete beta function I_x(a, b), with y = 1 - x.
fn ln_beta_cdf(a: f64, b: f64, x: f64, y: f64) -> f64 {
    if x <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if y <= 0.0 {
        return 0.0;
    }
    let kernel = ln_beta_kernel(a, b, x, y);
    let fraction = |a: f64, b: f64, x: f64, y: f64| {
        let summed = b.fract() == 0.0 && b <= MOST_SUMMED && b < a / 16.0;
        if summed {
            beta_sum(a, b, x, y)
        } else {
            beta_fraction(a, b, x)
        }
    };
    // x < (a + 1)/(a + b + 2), said of y, which has all its digits where x is near 1.
    if y > (b + 1.0) / (a + b + 2.0) {
        kernel + fraction(a, b, x, y).ln() - a.ln()
    } else {
        (-(kernel + fraction(b, a, y, x).ln() - b.ln()).exp()).ln_1p()
    }
}

/// I_x(a, b), the distribution function of a beta variable, with y = 1 - x.
pub(super) fn beta_cdf(a: f64, b: f64, x: f64, y: f64) -> f64 {
    ln_beta_cdf(a, b, x, y).exp()
}

/// The x with I_x(a, b) = p, for p in (0, ½], and 1 - x, either to all its digits.
///
/// Newton's method on ln I as a function of t = ln(x/(1 - x)): it is concave there, because the density of t is
/// log-concave, so that after the first step every iterate is left of the root and the next one nearer.
pub(super) fn beta_quantile(a: f64, b: f64, p: f64) -> (f64, f64) {
    let t = beta_logit(a, b, p);
    (logistic(t), logistic(-t))
}

fn logistic(t: f64) -> f64 {
    1.0 / (1.0 + (-t).exp())
}

fn beta_logit(a: f64, b: f64, p: f64) -> f64 {
    let target = p.ln();
    let mut t = (a / b).ln() + normal_quantile(p) * (1.0 / a + 1.0 / b).sqrt();
    let mut last = f64::INFINITY;
    for _ in 0..MOST {
        let (x, y) = (logistic(t), logistic(-t));
        let ln_cdf = ln_beta_cdf(a, b, x, y);
        let slope = (ln_beta_kernel(a, b, x, y) - ln_cdf).exp();
        let step = (target - ln_cdf) / slope;
        t += step;
        // Steps near the root become smaller until they are rounding. NaN, too, ends it.
        let smaller = step.abs() < last || step.abs() > 1e-6;
        if step.abs() > 1e-15 * t.abs().max(1.0) && smaller {
            last = step.abs();
            continue;
        }
        break;
    }
    t
}

/// P(X ≤ a) of a + b trials with probability ½.
pub(super) fn fair_binomial_cdf(a: f64, b: f64) -> f64 {
    if b <= 0.0 {
        return 1.0;
    }
    beta_cdf(b, a + 1.0, 0.5, 0.5)
}

/// P(X = a) of a + b trials with probability ½.
pub(super) fn fair_binomial_pmf(a: f64, b: f64) -> f64 {
    if a <= 0.0 || b <= 0.0 {
        return ((a + b) * 0.5_f64.ln()).exp();
    }
    // The kernel has B(a, b) where the probability has n!/(a! b!).
    ln_beta_kernel(a, b, 0.5, 0.5).exp() * ((a + b) / a / b)
}

/// P(X ≥ x) of a chi-squared variable.
pub(super) fn chi_squared_sf(x: f64, degrees: f64) -> f64 {
    gamma_sf(degrees / 2.0, x / 2.0)
}

/// The regularised upper incomplete gamma function Q(a, x): a series (DLMF 8.11.4), or from a + 1 on the continued fraction
/// (DLMF 8.9.2) by Lentz's method.
fn gamma_sf(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let kernel = (a * x.ln() - x - lgamma(a)).exp();
    if x < a + 1.0 {
        let mut term = 1.0 / a;
        let mut sum = term;
        for n in 1..MOST {
            term *= x / (a + n as f64);
            sum += term;
            if term < sum * 1e-17 {
                break;
            }
        }
        return 1.0 - kernel * sum;
    }
    let mut b = x + 1.0 - a;
    let mut c = 1.0 / TINY;
    let mut d = 1.0 / b;
    let mut h = d;
    for n in 1..MOST {
        let n = n as f64;
        let numerator = -n * (n - a);
        b += 2.0;
        d = 1.0 / (numerator * d + b);
        c = b + numerator / c;
        h *= d * c;
        if (d * c - 1.0).abs() < 1e-16 {
            break;
        }
    }
    kernel * h
}

/// P(|T| ≥ |t|) of Student's T.
pub(super) fn student_two_sided(t: f64, degrees: f64) -> f64 {
    let whole = degrees + t * t;
    if whole.is_infinite() {
        return 0.0;
    }
    beta_cdf(degrees / 2.0, 0.5, degrees / whole, t * t / whole)
}

#[cfg(test)]
mod tests {
    use lm_testkit::golden_folder;
    use serde_json::Value;

    use super::*;

    /// mpmath's values, in `golden/statistics`. Relative: tails are compared as tails.
    #[test]
    fn distributions_are_those_of_mpmath() {
        let path = golden_folder().join("statistics/expected.json");
        let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut compared = 0;
        for case in file["cases"].as_array().unwrap() {
            let given = |name: &str| case["given"][name].as_f64().unwrap();
            let found = match case["function"].as_str().unwrap() {
                "normal_quantile" => normal_quantile(given("p")),
                "normal_cdf" => normal_cdf(given("z")),
                "beta_cdf" => {
                    let x = given("x");
                    beta_cdf(given("a"), given("b"), x, 1.0 - x)
                }
                "chi_squared_sf" => chi_squared_sf(given("x"), given("degrees")),
                "student_two_sided" => student_two_sided(given("t"), given("degrees")),
                _ => continue,
            };
            let expected = case["expected"]["value"].as_f64().unwrap();
            assert!(
                (found - expected).abs() <= 1e-10 * expected.abs(),
                "{case}: found {found}"
            );
            compared += 1;
        }
        assert!(compared >= 40, "{compared}");
    }
}
