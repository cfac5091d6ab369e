//! Metadata values: their types, and how they are read.

use std::fmt::{self, Display};

use super::cursor::Cursor;
use super::error::{GgufError, Result};

/// How deep arrays may lie within arrays. The format allows any depth; no known file uses more than one.
pub const MAX_ARRAY_DEPTH: usize = 4;

/// How many arrays a file may have inside arrays. Each costs more memory than the twelve bytes it takes in the file.
const MAX_NESTED_ARRAYS: usize = 1 << 16;

/// Declares the scalar types once: the value and array variants, the type numbers and the readers.
macro_rules! scalars {
    ($($variant:ident($ty:ty) = $id:literal, $name:literal;)+) => {
        /// One metadata value.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Value {
            $(#[doc = concat!("A `", $name, "`.")] $variant($ty),)+
            /// A `bool`.
            Bool(bool),
            /// A string.
            String(String),
            /// An array, whose elements are all of one type.
            Array(Array),
        }

        /// A metadata array.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Array {
            $(#[doc = concat!("Elements of type `", $name, "`.")] $variant(Vec<$ty>),)+
            /// Elements of type `bool`.
            Bool(Vec<bool>),
            /// Strings.
            String(StringArray),
            /// Arrays, which may differ in type and length.
            Array(Vec<Array>),
        }

        impl Array {
            /// Number of elements.
            #[must_use]
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$variant(elements) => elements.len(),)+
                    Self::Bool(elements) => elements.len(),
                    Self::String(elements) => elements.len(),
                    Self::Array(elements) => elements.len(),
                }
            }
        }

        impl Display for Array {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let element = match self {
                    $(Self::$variant(_) => $name,)+
                    Self::Bool(_) => "bool",
                    Self::String(_) => "string",
                    Self::Array(_) => "array",
                };
                write!(f, "array of {} {element}", self.len())
            }
        }

        /// Shows the type, as errors name it, not the content.
        impl Display for Value {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant(_) => f.write_str($name),)+
                    Self::Bool(_) => f.write_str("bool"),
                    Self::String(_) => f.write_str("string"),
                    Self::Array(array) => array.fmt(f),
                }
            }
        }

        impl Reader<'_, '_> {
            fn value(&mut self, ty: u32) -> Result<Value> {
                Ok(match ty {
                    $($id => Value::$variant(<$ty>::from_le_bytes(self.cursor.array(self.what)?)),)+
                    BOOL => Value::Bool(self.bools(1)?[0]),
                    STRING => Value::String(self.cursor.string(self.what)?.to_owned()),
                    ARRAY => Value::Array(self.array(1)?),
                    found => return Err(self.unknown_type(found)),
                })
            }

            fn elements(&mut self, ty: u32, depth: usize) -> Result<Array> {
                Ok(match ty {
                    $($id => {
                        const SIZE: usize = size_of::<$ty>();
                        let count = self.cursor.count(SIZE, self.what)?;
                        // `count` has made sure that the product fits into the file.
                        let (elements, _) = self.cursor.take(count * SIZE, self.what)?.as_chunks::<SIZE>();
                        Array::$variant(elements.iter().copied().map(<$ty>::from_le_bytes).collect())
                    })+
                    BOOL => {
                        let count = self.cursor.count(1, self.what)?;
                        Array::Bool(self.bools(count)?)
                    }
                    STRING => Array::String(self.strings()?),
                    ARRAY => Array::Array(self.arrays(depth)?),
                    found => return Err(self.unknown_type(found)),
                })
            }
        }
    };
}

scalars! {
    U8(u8) = 0, "uint8";
    I8(i8) = 1, "int8";
    U16(u16) = 2, "uint16";
    I16(i16) = 3, "int16";
    U32(u32) = 4, "uint32";
    I32(i32) = 5, "int32";
    F32(f32) = 6, "float32";
    U64(u64) = 10, "uint64";
    I64(i64) = 11, "int64";
    F64(f64) = 12, "float64";
}

const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes of an empty array inside an array: its element type and its length.
const SMALLEST_ARRAY: usize = 4 + 8;

/// Bytes of an empty string inside an array: its length.
const SMALLEST_STRING: usize = 8;

impl Value {
    /// The value as an integer, if it is of one of the eight integer types.
    #[must_use]
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(value) => value.into(),
            Self::I8(value) => value.into(),
            Self::U16(value) => value.into(),
            Self::I16(value) => value.into(),
            Self::U32(value) => value.into(),
            Self::I32(value) => value.into(),
            Self::U64(value) => value.into(),
            Self::I64(value) => value.into(),
            Self::F32(_) | Self::F64(_) | Self::Bool(_) | Self::String(_) | Self::Array(_) => {
                return None;
            }
        })
    }
}

