//! `cargo xtask tidy`: rules of this project that no general tool knows.
//!
//! Each rule is a function from the repository's files to the lines it has to complain about. What a rule looks for is put
//! together by `concat!`, so that this file does not break its own rules.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::host::{self, Host};
use crate::pins::{TCH, TORCH};

/// A file that is in git, or that would be after `git add`.
#[derive(Debug)]
struct File {
    /// From the root, with `/`.
    path: String,
    bytes: Vec<u8>,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines with their numbers from 1; none for a file that is not text.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let text = std::str::from_utf8(&self.bytes).unwrap_or_default();
        text.lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }
}

/// Largest file git may hold.
const LARGEST: usize = 2_000_000;

/// Files that may hold `unsafe` code; each block there argues why it is sound.
const UNSAFE_FILES: &[&str] = &[
    "crates/lm-core/src/torch/kernels/product.rs",
    "crates/lm-core/src/torch/kernels/lanes.rs",
    "crates/lm-core/src/torch/kernels/mod.rs",
    "crates/lm-core/src/torch/kernels/team.rs",
    "crates/lm-core/src/torch/frozen.rs",
    "crates/lm-core/src/torch/load.rs",
    "crates/lm-core/src/weights/mmap.rs",
    "crates/lm-core/tests/gguf_memory.rs",
];

/// Who owns the folders in examples and tests.
const NOBODY: &[u8] = b"someone";

type Rule = fn(&[File]) -> Vec<String>;

const RULES: &[Rule] = &[
    crates_are_documented,
    manifests_inherit,
    golden_cases_are_reproducible,
    files_are_small,
    no_paths_of_a_machine,
    nothing_left_over,
    unsafe_stays_where_it_is,
    versions_of_torch_agree,
];

pub(crate) fn run(host: &Host) -> Result<()> {
    let files = files(host)?;
    let violations: Vec<String> = RULES.iter().flat_map(|rule| rule(&files)).collect();
    if !violations.is_empty() {
        bail!(
            "{} broken rules:\n  {}",
            violations.len(),
            violations.join("\n  ")
        );
    }
    println!("{} files keep {} rules", files.len(), RULES.len());
    Ok(())
}

fn files(host: &Host) -> Result<Vec<File>> {
    let listed = host::output(host.command("git").args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
        "--deduplicate",
    ]))?;
    let mut files = Vec::new();
    for path in listed.split_terminator('\0') {
        let full = host.root.join(path);
        // A file that is deleted but not yet committed so is still listed.
        if full.is_file() {
            let bytes =
                fs::read(&full).with_context(|| format!("cannot read {}", full.display()))?;
            files.push(File {
                path: path.to_owned(),
                bytes,
            });
        }
    }
    Ok(files)
}

fn has(files: &[File], path: &str) -> bool {
    files.iter().any(|file| file.path == path)
}

/// Names of the folders directly below `parent` that hold a file.
fn folders<'a>(files: &'a [File], parent: &str) -> Vec<&'a str> {
    let below = |file: &'a File| {
        file.path
            .strip_prefix(parent)?
            .strip_prefix('/')?
            .split_once('/')
            .map(|(name, _)| name)
    };
    let mut names: Vec<_> = files.iter().filter_map(below).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn crates_are_documented(files: &[File]) -> Vec<String> {
    let readmes = folders(files, "crates")
        .into_iter()
        .map(|name| format!("crates/{name}/README.md"));
    readmes
        .chain(["README.md", "CHANGELOG.md"].map(str::to_owned))
        .filter(|path| !has(files, path))
        .map(|path| format!("{path} is missing"))
        .collect()
}

fn manifests_inherit(files: &[File]) -> Vec<String> {
    let members = files
        .iter()
        .filter(|file| file.path.ends_with("/Cargo.toml"));
    members
        .flat_map(|file| {
            let lines: Vec<_> = file.lines().map(|(_, line)| line).collect();
            let licence = lines.contains(&"license.workspace = true");
            let lints = lines
                .windows(2)
                .any(|pair| pair == ["[lints]", "workspace = true"]);
            [
                (licence, "license.workspace = true"),
                (lints, "[lints] workspace = true"),
            ]
            .into_iter()
            .filter(|(there, _)| !there)
            .map(|(_, line)| format!("{}: `{line}` is missing", file.path))
            .collect::<Vec<_>>()
        })
        .collect()
}

