//! Tensor descriptions: names, shapes, types and places.

use std::ops::Range;

use super::cursor::Cursor;
use super::dequantize::dequantize_parallel;
use super::error::{GgufError, Result};
use super::types::GgmlType;

/// Longest tensor name in bytes, as the format has it. llama.cpp's own buffer of 64 holds 63 and a terminator.
const MAX_NAME_BYTES: usize = 64;

/// Most dimensions a tensor may have, as the format has it.
const MAX_DIMENSIONS: usize = 4;

/// Bytes of the smallest description: length, one byte of name, number of dimensions (none), type, offset.
pub(super) const SMALLEST_DESCRIPTION: usize = 8 + 1 + 4 + 4 + 8;

/// One tensor of a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Shape in row-major order, slowest dimension first: the reverse of what the file holds.
    pub shape: Vec<usize>,
    /// How the weights are stored.
    pub ty: GgmlType,
    /// Where the weights lie, in bytes from the start of the file.
    pub range: Range<usize>,
}

impl TensorInfo {
    /// Number of weights.
    #[must_use]
    pub fn weights(&self) -> usize {
        // Whole blocks of a type whose weights were counted without overflow when the file was read.
        self.range.len() / self.ty.block_bytes() * self.ty.block_weights()
    }

    /// The stored bytes, in the file's own type and little-endian order. `file` is what was parsed.
    ///
    /// # Errors
    /// [`GgufError::ForeignBytes`] if `file` is too short to be what was parsed.
    pub fn bytes<'a>(&self, file: &'a [u8]) -> Result<&'a [u8]> {
        file.get(self.range.clone())
            .ok_or_else(|| GgufError::ForeignBytes {
                tensor: self.name.clone(),
                start: self.range.start,
                end: self.range.end,
                available: file.len(),
            })
    }

    /// Writes the weights to `out` as `f32`, row-major, on all of rayon's threads.
    ///
    /// Bit-equal to the `gguf` Python package for the types of [`DEQUANTIZABLE`](super::DEQUANTIZABLE).
    ///
    /// # Errors
    /// [`GgufError::ForeignBytes`]; [`GgufError::Dequantize`] for another type, or if `out` does not have exactly
    /// [`weights`](Self::weights) elements.
    pub fn dequantize(&self, file: &[u8], out: &mut [f32]) -> Result<()> {
        dequantize_parallel(self.ty, self.bytes(file)?, out).map_err(|reason| {
            GgufError::Dequantize {
                tensor: self.name.clone(),
                reason,
            }
        })
    }
}

/// A tensor as the file describes it, checked on its own but not yet against the data section.
pub(super) struct Description {
    name: String,
    shape: Vec<usize>,
    ty: GgmlType,
    /// Bytes of data.
    size: usize,
    /// In the data section.
    offset: u64,
}

/// The data section.
#[derive(Debug, Clone, Copy)]
pub(super) struct DataSection {
    /// Where it starts in the file.
    pub(super) start: usize,
    /// Its length in bytes; 0 if the file ends before it starts.
    pub(super) length: usize,
    /// What the offset of each tensor is a multiple of.
    pub(super) alignment: usize,
}

impl Description {
    /// Reads the description at the cursor, the file's `position`-th.
    pub(super) fn read(cursor: &mut Cursor<'_>, position: u32) -> Result<Self> {
        let name = cursor.name(MAX_NAME_BYTES, &format_args!("name of tensor {position}"))?;
        let what = format_args!("description of tensor {name:?}");

        let dimension_count = cursor.u32(&what)?;
        let dimension_count = match usize::try_from(dimension_count) {
            Ok(count) if count <= MAX_DIMENSIONS => count,
            _ => {
                return Err(GgufError::DimensionCount {
                    tensor: name.to_owned(),
                    found: dimension_count,
                    limit: MAX_DIMENSIONS,
                });
            }
        };
        let dimensions = (0..dimension_count)
            .map(|_| cursor.u64(&what))
            .collect::<Result<Vec<_>>>()?;
        let ty = cursor.u32(&what)?;
        let ty = GgmlType::from_id(ty).ok_or_else(|| GgufError::TensorType {
            tensor: name.to_owned(),
            found: ty,
        })?;
        let offset = cursor.u64(&what)?;

        let (shape, size) = measure(name, &dimensions, ty)?;
        Ok(Self {
            name: name.to_owned(),
            shape,
            ty,
            size,
            offset,
        })
    }
}

