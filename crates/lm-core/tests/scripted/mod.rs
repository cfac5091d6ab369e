//! A model without weights: its logits are a hash of the tokens before, and it keeps a diary of what it is asked to do.
#![allow(dead_code, reason = "each test uses its part")]

use std::sync::{Arc, Mutex};

use lm_core::{
    LanguageModel, PlainSession, Result, Scored, ScoringSession, Session, TextInterface,
};
use lm_testkit::TinyLlama;
use ndarray::{Array1, Array2};

/// What a session was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Begin(usize),
    /// Length of each row's chunk.
    Extend(Vec<usize>),
    /// The same of a session that scores.
    ExtendScored(Vec<usize>),
    Select(Vec<usize>),
    Rewind(Vec<usize>),
}

pub(crate) struct Scripted {
    pub(crate) vocab: usize,
    pub(crate) context: Option<usize>,
    /// Whether its sessions score what they read.
    pub(crate) scoring: bool,
    diary: Arc<Mutex<Vec<Call>>>,
}

impl Scripted {
    /// As many tokens as the tiny tokenizer has.
    pub(crate) fn new() -> Self {
        Self::of(TinyLlama::VOCAB_SIZE)
    }

    pub(crate) fn of(vocab: usize) -> Self {
        Self {
            vocab,
            context: None,
            scoring: false,
            diary: Arc::default(),
        }
    }

    /// The diary so far, which begins anew.
    pub(crate) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.diary.lock().unwrap())
    }

    /// Tokens fed since the diary was last taken.
    pub(crate) fn fed(&self) -> usize {
        let fed = |call: Call| match call {
            Call::Extend(lengths) | Call::ExtendScored(lengths) => lengths.iter().sum(),
            _ => 0,
        };
        self.calls().into_iter().map(fed).sum()
    }
}

/// Uniform in [-4, 4), a function of the arguments alone.
fn logit(tokens: u64, id: u64) -> f32 {
    let mut z = tokens ^ id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 21) as f32 - 4.0
}

impl LanguageModel for Scripted {
    fn vocab_size(&self) -> usize {
        self.vocab
    }

    fn context_length(&self) -> Option<usize> {
        self.context
    }

    fn next_logits(&self, tokens: &[u32]) -> Result<Array1<f32>> {
        let hash = tokens.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, &id| {
            (hash ^ u64::from(id))
                .wrapping_mul(0x0100_0000_01B3)
                .rotate_left(17)
        });
        Ok((0..self.vocab as u64).map(|id| logit(hash, id)).collect())
    }

    fn begin(&self, rows: usize) -> Result<Box<dyn Session + '_>> {
        self.diary.lock().unwrap().push(Call::Begin(rows));
        Ok(Box::new(Recorded {
            session: PlainSession::new(self, rows)?,
            model: self,
            tokens: vec![Vec::new(); rows],
            diary: Arc::clone(&self.diary),
        }))
    }
}

struct Recorded<'a> {
    session: PlainSession<'a, Scripted>,
    model: &'a Scripted,
    tokens: Vec<Vec<u32>>,
    diary: Arc<Mutex<Vec<Call>>>,
}

impl Recorded<'_> {
    fn note(&self, call: Call) {
        self.diary.lock().unwrap().push(call);
    }

    fn fed(&mut self, chunks: &[&[u32]]) -> Result<Array2<f32>> {
        let next = self.session.extend(chunks)?;
        for (row, chunk) in self.tokens.iter_mut().zip(chunks) {
            row.extend_from_slice(chunk);
        }
        Ok(next)
    }
}

impl Session for Recorded<'_> {
    fn rows(&self) -> usize {
        self.session.rows()
    }

    fn len(&self, row: usize) -> usize {
        self.session.len(row)
    }

    fn extend(&mut self, chunks: &[&[u32]]) -> Result<Array2<f32>> {
        self.note(Call::Extend(
            chunks.iter().map(|chunk| chunk.len()).collect(),
        ));
        self.fed(chunks)
    }

    fn select(&mut self, rows: &[usize]) -> Result<()> {
        self.note(Call::Select(rows.to_vec()));
        self.tokens = rows.iter().map(|&row| self.tokens[row].clone()).collect();
        self.session.select(rows)
    }

    fn rewind(&mut self, lengths: &[usize]) -> Result<()> {
        self.note(Call::Rewind(lengths.to_vec()));
        for (row, &length) in self.tokens.iter_mut().zip(lengths) {
            row.truncate(length);
        }
        self.session.rewind(lengths)
    }

    fn scoring(&mut self) -> Option<&mut dyn ScoringSession> {
        if self.model.scoring { Some(self) } else { None }
    }
}

impl ScoringSession for Recorded<'_> {
    fn extend_scored(&mut self, chunks: &[&[u32]]) -> Result<Scored> {
        self.note(Call::ExtendScored(
            chunks.iter().map(|chunk| chunk.len()).collect(),
        ));
        let rows = self.tokens.iter().zip(chunks);
        let scores = rows.map(|(before, chunk)| {
            let score = |number| {
                let before = [before, &chunk[..number]].concat();
                let logits = self.model.next_logits(&before).unwrap();
                lm_core::logits::log_prob(logits.as_slice().unwrap(), chunk[number]).unwrap()
            };
            (1..chunk.len()).map(score).collect()
        });
        Ok(Scored {
            scores: scores.collect(),
            next: self.fed(chunks)?,
        })
    }
}

/// The tiny model's tokenizer and template, without its weights.
pub(crate) fn text() -> TextInterface {
    let folder = tempfile::tempdir().unwrap();
    TinyLlama::default().write(folder.path()).unwrap();
    TextInterface::from_folder(folder.path()).unwrap()
}

/// Greedy continuation by the plainest of loops: the whole row anew for each token.
pub(crate) fn greedy(model: &Scripted, prompt: &[u32], stop: &[u32], most: usize) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    while tokens.len() < prompt.len() + most {
        let logits = model.next_logits(&tokens).unwrap();
        tokens.push(lm_core::logits::argmax(logits.as_slice().unwrap()).unwrap());
        if stop.contains(&tokens[tokens.len() - 1]) {
            break;
        }
    }
    tokens.split_off(prompt.len())
}
