//! AdamW on the host, in `f32`, in the order of operations of PyTorch's plain one.

use serde::{Deserialize, Serialize};

/// Settings of AdamW (Loshchilov and Hutter, 2019).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamWOptions {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root.
    pub epsilon: f64,
    /// Share of the learning rate by which weights shrink, apart from the gradient.
    pub weight_decay: f64,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        }
    }
}

/// Moments of a list of weights, in the weights' order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AdamW {
    pub(super) options: AdamWOptions,
    /// Updates done.
    pub(super) steps: u64,
    pub(super) means: Vec<Vec<f32>>,
    pub(super) squares: Vec<Vec<f32>>,
}

impl AdamW {
    pub(super) fn new(options: AdamWOptions, sizes: impl Iterator<Item = usize>) -> Self {
        let means: Vec<Vec<f32>> = sizes.map(|size| vec![0.0; size]).collect();
        Self {
            options,
            steps: 0,
            squares: means.clone(),
            means,
        }
    }

    /// One update. `gradients` are multiplied by `factor` first, which is how they are clipped.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "weights and moments are f32, as PyTorch's"
    )]
    pub(super) fn update<'a>(
        &mut self,
        weights: impl Iterator<Item = &'a mut [f32]>,
        gradients: &[Vec<f32>],
        factor: f32,
        rate: f64,
    ) {
        let AdamWOptions {
            beta1,
            beta2,
            epsilon,
            weight_decay,
        } = self.options;
        self.steps += 1;
        let power = self.steps as f64;
        let step = (rate / (1.0 - beta1.powf(power))) as f32;
        let root = (1.0 - beta2.powf(power)).sqrt() as f32;
        let shrink = (1.0 - rate * weight_decay) as f32;
        let (new, keep, square) = ((1.0 - beta1) as f32, beta2 as f32, (1.0 - beta2) as f32);
        let epsilon = epsilon as f32;
        let moments = self.means.iter_mut().zip(&mut self.squares);
        for ((weights, gradient), (means, squares)) in weights.zip(gradients).zip(moments) {
            let moments = means.iter_mut().zip(squares);
            for ((weight, gradient), (mean, second)) in
                weights.iter_mut().zip(gradient).zip(moments)
            {
                let gradient = gradient * factor;
                *weight *= shrink;
                *mean += new * (gradient - *mean);
                *second = *second * keep + square * gradient * gradient;
                *weight -= step * (*mean / (second.sqrt() / root + epsilon));
            }
        }
    }
}

/// Norm of all gradients together.
pub(super) fn norm(gradients: &[Vec<f32>]) -> f64 {
    let squares = gradients.iter().flatten();
    squares
        .map(|value| f64::from(*value).powi(2))
        .sum::<f64>()
        .sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: with a constant gradient the corrected moments are the gradient and its square, so a step is the rate.
    #[test]
    fn a_constant_gradient_steps_by_the_rate() {
        let options = AdamWOptions {
            weight_decay: 0.5,
            ..AdamWOptions::default()
        };
        let mut adam = AdamW::new(options, [2].into_iter());
        let mut weights = vec![1.0, -1.0];
        for _ in 0..2 {
            let list = [weights.as_mut_slice()];
            adam.update(list.into_iter(), &[vec![8.0, -4.0]], 0.5, 0.1);
        }
        // 1 -> 0.95 - 0.1 = 0.85 -> 0.8075 - 0.1
        assert!((weights[0] - 0.7075).abs() < 1e-5 && (weights[1] + 0.7075).abs() < 1e-5);
        assert!((norm(&[vec![3.0], vec![4.0]]) - 5.0).abs() < 1e-12);
    }
}
