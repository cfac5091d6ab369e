//! Compares the engine with another one: the same work on the same weights, in turns in the same run, each in a process of
//! its own. Prints Markdown, keeps the raw figures as JSON. `cargo xtask bench --vs python` sets the other engine up and
//! calls this.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table and the progress are what the program is for"
)]

mod cases;
mod job;
mod machine;
mod ours;
mod record;
mod side;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use lm_core::{Checkpoint, Dtype};

use crate::cases::{Case, Demand, Source, Work};
use crate::job::Job;
use crate::machine::{Machine, Peaks};
use crate::record::{Record, Round, Row, date};
use crate::side::{Peer, Side, script};

/// Nucleus of the sampled work.
const TOP_P: f32 = 0.95;

/// Compares the engine with another one on this machine.
#[derive(Debug, Parser)]
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

#[derive(Debug, Subcommand)]
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
    let vocab = checkpoint.spec().vocab_size;
    let demand = Demand::of(checkpoint.spec());
    let files = Files {
        demo: &demo,
        python,
    };
    let (ours, theirs) = (Side::ours()?, Side::peer(peer, python));

    let before = Peaks::measure()?;
    let mut rows = Vec::with_capacity(cases.len());
    for case in cases {
        let job = Job {
            weights: files.find(case.source)?,
            dtype: case.dtype,
            prompt: lm_benches::prompt(case.work.prompt(), vocab),
            new_tokens: case.work.new_tokens(),
            rows: case.work.rows(),
            sampled: case.work == Work::Sample20,
            top_p: TOP_P,
            repeats: args.repeats,
            started: 0.0,
        };
        rows.push(row(case, &job, args, &ours, &theirs)?);
    }
    let record = Record {
        schema: 1,
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
fn row(case: Case, job: &Job, args: &Args, ours: &Side, theirs: &Side) -> Result<Row> {
    let rounds = args.rounds;
    let mut done = Vec::with_capacity(rounds);
    let mut agree = None;
    for index in 0..rounds {
        eprintln!(
            "{}, {}, {}: round {} of {rounds}",
            case.work,
            case.source,
            case.dtype,
            index + 1
        );
        let mut round = Round {
            busy: machine::wait_until_idle(Duration::from_secs(args.patience))?,
            ours: ours.run(job)?,
            theirs: theirs.run(job)?,
        };
        let written =
            [&mut round.ours, &mut round.theirs].map(|side| std::mem::take(&mut side.tokens));
        for (side, written) in [("lm-safety", &written[0]), ("the other side", &written[1])] {
            // llama.cpp's server counts its tokens but does not show them; its script checks the count.
            let full = written.iter().all(|row| row.len() == job.new_tokens);
            ensure!(
                written.is_empty() || (written.len() == job.rows && full),
                "{side} wrote {:?} tokens a row, not {} rows of {}",
                written.iter().map(Vec::len).collect::<Vec<_>>(),
                job.rows,
                job.new_tokens
            );
        }
        if case.work == Work::Decode && written.iter().all(|rows| !rows.is_empty()) {
            let [ours, theirs] = written.map(|rows| rows.concat());
            let same = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
            agree = Some(agree.map_or(same, |least: usize| least.min(same)));
        }
        done.push(round);
    }
    Ok(Row {
        case,
        agree,
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
