use proptest::prelude::*;
use serde::Deserialize;

use super::mass::Masses;
use super::*;
use crate::logits;

/// What may be chosen, in the order in which draws go through it, by sorting everything.
fn plain(sampling: &Sampling, logits: &[f32]) -> Vec<(u32, u64)> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let masses = Masses::new(top, sampling.temperature, logits.len());
    let mut ranked: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    ranked.retain(|(_, logit)| *logit > f32::NEG_INFINITY);
    // Stable, so that equal ones stay in the order of their ids.
    ranked.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap());
    ranked.truncate(sampling.top_k.unwrap_or(usize::MAX));
    let mass = |logit: f32| u128::from(masses.of(logit));
    if let Some(p) = sampling.top_p {
        let total: u128 = ranked.iter().map(|(_, logit)| mass(*logit)).sum();
        // p is a whole number of 2^-60 here.
        let wanted = total * (f64::from(p) * 2.0_f64.powi(60)) as u128;
        let mut before = 0;
        ranked.retain(|(_, logit)| {
            let keep = before << 60 < wanted;
            before += mass(*logit);
            keep
        });
    }
    if let Some(p) = sampling.min_p {
        let least = f64::from(top) + f64::from(sampling.temperature) * f64::from(p).ln();
        ranked.retain(|(_, logit)| f64::from(*logit) >= least);
    }
    if sampling.top_p.is_none() && sampling.top_k.is_none_or(|k| k >= logits.len()) {
        ranked.sort_by_key(|(id, _)| *id);
    }
    let masses = ranked.into_iter().map(|(id, logit)| (id, masses.of(logit)));
    masses.filter(|(_, mass)| *mass > 0).collect()
}

/// Holds the fast way against the plain one: the same mass and the same token at every place looked at, so the same set.
fn agrees(sampling: &Sampling, logits: &[f32]) -> std::result::Result<(), String> {
    let expected = plain(sampling, logits);
    let candidates = Candidates::new(sampling, logits, bounds(logits)).ok_or("none")?;
    let total: u64 = expected.iter().map(|(_, mass)| mass).sum();
    if candidates.kept() != total {
        return Err(format!("kept {} of {total}", candidates.kept()));
    }
    let stride = expected.len().div_ceil(24);
    let mut before = 0;
    for (index, &(id, mass)) in expected.iter().enumerate() {
        if index % stride == 0 || index + 1 == expected.len() {
            for target in [before, before + mass / 2, before + mass - 1] {
                if candidates.at(target) != Some(id) {
                    return Err(format!(
                        "rank {index}: {:?} for {id}",
                        candidates.at(target)
                    ));
                }
            }
        }
        before += mass;
    }
    Ok(())
}

fn logit() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -12.0_f32..12.0,
        // Many equal ones.
        4 => (-3_i8..3).prop_map(f32::from),
        2 => -0.01_f32..0.01,
        1 => Just(-0.0_f32),
        1 => Just(f32::NAN),
        1 => Just(f32::NEG_INFINITY),
        1 => prop_oneof![Just(-f32::MAX), Just(1e-40_f32), Just(-3e5_f32)],
    ]
}

fn filters() -> impl Strategy<Value = Sampling> {
    (
        prop_oneof![
            0.05_f32..4.0,
            Just(1.0),
            Just(1e-30),
            Just(1e30),
            Just(f32::MAX),
            Just(1e-45)
        ],
        prop::option::of(1_usize..700),
        prop::option::of(prop_oneof![0.001_f32..1.0, Just(1.0), Just(1e-7)]),
        prop::option::of(prop_oneof![0.0001_f32..1.0, Just(1.0)]),
    )
        .prop_map(|(temperature, top_k, top_p, min_p)| Sampling {
            top_k,
            top_p,
            min_p,
            ..Sampling::temperature(temperature)
        })
}

fn shares(sampling: Sampling, logits: &[f32], draws: u64) -> Vec<f64> {
    let key = RowKey::new(7, "item", 0);
    let mut counts = vec![0.0; logits.len()];
    for step in 0..draws {
        counts[sampling.choose(logits, &[], &key, step).unwrap() as usize] += 1.0 / draws as f64;
    }
    counts
}

