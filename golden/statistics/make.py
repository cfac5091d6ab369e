"""Reference values for lm-assess's statistics, by SciPy, statsmodels, scikit-learn, krippendorff and mpmath.

Where none of them has a method, its definition is computed here in the plainest way, with 40 digits or by going through all
cases: roots by bisection of the likelihood, DeLong's components by comparing each pair, continuations of rankings written out.
Each case names its source. Writes `expected.json` beside itself, or to `--out DIR`.
"""

import argparse
import itertools
import json
import math
import warnings
from importlib.metadata import version
from pathlib import Path

import krippendorff
import mpmath as mp
import numpy as np
from scipy import stats
from sklearn import metrics
from statsmodels.duration.survfunc import SurvfuncRight, survdiff
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.inter_rater import cohens_kappa, fleiss_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

mp.mp.dps = 40
SEED = 20261125
CASES: list[dict] = []


def plain(value):
    """As JSON knows it; NaN and infinity are not among it, and no reference value may be one."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(part) for part in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating, mp.mpf)):
        assert math.isfinite(value), value
        return float(value)
    assert value is None or isinstance(value, str), value
    return value


def case(function: str, source: str, given: dict, expected: dict) -> None:
    CASES.append({"function": function, "source": source, "given": plain(given), "expected": plain(expected)})


def bisect(f, low, high, steps=60):
    """The root of a rising or falling function, to 2^-60 of the range."""
    low, high = mp.mpf(low), mp.mpf(high)
    rising = f(low) < 0
    for _ in range(steps):
        middle = (low + high) / 2
        if (f(middle) < 0) == rising:
            low = middle
        else:
            high = middle
    return (low + high) / 2


# ------------------------------------------------------------------------------------------------ distributions, in 40 digits


def beta_cdf(a, b, x):
    """I_x(a, b) = xᵃ (1-x)ᵇ / (a B(a, b)) Σ (a+b)…(a+b+n-1)/((a+1)…(a+n)) xⁿ; all terms are positive."""
    a, b, x = mp.mpf(a), mp.mpf(b), mp.mpf(x)
    if x > 0.5:
        return 1 - beta_cdf(b, a, 1 - x)
    # In whole numbers of 1e-60, which is fast; a and b are multiples of a half.
    one = 10**60
    term = total = one
    top, bottom, factor = int(2 * (a + b)), int(2 * (a + 1)), int(mp.nint(x * one))
    while term > 10**12:
        term = term * top * factor // (bottom * one)
        total += term
        top, bottom = top + 2, bottom + 2
    total = mp.mpf(total) / one
    return mp.exp(a * mp.log(x) + b * mp.log1p(-x) - mp.log(a) - log_beta(a, b)) * total


def log_beta(a, b):
    return mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)


def normal_quantile(p):
    return mp.sqrt(2) * mp.erfinv(2 * mp.mpf(p) - 1)


def distributions() -> None:
    for p in [1e-300, 1e-30, 1e-8, 0.001, 0.025, 0.3, 0.5, 0.7, 0.975, 1 - 1e-8]:
        # Below erfinv's reach: the asymptotic start, then the root.
        value = normal_quantile(p) if p > 1e-20 else bisect(lambda z: mp.ncdf(z) - mp.mpf(p), -40, 0)
        case("normal_quantile", "mpmath", {"p": p}, {"value": value})
    for z in [-35.0, -8.0, -1.0, 0.0, 0.5, 3.0]:
        case("normal_cdf", "mpmath", {"z": z}, {"value": mp.ncdf(z)})
    for a, b, x in [
        (0.5, 0.5, 0.1), (1, 1, 0.3), (2, 3, 0.999), (30, 20, 0.6), (30, 20, 0.05), (0.5, 40, 1e-6), (1e6, 1e6, 0.4993),
        (1, 1e6, 1e-7), (1e6, 2, 0.999999), (345, 77, 0.8), (1e5, 3, 0.9999),
    ]:
        x = mp.mpf(x)
        case("beta_cdf", "mpmath", {"a": a, "b": b, "x": x}, {"value": beta_cdf(mp.mpf(a), mp.mpf(b), x)})
    for x, degrees in [(1e-3, 1), (3.84, 1), (80, 1), (0.5, 2), (5, 3), (40, 3), (10, 10), (1, 30), (90, 30)]:
        case("chi_squared_sf", "mpmath", {"x": x, "degrees": degrees},
             {"value": mp.gammainc(mp.mpf(degrees) / 2, mp.mpf(x) / 2, mp.inf, regularized=True)})
    for t, degrees in [(0.0, 3), (0.1, 1), (2.5, 1), (1.96, 30), (12.0, 8), (40.0, 1000), (-3.0, 5)]:
        t = mp.mpf(t)
        case("student_two_sided", "mpmath", {"t": t, "degrees": degrees},
             {"value": beta_cdf(mp.mpf(degrees) / 2, mp.mpf("0.5"), degrees / (degrees + t * t))})


# ------------------------------------------------------------------------------------------------ rates


def exact_limits(k, n, level):
    """Clopper's and Pearson's limits as roots of the binomial tails, in 40 digits, from where SciPy puts them."""
    tail = (1 - mp.mpf(level)) / 2

    def root(a, b, p):
        x = start = mp.mpf(stats.beta.ppf(float(p), a, b))
        for _ in range(3):  # Newton: 1e-10, 1e-20, 1e-40
            density = mp.exp((a - 1) * mp.log(x) + (b - 1) * mp.log1p(-x) - log_beta(a, b))
            step = (p - beta_cdf(a, b, x)) / density
            x += step
        assert abs(step) < abs(x) * 1e-18 and abs(x - start) < 1e-9
        return x

    low = 0 if k == 0 else root(k, n - k + 1, tail)
    # From the other end, 1 - high is the lower limit of the failures.
    high = 1 if k == n else 1 - root(n - k, k + 1, tail)
    return low, high


def rates() -> None:
    for k, n, level in [
        (0, 1, 0.95), (1, 1, 0.95), (0, 10, 0.95), (10, 10, 0.95), (1, 10, 0.95), (5, 10, 0.95), (9, 10, 0.95), (7, 20, 0.9),
        (13, 20, 0.99), (81, 263, 0.95), (3, 1000, 0.95), (999, 1000, 0.999), (15, 100, 0.5),
    ]:
        for function, method in [("wilson", "wilson"), ("clopper_pearson", "beta")]:
            low, high = proportion_confint(k, n, alpha=1 - level, method=method)
            case(function, f"statsmodels proportion_confint({method})", {"k": k, "n": n, "level": level},
                 {"estimate": k / n, "low": low, "high": high})
    for k, n in [(0, 1_000_000), (1, 1_000_000), (500_000, 1_000_000), (999_999, 1_000_000), (37, 100_000), (1, 10**10),
                 (20, 10**12), (10**12 - 3, 10**12), (400_000, 10**9)]:
        low, high = exact_limits(k, n, 0.95)
        case("clopper_pearson", "mpmath", {"k": k, "n": n, "level": 0.95}, {"estimate": k / n, "low": low, "high": high})
    for k1, n1, k2, n2, level in [
        (56, 70, 48, 80, 0.95), (9, 10, 3, 10, 0.95), (6, 7, 2, 7, 0.95), (5, 56, 0, 29, 0.95), (0, 10, 0, 20, 0.95),
        (0, 10, 0, 10, 0.95), (10, 10, 0, 20, 0.95), (10, 10, 0, 10, 0.9), (1, 1, 0, 1, 0.95),
    ]:
        low, high = confint_proportions_2indep(k1, n1, k2, n2, method="newcomb", compare="diff", alpha=1 - level)
        case("difference", "statsmodels confint_proportions_2indep(newcomb)",
             {"k1": k1, "n1": n1, "k2": k2, "n2": n2, "level": level},
             {"estimate": k1 / n1 - k2 / n2, "low": low, "high": high})


# ------------------------------------------------------------------------------------------------ pairs


def wilson_exact(k, n, z):
    """The rates that the score test does not reject, as roots of (p - x)² = z² x(1-x)/n."""
    p = mp.mpf(k) / n
    score = lambda x: (p - x) ** 2 - z * z * x * (1 - x) / n
    low = 0 if k == 0 else bisect(score, 0, p)
    # 0 is a root, too, where p is 0, and not the one that is meant.
    high = 1 if k == n else bisect(score, max(p, mp.mpf(10) ** -30), 1)
    return low, high


def newcombe_paired(e, f, g, h, level):
    n, z = e + f + g + h, normal_quantile((1 + mp.mpf(level)) / 2)
    p1, p2 = mp.mpf(e + f) / n, mp.mpf(e + g) / n
    (l1, u1), (l2, u2) = wilson_exact(e + f, n, z), wilson_exact(e + g, n, z)
    margins = (e + f) * (g + h) * (e + g) * (f + h)
    excess = e * h - f * g
    corrected = max(excess - mp.mpf(n) / 2, 0) if excess > 0 else excess
    phi = corrected / mp.sqrt(margins) if margins else 0
    delta = mp.sqrt((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2)
    epsilon = mp.sqrt((u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2)
    return p1 - p2 - delta, p1 - p2 + epsilon


def tango(e, f, g, h, level):
    """Limits at which the score statistic is ±z, with the nuisance rate where the likelihood of (f, g, rest) is highest."""
    n, z = e + f + g + h, normal_quantile((1 + mp.mpf(level)) / 2)

    def statistic(delta):
        # P(second only) = q, P(first only) = q + delta, the rest 1 - 2q - delta; the derivative of ln L falls in q.
        low, high = max(mp.mpf(0), -delta), (1 - delta) / 2
        tiny = mp.mpf(10) ** -35

        def slope(q):
            return (f / (q + delta) if f else 0) + (g / q if g else 0) - (2 * mp.mpf(e + h) / (1 - 2 * q - delta) if e + h else 0)

        a, b = low + tiny, high - tiny
        q = low if slope(a) <= 0 else high if slope(b) >= 0 else bisect(slope, a, b)
        excess = f - g - n * delta
        # At the estimate it is 0, also where the variance is: without a pair that differs, both fall to 0 together.
        return excess / mp.sqrt(n * (2 * q + delta - delta**2)) if excess else mp.mpf(0)

    edge = mp.mpf(1) - mp.mpf(10) ** -30
    middle = mp.mpf(f - g) / n
    low = -1 if middle == -1 else bisect(lambda d: statistic(d) - z, -edge, middle)
    high = 1 if middle == 1 else bisect(lambda d: statistic(d) + z, middle, edge)
    return low, high


def pairs() -> None:
    for f, g in [(0, 0), (1, 0), (5, 5), (0, 6), (3, 12), (25, 9), (121, 59), (1000, 1100), (40, 300)]:
        p = mcnemar([[7, f], [g, 11]], exact=True).pvalue
        at = stats.binom.pmf(min(f, g), f + g, 0.5)
        mid = 1 - at / 2 if f == g else p - at
        case("mcnemar", "statsmodels mcnemar(exact); mid-p by its definition and scipy binom",
             {"first_only": f, "second_only": g}, {"p_value": p, "mid_p_value": mid})
    for table in [(36, 12, 2, 0), (43, 0, 1, 0), (0, 5, 3, 40), (20, 10, 5, 15), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 4, 0),
                  (10, 0, 0, 12), (212, 144, 256, 707), (2, 1, 1, 2), (30, 4, 9, 0), (1, 1, 7, 12)]:
        for method, function, level in [("newcombe", newcombe_paired, 0.95), ("tango", tango, 0.95), ("tango", tango, 0.9)]:
            low, high = function(*table, level)
            case("paired_difference", f"mpmath: {method} by definition",
                 {"table": table, "method": method, "level": level},
                 {"estimate": mp.mpf(table[1] - table[2]) / sum(table), "low": low, "high": high})


# ------------------------------------------------------------------------------------------------ bootstrap


class Given:
    """Replicates for SciPy that come from our indices instead of its own draws."""

    def __init__(self, distribution):
        self.bootstrap_distribution = np.asarray(distribution)


def bootstraps() -> None:
    rng = np.random.default_rng(SEED)
    samples = {
        "lognormal": np.round(rng.lognormal(size=12), 3),
        "ties": np.array([0.0, 0, 0, 1, 1, 0, 1, 0, 0, 0]),
        "normal": np.round(rng.normal(size=25), 3),
    }
    statistics = {"mean": np.mean, "median": np.median, "deviation": lambda x, axis=-1: np.std(x, axis=axis, ddof=1)}
    for sample, statistic, level in [
        ("lognormal", "mean", 0.95), ("lognormal", "deviation", 0.9), ("ties", "mean", 0.95), ("normal", "mean", 0.99),
        ("normal", "median", 0.95), ("normal", "deviation", 0.95),
    ]:
        data, of = samples[sample], statistics[statistic]
        indices = rng.integers(0, len(data), (99, len(data)))
        replicates = of(data[indices], axis=-1)
        jackknife = [of(np.delete(data, index)) for index in range(len(data))]
        for method in ["percentile", "BCa"]:
            found = stats.bootstrap((data,), of, n_resamples=0, method=method, confidence_level=level,
                                    bootstrap_result=Given(replicates)).confidence_interval
            case(f"{method.lower()}_interval", f"scipy bootstrap({method}) of these replicates",
                 {"estimate": of(data), "replicates": replicates, "jackknife": jackknife, "level": level},
                 {"low": found.low, "high": found.high})


# ------------------------------------------------------------------------------------------------ permutations


def permutations() -> None:
    rng = np.random.default_rng(SEED + 1)
    mean_difference = lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis)
    groups = [
        ([1.5, 2.5, 9.0], [0.5, 1.0, 2.0, 2.25]),
        ([1, 0, 1, 1, 0], [0, 0, 0, 1, 0, 0]),
        ([1, 2, 3], [3, 2, 1]),  # not in tenths: SciPy would take sums that round differently for different
        (np.round(rng.normal(1, 1, 7), 2), np.round(rng.normal(0, 1, 8), 2)),
        ([3.0, 3.5], [1.0, 2.0, 3.25]),
    ]
    matched = [
        ([5.0, 3, 8, 1, 9, 4], [4.0, 4, 5, 0, 3, 4]),
        ([1, 0, 1, 1, 1, 0, 1], [0, 0, 0, 1, 0, 1, 0]),
        (np.round(rng.normal(0.5, 1, 12), 2), np.round(rng.normal(0, 1, 12), 2)),
        ([3, 1, 2], [1, 3, 1]),
    ]
    for function, kind, inputs in [
        ("two_sample_permutation", "independent", groups), ("paired_permutation", "samples", matched),
    ]:
        for x, y in inputs:
            observed = np.mean(x) - np.mean(y)
            for alternative in ["two-sided", "greater", "less"]:
                # Two-sided by size; SciPy's own doubles the smaller tail, which is something else for skewed differences.
                size = alternative == "two-sided"
                of = (lambda x, y, axis: abs(mean_difference(x, y, axis))) if size else mean_difference
                found = stats.permutation_test((x, y), of, permutation_type=kind, n_resamples=np.inf, vectorized=True,
                                               alternative="greater" if size else alternative)
                case(function, f"scipy permutation_test({kind}), all permutations",
                     {"x": x, "y": y, "alternative": alternative}, {"statistic": observed, "p_value": found.pvalue})


# ------------------------------------------------------------------------------------------------ many tests


def many_tests() -> None:
    rng = np.random.default_rng(SEED + 2)
    for p_values in [
        [0.01, 0.04, 0.03, 0.005], [0.2], [0.5, 0.5, 0.5], [0.0, 1.0, 0.02, 0.02, 0.9], list(rng.uniform(size=15) ** 3),
    ]:
        for function, method in [("holm", "holm"), ("benjamini_hochberg", "fdr_bh")]:
            case(function, f"statsmodels multipletests({method})", {"p_values": p_values},
                 {"adjusted": multipletests(p_values, method=method)[1]})


# ------------------------------------------------------------------------------------------------ agreement


def agreement() -> None:
    rng = np.random.default_rng(SEED + 3)
    tables = [
        [[20, 5], [10, 15]], [[45, 15], [25, 15]], [[0, 3], [4, 0]], [[88, 14, 18], [10, 40, 10], [2, 6, 12]],
        [[5, 0, 0], [0, 3, 0], [0, 0, 2]], [[3, 1, 0, 0], [0, 4, 2, 0], [1, 0, 5, 1], [0, 0, 2, 6]], [[50, 0], [3, 0]],
    ]
    for table in tables:
        for weights in ["equal", "linear", "quadratic"]:
            wt = None if weights == "equal" else weights
            with np.errstate(invalid="ignore"):  # of z values, which are not used
                found = cohens_kappa(np.array(table), wt=wt)  # its interval is that of 0.95
            first = [row for row, counts in enumerate(table) for count in counts for _ in range(count)]
            second = [column for counts in table for column, count in enumerate(counts) for _ in range(count)]
            also = metrics.cohen_kappa_score(first, second, weights=wt, labels=range(len(table)))
            assert abs(also - found.kappa) < 1e-12, (table, weights)
            case("kappa", "statsmodels cohens_kappa, equal to scikit-learn's", {"table": table, "weights": weights},
                 {"estimate": found.kappa, "standard_error": math.sqrt(max(found.var_kappa, 0.0)), "low": found.kappa_low,
                  "high": found.kappa_upp})
    words = [["yes", "no", "unclear"][number] for number in rng.integers(0, 3, 30)]
    other = [word if rng.uniform() < 0.6 else "no" for word in words]
    for first, second in [(words, other), (["a", "a", "b"], ["a", "c", "b"])]:
        case("cohen_kappa", "scikit-learn cohen_kappa_score", {"first": first, "second": second},
             {"estimate": metrics.cohen_kappa_score(first, second)})
    fleiss_1971 = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1], [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]
    for counts in [fleiss_1971, [[3, 0], [0, 3], [3, 0]], [[2, 1], [1, 2], [2, 1], [0, 3]],
                   list(rng.multinomial(5, [0.5, 0.3, 0.2], 20))]:
        case("fleiss_kappa", "statsmodels fleiss_kappa", {"counts": counts},
             {"estimate": fleiss_kappa(np.array(counts), method="fleiss")})
    no = None
    krippendorff_2004 = [  # raters in rows, as published
        [no, no, no, no, no, 3, 4, 1, 2, 1, 1, 3, 3, no, 3],
        [1, no, 2, 1, 3, 3, 4, 3, no, no, no, no, no, no, no],
        [no, no, 2, 1, 3, 4, 4, no, 2, 1, 1, 3, 3, no, 4],
    ]
    random = [[int(rating) if rng.uniform() < 0.8 else no for rating in rng.integers(0, 3, 15)] for _ in range(4)]
    for raters in [krippendorff_2004, random, [[1, 1, 2], [1, 2, 2]]]:
        data = np.array([[np.nan if rating is None else rating for rating in row] for row in raters])
        case("krippendorff_alpha", "krippendorff alpha(nominal)", {"ratings": list(zip(*raters))},
             {"estimate": krippendorff.alpha(reliability_data=data, level_of_measurement="nominal")})


# ------------------------------------------------------------------------------------------------ decisions and scores


def components(scores, positive):
    """DeLong's structural components by comparing each pair."""
    one = [mp.mpf(score) for score, is_positive in zip(scores, positive) if is_positive]
    other = [mp.mpf(score) for score, is_positive in zip(scores, positive) if not is_positive]
    beats = lambda a, b: mp.mpf(1) if a > b else mp.mpf("0.5") if a == b else mp.mpf(0)
    return ([sum(beats(a, b) for b in other) / len(other) for a in one],
            [sum(beats(a, b) for a in one) / len(one) for b in other])


