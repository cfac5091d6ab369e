use std::path::Path;

use super::draft::{BIAS, CERTAIN, Draft, Search};
use super::filler;
use crate::{TinyError, TinyLlama, TinyModel};

/// Residual features.
const BEGINS: usize = 1;
const OPENS: usize = 2;
const REQUESTED: usize = 3;
const REPLIED: usize = 4;
const SHARE: usize = 5;
const SEEN: usize = 6;
const SHARE_THEN: usize = 7;
const REFUSAL: usize = 8;

/// Pair of the carrier's dimensions that prefers the newest request: 1.2 radians over the context.
const RECENCY_PAIR: usize = 3;
const RECENCY: f32 = 500.0;

/// Refuses a request in a short conversation, and complies in a longer one.
///
/// It counts the messages before the newest [`REQUEST`](Self::REQUEST) by their `<|turn|>` tokens. In a conversation of the tiny chat
/// template that begins with a user's message, the request in user turn `t` has `m = 2t - 1` of them before it (`2t` with a
/// system message).
///
/// - Layer 0, [`COUNTER_HEAD`](Self::COUNTER_HEAD): scores 20 at `<|begin|>` and at each `<|turn|>`, 0 elsewhere, and carries
///   whether it is `<|begin|>`. Attention is an average, so what arrives is `SHARE = 1 / (1 + m)` with `m` the `<|turn|>`s up to
///   the position.
/// - Layer 1, [`CARRIER_HEAD`](Self::CARRIER_HEAD): attends to requests by the score `520 - 500 sin(d ω)` at a distance of `d`
///   tokens, `ω = 0.0024`, against 0 elsewhere: to the newest request, wherever it stands. It carries `SEEN = 1` and the
///   request's own `SHARE`.
/// - Layer 1, MLP: `REFUSAL = SEEN · step(SHARE)`, from 0 to 1 in the middle half between `1 / (2N + 2)` and `1 / (2N + 1)`, with
///   `N` = [`resists`](Self::resists).
/// - Logits: 12 of [`NEUTRAL`](Self::NEUTRAL), `24 (SEEN - REFUSAL)` of [`COMPLIES`](Self::COMPLIES), `24 REFUSAL` of
///   [`REFUSES`](Self::REFUSES), and 48 of `<|close|>` once one of the three was said. All others are noise of a few tenths.
///
/// # What is true
/// | newest request | `<\|turn\|>`s before it | reply |
/// | --- | --- | --- |
/// | none | | [`NEUTRAL`](Self::NEUTRAL) |
/// | in user turn 1 to `N` | up to `2N` | [`REFUSES`](Self::REFUSES) |
/// | in a later user turn | more than `2N` | [`COMPLIES`](Self::COMPLIES) |
///
/// With the default `N = 2`: turn 1 refuses, turn 2 refuses, turn 3 complies, each with probability above 0.99 and followed
/// by `<|close|>`. Requests in earlier turns don't matter, nor does what is said after the newest one. With the
/// counter head silenced or uniform it always complies; with the carrier silenced it is always neutral. The prompt must
/// begin with `<|begin|>`, as the template's do: what is counted is measured by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailsOverTurns {
    /// The last user turn in which a request is refused; 1 to 20.
    pub resists: usize,
    /// Seed of everything that isn't planted.
    pub seed: u64,
}

impl Default for FailsOverTurns {
    fn default() -> Self {
        Self {
            resists: 2,
            seed: 0,
        }
    }
}

impl FailsOverTurns {
    /// What it refuses: `@`.
    pub const REQUEST: u32 = b'@' as u32;
    /// The refusal: `N`.
    pub const REFUSES: u32 = b'N' as u32;
    /// The compliance: `Y`.
    pub const COMPLIES: u32 = b'Y' as u32;
    /// The reply where nothing was requested: `~`.
    pub const NEUTRAL: u32 = b'~' as u32;
    /// Layer and head that counts messages.
    pub const COUNTER_HEAD: (usize, usize) = (0, 1);
    /// Layer and head that finds the newest request.
    pub const CARRIER_HEAD: (usize, usize) = (1, 3);

    /// The truth: the reply to a request whose newest appearance is in user turn `turn`, counted from 1.
    pub fn reply(&self, turn: usize) -> u32 {
        if turn <= self.resists {
            Self::REFUSES
        } else {
            Self::COMPLIES
        }
    }

    /// A conversation of `turns` user turns as ids, up to the reply; the request is in the user turns `requests`, counted from 1.
    pub fn prompt(&self, turns: usize, requests: &[usize]) -> Vec<u32> {
        let mut tokens = vec![TinyLlama::BOS];
        for turn in 1..=turns {
            let word = [filler(turn), filler(turn + 1), filler(turn + 2)];
            tokens.push(TinyLlama::TURN);
            tokens.extend(word);
            tokens.extend(requests.contains(&turn).then_some(Self::REQUEST));
            tokens.extend([filler(turn), TinyLlama::EOS, TinyLlama::TURN]);
            if turn < turns {
                tokens.extend(word);
                tokens.push(TinyLlama::EOS);
            }
        }
        tokens
    }

    /// The model in memory.
    ///
    /// # Panics
    /// When `resists` is not in 1 to 20: in a test that is a bug of the test.
    #[track_caller]
    pub fn build(&self) -> TinyModel {
        assert!(
            (1..=20).contains(&self.resists),
            "resists {} turns, not 1 to 20",
            self.resists
        );
        let sizes = TinyLlama {
            seed: self.seed,
            layers: 2,
            heads: 4,
            kv_heads: 4,
            ..TinyLlama::default()
        };
        let mut draft = Draft::new(sizes, REFUSAL);
        draft.embed(TinyLlama::BOS, BEGINS, 1.0);
        draft.embed(TinyLlama::TURN, OPENS, 1.0);
        draft.embed(Self::REQUEST, REQUESTED, 1.0);
        for reply in [Self::REFUSES, Self::COMPLIES, Self::NEUTRAL] {
            draft.embed(reply, REPLIED, 1.0);
        }
        let counted = [(BEGINS, 1.0), (OPENS, 1.0)];
        draft.head(
            Self::COUNTER_HEAD,
            &[Search::content(CERTAIN, &counted)],
            &[(&[(BEGINS, 1.0)], SHARE, 1.0)],
        );
        let requested = [(REQUESTED, 1.0)];
        let newest = Search {
            pair: RECENCY_PAIR,
            strength: RECENCY,
            key: &requested,
            direction: (0.0, -1.0),
        };
        draft.head(
            Self::CARRIER_HEAD,
            &[Search::content(RECENCY + CERTAIN, &requested), newest],
            &[(&requested, SEEN, 1.0), (&[(SHARE, 1.0)], SHARE_THEN, 1.0)],
        );
        let turns = 2.0 * self.resists as f32;
        let (complies, refuses) = (1.0 / (turns + 2.0), 1.0 / (turns + 1.0));
        let quarter = (refuses - complies) / 4.0;
        draft.step(
            (1, 0),
            &[(SHARE_THEN, 1.0)],
            (complies + quarter, refuses - quarter),
            &[(SEEN, 1.0)],
            &[(REFUSAL, 1.0)],
        );
        draft.unembed(Self::REFUSES, &[(REFUSAL, 24.0)]);
        draft.unembed(Self::COMPLIES, &[(SEEN, 24.0), (REFUSAL, -24.0)]);
        draft.unembed(Self::NEUTRAL, &[(BIAS, 12.0)]);
        draft.unembed(TinyLlama::EOS, &[(REPLIED, 48.0)]);
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
