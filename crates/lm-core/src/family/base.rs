//! The decoder that most families vary: read by the keys they share, then changed by each family where it differs.

use super::{ConfigSource, JsonConfig, MetadataConfig};
use crate::Result;
use crate::spec::{
    Activation, AttentionSpec, BlockKind, DecoderSpec, EmbeddingSpec, MlpKind, MlpSpec, NormKind,
    NormSpec, UnembeddingSpec,
};

/// What transformers takes for keys that a configuration leaves out; `None` where it derives them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Defaults {
    pub(super) head_dim: Option<usize>,
    pub(super) kv_heads: Option<usize>,
    pub(super) context: Option<usize>,
}

/// A llama by its keys in `config.json`: RMS norms before the parts, rotary positions, a gated MLP, no bias but by
/// `attention_bias` and `mlp_bias`, no window.
pub(super) fn llama_json(
    family: &str,
    config: &JsonConfig<'_>,
    defaults: Defaults,
) -> Result<DecoderSpec> {
    let hidden_size = config.usize("hidden_size")?;
    let heads = config.usize("num_attention_heads")?;
    // An explicit `null` asks for the division.
    let default = defaults.head_dim.filter(|_| !config.has("head_dim"));
    let head_dim = match config.usize_or_none("head_dim")?.or(default) {
        Some(head_dim) => head_dim,
        None => divided(config, "num_attention_heads", hidden_size, heads)?,
    };
    let bias = config.bool_or("attention_bias", false)?;
    let layers = config.usize("num_hidden_layers")?;
    let rotary = config.rotary(head_dim, 10_000.0, 1.0)?;
    let context_length = config
        .usize_or_none("max_position_embeddings")?
        .or(defaults.context)
        .unwrap_or(2048);
    Ok(DecoderSpec {
        family: family.to_owned(),
        vocab_size: config.usize("vocab_size")?,
        hidden_size,
        layers,
        context_length: rotary.stretched(context_length),
        embedding: EmbeddingSpec::default(),
        norm: NormSpec {
            kind: NormKind::Rms,
            epsilon: config.f64_or_none("rms_norm_eps")?.unwrap_or(1e-6),
        },
        block: BlockKind::PreNorm,
        attention: AttentionSpec {
            heads,
            kv_heads: config
                .usize_or_none("num_key_value_heads")?
                .or(defaults
                    .kv_heads
                    .filter(|_| !config.has("num_key_value_heads")))
                .unwrap_or(heads),
            head_dim,
            qkv_bias: bias,
            output_bias: bias,
            scale: attention_scale(head_dim),
            qk_norm: None,
            soft_cap: None,
        },
        windows: vec![None; bounded(layers)],
        rotary: Some(rotary),
        window_rotary: None,
        mlp: MlpSpec {
            kind: MlpKind::Gated,
            intermediate_size: config.usize("intermediate_size")?,
            activation: activation(config, "hidden_act", Activation::Silu)?,
            bias: config.bool_or("mlp_bias", false)?,
        },
        unembedding: UnembeddingSpec {
            tied: config.bool_or("tie_word_embeddings", false)?,
            ..UnembeddingSpec::default()
        },
    })
}

/// The same by the keys of GGUF. `norm` is RMS or [`NormKind::Layer`], whose epsilon has another key.
pub(super) fn llama_gguf(
    family: &str,
    config: &MetadataConfig<'_>,
    norm: NormKind,
) -> Result<DecoderSpec> {
    let hidden_size = config.usize("embedding_length")?;
    let heads = config.usize("attention.head_count")?;
    let head_dim = match config.usize_or_none("attention.key_length")? {
        Some(head_dim) => head_dim,
        None => divided(
            config,
            &config.full("attention.head_count"),
            hidden_size,
            heads,
        )?,
    };
    let layers = config.usize("block_count")?;
    let epsilon = match norm {
        NormKind::Layer => "attention.layer_norm_epsilon",
        NormKind::Rms | NormKind::RmsWide => "attention.layer_norm_rms_epsilon",
    };
    Ok(DecoderSpec {
        family: family.to_owned(),
        vocab_size: config
            .usize_or_none("vocab_size")?
            .unwrap_or(config.rows("token_embd.weight")),
        hidden_size,
        layers,
        context_length: config.usize("context_length")?,
        embedding: EmbeddingSpec::default(),
        norm: NormSpec {
            kind: norm,
            epsilon: config.f64(epsilon)?,
        },
        block: BlockKind::PreNorm,
        attention: AttentionSpec {
            heads,
            kv_heads: config
                .usize_or_none("attention.head_count_kv")?
                .unwrap_or(heads),
            head_dim,
            qkv_bias: false,
            output_bias: false,
            scale: attention_scale(head_dim),
            qk_norm: None,
            soft_cap: None,
        },
        windows: vec![None; bounded(layers)],
        rotary: Some(config.rotary(head_dim)?),
        window_rotary: None,
        mlp: MlpSpec {
            kind: MlpKind::Gated,
            intermediate_size: config.usize("feed_forward_length")?,
            activation: Activation::Silu,
            bias: false,
        },
        unembedding: UnembeddingSpec {
            tied: !config.has_tensor("output.weight"),
            ..UnembeddingSpec::default()
        },
    })
}

/// Sizes of a [`gpt`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) vocab: usize,
    pub(super) hidden: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    /// Width inside the MLP.
    pub(super) inner: usize,
    pub(super) context: usize,
}

