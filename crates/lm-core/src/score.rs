//! Teacher-forced scores of many continuations of one prefix.
//!
//! Candidates of one shape (dates, numbers, names out of a list) begin alike. Laid out as a tree of tokens, each beginning
//! is read once, whoever shares it, and the last token of a continuation is not read at all: nothing is asked after it. Where
//! the tree does not branch, an engine that can ([`Session::scoring`]) reads and scores several tokens in one pass.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::model::{
    LanguageModel, MAX_ROWS, Scored, ScoringSession, Session, check_chunks, expect_logits,
};
use crate::{Error, Result, logits};

/// How to score many continuations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreOptions {
    /// Most rows that run together; 64 unless set. Each holds the prefix and its own tokens in the engine's cache, so this
    /// bounds the memory.
    pub batch: usize,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        Self { batch: 64 }
    }
}

impl ScoreOptions {
    /// Refuses values that no scoring could use.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn check(&self) -> Result<()> {
        if self.batch == 0 || self.batch > MAX_ROWS {
            let expected = format!("from 1 to {MAX_ROWS}");
            return Err(Error::argument("batch", expected, self.batch));
        }
        Ok(())
    }
}

/// What [`LanguageModel::score_many`] refuses, for every implementation of it. The row named is the continuation's place in
/// the list; positions count from the prefix's first token.
///
/// # Errors
/// See [`LanguageModel::score_many`].
pub fn check_score_many(
    prefix: &[u32],
    continuations: &[&[u32]],
    vocab: usize,
    context: Option<usize>,
) -> Result<()> {
    let empty = |what: String, unit| Err(Error::Empty { what, unit });
    if continuations.is_empty() {
        return empty("list of continuations".to_owned(), "continuation");
    }
    if prefix.is_empty() {
        return empty("prefix".to_owned(), "token");
    }
    check_chunks(&[prefix], &[0], vocab, context)?;
    for (row, continuation) in continuations.iter().enumerate() {
        if continuation.is_empty() {
            return empty(format!("continuation {row}"), "token");
        }
        let checked = check_chunks(&[continuation], &[prefix.len()], vocab, context);
        checked.map_err(|error| match error {
            Error::Context { found, limit, .. } => Error::Context { row, found, limit },
            Error::TokenId {
                position,
                id,
                vocab,
                ..
            } => Error::TokenId {
                row,
                position: prefix.len() + position,
                id,
                vocab,
            },
            other => other,
        })?;
    }
    Ok(())
}

/// What [`LanguageModel::score_many`] does unless an engine does better: one session that reads the prefix once and then
/// each distinct beginning of a continuation once, level by level, in batches of at most [`ScoreOptions::batch`] rows.
///
/// Where a level is wider than that, the tree is cut below a node, and the session goes back to that node for the next part.
/// A session that scores what it reads ([`Session::scoring`]) reads on to where its paths part.
///
/// # Errors
/// Those of [`LanguageModel::score_many`].
pub fn score_many<M: LanguageModel + ?Sized>(
    model: &M,
    prefix: &[u32],
    continuations: &[&[u32]],
    options: &ScoreOptions,
) -> Result<Vec<Vec<f64>>> {
    options.check()?;
    let vocab = model.vocab_size();
    check_score_many(prefix, continuations, vocab, model.context_length())?;
    let mut tree = Tree::new(continuations);
    let mut session = model.begin(1)?;
    let next = session.extend(&[prefix])?;
    tree.note(&[ROOT], &expect_logits(next, 1, vocab)?);
    // Nodes to be read as one batch, and how many tokens stand between prefix and them. A stack of our own: a long
    // continuation must not cost the thread's.
    let mut parts = tree.parts_below(ROOT, 0, options.batch);
    while let Some((depth, part)) = parts.pop() {
        // Whatever row is first now, it has grown from the part's parent.
        if session.rows() > 1 {
            session.select(&[0])?;
        }
        if session.len(0) > prefix.len() + depth {
            session.rewind(&[prefix.len() + depth])?;
        }
        let forks = vec![0; part.len()];
        let mut rows = tree.read(session.as_mut(), &forks, &part, vocab)?;
        match *rows {
            [wide] if tree.nodes[wide].width > options.batch => {
                let depth = session.len(0).saturating_sub(prefix.len());
                parts.extend(tree.parts_below(wide, depth, options.batch));
            }
            _ => loop {
                let (from, below) = tree.next_level(&rows);
                if below.is_empty() {
                    break;
                }
                rows = tree.read(session.as_mut(), &from, &below, vocab)?;
            },
        }
    }
    Ok(tree.scores())
}

