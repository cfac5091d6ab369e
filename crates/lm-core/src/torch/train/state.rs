//! The state of training in one file, so that it is there whole or not at all.

use std::path::Path;

use ndarray::Array2;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::data::Example;
use super::learnt::Learnt;
use super::trainer::Trainer;
use crate::adapter::serialized;
use crate::weights::{SafetensorsFiles, StoredType, convert, hex};
use crate::{Error, Result};

/// Where a run stands beside weights and moments.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Progress {
    /// Best loss on the held-out examples, and what had it.
    pub(super) best: Option<(f64, Learnt)>,
    /// Evaluations since.
    pub(super) since: usize,
}

/// What stands in the file's metadata. Numbers that must come back to the bit are written as bits.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    run: String,
    step: usize,
    updates: u64,
    best: Option<u64>,
    since: usize,
}

const KEY: &str = "lm-safety training 1";

/// What a state belongs to: model, adapter at the start, examples, and the options that numbers depend on.
pub(super) fn fingerprint(
    trainer: &Trainer<'_>,
    data: &[Example],
    held_out: &[Example],
) -> Result<String> {
    let mut hasher = Sha256::new();
    let provenance = trainer.model.provenance()?;
    let options = super::TrainOptions {
        state: None,
        save_every: 0,
        ..trainer.options.clone()
    };
    let learnt = trainer.learnt.hash();
    hasher.update(format!(
        "{:?} {:?} {:?} {learnt} {options:?}",
        provenance.model_hash, provenance.adapters, provenance.dtype
    ));
    for example in data.iter().chain(held_out) {
        hasher.update(format!("{example:?}"));
    }
    hasher.update((data.len() as u64).to_le_bytes());
    Ok(hex(&hasher.finalize()))
}

pub(super) fn save(
    path: &Path,
    run: &str,
    trainer: &Trainer<'_>,
    progress: &Progress,
) -> Result<()> {
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: (usize, usize), values: &mut dyn Iterator<Item = f32>| {
        let bytes = values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
        tensors.push((name, vec![shape.0, shape.1], bytes));
    };
    let best = progress.best.as_ref().map(|(_, learnt)| learnt);
    for (kind, learnt) in [("weight", Some(&trainer.learnt)), ("best", best)] {
        let all = learnt.into_iter().flat_map(Learnt::values);
        for (index, own) in all.enumerate() {
            add(
                format!("{kind}.{index}"),
                own.dim(),
                &mut own.iter().copied(),
            );
        }
    }
    let optimizer = &trainer.optimizer;
    for (kind, moments) in [("mean", &optimizer.means), ("square", &optimizer.squares)] {
        for (index, own) in moments.iter().enumerate() {
            add(
                format!("{kind}.{index}"),
                (1, own.len()),
                &mut own.iter().copied(),
            );
        }
    }
    let note = Note {
        run: run.to_owned(),
        step: trainer.step,
        updates: optimizer.steps,
        best: progress.best.as_ref().map(|(loss, _)| loss.to_bits()),
        since: progress.since,
    };
    let note = serde_json::to_string(&note).map_err(|source| Error::Json {
        path: path.to_owned(),
        source,
    })?;
    let bytes = serialized(path, &tensors, "lm-safety", Some((KEY, note)))?;
    crate::files::replace(path, &bytes)
}

/// Takes a state back. Refuses one of another run.
pub(super) fn resume(path: &Path, run: &str, trainer: &mut Trainer<'_>) -> Result<Progress> {
    let refuse = |problem: String| Error::Checkpoint {
        path: path.to_owned(),
        problem,
    };
    let files = SafetensorsFiles::file(path)?;
    let note = note(path)?;
    let note: Note = serde_json::from_str(&note).map_err(|source| Error::Json {
        path: path.to_owned(),
        source,
    })?;
    if note.run != run {
        return Err(refuse(
            "the state of another run: expected the same model, adapter, examples and options; remove it to begin anew"
                .to_owned(),
        ));
    }
    if note.step > trainer.options.steps {
        let found = format!("step {} of {}", note.step, trainer.options.steps);
        return Err(refuse(found));
    }
    let read = |name: String, shape: (usize, usize)| -> Result<Vec<f32>> {
        let stored = files.get(&name).ok_or_else(|| Error::MissingTensor {
            name: name.clone(),
            path: path.to_owned(),
        })?;
        if stored.ty != StoredType::F32 || stored.shape != [shape.0, shape.1] {
            return Err(Error::Shape {
                name,
                path: path.to_owned(),
                expected: vec![shape.0, shape.1],
                found: stored.shape.to_vec(),
            });
        }
        let mut values = vec![0.0; shape.0 * shape.1];
        convert(stored.bytes, &mut values, f32::from_le_bytes);
        Ok(values)
    };
    let learnt = |kind: &str| -> Result<Learnt> {
        let mut learnt = trainer.learnt.clone();
        for (index, own) in learnt.values_mut().enumerate() {
            let values = read(format!("{kind}.{index}"), own.dim())?;
            *own = Array2::from_shape_vec(own.dim(), values)
                .map_err(|error| refuse(error.to_string()))?;
        }
        Ok(learnt)
    };
    let weights = learnt("weight")?;
    let best = match note.best {
        Some(bits) => Some((f64::from_bits(bits), learnt("best")?)),
        None => None,
    };
    let mut optimizer = trainer.optimizer.clone();
    optimizer.steps = note.updates;
    for (kind, moments) in [
        ("mean", &mut optimizer.means),
        ("square", &mut optimizer.squares),
    ] {
        for (index, own) in moments.iter_mut().enumerate() {
            *own = read(format!("{kind}.{index}"), (1, own.len()))?;
        }
    }
    trainer.restore(weights, optimizer, note.step)?;
    Ok(Progress {
        best,
        since: note.since,
    })
}

/// Our entry of the file's metadata.
fn note(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let (_, metadata) =
        SafeTensors::read_metadata(&bytes).map_err(|source| Error::Safetensors {
            path: path.to_owned(),
            source,
        })?;
    let own = metadata.metadata().as_ref().and_then(|map| map.get(KEY));
    own.cloned().ok_or_else(|| Error::Checkpoint {
        path: path.to_owned(),
        problem: format!("expected the state of a training run, with `{KEY}` in its metadata"),
    })
}
