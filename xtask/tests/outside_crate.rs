//! A crate outside this workspace, made of nothing but the texts of `docs/outside-crate.md`, builds; its program starts by
//! itself, without cargo and without an environment variable.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

const CHAPTER: &str = include_str!("../../docs/outside-crate.md");

#[test]
fn a_crate_outside_builds_and_its_program_starts() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the workspace")?;
    if !root.join(".libtorch/config.toml").exists() {
        lm_testkit::note_skip(
            "a_crate_outside_builds_and_its_program_starts",
            "libtorch",
            "run `cargo xtask setup`",
        );
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    ensure!(
        !folder.path().starts_with(root),
        "the temporary folder lies inside the workspace"
    );
    let put = |path: &str, text: &str| -> Result<()> {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(path, text)?;
        Ok(())
    };
    // The clone's own link, so that libtorch's bindings need no second build where the flags agree.
    let here = |text: &str| {
        text.replace("/path/to/lm-safety/.libtorch/torch", &link(root))
            .replace("/path/to/lm-safety", &root.display().to_string())
    };
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let package = "[package]\nname = \"outside\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
    put(
        "Cargo.toml",
        &format!(
            "{package}\n{}{}\n{}",
            here(block("toml", "[dependencies]")?),
            dependencies(&manifest)?,
            profile(&manifest)?
        ),
    )?;
    put(".cargo/config.toml", &here(block("toml", "[env]")?))?;
    put("build.rs", block("rust", "DEP_LM_CORE_LIBTORCH_LIB")?)?;
    put("src/main.rs", block("rust", "lm_core::")?)?;
    // The same versions as ours, so that nothing is fetched; cargo drops what the crate does not need.
    fs::copy(root.join("Cargo.lock"), folder.path().join("Cargo.lock"))?;

    // The workspace's own target folder: what does not differ, libtorch's bindings above all, is not built again.
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |target| root.join(target));
    let build = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--target-dir"])
        .arg(&target)
        .current_dir(folder.path())
        // Cargo gave this test the clone's value, and a value in the environment wins over `[env]`.
        .env_remove("LIBTORCH")
        .output()?;
    ensure!(
        build.status.success(),
        "{}",
        String::from_utf8_lossy(&build.stderr)
    );

    let run = Command::new(target.join("debug/outside"))
        .env_clear()
        .current_dir("/")
        .output()?;
    ensure!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    assert_eq!(String::from_utf8(run.stdout)?, "libtorch 2.11.0\n");
    Ok(())
}

/// The link that set-up chose.
fn link(root: &Path) -> String {
    let name = if root.join(".libtorch/torch").exists() {
        "torch"
    } else {
        "torch-cuda"
    };
    root.join(".libtorch").join(name).display().to_string()
}

/// What the workspace asks of others. Asked for here too, the packages below libtorch's bindings get the same features, and
/// the bindings are not built again.
fn dependencies(manifest: &str) -> Result<String> {
    let (_, table) = manifest
        .split_once("[workspace.dependencies]\n")
        .context("the dependencies")?;
    let lines = table.lines().take_while(|line| !line.starts_with('['));
    Ok(lines
        .filter(|line| !line.starts_with('#') && !line.contains("path = "))
        .map(|line| format!("{line}\n"))
        .collect())
}

/// The workspace's profiles.
fn profile(manifest: &str) -> Result<&str> {
    let from = manifest
        .find("[profile.dev]")
        .context("a development profile")?;
    Ok(&manifest[from..])
}

/// The first code block of the chapter that is in this language and holds this text.
fn block(language: &str, holds: &str) -> Result<&'static str> {
    CHAPTER
        .split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.split_once('\n'))
        .find(|(info, text)| *info == language && text.contains(holds))
        .map(|(_, text)| text)
        .with_context(|| format!("the chapter has no {language} block with `{holds}`"))
}
