//! What has no denominator, and what is refused.

use lm_assess::stats::{
    Alternative, BootstrapOptions, Decisions, Design, KappaWeights, PairedMethod, Pairs,
    PermutationOptions, auroc, bca_interval, bootstrap, clopper_pearson, cohen_kappa, fleiss_kappa,
    gini, kaplan_meier, kappa_of_table, kendall, mann_whitney, mcnemar, paired_difference,
    paired_permutation, percentile_interval, rank_biased_overlap, replicates, spearman,
    two_sample_permutation, wilson,
};

#[test]
fn what_has_no_denominator_is_none() {
    assert_eq!(wilson(0, 0, 0.95), Ok(None));
    assert_eq!(clopper_pearson(0, 0, 0.95), Ok(None));
    assert_eq!(auroc(&[0.1, 0.2], &[true, true], 0.95), Ok(None));
    assert_eq!(cohen_kappa(&[1, 1], &[1, 1], 0.95), Ok(None));
    assert_eq!(gini(&[0.0, 0.0]), Ok(None));
    assert_eq!(kaplan_meier(&[], &[], 0.95), Ok(None));
    assert_eq!(kendall(&[1.0, 1.0], &[1.0, 2.0]), Ok(None));
    assert_eq!(spearman(&[1.0, 2.0], &[3.0, 3.0]), Ok(None));
    assert_eq!(mann_whitney(&[], &[1.0]), Ok(None));
    assert_eq!(rank_biased_overlap(&["a"], &[], 0.9), Ok(None));
    assert_eq!(Decisions::default().f1(), None);
    let nothing = bootstrap(&Design::items(0), &BootstrapOptions::default(), |_| {
        Some(1.0)
    });
    assert_eq!(nothing, Ok(None));
    // All replicates above the estimate: no bias correction can be told.
    assert_eq!(bca_interval(0.0, &[1.0, 2.0], &[0.0, 1.0], 0.95), Ok(None));
    let perfect = auroc(&[1.0, 2.0, 3.0, 4.0], &[false, false, true, true], 0.95);
    let perfect = perfect.unwrap().unwrap();
    assert_eq!((perfect.estimate, perfect.low), (1.0, None));
}

#[test]
fn what_is_refused_is_named() {
    let message = |error: lm_assess::stats::StatsError| error.to_string();
    assert_eq!(
        wilson(3, 2, 0.95).map_err(message),
        Err("`successes`: expected at most the 2 trials, found 3".to_owned())
    );
    assert_eq!(
        wilson(1, 2, 1.0).map_err(message),
        Err("`level`: expected between 0 and 1, found 1".to_owned())
    );
    assert_eq!(
        spearman(&[1.0, f64::NAN], &[1.0, 2.0]).map_err(message),
        Err("`first[1]`: expected a finite number, found NaN".to_owned())
    );
    assert_eq!(
        auroc(&[1.0], &[true, false], 0.9).map_err(message),
        Err("`positive`: expected 1 elements, as `scores` has, found 2".to_owned())
    );
    assert!(rank_biased_overlap(&["a", "a"], &["b"], 0.9).is_err());
    assert_eq!(
        clopper_pearson(1, u64::MAX, 0.95).map_err(message),
        Err("`trials`: expected at most 1000000000000, found 18446744073709551615".to_owned())
    );
    let many = Pairs {
        both: u64::MAX,
        neither: 1,
        ..Pairs::default()
    };
    assert!(paired_difference(&many, PairedMethod::Tango, 0.95).is_err());
    assert!(kappa_of_table(&[vec![u64::MAX, 1], vec![1, 1]], KappaWeights::Equal, 0.95).is_err());
    assert!(fleiss_kappa(&[vec![u64::MAX, u64::MAX], vec![u64::MAX, 3]]).is_err());
    let options = PermutationOptions::default();
    assert!(two_sample_permutation(&[1e308, 1e308], &[-1e308], &options).is_err());
    assert!(paired_permutation(&[8e307; 3], &[-8e307; 3], &options).is_err());
    let not_a_number = bootstrap(&Design::items(2), &BootstrapOptions::default(), |_| {
        Some(f64::NAN)
    });
    assert_eq!(
        not_a_number.map_err(message),
        Err("`estimate`: expected a finite number, found NaN".to_owned())
    );
}

/// Counts and numbers at the end of their types give what they would in the middle.
#[test]
fn huge_and_tiny_values_do_not_overflow() {
    let rate = wilson(u64::MAX, u64::MAX, 0.95).unwrap().unwrap();
    assert!(0.999_999 < rate.low && rate.high == 1.0, "{rate:?}");
    let many = mcnemar(&Pairs {
        first_only: u64::MAX,
        second_only: u64::MAX - 10,
        ..Pairs::default()
    });
    assert!(many.p_value > 0.999_999, "{many:?}");
    assert_eq!(gini(&[5e-324, 1.7e308]), Ok(Some(0.5)));
    let overlap = rank_biased_overlap(&["a", "b"], &["a", "c"], 5e-324);
    assert_eq!(overlap.unwrap().map(|found| found.estimate), Some(1.0));
    for unit in [1e-300, 1.0, 1e300] {
        let [replicates, jackknife] =
            [[-1.0, 1.0, 2.0], [1.0, 2.0, 0.0]].map(|values| values.map(|value| value * unit));
        let (low, high) = bca_interval(0.0, &replicates, &jackknife, 0.95)
            .unwrap()
            .unwrap();
        assert!((low / unit + 1.0).abs() < 0.1 && (high / unit - 2.0).abs() < 0.5);
    }
    let wide = percentile_interval(&[-1.7e308, 1.7e308], 0.5).unwrap();
    assert!(wide.is_some_and(|(low, high)| low == -high && high < 1e308));
}

