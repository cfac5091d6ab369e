//! Encoding a text of which parts are not trusted, so that no control token comes from them.
//!
//! A tokenizer finds its added tokens (`<|im_end|>`, special or not) anywhere in a text. Here only those that the template
//! wrote count. Each is replaced by one character for private use, which a second pipeline, the same but for its added tokens,
//! reads as that token; all other text is then ordinary, whoever wrote it, and goes through the pipeline's own splitting,
//! normalising and merging with the neighbours it really has.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use tokenizers::{AddedToken, OffsetReferential, OffsetType};

use super::{TokenIds, Tokenizer, TokenizerError, guarded};

/// What may be made of text in messages.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ContentPolicy {
    /// A message that contains the text of a control token is an error.
    Strict,
    /// Such text stays text.
    #[default]
    Literal,
    /// Such text becomes the token, as in other libraries. For text of one's own.
    Trusted,
}

/// The ids of a text, and where each source's part of it is among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcedIds {
    /// The ids.
    pub ids: TokenIds,
    /// For each source the ids that hold any of its characters; `None` for one without, or whose characters do not stand
    /// together.
    pub ranges: Vec<Option<Range<usize>>>,
}

/// First character that stands for an added token.
const STAND_IN: u32 = 0x10_0000;
/// Marks a break that text alone does not have; no token.
const BREAK: char = '\u{10FFFD}';
/// Fillers for text that must not match, a letter and another: added tokens may ask whether a word goes on.
const LETTER: char = '\u{16A0}';
const OTHER: char = '\u{10FFFC}';
/// Rounds in which breaks are put into text that the vocabulary itself joins to a control token.
const ROUNDS: usize = 16;

/// The pipeline whose added tokens are stand-ins.
pub(super) struct Guard {
    pipeline: tokenizers::Tokenizer,
    /// What the stand-ins stand for, and the other way about. By character, not by the second pipeline's ids, which a
    /// vocabulary with gaps may use for something else.
    originals: HashMap<char, u32>,
    stand_ins: HashMap<u32, char>,
    /// Ids that text must not become.
    control: HashSet<u32>,
}

impl Guard {
    fn new(tokenizer: &Tokenizer) -> Result<Self, TokenizerError> {
        let refuse = |reason: String| TokenizerError::Encode { reason };
        let plain = &tokenizer.pipeline;
        let mut pipeline = tokenizers::Tokenizer::new(plain.get_model().clone());
        guarded(|| {
            pipeline
                .with_normalizer(plain.get_normalizer().cloned())
                .map(|_| ())
        })
        .map_err(refuse)?;
        pipeline.with_pre_tokenizer(plain.get_pre_tokenizer().cloned());
        let mut added: Vec<(u32, AddedToken)> =
            plain.get_added_tokens_decoder().into_iter().collect();
        added.sort_unstable_by_key(|&(id, _)| id);
        let mut stand_ins = HashMap::new();
        let mut tokens = Vec::new();
        for ((id, token), code) in added.iter().zip(STAND_IN..u32::from(OTHER)) {
            let character = char::from_u32(code).unwrap_or(BREAK);
            stand_ins.insert(*id, character);
            tokens.push(AddedToken {
                content: character.to_string(),
                // What they swallow has been swallowed when the stand-in is put in.
                lstrip: false,
                rstrip: false,
                single_word: false,
                normalized: token.normalized,
                special: true,
            });
        }
        tokens.push(AddedToken::from(BREAK.to_string(), true).normalized(false));
        guarded(|| pipeline.add_tokens(tokens).map(|_| ())).map_err(refuse)?;
        let originals = stand_ins
            .iter()
            .map(|(&id, &character)| (character, id))
            .collect();
        Ok(Self {
            originals,
            stand_ins,
            control: added
                .into_iter()
                .filter(|(_, token)| is_control(&token.content))
                .map(|(id, _)| id)
                .collect(),
            pipeline,
        })
    }
}

/// Whether an added token can mean anything but its text: runs of white space, which some vocabularies add, cannot.
fn is_control(token: &str) -> bool {
    !token
        .chars()
        .all(|character| character.is_whitespace() || character == '\u{2581}')
}

