//! Llama: SmolLM2, Llama 2 and 3, Vicuna, Guanaco, TinyLlama and all others of `model_type` `llama`.

use super::{ConfigSource, Family, GgufFamily, JsonConfig, MetadataConfig, Source, base, names};
use crate::Result;
use crate::spec::{Activation, DecoderSpec, LayerPart, NormKind, Part};

pub(super) const FAMILY: Family = Family {
    name: "llama",
    from_json,
    hf_source: |_, part| names::hf(part),
    buffers: &["rotary_emb.inv_freq"],
    gguf: Some(GgufFamily {
        architecture: "llama",
        from_metadata,
        source: gguf_source,
    }),
};

fn from_json(config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    let spec = base::llama_json(FAMILY.name, config, base::Defaults::default())?;
    if spec.mlp.activation != Activation::Silu {
        let found = config.str_or_none("hidden_act")?.unwrap_or_default();
        return Err(config.wrong("hidden_act", "`silu`", format!("`{found}`")));
    }
    Ok(spec)
}

fn from_metadata(config: &MetadataConfig<'_>) -> Result<DecoderSpec> {
    let spec = base::llama_gguf(FAMILY.name, config, NormKind::Rms)?;
    let head_dim = spec.attention.head_dim;
    if let Some(rotary) = spec.rotary.as_ref().filter(|rotary| rotary.dim != head_dim) {
        // The rows of Q and K are put back as if whole heads were rotated.
        let (key, expected) = (
            config.full("rope.dimension_count"),
            format!("the head's width {head_dim}"),
        );
        return Err(config.wrong(&key, &expected, rotary.dim.to_string()));
    }
    Ok(spec)
}

fn gguf_source(spec: &DecoderSpec, part: Part) -> Source {
    let source = names::gguf(part);
    match part {
        Part::Layer(_, LayerPart::Query | LayerPart::QueryBias) => {
            source.interleaved(spec.attention.heads)
        }
        Part::Layer(_, LayerPart::Key | LayerPart::KeyBias) => {
            source.interleaved(spec.attention.kv_heads)
        }
        _ => source,
    }
}
