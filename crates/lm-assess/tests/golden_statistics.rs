//! The statistics against `golden/statistics`: SciPy, statsmodels, scikit-learn, krippendorff, and definitions in 40 digits.

use std::collections::BTreeMap;

use lm_assess::stats::{
    Alternative, ConfusionMatrix, Decisions, Estimate, JudgeValidation, KappaWeights, PairedMethod,
    Pairs, PermutationOptions, auroc, bca_interval, benjamini_hochberg, clopper_pearson,
    cohen_kappa, corrected_rate, delong_test, difference, fleiss_kappa, gini, holm, kaplan_meier,
    kappa_of_table, kendall, krippendorff_alpha, log_rank, mann_whitney, mcnemar,
    paired_difference, paired_permutation, percentile_interval, rank_biased_overlap, ranks,
    roc_curve, spearman, two_sample_permutation, wilson,
};
use lm_testkit::golden_folder;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Relative to the expected value, or for most functions to 1e-2 where that is larger: a small limit may be a difference of larger
/// numbers.
const TOLERANCE: f64 = 1e-10;

#[derive(Deserialize)]
struct Expected {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    function: String,
    given: Value,
    expected: Value,
}

impl Case {
    fn get<T: DeserializeOwned>(&self, key: &str) -> T {
        serde_json::from_value(self.given[key].clone())
            .unwrap_or_else(|error| panic!("{}, {key}: {error}: {}", self.function, self.given))
    }

    fn floats(&self, key: &str) -> Vec<f64> {
        self.get(key)
    }

    fn flags(&self, key: &str) -> Vec<bool> {
        // 0 and 1, or true and false.
        let values: Vec<Value> = self.get(key);
        values
            .iter()
            .map(|value| value.as_bool().unwrap_or(value == &json!(1)))
            .collect()
    }
}

fn cases() -> Vec<Case> {
    let path = golden_folder().join("statistics/expected.json");
    let expected: Expected = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    expected.cases
}

/// Every expected number must be found; what is found beyond them is not compared.
struct Comparison {
    compared: BTreeMap<String, usize>,
    wrong: Vec<String>,
}

impl Comparison {
    fn compare(&mut self, function: &str, at: &str, found: &Value, expected: &Value) {
        let wrong = match (found, expected) {
            (_, Value::Object(fields)) => {
                for (key, expected) in fields {
                    self.compare(function, &format!("{at}/{key}"), &found[key], expected);
                }
                return;
            }
            (Value::Array(found), Value::Array(values)) if found.len() == values.len() => {
                for (index, (found, expected)) in found.iter().zip(values).enumerate() {
                    self.compare(function, &format!("{at}/{index}"), found, expected);
                }
                return;
            }
            (Value::Number(found), Value::Number(expected)) => {
                *self.compared.entry(function.to_owned()).or_insert(0) += 1;
                let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
                // A NaN would be null in JSON and end below.
                let least = match function {
                    "clopper_pearson" | "wilson" | "mcnemar" | "holm" => 0.0,
                    _ => 1e-2,
                };
                (found - expected).abs() > TOLERANCE * expected.abs().max(least)
            }
            _ => found != expected,
        };
        if wrong {
            self.wrong
                .push(format!("{at}: expected {expected}, found {found}"));
        }
    }
}

fn estimate(found: Option<Estimate>) -> Value {
    json!(found)
}

fn ends(found: Option<(f64, f64)>) -> Value {
    json!({ "low": found.map(|ends| ends.0), "high": found.map(|ends| ends.1) })
}

