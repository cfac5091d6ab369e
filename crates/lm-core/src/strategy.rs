//! Ways of decoding: what is done to a reply's logits before a token is chosen from them.
//!
//! A [`Strategy`] is handed to [`generate_with`](crate::generate::generate_with). For each reply it may start a
//! [`RowStrategy`], which sees the logits of each step and returns those to choose from. It may let [`Stream`]s run beside
//! the reply: other prompts that are fed the same chosen tokens. Contrastive decoding and alignment-enhanced decoding (Liu
//! et al., EMNLP 2024) are a few lines each:
//!
//! ```
//! use lm_core::strategy::{RowStrategy, Step, Strategy, Stream};
//! use lm_core::{Request, Result};
//!
//! /// Takes away half of what the model would say without the user's words, for the first ten tokens.
//! struct Contrast { bare: Vec<u32> }
//!
//! impl Strategy for Contrast {
//!     fn streams(&self, _: usize, _: &Request) -> Result<Vec<Stream<'_>>> {
//!         Ok(vec![Stream::new(&self.bare)])
//!     }
//!
//!     fn begin(&self, _: usize, _: &Request, _: usize) -> Result<Option<Box<dyn RowStrategy + '_>>> {
//!         Ok(Some(Box::new(Contrasted)))
//!     }
//! }
//!
//! struct Contrasted;
//!
//! impl RowStrategy for Contrasted {
//!     fn refine(&mut self, step: &mut Step<'_>) -> Result<Option<Vec<f32>>> {
//!         if step.number() >= 10 {
//!             return Ok(None);
//!         }
//!         let bare = step.stream(0)?;
//!         Ok(Some(step.logits().iter().zip(bare.iter()).map(|(own, bare)| own - 0.5 * bare).collect()))
//!     }
//!
//!     fn keeps(&self, _: usize, step: usize) -> bool {
//!         step < 10
//!     }
//! }
//! ```

use std::borrow::Cow;

use crate::generate::{FinishReason, Request};
use crate::sites::{Capture, Captured};
use crate::{Error, Result};

/// A way of decoding. Nothing of it stays with the model: it is an argument of one call.
pub trait Strategy {
    /// States that each step is to show, by [`Step::captured`]. Only
    /// [`generate_open`](crate::generate::generate_open) has them. None unless said.
    fn capture(&self) -> Capture {
        Capture::none()
    }

    /// What runs beside each reply to `request`, the `index`-th of the call. Nothing unless said. Asked once for each
    /// request, before any is run.
    ///
    /// A reply and its streams count together against [`GenerateOptions::batch`](crate::GenerateOptions::batch).
    ///
    /// # Errors
    /// Whatever the strategy finds wrong with the request.
    fn streams(&self, index: usize, request: &Request) -> Result<Vec<Stream<'_>>> {
        let _ = (index, request);
        Ok(Vec::new())
    }

    /// Starts the `sample`-th reply to `request`, the `index`-th of the call. `None` leaves this reply as it would be
    /// without a strategy; its streams are not run.
    ///
    /// # Errors
    /// Whatever the strategy finds wrong with the request.
    fn begin(
        &self,
        index: usize,
        request: &Request,
        sample: usize,
    ) -> Result<Option<Box<dyn RowStrategy + '_>>>;
}

/// A [`Strategy`] at work on one reply, with whatever it has to remember of it.
pub trait RowStrategy {
    /// The logits to choose this step's token from, `[vocab]`; `None` for the model's own, to the bit. Temperature and
    /// filters come afterwards. The log-probabilities and first logits that a
    /// [`Generation`](crate::Generation) reports stay the model's own.
    ///
    /// # Errors
    /// Whatever the strategy cannot go on with; it ends the whole call.
    fn refine(&mut self, step: &mut Step<'_>) -> Result<Option<Vec<f32>>>;

    /// Whether stream `stream` is still needed at step `step`, which is the next one. A stream that is not is dropped for
    /// good, and its row with it.
    fn keeps(&self, stream: usize, step: usize) -> bool {
        let _ = (stream, step);
        true
    }

    /// The reply is complete: `generated` are its tokens.
    fn end(&mut self, generated: &[u32], finish: FinishReason) {
        let _ = (generated, finish);
    }
}

/// Another prompt for the same reply: it is fed every token that is chosen, and never chooses itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream<'a> {
    prompt: Cow<'a, [u32]>,
    lazy: bool,
}

impl<'a> Stream<'a> {
    /// A stream that is read in one batch with its reply. Equal prompts of one batch are read once.
    pub fn new(prompt: impl Into<Cow<'a, [u32]>>) -> Self {
        Self {
            prompt: prompt.into(),
            lazy: false,
        }
    }

    /// Reads nothing until [`Step::stream`] asks, and then all at once what has come since. Worth it where most steps do
    /// not ask; such a stream has a session of its own.
    #[must_use]
    pub fn lazy(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// What it begins with.
    pub fn prompt(&self) -> &[u32] {
        &self.prompt
    }

    /// Whether it waits to be asked.
    pub fn is_lazy(&self) -> bool {
        self.lazy
    }
}

/// The strategy of [`generate`](crate::generate::generate): none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plain;

impl Strategy for Plain {
    fn begin(&self, _: usize, _: &Request, _: usize) -> Result<Option<Box<dyn RowStrategy + '_>>> {
        Ok(None)
    }
}

/// How a [`Step`] gets at the logits of a stream.
pub(crate) type ReadStream<'a> = dyn FnMut(usize) -> Option<Result<Cow<'a, [f32]>>> + 'a;

/// What a [`RowStrategy`] sees of one step.
pub struct Step<'a> {
    pub(crate) prompt: &'a [u32],
    pub(crate) generated: &'a [u32],
    pub(crate) logits: &'a [f32],
    pub(crate) captured: Option<&'a Captured>,
    pub(crate) read: &'a mut ReadStream<'a>,
}

impl std::fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Step")
            .field("prompt", &self.prompt)
            .field("generated", &self.generated)
            .finish_non_exhaustive()
    }
}

impl<'a> Step<'a> {
    /// How many tokens have been chosen before.
    pub fn number(&self) -> usize {
        self.generated.len()
    }

    /// What the model was asked.
    pub fn prompt(&self) -> &'a [u32] {
        self.prompt
    }

    /// The tokens chosen before.
    pub fn generated(&self) -> &'a [u32] {
        self.generated
    }

    /// The reply's own logits, `[vocab]`.
    pub fn logits(&self) -> &'a [f32] {
        self.logits
    }

    /// States of what the reply's row was fed last, the whole prompt at step 0: what [`Strategy::capture`] named. `None` if
    /// it named nothing.
    pub fn captured(&self) -> Option<&'a Captured> {
        self.captured
    }

    /// Logits of stream `index` after its prompt and the tokens chosen before, `[vocab]`.
    ///
    /// # Errors
    /// A stream that was not declared or has been dropped; for a lazy one what the model refuses.
    pub fn stream(&mut self, index: usize) -> Result<Cow<'a, [f32]>> {
        (self.read)(index).unwrap_or_else(|| {
            Err(Error::argument(
                "stream",
                "one that was declared and is still kept",
                index,
            ))
        })
    }
}
