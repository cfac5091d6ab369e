//! The per-user cache, shared by all clones: libtorch, the demo model, the reference Python.
//!
//! `LM_SAFETY_CACHE`, else `$XDG_CACHE_HOME/lm-safety`, else `~/.cache/lm-safety`. The examples and tests look for the demo
//! model by the same rule.
//!
//! | entry | holds |
//! | --- | --- |
//! | `lock` | held while something is being put in |
//! | `downloads/` | verified wheels of a set-up that is not finished yet |
//! | `libtorch-<version>-{cpu,cuda}/` | `torch/` and `nvidia/`, in the wheels' layout |
//! | `models/` | the demo model |
//! | `tokenizers/<name>/` | real tokenizers, for tests |
//! | `templates/` | real chat templates, for tests |
//! | `python-<digest>/` | a virtual environment for one set of pinned requirements |

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

/// 100 MB.
const TENTH_OF_GB: u64 = 100_000_000;

/// The cache folder.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The folder the environment asks for.
    pub(crate) fn from_env() -> Result<Self> {
        let folder = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let root = folder("LM_SAFETY_CACHE")
            // The XDG specification has relative paths ignored.
            .or_else(|| folder("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("lm-safety")))
            .or_else(|| folder("HOME").map(|home| home.join(".cache/lm-safety")))
            .context("no cache folder: none of LM_SAFETY_CACHE, XDG_CACHE_HOME and HOME is set; set one of them")?;
        Ok(Self::at(std::path::absolute(&root).with_context(|| {
            format!("bad cache folder {}", root.display())
        })?))
    }

    /// This folder.
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// An entry of the cache.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// Creates the cache and waits until no other clone is filling it. Dropping the file lets the next one in.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.join("lock");
        let open = || -> io::Result<File> {
            fs::create_dir_all(&self.root)?;
            File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
        };
        let file = open().with_context(|| {
            format!(
                "cannot write to the cache folder {}: name another one in LM_SAFETY_CACHE",
                self.root.display()
            )
        })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                println!(
                    "waiting for another set-up that fills {} …",
                    self.root.display()
                );
                file.lock()
                    .with_context(|| format!("cannot lock {}", path.display()))?;
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        Ok(file)
    }

    /// Refuses a job the disk has no room for, before it starts.
    pub(crate) fn require(
        &self,
        needed: u64,
        free: impl Fn(&Path) -> io::Result<u64>,
    ) -> Result<()> {
        let found = free(&self.root)
            .with_context(|| format!("cannot read the free space of {}", self.root.display()))?;
        if found < needed {
            // The need is rounded up and the room down, so that the two never read as equal.
            let (needed, found) = (needed.div_ceil(TENTH_OF_GB), found / TENTH_OF_GB);
            bail!(self.disk_full(&format!(
                "{}.{} GB is needed, {}.{} GB is free",
                needed / 10,
                needed % 10,
                found / 10,
                found % 10
            )));
        }
        Ok(())
    }

    /// The sentence for a full disk.
    pub(crate) fn disk_full(&self, found: &str) -> String {
        format!(
            "not enough disk space in {}: {found}; make room, or name a folder on another disk in LM_SAFETY_CACHE",
            self.root.display()
        )
    }
}

/// Bytes an ordinary user may still write to the disk that holds `path`.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// SHA-256 of a file, in lower-case hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let reading = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    let mut digest = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).with_context(reading)? {
            0 => return Ok(hex(&digest.finalize())),
            count => digest.update(&block[..count]),
        }
    }
}

/// SHA-256 of a text, in lower-case hexadecimal.
pub(crate) fn sha256_text(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a small file beside its place and moves it there, unless it already says the same.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    let store = || -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        // Like a file made in place: the umask decides who may read it.
        let mut file = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    store().with_context(|| format!("cannot write {}", path.display()))
}

/// Removes a file, a link or a folder with all it holds; that it is absent already is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_sha256sum_does() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("file");
        fs::write(&path, "abc")?;
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path)?, expected);
        assert_eq!(sha256_text("abc"), expected);
        Ok(())
    }

    #[test]
    fn a_full_disk_is_refused_before_the_job() {
        let cache = Cache::at("/cache".into());
        assert!(cache.require(1_000_000_000, |_| Ok(1_000_000_000)).is_ok());
        let error = cache
            .require(1_060_000_000, |_| Ok(310_000_000))
            .expect_err("too little");
        assert_eq!(
            error.to_string(),
            "not enough disk space in /cache: 1.1 GB is needed, 0.3 GB is free; make room, \
             or name a folder on another disk in LM_SAFETY_CACHE"
        );
    }

    #[test]
    fn a_second_lock_waits_for_the_first() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let cache = Cache::at(folder.path().join("new"));
        let first = cache.lock()?;
        let second = File::options().write(true).open(cache.join("lock"))?;
        assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
        drop(first);
        assert!(second.try_lock().is_ok());
        Ok(())
    }

    #[test]
    fn free_space_of_a_real_disk_is_read() -> Result<()> {
        assert!(free_bytes(Path::new("/"))? > 0);
        Ok(())
    }
}
