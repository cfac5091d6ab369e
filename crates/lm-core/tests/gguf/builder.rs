//! Writes GGUF files, sound or broken.

/// Type numbers of metadata values.
pub(crate) mod value_type {
    pub(crate) const UINT8: u32 = 0;
    pub(crate) const INT8: u32 = 1;
    pub(crate) const UINT16: u32 = 2;
    pub(crate) const INT16: u32 = 3;
    pub(crate) const UINT32: u32 = 4;
    pub(crate) const INT32: u32 = 5;
    pub(crate) const FLOAT32: u32 = 6;
    pub(crate) const BOOL: u32 = 7;
    pub(crate) const STRING: u32 = 8;
    pub(crate) const ARRAY: u32 = 9;
    pub(crate) const UINT64: u32 = 10;
    pub(crate) const INT64: u32 = 11;
    pub(crate) const FLOAT64: u32 = 12;
}

/// Type numbers of tensors.
pub(crate) mod tensor_type {
    pub(crate) const F32: u32 = 0;
    pub(crate) const Q4_0: u32 = 2;
    pub(crate) const Q4_K: u32 = 12;
    pub(crate) const F64: u32 = 28;
}

use value_type::{ARRAY, STRING};

/// A GGUF file in the making. Nothing is checked: what is wrong is written as it is.
#[derive(Debug, Clone)]
pub(crate) struct Builder {
    version: [u8; 4],
    entries: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    entry_count: Option<u64>,
    tensor_count: Option<u64>,
    alignment: usize,
    data: Vec<u8>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            version: 3_u32.to_le_bytes(),
            entries: Vec::new(),
            tensors: Vec::new(),
            entry_count: None,
            tensor_count: None,
            alignment: 32,
            data: Vec::new(),
        }
    }

    pub(crate) fn version(mut self, version: u32) -> Self {
        self.version = version.to_le_bytes();
        self
    }

    pub(crate) fn big_endian_version(mut self, version: u32) -> Self {
        self.version = version.to_be_bytes();
        self
    }

    /// Declares another number of entries than there are.
    pub(crate) fn entry_count(mut self, count: u64) -> Self {
        self.entry_count = Some(count);
        self
    }

    /// Declares another number of tensors than there are.
    pub(crate) fn tensor_count(mut self, count: u64) -> Self {
        self.tensor_count = Some(count);
        self
    }

    /// Pads to another boundary than 32 bytes. The entry `general.alignment` is the caller's business.
    pub(crate) fn padded_to(mut self, alignment: usize) -> Self {
        self.alignment = alignment;
        self
    }

    /// Adds bytes where an entry should be.
    pub(crate) fn raw_entry(mut self, bytes: Vec<u8>) -> Self {
        self.entries.push(bytes);
        self
    }

    /// Adds bytes where a tensor description should be.
    pub(crate) fn raw_tensor(mut self, bytes: Vec<u8>) -> Self {
        self.tensors.push(bytes);
        self
    }

    pub(crate) fn entry(self, key: &[u8], ty: u32, value: &[u8]) -> Self {
        self.raw_entry([string(key).as_slice(), &ty.to_le_bytes(), value].concat())
    }

    pub(crate) fn string_entry(self, key: &str, value: &[u8]) -> Self {
        self.entry(key.as_bytes(), STRING, &string(value))
    }

    pub(crate) fn array_entry(self, key: &str, element: u32, count: u64, elements: &[u8]) -> Self {
        self.entry(key.as_bytes(), ARRAY, &array(element, count, elements))
    }

    /// Adds a description; `dimensions` are in the file's order, fastest first.
    pub(crate) fn tensor(self, name: &[u8], dimensions: &[u64], ty: u32, offset: u64) -> Self {
        let count = u32::try_from(dimensions.len()).expect("few dimensions");
        let mut bytes = string(name);
        bytes.extend(count.to_le_bytes());
        bytes.extend(
            dimensions
                .iter()
                .flat_map(|dimension| dimension.to_le_bytes()),
        );
        bytes.extend(ty.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        self.raw_tensor(bytes)
    }

    /// Adds bytes to the data section.
    pub(crate) fn data(mut self, bytes: &[u8]) -> Self {
        self.data.extend(bytes);
        self
    }

    /// Pads the data section as it is so far.
    pub(crate) fn pad(mut self) -> Self {
        self.data
            .resize(self.data.len().next_multiple_of(self.alignment), 0);
        self
    }

    pub(crate) fn build(self) -> Vec<u8> {
        let tensor_count = self.tensor_count.unwrap_or(self.tensors.len() as u64);
        let entry_count = self.entry_count.unwrap_or(self.entries.len() as u64);
        let mut file = b"GGUF".to_vec();
        file.extend(self.version);
        file.extend(tensor_count.to_le_bytes());
        file.extend(entry_count.to_le_bytes());
        file.extend(self.entries.concat());
        file.extend(self.tensors.concat());
        if !self.data.is_empty() {
            file.resize(file.len().next_multiple_of(self.alignment), 0);
            file.extend(self.data);
        }
        file
    }
}

/// A string as the format has it.
pub(crate) fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes
}

/// An array as the format has it.
pub(crate) fn array(element: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    let mut bytes = element.to_le_bytes().to_vec();
    bytes.extend(count.to_le_bytes());
    bytes.extend(elements);
    bytes
}

/// A small sound file: two entries, two tensors, no padding at the end.
pub(crate) fn sound() -> Builder {
    Builder::new()
        .string_entry("general.architecture", b"llama")
        .array_entry("tokens", STRING, 2, &[string(b"a"), string(b"b")].concat())
        .tensor(b"plain", &[4, 2], tensor_type::F32, 0)
        .tensor(b"quantized", &[32], tensor_type::Q4_0, 32)
        .data(
            &[1_f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
                .map(f32::to_le_bytes)
                .concat(),
        )
        .data(&[0x3c; 18])
}
