//! `cargo xtask golden`: reference files, computed by other people's code in a pinned Python environment.
//!
//! Each folder of `golden/` is a case: `make.py`, which writes the case's files to the folder its `--out` names, a README, and
//! the files themselves.

mod compare;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::host::{self, Host};
use crate::setup::{Setup, Wanted, python};

/// The pinned environment, a file of the repository.
const REQUIREMENTS: &str = "golden/requirements.txt";

/// Marks a case that is made only when it is named, such as one that fetches a model with terms of its own.
const OPT_IN: &str = "OPT-IN";

/// Room that the environment takes; torch brings CUDA with it.
const ENVIRONMENT_BYTES: u64 = 6_000_000_000;

/// The Python that the reference files are made with; set up on first use.
pub(crate) fn reference_python(host: &Host) -> Result<PathBuf> {
    let path = host.root.join(REQUIREMENTS);
    let requirements =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    python::environment(host, &requirements, ENVIRONMENT_BYTES)
}

/// Regenerates cases in place, or aside to compare them.
pub(crate) fn run(host: &Host, asked: &[String], check: bool) -> Result<()> {
    let folder = host.root.join("golden");
    let known = cases(&folder)?;
    for name in asked {
        ensure!(
            known.contains(name),
            "golden/{name} has no make.py; the cases are: {}",
            known.join(", ")
        );
    }
    let model = Setup::new(host).run(&Wanted::default())?;
    let python = reference_python(host)?;
    let mut different = Vec::new();
    let usual: Vec<String> = known
        .iter()
        .filter(|name| !folder.join(name).join(OPT_IN).exists())
        .cloned()
        .collect();
    for name in if asked.is_empty() { &usual } else { asked } {
        let committed = folder.join(name);
        let aside = tempfile::tempdir().context("cannot create a temporary folder")?;
        let out = if check { aside.path() } else { &committed };
        host::run(
            host.command(&python)
                .arg(committed.join("make.py"))
                .arg("--out")
                .arg(out)
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .env("LM_SAFETY_DEMO_MODEL", &model)
                .env("LM_SAFETY_CACHE", host.cache.root()),
        )?;
        if check {
            let found = compare::folders(&committed, out)?;
            if found.is_empty() {
                println!("golden/{name}: as committed");
            }
            different.extend(
                found
                    .iter()
                    .map(|difference| format!("{name}/{difference}")),
            );
        }
    }
    if !different.is_empty() {
        bail!(
            "what was regenerated differs from what is committed:\n  {}",
            different.join("\n  ")
        );
    }
    Ok(())
}

/// Names of the folders that hold a `make.py`, in order.
fn cases(golden: &Path) -> Result<Vec<String>> {
    let listing = || format!("cannot list {}", golden.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(golden).with_context(listing)? {
        let entry = entry.with_context(listing)?;
        if entry.path().join("make.py").exists() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
