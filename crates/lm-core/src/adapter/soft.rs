//! Soft prompts on the host.

use std::path::Path;

use ndarray::Array2;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use super::tensors::serialized;
use crate::weights::{SafetensorsFiles, hex};
use crate::{Error, Result};

/// Trained vectors that stand before a prompt in the place of token embeddings: `[virtual token, hidden]`.
///
/// They replace rows of the embedding table, so a family that scales its embeddings scales these too.
#[derive(Clone, Debug, PartialEq)]
pub struct SoftPrompt {
    values: Array2<f32>,
}

/// PEFT's name for them.
const NAME: &str = "prompt_embeddings";
/// Most virtual tokens.
const MOST: usize = 1 << 16;

impl SoftPrompt {
    /// From values `[virtual token, hidden]`.
    ///
    /// # Errors
    /// No rows or too many, no columns, a value that is not finite.
    pub fn new(values: Array2<f32>) -> Result<Self> {
        let (rows, width) = values.dim();
        if !(1..=MOST).contains(&rows) || width == 0 {
            let expected = format!("[1 to {MOST}, hidden]");
            return Err(Error::argument(
                "soft prompt",
                expected,
                format!("[{rows}, {width}]"),
            ));
        }
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(Error::argument("soft prompt", "finite values", value)),
            None => Ok(Self {
                values: match values.is_standard_layout() {
                    true => values,
                    false => values.as_standard_layout().into_owned(),
                },
            }),
        }
    }

    /// `tokens` vectors of zeros of a model's width.
    ///
    /// # Errors
    /// As [`SoftPrompt::new`].
    pub fn zeros(tokens: usize, hidden: usize) -> Result<Self> {
        Self::new(Array2::zeros((tokens.min(MOST + 1), hidden)))
    }

    /// Normal values of standard deviation `deviation`; equal seeds give equal prompts.
    ///
    /// # Errors
    /// As [`SoftPrompt::new`].
    pub fn normal(tokens: usize, hidden: usize, deviation: f64, seed: u64) -> Result<Self> {
        let mut hasher = Sha256::new();
        hasher.update(b"lm-safety soft prompt 1\0");
        hasher.update(seed.to_le_bytes());
        let mut generator = ChaCha8Rng::from_seed(hasher.finalize().into());
        let mut share = || (f64::from(generator.next_u32()) + 0.5) / 4_294_967_296.0;
        Self::new(Array2::from_shape_simple_fn(
            (tokens.min(MOST + 1), hidden),
            || {
                // Box and Muller.
                let (radius, angle) = ((-2.0 * share().ln()).sqrt(), share());
                let normal = radius * (2.0 * std::f64::consts::PI * angle).cos();
                #[allow(clippy::cast_possible_truncation, reason = "a weight is an f32")]
                {
                    (deviation * normal) as f32
                }
            },
        ))
    }

    /// Reads a safetensors file with one tensor `prompt_embeddings` `[virtual token, hidden]`, as PEFT's prompt tuning writes.
    ///
    /// # Errors
    /// A file that cannot be read; another tensor, shape or type; values that are not finite.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let files = SafetensorsFiles::file(path)?;
        if let Some(name) = files.names().find(|name| *name != NAME) {
            let name = name.escape_debug();
            return Err(Error::Checkpoint {
                path: path.to_owned(),
                problem: format!("expected the tensor `{NAME}` alone, found `{name}`"),
            });
        }
        let stored = files.get(NAME).ok_or_else(|| Error::MissingTensor {
            name: NAME.to_owned(),
            path: path.to_owned(),
        })?;
        let shape = match stored.shape[..] {
            [rows, width] if (1..=MOST).contains(&rows) && width > 0 => [rows, width],
            _ => {
                return Err(Error::Checkpoint {
                    path: path.to_owned(),
                    problem: format!(
                        "tensor `{NAME}`: expected shape [1 to {MOST}, hidden], found {:?}",
                        stored.shape
                    ),
                });
            }
        };
        super::tensors::values(path, NAME, &stored, shape).map(|values| Self { values })
    }

    /// Writes such a file, in `f32`: beside, synchronised, renamed.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = self.values.iter().flat_map(|value| value.to_le_bytes());
        let (rows, width) = self.values.dim();
        let tensors = [(NAME.to_owned(), vec![rows, width], bytes.collect())];
        crate::files::replace(path, &serialized(path, &tensors, "pt", None)?)
    }

    /// `[virtual token, hidden]`.
    pub fn values(&self) -> &Array2<f32> {
        &self.values
    }

    #[cfg(feature = "torch")]
    pub(crate) fn values_mut(&mut self) -> &mut Array2<f32> {
        &mut self.values
    }

    /// Virtual tokens.
    pub fn tokens(&self) -> usize {
        self.values.nrows()
    }

    /// SHA-256, in hexadecimal, over the values.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(format!("lm-safety soft prompt 1 {:?} ", self.values.dim()));
        for value in &self.values {
            hasher.update(value.to_le_bytes());
        }
        hex(&hasher.finalize())
    }
}
