//! A reply in progress together with its strategy and what runs beside it.

use std::borrow::Cow;

use super::batch::{Batch, Source};
use super::row::Row;
use super::run::Call;
use super::{FinishReason, Generation};
use crate::model::{Session, expect_logits};
use crate::strategy::{RowStrategy, Step};
use crate::{Error, Result};

pub(super) struct Live<'a> {
    pub(super) row: Row<'a>,
    /// Its row of the session.
    pub(super) place: usize,
    pub(super) strategy: Option<Box<dyn RowStrategy + 'a>>,
    /// By the numbers the strategy knows them by; none without a strategy.
    pub(super) streams: Vec<Running<'a>>,
}

/// A stream of a reply.
pub(super) struct Running<'a> {
    /// Tokens of its prompt.
    pub(super) prompt: usize,
    pub(super) at: At<'a>,
}

pub(super) enum At<'a> {
    /// This row of the reply's session.
    Beside(usize),
    Alone(Alone<'a>),
    Dropped,
}

/// A stream with a session of its own, which reads when it is asked.
pub(super) struct Alone<'a> {
    source: Source<'a>,
    session: Option<Box<dyn Session + 'a>>,
    unread: Vec<u32>,
    /// After what has been read.
    logits: Vec<f32>,
}

impl<'a> Alone<'a> {
    pub(super) fn new(source: Source<'a>, prompt: Vec<u32>) -> Self {
        Self {
            source,
            session: None,
            unread: prompt,
            logits: Vec::new(),
        }
    }

    /// Reads what is unread and returns the logits after it, `[vocab]`.
    fn read(&mut self) -> Result<Vec<f32>> {
        if !self.unread.is_empty() {
            let session = match &mut self.session {
                Some(session) => session,
                none => none.insert(self.source.begin_blind()?),
            };
            let next = session.extend(&[&self.unread])?;
            let next = expect_logits(next, 1, self.source.model().vocab_size())?;
            self.logits = next.into_iter().collect();
            self.unread.clear();
        }
        Ok(self.logits.clone())
    }
}

impl<'a> Live<'a> {
    /// Without a strategy.
    pub(super) fn plain(row: Row<'a>, place: usize) -> Self {
        Self {
            row,
            place,
            strategy: None,
            streams: Vec::new(),
        }
    }

    /// Chooses a token. Says why the reply ends, if it does.
    pub(super) fn step(
        &mut self,
        call: &mut Call<'_>,
        batch: &Batch<'_, '_>,
    ) -> Result<Option<FinishReason>> {
        let own = batch.logits(self.place);
        let refined = self.refined(own, batch)?;
        if let Some(refined) = refined.as_ref().filter(|found| found.len() != own.len()) {
            return Err(Error::argument(
                "logits of a strategy",
                own.len().to_string(),
                refined.len(),
            ));
        }
        let finish = self.row.step(own, refined.as_deref(), call)?;
        if finish.is_some() {
            return Ok(finish);
        }
        let generated = self.row.generated().len();
        if let Some(strategy) = &self.strategy {
            for (index, stream) in self.streams.iter_mut().enumerate() {
                if !strategy.keeps(index, generated) {
                    stream.at = At::Dropped;
                }
            }
        }
        // A stream that is needed and has no positions left ends the reply as the reply's own row would.
        let full = |stream: &Running<'_>| {
            let dropped = matches!(stream.at, At::Dropped);
            !dropped
                && call
                    .context
                    .is_some_and(|limit| stream.prompt + generated > limit)
        };
        Ok(self
            .streams
            .iter()
            .any(full)
            .then_some(FinishReason::Context))
    }

    fn refined(&mut self, own: &[f32], batch: &Batch<'_, '_>) -> Result<Option<Vec<f32>>> {
        let Some(strategy) = &mut self.strategy else {
            return Ok(None);
        };
        let streams = &mut self.streams;
        let mut read = |index: usize| match &mut streams.get_mut(index)?.at {
            At::Beside(place) => Some(Ok(Cow::Borrowed(batch.logits(*place)))),
            At::Alone(alone) => Some(alone.read().map(Cow::Owned)),
            At::Dropped => None,
        };
        let mut step = Step {
            prompt: self.row.prompt(),
            generated: self.row.generated(),
            logits: own,
            captured: batch.captured(self.place),
            read: &mut read,
        };
        strategy.refine(&mut step)
    }

    /// Takes its places in the next batch: which present row stands there, and what it is fed.
    pub(super) fn advance(&mut self, rows: &mut Vec<usize>, tokens: &mut Vec<u32>) {
        let Some(&token) = self.row.generated().last() else {
            return;
        };
        let mut take = |place: &mut usize| {
            rows.push(*place);
            tokens.push(token);
            *place = rows.len() - 1;
        };
        take(&mut self.place);
        for stream in &mut self.streams {
            match &mut stream.at {
                At::Beside(place) => take(place),
                At::Alone(alone) => alone.unread.push(token),
                At::Dropped => {}
            }
        }
    }

    pub(super) fn finish(
        self,
        finish: FinishReason,
        call: &mut Call<'_>,
    ) -> Result<(usize, Generation)> {
        let (request, generation) = self.row.finish(finish, call.on_piece)?;
        if let Some(mut strategy) = self.strategy {
            strategy.end(&generation.tokens, generation.finish);
        }
        Ok((request, generation))
    }
}
