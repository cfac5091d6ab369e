//! The works that are timed, and the least that each could take on this machine.

use std::fmt;

use clap::ValueEnum;
use lm_core::spec::Part;
use lm_core::{DecoderSpec, Dtype};
use serde::{Deserialize, Serialize};

use crate::machine::Peaks;

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
}

impl Work {
    /// Tokens of the prompt.
    pub(crate) fn prompt(self) -> usize {
        match self {
            Self::Load => 0,
            Self::Prefill512 => 512,
            Self::Prefill1700 => 1_700,
            Self::Decode | Self::Sample20 => 32,
        }
    }

    /// Tokens each row writes.
    pub(crate) fn new_tokens(self) -> usize {
        match self {
            Self::Load | Self::Prefill512 | Self::Prefill1700 => 0,
            Self::Decode | Self::Sample20 => 64,
        }
    }

    /// Continuations of the prompt.
    pub(crate) fn rows(self) -> usize {
        match self {
            Self::Sample20 => 20,
            _ => 1,
        }
    }

    /// Tokens that the speed counts: those read, or those written.
    pub(crate) fn tokens(self) -> usize {
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
}

/// Against transformers: both sides from the same folder, and loading also from the GGUF file.
pub(crate) fn against_python() -> Vec<Case> {
    let mut cases = Vec::new();
    for &work in Work::value_variants() {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            cases.push(Case {
                work,
                source: Source::Safetensors,
                dtype,
            });
        }
        if work == Work::Load {
            cases.push(Case {
                work,
                source: Source::Gguf,
                dtype: Dtype::F32,
            });
        }
    }
    cases
}

/// Against llama.cpp: the same file on both sides. It computes in the file's own type, so each dtype has a file; its
/// quantised arithmetic has no counterpart here, and stands beside our bf16.
pub(crate) fn against_llamacpp() -> Vec<Case> {
    let kinds = [
        (Source::GgufF32, Dtype::F32),
        (Source::GgufBf16, Dtype::Bf16),
        (Source::GgufQ8, Dtype::Bf16),
    ];
    Work::value_variants()
        .iter()
        .flat_map(|&work| {
            kinds.map(|(source, dtype)| Case {
                work,
                source,
                dtype,
            })
        })
        .collect()
}

/// What a model asks of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Demand {
    /// Weights of the blocks: each multiplies every token.
    pub(crate) blocks: u64,
    /// Weights of the unembedding: they multiply only positions whose logits are wanted.
    pub(crate) unembedding: u64,
    /// All weights, an embedding that is also the unembedding counted once.
    pub(crate) parameters: u64,
    /// Query heads × head width × layers: with it attention costs `4 · this` operations a pair of positions.
    pub(crate) attention: u64,
}

impl Demand {
    pub(crate) fn of(spec: &DecoderSpec) -> Self {
        let size = |part: Part| spec.part_shape(part).iter().product::<usize>() as u64;
        let parts = spec.parts();
        let sum = |wanted: fn(&Part) -> bool| -> u64 {
            parts.iter().copied().filter(wanted).map(size).sum()
        };
        Self {
            blocks: sum(|part| matches!(part, Part::Layer(..))),
            unembedding: size(Part::Unembedding),
            parameters: sum(|_| true),
            attention: (spec.attention.heads * spec.attention.head_dim * spec.layers) as u64,
        }
    }

    /// The least seconds `case` takes at the machine's peaks: each pass costs the reading of its weights or the arithmetic,
    /// whichever takes longer. `None` for loading.
    pub(crate) fn least(&self, case: &Case, peaks: &Peaks) -> Option<f64> {
        let work = case.work;
        if work == Work::Load {
            return None;
        }
        let (bytes, gemm) = match case.dtype {
            Dtype::F32 => (4.0, peaks.gemm_f32),
            _ => (2.0, peaks.gemm_bf16),
        };
        let (prompt, rows) = (work.prompt() as f64, work.rows() as f64);
        let read = bytes * (self.blocks + self.unembedding) as f64 / peaks.read;
        // A causal mask leaves half of the pairs.
        let pairs = prompt * (prompt + 1.0) / 2.0;
        let prefill = 2.0 * (self.blocks as f64 * prompt + self.unembedding as f64)
            + 4.0 * self.attention as f64 * pairs;
        let mut seconds = (prefill / gemm).max(read);
        // The prompt's own pass gives the first token. Attention to so few positions does not show.
        let step = 2.0 * rows * (self.blocks + self.unembedding) as f64;
        let steps = work.new_tokens().saturating_sub(1) as f64;
        seconds += steps * (step / gemm).max(read);
        Some(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEAKS: Peaks = Peaks {
        read: 1e9,
        gemm_f32: 1e11,
        gemm_bf16: 4e11,
    };
    const DEMAND: Demand = Demand {
        blocks: 100_000_000,
        unembedding: 25_000_000,
        parameters: 125_000_000,
        attention: 1_000,
    };

    fn least(work: Work, dtype: Dtype) -> Option<f64> {
        let source = Source::Safetensors;
        let case = Case {
            work,
            source,
            dtype,
        };
        DEMAND.least(&case, &PEAKS)
    }

    #[test]
    fn one_row_is_bound_by_reading_and_a_prompt_by_arithmetic() {
        assert_eq!(least(Work::Load, Dtype::F32), None);
        // 64 readings of 500 MB at 1 GB/s.
        assert_eq!(least(Work::Decode, Dtype::F32), Some(32.0));
        assert_eq!(least(Work::Decode, Dtype::Bf16), Some(16.0));
        let prefill = least(Work::Prefill512, Dtype::F32).unwrap();
        let operations = 2.0 * (1e8 * 512.0 + 2.5e7) + 4_000.0 * 512.0 * 513.0 / 2.0;
        assert!((prefill - operations / 1e11).abs() < 1e-9, "{prefill}");
    }

    #[test]
    fn speeds_count_the_tokens_that_were_asked_for() {
        assert_eq!(Work::Prefill1700.tokens(), 1_700);
        assert_eq!(Work::Sample20.tokens(), 1_280);
    }
}
