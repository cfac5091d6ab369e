//! Llama: SmolLM2, Llama 2 and 3, Vicuna, TinyLlama and all others of `model_type` `llama`.

use super::{ConfigSource, Family, JsonConfig, MetadataConfig, Source, Transform};
use crate::Result;
use crate::spec::{
    Activation, AttentionSpec, DecoderSpec, LayerPart, MlpKind, MlpSpec, NormKind, NormSpec, Part,
    RotaryScaling, RotarySpec, RotaryStyle,
};

pub(super) const FAMILY: Family = Family {
    name: "llama",
    from_json,
    from_gguf,
    hf_source,
    gguf_source,
};

/// How GGUF stores Llama 3.1's rotary scaling.
const ROTARY_FACTORS: &str = "rope_freqs.weight";

const NO_EXPERTS: &str = "none: mixtures of experts are not read";

fn from_json(config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    let hidden_size = config.usize("hidden_size")?;
    let heads = config.usize("num_attention_heads")?;
    let head_dim = match config.usize_or_none("head_dim")? {
        Some(head_dim) => head_dim,
        None => divided(config, "num_attention_heads", hidden_size, heads)?,
    };
    let activation = match config.str_or_none("hidden_act")?.unwrap_or("silu") {
        "silu" | "swish" => Activation::Silu,
        other => return Err(config.wrong("hidden_act", "`silu`", format!("`{other}`"))),
    };
    for key in ["num_local_experts", "num_experts", "n_routed_experts"] {
        if let Some(experts) = config.usize_or_none(key)?.filter(|&experts| experts > 0) {
            return Err(config.wrong(key, NO_EXPERTS, experts.to_string()));
        }
    }
    let (theta, scaling) = config.rotary(10_000.0)?;
    let bias = config.bool_or("attention_bias", false)?;
    let spec = DecoderSpec {
        family: FAMILY.name.to_owned(),
        vocab_size: config.usize("vocab_size")?,
        hidden_size,
        layers: config.usize("num_hidden_layers")?,
        context_length: config
            .usize_or_none("max_position_embeddings")?
            .unwrap_or(2048),
        norm: NormSpec {
            kind: NormKind::Rms,
            epsilon: config.f64_or_none("rms_norm_eps")?.unwrap_or(1e-6),
        },
        attention: AttentionSpec {
            heads,
            kv_heads: config
                .usize_or_none("num_key_value_heads")?
                .unwrap_or(heads),
            head_dim,
            qkv_bias: bias,
            output_bias: bias,
            scale: attention_scale(head_dim),
        },
        rotary: RotarySpec {
            theta,
            dim: head_dim,
            style: RotaryStyle::Half,
            scaling,
        },
        mlp: MlpSpec {
            kind: MlpKind::Gated,
            intermediate_size: config.usize("intermediate_size")?,
            activation,
            bias: config.bool_or("mlp_bias", false)?,
        },
        tied_embeddings: config.bool_or("tie_word_embeddings", false)?,
    };
    spec.check(&|key, expected, found| config.wrong(key, expected, found))?;
    Ok(spec)
}

fn from_gguf(config: &MetadataConfig<'_>) -> Result<DecoderSpec> {
    let hidden_size = config.usize("embedding_length")?;
    let heads = config.usize("attention.head_count")?;
    let head_dim = match config.usize_or_none("attention.key_length")? {
        Some(head_dim) => head_dim,
        None => divided(config, "llama.attention.head_count", hidden_size, heads)?,
    };
    if let Some(experts) = config
        .usize_or_none("expert_count")?
        .filter(|&experts| experts > 0)
    {
        return Err(config.wrong("llama.expert_count", NO_EXPERTS, experts.to_string()));
    }
    if let Some(rotated) = config
        .usize_or_none("rope.dimension_count")?
        .filter(|&rotated| rotated != head_dim)
    {
        // The rows of Q and K are put back as if whole heads were rotated.
        let expected = format!("the head's width {head_dim}");
        return Err(config.wrong("llama.rope.dimension_count", &expected, rotated.to_string()));
    }
    let scaling = match config.str_or_none("rope.scaling.type")? {
        None | Some("none") if config.has_tensor(ROTARY_FACTORS) => RotaryScaling::Factors,
        None | Some("none") => RotaryScaling::None,
        Some("linear") => RotaryScaling::Linear {
            factor: config.positive("rope.scaling.factor")?,
        },
        Some(other) => {
            return Err(config.wrong(
                "llama.rope.scaling.type",
                "`none` or `linear`",
                format!("`{other}`"),
            ));
        }
    };
    let spec = DecoderSpec {
        family: FAMILY.name.to_owned(),
        vocab_size: config
            .usize_or_none("vocab_size")?
            .unwrap_or(config.rows("token_embd.weight")),
        hidden_size,
        layers: config.usize("block_count")?,
        context_length: config.usize("context_length")?,
        norm: NormSpec {
            kind: NormKind::Rms,
            epsilon: config.f64("attention.layer_norm_rms_epsilon")?,
        },
        attention: AttentionSpec {
            heads,
            kv_heads: config
                .usize_or_none("attention.head_count_kv")?
                .unwrap_or(heads),
            head_dim,
            qkv_bias: false,
            output_bias: false,
            scale: attention_scale(head_dim),
        },
        rotary: RotarySpec {
            theta: config.f64_or_none("rope.freq_base")?.unwrap_or(10_000.0),
            dim: head_dim,
            style: RotaryStyle::Half,
            scaling,
        },
        mlp: MlpSpec {
            kind: MlpKind::Gated,
            intermediate_size: config.usize("feed_forward_length")?,
            activation: Activation::Silu,
            bias: false,
        },
        tied_embeddings: !config.has_tensor("output.weight"),
    };
    spec.check(&|key, expected, found| config.wrong(gguf_key(key), expected, found))?;
    Ok(spec)
}

