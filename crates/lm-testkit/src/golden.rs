use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensorError, SafeTensors};

use crate::Array;

/// What can be wrong with a golden case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GoldenError {
    /// A file can't be read; for an unknown case, this is its `expected.safetensors`.
    #[error("can't read {}; `cargo xtask golden <case>` makes it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not safetensors.
    #[error("{} is not a safetensors file", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SafeTensorError,
    },
    /// A tensor of a type that golden files do not use.
    #[error("`{name}` in {}: expected F32 or I64, found {found:?}", path.display())]
    Dtype {
        /// The tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// Its type.
        found: Dtype,
    },
    /// A tensor is absent.
    #[error("`{name}` not found in {}; it has {known}", path.display())]
    Missing {
        /// The tensor asked for.
        name: String,
        /// The file.
        path: PathBuf,
        /// The names in the file, separated by commas.
        known: String,
    },
    /// A tensor holds another kind of number than was asked for.
    #[error("`{name}` in {}: expected {expected}, found {found}", path.display())]
    Kind {
        /// The tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// The kind asked for.
        expected: &'static str,
        /// The kind it has.
        found: &'static str,
    },
    /// A tensor that should hold token ids holds something else.
    #[error("`{name}` in {}: expected token ids [batch, position], found {found}", path.display())]
    Tokens {
        /// The tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// What it is instead: a shape, or a number that is no id.
        found: String,
    },
}

/// A tensor of a golden file.
#[derive(Clone, Debug, PartialEq)]
pub enum Tensor {
    /// Measured numbers.
    Floats(Array<f32>),
    /// Token ids, lengths, positions.
    Integers(Array<i64>),
}

/// A golden folder: the model it was computed with and the expected tensors.
///
/// The names are those of `golden/README.md`: `whole.logits`, `padded.hidden`, …
#[derive(Clone, Debug)]
pub struct GoldenCase {
    folder: PathBuf,
    expected: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

/// The workspace's `golden/` folder.
pub fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden")
}

/// Reads `golden/<case>/expected.safetensors`.
///
/// # Errors
/// When there is no such case, or its file is not made of `F32` and `I64` tensors.
pub fn golden(case: &str) -> Result<GoldenCase, GoldenError> {
    GoldenCase::open(golden_folder().join(case))
}

impl GoldenCase {
    /// Reads the case in `folder`.
    ///
    /// # Errors
    /// As [`golden`].
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, GoldenError> {
        let folder = folder.into();
        let expected = folder.join("expected.safetensors");
        let tensors = read_tensors(&expected)?;
        Ok(Self {
            folder,
            expected,
            tensors,
        })
    }

