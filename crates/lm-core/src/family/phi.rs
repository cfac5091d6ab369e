//! Phi-1, 1.5 and 2: attention and MLP side by side behind one layer norm, rotary positions on part of each head.

use super::{Family, JsonConfig, Source, base, names};
use crate::Result;
use crate::spec::{
    Activation, BlockKind, DecoderSpec, LayerPart, MlpKind, NormKind, NormSpec, Part, QkNorm,
};

pub(super) const FAMILY: Family = Family {
    name: "phi",
    from_json,
    hf_source,
    buffers: &["rotary_emb.inv_freq"],
    gguf: None,
};

fn from_json(config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = base::llama_json(FAMILY.name, config, base::Defaults::default())?;
    spec.norm = NormSpec {
        kind: NormKind::Layer,
        epsilon: config.f64_or_none("layer_norm_eps")?.unwrap_or(1e-5),
    };
    spec.block = BlockKind::ParallelSharedNorm;
    spec.attention.qkv_bias = true;
    spec.attention.output_bias = true;
    spec.attention.qk_norm = config
        .bool_or("qk_layernorm", false)?
        .then_some(QkNorm::Head);
    spec.rotary = Some(config.rotary(spec.attention.head_dim, 10_000.0, 0.5)?);
    spec.mlp.kind = MlpKind::Plain;
    spec.mlp.bias = true;
    spec.mlp.activation = base::activation(config, "hidden_act", Activation::GeluTanh)?;
    spec.unembedding.bias = true;
    Ok(spec)
}

fn hf_source(_: &DecoderSpec, part: Part) -> Source {
    use LayerPart as L;
    let (layer, name) = match part {
        Part::FinalNorm => return Source::new("model.final_layernorm.weight"),
        Part::FinalNormBias => return Source::new("model.final_layernorm.bias"),
        Part::Layer(layer, L::Output) => (layer, "self_attn.dense.weight"),
        Part::Layer(layer, L::OutputBias) => (layer, "self_attn.dense.bias"),
        Part::Layer(layer, L::QueryNorm) => (layer, "self_attn.q_layernorm.weight"),
        Part::Layer(layer, L::QueryNormBias) => (layer, "self_attn.q_layernorm.bias"),
        Part::Layer(layer, L::KeyNorm) => (layer, "self_attn.k_layernorm.weight"),
        Part::Layer(layer, L::KeyNormBias) => (layer, "self_attn.k_layernorm.bias"),
        Part::Layer(layer, L::Up) => (layer, "mlp.fc1.weight"),
        Part::Layer(layer, L::UpBias) => (layer, "mlp.fc1.bias"),
        Part::Layer(layer, L::Down) => (layer, "mlp.fc2.weight"),
        Part::Layer(layer, L::DownBias) => (layer, "mlp.fc2.bias"),
        _ => return names::hf(part),
    };
    Source::new(format!("model.layers.{layer}.{name}"))
}
