//! Switches attention heads off and shows what that changes: the next-token distribution and the text. `--find` scores every
//! head first (query-level Ships; Zhou et al., "On the Role of Attention Heads in Large Language Model Safety", ICLR 2025,
//! equation 9) and switches off the most influential one.
//!
//! ```console
//! $ cargo run --release -p lm-examples --example heads -- --demo
//! $ cargo run --release -p lm-examples --example heads -- --user "What is the capital of France?" --ua 18-8
//! ```

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use lm_core::generate::{generate, ignore};
use lm_core::{
    AblationKind, Conversation, GenerateOptions, Head, HeadAblation, LanguageModel, OpenModel as _,
    Prompt, Request, Run, TorchModel, logits,
};
use lm_examples::args::{HeadArgs, ModelArgs, OutputArgs, PromptArgs, SamplingArgs};
use lm_examples::figure::HeatMap;
use lm_examples::output::{self, printable};
use lm_examples::prompts::Item;
use lm_examples::results::{Continuation, HeadScores, HeadsItem, HeadsResult, NextToken};
use lm_examples::table::Table;

/// Heads and tokens that are printed; files hold all heads.
const SHOWN: usize = 10;

const DEMO_PROMPT: &str = "What is the capital of France?";
const DEMO_FOLDER: &str = "target/demo";
const BIGGER_MODEL: &str = "HuggingFaceTB/SmolLM2-1.7B-Instruct";

/// Switch attention heads off and show what that changes.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    heads: HeadArgs,

    #[command(flatten)]
    prompts: PromptArgs,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    output: OutputArgs,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    output::run(|| program(cli))
}

fn program(mut cli: Cli) -> Result<()> {
    for (flag, factor) in [
        ("--epsilon", cli.heads.epsilon),
        ("--factor", cli.heads.factor),
    ] {
        if !factor.is_finite() {
            bail!("{flag}: expected a finite number, found {factor}");
        }
    }
    let options = cli.sampling.options()?;
    let mut items = cli.prompts.items()?;
    if cli.heads.demo {
        cli.heads.find = true;
        cli.output
            .out
            .get_or_insert_with(|| PathBuf::from(DEMO_FOLDER));
        if items.is_empty() {
            items.push(Item {
                origin: "the demo prompt".to_owned(),
                id: None,
                prompt: Prompt::Chat(Conversation::new().user(DEMO_PROMPT)),
            });
        }
    }
    if items.is_empty() {
        bail!("nothing to look at: give --prompt, --user or --prompts, or --demo");
    }
    if !cli.heads.find && cli.heads.named().is_empty() {
        bail!("no head to switch off: give --ua or --sc, or let --find find one");
    }
    cli.output.prepare()?;

    let model = cli.model.open()?;
    let shape = model.shape();
    cli.heads.named().check(shape.layers, shape.heads)?;
    let mut results = Vec::new();
    let mut figures = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let result = look_into(&model, item, &cli.heads, &options)?;
        if let (Some(scores), Some(folder)) = (&result.scores, &cli.output.out) {
            let name = if items.len() == 1 {
                "heads.png".to_owned()
            } else {
                format!("heads-{:03}.png", index + 1)
            };
            let path = folder.join(name);
            output::write_file(&path, &heat_map(&model, item, scores).png()?)?;
            figures.push(path);
        }
        results.push(result);
    }

    let files = cli.output.json_files("heads");
    if !files.is_empty() {
        let result = HeadsResult {
            schema: HeadsResult::SCHEMA.to_owned(),
            items: results,
            provenance: model.provenance()?.with_seed(options.seed),
        };
        for file in &files {
            output::write_json(file, &result)?;
        }
    }
    let mut out = io::stdout().lock();
    for path in figures.iter().chain(&files) {
        writeln!(out, "wrote {}", path.display())?;
    }
    if cli.heads.demo {
        writeln!(
            out,
            "\nthe same on a bigger model:\n  cargo run --release -p lm-examples --example heads -- --demo --model {BIGGER_MODEL} --dtype bf16"
        )?;
    }
    Ok(())
}

/// The whole job on one prompt; prints what it finds.
fn look_into(
    model: &TorchModel,
    item: &Item,
    heads: &HeadArgs,
    options: &GenerateOptions,
) -> Result<HeadsItem> {
    let mut out = io::stdout().lock();
    let request = item.request(model)?;
    writeln!(
        out,
        "prompt: {} ({} tokens)\n",
        printable(item.summary()),
        request.tokens.len()
    )?;

    let mut ablation = heads.named();
    let mut scores = None;
    if heads.find {
        let found = score_all_heads(model, &request.tokens, heads.kind())?;
        let ranking = found.ranked();
        let Some(&(head, _)) = ranking.first() else {
            bail!("the model has no attention heads");
        };
        write_ranking(&mut out, &ranking)?;
        ablation = HeadAblation::none().with(head, found.kind);
        scores = Some(found);
    }

    let plain = model.next_logits(&request.tokens)?.to_vec();
    let run = Run {
        intervention: ablation.clone().into(),
        ..Run::default()
    };
    let changed: Vec<f32> = model
        .run(&[&request.tokens], &run)?
        .logits
        .iter()
        .flatten()
        .copied()
        .collect();
    let kl = divergence(&plain, &changed)?;
    let next_token = next_tokens(model, &plain, &changed)?;
    let changes: Vec<String> = ablation.edits().iter().map(describe).collect();
    writeln!(
        out,
        "with {}: KL {kl:.4} nats at the next token",
        changes.join(", ")
    )?;
    let mut table = Table::new(["next token", "before", "after"]);
    for token in next_token.iter().take(SHOWN) {
        // Quoted, because a token's spaces and line feeds matter.
        table = table.row([
            format!("{:?}", token.text),
            format!("{:.1}%", 100.0 * token.before),
            format!("{:.1}%", 100.0 * token.after),
        ]);
    }
    writeln!(out, "{table}")?;

    let before = continuation(model, model, &request, options)?;
    let after = continuation(model, &model.ablated(ablation.clone())?, &request, options)?;
    writeln!(out, "before: {}\n", printable(before.text.trim()))?;
    writeln!(out, "after:  {}\n", printable(after.text.trim()))?;
    Ok(HeadsItem {
        id: item.id.clone(),
        prompt: item.prompt.clone(),
        prompt_tokens: request.tokens,
        scores,
        ablation,
        kl,
        next_token,
        before,
        after,
    })
}