/// The continuations by their common beginnings; the root stands for the prefix.
struct Tree {
    /// Parents come before their children.
    nodes: Vec<Node>,
    /// The last node of each continuation.
    ends: Vec<usize>,
}

struct Node {
    parent: usize,
    token: u32,
    /// Natural log-probability of the token after its ancestors; NaN until it is known.
    score: f64,
    children: Vec<usize>,
    /// Of the nodes from here down that must be read, those below which none must be: no level is wider.
    width: usize,
}

const ROOT: usize = 0;

/// Most positions, pads among them, that a pass reads below the prefix, so that memory stays bounded.
const POSITIONS_AT_ONCE: usize = 1024;

/// A shorter row beside a longer one is padded. For so many pads a pass is saved: about what the arithmetic of a position
/// costs beside reading all weights once more.
const PADS_FOR_A_PASS: usize = 16;

impl Tree {
    fn new(continuations: &[&[u32]]) -> Self {
        let mut nodes = vec![Node::new(ROOT, 0)];
        let mut ends = vec![ROOT; continuations.len()];
        let mut sorted: Vec<(&[u32], &mut usize)> =
            continuations.iter().copied().zip(&mut ends).collect();
        sorted.sort_by_key(|(tokens, _)| *tokens);
        let mut path = vec![ROOT];
        let mut before: &[u32] = &[];
        for (tokens, end) in sorted {
            let shared = before
                .iter()
                .zip(tokens)
                .take_while(|(a, b)| a == b)
                .count();
            path.truncate(shared + 1);
            let mut last = path.last().copied().unwrap_or(ROOT);
            for &token in &tokens[shared..] {
                let node = nodes.len();
                nodes.push(Node::new(last, token));
                nodes[last].children.push(node);
                path.push(node);
                last = node;
            }
            *end = last;
            before = tokens;
        }
        let mut tree = Self { nodes, ends };
        for node in (0..tree.nodes.len()).rev() {
            let width = tree.read_below(node).map(|child| tree.nodes[child].width);
            tree.nodes[node].width = width.sum::<usize>().max(1);
        }
        tree
    }

    /// Children of `node` that must be read, because something comes after them.
    fn read_below(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        let children = self.nodes[node].children.iter().copied();
        children.filter(|&child| !self.nodes[child].children.is_empty())
    }

    /// What must be read directly below `node`, which is `depth` tokens after the prefix, in parts no level of which is
    /// wider than `batch`; a child that is too wide by itself is a part of its own.
    fn parts_below(&self, node: usize, depth: usize, batch: usize) -> Vec<(usize, Vec<usize>)> {
        let mut parts: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut taken = 0;
        for child in self.read_below(node) {
            let width = self.nodes[child].width;
            match parts.last_mut() {
                Some((_, part)) if taken + width <= batch => {
                    part.push(child);
                    taken += width;
                }
                _ => {
                    parts.push((depth, vec![child]));
                    taken = width;
                }
            }
        }
        parts
    }

    /// The nodes to be read below those of `rows`, and for each the row it grows from.
    fn next_level(&self, rows: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let below = |(row, &node)| self.read_below(node).map(move |child| (row, child));
        rows.iter().enumerate().flat_map(below).unzip()
    }

    /// Makes the session's rows `from[i]` grow by the token of `nodes[i]`, and where the session scores what it reads by those
    /// after it as far as there is nothing else to read; notes what comes after. Returns the last node read of each row.
    fn read(
        &mut self,
        session: &mut dyn Session,
        from: &[usize],
        nodes: &[usize],
        vocab: usize,
    ) -> Result<Vec<usize>> {
        if from.len() != session.rows() || from.iter().enumerate().any(|(row, &from)| row != from) {
            session.select(from)?;
        }
        if let Some(scoring) = session.scoring() {
            return self.read_chains(scoring, &self.chains(nodes), vocab);
        }
        let tokens: Vec<u32> = nodes.iter().map(|&node| self.nodes[node].token).collect();
        let next = expect_logits(session.append(&tokens)?, nodes.len(), vocab)?;
        self.note(nodes, &next);
        Ok(nodes.to_vec())
    }

