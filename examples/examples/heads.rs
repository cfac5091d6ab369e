//! Switches attention heads off and shows what that changes: the next-token distribution and the text. `--find` scores every
//! head first (query-level Ships; Zhou et al., "On the Role of Attention Heads in Large Language Model Safety", ICLR 2025,
//! equation 9) and switches off the most influential one.
//!
//! ```console
//! $ cargo run --release --example heads -- --demo
//! $ cargo run --release --example heads -- --user "What is the capital of Italy?" --ua 2-6,3-1
//! ```

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use lm_core::generate::{generate, ignore};
use lm_core::{
    AblationKind, Conversation, GenerateOptions, Head, HeadAblation, LanguageModel, OpenModel as _,
    Prompt, Request, Run, TorchModel, logits,
};
use lm_examples::args::{ModelArgs, OutputArgs, PromptArgs, SamplingArgs};
use lm_examples::figure::HeatMap;
use lm_examples::output::{self, printable};
use lm_examples::prompts::Item;
use lm_examples::results::{Continuation, HeadScores, HeadsItem, HeadsResult, NextToken};
use lm_examples::table::Table;

/// Heads and tokens that are printed; files hold all heads.
const SHOWN: usize = 10;

const DEMO_PROMPT: &str = "What is the capital of Italy?";
const DEMO_FOLDER: &str = "target/demo";
const BIGGER_MODEL: &str = "HuggingFaceTB/SmolLM2-1.7B-Instruct";

/// Switch attention heads off and show what that changes.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    prompts: PromptArgs,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Heads")]
struct Which {
    /// Make the attention of these heads uniform (undifferentiated attention), such as 2-6,3-1: layer-head, both from 0
    #[arg(long, value_name = "HEADS", value_delimiter = ',', conflicts_with_all = ["find", "demo"])]
    ua: Vec<Head>,

    /// Scale the output of these heads (scaling contribution)
    #[arg(long, value_name = "HEADS", value_delimiter = ',', conflicts_with_all = ["find", "demo"])]
    sc: Vec<Head>,

    /// Score every head by KL(base ‖ ablated) of the next token, then switch off the one with the highest score
    #[arg(long)]
    find: bool,

    /// How --find switches heads off
    #[arg(long, value_enum, default_value_t = Kind::Ua)]
    kind: Kind,

    /// Factor of the query vectors under ua; the paper uses 1e-5, 0 is its limit
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    epsilon: f32,

    /// Factor of the head's output under sc; 0 silences it
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    factor: f32,

    /// --find on a prompt that shows something, unless one is given, with results in target/demo, unless --out is given
    #[arg(long)]
    demo: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Undifferentiated attention: the head looks everywhere alike
    Ua,
    /// Scaling contribution: the head is silent
    Sc,
}

impl Which {
    fn undifferentiated(&self) -> AblationKind {
        AblationKind::Undifferentiated {
            epsilon: self.epsilon,
        }
    }

    fn contribution(&self) -> AblationKind {
        AblationKind::Contribution {
            factor: self.factor,
        }
    }

    /// What `--find` does to each head in turn.
    fn kind(&self) -> AblationKind {
        match self.kind {
            Kind::Ua => self.undifferentiated(),
            Kind::Sc => self.contribution(),
        }
    }

