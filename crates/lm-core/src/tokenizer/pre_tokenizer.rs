//! The byte-level pre-tokenizers that GGUF knows by name.
//!
//! A GGUF file carries vocabulary and merges but only the *name* of the expression that cuts text into words. The
//! expressions are those of the models' own `tokenizer.json`; llama.cpp's `src/llama-vocab.cpp` lists which name stands
//! for which. Where the two differ (llama.cpp writes `(?i:'s)` out as `'[sS]`, and never normalises), the model's own
//! file is followed, because the ids of the original pipeline are what the model was trained on.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{Result, SplitDelimiterBehavior};

/// Llama 3: contractions, words, numbers of up to three digits, punctuation, line ends, spaces.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2: as Llama 3, but each digit alone.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral NeMo: words cut where upper case follows lower case, each digit alone.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Falcon: at most three digits together, applied after the byte-level step.
const FALCON_DIGITS: &str = "[0-9][0-9][0-9]";

#[derive(Clone, Copy, Debug)]
enum Cut {
    /// GPT-2's expression, which the byte-level step carries itself.
    Gpt2,
    /// Each digit alone, then GPT-2's expression.
    DigitsThenGpt2,
    /// Runs of punctuation, GPT-2's expression, runs of digits, digits by three.
    Falcon,
    /// One expression of the model's own.
    Expression(&'static str),
}

/// One named pre-tokenizer and what else its name implies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    names: &'static [&'static str],
    cut: Cut,
    /// The model's own pipeline applies Unicode NFC first.
    pub(super) nfc: bool,
    /// A word that is a token as a whole is not merged.
    pub(super) ignore_merges: bool,
    /// BOS is added when the file does not say.
    pub(super) add_bos: bool,
}

const fn plain(names: &'static [&'static str], cut: Cut) -> Named {
    Named {
        names,
        cut,
        nfc: false,
        ignore_merges: false,
        add_bos: false,
    }
}

const TABLE: &[Named] = &[
    plain(&["gpt-2", "phi-2", "mpt"], Cut::Gpt2),
    Named {
        nfc: true,
        ..plain(&["olmo"], Cut::Gpt2)
    },
    plain(
        &["smollm", "starcoder", "refact", "codeshell"],
        Cut::DigitsThenGpt2,
    ),
    plain(&["falcon"], Cut::Falcon),
    Named {
        ignore_merges: true,
        add_bos: true,
        ..plain(
            &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"],
            Cut::Expression(LLAMA3),
        )
    },
    plain(
        &["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"],
        Cut::Expression(LLAMA3),
    ),
    Named {
        nfc: true,
        ..plain(&["qwen2"], Cut::Expression(QWEN2))
    },
    plain(&["deepseek-r1-qwen", "stablelm2"], Cut::Expression(QWEN2)),
    Named {
        ignore_merges: true,
        add_bos: true,
        ..plain(&["tekken"], Cut::Expression(TEKKEN))
    },
];

impl Named {
    /// The entry of a name.
    pub(super) fn find(name: &str) -> Option<Self> {
        TABLE
            .iter()
            .find(|named| named.names.contains(&name))
            .copied()
    }

    /// Every known name, for error messages.
    pub(super) fn known() -> String {
        TABLE
            .iter()
            .flat_map(|named| named.names)
            .copied()
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Builds the step.
    pub(super) fn build(self) -> Result<PreTokenizerWrapper> {
        let byte_level = |use_regex| ByteLevel::new(false, true, use_regex).into();
        let steps: Vec<PreTokenizerWrapper> = match self.cut {
            Cut::Gpt2 => vec![byte_level(true)],
            Cut::DigitsThenGpt2 => vec![Digits::new(true).into(), byte_level(true)],
            Cut::Falcon => vec![
                Punctuation::new(SplitDelimiterBehavior::Contiguous).into(),
                byte_level(true),
                Digits::new(false).into(),
                isolated(FALCON_DIGITS)?.into(),
            ],
            Cut::Expression(expression) => vec![isolated(expression)?.into(), byte_level(false)],
        };
        Ok(Sequence::new(steps).into())
    }
}

fn isolated(expression: &str) -> Result<Split> {
    Split::new(
        SplitPattern::Regex(expression.to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde::Deserialize;
    use tokenizers::normalizers::NFC;
    use tokenizers::{
        NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString,
        PreTokenizer,
    };

    use super::*;

    #[derive(Deserialize)]
    struct Expected {
        texts: Vec<String>,
        groups: Vec<Group>,
    }

    #[derive(Deserialize)]
    struct Group {
        names: Vec<String>,
        words: Vec<Vec<String>>,
    }

    /// Reference: `golden/tokenizer-pre`.
    #[test]
    fn every_name_cuts_text_as_the_reference_does() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/tokenizer-pre/expected.json");
        let expected: Expected = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut tested: Vec<&str> = Vec::new();
        for group in &expected.groups {
            for name in &group.names {
                let named = Named::find(name).unwrap();
                let step = named.build().unwrap();
                for (text, words) in expected.texts.iter().zip(&group.words) {
                    let mut text = NormalizedString::from(text.as_str());
                    if named.nfc {
                        NFC.normalize(&mut text).unwrap();
                    }
                    let mut cut = PreTokenizedString::from(text.clone());
                    step.pre_tokenize(&mut cut).unwrap();
                    let found: Vec<&str> = cut
                        .get_splits(OffsetReferential::Normalized, OffsetType::Byte)
                        .into_iter()
                        .map(|(word, _, _)| word)
                        .filter(|word| !word.is_empty())
                        .collect();
                    assert_eq!(&found, words, "{name}: {:?}", text.get());
                }
                tested.push(name);
            }
        }
        for named in TABLE {
            for name in named.names {
                assert!(tested.contains(name), "{name} has no reference");
            }
        }
    }
}