    fn read_chains(
        &mut self,
        session: &mut dyn ScoringSession,
        chains: &[Vec<usize>],
        vocab: usize,
    ) -> Result<Vec<usize>> {
        let token = |&node: &usize| self.nodes[node].token;
        let chunks = chains.iter().map(|chain| chain.iter().map(token).collect());
        let chunks: Vec<Vec<u32>> = chunks.collect();
        let chunks: Vec<&[u32]> = chunks.iter().map(Vec::as_slice).collect();
        let Scored { scores, next } = session.extend_scored(&chunks)?;
        let found: Vec<usize> = scores.iter().map(Vec::len).collect();
        let expected: Vec<usize> = chains.iter().map(|chain| chain.len() - 1).collect();
        if found != expected {
            let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
            return Err(Error::argument("scores of a session", expected, found));
        }
        for (chain, scores) in chains.iter().zip(scores) {
            for (&node, score) in chain.iter().skip(1).zip(scores) {
                self.nodes[node].score = score;
            }
        }
        let ends = chains.iter().filter_map(|chain| chain.last().copied());
        let ends: Vec<usize> = ends.collect();
        self.note(&ends, &expect_logits(next, ends.len(), vocab)?);
        Ok(ends)
    }

    /// Of each of `nodes` the node itself and those after it that one pass reads: as far as nothing else comes after a node,
    /// and the pass is worth its pads.
    fn chains(&self, nodes: &[usize]) -> Vec<Vec<usize>> {
        let most = (POSITIONS_AT_ONCE / nodes.len().max(1)).max(1);
        let mut chains: Vec<Vec<usize>> = nodes.iter().map(|&node| vec![node]).collect();
        for length in 2..=most {
            let next: Vec<(usize, usize)> = chains
                .iter()
                .enumerate()
                .filter(|(_, chain)| chain.len() + 1 == length)
                .filter_map(|(row, chain)| Some((row, self.only_read_below(*chain.last()?)?)))
                .collect();
            if next.is_empty() || chains.len() - next.len() > PADS_FOR_A_PASS {
                break;
            }
            for (row, node) in next {
                chains[row].push(node);
            }
        }
        chains
    }

    /// The child of `node`, if it is the only one and must be read.
    fn only_read_below(&self, node: usize) -> Option<usize> {
        match *self.nodes[node].children {
            [child] => Some(child).filter(|&child| !self.nodes[child].children.is_empty()),
            _ => None,
        }
    }

    /// Takes the scores of the children of each of `nodes` from the logits after it, `[node, vocab]`.
    fn note(&mut self, nodes: &[usize], next: &Array2<f32>) {
        for (&node, row) in nodes.iter().zip(next.outer_iter()) {
            let row = row.to_slice().unwrap_or_default();
            let total = logits::log_sum_exp(row);
            let children = std::mem::take(&mut self.nodes[node].children);
            for &child in &children {
                let token = self.nodes[child].token as usize;
                // Every token has been checked against the vocabulary.
                let logit = row.get(token).copied().unwrap_or(f32::NAN);
                self.nodes[child].score = f64::from(logit) - total;
            }
            self.nodes[node].children = children;
        }
    }

    /// For each continuation the scores of its tokens.
    fn scores(&self) -> Vec<Vec<f64>> {
        let upwards = |&end: &usize| {
            let mut scores = Vec::new();
            let mut node = end;
            while node != ROOT {
                scores.push(self.nodes[node].score);
                node = self.nodes[node].parent;
            }
            scores.reverse();
            scores
        };
        self.ends.iter().map(upwards).collect()
    }
}

impl Node {
    fn new(parent: usize, token: u32) -> Self {
        Self {
            parent,
            token,
            score: f64::NAN,
            children: Vec::new(),
            width: 1,
        }
    }
}
