//! What a comparison found: kept as JSON, shown as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lm_core::Dtype;
use serde::{Deserialize, Serialize};

use crate::agree::Agreement;
use crate::cases::{Case, Work};
use crate::demand::{Demand, Pass, least};
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
    /// What the whole work asks of the machine.
    pub(crate) passes: Vec<Pass>,
    /// Prompts of the whole work.
    pub(crate) prompts: usize,
    /// What was timed of it, ours first.
    pub(crate) timed: [Timed; 2],
    /// Greedy tokens that agree before the first difference.
    pub(crate) agree: Option<usize>,
    /// How near the numbers of the two sides are, where they find some.
    pub(crate) same: Option<Agreement>,
    pub(crate) rounds: Vec<Round>,
}

/// The part of a work that a side is timed on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Timed {
    /// Prompts of it.
    pub(crate) prompts: usize,
    /// What its seconds are multiplied by.
    pub(crate) scale: f64,
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

/// A side of a round: ours first.
type SideOf = fn(&Round) -> &Outcome;

impl Row {
    /// Seconds of a process for the whole work: the loading, or the middle repeat.
    fn of(&self, round: &Round, side: usize) -> Option<f64> {
        let (outcome, timed) = match side {
            0 => (&round.ours, &self.timed[0]),
            _ => (&round.theirs, &self.timed[1]),
        };
        let seconds = match self.case.work {
            Work::Load => Some(outcome.load_s),
            _ => median(outcome.seconds.iter().copied()),
        };
        Some(timed.scale * seconds?)
    }

    fn seconds(&self, side: usize) -> Option<f64> {
        median(self.rounds.iter().filter_map(|round| self.of(round, side)))
    }

    /// Their seconds over ours: middle, smallest and largest of the rounds.
    fn ratio(&self) -> Option<(f64, f64, f64)> {
        let ratios: Vec<f64> = self
            .rounds
            .iter()
            .filter_map(|round| Some(self.of(round, 1)? / self.of(round, 0)?))
            .collect();
        Some((
            median(ratios.iter().copied())?,
            ratios.iter().copied().min_by(f64::total_cmp)?,
            ratios.iter().copied().max_by(f64::total_cmp)?,
        ))
    }

    /// Our time by parts, as shares of the middle repeat; empty where nothing tells.
    fn parts(&self) -> Vec<String> {
        let parts = self.rounds.iter().flat_map(|round| {
            let whole = median(round.ours.seconds.iter().copied());
            let parts = round.ours.parts.iter();
            parts.filter_map(move |(name, seconds)| Some((name.clone(), seconds / whole?)))
        });
        let mut by_name: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (name, share) in parts {
            by_name.entry(name).or_default().push(share);
        }
        let shares = by_name.into_iter();
        shares
            .filter_map(|(name, shares)| Some(format!("{name} {:.0} %", 100.0 * median(shares)?)))
            .collect()
    }

    /// What was timed on fewer prompts than the work has.
    fn sampled(&self, peer: &str) -> Vec<String> {
        let sides = ["lm-safety", peer].into_iter().zip(&self.timed);
        sides
            .filter(|(_, timed)| timed.prompts < self.prompts)
            .map(|(side, timed)| {
                let (all, some) = (self.prompts, timed.prompts);
                format!(
                    "{side} was timed on {some} of {all} prompts, × {:.2} by their tokens",
                    timed.scale
                )
            })
            .collect()
    }

