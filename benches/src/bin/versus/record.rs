//! What a comparison found: kept as JSON, shown as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lm_core::Dtype;
use serde::{Deserialize, Serialize};

use crate::cases::{Case, Demand, Work};
use crate::job::Outcome;
use crate::machine::{Machine, Peaks};
use crate::side::Peer;

/// Everything a comparison measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Version of this layout.
    pub(crate) schema: u32,
    /// Day of the run, UTC.
    pub(crate) date: String,
    pub(crate) peer: Peer,
    pub(crate) machine: Machine,
    /// Measured before and after the runs.
    pub(crate) peaks: [Peaks; 2],
    /// File name of the model.
    pub(crate) model: String,
    pub(crate) demand: Demand,
    pub(crate) ours: BTreeMap<String, String>,
    pub(crate) theirs: BTreeMap<String, String>,
    pub(crate) rows: Vec<Row>,
}

/// The rounds of one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) case: Case,
    /// Greedy tokens that agree before the first difference.
    pub(crate) agree: Option<usize>,
    pub(crate) rounds: Vec<Round>,
}

/// One process of each side, one after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Round {
    /// Share of the processors that others used just before.
    pub(crate) busy: f64,
    pub(crate) ours: Outcome,
    pub(crate) theirs: Outcome,
}

/// A round is called disturbed when others used more than this share of the processors before it.
const DISTURBED: f64 = 0.1;

/// The middle value; of an even number of values the lower of the two.
fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

/// Seconds of a process: the loading, or the middle repeat.
fn seconds(work: Work, outcome: &Outcome) -> Option<f64> {
    match work {
        Work::Load => Some(outcome.load_s),
        _ => median(outcome.seconds.iter().copied()),
    }
}

impl Row {
    fn seconds(&self, side: fn(&Round) -> &Outcome) -> Option<f64> {
        let work = self.case.work;
        median(
            self.rounds
                .iter()
                .filter_map(|round| seconds(work, side(round))),
        )
    }

    /// Their seconds over ours: middle, smallest and largest of the rounds.
    fn ratio(&self) -> Option<(f64, f64, f64)> {
        let work = self.case.work;
        let ratios: Vec<f64> = self
            .rounds
            .iter()
            .filter_map(|round| Some(seconds(work, &round.theirs)? / seconds(work, &round.ours)?))
            .collect();
        Some((
            median(ratios.iter().copied())?,
            ratios.iter().copied().min_by(f64::total_cmp)?,
            ratios.iter().copied().max_by(f64::total_cmp)?,
        ))
    }

    fn peak(&self, side: fn(&Round) -> &Outcome) -> u64 {
        self.rounds
            .iter()
            .map(|round| side(round).peak)
            .max()
            .unwrap_or(0)
    }
}

fn ours(round: &Round) -> &Outcome {
    &round.ours
}

fn theirs(round: &Round) -> &Outcome {
    &round.theirs
}

impl Record {
    /// The better peaks of the two measurements.
    fn best(&self) -> Peaks {
        self.peaks[0].best(self.peaks[1])
    }

    /// Tables of speed and of memory.
    pub(crate) fn markdown(&self) -> String {
        let peer = self.peer.name();
        let peaks = self.best();
        let mut text = format!(
            "{}, {} cores ({}), {:.0} GB; memory read {:.1} GB/s, matrix product {:.0} GFLOP/s f32 and {:.0} GFLOP/s bf16.\n\
             lm-safety: {}. {peer}: {}.\n\n\
             | work | weights | dtype | lm-safety | {peer} | {peer} time / ours | share of peak | {peer}: share | peak memory | {peer}: memory |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
            self.machine.cpu,
            self.machine.cores,
            self.machine.features.join(", "),
            self.machine.memory as f64 / 1e9,
            peaks.read / 1e9,
            peaks.gemm_f32 / 1e9,
            peaks.gemm_bf16 / 1e9,
            versions(&self.ours),
            versions(&self.theirs),
        );
        for row in &self.rows {
            self.speed_line(&mut text, row, &peaks);
        }
        let _ = write!(
            text,
            "\n| loading | dtype | weights at this dtype | ours: ready after | anonymous memory | of the weights | \
             {peer}: ready after | anonymous memory | of the weights |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        );
        for row in self.rows.iter().filter(|row| row.case.work == Work::Load) {
            self.memory_line(&mut text, row);
        }
        let rounds = || self.rows.iter().flat_map(|row| &row.rounds);
        let disturbed = rounds().filter(|round| round.busy > DISTURBED).count();
        if disturbed > 0 {
            let _ = write!(
                text,
                "\nOthers used more than {:.0} % of the processors at the start of {disturbed} of {} rounds.\n",
                100.0 * DISTURBED,
                rounds().count(),
            );
        }
        for row in &self.rows {
            if let Some(agree) = row.agree {
                let _ = write!(
                    text,
                    "\nGreedy, {}: the first {agree} of {} tokens are the same on both sides.\n",
                    row.case.dtype,
                    row.case.work.new_tokens(),
                );
            }
        }
        text
    }

    fn speed_line(&self, text: &mut String, row: &Row, peaks: &Peaks) {
        let case = &row.case;
        let cell = |seconds: Option<f64>| match (seconds, case.work) {
            (None, _) => String::new(),
            (Some(seconds), Work::Load) => format!("{seconds:.2} s"),
            (Some(seconds), work) => format!("{:.1} tok/s", work.tokens() as f64 / seconds),
        };
        let share = |seconds: Option<f64>| match (self.demand.least(case, peaks), seconds) {
            (Some(least), Some(seconds)) => format!("{:.0} %", 100.0 * least / seconds),
            _ => "–".to_owned(),
        };
        let (our, their) = (row.seconds(ours), row.seconds(theirs));
        let ratio = row.ratio().map_or(String::new(), |(middle, low, high)| {
            format!("**{middle:.2}×** ({low:.2}–{high:.2})")
        });
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {ratio} | {} | {} | {} | {} |",
            case.work,
            case.source,
            case.dtype,
            cell(our),
            cell(their),
            share(our),
            share(their),
            megabytes(row.peak(ours)),
            megabytes(row.peak(theirs)),
        );
    }

