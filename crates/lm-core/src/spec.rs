//! A decoder described by data. One decoder reads this and serves every family; a family only fills it in.

use serde::{Deserialize, Serialize};

use crate::model::ModelShape;
use crate::{Error, Result};

/// Everything about a decoder-only transformer that changes its arithmetic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecoderSpec {
    /// Name of the family that filled this in, such as `llama`.
    pub family: String,
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Most positions a row may have.
    pub context_length: usize,
    /// From tokens to the first residual.
    pub embedding: EmbeddingSpec,
    /// The norms, one kind throughout.
    pub norm: NormSpec,
    /// How attention, feed-forward part and norms of a block are put together.
    pub block: BlockKind,
    /// The attention of every block.
    pub attention: AttentionSpec,
    /// The window of each layer, `[layers]`: a query sees itself and the `window - 1` tokens before it. `None`: all.
    pub windows: Vec<Option<usize>>,
    /// How positions enter the attention; `None` where they enter only with the embedding.
    pub rotary: Option<RotarySpec>,
    /// The rotary embedding of the layers with a window, where it is another one (Gemma 3).
    pub window_rotary: Option<RotarySpec>,
    /// The feed-forward part of every block.
    pub mlp: MlpSpec,
    /// From the last residual to logits.
    pub unembedding: UnembeddingSpec,
}

/// From tokens to the first residual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingSpec {
    /// The embedding is multiplied by this, rounded to the run's dtype (Gemma: the root of the width).
    pub scale: Option<f64>,
    /// Rows of a learned position embedding that is added; `None` without one.
    pub learned_positions: Option<usize>,
}

/// From the last residual to logits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UnembeddingSpec {
    /// Whether its weight is the embedding's.
    pub tied: bool,
    /// Whether it has a bias.
    pub bias: bool,
    /// Logits `z` become `c · tanh(z / c)`.
    pub soft_cap: Option<f64>,
}

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormSpec {
    /// Its formula.
    pub kind: NormKind,
    /// Added to the variance before the root.
    pub epsilon: f64,
}

/// Formula of a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NormKind {
    /// `w · x / √(mean(x²) + ε)`; rounded to the run's dtype before the weight is applied.
    Rms,
    /// The same, with the weight applied in `f32` before rounding; its weights stay in `f32`. (Gemma's files hold `w - 1`
    /// in safetensors and `w` in GGUF; here it is `w`.)
    RmsWide,
    /// `w · (x - mean(x)) / √(var(x) + ε) + b`.
    Layer,
}

/// How the parts of a block are put together; `A` attention, `M` feed-forward, `n` norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BlockKind {
    /// `y = x + A(n₁(x))`, then `y + M(n₂(y))`.
    PreNorm,
    /// `y = x + n₁(A(x))`, then `y + n₂(M(y))`.
    PostNorm,
    /// `y = x + n₂(A(n₁(x)))`, then `y + n₄(M(n₃(y)))`.
    SandwichNorm,
    /// `x + A(n₁(x)) + M(n₁(x))`.
    ParallelSharedNorm,
    /// `x + A(n₁(x)) + M(n₂(x))`.
    ParallelOwnNorms,
}

impl BlockKind {
    /// Whether there is a norm before the attention.
    fn norms_before(self) -> bool {
        self != Self::PostNorm
    }

    /// Whether there are norms after attention and feed-forward part.
    fn norms_after(self) -> bool {
        matches!(self, Self::PostNorm | Self::SandwichNorm)
    }
}

/// Self-attention of a block.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Whether the query, key and value projections have a bias.
    pub qkv_bias: bool,
    /// Whether the output projection has a bias.
    pub output_bias: bool,
    /// What `q·k` is multiplied by.
    pub scale: f64,
    /// Norm of queries and keys before the rotary embedding.
    pub qk_norm: Option<QkNorm>,
    /// Scores `s` become `c · tanh(s / c)` before the mask.
    pub soft_cap: Option<f64>,
}

/// Over what queries and keys are normed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum QkNorm {
    /// Over each head.
    Head,
    /// Over all heads together, before they are split.
    Projection,
}

