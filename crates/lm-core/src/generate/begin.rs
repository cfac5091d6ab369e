//! Beginning the replies of a wave: their prompts and those of their streams, read in one batch.

use std::collections::BTreeMap;

use super::batch::{Batch, Rows, Source};
use super::live::{Alone, At, Live, Running};
use super::plan::Wave;
use super::row::Row;
use super::{Determinism, GenerateOptions, Request};
use crate::model::check_chunks;
use crate::strategy::{Strategy, Stream};
use crate::text::TextInterface;
use crate::{Error, Result};

/// What all waves of one call have in common.
pub(super) struct Work<'a> {
    pub(super) source: Source<'a>,
    pub(super) text: &'a TextInterface,
    pub(super) requests: &'a [Request],
    pub(super) options: &'a GenerateOptions,
    pub(super) strategy: &'a dyn Strategy,
    /// Of each request.
    pub(super) streams: &'a [Vec<Stream<'a>>],
}

/// The prompts to be read, and who continues them.
pub(super) struct Opening<'a> {
    prompts: Vec<&'a [u32]>,
    /// For each row of the session the prompt it continues.
    rows: Vec<usize>,
    pub(super) replies: Vec<Live<'a>>,
}

impl<'a> Work<'a> {
    /// The replies of `wave`, not yet read.
    pub(super) fn open(&self, wave: &Wave) -> Result<Opening<'a>> {
        let mut opening = Opening {
            prompts: Vec::new(),
            rows: Vec::new(),
            replies: Vec::new(),
        };
        let exact = self.options.determinism == Determinism::Exact;
        let mut beside: BTreeMap<&'a [u32], usize> = BTreeMap::new();
        let requests = wave
            .requests
            .clone()
            .zip(&self.requests[wave.requests.clone()]);
        opening.prompts.extend(
            requests
                .clone()
                .map(|(_, request)| request.tokens.as_slice()),
        );
        for (prompt, (index, request)) in requests.enumerate() {
            for sample in wave.samples.clone() {
                let row = Row::new(self.text, request, (index, sample), self.options)?;
                let mut live = Live::plain(row, opening.rows.len());
                opening.rows.push(prompt);
                live.strategy = self.strategy.begin(index, request, sample)?;
                let declared = self.streams.get(index).filter(|_| live.strategy.is_some());
                for stream in declared.into_iter().flatten() {
                    let at = if exact || stream.is_lazy() {
                        At::Alone(Alone::new(self.source, stream.prompt().to_vec()))
                    } else {
                        let prompts = &mut opening.prompts;
                        let prompt = *beside.entry(stream.prompt()).or_insert_with(|| {
                            prompts.push(stream.prompt());
                            prompts.len() - 1
                        });
                        opening.rows.push(prompt);
                        At::Beside(opening.rows.len() - 1)
                    };
                    live.streams.push(Running {
                        prompt: stream.prompt().len(),
                        at,
                    });
                }
                opening.replies.push(live);
            }
        }
        Ok(opening)
    }
}

impl Opening<'_> {
    /// How many rows the session begins with.
    pub(super) fn prompts(&self) -> usize {
        self.prompts.len()
    }

    /// Reads the prompts into a session of as many empty rows, and forks them to the replies and their streams.
    pub(super) fn read<'b, 'm>(
        &self,
        session: &'b mut Rows<'m>,
        vocab: usize,
    ) -> Result<Batch<'b, 'm>> {
        let mut batch = Batch::read(session, &self.prompts, vocab)?;
        batch.select(&self.rows)?;
        Ok(batch)
    }
}

/// The streams of each request, if all of them can be run.
///
/// # Errors
/// Streams that are empty, outside the vocabulary or longer than the context; more of them than a batch has rows.
pub(super) fn declared<'a>(
    strategy: &'a dyn Strategy,
    source: Source<'_>,
    requests: &[Request],
    options: &GenerateOptions,
) -> Result<Vec<Vec<Stream<'a>>>> {
    let (vocab, context) = (source.model().vocab_size(), source.model().context_length());
    let mut all = Vec::with_capacity(requests.len());
    for (row, request) in requests.iter().enumerate() {
        let streams = strategy.streams(row, request)?;
        if options.determinism == Determinism::Fast && streams.len() >= options.batch {
            let expected = format!(
                "at least {} for a reply to request {row} and its streams",
                streams.len() + 1
            );
            return Err(Error::argument("batch", expected, options.batch));
        }
        for (index, stream) in streams.iter().enumerate() {
            let checked = check_chunks(&[stream.prompt()], &[0], vocab, context);
            checked.map_err(|error| match error {
                Error::Empty { unit, .. } => Error::Empty {
                    what: format!("stream {index} of request {row}"),
                    unit,
                },
                Error::Context { found, limit, .. } => Error::Context { row, found, limit },
                Error::TokenId {
                    position,
                    id,
                    vocab,
                    ..
                } => Error::TokenId {
                    row,
                    position,
                    id,
                    vocab,
                },
                other => other,
            })?;
        }
        all.push(streams);
    }
    Ok(all)
}
