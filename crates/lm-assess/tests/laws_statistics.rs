//! What holds of every input: order does not matter, exchanged sides mirror the result, more of a thing is never less.

use lm_assess::stats::{
    Alternative, JudgeValidation, KappaWeights, PairedMethod, Pairs, PermutationOptions, auroc,
    benjamini_hochberg, clopper_pearson, cohen_kappa, corrected_rate, delong_test, difference,
    fleiss_kappa, gini, holm, kaplan_meier, kappa_of_table, kendall, krippendorff_alpha, log_rank,
    mann_whitney, mcnemar, paired_difference, paired_permutation, percentile_interval,
    rank_biased_overlap, roc_curve, spearman, two_sample_permutation, wilson,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Sums in another order round differently.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-10 * a.abs().max(1.0)
}

macro_rules! assert_near {
    ($a:expr, $b:expr) => {
        let (a, b): (f64, f64) = ($a, $b);
        prop_assert!(near(a, b), "{a} and {b}");
    };
}

/// Values with ties.
fn value() -> impl Strategy<Value = f64> {
    (-20_i32..20).prop_map(|value| f64::from(value) / 4.0)
}

/// Items, and the same ones in another order.
fn shuffled<T: Clone + std::fmt::Debug>(
    items: impl Strategy<Value = Vec<T>>,
) -> impl Strategy<Value = (Vec<T>, Vec<T>)> {
    items.prop_flat_map(|items| (Just(items.clone()), Just(items).prop_shuffle()))
}

fn split<A, B>(items: Vec<(A, B)>) -> (Vec<A>, Vec<B>) {
    items.into_iter().unzip()
}

