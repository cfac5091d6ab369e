//! GPT-J: attention and MLP side by side behind one norm, interleaved rotary pairs on the first part of each head.

use super::{Family, JsonConfig, Source, base, names};
use crate::Result;
use crate::spec::{Activation, BlockKind, DecoderSpec, LayerPart, Part, RotarySpec, RotaryStyle};

pub(super) const FAMILY: Family = Family {
    name: "gptj",
    from_json,
    hf_source,
    buffers: &["attn.bias", "attn.masked_bias", "attn.embed_positions"],
    gguf: None,
};

fn from_json(config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = base::gpt(FAMILY.name, config, "n_head", base::gpt_sizes(config)?)?;
    spec.block = BlockKind::ParallelSharedNorm;
    (spec.attention.qkv_bias, spec.attention.output_bias) = (false, false);
    // `null` rotates the whole head; without the key it is 64, as in transformers.
    let rotated = match config.usize_or_none("rotary_dim")? {
        Some(rotated) => rotated,
        None if config.has("rotary_dim") => spec.attention.head_dim,
        None => 64,
    };
    spec.rotary = Some(RotarySpec::plain(
        10_000.0,
        rotated,
        RotaryStyle::Interleaved,
    ));
    spec.mlp.activation = base::activation(config, "activation_function", Activation::GeluTanh)?;
    spec.unembedding.tied = config.bool_or("tie_word_embeddings", false)?;
    spec.unembedding.bias = true;
    Ok(spec)
}

fn hf_source(_: &DecoderSpec, part: Part) -> Source {
    use LayerPart as L;
    let (layer, name) = match part {
        Part::Layer(layer, L::Query) => (layer, "attn.q_proj.weight"),
        Part::Layer(layer, L::Key) => (layer, "attn.k_proj.weight"),
        Part::Layer(layer, L::Value) => (layer, "attn.v_proj.weight"),
        Part::Layer(layer, L::Output) => (layer, "attn.out_proj.weight"),
        Part::Layer(layer, L::Up) => (layer, "mlp.fc_in.weight"),
        Part::Layer(layer, L::UpBias) => (layer, "mlp.fc_in.bias"),
        Part::Layer(layer, L::Down) => (layer, "mlp.fc_out.weight"),
        Part::Layer(layer, L::DownBias) => (layer, "mlp.fc_out.bias"),
        _ => return names::gpt(part),
    };
    Source::new(format!("transformer.h.{layer}.{name}"))
}
