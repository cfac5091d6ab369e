//! Whether both sides found the same: a speed of something else is no speed.

use anyhow::{Result, ensure};

use crate::job::Found;
use crate::works::Task;

/// How near two numbers must be: within `absolute + relative · |theirs|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tolerance {
    pub(crate) absolute: f64,
    pub(crate) relative: f64,
    /// Share of the numbers that may be others.
    pub(crate) others: f64,
}

impl Tolerance {
    /// Equal.
    pub(crate) const EXACT: Self = Self {
        absolute: 0.0,
        relative: 0.0,
        others: 0.0,
    };
}

/// What the comparison of numbers came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Agreement {
    /// Numbers that were compared.
    pub(crate) numbers: usize,
    /// The largest difference, as a share of what is allowed; of those that had to agree.
    pub(crate) largest: f64,
}

/// Compares the numbers that both sides have.
///
/// # Errors
/// Names without a counterpart on either side if none is common; another count of numbers; a difference beyond the
/// tolerance, not-a-number included.
pub(crate) fn agreement(task: &Task, ours: &Found, theirs: &Found) -> Result<Option<Agreement>> {
    if ours.numbers.is_empty() && theirs.numbers.is_empty() {
        return Ok(None);
    }
    let mut all = Agreement::default();
    for (name, theirs) in &theirs.numbers {
        let Some(ours) = ours.numbers.get(name) else {
            continue;
        };
        ensure!(
            ours.len() == theirs.len(),
            "{name}: {} numbers here, {} on the other side",
            ours.len(),
            theirs.len()
        );
        let tolerance = task.tolerance(name);
        let mut others = Vec::new();
        for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            let allowed = tolerance.absolute + tolerance.relative * theirs.abs();
            let off = (ours - theirs).abs();
            // A number that is none is not within anything.
            if off <= allowed {
                all.largest = all
                    .largest
                    .max(if allowed > 0.0 { off / allowed } else { 0.0 });
            } else {
                others.push(format!("{ours} and {theirs} at {index}"));
            }
        }
        ensure!(
            others.len() as f64 <= tolerance.others * ours.len() as f64,
            "{name}: {} of {} numbers differ between the sides, the first {}",
            others.len(),
            ours.len(),
            others.first().map(String::as_str).unwrap_or_default()
        );
        all.numbers += ours.len();
    }
    ensure!(
        all.numbers > 0,
        "the sides have no numbers in common: {:?} here, {:?} there",
        ours.numbers.keys().collect::<Vec<_>>(),
        theirs.numbers.keys().collect::<Vec<_>>()
    );
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::works::sweep::Heads;
    use crate::works::{Hidden, Sweep};

    fn found(name: &str, numbers: &[f64]) -> Found {
        Found {
            numbers: [(name.to_owned(), numbers.to_vec())].into(),
            ..Found::default()
        }
    }

    #[test]
    fn other_numbers_are_refused() {
        let task = Task::Sweep(Sweep {
            prompts: Vec::new(),
            heads: Heads::Forwards,
        });
        let ours = found("scores", &[1.0, 2e-7]);
        let same = agreement(&task, &ours, &found("scores", &[1.000_05, 0.0])).unwrap();
        let same = same.unwrap();
        assert_eq!(same.numbers, 2);
        assert!((0.4..0.6).contains(&same.largest), "{same:?}");
        for (theirs, problem) in [
            (found("scores", &[1.0, 2e-6]), "1 of 2 numbers differ"),
            (found("scores", &[f64::NAN, 0.0]), "1 of 2 numbers differ"),
            (found("scores", &[1.0]), "2 numbers here, 1 on"),
            (found("other", &[1.0, 0.0]), "no numbers in common"),
            (Found::default(), "no numbers in common"),
        ] {
            let error = agreement(&task, &ours, &theirs).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        let nothing = Found::default();
        assert_eq!(agreement(&task, &nothing, &nothing).unwrap(), None);
    }

    #[test]
    fn a_token_of_the_lens_may_be_its_equal() {
        let task = Task::Hidden(Hidden {
            prompts: Vec::new(),
            lens: true,
            checked: Vec::new(),
        });
        let name = "lens ids of prompt 3";
        let mut ids: Vec<f64> = (0..100).map(f64::from).collect();
        let ours = found(name, &ids);
        ids.swap(4, 5);
        agreement(&task, &ours, &found(name, &ids)).unwrap();
        ids.swap(7, 8);
        agreement(&task, &ours, &found(name, &ids)).unwrap_err();
    }
}
