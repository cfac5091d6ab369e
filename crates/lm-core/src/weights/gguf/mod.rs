//! Reading GGUF, the single-file format of llama.cpp, strictly.
//!
//! [`Gguf::parse`] turns the bytes of a file, usually memory-mapped, into an index: typed [`Metadata`], and for every
//! tensor a [`TensorInfo`] with its shape, type and place. The index borrows nothing and copies no weights; hand the
//! same bytes to [`TensorInfo::bytes`] or [`TensorInfo::dequantize`] to get at them.
//!
//! ```
//! use lm_core::weights::gguf::{Gguf, GgufError};
//!
//! fn embedding_rows(file: &[u8]) -> Result<Vec<f32>, GgufError> {
//!     let gguf = Gguf::parse(file)?;
//!     let embedding = gguf.require("token_embd.weight")?;
//!     let mut weights = vec![0.0; embedding.weights()];
//!     embedding.dequantize(file, &mut weights)?;
//!     Ok(weights)
//! }
//! assert!(matches!(embedding_rows(b"PK\x03\x04"), Err(GgufError::Magic { .. })));
//! ```
//!
//! # What is accepted
//!
//! Versions 2 and 3, little-endian, in one file. A GGUF file may come from anywhere, so everything the format says is
//! checked, and where it leaves a choice the reader takes the narrow one:
//!
//! | matter | rule |
//! | --- | --- |
//! | counts and lengths | compared with the bytes that are left before anything is allocated |
//! | memory | a string or an array of numbers never costs more than its bytes in the file; header ≤ 64 MiB ([`MAX_HEADER_BYTES`]); ≤ 65,536 metadata entries and as many tensors ([`MAX_ENTRIES`]) |
//! | keys, tensor names | UTF-8 without control characters, 1 to 65,535 and 1 to 64 bytes, each once |
//! | values | known types; booleans 0 or 1; strings UTF-8; arrays at most four deep ([`MAX_ARRAY_DEPTH`]) |
//! | shapes | at most four dimensions, none of them zero; whole blocks in each row; sizes that do not overflow |
//! | alignment | a power of two from 8 to 65,536, of type `uint32` |
//! | data | tensors one after the other in the order they are listed, padded to the alignment; no hole, no overlap, nothing after the last one's padding |
//!
//! Every refusal is its own [`GgufError`].

mod cursor;
mod dequantize;
mod error;
mod fuzzing;
mod metadata;
mod names;
mod tensors;
mod types;
mod value;

use cursor::Cursor;
use names::NameIndex;
use tensors::{DataSection, Description};

pub use dequantize::{DEQUANTIZABLE, DequantizeError, dequantize, dequantize_parallel};
pub use error::{GgufError, Result};
#[doc(hidden)]
pub use fuzzing::check as fuzz_check;
pub use metadata::Metadata;
pub use tensors::TensorInfo;
pub use types::GgmlType;
pub use value::{Array, MAX_ARRAY_DEPTH, StringArray, Value};

/// Most bytes that metadata and tensor descriptions may take together. The largest vocabularies need about 15 MB.
pub const MAX_HEADER_BYTES: usize = 64 << 20;

/// Most metadata entries, and most tensors, of one file. Real files have some dozens and some thousands.
pub const MAX_ENTRIES: usize = 1 << 16;

const MAGIC: [u8; 4] = *b"GGUF";
const DEFAULT_ALIGNMENT: u32 = 32;
/// The format asks for a multiple of 8, and so it is safe to view the data as any of its types.
const LEAST_ALIGNMENT: u32 = 8;
const MOST_ALIGNMENT: u32 = 1 << 16;

/// The index of a GGUF file: everything but the weights.
#[derive(Debug, Clone)]
pub struct Gguf {
    version: u32,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    index: NameIndex,
    data: DataSection,
}