/// Row-major shape and number of bytes of a tensor with these `dimensions` (fastest first, as in the file).
fn measure(name: &str, dimensions: &[u64], ty: GgmlType) -> Result<(Vec<usize>, usize)> {
    if dimensions.contains(&0) {
        return Err(GgufError::ZeroDimension {
            tensor: name.to_owned(),
            dimensions: dimensions.to_vec(),
        });
    }
    // A tensor without dimensions is one number.
    let row = dimensions.first().copied().unwrap_or(1);
    let block = ty.block_weights();
    if !row.is_multiple_of(block as u64) {
        return Err(GgufError::BlockMultiple {
            tensor: name.to_owned(),
            row,
            ty,
            block,
        });
    }

    let overflow = || GgufError::ShapeOverflow {
        tensor: name.to_owned(),
        dimensions: dimensions.to_vec(),
        ty,
    };
    let shape = dimensions
        .iter()
        .rev()
        .map(|&dimension| usize::try_from(dimension).map_err(|_| overflow()))
        .collect::<Result<Vec<_>>>()?;
    // Also counted as `f32`, which is what a caller will allocate.
    let weights = shape
        .iter()
        .try_fold(1_usize, |product, &dimension| {
            product.checked_mul(dimension)
        })
        .filter(|weights| weights.checked_mul(size_of::<f32>()).is_some())
        .ok_or_else(overflow)?;
    let size = (weights / block)
        .checked_mul(ty.block_bytes())
        .ok_or_else(overflow)?;
    Ok((shape, size))
}

/// Checks that the tensors fill the data section one after the other, each padded to the alignment.
///
/// This is llama.cpp's rule too, so nothing in use breaks it; it leaves no room for tensors that share bytes or for
/// content that only some readers see.
pub(super) fn lay_out(
    descriptions: Vec<Description>,
    section: DataSection,
) -> Result<Vec<TensorInfo>> {
    let DataSection {
        start,
        length,
        alignment,
    } = section;
    let mut tensors = Vec::with_capacity(descriptions.len());
    let mut end = 0_usize;
    for description in descriptions {
        let Description {
            name,
            shape,
            ty,
            size,
            offset,
        } = description;
        if !offset.is_multiple_of(alignment as u64) {
            return Err(GgufError::UnalignedTensor {
                tensor: name,
                offset,
                alignment,
            });
        }
        let inside = usize::try_from(offset).ok().filter(|&offset| {
            offset
                .checked_add(size)
                .is_some_and(|tensor_end| tensor_end <= length)
        });
        let Some(from) = inside else {
            return Err(GgufError::TensorBeyondEnd {
                tensor: name,
                offset,
                size,
                available: length,
            });
        };
        // `end` lies inside the file, so that padding it to at most 64 KiB cannot overflow.
        let expected = end.next_multiple_of(alignment);
        if from < expected {
            return Err(GgufError::OverlappingTensor {
                tensor: name,
                offset,
                expected,
            });
        }
        if from > expected {
            return Err(GgufError::HoleBeforeTensor {
                tensor: name,
                offset,
                expected,
            });
        }
        end = from + size;
        tensors.push(TensorInfo {
            name,
            shape,
            ty,
            range: start + from..start + end,
        });
    }

    let found = length - end;
    let allowed = alignment - 1;
    if found > allowed {
        return Err(GgufError::TrailingData {
            offset: start + end,
            found,
            allowed,
        });
    }
    Ok(tensors)
}
