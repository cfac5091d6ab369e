//! The JSON that the programs write. Each file names its schema; the schemas are in `docs/schemas/`.
//!
//! Nothing in them depends on the time or on the machine's paths: equal runs write equal files.

use lm_core::{AblationKind, FinishReason, Generation, Head, HeadAblation, Prompt, Provenance};
use serde::{Deserialize, Serialize};

/// What `generate` writes: `docs/schemas/generate-1.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateResult {
    /// [`GenerateResult::SCHEMA`].
    pub schema: String,
    /// One for each prompt and sample, in the order of the prompts.
    pub items: Vec<GeneratedItem>,
    /// Where it comes from.
    pub provenance: Provenance,
}

impl GenerateResult {
    /// Name and version of the format. The version rises when a reader of the old one would be misled.
    pub const SCHEMA: &str = "lm-safety/generate/1";
}

/// One continuation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeneratedItem {
    /// The prompt's name, if it was given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Which of the prompt's samples, from 0.
    pub sample: usize,
    /// What the model was fed.
    pub prompt_tokens: Vec<u32>,
    /// What it answered.
    #[serde(flatten)]
    pub generation: Generation,
}

/// What `heads` writes: `docs/schemas/heads-1.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadsResult {
    /// [`HeadsResult::SCHEMA`].
    pub schema: String,
    /// One for each prompt, in order.
    pub items: Vec<HeadsItem>,
    /// Where it comes from.
    pub provenance: Provenance,
}

impl HeadsResult {
    /// Name and version of the format. The version rises when a reader of the old one would be misled.
    pub const SCHEMA: &str = "lm-safety/heads/1";
}

/// What switching heads off did to one prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadsItem {
    /// The prompt's name, if it was given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The prompt, as `prompt` or `messages`.
    #[serde(flatten)]
    pub prompt: Prompt,
    /// What the model was fed.
    pub prompt_tokens: Vec<u32>,
    /// The score of every head, if they were asked for.
    pub scores: Option<HeadScores>,
    /// What was switched off.
    pub ablation: HeadAblation,
    /// `KL(base ‖ ablated)` of the next-token distributions after the prompt, in nats.
    pub kl: f64,
    /// Tokens that are likely with or without the ablation, the likelier without first.
    pub next_token: Vec<NextToken>,
    /// The model's continuation as it is.
    pub before: Continuation,
    /// Its continuation with the heads switched off throughout.
    pub after: Continuation,
}

/// Query-level Ships of all heads (Zhou et al., ICLR 2025, equation 9).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadScores {
    /// What was done to each head in turn.
    pub kind: AblationKind,
    /// `[layer][head]`: `KL(base ‖ ablated)` of the next-token distributions after the prompt, in nats.
    pub kl: Vec<Vec<f64>>,
}

impl HeadScores {
    /// All heads, the highest score first; of equal ones the lower layer and head.
    pub fn ranked(&self) -> Vec<(Head, f64)> {
        let mut ranking: Vec<(Head, f64)> = Vec::new();
        for (layer, scores) in self.kl.iter().enumerate() {
            let heads = scores.iter().enumerate();
            ranking.extend(heads.map(|(head, &kl)| (Head::new(layer, head), kl)));
        }
        ranking.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranking
    }
}

/// A token that may come next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NextToken {
    /// Its id.
    pub id: u32,
    /// Its text, as far as it has one by itself.
    pub text: String,
    /// Its probability in the model as it is.
    pub before: f64,
    /// Its probability with the heads switched off.
    pub after: f64,
}

/// A generated text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Continuation {
    /// The generated ids, a stop token included.
    pub tokens: Vec<u32>,
    /// The text, without special tokens.
    pub text: String,
    /// Why it ended.
    pub finish: FinishReason,
}

impl From<Generation> for Continuation {
    fn from(generation: Generation) -> Self {
        Self {
            tokens: generation.tokens,
            text: generation.text,
            finish: generation.finish,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_score_comes_first_and_ties_keep_the_order_of_the_model() {
        let scores = HeadScores {
            kind: AblationKind::Contribution { factor: 0.0 },
            kl: vec![vec![0.5, 0.1], vec![2.0, 0.5]],
        };
        let order: Vec<String> = scores
            .ranked()
            .iter()
            .map(|(head, _)| head.to_string())
            .collect();
        assert_eq!(order, ["1-0", "0-0", "1-1", "0-1"]);
    }
}
