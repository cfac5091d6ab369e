//! The committed instruction counts, and what a new count is beside them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

/// `benches/counts.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Counts of another maker are no yardstick.
    pub(super) made_with: Maker,
    /// By how many percent a count may exceed the recorded one.
    pub(super) tolerance_percent: f64,
    /// Instructions of each case.
    pub(super) instructions: BTreeMap<String, u64>,
}

/// What decides how many instructions the same source takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Maker {
    /// First line of `rustc -vV`.
    pub(super) rustc: String,
    /// The compiler's target.
    pub(super) host: String,
    /// `valgrind --version`: it presents a processor of its own to the program, with AVX2 at most.
    pub(super) valgrind: String,
    /// The C library, whose allocator and `memcpy` count too.
    pub(super) libc: String,
    /// Whether the processor has AVX2; libraries look and then choose their code.
    pub(super) avx2: bool,
}

/// A count beside the recorded one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Same,
    Fewer,
    More,
    NotRecorded,
}

impl Record {
    /// The tolerance of a first record.
    const TOLERANCE_PERCENT: f64 = 2.0;

    /// Nothing recorded yet.
    pub(super) fn new(made_with: Maker) -> Self {
        Self {
            made_with,
            tolerance_percent: Self::TOLERANCE_PERCENT,
            instructions: BTreeMap::new(),
        }
    }

    /// Reads the file; `None` where there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let record: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a record of counts", path.display()))?;
        ensure!(
            record.tolerance_percent.is_finite() && record.tolerance_percent >= 0.0,
            "{}: `tolerance_percent` must be a number from 0, found {}",
            path.display(),
            record.tolerance_percent
        );
        Ok(Some(record))
    }

    /// Writes the file.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("cannot write counts as JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }

    /// What `found` instructions of a case are beside the recorded ones.
    pub(super) fn judge(&self, case: &str, found: u64) -> Verdict {
        let Some(&recorded) = self.instructions.get(case) else {
            return Verdict::NotRecorded;
        };
        let change = change_percent(recorded, found);
        if change > self.tolerance_percent {
            Verdict::More
        } else if change < -self.tolerance_percent {
            Verdict::Fewer
        } else {
            Verdict::Same
        }
    }
}

impl Maker {
    /// What differs in `self` from `recorded`, a phrase each.
    pub(super) fn differences(&self, recorded: &Self) -> Vec<String> {
        let avx2 = |has| if has { "with AVX2" } else { "without AVX2" }.to_owned();
        [
            (self.rustc.clone(), recorded.rustc.clone()),
            (self.host.clone(), recorded.host.clone()),
            (self.valgrind.clone(), recorded.valgrind.clone()),
            (self.libc.clone(), recorded.libc.clone()),
            (avx2(self.avx2), avx2(recorded.avx2)),
        ]
        .into_iter()
        .filter(|(here, recorded)| here != recorded)
        .map(|(here, recorded)| format!("{here} here, {recorded} recorded"))
        .collect()
    }
}

/// `found` less `recorded`, in percent of `recorded`.
pub(super) fn change_percent(recorded: u64, found: u64) -> f64 {
    // Counts are far below 2^53; a recorded 0 can only have been written by hand.
    (found as f64 - recorded as f64) / recorded.max(1) as f64 * 100.0
}

/// A count with its thousands apart.
pub(super) struct Thousands(pub(super) u64);

impl fmt::Display for Thousands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maker() -> Maker {
        Maker {
            rustc: "rustc 1.95.0".into(),
            host: "x86_64-unknown-linux-gnu".into(),
            valgrind: "valgrind-3.19.0".into(),
            libc: "glibc 2.36".into(),
            avx2: true,
        }
    }

    fn record() -> Record {
        let mut record = Record::new(maker());
        record.instructions.insert("a".into(), 10_000);
        record
    }

    #[test]
    fn only_more_than_the_tolerance_is_more() {
        let record = record();
        let judged = |found| record.judge("a", found);
        assert_eq!(judged(10_201), Verdict::More);
        assert_eq!(judged(10_200), Verdict::Same);
        assert_eq!(judged(9_800), Verdict::Same);
        assert_eq!(judged(9_799), Verdict::Fewer);
        assert_eq!(record.judge("b", 1), Verdict::NotRecorded);
    }

    #[test]
    fn another_maker_is_named() {
        assert_eq!(maker().differences(&maker()), Vec::<String>::new());
        let other = Maker {
            rustc: "rustc 1.96.0".into(),
            avx2: false,
            ..maker()
        };
        assert_eq!(
            other.differences(&maker()),
            [
                "rustc 1.96.0 here, rustc 1.95.0 recorded",
                "without AVX2 here, with AVX2 recorded"
            ]
        );
    }

    #[test]
    fn what_is_written_is_read_and_a_bad_file_is_named() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("counts.json");
        assert_eq!(Record::read(&path)?, None);
        record().write(&path)?;
        assert_eq!(Record::read(&path)?, Some(record()));
        let text = fs::read_to_string(&path)?;
        for bad in [text.replace("2.0", "-1.0"), text.replace("10000", "-1")] {
            fs::write(&path, bad)?;
            let refused =
                Record::read(&path).map_or_else(|error| format!("{error:#}"), |_| String::new());
            assert!(refused.contains("counts.json"), "{refused}");
        }
        Ok(())
    }

    #[test]
    fn thousands_stand_apart() {
        let text = |count| Thousands(count).to_string();
        assert_eq!(
            [text(7), text(1000), text(1_234_567)],
            ["7", "1,000", "1,234,567"]
        );
        assert_eq!(format!("{:>6}", Thousands(1000)), " 1,000");
    }
}
