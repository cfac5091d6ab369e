//! `cargo xtask check`: everything a change must pass besides the tests, cheapest first.
//!
//! Nothing here needs libtorch: clippy and rustdoc run with all features, and `doc-only` is one of them. They keep to cargo's
//! check builds, which share nothing with test builds but also cost no C++.

mod deps;
mod licence;
mod policy;
pub(crate) mod tidy;

use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::host::{self, Host};

/// The feature of our crates that leaves libtorch out of a build that links nothing.
const DOC_ONLY: &str = "doc-only";

type Step = fn(&Host) -> Result<()>;

/// Runs all checks and stops at the first that fails.
pub(crate) fn all(host: &Host) -> Result<()> {
    let steps: [(&str, Step); 6] = [
        ("format", format),
        ("tidy", tidy::run),
        ("dependencies", deps::run),
        ("clippy", clippy),
        ("each feature alone", features),
        ("documentation", documentation),
    ];
    for (name, step) in steps {
        println!("\n== {name}");
        let start = Instant::now();
        step(host).with_context(|| format!("check: {name}"))?;
        println!("== {name}: ok, {:.1} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn format(host: &Host) -> Result<()> {
    host::run(host.cargo().args(["fmt", "--all", "--check"]))
}

fn clippy(host: &Host) -> Result<()> {
    host::run(host.cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ]))
}

fn documentation(host: &Host) -> Result<()> {
    host::run(
        host.cargo()
            .args(["doc", "--workspace", "--no-deps", "--all-features"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

/// Each library alone, with no feature and with each single one: a `cfg` that leans on another feature shows only so.
fn features(host: &Host) -> Result<()> {
    for package in Metadata::read(host)?.members() {
        if !package.is_library() {
            continue;
        }
        let has_doc_only = package.features.contains_key(DOC_ONLY);
        let single = package
            .features
            .keys()
            .filter(|name| !["default", DOC_ONLY].contains(&name.as_str()));
        for feature in std::iter::once(None).chain(single.map(Some)) {
            let mut command = host.cargo();
            command.args([
                "clippy",
                "--lib",
                "--package",
                &package.name,
                "--no-default-features",
            ]);
            if let Some(feature) = feature {
                command.args(["--features", feature]);
                if has_doc_only {
                    command.args(["--features", DOC_ONLY]);
                }
            }
            host::run(command.args(["--", "-D", "warnings"]))?;
        }
    }
    Ok(())
}

/// What we read of `cargo metadata`.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    /// Absent for a package by path.
    source: Option<String>,
    targets: Vec<Target>,
    #[serde(default)]
    features: std::collections::BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Target {
    kind: Vec<String>,
}

impl Package {
    fn is_library(&self) -> bool {
        self.targets
            .iter()
            .any(|target| target.kind.iter().any(|kind| kind == "lib"))
    }
}

impl Metadata {
    /// All packages that a build on this machine may use, without asking the network.
    fn read(host: &Host) -> Result<Self> {
        // Without the filter cargo wants the sources of every platform's packages.
        let platform = host.rustc()?.host;
        let text = host::output(host.cargo().args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--offline",
            "--all-features",
            "--filter-platform",
            &platform,
        ]))?;
        serde_json::from_str(&text).context("cannot read what `cargo metadata` printed")
    }

    fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| self.workspace_members.contains(&package.id))
    }
}
