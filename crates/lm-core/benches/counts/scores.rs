//! Many candidates scored as a tree, beside a model that costs next to nothing.

use lm_core::{LanguageModel, Result, ScoreOptions};
use ndarray::Array1;

use crate::case::{Case, Failure, Work, warmed};

pub(crate) fn cases() -> Vec<Case> {
    vec![Case {
        name: "score-many/four-digits",
        prepare: four_digits,
    }]
}

/// Digits and a few tokens beside them; the logits depend on the last token alone.
struct Scripted;

const VOCAB: u32 = 16;

impl LanguageModel for Scripted {
    fn vocab_size(&self) -> usize {
        VOCAB as usize
    }

    fn next_logits(&self, tokens: &[u32]) -> Result<Array1<f32>> {
        let last = tokens.last().copied().unwrap_or_default();
        Ok((0..VOCAB)
            .map(|id| (id * 7 + last * 3) as f32 % 5.0)
            .collect())
    }
}

/// Every number of four digits, one digit a token.
fn four_digits() -> std::result::Result<Work, Failure> {
    let digits = |number: u32| [1000, 100, 10, 1].map(|place| number / place % 10);
    let candidates: Vec<[u32; 4]> = (0..10_000).map(digits).collect();
    warmed(move || {
        let candidates: Vec<&[u32]> = candidates.iter().map(<[u32; 4]>::as_slice).collect();
        Ok(Scripted.score_many(&[10, 11, 12], &candidates, &ScoreOptions::default())?)
    })
}