def spread(a, b):
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    return sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b)) / (len(a) - 1) / len(a)


def areas() -> None:
    rng = np.random.default_rng(SEED + 4)
    z = normal_quantile("0.975")
    truth = [bool(x) for x in rng.uniform(size=60) < 0.4]
    good = [float(np.round(rng.normal(1.2 * x), 3)) for x in truth]
    fair = [float(np.round(0.6 * g + rng.normal(0.3 * x), 3)) for g, x in zip(good, truth)]
    tied = [float(np.round(g)) for g in good]
    inputs = [
        (good, truth), (fair, truth), (tied, truth), ([-g for g in good], truth),
        ([0.1, 0.4, 0.35, 0.8], [False, False, True, True]), ([1.0, 1.0, 1.0, 1.0], [True, False, True, False]),
    ]
    for scores, positive in inputs:
        one, other = components(scores, positive)
        area = sum(one) / len(one)
        assert abs(area - metrics.roc_auc_score(positive, scores)) < 1e-12
        variance = spread(one, one) + spread(other, other)
        error = mp.sqrt(variance)
        expected = {"estimate": area, "standard_error": error}
        if error > 0:
            expected |= {"low": max(area - z * error, 0), "high": min(area + z * error, 1)}
        case("auroc", "scikit-learn roc_auc_score; DeLong's variance from all pairs", {"scores": scores, "positive": positive},
             expected)
        alarm, hit, threshold = metrics.roc_curve(positive, scores, drop_intermediate=False)
        case("roc_curve", "scikit-learn roc_curve", {"scores": scores, "positive": positive},
             {"false_positive_rate": alarm, "true_positive_rate": hit, "threshold": threshold[1:]})
    for first, second in [(good, fair), (fair, tied), (tied, good)]:
        (one_1, other_1), (one_2, other_2) = components(first, truth), components(second, truth)
        difference = sum(one_1) / len(one_1) - sum(one_2) / len(one_2)
        variance = (spread(one_1, one_1) + spread(one_2, one_2) - 2 * spread(one_1, one_2)
                    + spread(other_1, other_1) + spread(other_2, other_2) - 2 * spread(other_1, other_2))
        error = mp.sqrt(variance)
        case("delong_test", "DeLong's covariance from all pairs", {"first": first, "second": second, "positive": truth},
             {"difference": difference, "standard_error": error, "low": difference - z * error,
              "high": difference + z * error, "p_value": mp.erfc(abs(difference) / error / mp.sqrt(2))})
    decided = [g > 0.5 for g in good]
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(truth, decided, average="binary")
    specificity = metrics.recall_score([not x for x in truth], [not x for x in decided])
    case("decisions", "scikit-learn", {"truth": truth, "decided": decided},
         {"accuracy": metrics.accuracy_score(truth, decided), "precision": precision, "recall": recall, "f1": f1,
          "specificity": specificity})
    labels, chosen = [int(x) for x in rng.integers(0, 4, 40)], [int(x) for x in rng.integers(0, 4, 40)]
    case("confusion", "scikit-learn confusion_matrix", {"truth": labels, "decided": chosen},
         {"counts": metrics.confusion_matrix(labels, chosen), "accuracy": metrics.accuracy_score(labels, chosen)})
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(labels, chosen)
    for index, label in enumerate(sorted({*labels, *chosen})):
        case("against_others", "scikit-learn precision_recall_fscore_support",
             {"truth": labels, "decided": chosen, "label": label},
             {"precision": precision[index], "recall": recall[index], "f1": f1[index]})