    /// The case's own folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The Hugging Face folder of the case's model.
    pub fn model(&self) -> PathBuf {
        self.folder.join("model")
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// An `F32` tensor.
    ///
    /// # Errors
    /// When it is absent (the error lists what there is) or holds integers.
    pub fn floats(&self, name: &str) -> Result<&Array<f32>, GoldenError> {
        match self.tensor(name)? {
            Tensor::Floats(array) => Ok(array),
            Tensor::Integers(_) => Err(self.kind(name, "floats", "integers")),
        }
    }

    /// An `I64` tensor.
    ///
    /// # Errors
    /// When it is absent (the error lists what there is) or holds floats.
    pub fn integers(&self, name: &str) -> Result<&Array<i64>, GoldenError> {
        match self.tensor(name)? {
            Tensor::Integers(array) => Ok(array),
            Tensor::Floats(_) => Err(self.kind(name, "integers", "floats")),
        }
    }

    /// Token ids `[position]` or `[batch, position]`, as one list a row.
    ///
    /// # Errors
    /// As [`GoldenCase::integers`], and when the shape or a number does not fit.
    pub fn tokens(&self, name: &str) -> Result<Vec<Vec<u32>>, GoldenError> {
        let array = self.integers(name)?;
        let wrong = |found| GoldenError::Tokens {
            name: name.to_owned(),
            path: self.expected.clone(),
            found,
        };
        let (&[.., length], 1..=2) = (array.shape.as_slice(), array.shape.len()) else {
            return Err(wrong(format!("shape {:?}", array.shape)));
        };
        if length == 0 {
            return Err(wrong(format!("shape {:?}", array.shape)));
        }
        let id =
            |&value: &i64| u32::try_from(value).map_err(|_| wrong(format!("the number {value}")));
        array
            .values
            .chunks_exact(length)
            .map(|row| row.iter().map(id).collect())
            .collect()
    }

    /// The rows of the left-padded batch without their padding.
    ///
    /// # Errors
    /// When `padded.input_ids` or `padded.lengths` is absent or a length exceeds the row.
    pub fn padded_rows(&self) -> Result<Vec<Vec<u32>>, GoldenError> {
        let mut rows = self.tokens("padded.input_ids")?;
        let [lengths] = self
            .tokens("padded.lengths")?
            .try_into()
            .unwrap_or_default();
        for (row, length) in rows.iter_mut().zip(lengths) {
            let padding =
                row.len()
                    .checked_sub(length as usize)
                    .ok_or_else(|| GoldenError::Tokens {
                        name: "padded.lengths".to_owned(),
                        path: self.expected.clone(),
                        found: format!("the length {length} for a row of {}", row.len()),
                    })?;
            row.drain(..padding);
        }
        Ok(rows)
    }

    fn tensor(&self, name: &str) -> Result<&Tensor, GoldenError> {
        self.tensors.get(name).ok_or_else(|| GoldenError::Missing {
            name: name.to_owned(),
            path: self.expected.clone(),
            known: self.names().collect::<Vec<_>>().join(", "),
        })
    }

    fn kind(&self, name: &str, expected: &'static str, found: &'static str) -> GoldenError {
        GoldenError::Kind {
            name: name.to_owned(),
            path: self.expected.clone(),
            expected,
            found,
        }
    }
}

/// Reads a whole safetensors file of `F32` and `I64` tensors.
///
/// # Errors
/// When it can't be read, is malformed, or has a tensor of another type.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>, GoldenError> {
    let bytes = fs::read(path).map_err(|source| GoldenError::Read {
        path: path.to_owned(),
        source,
    })?;
    let file = SafeTensors::deserialize(&bytes).map_err(|source| GoldenError::Parse {
        path: path.to_owned(),
        source,
    })?;
    file.iter()
        .map(|(name, view)| {
            let shape = view.shape().to_vec();
            let tensor = match view.dtype() {
                Dtype::F32 => Tensor::Floats(Array {
                    shape,
                    values: little_endian(view.data(), f32::from_le_bytes),
                }),
                Dtype::I64 => Tensor::Integers(Array {
                    shape,
                    values: little_endian(view.data(), i64::from_le_bytes),
                }),
                found => {
                    return Err(GoldenError::Dtype {
                        name: name.to_owned(),
                        path: path.to_owned(),
                        found,
                    });
                }
            };
            Ok((name.to_owned(), tensor))
        })
        .collect()
}

