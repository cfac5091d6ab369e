//! Malformed tokenizers are refused with the error that says what is wrong, and nothing panics.

use lm_core::tokenizer::{GgufVocabulary, Tokenizer, TokenizerConfig, TokenizerError};
use proptest::prelude::*;

/// A byte-level vocabulary of four tokens and one merge.
fn byte_level() -> GgufVocabulary {
    GgufVocabulary {
        model: "gpt2".to_owned(),
        pre: Some("gpt-2".to_owned()),
        tokens: ["a", "b", "ab", "<end>"].map(str::to_owned).to_vec(),
        token_types: vec![1, 1, 1, 3],
        merges: vec!["a b".to_owned()],
        eos: Some(3),
        ..GgufVocabulary::default()
    }
}

fn sentencepiece() -> GgufVocabulary {
    GgufVocabulary {
        model: "llama".to_owned(),
        tokens: ["<unk>", "<0x61>", "a", "b", "ab"]
            .map(str::to_owned)
            .to_vec(),
        token_types: vec![2, 6, 1, 1, 1],
        scores: vec![0.0, 0.0, -2.0, -3.0, -1.0],
        unk: Some(0),
        ..GgufVocabulary::default()
    }
}

fn refusal(vocabulary: GgufVocabulary) -> String {
    Tokenizer::from_gguf_vocabulary(vocabulary)
        .unwrap_err()
        .to_string()
}