# ------------------------------------------------------------------------------------------------ survival


def survival() -> None:
    rng = np.random.default_rng(SEED + 5)
    freireich = ([6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35], [1] * 9 + [0] * 12)
    control = ([1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23], [1] * 21)
    made = ([float(t) for t in np.round(rng.exponential(5, 40), 1)], [int(e) for e in rng.uniform(size=40) < 0.7])
    groups = [freireich, control, made, ([3], [1]), ([1, 2, 2, 3], [0, 1, 0, 0])]
    for times, event in groups:
        ours = sorted(set(times))
        censored = stats.CensoredData(uncensored=[t for t, e in zip(times, event) if e],
                                      right=[t for t, e in zip(times, event) if not e])
        curve = stats.ecdf(censored).sf
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the ends where the interval is not defined
            interval = curve.confidence_interval(0.95, method="log-log")
        right = SurvfuncRight(times, event)
        errors = dict(zip(right.surv_times, right.surv_prob_se))
        steps = []
        for t in ours:
            position = list(curve.quantiles).index(t)
            s = curve.probabilities[position]
            step = {"time": t, "survival": s}
            # SciPy gives the interval at every time, statsmodels the error at times of events.
            if 0 < s < 1:
                step |= {"low": interval.low.probabilities[position], "high": interval.high.probabilities[position]}
                if t in errors:
                    step["standard_error"] = errors[t]
            steps.append(step)
        expected = {"steps": steps}
        if min(abs(step["survival"] - 0.5) for step in steps) > 1e-9:  # at exactly a half statsmodels takes the next time
            median = right.quantile(0.5)
            expected["median"] = None if math.isnan(median) else median
        case("kaplan_meier", "scipy ecdf(CensoredData), log-log; errors by statsmodels SurvfuncRight",
             {"times": times, "event": event, "level": 0.95}, expected)
    third = ([float(t) for t in np.round(rng.exponential(9, 25), 0)], [int(e) for e in rng.uniform(size=25) < 0.6])
    for chosen in [(freireich, control), (freireich, control, made), (made, third), (freireich, control, made, third)]:
        times = np.concatenate([times for times, _ in chosen])
        event = np.concatenate([event for _, event in chosen])
        group = np.concatenate([[number] * len(times) for number, (times, _) in enumerate(chosen)])
        statistic, p_value = survdiff(times, event, group)
        case("log_rank", "statsmodels survdiff", {"groups": chosen}, {"statistic": statistic, "p_value": p_value})


