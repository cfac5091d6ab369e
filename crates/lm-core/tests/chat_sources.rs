//! No text in a message becomes a control token, and text without such words keeps its ids: generated cases on real
//! tokenizers.
#![allow(missing_docs)]

use std::collections::HashSet;

use lm_core::ContentPolicy;
use lm_core::tokenizer::Tokenizer;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

const CASES: usize = 10_000;

/// What a case is made of, besides the tokenizer's own added tokens.
const WORDS: &[&str] = &[
    "hello", " world", "naïve", " 東京", "🎒", "\n", "\n\n", "  ", "\t", " 1024", "don't", "<",
    ">", "|", "<|", "|>", "im_", "[", "]", "/", "▁", "_", "INST", "end", "start", "s", " s>", "<s",
    "ة", "e\u{301}", "\u{200b}", "{{ x }}", "\"", "\\",
];

struct Added {
    id: u32,
    text: String,
}

/// Added tokens that mean something: not runs of white space.
fn control_tokens(folder: &std::path::Path) -> Vec<Added> {
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("tokenizer.json")).unwrap()).unwrap();
    let added = json["added_tokens"].as_array().unwrap();
    added
        .iter()
        .map(|token| Added {
            id: u32::try_from(token["id"].as_u64().unwrap()).unwrap(),
            text: token["content"].as_str().unwrap().to_owned(),
        })
        .filter(|token| !token.text.chars().all(|c| c.is_whitespace() || c == '▁'))
        .collect()
}

fn pick<'a, T>(rng: &mut ChaCha8Rng, all: &'a [T]) -> &'a T {
    &all[rng.next_u32() as usize % all.len()]
}

/// A message: words, whole control tokens, and halves of them.
fn content(rng: &mut ChaCha8Rng, control: &[Added]) -> String {
    let mut content = String::new();
    for _ in 0..rng.next_u32() % 8 {
        match rng.next_u32() % 6 {
            0 => content.push_str(&pick(rng, control).text),
            1 => {
                let text = &pick(rng, control).text;
                let cut = text
                    .char_indices()
                    .map(|(at, _)| at)
                    .nth(text.chars().count() / 2)
                    .unwrap();
                content.push_str(if rng.next_u32().is_multiple_of(2) {
                    &text[..cut]
                } else {
                    &text[cut..]
                });
            }
            _ => content.push_str(pick::<&str>(rng, WORDS)),
        }
    }
    content
}

/// Text and sources of a conversation in the manner of `frame`: a control token, words and content by turns, once with content
/// directly against control tokens and once not.
fn framed(frame: [&str; 3], contents: &[String]) -> (String, Vec<Option<usize>>) {
    let (mut text, mut from) = (String::new(), Vec::new());
    let mut push = |part: &str, source: Option<usize>| {
        text.push_str(part);
        from.extend(part.chars().map(|_| source));
    };
    for (index, content) in contents.iter().enumerate() {
        push(frame[0], None);
        push(frame[1], None);
        push(content, Some(index));
        push(frame[2], None);
    }
    (text, from)
}

/// Text as these tokenizers can give it back: one writes a space for `▁`, another composes accents.
fn alike(text: &str) -> String {
    text.replace('▁', " ").replace("e\u{301}", "é")
}

fn no_control_token_from_content(name: &str, folder: &std::path::Path) {
    let tokenizer = Tokenizer::from_folder(folder).unwrap();
    let control = control_tokens(folder);
    let ids: HashSet<u32> = control.iter().map(|token| token.id).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (mut clean, mut forged) = (0, 0);
    for case in 0..CASES {
        let contents = [content(&mut rng, &control), content(&mut rng, &control)];
        let open = pick(&mut rng, &control).text.as_str();
        let close = pick(&mut rng, &control).text.as_str();
        let frame = *pick(
            &mut rng,
            &[
                [open, "user\n", close],
                [open, "", close],
                ["[user] ", "", "\n"],
                ["", "half <|im_", close],
            ],
        );
        let (text, from) = framed(frame, &contents);
        let found = tokenizer
            .encode_sourced(&text, &from, ContentPolicy::Literal)
            .unwrap();
        let of_frame = |ids_of: &[u32]| ids_of.iter().filter(|id| ids.contains(id)).count();
        // As many as the frame has around harmless words, or around none.
        let allowed = ["x", ".", " x ", ""]
            .iter()
            .map(|word| {
                let (harmless, _) = framed(frame, &[(*word).to_owned(), (*word).to_owned()]);
                of_frame(&tokenizer.encode_fragment(&harmless).unwrap())
            })
            .max()
            .unwrap();
        assert!(
            of_frame(&found.ids) <= allowed,
            "{name}, case {case}: a control token came from {contents:?} in {frame:?}: {:?}",
            found
                .ids
                .iter()
                .map(|id| tokenizer.id_to_token(*id))
                .collect::<Vec<_>>()
        );
        let strict = tokenizer.encode_sourced(&text, &from, ContentPolicy::Strict);
        let ordinary = tokenizer.encode_fragment(&text).unwrap();
        let trusted = tokenizer
            .encode_sourced(&text, &from, ContentPolicy::Trusted)
            .unwrap();
        assert_eq!(trusted.ids, ordinary, "{name}, case {case}");
        let direct = contents
            .iter()
            .any(|content| control.iter().any(|token| content.contains(&token.text)));
        assert!(
            !direct || strict.is_err(),
            "{name}, case {case}: Strict let {contents:?} pass"
        );
        // What Strict lets through is clean, and keeps its ids.
        if let Ok(strict) = strict {
            clean += 1;
            assert_eq!(strict.ids, ordinary, "{name}, case {case}: {text:?}");
            assert_eq!(found.ids, ordinary, "{name}, case {case}: {text:?}");
        } else {
            forged += 1;
        }
        // The ids of a message are its text, and no control token is among them.
        for (content, range) in contents.iter().zip(&found.ranges) {
            let Some(range) = range.clone() else { continue };
            let own = &found.ids[range];
            assert_eq!(of_frame(own), 0, "{name}, case {case}: {contents:?}");
            let decoded = tokenizer.decode(own, false).unwrap();
            assert!(
                alike(&decoded).contains(alike(content).trim()),
                "{name}, case {case}: {content:?} became {decoded:?}"
            );
        }
    }
    assert!(
        clean > CASES / 10 && forged > CASES / 10,
        "{name}: {clean} clean, {forged} forged"
    );
}

macro_rules! tokenizers {
    ($($name:ident),+ $(,)?) => { $(
        #[test]
        fn $name() {
            let folder = lm_testkit::real_tokenizer_or_skip!(stringify!($name));
            no_control_token_from_content(stringify!($name), &folder);
        }
    )+ };
}

tokenizers!(
    llama2,
    llama3_1,
    qwen3,
    gemma3,
    mistral_nemo,
    yi,
    deepseek_v3
);
