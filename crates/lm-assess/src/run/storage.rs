//! What a journal is written to.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};

/// The operations a journal needs of a file. Disks are full, files on networks break off, and writes may take fewer bytes than
/// they were given: whoever wants to see what a run does then puts a failing storage between the journal and its file
/// ([`Journal::open_through`](super::Journal::open_through)).
pub trait Storage: fmt::Debug + Send {
    /// Appends bytes at the end, possibly fewer than given, and says how many.
    ///
    /// # Errors
    /// What the system says; nothing or a part may have been written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Returns when everything written so far would survive a loss of power.
    ///
    /// # Errors
    /// What the system says; then nothing is known about what was written since the last success.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to its first `length` bytes; the next write goes there.
    ///
    /// # Errors
    /// What the system says.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

/// A file that is open for appending.
impl Storage for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        // Brings the length to the disk too, but not the time of the last change.
        self.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// Appends all of `bytes`.
pub(super) fn write_all(storage: &mut dyn Storage, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match storage.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