/// Rotary position embedding (Su et al., 2021).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RotarySpec {
    /// Base of the frequencies.
    pub theta: f64,
    /// Leading part of a head that is rotated.
    pub dim: usize,
    /// Which components form a pair.
    pub style: RotaryStyle,
    /// How the frequencies are stretched.
    pub scaling: RotaryScaling,
}

/// Which two components of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RotaryStyle {
    /// `i` with `i + dim/2` (the Hugging Face layout of the llama family).
    Half,
    /// `2i` with `2i + 1` (GPT-J, GLM).
    Interleaved,
}

/// How rotary frequencies are stretched beyond the trained context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RotaryScaling {
    /// Not at all.
    None,
    /// All frequencies divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Each frequency divided by its own factor, as GGUF stores Llama 3.1's.
    Factors {
        /// The divisors, `[dim / 2]`.
        factors: Vec<f64>,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, a smooth ramp between.
    Llama3 {
        /// The divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are stretched fully.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length of pre-training.
        original_context: f64,
    },
    /// YaRN (Peng et al., 2023): a ramp over the dimensions, and cosines and sines times a factor.
    Yarn {
        /// The divisor of the low frequencies.
        factor: f64,
        /// Cosines and sines are multiplied by this.
        attention_factor: f64,
        /// Rotations within the original context above which a frequency is kept.
        beta_fast: f64,
        /// Rotations below which it is divided by `factor`.
        beta_slow: f64,
        /// Context length of pre-training.
        original_context: f64,
        /// Whether the ramp begins and ends at whole dimensions.
        truncate: bool,
    },
    /// Dynamic NTK: the base grows with the length once a row is longer than the original context. Keys already in a cache
    /// keep the base they were made with, as in transformers, so the same text in other portions gives other numbers.
    Dynamic {
        /// The stretch at twice the original context is `factor + 1`.
        factor: f64,
        /// Context length of pre-training.
        original_context: usize,
    },
    /// LongRoPE (Ding et al., 2024): one list of divisors up to the original context, another beyond it. What is said of
    /// [`RotaryScaling::Dynamic`] about caches holds here too.
    LongRope {
        /// Divisors while a row is no longer than the original context, `[dim / 2]`.
        short_factors: Vec<f64>,
        /// Divisors beyond it, `[dim / 2]`.
        long_factors: Vec<f64>,
        /// Cosines and sines are multiplied by this.
        attention_factor: f64,
        /// Context length of pre-training.
        original_context: usize,
    },
}

/// Feed-forward part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MlpSpec {
    /// Its form.
    pub kind: MlpKind,
    /// Width inside.
    pub intermediate_size: usize,
    /// The nonlinearity.
    pub activation: Activation,
    /// Whether its projections have a bias.
    pub bias: bool,
}

/// Form of the feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MlpKind {
    /// `down(act(gate(x)) · up(x))`.
    Gated,
    /// `down(act(up(x)))`.
    Plain,
}

/// Nonlinearity of the feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// `x · Φ(x)`.
    Gelu,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

impl DecoderSpec {
    /// The dimensions by themselves.
    pub fn shape(&self) -> ModelShape {
        ModelShape {
            layers: self.layers,
            heads: self.attention.heads,
            kv_heads: self.attention.kv_heads,
            head_dim: self.attention.head_dim,
            hidden: self.hidden_size,
            vocab: self.vocab_size,
        }
    }

