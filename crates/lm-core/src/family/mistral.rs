//! Mistral 7B and what was tuned from it, such as Zephyr: a llama with a sliding window.

use super::{Family, JsonConfig, base, names};
use crate::Result;
use crate::spec::DecoderSpec;

pub(super) const FAMILY: Family = Family {
    name: "mistral",
    from_json,
    hf_source: |_, part| names::hf(part),
    buffers: &["rotary_emb.inv_freq"],
    // Converted files name `llama` as their architecture.
    gguf: None,
};

fn from_json(config: &JsonConfig<'_>) -> Result<DecoderSpec> {
    let mut spec = base::llama_json(
        FAMILY.name,
        config,
        base::Defaults {
            kv_heads: Some(8),
            context: Some(131_072),
            ..base::Defaults::default()
        },
    )?;
    let window = base::sliding_window(config, 4096)?;
    spec.windows = base::windows(config, spec.layers, window, |_| true)?;
    Ok(spec)
}
