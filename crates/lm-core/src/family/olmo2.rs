//! OLMo 2: norms after the parts only, and queries and keys normed over all heads together.

use super::{Family, JsonConfig, base, names};
use crate::Result;
use crate::spec::{BlockKind, DecoderSpec, NormKind, QkNorm};

pub(super) const FAMILY: Family = Family {
    name: "olmo2",
    from_json,
    hf_source: |_, part| names::hf(part),
    buffers: &["rotary_emb.inv_freq"],
    gguf: None,
};

fn from_json(config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = base::llama_json(FAMILY.name, config, base::Defaults::default())?;
    spec.norm.kind = NormKind::RmsWide;
    spec.norm.epsilon = config.f64_or_none("rms_norm_eps")?.unwrap_or(1e-5);
    spec.block = BlockKind::PostNorm;
    spec.attention.qk_norm = Some(QkNorm::Projection);
    Ok(spec)
}
