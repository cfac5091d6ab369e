//! Continues prompts: raw text, chat messages, or a file of either.
//!
//! ```console
//! $ cargo run --release -p lm-examples --example generate -- --user "How do I keep basil fresh?"
//! ```

use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use lm_core::generate::generate;
use lm_core::{Piece, Request};
use lm_examples::args::{ModelArgs, OutputArgs, PromptArgs, SamplingArgs};
use lm_examples::output::{self, printable};
use lm_examples::results::{GenerateResult, GeneratedItem};

/// Continue prompts, greedily unless a temperature is given.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    prompts: PromptArgs,

    #[command(flatten)]
    sampling: SamplingArgs,

    /// Replies to each prompt
    #[arg(long, value_name = "N", default_value_t = 1)]
    samples: usize,

    /// Most rows that run together. Batches are faster, but their matrix products round differently in the last digit, which can
    /// turn a near tie between two tokens; with 1, what a prompt gives does not depend on its neighbours
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    output: OutputArgs,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    output::run(|| program(&cli))
}

fn program(cli: &Cli) -> Result<()> {
    let mut options = cli.sampling.options()?;
    options.samples = cli.samples;
    options.batch = cli.batch;
    options.first_logits = 10;
    options.check()?;
    let items = cli.prompts.items()?;
    if items.is_empty() {
        bail!("nothing to continue: give --prompt, --user or --prompts");
    }
    cli.output.prepare()?;

    let model = cli.model.open()?;
    let text = model.text()?;
    let requests: Vec<Request> = items
        .iter()
        .map(|item| item.request(&model))
        .collect::<Result<_>>()?;

    // One text is shown as it comes. Several would mix, so they are shown when they are done.
    let streams = requests.len() == 1 && options.samples == 1;
    let bar = if streams {
        ProgressBar::hidden()
    } else {
        let most = requests.len() * options.samples * options.max_new_tokens;
        ProgressBar::new(most as u64).with_style(ProgressStyle::with_template(
            "{wide_bar} at most {len} tokens, {pos} done, {per_sec}",
        )?)
    };
    let mut gone = None;
    let mut on_piece = |piece: Piece<'_>| {
        bar.inc(1);
        if streams {
            let mut out = io::stdout().lock();
            if let Err(error) = write!(out, "{}", printable(piece.text)).and_then(|()| out.flush())
            {
                gone = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    };
    let generations = generate(&model, text, &requests, &options, &mut on_piece)?;
    bar.finish_and_clear();
    if let Some(error) = gone {
        return Err(error.into());
    }

    let mut out = io::stdout().lock();
    if streams {
        writeln!(out)?;
    } else {
        for (item, generations) in items.iter().zip(&generations) {
            for generation in generations {
                let name = item.id.as_deref().unwrap_or(&item.origin);
                writeln!(
                    out,
                    "== {}\n{}",
                    printable(name),
                    printable(&generation.text)
                )?;
            }
        }
    }

    let files = cli.output.json_files("generate");
    if !files.is_empty() {
        let mut results = Vec::new();
        for ((item, request), generations) in items.into_iter().zip(requests).zip(generations) {
            for (sample, generation) in generations.into_iter().enumerate() {
                results.push(GeneratedItem {
                    id: item.id.clone(),
                    sample,
                    prompt_tokens: request.tokens.clone(),
                    generation,
                });
            }
        }
        let result = GenerateResult {
            schema: GenerateResult::SCHEMA.to_owned(),
            items: results,
            provenance: model.provenance()?.with_seed(options.seed),
        };
        for file in files {
            output::write_json(&file, &result)?;
        }
    }
    Ok(())
}
