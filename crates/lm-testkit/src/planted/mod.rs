//! Models built by hand, whose behaviour is known by construction: a method that finds something else is wrong.
//!
//! | model | what it does | the truth it tests |
//! | --- | --- | --- |
//! | [`MarkerHead`] | one head carries a marker into the answer | exactly one head matters |
//! | [`TwoHeads`] | either of two heads carries the marker | neither matters alone, both together do |
//! | [`Canary`] | one sequence is memorised behind a prefix of four tokens | what is extracted, and after what |
//! | [`FailsOverTurns`] | refuses a request, but no longer after enough turns | at which turn a defence gives way |
//!
//! All of them are llamas in f32 that load like any other; text is one token a byte, but for the merges of
//! [`TinyLlama`]'s tokenizer. What they have in common:
//!
//! - **The bias.** Residual dimension 0 holds the same number `c = 16 √hidden` at every token, and no block writes to
//!   it. It outweighs the rest, so that the RMS norms (weights 1) divide by 16 within a part in a thousand, and read
//!   through one it is the constant from which queries and thresholds are made.
//! - **Features.** The next dimensions are named by each model. Only what is planted there writes to them, and only what
//!   is planted reads them: all noise is exactly 0 in these rows and columns.
//! - **Noise.** Embeddings in the remaining dimensions, and all other heads and neurons, are seeded and small. They
//!   change every logit a little and carry no feature anywhere.
//! - **Positions.** A head's width is 16 and the rotary base 10⁷, so that pair `i` of a head's dimensions turns by
//!   `10^(-0.875 i)` radians a token. Pair 7 turns by less than 0.0004 over the whole context of 512: what is matched
//!   there does not feel positions. Pairs 0 to 3 are used where a position is what is asked for.

mod canary;
mod draft;
mod fails_over_turns;
mod marker_head;
mod two_heads;

pub use canary::Canary;
pub use fails_over_turns::FailsOverTurns;
pub use marker_head::MarkerHead;
pub use two_heads::TwoHeads;

use crate::TinyLlama;

/// Most tokens a prompt of a planted model may hold.
const CONTEXT: usize = 512;

/// A lower-case letter as token, for a place in a prompt where it does not matter which.
fn filler(place: usize) -> u32 {
    u32::from(b'a') + (place * 7 % 26) as u32
}

/// `<|begin|>` and letters, `length` tokens in all, with `marker` at the position `at`.
///
/// # Panics
/// When `at` is not a position after the first: in a test that is a bug of the test.
#[track_caller]
fn marked_prompt(length: usize, marker: u32, at: Option<usize>) -> Vec<u32> {
    let mut tokens: Vec<u32> = (0..length).map(filler).collect();
    if let Some(first) = tokens.first_mut() {
        *first = TinyLlama::BOS;
    }
    if let Some(at) = at {
        assert!(
            (1..length).contains(&at),
            "the marker's position {at} is not in 1..{length}"
        );
        tokens[at] = marker;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use std::{error::Error, fs};

    use super::*;
    use crate::TinyModel;

    type Outcome = Result<(), Box<dyn Error>>;

    fn all(seed: u64) -> [TinyModel; 4] {
        [
            MarkerHead {
                seed,
                ..MarkerHead::default()
            }
            .build(),
            TwoHeads {
                seed,
                ..TwoHeads::default()
            }
            .build(),
            Canary {
                seed,
                ..Canary::default()
            }
            .build(),
            FailsOverTurns {
                seed,
                ..FailsOverTurns::default()
            }
            .build(),
        ]
    }

    #[test]
    fn the_same_files_are_written_every_time() -> Outcome {
        let [first, second] = [tempfile::tempdir()?, tempfile::tempdir()?];
        for (one, other) in all(7).into_iter().zip(all(7)) {
            one.write(first.path())?;
            other.write(second.path())?;
            let mut files = 0;
            for entry in fs::read_dir(first.path())? {
                let path = entry?.path();
                let name = path.file_name().ok_or("no name")?;
                assert_eq!(fs::read(&path)?, fs::read(second.path().join(name))?);
                files += 1;
            }
            assert_eq!(files, 5);
        }
        Ok(())
    }

    #[test]
    fn a_seed_changes_the_noise_and_no_feature() {
        for ((one, other), features) in all(1).into_iter().zip(all(2)).zip([2, 3, 26, 8]) {
            assert_eq!(one.config, other.config);
            assert_ne!(one.tensors, other.tensors);
            for (name, tensor) in &one.tensors {
                let Some(&columns) = tensor.shape.get(1) else {
                    assert!(tensor.values.iter().all(|&value| value == 1.0), "{name}");
                    continue;
                };
                let writes = name.contains("o_proj") || name.contains("down_proj");
                let of = |model: &TinyModel, feature: usize| -> Vec<f32> {
                    let tensor = &model.tensors[name];
                    if writes {
                        tensor.at(&[feature]).to_vec()
                    } else {
                        let column = tensor.values.iter().skip(feature).step_by(columns);
                        column.copied().collect()
                    }
                };
                for feature in 1..=features {
                    assert_eq!(of(&one, feature), of(&other, feature), "{name}, {feature}");
                }
                let bias = of(&one, 0);
                assert!(!writes || bias.iter().all(|&value| value == 0.0), "{name}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "no head 1-4 in 3 layers of 4 heads")]
    fn a_head_that_is_not_there_is_named() {
        let _ = MarkerHead {
            head: 4,
            ..MarkerHead::default()
        }
        .build();
    }

    #[test]
    #[should_panic(expected = "3 KV heads don't divide 4 heads")]
    fn kv_heads_must_divide() {
        let _ = TwoHeads {
            kv_heads: 3,
            ..TwoHeads::default()
        }
        .build();
    }

    #[test]
    #[should_panic(expected = "the marker's position 0 is not in 1..8")]
    fn the_marker_does_not_replace_the_beginning() {
        let _ = MarkerHead::default().prompt(8, Some(0));
    }
}
