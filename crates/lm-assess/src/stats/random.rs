//! Draws that are a function of (seed, purpose, replicate): neither threads, nor shards, nor a restart can change them.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Keeps draws of one seed for different purposes apart.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Bootstrap,
    Permutation,
}

/// The stream of one replicate. ChaCha is a pseudo-random function of key and stream, so the seed can stand in the key as it
/// is.
pub(super) struct Stream(ChaCha8Rng);

impl Stream {
    pub(super) fn new(seed: u64, purpose: Purpose, replicate: u64) -> Self {
        let mut key = [0; 32];
        let (head, tail) = key.split_at_mut(8);
        head.copy_from_slice(&seed.to_le_bytes());
        tail.copy_from_slice(match purpose {
            Purpose::Bootstrap => b"lm-safety bootstrap    1",
            Purpose::Permutation => b"lm-safety permutation  1",
        });
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(replicate);
        Self(generator)
    }

    /// A whole number below `bound`, each equally likely; 0 for a bound of 0. Lemire, "Fast random integer generation in an
    /// interval", 2019.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        loop {
            let product = u128::from(self.0.next_u64()) * u128::from(bound);
            let low = product as u64;
            // What would make small numbers likelier is drawn again; the division is rarely needed.
            if low >= bound || low >= bound.wrapping_neg() % bound {
                return (product >> 64) as usize;
            }
        }
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}
