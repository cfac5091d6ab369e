//! What each side of a row is given: made here once, as token ids and files, so that no tokenizer differs.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use lm_core::{
    Adapter, AdapterConfig, Checkpoint, Conversation, Prompt as Text, Targets, TextInterface,
};

use crate::cases::{Case, Work};
use crate::works::adapter::WARM_UP_STEPS;
use crate::works::sweep::Heads;
use crate::works::{AdapterSteps, Generate, Hidden, Prompt, Sweep, Task};

/// Nucleus of the sampled work.
const TOP_P: f32 = 0.95;
/// Tokens of the raw prompt.
const RAW_TOKENS: usize = 17;
const RAW_TEXT: &str =
    "The library opens at nine, and whoever comes early waits under the old chestnut by the door.";
/// Rows, tokens of a row and those of them that are given, of a training step.
const BATCH: (usize, usize, usize) = (8, 64, 24);
/// Timed training steps.
const STEPS: usize = 10;
const RANK: usize = 8;
const LEARNING_RATE: f64 = 1e-3;
const MAX_GRAD_NORM: f64 = 1.0;
const SEED: usize = 17;
/// Prompts whose hidden states are compared.
const CHECKED: usize = 5;

/// What a row's two sides work on.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    /// The whole work.
    pub(crate) whole: Task,
    /// What is timed of it on each side, ours first, and what that time is multiplied by.
    pub(crate) timed: [(Task, f64); 2],
    /// Times a process repeats it.
    pub(crate) repeats: usize,
}

/// Makes inputs for one model.
#[derive(Debug)]
pub(crate) struct Maker<'a> {
    text: TextInterface,
    vocab: usize,
    /// Where files for both sides go.
    folder: &'a Path,
    /// Whether long works are made as small as they can be.
    quick: bool,
}

impl<'a> Maker<'a> {
    pub(crate) fn new(demo: &Checkpoint, folder: &'a Path, quick: bool) -> Result<Self> {
        Ok(Self {
            text: TextInterface::open(demo)?,
            vocab: demo.spec().vocab_size,
            folder,
            quick,
        })
    }

    /// The inputs of `case`, whose weights lie at `weights`.
    pub(crate) fn make(&self, case: &Case, weights: &Path, repeats: usize) -> Result<Inputs> {
        let work = case.work;
        let heads = case.heads.unwrap_or(Heads::Forwards);
        let whole = match work {
            Work::Load => Task::Load,
            Work::Prefill512 | Work::Prefill1700 | Work::Decode | Work::Sample20 => {
                Task::Generate(Generate {
                    prompt: lm_benches::prompt(work.prompt(), self.vocab),
                    new_tokens: work.new_tokens(),
                    rows: work.rows(),
                    sampled: work == Work::Sample20,
                    top_p: TOP_P,
                })
            }
            Work::Hidden125 | Work::Hidden500 | Work::HiddenLens => Task::Hidden(Hidden {
                prompts: self.chats(work.prompts())?,
                lens: work == Work::HiddenLens,
                checked: Vec::new(),
            }),
            Work::SweepRaw => Task::Sweep(Sweep {
                prompts: Prompt::numbered([self.raw()?]),
                heads,
            }),
            Work::SweepChat => Task::Sweep(Sweep {
                prompts: self.chats(work.prompts())?,
                heads,
            }),
            Work::AdapterStep => Task::Adapter(self.adapter(weights)?),
        };
        // The peer's sample out of ours, so that both have numbers to compare.
        let [ours, theirs] = self.samples(case);
        let (ours, scale) = whole.sampled(ours);
        let (theirs, further) = ours.sampled(theirs);
        let mut timed = [(ours, scale), (theirs, scale * further)];
        check(&mut timed);
        Ok(Inputs {
            whole,
            timed,
            repeats: match work {
                Work::AdapterStep => STEPS,
                // A minute or more each.
                Work::Hidden500 | Work::HiddenLens | Work::SweepChat => 1,
                _ => repeats,
            },
        })
    }

    /// How many prompts each side is timed on, ours first: more than they are for all.
    fn samples(&self, case: &Case) -> [usize; 2] {
        let all = usize::MAX;
        let [full, quick] = match (case.work, case.heads) {
            // Ours always whole: what its memory does with so many is the question.
            (Work::Hidden500, _) => [[all, all], [all, 50]],
            (Work::HiddenLens, _) => [[all, 50], [all, 10]],
            (Work::SweepChat, Some(Heads::Rows)) => [[20, 5], [4, 2]],
            (Work::SweepChat, _) => [[20, 2], [4, 1]],
            _ => [[all, all]; 2],
        };
        if self.quick { quick } else { full }
    }

    /// Everyday requests in the chat template's form.
    fn chats(&self, count: usize) -> Result<Vec<Prompt>> {
        let requests = lm_benches::mild(count, SEED).into_iter();
        let ids = requests.map(|request| {
            let chat = Text::Chat(Conversation::new().user(request));
            Ok(self.text.encode(&chat)?.into_ids())
        });
        Ok(Prompt::numbered(ids.collect::<Result<Vec<_>>>()?))
    }

    fn raw(&self) -> Result<Vec<u32>> {
        let mut ids = self.text.tokenizer().encode_raw(RAW_TEXT)?.into_ids();
        ensure!(
            ids.len() >= RAW_TOKENS,
            "the raw prompt has {} tokens here, at least {RAW_TOKENS} are wanted",
            ids.len()
        );
        ids.truncate(RAW_TOKENS);
        Ok(ids)
    }

    fn adapter(&self, weights: &Path) -> Result<AdapterSteps> {
        let targets = Targets::names([
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "gate_proj",
            "up_proj",
            "down_proj",
        ]);
        let config = AdapterConfig::new(RANK, 2.0 * RANK as f64, targets);
        let adapter = Adapter::new(&Checkpoint::open(weights)?, config, SEED as u64)?;
        let matrices = adapter.matrices().iter();
        let parameters = matrices.map(|own| (own.a.len() + own.b.len()) as u64).sum();
        let folder: PathBuf = self.folder.join("adapter");
        adapter.save(&folder)?;
        let (rows, length, given) = BATCH;
        // Requests one after the other, cut into rows of one length.
        let text = lm_benches::mild(rows * length / 8, SEED).join("\n");
        let ids = self.text.tokenizer().encode_raw(&text)?.into_ids();
        let rows: Vec<Vec<u32>> = ids
            .chunks_exact(length)
            .take(rows)
            .map(<[u32]>::to_vec)
            .collect();
        ensure!(rows.len() == BATCH.0, "the text makes {} rows", rows.len());
        Ok(AdapterSteps {
            adapter: folder,
            parameters,
            rows,
            given,
            steps: WARM_UP_STEPS + STEPS,
            learning_rate: LEARNING_RATE,
            max_grad_norm: MAX_GRAD_NORM,
        })
    }
}

/// Chooses the prompts whose states are compared from those that both sides have.
fn check(timed: &mut [(Task, f64); 2]) {
    let [(ours, _), (theirs, _)] = timed;
    let (Task::Hidden(ours), Task::Hidden(theirs)) = (ours, theirs) else {
        return;
    };
    let common = theirs.prompts.iter().map(|own| own.number);
    let common: Vec<usize> = common
        .filter(|number| ours.prompts.iter().any(|own| own.number == *number))
        .collect();
    let step = (common.len() / CHECKED).max(1);
    let chosen: Vec<usize> = common.iter().copied().step_by(step).take(CHECKED).collect();
    ours.checked = chosen.clone();
    theirs.checked = chosen;
}
