//! Compares the engine with another one: the same work on the same weights, in turns in the same run, each in a process of
//! its own. Prints Markdown, keeps the raw figures as JSON. `cargo xtask bench --vs python` sets the other engine up and
//! calls this.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table and the progress are what the program is for"
)]

mod agree;
mod cases;
mod demand;
mod inputs;
mod job;
mod machine;
mod ours;
mod record;
mod side;
mod works;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use lm_core::{Checkpoint, Dtype};

use crate::agree::Agreement;
use crate::cases::{Case, Source, Work};
use crate::demand::Demand;
use crate::inputs::{Inputs, Maker};
use crate::job::Job;
use crate::machine::{Machine, Peaks};
use crate::record::{Record, Round, Row, Timed, date};
use crate::side::{Peer, Side, script};
use crate::works::Task;

/// Compares the engine with another one on this machine.
#[derive(Clone, Debug, Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Args {
    /// Which engine.
    #[arg(long, required = true)]
    peer: Option<Peer>,
    /// The Python that has it.
    #[arg(long, required = true)]
    python: Option<PathBuf>,
    /// Times each side is started for each row of the table.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Times each process repeats its work, after one warm-up.
    #[arg(long, default_value_t = 2)]
    repeats: usize,
    /// Most seconds to wait before each round for other programs to leave the processors alone.
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// One round of one repeat, without waiting for long, and small samples of what takes minutes.
    #[arg(long, conflicts_with_all = ["rounds", "repeats", "patience"])]
    quick: bool,
    /// Only this work; may be given several times.
    #[arg(long)]
    only: Vec<Work>,
    /// Only this dtype on our side.
    #[arg(long)]
    dtype: Option<Dtype>,
    /// Where the raw figures go [default: docs/runs/DATE-vs-PEER.json].
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Step>,
}

#[derive(Clone, Debug, Subcommand)]
enum Step {
    /// Does the job on standard input and prints its outcome.
    #[command(hide = true)]
    Once,
}

fn main() -> Result<()> {
    let args = Args::parse();
    match (&args.command, args.peer, &args.python) {
        (Some(Step::Once), ..) => {
            let job: Job = serde_json::from_reader(std::io::stdin()).context("standard input")?;
            println!("{}", serde_json::to_string(&ours::run(&job)?)?);
            Ok(())
        }
        (None, Some(peer), Some(python)) if args.quick => {
            let quick = Args {
                rounds: 1,
                repeats: 1,
                patience: 5,
                ..args.clone()
            };
            compare(&quick, peer, python)
        }
        (None, Some(peer), Some(python)) => compare(&args, peer, python),
        // The parser asks for both.
        (None, ..) => Ok(()),
    }
}

fn compare(args: &Args, peer: Peer, python: &Path) -> Result<()> {
    ensure!(args.rounds > 0, "--rounds: expected at least 1, found 0");
    ensure!(args.repeats > 0, "--repeats: expected at least 1, found 0");
    let cases: Vec<Case> = match peer {
        Peer::Python => cases::against_python(),
        Peer::Llamacpp => cases::against_llamacpp(),
    }
    .into_iter()
    .filter(|case| args.only.is_empty() || args.only.contains(&case.work))
    .filter(|case| args.dtype.is_none_or(|dtype| dtype == case.dtype))
    .collect();
    ensure!(!cases.is_empty(), "--only and --dtype leave no row");

    let demo = lm_testkit::demo_model().context("no demo model: run `cargo xtask setup`")?;
    let checkpoint = Checkpoint::open(&demo)?;
    let demand = Demand::of(checkpoint.spec());
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let maker = Maker::new(&checkpoint, folder.path(), args.quick)?;
    let files = Files {
        demo: &demo,
        python,
    };
    let (ours, theirs) = (Side::ours()?, Side::peer(peer, python));

    let before = Peaks::measure()?;
    let mut rows = Vec::with_capacity(cases.len());
    for case in cases {
        let weights = files.find(case.source)?;
        let inputs = maker.make(&case, &weights, args.repeats)?;
        let jobs = [0, 1].map(|side| Job {
            weights: weights.clone(),
            dtype: case.dtype,
            task: inputs.timed[side].0.clone(),
            repeats: inputs.repeats,
            started: 0.0,
        });
        rows.push(row(case, &inputs, &jobs, &demand, args, [&ours, &theirs])?);
    }
    let record = Record {
        schema: 2,
        date: date(ours::unix_time()? as u64),
        peer,
        machine: Machine::describe()?,
        peaks: [before, Peaks::measure()?],
        model: demo
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        demand,
        ours: versions(&rows, |round| &round.ours.versions),
        theirs: versions(&rows, |round| &round.theirs.versions),
        rows,
    };
    println!("{}", record.markdown());

    let path = args.json.clone().unwrap_or_else(|| {
        let peer = record.peer.name();
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../docs/runs")
            .join(format!("{}-vs-{peer}.json", record.date))
    });
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let text = serde_json::to_string_pretty(&record)? + "\n";
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("raw figures: {}", path.display());
    Ok(())
}

