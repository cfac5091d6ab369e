//! The metadata section: keys with typed values.

use super::cursor::Cursor;
use super::error::{GgufError, Result};
use super::names::NameIndex;
use super::value::{Array, Reader, StringArray, Value};

/// Longest key in bytes, as the format has it.
const MAX_KEY_BYTES: usize = (1 << 16) - 1;

/// Bytes of the smallest entry: length, one byte of key, type, one byte of value.
pub(super) const SMALLEST_ENTRY: usize = 8 + 1 + 4 + 1;

/// What a GGUF file says about itself, in the order of the file.
///
/// The typed getters refuse a value of another type; nothing is converted except between integer types, which writers
/// choose freely, and there only where the value fits. Each getter fails when the key is absent; wrap it in
/// [`optional`](Self::optional) where it may be.
///
/// ```
/// # use lm_core::weights::gguf::{Metadata, Result};
/// # fn read(metadata: &Metadata) -> Result<()> {
/// let blocks = metadata.usize("llama.block_count")?;
/// let rope_base = metadata.optional("llama.rope.freq_base", Metadata::f32)?.unwrap_or(10_000.0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    index: NameIndex,
}

impl Metadata {
    /// Reads `count` entries.
    pub(super) fn read(cursor: &mut Cursor<'_>, count: u32) -> Result<Self> {
        let mut entries: Vec<(String, Value)> = Vec::with_capacity(count as usize);
        let mut nested_arrays = 0;
        for entry in 0..count {
            let key = cursor.name(
                MAX_KEY_BYTES,
                &format_args!("key of metadata entry {entry}"),
            )?;
            let value = Reader::new(
                cursor,
                &format_args!("metadata key {key:?}"),
                &mut nested_arrays,
            )
            .read()?;
            entries.push((key.to_owned(), value));
        }
        let index =
            NameIndex::new(count, |entry| &entries[entry].0).map_err(|(first, second)| {
                GgufError::DuplicateKey {
                    key: entries[first].0.clone(),
                    first,
                    second,
                }
            })?;
        Ok(Self { entries, index })
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`, of whatever type.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        let entry = self.index.find(key, |entry| &self.entries[entry].0)?;
        Some(&self.entries[entry].1)
    }

    /// Whether there is an entry `key`.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Reads `key` with one of the getters below, or gives `None` if it is absent.
    ///
    /// # Errors
    /// Those of the getter: a key that is there must still have the right type.
    pub fn optional<'a, T>(
        &'a self,
        key: &str,
        getter: impl FnOnce(&'a Self, &str) -> Result<T>,
    ) -> Result<Option<T>> {
        self.contains_key(key)
            .then(|| getter(self, key))
            .transpose()
    }

    /// An integer that fits `u64`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::WrongType`] if it is no integer, [`GgufError::OutOfRange`].
    pub fn u64(&self, key: &str) -> Result<u64> {
        self.integer(key, "an integer from 0 to 2^64 - 1")
    }

    /// An integer that fits `u32`, such as a token id.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::WrongType`] if it is no integer, [`GgufError::OutOfRange`].
    pub fn u32(&self, key: &str) -> Result<u32> {
        self.integer(key, "an integer from 0 to 2^32 - 1")
    }

    /// An integer that fits `usize`, such as a dimension.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::WrongType`] if it is no integer, [`GgufError::OutOfRange`].
    pub fn usize(&self, key: &str) -> Result<usize> {
        self.integer(key, "an integer from 0 to the largest size of this machine")
    }

    /// A `float32`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::WrongType`].
    pub fn f32(&self, key: &str) -> Result<f32> {
        self.typed(key, "float32", |value| match value {
            Value::F32(value) => Some(*value),
            _ => None,
        })
    }

    /// A `bool`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::WrongType`].
    pub fn bool(&self, key: &str) -> Result<bool> {
        self.typed(key, "bool", |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// A string.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::WrongType`].
    pub fn str(&self, key: &str) -> Result<&str> {
        self.typed(key, "string", |value| match value {
            Value::String(value) => Some(value.as_str()),
            _ => None,
        })
    }

    /// An array of strings, such as `tokenizer.ggml.tokens`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::WrongType`].
    pub fn strings(&self, key: &str) -> Result<&StringArray> {
        self.typed(key, "array of string", |value| match value {
            Value::Array(Array::String(elements)) => Some(elements),
            _ => None,
        })
    }

    /// An array of `float32`, such as `tokenizer.ggml.scores`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::WrongType`].
    pub fn f32s(&self, key: &str) -> Result<&[f32]> {
        self.typed(key, "array of float32", |value| match value {
            Value::Array(Array::F32(elements)) => Some(elements.as_slice()),
            _ => None,
        })
    }

    /// An array of `int32`, such as `tokenizer.ggml.token_type`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::WrongType`].
    pub fn i32s(&self, key: &str) -> Result<&[i32]> {
        self.typed(key, "array of int32", |value| match value {
            Value::Array(Array::I32(elements)) => Some(elements.as_slice()),
            _ => None,
        })
    }

    /// An array of `bool`, such as a pattern of sliding-window layers.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::WrongType`].
    pub fn bools(&self, key: &str) -> Result<&[bool]> {
        self.typed(key, "array of bool", |value| match value {
            Value::Array(Array::Bool(elements)) => Some(elements.as_slice()),
            _ => None,
        })
    }

    /// An array of integers that fit `u64`, such as a number of heads for each layer.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::WrongType`] if the elements are no integers, [`GgufError::OutOfRange`].
    pub fn u64s(&self, key: &str) -> Result<Vec<u64>> {
        let integers = self.typed(key, "array of integers", |value| match value {
            Value::Array(array) => array.to_integers(),
            _ => None,
        })?;
        let expected = "an array of integers from 0 to 2^64 - 1";
        integers
            .into_iter()
            .map(|integer| fit(key, expected, integer))
            .collect()
    }

    fn integer<T: TryFrom<i128>>(&self, key: &str, expected: &'static str) -> Result<T> {
        fit(key, expected, self.typed(key, expected, Value::as_integer)?)
    }

    /// The value of `key` as `extract` sees it.
    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        extract: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let value = self.get(key).ok_or_else(|| GgufError::MissingKey {
            key: key.to_owned(),
            expected,
        })?;
        extract(value).ok_or_else(|| GgufError::WrongType {
            key: key.to_owned(),
            expected,
            found: value.to_string(),
        })
    }
}

fn fit<T: TryFrom<i128>>(key: &str, expected: &'static str, integer: i128) -> Result<T> {
    T::try_from(integer).map_err(|_| GgufError::OutOfRange {
        key: key.to_owned(),
        expected,
        found: integer,
    })
}
