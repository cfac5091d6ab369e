//! Families of decoders: for each, how its configuration becomes a [`DecoderSpec`] and what its weights are called.
//!
//! A family is data. It holds no arithmetic: adding one never touches the decoder unless the family brings a switch that
//! no other has. `docs/families.md` shows how.

mod base;
mod config;
mod falcon;
mod gemma;
mod gemma2;
mod gemma3;
mod glm;
mod glm4;
mod gpt2;
mod gpt_neo;
mod gpt_neox;
mod gptj;
mod llama;
mod mistral;
mod names;
mod olmo2;
mod phi;
mod phi3;
mod qwen2;
mod qwen3;
mod source;

use std::path::Path;

pub(crate) use config::{ConfigSource, JsonConfig, MetadataConfig, short};
pub(crate) use source::{Rows, Source, Transform};

use crate::spec::{DecoderSpec, Part};
use crate::weights::read_json;
use crate::{Error, Result};

/// What a family gives.
#[derive(Debug)]
pub(crate) struct Family {
    /// Its name: `model_type` of `config.json`.
    pub(crate) name: &'static str,
    /// Reads a `config.json`.
    pub(crate) from_json: fn(&JsonConfig<'_>) -> Result<DecoderSpec>,
    /// Where a weight stands in a safetensors checkpoint.
    pub(crate) hf_source: fn(&DecoderSpec, Part) -> Source,
    /// Ends of the names of tensors that old files hold and that are no weights: masks, rotary frequencies.
    pub(crate) buffers: &'static [&'static str],
    /// The same for GGUF, if there is such an architecture.
    pub(crate) gguf: Option<GgufFamily>,
}

/// What a family gives for GGUF files.
#[derive(Debug)]
pub(crate) struct GgufFamily {
    /// `general.architecture`.
    pub(crate) architecture: &'static str,
    /// Reads GGUF metadata.
    pub(crate) from_metadata: fn(&MetadataConfig<'_>) -> Result<DecoderSpec>,
    /// Where a weight stands in a GGUF file.
    pub(crate) source: fn(&DecoderSpec, Part) -> Source,
}

const FAMILIES: &[&Family] = &[
    &falcon::FAMILY,
    &gemma::FAMILY,
    &gemma2::FAMILY,
    &gemma3::FAMILY,
    &glm::FAMILY,
    &glm4::FAMILY,
    &gpt2::FAMILY,
    &gpt_neo::FAMILY,
    &gpt_neox::FAMILY,
    &gptj::FAMILY,
    &llama::FAMILY,
    &mistral::FAMILY,
    &olmo2::FAMILY,
    &phi::FAMILY,
    &phi3::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
];

/// Names that are known and not read, with the reason.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["phi3small", "phi3-small"],
        "its block-sparse attention is not built; Phi-3 mini and medium are `phi3`",
    ),
    (
        &[
            "mixtral",
            "qwen2_moe",
            "qwen2moe",
            "qwen3_moe",
            "qwen3moe",
            "deepseek_v2",
            "deepseek2",
            "deepseek_v3",
            "olmoe",
            "gpt_oss",
            "gpt-oss",
            "dbrx",
            "phimoe",
            "granitemoe",
            "jamba",
            "glm4_moe",
            "glm4moe",
            "llama4",
            "llama4_text",
        ],
        MIXTURE,
    ),
    (
        &["gemma3"],
        "this is the model with a vision tower; its text model alone is `gemma3_text`",
    ),
];

const MIXTURE: &str = "mixtures of experts are not read";

