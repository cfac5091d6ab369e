//! Families of decoders: for each, how its configuration becomes a [`DecoderSpec`] and what its weights are called.
//!
//! A family is data. It holds no arithmetic: adding one never touches the decoder unless the family brings a switch that
//! no other has.

mod config;
mod llama;

use std::path::Path;

pub(crate) use config::{ConfigSource, JsonConfig, MetadataConfig, short};

use crate::spec::{DecoderSpec, Part};
use crate::{Error, Result};

/// What a family gives.
#[derive(Debug)]
pub(crate) struct Family {
    /// Its name: `model_type` of `config.json`, `general.architecture` of GGUF.
    pub(crate) name: &'static str,
    /// Reads a `config.json`.
    pub(crate) from_json: fn(&JsonConfig<'_>) -> Result<DecoderSpec>,
    /// Reads GGUF metadata, given whether the file has an unembedding of its own.
    pub(crate) from_gguf: fn(&MetadataConfig<'_>) -> Result<DecoderSpec>,
    /// Where a weight stands in a safetensors checkpoint.
    pub(crate) hf_source: fn(&DecoderSpec, Part) -> Source,
    /// Where a weight stands in a GGUF file.
    pub(crate) gguf_source: fn(&DecoderSpec, Part) -> Source,
}

/// Where a weight stands in a checkpoint, and what must be done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Name in the file.
    pub(crate) name: String,
    /// From the stored arrangement to the decoder's.
    pub(crate) transform: Transform,
}

/// From a stored arrangement to the decoder's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transform {
    /// Stored as the decoder wants it.
    None,
    /// GGUF's llama files interleave the two halves of each rotated head, row `2i + j` for `j·dim/2 + i`: undone here.
    UninterleaveHeads {
        /// Heads stacked along the rows.
        heads: usize,
    },
}

const FAMILIES: &[&Family] = &[&llama::FAMILY];

/// The family called `name` in the file `path`.
pub(crate) fn find(name: &str, path: &Path) -> Result<&'static Family> {
    FAMILIES
        .iter()
        .copied()
        .find(|family| family.name == name)
        .ok_or_else(|| Error::UnknownFamily {
            path: path.to_owned(),
            found: format!("`{name}`"),
            known: known_names(),
        })
}

pub(crate) fn known_names() -> String {
    FAMILIES
        .iter()
        .map(|family| format!("`{}`", family.name))
        .collect::<Vec<_>>()
        .join(", ")
}

impl Transform {
    /// Applies the transform to `[rows, width]` values. The shape stays the same.
    pub(crate) fn apply(self, values: Vec<f32>, shape: &[usize]) -> Vec<f32> {
        match self {
            Self::None => values,
            Self::UninterleaveHeads { heads } => {
                let rows = shape.first().copied().unwrap_or(0);
                if heads == 0 || rows == 0 || !rows.is_multiple_of(2 * heads) || values.is_empty() {
                    return values;
                }
                let width = values.len() / rows;
                let (dim, half) = (rows / heads, rows / heads / 2);
                let mut out = Vec::with_capacity(values.len());
                for row in 0..rows {
                    let (head, within) = (row / dim, row % dim);
                    let from = head * dim + 2 * (within % half) + within / half;
                    out.extend_from_slice(&values[from * width..(from + 1) * width]);
                }
                out
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uninterleaving_undoes_the_converters_permutation() {
        // The converter maps [heads, 2, dim/2, width] to [heads, dim/2, 2, width].
        let (heads, dim, width) = (3, 8, 2);
        let original: Vec<f32> = (0_u8..48).map(f32::from).collect();
        let mut stored = Vec::new();
        for head in 0..heads {
            for i in 0..dim / 2 {
                for j in 0..2 {
                    let row = head * dim + j * dim / 2 + i;
                    stored.extend_from_slice(&original[row * width..(row + 1) * width]);
                }
            }
        }
        assert_ne!(stored, original);
        let undone = Transform::UninterleaveHeads { heads }.apply(stored, &[heads * dim, width]);
        assert_eq!(undone, original);
    }
}
