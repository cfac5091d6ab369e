//! GLM-4 as `glm`: interleaved rotary pairs over half of each head, gate and up projection in one tensor.

use super::{Family, JsonConfig, Source, base, names};
use crate::Result;
use crate::spec::{DecoderSpec, LayerPart, Part, RotaryStyle};

pub(super) const FAMILY: Family = Family {
    name: "glm",
    from_json: |config| json(FAMILY.name, config),
    hf_source: source,
    buffers: &["rotary_emb.inv_freq"],
    gguf: None,
};

/// What GLM-4-0414 shares.
pub(super) fn json(family: &str, config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = base::llama_json(
        family,
        config,
        base::Defaults {
            head_dim: Some(128),
            kv_heads: Some(2),
            context: Some(131_072),
        },
    )?;
    let mut rotary = config.rotary(spec.attention.head_dim, 10_000.0, 0.5)?;
    rotary.style = RotaryStyle::Interleaved;
    spec.rotary = Some(rotary);
    spec.attention.qkv_bias = config.bool_or("attention_bias", true)?;
    spec.attention.output_bias = false;
    spec.norm.epsilon = config.f64_or_none("rms_norm_eps")?.unwrap_or(1.5625e-7);
    Ok(spec)
}

pub(super) fn source(spec: &DecoderSpec, part: Part) -> Source {
    match part {
        Part::Layer(layer, LayerPart::Gate | LayerPart::Up) => {
            let inner = spec.mlp.intermediate_size;
            let start = if matches!(part, Part::Layer(_, LayerPart::Up)) {
                inner
            } else {
                0
            };
            Source::new(format!("model.layers.{layer}.mlp.gate_up_proj.weight")).slice(
                2 * inner,
                start,
                inner,
            )
        }
        _ => names::hf(part),
    }
}