impl Array {
    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as integers, if they are of one of the eight integer types.
    #[must_use]
    pub fn to_integers(&self) -> Option<Vec<i128>> {
        fn widen<T: Copy + Into<i128>>(elements: &[T]) -> Vec<i128> {
            elements.iter().copied().map(Into::into).collect()
        }
        Some(match self {
            Self::U8(elements) => widen(elements),
            Self::I8(elements) => widen(elements),
            Self::U16(elements) => widen(elements),
            Self::I16(elements) => widen(elements),
            Self::U32(elements) => widen(elements),
            Self::I32(elements) => widen(elements),
            Self::U64(elements) => widen(elements),
            Self::I64(elements) => widen(elements),
            Self::F32(_) | Self::F64(_) | Self::Bool(_) | Self::String(_) | Self::Array(_) => {
                return None;
            }
        })
    }
}

/// An array of strings in one allocation.
///
/// A vocabulary has hundreds of thousands of very short strings. Kept one by one they cost several times their bytes
/// in the file, which a hostile file could exploit; here they never cost more than in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StringArray {
    text: String,
    /// Where each string ends in `text`.
    ends: Vec<usize>,
}

impl StringArray {
    /// Number of strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no strings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string at `position`, or `None` past the end.
    #[must_use]
    pub fn get(&self, position: usize) -> Option<&str> {
        let end = *self.ends.get(position)?;
        let start = position
            .checked_sub(1)
            .map_or(0, |before| self.ends[before]);
        Some(&self.text[start..end])
    }

    /// The strings in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let string = &self.text[start..end];
            start = end;
            string
        })
    }
}

/// Reads the values of one file.
pub(super) struct Reader<'c, 'a> {
    cursor: &'c mut Cursor<'a>,
    what: &'c dyn Display,
    nested: &'c mut usize,
}

impl<'c, 'a> Reader<'c, 'a> {
    /// A reader of the value that `what` describes. `nested` counts the file's arrays within arrays so far.
    pub(super) fn new(
        cursor: &'c mut Cursor<'a>,
        what: &'c dyn Display,
        nested: &'c mut usize,
    ) -> Self {
        Self {
            cursor,
            what,
            nested,
        }
    }

    /// The value at the cursor: its type number, then itself.
    pub(super) fn read(mut self) -> Result<Value> {
        let ty = self.cursor.u32(self.what)?;
        self.value(ty)
    }

    fn array(&mut self, depth: usize) -> Result<Array> {
        if depth > MAX_ARRAY_DEPTH {
            return Err(GgufError::ArrayDepth {
                what: self.what.to_string(),
                offset: self.cursor.offset(),
                limit: MAX_ARRAY_DEPTH,
            });
        }
        let ty = self.cursor.u32(self.what)?;
        self.elements(ty, depth)
    }

    fn arrays(&mut self, depth: usize) -> Result<Vec<Array>> {
        let count = self.cursor.count(SMALLEST_ARRAY, self.what)?;
        *self.nested = self.nested.saturating_add(count);
        if *self.nested > MAX_NESTED_ARRAYS {
            return Err(GgufError::TooMany {
                what: format!("{}: arrays within arrays", self.what),
                count: *self.nested as u64,
                limit: MAX_NESTED_ARRAYS,
            });
        }
        (0..count).map(|_| self.array(depth + 1)).collect()
    }

    fn strings(&mut self) -> Result<StringArray> {
        let count = self.cursor.count(SMALLEST_STRING, self.what)?;
        let mut strings = StringArray {
            text: String::new(),
            ends: Vec::with_capacity(count),
        };
        for _ in 0..count {
            strings.text.push_str(self.cursor.string(self.what)?);
            strings.ends.push(strings.text.len());
        }
        Ok(strings)
    }

    fn bools(&mut self, count: usize) -> Result<Vec<bool>> {
        let offset = self.cursor.offset();
        let bytes = self.cursor.take(count, self.what)?;
        let bool_at = |(position, &byte): (usize, &u8)| match byte {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(GgufError::Bool {
                what: self.what.to_string(),
                offset: offset + position,
                found,
            }),
        };
        bytes.iter().enumerate().map(bool_at).collect()
    }

    /// The error for the type number just read.
    fn unknown_type(&self, found: u32) -> GgufError {
        GgufError::ValueType {
            what: self.what.to_string(),
            offset: self.cursor.offset() - size_of::<u32>(),
            found,
        }
    }
}
