//! The three traits, each adding one power, and the default session that makes the second one cheap to implement.
//!
//! | trait | gives | needs |
//! | --- | --- | --- |
//! | [`ChatModel`] | replies to a conversation | anything that talks |
//! | [`LanguageModel`] | next-token logits of token ids, in [`Session`]s | only [`LanguageModel::next_logits`] of a token list |
//! | [`OpenModel`] | runs with heads switched off and states kept | the libtorch engine |
//!
//! The traits speak plain types: `u32` token ids, `ndarray` of `f32`, this crate's structs. Write a method against the
//! weakest trait that suffices.

use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::chat::Conversation;
use crate::generate::{FinishReason, GenerateOptions};
use crate::heads::HeadAblation;
use crate::kv_heads::KvAblation;
use crate::patch::Patch;
use crate::score::{self, ScoreOptions};
use crate::sites::{Capture, Captured, Positions};
use crate::{Error, Result, logits};

/// A reply to a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The text, without end-of-turn markers.
    pub text: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// Tokens read and written.
    pub usage: TokenCounts,
}

/// Tokens read and written for one reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens generated.
    pub completion: usize,
}

/// Something that answers conversations: a local model, a remote server, a defended model, a scripted test double.
pub trait ChatModel: Send + Sync {
    /// Answers `conversation`, [`GenerateOptions::samples`] times. A conversation that ends inside an assistant turn is
    /// continued there.
    ///
    /// # Errors
    /// Whatever the model, its template or its transport refuses.
    fn reply(&self, conversation: &Conversation, options: &GenerateOptions) -> Result<Vec<Reply>>;
}

/// Token ids to next-token logits.
///
/// Only the two required methods are needed to plug in another engine; the default session recomputes the whole row at
/// every step and is the oracle the fast ones are tested against.
pub trait LanguageModel: Send + Sync {
    /// Entries of the vocabulary, which is the length of every logits row.
    fn vocab_size(&self) -> usize;

    /// Logits of the token after `tokens`, `[vocab]`.
    ///
    /// # Errors
    /// Empty or too many tokens, ids outside the vocabulary, and what the engine refuses.
    fn next_logits(&self, tokens: &[u32]) -> Result<Array1<f32>>;

    /// Most tokens a row may hold, if there is a limit.
    fn context_length(&self) -> Option<usize> {
        None
    }

    /// Starts a session of `rows` empty rows.
    ///
    /// # Errors
    /// No rows, or what the engine refuses.
    fn begin(&self, rows: usize) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(PlainSession::new(self, rows)?))
    }

    /// Teacher-forced scores: for each token of `continuation` its natural log-probability after `prefix` and the tokens
    /// before it.
    ///
    /// # Errors
    /// An empty prefix or continuation, ids outside the vocabulary, and what the engine refuses.
    fn score(&self, prefix: &[u32], continuation: &[u32]) -> Result<Vec<f64>> {
        check_score(
            prefix,
            continuation,
            self.vocab_size(),
            self.context_length(),
        )?;
        let mut session = self.begin(1)?;
        let mut row = session.extend(&[prefix])?;
        let mut scores = Vec::with_capacity(continuation.len());
        for (position, &id) in continuation.iter().enumerate() {
            let next = row.row(0);
            let next = next.as_standard_layout();
            let score = next.as_slice().and_then(|next| logits::log_prob(next, id));
            scores.push(score.ok_or(Error::TokenId {
                row: 0,
                position,
                id,
                vocab: self.vocab_size(),
            })?);
            if position + 1 < continuation.len() {
                row = session.append(&[id])?;
            }
        }
        Ok(scores)
    }

    /// [`LanguageModel::score`] of each of `continuations`, in their order, at the price of their distinct beginnings: the
    /// prefix is read once, and so is every token that several continuations have in common.
    ///
    /// Equal to scoring one by one up to the engine's rounding, which may depend on which rows run together. The default
    /// works on a session; an engine that knows better may replace it.
    ///
    /// # Errors
    /// Those of [`LanguageModel::score`], the row named being the continuation's place in the list; an empty list; options
    /// out of range.
    fn score_many(
        &self,
        prefix: &[u32],
        continuations: &[&[u32]],
        options: &ScoreOptions,
    ) -> Result<Vec<Vec<f64>>> {
        score::score_many(self, prefix, continuations, options)
    }
}

