//! Data sets: what is read, what is refused and where, what is the same, how it is split.

mod bad;
mod csv_oracle;
mod formats;
#[cfg(feature = "parquet")]
mod parquet;
mod pyrit;
mod splits;

use std::path::PathBuf;

use lm_assess::data::{DataError, DataSet, ReadOptions};
use tempfile::TempDir;

/// A file of this name and content in a folder of its own.
fn file(name: &str, bytes: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a writable folder");
    (folder, path)
}

fn read_with(
    name: &str,
    bytes: impl AsRef<[u8]>,
    options: &ReadOptions,
) -> Result<DataSet, DataError> {
    let (_folder, path) = file(name, bytes);
    DataSet::read(&path, options)
}

fn read(name: &str, bytes: impl AsRef<[u8]>) -> DataSet {
    read_with(name, bytes, &ReadOptions::new()).expect("a data set")
}

/// The error's text, with the file's folder taken off.
fn error_with(name: &str, bytes: impl AsRef<[u8]>, options: &ReadOptions) -> String {
    let (folder, path) = file(name, bytes);
    let error = DataSet::read(&path, options).expect_err("a refusal");
    let folder = format!("{}/", folder.path().display());
    error.to_string().replace(&folder, "")
}

fn error(name: &str, bytes: impl AsRef<[u8]>) -> String {
    error_with(name, bytes, &ReadOptions::new())
}