#[test]
fn draws_follow_the_distribution() {
    // p = 1/7, 2/7, 4/7 at temperature 1; 1/21, 4/21, 16/21 at temperature ½.
    let logits = [0.0, 2.0_f32.ln(), 4.0_f32.ln()];
    let near = |found: Vec<f64>, expected: [f64; 3]| {
        for (found, expected) in found.iter().zip(expected) {
            // Four standard errors of 20,000 draws.
            assert!(
                (found - expected).abs()
                    < 4.0 * (expected * (1.0 - expected) / 20_000.0).sqrt() + 1e-12,
                "{found} {expected}"
            );
        }
    };
    near(
        shares(Sampling::temperature(1.0), &logits, 20_000),
        [1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0],
    );
    near(
        shares(Sampling::temperature(0.5), &logits, 20_000),
        [1.0 / 21.0, 4.0 / 21.0, 16.0 / 21.0],
    );
    let top_k = Sampling {
        top_k: Some(2),
        ..Sampling::temperature(1.0)
    };
    near(shares(top_k, &logits, 20_000), [0.0, 1.0 / 3.0, 2.0 / 3.0]);
    // 4/7 < 0.6, so the second is needed too; 4/7 > 0.5, so it is not.
    let top_p = |p| Sampling {
        top_p: Some(p),
        ..Sampling::temperature(1.0)
    };
    near(
        shares(top_p(0.6), &logits, 20_000),
        [0.0, 1.0 / 3.0, 2.0 / 3.0],
    );
    near(shares(top_p(0.5), &logits, 100), [0.0, 0.0, 1.0]);
    // A quarter as likely as the first: kept at 0.25, dropped at 0.3.
    let min_p = |p| Sampling {
        min_p: Some(p),
        ..Sampling::temperature(1.0)
    };
    near(
        shares(min_p(0.3), &logits, 20_000),
        [0.0, 1.0 / 3.0, 2.0 / 3.0],
    );
    near(
        shares(min_p(0.24), &logits, 20_000),
        [1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0],
    );
}

#[test]
fn a_repeated_token_is_penalised_once_and_towards_zero_probability() {
    let sampling = Sampling {
        repetition_penalty: 2.0,
        ..Sampling::greedy()
    };
    let key = RowKey::new(0, "", 0);
    assert_eq!(sampling.choose(&[3.0, 2.0], &[0, 0], &key, 0), Some(1));
    assert_eq!(
        penalise(&[3.0, -2.0, 1.0], &[0, 1, 0], 2.0),
        [1.5, -4.0, 1.0]
    );
}

#[test]
fn a_draw_depends_on_seed_item_repeat_and_step_only() {
    let key = RowKey::new(1, "a", 0);
    assert_eq!(
        key.uniform(5).to_bits(),
        RowKey::new(1, "a", 0).uniform(5).to_bits()
    );
    let others = [
        RowKey::new(2, "a", 0),
        RowKey::new(1, "b", 0),
        RowKey::new(1, "a", 1),
    ];
    for other in others {
        assert_ne!(key.uniform(5).to_bits(), other.uniform(5).to_bits());
    }
    assert_ne!(key.uniform(5).to_bits(), key.uniform(6).to_bits());
}

#[test]
fn values_outside_their_ranges_are_refused() {
    let refused = |sampling: Sampling| sampling.check().unwrap_err().to_string();
    assert_eq!(
        refused(Sampling::temperature(-1.0)),
        "temperature: expected a number from 0, found -1"
    );
    assert_eq!(
        refused(Sampling::temperature(f32::NAN)),
        "temperature: expected a number from 0, found NaN"
    );
    let base = Sampling::default();
    assert_eq!(
        refused(Sampling {
            top_k: Some(0),
            ..base
        }),
        "top-k: expected at least 1, found 0"
    );
    assert_eq!(
        refused(Sampling {
            top_p: Some(0.0),
            ..base
        }),
        "top-p: expected above 0, at most 1, found 0"
    );
    assert_eq!(
        refused(Sampling {
            min_p: Some(1.5),
            ..base
        }),
        "min-p: expected above 0, at most 1, found 1.5"
    );
    let penalty = Sampling {
        repetition_penalty: 0.0,
        ..base
    };
    assert_eq!(
        refused(penalty),
        "repetition penalty: expected a positive number, found 0"
    );
    assert!(base.check().is_ok());
}

