//! What a model asks of a machine, and the least time that a work on it can take.

use lm_core::spec::{LayerPart, Part};
use lm_core::{DecoderSpec, Dtype};
use serde::{Deserialize, Serialize};

use crate::machine::Peaks;

/// Sizes of a decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Demand {
    /// Weights of the blocks: each multiplies every token.
    pub(crate) blocks: u64,
    /// Those of the blocks that make keys and values.
    pub(crate) keys: u64,
    /// Those that project what the heads put out.
    pub(crate) output: u64,
    /// Those of the feed-forward parts.
    pub(crate) mlp: u64,
    /// Weights of the unembedding: they multiply only positions whose logits are wanted.
    pub(crate) unembedding: u64,
    /// All weights, an embedding that is also the unembedding counted once.
    pub(crate) parameters: u64,
    /// Query heads × head width × layers: with it attention costs `4 · this` operations a pair of positions.
    pub(crate) attention: u64,
    /// Blocks.
    pub(crate) layers: usize,
    /// Query heads of a block.
    pub(crate) heads: usize,
}

impl Demand {
    pub(crate) fn of(spec: &DecoderSpec) -> Self {
        let size = |part: Part| spec.part_shape(part).iter().product::<usize>() as u64;
        let parts = spec.parts();
        let sum = |wanted: &dyn Fn(&Part) -> bool| -> u64 {
            let parts = parts.iter().copied().filter(|part| wanted(part));
            parts.map(size).sum()
        };
        let those = |wanted: &[LayerPart]| {
            sum(&|part| matches!(part, Part::Layer(_, own) if wanted.contains(own)))
        };
        Self {
            blocks: sum(&|part| matches!(part, Part::Layer(..))),
            keys: those(&[LayerPart::Key, LayerPart::Value]),
            output: those(&[LayerPart::Output]),
            mlp: those(&[LayerPart::Gate, LayerPart::Up, LayerPart::Down]),
            unembedding: size(Part::Unembedding),
            parameters: sum(&|_| true),
            attention: (spec.attention.heads * spec.attention.head_dim * spec.layers) as u64,
            layers: spec.layers,
            heads: spec.attention.heads,
        }
    }

    /// Bytes of the weights that a pass reads.
    pub(crate) fn bytes(&self, dtype: Dtype) -> f64 {
        let element = match dtype {
            Dtype::F32 => 4.0,
            _ => 2.0,
        };
        element * (self.blocks + self.unembedding) as f64
    }

    /// Operations of the blocks on rows of these `lengths`, each after `before` tokens that have been read.
    pub(crate) fn rows(&self, lengths: impl IntoIterator<Item = usize>, before: usize) -> f64 {
        let each = lengths.into_iter().map(|length| {
            let length = length as f64;
            // A causal mask leaves half of the pairs.
            let pairs = length * (before as f64 + (length + 1.0) / 2.0);
            2.0 * self.blocks as f64 * length + 4.0 * self.attention as f64 * pairs
        });
        each.sum()
    }
}

/// Passes over the weights that cost the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pass {
    /// How many of them.
    pub(crate) count: f64,
    /// Arithmetic of one.
    pub(crate) operations: f64,
    /// Bytes that one must read.
    pub(crate) bytes: f64,
}

