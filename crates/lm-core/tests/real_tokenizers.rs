//! The tokenizers of real models against Python's `tokenizers` and transformers (`golden/tokenizer-real`). They are not in
//! this repository: `cargo xtask setup` fetches them.

use std::collections::HashMap;
use std::path::Path;

use lm_core::tokenizer::Tokenizer;
use lm_testkit::{golden_folder, real_tokenizer_or_skip};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    tokenizers: HashMap<String, Known>,
}

#[derive(Deserialize)]
struct Known {
    sha256: String,
    vocab_size: usize,
    roles: Roles,
    /// Of `Hello, world!`, with what is put around a raw text.
    framed: Vec<u32>,
    special: Vec<u32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Roles {
    bos_token: Option<u32>,
    eos_token: Option<u32>,
    unk_token: Option<u32>,
    pad_token: Option<u32>,
}

#[derive(Deserialize)]
struct Case {
    ids: Vec<u32>,
    decoded: String,
}

fn expected() -> Expected {
    let path = golden_folder().join("tokenizer-real/expected.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn check(name: &str, folder: &Path) {
    let expected = expected();
    let known = &expected.tokenizers[name];
    let file = std::fs::read(folder.join("tokenizer.json")).unwrap();
    let hash: String = Sha256::digest(&file)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hash, known.sha256,
        "{name}: not the file that golden/tokenizer-real was made with"
    );
    let tokenizer = Tokenizer::from_folder(folder).unwrap();
    assert_eq!(tokenizer.vocab_size(), known.vocab_size, "{name}");
    assert_eq!(tokenizer.special_ids(), known.special, "{name}");
    let roles = [
        tokenizer.bos_id(),
        tokenizer.eos_id(),
        tokenizer.unk_id(),
        tokenizer.pad_id(),
    ];
    let Roles {
        bos_token,
        eos_token,
        unk_token,
        pad_token,
    } = known.roles;
    assert_eq!(
        roles,
        [bos_token, eos_token, unk_token, pad_token],
        "{name}: BOS, EOS, unknown, padding"
    );
    let framed = tokenizer.encode_raw("Hello, world!").unwrap();
    assert_eq!(framed.ids(), known.framed, "{name}");

    assert_eq!(known.cases.len(), expected.texts.len());
    for (text, case) in expected.texts.iter().zip(&known.cases) {
        let ids = tokenizer.encode_fragment(text).unwrap();
        assert_eq!(ids.ids(), case.ids, "{name}: {text:?}");
        let decoded = tokenizer.decode(ids.ids(), false).unwrap();
        assert_eq!(decoded, case.decoded, "{name}: {text:?}");
    }
}

/// A test for each tokenizer, so that each one that is missing is said to be skipped.
macro_rules! tokenizers {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let folder = real_tokenizer_or_skip!(stringify!($name));
            check(stringify!($name), &folder);
        })*
        /// None of the reference is left out.
        #[test]
        fn every_tokenizer_of_the_reference_has_a_test() {
            let mut known: Vec<String> = expected().tokenizers.into_keys().collect();
            known.sort();
            assert_eq!(known, [$(stringify!($name)),*]);
        }
    };
}

tokenizers! { chatglm3 deepseek_v3 gemma3 gpt2 llama2 llama3_1 mistral_nemo qwen2_5 qwen3 yi }
