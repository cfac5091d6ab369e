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
    /// The norms, one kind throughout.
    pub norm: NormSpec,
    /// The attention of every block.
    pub attention: AttentionSpec,
    /// How positions enter.
    pub rotary: RotarySpec,
    /// The feed-forward part of every block.
    pub mlp: MlpSpec,
    /// Whether the unembedding is the embedding.
    pub tied_embeddings: bool,
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
    /// `w · x / √(mean(x²) + ε)`.
    Rms,
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
}

/// Rotary position embedding (Su et al., 2021).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
}

/// How rotary frequencies are stretched beyond the trained context.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Each frequency divided by the checkpoint's own factor for it ([`Part::RotaryFactors`]), as GGUF stores Llama 3.1's.
    Factors,
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
}

/// Nonlinearity of the feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
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

    /// Every weight the decoder needs, in the order it is loaded.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = vec![Part::Embedding];
        if self.rotary.scaling == RotaryScaling::Factors {
            parts.push(Part::RotaryFactors);
        }
        for layer in 0..self.layers {
            let mut add = |tensor| parts.push(Part::Layer(layer, tensor));
            add(LayerPart::AttentionNorm);
            for projection in [LayerPart::Query, LayerPart::Key, LayerPart::Value] {
                add(projection);
            }
            if self.attention.qkv_bias {
                for bias in [
                    LayerPart::QueryBias,
                    LayerPart::KeyBias,
                    LayerPart::ValueBias,
                ] {
                    add(bias);
                }
            }
            add(LayerPart::Output);
            if self.attention.output_bias {
                add(LayerPart::OutputBias);
            }
            add(LayerPart::MlpNorm);
            for projection in [LayerPart::Gate, LayerPart::Up, LayerPart::Down] {
                add(projection);
            }
            if self.mlp.bias {
                for bias in [LayerPart::GateBias, LayerPart::UpBias, LayerPart::DownBias] {
                    add(bias);
                }
            }
        }
        parts.push(Part::FinalNorm);
        if !self.tied_embeddings {
            parts.push(Part::Unembedding);
        }
        parts
    }

    /// The shape of `part`, `[out, in]` for a projection.
    pub fn part_shape(&self, part: Part) -> Vec<usize> {
        let d = self.hidden_size;
        let queries = self.attention.heads * self.attention.head_dim;
        let keys = self.attention.kv_heads * self.attention.head_dim;
        let inner = self.mlp.intermediate_size;
        match part {
            Part::Embedding | Part::Unembedding => vec![self.vocab_size, d],
            Part::FinalNorm => vec![d],
            Part::RotaryFactors => vec![self.rotary.dim / 2],
            Part::Layer(_, tensor) => match tensor {
                LayerPart::AttentionNorm | LayerPart::MlpNorm => vec![d],
                LayerPart::Query => vec![queries, d],
                LayerPart::Key | LayerPart::Value => vec![keys, d],
                LayerPart::QueryBias => vec![queries],
                LayerPart::KeyBias | LayerPart::ValueBias => vec![keys],
                LayerPart::Output => vec![d, queries],
                LayerPart::OutputBias | LayerPart::DownBias => vec![d],
                LayerPart::Gate | LayerPart::Up => vec![inner, d],
                LayerPart::GateBias | LayerPart::UpBias => vec![inner],
                LayerPart::Down => vec![d, inner],
            },
        }
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
        let rotated = self.rotary.dim;
        if rotated == 0 || !rotated.is_multiple_of(2) || rotated > self.attention.head_dim {
            let expected = format!(
                "an even number up to the head's {}",
                self.attention.head_dim
            );
            return Err(describe("head_dim", &expected, rotated.to_string()));
        }
        for (key, value) in [
            ("rms_norm_eps", self.norm.epsilon),
            ("rope_theta", self.rotary.theta),
            ("attention scale", self.attention.scale),
        ] {
            if !value.is_finite() || value <= 0.0 {
                return Err(describe(key, "a positive number", value.to_string()));
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
    /// A weight of one block.
    Layer(usize, LayerPart),
    /// Norm before the unembedding, `[hidden]`.
    FinalNorm,
    /// Unembedding, `[vocab, hidden]`; absent when tied.
    Unembedding,
    /// Divisors of the rotary frequencies, `[rotary dim / 2]`; only with [`RotaryScaling::Factors`].
    RotaryFactors,
}

/// One weight of a block; shapes in [`DecoderSpec::part_shape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the documentation")]
#[non_exhaustive]
pub enum LayerPart {
    AttentionNorm,
    Query,
    Key,
    Value,
    QueryBias,
    KeyBias,
    ValueBias,
    Output,
    OutputBias,
    MlpNorm,
    Gate,
    Up,
    Down,
    GateBias,
    UpBias,
    DownBias,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedding => f.write_str("embedding"),
            Self::FinalNorm => f.write_str("final_norm"),
            Self::Unembedding => f.write_str("unembedding"),
            Self::RotaryFactors => f.write_str("rotary.factors"),
            Self::Layer(layer, tensor) => {
                let name = match tensor {
                    LayerPart::AttentionNorm => "attention.norm",
                    LayerPart::Query => "attention.query.weight",
                    LayerPart::Key => "attention.key.weight",
                    LayerPart::Value => "attention.value.weight",
                    LayerPart::QueryBias => "attention.query.bias",
                    LayerPart::KeyBias => "attention.key.bias",
                    LayerPart::ValueBias => "attention.value.bias",
                    LayerPart::Output => "attention.output.weight",
                    LayerPart::OutputBias => "attention.output.bias",
                    LayerPart::MlpNorm => "mlp.norm",
                    LayerPart::Gate => "mlp.gate.weight",
                    LayerPart::Up => "mlp.up.weight",
                    LayerPart::Down => "mlp.down.weight",
                    LayerPart::GateBias => "mlp.gate.bias",
                    LayerPart::UpBias => "mlp.up.bias",
                    LayerPart::DownBias => "mlp.down.bias",
                };
                write!(f, "layer.{layer}.{name}")
            }
        }
    }
}
