//! What one process is asked to do and what it answers. A peer reads the first as JSON from its standard input and prints
//! the second as the last line of its standard output.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lm_core::Dtype;
use serde::{Deserialize, Serialize};

use crate::works::Task;

/// Loads a model and works on the task `repeats` times after one warm-up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// A Hugging Face folder or a GGUF file.
    pub(crate) weights: PathBuf,
    /// Element type of the run.
    pub(crate) dtype: Dtype,
    /// What is timed.
    pub(crate) task: Task,
    /// How often it is timed.
    pub(crate) repeats: usize,
    /// When the process was started, in seconds of Unix time.
    pub(crate) started: f64,
}

/// Times in seconds, sizes in bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The loading call alone.
    pub(crate) load_s: f64,
    /// From the start of the process to weights that can be used: what a command-line tool makes its user wait.
    pub(crate) ready_s: f64,
    /// Of each repeat of the work.
    pub(crate) seconds: Vec<f64>,
    /// Seconds of the last repeat that went into a part of it, by the part's name, where a side tells.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) parts: BTreeMap<String, f64>,
    /// What the last repeat found. Compared, not kept.
    #[serde(default, skip_serializing_if = "Found::is_empty")]
    pub(crate) found: Found,
    /// Anonymous memory before loading: interpreter and libraries.
    pub(crate) anonymous_before: u64,
    /// Anonymous memory when the weights were ready.
    pub(crate) anonymous_ready: u64,
    /// Largest resident size of the process up to the end of the last repeat, pages of mapped files included.
    pub(crate) peak: u64,
    /// Threads of one operation.
    pub(crate) threads: usize,
    /// Libraries and their versions.
    pub(crate) versions: BTreeMap<String, String>,
}

/// What a repeat found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Tokens that were written, row by row; empty where the engine does not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tokens: Vec<Vec<u32>>,
    /// Numbers by name; both sides must find the same, where both have the name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) numbers: BTreeMap<String, Vec<f64>>,
}

impl Found {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
