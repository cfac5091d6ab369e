//! GLM-4-0414 as `glm4`: a `glm` with norms after the parts as well.

use super::{Family, JsonConfig, Source, glm};
use crate::Result;
use crate::spec::{BlockKind, DecoderSpec, LayerPart, Part};

pub(super) const FAMILY: Family = Family {
    name: "glm4",
    from_json,
    hf_source,
    buffers: &["rotary_emb.inv_freq"],
    gguf: None,
};

fn from_json(config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = glm::json(FAMILY.name, config)?;
    spec.block = BlockKind::SandwichNorm;
    Ok(spec)
}

fn hf_source(spec: &DecoderSpec, part: Part) -> Source {
    match part {
        Part::Layer(layer, LayerPart::AttentionPostNorm) => Source::new(format!(
            "model.layers.{layer}.post_self_attn_layernorm.weight"
        )),
        Part::Layer(layer, LayerPart::MlpPostNorm) => {
            Source::new(format!("model.layers.{layer}.post_mlp_layernorm.weight"))
        }
        _ => glm::source(spec, part),
    }
}