#[test]
fn replicates_do_not_depend_on_how_they_are_shared_out() {
    let values = [1.0, 4.0, 2.0, 8.0, 5.0, 7.0];
    let mean = |items: &[usize]| Some(items.iter().map(|&i| values[i]).sum::<f64>());
    let design = Design::clusters(&["a", "a", "b", "c", "c", "c"]);
    let whole = replicates(&design, 3, 0..100, mean);
    let mut parts = replicates(&design, 3, 0..40, mean);
    parts.extend(replicates(&design, 3, 40..100, mean));
    assert_eq!(whole, parts);
    assert_ne!(whole, replicates(&design, 4, 0..100, mean));
    // Strata keep their sizes.
    let strata = Design::strata(&[0, 1, 0, 1, 1]);
    for replicate in 0..50 {
        let drawn = strata.draw(0, replicate);
        let of_first = drawn.iter().filter(|&&item| item == 0 || item == 2).count();
        assert_eq!((drawn.len(), of_first), (5, 2));
    }
}

/// Airway hyper-responsiveness before and after a transplantation: 1 child with it at both times, 1 and 7 at one, 12 at neither.
/// Fagerland, Lydersen and Laake, "Recommended tests and confidence intervals for paired binomial proportions", 2014.
#[test]
fn a_published_example_of_pairs_is_met() {
    let pairs = Pairs {
        both: 1,
        first_only: 1,
        second_only: 7,
        neither: 12,
    };
    let digits = |value: f64| (value * 1000.0).round() / 1000.0;
    let test = mcnemar(&pairs);
    assert_eq!(
        (digits(test.p_value), digits(test.mid_p_value)),
        (0.07, 0.039)
    );
    for (method, ends) in [
        (PairedMethod::Tango, (-0.517, -0.026)),
        (PairedMethod::Newcombe, (-0.507, -0.026)),
    ] {
        let found = paired_difference(&pairs, method, 0.95).unwrap().unwrap();
        assert_eq!((digits(found.low), digits(found.high)), ends, "{method:?}");
    }
}

/// 3 against 1 and 2: the three arrangements differ by 1.5, 0 and -1.5.
#[test]
fn a_group_of_one_can_be_permuted() {
    for (alternative, p_value) in [
        (Alternative::TwoSided, 2.0 / 3.0),
        (Alternative::Greater, 1.0 / 3.0),
        (Alternative::Less, 1.0),
    ] {
        let options = PermutationOptions {
            alternative,
            ..PermutationOptions::default()
        };
        let found = two_sample_permutation(&[3.0], &[1.0, 2.0], &options).unwrap();
        let found = found.map(|found| (found.statistic, found.p_value, found.permutations));
        assert_eq!(found, Some((1.5, p_value, 3)));
    }
}

/// Of the 20 ways to choose three of 1, 2, 3, 1, 2, 3, 8 have a difference of 0, and half of the others one above. In tenths
/// the sums of these 8 round differently.
#[test]
fn differences_that_are_equal_but_for_rounding_are_equal() {
    let options = PermutationOptions {
        alternative: Alternative::Greater,
        ..PermutationOptions::default()
    };
    for unit in [1.0, 0.1, 1e-30] {
        let [x, y] = [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]].map(|values| values.map(|v| v * unit));
        let found = two_sample_permutation(&x, &y, &options).unwrap().unwrap();
        assert_eq!(found.p_value, 0.7, "{unit}");
    }
}

/// Random exchanges come near the exact share, and never give 0.
#[test]
fn random_permutations_are_near_all_of_them() {
    let (x, y) = ([2.1, 3.4, 1.9, 4.4, 3.0], [1.0, 2.0, 0.4, 2.6, 1.1, 0.2]);
    let exact = two_sample_permutation(&x, &y, &PermutationOptions::default());
    let drawn = PermutationOptions {
        exact_up_to: 0,
        permutations: 20_000,
        ..PermutationOptions::default()
    };
    let random = two_sample_permutation(&x, &y, &drawn).unwrap().unwrap();
    let exact = exact.unwrap().unwrap();
    assert!(exact.exact && !random.exact && random.p_value > 0.0);
    // Four standard errors.
    let bound = 4.0 * (exact.p_value * (1.0 - exact.p_value) / 20_000.0).sqrt() + 1e-4;
    assert!(
        (random.p_value - exact.p_value).abs() < bound,
        "{random:?} {exact:?}"
    );
}
