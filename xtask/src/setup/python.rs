//! A torch that the user's Python already has, and virtual environments of our own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::cache::{self, free_bytes, sha256_text};
use crate::host::{self, Host};

/// Prints where `torch` is installed, without the seconds that importing it takes.
const FIND_TORCH: &str = "
import importlib.util
spec = importlib.util.find_spec('torch')
if spec is not None and spec.submodule_search_locations:
    print(list(spec.submodule_search_locations)[0])
";

/// The `torch` folder of the Python on the path, if there is one.
pub(super) fn torch_folder(host: &Host) -> Option<PathBuf> {
    let python = host.find("python3")?;
    let found = host::output(host.command(python).args(["-c", FIND_TORCH])).ok()?;
    let folder = found.trim();
    (!folder.is_empty()).then(|| PathBuf::from(folder))
}

/// The Python of a virtual environment in the cache that holds exactly these requirements; made on first use.
///
/// `bytes` is about what it takes on disk.
pub(crate) fn environment(host: &Host, requirements: &str, bytes: u64) -> Result<PathBuf> {
    let digest = sha256_text(requirements);
    let folder = host.cache.join(format!("python-{}", &digest[..12]));
    let python = folder.join("bin/python");
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(python);
    }
    let base = host.python()?;
    let _lock = host.cache.lock()?;
    if complete.exists() {
        return Ok(python);
    }
    host.cache.require(bytes, free_bytes)?;
    println!(
        "making a Python environment in {} (about {} GB)",
        folder.display(),
        bytes.div_ceil(1_000_000_000)
    );
    cache::remove(&folder)?;
    make(host, &base, &folder)?;
    let listed = folder.join("requirements.txt");
    cache::write(&listed, requirements)?;
    let install = host
        .command(&python)
        .args([
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(&listed)
        .status()
        .with_context(|| format!("cannot start {}", python.display()))?;
    ensure!(
        install.success(),
        "pip could not install the pinned packages into {} (its reason is above); the pins need Python 3.11 to 3.14",
        folder.display()
    );
    fs::write(&complete, "").with_context(|| format!("cannot write {}", complete.display()))?;
    Ok(python)
}

fn make(host: &Host, base: &Path, folder: &Path) -> Result<()> {
    let output = host
        .command(base)
        .args(["-m", "venv"])
        .arg(folder)
        .output()
        .with_context(|| format!("cannot start {}", base.display()))?;
    if !output.status.success() {
        bail!(
            "{} cannot make a virtual environment: install its venv module (Debian, Ubuntu: `apt install python3-venv`): {}",
            base.display(),
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}
