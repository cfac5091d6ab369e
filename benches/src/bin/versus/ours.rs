//! Our side of a job.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use lm_core::{
    GenerateOptions, LanguageModel, LoadOptions, Request, Sampling, TorchModel, generate, torch,
};

use crate::job::{Job, Outcome};
use crate::machine::status;

/// Tokens written before the clock starts: allocators and thread pools are warm after a few steps.
const WARM_UP_TOKENS: usize = 4;

/// Does the job in this process.
pub(crate) fn run(job: &Job) -> Result<Outcome> {
    let anonymous_before = status("RssAnon")?;
    let begin = Instant::now();
    let options = LoadOptions::default().dtype(job.dtype);
    let model = TorchModel::open_with(&job.weights, options)?;
    let load_s = begin.elapsed().as_secs_f64();
    let ready_s = unix_time()? - job.started;
    let anonymous_ready = status("RssAnon")?;

    let mut seconds = Vec::with_capacity(job.repeats);
    let mut tokens = Vec::new();
    if !job.prompt.is_empty() {
        work(&model, job, job.new_tokens.min(WARM_UP_TOKENS))?;
        for _ in 0..job.repeats {
            let begin = Instant::now();
            tokens = work(&model, job, job.new_tokens)?;
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    Ok(Outcome {
        load_s,
        ready_s,
        seconds,
        tokens,
        anonymous_before,
        anonymous_ready,
        peak: status("VmHWM")?,
        threads: usize::try_from(tch::get_num_threads()).context("the number of threads")?,
        versions: BTreeMap::from([
            ("lm-core".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("libtorch".to_owned(), torch::libtorch_version().to_owned()),
        ]),
    })
}

/// Reads the prompt, and writes `new_tokens` in each row; returns them.
fn work(model: &TorchModel, job: &Job, new_tokens: usize) -> Result<Vec<Vec<u32>>> {
    if new_tokens == 0 {
        model.begin(1)?.extend(&[&job.prompt])?;
        return Ok(Vec::new());
    }
    let options = GenerateOptions {
        max_new_tokens: new_tokens,
        sampling: if job.sampled {
            Sampling {
                top_p: Some(job.top_p),
                ..Sampling::temperature(1.0)
            }
        } else {
            Sampling::greedy()
        },
        samples: job.rows,
        batch: job.rows,
        ignore_stop_tokens: true,
        ..GenerateOptions::default()
    };
    let request = Request::unnamed(job.prompt.clone());
    let rows = generate::generate(
        model,
        model.text()?,
        &[request],
        &options,
        &mut generate::ignore,
    )?;
    Ok(rows.into_iter().flatten().map(|row| row.tokens).collect())
}

/// Seconds of Unix time: the one clock that a Rust and a Python process share without more ado.
pub(crate) fn unix_time() -> Result<f64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(now
        .context("the system clock stands before 1970")?
        .as_secs_f64())
}
