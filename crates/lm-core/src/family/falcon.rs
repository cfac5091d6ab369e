//! Falcon: the first ones with one key/value head, the later ones with groups of heads and two norms side by side.

use super::{ConfigSource, Family, GgufFamily, JsonConfig, MetadataConfig, Source, base, names};
use crate::Result;
use crate::spec::{Activation, BlockKind, DecoderSpec, LayerPart, MlpKind, NormKind, Part};

pub(super) const FAMILY: Family = Family {
    name: "falcon",
    from_json,
    hf_source,
    buffers: &["rotary_emb.inv_freq"],
    gguf: Some(GgufFamily {
        architecture: "falcon",
        from_metadata,
        source: gguf_source,
    }),
};

fn from_json(config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    if config.bool_or("alibi", false)? {
        let expected = "false: positions by ALiBi are not built";
        return Err(config.wrong("alibi", expected, "true".to_owned()));
    }
    let hidden = config.usize("hidden_size")?;
    let heads = config.usize("num_attention_heads")?;
    let grouped = config.bool_or("new_decoder_architecture", false)?;
    let multi_query = config.bool_or("multi_query", true)?;
    let sizes = base::Sizes {
        vocab: config.usize("vocab_size")?,
        hidden,
        layers: config.usize("num_hidden_layers")?,
        heads,
        inner: config
            .usize_or_none("ffn_hidden_size")?
            .unwrap_or(hidden.saturating_mul(4)),
        context: config
            .usize_or_none("max_position_embeddings")?
            .unwrap_or(2048),
    };
    let mut spec = base::gpt(FAMILY.name, config, "num_attention_heads", sizes)?;
    spec.attention.kv_heads = match (grouped, multi_query) {
        (true, _) => config.usize_or_none("num_kv_heads")?.unwrap_or(heads),
        (false, true) => 1,
        (false, false) => heads,
    };
    spec.rotary = Some(config.rotary(spec.attention.head_dim, 10_000.0, 1.0)?);
    let bias = config.bool_or("bias", false)?;
    (
        spec.attention.qkv_bias,
        spec.attention.output_bias,
        spec.mlp.bias,
    ) = (bias, bias, bias);
    spec.mlp.activation = base::activation(config, "activation", Activation::Gelu)?;
    let parallel = config.bool_or("parallel_attn", true)?;
    if grouped && !parallel {
        let expected = "true with `new_decoder_architecture`";
        return Err(config.wrong("parallel_attn", expected, "false".to_owned()));
    }
    spec.block = if grouped {
        match config
            .usize_or_none("num_ln_in_parallel_attn")?
            .unwrap_or(2)
        {
            1 => BlockKind::ParallelSharedNorm,
            2 => BlockKind::ParallelOwnNorms,
            other => {
                return Err(config.wrong("num_ln_in_parallel_attn", "1 or 2", other.to_string()));
            }
        }
    } else if parallel {
        BlockKind::ParallelSharedNorm
    } else {
        BlockKind::PreNorm
    };
    Ok(spec)
}

fn from_metadata(config: &MetadataConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = base::llama_gguf(FAMILY.name, config, NormKind::Layer)?;
    spec.block = if config.has_tensor("blk.0.attn_norm_2.weight") {
        BlockKind::ParallelOwnNorms
    } else {
        BlockKind::ParallelSharedNorm
    };
    spec.mlp.kind = MlpKind::Plain;
    spec.mlp.activation = Activation::Gelu;
    Ok(spec)
}

fn hf_source(spec: &DecoderSpec, part: Part) -> Source {
    use LayerPart as L;
    let (layer, own) = match part {
        Part::Embedding => return Source::new("transformer.word_embeddings.weight"),
        Part::FinalNorm => return Source::new("transformer.ln_f.weight"),
        Part::FinalNormBias => return Source::new("transformer.ln_f.bias"),
        Part::Layer(layer, own) => (layer, own),
        _ => return names::hf(part),
    };
    let own_norms = spec.block == BlockKind::ParallelOwnNorms;
    let name = match own {
        L::AttentionNorm if own_norms => "ln_attn.weight",
        L::AttentionNormBias if own_norms => "ln_attn.bias",
        L::MlpNorm if own_norms => "ln_mlp.weight",
        L::MlpNormBias if own_norms => "ln_mlp.bias",
        _ => &names::bloom_layer("self_attention", own),
    };
    let source = Source::new(format!("transformer.h.{layer}.{name}"));
    // Groups of query heads with their key and value head, one after the other; a single key/value head is the one group.
    let attention = &spec.attention;
    let (groups, dim) = (attention.kv_heads, attention.head_dim);
    names::fused_qkv(
        source,
        own,
        groups,
        attention.heads / groups.max(1) * dim,
        dim,
    )
}

fn gguf_source(spec: &DecoderSpec, part: Part) -> Source {
    use LayerPart as L;
    let Part::Layer(layer, own) = part else {
        return names::gguf(part);
    };
    let own_norms = spec.block == BlockKind::ParallelOwnNorms;
    let at = |name: &str| Source::new(format!("blk.{layer}.{name}"));
    // The converter calls the norm of the MLP the first one.
    match own {
        L::AttentionNorm if own_norms => at("attn_norm_2.weight"),
        L::AttentionNormBias if own_norms => at("attn_norm_2.bias"),
        L::MlpNorm if own_norms => at("attn_norm.weight"),
        L::MlpNormBias if own_norms => at("attn_norm.bias"),
        L::Query | L::Key | L::Value => {
            let attention = &spec.attention;
            let (query, key) = (
                attention.heads * attention.head_dim,
                attention.kv_heads * attention.head_dim,
            );
            names::fused_qkv(at("attn_qkv.weight"), own, 1, query, key)
        }
        _ => names::gguf(part),
    }
}
