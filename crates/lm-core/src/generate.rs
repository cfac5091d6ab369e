//! Generation: prompts in, tokens and text out, over any [`LanguageModel`].

use std::ops::ControlFlow;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::chat::{Conversation, Message, Role};
use crate::logits;
use crate::model::{LanguageModel, MAX_ROWS, Session, check_chunks};
use crate::sampling::{RowKey, Sampling};
use crate::text::{Prompt, TextInterface};
use crate::tokenizer::{DecodeStream, StopMatcher, StopStrings};
use crate::{Error, Result};

/// How to generate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateOptions {
    /// Most tokens of a reply; 128 unless set.
    pub max_new_tokens: usize,
    /// How a token is chosen; greedy unless set.
    pub sampling: Sampling,
    /// Replies to each prompt; 1 unless set. Greedy ones are all alike.
    pub samples: usize,
    /// Seed of the run.
    pub seed: u64,
    /// Texts that end a reply; the reply stops before them.
    pub stop: Vec<String>,
    /// Whether the model's own stop tokens are passed over.
    pub ignore_stop_tokens: bool,
    /// Most rows that run together; 16 unless set.
    pub batch: usize,
    /// How many of the first step's largest logits to keep; none unless set.
    pub first_logits: usize,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_new_tokens: 128,
            sampling: Sampling::greedy(),
            samples: 1,
            seed: 0,
            stop: Vec::new(),
            ignore_stop_tokens: false,
            batch: 16,
            first_logits: 0,
        }
    }
}

impl GenerateOptions {
    /// Refuses values that no generation could use.
    ///
    /// # Errors
    /// [`Error::Argument`], and an empty stop string.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [
            ("max-new-tokens", self.max_new_tokens),
            ("samples", self.samples),
            ("batch", self.batch),
        ] {
            if value == 0 {
                return Err(Error::argument(name, "at least 1", value));
            }
        }
        if self.batch > MAX_ROWS {
            let expected = format!("at most {MAX_ROWS}");
            return Err(Error::argument("batch", expected, self.batch));
        }
        StopStrings::new(self.stop.iter().map(String::as_str))?;
        self.sampling.check()
    }
}

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
    /// The caller said so.
    Cancelled,
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
    let mut done: Vec<Vec<Generation>> = requests.iter().map(|_| Vec::new()).collect();
    // A prompt of many samples goes alone if they fill the batch; more samples than that read their
    // prompt once a batch.
    let prompts = (options.batch / options.samples).max(1);
    for (chunk_index, chunk) in requests.chunks(prompts).enumerate() {
        for first in (0..options.samples).step_by(options.batch) {
            let samples = options.batch.min(options.samples - first);
            let tokens: Vec<&[u32]> = chunk
                .iter()
                .map(|request| request.tokens.as_slice())
                .collect();
            let mut session = model.begin(chunk.len())?;
            let mut next = session.extend(&tokens)?;
            let rows: Vec<usize> = (0..chunk.len())
                .flat_map(|row| std::iter::repeat_n(row, samples))
                .collect();
            if samples > 1 {
                session.select(&rows)?;
                next = next.select(ndarray::Axis(0), &rows);
            }
            let mut states = Vec::with_capacity(rows.len());
            for (index, &row) in rows.iter().enumerate() {
                let sample = first + index % samples;
                let request = chunk_index * prompts + row;
                states.push(Row::new(
                    text,
                    &requests[request],
                    (request, sample),
                    options,
                )?);
            }
            for (request, generation) in
                run(session.as_mut(), next, states, model, options, on_piece)?
            {
                done[request].push(generation);
            }
        }
    }
    Ok(done)
}

fn require_room(model: &dyn LanguageModel, row: usize, tokens: usize) -> Result<()> {
    match model.context_length() {
        Some(limit) if tokens > limit => Err(Error::Context {
            row,
            found: tokens,
            limit,
        }),
        _ => Ok(()),
    }
}

