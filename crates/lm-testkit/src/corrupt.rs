use std::{
    fs, io,
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
};

/// Cuts a file to its first `length` bytes.
///
/// # Errors
/// When the file can't be written, or is no longer than `length`: the test would not test what it says.
pub fn truncate(path: &Path, length: u64) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(path)?;
    within(path, length, file.metadata()?.len())?;
    file.set_len(length)
}

/// Replaces the bytes of a file from `offset` on; its length stays.
///
/// # Errors
/// When the file can't be written, or the bytes would not fit into it.
pub fn overwrite(path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    let end = offset.saturating_add(bytes.len() as u64);
    within(path, end.saturating_sub(1), file.metadata()?.len())?;
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

fn within(path: &Path, position: u64, length: u64) -> io::Result<()> {
    if position < length {
        return Ok(());
    }
    let path = path.display();
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("byte {position} is not in {path} of {length} bytes"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_cut_and_replaced() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("file");
        fs::write(&path, "abcdef")?;
        overwrite(&path, 4, b"XY")?;
        assert_eq!(fs::read(&path)?, b"abcdXY");
        truncate(&path, 5)?;
        assert_eq!(fs::read(&path)?, b"abcdX");
        Ok(())
    }

    #[test]
    fn a_change_outside_of_the_file_is_refused() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("file");
        fs::write(&path, "abc")?;
        for error in [
            truncate(&path, 3),
            overwrite(&path, 2, b"xy"),
            overwrite(&path, u64::MAX, b"xy"),
        ] {
            assert_eq!(
                error.map_err(|error| error.kind()),
                Err(io::ErrorKind::InvalidInput)
            );
        }
        assert_eq!(fs::read(&path)?, b"abc");
        Ok(())
    }
}
