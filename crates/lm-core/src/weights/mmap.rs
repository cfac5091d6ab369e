//! Memory-mapped checkpoint files: read on demand, shared between processes, never copied by us.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::{MmapMut, MmapOptions};

use crate::{Error, Result};

/// A file mapped into memory.
///
/// The map is private and copy-on-write: a stray write through a view changes neither the file nor faults. As with any
/// map, a file that another process truncates while it is open ends this one with a bus error; replace checkpoints by
/// renaming, as this crate does.
#[derive(Debug)]
pub(crate) struct MappedFile {
    path: PathBuf,
    map: MmapMut,
}

impl MappedFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        // Before it is opened: opening a pipe waits for its other end.
        let meta = std::fs::metadata(path).map_err(Error::io(path))?;
        if !meta.is_file() {
            return Err(Error::Checkpoint {
                path: path.to_owned(),
                problem: "not a regular file".to_owned(),
            });
        }
        let file = File::open(path).map_err(Error::io(path))?;
        if meta.len() == 0 {
            return Err(Error::Checkpoint {
                path: path.to_owned(),
                problem: "the file is empty".to_owned(),
            });
        }
        // SAFETY: the map is private, so no write of ours reaches the file and the bytes are ours to hand out as `&[u8]`.
        // That another process changes the file meanwhile cannot be excluded by any program that maps files; every read of
        // the bytes is of plain numbers, for which any bit pattern is valid.
        let map = unsafe { MmapOptions::new().map_copy(&file) }.map_err(Error::io(path))?;
        Ok(Self {
            path: path.to_owned(),
            map,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }
}