impl Gguf {
    /// Reads and checks the header in `file`, the bytes of a whole GGUF file.
    ///
    /// # Errors
    /// [`GgufError`], one variant for each way in which a file can be wrong.
    pub fn parse(file: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(file, MAX_HEADER_BYTES);
        let version = read_version(&mut cursor)?;
        let tensor_count = read_entry_count(
            &mut cursor,
            tensors::SMALLEST_DESCRIPTION,
            "number of tensors",
        )?;
        let entry_count = read_entry_count(
            &mut cursor,
            metadata::SMALLEST_ENTRY,
            "number of metadata entries",
        )?;

        let metadata = Metadata::read(&mut cursor, entry_count)?;
        let alignment = read_alignment(&metadata)?;
        let parts = metadata
            .optional("split.count", Metadata::u64)?
            .unwrap_or(1);
        if parts > 1 {
            return Err(GgufError::Split { count: parts });
        }

        let descriptions = (0..tensor_count)
            .map(|position| Description::read(&mut cursor, position))
            .collect::<Result<Vec<_>>>()?;
        // The header ends within 64 MiB, so that padding it cannot overflow.
        let start = cursor.offset().next_multiple_of(alignment);
        let data = DataSection {
            start,
            length: file.len().saturating_sub(start),
            alignment,
        };
        let tensors = tensors::lay_out(descriptions, data)?;
        let index = NameIndex::new(tensor_count, |tensor| &tensors[tensor].name).map_err(
            |(first, second)| GgufError::DuplicateTensor {
                name: tensors[first].name.clone(),
                first,
                second,
            },
        )?;
        Ok(Self {
            version,
            metadata,
            tensors,
            index,
            data,
        })
    }

    /// Version of the format: 2 or 3.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What the file says about itself.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors in the order of the file.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor called `name`.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let position = self.index.find(name, |tensor| &self.tensors[tensor].name)?;
        Some(&self.tensors[position])
    }

    /// The tensor called `name`, which must be there.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`].
    pub fn require(&self, name: &str) -> Result<&TensorInfo> {
        self.tensor(name).ok_or_else(|| GgufError::MissingTensor {
            tensor: name.to_owned(),
        })
    }

    /// What each tensor's place in the file is a multiple of, in bytes.
    #[must_use]
    pub fn alignment(&self) -> usize {
        self.data.alignment
    }

    /// Where the weights start, in bytes from the start of the file. Without tensors this may lie past its end.
    #[must_use]
    pub fn data_offset(&self) -> usize {
        self.data.start
    }
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32> {
    let magic = cursor.array(&"the magic")?;
    if magic != MAGIC {
        return Err(GgufError::Magic { found: magic });
    }
    match cursor.u32(&"the version")? {
        version @ (2 | 3) => Ok(version),
        1 => Err(GgufError::VersionOne),
        // Both byte orders share the magic; a small version that sits in the upper half tells them apart.
        swapped if swapped.trailing_zeros() >= 16 && swapped != 0 => Err(GgufError::BigEndian {
            version: swapped.swap_bytes(),
        }),
        found => Err(GgufError::Version { found }),
    }
}

fn read_entry_count(cursor: &mut Cursor<'_>, smallest: usize, what: &'static str) -> Result<u32> {
    let count = cursor.count(smallest, &what)?;
    if count > MAX_ENTRIES {
        return Err(GgufError::TooMany {
            what: what.to_owned(),
            count: count as u64,
            limit: MAX_ENTRIES,
        });
    }
    // Lossless: the limit is far below.
    Ok(count as u32)
}

fn read_alignment(metadata: &Metadata) -> Result<usize> {
    const KEY: &str = "general.alignment";
    let alignment = match metadata.get(KEY) {
        None => DEFAULT_ALIGNMENT,
        Some(Value::U32(alignment)) => *alignment,
        Some(other) => {
            return Err(GgufError::WrongType {
                key: KEY.to_owned(),
                expected: "uint32",
                found: other.to_string(),
            });
        }
    };
    if !alignment.is_power_of_two() || !(LEAST_ALIGNMENT..=MOST_ALIGNMENT).contains(&alignment) {
        return Err(GgufError::Alignment {
            found: alignment,
            least: LEAST_ALIGNMENT,
            most: MOST_ALIGNMENT,
        });
    }
    Ok(alignment as usize)
}