    /// The heads named by flags.
    fn named(&self) -> HeadAblation {
        let undifferentiated = self.ua.iter().map(|head| (*head, self.undifferentiated()));
        let silenced = self.sc.iter().map(|head| (*head, self.contribution()));
        undifferentiated
            .chain(silenced)
            .fold(HeadAblation::none(), |ablation, (head, kind)| {
                ablation.with(head, kind)
            })
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    output::run(|| program(cli))
}

fn program(mut cli: Cli) -> Result<()> {
    for (flag, factor) in [
        ("--epsilon", cli.which.epsilon),
        ("--factor", cli.which.factor),
    ] {
        if !factor.is_finite() {
            bail!("{flag}: expected a finite number, found {factor}");
        }
    }
    let options = cli.sampling.options()?;
    let mut items = cli.prompts.items()?;
    if cli.which.demo {
        cli.which.find = true;
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
    if !cli.which.find && cli.which.named().is_empty() {
        bail!("no head to switch off: give --ua or --sc, or let --find find one");
    }
    cli.output.prepare()?;

    let model = cli.model.open()?;
    let shape = model.shape();
    cli.which.named().check(shape.layers, shape.heads)?;
    let mut results = Vec::new();
    let mut figures = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let result = look_into(&model, item, &cli.which, &options)?;
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
    if cli.which.demo {
        writeln!(
            out,
            "\nthe same on a bigger model:\n  cargo run --release --example heads -- --demo --model {BIGGER_MODEL} --dtype bf16"
        )?;
    }
    Ok(())
}

/// The whole job on one prompt; prints what it finds.
fn look_into(
    model: &TorchModel,
    item: &Item,
    which: &Which,
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

    let mut ablation = which.named();
    let mut scores = None;
    if which.find {
        let found = score_all_heads(model, &request.tokens, which.kind())?;
        let ranking = ranked(&found);
        let Some(&(head, _)) = ranking.first() else {
            bail!("the model has no attention heads");
        };
        write_ranking(&mut out, &ranking)?;
        ablation = HeadAblation::none().with(head, found.kind);
        scores = Some(found);
    }

    let plain = model.next_logits(&request.tokens)?.to_vec();
    let run = Run {
        ablation: ablation.clone(),
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
    let heads: Vec<String> = ablation.edits().iter().map(describe).collect();
    writeln!(
        out,
        "with {}: KL {kl:.4} nats at the next token",
        heads.join(", ")
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
        // A NaN is an answer too: it stands out in the JSON as null, and the check below says so.
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

/// All heads, the highest score first; of equal ones the lower layer and head.
fn ranked(scores: &HeadScores) -> Vec<(Head, f64)> {
    let mut ranking: Vec<(Head, f64)> = Vec::new();
    for (layer, scores) in scores.kl.iter().enumerate() {
        ranking.extend(
            scores
                .iter()
                .enumerate()
                .map(|(head, &kl)| (Head::new(layer, head), kl)),
        );
    }
    ranking.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranking
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
    let name = model
        .checkpoint()
        .path()
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let kind = match scores.kind {
        AblationKind::Contribution { factor } => format!("output × {factor}"),
        AblationKind::Undifferentiated { epsilon } => format!("uniform attention, ε = {epsilon}"),
        _ => "changed".to_owned(),
    };
    HeatMap {
        title: "KL(base ‖ one head ablated), nats".to_owned(),
        subtitle: format!("{name}; {kind}; {:?}", item.summary()),
        x_label: "head".to_owned(),
        y_label: "layer".to_owned(),
        values: scores.kl.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_score_comes_first_and_ties_keep_the_order_of_the_model() {
        let scores = HeadScores {
            kind: AblationKind::Contribution { factor: 0.0 },
            kl: vec![vec![0.5, 0.1], vec![2.0, 0.5]],
        };
        let order: Vec<String> = ranked(&scores)
            .iter()
            .map(|(head, _)| head.to_string())
            .collect();
        assert_eq!(order, ["1-0", "0-0", "1-1", "0-1"]);
    }

    #[test]
    fn flags_name_heads_of_both_kinds() {
        let cli =
            Cli::try_parse_from(["heads", "--ua", "2-6,3-1", "--sc", "2-6", "--factor", "0.5"])
                .unwrap();
        assert_eq!(
            cli.which.named(),
            HeadAblation::undifferentiated([Head::new(2, 6), Head::new(3, 1)])
                .with(Head::new(2, 6), AblationKind::Contribution { factor: 0.5 })
        );
        for bad in [
            &["heads", "--ua", "2-x"][..],
            &["heads", "--find", "--ua", "2-6"],
        ] {
            assert!(
                Cli::try_parse_from(bad)
                    .unwrap_err()
                    .to_string()
                    .contains("--ua")
            );
        }
    }
}
