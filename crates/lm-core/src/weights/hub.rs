//! Models in the local cache of the Hugging Face hub, found without a network.

use std::env;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Endings of names that are meant as files.
const FILES: &[&str] = &[".gguf", ".safetensors", ".bin", ".pt", ".pth", ".ckpt"];

/// The folder of the snapshot that `id` (`org/name` or `org/name@revision`) names in the local hub cache.
///
/// Nothing is downloaded.
///
/// # Errors
/// [`Error::NoSuchModel`], with the command that would download it.
pub(crate) fn resolve(id: &str) -> Result<PathBuf> {
    let cache = cache_folder();
    let found = cache.as_deref().and_then(|cache| in_cache(cache, id));
    found.ok_or_else(|| {
        let repository = id.split('@').next().unwrap_or(id);
        // A mistyped file would pass for an id, and the advice to download it would mislead.
        let file = FILES.iter().any(|ending| id.ends_with(ending));
        let looked = match cache.filter(|_| is_id(repository) && !file) {
            Some(cache) => format!(
                "neither a file nor a folder, and not in the local hub cache {}; nothing is downloaded unasked: \
                 `hf download {repository}` would bring it",
                cache.display()
            ),
            None if file => "no such file".to_owned(),
            None => "neither a file nor a folder, nor a hub id such as `org/name`".to_owned(),
        };
        Error::NoSuchModel { given: id.to_owned(), looked }
    })
}

fn in_cache(cache: &Path, id: &str) -> Option<PathBuf> {
    let (repository, revision) = id.split_once('@').unwrap_or((id, "main"));
    if !is_id(repository) || !is_revision(revision) {
        return None;
    }
    let model = cache.join(format!("models--{}", repository.replace('/', "--")));
    let commit = match std::fs::read_to_string(model.join("refs").join(revision)) {
        Ok(commit) if is_revision(commit.trim()) => commit.trim().to_owned(),
        _ => revision.to_owned(),
    };
    let snapshot = model.join("snapshots").join(commit);
    snapshot.is_dir().then_some(snapshot)
}

/// One or two plain names: nothing that could climb out of the cache.
fn is_id(id: &str) -> bool {
    id.split('/').count() <= 2 && id.split('/').all(is_name)
}

fn is_revision(revision: &str) -> bool {
    revision.split('/').all(is_name)
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// As `huggingface_hub` decides it.
fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("HF_HUB_CACHE")
        .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| set("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/huggingface/hub")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> tempfile::TempDir {
        let cache = tempfile::tempdir().unwrap();
        let model = cache.path().join("models--org--name");
        std::fs::create_dir_all(model.join("refs")).unwrap();
        std::fs::create_dir_all(model.join("snapshots/0123abcd")).unwrap();
        std::fs::create_dir_all(model.join("snapshots/feedbeef")).unwrap();
        std::fs::write(model.join("refs/main"), "0123abcd\n").unwrap();
        cache
    }

    #[test]
    fn an_id_leads_to_the_snapshot_of_its_revision() {
        let cache = cache();
        let ends_with = |id: &str| {
            in_cache(cache.path(), id)
                .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        };
        assert_eq!(ends_with("org/name").as_deref(), Some("0123abcd"));
        assert_eq!(ends_with("org/name@main").as_deref(), Some("0123abcd"));
        assert_eq!(ends_with("org/name@feedbeef").as_deref(), Some("feedbeef"));
        assert_eq!(ends_with("org/name@other"), None);
        assert_eq!(ends_with("org/other"), None);
    }

    #[test]
    fn no_id_climbs_out_of_the_cache() {
        let cache = cache();
        std::fs::write(cache.path().join("models--org--name/refs/evil"), "../../..").unwrap();
        for id in [
            "../name",
            "org/..",
            "a/b/c",
            "/org/name",
            "org/name@../..",
            "org/name@evil",
            "org\\name",
            "",
        ] {
            assert_eq!(in_cache(cache.path(), id), None, "{id}");
        }
    }
}
