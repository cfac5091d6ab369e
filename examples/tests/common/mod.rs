//! Runs the programs of this package as a user does.

pub(crate) mod schema;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use lm_testkit::TinyLlama;
use serde_json::Value;

/// What a program did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) success: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs the example `name`.
pub(crate) fn run<S: AsRef<OsStr>>(name: &str, args: &[S]) -> Ran {
    run_with_input(name, args, "")
}

/// [`run`], with `input` as standard input.
pub(crate) fn run_with_input<S: AsRef<OsStr>>(name: &str, args: &[S], input: &str) -> Ran {
    let mut child = Command::new(program(name))
        .args(args)
        // No test may depend on what lies in the caches of this machine.
        .env("LM_SAFETY_CACHE", "no-such-folder")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ends early does not read all of its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    Ran {
        success: status.success(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

/// `cargo test` builds examples beside the tests, but not when it is given the name of a test: then what lies there may be old.
fn program(name: &str) -> PathBuf {
    // target/<profile>/deps/<test> → target/<profile>/examples/<name>
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let path = profile
        .join("examples")
        .join(name)
        .with_extension(std::env::consts::EXE_EXTENSION);
    let modified = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified());
    // Cargo's own list of the sources: `program: source source …`.
    let sources = std::fs::read_to_string(path.with_extension("d")).unwrap_or_default();
    let fresh = modified(&path).is_ok_and(|built| {
        sources
            .replace("\\ ", "\0")
            .split_whitespace()
            .skip(1)
            .map(|source| source.replace('\0', " "))
            .all(|source| modified(Path::new(&source)).is_ok_and(|changed| changed <= built))
    });
    assert!(
        fresh,
        "{} is missing or older than its sources: `cargo build -p lm-examples --examples`, or `cargo test -p lm-examples` without the \
         name of a test, builds it",
        path.display()
    );
    path
}

/// A tiny random model with a tokenizer and a chat template.
pub(crate) fn tiny_model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    TinyLlama::default().write(folder.path()).unwrap();
    folder
}

/// A JSON file.
pub(crate) fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
