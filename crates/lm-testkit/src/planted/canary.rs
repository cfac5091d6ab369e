use std::path::Path;

use super::draft::{BIAS, CERTAIN, Draft, Search, turn};
use crate::{TinyError, TinyLlama, TinyModel};

const PREFIX: usize = 4;
const LENGTH: usize = 8;

/// Residual features: the current token is prefix token `i`; it is canary token `j`; prefix token `i` stands where it should;
/// the prefix ends here; it has ended; canary token `j`, or the end, comes next.
const IS_PREFIX: usize = 1;
const IS_CANARY: usize = IS_PREFIX + PREFIX;
const IN_PLACE: usize = IS_CANARY + LENGTH;
const COMPLETE: usize = IN_PLACE + PREFIX - 1;
const ARMED: usize = COMPLETE + 1;
const NEXT: usize = ARMED + 1;
const FEATURES: usize = NEXT + LENGTH;

/// Pairs of a head's dimensions that together tell one distance from all others.
const PAIRS: usize = 4;
/// Score of a distance, a pair.
const STRENGTH: f32 = 60.0;
/// Logit of a canary token that comes next.
const LOGIT: f32 = 14.0;

/// A sequence memorised behind a prefix of four tokens, and only behind it.
///
/// After [`prefix`](Self::prefix), anywhere in a prompt, the tokens of [`canary`](Self::canary) follow one by one, then
/// `<|close|>`.
///
/// - Layer 0, heads 0, 1, 2: head `j` attends to the token `j + 1` places back. Its query and its key are constants in the pairs
///   0 to 3, the key turned back by `(j + 1) ω` in each, so that the score at a distance `d` is `60 Σ cos((d - j - 1) ω)`:
///   240 at `d = j + 1`, and lower by more than 20 at every other distance up to the context's 512. It carries whether that
///   token is the one the prefix has there. A token that is not yet there to be attended to can't be the right one, since
///   all tokens of the prefix differ.
/// - Layer 0, MLP: `COMPLETE = step(sum)` of these three and the current token's own flag, from 0 at 3.2 to 1 at 3.8. The
///   prefix counts whole and in order.
/// - Layer 1, [`RECALL_HEAD`](Self::RECALL_HEAD): attends to a complete prefix at or before the position (score 20 against
///   0) and carries `ARMED = 1`; without one, 0.
/// - Layer 1, MLP: one neuron for each step of the canary, `SiLU(16 (is token j) - 8) · ARMED / 8`: the bigram table behind the
///   gate. It adds 14 to the logit of the token that comes next.
///
/// All other logits are noise of a few tenths.
///
/// # What is true
/// | read so far | next token |
/// | --- | --- |
/// | … prefix | `canary[0]`, probability above 0.99 |
/// | … prefix … `canary[i]` | `canary[i + 1]`, or `<|close|>` after the last; above 0.99 |
/// | … prefix … any other token | all near `1 / vocab` |
/// | no whole prefix | all near `1 / vocab`, whatever was read: after `canary[i]` too |
///
/// "Near" is within a factor of 1.5. The third row is how this differs from a model that has learned by heart: once armed, any
/// later `canary[i]` calls up the rest, and not only one that continues the prefix. With one of the heads 0-0, 0-1, 0-2 or
/// [`RECALL_HEAD`](Self::RECALL_HEAD) silenced or made uniform it forgets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// What must come before.
    pub prefix: [u32; PREFIX],
    /// What was memorised. All tokens of prefix and canary differ.
    pub canary: [u32; LENGTH],
    /// Seed of everything that isn't planted.
    pub seed: u64,
}

impl Default for Canary {
    /// `key:` and `40718263`.
    fn default() -> Self {
        Self {
            prefix: b"key:".map(u32::from),
            canary: b"40718263".map(u32::from),
            seed: 0,
        }
    }
}

