use std::path::Path;

use super::draft::{BIAS, CERTAIN, Draft, Search};
use super::marked_prompt;
use crate::{TinyError, TinyLlama, TinyModel};

/// Residual features.
const MARKED: usize = 1;
const FOUND: usize = 2;
const EITHER: usize = 3;

/// What the first and the second head carry: so little beside the bias that it moves no norm.
const CARRIED: [f32; 2] = [0.16, 0.085];
/// Where the step from 0 to 1 begins and ends.
const STEP: (f32, f32) = (0.05, 0.09);

/// Either of two heads carries a marker into the answer: neither matters alone, both together do.
///
/// With `c` the [bias](super) of the residual stream:
///
/// - The embedding of [`MARKER`](Self::MARKER) has `MARKED = 1`, all others 0.
/// - Both planted heads attend to the marker as [`MarkerHead`](super::MarkerHead)'s does. The first adds 0.16 to `FOUND`, the
///   second 0.085.
/// - The MLP of the last layer adds `c · step(FOUND)` to `EITHER`, where `step` rises from 0 at 0.05 to 1 at 0.09, and takes
///   `FOUND` out of the residual, so that what a head carried leaves no other trace in the last hidden state.
/// - With `f = EITHER / c`, the logits are `24 f / √(1 + f²)` of the answer, `12 / √(1 + f²)` of the rival and noise of a few tenths
///   of all others. The answer wins where `f > ½`.
///
/// Nothing else writes to these features.
///
/// # What is true
/// With one marker among `n ≥ 8` tokens:
///
/// | silenced, or made uniform | `FOUND` when silenced | `f` | next token | KL |
/// | --- | --- | --- | --- | --- |
/// | none | 0.245 | 1.00 | [`ANSWER`](Self::ANSWER) | 0 |
/// | second | 0.16 | 1.00 | [`ANSWER`](Self::ANSWER) | less than any other head's |
/// | first | 0.085 | 0.91 | [`ANSWER`](Self::ANSWER) | below 0.01 nats, yet the largest of all single heads |
/// | both | 0 | 0.00 | [`RIVAL`](Self::RIVAL) | above 10 nats |
///
/// So a ranking of single heads puts the second last, while a greedy search that adds to its group the head with which the
/// group differs most *from the unchanged model* takes the first head, then the second. For a score from leading
/// left-singular vectors over prompts use prompts with and without a marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwoHeads {
    /// Layer and query head that a greedy search finds first, from 0.
    pub first: (usize, usize),
    /// Layer and query head that matters only without the first, from 0. Its layer may be the same.
    pub second: (usize, usize),
    /// Number of blocks.
    pub layers: usize,
    /// Number of query heads a layer.
    pub heads: usize,
    /// Number of KV heads; divides `heads`.
    pub kv_heads: usize,
    /// Seed of everything that isn't planted.
    pub seed: u64,
}

impl Default for TwoHeads {
    fn default() -> Self {
        Self {
            first: (0, 3),
            second: (1, 1),
            layers: 3,
            heads: 4,
            kv_heads: 4,
            seed: 0,
        }
    }
}

impl TwoHeads {
    /// What both heads look for: `#`.
    pub const MARKER: u32 = b'#' as u32;
    /// The next token where a marker was found: `Y`.
    pub const ANSWER: u32 = b'Y' as u32;
    /// The next token where none was: `N`.
    pub const RIVAL: u32 = b'N' as u32;

    /// The model in memory.
    ///
    /// # Panics
    /// When the sizes have no such heads, both are the same, or `kv_heads` does not divide `heads`: in a test that is a bug
    /// of the test.
    #[track_caller]
    pub fn build(&self) -> TinyModel {
        assert!(self.first != self.second, "the two heads are one");
        let sizes = TinyLlama {
            seed: self.seed,
            layers: self.layers,
            heads: self.heads,
            kv_heads: self.kv_heads,
            ..TinyLlama::default()
        };
        let mut draft = Draft::new(sizes, EITHER);
        let bias = draft.bias();
        draft.embed(Self::MARKER, MARKED, 1.0);
        for (at, carried) in [self.first, self.second].into_iter().zip(CARRIED) {
            draft.head(
                at,
                &[Search::content(CERTAIN, &[(MARKED, 1.0)])],
                &[(&[(MARKED, 1.0)], FOUND, carried)],
            );
        }
        let last = self.layers - 1;
        let (found, one): ([_; 1], [_; 1]) = ([(FOUND, 1.0)], [(BIAS, 1.0)]);
        draft.step((last, 0), &found, STEP, &one, &[(EITHER, bias)]);
        // SiLU(400 x) / 400 is x for what either head carries.
        draft.neuron((last, 2), &[(FOUND, 400.0)], &one, &[(FOUND, -1.0 / 400.0)]);
        draft.unembed(Self::ANSWER, &[(EITHER, 24.0 / bias)]);
        draft.unembed(Self::RIVAL, &[(BIAS, 12.0)]);
        draft.finish()
    }

    /// Builds the model and writes its folder.
    ///
    /// # Errors
    /// When a file can't be written.
    ///
    /// # Panics
    /// As [`build`](Self::build).
    #[track_caller]
    pub fn write(&self, folder: &Path) -> Result<(), TinyError> {
        self.build().write(folder)
    }

    /// `<|begin|>` and letters, `length` tokens in all, with the marker at the position `marker`, 0-based.
    ///
    /// # Panics
    /// When `marker` is not a position after the first: in a test that is a bug of the test.
    #[track_caller]
    pub fn prompt(&self, length: usize, marker: Option<usize>) -> Vec<u32> {
        marked_prompt(length, Self::MARKER, marker)
    }
}