/// The added tokens of a text: id and characters.
fn added_tokens(
    pipeline: &tokenizers::Tokenizer,
    text: &str,
) -> Result<Vec<(u32, Range<usize>)>, TokenizerError> {
    guarded(|| {
        let pieces = pipeline
            .get_added_vocabulary()
            .extract_and_normalize(pipeline.get_normalizer(), text);
        Ok(pieces
            .get_splits(OffsetReferential::Original, OffsetType::Char)
            .into_iter()
            .filter_map(|(_, (start, end), tokens)| {
                Some((tokens.as_ref()?.first()?.id, start..end))
            })
            .collect())
    })
    .map_err(|reason| TokenizerError::Encode { reason })
}

impl Tokenizer {
    /// Encodes a complete text (as [`Tokenizer::encode_fragment`]) of which the characters with a source in `from` are not
    /// trusted. Where no source holds the text of an added token, the ids are those of
    /// [`encode_fragment`](Tokenizer::encode_fragment).
    ///
    /// # Errors
    /// `from` of another length than the text; [`TokenizerError::ControlToken`] by [`ContentPolicy::Strict`], or where no
    /// encoding of the text avoids one; [`TokenizerError::PrivateUse`]; what the pipeline refuses.
    pub fn encode_sourced(
        &self,
        text: &str,
        from: &[Option<usize>],
        policy: ContentPolicy,
    ) -> Result<SourcedIds, TokenizerError> {
        let characters: Vec<char> = text.chars().collect();
        if characters.len() != from.len() {
            return Err(TokenizerError::Encode {
                reason: format!("{} sources for {} characters", from.len(), characters.len()),
            });
        }
        let sources = from.iter().flatten().max().map_or(0, |most| most + 1);
        if policy == ContentPolicy::Trusted {
            let (ids, offsets) = encode(&self.pipeline, text)?;
            let ranges = ranges(&offsets, from, sources);
            return Ok(SourcedIds {
                ids: TokenIds::new(ids, self.bos),
                ranges,
            });
        }
        let guard = self.guard()?;
        if policy == ContentPolicy::Strict {
            for (id, range) in added_tokens(&self.pipeline, text)? {
                if guard.control.contains(&id) {
                    self.refuse_from(id, from.get(range).unwrap_or_default())?;
                }
            }
        }
        let template: String = characters
            .iter()
            .zip(from)
            .map(|(&character, from)| match from {
                Some(_) if character.is_alphanumeric() || character == '_' => LETTER,
                // Added tokens that are runs of white space are no control tokens, and match wherever they stand.
                Some(_) if is_control(character.encode_utf8(&mut [0; 4])) => OTHER,
                _ => character,
            })
            .collect();
        let (mut guarded_text, mut guarded_from) = (Vec::new(), Vec::new());
        let mut at = 0;
        let plain =
            |range: Range<usize>, text: &mut Vec<char>, sources: &mut Vec<Option<usize>>| {
                text.extend(characters.get(range.clone()).unwrap_or_default());
                sources.extend(from.get(range).unwrap_or_default());
            };
        if let Some(&character) = characters
            .iter()
            .find(|&&character| u32::from(character) >= STAND_IN)
        {
            return Err(TokenizerError::PrivateUse { character });
        }
        for (id, range) in added_tokens(&self.pipeline, &template)? {
            let Some(&stand_in) = guard.stand_ins.get(&id) else {
                continue;
            };
            plain(at..range.start, &mut guarded_text, &mut guarded_from);
            guarded_text.push(stand_in);
            // A run of white space inside a message is the message's.
            let own = from.get(range.clone()).unwrap_or_default();
            let same = own.first().copied().flatten();
            guarded_from.push(same.filter(|_| own.iter().all(|&each| each == same)));
            at = range.end;
        }
        plain(at..characters.len(), &mut guarded_text, &mut guarded_from);
        for _ in 0..ROUNDS {
            let text: String = guarded_text.iter().collect();
            let (ids, offsets) = encode(&guard.pipeline, &text)?;
            // A vocabulary that holds a control token among its ordinary pieces may join text to it: broken up.
            let mut breaks: Vec<usize> = Vec::new();
            for (&id, offset) in ids.iter().zip(&offsets) {
                let first = guarded_text.get(offset.start).copied();
                let stands_in = first.is_some_and(|first| u32::from(first) >= STAND_IN);
                if stands_in || !guard.control.contains(&id) {
                    continue;
                }
                if policy == ContentPolicy::Strict || offset.len() < 2 {
                    self.refuse_from(id, guarded_from.get(offset.clone()).unwrap_or_default())?;
                }
                if offset.len() >= 2 {
                    breaks.push(offset.start + 1);
                }
            }
            if breaks.is_empty() {
                let ranges = ranges(&offsets, &guarded_from, sources);
                return Ok(guard.finish(self, &ids, &offsets, &guarded_text, ranges));
            }
            for at in breaks.into_iter().rev() {
                let own = guarded_from.get(at).copied().flatten();
                guarded_text.insert(at, BREAK);
                guarded_from.insert(at, own);
            }
        }
        Err(TokenizerError::Encode {
            reason: "the text cannot be kept from becoming control tokens".to_owned(),
        })
    }