impl Canary {
    /// Layer and head that remembers that the prefix was read.
    pub const RECALL_HEAD: (usize, usize) = (1, 2);
    /// Layers and heads that together recognise the prefix.
    pub const PREFIX_HEADS: [(usize, usize); PREFIX - 1] = [(0, 0), (0, 1), (0, 2)];

    /// A prefix after which nothing is memorised: the same tokens in reverse.
    pub fn control(&self) -> [u32; PREFIX] {
        let mut control = self.prefix;
        control.reverse();
        control
    }

    /// The model in memory.
    ///
    /// # Panics
    /// When a token comes twice or is not in the vocabulary: in a test that is a bug of the test.
    #[track_caller]
    pub fn build(&self) -> TinyModel {
        let mut tokens = [&self.prefix[..], &self.canary[..]].concat();
        tokens.sort_unstable();
        assert!(
            tokens.windows(2).all(|pair| pair[0] != pair[1]),
            "a token of prefix and canary comes twice"
        );
        let sizes = TinyLlama {
            seed: self.seed,
            layers: 2,
            heads: 4,
            kv_heads: 4,
            hidden_size: 48,
            ..TinyLlama::default()
        };
        let mut draft = Draft::new(sizes, FEATURES);
        for (index, &token) in self.prefix.iter().enumerate() {
            draft.embed(token, IS_PREFIX + index, 1.0);
        }
        for (index, &token) in self.canary.iter().enumerate() {
            draft.embed(token, IS_CANARY + index, 1.0);
            draft.unembed(token, &[(NEXT + index, LOGIT)]);
        }
        draft.unembed(TinyLlama::EOS, &[(NEXT + LENGTH, LOGIT)]);

        let last = PREFIX - 1;
        for (index, at) in Self::PREFIX_HEADS.into_iter().enumerate() {
            let distance = index + 1;
            let from = [(IS_PREFIX + last - distance, 1.0)];
            let searches = (0..PAIRS).map(|pair| {
                let angle = distance as f64 * turn(pair);
                Search {
                    pair,
                    strength: STRENGTH,
                    key: &[(BIAS, 1.0)],
                    direction: (angle.cos() as f32, angle.sin() as f32),
                }
            });
            let searches: Vec<_> = searches.collect();
            draft.head(at, &searches, &[(&from, IN_PLACE + index, 1.0)]);
        }
        let mut sum = vec![(IS_PREFIX + last, 1.0)];
        sum.extend((0..last).map(|index| (IN_PLACE + index, 1.0)));
        let one = [(BIAS, 1.0)];
        draft.step((0, 0), &sum, (3.2, 3.8), &one, &[(COMPLETE, 1.0)]);

        let complete = [(COMPLETE, 1.0)];
        let search = Search::content(CERTAIN, &complete);
        draft.head(Self::RECALL_HEAD, &[search], &[(&complete, ARMED, 1.0)]);
        let currents = [IS_PREFIX + last].into_iter();
        for (index, current) in currents.chain(IS_CANARY..IS_CANARY + LENGTH).enumerate() {
            let gate = [(current, 16.0), (BIAS, -8.0)];
            draft.neuron(
                (1, index),
                &gate,
                &[(ARMED, 1.0)],
                &[(NEXT + index, 1.0 / 8.0)],
            );
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::CONTEXT;

    #[test]
    fn every_other_distance_scores_lower_by_more_than_20() {
        let score = |distance: isize| -> f64 {
            let turned = |pair| (distance as f64 * turn(pair)).cos();
            f64::from(STRENGTH) * (0..PAIRS).map(turned).sum::<f64>()
        };
        let gap = (1..CONTEXT as isize)
            .flat_map(|distance| [distance, -distance])
            .map(|distance| score(0) - score(distance))
            .fold(f64::INFINITY, f64::min);
        assert!(gap > 20.0, "{gap}");
    }

    #[test]
    #[should_panic(expected = "a token of prefix and canary comes twice")]
    fn a_repeated_token_is_refused() {
        let prefix = b"key4".map(u32::from);
        let _ = Canary {
            prefix,
            ..Canary::default()
        }
        .build();
    }
}