/// Rows of tokens that grow, with whatever the engine keeps to make growing cheap.
pub trait Session: Send {
    /// Number of rows.
    fn rows(&self) -> usize;

    /// Tokens of `row` so far; 0 for a row that does not exist.
    fn len(&self, row: usize) -> usize;

    /// Whether no row holds a token.
    fn is_empty(&self) -> bool {
        (0..self.rows()).all(|row| self.len(row) == 0)
    }

    /// Appends one chunk to each row, lengths as they come, and returns the logits after each row's last token,
    /// `[row, vocab]`.
    ///
    /// # Errors
    /// As many chunks as rows, none empty, ids inside the vocabulary, rows within the context. After an error the session
    /// is as it was before the call.
    fn extend(&mut self, chunks: &[&[u32]]) -> Result<Array2<f32>>;

    /// Appends one token to each row: [`Session::extend`] by chunks of one.
    ///
    /// # Errors
    /// As [`Session::extend`].
    fn append(&mut self, tokens: &[u32]) -> Result<Array2<f32>> {
        let chunks: Vec<&[u32]> = tokens.iter().map(std::slice::from_ref).collect();
        self.extend(&chunks)
    }

    /// Makes the rows `rows[0], rows[1], …` of the present ones: drops, repeats and reorders. `&[0; 20]` forks the first
    /// row into twenty.
    ///
    /// # Errors
    /// An empty list or a row that does not exist.
    fn select(&mut self, rows: &[usize]) -> Result<()>;

    /// Forgets all but the first `lengths[row]` tokens of each row.
    ///
    /// # Errors
    /// Not one length for each row, or a length beyond the row's.
    fn rewind(&mut self, lengths: &[usize]) -> Result<()>;

    /// This session as one that scores the tokens it reads, if it can do so in one pass.
    fn scoring(&mut self) -> Option<&mut dyn ScoringSession> {
        None
    }
}

/// A session that scores a chunk while it reads it. Whoever has a session without this appends token by token, which no chunk
/// of another length beside it allows: a row cannot stand still.
pub trait ScoringSession: Session {
    /// [`Session::extend`], and beside its logits the scores of what was read.
    ///
    /// # Errors
    /// As [`Session::extend`].
    fn extend_scored(&mut self, chunks: &[&[u32]]) -> Result<Scored>;
}

/// What [`ScoringSession::extend_scored`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// For each row the natural log-probability of each token of its chunk but the first, after all tokens before it: one
    /// less than the chunk has tokens.
    pub scores: Vec<Vec<f64>>,
    /// Logits after each row's last token, `[row, vocab]`.
    pub next: Array2<f32>,
}

/// A session that lets the states of its newest tokens be read.
pub trait OpenSession: Session {
    /// What the session's [`Capture`] named, of the chunks of the last [`Session::extend`] that succeeded, one entry a row in
    /// the order of its rows then; empty before the first.
    fn captured(&self) -> &[Captured];
}

/// What is changed in a model's computation, as one value. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Intervention {
    /// Query heads to switch off.
    pub ablation: HeadAblation,
    /// Key/value heads to change.
    pub kv_ablation: KvAblation,
    /// States to write, in this order where several meet.
    pub patches: Vec<Patch>,
}

impl Intervention {
    /// Changes nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a change on the key/value side.
    #[must_use]
    pub fn with_kv(mut self, ablation: KvAblation) -> Self {
        self.kv_ablation = ablation;
        self
    }

    /// Adds a patch.
    #[must_use]
    pub fn with_patch(mut self, patch: Patch) -> Self {
        self.patches.push(patch);
        self
    }

    /// Refuses what such a model does not have.
    ///
    /// # Errors
    /// Those of [`HeadAblation::check`], [`KvAblation::check`] and [`Patch::check`].
    pub fn check(&self, shape: &ModelShape) -> Result<()> {
        self.ablation.check(shape.layers, shape.heads)?;
        self.kv_ablation.check(shape.layers, shape.kv_heads)?;
        self.patches.iter().try_for_each(|patch| patch.check(shape))
    }
}

impl From<HeadAblation> for Intervention {
    fn from(ablation: HeadAblation) -> Self {
        Self {
            ablation,
            ..Self::default()
        }
    }
}

