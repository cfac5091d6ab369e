//! The rows of the tables.

use std::fmt;

use clap::ValueEnum;
use lm_core::Dtype;
use serde::{Deserialize, Serialize};

use crate::works::sweep::Heads;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    /// Weights into memory, ready to run.
    Load,
    /// Read 512 tokens, logits after the last.
    #[value(name = "prefill-512")]
    #[serde(rename = "prefill-512")]
    Prefill512,
    /// Read 1,700 tokens.
    #[value(name = "prefill-1700")]
    #[serde(rename = "prefill-1700")]
    Prefill1700,
    /// 64 tokens greedily after 32, one row.
    #[value(name = "decode")]
    Decode,
    /// 64 tokens after 32, twenty sampled rows.
    #[value(name = "sample-20")]
    #[serde(rename = "sample-20")]
    Sample20,
    /// Hidden states of all layers at the last position of 125 chat prompts.
    #[value(name = "hidden-125")]
    #[serde(rename = "hidden-125")]
    Hidden125,
    /// Of 500.
    #[value(name = "hidden-500")]
    #[serde(rename = "hidden-500")]
    Hidden500,
    /// Of 500, each state also through the unembedding.
    HiddenLens,
    /// Every head made uniform in turn, on one raw prompt of 17 tokens.
    SweepRaw,
    /// On 100 chat prompts.
    SweepChat,
    /// A training step of a LoRA adapter on 8 rows of 64 tokens.
    AdapterStep,
}

impl Work {
    /// Whether it reads one prompt, or writes after it.
    pub(crate) fn generates(self) -> bool {
        self.prompt() > 0
    }

    /// Tokens of the one prompt of a work that generates.
    pub(crate) fn prompt(self) -> usize {
        match self {
            Self::Prefill512 => 512,
            Self::Prefill1700 => 1_700,
            Self::Decode | Self::Sample20 => 32,
            _ => 0,
        }
    }

    /// Tokens each row writes.
    pub(crate) fn new_tokens(self) -> usize {
        match self {
            Self::Decode | Self::Sample20 => 64,
            _ => 0,
        }
    }

    /// Continuations of the prompt.
    pub(crate) fn rows(self) -> usize {
        match self {
            Self::Sample20 => 20,
            _ => 1,
        }
    }

    /// Chat prompts of a work on a list of them.
    pub(crate) fn prompts(self) -> usize {
        match self {
            Self::Hidden125 => 125,
            Self::Hidden500 | Self::HiddenLens => 500,
            Self::SweepChat => 100,
            _ => 0,
        }
    }

    /// What `seconds` of it are, as a user would say it.
    pub(crate) fn speed(self, seconds: f64) -> String {
        let rate = |count: usize, what: &str| format!("{:.1} {what}/s", count as f64 / seconds);
        match self {
            Self::Load | Self::SweepRaw | Self::SweepChat => format!("{seconds:.2} s"),
            Self::AdapterStep => format!("{seconds:.2} s/step"),
            Self::Hidden125 | Self::Hidden500 | Self::HiddenLens => rate(self.prompts(), "prompts"),
            _ => rate(self.tokens(), "tok"),
        }
    }

    /// Tokens that the speed counts: those read, or those written.
    fn tokens(self) -> usize {
        match self.new_tokens() {
            0 => self.prompt(),
            new => new * self.rows(),
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Load => "load",
            Self::Prefill512 => "prefill 512",
            Self::Prefill1700 => "prefill 1,700",
            Self::Decode => "greedy, 64 tokens",
            Self::Sample20 => "20 samples × 64 tokens",
            Self::Hidden125 => "hidden states, 125 prompts",
            Self::Hidden500 => "hidden states, 500 prompts",
            Self::HiddenLens => "hidden states and lens, 500 prompts",
            Self::SweepRaw => "sweep of all heads, 17 tokens",
            Self::SweepChat => "sweep of all heads, 100 chat prompts",
            Self::AdapterStep => "adapter step, 8 × 64 tokens",
        })
    }
}

/// Where the weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// The Hugging Face folder, f32.
    Safetensors,
    /// The demo model as it is shipped: Q4_1.
    Gguf,
    /// A copy of it in GGUF with f32 weights.
    GgufF32,
    /// With f16 weights.
    GgufF16,
    /// With bf16 weights.
    GgufBf16,
    /// With Q8_0 weights.
    GgufQ8,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "safetensors F32",
            Self::Gguf => "GGUF Q4_1",
            Self::GgufF32 => "GGUF F32",
            Self::GgufF16 => "GGUF F16",
            Self::GgufBf16 => "GGUF BF16",
            Self::GgufQ8 => "GGUF Q8_0",
        })
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) work: Work,
    pub(crate) source: Source,
    /// Element type that our side runs in.
    pub(crate) dtype: Dtype,
    /// How the peer runs the heads of a sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) heads: Option<Heads>,
}

/// With what the peer does, where there are two ways.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.work)?;
        match self.heads {
            None => Ok(()),
            Some(Heads::Forwards) => f.write_str(" (peer: a forward a head)"),
            Some(Heads::Rows) => f.write_str(" (peer: a layer's heads as rows)"),
        }
    }
}

/// Against transformers: both sides from the same folder, and loading also from the GGUF file.
pub(crate) fn against_python() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |work, source, dtype, heads| {
        cases.push(Case {
            work,
            source,
            dtype,
            heads,
        });
    };
    for &work in Work::value_variants() {
        match work {
            Work::SweepRaw | Work::SweepChat => {
                for heads in [Heads::Forwards, Heads::Rows] {
                    add(work, Source::Safetensors, Dtype::F32, Some(heads));
                }
            }
            _ => add(work, Source::Safetensors, Dtype::F32, None),
        }
        if work.generates() || work == Work::Load {
            add(work, Source::Safetensors, Dtype::Bf16, None);
        }
        if work == Work::Load {
            add(work, Source::Gguf, Dtype::F32, None);
        }
    }
    cases
}

/// Against llama.cpp: the same file on both sides. It computes in the file's own type, so each dtype has a file; its
/// quantised arithmetic has no counterpart here, and stands beside our bf16. F16 runs in f16 on both sides: equal bytes to
/// read and equal precision.
pub(crate) fn against_llamacpp() -> Vec<Case> {
    let kinds = [
        (Source::GgufF32, Dtype::F32),
        (Source::GgufF16, Dtype::F16),
        (Source::GgufBf16, Dtype::Bf16),
        (Source::GgufQ8, Dtype::Bf16),
    ];
    Work::value_variants()
        .iter()
        .filter(|work| work.generates() || **work == Work::Load)
        .flat_map(|&work| {
            kinds.map(|(source, dtype)| Case {
                work,
                source,
                dtype,
                heads: None,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_count_what_was_asked_for() {
        assert_eq!(Work::Prefill1700.speed(2.0), "850.0 tok/s");
        assert_eq!(Work::Sample20.speed(10.0), "128.0 tok/s");
        assert_eq!(Work::Hidden500.speed(10.0), "50.0 prompts/s");
        assert_eq!(Work::SweepRaw.speed(4.0), "4.00 s");
    }

    #[test]
    fn sweeps_are_held_against_both_ways() {
        let cases = against_python();
        for work in [Work::SweepRaw, Work::SweepChat] {
            let ways = cases.iter().filter(|case| case.work == work);
            let ways: Vec<_> = ways.map(|case| case.heads).collect();
            assert_eq!(ways, [Some(Heads::Forwards), Some(Heads::Rows)]);
        }
        assert!(against_llamacpp().iter().all(|case| case.heads.is_none()));
    }
}
