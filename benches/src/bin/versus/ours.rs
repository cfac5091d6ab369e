//! Our side of a job.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use lm_core::{LoadOptions, TorchModel, torch};

use crate::job::{Job, Outcome};
use crate::machine::status;
use crate::works::Call;

/// Does the job in this process.
pub(crate) fn run(job: &Job) -> Result<Outcome> {
    let anonymous_before = status("RssAnon")?;
    let begin = Instant::now();
    let options = LoadOptions::default().dtype(job.dtype);
    let model = TorchModel::open_with(&job.weights, options)?;
    let mut outcome = Outcome {
        load_s: begin.elapsed().as_secs_f64(),
        ready_s: unix_time()? - job.started,
        anonymous_before,
        anonymous_ready: status("RssAnon")?,
        threads: usize::try_from(tch::get_num_threads()).context("the number of threads")?,
        versions: BTreeMap::from([
            ("lm-core".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("libtorch".to_owned(), torch::libtorch_version().to_owned()),
        ]),
        ..Outcome::default()
    };
    let mut work = job.task.start(&model)?;
    if let Some(work) = &mut work {
        work.call(Call::WarmUp)?;
        for _ in 0..job.repeats {
            let begin = Instant::now();
            work.call(Call::Timed)?;
            outcome.seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    // What is shown for the comparison is no part of the work.
    outcome.peak = status("VmHWM")?;
    if let Some(work) = &mut work {
        let part = work.part();
        outcome.parts = part
            .into_iter()
            .map(|(name, seconds)| (name.to_owned(), seconds))
            .collect();
        outcome.found = work.found()?;
    }
    Ok(outcome)
}

/// Seconds of Unix time: the one clock that a Rust and a Python process share without more ado.
pub(crate) fn unix_time() -> Result<f64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(now
        .context("the system clock stands before 1970")?
        .as_secs_f64())
}