/// What this workspace computes; `None` for functions of other tests.
fn ours(case: &Case) -> Option<Value> {
    let level = || case.get::<f64>("level");
    Some(match case.function.as_str() {
        "wilson" => estimate(wilson(case.get("k"), case.get("n"), level()).unwrap()),
        "clopper_pearson" => {
            estimate(clopper_pearson(case.get("k"), case.get("n"), level()).unwrap())
        }
        "difference" => {
            let first = (case.get("k1"), case.get("n1"));
            let second = (case.get("k2"), case.get("n2"));
            estimate(difference(first, second, level()).unwrap())
        }
        "mcnemar" => json!(mcnemar(&Pairs {
            both: 7,
            first_only: case.get("first_only"),
            second_only: case.get("second_only"),
            neither: 11,
        })),
        "paired_difference" => {
            let [both, first_only, second_only, neither] = case.get("table");
            let method = match case.get::<String>("method").as_str() {
                "tango" => PairedMethod::Tango,
                _ => PairedMethod::Newcombe,
            };
            let pairs = Pairs {
                both,
                first_only,
                second_only,
                neither,
            };
            estimate(paired_difference(&pairs, method, level()).unwrap())
        }
        "percentile_interval" => {
            ends(percentile_interval(&case.floats("replicates"), level()).unwrap())
        }
        "bca_interval" => {
            let (replicates, jackknife) = (case.floats("replicates"), case.floats("jackknife"));
            ends(bca_interval(case.get("estimate"), &replicates, &jackknife, level()).unwrap())
        }
        "two_sample_permutation" | "paired_permutation" => {
            let options = PermutationOptions {
                alternative: match case.get::<String>("alternative").as_str() {
                    "greater" => Alternative::Greater,
                    "less" => Alternative::Less,
                    _ => Alternative::TwoSided,
                },
                ..PermutationOptions::default()
            };
            let test = if case.function == "paired_permutation" {
                paired_permutation
            } else {
                two_sample_permutation
            };
            let found = test(&case.floats("x"), &case.floats("y"), &options).unwrap();
            assert!(found.is_some_and(|found| found.exact));
            json!(found)
        }
        "holm" => json!({ "adjusted": holm(&case.floats("p_values")).unwrap() }),
        "benjamini_hochberg" => {
            json!({ "adjusted": benjamini_hochberg(&case.floats("p_values")).unwrap() })
        }
        "kappa" => {
            let weights = match case.get::<String>("weights").as_str() {
                "linear" => KappaWeights::Linear,
                "quadratic" => KappaWeights::Quadratic,
                _ => KappaWeights::Equal,
            };
            let table: Vec<Vec<u64>> = case.get("table");
            json!(kappa_of_table(&table, weights, 0.95).unwrap())
        }
        "cohen_kappa" => {
            let (first, second): (Vec<String>, Vec<String>) =
                (case.get("first"), case.get("second"));
            json!(cohen_kappa(&first, &second, 0.95).unwrap())
        }
        "fleiss_kappa" => {
            json!(fleiss_kappa(&case.get::<Vec<Vec<u64>>>("counts")).unwrap())
        }
        "krippendorff_alpha" => {
            let ratings: Vec<Vec<Option<u32>>> = case.get("ratings");
            json!(krippendorff_alpha(&ratings))
        }
        "auroc" => json!(auroc(&case.floats("scores"), &case.flags("positive"), 0.95).unwrap()),
        "roc_curve" => {
            let points = roc_curve(&case.floats("scores"), &case.flags("positive"))
                .unwrap()
                .unwrap();
            assert_eq!(points[0].threshold, None);
            let alarms: Vec<_> = points.iter().map(|p| p.false_positive_rate).collect();
            let hits: Vec<_> = points.iter().map(|p| p.true_positive_rate).collect();
            let thresholds: Vec<_> = points.iter().filter_map(|p| p.threshold).collect();
            json!({ "false_positive_rate": alarms, "true_positive_rate": hits, "threshold": thresholds })
        }
        "delong_test" => {
            let (first, second) = (case.floats("first"), case.floats("second"));
            json!(delong_test(&first, &second, &case.flags("positive"), 0.95).unwrap())
        }
        "decisions" => {
            let found =
                Decisions::from_outcomes(&case.flags("truth"), &case.flags("decided")).unwrap();
            json!({
                "accuracy": found.accuracy(), "precision": found.precision(), "recall": found.recall(),
                "f1": found.f1(), "specificity": found.specificity(),
            })
        }
        "confusion" => {
            let (truth, decided): (Vec<u8>, Vec<u8>) = (case.get("truth"), case.get("decided"));
            let found = ConfusionMatrix::from_outcomes(&truth, &decided).unwrap();
            json!({ "counts": found.counts, "accuracy": found.accuracy() })
        }
        "against_others" => {
            let (truth, decided): (Vec<u8>, Vec<u8>) = (case.get("truth"), case.get("decided"));
            let found = ConfusionMatrix::from_outcomes(&truth, &decided).unwrap();
            let index = found.labels.binary_search(&case.get("label")).unwrap();
            let found = found.against_others(index).unwrap();
            json!({ "precision": found.precision(), "recall": found.recall(), "f1": found.f1() })
        }
        "kaplan_meier" => {
            json!(kaplan_meier(&case.floats("times"), &case.flags("event"), level()).unwrap())
        }
        "log_rank" => {
            let groups: Vec<(Vec<f64>, Vec<u8>)> = case.get("groups");
            let groups: Vec<(Vec<f64>, Vec<bool>)> = groups
                .into_iter()
                .map(|(times, event)| (times, event.iter().map(|&event| event == 1).collect()))
                .collect();
            let views: Vec<(&[f64], &[bool])> = groups
                .iter()
                .map(|(times, event)| (times.as_slice(), event.as_slice()))
                .collect();
            json!(log_rank(&views).unwrap())
        }
        "mann_whitney" => json!(mann_whitney(&case.floats("x"), &case.floats("y")).unwrap()),
        "kendall" => json!(kendall(&case.floats("x"), &case.floats("y")).unwrap()),
        "spearman" => json!(spearman(&case.floats("x"), &case.floats("y")).unwrap()),
        "ranks" => json!({ "ranks": ranks(&case.floats("values")).unwrap() }),
        "gini" => json!({ "value": gini(&case.floats("values")).unwrap() }),
        "rank_biased_overlap" => {
            let (first, second): (Vec<String>, Vec<String>) =
                (case.get("first"), case.get("second"));
            json!(rank_biased_overlap(&first, &second, case.get("p")).unwrap())
        }
        "corrected_rate" => {
            let [true_positives, positives, true_negatives, negatives] = case.get("validation");
            let validation = JudgeValidation {
                true_positives,
                positives,
                true_negatives,
                negatives,
            };
            let (flagged, n) = (case.get("flagged"), case.get("n"));
            estimate(corrected_rate(flagged, n, &validation, level()).unwrap())
        }
        // In the unit tests of the room.
        "normal_quantile" | "normal_cdf" | "beta_cdf" | "chi_squared_sf" | "student_two_sided" => {
            return None;
        }
        other => panic!("no test for the reference values of {other}"),
    })
}

#[test]
fn every_reference_value_is_met() {
    let mut all = Comparison {
        compared: BTreeMap::new(),
        wrong: Vec::new(),
    };
    for (index, case) in cases().iter().enumerate() {
        if let Some(found) = ours(case) {
            let at = format!("case {index}, {} of {}", case.function, case.given);
            all.compare(&case.function, &at, &found, &case.expected);
        }
    }
    assert!(all.wrong.is_empty(), "{}", all.wrong.join("\n"));
    let compared = all.compared;
    assert_eq!(compared.len(), 30, "{compared:?}");
    let values: usize = compared.values().sum();
    assert!(values >= 1_500, "{values} values: {compared:?}");
}
