//! Captured states in a safetensors file, written prompt by prompt: memory does not grow with their number.
//!
//! A tensor a site, `F32` `[n, width]`, named as [`Site`] prints; beside them `rows` and `positions`, `I64` `[n]`: the prompt and
//! the position of each line, in the order of the prompts.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use crate::model::{Intervention, ModelShape, OpenModel, Run};
use crate::sites::{Capture, Captured, Positions, Site};
use crate::{Error, Result, files};

/// A file of captured states under way. The name it is to have appears when it is whole.
#[derive(Debug)]
pub struct CaptureFile {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    sites: Vec<(Site, usize)>,
    /// Where the values of each tensor begin: sites in order, then rows and positions.
    offsets: Vec<u64>,
    /// For each prompt its lines, and whether they have been written.
    lines: Vec<(Range<usize>, bool)>,
    finished: bool,
}

impl CaptureFile {
    /// Begins a file for what `capture` keeps of prompts of these `lengths`.
    ///
    /// # Errors
    /// No prompts; sites that the model does not have or whose width depends on the prompt, positions that a prompt does not
    /// have, a site named twice; what the system says of the file.
    pub fn create(
        path: impl AsRef<Path>,
        capture: &Capture,
        shape: &ModelShape,
        lengths: &[usize],
    ) -> Result<Self> {
        capture.check(shape)?;
        crate::require_rows(lengths.len())?;
        let mut sites: Vec<(Site, usize)> = Vec::with_capacity(capture.sites.len());
        for &site in &capture.sites {
            let width = site.width(shape).ok_or_else(|| {
                let expected = "a site of one width for all prompts, in a file";
                Error::argument("site", expected, format!("{site:?}"))
            })?;
            if sites.iter().any(|(known, _)| *known == site) {
                return Err(Error::argument(
                    "site",
                    "each once",
                    format!("{site:?} twice"),
                ));
            }
            sites.push((site, width));
        }
        let mut lines = Vec::with_capacity(lengths.len());
        let mut count = 0;
        for (row, &length) in lengths.iter().enumerate() {
            capture.positions.check_row(row, length)?;
            let own = capture.positions.within(0, length).len();
            lines.push((count..count + own, false));
            count += own;
        }

        let mut tensors: Vec<(String, TensorInfo)> = Vec::new();
        let mut end = 0_usize;
        let mut add = |name: String, dtype: Dtype, shape: Vec<usize>, size: usize| {
            let bytes = shape
                .iter()
                .fold(size, |all, axis| all.saturating_mul(*axis));
            let data_offsets = (end, end.saturating_add(bytes));
            end = data_offsets.1;
            let info = TensorInfo {
                dtype,
                shape,
                data_offsets,
            };
            tensors.push((name, info));
        };
        // The widest type first, as the format's own writer has it, so that all are aligned.
        for name in ["rows", "positions"] {
            add(name.to_owned(), Dtype::I64, vec![count], size_of::<i64>());
        }
        for (site, width) in &sites {
            add(
                site.to_string(),
                Dtype::F32,
                vec![count, *width],
                size_of::<f32>(),
            );
        }
        let starts: Vec<u64> = tensors
            .iter()
            .map(|(_, info)| info.data_offsets.0 as u64)
            .collect();
        let path = path.as_ref().to_owned();
        let malformed = |source| Error::Safetensors {
            path: path.clone(),
            source,
        };
        let header = Metadata::new(None, tensors).map_err(malformed)?;
        let mut header = serde_json::to_vec(&header).map_err(|source| Error::Json {
            path: path.clone(),
            source,
        })?;
        header.resize(header.len().next_multiple_of(8), b' ');

        let mut partial = path.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let mut file = File::create(&partial).map_err(Error::io(&partial))?;
        let first = 8 + header.len() as u64;
        let written = file
            .write_all(&(header.len() as u64).to_le_bytes())
            .and_then(|()| file.write_all(&header))
            // The whole size now: a full disk should not be found out at the end.
            .and_then(|()| file.set_len(first + end as u64));
        written.map_err(Error::io(&partial))?;
        Ok(Self {
            path,
            partial,
            file,
            sites,
            offsets: starts.into_iter().map(|start| first + start).collect(),
            lines,
            finished: false,
        })
    }