    /// The window of `layer`.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.windows.get(layer).copied().flatten()
    }

    /// Every weight the decoder needs, in the order it is loaded.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = vec![Part::Embedding];
        if self.embedding.learned_positions.is_some() {
            parts.push(Part::Positions);
        }
        let layer_parts = self.layer_parts();
        for layer in 0..self.layers {
            parts.extend(layer_parts.iter().map(|&part| Part::Layer(layer, part)));
        }
        parts.push(Part::FinalNorm);
        if self.norm.kind == NormKind::Layer {
            parts.push(Part::FinalNormBias);
        }
        if !self.unembedding.tied {
            parts.push(Part::Unembedding);
        }
        if self.unembedding.bias {
            parts.push(Part::UnembeddingBias);
        }
        parts
    }

    /// The weights of one block.
    fn layer_parts(&self) -> Vec<LayerPart> {
        use LayerPart as L;
        let mut parts = Vec::new();
        let biased_norms = self.norm.kind == NormKind::Layer;
        let mut add = |wanted: bool, all: &[LayerPart]| {
            if wanted {
                parts.extend_from_slice(all);
            }
        };
        let (before, after) = (self.block.norms_before(), self.block.norms_after());
        let own_mlp_norm = before && self.block != BlockKind::ParallelSharedNorm;
        add(before, &[L::AttentionNorm]);
        add(before && biased_norms, &[L::AttentionNormBias]);
        add(true, &[L::Query, L::Key, L::Value]);
        add(
            self.attention.qkv_bias,
            &[L::QueryBias, L::KeyBias, L::ValueBias],
        );
        let qk_norm = self.attention.qk_norm.is_some();
        add(qk_norm, &[L::QueryNorm, L::KeyNorm]);
        add(qk_norm && biased_norms, &[L::QueryNormBias, L::KeyNormBias]);
        add(true, &[L::Output]);
        add(self.attention.output_bias, &[L::OutputBias]);
        add(after, &[L::AttentionPostNorm]);
        add(own_mlp_norm, &[L::MlpNorm]);
        add(own_mlp_norm && biased_norms, &[L::MlpNormBias]);
        let gated = self.mlp.kind == MlpKind::Gated;
        add(gated, &[L::Gate]);
        add(true, &[L::Up, L::Down]);
        add(gated && self.mlp.bias, &[L::GateBias]);
        add(self.mlp.bias, &[L::UpBias, L::DownBias]);
        add(after, &[L::MlpPostNorm]);
        parts
    }

    /// The shape of `part`, `[out, in]` for a projection.
    pub fn part_shape(&self, part: Part) -> Vec<usize> {
        let d = self.hidden_size;
        let queries = self.attention.heads * self.attention.head_dim;
        let keys = self.attention.kv_heads * self.attention.head_dim;
        let inner = self.mlp.intermediate_size;
        let (query_norm, key_norm) = match self.attention.qk_norm {
            Some(QkNorm::Projection) => (queries, keys),
            _ => (self.attention.head_dim, self.attention.head_dim),
        };
        match part {
            Part::Embedding | Part::Unembedding => vec![self.vocab_size, d],
            Part::Positions => vec![self.embedding.learned_positions.unwrap_or(0), d],
            Part::FinalNorm | Part::FinalNormBias => vec![d],
            Part::UnembeddingBias => vec![self.vocab_size],
            Part::Layer(_, tensor) => match tensor {
                LayerPart::AttentionNorm
                | LayerPart::AttentionNormBias
                | LayerPart::AttentionPostNorm
                | LayerPart::MlpNorm
                | LayerPart::MlpNormBias
                | LayerPart::MlpPostNorm => vec![d],
                LayerPart::Query => vec![queries, d],
                LayerPart::Key | LayerPart::Value => vec![keys, d],
                LayerPart::QueryBias => vec![queries],
                LayerPart::KeyBias | LayerPart::ValueBias => vec![keys],
                LayerPart::QueryNorm | LayerPart::QueryNormBias => vec![query_norm],
                LayerPart::KeyNorm | LayerPart::KeyNormBias => vec![key_norm],
                LayerPart::Output => vec![d, queries],
                LayerPart::OutputBias | LayerPart::DownBias => vec![d],
                LayerPart::Gate | LayerPart::Up => vec![inner, d],
                LayerPart::GateBias | LayerPart::UpBias => vec![inner],
                LayerPart::Down => vec![d, inner],
            },
        }
    }

    /// Whether `part` is kept in `f32` whatever the run's dtype: the norm weights that are applied before rounding.
    #[cfg(feature = "torch")]
    pub(crate) fn stays_f32(&self, part: Part) -> bool {
        self.norm.kind == NormKind::RmsWide
            && matches!(
                part,
                Part::FinalNorm
                    | Part::Layer(
                        _,
                        LayerPart::AttentionNorm
                            | LayerPart::AttentionPostNorm
                            | LayerPart::MlpNorm
                            | LayerPart::MlpPostNorm
                            | LayerPart::QueryNorm
                            | LayerPart::KeyNorm
                    )
            )
    }

    /// Refuses descriptions no decoder can have, before anything is allocated by them. `describe` turns key (as
    /// `config.json` has it), expectation and finding into an error that names the file.
    pub(crate) fn check(&self, describe: &dyn Fn(&str, &str, String) -> Error) -> Result<()> {
        // Bounds far above any real model, so that products of them cannot overflow.
        let sizes = [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 20),
            ("num_hidden_layers", self.layers, 1 << 14),
            ("num_attention_heads", self.attention.heads, 1 << 14),
            ("num_key_value_heads", self.attention.kv_heads, 1 << 14),
            ("head_dim", self.attention.head_dim, 1 << 14),
            ("intermediate_size", self.mlp.intermediate_size, 1 << 22),
            ("max_position_embeddings", self.context_length, 1 << 30),
        ];
        for (key, value, limit) in sizes {
            if value == 0 || value > limit {
                return Err(describe(key, &format!("1 to {limit}"), value.to_string()));
            }
        }
        if !self.attention.heads.is_multiple_of(self.attention.kv_heads) {
            let expected = format!("a divisor of {} query heads", self.attention.heads);
            return Err(describe(
                "num_key_value_heads",
                &expected,
                self.attention.kv_heads.to_string(),
            ));
        }
        if self.windows.contains(&Some(0)) {
            return Err(describe("sliding_window", "at least 1", "0".to_owned()));
        }
        if let Some(rows) = self
            .embedding
            .learned_positions
            .filter(|&rows| rows < self.context_length)
        {
            let expected = format!("at most the {rows} learned positions");
            let found = self.context_length.to_string();
            return Err(describe("max_position_embeddings", &expected, found));
        }
        let positive = |key: &str, value: f64| -> Result<()> {
            if value.is_finite() && value > 0.0 {
                return Ok(());
            }
            Err(describe(key, "a positive number", value.to_string()))
        };
        positive("rms_norm_eps", self.norm.epsilon)?;
        for rotary in self.rotary.iter().chain(&self.window_rotary) {
            rotary.check(self.attention.head_dim, describe)?;
            positive("rope_theta", rotary.theta)?;
        }
        positive("attention scale", self.attention.scale)?;
        for (key, cap) in [
            ("attn_logit_softcapping", self.attention.soft_cap),
            ("final_logit_softcapping", self.unembedding.soft_cap),
            ("embedding scale", self.embedding.scale),
        ] {
            cap.map_or(Ok(()), |cap| positive(key, cap))?;
        }
        Ok(())
    }
}

