//! From GGUF metadata to a `tokenizers` pipeline.
//!
//! GGUF keeps the vocabulary, the merges or scores, and the *name* of everything else; the pipeline is rebuilt here.

use std::collections::HashMap;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{NFC, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper};

use super::pre_tokenizer::Named;
use super::{Frame, Parts, TokenizerError, guarded};

/// The longest token accepted, in bytes. Real vocabularies stay below 300; a longer one would make the merges of a
/// sentencepiece vocabulary, which are searched for in every split of every token, cost the square of its length.
const MAX_TOKEN_BYTES: usize = 1024;

/// Tokenizer models this crate builds.
const MODELS: &[&str] = &["gpt2", "llama"];

/// The word separator of sentencepiece, U+2581.
const WORD_START: &str = "\u{2581}";

/// What a GGUF file says about its tokenizer; field names follow the keys under `tokenizer.ggml.`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocabulary {
    /// `model`: `gpt2` (byte-level BPE) or `llama` (sentencepiece-style BPE).
    pub model: String,
    /// `pre`: the name of the byte-level pre-tokenizer; needed by `gpt2`, unused by `llama`.
    pub pre: Option<String>,
    /// `general.architecture`. Only the Gemma family needs it: its scores do not follow the order of its merges.
    pub architecture: Option<String>,
    /// `tokens`, by id.
    pub tokens: Vec<String>,
    /// `token_type`, by id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. Empty means all normal.
    pub token_types: Vec<i32>,
    /// `scores`, by id; needed by `llama` unless there are merges.
    pub scores: Vec<f32>,
    /// `merges`, best first, two tokens with a space between.
    pub merges: Vec<String>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `unknown_token_id`.
    pub unk: Option<u32>,
    /// `padding_token_id`.
    pub pad: Option<u32>,
    /// `add_bos_token`. Absent means what llama.cpp assumes: yes for `llama`, and for `gpt2` by the pre-tokenizer
    /// (yes for Llama 3 and Tekken, no for the others).
    pub add_bos: Option<bool>,
    /// `add_eos_token`. Absent means no.
    pub add_eos: Option<bool>,
    /// `add_space_prefix`, for `llama` only. Absent means yes.
    pub add_space_prefix: Option<bool>,
}

/// The kind of a token, `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenType {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenType {
    fn new(id: u32, value: i32) -> Result<Self, TokenizerError> {
        Ok(match value {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            found => return Err(TokenizerError::TokenType { id, found }),
        })
    }
}

/// A vocabulary whose lists fit each other.
struct Checked {
    source: GgufVocabulary,
    types: Vec<TokenType>,
    ids: HashMap<String, u32>,
}

pub(super) fn build(vocabulary: GgufVocabulary) -> Result<Parts, TokenizerError> {
    let model = vocabulary.model.clone();
    match model.as_str() {
        "gpt2" => byte_level(Checked::new(vocabulary)?),
        "llama" => sentencepiece(Checked::new(vocabulary)?),
        _ => Err(TokenizerError::UnknownModel {
            found: model,
            known: MODELS.join(", "),
        }),
    }
}

impl Checked {
    fn new(mut source: GgufVocabulary) -> Result<Self, TokenizerError> {
        if source.tokens.is_empty() {
            return Err(TokenizerError::EmptyVocabulary);
        }
        let vocab_size = source.tokens.len();
        let length = |key, found: usize| {
            if found == vocab_size || found == 0 {
                Ok(())
            } else {
                Err(TokenizerError::Length {
                    key,
                    expected: vocab_size,
                    found,
                })
            }
        };
        length("tokenizer.ggml.token_type", source.token_types.len())?;
        length("tokenizer.ggml.scores", source.scores.len())?;
        for (key, id) in [
            ("tokenizer.ggml.bos_token_id", source.bos),
            ("tokenizer.ggml.eos_token_id", source.eos),
            ("tokenizer.ggml.unknown_token_id", source.unk),
            ("tokenizer.ggml.padding_token_id", source.pad),
        ] {
            if let Some(id) = id.filter(|&id| id as usize >= vocab_size) {
                return Err(TokenizerError::SpecialId {
                    key,
                    id,
                    vocab_size,
                });
            }
        }
        let types = if source.token_types.is_empty() {
            vec![TokenType::Normal; vocab_size]
        } else {
            (0..)
                .zip(&source.token_types)
                .map(|(id, &value)| TokenType::new(id, value))
                .collect::<Result<_, _>>()?
        };
        if let Some((id, _)) = (0..).zip(&source.scores).find(|(_, score)| score.is_nan()) {
            return Err(TokenizerError::Score { id });
        }
        let mut ids = HashMap::with_capacity(vocab_size);
        for (id, token) in (0..).zip(&mut source.tokens) {
            if token.is_empty() {
                // llama.cpp's name for a hole; several holes would otherwise be duplicates.
                *token = format!("[EMPTY_{id}]");
            }
            if token.len() > MAX_TOKEN_BYTES {
                return Err(TokenizerError::TokenTooLong {
                    id,
                    found: token.len(),
                    limit: MAX_TOKEN_BYTES,
                });
            }
            if let Some(first) = ids.insert(token.clone(), id) {
                return Err(TokenizerError::DuplicateToken {
                    token: token.clone(),
                    first,
                    second: id,
                });
            }
        }
        Ok(Self { source, types, ids })
    }

