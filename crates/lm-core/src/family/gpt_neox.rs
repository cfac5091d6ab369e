//! GPT-NeoX and Pythia: layer norms, rotary positions on part of each head, attention and MLP side by side unless asked
//! otherwise.

use super::{Family, JsonConfig, Source, base, names};
use crate::Result;
use crate::spec::{Activation, BlockKind, DecoderSpec, Part};

pub(super) const FAMILY: Family = Family {
    name: "gpt_neox",
    from_json,
    hf_source,
    buffers: &[
        "attention.bias",
        "attention.masked_bias",
        "rotary_emb.inv_freq",
    ],
    gguf: None,
};

fn from_json(config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    let sizes = base::Sizes {
        vocab: config.usize("vocab_size")?,
        hidden: config.usize("hidden_size")?,
        layers: config.usize("num_hidden_layers")?,
        heads: config.usize("num_attention_heads")?,
        inner: config.usize("intermediate_size")?,
        context: config
            .usize_or_none("max_position_embeddings")?
            .unwrap_or(2048),
    };
    let mut spec = base::gpt(FAMILY.name, config, "num_attention_heads", sizes)?;
    if config.bool_or("use_parallel_residual", true)? {
        spec.block = BlockKind::ParallelOwnNorms;
    }
    spec.norm.epsilon = config.f64_or_none("layer_norm_eps")?.unwrap_or(1e-5);
    let bias = config.bool_or("attention_bias", true)?;
    (spec.attention.qkv_bias, spec.attention.output_bias) = (bias, bias);
    let theta = config.f64_or_none("rotary_emb_base")?.unwrap_or(10_000.0);
    let partial = config.f64_or_none("rotary_pct")?.unwrap_or(0.25);
    spec.rotary = Some(config.rotary(spec.attention.head_dim, theta, partial)?);
    spec.mlp.activation = base::activation(config, "hidden_act", Activation::Gelu)?;
    spec.unembedding.tied = config.bool_or("tie_word_embeddings", false)?;
    Ok(spec)
}

fn hf_source(spec: &DecoderSpec, part: Part) -> Source {
    match part {
        Part::Embedding => Source::new("gpt_neox.embed_in.weight"),
        Part::FinalNorm => Source::new("gpt_neox.final_layer_norm.weight"),
        Part::FinalNormBias => Source::new("gpt_neox.final_layer_norm.bias"),
        Part::Unembedding => Source::new("embed_out.weight"),
        Part::Layer(layer, own) => {
            let source = Source::new(format!(
                "gpt_neox.layers.{layer}.{}",
                names::bloom_layer("attention", own)
            ));
            let dim = spec.attention.head_dim;
            names::fused_qkv(source, own, spec.attention.heads, dim, dim)
        }
        _ => names::hf(part),
    }
}
