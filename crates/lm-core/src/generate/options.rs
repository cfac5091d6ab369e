//! What is asked of a generation.

use serde::{Deserialize, Serialize};

use crate::model::MAX_ROWS;
use crate::sampling::Sampling;
use crate::tokenizer::StopStrings;
use crate::{Error, Result};

/// How to generate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateOptions {
    /// Most tokens of a reply; 128 unless set.
    pub max_new_tokens: usize,
    /// How a token is chosen; greedy unless set.
    pub sampling: Sampling,
    /// Replies to each prompt; 1 unless set. Greedy ones are all alike.
    pub samples: usize,
    /// Seed of the run.
    pub seed: u64,
    /// Texts that end a reply; the reply stops before them.
    pub stop: Vec<String>,
    /// Whether the model's own stop tokens are passed over.
    pub ignore_stop_tokens: bool,
    /// Most rows that run together; 16 unless set.
    pub batch: usize,
    /// How many of the first step's largest logits to keep; none unless set.
    pub first_logits: usize,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_new_tokens: 128,
            sampling: Sampling::greedy(),
            samples: 1,
            seed: 0,
            stop: Vec::new(),
            ignore_stop_tokens: false,
            batch: 16,
            first_logits: 0,
        }
    }
}

impl GenerateOptions {
    /// Refuses values that no generation could use.
    ///
    /// # Errors
    /// [`Error::Argument`], and an empty stop string.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [
            ("max-new-tokens", self.max_new_tokens),
            ("samples", self.samples),
            ("batch", self.batch),
        ] {
            if value == 0 {
                return Err(Error::argument(name, "at least 1", value));
            }
        }
        if self.batch > MAX_ROWS {
            let expected = format!("at most {MAX_ROWS}");
            return Err(Error::argument("batch", expected, self.batch));
        }
        StopStrings::new(self.stop.iter().map(String::as_str))?;
        self.sampling.check()
    }
}
