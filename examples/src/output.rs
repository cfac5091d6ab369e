//! Files that are whole or absent, text a terminal can be trusted with, and how a program ends.

use std::borrow::Cow;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

/// Writes `value` as indented JSON; see [`write_file`].
///
/// # Errors
/// As [`write_file`].
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .with_context(|| format!("cannot write {}", path.display()))?;
    bytes.push(b'\n');
    write_file(path, &bytes)
}

/// Writes a file so that another program sees all of it or none: a file beside it, synced to disk, then renamed.
///
/// # Errors
/// What the system refuses, with the path. The file is then as it was.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = folder_of(path);
    let write = || -> io::Result<()> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".").suffix(".part");
        // A temporary file is for its owner alone; a result is an ordinary file.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        // The new name is on disk when its folder is. Not every system opens folders; where it can't, the rename stands.
        if let Ok(folder) = std::fs::File::open(folder) {
            folder.sync_all()?;
        }
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Refuses a path for a file whose folder does not exist.
///
/// # Errors
/// The folder is named.
pub fn require_folder_of(path: &Path) -> Result<()> {
    let folder = folder_of(path);
    ensure!(
        folder.is_dir(),
        "no folder {} to write {} to",
        folder.display(),
        path.display()
    );
    ensure!(
        !path.is_dir(),
        "expected a file, found the folder {}",
        path.display()
    );
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Text as a terminal may see it. A model can write any character; escape sequences would move the cursor, change the title, or
/// make the terminal answer as if somebody had typed. Line feeds and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(steers) {
        Cow::Owned(text.replace(steers, "\u{FFFD}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Exit code of a program whose reader has gone, as in `… | head`: that of a program ended by SIGPIPE, 128 + 13.
const READER_GONE: u8 = 141;

/// Runs a program: an error goes to standard error in one line and makes the exit code 1. When nobody reads the output any more,
/// the program ends without a word.
pub fn run(program: impl FnOnce() -> Result<()>) -> ExitCode {
    match program() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<io::Error>() {
            Some(broken) if broken.kind() == io::ErrorKind::BrokenPipe => {
                ExitCode::from(READER_GONE)
            }
            _ => {
                // Nobody is left to tell when standard error is closed.
                let _ = writeln!(io::stderr(), "error: {}", printable(&format!("{error:#}")));
                ExitCode::FAILURE
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(printable("a\n\tb é 日"), "a\n\tb é 日");
        assert_eq!(
            printable("\u{1b}[2Jx\r\u{7}\u{9b}1m"),
            "\u{FFFD}[2Jx\u{FFFD}\u{FFFD}\u{FFFD}1m"
        );
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_json(&path, &[1, 2]).unwrap();
        write_json(&path, &[3]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "[\n  3\n]\n");
        // A folder can't be replaced by a file: the write fails after the temporary file was made.
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        let error = format!("{:#}", write_json(&taken, &[4]).unwrap_err());
        assert!(
            error.starts_with(&format!("cannot write {}: ", taken.display())),
            "{error}"
        );
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["a.json", "taken"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_result_can_be_read_by_others() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_file(&ours, b"").unwrap();
        fs::write(&plain, b"").unwrap();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn a_place_that_cannot_hold_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(require_folder_of(Path::new("plain-name.json")).is_ok());
        let missing = folder.path().join("no/a.json");
        assert!(
            require_folder_of(&missing)
                .unwrap_err()
                .to_string()
                .starts_with("no folder ")
        );
        assert!(
            require_folder_of(folder.path())
                .unwrap_err()
                .to_string()
                .starts_with("expected a file")
        );
    }
}