/// One row in progress.
struct Row<'a> {
    /// Request and sample.
    place: (usize, usize),
    key: RowKey,
    /// Prompt and generated tokens.
    history: Vec<u32>,
    prompt: usize,
    logprobs: Vec<f64>,
    stream: DecodeStream<'a>,
    matcher: StopMatcher,
    text: String,
    stop_ids: &'a [u32],
    first_logits: Vec<(u32, f32)>,
}

impl<'a> Row<'a> {
    fn new(
        text: &'a TextInterface,
        request: &Request,
        place: (usize, usize),
        options: &GenerateOptions,
    ) -> Result<Self> {
        let stops = StopStrings::new(options.stop.iter().map(String::as_str))?;
        Ok(Self {
            place,
            key: RowKey::new(options.seed, &request.id, place.1 as u64),
            history: request.tokens.clone(),
            prompt: request.tokens.len(),
            logprobs: Vec::new(),
            stream: text.tokenizer().decode_stream(true),
            matcher: stops.matcher(),
            text: String::new(),
            stop_ids: if options.ignore_stop_tokens {
                &[]
            } else {
                text.stop_ids()
            },
            first_logits: Vec::new(),
        })
    }

    /// Chooses a token from `logits` and takes it in. Says why the row ends, if it does.
    fn step(
        &mut self,
        logits: &[f32],
        options: &GenerateOptions,
        context: Option<usize>,
        on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Result<Option<FinishReason>> {
        let step = self.logprobs.len();
        if step == 0 {
            self.first_logits = logits::top(logits, options.first_logits);
        }
        let not_a_number = || Error::argument("logits", "at least one finite number", "none");
        let token = options
            .sampling
            .choose(logits, &self.history, &self.key, step as u64)
            .ok_or_else(not_a_number)?;
        self.logprobs
            .push(logits::log_prob(logits, token).ok_or_else(not_a_number)?);
        self.history.push(token);
        let released = self.matcher.push(&self.stream.push(token)?);
        let (piece, stopped) = (released.text, released.matched.is_some());
        self.text.push_str(&piece);
        let (request, sample) = self.place;
        let go_on = on_piece(Piece {
            request,
            sample,
            token,
            text: &piece,
        });
        Ok(if self.stop_ids.contains(&token) {
            Some(FinishReason::StopToken)
        } else if stopped {
            Some(FinishReason::StopString)
        } else if go_on.is_break() {
            Some(FinishReason::Cancelled)
        } else if step + 1 == options.max_new_tokens {
            Some(FinishReason::Length)
        } else if context.is_some_and(|limit| self.history.len() > limit) {
            Some(FinishReason::Context)
        } else {
            None
        })
    }

    /// Text that was held back comes out at the end.
    fn finish(
        mut self,
        mut finish: FinishReason,
        on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Result<(usize, Generation)> {
        let mut tail = self.matcher.push(&self.stream.finish()?);
        if tail.matched.is_none() {
            let end = self.matcher.finish();
            tail.text.push_str(&end.text);
            tail.matched = end.matched;
        }
        if tail.matched.is_some() && finish != FinishReason::StopToken {
            finish = FinishReason::StopString;
        }
        if let Some(&token) = self.history.last().filter(|_| !tail.text.is_empty()) {
            let (request, sample) = self.place;
            // The row is over whatever is answered.
            let _ = on_piece(Piece {
                request,
                sample,
                token,
                text: &tail.text,
            });
        }
        self.text.push_str(&tail.text);
        let generation = Generation {
            tokens: self.history.split_off(self.prompt),
            logprobs: self.logprobs,
            text: self.text,
            finish,
            first_logits: self.first_logits,
        };
        Ok((self.place.0, generation))
    }
}

/// Runs rows to their ends, dropping those that are done from the session. The results are in the rows' order.
fn run(
    session: &mut dyn Session,
    mut next: Array2<f32>,
    rows: Vec<Row<'_>>,
    model: &dyn LanguageModel,
    options: &GenerateOptions,
    on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
) -> Result<Vec<(usize, Generation)>> {
    let mut done: Vec<Option<(usize, Generation)>> = rows.iter().map(|_| None).collect();
    let mut live: Vec<(usize, Row<'_>)> = rows.into_iter().enumerate().collect();
    loop {
        let mut going = Vec::with_capacity(live.len());
        let mut kept = Vec::with_capacity(live.len());
        for (index, (slot, mut row)) in live.into_iter().enumerate() {
            let logits = next.row(index);
            let logits = logits.as_standard_layout();
            let logits = logits.as_slice().unwrap_or_default();
            match row.step(logits, options, model.context_length(), on_piece)? {
                Some(finish) => done[slot] = Some(row.finish(finish, on_piece)?),
                None => {
                    kept.push(index);
                    going.push((slot, row));
                }
            }
        }
        live = going;
        if live.is_empty() {
            return Ok(done.into_iter().flatten().collect());
        }
        if kept.len() < session.rows() {
            session.select(&kept)?;
        }
        let tokens: Vec<u32> = live
            .iter()
            .filter_map(|(_, row)| row.history.last().copied())
            .collect();
        next = session.append(&tokens)?;
    }
}

/// A conversation that goes on: keeps what the model has read, so that a turn costs only what is new in it.
pub struct Dialogue<'a> {
    model: &'a dyn LanguageModel,
    text: &'a TextInterface,
    session: Box<dyn Session + 'a>,
    /// What the session has read.
    read: Vec<u32>,
    conversation: Conversation,
}

impl std::fmt::Debug for Dialogue<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialogue")
            .field("conversation", &self.conversation)
            .field("tokens_read", &self.read.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Dialogue<'a> {
    /// Starts from `opening`, which may be empty or hold a system message and earlier turns.
    ///
    /// # Errors
    /// What the model refuses.
    pub fn new(
        model: &'a dyn LanguageModel,
        text: &'a TextInterface,
        opening: Conversation,
    ) -> Result<Self> {
        Ok(Self {
            model,
            text,
            session: model.begin(1)?,
            read: Vec::new(),
            conversation: opening,
        })
    }

    /// All turns so far.
    pub fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// Tokens the model holds.
    pub fn tokens_read(&self) -> usize {
        self.read.len()
    }

    /// Adds a turn of the user and answers it. Returns the reply and how many tokens of the prompt had been read before.
    /// After an error the conversation is as it was.
    ///
    /// # Errors
    /// As [`generate`]. The number of samples must be 1.
    pub fn say(
        &mut self,
        user: impl Into<String>,
        options: &GenerateOptions,
        on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Result<(Generation, usize)> {
        options.check()?;
        if options.samples != 1 {
            return Err(Error::argument(
                "samples",
                "1 in a dialogue",
                options.samples,
            ));
        }
        let asked = self
            .conversation
            .clone()
            .with(Message::new(Role::User, user));
        let tokens = self.text.encode(&Prompt::Chat(asked.clone()))?.into_ids();
        require_room(self.model, 0, tokens.len())?;

        // At least one token must be fed, or there would be no logits to go on from.
        let shared = self
            .read
            .iter()
            .zip(&tokens)
            .take_while(|(read, token)| read == token)
            .count();
        let reused = shared.min(tokens.len().saturating_sub(1));
        self.session.rewind(&[reused])?;
        self.read.truncate(reused);
        let next = self.session.extend(&[&tokens[reused..]])?;
        self.read.extend_from_slice(&tokens[reused..]);

        let request = Request::unnamed(tokens);
        let row = Row::new(self.text, &request, (0, 0), options)?;
        let outcome = run(
            self.session.as_mut(),
            next,
            vec![row],
            self.model,
            options,
            on_piece,
        );
        let generation = match outcome.map(|mut done| done.pop()) {
            Ok(Some((_, generation))) => generation,
            Ok(None) => {
                return Err(Error::Empty {
                    what: "batch".to_owned(),
                    unit: "row",
                });
            }
            Err(error) => {
                // How far the session got is not known: read everything again next time.
                self.session.rewind(&[0])?;
                self.read.clear();
                return Err(error);
            }
        };
        // The last token was chosen but not read.
        let fed = generation.tokens.len().saturating_sub(1);
        self.read.extend_from_slice(&generation.tokens[..fed]);
        self.conversation = asked.with(Message::new(Role::Assistant, generation.text.as_str()));
        Ok((generation, reused))
    }
}
