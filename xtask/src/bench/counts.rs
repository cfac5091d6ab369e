//! `cargo xtask bench --counts`: machine instructions of the pure-Rust works, beside those recorded.
//!
//! Times on a shared machine differ by a factor of two from one hour to the next; instructions hardly differ at all. A work of
//! `crates/lm-core/benches/counts` runs in a process of its own under callgrind, which counts inside of one function only.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::record::{Maker, Record, Thousands, Verdict, change_percent};
use crate::host::{self, Host};

/// The committed counts, from the root.
const RECORD: &str = "benches/counts.json";

/// Names of the cases' program and of its function that is counted.
const PROGRAM: &str = "counts";
const COUNTED: &str = "*counted_work*";

/// Counts and compares; with `accept` records what was found. `only` names cases; none means all.
pub(crate) fn run(host: &Host, accept: bool, only: &[String]) -> Result<()> {
    let valgrind = valgrind(host).context(
        "no `valgrind` on the PATH, which counts the instructions: install it (Debian, Ubuntu: `apt install valgrind`; \
         Fedora: `dnf install valgrind`)",
    )?;
    let maker = maker(host, &valgrind)?;
    let path = host.root.join(RECORD);
    let recorded = Record::read(&path)?;
    let program = build(host)?;
    let cases = cases(host, &program, only)?;
    let whole = only.is_empty();
    let mut found = BTreeMap::new();
    for case in cases {
        let count = count(host, &valgrind, &program, &case)?;
        found.insert(case, count);
    }
    let record = recorded.unwrap_or_else(|| Record::new(maker.clone()));
    print_table(&record, &found);
    let differences = maker.differences(&record.made_with);
    if accept {
        ensure!(
            whole || differences.is_empty(),
            "all of {RECORD} must be recorded by one compiler on one kind of machine, but: {}; run it without `--only`",
            differences.join("; ")
        );
        let mut record = record;
        record.made_with = maker;
        if whole {
            record.instructions.clear();
        }
        record.instructions.extend(found);
        record.write(&path)?;
        println!("\nrecorded in {RECORD}");
        return Ok(());
    }
    let problems = problems(&record, &found, whole);
    if !differences.is_empty() {
        println!(
            "\nnote: nothing is held against these counts, because the record comes from elsewhere: {}",
            differences.join("; ")
        );
        return Ok(());
    }
    ensure!(
        problems.is_empty(),
        "{} of {} instruction counts are not as {RECORD} has them (tolerance {} %):\n  {}\nwhere that is meant, \
         `cargo xtask bench --counts --accept` records the new counts; commit them with the change and say why",
        problems.len(),
        found.len(),
        record.tolerance_percent,
        problems.join("\n  ")
    );
    let better = |(case, count): &(&String, &u64)| record.judge(case, **count) == Verdict::Fewer;
    if found.iter().any(|entry| better(&entry)) {
        println!(
            "\nfewer instructions than recorded: `cargo xtask bench --counts --accept` keeps the gain"
        );
    }
    Ok(())
}

fn valgrind(host: &Host) -> Option<PathBuf> {
    host.find("valgrind")
}

