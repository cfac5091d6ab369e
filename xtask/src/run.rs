//! `cargo xtask test` and `cargo xtask demo`: set-up, then cargo.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use crate::host::{self, Host};
use crate::setup::{Setup, Wanted};

/// How a line on standard error starts by which a test says that it could not run (`lm_testkit::note_skip`).
const SKIPPED: &str = "skipped ";

/// Every test of the workspace; with arguments, only `cargo test` with those.
pub(crate) fn test(host: &Host, args: &[OsString]) -> Result<()> {
    Setup::new(host).run(&Wanted::default())?;
    Setup::new(host).tokenizers()?;
    let skipped = if args.is_empty() {
        // The dev profile: what computes is libtorch, compiled long ago, and nothing but tests is built that way.
        let mut skipped = cargo_test(host, &["--workspace".into()])?;
        // What `--workspace` cannot show, because its members ask for libtorch: that the core stands without.
        skipped.extend(cargo_test(
            host,
            &[
                "--package".into(),
                "lm-core".into(),
                "--no-default-features".into(),
            ],
        )?);
        skipped
    } else {
        cargo_test(host, args)?
    };
    if skipped.is_empty() {
        println!("\nall tests ran; none was skipped");
    } else {
        println!("\n{} tests were skipped:", skipped.len());
        skipped.iter().for_each(|line| println!("  {line}"));
    }
    Ok(())
}

/// Tests of the engine that load their models on the device they are told, reference numbers first.
const ON_DEVICE: [&str; 5] = [
    "golden_decoder",
    "interventions",
    "sessions_shared",
    "sweep",
    "adapters",
];

/// The engine's reference numbers and laws on a GPU, in every dtype the references have; then with half of the layers there.
pub(crate) fn gpu_check(host: &Host, device: Option<&str>) -> Result<()> {
    Setup::new(host).run(&Wanted {
        cuda: true,
        libtorch: None,
    })?;
    let both = ["cuda:0", "cpu,cuda:0"];
    let placements = device.map_or(both.to_vec(), |device| vec![device]);
    for placement in placements {
        let mut command = host.cargo();
        command.args(["test", "--package", "lm-core"]);
        for test in ON_DEVICE {
            command.args(["--test", test]);
        }
        host::run(command.env("LM_CORE_TEST_DEVICE", placement))?;
    }
    Ok(())
}

/// Runs `cargo test` and returns what its tests said about being skipped.
fn cargo_test(host: &Host, args: &[OsString]) -> Result<Vec<String>> {
    let mut command = host.cargo();
    command.arg("test").args(args).stderr(Stdio::piped());
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    host::announce(&command);
    let mut child = command.spawn().context("cannot start cargo")?;
    let mut skipped = Vec::new();
    for line in
        BufReader::new(child.stderr.take().context("cargo has no standard error")?).split(b'\n')
    {
        let line = line.context("cannot read cargo's messages")?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        if let Some(what) = line.strip_prefix(SKIPPED) {
            skipped.push(what.to_owned());
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    ensure!(
        status.success(),
        "`cargo test` failed ({status}); what failed is above"
    );
    Ok(skipped)
}

/// The main job on the demo model.
pub(crate) fn demo(host: &Host, args: &[OsString]) -> Result<()> {
    Setup::new(host).run(&Wanted::default())?;
    example(host, "heads", &["--demo"], args)
}

/// Runs an example as a user would, in the release profile, and says what it wrote.
fn example(host: &Host, name: &str, fixed: &[&str], args: &[OsString]) -> Result<()> {
    let folder = Path::new("target/demo");
    let out = host.root.join(folder);
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    println!("building the example; the first time takes about three minutes on two cores");
    host::run(
        host.cargo()
            .args([
                "run",
                "--release",
                "--package",
                "lm-examples",
                "--example",
                name,
                "--",
            ])
            .args(fixed)
            .arg("--out")
            .arg(folder)
            .args(args),
    )?;
    let mut written: Vec<_> = fs::read_dir(&out)
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .with_context(|| format!("cannot list {}", out.display()))?
        .into_iter()
        .map(|entry| entry.path())
        .collect();
    ensure!(
        !written.is_empty(),
        "the example wrote nothing into {}",
        out.display()
    );
    written.sort();
    println!("\nresults:");
    written
        .iter()
        .for_each(|path| println!("  {}", path.display()));
    Ok(())
}
