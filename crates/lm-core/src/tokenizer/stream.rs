//! Decoding one id at a time.

use std::sync::LazyLock;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::strip::Strip;
use tokenizers::{Decoder, Result as PipelineResult};

use super::{Tokenizer, TokenizerError, guarded};

/// Turns ids into text as they come.
///
/// No piece ends inside a character, and all pieces together with [`finish`](Self::finish) are exactly
/// [`Tokenizer::decode`] of all ids, for any ids: invalid UTF-8, byte-fallback tokens, special tokens.
///
/// `tokenizers` has a stream of its own, which decodes a window of recent ids again at each step. It gives no text for
/// a tail that never completes, and where the decoding of a window is not the end of the decoding of everything
/// (a stripped first space, a run of byte-fallback tokens that turns out to be invalid) it fails or differs. Here the
/// decoder is taken apart into steps that need no window, so the cost of an id does not grow with the text either.
///
/// In a sentencepiece vocabulary a run of byte tokens is shown only when the run ends, because whether its bytes are
/// text or replacement characters depends on the whole run. A decoder this type cannot take apart is still exact: all
/// its text comes from [`finish`](Self::finish).
#[derive(Debug)]
pub struct DecodeStream<'t> {
    tokenizer: &'t Tokenizer,
    skip_special: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Byte-level: the bytes of a character that is not complete yet.
    Bytes(Vec<u8>),
    /// Token by token, with what is left to do at the beginning of the text.
    Pieces {
        steps: Pieces,
        run: Vec<String>,
        strips: Vec<Strip>,
    },
    /// Not decodable in pieces: the ids.
    Whole(Vec<u32>),
}

/// A decoder in four parts.
#[derive(Clone, Debug, Default)]
struct Pieces {
    /// Maps of single tokens, before the byte tokens are joined.
    before: Vec<DecoderWrapper>,
    byte_fallback: bool,
    /// Maps of single tokens, after it.
    after: Vec<DecoderWrapper>,
    /// What is cut from the beginning of the whole text.
    strips: Vec<Strip>,
}

impl<'t> DecodeStream<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, skip_special: bool) -> Self {
        let state = match tokenizer.pipeline.get_decoder() {
            Some(DecoderWrapper::ByteLevel(_)) => State::Bytes(Vec::new()),
            Some(decoder) => match Pieces::new(decoder) {
                Some(steps) => State::Pieces {
                    run: Vec::new(),
                    strips: steps.strips.clone(),
                    steps,
                },
                None => State::Whole(Vec::new()),
            },
            None => State::Whole(Vec::new()),
        };
        Self {
            tokenizer,
            skip_special,
            state,
        }
    }

    /// Takes the next id and gives the text that is now certain, often none.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`] if a step of the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        if let State::Whole(ids) = &mut self.state {
            ids.push(id);
            return Ok(String::new());
        }
        let Some(token) = self.tokenizer.visible_token(id, self.skip_special) else {
            return Ok(String::new());
        };
        match &mut self.state {
            State::Bytes(pending) => {
                append_bytes(&token, pending);
                Ok(take_complete(pending))
            }
            State::Pieces { steps, run, strips } => guarded(|| {
                let tokens = map(&steps.before, vec![token])?;
                let mut text = String::new();
                for token in tokens {
                    run.push(token);
                    if !(steps.byte_fallback && run.last().is_some_and(|token| is_byte(token))) {
                        text.push_str(&steps.close_run(run)?);
                    }
                }
                Ok(strip(strips, text))
            })
            .map_err(decode_error),
            State::Whole(_) => Ok(String::new()),
        }
    }

    /// The ids ended: gives what was held back.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(self) -> Result<String, TokenizerError> {
        match self.state {
            State::Bytes(pending) => Ok(String::from_utf8_lossy(&pending).into_owned()),
            State::Pieces {
                steps,
                mut run,
                mut strips,
            } => {
                guarded(|| Ok(strip(&mut strips, steps.close_run(&mut run)?))).map_err(decode_error)
            }
            State::Whole(ids) => self.tokenizer.decode(&ids, self.skip_special),
        }
    }
}

fn decode_error(reason: String) -> TokenizerError {
    TokenizerError::Decode { reason }
}

impl Pieces {
    /// Takes a decoder apart, if it has the form (maps, byte fallback, maps, join, cuts at the beginning).
    fn new(decoder: &DecoderWrapper) -> Option<Self> {
        let steps = match decoder {
            DecoderWrapper::Sequence(sequence) => sequence.get_decoders(),
            single => std::slice::from_ref(single),
        };
        let mut pieces = Self::default();
        let mut fused = false;
        for step in steps {
            match step {
                DecoderWrapper::Fuse(_) => fused = true,
                DecoderWrapper::Strip(strip) if strip.stop == 0 && fused => {
                    pieces.strips.push(strip.clone());
                }
                DecoderWrapper::ByteFallback(_) if !fused && !pieces.byte_fallback => {
                    pieces.byte_fallback = true;
                }
                DecoderWrapper::Replace(_) if !fused => pieces.map_of(step),
                DecoderWrapper::Strip(strip) if strip.stop == 0 && !fused => pieces.map_of(step),
                _ => return None,
            }
        }
        Some(pieces)
    }

