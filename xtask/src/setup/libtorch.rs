//! A folder with libtorch: what it is, whether it fits, and how the cached one is made from wheels.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::Setup;
use crate::cache;
use crate::host::Host;
use crate::pins::{TORCH, Wheel};

/// Says in a cached folder which wheels it was made of; written last.
const MADE_OF: &str = "made-of";

/// A libtorch that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Libtorch {
    /// The folder that holds `lib/` and `include/`.
    pub(crate) folder: PathBuf,
    /// Whether it has the CUDA half.
    pub(crate) cuda: bool,
}

impl Libtorch {
    /// Reads what a folder holds.
    ///
    /// `torch-sys` checks a version only where the folder has a `build-version`, which a wheel's has not; the wrong headers then
    /// show as pages of C++.
    pub(crate) fn inspect(folder: &Path) -> Result<Self> {
        let version = version(folder)?;
        ensure!(
            version.split('+').next() == Some(TORCH),
            "{} holds libtorch {version}, but this workspace needs {TORCH}",
            folder.display()
        );
        for file in [
            "lib/libtorch_cpu.so",
            "lib/libc10.so",
            "include/torch/csrc/api/include/torch/torch.h",
        ] {
            ensure!(
                folder.join(file).exists(),
                "{} is not a whole libtorch: it has no {file}",
                folder.display()
            );
        }
        Ok(Self {
            folder: folder.to_owned(),
            cuda: folder.join("lib/libtorch_cuda.so").exists(),
        })
    }

    /// Links an empty program against all of it and starts that: compiler, linker and every library it needs are there.
    pub(crate) fn try_out(&self, host: &Host) -> Result<()> {
        let cxx = host.cxx()?;
        let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
        let source = scratch.path().join("empty.cpp");
        let program = scratch.path().join("empty");
        fs::write(&source, "int main() { return 0; }\n")
            .context("cannot write a temporary file")?;
        let lib = self.folder.join("lib");
        let link = host
            .command(&cxx)
            .arg(&source)
            .arg("-o")
            .arg(&program)
            .arg("-L")
            .arg(&lib)
            .arg(format!("-Wl,-rpath,{}", lib.display()))
            .args(["-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu", "-lc10"])
            .output()
            .with_context(|| format!("cannot start {}", cxx.display()))?;
        ensure!(
            link.status.success(),
            "cannot link against {}: {}",
            lib.display(),
            first_line(&link.stderr)
        );
        let start = Command::new(&program)
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .context("cannot start a linked program")?;
        ensure!(
            start.status.success(),
            "a program linked against {} does not start: {}",
            lib.display(),
            first_line(&start.stderr)
        );
        Ok(())
    }
}

impl Setup<'_> {
    /// The cached libtorch, made now if it is not there.
    pub(super) fn cached(&self, cuda: bool) -> Result<Libtorch> {
        let (name, wheels) = if cuda {
            ("cuda", self.pins.cuda)
        } else {
            ("cpu", self.pins.cpu)
        };
        let folder = self.host.cache.join(format!("libtorch-{TORCH}-{name}"));
        if is_made_of(&folder, wheels) {
            return Libtorch::inspect(&folder.join("torch"));
        }
        ensure!(
            cfg!(all(target_os = "linux", target_arch = "x86_64")),
            "set-up fetches libtorch for Linux x86-64 only: install torch {TORCH} for your Python \
             (`python3 -m pip install torch=={TORCH}`), or name a libtorch {TORCH} in the variable LIBTORCH"
        );
        // Asked for before half a gigabyte is fetched.
        self.host.cxx()?;
        let _lock = self.host.cache.lock()?;
        if is_made_of(&folder, wheels) {
            return Libtorch::inspect(&folder.join("torch"));
        }
        let files = self.fetch_all(wheels)?;
        let partial = self.host.cache.join(format!(".partial-{name}"));
        cache::remove(&partial)?;
        fs::create_dir_all(&partial)
            .with_context(|| format!("cannot create {}", partial.display()))?;
        for (wheel, file) in wheels.iter().zip(&files) {
            self.unpack(wheel, file, &partial)?;
        }
        let torch = partial.join("torch");
        if !torch.join("lib/libtorch_cuda.so").exists() {
            make_libtorch_so(self.host, &torch.join("lib"))?;
        }
        Libtorch::inspect(&torch)?.try_out(self.host)?;
        cache::write(&partial.join(MADE_OF), &made_of(wheels))?;
        cache::remove(&folder)?;
        fs::rename(&partial, &folder)
            .with_context(|| format!("cannot move libtorch to {}", folder.display()))?;
        for file in &files {
            cache::remove(file)?;
        }
        println!("libtorch is complete; its downloads were removed");
        Libtorch::inspect(&folder.join("torch"))
    }
}

/// Makes the `libtorch.so` of a CPU-only folder: the wheel's own needs `libtorch_cuda.so`.
///
/// It carries `$ORIGIN` because a run path does not apply to the dependencies of a dependency: without it, a program that asks
/// for nothing but `libtorch.so` would not find the two others.
fn make_libtorch_so(host: &Host, lib: &Path) -> Result<()> {
    let cxx = host.cxx()?;
    let output = host
        .command(&cxx)
        .args(["-shared", "-fPIC", "-x", "c++", "-", "-o"])
        .arg(lib.join("libtorch.so"))
        .args([
            "-Wl,-soname,libtorch.so",
            "-Wl,-rpath,$ORIGIN",
            "-Wl,--no-as-needed",
            "-L",
        ])
        .arg(lib)
        .args(["-ltorch_cpu", "-lc10"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", cxx.display()))?;
    ensure!(
        output.status.success(),
        "{} cannot make libtorch.so: {}",
        cxx.display(),
        first_line(&output.stderr)
    );
    Ok(())
}

/// The version a folder states: `version.py` of a wheel, `build-version` of an archive.
fn version(folder: &Path) -> Result<String> {
    if let Ok(text) = fs::read_to_string(folder.join("version.py")) {
        let stated = text.lines().find_map(|line| {
            let value = line
                .strip_prefix("__version__")?
                .trim_start()
                .strip_prefix('=')?
                .trim();
            Some(value.trim_matches(['\'', '"']).to_owned())
        });
        return stated.with_context(|| {
            format!(
                "{} states no __version__",
                folder.join("version.py").display()
            )
        });
    }
    if let Ok(text) = fs::read_to_string(folder.join("build-version")) {
        return Ok(text.trim().to_owned());
    }
    bail!(
        "{} is not a libtorch folder: it has neither version.py (a wheel's `torch` folder) nor build-version (an archive's)",
        folder.display()
    )
}

fn made_of(wheels: &[Wheel]) -> String {
    wheels
        .iter()
        .map(|wheel| format!("{} {} {}\n", wheel.name, wheel.version, wheel.sha256))
        .collect()
}

fn is_made_of(folder: &Path, wheels: &[Wheel]) -> bool {
    fs::read_to_string(folder.join(MADE_OF)).is_ok_and(|text| text == made_of(wheels))
}

fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .lines()
        .next()
        .unwrap_or("no reason given")
        .to_owned()
}
