//! GPT-Neo: learned positions, windows in the layers called local, and scores that are not scaled.

use serde_json::Value;

use super::{ConfigSource, Family, JsonConfig, Source, base, names, short};
use crate::Result;
use crate::spec::{Activation, DecoderSpec, LayerPart, Part};

pub(super) const FAMILY: Family = Family {
    name: "gpt_neo",
    from_json,
    hf_source,
    buffers: &["attn.attention.bias", "attn.attention.masked_bias"],
    gguf: None,
};

fn from_json(config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    let hidden = config.usize("hidden_size")?;
    let sizes = base::Sizes {
        vocab: config.usize("vocab_size")?,
        hidden,
        layers: config.usize("num_layers")?,
        heads: config.usize("num_heads")?,
        inner: config
            .usize_or_none("intermediate_size")?
            .unwrap_or(hidden.saturating_mul(4)),
        context: config
            .usize_or_none("max_position_embeddings")?
            .unwrap_or(2048),
    };
    let mut spec = base::gpt(FAMILY.name, config, "num_heads", sizes)?;
    spec.embedding.learned_positions = Some(sizes.context);
    spec.attention.qkv_bias = false;
    spec.attention.scale = 1.0;
    spec.mlp.activation = base::activation(config, "activation_function", Activation::GeluTanh)?;
    let window = config.usize_or_none("window_size")?.unwrap_or(256);
    let local = local_layers(config, base::bounded(sizes.layers))?;
    spec.windows = local
        .into_iter()
        .map(|local| local.then_some(window))
        .collect();
    Ok(spec)
}

/// `attention_types`: pairs of a pattern and how often it repeats, `[[["global", "local"], 12]]`.
fn local_layers(config: &JsonConfig<'_>, layers: usize) -> Result<Vec<bool>> {
    const KEY: &str = "attention_types";
    let found = config
        .value(KEY)
        .map_or_else(|| "nothing".to_owned(), short);
    let expected =
        format!("patterns of `global` and `local`, with their repeats, for {layers} layers");
    let refuse = || config.wrong(KEY, &expected, found.clone());
    let mut local = Vec::new();
    for group in config
        .value(KEY)
        .and_then(Value::as_array)
        .ok_or_else(refuse)?
    {
        let pattern = group.get(0).and_then(Value::as_array).ok_or_else(refuse)?;
        let repeats = group.get(1).and_then(Value::as_u64).ok_or_else(refuse)?;
        for _ in 0..repeats {
            for kind in pattern {
                local.push(match kind.as_str() {
                    Some("global") => false,
                    Some("local") => true,
                    _ => return Err(refuse()),
                });
            }
            if local.len() > layers || pattern.is_empty() {
                return Err(refuse());
            }
        }
    }
    if local.len() == layers {
        Ok(local)
    } else {
        Err(refuse())
    }
}

fn hf_source(_: &DecoderSpec, part: Part) -> Source {
    use LayerPart as L;
    let (layer, name) = match part {
        Part::Layer(layer, L::Query) => (layer, "attn.attention.q_proj.weight"),
        Part::Layer(layer, L::Key) => (layer, "attn.attention.k_proj.weight"),
        Part::Layer(layer, L::Value) => (layer, "attn.attention.v_proj.weight"),
        Part::Layer(layer, L::Output) => (layer, "attn.attention.out_proj.weight"),
        Part::Layer(layer, L::OutputBias) => (layer, "attn.attention.out_proj.bias"),
        Part::Layer(layer, L::Up) => (layer, "mlp.c_fc.weight"),
        Part::Layer(layer, L::UpBias) => (layer, "mlp.c_fc.bias"),
        Part::Layer(layer, L::Down) => (layer, "mlp.c_proj.weight"),
        Part::Layer(layer, L::DownBias) => (layer, "mlp.c_proj.bias"),
        _ => return names::gpt(part),
    };
    Source::new(format!("transformer.h.{layer}.{name}"))
}