fn little_endian<const N: usize, T>(bytes: &[u8], decode: fn([u8; N]) -> T) -> Vec<T> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|chunk| decode(*chunk))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use safetensors::tensor::TensorView;

    use super::*;

    type Outcome = Result<(), Box<dyn Error>>;

    /// A case with the tensors of these names, types, shapes and bytes.
    fn case(
        tensors: &[(&str, Dtype, &[usize], &[u8])],
    ) -> Result<(tempfile::TempDir, PathBuf), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let views = tensors
            .iter()
            .map(|&(name, dtype, shape, bytes)| {
                Ok((name, TensorView::new(dtype, shape.to_vec(), bytes)?))
            })
            .collect::<Result<Vec<_>, SafeTensorError>>()?;
        let path = folder.path().join("expected.safetensors");
        safetensors::serialize_to_file(views, None, &path)?;
        Ok((folder, path))
    }

    fn bytes<const N: usize>(values: [i64; N]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    #[test]
    fn both_kinds_are_read_with_their_shapes() -> Outcome {
        let floats: Vec<u8> = [1.5_f32, -2.0]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let (folder, _) = case(&[
            ("whole.logits", Dtype::F32, &[2, 1], &floats),
            ("padded.lengths", Dtype::I64, &[2], &bytes([2, 3])),
            (
                "padded.input_ids",
                Dtype::I64,
                &[2, 3],
                &bytes([9, 7, 8, 4, 5, 6]),
            ),
        ])?;
        let case = GoldenCase::open(folder.path())?;
        assert_eq!(
            case.floats("whole.logits")?,
            &Array {
                shape: vec![2, 1],
                values: vec![1.5, -2.0]
            }
        );
        assert_eq!(case.tokens("padded.input_ids")?, [[9, 7, 8], [4, 5, 6]]);
        assert_eq!(case.tokens("padded.lengths")?, [[2, 3]]);
        assert_eq!(case.padded_rows()?, [vec![7, 8], vec![4, 5, 6]]);
        assert_eq!(
            case.names().collect::<Vec<_>>(),
            ["padded.input_ids", "padded.lengths", "whole.logits"]
        );
        assert!(case.has("whole.logits") && !case.has("whole.hidden"));
        Ok(())
    }

    #[test]
    fn an_absent_tensor_is_named_with_those_there_are() -> Outcome {
        let (folder, path) = case(&[
            ("a", Dtype::I64, &[1], &bytes([1])),
            ("b", Dtype::I64, &[1], &bytes([1])),
        ])?;
        let case = GoldenCase::open(folder.path())?;
        let message = case.floats("c").map_err(|error| error.to_string());
        assert_eq!(
            message,
            Err(format!("`c` not found in {}; it has a, b", path.display()))
        );
        let message = case.floats("a").map_err(|error| error.to_string());
        assert_eq!(
            message,
            Err(format!(
                "`a` in {}: expected floats, found integers",
                path.display()
            ))
        );
        Ok(())
    }

    #[test]
    fn what_is_no_token_id_is_refused() -> Outcome {
        let (folder, path) = case(&[
            ("negative", Dtype::I64, &[2], &bytes([3, -1])),
            ("cube", Dtype::I64, &[1, 1, 2], &bytes([3, 4])),
            ("padded.input_ids", Dtype::I64, &[1, 2], &bytes([3, 4])),
            ("padded.lengths", Dtype::I64, &[1], &bytes([3])),
        ])?;
        let case = GoldenCase::open(folder.path())?;
        let message = |name: &str, found: &str| {
            format!(
                "`{name}` in {}: expected token ids [batch, position], found {found}",
                path.display()
            )
        };
        let found = |name| case.tokens(name).map_err(|error| error.to_string());
        assert_eq!(found("negative"), Err(message("negative", "the number -1")));
        assert_eq!(found("cube"), Err(message("cube", "shape [1, 1, 2]")));
        let found = case.padded_rows().map_err(|error| error.to_string());
        assert_eq!(
            found,
            Err(message("padded.lengths", "the length 3 for a row of 2"))
        );
        Ok(())
    }

    #[test]
    fn files_that_are_no_golden_files_are_refused() -> Outcome {
        let (folder, path) = case(&[("half", Dtype::F16, &[1], &[0, 0])])?;
        assert!(matches!(
            GoldenCase::open(folder.path()),
            Err(GoldenError::Dtype { name, found: Dtype::F16, .. }) if name == "half"
        ));
        crate::truncate(&path, 12)?;
        assert!(matches!(
            GoldenCase::open(folder.path()),
            Err(GoldenError::Parse { .. })
        ));
        fs::remove_file(&path)?;
        assert!(matches!(
            GoldenCase::open(folder.path()),
            Err(GoldenError::Read { .. })
        ));
        Ok(())
    }

    /// What every decoder case promises, so that a test that asks for it can't be silently without it.
    #[test]
    fn every_decoder_case_has_every_run() -> Outcome {
        let mut cases = 0;
        for entry in fs::read_dir(golden_folder())? {
            let folder = entry?.path();
            if !folder.join("model/config.json").exists() {
                continue;
            }
            cases += 1;
            let case = GoldenCase::open(&folder)?;
            let shape = |name: &str| case.floats(name).map(|array| array.shape.clone());
            let whole = shape("whole.logits")?;
            assert_eq!(
                shape("whole.hidden")?[1..3],
                whole[..2],
                "{}",
                folder.display()
            );
            for run in [
                "split",
                "steps",
                "head_scaled",
                "head_uniform",
                "head_near_uniform",
            ] {
                assert_eq!(
                    shape(&format!("{run}.logits"))?,
                    whole,
                    "{run} in {}",
                    folder.display()
                );
            }
            let lengths: Vec<usize> = case.padded_rows()?.iter().map(Vec::len).collect();
            assert!(
                lengths.windows(2).any(|pair| pair[0] != pair[1]),
                "unequal rows in {}",
                folder.display()
            );
            assert_eq!(case.tokens("greedy.tokens")?[0].len(), 16);
        }
        assert!(cases > 0, "no case in {}", golden_folder().display());
        Ok(())
    }
}