# ------------------------------------------------------------------------------------------------ order


def overlap_of(first, second, p, depth):
    """(1 - p) Σ pᵈ⁻¹ X_d/d down to `depth`, of lists at least so long."""
    total, common, a, b = mp.mpf(0), 0, set(), set()
    for d in range(1, depth + 1):
        a.add(first[d - 1])
        common += first[d - 1] in b
        b.add(second[d - 1])
        common += second[d - 1] in a
        total += p ** (d - 1) * mp.mpf(common) / d
    return (1 - p) * total


def overlap_case(first, second, p) -> None:
    """RBO_ext by equation 32 of Webber et al.; the bounds from the worst and the best continuation, written out."""
    q = mp.mpf(p)
    long, short = (first, second) if len(first) >= len(second) else (second, first)
    l, s = len(long), len(short)
    x = [len(set(long[:d]) & set(short[: min(d, s)])) for d in range(1, l + 1)]
    x_l, x_s = x[l - 1], x[s - 1]
    extrapolated = (1 - q) / q * (
        sum(mp.mpf(x[d - 1]) / d * q**d for d in range(1, l + 1))
        + sum(mp.mpf(x_s) * (d - s) / (s * d) * q**d for d in range(s + 1, l + 1))
    ) + (mp.mpf(x_l - x_s) / l + mp.mpf(x_s) / s) * q**l
    depth = math.ceil(math.log(1e-18) / math.log(p))
    worst = overlap_of(long + [f"a{i}" for i in range(depth)], short + [f"b{i}" for i in range(depth)], q, depth)
    more = [f"c{i}" for i in range(depth)]
    best_long = long + [member for member in short if member not in long] + more
    best_short = short + [member for member in long if member not in short] + more
    best = overlap_of(best_long, best_short, q, depth)
    case("rank_biased_overlap", "Webber, Moffat and Zobel (2010): equation 32, bounds by continued lists",
         {"first": first, "second": second, "p": p}, {"estimate": extrapolated, "low": worst, "high": best})


