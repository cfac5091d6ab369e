//! Dropout from keys, so that a pass can be repeated.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use tch::Tensor;

use crate::Result;

/// Sets a share of the inputs of one adapted matrix to zero and scales the rest.
#[derive(Clone, Debug)]
pub(in crate::torch) struct Dropout {
    key: [u8; 32],
    matrix: u64,
    share: f64,
}

impl Dropout {
    /// For one micro-batch of one step; `None` if nothing is dropped.
    pub(super) fn new(share: f64, seed: u64, step: u64, batch: u64) -> Option<Self> {
        let mut hasher = Sha256::new();
        hasher.update(b"lm-safety dropout 1\0");
        for number in [seed, step, batch] {
            hasher.update(number.to_le_bytes());
        }
        (share > 0.0).then(|| Self {
            key: hasher.finalize().into(),
            matrix: 0,
            share,
        })
    }

    /// The same for another matrix.
    pub(super) fn of(&self, matrix: usize) -> Self {
        Self {
            matrix: matrix as u64,
            ..self.clone()
        }
    }

    /// Equal for equal shapes, at every call: projections that share an input matrix, and a block that is computed again,
    /// see the same zeros.
    pub(in crate::torch) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let mut generator = ChaCha8Rng::from_seed(self.key);
        generator.set_stream(self.matrix);
        let mut bytes = vec![0_u8; x.numel() * 4];
        generator.fill_bytes(&mut bytes);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of 32 bits, and an f32"
        )]
        let (below, kept) = (
            (self.share * 4_294_967_296.0) as u32,
            (1.0 / (1.0 - self.share)) as f32,
        );
        let (words, _) = bytes.as_chunks::<4>();
        let mask: Vec<f32> = words
            .iter()
            .map(|word| {
                if u32::from_le_bytes(*word) < below {
                    0.0
                } else {
                    kept
                }
            })
            .collect();
        let mask = Tensor::f_from_slice(&mask)?.f_view(x.size().as_slice())?;
        Ok(x.f_mul(&mask.f_to_device(x.device())?)?)
    }
}