impl From<KvAblation> for Intervention {
    fn from(ablation: KvAblation) -> Self {
        Self::none().with_kv(ablation)
    }
}

impl From<Patch> for Intervention {
    fn from(patch: Patch) -> Self {
        Self::none().with_patch(patch)
    }
}

/// What [`OpenModel::run`] should do beside the plain forward pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// What is changed.
    pub intervention: Intervention,
    /// States to keep.
    pub capture: Capture,
    /// At which positions logits are wanted.
    pub logits: Positions,
}

/// What [`OpenModel::run`] found, one entry a row.
#[derive(Clone, Debug, PartialEq)]
pub struct RunOutput {
    /// `[position, vocab]` for each row: one position for [`Positions::Last`].
    pub logits: Vec<Array2<f32>>,
    /// The captured states of each row.
    pub captured: Vec<Captured>,
}

/// A model that lets itself be looked into and changed.
pub trait OpenModel: LanguageModel {
    /// Its dimensions.
    fn shape(&self) -> ModelShape;

    /// One forward pass over `prompts` (lengths as they come) with the interventions of `run`.
    ///
    /// # Errors
    /// Those of [`Session::extend`]; heads and sites the model does not have.
    fn run(&self, prompts: &[&[u32]], run: &Run) -> Result<RunOutput>;

    /// Starts a session in which `intervention` holds throughout, and that keeps what `capture` names of each new chunk.
    ///
    /// # Errors
    /// Those of [`LanguageModel::begin`]; heads and sites the model does not have.
    fn begin_open(
        &self,
        rows: usize,
        intervention: &Intervention,
        capture: &Capture,
    ) -> Result<Box<dyn OpenSession + '_>>;

    /// [`OpenModel::begin_open`] with heads switched off, that keeps nothing.
    ///
    /// # Errors
    /// Those of [`OpenModel::begin_open`].
    fn begin_ablated(&self, rows: usize, ablation: &HeadAblation) -> Result<Box<dyn Session + '_>> {
        let intervention = ablation.clone().into();
        let session: Box<dyn Session + '_> =
            self.begin_open(rows, &intervention, &Capture::none())?;
        Ok(session)
    }

    /// Next-token logits of every prompt under each ablation in turn: `found(index, logits)` is called with the index of
    /// the ablation and its `[prompt, vocab]`, in order, and may stop the sweep with an error.
    ///
    /// The default is one whole run an ablation: slow, and obviously right.
    ///
    /// # Errors
    /// Those of [`OpenModel::run`] and of `found`.
    fn sweep(
        &self,
        prompts: &[&[u32]],
        ablations: &[HeadAblation],
        found: &mut dyn FnMut(usize, ArrayView2<'_, f32>) -> Result<()>,
    ) -> Result<()> {
        sweep_plainly(self, prompts, ablations, found)
    }

    /// Logits of residual states taken before the final norm: `[n, hidden]` to `[n, vocab]` (the logit lens).
    ///
    /// # Errors
    /// A width other than the model's.
    fn unembed(&self, hidden: ArrayView2<'_, f32>) -> Result<Array2<f32>>;

    /// The model with heads switched off, as a model of its own: whatever takes a [`LanguageModel`] takes it.
    ///
    /// # Errors
    /// Heads the model does not have.
    fn ablated(&self, ablation: HeadAblation) -> Result<Intervened<'_, Self>>
    where
        Self: Sized,
    {
        Intervened::new(self, ablation)
    }

    /// The model with a change applied, as a model of its own: whatever takes a [`LanguageModel`] takes it, generation too.
    ///
    /// # Errors
    /// What the model does not have.
    fn intervened(&self, intervention: impl Into<Intervention>) -> Result<Intervened<'_, Self>>
    where
        Self: Sized,
    {
        Intervened::new(self, intervention)
    }
}

/// A model seen through an [`Intervention`].
#[derive(Debug)]
pub struct Intervened<'a, M: ?Sized> {
    model: &'a M,
    intervention: Intervention,
}

impl<'a, M: OpenModel + ?Sized> Intervened<'a, M> {
    /// What [`OpenModel::intervened`] makes, for a `dyn OpenModel` too.
    ///
    /// # Errors
    /// What the model does not have.
    pub fn new(model: &'a M, intervention: impl Into<Intervention>) -> Result<Self> {
        let intervention = intervention.into();
        intervention.check(&model.shape())?;
        Ok(Self {
            model,
            intervention,
        })
    }
}