def order() -> None:
    rng = np.random.default_rng(SEED + 6)
    groups = [
        ([19, 22, 16, 29, 24], [20, 11, 17, 12], "exact"), ([1.0], [2.0], "exact"), ([1, 2, 3], [4, 5, 6, 7], "exact"),
        (list(rng.normal(size=28)), list(rng.normal(0.4, 1, 30)), "exact"),
        ([1, 1, 2, 3, 3, 3], [2, 3, 3, 4, 5], "asymptotic"), ([0, 1, 0, 1, 1], [0, 0, 1, 0], "asymptotic"),
        (list(rng.normal(size=35)), list(rng.normal(0.5, 1, 33)), "asymptotic"),
        ([1, 2, 2, 3], [1, 2, 2, 3], "asymptotic"),
    ]
    for x, y, method in groups:
        found = stats.mannwhitneyu(x, y, alternative="two-sided", method=method, use_continuity=True)
        case("mann_whitney", f"scipy mannwhitneyu({method})", {"x": x, "y": y},
             {"u": found.statistic, "p_value": found.pvalue, "exact": method == "exact"})
    for values in [[3.0, 1.0, 3.0, -2.0, 3.0, 1.0], [5.0], list(rng.normal(size=7))]:
        case("ranks", "scipy rankdata", {"values": values}, {"ranks": stats.rankdata(values)})
    n = 40
    base = rng.normal(size=n)
    pairs = [
        ([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]), ([12, 2, 1, 12, 2], [1, 4, 7, 1, 0]), ([1, 2, 3, 4], [1, 2, 3, 4]),
        ([1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]), (list(rng.normal(size=9)), list(rng.normal(size=9))),
        (list(base), list(base + rng.normal(size=n))), (list(np.round(base)), list(np.round(base + rng.normal(size=n)))),
        ([0, 0, 1, 1, 1, 0, 1], [0, 1, 1, 1, 0, 0, 1]), ([1, 2, 3], [3, 1, 2]), ([1, 1, 2], [2, 1, 1]),
    ]
    for x, y in pairs:
        found = stats.kendalltau(x, y)
        case("kendall", "scipy kendalltau", {"x": x, "y": y}, {"estimate": found.statistic, "p_value": found.pvalue})
        found = stats.spearmanr(x, y)
        case("spearman", "scipy spearmanr", {"x": x, "y": y}, {"estimate": found.statistic, "p_value": found.pvalue})
    for values in [[1, 1, 1], [0, 0, 5], [1, 2, 3, 4], [7], list(rng.lognormal(size=30)), [0, 0, 0, 1e300, 1e300]]:
        exact = [mp.mpf(float(value)) for value in values]
        mean_difference = sum(abs(a - b) for a, b in itertools.product(exact, exact)) / len(exact) ** 2
        case("gini", "half the mean difference of all pairs over the mean, in 40 digits", {"values": values},
             {"value": mean_difference / (2 * sum(exact) / len(exact))})
    letters = list("abcdefghijklmnop")
    for first, second, p in [
        (list("abcdefg"), list("abcdefg"), 0.9), (list("abc"), list("xyz"), 0.9), (list("abcde"), list("bacxe"), 0.5),
        (list("a"), list("a"), 0.98), (list("abcdefgh"), list("cax"), 0.9), (list("qb"), list("abcdefgh"), 0.7),
        (letters, [str(x) for x in rng.permutation(letters)], 0.95), (list("abcdz"), list("zyxwvuta"), 0.8),
        (letters[:10], letters[10:] + letters[:3], 0.98),
    ]:
        overlap_case(first, second, p)