    /// Writes what prompt number `row` kept; prompts may come in any order.
    ///
    /// # Errors
    /// A prompt that the file is not for or that was written before, values of another shape; what the system says.
    pub fn write(&mut self, row: usize, captured: &Captured) -> Result<()> {
        let count = self.lines.len();
        let Some((lines, written)) = self.lines.get_mut(row) else {
            return Err(Error::argument("prompt", format!("below {count}"), row));
        };
        if *written {
            return Err(Error::argument(
                "prompt",
                "each once",
                format!("{row} twice"),
            ));
        }
        let expected: Vec<(usize, usize)> = self
            .sites
            .iter()
            .map(|(_, width)| (lines.len(), *width))
            .collect();
        let found: Vec<(usize, usize)> = captured.values.iter().map(ndarray::Array2::dim).collect();
        if found != expected || captured.positions.len() != lines.len() {
            return Err(Error::argument(
                format!("states of prompt {row}"),
                format!("{expected:?}"),
                format!("{found:?}"),
            ));
        }
        let whole = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let integers = |values: &mut dyn Iterator<Item = usize>| -> Vec<u8> {
            values
                .flat_map(|value| whole(value).to_le_bytes())
                .collect()
        };
        let mut tensors = vec![
            (size_of::<i64>(), integers(&mut lines.clone().map(|_| row))),
            (
                size_of::<i64>(),
                integers(&mut captured.positions.iter().copied()),
            ),
        ];
        for ((_, width), values) in self.sites.iter().zip(&captured.values) {
            let bytes = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            tensors.push((width * size_of::<f32>(), bytes));
        }
        for ((line, bytes), offset) in tensors.iter().zip(&self.offsets) {
            let at = offset + (lines.start * line) as u64;
            let put = self
                .file
                .seek(SeekFrom::Start(at))
                .and_then(|_| self.file.write_all(bytes));
            put.map_err(Error::io(&self.partial))?;
        }
        *written = true;
        Ok(())
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// A prompt that is missing; what the system says.
    pub fn finish(mut self) -> Result<()> {
        if let Some(row) = self.lines.iter().position(|(_, written)| !written) {
            return Err(Error::argument(
                "prompts",
                "all written",
                format!("{row} missing"),
            ));
        }
        self.file.sync_all().map_err(Error::io(&self.partial))?;
        files::rename(&self.partial, &self.path).map_err(Error::io(&self.path))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for CaptureFile {
    fn drop(&mut self) {
        if !self.finished {
            // Half a file is of no use; if it cannot be removed, its name says what it is.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// Runs `prompts` and writes what `capture` names to a file, some `tokens` at a time, similar lengths together.
///
/// # Errors
/// Those of [`CaptureFile`] and of [`OpenModel::run`].
pub fn capture_to_file<M: OpenModel + ?Sized>(
    model: &M,
    prompts: &[&[u32]],
    intervention: &Intervention,
    capture: &Capture,
    path: impl AsRef<Path>,
    tokens: usize,
) -> Result<()> {
    let lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.len()).collect();
    // Before the first one runs: a mistake in the last prompt should not cost the others.
    crate::check_chunks(
        prompts,
        &vec![0; prompts.len()],
        model.vocab_size(),
        model.context_length(),
    )?;
    let mut file = CaptureFile::create(path, capture, &model.shape(), &lengths)?;
    let mut order: Vec<(usize, &[u32])> = prompts.iter().copied().enumerate().collect();
    order.sort_by_key(|(_, prompt)| prompt.len());
    let run = Run {
        intervention: intervention.clone(),
        capture: capture.clone(),
        logits: Positions::Last,
    };
    let mut rest = order.as_slice();
    while let Some((_, shortest)) = rest.first() {
        let mut count = 1;
        let mut longest = shortest.len();
        for (_, prompt) in rest.iter().skip(1) {
            longest = longest.max(prompt.len());
            if longest * (count + 1) > tokens {
                break;
            }
            count += 1;
        }
        let (batch, after) = rest.split_at(count);
        let rows: Vec<&[u32]> = batch.iter().map(|(_, prompt)| *prompt).collect();
        let output = model.run(&rows, &run)?;
        for ((row, _), captured) in batch.iter().zip(&output.captured) {
            file.write(*row, captured)?;
        }
        rest = after;
    }
    file.finish()
}
