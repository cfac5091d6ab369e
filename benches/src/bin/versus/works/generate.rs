//! Reading one prompt, and writing after it.

use anyhow::Result;
use lm_core::{
    Dtype, GenerateOptions, LanguageModel as _, Request, Sampling, TorchModel, generate,
};
use serde::{Deserialize, Serialize};

use super::{Call, Started};
use crate::demand::{Demand, Pass};
use crate::job::Found;

/// Tokens written before the clock starts: allocators and thread pools are warm after a few steps.
const WARM_UP_TOKENS: usize = 4;

/// Reads a prompt and writes after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Generate {
    /// Token ids of the prompt.
    pub(crate) prompt: Vec<u32>,
    /// Tokens each row writes; 0 to only read the prompt.
    pub(crate) new_tokens: usize,
    /// Continuations of the prompt.
    pub(crate) rows: usize,
    /// Sampled at temperature 1 with this `top_p`, or greedy.
    pub(crate) sampled: bool,
    /// Nucleus of a sampled job.
    pub(crate) top_p: f32,
}

pub(super) struct Running<'m> {
    work: &'m Generate,
    model: &'m TorchModel,
    written: Vec<Vec<u32>>,
}

impl Generate {
    pub(super) fn start<'m>(&'m self, model: &'m TorchModel) -> Running<'m> {
        Running {
            work: self,
            model,
            written: Vec::new(),
        }
    }

    pub(super) fn passes(&self, demand: &Demand, dtype: Dtype) -> Vec<Pass> {
        let (prompt, rows) = (self.prompt.len() as f64, self.rows as f64);
        let bytes = demand.bytes(dtype);
        let logits = 2.0 * demand.unembedding as f64;
        // The prompt's own pass gives the first token. Attention to so few positions does not show in the others.
        vec![
            Pass {
                count: 1.0,
                operations: demand.rows([self.prompt.len()], 0) + logits,
                bytes,
            },
            Pass {
                count: self.new_tokens.saturating_sub(1) as f64,
                operations: rows * (2.0 * demand.blocks as f64 + logits),
                bytes,
            },
        ]
        .into_iter()
        .filter(|pass| pass.count > 0.0 && prompt > 0.0)
        .collect()
    }
}

impl Started for Running<'_> {
    fn call(&mut self, call: Call) -> Result<()> {
        let Generate {
            prompt,
            new_tokens,
            rows,
            sampled,
            top_p,
        } = self.work;
        if *new_tokens == 0 {
            self.model.begin(1)?.extend(&[prompt])?;
            return Ok(());
        }
        let options = GenerateOptions {
            max_new_tokens: match call {
                Call::WarmUp => WARM_UP_TOKENS.min(*new_tokens),
                Call::Timed => *new_tokens,
            },
            sampling: if *sampled {
                Sampling {
                    top_p: Some(*top_p),
                    ..Sampling::temperature(1.0)
                }
            } else {
                Sampling::greedy()
            },
            samples: *rows,
            batch: *rows,
            ignore_stop_tokens: true,
            ..GenerateOptions::default()
        };
        let rows = generate::generate(
            self.model,
            self.model.text()?,
            &[Request::unnamed(prompt.clone())],
            &options,
            &mut generate::ignore,
        )?;
        self.written = rows.into_iter().flatten().map(|row| row.tokens).collect();
        Ok(())
    }

    fn found(&mut self) -> Result<Found> {
        Ok(Found {
            tokens: std::mem::take(&mut self.written),
            ..Found::default()
        })
    }
}
