//! SmolLM2's tokenizer from the demo model's GGUF metadata against `golden/tokenizer-smollm2`.

use std::sync::LazyLock;

use lm_core::tokenizer::{GgufVocabulary, Tokenizer};
use lm_core::weights::gguf::{Gguf, Metadata};
use lm_testkit::{demo_model_or_skip, golden_folder};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    vocab_size: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    decoded: String,
    decoded_without_special: String,
}

fn expected() -> Expected {
    let path = golden_folder().join("tokenizer-smollm2/expected.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn vocabulary(model: &std::path::Path) -> GgufVocabulary {
    let file = std::fs::read(model).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    let metadata = gguf.metadata();
    let strings = |key| {
        metadata
            .strings(key)
            .unwrap()
            .iter()
            .map(str::to_owned)
            .collect()
    };
    GgufVocabulary {
        model: metadata.str("tokenizer.ggml.model").unwrap().to_owned(),
        pre: Some(metadata.str("tokenizer.ggml.pre").unwrap().to_owned()),
        tokens: strings("tokenizer.ggml.tokens"),
        token_types: metadata.i32s("tokenizer.ggml.token_type").unwrap().to_vec(),
        merges: strings("tokenizer.ggml.merges"),
        bos: metadata
            .optional("tokenizer.ggml.bos_token_id", Metadata::u32)
            .unwrap(),
        eos: metadata
            .optional("tokenizer.ggml.eos_token_id", Metadata::u32)
            .unwrap(),
        add_bos: metadata
            .optional("tokenizer.ggml.add_bos_token", Metadata::bool)
            .unwrap(),
        ..GgufVocabulary::default()
    }
}

#[test]
fn ids_and_texts_are_those_of_the_reference() {
    let model = demo_model_or_skip!();
    let tokenizer = Tokenizer::from_gguf_vocabulary(vocabulary(&model)).unwrap();
    let expected = expected();
    assert_eq!(tokenizer.vocab_size(), expected.vocab_size);
    for case in &expected.cases {
        let text = &case.text;
        let ids = tokenizer.encode_fragment(text).unwrap();
        assert_eq!(ids.ids(), case.ids, "{text:?}");
        // The file says `add_bos_token = false`, so raw text is the same.
        assert_eq!(tokenizer.encode_raw(text).unwrap(), ids, "{text:?}");
        assert_eq!(
            tokenizer.decode(&ids, false).unwrap(),
            case.decoded,
            "{text:?}"
        );
        assert_eq!(
            tokenizer.decode(&ids, true).unwrap(),
            case.decoded_without_special,
            "{text:?}"
        );
    }
}

#[test]
fn the_stream_gives_the_same_text_in_whole_characters() {
    let model = demo_model_or_skip!();
    let tokenizer = Tokenizer::from_gguf_vocabulary(vocabulary(&model)).unwrap();
    for case in &expected().cases {
        for (skip_special, whole) in [
            (false, &case.decoded),
            (true, &case.decoded_without_special),
        ] {
            let mut stream = tokenizer.decode_stream(skip_special);
            let mut text = String::new();
            for &id in &case.ids {
                let piece = stream.push(id).unwrap();
                assert!(!piece.contains('\u{FFFD}'), "{:?}: {piece:?}", case.text);
                text.push_str(&piece);
            }
            text.push_str(&stream.finish().unwrap());
            assert_eq!(&text, whole);
        }
    }
}

static DEMO: LazyLock<Option<Tokenizer>> = LazyLock::new(|| {
    let model = lm_testkit::demo_model()?;
    Some(Tokenizer::from_gguf_vocabulary(vocabulary(&model)).unwrap())
});

proptest! {
    /// Any ids: half characters, special tokens, ids beyond the vocabulary. The first ids after the special tokens are
    /// single bytes, so they are drawn more often.
    #[test]
    fn the_stream_is_the_whole_decoding(
        ids in prop::collection::vec(prop_oneof![3 => 0_u32..290, 1 => 0_u32..49_200], 0..40),
        skip_special: bool,
    ) {
        // The other tests of this file say that they are skipped.
        let Some(tokenizer) = DEMO.as_ref() else { return Ok(()) };
        let mut stream = tokenizer.decode_stream(skip_special);
        let mut text = String::new();
        for &id in &ids {
            text.push_str(&stream.push(id).unwrap());
        }
        text.push_str(&stream.finish().unwrap());
        prop_assert_eq!(text, tokenizer.decode(&ids, skip_special).unwrap());
    }

    /// A byte-level vocabulary loses nothing.
    #[test]
    fn decoding_gives_the_text_back(text in "\\PC{0,40}|[ \t\r\n0-9a-zé😀<|>]{0,40}") {
        let Some(tokenizer) = DEMO.as_ref() else { return Ok(()) };
        let ids = tokenizer.encode_fragment(&text).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
    }
}

#[test]
fn facts_are_those_of_the_file() {
    let model = demo_model_or_skip!();
    let vocabulary = vocabulary(&model);
    let tokenizer = Tokenizer::from_gguf_vocabulary(vocabulary.clone()).unwrap();
    let id = |token| tokenizer.token_to_id(token).unwrap();
    assert_eq!(tokenizer.bos_id(), Some(id("<|im_start|>")));
    assert_eq!(tokenizer.eos_id(), Some(id("<|im_end|>")));
    assert_eq!(tokenizer.id_to_token(id("Ġthe")).unwrap(), "Ġthe");
    assert_eq!(
        tokenizer.special_tokens().eos.as_deref(),
        Some("<|im_end|>")
    );
    assert!(!tokenizer.adds_bos() && !tokenizer.adds_eos());
    assert!(tokenizer.special_ids().contains(&id("<|im_end|>")));
    assert_eq!(tokenizer.id_to_token(49_152), None);

    // With BOS asked for: once, and never twice.
    let with_bos = Tokenizer::from_gguf_vocabulary(GgufVocabulary {
        add_bos: Some(true),
        ..vocabulary
    })
    .unwrap();
    assert!(with_bos.adds_bos());
    let plain = with_bos.encode_raw("Hello").unwrap();
    assert!(plain.has_bos());
    assert_eq!(
        plain.ids()[1..],
        *tokenizer.encode_raw("Hello").unwrap().ids()
    );
    assert_eq!(with_bos.encode_raw("<|im_start|>Hello").unwrap(), plain);
    assert!(!with_bos.encode_fragment("Hello").unwrap().has_bos());
    assert_ne!(with_bos.hash(), tokenizer.hash());
}

#[test]
fn the_hash_is_that_of_the_pipeline() {
    let model = demo_model_or_skip!();
    let vocabulary = vocabulary(&model);
    let hash = |vocabulary: GgufVocabulary| {
        Tokenizer::from_gguf_vocabulary(vocabulary)
            .unwrap()
            .hash()
            .to_owned()
    };
    let first = hash(vocabulary.clone());
    assert_eq!(first.len(), 64);
    assert_eq!(hash(vocabulary.clone()), first);
    let mut fewer_merges = vocabulary.clone();
    fewer_merges.merges.pop();
    assert_ne!(hash(fewer_merges), first);
    let mut other_words = vocabulary;
    other_words.pre = Some("gpt-2".to_owned());
    assert_ne!(hash(other_words), first);
}
