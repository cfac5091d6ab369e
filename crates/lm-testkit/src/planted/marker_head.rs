use std::path::Path;

use super::draft::{BIAS, CERTAIN, Draft, Search};
use super::marked_prompt;
use crate::{TinyError, TinyLlama, TinyModel};

/// Residual features.
const MARKED: usize = 1;
const FOUND: usize = 2;

/// One head alone carries a marker into the answer.
///
/// Wherever [`MARKER`](Self::MARKER) stands in a prompt, the next token is [`ANSWER`](Self::ANSWER), and
/// [`RIVAL`](Self::RIVAL) without it. With `c` the [bias](super) of the residual stream:
///
/// - The embedding of the marker has `MARKED = 1`, all others 0.
/// - The planted head's query is constant and its key reads `MARKED`, so that its score is 20 at the marker and 0 elsewhere:
///   among `n` tokens it attends to the marker by `1 / (1 + (n - 1) e⁻²⁰)`, which is 1 in f32. Its value is `MARKED`, its
///   output adds `c` times that to `FOUND`. So `FOUND = c f` with `f = 1` with a marker and 0 without.
/// - The final norm divides by `16 √(1 + f²)`; the logits are `24 f / √(1 + f²)` of the answer, `12 / √(1 + f²)` of the rival and
///   noise of a few tenths of all others. The answer wins where `f > ½`.
///
/// Nothing else writes to `MARKED` or `FOUND`: no other head *can* do it.
///
/// # What is true
/// With one marker among `n ≥ 4` tokens, and every head but the planted one as it was:
///
/// | planted head | `f` | next token | KL from the unchanged model |
/// | --- | --- | --- | --- |
/// | unchanged | 1 | [`ANSWER`](Self::ANSWER) | 0 |
/// | silenced (SC, factor 0) | 0 | [`RIVAL`](Self::RIVAL) | above 10 nats |
/// | uniform (UA, ε = 0) | `1 / n` | [`RIVAL`](Self::RIVAL) | above 4 nats |
///
/// Any other one head changed leaves the answer, and its KL is less than a hundredth of the planted head's. For a score
/// from leading left-singular vectors over prompts use prompts with and without a marker: a change that all rows share turns
/// none.
///
/// ```
/// use lm_testkit::planted::MarkerHead;
///
/// let folder = tempfile::tempdir()?;
/// let model = MarkerHead { layer: 1, head: 3, ..MarkerHead::default() };
/// model.write(folder.path())?;
/// let prompt = model.prompt(12, Some(5));
/// assert_eq!(prompt[5], MarkerHead::MARKER);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkerHead {
    /// Layer of the planted head, from 0.
    pub layer: usize,
    /// The planted query head within its layer, from 0.
    pub head: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Number of query heads a layer.
    pub heads: usize,
    /// Number of KV heads; divides `heads`. Query heads that share the planted one's key and value don't search for the
    /// marker.
    pub kv_heads: usize,
    /// Seed of everything that isn't planted.
    pub seed: u64,
}

impl Default for MarkerHead {
    fn default() -> Self {
        Self {
            layer: 1,
            head: 2,
            layers: 3,
            heads: 4,
            kv_heads: 2,
            seed: 0,
        }
    }
}

impl MarkerHead {
    /// What the planted head looks for: `#`.
    pub const MARKER: u32 = b'#' as u32;
    /// The next token where a marker was found: `Y`.
    pub const ANSWER: u32 = b'Y' as u32;
    /// The next token where none was: `N`.
    pub const RIVAL: u32 = b'N' as u32;

    /// The model in memory.
    ///
    /// # Panics
    /// When the sizes have no such head or `kv_heads` does not divide `heads`: in a test that is a bug of the test.
    #[track_caller]
    pub fn build(&self) -> TinyModel {
        let sizes = TinyLlama {
            seed: self.seed,
            layers: self.layers,
            heads: self.heads,
            kv_heads: self.kv_heads,
            ..TinyLlama::default()
        };
        let mut draft = Draft::new(sizes, FOUND);
        let bias = draft.bias();
        draft.embed(Self::MARKER, MARKED, 1.0);
        draft.head(
            (self.layer, self.head),
            &[Search::content(CERTAIN, &[(MARKED, 1.0)])],
            &[(&[(MARKED, 1.0)], FOUND, bias)],
        );
        draft.unembed(Self::ANSWER, &[(FOUND, 24.0 / bias)]);
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