    fn guard(&self) -> Result<&Guard, TokenizerError> {
        if let Some(guard) = self.guard.get() {
            return Ok(guard);
        }
        let guard = Guard::new(self)?;
        Ok(self.guard.get_or_init(|| guard))
    }

    /// An error if any of the characters has a source.
    fn refuse_from(&self, id: u32, from: &[Option<usize>]) -> Result<(), TokenizerError> {
        match from.iter().flatten().next() {
            Some(&source) => Err(TokenizerError::ControlToken {
                message: source,
                token: self.id_to_token(id).unwrap_or_default(),
            }),
            None => Ok(()),
        }
    }
}

impl Guard {
    /// Stand-ins back to what they stand for, and breaks out.
    fn finish(
        &self,
        tokenizer: &Tokenizer,
        ids: &[u32],
        offsets: &[Range<usize>],
        text: &[char],
        ranges: Vec<Option<Range<usize>>>,
    ) -> SourcedIds {
        // Ids before each that are no breaks.
        let mut kept = Vec::with_capacity(ids.len() + 1);
        let mut out = Vec::with_capacity(ids.len());
        for (id, offset) in ids.iter().zip(offsets) {
            kept.push(out.len());
            match text.get(offset.start) {
                Some(&BREAK) => {}
                Some(character) => out.push(self.originals.get(character).copied().unwrap_or(*id)),
                None => out.push(*id),
            }
        }
        kept.push(out.len());
        let moved = |range: Range<usize>| {
            let at = |index: usize| kept.get(index).copied().unwrap_or(out.len());
            at(range.start)..at(range.end)
        };
        let ranges = ranges.into_iter().map(|range| range.map(&moved)).collect();
        SourcedIds {
            ids: TokenIds::new(out.clone(), tokenizer.bos),
            ranges,
        }
    }
}

/// Ids, and the characters each came from.
fn encode(
    pipeline: &tokenizers::Tokenizer,
    text: &str,
) -> Result<(Vec<u32>, Vec<Range<usize>>), TokenizerError> {
    let encoding = guarded(|| pipeline.encode_char_offsets(text, false))
        .map_err(|reason| TokenizerError::Encode { reason })?;
    let offsets = encoding
        .get_offsets()
        .iter()
        .map(|&(start, end)| start..end)
        .collect();
    Ok((encoding.get_ids().to_vec(), offsets))
}

/// For each source the ids that hold any of its characters, if nothing but that stands between them.
fn ranges(
    offsets: &[Range<usize>],
    from: &[Option<usize>],
    sources: usize,
) -> Vec<Option<Range<usize>>> {
    let mut ranges: Vec<Option<Range<usize>>> = vec![None; sources];
    let mut apart = vec![false; sources];
    // Ids so far that hold characters; some hold none, as the second byte of a character may.
    let mut holding = 0;
    let mut last = vec![0; sources];
    for (index, offset) in offsets.iter().enumerate() {
        holding += usize::from(!offset.is_empty());
        for source in from
            .get(offset.clone())
            .unwrap_or_default()
            .iter()
            .flatten()
        {
            let slots = (
                ranges.get_mut(*source),
                apart.get_mut(*source),
                last.get_mut(*source),
            );
            let (Some(range), Some(apart), Some(last)) = slots else {
                continue;
            };
            *apart |= range.is_some() && *last + 1 < holding;
            *last = holding;
            let start = range.as_ref().map_or(index, |range| range.start);
            *range = Some(start..index + 1);
        }
    }
    let together = ranges.into_iter().zip(apart);
    together
        .map(|(range, apart)| range.filter(|_| !apart))
        .collect()
}
