//! LoRA adapters on the host, in PEFT's folder format.
//!
//! An adapter adds `scaling · B·A` to matrices of a model: `A` is `[rank, in]`, `B` is `[out, rank]`. A folder holds
//! `adapter_config.json` and `adapter_model.safetensors`; both are read and written as PEFT does. What asks for numbers that
//! these two matrices alone do not give (DoRA, biases, replaced modules, …) is refused by name.

mod config;
mod modules;
mod read;
mod soft;
mod targets;
mod tensors;

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::Array2;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

pub use config::AdapterConfig;
pub(crate) use modules::{Module, modules};
pub use soft::SoftPrompt;
pub use targets::Targets;
#[cfg(feature = "torch")]
pub(crate) use tensors::serialized;

use crate::weights::{Checkpoint, read_json};
use crate::{Error, Result};

const CONFIG: &str = "adapter_config.json";

/// A LoRA adapter: settings and matrices, on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    config: AdapterConfig,
    /// Whether the weights it is on are stored input-first; PEFT's files say so and change no number by it.
    fan_in_fan_out: bool,
    matrices: Vec<LowRank>,
}

/// What an adapter adds to one matrix: `scaling · B·A`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LowRank {
    /// Name of the matrix in Hugging Face's model, such as `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// `[rank, in]`.
    pub a: Array2<f32>,
    /// `[out, rank]`.
    pub b: Array2<f32>,
    /// Factor of the product.
    pub scaling: f64,
}

impl Adapter {
    /// Reads a folder as PEFT saves it, for the model of `checkpoint` (a GGUF file of the same model will do).
    ///
    /// # Errors
    /// Settings that are not read, by name; tensors that are missing, spare, not finite, or of another shape or type than the
    /// configuration implies; files that cannot be read. Each names the file, the tensor or key, what was expected and found.
    pub fn open(folder: impl AsRef<Path>, checkpoint: &Checkpoint) -> Result<Self> {
        let folder = folder.as_ref();
        let path = folder.join(CONFIG);
        if folder.is_dir() && !path.exists() {
            return Err(Error::Checkpoint {
                path: folder.to_owned(),
                problem: format!("no `{CONFIG}`: not the folder of an adapter"),
            });
        }
        let value = read_json(&path)?;
        let config = AdapterConfig::from_json(&path, &value)?;
        let modules = modules(checkpoint);
        let chosen = chosen(&config, &modules).map_err(|error| of_file(&path, error))?;
        Ok(Self {
            matrices: tensors::read(folder, &chosen)?,
            fan_in_fan_out: value
                .get("fan_in_fan_out")
                .and_then(serde_json::Value::as_bool)
                == Some(true),
            config,
        })
    }

    /// A new adapter for the model of `checkpoint`: `A` uniform in ±1/√in, `B` zero, so that it changes nothing yet. Equal
    /// seeds give equal adapters.
    ///
    /// # Errors
    /// Settings outside their ranges, and targets that name no matrix of the model.
    pub fn new(checkpoint: &Checkpoint, config: AdapterConfig, seed: u64) -> Result<Self> {
        config.check()?;
        let modules = modules(checkpoint);
        let chosen = chosen(&config, &modules)?;
        let fan_in_fan_out = chosen.iter().any(|target| target.module.transposed);
        let matrices = chosen
            .iter()
            .map(|target| {
                let Module {
                    name,
                    inputs,
                    outputs,
                    ..
                } = target.module;
                let rank = target.rank.min(config::MAX_RANK);
                LowRank {
                    module: name.clone(),
                    a: uniform(seed, name, rank, *inputs),
                    b: Array2::zeros((*outputs, rank)),
                    scaling: target.scaling,
                }
            })
            .collect();
        Ok(Self {
            config,
            fan_in_fan_out,
            matrices,
        })
    }

