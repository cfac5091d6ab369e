//! When a generation must stop before its replies are complete.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::{FinishReason, GenerateOptions};

/// Stops what is under way from another thread, or from the callback that is streamed to. Clones are one token.
///
/// ```
/// use lm_core::{CancelToken, GenerateOptions};
///
/// let cancel = CancelToken::new();
/// let options = GenerateOptions { cancel: Some(cancel.clone()), ..GenerateOptions::default() };
/// cancel.cancel();
/// assert!(options.cancel.is_some_and(|token| token.is_cancelled()));
/// ```
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that holds this token to stop. It stays so.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether [`CancelToken::cancel`] has been called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Two tokens are equal if cancelling one cancels the other.
impl PartialEq for CancelToken {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for CancelToken {}

/// What is left of the budgets of one call.
#[derive(Debug)]
pub(super) struct Limits<'a> {
    cancel: Option<&'a CancelToken>,
    /// `None` without a time budget, or with one beyond what the clock can tell.
    deadline: Option<Instant>,
    tokens: Option<usize>,
}

impl<'a> Limits<'a> {
    /// The clock starts now.
    pub(super) fn start(options: &'a GenerateOptions) -> Self {
        Self {
            cancel: options.cancel.as_ref(),
            deadline: options
                .time_budget
                .and_then(|budget| Instant::now().checked_add(budget)),
            tokens: options.token_budget,
        }
    }

    /// Why the model must not be run again, if so.
    pub(super) fn reached(&self) -> Option<FinishReason> {
        if self.cancel.is_some_and(CancelToken::is_cancelled) {
            Some(FinishReason::Cancelled)
        } else if self.tokens == Some(0)
            || self
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline)
        {
            Some(FinishReason::Budget)
        } else {
            None
        }
    }

    pub(super) fn afford(&self, tokens: usize) -> bool {
        self.tokens.is_none_or(|left| tokens <= left)
    }

    pub(super) fn spend(&mut self, tokens: usize) {
        self.tokens = self.tokens.map(|left| left.saturating_sub(tokens));
    }
}