/// Reads a folder's `config.json`.
pub(crate) fn from_json(config: &JsonConfig<'_>) -> Result<(&'static Family, DecoderSpec)> {
    let path = config.path();
    let Some(name) = config.str_or_none("model_type")? else {
        return Err(Error::UnknownFamily {
            path: path.to_owned(),
            found: "(no `model_type`)".to_owned(),
            known: known(|family| Some(family.name)),
        });
    };
    let family = find(name, path, |family| Some(family.name))?;
    for key in [
        "num_local_experts",
        "num_experts",
        "n_routed_experts",
        "moe_num_experts",
    ] {
        if let Some(experts) = config.usize_or_none(key)?.filter(|&experts| experts > 0) {
            return Err(config.wrong(
                key,
                "none: mixtures of experts are not read",
                experts.to_string(),
            ));
        }
    }
    let spec = (family.from_json)(config)?;
    spec.check(&|key, expected, found| config.wrong(key, expected, found))?;
    Ok((family, spec))
}

impl DecoderSpec {
    /// Reads a Hugging Face `config.json` alone, without any weights beside it.
    ///
    /// # Errors
    /// When the file cannot be read or is no JSON object, when its `model_type` is unknown or not supported, or when a value
    /// in it cannot be used; each names the file, and the last the key.
    pub fn from_config_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let config = read_json(path)?;
        let (_, spec) = from_json(&JsonConfig::new(path, &config)?)?;
        Ok(spec)
    }
}

/// Reads a GGUF file's metadata.
pub(crate) fn from_metadata(
    architecture: &str,
    config: &MetadataConfig<'_>,
) -> Result<(&'static Family, DecoderSpec)> {
    let path = config.path();
    let name = |family: &Family| family.gguf.as_ref().map(|gguf| gguf.architecture);
    let family = find(architecture, path, name)?;
    if let Some(experts) = config
        .usize_or_none("expert_count")?
        .filter(|&experts| experts > 0)
    {
        let key = config.full("expert_count");
        return Err(config.wrong(
            &key,
            "none: mixtures of experts are not read",
            experts.to_string(),
        ));
    }
    let Some(gguf) = &family.gguf else {
        return Err(unknown(architecture, path, name));
    };
    let spec = (gguf.from_metadata)(config)?;
    spec.check(&|key, expected, found| config.wrong(&gguf_key(config, key), expected, found))?;
    Ok((family, spec))
}

fn find(
    name: &str,
    path: &Path,
    known_as: impl Fn(&Family) -> Option<&'static str>,
) -> Result<&'static Family> {
    if let Some(family) = FAMILIES
        .iter()
        .copied()
        .find(|family| known_as(family) == Some(name))
    {
        return Ok(family);
    }
    match REFUSED.iter().find(|(names, _)| names.contains(&name)) {
        Some((_, reason)) => Err(Error::UnsupportedFamily {
            path: path.to_owned(),
            name: name.to_owned(),
            reason: (*reason).to_owned(),
        }),
        None => Err(unknown(name, path, known_as)),
    }
}

fn unknown(name: &str, path: &Path, known_as: impl Fn(&Family) -> Option<&'static str>) -> Error {
    Error::UnknownFamily {
        path: path.to_owned(),
        found: format!("`{name}`"),
        known: known(known_as),
    }
}

fn known(known_as: impl Fn(&Family) -> Option<&'static str>) -> String {
    FAMILIES
        .iter()
        .filter_map(|family| known_as(family))
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// What GGUF calls a key of `config.json`.
fn gguf_key(config: &MetadataConfig<'_>, key: &str) -> String {
    match key {
        "vocab_size" => config.full("vocab_size"),
        "hidden_size" => config.full("embedding_length"),
        "num_hidden_layers" => config.full("block_count"),
        "num_attention_heads" => config.full("attention.head_count"),
        "num_key_value_heads" => config.full("attention.head_count_kv"),
        "head_dim" => config.full("attention.key_length"),
        "intermediate_size" => config.full("feed_forward_length"),
        "max_position_embeddings" => config.full("context_length"),
        "rms_norm_eps" => config.full("attention.layer_norm_rms_epsilon"),
        "rope_theta" => config.full("rope.freq_base"),
        "sliding_window" => config.full("attention.sliding_window"),
        other => other.to_owned(),
    }
}
