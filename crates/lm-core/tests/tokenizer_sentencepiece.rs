//! Sentencepiece-style GGUF vocabularies against sentencepiece and transformers (`golden/tokenizer-sentencepiece`).

use lm_core::tokenizer::{GgufVocabulary, Tokenizer};
use lm_testkit::golden_folder;
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    variants: Vec<Variant>,
}

#[derive(Deserialize)]
struct Variant {
    add_space_prefix: bool,
    tokens: Vec<String>,
    scores: Vec<f32>,
    token_types: Vec<i32>,
    unk: u32,
    bos: u32,
    eos: u32,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

fn variants() -> Vec<Variant> {
    let path = golden_folder().join("tokenizer-sentencepiece/expected.json");
    let expected: Expected = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    expected.variants
}

fn vocabulary(variant: &Variant) -> GgufVocabulary {
    GgufVocabulary {
        model: "llama".to_owned(),
        tokens: variant.tokens.clone(),
        scores: variant.scores.clone(),
        token_types: variant.token_types.clone(),
        unk: Some(variant.unk),
        bos: Some(variant.bos),
        eos: Some(variant.eos),
        add_space_prefix: Some(variant.add_space_prefix),
        ..GgufVocabulary::default()
    }
}

#[test]
fn ids_and_texts_are_those_of_the_reference() {
    for variant in variants() {
        let tokenizer = Tokenizer::from_gguf_vocabulary(vocabulary(&variant)).unwrap();
        for case in &variant.cases {
            let ids = tokenizer.encode_fragment(&case.text).unwrap();
            assert_eq!(ids.ids(), case.ids, "{:?}", case.text);
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), case.decoded);
        }
    }
}

#[test]
fn absent_flags_mean_what_llama_cpp_assumes() {
    let variants = variants();
    let prefixed = &variants[0];
    assert!(prefixed.add_space_prefix);
    let tokenizer = Tokenizer::from_gguf_vocabulary(GgufVocabulary {
        add_space_prefix: None,
        ..vocabulary(prefixed)
    })
    .unwrap();
    assert!(tokenizer.adds_bos() && !tokenizer.adds_eos());
    for case in &prefixed.cases {
        let ids = tokenizer.encode_raw(&case.text).unwrap();
        assert!(ids.has_bos());
        let expected = case.ids.strip_prefix(&[prefixed.bos]).unwrap_or(&case.ids);
        assert_eq!(ids.ids()[1..], *expected, "{:?}", case.text);
    }
}

#[test]
fn both_flags_frame_a_raw_text() {
    let variants = variants();
    let tokenizer = Tokenizer::from_gguf_vocabulary(GgufVocabulary {
        add_bos: Some(false),
        add_eos: Some(true),
        ..vocabulary(&variants[0])
    })
    .unwrap();
    assert!(!tokenizer.adds_bos() && tokenizer.adds_eos());
    let ids = tokenizer.encode_raw("apples").unwrap();
    assert_eq!(ids.last(), Some(&variants[0].eos));
    assert_eq!(
        ids[..ids.len() - 1],
        *tokenizer.encode_fragment("apples").unwrap()
    );
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32], skip_special: bool) -> String {
    let mut stream = tokenizer.decode_stream(skip_special);
    let mut text = String::new();
    for &id in ids {
        text.push_str(&stream.push(id).unwrap());
    }
    text + &stream.finish().unwrap()
}

proptest! {
    /// Any ids, byte tokens and invalid UTF-8 included. The low ids are the special and the byte tokens, so they are
    /// drawn more often.
    #[test]
    fn the_stream_is_the_whole_decoding(
        ids in prop::collection::vec(prop_oneof![0_u32..280, 0_u32..490], 0..40),
        skip_special: bool,
        variant in 0_usize..2,
    ) {
        static TOKENIZERS: std::sync::LazyLock<Vec<Tokenizer>> = std::sync::LazyLock::new(|| {
            variants()
                .iter()
                .map(|variant| Tokenizer::from_gguf_vocabulary(vocabulary(variant)).unwrap())
                .collect()
        });
        let tokenizer = &TOKENIZERS[variant];
        let whole = tokenizer.decode(&ids, skip_special).unwrap();
        prop_assert_eq!(streamed(tokenizer, &ids, skip_special), whole);
    }
}