/// The least seconds that passes take at the machine's peaks: each costs the reading of its weights or the arithmetic,
/// whichever takes longer. `None` for a work that has none.
pub(crate) fn least(passes: &[Pass], dtype: Dtype, peaks: &Peaks) -> Option<f64> {
    let gemm = match dtype {
        Dtype::F32 => peaks.gemm_f32,
        _ => peaks.gemm_bf16,
    };
    let each = passes
        .iter()
        .map(|pass| pass.count * (pass.operations / gemm).max(pass.bytes / peaks.read));
    (!passes.is_empty()).then(|| each.sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::Work;
    use crate::works::sweep::Heads;
    use crate::works::{Generate, Hidden, Prompt, Sweep, Task};

    const PEAKS: Peaks = Peaks {
        read: 1e9,
        gemm_f32: 1e11,
        gemm_bf16: 4e11,
    };
    const DEMAND: Demand = Demand {
        blocks: 100_000_000,
        keys: 10_000_000,
        output: 20_000_000,
        mlp: 50_000_000,
        unembedding: 25_000_000,
        parameters: 125_000_000,
        attention: 1_000,
        layers: 2,
        heads: 4,
    };

    fn generate(work: Work, dtype: Dtype) -> f64 {
        let task = Task::Generate(Generate {
            prompt: vec![0; work.prompt()],
            new_tokens: work.new_tokens(),
            rows: work.rows(),
            sampled: false,
            top_p: 1.0,
        });
        least(&task.passes(&DEMAND, dtype), dtype, &PEAKS).unwrap()
    }

    #[test]
    fn one_row_is_bound_by_reading_and_a_prompt_by_arithmetic() {
        assert_eq!(
            least(&Task::Load.passes(&DEMAND, Dtype::F32), Dtype::F32, &PEAKS),
            None
        );
        // 64 readings of 500 MB at 1 GB/s.
        assert!((generate(Work::Decode, Dtype::F32) - 32.0).abs() < 1e-9);
        assert!((generate(Work::Decode, Dtype::Bf16) - 16.0).abs() < 1e-9);
        let prefill = generate(Work::Prefill512, Dtype::F32);
        let operations = 2.0 * (1e8 * 512.0 + 2.5e7) + 4_000.0 * 512.0 * 513.0 / 2.0;
        assert!((prefill - operations / 1e11).abs() < 1e-9, "{prefill}");
    }

    #[test]
    fn the_lens_costs_an_unembedding_a_state() {
        let of = |lens| {
            let work = Hidden {
                prompts: Prompt::numbered([vec![0; 10], vec![0; 20]]),
                lens,
                checked: Vec::new(),
            };
            let passes = Task::Hidden(work).passes(&DEMAND, Dtype::F32);
            passes.iter().map(|pass| pass.operations).sum::<f64>()
        };
        assert!((of(false) - (6e9 + 4_000.0 * (55.0 + 210.0))).abs() < 1.0);
        // Two prompts, three states each.
        assert!((of(true) - of(false) - 6.0 * 5e7).abs() < 1.0);
    }

    /// By hand, a layer being half of the weights above, in millions: 50, keys 5, output 10, mlp 25; four heads a layer.
    #[test]
    fn a_sweep_computes_what_follows_each_head() {
        let of = |prompts: Vec<Vec<u32>>| {
            let work = Sweep {
                prompts: Prompt::numbered(prompts),
                heads: Heads::Rows,
            };
            let demand = Demand {
                attention: 0,
                ..DEMAND
            };
            let passes = Task::Sweep(work).passes(&demand, Dtype::F32);
            passes.iter().map(|pass| pass.operations).sum::<f64>() / 2e6
        };
        // The base is 10 × 100 and one unembedding. A head of layer 0: 10 × (a quarter of 10, and 25), then the last layer's
        // keys 10 × 5, the rest once, 45, and the unembedding, 25. A head of layer 1: once 27.5, and the unembedding.
        let alone = 1_025.0 + 4.0 * (275.0 + 50.0 + 45.0 + 25.0) + 4.0 * (27.5 + 25.0);
        let prompt: Vec<u32> = (0..10).collect();
        assert!((of(vec![prompt.clone()]) - alone).abs() < 1e-6);
        // Two rows that differ in the last token only: 11 positions, of which two are last.
        let two = 1_150.0 + 4.0 * (11.0 * 32.5 + 90.0 + 50.0) + 4.0 * (55.0 + 50.0);
        let other = [&prompt[..9], &[77]].concat();
        assert!((of(vec![prompt, other]) - two).abs() < 1e-6);
    }
}
