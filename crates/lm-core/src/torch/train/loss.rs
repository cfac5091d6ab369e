//! Losses as plain functions of sequence log-probabilities.

/// A loss and its derivative by the log-probability of each sequence, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// The number.
    pub value: f64,
    /// `∂ value / ∂ log p` of each sequence.
    pub slopes: Vec<f64>,
}

impl Loss {
    /// Negative log-likelihood over `targets` tokens: `-Σ log p / targets`.
    pub fn negative_log_likelihood(log_probs: &[f64], targets: usize) -> Self {
        let count = targets.max(1) as f64;
        Self {
            value: -log_probs.iter().sum::<f64>() / count,
            slopes: vec![-1.0 / count; log_probs.len()],
        }
    }
}