#[test]
fn what_is_not_a_number_is_not_chosen() {
    let key = RowKey::new(7, "item", 0);
    for sampling in [Sampling::greedy(), Sampling::temperature(1.0)] {
        let choose = |logits: &[f32]| sampling.choose(logits, &[], &key, 0);
        assert_eq!(choose(&[]), None);
        assert_eq!(choose(&[f32::NAN, f32::NEG_INFINITY]), None);
        assert_eq!(choose(&[f32::NAN, -1e30, f32::NEG_INFINITY]), Some(1));
        assert_eq!(choose(&[3.0, f32::INFINITY, f32::NAN]), Some(1));
    }
    let top_p = Sampling {
        top_p: Some(0.9),
        ..Sampling::temperature(1.0)
    };
    let found = shares(top_p, &[0.0, f32::INFINITY, f32::INFINITY, 9.0], 2_000);
    assert!(found[1] > 0.4 && found[2] > 0.4 && (found[1] + found[2] - 1.0).abs() < 1e-9);
}

/// Rows as long as vocabularies are, of every shape that fills buckets in another way.
#[test]
fn long_rows_agree_with_a_full_sort() {
    let noise = |index: usize| (index.wrapping_mul(2_654_435_761) % 1_000_003) as f32 / 1_000_003.0;
    type Shape = (&'static str, fn(f32) -> f32);
    let shapes: [Shape; 7] = [
        ("peaked", |x| 20.0 * x.powi(16) - 2.0 * x),
        ("spread", |x| 25.0 * x),
        ("flat", |x| 0.01 * x),
        ("equal", |_| 1.5),
        ("whole", |x| (8.0 * x).floor()),
        (
            "one far away",
            |x| if x > 0.99999 { 30.0 } else { x * 1e-3 },
        ),
        (
            "many masked",
            |x| if x > 0.9 { x } else { f32::NEG_INFINITY },
        ),
    ];
    let filters: [(Option<usize>, Option<f32>, Option<f32>); 8] = [
        (None, None, None),
        (None, None, Some(0.05)),
        (Some(50), None, None),
        (Some(20_000), Some(0.9), None),
        (Some(20_000), Some(0.9), Some(0.2)),
        (None, Some(0.95), None),
        (None, Some(0.5), Some(0.3)),
        (None, Some(0.0001), None),
    ];
    for (length, step) in [(49_152, 1), (300_000, 5), (530_000, 7)] {
        for (name, shape) in shapes
            .iter()
            .cycle()
            .skip(step)
            .take(if step == 1 { 7 } else { 2 })
        {
            let row: Vec<f32> = (0..length).map(|index| shape(noise(index))).collect();
            for (top_k, top_p, min_p) in filters {
                let sampling = Sampling {
                    top_k,
                    top_p,
                    min_p,
                    ..Sampling::temperature(1.0)
                };
                let found = agrees(&sampling, &row);
                assert_eq!(found, Ok(()), "{name} {length} {sampling:?}");
            }
        }
    }
}

/// Pearson's statistic of many draws stays within what the exact distribution, in `f64`, gives.
#[test]
fn draws_follow_a_long_tail() {
    const DRAWS: u64 = 40_000;
    let logits: Vec<f32> = (0..600_u16)
        .map(|id| -1.2 * (f32::from(id * 7 % 600) + 2.0).ln())
        .collect();
    let exact = |kept: &dyn Fn(usize, f64) -> bool| {
        let mut ids: Vec<usize> = (0..600).collect();
        ids.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let mut shares = vec![0.0; 600];
        let mut before = 0.0;
        let all: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        for (rank, id) in ids.into_iter().enumerate() {
            let weight = f64::from(logits[id]).exp();
            if kept(rank, before / all) {
                shares[id] = weight;
            }
            before += weight;
        }
        let kept: f64 = shares.iter().sum();
        shares
            .into_iter()
            .map(|share| share / kept)
            .collect::<Vec<f64>>()
    };
    let base = Sampling::temperature(1.0);
    let (top_k, top_p) = (Some(90), Some(0.8));
    for (sampling, expected) in [
        (base, exact(&|_, _| true)),
        (Sampling { top_k, ..base }, exact(&|rank, _| rank < 90)),
        (
            Sampling { top_p, ..base },
            exact(&|_, before| before < f64::from(0.8_f32)),
        ),
    ] {
        let found = shares(sampling, &logits, DRAWS);
        let (mut statistic, mut cells) = (0.0, 0.0);
        for (found, expected) in found.iter().zip(&expected) {
            assert!(*expected > 0.0 || *found == 0.0);
            if *expected > 0.0 {
                statistic += (found - expected).powi(2) / expected * DRAWS as f64;
                cells += 1.0;
            }
        }
        // Mean and five standard deviations of χ² with that many degrees of freedom.
        let freedom: f64 = cells - 1.0;
        assert!(
            (statistic - freedom).abs() < 5.0 * (2.0 * freedom).sqrt(),
            "{statistic} of {freedom}"
        );
    }
}

#[derive(Deserialize)]
struct Golden {
    rows: Vec<GoldenRow>,
}

#[derive(Deserialize)]
struct GoldenRow {
    name: String,
    numerators: Vec<i32>,
    cases: Vec<GoldenCase>,
}

#[derive(Deserialize)]
struct GoldenCase {
    temperature: f32,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    /// Hexadecimal; bit `id` is set for what is kept.
    kept: String,
}

#[test]
fn filters_keep_what_transformers_keeps() {
    let path = lm_testkit::golden_folder().join("sampling-filters/expected.json");
    let golden: Golden = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut seen = 0;
    for row in golden.rows {
        let logits: Vec<f32> = row
            .numerators
            .iter()
            .map(|&whole| whole as f32 / 4096.0)
            .collect();
        for case in row.cases {
            let sampling = Sampling {
                top_k: case.top_k,
                top_p: case.top_p,
                min_p: case.min_p,
                ..Sampling::temperature(case.temperature)
            };
            let digits = case
                .kept
                .chars()
                .rev()
                .map(|digit| digit.to_digit(16).unwrap());
            let bits = digits.flat_map(|digit| (0..4).map(move |bit| digit >> bit & 1 == 1));
            let expected: Vec<u32> = (0..)
                .zip(bits)
                .filter(|(_, kept)| *kept)
                .map(|(id, _)| id)
                .collect();
            let mut found: Vec<u32> = plain(&sampling, &logits)
                .into_iter()
                .map(|(id, _)| id)
                .collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{} {sampling:?}", row.name);
            assert_eq!(
                agrees(&sampling, &logits),
                Ok(()),
                "{} {sampling:?}",
                row.name
            );
            seen += 1;
        }
    }
    assert!(seen > 400, "{seen}");
}

proptest! {
    #[test]
    fn any_row_agrees_with_a_full_sort(mut row in prop::collection::vec(logit(), 1..900), sampling in filters()) {
        // One number above −∞ at least.
        row.push(0.5);
        prop_assert_eq!(agrees(&sampling, &row), Ok(()));
    }

    #[test]
    fn whatever_is_chosen_is_a_candidate(
        logits in prop::collection::vec(-10.0_f32..10.0, 1..50),
        temperature in 0.1_f32..3.0,
        top_k in 1_usize..60,
        top_p in 0.05_f32..1.0,
        step in 0_u64..1000,
    ) {
        let sampling = Sampling { top_k: Some(top_k), top_p: Some(top_p), ..Sampling::temperature(temperature) };
        let id = sampling.choose(&logits, &[], &RowKey::new(3, "x", 0), step).unwrap();
        let allowed = logits::top(&logits, top_k);
        prop_assert!(allowed.iter().any(|(allowed, _)| *allowed == id));
    }
}
