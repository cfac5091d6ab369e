//! Sessions, with or without states to see, and the newest logits of their rows.

use ndarray::Array2;

use crate::Result;
use crate::model::{Intervention, LanguageModel, OpenModel, OpenSession, Session, expect_logits};
use crate::sites::{Capture, Captured};

/// Where sessions come from.
#[derive(Clone, Copy)]
pub(super) enum Source<'m> {
    Plain(&'m dyn LanguageModel),
    Open {
        model: &'m dyn OpenModel,
        intervention: &'m Intervention,
        capture: &'m Capture,
    },
}

impl<'m> Source<'m> {
    pub(super) fn model(self) -> &'m dyn LanguageModel {
        match self {
            Self::Plain(model) => model,
            Self::Open { model, .. } => model,
        }
    }

    pub(super) fn begin(self, rows: usize) -> Result<Rows<'m>> {
        Ok(match self {
            Self::Plain(model) => Rows::Plain(model.begin(rows)?),
            Self::Open {
                model,
                intervention,
                capture,
            } => Rows::Open(model.begin_open(rows, intervention, capture)?),
        })
    }

    /// One row whose states nobody wants to see.
    pub(super) fn begin_blind(self) -> Result<Box<dyn Session + 'm>> {
        match self {
            Self::Plain(model) => model.begin(1),
            Self::Open {
                model,
                intervention,
                ..
            } => {
                let session: Box<dyn Session + 'm> =
                    model.begin_open(1, intervention, &Capture::none())?;
                Ok(session)
            }
        }
    }
}

/// A session of either kind.
pub(super) enum Rows<'m> {
    Plain(Box<dyn Session + 'm>),
    Open(Box<dyn OpenSession + 'm>),
}

impl Rows<'_> {
    pub(super) fn session(&mut self) -> &mut dyn Session {
        match self {
            Self::Plain(session) => session.as_mut(),
            Self::Open(session) => session.as_mut(),
        }
    }
}

/// A session together with what it returned last.
pub(super) struct Batch<'b, 'm> {
    rows: &'b mut Rows<'m>,
    vocab: usize,
    next: Array2<f32>,
    /// For each row of the session the row of `next`, and of the captured states, that is its own.
    origin: Vec<usize>,
}

impl<'b, 'm> Batch<'b, 'm> {
    /// Feeds a chunk to each row of `rows`.
    pub(super) fn read(rows: &'b mut Rows<'m>, chunks: &[&[u32]], vocab: usize) -> Result<Self> {
        let next = expect_logits(rows.session().extend(chunks)?, chunks.len(), vocab)?;
        Ok(Self {
            rows,
            vocab,
            next,
            origin: (0..chunks.len()).collect(),
        })
    }

    /// Keeps, repeats and reorders rows.
    pub(super) fn select(&mut self, rows: &[usize]) -> Result<()> {
        if rows.iter().copied().eq(0..self.origin.len()) {
            return Ok(());
        }
        self.rows.session().select(rows)?;
        self.origin = rows.iter().map(|&row| self.origin[row]).collect();
        Ok(())
    }

    /// Feeds a token to each row.
    pub(super) fn append(&mut self, tokens: &[u32]) -> Result<()> {
        let next = self.rows.session().append(tokens)?;
        self.next = expect_logits(next, tokens.len(), self.vocab)?;
        self.origin = (0..tokens.len()).collect();
        Ok(())
    }

    /// Logits after the newest token of `row`, `[vocab]`; empty for a row that does not exist.
    pub(super) fn logits(&self, row: usize) -> &[f32] {
        let start = self.origin.get(row).map(|&row| row * self.vocab);
        let own = start.and_then(|start| self.next.as_slice()?.get(start..start + self.vocab));
        own.unwrap_or_default()
    }

    /// States of what `row` was fed last, if the session keeps any.
    pub(super) fn captured(&self, row: usize) -> Option<&Captured> {
        match &self.rows {
            Rows::Plain(_) => None,
            Rows::Open(session) => session.captured().get(*self.origin.get(row)?),
        }
    }
}
