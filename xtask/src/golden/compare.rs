//! Compares regenerated files with committed ones: numbers within what another machine may round differently, all else exactly.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// Largest difference, relative to the larger of the two numbers and 1.
///
/// Another processor takes other matrix kernels: f32 sums of a few hundred terms then differ by a few units of 1e-6.
const TOLERANCE: f64 = 1e-4;

/// Files of a case that `make.py` does not write.
const BY_HAND: [&str; 2] = ["make.py", "README.md"];

/// Templates are written for their case.
const TEMPLATE: &str = "jinja";

/// One line for each difference; a file that only one side has is one.
pub(super) fn folders(committed: &Path, regenerated: &Path) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    let (old, new) = (files(committed)?, files(regenerated)?);
    for name in old.union(&new) {
        let shown = name.display();
        if !new.contains(name) {
            differences.push(format!("{shown}: committed, but no longer made"));
        } else if !old.contains(name) {
            differences.push(format!("{shown}: made, but not committed"));
        } else {
            let read = |folder: &Path| {
                let path = folder.join(name);
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
            };
            let (old, new) = (read(committed)?, read(regenerated)?);
            if let Some(difference) =
                contents(name, &old, &new).with_context(|| format!("cannot compare {shown}"))?
            {
                differences.push(format!("{shown}: {difference}"));
            }
        }
    }
    Ok(differences)
}

/// Files below a folder, by their path from it.
fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(next) = pending.pop() {
        let listing = || format!("cannot list {}", next.display());
        for entry in fs::read_dir(&next).with_context(listing)? {
            let path = entry.with_context(listing)?.path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "__pycache__") {
                    pending.push(path);
                }
            } else if let Ok(name) = path.strip_prefix(folder)
                && !BY_HAND.iter().any(|by_hand| name == Path::new(by_hand))
                && path
                    .extension()
                    .is_none_or(|extension| extension != TEMPLATE)
            {
                found.insert(name.to_owned());
            }
        }
    }
    Ok(found)
}

fn contents(name: &Path, old: &[u8], new: &[u8]) -> Result<Option<String>> {
    if old == new {
        return Ok(None);
    }
    match name.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => tensors(old, new),
        Some("json") => Ok(json(
            "",
            &serde_json::from_slice(old)?,
            &serde_json::from_slice(new)?,
        )),
        _ => Ok(Some("the bytes differ".to_owned())),
    }
}

fn tensors(old: &[u8], new: &[u8]) -> Result<Option<String>> {
    let (old, new) = (
        SafeTensors::deserialize(old)?,
        SafeTensors::deserialize(new)?,
    );
    let names = |file: &SafeTensors<'_>| -> BTreeSet<String> {
        file.names().into_iter().map(str::to_owned).collect()
    };
    if let Some(name) = names(&old).symmetric_difference(&names(&new)).next() {
        return Ok(Some(format!("`{name}` is on one side only")));
    }
    for name in names(&old) {
        let (old, new) = (old.tensor(&name)?, new.tensor(&name)?);
        if (old.dtype(), old.shape()) != (new.dtype(), new.shape()) {
            return Ok(Some(format!(
                "`{name}`: {:?} {:?} became {:?} {:?}",
                old.dtype(),
                old.shape(),
                new.dtype(),
                new.shape()
            )));
        }
        if old.data() == new.data() {
            continue;
        }
        let (Some(before), Some(after)) = (
            numbers(old.dtype(), old.data()),
            numbers(new.dtype(), new.data()),
        ) else {
            return Ok(Some(format!(
                "`{name}`: the {:?} values differ",
                old.dtype()
            )));
        };
        let wrong = before
            .iter()
            .zip(&after)
            .enumerate()
            .find(|(_, (old, new))| !close(**old, **new));
        if let Some((index, (old, new))) = wrong {
            return Ok(Some(format!("`{name}`[{index}]: {old} became {new}")));
        }
    }
    Ok(None)
}

/// The values of a floating-point tensor; `None` for other types, which must be equal.
fn numbers(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f64>> {
    let chunks = bytes.as_chunks::<2>().0.iter().copied();
    Some(match dtype {
        Dtype::F64 => bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|number| f64::from_le_bytes(*number))
            .collect(),
        Dtype::F32 => bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|number| f32::from_le_bytes(*number).into())
            .collect(),
        Dtype::F16 => chunks
            .map(|number| f16::from_le_bytes(number).into())
            .collect(),
        Dtype::BF16 => chunks
            .map(|number| bf16::from_le_bytes(number).into())
            .collect(),
        _ => return None,
    })
}

