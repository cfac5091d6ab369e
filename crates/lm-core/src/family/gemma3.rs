//! Gemma 3, the text model: q/k norms, windows in five of six layers, and another rotary base in those.

use super::{Family, GgufFamily, JsonConfig, MetadataConfig, base, gemma, names};
use crate::Result;
use crate::spec::{BlockKind, DecoderSpec, QkNorm, RotarySpec, RotaryStyle};

pub(super) const FAMILY: Family = Family {
    name: "gemma3_text",
    from_json,
    hf_source: gemma::sandwich_source,
    buffers: &["rotary_emb.inv_freq", "rotary_emb_local.inv_freq"],
    gguf: Some(GgufFamily {
        architecture: "gemma3",
        from_metadata,
        source: |_, part| names::gguf(part),
    }),
};

/// Bases of the layers without and with a window.
const GLOBAL_THETA: f64 = 1_000_000.0;
const LOCAL_THETA: f64 = 10_000.0;

/// Every so many layers one sees everything.
const PATTERN: usize = 6;

fn from_json(config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = gemma::json(
        FAMILY.name,
        config,
        base::Defaults {
            head_dim: Some(256),
            kv_heads: Some(4),
            context: Some(131_072),
        },
    )?;
    finish(&mut spec);
    spec.attention.scale = base::attention_scale(
        config
            .usize_or_none("query_pre_attn_scalar")?
            .unwrap_or(256),
    );
    spec.attention.soft_cap = config.f64_or_none("attn_logit_softcapping")?;
    spec.unembedding.soft_cap = config.f64_or_none("final_logit_softcapping")?;
    let pattern = config
        .usize_or_none("sliding_window_pattern")?
        .unwrap_or(PATTERN)
        .max(1);
    let window = base::sliding_window(config, 4096)?;
    spec.windows = base::windows(config, spec.layers, window, |layer| {
        !(layer + 1).is_multiple_of(pattern)
    })?;
    let head_dim = spec.attention.head_dim;
    // transformers 5 keeps one object a kind of layer; before, the local base had a key of its own.
    match config.object("rope_parameters")? {
        Some(both) if both.has("full_attention") || both.has("sliding_attention") => {
            spec.rotary = Some(both.rotary_of(config, "full_attention", head_dim, GLOBAL_THETA)?);
            spec.window_rotary =
                Some(both.rotary_of(config, "sliding_attention", head_dim, LOCAL_THETA)?);
        }
        _ => {
            spec.rotary = Some(config.rotary(head_dim, GLOBAL_THETA, 1.0)?);
            let theta = config
                .f64_or_none("rope_local_base_freq")?
                .unwrap_or(LOCAL_THETA);
            spec.window_rotary = Some(RotarySpec::plain(theta, head_dim, RotaryStyle::Half));
        }
    }
    Ok(spec)
}

fn from_metadata(config: &MetadataConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = gemma::gguf(FAMILY.name, config)?;
    finish(&mut spec);
    // The file does not hold the scale. As llama.cpp has it: of the released sizes only 27B, the one with 62 layers, differs.
    if spec.layers == 62 {
        spec.attention.scale =
            base::attention_scale(spec.hidden_size / spec.attention.heads.max(1));
    }
    let window = config.usize_or_none("attention.sliding_window")?;
    for (layer, own) in spec.windows.iter_mut().enumerate() {
        *own = window.filter(|_| !(layer + 1).is_multiple_of(PATTERN));
    }
    let theta = config
        .f64_or_none("rope.freq_base_swa")?
        .unwrap_or(LOCAL_THETA);
    spec.window_rotary = Some(RotarySpec::plain(
        theta,
        spec.attention.head_dim,
        RotaryStyle::Half,
    ));
    Ok(spec)
}

fn finish(spec: &mut DecoderSpec) {
    spec.block = BlockKind::SandwichNorm;
    spec.attention.qk_norm = Some(QkNorm::Head);
}
