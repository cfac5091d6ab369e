//! `adapter_model.safetensors`: read against the settings, written.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use ndarray::Array2;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::{LowRank, Target};
use crate::weights::{SafetensorsFiles, StoredTensor, StoredType, convert};
use crate::{Error, Result};

const WEIGHTS: &str = "adapter_model.safetensors";
const PICKLED: &str = "adapter_model.bin";
/// What PEFT's model puts before the names of the model in it.
const PREFIX: &str = "base_model.model.";

fn names(module: &str) -> [String; 2] {
    ["A", "B"].map(|which| format!("{PREFIX}{module}.lora_{which}.weight"))
}

pub(super) fn read(folder: &Path, chosen: &[Target<'_>]) -> Result<Vec<LowRank>> {
    let path = folder.join(WEIGHTS);
    if !path.exists() && folder.join(PICKLED).exists() {
        return Err(Error::Checkpoint {
            path: folder.join(PICKLED),
            problem: format!(
                "pickled weights are not read, because reading them can run code; save the adapter again as `{WEIGHTS}`"
            ),
        });
    }
    let files = SafetensorsFiles::file(&path)?;
    let mut spare: BTreeMap<&str, ()> = files.names().map(|name| (name, ())).collect();
    let mut matrices = Vec::with_capacity(chosen.len());
    for target in chosen {
        let module = target.module;
        let [a, b] = names(&module.name);
        let mut load = |name: &str, shape: [usize; 2]| -> Result<Array2<f32>> {
            let stored = files.get(name).ok_or_else(|| Error::MissingTensor {
                name: name.to_owned(),
                path: path.clone(),
            })?;
            spare.remove(name);
            values(&path, name, &stored, shape)
        };
        matrices.push(LowRank {
            module: module.name.clone(),
            a: load(&a, [target.rank, module.inputs])?,
            b: load(&b, [module.outputs, target.rank])?,
            scaling: target.scaling,
        });
    }
    match spare.keys().next() {
        None => Ok(matrices),
        Some(name) => Err(Error::Checkpoint {
            path,
            problem: format!(
                "tensor `{}`: expected only `….lora_A.weight` and `….lora_B.weight` of the matrices that the \
                 configuration targets in this model; found {} tensor{} more",
                name.escape_debug(),
                spare.len(),
                if spare.len() == 1 { "" } else { "s" }
            ),
        }),
    }
}

pub(super) fn values(
    path: &Path,
    name: &str,
    stored: &StoredTensor<'_>,
    shape: [usize; 2],
) -> Result<Array2<f32>> {
    if stored.shape != shape {
        return Err(Error::Shape {
            name: name.to_owned(),
            path: path.to_owned(),
            expected: shape.to_vec(),
            found: stored.shape.to_vec(),
        });
    }
    let wrong_type = |found: String| Error::TensorType {
        name: name.to_owned(),
        path: path.to_owned(),
        found,
    };
    let mut values = vec![0.0_f32; shape.iter().product()];
    match &stored.ty {
        StoredType::F32 => convert(stored.bytes, &mut values, f32::from_le_bytes),
        StoredType::F16 => convert(stored.bytes, &mut values, |two| {
            f16::from_le_bytes(two).to_f32()
        }),
        StoredType::Bf16 => convert(stored.bytes, &mut values, |two| {
            bf16::from_le_bytes(two).to_f32()
        }),
        StoredType::Other(found) => return Err(wrong_type(found.clone())),
        StoredType::Quantized(found) => return Err(wrong_type(format!("{found:?}"))),
    }
    if let Some((index, &value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
        return Err(Error::NotFinite {
            name: name.to_owned(),
            path: path.to_owned(),
            index,
            value,
        });
    }
    Array2::from_shape_vec(shape, values).map_err(|error| Error::Engine {
        engine: "ndarray".to_owned(),
        source: Box::new(error),
    })
}

pub(super) fn write(folder: &Path, matrices: &[LowRank]) -> Result<()> {
    let path = folder.join(WEIGHTS);
    let mut tensors = Vec::with_capacity(2 * matrices.len());
    for own in matrices {
        for (name, values) in names(&own.module).into_iter().zip([&own.a, &own.b]) {
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            tensors.push((name, vec![values.nrows(), values.ncols()], bytes));
        }
    }
    crate::files::replace(&path, &serialized(&path, &tensors, "pt", None)?)
}

/// Named `f32` tensors as the bytes of a safetensors file, with `format` and perhaps one more entry in its metadata.
pub(crate) fn serialized(
    path: &Path,
    tensors: &[(String, Vec<usize>, Vec<u8>)],
    format: &str,
    note: Option<(&str, String)>,
) -> Result<Vec<u8>> {
    let wrong = |source| Error::Safetensors {
        path: path.to_owned(),
        source,
    };
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(wrong)?;
            Ok((name.clone(), view))
        })
        .collect::<Result<Vec<_>>>()?;
    let format = [("format".to_owned(), format.to_owned())];
    let note = note.map(|(key, text)| (key.to_owned(), text));
    let metadata = format.into_iter().chain(note).collect();
    safetensors::serialize(views, Some(metadata)).map_err(wrong)
}
