//! Files that must be refused, each with the error it must be refused with.
//!
//! Positions in the messages follow from the format: the header takes 24 bytes; an entry whose key is `k` has its type
//! at 33 and its value at 37; an array there has its length at 41 and its first element at 49.

use crate::builder::{Builder, array, sound, string, tensor_type::*, value_type::*};

/// One file of the corpus.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) file: Vec<u8>,
    /// The whole message.
    pub(crate) error: &'static str,
}

/// A case of one sound tensor description less, or more, than sound.
fn tensor(dimensions: &[u64], ty: u32, offset: u64) -> Vec<u8> {
    Builder::new()
        .tensor(b"t", dimensions, ty, offset)
        .data(&[0; 64])
        .build()
}

fn entry(ty: u32, value: &[u8]) -> Vec<u8> {
    Builder::new().entry(b"k", ty, value).build()
}

fn array_of(element: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    Builder::new()
        .array_entry("k", element, count, elements)
        .build()
}

fn alignment(ty: u32, value: &[u8]) -> Vec<u8> {
    Builder::new()
        .entry(b"general.alignment", ty, value)
        .build()
}

/// An array that holds an array that holds … `depth` arrays in all.
fn nested(depth: usize) -> Vec<u8> {
    let inner = array(ARRAY, 1, &[]).repeat(depth - 1);
    entry(ARRAY, &[inner, array(UINT8, 0, &[])].concat())
}

/// A tensor name follows the 24 bytes of the header directly.
fn named_tensor(name: &[u8]) -> Vec<u8> {
    Builder::new()
        .tensor(name, &[1], F32, 0)
        .data(&[0; 4])
        .build()
}

fn keyed(key: &[u8]) -> Vec<u8> {
    Builder::new().entry(key, UINT8, &[1]).build()
}

