//! Gemma: a llama with a scaled embedding, GELU, and norm weights that its files store as the difference to one. Also what
//! Gemma 2 and 3 share with it.

use super::{ConfigSource, Family, GgufFamily, JsonConfig, MetadataConfig, Source, base, names};
use crate::Result;
use crate::spec::{Activation, DecoderSpec, LayerPart, NormKind, Part};

pub(super) const FAMILY: Family = Family {
    name: "gemma",
    from_json,
    hf_source: |_, part| source(names::hf(part), part),
    buffers: &["rotary_emb.inv_freq"],
    gguf: Some(GgufFamily {
        architecture: "gemma",
        from_metadata: |config| gguf(FAMILY.name, config),
        source: |_, part| names::gguf(part),
    }),
};

fn from_json(config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    let defaults = base::Defaults {
        head_dim: Some(256),
        kv_heads: Some(16),
        context: Some(8192),
    };
    let mut spec = json(FAMILY.name, config, defaults)?;
    // The first files say `gelu` where the model was trained with the tanh form; transformers reads them so as well.
    spec.mlp.activation = match base::activation(config, "hidden_act", Activation::GeluTanh)? {
        Activation::Gelu => Activation::GeluTanh,
        other => other,
    };
    Ok(spec)
}

/// The common part of the three generations.
pub(super) fn json(
    family: &str,
    config: &JsonConfig<'_>,
    defaults: base::Defaults,
) -> Result<DecoderSpec> {
    if config.bool_or("use_bidirectional_attention", false)? {
        let expected = "false: only causal attention is built";
        return Err(config.wrong("use_bidirectional_attention", expected, "true".to_owned()));
    }
    let mut spec = base::llama_json(family, config, defaults)?;
    spec.mlp.activation = base::activation(config, "hidden_activation", Activation::GeluTanh)?;
    spec.unembedding.tied = config.bool_or("tie_word_embeddings", true)?;
    finish(&mut spec);
    Ok(spec)
}

/// The same by the keys of GGUF.
pub(super) fn gguf(family: &str, config: &MetadataConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = base::llama_gguf(family, config, NormKind::RmsWide)?;
    spec.mlp.activation = Activation::GeluTanh;
    finish(&mut spec);
    Ok(spec)
}

#[allow(clippy::cast_precision_loss, reason = "widths are small")]
fn finish(spec: &mut DecoderSpec) {
    spec.norm.kind = NormKind::RmsWide;
    spec.embedding.scale = Some((spec.hidden_size as f64).sqrt());
}

/// Norms in safetensors are stored as the difference to one; in GGUF as they are.
pub(super) fn source(source: Source, part: Part) -> Source {
    use LayerPart as L;
    match part {
        Part::FinalNorm
        | Part::Layer(
            _,
            L::AttentionNorm
            | L::AttentionPostNorm
            | L::MlpNorm
            | L::MlpPostNorm
            | L::QueryNorm
            | L::KeyNorm,
        ) => source.less_one(),
        _ => source,
    }
}

/// Safetensors names of the generations with norms after the parts as well.
pub(super) fn sandwich_source(_: &DecoderSpec, part: Part) -> Source {
    let named = match part {
        Part::Layer(layer, LayerPart::MlpNorm) => Source::new(format!(
            "model.layers.{layer}.pre_feedforward_layernorm.weight"
        )),
        _ => names::hf(part),
    };
    source(named, part)
}
