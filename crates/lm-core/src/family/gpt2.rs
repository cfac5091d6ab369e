//! GPT-2: learned positions, layer norms, matrices stored as `[in, out]` in safetensors.

use super::{ConfigSource, Family, GgufFamily, JsonConfig, MetadataConfig, Source, base, names};
use crate::Result;
use crate::spec::{Activation, DecoderSpec, LayerPart, MlpKind, NormKind, Part};

pub(super) const FAMILY: Family = Family {
    name: "gpt2",
    from_json,
    hf_source,
    buffers: &["attn.bias", "attn.masked_bias"],
    gguf: Some(GgufFamily {
        architecture: "gpt2",
        from_metadata,
        source: gguf_source,
    }),
};

fn from_json(config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    for key in ["scale_attn_by_inverse_layer_idx", "add_cross_attention"] {
        if config.bool_or(key, false)? {
            return Err(config.wrong(key, "false: nothing else is built", "true".to_owned()));
        }
    }
    let sizes = base::gpt_sizes(config)?;
    let mut spec = base::gpt(FAMILY.name, config, "n_head", sizes)?;
    spec.embedding.learned_positions = Some(sizes.context);
    if !config.bool_or("scale_attn_weights", true)? {
        spec.attention.scale = 1.0;
    }
    spec.mlp.activation = base::activation(config, "activation_function", Activation::GeluTanh)?;
    Ok(spec)
}

fn from_metadata(config: &MetadataConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = base::llama_gguf(FAMILY.name, config, NormKind::Layer)?;
    spec.rotary = None;
    spec.embedding.learned_positions = Some(config.rows("position_embd.weight"));
    (
        spec.attention.qkv_bias,
        spec.attention.output_bias,
        spec.mlp.bias,
    ) = (true, true, true);
    spec.mlp.kind = MlpKind::Plain;
    spec.mlp.activation = Activation::GeluTanh;
    Ok(spec)
}

fn hf_source(spec: &DecoderSpec, part: Part) -> Source {
    let Part::Layer(layer, own) = part else {
        return names::gpt(part);
    };
    use LayerPart as L;
    let name = match own {
        L::Query | L::Key | L::Value => "attn.c_attn.weight",
        L::QueryBias | L::KeyBias | L::ValueBias => "attn.c_attn.bias",
        L::Output => "attn.c_proj.weight",
        L::OutputBias => "attn.c_proj.bias",
        L::Up => "mlp.c_fc.weight",
        L::UpBias => "mlp.c_fc.bias",
        L::Down => "mlp.c_proj.weight",
        L::DownBias => "mlp.c_proj.bias",
        _ => return names::gpt(part),
    };
    let mut source = Source::new(format!("transformer.h.{layer}.{name}"));
    if name.ends_with("weight") {
        source = source.transposed();
    }
    names::fused_qkv(source, own, 1, spec.hidden_size, spec.hidden_size)
}

fn gguf_source(spec: &DecoderSpec, part: Part) -> Source {
    match part {
        Part::Layer(layer, own) if names::is_qkv(own) => {
            let kind = if names::is_bias(own) {
                "bias"
            } else {
                "weight"
            };
            let source = Source::new(format!("blk.{layer}.attn_qkv.{kind}"));
            names::fused_qkv(source, own, 1, spec.hidden_size, spec.hidden_size)
        }
        _ => names::gguf(part),
    }
}
