//! What a result must carry so that someone else can repeat it.

use serde::{Deserialize, Serialize};

/// Where a result comes from. Holds no time and no path of a machine, so that equal runs give equal files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Provenance {
    /// This library and its version.
    pub tool: String,
    /// File or folder name of the model.
    pub model: Option<String>,
    /// SHA-256 over the dequantised weights; see [`Checkpoint::model_hash`](crate::Checkpoint::model_hash).
    pub model_hash: Option<String>,
    /// [`Adapter::hash`](crate::Adapter::hash) of each adapter that is on or merged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<String>,
    /// Family of the decoder.
    pub family: Option<String>,
    /// SHA-256 of the tokenizer's pipeline.
    pub tokenizer_hash: Option<String>,
    /// SHA-256 of the chat template.
    pub template_hash: Option<String>,
    /// Element type of the run.
    pub dtype: Option<String>,
    /// Device of the run.
    pub device: Option<String>,
    /// Threads of one operation; results of floating-point sums may differ between counts.
    pub threads: Option<usize>,
    /// Version of libtorch.
    pub libtorch: Option<String>,
    /// Seed of the run.
    pub seed: Option<u64>,
}

impl Provenance {
    /// This library, and nothing else known yet.
    pub fn new() -> Self {
        Self {
            tool: concat!("lm-core ", env!("CARGO_PKG_VERSION")).to_owned(),
            model: None,
            model_hash: None,
            adapters: Vec::new(),
            family: None,
            tokenizer_hash: None,
            template_hash: None,
            dtype: None,
            device: None,
            threads: None,
            libtorch: None,
            seed: None,
        }
    }

    /// The same, with the seed of a run.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }
}

impl Default for Provenance {
    fn default() -> Self {
        Self::new()
    }
}