    /// The merges of the file, checked here because `tokenizers` panics on some malformed ones.
    fn written_merges(&self) -> Result<Vec<(String, String)>, TokenizerError> {
        let check = |index: usize, merge: &String| {
            let wrong = |reason: String| TokenizerError::Merge {
                index,
                merge: merge.clone(),
                reason,
            };
            let (left, right) = merge
                .split_once(' ')
                .filter(|(left, right)| {
                    !left.is_empty() && !right.is_empty() && !right.contains(' ')
                })
                .ok_or_else(|| wrong("expected two tokens with one space between".to_owned()))?;
            for token in [left, right, &format!("{left}{right}")] {
                if !self.ids.contains_key(token) {
                    return Err(wrong(format!("{token:?} is not in the vocabulary")));
                }
            }
            Ok((left.to_owned(), right.to_owned()))
        };
        self.source
            .merges
            .iter()
            .enumerate()
            .map(|(index, merge)| check(index, merge))
            .collect()
    }

    /// The merges a sentencepiece vocabulary implies: every way to cut a piece into two pieces, best piece first.
    ///
    /// Sentencepiece joins the pair whose join scores highest; ranking all pairs by the score of their join gives BPE
    /// the same choice. Only pieces that text can reach take part: control, unknown, unused, byte and user-defined
    /// tokens are never the result of a merge.
    fn implied_merges(&self) -> Vec<(String, String)> {
        let reachable = |id: u32| self.types[id as usize] == TokenType::Normal;
        let by_position = self
            .source
            .architecture
            .as_deref()
            .is_some_and(|name| name.starts_with("gemma"));
        let score = |id: u32| {
            if by_position {
                -f64::from(id)
            } else {
                self.source
                    .scores
                    .get(id as usize)
                    .map_or(0.0, |&score| f64::from(score))
            }
        };
        let mut merges = Vec::new();
        for (id, piece) in (0_u32..).zip(&self.source.tokens) {
            if !reachable(id) {
                continue;
            }
            for (cut, _) in piece.char_indices().skip(1) {
                let (left, right) = piece.split_at(cut);
                if let (Some(&left_id), Some(&right_id)) = (self.ids.get(left), self.ids.get(right))
                    && reachable(left_id)
                    && reachable(right_id)
                {
                    let lengths = (left.chars().count(), right.chars().count());
                    merges.push((score(id), lengths, left_id, right_id));
                }
            }
        }
        // Of equal scores the longer left half goes first, then the longer right half, then (the sort is stable) the
        // lower id: the order of transformers' `generate_merges`.
        merges.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| b.1.cmp(&a.1)));
        merges
            .into_iter()
            .map(|(_, _, left, right)| {
                (
                    self.source.tokens[left as usize].clone(),
                    self.source.tokens[right as usize].clone(),
                )
            })
            .collect()
    }

    /// Tokens found whole in raw text, before anything else looks at it.
    fn added_tokens(&self) -> Vec<AddedToken> {
        (0_u32..)
            .zip(&self.types)
            .filter_map(|(id, kind)| {
                let has_role = [self.source.bos, self.source.eos].contains(&Some(id));
                let special = match kind {
                    TokenType::Control | TokenType::Unknown => true,
                    TokenType::UserDefined => has_role,
                    TokenType::Normal | TokenType::Unused | TokenType::Byte if has_role => true,
                    TokenType::Normal | TokenType::Unused | TokenType::Byte => return None,
                };
                let text = self.source.tokens[id as usize].clone();
                Some(AddedToken::from(text, special).normalized(false))
            })
            .collect()
    }

    /// The ids put around a raw text.
    fn frame(&self, add_bos_by_default: bool) -> Result<Frame, TokenizerError> {
        let wanted = |flag, key, on: bool, id: Option<u32>| match (on, id) {
            (false, _) => Ok(Vec::new()),
            (true, Some(id)) => Ok(vec![id]),
            (true, None) => Err(TokenizerError::MissingSpecialId { flag, key }),
        };
        let prefix = match (self.source.add_bos, self.source.bos) {
            // A default cannot ask for a token that the model does not have; an explicit flag can, wrongly.
            (None, None) => Vec::new(),
            (explicit, bos) => wanted(
                "tokenizer.ggml.add_bos_token",
                "tokenizer.ggml.bos_token_id",
                explicit.unwrap_or(add_bos_by_default),
                bos,
            )?,
        };
        let suffix = wanted(
            "tokenizer.ggml.add_eos_token",
            "tokenizer.ggml.eos_token_id",
            self.source.add_eos.unwrap_or(false),
            self.source.eos,
        )?;
        Ok(Frame { prefix, suffix })
    }

    fn into_parts(
        self,
        mut pipeline: tokenizers::Tokenizer,
        add_bos_by_default: bool,
    ) -> Result<Parts, TokenizerError> {
        let frame = self.frame(add_bos_by_default)?;
        let added = self.added_tokens();
        guarded(|| pipeline.add_tokens(added)).map_err(parse_error)?;
        Ok(Parts {
            pipeline,
            frame,
            bos: self.source.bos,
            eos: self.source.eos,
            unk: self.source.unk,
            pad: self.source.pad,
        })
    }
}

