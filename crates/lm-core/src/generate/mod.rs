//! Generation: prompts in, tokens and text out, over any [`LanguageModel`].

mod dialogue;
mod limits;
mod options;
mod plan;
mod row;
mod run;

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

pub use self::dialogue::Dialogue;
pub use self::limits::CancelToken;
use self::limits::Limits;
pub use self::options::GenerateOptions;
use self::plan::Plan;
use self::row::Row;
use self::run::run;
use crate::model::{LanguageModel, check_chunks};
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
    options.check()?;
    if requests.is_empty() {
        return Err(Error::Empty {
            what: "batch".to_owned(),
            unit: "row",
        });
    }
    // All of them before any is run: an error late in a long list would cost what was generated before it.
    let prompts: Vec<&[u32]> = requests
        .iter()
        .map(|request| request.tokens.as_slice())
        .collect();
    check_chunks(
        &prompts,
        &vec![0; prompts.len()],
        model.vocab_size(),
        model.context_length(),
    )?;
    let mut limits = Limits::start(options);
    let mut plan = Plan::new(requests.len(), options.samples, options.batch);
    let mut done: Vec<Vec<Generation>> = requests.iter().map(|_| Vec::new()).collect();
    let stopped = loop {
        if let Some(reason) = limits.reached() {
            break reason;
        }
        let Some(wave) = plan.next(|wave| limits.afford(wave.least(requests))) else {
            break FinishReason::Budget;
        };
        let samples = wave.samples.len();
        let tokens: Vec<&[u32]> = prompts[wave.requests.clone()].to_vec();
        limits.spend(tokens.iter().map(|prompt| prompt.len()).sum());
        let mut session = model.begin(tokens.len())?;
        let mut next = session.extend(&tokens)?;
        let rows: Vec<usize> = (0..tokens.len())
            .flat_map(|row| std::iter::repeat_n(row, samples))
            .collect();
        if samples > 1 {
            session.select(&rows)?;
            next = next.select(ndarray::Axis(0), &rows);
        }
        let mut states = Vec::with_capacity(rows.len());
        for request in wave.requests {
            for sample in wave.samples.clone() {
                states.push(Row::new(
                    text,
                    &requests[request],
                    (request, sample),
                    options,
                )?);
            }
        }
        let ended = run(
            session.as_mut(),
            next,
            states,
            model,
            options,
            &mut limits,
            on_piece,
        )?;
        for (request, generation) in ended {
            done[request].push(generation);
        }
    };
    for replies in &mut done {
        // Nothing is missing where the loop ended because all were done.
        replies.resize_with(options.samples, || Generation::not_begun(stopped));
    }
    Ok(done)
}