fn maker(host: &Host, valgrind: &Path) -> Result<Maker> {
    let rustc = host.rustc()?;
    let libc = host
        .find("getconf")
        .and_then(|getconf| host::output(host.command(getconf).arg("GNU_LIBC_VERSION")).ok());
    Ok(Maker {
        rustc: rustc.version,
        host: rustc.host,
        valgrind: host::output(host.command(valgrind).arg("--version"))?
            .trim()
            .to_owned(),
        libc: libc.map_or_else(
            || "a C library that is not glibc".to_owned(),
            |libc| libc.trim().to_owned(),
        ),
        avx2: has_avx2(),
    })
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

/// What cargo says about a file it made.
#[derive(Debug, Deserialize)]
struct Artifact {
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

/// Builds the cases' program and returns where it is.
fn build(host: &Host) -> Result<PathBuf> {
    let mut cargo = host.cargo();
    cargo.args([
        "bench",
        "--no-run",
        "--package",
        "lm-core",
        "--no-default-features",
        "--bench",
        PROGRAM,
        "--message-format=json-render-diagnostics",
    ]);
    // A user's flags for his own processor would be other counts, or code that valgrind does not know.
    cargo.env_remove("RUSTFLAGS");
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS");
    host::announce(&cargo);
    let output = cargo
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    ensure!(output.status.success(), "the cases do not build");
    let text = String::from_utf8(output.stdout).context("cargo printed text that is not UTF-8")?;
    // Messages of other kinds have other fields.
    text.lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .filter(|artifact| artifact.target.name == PROGRAM)
        .find_map(|artifact| artifact.executable)
        .with_context(|| format!("cargo named no program for the bench target `{PROGRAM}`"))
}

/// The cases' names, those of `only` if there are any.
fn cases(host: &Host, program: &Path, only: &[String]) -> Result<Vec<String>> {
    let listed = host::output(host.command(program).arg("--list"))?;
    let all: Vec<String> = listed.lines().map(str::to_owned).collect();
    if let Some(unknown) = only.iter().find(|name| !all.contains(name)) {
        bail!(
            "there is no case `{unknown}`; there are: {}",
            all.join(", ")
        );
    }
    Ok(if only.is_empty() { all } else { only.to_vec() })
}

/// Instructions of one case.
fn count(host: &Host, valgrind: &Path, program: &Path, case: &str) -> Result<u64> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let file = folder.path().join("callgrind.out");
    let mut option = std::ffi::OsString::from("--callgrind-out-file=");
    option.push(&file);
    let mut command = Command::new(valgrind);
    // Without an environment: its size moves the stack, and with it what copies to and from there take.
    command.env_clear().current_dir(&host.root);
    command
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(option)
        .arg(program)
        .args(["--case", case]);
    host::output(&mut command)?;
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    total(&text).with_context(|| {
        format!("callgrind counted nothing in case `{case}`: is its function, {COUNTED}, in the program?")
    })
}

/// The total in a file of callgrind's, unless it is 0.
fn total(text: &str) -> Option<u64> {
    let totals = text.lines().find_map(|line| line.strip_prefix("totals:"))?;
    totals.trim().parse().ok().filter(|&total| total > 0)
}

fn print_table(record: &Record, found: &BTreeMap<String, u64>) {
    println!(
        "\n{:<24} {:>14} {:>14} {:>9}",
        "case", "recorded", "found", "change"
    );
    for (case, &count) in found {
        let (recorded, change) = match record.instructions.get(case) {
            Some(&recorded) => (
                Thousands(recorded).to_string(),
                format!("{:+.2} %", change_percent(recorded, count)),
            ),
            None => ("–".to_owned(), String::new()),
        };
        println!(
            "{case:<24} {recorded:>14} {:>14} {change:>9}",
            Thousands(count)
        );
    }
}

/// What must not be, a line each; cases that are gone are looked for when the `whole` set was counted.
fn problems(record: &Record, found: &BTreeMap<String, u64>, whole: bool) -> Vec<String> {
    let counted = found.iter().filter_map(|(case, &count)| {
        let recorded = record.instructions.get(case).copied().unwrap_or_default();
        match record.judge(case, count) {
            Verdict::Same | Verdict::Fewer => None,
            Verdict::More => Some(format!(
                "{case}: expected {}, found {} ({:+.2} %)",
                Thousands(recorded),
                Thousands(count),
                change_percent(recorded, count)
            )),
            Verdict::NotRecorded => Some(format!(
                "{case}: no count is recorded, found {}",
                Thousands(count)
            )),
        }
    });
    let gone = record.instructions.keys();
    let gone = gone.filter(|case| whole && !found.contains_key(*case));
    let gone = gone.map(|case| format!("{case}: a count is recorded, but there is no such case"));
    counted.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_and_nothing_is_not_a_count() {
        let file =
            |total: &str| format!("version: 1\nevents: Ir\n\nfn=(1) f\n3 20\n\ntotals: {total}\n");
        assert_eq!(total(&file("1234")), Some(1234));
        assert_eq!(total(&file("0")), None);
        assert_eq!(total("events: Ir\n"), None);
    }

    #[test]
    fn more_new_and_gone_cases_are_named() {
        let mut record = Record::new(Maker {
            rustc: String::new(),
            host: String::new(),
            valgrind: String::new(),
            libc: String::new(),
            avx2: false,
        });
        let counts = |list: &[(&str, u64)]| -> BTreeMap<String, u64> {
            list.iter()
                .map(|&(case, count)| (case.to_owned(), count))
                .collect()
        };
        record.instructions = counts(&[("a", 1000), ("b", 1000), ("gone", 1)]);
        let found = counts(&[("a", 2000), ("b", 900), ("new", 5)]);
        assert_eq!(
            problems(&record, &found, true),
            [
                "a: expected 1,000, found 2,000 (+100.00 %)",
                "new: no count is recorded, found 5",
                "gone: a count is recorded, but there is no such case",
            ]
        );
        assert_eq!(problems(&record, &found, false).len(), 2);
    }
}