impl RotarySpec {
    /// Frequencies as they are, for the leading `dim` components of a head.
    #[must_use]
    pub fn plain(theta: f64, dim: usize, style: RotaryStyle) -> Self {
        Self {
            theta,
            dim,
            style,
            scaling: RotaryScaling::None,
        }
    }

    /// The context of a model whose configuration states `context`: dynamic scaling is made to go beyond it.
    pub(crate) fn stretched(&self, context: usize) -> usize {
        match self.scaling {
            #[allow(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates, and is checked like any context length"
            )]
            RotaryScaling::Dynamic { factor, .. } => (context as f64 * factor.max(1.0)) as usize,
            _ => context,
        }
    }

    /// Width and number of factors.
    fn check(&self, head_dim: usize, describe: &dyn Fn(&str, &str, String) -> Error) -> Result<()> {
        if self.dim == 0 || !self.dim.is_multiple_of(2) || self.dim > head_dim {
            let expected = format!("an even number up to the head's {head_dim}");
            return Err(describe("head_dim", &expected, self.dim.to_string()));
        }
        let refuse = |expected: &str, found: String| Err(describe("rope_scaling", expected, found));
        let context = |original: f64| {
            if original > 1.0 && original.is_finite() {
                return Ok(());
            }
            refuse("an original context of at least 2", original.to_string())
        };
        #[allow(clippy::cast_precision_loss, reason = "only compared with one")]
        match &self.scaling {
            RotaryScaling::Yarn {
                original_context,
                beta_fast,
                beta_slow,
                ..
            } => {
                context(*original_context)?;
                if beta_fast <= beta_slow {
                    let found = format!("{beta_fast} and {beta_slow}");
                    return refuse("`beta_fast` above `beta_slow`", found);
                }
                if self.theta <= 1.0 {
                    return refuse("a base above 1", self.theta.to_string());
                }
            }
            RotaryScaling::Dynamic {
                original_context, ..
            } => {
                context(*original_context as f64)?;
                if self.dim <= 2 {
                    return refuse("more than 2 rotated components", self.dim.to_string());
                }
            }
            RotaryScaling::LongRope {
                original_context, ..
            } => context(*original_context as f64)?,
            _ => {}
        }
        let lists: &[&Vec<f64>] = match &self.scaling {
            RotaryScaling::Factors { factors } => &[factors],
            RotaryScaling::LongRope {
                short_factors,
                long_factors,
                ..
            } => &[short_factors, long_factors],
            _ => &[],
        };
        for factors in lists {
            if factors.len() != self.dim / 2 {
                let expected = format!("{} rotary factors", self.dim / 2);
                return Err(describe(
                    "rope_scaling",
                    &expected,
                    factors.len().to_string(),
                ));
            }
            if let Some(bad) = factors
                .iter()
                .find(|factor| !(factor.is_finite() && **factor > 0.0))
            {
                return Err(describe(
                    "rope_scaling",
                    "positive rotary factors",
                    bad.to_string(),
                ));
            }
        }
        Ok(())
    }
}