/// `gpt2`: byte-level BPE.
fn byte_level(vocabulary: Checked) -> Result<Parts, TokenizerError> {
    let known = Named::known;
    let name = vocabulary
        .source
        .pre
        .as_deref()
        .ok_or_else(|| TokenizerError::MissingPreTokenizer { known: known() })?;
    let named = Named::find(name).ok_or_else(|| TokenizerError::UnknownPreTokenizer {
        found: name.to_owned(),
        known: known(),
    })?;
    let merges = vocabulary.written_merges()?;
    let ids = vocabulary.ids.clone();
    let pipeline = guarded(|| {
        let model = BPE::builder()
            .vocab_and_merges(ids.into_iter().collect::<Vocab>(), merges)
            .ignore_merges(named.ignore_merges)
            .build()?;
        let mut pipeline = tokenizers::Tokenizer::new(model);
        if named.nfc {
            pipeline.with_normalizer(Some(NFC))?;
        }
        pipeline.with_pre_tokenizer(Some(named.build()?));
        pipeline.with_decoder(Some(ByteLevel::default()));
        Ok(pipeline)
    })
    .map_err(parse_error)?;
    vocabulary.into_parts(pipeline, named.add_bos)
}

/// `llama`: sentencepiece-style BPE with byte fallback, as the models' own `tokenizer.json` writes it.
fn sentencepiece(vocabulary: Checked) -> Result<Parts, TokenizerError> {
    let merges = if vocabulary.source.merges.is_empty() {
        vocabulary.implied_merges()
    } else {
        vocabulary.written_merges()?
    };
    let unk = vocabulary
        .source
        .unk
        .map(|id| vocabulary.source.tokens[id as usize].clone());
    let add_space_prefix = vocabulary.source.add_space_prefix.unwrap_or(true);
    let ids = vocabulary.ids.clone();
    let pipeline = guarded(|| {
        let mut model = BPE::builder()
            .vocab_and_merges(ids.into_iter().collect::<Vocab>(), merges)
            .byte_fallback(true)
            .fuse_unk(true);
        if let Some(unk) = unk {
            model = model.unk_token(unk);
        }
        let mut pipeline = tokenizers::Tokenizer::new(model.build()?);

        let spaces: NormalizerWrapper = Replace::new(" ", WORD_START)?.into();
        let normalizers = if add_space_prefix {
            vec![Prepend::new(WORD_START.to_owned()).into(), spaces]
        } else {
            vec![spaces]
        };
        pipeline.with_normalizer(Some(Normalizers::new(normalizers)))?;

        let mut decoders: Vec<DecoderWrapper> = vec![
            Replace::new(WORD_START, " ")?.into(),
            ByteFallback::new().into(),
            Fuse::new().into(),
        ];
        if add_space_prefix {
            decoders.push(Strip::new(' ', 1, 0).into());
        }
        pipeline.with_decoder(Some(Decoders::new(decoders)));
        Ok(pipeline)
    })
    .map_err(parse_error)?;
    vocabulary.into_parts(pipeline, true)
}

fn parse_error(reason: String) -> TokenizerError {
    TokenizerError::Parse {
        origin: "GGUF tokenizer metadata".to_owned(),
        reason,
    }
}