/// What GGUF calls a key of `config.json`.
fn gguf_key(key: &str) -> &str {
    match key {
        "vocab_size" => "llama.vocab_size",
        "hidden_size" => "llama.embedding_length",
        "num_hidden_layers" => "llama.block_count",
        "num_attention_heads" => "llama.attention.head_count",
        "num_key_value_heads" => "llama.attention.head_count_kv",
        "head_dim" => "llama.attention.key_length",
        "intermediate_size" => "llama.feed_forward_length",
        "max_position_embeddings" => "llama.context_length",
        "rms_norm_eps" => "llama.attention.layer_norm_rms_epsilon",
        "rope_theta" => "llama.rope.freq_base",
        other => other,
    }
}

fn divided(
    config: &dyn ConfigSource,
    key: &str,
    hidden_size: usize,
    heads: usize,
) -> Result<usize> {
    if heads == 0 || !hidden_size.is_multiple_of(heads) {
        return Err(config.wrong(
            key,
            &format!("a divisor of the hidden size {hidden_size}"),
            heads.to_string(),
        ));
    }
    Ok(hidden_size / heads)
}

#[allow(clippy::cast_precision_loss, reason = "head widths are small")]
fn attention_scale(head_dim: usize) -> f64 {
    (head_dim.max(1) as f64).powf(-0.5)
}

fn hf_source(_: &DecoderSpec, part: Part) -> Source {
    let name = match part {
        Part::Embedding => "model.embed_tokens.weight".to_owned(),
        Part::FinalNorm => "model.norm.weight".to_owned(),
        Part::Unembedding => "lm_head.weight".to_owned(),
        Part::RotaryFactors => "model.rotary_emb.factors".to_owned(),
        Part::Layer(layer, tensor) => {
            let name = match tensor {
                LayerPart::AttentionNorm => "input_layernorm.weight",
                LayerPart::Query => "self_attn.q_proj.weight",
                LayerPart::Key => "self_attn.k_proj.weight",
                LayerPart::Value => "self_attn.v_proj.weight",
                LayerPart::QueryBias => "self_attn.q_proj.bias",
                LayerPart::KeyBias => "self_attn.k_proj.bias",
                LayerPart::ValueBias => "self_attn.v_proj.bias",
                LayerPart::Output => "self_attn.o_proj.weight",
                LayerPart::OutputBias => "self_attn.o_proj.bias",
                LayerPart::MlpNorm => "post_attention_layernorm.weight",
                LayerPart::Gate => "mlp.gate_proj.weight",
                LayerPart::Up => "mlp.up_proj.weight",
                LayerPart::Down => "mlp.down_proj.weight",
                LayerPart::GateBias => "mlp.gate_proj.bias",
                LayerPart::UpBias => "mlp.up_proj.bias",
                LayerPart::DownBias => "mlp.down_proj.bias",
            };
            format!("model.layers.{layer}.{name}")
        }
    };
    Source {
        name,
        transform: Transform::None,
    }
}

fn gguf_source(spec: &DecoderSpec, part: Part) -> Source {
    let mut transform = Transform::None;
    let name = match part {
        Part::Embedding => "token_embd.weight".to_owned(),
        Part::FinalNorm => "output_norm.weight".to_owned(),
        Part::Unembedding => "output.weight".to_owned(),
        Part::RotaryFactors => ROTARY_FACTORS.to_owned(),
        Part::Layer(layer, tensor) => {
            if matches!(tensor, LayerPart::Query | LayerPart::QueryBias) {
                transform = Transform::UninterleaveHeads {
                    heads: spec.attention.heads,
                };
            } else if matches!(tensor, LayerPart::Key | LayerPart::KeyBias) {
                transform = Transform::UninterleaveHeads {
                    heads: spec.attention.kv_heads,
                };
            }
            let name = match tensor {
                LayerPart::AttentionNorm => "attn_norm.weight",
                LayerPart::Query => "attn_q.weight",
                LayerPart::Key => "attn_k.weight",
                LayerPart::Value => "attn_v.weight",
                LayerPart::QueryBias => "attn_q.bias",
                LayerPart::KeyBias => "attn_k.bias",
                LayerPart::ValueBias => "attn_v.bias",
                LayerPart::Output => "attn_output.weight",
                LayerPart::OutputBias => "attn_output.bias",
                LayerPart::MlpNorm => "ffn_norm.weight",
                LayerPart::Gate => "ffn_gate.weight",
                LayerPart::Up => "ffn_up.weight",
                LayerPart::Down => "ffn_down.weight",
                LayerPart::GateBias => "ffn_gate.bias",
                LayerPart::UpBias => "ffn_up.bias",
                LayerPart::DownBias => "ffn_down.bias",
            };
            format!("blk.{layer}.{name}")
        }
    };
    Source { name, transform }
}
