//! Functions of rows of logits.

use lm_core::logits::{kl_divergence, log_prob};

use crate::case::{Case, warmed};
use crate::data;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "logits/log-prob",
            prepare: || {
                let row = data::row();
                warmed(move || log_prob(&row, 1).ok_or_else(|| "no such token".into()))
            },
        },
        Case {
            name: "logits/kl-divergence",
            prepare: || {
                let row = data::row();
                let other: Vec<f32> = row.iter().rev().copied().collect();
                warmed(move || {
                    kl_divergence(&row, &other).ok_or_else(|| "rows of unequal length".into())
                })
            },
        },
    ]
}
