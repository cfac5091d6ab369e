//! Text to tokens, by the tiny model's tokenizer and chat template.
//!
//! The tokenizer remembers the words it has seen. What is counted are words it has not: other ones go before.

use lm_core::{Conversation, Prompt, TextInterface};
use lm_testkit::TinyLlama;

use crate::case::{Case, Failure, Work, unwarmed};
use crate::data::prose;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "text/encode",
            prepare: encode,
        },
        Case {
            name: "text/chat",
            prepare: chat,
        },
    ]
}

fn tiny() -> Result<TextInterface, Failure> {
    let folder = tempfile::tempdir()?;
    TinyLlama::default().write(folder.path())?;
    Ok(TextInterface::from_folder(folder.path())?)
}

/// 2 kB of raw text.
fn encode() -> Result<Work, Failure> {
    let text = tiny()?;
    text.tokenizer().encode_raw(&prose(1, 200))?;
    let counted = prose(2, 2048);
    Ok(unwarmed(move || {
        Ok(text.tokenizer().encode_raw(&counted)?)
    }))
}

/// A template rendered and a conversation of three turns encoded.
fn chat() -> Result<Work, Failure> {
    let text = tiny()?;
    let conversation = |seed: usize| {
        let said = |turn| prose(8 * seed + turn, 200);
        let turns = Conversation::new().system(said(0));
        let turns = turns.user(said(1)).assistant(said(2));
        let turns = turns.user(said(3)).assistant(said(4));
        Prompt::Chat(turns.user(said(5)))
    };
    text.encode(&conversation(1))?;
    let counted = conversation(2);
    Ok(unwarmed(move || Ok(text.encode(&counted)?)))
}
