//! Stop strings on streamed text.

use super::TokenizerError;

/// The strings that end a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopStrings {
    strings: Vec<String>,
}

impl StopStrings {
    /// Takes the strings, in the order by which a match names them. None at all is fine and never matches.
    ///
    /// # Errors
    /// [`TokenizerError::EmptyStopString`]: an empty string would match everywhere.
    pub fn new<S: Into<String>>(
        strings: impl IntoIterator<Item = S>,
    ) -> Result<Self, TokenizerError> {
        let strings: Vec<String> = strings.into_iter().map(Into::into).collect();
        match strings.iter().position(String::is_empty) {
            Some(index) => Err(TokenizerError::EmptyStopString { index }),
            None => Ok(Self { strings }),
        }
    }

    /// The strings, in the order given.
    #[must_use]
    pub fn strings(&self) -> &[String] {
        &self.strings
    }

    /// Begins to match one text; each row of a batch has its own matcher.
    #[must_use]
    pub fn matcher(&self) -> StopMatcher {
        StopMatcher {
            strings: self.strings.clone(),
            held: String::new(),
            matched: None,
        }
    }
}

/// What may be shown after a piece of text arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopStep {
    /// Text that is certainly before any stop string.
    pub text: String,
    /// The index of the stop string found, after which no more text comes.
    pub matched: Option<usize>,
}

/// Finds the earliest stop string in text that arrives in pieces.
///
/// The text released is the whole text up to the smallest index at which any stop string occurs, just as if each had
/// been searched in the finished text; it does not depend on how the text was cut into pieces. What could still be the
/// beginning of a stop string is held back. Where two strings begin at one place, the one that completes first is named.
///
/// ```
/// # use lm_core::tokenizer::StopStrings;
/// let mut matcher = StopStrings::new(["END"])?.matcher();
/// assert_eq!(matcher.push("so E").text, "so ");
/// assert_eq!(matcher.push("ND, more").matched, Some(0));
/// # Ok::<(), lm_core::tokenizer::TokenizerError>(())
/// ```
#[derive(Clone, Debug)]
pub struct StopMatcher {
    strings: Vec<String>,
    /// Text not yet released: empty, or beginning with a (possible) stop string.
    held: String,
    matched: Option<usize>,
}

impl StopMatcher {
    /// Takes the next piece of text.
    pub fn push(&mut self, text: &str) -> StopStep {
        if self.matched.is_some() {
            return StopStep {
                text: String::new(),
                matched: self.matched,
            };
        }
        self.held.push_str(text);
        let found = self.earliest();
        let possible = self.earliest_unfinished();
        match (found, possible) {
            // A string that began earlier may still complete, and would then win.
            (Some((start, _)), Some(open)) if open < start => self.release(open, None),
            (Some((start, index)), _) => self.release(start, Some(index)),
            (None, Some(open)) => self.release(open, None),
            (None, None) => self.release(self.held.len(), None),
        }
    }

    /// The text ended: gives what was held back, up to a stop string if one is in it.
    #[must_use]
    pub fn finish(mut self) -> StopStep {
        if self.matched.is_some() {
            return StopStep {
                text: String::new(),
                matched: self.matched,
            };
        }
        match self.earliest() {
            Some((start, index)) => self.release(start, Some(index)),
            None => self.release(self.held.len(), None),
        }
    }

    /// The stop string found so far.
    #[must_use]
    pub fn matched(&self) -> Option<usize> {
        self.matched
    }

    fn release(&mut self, end: usize, matched: Option<usize>) -> StopStep {
        let rest = self.held.split_off(end);
        let text = std::mem::replace(&mut self.held, rest);
        if matched.is_some() {
            self.held.clear();
        }
        self.matched = matched;
        StopStep { text, matched }
    }

    /// Start and index of the first complete stop string in the held text.
    fn earliest(&self) -> Option<(usize, usize)> {
        self.strings
            .iter()
            .enumerate()
            .filter_map(|(index, stop)| Some((self.held.find(stop.as_str())?, stop.len(), index)))
            .min()
            .map(|(start, _, index)| (start, index))
    }

    /// Start of the longest end of the held text that is a proper beginning of a stop string.
    fn earliest_unfinished(&self) -> Option<usize> {
        let longest = self.strings.iter().map(String::len).max()?.checked_sub(1)?;
        let from = self.held.len().saturating_sub(longest);
        self.held
            .char_indices()
            .map(|(start, _)| start)
            .filter(|&start| start >= from)
            .find(|&start| {
                let tail = &self.held[start..];
                self.strings
                    .iter()
                    .any(|stop| stop.len() > tail.len() && stop.starts_with(tail))
            })
    }
}
