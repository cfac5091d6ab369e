//! Gemma 2: soft caps on scores and logits, norms before and after the parts, a window in every other layer.

use super::{Family, GgufFamily, JsonConfig, MetadataConfig, base, gemma, names};
use crate::Result;
use crate::spec::{BlockKind, DecoderSpec};

pub(super) const FAMILY: Family = Family {
    name: "gemma2",
    from_json,
    hf_source: gemma::sandwich_source,
    buffers: &["rotary_emb.inv_freq"],
    gguf: Some(GgufFamily {
        architecture: "gemma2",
        from_metadata,
        source: |_, part| names::gguf(part),
    }),
};

fn from_json(config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = gemma::json(
        FAMILY.name,
        config,
        base::Defaults {
            head_dim: Some(256),
            kv_heads: Some(4),
            context: Some(8_192),
        },
    )?;
    spec.block = BlockKind::SandwichNorm;
    spec.attention.scale = match config.usize_or_none("query_pre_attn_scalar")? {
        Some(scalar) => base::attention_scale(scalar),
        None => base::attention_scale(256),
    };
    // `null` switches a cap off; a key that is missing has the default of transformers.
    let cap = |key: &str, default: f64| match config.has(key) {
        true => config.f64_or_none(key),
        false => Ok(Some(default)),
    };
    spec.attention.soft_cap = cap("attn_logit_softcapping", 50.0)?;
    spec.unembedding.soft_cap = cap("final_logit_softcapping", 30.0)?;
    let window = base::sliding_window(config, 4096)?;
    spec.windows = base::windows(config, spec.layers, window, |layer| layer.is_multiple_of(2))?;
    Ok(spec)
}

fn from_metadata(config: &MetadataConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = gemma::gguf(FAMILY.name, config)?;
    spec.block = BlockKind::SandwichNorm;
    // The file does not hold the scale. As llama.cpp has it: of the released sizes only 27B, the one with 46 layers, differs.
    if spec.layers == 46 {
        spec.attention.scale =
            base::attention_scale(spec.hidden_size / spec.attention.heads.max(1));
    }
    spec.attention.soft_cap = Some(
        config
            .f64_or_none("attn_logit_softcapping")?
            .unwrap_or(50.0),
    );
    spec.unembedding.soft_cap = Some(
        config
            .f64_or_none("final_logit_softcapping")?
            .unwrap_or(30.0),
    );
    let window = config
        .usize_or_none("attention.sliding_window")?
        .unwrap_or(4096);
    for (layer, own) in spec.windows.iter_mut().enumerate() {
        *own = layer.is_multiple_of(2).then_some(window);
    }
    Ok(spec)
}