    fn map_of(&mut self, step: &DecoderWrapper) {
        let maps = if self.byte_fallback {
            &mut self.after
        } else {
            &mut self.before
        };
        maps.push(step.clone());
    }

    /// The text of a finished run: byte tokens, then at most one token that is not one.
    fn close_run(&self, run: &mut Vec<String>) -> PipelineResult<String> {
        let run = std::mem::take(run);
        let tokens = if self.byte_fallback {
            ByteFallback::new().decode_chain(run)?
        } else {
            run
        };
        Ok(map(&self.after, tokens)?.concat())
    }
}

fn map(maps: &[DecoderWrapper], tokens: Vec<String>) -> PipelineResult<Vec<String>> {
    maps.iter()
        .try_fold(tokens, |tokens, step| step.decode_chain(tokens))
}

/// Whether the byte-fallback step sees this token as a byte.
fn is_byte(token: &str) -> bool {
    // The two characters may be a sign and a digit: `from_str_radix` accepts that, and so does the step itself.
    token.len() == 6
        && token.starts_with("<0x")
        && token.ends_with('>')
        && token
            .get(3..5)
            .is_some_and(|digits| u8::from_str_radix(digits, 16).is_ok())
}

/// Cuts what is still to be cut at the beginning of the text.
fn strip(strips: &mut [Strip], mut text: String) -> String {
    for strip in strips {
        while strip.start > 0 {
            match text.chars().next() {
                Some(first) if first == strip.content => {
                    text.drain(..first.len_utf8());
                    strip.start -= 1;
                }
                Some(_) => strip.start = 0,
                None => break,
            }
        }
    }
    text
}

/// GPT-2's table: the character that stands for each byte. Printable Latin-1 stands for itself, the rest is moved up to
/// U+0100 and on, in order.
static BYTE_OF_CHAR: LazyLock<[Option<u8>; 0x144]> = LazyLock::new(|| {
    let mut table = [None; 0x144];
    let mut moved = 0x100_usize;
    for byte in u8::MIN..=u8::MAX {
        let at = match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => usize::from(byte),
            _ => {
                moved += 1;
                moved - 1
            }
        };
        table[at] = Some(byte);
    }
    table
});

/// The bytes a token stands for; a token outside the byte alphabet (an added token) stands for its own text.
fn append_bytes(token: &str, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    for character in token.chars() {
        match BYTE_OF_CHAR.get(character as usize).copied().flatten() {
            Some(byte) => bytes.push(byte),
            None => {
                bytes.truncate(start);
                bytes.extend_from_slice(token.as_bytes());
                return;
            }
        }
    }
}

/// Takes everything but a character that may still be completed; invalid bytes become U+FFFD as in
/// [`String::from_utf8_lossy`].
fn take_complete(pending: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut taken = 0;
    for chunk in pending.utf8_chunks() {
        text.push_str(chunk.valid());
        taken += chunk.valid().len();
        let invalid = chunk.invalid();
        let unfinished =
            std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if unfinished && taken + invalid.len() == pending.len() {
            break;
        }
        if !invalid.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            taken += invalid.len();
        }
    }
    pending.drain(..taken);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    #[test]
    fn the_byte_table_is_that_of_tokenizers() {
        let theirs: BTreeSet<char> = ByteLevel::alphabet().into_iter().collect();
        let ours: BTreeSet<char> = (0_u32..)
            .zip(BYTE_OF_CHAR.iter())
            .filter(|(_, byte)| byte.is_some())
            .filter_map(|(code, _)| char::from_u32(code))
            .collect();
        assert_eq!(ours, theirs);
        for character in theirs {
            let mut bytes = Vec::new();
            append_bytes(&character.to_string(), &mut bytes);
            let decoded = ByteLevel::default()
                .decode_chain(vec![character.to_string()])
                .unwrap();
            assert_eq!(vec![String::from_utf8_lossy(&bytes).into_owned()], decoded);
        }
    }

    #[test]
    fn an_unfinished_character_is_held_and_an_invalid_one_is_replaced() {
        let mut pending = vec![b'a', 0xF0, 0x9F];
        assert_eq!(take_complete(&mut pending), "a");
        assert_eq!(pending, [0xF0, 0x9F]);
        pending.extend([0x98, 0x80, 0xFF, b'b', 0xC3]);
        assert_eq!(take_complete(&mut pending), "😀\u{FFFD}b");
        assert_eq!(pending, [0xC3]);
    }
}
