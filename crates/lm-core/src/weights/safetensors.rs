//! Safetensors checkpoints: one file, or shards named by an index.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::mmap::MappedFile;
use super::{StoredTensor, StoredType};
use crate::{Error, Result, family};

/// The tensors of a safetensors checkpoint, mapped.
#[derive(Debug)]
pub(crate) struct SafetensorsFiles {
    files: Vec<MappedFile>,
    tensors: HashMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    file: usize,
    ty: StoredType,
    shape: Vec<usize>,
    range: Range<usize>,
}

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

impl SafetensorsFiles {
    /// Whether `folder` holds a safetensors checkpoint.
    pub(crate) fn present(folder: &Path) -> bool {
        folder.join(SINGLE).exists() || folder.join(INDEX).exists()
    }

    /// Maps `model.safetensors`, else the shards of `model.safetensors.index.json`.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        if folder.join(SINGLE).exists() {
            return Self::map(vec![folder.join(SINGLE)]);
        }
        let index = folder.join(INDEX);
        let shards = read_index(&index)?;
        let refuse = |problem| Error::Checkpoint {
            path: index.clone(),
            problem,
        };
        if let Some(absent) = shards.keys().find(|shard| !folder.join(shard).exists()) {
            return Err(refuse(format!(
                "names `{}`, which is not in the folder; perhaps its download was interrupted",
                absent.escape_debug()
            )));
        }
        let files = Self::map(shards.keys().map(|shard| folder.join(shard)).collect())?;
        for (shard, names) in &shards {
            for name in names {
                let stands_in = files
                    .tensors
                    .get(name)
                    .map(|entry| files.files[entry.file].path());
                if stands_in != Some(folder.join(shard).as_path()) {
                    return Err(refuse(format!(
                        "tensor `{}` is not in `{}`, where the index puts it",
                        name.escape_debug(),
                        shard.escape_debug()
                    )));
                }
            }
        }
        let listed: usize = shards.values().map(Vec::len).sum();
        if listed != files.tensors.len() {
            return Err(refuse(format!(
                "lists {listed} tensors, but the shards hold {}",
                files.tensors.len()
            )));
        }
        Ok(files)
    }

    /// Maps one file.
    pub(crate) fn file(path: &Path) -> Result<Self> {
        Self::map(vec![path.to_owned()])
    }

    fn map(paths: Vec<PathBuf>) -> Result<Self> {
        let mut files = Vec::with_capacity(paths.len());
        let mut tensors = HashMap::new();
        for path in paths {
            let mapped = MappedFile::open(&path)?;
            let (header, metadata) =
                SafeTensors::read_metadata(mapped.bytes()).map_err(|source| {
                    Error::Safetensors {
                        path: path.clone(),
                        source,
                    }
                })?;
            // The reader has checked that header and tensors fill the file exactly.
            let base = header + size_of::<u64>();
            for (name, info) in metadata.tensors() {
                let (start, end) = info.data_offsets;
                let entry = Entry {
                    file: files.len(),
                    ty: stored_type(info.dtype),
                    shape: info.shape.clone(),
                    range: base + start..base + end,
                };
                if tensors.insert(name.clone(), entry).is_some() {
                    let problem = format!(
                        "tensor `{}` stands in another shard too",
                        name.escape_debug()
                    );
                    return Err(Error::Checkpoint { path, problem });
                }
            }
            files.push(mapped);
        }
        Ok(Self { files, tensors })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(crate) fn get(&self, name: &str) -> Option<StoredTensor<'_>> {
        let entry = self.tensors.get(name)?;
        let file = self.files.get(entry.file)?;
        Some(StoredTensor {
            ty: entry.ty.clone(),
            shape: &entry.shape,
            bytes: file.bytes().get(entry.range.clone())?,
        })
    }
}

/// Shard names of an index with the tensors each should hold. A shard is a plain file name beside the index: anything
/// that could lead elsewhere is refused.
fn read_index(path: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let value = super::read_json(path)?;
    let wrong = |key: &str, expected: &str, found: &Value| Error::Config {
        path: path.to_owned(),
        key: key.to_owned(),
        expected: expected.to_owned(),
        found: family::short(found),
    };
    let Some(Value::Object(map)) = value.get("weight_map") else {
        return Err(wrong(
            "weight_map",
            "an object of tensor names to file names",
            &value["weight_map"],
        ));
    };
    let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, shard) in map {
        let plain = shard.as_str().filter(|name| {
            let mut parts = Path::new(name).components();
            matches!((parts.next(), parts.next()), (Some(Component::Normal(only)), None) if only == *name)
                && !name.contains(['\\', '\0', ':'])
        });
        let Some(name) = plain else {
            return Err(wrong(
                &format!("weight_map.{}", tensor.escape_debug()),
                "a file name in the model's own folder",
                shard,
            ));
        };
        shards
            .entry(name.to_owned())
            .or_default()
            .push(tensor.clone());
    }
    if shards.is_empty() {
        return Err(wrong(
            "weight_map",
            "at least one tensor",
            &value["weight_map"],
        ));
    }
    Ok(shards)
}

fn stored_type(dtype: Dtype) -> StoredType {
    match dtype {
        Dtype::F32 => StoredType::F32,
        Dtype::F16 => StoredType::F16,
        Dtype::BF16 => StoredType::Bf16,
        other => StoredType::Other(format!("{other:?}")),
    }
}