impl<M: OpenModel + ?Sized> LanguageModel for Intervened<'_, M> {
    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn next_logits(&self, tokens: &[u32]) -> Result<Array1<f32>> {
        let logits = self.begin(1)?.extend(&[tokens])?;
        Ok(logits.row(0).to_owned())
    }

    fn context_length(&self) -> Option<usize> {
        self.model.context_length()
    }

    fn begin(&self, rows: usize) -> Result<Box<dyn Session + '_>> {
        let capture = Capture::none();
        let session: Box<dyn Session + '_> =
            self.model.begin_open(rows, &self.intervention, &capture)?;
        Ok(session)
    }
}

/// Dimensions of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelShape {
    /// Blocks.
    pub layers: usize,
    /// Query heads of a layer.
    pub heads: usize,
    /// Key/value heads of a layer; query head `h` reads key/value head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Entries of the vocabulary.
    pub vocab: usize,
}

impl ModelShape {
    /// Every query head, layer by layer.
    pub fn all_heads(&self) -> impl Iterator<Item = crate::Head> + use<> {
        let heads = self.heads;
        (0..self.layers)
            .flat_map(move |layer| (0..heads).map(move |head| crate::Head::new(layer, head)))
    }
}

/// The default [`Session`]: keeps token lists and computes each row from its beginning at every step.
#[derive(Debug)]
pub struct PlainSession<'a, M: ?Sized> {
    model: &'a M,
    rows: Vec<Vec<u32>>,
}

impl<'a, M: LanguageModel + ?Sized> PlainSession<'a, M> {
    /// `rows` empty rows of `model`.
    ///
    /// # Errors
    /// No rows.
    pub fn new(model: &'a M, rows: usize) -> Result<Self> {
        require_rows(rows)?;
        Ok(Self {
            model,
            rows: vec![Vec::new(); rows],
        })
    }
}

impl<M: LanguageModel + ?Sized> Session for PlainSession<'_, M> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn len(&self, row: usize) -> usize {
        self.rows.get(row).map_or(0, Vec::len)
    }

    fn extend(&mut self, chunks: &[&[u32]]) -> Result<Array2<f32>> {
        let lengths: Vec<usize> = self.rows.iter().map(Vec::len).collect();
        check_chunks(
            chunks,
            &lengths,
            self.model.vocab_size(),
            self.model.context_length(),
        )?;
        let mut rows = self.rows.clone();
        let mut all = Array2::zeros((rows.len(), self.model.vocab_size()));
        for ((row, chunk), mut logits) in rows.iter_mut().zip(chunks).zip(all.outer_iter_mut()) {
            row.extend_from_slice(chunk);
            logits.assign(&self.model.next_logits(row)?);
        }
        self.rows = rows;
        Ok(all)
    }

    fn select(&mut self, rows: &[usize]) -> Result<()> {
        check_selection(rows, self.rows.len())?;
        self.rows = rows.iter().map(|&row| self.rows[row].clone()).collect();
        Ok(())
    }

    fn rewind(&mut self, lengths: &[usize]) -> Result<()> {
        let present: Vec<usize> = self.rows.iter().map(Vec::len).collect();
        check_rewind(lengths, &present)?;
        for (row, &length) in self.rows.iter_mut().zip(lengths) {
            row.truncate(length);
        }
        Ok(())
    }
}