/// A ranking of some of twelve members.
fn ranking() -> impl Strategy<Value = Vec<u8>> {
    (
        Just((0..12).collect::<Vec<u8>>()).prop_shuffle(),
        1..12_usize,
    )
        .prop_map(|(members, length)| members.into_iter().take(length).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn limits_of_a_rate_grow_with_the_successes(n in 1_u64..400, k in 0_u64..400, level in 0.5..0.999) {
        let k = k % n;
        for interval in [wilson, clopper_pearson] {
            let (one, more) = (interval(k, n, level)?.unwrap(), interval(k + 1, n, level)?.unwrap());
            prop_assert!(one.low < more.low && one.high < more.high, "{one:?} {more:?}");
            prop_assert!(0.0 <= one.low && one.low <= one.estimate && one.estimate <= one.high && one.high <= 1.0);
            let failures = interval(n - k, n, level)?.unwrap();
            assert_near!(failures.low, 1.0 - one.high);
            let surer = interval(k, n, (1.0 + level) / 2.0)?.unwrap();
            prop_assert!(surer.low <= one.low && one.high <= surer.high);
        }
    }

    #[test]
    fn exchanged_groups_negate_a_difference(n1 in 1_u64..90, n2 in 1_u64..90, k1 in 0_u64..90, k2 in 0_u64..90) {
        let (first, second) = ((k1 % (n1 + 1), n1), (k2 % (n2 + 1), n2));
        let (found, mirrored) = (difference(first, second, 0.95)?.unwrap(), difference(second, first, 0.95)?.unwrap());
        assert_near!(found.low, -mirrored.high);
        assert_near!(found.high, -mirrored.low);
        prop_assert!(-1.0 <= found.low && found.low <= found.estimate && found.estimate <= found.high && found.high <= 1.0);
    }

    #[test]
    fn exchanged_conditions_negate_a_paired_difference(
        both in 0_u64..40, first_only in 0_u64..40, second_only in 0_u64..40, neither in 1_u64..40,
    ) {
        let pairs = Pairs { both, first_only, second_only, neither };
        let swapped = Pairs { first_only: second_only, second_only: first_only, ..pairs };
        let failures = Pairs { both: neither, neither: both, ..pairs };
        for method in [PairedMethod::Tango, PairedMethod::Newcombe] {
            let found = paired_difference(&pairs, method, 0.95)?.unwrap();
            let mirrored = paired_difference(&swapped, method, 0.95)?.unwrap();
            assert_near!(found.low, -mirrored.high);
            assert_near!(found.high, -mirrored.low);
            // Failures instead of successes change the sign, and so does the order of conditions: together nothing.
            let twice = paired_difference(&failures, method, 0.95)?.unwrap();
            assert_near!(found.low, twice.low);
            assert_near!(found.high, twice.high);
            prop_assert!(-1.0 <= found.low && found.low <= found.estimate && found.estimate <= found.high && found.high <= 1.0);
        }
        let (test, mirrored) = (mcnemar(&pairs), mcnemar(&swapped));
        assert_near!(test.p_value, mirrored.p_value);
        assert_near!(test.mid_p_value, mirrored.mid_p_value);
        prop_assert!(0.0 < test.mid_p_value && test.mid_p_value <= test.p_value && test.p_value <= 1.0);
        // One pair moved to the side that has more speaks more against equal rates.
        if first_only >= second_only && second_only > 0 {
            let further = Pairs { first_only: first_only + 1, second_only: second_only - 1, ..pairs };
            prop_assert!(mcnemar(&further).mid_p_value < test.mid_p_value);
        }
    }

    #[test]
    fn a_judge_of_the_opposite_mirrors_the_rate(
        n in 1_u64..200, flagged in 0_u64..200, positives in 1_u64..50, negatives in 1_u64..50,
        missed in 0_u64..50, alarms in 0_u64..50,
    ) {
        let flagged = flagged % (n + 1);
        let validation = JudgeValidation {
            true_positives: positives - missed % (positives + 1), positives,
            true_negatives: negatives - alarms % (negatives + 1), negatives,
        };
        let opposite = JudgeValidation {
            true_positives: validation.true_negatives, positives: negatives,
            true_negatives: validation.true_positives, negatives: positives,
        };
        let found = corrected_rate(flagged, n, &validation, 0.95)?;
        let mirrored = corrected_rate(n - flagged, n, &opposite, 0.95)?;
        prop_assert_eq!(found.is_some(), mirrored.is_some());
        if let Some((found, mirrored)) = found.zip(mirrored) {
            assert_near!(found.estimate, 1.0 - mirrored.estimate);
            assert_near!(found.low, 1.0 - mirrored.high);
            assert_near!(found.high, 1.0 - mirrored.low);
        }
    }

    #[test]
    fn exchanged_raters_and_the_order_of_items_leave_agreement(
        (items, other_order) in shuffled(vec((0_u8..4, 0_u8..4), 1..40)),
    ) {
        let (first, second) = split(items);
        let found = cohen_kappa(&first, &second, 0.95)?;
        let swapped = cohen_kappa(&second, &first, 0.95)?;
        let (first, second) = split(other_order);
        let reordered = cohen_kappa(&first, &second, 0.95)?;
        prop_assert_eq!(found.is_some(), swapped.is_some());
        prop_assert_eq!(found.is_some(), reordered.is_some());
        if let (Some(found), Some(swapped), Some(reordered)) = (found, swapped, reordered) {
            assert_near!(found.estimate, swapped.estimate);
            assert_near!(found.estimate, reordered.estimate);
            prop_assert!((-1.0..=1.0).contains(&found.estimate));
            // A root of rounding where the raters agree always.
            prop_assert!((found.standard_error - swapped.standard_error).abs() < 1e-7);
        }
    }

    #[test]
    fn weighted_agreement_has_no_direction(table in vec(vec(0_u64..9, 3), 3)) {
        let transposed: Vec<Vec<u64>> = (0..3).map(|column| table.iter().map(|row| row[column]).collect()).collect();
        let reversed: Vec<Vec<u64>> = table.iter().rev().map(|row| row.iter().rev().copied().collect()).collect();
        for weights in [KappaWeights::Equal, KappaWeights::Linear, KappaWeights::Quadratic] {
            let of = |table: &[Vec<u64>]| kappa_of_table(table, weights, 0.95).map(|found| found.map(|found| found.estimate));
            if let Some(found) = of(&table)? {
                assert_near!(found, of(&transposed)?.unwrap());
                assert_near!(found, of(&reversed)?.unwrap());
            }
        }
    }

    #[test]
    fn a_panel_has_no_order((items, other_order) in shuffled(vec(vec(0_u8..3, 4), 2..20))) {
        let counts = |items: &[Vec<u8>]| -> Vec<Vec<u64>> {
            let of = |item: &Vec<u8>| (0..3).map(|c| item.iter().filter(|&&rating| rating == c).count() as u64).collect();
            items.iter().map(of).collect()
        };
        let ratings = |items: &[Vec<u8>], backwards: bool| -> Vec<Vec<Option<u8>>> {
            let of = |item: &Vec<u8>| {
                let mut item: Vec<_> = item.iter().copied().map(Some).collect();
                if backwards { item.reverse(); }
                item
            };
            items.iter().map(of).collect()
        };
        let (found, reordered) = (fleiss_kappa(&counts(&items))?, fleiss_kappa(&counts(&other_order))?);
        let alpha = krippendorff_alpha(&ratings(&items, false));
        let backwards = krippendorff_alpha(&ratings(&other_order, true));
        prop_assert_eq!(found.is_some(), alpha.is_some());
        if let (Some(found), Some(reordered), Some(alpha), Some(backwards)) = (found, reordered, alpha, backwards) {
            assert_near!(found.estimate, reordered.estimate);
            assert_near!(alpha.estimate, backwards.estimate);
            // With all ratings there, alpha is Fleiss' kappa corrected for a small sample: 1 - (1 - κ)(N - 1)/N of N ratings.
            let ratings = 4.0 * items.len() as f64;
            assert_near!(1.0 - alpha.estimate, (1.0 - found.estimate) * (ratings - 1.0) / ratings);
        }
    }

    #[test]
    fn exchanged_labels_mirror_the_area((items, other_order) in shuffled(vec((value(), any::<bool>()), 2..40))) {
        let (scores, positive) = split(items);
        let negative: Vec<bool> = positive.iter().map(|positive| !positive).collect();
        let Some(found) = auroc(&scores, &positive, 0.95)? else {
            prop_assert_eq!(auroc(&scores, &negative, 0.95)?, None);
            return Ok(());
        };
        let mirrored = auroc(&scores, &negative, 0.95)?.unwrap();
        assert_near!(found.estimate, 1.0 - mirrored.estimate);
        prop_assert_eq!(found.standard_error.is_some(), mirrored.standard_error.is_some());
        if let Some((one, other)) = found.standard_error.zip(mirrored.standard_error) {
            assert_near!(one, other);
        }
        // Only the order of scores counts, and not the order of items.
        let cubes: Vec<f64> = scores.iter().map(|score| score.powi(3)).collect();
        assert_near!(found.estimate, auroc(&cubes, &positive, 0.95)?.unwrap().estimate);
        let (scores_2, positive_2) = split(other_order);
        assert_near!(found.estimate, auroc(&scores_2, &positive_2, 0.95)?.unwrap().estimate);
        // It is the area under the curve, and Mann's and Whitney's share of pairs.
        let area: f64 = roc_curve(&scores, &positive)?.unwrap().windows(2).map(|pair| {
            (pair[1].false_positive_rate - pair[0].false_positive_rate)
                * (pair[1].true_positive_rate + pair[0].true_positive_rate) / 2.0
        }).sum();
        assert_near!(found.estimate, area);
        let of = |class: bool| -> Vec<f64> {
            scores.iter().zip(&positive).filter(|item| *item.1 == class).map(|item| *item.0).collect()
        };
        let (one, other) = (of(true), of(false));
        let test = mann_whitney(&one, &other)?.unwrap();
        assert_near!(found.estimate, test.superiority);
        let mirrored = mann_whitney(&other, &one)?.unwrap();
        assert_near!(test.u + mirrored.u, (one.len() * other.len()) as f64);
        prop_assert_eq!(test.p_value.is_some(), mirrored.p_value.is_some());
        if let Some((p, q)) = test.p_value.zip(mirrored.p_value) {
            assert_near!(p, q);
            prop_assert!((0.0..=1.0).contains(&p));
        }
    }

    #[test]
    fn exchanged_scores_negate_their_difference(items in vec((value(), value(), any::<bool>()), 2..40)) {
        let first: Vec<f64> = items.iter().map(|item| item.0).collect();
        let second: Vec<f64> = items.iter().map(|item| item.1).collect();
        let positive: Vec<bool> = items.iter().map(|item| item.2).collect();
        if let Some(found) = delong_test(&first, &second, &positive, 0.95)? {
            let swapped = delong_test(&second, &first, &positive, 0.95)?.unwrap();
            assert_near!(found.difference, -swapped.difference);
            prop_assert_eq!(found.p_value.is_some(), swapped.p_value.is_some());
            if let Some((p, q)) = found.p_value.zip(swapped.p_value) {
                assert_near!(p, q);
            }
            let same = delong_test(&first, &first, &positive, 0.95)?.unwrap();
            prop_assert_eq!((same.difference, same.p_value), (0.0, None));
        }
    }

    #[test]
    fn adjusted_p_values_keep_their_order((p_values, other_order) in shuffled(vec(0.0..=1.0_f64, 1..20))) {
        let (strict, mild) = (holm(&p_values)?, benjamini_hochberg(&p_values)?);
        for adjusted in [&strict, &mild] {
            for (p, q) in p_values.iter().zip(adjusted) {
                // Benjamini and Hochberg multiply the largest by m/m.
                prop_assert!(*q >= p * (1.0 - 1e-15) && *q <= 1.0);
                for (other, adjusted) in p_values.iter().zip(adjusted) {
                    prop_assert!(p > other || q <= adjusted);
                }
            }
        }
        prop_assert!(mild.iter().zip(&strict).all(|(mild, strict)| *mild <= strict * (1.0 + 1e-15)));
        // To each its own, in whatever order they come.
        for (adjust, found) in [(holm as fn(&[f64]) -> _, &strict), (benjamini_hochberg, &mild)] {
            let reordered: lm_assess::stats::Result<Vec<f64>> = adjust(&other_order);
            let reordered = reordered?;
            for (p, q) in p_values.iter().zip(found) {
                let place = other_order.iter().position(|other| other == p).unwrap();
                assert_near!(*q, reordered[place]);
            }
        }
    }

    #[test]
    fn exchanged_groups_mirror_a_permutation_test(
        (first, other_order) in shuffled(vec(value(), 1..6)), second in vec(value(), 1..6),
    ) {
        let with = |alternative| PermutationOptions { alternative, ..PermutationOptions::default() };
        let p = |x: &[f64], y: &[f64], alternative| {
            two_sample_permutation(x, y, &with(alternative)).map(|found| found.unwrap().p_value)
        };
        for (alternative, opposite) in [
            (Alternative::TwoSided, Alternative::TwoSided), (Alternative::Greater, Alternative::Less),
        ] {
            assert_near!(p(&first, &second, alternative)?, p(&second, &first, opposite)?);
            assert_near!(p(&first, &second, alternative)?, p(&other_order, &second, alternative)?);
            let n = first.len().min(second.len());
            let (x, y) = (&first[..n], &second[..n]);
            let found = paired_permutation(x, y, &with(alternative))?.unwrap();
            assert_near!(found.p_value, paired_permutation(y, x, &with(opposite))?.unwrap().p_value);
        }
    }

    #[test]
    fn a_reversed_order_negates_a_correlation((items, other_order) in shuffled(vec((value(), value()), 2..40))) {
        let (first, second) = split(items);
        let reversed: Vec<f64> = second.iter().map(|value| -value).collect();
        let (first_2, second_2) = split(other_order);
        for correlation in [kendall, spearman] {
            let found = correlation(&first, &second)?;
            let others = [correlation(&second, &first)?, correlation(&first, &reversed)?, correlation(&first_2, &second_2)?];
            for (other, sign) in others.into_iter().zip([1.0, -1.0, 1.0]) {
                prop_assert_eq!(found.is_some(), other.is_some());
                if let Some((found, other)) = found.zip(other) {
                    assert_near!(found.estimate, sign * other.estimate);
                    prop_assert_eq!(found.p_value.is_some(), other.p_value.is_some());
                    assert_near!(found.p_value.unwrap_or(0.0), other.p_value.unwrap_or(0.0));
                }
            }
            if let Some(itself) = correlation(&first, &first)? {
                prop_assert_eq!(itself.estimate, 1.0);
            }
        }
    }

    #[test]
    fn a_ranking_overlaps_with_itself_wholly(first in ranking(), second in ranking(), p in 0.05..0.99) {
        let own = rank_biased_overlap(&first, &first, p)?.unwrap();
        assert_near!(own.estimate, 1.0);
        assert_near!(own.high, 1.0);
        let found = rank_biased_overlap(&first, &second, p)?.unwrap();
        let swapped = rank_biased_overlap(&second, &first, p)?.unwrap();
        assert_near!(found.estimate, swapped.estimate);
        assert_near!(found.low, swapped.low);
        assert_near!(found.high, swapped.high);
        prop_assert!(found.low <= found.estimate + 1e-12 && found.estimate <= found.high + 1e-12, "{found:?}");
        // What is read further down only narrows the bounds.
        let shorter = |ranking: &[u8]| ranking[..ranking.len().div_ceil(2)].to_vec();
        let head = rank_biased_overlap(&shorter(&first), &shorter(&second), p)?.unwrap();
        prop_assert!(head.low <= found.low + 1e-12 && found.high <= head.high + 1e-12, "{head:?} {found:?}");
    }

    #[test]
    fn concentration_has_neither_unit_nor_order((values, other_order) in shuffled(vec(0.0..100.0_f64, 1..30)), unit in 1e-6..1e6_f64) {
        if let Some(found) = gini(&values)? {
            let scaled: Vec<f64> = values.iter().map(|value| value * unit).collect();
            assert_near!(found, gini(&scaled)?.unwrap());
            assert_near!(found, gini(&other_order)?.unwrap());
            prop_assert!(found > -1e-12 && found <= 1.0 - 1.0 / values.len() as f64 + 1e-12);
        }
    }

    #[test]
    fn survival_never_rises((items, other_order) in shuffled(vec((0_u8..12, any::<bool>()), 1..30)), cut in 0_usize..30) {
        let of = |items: Vec<(u8, bool)>| -> (Vec<f64>, Vec<bool>) {
            items.into_iter().map(|(time, event)| (f64::from(time), event)).unzip()
        };
        let ((times, event), (times_2, event_2)) = (of(items), of(other_order));
        let found = kaplan_meier(&times, &event, 0.95)?.unwrap();
        prop_assert_eq!(&found, &kaplan_meier(&times_2, &event_2, 0.95)?.unwrap());
        prop_assert!(found.steps.windows(2).all(|pair| pair[1].survival <= pair[0].survival));
        for step in &found.steps {
            if let Some((low, high)) = step.low.zip(step.high) {
                prop_assert!(0.0 <= low && low <= step.survival && step.survival <= high && high <= 1.0, "{step:?}");
            }
        }
        let cut = cut % (times.len() + 1);
        let one = (&times[..cut], &event[..cut]);
        let other = (&times[cut..], &event[cut..]);
        let (test, swapped) = (log_rank(&[one, other])?, log_rank(&[other, one])?);
        prop_assert_eq!(test.is_some(), swapped.is_some());
        if let Some((test, swapped)) = test.zip(swapped) {
            assert_near!(test.statistic, swapped.statistic);
        }
    }

    #[test]
    fn quantiles_move_with_the_replicates((replicates, other_order) in shuffled(vec(value(), 1..50)), level in 0.5..0.99) {
        let (low, high) = percentile_interval(&replicates, level)?.unwrap();
        prop_assert_eq!(Some((low, high)), percentile_interval(&other_order, level)?);
        let negated: Vec<f64> = replicates.iter().map(|value| 3.0 - 2.0 * value).collect();
        let mirrored = percentile_interval(&negated, level)?.unwrap();
        assert_near!(mirrored.0, 3.0 - 2.0 * high);
        assert_near!(mirrored.1, 3.0 - 2.0 * low);
    }
}
