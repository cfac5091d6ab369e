//! Qwen3, dense: a llama whose queries and keys are normed head by head.

use super::{Family, GgufFamily, JsonConfig, MetadataConfig, base, names, qwen2};
use crate::Result;
use crate::spec::{DecoderSpec, NormKind, QkNorm};

pub(super) const FAMILY: Family = Family {
    name: "qwen3",
    from_json,
    hf_source: |_, part| names::hf(part),
    buffers: &["rotary_emb.inv_freq"],
    gguf: Some(GgufFamily {
        architecture: "qwen3",
        from_metadata,
        source: |_, part| names::gguf(part),
    }),
};

fn from_json(config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = base::llama_json(
        FAMILY.name,
        config,
        base::Defaults {
            head_dim: Some(128),
            kv_heads: Some(32),
            context: Some(32_768),
        },
    )?;
    spec.attention.qk_norm = Some(QkNorm::Head);
    spec.windows = qwen2::windows(config, spec.layers)?;
    Ok(spec)
}

fn from_metadata(config: &MetadataConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = base::llama_gguf(FAMILY.name, config, NormKind::Rms)?;
    spec.attention.qk_norm = Some(QkNorm::Head);
    Ok(spec)
}