    /// Writes `adapter_config.json` and `adapter_model.safetensors` (in `f32`, under PEFT's names) into `folder`, which is
    /// made if it is absent. Each file is written beside, synchronised and renamed.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        tensors::write(folder, &self.matrices)?;
        let config = self.config.to_json(self.fan_in_fan_out);
        let mut text = format!("{config:#}");
        text.push('\n');
        crate::files::replace(&folder.join(CONFIG), text.as_bytes())
    }

    /// Its settings.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// What it adds, matrix by matrix, in the order of the model's blocks.
    pub fn matrices(&self) -> &[LowRank] {
        &self.matrices
    }

    /// The same, to be changed in place.
    pub fn matrices_mut(&mut self) -> impl Iterator<Item = (&mut Array2<f32>, &mut Array2<f32>)> {
        self.matrices.iter_mut().map(|own| (&mut own.a, &mut own.b))
    }

    /// SHA-256, in hexadecimal, over the matrices and scalings by name.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(b"lm-safety adapter 1\0");
        for own in &self.matrices {
            hasher.update(format!("{} {:?} ", own.module, own.a.dim()));
            hasher.update(own.scaling.to_le_bytes());
            for value in own.a.iter().chain(&own.b) {
                hasher.update(value.to_le_bytes());
            }
        }
        crate::weights::hex(&hasher.finalize())
    }

    /// The matrices with those of `modules` they are on; refuses an adapter for another model.
    #[cfg(feature = "torch")]
    pub(crate) fn placed<'a>(
        &'a self,
        modules: &'a [Module],
    ) -> Result<Vec<(&'a LowRank, &'a Module)>> {
        let placed = self.matrices.iter().map(|own| {
            let name = format!("adapter's matrix `{}`", own.module);
            let Some(module) = modules.iter().find(|module| module.name == own.module) else {
                return Err(Error::argument(name, "a matrix of this model", "none"));
            };
            let rank = own.a.nrows();
            let expected = [(rank, module.inputs), (module.outputs, rank)];
            if [own.a.dim(), own.b.dim()] != expected || !own.scaling.is_finite() {
                let found = format!("{:?}", [own.a.dim(), own.b.dim()]);
                return Err(Error::argument(
                    name,
                    format!("A and B {expected:?}"),
                    found,
                ));
            }
            Ok((own, module))
        });
        placed.collect()
    }
}

/// A matrix that an adapter is on, by its settings.
struct Target<'a> {
    module: &'a Module,
    rank: usize,
    scaling: f64,
}

fn chosen<'a>(config: &AdapterConfig, modules: &'a [Module]) -> Result<Vec<Target<'a>>> {
    let names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
    let chosen = config.chosen(&names)?;
    if chosen.is_empty() {
        let ends: BTreeMap<&str, ()> = names
            .iter()
            .filter_map(|name| name.rsplit('.').next())
            .map(|end| (end, ()))
            .collect();
        let known = ends.into_keys().collect::<Vec<_>>().join(", ");
        return Err(Error::argument(
            "target_modules",
            format!("matrices of this model: {known}"),
            format!("{:?}", config.targets),
        ));
    }
    Ok(chosen
        .into_iter()
        .filter_map(|(index, rank, scaling)| {
            let module = modules.get(index)?;
            Some(Target {
                module,
                rank,
                scaling,
            })
        })
        .collect())
}

fn of_file(path: &Path, error: Error) -> Error {
    match error {
        Error::Argument {
            name,
            expected,
            found,
        } => Error::Config {
            path: path.to_owned(),
            key: name,
            expected,
            found,
        },
        other => other,
    }
}

/// `[rank, inputs]`, uniform in ±1/√inputs, as PEFT begins; a function of seed and name.
fn uniform(seed: u64, name: &str, rank: usize, inputs: usize) -> Array2<f32> {
    let mut hasher = Sha256::new();
    hasher.update(b"lm-safety adapter start 1\0");
    hasher.update(seed.to_le_bytes());
    hasher.update(name.as_bytes());
    let mut generator = ChaCha8Rng::from_seed(hasher.finalize().into());
    let bound = 1.0 / (inputs as f64).sqrt();
    Array2::from_shape_simple_fn((rank, inputs), || {
        let share = f64::from(generator.next_u32()) / 4_294_967_296.0;
        #[allow(clippy::cast_possible_truncation, reason = "a weight is an f32")]
        {
            (bound * (2.0 * share - 1.0)) as f32
        }
    })
}
