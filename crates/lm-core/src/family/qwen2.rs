//! Qwen2 and Qwen2.5: a llama with biases on queries, keys and values, and windows in its upper layers.

use super::{Family, GgufFamily, JsonConfig, MetadataConfig, base, names};
use crate::Result;
use crate::spec::{DecoderSpec, NormKind};

pub(super) const FAMILY: Family = Family {
    name: "qwen2",
    from_json,
    hf_source: |_, part| names::hf(part),
    buffers: &["rotary_emb.inv_freq"],
    gguf: Some(GgufFamily {
        architecture: "qwen2",
        from_metadata,
        source: |_, part| names::gguf(part),
    }),
};

fn from_json(config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = base::llama_json(
        FAMILY.name,
        config,
        base::Defaults {
            kv_heads: Some(32),
            context: Some(32_768),
            ..base::Defaults::default()
        },
    )?;
    spec.attention.qkv_bias = true;
    spec.attention.output_bias = false;
    spec.windows = windows(config, spec.layers)?;
    Ok(spec)
}

/// `use_sliding_window`, from layer `max_window_layers` on; the same in Qwen3.
pub(super) fn windows(config: &JsonConfig<'_>, layers: usize) -> Result<Vec<Option<usize>>> {
    let used = config.bool_or("use_sliding_window", false)?;
    let window = base::sliding_window(config, 4096)?.filter(|_| used);
    let first = config.usize_or_none("max_window_layers")?.unwrap_or(28);
    base::windows(config, layers, window, |layer| layer >= first)
}

fn from_metadata(config: &MetadataConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = base::llama_gguf(FAMILY.name, config, NormKind::Rms)?;
    spec.attention.qkv_bias = true;
    Ok(spec)
}