/// One weight of the decoder, under a name that is the same for every family and file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Part {
    /// Token embedding, `[vocab, hidden]`.
    Embedding,
    /// Learned position embedding, `[positions, hidden]`.
    Positions,
    /// A weight of one block.
    Layer(usize, LayerPart),
    /// Norm before the unembedding, `[hidden]`.
    FinalNorm,
    /// Its bias, `[hidden]`.
    FinalNormBias,
    /// Unembedding, `[vocab, hidden]`; absent when tied.
    Unembedding,
    /// Its bias, `[vocab]`.
    UnembeddingBias,
}

/// One weight of a block; shapes in [`DecoderSpec::part_shape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the documentation")]
#[non_exhaustive]
pub enum LayerPart {
    AttentionNorm,
    AttentionNormBias,
    Query,
    Key,
    Value,
    QueryBias,
    KeyBias,
    ValueBias,
    QueryNorm,
    QueryNormBias,
    KeyNorm,
    KeyNormBias,
    Output,
    OutputBias,
    AttentionPostNorm,
    MlpNorm,
    MlpNormBias,
    Gate,
    Up,
    Down,
    GateBias,
    UpBias,
    DownBias,
    MlpPostNorm,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedding => f.write_str("embedding"),
            Self::Positions => f.write_str("positions"),
            Self::FinalNorm => f.write_str("final_norm"),
            Self::FinalNormBias => f.write_str("final_norm.bias"),
            Self::Unembedding => f.write_str("unembedding"),
            Self::UnembeddingBias => f.write_str("unembedding.bias"),
            Self::Layer(layer, tensor) => {
                let name = match tensor {
                    LayerPart::AttentionNorm => "attention.norm",
                    LayerPart::AttentionNormBias => "attention.norm.bias",
                    LayerPart::Query => "attention.query.weight",
                    LayerPart::Key => "attention.key.weight",
                    LayerPart::Value => "attention.value.weight",
                    LayerPart::QueryBias => "attention.query.bias",
                    LayerPart::KeyBias => "attention.key.bias",
                    LayerPart::ValueBias => "attention.value.bias",
                    LayerPart::QueryNorm => "attention.query_norm",
                    LayerPart::QueryNormBias => "attention.query_norm.bias",
                    LayerPart::KeyNorm => "attention.key_norm",
                    LayerPart::KeyNormBias => "attention.key_norm.bias",
                    LayerPart::Output => "attention.output.weight",
                    LayerPart::OutputBias => "attention.output.bias",
                    LayerPart::AttentionPostNorm => "attention.post_norm",
                    LayerPart::MlpNorm => "mlp.norm",
                    LayerPart::MlpNormBias => "mlp.norm.bias",
                    LayerPart::Gate => "mlp.gate.weight",
                    LayerPart::Up => "mlp.up.weight",
                    LayerPart::Down => "mlp.down.weight",
                    LayerPart::GateBias => "mlp.gate.bias",
                    LayerPart::UpBias => "mlp.up.bias",
                    LayerPart::DownBias => "mlp.down.bias",
                    LayerPart::MlpPostNorm => "mlp.post_norm",
                };
                write!(f, "layer.{layer}.{name}")
            }
        }
    }
}
