//! Generation: prompts in, tokens and text out, over any [`LanguageModel`].

mod batch;
mod begin;
mod dialogue;
mod limits;
mod live;
mod options;
mod plan;
mod row;
mod run;

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use self::batch::Source;
use self::begin::Work;
pub use self::dialogue::Dialogue;
pub use self::limits::CancelToken;
use self::limits::Limits;
pub use self::options::{Determinism, GenerateOptions};
use self::plan::Plan;
use self::run::{Call, run};
use crate::model::{Intervention, LanguageModel, OpenModel, check_chunks};
use crate::strategy::{Plain, Strategy};
use crate::text::TextInterface;
use crate::{Error, Result};

/// A prompt to continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names the item: its draws depend on this and on the seed, not on its place in the list.
    pub id: String,
    /// What the model is fed.
    pub tokens: Vec<u32>,
}

impl Request {
    /// A prompt that has no name of its own: its tokens are its name, so that different prompts draw independently.
    pub fn unnamed(tokens: Vec<u32>) -> Self {
        let ids: Vec<String> = tokens.iter().map(u32::to_string).collect();
        Self {
            id: ids.join(","),
            tokens,
        }
    }
}

/// One generated continuation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// The generated ids, a stop token included.
    pub tokens: Vec<u32>,
    /// Natural log-probability of each under the model's own distribution, before temperature and filters.
    pub logprobs: Vec<f64>,
    /// The text, without special tokens, cut before a stop string.
    pub text: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// Largest logits of the first step, largest first, as many as [`GenerateOptions::first_logits`].
    pub first_logits: Vec<(u32, f32)>,
}

impl Generation {
    /// What a request gets that was not begun.
    fn not_begun(finish: FinishReason) -> Self {
        Self {
            tokens: Vec::new(),
            logprobs: Vec::new(),
            text: String::new(),
            finish,
            first_logits: Vec::new(),
        }
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinishReason {
    /// The model produced one of its stop tokens.
    StopToken,
    /// One of the stop strings appeared.
    StopString,
    /// [`GenerateOptions::max_new_tokens`] were produced.
    Length,
    /// The model has no positions left.
    Context,
    /// The caller said so, by the callback or by [`GenerateOptions::cancel`].
    Cancelled,
    /// [`GenerateOptions::token_budget`] or [`GenerateOptions::time_budget`] was used up.
    Budget,
}

/// What is streamed: one token and the text it completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Index of the request.
    pub request: usize,
    /// Which of its samples.
    pub sample: usize,
    /// The token.
    pub token: u32,
    /// Text that is now certain: whole characters, and nothing that may be the beginning of a stop string.
    pub text: &'a str,
}

/// Streams to nobody.
pub fn ignore(_: Piece<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Continues each request [`GenerateOptions::samples`] times. The samples that run together share one reading of their prompt.
///
/// `on_piece` is called for each token as it comes and may end its row.
///
/// When a budget is used up, or the call is cancelled, replies in progress end where they are, with
/// [`FinishReason::Budget`] or [`FinishReason::Cancelled`]; those that were not begun come back without tokens and with the
/// same reason. There are always as many replies to each request as were asked for. Requests are begun in their order: one
/// for whose prompt and first token the budget does not suffice keeps those after it waiting too.
///
/// # Errors
/// No requests, options out of range, prompts that are empty or leave no room in the context, and what the model refuses.
pub fn generate(
    model: &dyn LanguageModel,
    text: &TextInterface,
    requests: &[Request],
    options: &GenerateOptions,
    on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
) -> Result<Vec<Vec<Generation>>> {
    generate_with(model, text, requests, options, &Plain, on_piece)
}

/// [`generate`] with a way of decoding.
///
/// # Errors
/// Those of [`generate`] and of `strategy`; streams that are empty, too long, or more than [`GenerateOptions::batch`] has
/// rows for; a strategy that wants to see states.
pub fn generate_with(
    model: &dyn LanguageModel,
    text: &TextInterface,
    requests: &[Request],
    options: &GenerateOptions,
    strategy: &dyn Strategy,
    on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
) -> Result<Vec<Vec<Generation>>> {
    let capture = strategy.capture();
    if !capture.sites.is_empty() {
        return Err(Error::argument(
            "strategy",
            "one that wants no states: they are shown by generate_open only",
            format!("{:?}", capture.sites),
        ));
    }
    in_waves(
        Source::Plain(model),
        text,
        requests,
        options,
        strategy,
        on_piece,
    )
}

/// [`generate_with`] over a model that lets itself be looked into: changed throughout, streams included, and with the states
/// that the strategy wants to see.
///
/// # Errors
/// Those of [`generate_with`]; heads and sites the model does not have.
pub fn generate_open(
    model: &dyn OpenModel,
    intervention: &Intervention,
    text: &TextInterface,
    requests: &[Request],
    options: &GenerateOptions,
    strategy: &dyn Strategy,
    on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
) -> Result<Vec<Vec<Generation>>> {
    let capture = &strategy.capture();
    let source = Source::Open {
        model,
        intervention,
        capture,
    };
    in_waves(source, text, requests, options, strategy, on_piece)
}

fn in_waves(
    source: Source<'_>,
    text: &TextInterface,
    requests: &[Request],
    options: &GenerateOptions,
    strategy: &dyn Strategy,
    on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
) -> Result<Vec<Vec<Generation>>> {
    options.check()?;
    if requests.is_empty() {
        return Err(Error::Empty {
            what: "batch".to_owned(),
            unit: "row",
        });
    }
    // All of them before any is run: an error late in a long list would cost what was generated before it.
    let model = source.model();
    let (vocab, context) = (model.vocab_size(), model.context_length());
    let prompts: Vec<&[u32]> = requests
        .iter()
        .map(|request| request.tokens.as_slice())
        .collect();
    check_chunks(&prompts, &vec![0; prompts.len()], vocab, context)?;
    let streams = begin::declared(strategy, source, requests, options)?;
    let work = Work {
        source,
        text,
        requests,
        options,
        strategy,
        streams: &streams,
    };
    let mut call = Call {
        options,
        context,
        limits: Limits::start(options),
        on_piece,
    };
    let widths = streams.iter().map(|streams| 1 + streams.len()).collect();
    let together = options.determinism.together(options.batch);
    let mut plan = Plan::new(widths, options.samples, together);
    let mut done: Vec<Vec<Generation>> = requests.iter().map(|_| Vec::new()).collect();
    let stopped = loop {
        if let Some(reason) = call.limits.reached() {
            break reason;
        }
        let Some(wave) = plan.next(|wave| call.limits.afford(wave.least(requests))) else {
            break FinishReason::Budget;
        };
        call.limits.spend(wave.read(requests));
        let opening = work.open(&wave)?;
        let mut session = source.begin(opening.prompts())?;
        let batch = opening.read(&mut session, vocab)?;
        for (request, generation) in run(&mut call, batch, opening.replies)? {
            done[request].push(generation);
        }
    };
    for replies in &mut done {
        // Nothing is missing where the loop ended because all were done.
        replies.resize_with(options.samples, || Generation::not_begun(stopped));
    }
    Ok(done)
}