fn golden_cases_are_reproducible(files: &[File]) -> Vec<String> {
    folders(files, "golden")
        .into_iter()
        .flat_map(|name| ["make.py", "README.md"].map(|file| format!("golden/{name}/{file}")))
        .filter(|path| !has(files, path))
        .map(|path| format!("{path} is missing"))
        .collect()
}

fn files_are_small(files: &[File]) -> Vec<String> {
    let large = files.iter().filter(|file| file.bytes.len() > LARGEST);
    large
        .map(|file| {
            format!(
                "{}: {} bytes, at most {LARGEST} go into git",
                file.path,
                file.bytes.len()
            )
        })
        .collect()
}

/// A path of someone's machine in a file is of no use to anyone else.
fn no_paths_of_a_machine(files: &[File]) -> Vec<String> {
    const HOMES: [&str; 4] = [
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("/wo", "rk/"),
    ];
    let mut found = Vec::new();
    for file in files {
        for home in HOMES {
            let starts = file
                .bytes
                .windows(home.len())
                .enumerate()
                .filter(|(_, window)| *window == home.as_bytes());
            for (at, _) in starts {
                let owner = &file.bytes[at + home.len()..];
                // Within a longer path it is an ordinary folder of that name.
                let before = at.checked_sub(1).and_then(|before| file.bytes.get(before));
                let within = before
                    .is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(byte));
                if !within && !owner.starts_with(NOBODY) {
                    let line = file.bytes[..at]
                        .iter()
                        .filter(|byte| **byte == b'\n')
                        .count()
                        + 1;
                    found.push(format!(
                        "{}:{line}: a path of one machine ({home}…)",
                        file.path
                    ));
                }
            }
        }
    }
    found
}