#[test]
fn each_fault_of_a_gguf_vocabulary_has_its_own_error() {
    assert_eq!(
        Tokenizer::from_gguf_vocabulary(byte_level())
            .unwrap()
            .encode_raw("ab<end>")
            .unwrap()
            .ids(),
        [2, 3]
    );
    assert!(Tokenizer::from_gguf_vocabulary(sentencepiece()).is_ok());

    let with = |change: &dyn Fn(&mut GgufVocabulary)| {
        let mut vocabulary = byte_level();
        change(&mut vocabulary);
        refusal(vocabulary)
    };
    let cases = [
        (
            with(&|v| v.model = "bert".into()),
            "tokenizer.ggml.model is `bert`; known: gpt2, llama",
        ),
        (
            with(&|v| v.tokens.clear()),
            "tokenizer.ggml.tokens is empty",
        ),
        (
            with(&|v| v.token_types.truncate(3)),
            "tokenizer.ggml.token_type: expected 4 entries, one for each token, found 3",
        ),
        (
            with(&|v| v.scores = vec![1.0; 5]),
            "tokenizer.ggml.scores: expected 4 entries, one for each token, found 5",
        ),
        (
            with(&|v| v.tokens[1] = "a".into()),
            "duplicate token \"a\": ids 0 and 1",
        ),
        (
            with(&|v| v.tokens[1] = "x".repeat(2000)),
            "token 1 is 2000 bytes long; at most 1024 are accepted",
        ),
        (
            with(&|v| v.token_types[2] = 7),
            "tokenizer.ggml.token_type[2] is 7; expected 1 to 6",
        ),
        (
            with(&|v| v.scores = vec![0.0, f32::NAN, 0.0, 0.0]),
            "tokenizer.ggml.scores[1] is not a number",
        ),
        (
            with(&|v| v.merges[0] = "ab".into()),
            "tokenizer.ggml.merges[0] is \"ab\": expected two tokens with one space between",
        ),
        (
            with(&|v| v.merges[0] = "a b a".into()),
            "tokenizer.ggml.merges[0] is \"a b a\": expected two tokens with one space between",
        ),
        (
            with(&|v| v.merges[0] = "a c".into()),
            "tokenizer.ggml.merges[0] is \"a c\": \"c\" is not in the vocabulary",
        ),
        (
            with(&|v| v.merges[0] = "b a".into()),
            "tokenizer.ggml.merges[0] is \"b a\": \"ba\" is not in the vocabulary",
        ),
        (
            with(&|v| v.bos = Some(4)),
            "tokenizer.ggml.bos_token_id is 4, but the vocabulary has 4 tokens",
        ),
        (
            with(&|v| v.add_bos = Some(true)),
            "tokenizer.ggml.add_bos_token is set, but tokenizer.ggml.bos_token_id is missing",
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
    let unknown = with(&|v| v.pre = Some("nobody".into()));
    assert!(
        unknown.starts_with("tokenizer.ggml.pre is `nobody`; known: gpt-2, phi-2,"),
        "{unknown}"
    );
    let missing = with(&|v| v.pre = None);
    assert!(
        missing.starts_with("tokenizer.ggml.pre is missing"),
        "{missing}"
    );
}

#[test]
fn holes_in_a_vocabulary_are_named_apart() {
    let tokenizer = Tokenizer::from_gguf_vocabulary(GgufVocabulary {
        tokens: ["a", "", ""].map(str::to_owned).to_vec(),
        token_types: Vec::new(),
        merges: Vec::new(),
        eos: None,
        ..byte_level()
    })
    .unwrap();
    assert_eq!(tokenizer.token_to_id("[EMPTY_2]"), Some(2));
}

const TOKENIZER_JSON: &str = r#"{"version":"1.0","truncation":{"direction":"Right","max_length":2,"strategy":"LongestFirst","stride":0},"padding":null,
"added_tokens":[{"id":3,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"<s>":{"id":"<s>","ids":[3],"tokens":["<s>"]}}},
"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,"vocab":{"a":0,"b":1,"ab":2,"<s>":3},"merges":[["a","b"]]}}"#;

#[test]
fn a_folder_says_which_token_is_bos_and_whether_it_is_added() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let ids = |text: &str| {
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        let ids = tokenizer.encode_raw(text).unwrap();
        (ids.has_bos(), ids.into_ids())
    };
    write("tokenizer.json", TOKENIZER_JSON);
    // Nothing names BOS, but the pipeline adds it; the truncation of some training run is not applied.
    assert_eq!(ids("abaab"), (false, vec![3, 2, 0, 2]));
    write(
        "tokenizer_config.json",
        r#"{"bos_token": {"content": "<s>"}, "eos_token": null}"#,
    );
    assert_eq!(ids("abaab"), (true, vec![3, 2, 0, 2]));
    assert_eq!(ids("<s>ab"), (true, vec![3, 2]));
    write(
        "tokenizer_config.json",
        r#"{"bos_token": "<s>", "add_bos_token": false}"#,
    );
    assert_eq!(ids("ab"), (false, vec![2]));
    assert_eq!(ids("<s>ab"), (true, vec![3, 2]));

    write("tokenizer_config.json", r#"{"bos_token": "<begin>"}"#);
    let error = Tokenizer::from_folder(folder.path()).unwrap_err();
    assert!(
        matches!(&error, TokenizerError::UnknownSpecialToken { field: "bos_token", token, .. } if token == "<begin>"),
        "{error}"
    );
    write("tokenizer_config.json", "{");
    let error = Tokenizer::from_folder(folder.path()).unwrap_err();
    assert!(
        error.to_string().contains("tokenizer_config.json: "),
        "{error}"
    );
}

#[test]
fn a_folder_of_another_library_gets_the_converting_command() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.model"), "").unwrap();
    let error = Tokenizer::from_folder(folder.path()).unwrap_err();
    assert!(matches!(error, TokenizerError::NotFound { .. }));
    let text = error.to_string();
    assert!(
        text.contains("found tokenizer.model; convert with `python -c"),
        "{text}"
    );
    let error = Tokenizer::from_file(folder.path().join("tokenizer.json")).unwrap_err();
    assert!(matches!(error, TokenizerError::Read { .. }));
    let error = TokenizerConfig::from_file(folder.path().join("no.json")).unwrap_err();
    assert!(matches!(error, TokenizerError::Read { .. }));
}

#[test]
fn a_malformed_tokenizer_json_is_an_error() {
    assert!(Tokenizer::from_bytes(TOKENIZER_JSON.as_bytes()).is_ok());
    for (what, from, to) in [
        ("not JSON", "{\"version\"", "\"version\""),
        ("an unknown version", "\"1.0\"", "\"9\""),
        (
            "a merge out of the vocabulary",
            "[\"a\",\"b\"]",
            "[\"a\",\"c\"]",
        ),
        // On these two `tokenizers` panics.
        (
            "a merge longer than every token",
            "[\"a\",\"b\"]",
            "[\"ab\",\"<s>\"]",
        ),
        (
            "a prefix longer than a token",
            "\"continuing_subword_prefix\":null",
            "\"continuing_subword_prefix\":\"######\"",
        ),
    ] {
        assert!(TOKENIZER_JSON.contains(from), "{what}");
        let error = Tokenizer::from_bytes(TOKENIZER_JSON.replace(from, to).as_bytes()).unwrap_err();
        assert!(
            matches!(&error, TokenizerError::Parse { origin, .. } if origin == "<memory>"),
            "{what}: {error}"
        );
    }
}

#[test]
fn a_decoder_that_cannot_be_taken_apart_still_gives_the_whole_text() {
    let json = TOKENIZER_JSON.replace(
        "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true}",
        "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true}",
    );
    assert_ne!(json, TOKENIZER_JSON);
    let tokenizer = Tokenizer::from_bytes(json.as_bytes()).unwrap();
    let ids = [0, 1, 2];
    let mut stream = tokenizer.decode_stream(false);
    let mut text = String::new();
    for id in ids {
        text.push_str(&stream.push(id).unwrap());
    }
    text.push_str(&stream.finish().unwrap());
    assert_eq!(text, "a b ab");
    assert_eq!(text, tokenizer.decode(&ids, false).unwrap());
}

proptest! {
    #[test]
    fn any_vocabulary_is_built_or_refused(
        model in prop_oneof!["gpt2", "llama"],
        tokens in prop::collection::vec("[ab▁<>0x]{0,6}", 0..8),
        token_types in prop::collection::vec(0_i32..8, 0..8),
        scores in prop::collection::vec(any::<f32>(), 0..8),
        merges in prop::collection::vec("[ab▁ ]{0,5}", 0..3),
        special in prop::option::of(0_u32..9),
        flags: [Option<bool>; 3],
        text in "[ab▁<> 0xé]{0,12}",
    ) {
        let vocabulary = GgufVocabulary {
            model,
            pre: Some("llama-bpe".to_owned()),
            tokens,
            token_types,
            scores,
            merges,
            bos: special,
            unk: special,
            add_bos: flags[0],
            add_eos: flags[1],
            add_space_prefix: flags[2],
            ..GgufVocabulary::default()
        };
        if let Ok(tokenizer) = Tokenizer::from_gguf_vocabulary(vocabulary) {
            let ids = tokenizer.encode_raw(&text).unwrap();
            tokenizer.decode(&ids, true).unwrap();
        }
    }

    #[test]
    fn any_change_of_a_tokenizer_json_is_built_or_refused(at in 0..TOKENIZER_JSON.len(), byte: u8) {
        let mut bytes = TOKENIZER_JSON.as_bytes().to_vec();
        bytes[at] = byte;
        if let Ok(tokenizer) = Tokenizer::from_bytes(&bytes)
            && let Ok(ids) = tokenizer.encode_raw("ab <s> b")
        {
            let _ = tokenizer.decode(&ids, true);
        }
    }
}
