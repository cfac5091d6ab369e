//! Phi-3 mini and medium, and Phi-4: a llama with fused projections and LongRoPE.

use super::{ConfigSource, Family, GgufFamily, JsonConfig, MetadataConfig, Source, base, names};
use crate::Result;
use crate::spec::{DecoderSpec, LayerPart, NormKind, Part, RotaryScaling};

pub(super) const FAMILY: Family = Family {
    name: "phi3",
    from_json,
    hf_source,
    buffers: &["rotary_emb.inv_freq"],
    gguf: Some(GgufFamily {
        architecture: "phi3",
        from_metadata,
        source: gguf_source,
    }),
};

fn from_json(config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = base::llama_json(
        FAMILY.name,
        config,
        base::Defaults {
            context: Some(4096),
            ..base::Defaults::default()
        },
    )?;
    spec.norm.epsilon = config.f64_or_none("rms_norm_eps")?.unwrap_or(1e-5);
    spec.attention.qkv_bias = false;
    spec.attention.output_bias = false;
    match spec.rotary.as_ref().map(|rotary| &rotary.scaling) {
        None | Some(RotaryScaling::None) => {}
        Some(RotaryScaling::LongRope { .. }) => {
            // Without it transformers takes 4096 where the released models all write it.
            config.usize("original_max_position_embeddings")?;
        }
        Some(other) => {
            return Err(config.wrong("rope_scaling", "`longrope`", format!("{other:?}")));
        }
    }
    let window = config.usize_or_none("sliding_window")?;
    spec.windows = base::windows(config, spec.layers, window, |_| true)?;
    Ok(spec)
}

fn from_metadata(config: &MetadataConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = base::llama_gguf(FAMILY.name, config, NormKind::Rms)?;
    // 0 stands for none.
    let window = config
        .usize_or_none("attention.sliding_window")?
        .filter(|&window| window > 0);
    spec.windows.fill(window);
    Ok(spec)
}

fn hf_source(spec: &DecoderSpec, part: Part) -> Source {
    let Part::Layer(layer, own) = part else {
        return names::hf(part);
    };
    let at = |name: &str| Source::new(format!("model.layers.{layer}.{name}"));
    fused(
        spec,
        own,
        names::hf(part),
        at("self_attn.qkv_proj.weight"),
        at("mlp.gate_up_proj.weight"),
    )
}

fn gguf_source(spec: &DecoderSpec, part: Part) -> Source {
    let Part::Layer(layer, own) = part else {
        return names::gguf(part);
    };
    let at = |name: &str| Source::new(format!("blk.{layer}.{name}"));
    fused(
        spec,
        own,
        names::gguf(part),
        at("attn_qkv.weight"),
        at("ffn_up.weight"),
    )
}

/// The part of a tensor that holds queries, keys and values, or of one that holds gate and up; else `other`.
fn fused(
    spec: &DecoderSpec,
    part: LayerPart,
    other: Source,
    qkv: Source,
    gate_up: Source,
) -> Source {
    let attention = &spec.attention;
    let (query, key) = (
        attention.heads * attention.head_dim,
        attention.kv_heads * attention.head_dim,
    );
    let inner = spec.mlp.intermediate_size;
    match part {
        LayerPart::Query | LayerPart::Key | LayerPart::Value => {
            names::fused_qkv(qkv, part, 1, query, key)
        }
        LayerPart::Gate => gate_up.slice(2 * inner, 0, inner),
        LayerPart::Up => gate_up.slice(2 * inner, inner, inner),
        _ => other,
    }
}
