//! In a clone that is not set up, a build stops with one sentence that names the fix, not with pages of C++.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

/// Nothing that is built here computes anything.
const QUICK: &str = r#"profile.dev.package."*".opt-level = 0"#;

#[test]
fn a_build_before_set_up_names_the_command() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the workspace")?;
    let clone = tempfile::tempdir()?;
    copy(root, clone.path())?;
    // Kept from run to run: what takes time is `torch-sys`'s build script and the unused half of its dependencies.
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |target| root.join(target));

    let build = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--locked", "--package", "torch-sys"])
        .args(["--config", QUICK, "--target-dir"])
        .arg(target.join("before-set-up"))
        .current_dir(clone.path())
        .env_remove("LIBTORCH")
        .env_remove("LIBTORCH_USE_PYTORCH")
        .env_remove("LIBTORCH_BYPASS_VERSION_CHECK")
        .output()?;

    let messages = String::from_utf8(build.stderr)?;
    assert!(!build.status.success(), "{messages}");
    let sentences: Vec<_> = messages
        .lines()
        .filter(|line| line.contains("cargo xtask setup"))
        .collect();
    assert_eq!(
        sentences,
        [
            "  Error: this tch version expects PyTorch 2.11.0, got none: run `cargo xtask setup` first (it brings libtorch), \
          this check can be bypassed by setting the LIBTORCH_BYPASS_VERSION_CHECK environment variable"
        ]
    );
    assert!(!messages.contains("torch_api"), "{messages}");
    Ok(())
}

/// Copies what git would hold of a workspace: all but what builds and set-up make.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if ["target", ".git", ".libtorch", "golden", "__pycache__"]
            .iter()
            .any(|name| from.ends_with(name))
        {
            continue;
        }
        if from.is_dir() {
            fs::create_dir(&to)?;
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}
