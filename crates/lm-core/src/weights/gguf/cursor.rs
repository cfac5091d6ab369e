//! A position in the header of a GGUF file, from which nothing can be read that is not there.

use std::fmt::Display;

use super::error::{GgufError, Result};

/// Reads little-endian values one after the other.
///
/// Every method takes what is being read as `what`, for the error message; it is formatted only when there is one.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    header: &'a [u8],
    /// Length of the whole file, to tell a truncated file from a header over its limit.
    file_len: usize,
    offset: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at the beginning of `file`, and refuses to go past `limit` bytes.
    pub(super) fn new(file: &'a [u8], limit: usize) -> Self {
        Self {
            header: file.get(..limit).unwrap_or(file),
            file_len: file.len(),
            offset: 0,
        }
    }

    /// Bytes from the start of the file.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: usize, what: &dyn Display) -> Result<&'a [u8]> {
        let rest = &self.header[self.offset..];
        match rest.get(..length) {
            Some(taken) => {
                self.offset += length;
                Ok(taken)
            }
            None if length <= self.left_of_file() => Err(self.header_too_large(what)),
            None => Err(GgufError::Truncated {
                what: what.to_string(),
                offset: self.offset,
                needed: length,
                available: self.left_of_file(),
            }),
        }
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, what: &dyn Display) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self, what: &dyn Display) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &dyn Display) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A count of items that take at least `smallest` bytes each, refused if they cannot all follow.
    pub(super) fn count(&mut self, smallest: usize, what: &dyn Display) -> Result<usize> {
        let offset = self.offset;
        let count = self.u64(what)?;
        let available = self.left_of_file();
        let possible = available / smallest;
        match usize::try_from(count) {
            Ok(count) if count <= self.left_of_header() / smallest => Ok(count),
            Ok(count) if count <= possible => Err(self.header_too_large(what)),
            _ => Err(GgufError::Count {
                what: what.to_string(),
                offset,
                count,
                available,
                possible,
            }),
        }
    }

    /// A string: its length, then its UTF-8 bytes.
    pub(super) fn string(&mut self, what: &dyn Display) -> Result<&'a str> {
        let offset = self.offset;
        let length = self.u64(what)?;
        let available = self.left_of_file();
        let length = match usize::try_from(length) {
            Ok(length) if length <= available => length,
            _ => {
                return Err(GgufError::StringLength {
                    what: what.to_string(),
                    offset,
                    length,
                    available,
                });
            }
        };
        let start = self.offset;
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes).map_err(|reason| GgufError::Utf8 {
            what: what.to_string(),
            offset: start,
            reason,
        })
    }

    /// A key or a tensor name: a string of 1 to `limit` bytes without control characters.
    ///
    /// Control characters are refused because readers in C end a name at NUL, and would see another name than we do.
    pub(super) fn name(&mut self, limit: usize, what: &dyn Display) -> Result<&'a str> {
        let offset = self.offset;
        let name = self.string(what)?;
        if name.is_empty() || name.len() > limit {
            return Err(GgufError::NameLength {
                what: what.to_string(),
                offset,
                length: name.len(),
                limit,
            });
        }
        if name.chars().any(char::is_control) {
            return Err(GgufError::NameControl {
                what: what.to_string(),
                offset,
                name: name.to_owned(),
            });
        }
        Ok(name)
    }

    fn left_of_header(&self) -> usize {
        self.header.len() - self.offset
    }

    fn left_of_file(&self) -> usize {
        self.file_len - self.offset
    }

    fn header_too_large(&self, what: &dyn Display) -> GgufError {
        GgufError::HeaderTooLarge {
            what: what.to_string(),
            offset: self.offset,
            limit: self.header.len(),
        }
    }
}