/// The default [`OpenModel::sweep`], and what faster ones are held against: one whole run an ablation.
///
/// # Errors
/// Those of [`OpenModel::run`] and of `found`.
pub fn sweep_plainly<M: OpenModel + ?Sized>(
    model: &M,
    prompts: &[&[u32]],
    ablations: &[HeadAblation],
    found: &mut dyn FnMut(usize, ArrayView2<'_, f32>) -> Result<()>,
) -> Result<()> {
    for (index, ablation) in ablations.iter().enumerate() {
        let run = Run {
            intervention: ablation.clone().into(),
            ..Run::default()
        };
        let output = model.run(prompts, &run)?;
        let mut all = Array2::zeros((prompts.len(), model.vocab_size()));
        for (mut row, logits) in all.outer_iter_mut().zip(&output.logits) {
            row.assign(&logits.row(0));
        }
        found(index, all.view())?;
    }
    Ok(())
}

/// What [`Session::extend`] refuses, for every implementation of it.
///
/// # Errors
/// See [`Session::extend`].
pub fn check_chunks(
    chunks: &[&[u32]],
    lengths: &[usize],
    vocab: usize,
    context: Option<usize>,
) -> Result<()> {
    if chunks.len() != lengths.len() {
        return Err(Error::argument(
            "chunks",
            format!("one for each of {} rows", lengths.len()),
            chunks.len(),
        ));
    }
    for (row, (chunk, &length)) in chunks.iter().zip(lengths).enumerate() {
        if chunk.is_empty() {
            let what = if length == 0 {
                format!("prompt of row {row}")
            } else {
                format!("chunk of row {row}")
            };
            return Err(Error::Empty {
                what,
                unit: "token",
            });
        }
        let found = length.saturating_add(chunk.len());
        if let Some(limit) = context.filter(|&limit| found > limit) {
            return Err(Error::Context { row, found, limit });
        }
        let outside = |id: &u32| usize::try_from(*id).map_or(true, |id| id >= vocab);
        if let Some((position, &id)) = chunk.iter().enumerate().find(|(_, id)| outside(id)) {
            return Err(Error::TokenId {
                row,
                position,
                id,
                vocab,
            });
        }
    }
    Ok(())
}

/// What a session of someone's engine returned, if it is `[rows, vocab]`; its rows stand one after the other in memory.
pub(crate) fn expect_logits(next: Array2<f32>, rows: usize, vocab: usize) -> Result<Array2<f32>> {
    if next.dim() != (rows, vocab) {
        return Err(Error::argument(
            "logits of a session",
            format!("[{rows}, {vocab}]"),
            format!("{:?}", next.shape()),
        ));
    }
    Ok(if next.is_standard_layout() {
        next
    } else {
        next.as_standard_layout().into_owned()
    })
}

/// What [`Session::select`] refuses, for every implementation of it.
///
/// # Errors
/// See [`Session::select`].
pub fn check_selection(rows: &[usize], present: usize) -> Result<()> {
    require_rows(rows.len())?;
    match rows.iter().find(|&&row| row >= present) {
        Some(row) => Err(Error::argument("row", format!("below {present}"), row)),
        None => Ok(()),
    }
}

/// What [`Session::rewind`] refuses, for every implementation of it.
///
/// # Errors
/// See [`Session::rewind`].
pub fn check_rewind(lengths: &[usize], present: &[usize]) -> Result<()> {
    if lengths.len() != present.len() {
        return Err(Error::argument(
            "lengths",
            format!("one for each of {} rows", present.len()),
            lengths.len(),
        ));
    }
    match lengths
        .iter()
        .zip(present)
        .enumerate()
        .find(|(_, (length, present))| length > present)
    {
        Some((row, (length, present))) => Err(Error::argument(
            format!("length of row {row}"),
            format!("at most {present}"),
            length,
        )),
        None => Ok(()),
    }
}

/// What [`LanguageModel::score`] refuses, for every implementation of it. Positions count from the prefix's first token.
///
/// # Errors
/// See [`LanguageModel::score`].
pub fn check_score(
    prefix: &[u32],
    continuation: &[u32],
    vocab: usize,
    context: Option<usize>,
) -> Result<()> {
    for (what, tokens) in [("continuation", continuation), ("prefix", prefix)] {
        if tokens.is_empty() {
            return Err(Error::Empty {
                what: what.to_owned(),
                unit: "token",
            });
        }
    }
    check_chunks(&[&[prefix, continuation].concat()], &[0], vocab, context)
}

/// Most rows of a session or a batch: far above any use, so that a mistyped number is an error and not the end of memory.
pub const MAX_ROWS: usize = 1 << 20;

/// Refuses a batch without rows, and one of more than [`MAX_ROWS`].
///
/// # Errors
/// [`Error::Empty`] and [`Error::Argument`].
pub fn require_rows(rows: usize) -> Result<()> {
    if rows == 0 {
        Err(Error::Empty {
            what: "batch".to_owned(),
            unit: "row",
        })
    } else if rows > MAX_ROWS {
        Err(Error::argument("rows", format!("at most {MAX_ROWS}"), rows))
    } else {
        Ok(())
    }
}