    fn memory_line(&self, text: &mut String, row: &Row) {
        let element = match row.case.dtype {
            Dtype::F32 => 4,
            _ => 2,
        };
        let weights = self.demand.parameters * element;
        let side = |side: fn(&Round) -> &Outcome| {
            let outcomes = || row.rounds.iter().map(side);
            let ready = median(outcomes().map(|outcome| outcome.ready_s)).unwrap_or(f64::NAN);
            let grown = outcomes()
                .map(|outcome| {
                    outcome
                        .anonymous_ready
                        .saturating_sub(outcome.anonymous_before)
                })
                .max()
                .unwrap_or(0);
            format!(
                "{ready:.2} s | {} | {:.2}×",
                megabytes(grown),
                grown as f64 / weights as f64
            )
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            row.case.source,
            row.case.dtype,
            megabytes(weights),
            side(ours),
            side(theirs)
        );
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

fn versions(versions: &BTreeMap<String, String>) -> String {
    let each: Vec<String> = versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    each.join(", ")
}

/// The day `seconds` after 1970 began, as `2026-11-23` (Howard Hinnant's civil-from-days, for days after 1970).
pub(crate) fn date(seconds: u64) -> String {
    // Years begin in March here, so that the leap day is the last one.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // From `date --utc --date=@N +%F`.
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_795_392_000, "2026-11-23"),
            (4_107_542_399, "2100-02-28"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn medians_are_values_that_occurred() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.0));
    }

    fn outcome(load_s: f64, seconds: &[f64]) -> Outcome {
        Outcome {
            load_s,
            ready_s: load_s + 1.0,
            seconds: seconds.to_vec(),
            tokens: Vec::new(),
            anonymous_before: 10_000_000,
            anonymous_ready: 60_000_000,
            peak: 100_000_000,
            threads: 2,
            versions: BTreeMap::new(),
        }
    }

    #[test]
    fn the_tables_hold_speed_ratio_share_and_memory() {
        let case = |work| Case {
            work,
            source: crate::cases::Source::Safetensors,
            dtype: Dtype::F32,
        };
        let round = |ours, theirs| Round {
            busy: 0.02,
            ours,
            theirs,
        };
        let peaks = Peaks {
            read: 1e9,
            gemm_f32: 1e12,
            gemm_bf16: 1e12,
        };
        let record = Record {
            schema: 1,
            date: "2026-11-23".to_owned(),
            peer: Peer::Python,
            machine: Machine {
                cpu: "CPU".to_owned(),
                features: vec!["avx2".to_owned()],
                cores: 2,
                memory: 24_000_000_000,
            },
            peaks: [peaks, Peaks { read: 5e8, ..peaks }],
            model: "model".to_owned(),
            demand: Demand {
                blocks: 10_000_000,
                unembedding: 2_500_000,
                parameters: 12_500_000,
                attention: 0,
            },
            ours: BTreeMap::from([("lm-core".to_owned(), "1".to_owned())]),
            theirs: BTreeMap::from([("torch".to_owned(), "2".to_owned())]),
            rows: vec![
                Row {
                    case: case(Work::Load),
                    agree: None,
                    rounds: vec![round(outcome(0.5, &[]), outcome(1.0, &[]))],
                },
                Row {
                    case: case(Work::Decode),
                    agree: Some(64),
                    rounds: vec![
                        round(outcome(0.5, &[6.4, 6.4]), outcome(1.0, &[12.8])),
                        round(outcome(0.5, &[6.4]), outcome(1.0, &[19.2])),
                        round(outcome(0.5, &[6.4]), outcome(1.0, &[6.4])),
                    ],
                },
            ],
        };
        let text = record.markdown();
        // 64 readings of 50 MB at 1 GB/s are 3.2 s.
        let decode = "| greedy, 64 tokens | safetensors F32 | f32 | 10.0 tok/s | 5.0 tok/s | **2.00×** (1.00–3.00) | 50 % | 25 % | \
             100 MB | 100 MB |";
        let load = "| load | safetensors F32 | f32 | 0.50 s | 1.00 s | **2.00×** (2.00–2.00) | – | – | 100 MB | 100 MB |";
        let memory =
            "| safetensors F32 | f32 | 50 MB | 1.50 s | 50 MB | 1.00× | 2.00 s | 50 MB | 1.00× |";
        for line in [decode, load, memory] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(
            text.contains("the first 64 of 64 tokens are the same"),
            "{text}"
        );
    }
}
