//! Which model is meant when none is named.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, bail};

/// The demo model within the cache.
const DEMO_MODEL: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

/// The demo model, where `cargo xtask setup` puts it: in `LM_SAFETY_CACHE`, else in `lm-safety` under `XDG_CACHE_HOME`, else in
/// `~/.cache/lm-safety`.
///
/// # Errors
/// It is not there, or there is no such folder; the error names the command that brings it.
pub fn demo() -> Result<PathBuf> {
    demo_by(|name| env::var_os(name))
}

fn demo_by(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let folder = |name| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = folder("LM_SAFETY_CACHE")
        // The XDG specification has relative paths ignored.
        .or_else(|| {
            folder("XDG_CACHE_HOME")
                .filter(|path| path.is_absolute())
                .map(|path| path.join("lm-safety"))
        })
        .or_else(|| folder("HOME").map(|home| home.join(".cache/lm-safety")));
    let Some(cache) = cache else {
        bail!(
            "no demo model: none of LM_SAFETY_CACHE, XDG_CACHE_HOME and HOME is set; set one and run `cargo xtask setup`, \
             or name a model with --model"
        );
    };
    let path = cache.join(DEMO_MODEL);
    if !path.exists() {
        bail!(
            "no demo model at {}: run `cargo xtask setup`, or name a model with --model",
            path.display()
        );
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn lookup<'a>(set: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| {
            let found = set.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.into())
        }
    }

    #[test]
    fn the_first_of_three_folders_counts() {
        let found = |set: &[(&str, &str)]| demo_by(lookup(set)).unwrap_err().to_string();
        let all = [
            ("HOME", "/h"),
            ("XDG_CACHE_HOME", "/x"),
            ("LM_SAFETY_CACHE", "/l"),
        ];
        assert!(found(&all).starts_with("no demo model at /l/models/SmolLM2"));
        assert!(found(&all[..2]).starts_with("no demo model at /x/lm-safety/models/"));
        assert!(found(&all[..1]).starts_with("no demo model at /h/.cache/lm-safety/models/"));
        let relative = [
            ("HOME", "/h"),
            ("XDG_CACHE_HOME", "x"),
            ("LM_SAFETY_CACHE", ""),
        ];
        assert!(found(&relative).starts_with("no demo model at /h/.cache/"));
        assert!(found(&all).contains("`cargo xtask setup`"));
        assert!(found(&[]).contains("none of LM_SAFETY_CACHE, XDG_CACHE_HOME and HOME is set"));
    }

    #[test]
    fn a_file_that_is_there_is_found() {
        let cache = tempfile::tempdir().unwrap();
        let model = cache.path().join(DEMO_MODEL);
        fs::create_dir_all(model.parent().unwrap()).unwrap();
        fs::write(&model, "").unwrap();
        let folder = cache.path().to_str().unwrap();
        assert_eq!(
            demo_by(lookup(&[("LM_SAFETY_CACHE", folder)])).unwrap(),
            model
        );
    }
}
