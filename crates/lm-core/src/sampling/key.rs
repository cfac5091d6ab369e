//! Where a row's draws come from.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// The source of one row's draws.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowKey([u8; 32]);

impl RowKey {
    /// The key of repetition `repeat` of the item called `item` in the run with seed `seed`. Depends on nothing else, so
    /// that shards, batches and restarts draw alike.
    pub fn new(seed: u64, item: &str, repeat: u64) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"lm-safety row key 1\0");
        hasher.update(seed.to_le_bytes());
        hasher.update(repeat.to_le_bytes());
        hasher.update(item.as_bytes());
        Self(hasher.finalize().into())
    }

    /// A number in [0, 1) for `step`, the same at every call.
    pub fn uniform(&self, step: u64) -> f64 {
        self.bits(step) as f64 * (0.5_f64).powi(53)
    }

    /// [`RowKey::uniform`] times 2^53: a whole number below 2^53, as many bits as an `f64` holds.
    fn bits(&self, step: u64) -> u64 {
        let mut generator = ChaCha8Rng::from_seed(self.0);
        generator.set_stream(step);
        generator.next_u64() >> 11
    }

    /// ⌊[`RowKey::uniform`] · `total`⌋, without rounding.
    pub(super) fn below(&self, step: u64, total: u64) -> u64 {
        let product = u128::from(self.bits(step)) * u128::from(total);
        // Below `total`, so nothing is cut off.
        (product >> 53) as u64
    }
}