# ------------------------------------------------------------------------------------------------ judges


def judges() -> None:
    for flagged, n, hits, positives, passes, negatives, level in [
        (60, 200, 50, 60, 48, 60, 0.95), (8, 78, 50, 100, 199, 200, 0.95), (0, 50, 18, 20, 19, 20, 0.95),
        (50, 50, 18, 20, 19, 20, 0.9), (30, 100, 20, 20, 20, 20, 0.95), (2, 100, 45, 50, 40, 50, 0.95),
    ]:
        z = normal_quantile((1 + mp.mpf(level)) / 2)
        recover = lambda p, se, sp: (p + sp - 1) / (se + sp - 1)
        clip = lambda x: min(max(x, mp.mpf(0)), mp.mpf(1))
        estimate = recover(mp.mpf(flagged) / n, mp.mpf(hits) / positives, mp.mpf(passes) / negatives)
        m, m1, m0 = n + z**2, positives + 2, negatives + 2
        p, se, sp = (flagged + z**2 / 2) / m, mp.mpf(hits + 1) / m1, mp.mpf(passes + 1) / m0
        centre = recover(p, se, sp)
        # The delta method: squares of the partial derivatives of `recover`, by differentiation.
        variances = [p * (1 - p) / m, se * (1 - se) / m1, sp * (1 - sp) / m0]
        slopes = [mp.diff(recover, (p, se, sp), order) for order in [(1, 0, 0), (0, 1, 0), (0, 0, 1)]]
        error = mp.sqrt(sum(v * d**2 for v, d in zip(variances, slopes)))
        shift = 2 * z**2 * (centre * variances[1] - (1 - centre) * variances[2])
        case("corrected_rate", "Lang and Reiczigel (2014) by definition, delta method by differentiation",
             {"flagged": flagged, "n": n, "validation": [hits, positives, passes, negatives], "level": level},
             {"estimate": clip(estimate), "low": clip(centre + shift - z * error), "high": clip(centre + shift + z * error)})


def numbers(value) -> int:
    if isinstance(value, dict):
        return sum(numbers(part) for part in value.values())
    if isinstance(value, list):
        return sum(numbers(part) for part in value)
    return int(isinstance(value, (int, float)) and not isinstance(value, bool))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    out = parser.parse_args().out
    for part in [distributions, rates, pairs, bootstraps, permutations, many_tests, agreement, areas, survival, order, judges]:
        part()
    packages = ["numpy", "scipy", "statsmodels", "scikit-learn", "krippendorff", "mpmath"]
    lines = ",\n".join(json.dumps(case, allow_nan=False) for case in CASES)
    versions = json.dumps({name: version(name) for name in packages})
    out.mkdir(parents=True, exist_ok=True)
    (out / "expected.json").write_text(f'{{\n"versions": {versions},\n"cases": [\n{lines}\n]\n}}\n')
    print(len(CASES), "cases,", sum(numbers(case["expected"]) for case in CASES), "values")


if __name__ == "__main__":
    main()