/// The sizes by the keys of GPT-2 and GPT-J.
pub(super) fn gpt_sizes(config: &JsonConfig<'_>) -> Result<Sizes> {
    let hidden = config.usize("n_embd")?;
    Ok(Sizes {
        vocab: config.usize("vocab_size")?,
        hidden,
        layers: config.usize("n_layer")?,
        heads: config.usize("n_head")?,
        inner: config
            .usize_or_none("n_inner")?
            .unwrap_or(hidden.saturating_mul(4)),
        context: config.usize("n_positions")?,
    })
}

/// The older kind of decoder: layer norms before the parts, a plain MLP, biases everywhere, tied embeddings, and no rotary
/// positions. `heads_key` names the number of heads in errors.
pub(super) fn gpt(
    family: &str,
    config: &JsonConfig<'_>,
    heads_key: &str,
    sizes: Sizes,
) -> Result<DecoderSpec> {
    let head_dim = divided(config, heads_key, sizes.hidden, sizes.heads)?;
    Ok(DecoderSpec {
        family: family.to_owned(),
        vocab_size: sizes.vocab,
        hidden_size: sizes.hidden,
        layers: sizes.layers,
        context_length: sizes.context,
        embedding: EmbeddingSpec::default(),
        norm: NormSpec {
            kind: NormKind::Layer,
            epsilon: config.f64_or_none("layer_norm_epsilon")?.unwrap_or(1e-5),
        },
        block: BlockKind::PreNorm,
        attention: AttentionSpec {
            heads: sizes.heads,
            kv_heads: sizes.heads,
            head_dim,
            qkv_bias: true,
            output_bias: true,
            scale: attention_scale(head_dim),
            qk_norm: None,
            soft_cap: None,
        },
        windows: vec![None; bounded(sizes.layers)],
        rotary: None,
        window_rotary: None,
        mlp: MlpSpec {
            kind: MlpKind::Plain,
            intermediate_size: sizes.inner,
            activation: Activation::GeluTanh,
            bias: true,
        },
        unembedding: UnembeddingSpec {
            tied: config.bool_or("tie_word_embeddings", true)?,
            ..UnembeddingSpec::default()
        },
    })
}

/// The nonlinearity under `key`, by the names of transformers.
pub(super) fn activation(
    config: &JsonConfig<'_>,
    key: &str,
    default: Activation,
) -> Result<Activation> {
    Ok(match config.str_or_none(key)? {
        None => default,
        Some("silu" | "swish") => Activation::Silu,
        Some("gelu" | "gelu_python") => Activation::Gelu,
        Some("gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh") => {
            Activation::GeluTanh
        }
        Some("relu") => Activation::Relu,
        Some(other) => {
            let expected = "`silu`, `gelu`, `gelu_new`, `gelu_pytorch_tanh` or `relu`";
            return Err(config.wrong(key, expected, format!("`{other}`")));
        }
    })
}

/// `head_dim` where a configuration does not give it.
pub(super) fn divided(
    config: &dyn ConfigSource,
    key: &str,
    hidden_size: usize,
    heads: usize,
) -> Result<usize> {
    if heads == 0 || !hidden_size.is_multiple_of(heads) {
        return Err(config.wrong(
            key,
            &format!("a divisor of the hidden size {hidden_size}"),
            heads.to_string(),
        ));
    }
    Ok(hidden_size / heads)
}

/// `1 / √dim`.
#[allow(clippy::cast_precision_loss, reason = "head widths are small")]
pub(super) fn attention_scale(dim: usize) -> f64 {
    (dim.max(1) as f64).powf(-0.5)
}

/// `sliding_window`: `null` is none, a key that is missing has the `default` of transformers.
pub(super) fn sliding_window(config: &JsonConfig<'_>, default: usize) -> Result<Option<usize>> {
    match config.has("sliding_window") {
        true => config.usize_or_none("sliding_window"),
        false => Ok(Some(default)),
    }
}

/// The windows of layers by `layer_types` (`sliding_attention`, `full_attention`), or by `slides(layer)` where a
/// configuration does not list them.
pub(super) fn windows(
    config: &JsonConfig<'_>,
    layers: usize,
    window: Option<usize>,
    slides: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>> {
    let layers = bounded(layers);
    let Some(types) = config.strings_or_none("layer_types")? else {
        return Ok((0..layers)
            .map(|layer| window.filter(|_| slides(layer)))
            .collect());
    };
    if types.len() != layers {
        return Err(config.wrong(
            "layer_types",
            &format!("{layers} entries"),
            types.len().to_string(),
        ));
    }
    types
        .into_iter()
        .map(|kind| match kind {
            "full_attention" => Ok(None),
            "sliding_attention" if window.is_some() => Ok(window),
            "sliding_attention" => Err(config.wrong(
                "sliding_window",
                "a number, for layers that slide",
                "null".to_owned(),
            )),
            other => {
                let expected = "`full_attention` or `sliding_attention`";
                Err(config.wrong("layer_types", expected, format!("`{other}`")))
            }
        })
        .collect()
}

/// A number of layers from a file, cut where [`DecoderSpec::check`] refuses it anyway: nothing large is made by it before.
pub(super) fn bounded(layers: usize) -> usize {
    layers.min(1 << 14)
}