    fn peak(&self, side: SideOf) -> u64 {
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
        self.notes(&mut text);
        let loading = || self.rows.iter().filter(|row| row.case.work == Work::Load);
        if loading().next().is_some() {
            let _ = write!(
                text,
                "\n| loading | dtype | weights at this dtype | ours: ready after | anonymous memory | of the weights | \
                 {peer}: ready after | anonymous memory | of the weights |\n\
                 | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
            );
        }
        for row in loading() {
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

    /// What the table cannot say.
    fn notes(&self, text: &mut String) {
        let peer = self.peer.name();
        for row in &self.rows {
            let mut notes = row.sampled(peer);
            if let Some(Agreement { numbers, largest }) = row.same {
                notes.push(format!(
                    "{numbers} numbers agree, the farthest at {:.0} % of what is allowed",
                    100.0 * largest
                ));
            }
            let parts = row.parts();
            if !parts.is_empty() {
                notes.push(format!("of our time: {}", parts.join(", ")));
            }
            if !notes.is_empty() {
                let _ = write!(text, "\n{}: {}.\n", row.case, notes.join("; "));
            }
        }
        let peak = |work| {
            let row = self.rows.iter().find(|row| row.case.work == work)?;
            Some(row.peak(ours))
        };
        if let (Some(few), Some(many)) = (peak(Work::Hidden125), peak(Work::Hidden500)) {
            let _ = write!(
                text,
                "\nHidden states: our peak memory is {} with 125 prompts and {} with 500.\n",
                megabytes(few),
                megabytes(many)
            );
        }
    }

    fn speed_line(&self, text: &mut String, row: &Row, peaks: &Peaks) {
        let case = &row.case;
        let cell = |seconds: Option<f64>| {
            seconds.map_or_else(String::new, |seconds| case.work.speed(seconds))
        };
        let share = |seconds: Option<f64>| match (least(&row.passes, case.dtype, peaks), seconds) {
            (Some(least), Some(seconds)) => format!("{:.0} %", 100.0 * least / seconds),
            _ => "–".to_owned(),
        };
        let (our, their) = (row.seconds(0), row.seconds(1));
        let ratio = row.ratio().map_or(String::new(), |(middle, low, high)| {
            format!("**{middle:.2}×** ({low:.2}–{high:.2})")
        });
        let _ = writeln!(
            text,
            "| {case} | {} | {} | {} | {} | {ratio} | {} | {} | {} | {} |",
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
        let side = |side: SideOf| {
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
    use crate::works::sweep::Heads;

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
            anonymous_before: 10_000_000,
            anonymous_ready: 60_000_000,
            peak: 100_000_000,
            threads: 2,
            parts: BTreeMap::from([("divergence".to_owned(), 0.32)]),
            ..Outcome::default()
        }
    }

    #[test]
    fn the_tables_hold_speed_ratio_share_and_memory() {
        let case = |work| Case {
            work,
            source: crate::cases::Source::Safetensors,
            dtype: Dtype::F32,
            heads: None,
        };
        let round = |ours, theirs| Round {
            busy: 0.02,
            ours,
            theirs,
        };
        let whole = |prompts| Timed {
            prompts,
            scale: 1.0,
        };
        let peaks = Peaks {
            read: 1e9,
            gemm_f32: 1e12,
            gemm_bf16: 1e12,
        };
        let record = Record {
            schema: 2,
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
                ..Demand::default()
            },
            ours: BTreeMap::from([("lm-core".to_owned(), "1".to_owned())]),
            theirs: BTreeMap::from([("torch".to_owned(), "2".to_owned())]),
            rows: vec![
                Row {
                    case: case(Work::Load),
                    passes: Vec::new(),
                    prompts: 0,
                    timed: [whole(0); 2],
                    agree: None,
                    same: None,
                    rounds: vec![round(outcome(0.5, &[]), outcome(1.0, &[]))],
                },
                Row {
                    case: case(Work::Decode),
                    passes: vec![Pass {
                        count: 64.0,
                        operations: 0.0,
                        bytes: 5e7,
                    }],
                    prompts: 1,
                    timed: [whole(1); 2],
                    agree: Some(64),
                    same: None,
                    rounds: vec![
                        round(outcome(0.5, &[6.4, 6.4]), outcome(1.0, &[12.8])),
                        round(outcome(0.5, &[6.4]), outcome(1.0, &[19.2])),
                        round(outcome(0.5, &[6.4]), outcome(1.0, &[6.4])),
                    ],
                },
                Row {
                    case: Case {
                        heads: Some(Heads::Rows),
                        ..case(Work::SweepChat)
                    },
                    passes: vec![Pass {
                        count: 1.0,
                        operations: 8e12,
                        bytes: 5e7,
                    }],
                    prompts: 100,
                    timed: [
                        whole(100),
                        Timed {
                            prompts: 4,
                            scale: 25.5,
                        },
                    ],
                    agree: None,
                    same: Some(Agreement {
                        numbers: 1_080,
                        largest: 0.031,
                    }),
                    rounds: vec![round(outcome(0.5, &[16.0]), outcome(1.0, &[2.0]))],
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
        // A sample of the other side, scaled; 8 s of arithmetic at the peak.
        let sweep = "| sweep of all heads, 100 chat prompts (peer: a layer's heads as rows) | safetensors F32 | f32 | 16.00 s | \
             51.00 s | **3.19×** (3.19–3.19) | 50 % | 16 % | 100 MB | 100 MB |";
        let note = "sweep of all heads, 100 chat prompts (peer: a layer's heads as rows): transformers was timed on 4 of 100 \
             prompts, × 25.50 by their tokens; 1080 numbers agree, the farthest at 3 % of what is allowed; of our time: \
             divergence 2 %.";
        for line in [decode, load, memory, sweep, note] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(
            text.contains("the first 64 of 64 tokens are the same"),
            "{text}"
        );
    }
}