/// Work that was put off, or a test that no longer runs.
fn nothing_left_over(files: &[File]) -> Vec<String> {
    const LEFT_OVER: [&str; 6] = [
        concat!("#[ign", "ore"),
        concat!("tod", "o!("),
        concat!("unimpl", "emented!("),
        concat!("db", "g!("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
    ];
    in_rust(files, |_, line| {
        LEFT_OVER
            .into_iter()
            .find(|text| line.contains(text))
            .map(|text| format!("`{text}` is left over"))
    })
}

fn unsafe_stays_where_it_is(files: &[File]) -> Vec<String> {
    const UNSAFE: [&str; 5] = [
        concat!("uns", "afe {"),
        concat!("uns", "afe fn"),
        concat!("uns", "afe impl"),
        concat!("uns", "afe trait"),
        concat!("uns", "afe extern"),
    ];
    in_rust(files, |path, line| {
        let code = line.split("//").next().unwrap_or_default();
        let outside =
            !UNSAFE_FILES.contains(&path) && UNSAFE.into_iter().any(|text| code.contains(text));
        outside.then(|| {
            format!(
                "{} code, which only {} may hold",
                concat!("uns", "afe"),
                UNSAFE_FILES.join(", ")
            )
        })
    })
}

/// `tch`, its libtorch and the reference environment move together.
fn versions_of_torch_agree(files: &[File]) -> Vec<String> {
    let wanted = [
        ("Cargo.toml", format!("tch = {{ version = \"={TCH}\"")),
        ("Cargo.toml", format!("torch-sys = {{ version = \"={TCH}\"")),
        ("golden/requirements.txt", format!("torch=={TORCH}")),
    ];
    wanted
        .into_iter()
        .filter(|(path, start)| {
            let file = files.iter().find(|file| file.path == *path);
            !file.is_some_and(|file| {
                file.lines()
                    .any(|(_, line)| line.starts_with(start.as_str()))
            })
        })
        .map(|(path, start)| {
            format!("{path}: no line starts with `{start}`, as xtask/src/pins.rs says")
        })
        .collect()
}

/// What a check of single lines finds in Rust files.
fn in_rust(files: &[File], check: impl Fn(&str, &str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        for (number, line) in file.lines() {
            found.extend(
                check(&file.path, line).map(|what| format!("{}:{number}: {what}", file.path)),
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree<const N: usize>(files: [(&str, &str); N]) -> Vec<File> {
        files
            .map(|(path, text)| File {
                path: path.to_owned(),
                bytes: text.as_bytes().to_vec(),
            })
            .into()
    }

    #[test]
    fn a_crate_without_a_readme() {
        let files = tree([
            ("README.md", ""),
            ("CHANGELOG.md", ""),
            ("crates/a/README.md", ""),
            ("crates/b/src/lib.rs", ""),
        ]);
        assert_eq!(
            crates_are_documented(&files),
            ["crates/b/README.md is missing"]
        );
        assert_eq!(
            crates_are_documented(&tree([("README.md", "")])),
            ["CHANGELOG.md is missing"]
        );
    }

    #[test]
    fn a_manifest_with_its_own_licence_or_lints() {
        let good = "license.workspace = true\n\n[lints]\nworkspace = true\n";
        assert_eq!(
            manifests_inherit(&tree([("Cargo.toml", ""), ("a/Cargo.toml", good)])),
            Vec::<String>::new()
        );
        let bad = "license = \"MIT\"\n\n[lints]\nrust.unsafe_code = \"allow\"\n";
        assert_eq!(
            manifests_inherit(&tree([("a/Cargo.toml", bad)])),
            [
                "a/Cargo.toml: `license.workspace = true` is missing",
                "a/Cargo.toml: `[lints] workspace = true` is missing"
            ]
        );
    }

    #[test]
    fn a_golden_folder_without_its_script() {
        let files = tree([
            ("golden/common.py", ""),
            ("golden/a/make.py", ""),
            ("golden/a/README.md", ""),
            ("golden/b/model/config.json", ""),
        ]);
        assert_eq!(
            golden_cases_are_reproducible(&files),
            [
                "golden/b/make.py is missing",
                "golden/b/README.md is missing"
            ]
        );
    }

    #[test]
    fn a_large_file() {
        let files = [
            File {
                path: "fits".into(),
                bytes: vec![0; LARGEST],
            },
            File {
                path: "large".into(),
                bytes: vec![0; LARGEST + 1],
            },
        ];
        assert_eq!(
            files_are_small(&files),
            ["large: 2000001 bytes, at most 2000000 go into git"]
        );
    }

    #[test]
    fn a_path_of_a_machine() {
        let path = concat!("/ho", "me/alex/model.gguf");
        let text = format!(
            "a\nsee {path}\n{path}\nhttps://example.org{path}\n{}/model.gguf\n",
            concat!("/ho", "me/someone")
        );
        let found = no_paths_of_a_machine(&tree([("a.md", &text)]));
        let expected = |line| {
            format!(
                "a.md:{line}: a path of one machine ({}…)",
                concat!("/ho", "me/")
            )
        };
        assert_eq!(found, [expected(2), expected(3)]);
    }

    #[test]
    fn leftovers() {
        let text = [
            concat!("#[ign", "ore]"),
            concat!("tod", "o!()"),
            "fine",
            concat!("// TO", "DO later"),
        ]
        .join("\n");
        let found = nothing_left_over(&tree([("a.rs", &text), ("a.md", &text)]));
        let lines: Vec<_> = found
            .iter()
            .filter_map(|line| line.split(": ").next())
            .collect();
        assert_eq!(lines, ["a.rs:1", "a.rs:2", "a.rs:4"]);
    }

    #[test]
    fn code_that_is_not_safe() {
        let text = concat!(
            "// uns",
            "afe { in a comment }\nlet a = uns",
            "afe { b() };\n"
        );
        let files = tree([("a.rs", text), (UNSAFE_FILES[0], text)]);
        let found = unsafe_stays_where_it_is(&files);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("a.rs:2: "), "{found:?}");
    }

    #[test]
    fn a_pair_that_came_apart() {
        let manifest = format!(
            "tch = {{ version = \"={TCH}\", default-features = false }}\ntorch-sys = {{ version = \"={TCH}\" }}\n"
        );
        let requirements = format!("numpy==2.4.6\ntorch=={TORCH}\n");
        let good = tree([
            ("Cargo.toml", &manifest),
            ("golden/requirements.txt", &requirements),
        ]);
        assert_eq!(versions_of_torch_agree(&good), Vec::<String>::new());
        let bad = tree([
            ("Cargo.toml", &manifest.replace(TCH, "0.26.0")),
            ("golden/requirements.txt", "torch==2.13.0\n"),
        ]);
        assert_eq!(versions_of_torch_agree(&bad).len(), 3);
    }
}
