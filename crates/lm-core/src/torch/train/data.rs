//! What is learnt from, and in which order.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// A text and which of its tokens are to be learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    tokens: Vec<u32>,
    targets: Vec<bool>,
}

impl Example {
    /// `targets[i]` says whether token `i` is learnt, given the tokens before it.
    ///
    /// # Errors
    /// Not one flag a token; no target; the first token as a target, which has nothing before it.
    pub fn new(tokens: Vec<u32>, targets: Vec<bool>) -> Result<Self> {
        if tokens.len() != targets.len() {
            let expected = format!("one for each of {} tokens", tokens.len());
            return Err(Error::argument("targets", expected, targets.len()));
        }
        if targets.first() == Some(&true) {
            let expected = "no target at position 0: nothing stands before it";
            return Err(Error::argument("targets", expected, "one"));
        }
        if !targets.contains(&true) {
            return Err(Error::Empty {
                what: "targets of an example".to_owned(),
                unit: "token",
            });
        }
        Ok(Self { tokens, targets })
    }

    /// A prompt and the reply to be learnt.
    ///
    /// # Errors
    /// Either is empty.
    pub fn reply(prompt: &[u32], reply: &[u32]) -> Result<Self> {
        if prompt.is_empty() {
            return Err(Error::Empty {
                what: "prompt of an example".to_owned(),
                unit: "token",
            });
        }
        let targets = std::iter::repeat_n(false, prompt.len());
        let targets = targets.chain(std::iter::repeat_n(true, reply.len()));
        Self::new([prompt, reply].concat(), targets.collect())
    }

    /// A text of which the tokens in `ranges` are to be learnt: those of the assistant's messages, say.
    ///
    /// # Errors
    /// As [`Example::new`], and a range beyond the text.
    pub fn within(tokens: Vec<u32>, ranges: &[Range<usize>]) -> Result<Self> {
        let mut targets = vec![false; tokens.len()];
        for range in ranges {
            match targets.get_mut(range.clone()) {
                Some(own) => own.fill(true),
                None => {
                    let expected = format!("within {} tokens", tokens.len());
                    return Err(Error::argument("range", expected, format!("{range:?}")));
                }
            }
        }
        Self::new(tokens, targets)
    }

    /// The tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Which of them are learnt.
    pub fn targets(&self) -> &[bool] {
        &self.targets
    }

    /// How many are.
    pub fn target_count(&self) -> usize {
        self.targets.iter().filter(|target| **target).count()
    }
}

/// Batches that are sorted by length together.
const GROUP: usize = 50;

/// Batches of indices into examples of these lengths, for one pass over them: a function of the seed and the number of the
/// pass. With `grouped`, rows of a batch are of similar length, and the batches still come in random order.
pub fn epoch_batches(
    lengths: &[usize],
    rows: usize,
    grouped: bool,
    seed: u64,
    epoch: u64,
) -> Vec<Vec<usize>> {
    let mut generator = generator(seed, epoch);
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    shuffle(&mut order, &mut generator);
    let rows = rows.max(1);
    if grouped {
        for group in order.chunks_mut(rows.saturating_mul(GROUP)) {
            group.sort_by_key(|&index| std::cmp::Reverse(lengths.get(index).copied()));
        }
    }
    let mut batches: Vec<Vec<usize>> = order.chunks(rows).map(<[usize]>::to_vec).collect();
    if grouped {
        shuffle(&mut batches, &mut generator);
    }
    batches
}

fn generator(seed: u64, epoch: u64) -> ChaCha8Rng {
    let mut hasher = Sha256::new();
    hasher.update(b"lm-safety training order 1\0");
    hasher.update(seed.to_le_bytes());
    hasher.update(epoch.to_le_bytes());
    ChaCha8Rng::from_seed(hasher.finalize().into())
}

/// Fisher and Yates. The remainder of 64 bits favours no index by anything that could be measured.
fn shuffle<T>(list: &mut [T], generator: &mut ChaCha8Rng) {
    for end in (1..list.len()).rev() {
        let other = generator.next_u64() % (end as u64 + 1);
        list.swap(end, usize::try_from(other).unwrap_or(end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_holds_every_example_once_and_is_its_seed() {
        let lengths: Vec<usize> = (0..23).map(|index| index * 7 % 11).collect();
        for grouped in [false, true] {
            let batches = epoch_batches(&lengths, 4, grouped, 1, 0);
            assert_eq!(batches.len(), 6);
            let mut all = batches.concat();
            all.sort_unstable();
            assert_eq!(all, (0..23).collect::<Vec<_>>());
            assert_eq!(epoch_batches(&lengths, 4, grouped, 1, 0), batches);
            assert_ne!(epoch_batches(&lengths, 4, grouped, 2, 0), batches);
            assert_ne!(epoch_batches(&lengths, 4, grouped, 1, 1), batches);
            let spread = |batch: &Vec<usize>| {
                let own = batch.iter().map(|&index| lengths[index]);
                own.clone().max().unwrap() - own.min().unwrap()
            };
            let widest = batches.iter().map(spread).max().unwrap();
            assert_eq!(widest <= 3, grouped, "{widest}");
        }
    }

    #[test]
    fn examples_that_teach_nothing_are_refused() {
        for wrong in [
            Example::new(vec![1, 2], vec![false]),
            Example::new(vec![1, 2], vec![true, false]),
            Example::new(vec![1, 2], vec![false, false]),
            Example::reply(&[], &[1]),
            Example::reply(&[1], &[]),
            Example::within(vec![1, 2], std::slice::from_ref(&(1..3))),
        ] {
            wrong.unwrap_err();
        }
        let example = Example::within(vec![1, 2, 3], std::slice::from_ref(&(1..2))).unwrap();
        assert_eq!(example.targets(), [false, true, false]);
        assert_eq!(Example::reply(&[1, 2], &[3]).unwrap().target_count(), 1);
    }
}
