//! A conversation in the terminal. What the model has read is kept, so a turn costs only what is new in it.
//!
//! ```console
//! $ cargo run --release -p lm-examples --example chat
//! ```

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;
use lm_core::{Conversation, Dialogue, GenerateOptions, Piece, TorchModel};
use lm_examples::args::{ModelArgs, SamplingArgs};
use lm_examples::command::Input;
use lm_examples::output::{self, printable};

/// Talk with a model: a line is a message, an empty line is passed over, the end of the input ends the conversation.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = HELP)]
struct Cli {
    /// System message
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    model: ModelArgs,
}

const HELP: &str = "\
/system TEXT  start again with this system message; without TEXT, with none
/reset        start again
/help         show this
/quit         leave; so does Ctrl-D";

fn main() -> ExitCode {
    let cli = Cli::parse();
    output::run(|| program(&cli))
}

fn program(cli: &Cli) -> Result<()> {
    let options = cli.sampling.options()?;
    let model = cli.model.open()?;
    let mut system = cli.system.clone();
    let mut dialogue = start(&model, system.as_deref())?;
    note("/help lists the commands, Ctrl-D ends");
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    loop {
        prompt_sign();
        line.clear();
        if input
            .read_until(b'\n', &mut line)
            .context("standard input")?
            == 0
        {
            if io::stdin().is_terminal() {
                writeln!(io::stderr()).ok();
            }
            return Ok(());
        }
        let Ok(text) = std::str::from_utf8(&line) else {
            note("expected UTF-8, found other bytes; the line was passed over");
            continue;
        };
        match Input::parse(text) {
            Input::Message(message) => answer(&mut dialogue, message, &options)?,
            Input::System(text) => {
                system = text.map(str::to_owned);
                dialogue = start(&model, system.as_deref())?;
                note("started again");
            }
            Input::Reset => {
                dialogue = start(&model, system.as_deref())?;
                note("started again");
            }
            Input::Help => note(HELP),
            Input::Quit => return Ok(()),
            Input::Nothing => {}
            Input::Unknown(word) => {
                note(&format!("unknown command {word}; /help lists the commands"));
            }
        }
    }
}

fn start<'a>(model: &'a TorchModel, system: Option<&str>) -> Result<Dialogue<'a>> {
    let opening = match system {
        Some(text) => Conversation::new().system(text),
        None => Conversation::new(),
    };
    Ok(Dialogue::new(model, model.text()?, opening)?)
}

/// Streams the reply. What the model refuses, such as a conversation that has outgrown its context, is said; the conversation is
/// then as it was and goes on.
fn answer(dialogue: &mut Dialogue<'_>, message: &str, options: &GenerateOptions) -> Result<()> {
    let started = Instant::now();
    let mut first = None;
    let mut gone = None;
    let outcome = dialogue.say(message, options, &mut |piece: Piece<'_>| {
        first.get_or_insert_with(|| started.elapsed());
        let mut out = io::stdout().lock();
        match write!(out, "{}", printable(piece.text)).and_then(|()| out.flush()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                gone = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    if let Some(error) = gone {
        return Err(error.into());
    }
    let (reply, reused) = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            note(&format!("error: {error}"));
            return Ok(());
        }
    };
    writeln!(io::stdout())?;
    let first = first.unwrap_or_default();
    // The first token belongs to the reading of the prompt, the others to their own steps.
    let seconds = (started.elapsed() - first).as_secs_f64();
    let steps = reply.tokens.len().saturating_sub(1);
    let speed = if seconds > 0.0 && steps > 0 {
        format!(", {:.1} tokens/s", steps as f64 / seconds)
    } else {
        String::new()
    };
    let read = dialogue.tokens_read().saturating_sub(steps);
    note(&format!(
        "{} tokens{speed}; first after {:.2} s; {reused} of {read} prompt tokens reused",
        reply.tokens.len(),
        first.as_secs_f64(),
    ));
    Ok(())
}

/// Says something about the conversation beside it: dim on a terminal, and never on standard output.
fn note(text: &str) {
    let mut out = io::stderr();
    let text = printable(text);
    // Nobody is left to tell when standard error is closed.
    let _ = if out.is_terminal() {
        writeln!(out, "\u{1b}[2m{text}\u{1b}[0m")
    } else {
        writeln!(out, "{text}")
    };
}

fn prompt_sign() {
    if io::stdin().is_terminal() {
        let mut out = io::stderr();
        let _ = write!(out, "> ").and_then(|()| out.flush());
    }
}