/// The files that other readers are known to fall over or to accept, and the rest of what the format forbids.
#[rustfmt::skip]
pub(crate) fn refused() -> Vec<Case> {
    let case = |name, file, error| Case { name, file, error };
    vec![
        // The header.
        case("empty file", vec![],
            "file ends inside the magic: 4 bytes expected at offset 0, 0 left"),
        case("truncated header", sound().build()[..12].to_vec(),
            "file ends inside number of tensors: 8 bytes expected at offset 8, 4 left"),
        case("another format", b"PK\x03\x04and so on, long enough for a header".to_vec(),
            r#"not a GGUF file: expected the magic "GGUF", found "PK\x03\x04""#),
        case("version 0", sound().version(0).build(), "unknown GGUF version 0, expected 2 or 3"),
        case("version 1", sound().version(1).build(),
            "GGUF version 1 is obsolete; expected version 2 or 3, convert the original checkpoint again"),
        case("version 4", sound().version(4).build(), "unknown GGUF version 4, expected 2 or 3"),
        case("version 99", sound().version(99).build(), "unknown GGUF version 99, expected 2 or 3"),
        case("big-endian", sound().big_endian_version(3).build(),
            "big-endian GGUF (version 3); only little-endian files are read, convert it with `gguf-convert-endian`"),
        case("entry count max", Builder::new().entry_count(u64::MAX).build(),
            "number of metadata entries: 18446744073709551615 items declared at offset 16, but the 0 bytes after it hold at most 0"),
        case("entry count one too many", Builder::new().entry_count(3).data(&[0; 49]).build()[..24 + 41].to_vec(),
            "number of metadata entries: 3 items declared at offset 16, but the 41 bytes after it hold at most 2"),
        case("entry count over the limit", Builder::new().entry_count(65_537).data(&vec![0; 65_537 * 14]).build(),
            "number of metadata entries: 65537 items declared, the limit is 65536"),
        case("tensor count max", Builder::new().tensor_count(u64::MAX).build(),
            "number of tensors: 18446744073709551615 items declared at offset 8, but the 8 bytes after it hold at most 0"),
        case("tensor count over the limit", Builder::new().tensor_count(65_537).data(&vec![0; 65_537 * 25]).build(),
            "number of tensors: 65537 items declared, the limit is 65536"),
        case("header over the limit", array_of(UINT8, 64 << 20, &vec![0; 64 << 20]),
            r#"header too large: metadata key "k" at offset 49 passes the limit of 67108864 bytes"#),

        // Keys.
        case("key length max", Builder::new().raw_entry([[0xff; 8].as_slice(), &[0; 8]].concat()).build(),
            "key of metadata entry 0: string of 18446744073709551615 bytes declared at offset 24, 8 left"),
        case("empty key", Builder::new().entry(b"", UINT32, &[1; 4]).build(), "key of metadata entry 0 at offset 24 has 0 bytes, expected 1 to 65535"),
        case("key of 64 KiB", keyed(&[b'k'; 1 << 16]),
            "key of metadata entry 0 at offset 24 has 65536 bytes, expected 1 to 65535"),
        case("key with NUL", keyed(b"general.\0name"),
            r#"key of metadata entry 0 at offset 24 holds a control character: "general.\0name""#),
        case("key not UTF-8", keyed(b"k\xff"),
            "key of metadata entry 0 at offset 32 is not UTF-8: invalid utf-8 sequence of 1 bytes from index 1"),
        case("duplicate key", Builder::new().entry(b"k", UINT8, &[1]).entry(b"j", UINT8, &[1]).entry(b"k", BOOL, &[1]).build(),
            r#"metadata key "k" occurs twice, as entries 0 and 2"#),

        // Values.
        case("unknown value type", entry(13, &[0; 8]),
            r#"metadata key "k": unknown value type 13 at offset 33, expected 0 to 12"#),
        case("unknown element type", array_of(99, 0, &[]),
            r#"metadata key "k": unknown value type 99 at offset 37, expected 0 to 12"#),
        case("boolean 7", entry(BOOL, &[7]), r#"metadata key "k": expected a boolean, 0 or 1, at offset 37, found 7"#),
        case("boolean 2 in an array", array_of(BOOL, 3, &[0, 1, 2]),
            r#"metadata key "k": expected a boolean, 0 or 1, at offset 51, found 2"#),
        case("value cut off", entry(UINT64, &[0; 3]),
            r#"file ends inside metadata key "k": 8 bytes expected at offset 37, 3 left"#),
        case("string of 2^64 - 1", entry(STRING, &[0xff; 8]),
            r#"metadata key "k": string of 18446744073709551615 bytes declared at offset 37, 0 left"#),
        case("string of 1 TiB", entry(STRING, &[&(1_u64 << 40).to_le_bytes()[..], b"abc"].concat()),
            r#"metadata key "k": string of 1099511627776 bytes declared at offset 37, 3 left"#),
        case("string not UTF-8", entry(STRING, &string(b"ab\xc3\x28")),
            r#"metadata key "k" at offset 45 is not UTF-8: invalid utf-8 sequence of 1 bytes from index 2"#),
        case("array of 2^60", array_of(UINT8, 1 << 60, &[]),
            r#"metadata key "k": 1152921504606846976 items declared at offset 41, but the 0 bytes after it hold at most 0"#),
        case("array of 2^33 uint64", array_of(UINT64, 1 << 33, &[0; 80]),
            r#"metadata key "k": 8589934592 items declared at offset 41, but the 80 bytes after it hold at most 10"#),
        case("array whose bytes wrap to 0", array_of(UINT64, 1 << 61, &[0; 8]),
            r#"metadata key "k": 2305843009213693952 items declared at offset 41, but the 8 bytes after it hold at most 1"#),
        case("2^31 empty strings", array_of(STRING, 1 << 31, &[0; 64]),
            r#"metadata key "k": 2147483648 items declared at offset 41, but the 64 bytes after it hold at most 8"#),
        case("2^40 booleans", array_of(BOOL, 1 << 40, &[0; 2]),
            r#"metadata key "k": 1099511627776 items declared at offset 41, but the 2 bytes after it hold at most 2"#),
        case("2^32 arrays", array_of(ARRAY, 1 << 32, &[0; 24]),
            r#"metadata key "k": 4294967296 items declared at offset 41, but the 24 bytes after it hold at most 2"#),
        case("long string in an array", array_of(STRING, 2, &[string(b"a"), vec![0xff; 8]].concat()),
            r#"metadata key "k": string of 18446744073709551615 bytes declared at offset 58, 0 left"#),
        case("string in an array not UTF-8", array_of(STRING, 2, &[string(b"a"), string(b"\x80")].concat()),
            r#"metadata key "k" at offset 66 is not UTF-8: invalid utf-8 sequence of 1 bytes from index 0"#),
        case("five nested arrays", nested(5), r#"metadata key "k": arrays nested deeper than 4 at offset 85"#),
        case("200,000 nested arrays", [nested(200_000), vec![0; 7]].concat(),
            r#"metadata key "k": arrays nested deeper than 4 at offset 85"#),
        case("65,537 arrays in an array", array_of(ARRAY, 65_537, &array(UINT8, 0, &[]).repeat(65_537)),
            r#"metadata key "k": arrays within arrays: 65537 items declared, the limit is 65536"#),

        // Entries that govern the reading.
        case("alignment 0", alignment(UINT32, &0_u32.to_le_bytes()),
            "general.alignment: expected a power of two from 8 to 65536, found 0"),
        case("alignment 3", alignment(UINT32, &3_u32.to_le_bytes()),
            "general.alignment: expected a power of two from 8 to 65536, found 3"),
        case("alignment 4", alignment(UINT32, &4_u32.to_le_bytes()),
            "general.alignment: expected a power of two from 8 to 65536, found 4"),
        case("alignment 24", alignment(UINT32, &24_u32.to_le_bytes()),
            "general.alignment: expected a power of two from 8 to 65536, found 24"),
        case("alignment 2^31", alignment(UINT32, &(1_u32 << 31).to_le_bytes()),
            "general.alignment: expected a power of two from 8 to 65536, found 2147483648"),
        case("alignment of another type", alignment(UINT64, &32_u64.to_le_bytes()),
            r#"metadata key "general.alignment": expected uint32, found uint64"#),
        case("split file", sound().entry(b"split.count", UINT16, &[3, 0]).build(),
            "this is part of a model split into 3 files; join them with `llama-gguf-split --merge` and open the result"),
        case("split count of another type", sound().string_entry("split.count", b"3").build(),
            r#"metadata key "split.count": expected an integer from 0 to 2^64 - 1, found string"#),
        case("split count negative", sound().entry(b"split.count", INT8, &[0xff]).build(),
            r#"metadata key "split.count": expected an integer from 0 to 2^64 - 1, found -1"#),

        // Tensor descriptions.
        case("tensor name of 2^63", Builder::new().raw_tensor([(1_u64 << 63).to_le_bytes().as_slice(), &[0; 24]].concat()).build(),
            "name of tensor 0: string of 9223372036854775808 bytes declared at offset 24, 24 left"),
        case("empty tensor name", named_tensor(b""), "name of tensor 0 at offset 24 has 0 bytes, expected 1 to 64"),
        case("tensor name of 65", named_tensor(&[b'n'; 65]), "name of tensor 0 at offset 24 has 65 bytes, expected 1 to 64"),
        case("tensor name of 1 MiB", named_tensor(&vec![b'n'; 1 << 20]),
            "name of tensor 0 at offset 24 has 1048576 bytes, expected 1 to 64"),
        case("tensor name with escape", named_tensor(b"a\x1b[2J"),
            r#"name of tensor 0 at offset 24 holds a control character: "a\u{1b}[2J""#),
        case("tensor name not UTF-8", named_tensor(b"\xf0\x9f"),
            "name of tensor 0 at offset 32 is not UTF-8: incomplete utf-8 byte sequence from index 0"),
        case("description cut off", Builder::new().tensor(b"tensor", &[4], F32, 0).build()[..53].to_vec(),
            r#"file ends inside description of tensor "tensor": 4 bytes expected at offset 50, 3 left"#),
        case("2^31 dimensions",
            Builder::new().raw_tensor([string(b"t").as_slice(), &(1_u32 << 31).to_le_bytes(), &[0; 64]].concat()).build(),
            r#"tensor "t": expected at most 4 dimensions, found 2147483648"#),
        case("five dimensions", tensor(&[1, 1, 1, 1, 1], F32, 0), r#"tensor "t": expected at most 4 dimensions, found 5"#),
        case("dimension 0", tensor(&[4, 0], F32, 0), r#"tensor "t": dimension of zero in [4, 0] (ggml order)"#),
        case("dimensions 2^32 x 2^32", tensor(&[1 << 32, 1 << 32], F32, 0),
            r#"tensor "t": [4294967296, 4294967296] (ggml order) of F32 is larger than any memory"#),
        case("dimensions 2^62 x 8", tensor(&[1 << 62, 8], F32, 0),
            r#"tensor "t": [4611686018427387904, 8] (ggml order) of F32 is larger than any memory"#),
        case("bytes 2^64", tensor(&[1 << 62], F32, 0),
            r#"tensor "t": [4611686018427387904] (ggml order) of F32 is larger than any memory"#),
        case("bytes 2^64 of the widest type", tensor(&[1 << 61], F64, 0),
            r#"tensor "t": [2305843009213693952] (ggml order) of F64 is larger than any memory"#),
        case("2^64 bytes once dequantised", tensor(&[1 << 62], Q4_0, 0),
            r#"tensor "t": [4611686018427387904] (ggml order) of Q4_0 is larger than any memory"#),
        case("retired tensor type", tensor(&[32], 4, 0), r#"tensor "t": unknown ggml type 4"#),
        case("unknown tensor type", tensor(&[32], 99, 0), r#"tensor "t": unknown ggml type 99"#),
        case("tensor type max", tensor(&[32], u32::MAX, 0), r#"tensor "t": unknown ggml type 4294967295"#),
        case("row of 33 in Q4_0", tensor(&[33, 32], Q4_0, 0),
            r#"tensor "t": rows of 33 weights are not a multiple of Q4_0's block of 32"#),
        case("row of 32 in Q4_K", tensor(&[32, 8], Q4_K, 0),
            r#"tensor "t": rows of 32 weights are not a multiple of Q4_K's block of 256"#),
        case("scalar in Q4_0", tensor(&[], Q4_0, 0),
            r#"tensor "t": rows of 1 weights are not a multiple of Q4_0's block of 32"#),
        case("duplicate tensor", Builder::new().tensor(b"t", &[1], F32, 0).tensor(b"t", &[1], F32, 32).data(&[0; 64]).build(),
            r#"tensor "t" occurs twice, as tensors 0 and 1"#),

        // The data section.
        case("offset max", tensor(&[1], F32, u64::MAX),
            r#"tensor "t": data offset 18446744073709551615 is not a multiple of the alignment 32"#),
        case("aligned offset max", tensor(&[1], F32, u64::MAX - 31),
            r#"tensor "t": 4 bytes at data offset 18446744073709551584 do not fit into the data section of 64 bytes"#),
        case("unaligned offset", tensor(&[1], F32, 8), r#"tensor "t": data offset 8 is not a multiple of the alignment 32"#),
        case("data one byte short", tensor(&[17], F32, 0),
            r#"tensor "t": 68 bytes at data offset 0 do not fit into the data section of 64 bytes"#),
        case("no data", Builder::new().tensor(b"t", &[1], F32, 0).build(),
            r#"tensor "t": 4 bytes at data offset 0 do not fit into the data section of 0 bytes"#),
        case("dimensions larger than the file", tensor(&[1 << 20, 1 << 10], F32, 0),
            r#"tensor "t": 4294967296 bytes at data offset 0 do not fit into the data section of 64 bytes"#),
        case("overlap", Builder::new().tensor(b"s", &[9], F32, 0).tensor(b"t", &[4], F32, 32).data(&[0; 64]).build(),
            r#"tensor "t": data offset 32 lies inside the data before it, which ends at 64"#),
        case("shared bytes", Builder::new().tensor(b"s", &[16], F32, 0).tensor(b"t", &[16], F32, 0).data(&[0; 64]).build(),
            r#"tensor "t": data offset 0 lies inside the data before it, which ends at 64"#),
        case("hole", Builder::new().tensor(b"s", &[1], F32, 0).tensor(b"t", &[1], F32, 64).data(&[0; 68]).build(),
            r#"tensor "t": data offset 64 leaves a hole, expected 32"#),
        case("hole before the first", tensor(&[8], F32, 32), r#"tensor "t": data offset 32 leaves a hole, expected 0"#),
        case("trailing data", Builder::new().tensor(b"t", &[8], F32, 0).data(&[0; 64]).build(),
            "32 bytes follow the end of the file's content at offset 96, expected at most 31 of padding"),
        case("trailing data without tensors", Builder::new().data(&[0; 32]).build(),
            "32 bytes follow the end of the file's content at offset 32, expected at most 31 of padding"),
    ]
}

/// Files that are allowed, and made to cost as much memory as the format lets them.
pub(crate) fn costly() -> Vec<(&'static str, Vec<u8>)> {
    let strings = array_of(STRING, 1 << 20, &vec![0; 8 << 20]);
    let arrays = array_of(ARRAY, 65_536, &array(UINT8, 0, &[]).repeat(65_536));
    let entries = (0..65_536_u32).fold(Builder::new(), |file, entry| {
        file.entry(format!("{entry:x}").as_bytes(), UINT8, &[1])
    });
    let tensors = (0..65_536_u32).fold(Builder::new(), |file, tensor| {
        file.tensor(
            format!("{tensor:x}").as_bytes(),
            &[1],
            F32,
            32 * u64::from(tensor),
        )
    });
    vec![
        ("a million empty strings", strings),
        ("65,536 arrays in an array", arrays),
        ("65,536 entries", entries.build()),
        (
            "65,536 tensors",
            tensors.data(&vec![0; 65_536 * 32]).build(),
        ),
    ]
}
