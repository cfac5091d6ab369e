//! One reply in progress.

use std::ops::ControlFlow;

use super::run::Call;
use super::{FinishReason, GenerateOptions, Generation, Piece, Request};
use crate::exp::bounds;
use crate::sampling::RowKey;
use crate::text::TextInterface;
use crate::tokenizer::{DecodeStream, StopMatcher, StopStrings};
use crate::{Error, Result, logits};

/// One row in progress.
pub(super) struct Row<'a> {
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
    pub(super) fn new(
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

    pub(super) fn prompt(&self) -> &[u32] {
        self.history.get(..self.prompt).unwrap_or_default()
    }

    pub(super) fn generated(&self) -> &[u32] {
        self.history.get(self.prompt..).unwrap_or_default()
    }

    /// Chooses a token from the model's `logits`, or from `refined` ones in their place, and takes it in. Says why the row
    /// ends, if it does.
    pub(super) fn step(
        &mut self,
        logits: &[f32],
        refined: Option<&[f32]>,
        call: &mut Call<'_>,
    ) -> Result<Option<FinishReason>> {
        let options = call.options;
        let step = self.logprobs.len();
        if step == 0 {
            self.first_logits = logits::top(logits, options.first_logits);
        }
        let not_a_number = || Error::argument("logits", "at least one finite number", "none");
        // The log-probability is the model's own whatever the token was chosen from.
        let ends = bounds(logits);
        let (sampling, draw) = (&options.sampling, step as u64);
        let token = match refined {
            Some(refined) => sampling.choose(refined, &self.history, &self.key, draw),
            None => sampling.choose_known(logits, ends, &self.history, &self.key, draw),
        }
        .ok_or_else(not_a_number)?;
        let logprob = logits::log_prob_within(logits, ends, token).ok_or_else(not_a_number)?;
        self.logprobs.push(logprob);
        self.history.push(token);
        let released = self.matcher.push(&self.stream.push(token)?);
        let (piece, stopped) = (released.text, released.matched.is_some());
        self.text.push_str(&piece);
        let (request, sample) = self.place;
        let go_on = (call.on_piece)(Piece {
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
        } else if call.context.is_some_and(|limit| self.history.len() > limit) {
            Some(FinishReason::Context)
        } else {
            None
        })
    }

    /// Text that was held back comes out at the end.
    pub(super) fn finish(
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