fn json(at: &str, old: &Value, new: &Value) -> Option<String> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
            keys.into_iter().find_map(|key| {
                let at = format!("{at}/{key}");
                match (old.get(key), new.get(key)) {
                    (Some(old), Some(new)) => json(&at, old, new),
                    _ => Some(format!("{at} is on one side only")),
                }
            })
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => old
            .iter()
            .zip(new)
            .enumerate()
            .find_map(|(index, (old, new))| json(&format!("{at}/{index}"), old, new)),
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let same = a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| close(a, b));
            (!same).then(|| format!("{at}: {a} became {b}"))
        }
        _ => (old != new).then(|| format!("{at}: {old} became {new}")),
    }
}

fn close(old: f64, new: f64) -> bool {
    // The first test lets equal infinities and a pair of NaNs through.
    old.to_bits() == new.to_bits()
        || (old - new).abs() <= TOLERANCE * old.abs().max(new.abs()).max(1.0)
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    fn file(values: &[f32], ids: &[i64]) -> Result<Vec<u8>> {
        let floats: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let integers: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let tensors = [
            (
                "logits",
                TensorView::new(Dtype::F32, vec![values.len()], &floats)?,
            ),
            (
                "ids",
                TensorView::new(Dtype::I64, vec![ids.len()], &integers)?,
            ),
        ];
        Ok(safetensors::serialize(tensors, None)?)
    }

    #[test]
    fn tensors_may_round_but_not_change() -> Result<()> {
        let committed = file(&[1.0, 2000.0], &[5])?;
        assert_eq!(
            tensors(&committed, &file(&[1.000_01, 2000.1], &[5])?)?,
            None
        );
        assert_eq!(
            tensors(&committed, &file(&[1.0, 2001.0], &[5])?)?.as_deref(),
            Some("`logits`[1]: 2000 became 2001")
        );
        assert_eq!(
            tensors(&committed, &file(&[1.0, f32::NAN], &[5])?)?.as_deref(),
            Some("`logits`[1]: 2000 became NaN")
        );
        assert_eq!(
            tensors(&committed, &file(&[1.0, 2000.0], &[6])?)?.as_deref(),
            Some("`ids`: the I64 values differ")
        );
        assert_eq!(
            tensors(&committed, &file(&[1.0], &[5])?)?.as_deref(),
            Some("`logits`: F32 [2] became F32 [1]")
        );
        Ok(())
    }

    #[test]
    fn json_is_compared_by_value() -> Result<()> {
        let compare = |old: &str, new: &str| -> Result<Option<String>> {
            Ok(json(
                "",
                &serde_json::from_str(old)?,
                &serde_json::from_str(new)?,
            ))
        };
        assert_eq!(
            compare(r#"{"a": [1, 0.5]}"#, r#"{"a": [1, 0.50001]}"#)?,
            None
        );
        assert_eq!(
            compare(r#"{"a": [1, 0.5]}"#, r#"{"a": [2, 0.5]}"#)?.as_deref(),
            Some("/a/0: 1 became 2")
        );
        assert_eq!(
            compare(r#"{"a": 0.5}"#, r#"{"a": 0.6}"#)?.as_deref(),
            Some("/a: 0.5 became 0.6")
        );
        assert_eq!(
            compare(r#"{"a": 1}"#, r#"{"b": 1}"#)?.as_deref(),
            Some("/a is on one side only")
        );
        assert_eq!(
            compare("[1]", "[1, 2]")?.as_deref(),
            Some(": [1] became [1,2]")
        );
        Ok(())
    }

    #[test]
    fn a_file_on_one_side_is_a_difference() -> Result<()> {
        let (old, new) = (tempfile::tempdir()?, tempfile::tempdir()?);
        fs::write(old.path().join("make.py"), "")?;
        fs::write(old.path().join("by-hand.jinja"), "{{ x }}")?;
        fs::write(old.path().join("gone.json"), "1")?;
        fs::create_dir(new.path().join("model"))?;
        fs::write(new.path().join("model/new.json"), "1")?;
        fs::write(old.path().join("same.txt"), "a")?;
        fs::write(new.path().join("same.txt"), "b")?;
        assert_eq!(
            folders(old.path(), new.path())?,
            [
                "gone.json: committed, but no longer made",
                "model/new.json: made, but not committed",
                "same.txt: the bytes differ"
            ]
        );
        Ok(())
    }
}