/// Both sides in turns, so that a slow minute of the machine falls on both.
fn row(
    case: Case,
    inputs: &Inputs,
    [our_job, their_job]: &[Job; 2],
    demand: &Demand,
    args: &Args,
    [ours, theirs]: [&Side; 2],
) -> Result<Row> {
    let rounds = args.rounds;
    let mut done = Vec::with_capacity(rounds);
    let mut agree = None;
    let mut same: Option<Agreement> = None;
    for index in 0..rounds {
        eprintln!(
            "{case}, {}, {}: round {} of {rounds}",
            case.source,
            case.dtype,
            index + 1
        );
        let mut round = Round {
            busy: machine::wait_until_idle(Duration::from_secs(args.patience))?,
            ours: ours.run(our_job)?,
            theirs: theirs.run(their_job)?,
        };
        let found =
            [&mut round.ours, &mut round.theirs].map(|side| std::mem::take(&mut side.found));
        if let Task::Generate(work) = &inputs.whole {
            for (side, found) in [("lm-safety", &found[0]), ("the other side", &found[1])] {
                // llama.cpp's server counts its tokens but does not show them; its script checks the count.
                let full = |row: &Vec<u32>| row.len() == work.new_tokens;
                let written = &found.tokens;
                ensure!(
                    written.is_empty() || (written.len() == work.rows && written.iter().all(full)),
                    "{side} wrote {:?} tokens a row, not {} rows of {}",
                    written.iter().map(Vec::len).collect::<Vec<_>>(),
                    work.rows,
                    work.new_tokens
                );
            }
        }
        let written = [0, 1].map(|side| found[side].tokens.concat());
        if case.work == Work::Decode && written.iter().all(|tokens| !tokens.is_empty()) {
            let [ours, theirs] = &written;
            let same = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
            agree = Some(agree.map_or(same, |least: usize| least.min(same)));
        }
        let [our_found, their_found] = &found;
        let now = agree::agreement(&our_job.task, our_found, their_found)
            .with_context(|| format!("{case}: the sides do not compute the same"))?;
        same = match (same, now) {
            (Some(before), Some(now)) if before.largest > now.largest => Some(before),
            (_, now) => now,
        };
        done.push(round);
    }
    Ok(Row {
        case,
        passes: inputs.whole.passes(demand, case.dtype),
        prompts: inputs.whole.prompts(),
        timed: inputs.timed.each_ref().map(|(task, scale)| Timed {
            prompts: task.prompts(),
            scale: *scale,
        }),
        agree,
        same,
        rounds: done,
    })
}

fn versions(
    rows: &[Row],
    side: fn(&Round) -> &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let round = rows.iter().flat_map(|row| &row.rounds).next();
    round.map(side).cloned().unwrap_or_default()
}

/// Where the weights lie; copies are made when first needed.
struct Files<'a> {
    demo: &'a Path,
    python: &'a Path,
}

impl Files<'_> {
    fn find(&self, source: Source) -> Result<PathBuf> {
        match source {
            Source::Gguf => Ok(self.demo.to_owned()),
            Source::Safetensors => lm_testkit::reference("smollm2-hf")
                .context("no safetensors copy of the demo model: run `cargo xtask golden smollm2`"),
            Source::GgufF32 => self.converted("F32"),
            Source::GgufF16 => self.converted("F16"),
            Source::GgufBf16 => self.converted("BF16"),
            Source::GgufQ8 => self.converted("Q8_0"),
        }
    }

    fn converted(&self, to: &str) -> Result<PathBuf> {
        let folder = lm_testkit::cache_folder()
            .context("no cache folder: set HOME or LM_SAFETY_CACHE")?
            .join("bench");
        let path = folder.join(format!("SmolLM2-135M-Instruct.{to}.gguf"));
        if path.exists() {
            return Ok(path);
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let status = Command::new(self.python)
            .arg(script("convert_gguf.py"))
            .arg(self.demo)
            .arg(&path)
            .args(["--to", to])
            .status()
            .with_context(|| format!("cannot start {}", self.python.display()))?;
        ensure!(
            status.success(),
            "{} was not made (the reason is above)",
            path.display()
        );
        Ok(path)
    }
}
