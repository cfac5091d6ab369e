//! Why a GGUF file was refused.

use std::str::Utf8Error;

use super::dequantize::DequantizeError;
use super::types::GgmlType;

/// Result of reading a GGUF file.
pub type Result<T, E = GgufError> = std::result::Result<T, E>;

/// Everything that can be wrong with a GGUF file, or with a question asked of one.
///
/// `offset` is a position in the file, in bytes from its start. Names taken from the file are printed escaped, so that
/// a hostile name cannot drive a terminal. The path is not known here; callers that opened the file add it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file does not begin with the four letters of the format.
    #[error("not a GGUF file: expected the magic \"GGUF\", found \"{}\"", found.escape_ascii())]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },

    /// The file was written for big-endian machines.
    #[error(
        "big-endian GGUF (version {version}); only little-endian files are read, convert it with `gguf-convert-endian`"
    )]
    BigEndian {
        /// The version, after swapping its bytes.
        version: u32,
    },

    /// GGUF version 1, whose counts have another width.
    #[error(
        "GGUF version 1 is obsolete; expected version 2 or 3, convert the original checkpoint again"
    )]
    VersionOne,

    /// A version this reader does not know.
    #[error("unknown GGUF version {found}, expected 2 or 3")]
    Version {
        /// The version in the file.
        found: u32,
    },

    /// The file is one part of several.
    #[error(
        "this is part of a model split into {count} files; join them with `llama-gguf-split --merge` and open the result"
    )]
    Split {
        /// How many parts the model has.
        count: u64,
    },

    /// The file ends inside its header.
    #[error(
        "file ends inside {what}: {needed} bytes expected at offset {offset}, {available} left"
    )]
    Truncated {
        /// What was being read.
        what: String,
        /// Where.
        offset: usize,
        /// Bytes it needs.
        needed: usize,
        /// Bytes left.
        available: usize,
    },

    /// Metadata and tensor descriptions together exceed [`MAX_HEADER_BYTES`](super::MAX_HEADER_BYTES).
    #[error("header too large: {what} at offset {offset} passes the limit of {limit} bytes")]
    HeaderTooLarge {
        /// What was being read.
        what: String,
        /// Where.
        offset: usize,
        /// The limit in bytes.
        limit: usize,
    },

    /// A count promises more items than the rest of the file could hold.
    #[error(
        "{what}: {count} items declared at offset {offset}, but the {available} bytes after it hold at most {possible}"
    )]
    Count {
        /// What is counted.
        what: String,
        /// Position of the count.
        offset: usize,
        /// The count in the file.
        count: u64,
        /// Bytes after the count.
        available: usize,
        /// Items that fit into them at their smallest.
        possible: usize,
    },

    /// More entries than any real file has.
    #[error("{what}: {count} items declared, the limit is {limit}")]
    TooMany {
        /// What is counted.
        what: String,
        /// The count in the file.
        count: u64,
        /// The limit.
        limit: usize,
    },

    /// A string is longer than the rest of the file.
    #[error("{what}: string of {length} bytes declared at offset {offset}, {available} left")]
    StringLength {
        /// Which string.
        what: String,
        /// Position of its length.
        offset: usize,
        /// The declared length in bytes.
        length: u64,
        /// Bytes left after the length.
        available: usize,
    },

    /// A key or a tensor name is empty or longer than the format allows.
    #[error("{what} at offset {offset} has {length} bytes, expected 1 to {limit}")]
    NameLength {
        /// Which name.
        what: String,
        /// Position of its length.
        offset: usize,
        /// Its length in bytes.
        length: usize,
        /// The longest the format allows.
        limit: usize,
    },

    /// A key or a tensor name holds a control character, which other readers would end or print differently.
    #[error("{what} at offset {offset} holds a control character: {name:?}")]
    NameControl {
        /// Which name.
        what: String,
        /// Position of its length.
        offset: usize,
        /// The name.
        name: String,
    },

    /// A string is not UTF-8.
    #[error("{what} at offset {offset} is not UTF-8: {reason}")]
    Utf8 {
        /// Which string.
        what: String,
        /// Position of its first byte.
        offset: usize,
        /// Where in the string, and how.
        reason: Utf8Error,
    },

    /// A metadata value has a type number the format does not define.
    #[error("{what}: unknown value type {found} at offset {offset}, expected 0 to 12")]
    ValueType {
        /// Whose value.
        what: String,
        /// Position of the type number.
        offset: usize,
        /// The type number.
        found: u32,
    },

    /// A boolean is neither 0 nor 1.
    #[error("{what}: expected a boolean, 0 or 1, at offset {offset}, found {found}")]
    Bool {
        /// Whose value.
        what: String,
        /// Position of the byte.
        offset: usize,
        /// The byte.
        found: u8,
    },

    /// Arrays within arrays go deeper than [`MAX_ARRAY_DEPTH`](super::MAX_ARRAY_DEPTH).
    #[error("{what}: arrays nested deeper than {limit} at offset {offset}")]
    ArrayDepth {
        /// Whose value.
        what: String,
        /// Position of the array that is one too deep.
        offset: usize,
        /// The limit.
        limit: usize,
    },

    /// Two metadata entries have one key.
    #[error("metadata key {key:?} occurs twice, as entries {first} and {second}")]
    DuplicateKey {
        /// The key.
        key: String,
        /// 0-based number of the first entry.
        first: usize,
        /// 0-based number of the second.
        second: usize,
    },

    /// Two tensors have one name.
    #[error("tensor {name:?} occurs twice, as tensors {first} and {second}")]
    DuplicateTensor {
        /// The name.
        name: String,
        /// 0-based number of the first tensor.
        first: usize,
        /// 0-based number of the second.
        second: usize,
    },

    /// `general.alignment` is not usable.
    #[error("general.alignment: expected a power of two from {least} to {most}, found {found}")]
    Alignment {
        /// The value in the file.
        found: u32,
        /// Smallest value accepted.
        least: u32,
        /// Largest value accepted.
        most: u32,
    },

    /// A metadata entry that is needed is absent.
    #[error("metadata key {key:?} is missing, expected {expected}")]
    MissingKey {
        /// The key.
        key: String,
        /// The type it should have.
        expected: &'static str,
    },

    /// A metadata entry has another type than it should.
    #[error("metadata key {key:?}: expected {expected}, found {found}")]
    WrongType {
        /// The key.
        key: String,
        /// The type it should have.
        expected: &'static str,
        /// The type it has.
        found: String,
    },

    /// A metadata integer does not fit the range its meaning demands.
    #[error("metadata key {key:?}: expected {expected}, found {found}")]
    OutOfRange {
        /// The key.
        key: String,
        /// The range it should lie in.
        expected: &'static str,
        /// The value.
        found: i128,
    },

    /// A tensor has more than four dimensions.
    #[error("tensor {tensor:?}: expected at most {limit} dimensions, found {found}")]
    DimensionCount {
        /// The tensor.
        tensor: String,
        /// Its number of dimensions.
        found: u32,
        /// The most the format allows.
        limit: usize,
    },

    /// A tensor has a dimension of zero, so no weights.
    #[error("tensor {tensor:?}: dimension of zero in {dimensions:?} (ggml order)")]
    ZeroDimension {
        /// The tensor.
        tensor: String,
        /// Its dimensions as in the file, fastest first.
        dimensions: Vec<u64>,
    },

    /// A tensor's number of weights or of bytes overflows.
    #[error("tensor {tensor:?}: {dimensions:?} (ggml order) of {ty} is larger than any memory")]
    ShapeOverflow {
        /// The tensor.
        tensor: String,
        /// Its dimensions as in the file, fastest first.
        dimensions: Vec<u64>,
        /// Its type.
        ty: GgmlType,
    },

    /// A tensor has a type number ggml does not define, or no longer does.
    #[error("tensor {tensor:?}: unknown ggml type {found}")]
    TensorType {
        /// The tensor.
        tensor: String,
        /// The type number.
        found: u32,
    },

    /// A quantised tensor's rows do not consist of whole blocks.
    #[error(
        "tensor {tensor:?}: rows of {row} weights are not a multiple of {ty}'s block of {block}"
    )]
    BlockMultiple {
        /// The tensor.
        tensor: String,
        /// Weights in a row (the fastest dimension).
        row: u64,
        /// Its type.
        ty: GgmlType,
        /// Weights in a block of that type.
        block: usize,
    },

    /// A tensor's data does not start at a multiple of the alignment.
    #[error(
        "tensor {tensor:?}: data offset {offset} is not a multiple of the alignment {alignment}"
    )]
    UnalignedTensor {
        /// The tensor.
        tensor: String,
        /// Offset in the data section, in bytes.
        offset: u64,
        /// The file's alignment in bytes.
        alignment: usize,
    },

    /// A tensor's data reaches past the end of the file.
    #[error(
        "tensor {tensor:?}: {size} bytes at data offset {offset} do not fit into the data section of {available} bytes"
    )]
    TensorBeyondEnd {
        /// The tensor.
        tensor: String,
        /// Offset in the data section, in bytes.
        offset: u64,
        /// Bytes of the tensor.
        size: usize,
        /// Bytes of the data section.
        available: usize,
    },

    /// A tensor begins before the one listed before it has ended.
    #[error(
        "tensor {tensor:?}: data offset {offset} lies inside the data before it, which ends at {expected}"
    )]
    OverlappingTensor {
        /// The tensor.
        tensor: String,
        /// Offset in the data section, in bytes.
        offset: u64,
        /// First free offset after the tensors before it.
        expected: usize,
    },

    /// A tensor begins later than directly after the one listed before it.
    #[error("tensor {tensor:?}: data offset {offset} leaves a hole, expected {expected}")]
    HoleBeforeTensor {
        /// The tensor.
        tensor: String,
        /// Offset in the data section, in bytes.
        offset: u64,
        /// First free offset after the tensors before it.
        expected: usize,
    },

    /// The file goes on after its last tensor and that tensor's padding.
    #[error(
        "{found} bytes follow the end of the file's content at offset {offset}, expected at most {allowed} of padding"
    )]
    TrailingData {
        /// Where the content ends.
        offset: usize,
        /// Bytes that follow.
        found: usize,
        /// Bytes of padding that may follow.
        allowed: usize,
    },

    /// A tensor that was asked for is absent.
    #[error("tensor {tensor:?} is missing from the file")]
    MissingTensor {
        /// The name asked for.
        tensor: String,
    },

    /// The bytes handed in are not those the index was read from.
    #[error(
        "tensor {tensor:?}: bytes {start} to {end} lie outside the {available} bytes given; is this the file that was parsed?"
    )]
    ForeignBytes {
        /// The tensor.
        tensor: String,
        /// Start of its range.
        start: usize,
        /// End of its range.
        end: usize,
        /// Length of the bytes given.
        available: usize,
    },

    /// A tensor's weights cannot be turned into `f32`.
    #[error("tensor {tensor:?}: {reason}")]
    Dequantize {
        /// The tensor.
        tensor: String,
        /// Why.
        reason: DequantizeError,
    },
}
