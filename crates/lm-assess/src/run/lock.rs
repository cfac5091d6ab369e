//! One writer a journal.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::error::{Result, RunError};

/// Holds the right to write to a journal, until dropped or until the process ends in whatever way.
///
/// The lock is the operating system's (`flock`), on a file beside the journal, so that it can be held before the journal
/// exists; the file's text names the holder and is for people. The journal itself is locked as well: removing the file
/// beside it lets nobody in.
#[derive(Debug)]
pub(super) struct Lock {
    note: File,
    journal: Option<File>,
}

impl Lock {
    pub(super) fn take(journal: &Path) -> Result<Self> {
        let beside = beside(journal);
        let mut note = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&beside)
            .map_err(RunError::io(&beside))?;
        exclusive(&note, journal, &beside)?;
        note.set_len(0)
            .and_then(|()| note.rewind())
            .and_then(|()| write!(note, "process {} on {}", std::process::id(), host()))
            .map_err(RunError::io(&beside))?;
        Ok(Self {
            note,
            journal: None,
        })
    }

    /// Locks the journal itself, once it is there.
    pub(super) fn also(&mut self, file: &File, journal: &Path) -> Result<()> {
        exclusive(file, journal, &beside(journal))?;
        self.journal = Some(file.try_clone().map_err(RunError::io(journal))?);
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // For people only; the lock goes with the file's handle. The file stays: removing it would let two writers lock two
        // files of the same name.
        let _ = self.note.set_len(0);
        // Closing alone would not do: a process that another thread is just starting has copies of the handles for a moment.
        for file in self.journal.iter().chain([&self.note]) {
            let _ = file.unlock();
        }
    }
}

fn exclusive(file: &File, journal: &Path, note: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(RunError::Busy {
            path: journal.to_owned(),
            holder: holder(note),
        }),
        Err(TryLockError::Error(source)) => Err(RunError::io(journal)(source)),
    }
}

fn beside(journal: &Path) -> PathBuf {
    let mut name = journal.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn holder(note: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        File::open(note)?.take(1024).read_to_string(&mut text)?;
        Ok(text)
    };
    match read() {
        Ok(text) if !text.is_empty() => text,
        _ => "a process that did not say who it is".to_owned(),
    }
}

#[cfg(unix)]
fn host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "this host".to_owned())
}
