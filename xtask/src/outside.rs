//! `cargo xtask env`: what a crate outside this clone needs to depend on ours.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::host::Host;

/// The chapter that this command quotes, so that the two cannot differ.
const CHAPTER: &str = include_str!("../../docs/outside-crate.md");

/// Where the clone lies, as the chapter writes it.
const CLONE: &str = "/path/to/lm-safety";

#[derive(Debug, Serialize)]
struct Outside {
    /// The value of `LIBTORCH`.
    libtorch: PathBuf,
    /// The dependency, for `Cargo.toml`.
    manifest: String,
    /// For `.cargo/config.toml`.
    config: String,
    /// `build.rs`.
    build_script: String,
    /// The demo model's file.
    model: PathBuf,
    /// The per-user cache.
    cache: PathBuf,
}

/// Prints the texts with this clone's paths in them.
pub(crate) fn print(host: &Host, json: bool) -> Result<()> {
    let config =
        std::fs::read_to_string(host.root.join(".libtorch/config.toml")).unwrap_or_default();
    ensure!(
        !config.is_empty(),
        "this clone is not set up: run `cargo xtask setup`"
    );
    let link = config
        .split('"')
        .nth(1)
        .context(".libtorch/config.toml names no folder: run `cargo xtask setup`")?;
    let outside = texts(&host.root, &host.root.join(link), host.cache.root())?;
    if json {
        println!(
            "{}",
            serde_json::to_string_pretty(&outside).context("cannot write JSON")?
        );
        return Ok(());
    }
    println!("# Cargo.toml\n{}", outside.manifest);
    println!("# .cargo/config.toml\n{}", outside.config);
    println!("// build.rs\n{}", outside.build_script);
    println!("# libtorch:   {}", outside.libtorch.display());
    println!("# demo model: {}", outside.model.display());
    Ok(())
}

fn texts(root: &Path, libtorch: &Path, cache: &Path) -> Result<Outside> {
    let here = |text: &str| {
        let link = format!("{CLONE}/.libtorch/torch");
        text.replace(&link, &libtorch.display().to_string())
            .replace(CLONE, &root.display().to_string())
    };
    Ok(Outside {
        libtorch: libtorch.to_owned(),
        manifest: here(block("toml", "[dependencies]")?),
        config: here(block("toml", "[env]")?),
        build_script: here(block("rust", "fn main() {\n    if let Ok(lib)")?),
        model: cache.join("models").join(crate::pins::PINS.model.file),
        cache: cache.to_owned(),
    })
}

/// The chapter's code block in this language that holds some text.
fn block(language: &str, holds: &str) -> Result<&'static str> {
    CHAPTER
        .split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.split_once('\n'))
        .find(|(info, text)| info.split(',').next() == Some(language) && text.contains(holds))
        .map(|(_, text)| text)
        .with_context(|| format!("docs/outside-crate.md has no {language} block with `{holds}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chapters_texts_get_this_clones_paths() -> Result<()> {
        let outside = texts(
            Path::new("/a/clone"),
            Path::new("/a/clone/.libtorch/torch-cuda"),
            Path::new("/cache"),
        )?;
        assert_eq!(
            outside.config,
            "[env]\nLIBTORCH = \"/a/clone/.libtorch/torch-cuda\"\n"
        );
        assert!(
            outside
                .manifest
                .contains("path = \"/a/clone/crates/lm-core\""),
            "{}",
            outside.manifest
        );
        assert!(outside.build_script.contains("DEP_LM_CORE_LIBTORCH_LIB"));
        assert_eq!(
            outside.model,
            Path::new("/cache/models/SmolLM2-135M-Instruct.Q4_1.gguf")
        );
        Ok(())
    }
}
