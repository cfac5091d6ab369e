//! Choosing a token: once for every token of every row.

use lm_core::{RowKey, Sampling};

use crate::case::{Case, Failure, Work, warmed};
use crate::data;

/// Draws of a row's key that are counted together.
const DRAWS: u64 = 1000;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "choose/greedy",
            prepare: || choose(Sampling::greedy()),
        },
        Case {
            name: "choose/temperature",
            prepare: || choose(Sampling::temperature(1.0)),
        },
        Case {
            name: "choose/top-p",
            prepare: || {
                choose(Sampling {
                    top_p: Some(0.95),
                    ..Sampling::temperature(1.0)
                })
            },
        },
        Case {
            name: "choose/top-k",
            prepare: || {
                choose(Sampling {
                    top_k: Some(50),
                    ..Sampling::temperature(1.0)
                })
            },
        },
        Case {
            name: "choose/min-p",
            prepare: || {
                choose(Sampling {
                    min_p: Some(0.05),
                    ..Sampling::temperature(1.0)
                })
            },
        },
        Case {
            name: "row-key/draws",
            prepare: draws,
        },
    ]
}

fn choose(sampling: Sampling) -> Result<Work, Failure> {
    sampling.check()?;
    let (row, key) = (data::row(), RowKey::new(0, "count", 0));
    warmed(move || {
        let chosen = sampling.choose(&row, &[], &key, 0);
        chosen.ok_or_else(|| "nothing to choose from".into())
    })
}

fn draws() -> Result<Work, Failure> {
    warmed(|| {
        let key = RowKey::new(0, "count", 0);
        Ok((0..DRAWS).map(|step| key.uniform(step)).sum::<f64>())
    })
}