/// Switches off one head at a time and compares the next-token distribution with that of the model as it is.
fn score_all_heads(model: &TorchModel, prompt: &[u32], kind: AblationKind) -> Result<HeadScores> {
    let shape = model.shape();
    let ablations: Vec<HeadAblation> = shape
        .all_heads()
        .map(|head| HeadAblation::none().with(head, kind))
        .collect();
    let plain = model.next_logits(prompt)?.to_vec();
    let bar = ProgressBar::new(ablations.len() as u64).with_style(ProgressStyle::with_template(
        "{wide_bar} {pos} of {len} heads, {eta} left",
    )?);
    let mut kl = vec![Vec::with_capacity(shape.heads); shape.layers];
    model.sweep(&[prompt], &ablations, &mut |index, found| {
        bar.inc(1);
        let changed: Vec<f32> = found.row(0).to_vec();
        kl[index / shape.heads].push(logits::kl_divergence(&plain, &changed).unwrap_or(f64::NAN));
        Ok(())
    })?;
    bar.finish_and_clear();
    if let Some(layer) = kl
        .iter()
        .position(|layer| layer.iter().any(|score| !score.is_finite()))
    {
        bail!(
            "layer {layer}: a score that is not finite; logits overflow in this dtype, try --dtype f32"
        );
    }
    Ok(HeadScores { kind, kl })
}

fn write_ranking(out: &mut impl Write, ranking: &[(Head, f64)]) -> Result<()> {
    let mut table = Table::new(["rank", "head", "KL in nats"]);
    for (rank, (head, kl)) in ranking.iter().take(SHOWN).enumerate() {
        table = table.row([(rank + 1).to_string(), head.to_string(), format!("{kl:.4}")]);
    }
    let median = ranking.get(ranking.len() / 2).map_or(0.0, |(_, kl)| *kl);
    writeln!(
        out,
        "most influential of {} heads (median KL {median:.1e}):\n{table}",
        ranking.len()
    )?;
    Ok(())
}

/// `KL(base ‖ ablated)` in nats.
fn divergence(plain: &[f32], changed: &[f32]) -> Result<f64> {
    logits::kl_divergence(plain, changed)
        .filter(|kl| kl.is_finite())
        .context("the two next-token distributions can't be compared; logits overflow in this dtype, try --dtype f32")
}

/// The ten most likely tokens of either distribution.
fn next_tokens(model: &TorchModel, plain: &[f32], changed: &[f32]) -> Result<Vec<NextToken>> {
    let tokenizer = model.text()?.tokenizer();
    let (before, after) = (logits::log_softmax(plain), logits::log_softmax(changed));
    let mut ids: Vec<u32> = [plain, changed]
        .iter()
        .flat_map(|logits| logits::top(logits, SHOWN))
        .map(|(id, _)| id)
        .collect();
    ids.sort_by(|&a, &b| {
        before[b as usize]
            .total_cmp(&before[a as usize])
            .then(a.cmp(&b))
    });
    ids.dedup();
    ids.into_iter()
        .map(|id| {
            Ok(NextToken {
                id,
                text: tokenizer.decode(&[id], false)?,
                before: before[id as usize].exp(),
                after: after[id as usize].exp(),
            })
        })
        .collect()
}

/// The text that `with`, which is `model` or a changed view of it, writes after the prompt.
fn continuation(
    model: &TorchModel,
    with: &dyn LanguageModel,
    request: &Request,
    options: &GenerateOptions,
) -> Result<Continuation> {
    let mut generations = generate(
        with,
        model.text()?,
        std::slice::from_ref(request),
        options,
        &mut ignore,
    )?;
    let generation = generations.pop().and_then(|mut samples| samples.pop());
    Ok(generation.context("no continuation")?.into())
}

fn describe(edit: &lm_core::HeadEdit) -> String {
    match edit.kind {
        AblationKind::Undifferentiated { epsilon } => format!(
            "head {} looking everywhere alike (ε = {epsilon})",
            edit.head
        ),
        AblationKind::Contribution { factor } => {
            format!("the output of head {} times {factor}", edit.head)
        }
        _ => format!("head {} changed", edit.head),
    }
}

fn heat_map(model: &TorchModel, item: &Item, scores: &HeadScores) -> HeatMap {
    let path = model.checkpoint().path();
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let kind = match scores.kind {
        AblationKind::Undifferentiated { .. } => "uniform attention",
        AblationKind::Contribution { .. } => "scaled output",
        _ => "changed",
    };
    HeatMap {
        title: format!("KL(base ‖ head ablated) in nats, {kind}"),
        subtitle: format!("{name}: {}", item.summary()),
        x_label: "head".to_owned(),
        y_label: "layer".to_owned(),
        values: scores.kl.clone(),
    }
}
