//! What one process is asked to do and what it answers. A peer reads the first as JSON from its standard input and prints
//! the second as the last line of its standard output.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lm_core::Dtype;
use serde::{Deserialize, Serialize};

/// Loads a model and, if there is a prompt, works on it `repeats` times after one warm-up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// A Hugging Face folder or a GGUF file.
    pub(crate) weights: PathBuf,
    /// Element type of the run.
    pub(crate) dtype: Dtype,
    /// Token ids of the prompt; none for a job that only loads.
    pub(crate) prompt: Vec<u32>,
    /// Tokens each row writes; 0 for a job that only reads the prompt.
    pub(crate) new_tokens: usize,
    /// Continuations of the prompt.
    pub(crate) rows: usize,
    /// Sampled at temperature 1 with this `top_p`, or greedy.
    pub(crate) sampled: bool,
    /// Nucleus of a sampled job.
    pub(crate) top_p: f32,
    /// How often the work is timed.
    pub(crate) repeats: usize,
    /// When the process was started, in seconds of Unix time.
    pub(crate) started: f64,
}

/// Times in seconds, sizes in bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The loading call alone.
    pub(crate) load_s: f64,
    /// From the start of the process to weights that can be used: what a command-line tool makes its user wait.
    pub(crate) ready_s: f64,
    /// Of each repeat of the work.
    pub(crate) seconds: Vec<f64>,
    /// What the last repeat wrote, row by row. Compared, not kept; empty
    /// where the engine does not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tokens: Vec<Vec<u32>>,
    /// Anonymous memory before loading: interpreter and libraries.
    pub(crate) anonymous_before: u64,
    /// Anonymous memory when the weights were ready.
    pub(crate) anonymous_ready: u64,
    /// Largest resident size of the process, pages of mapped files included.
    pub(crate) peak: u64,
    /// Threads of one operation.
    pub(crate) threads: usize,
    /// Libraries and their versions.
    pub(crate) versions: BTreeMap<String, String>,
}
