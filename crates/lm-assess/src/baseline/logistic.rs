//! Logistic regression with an L2 penalty, by Newton's method with conjugate gradients (Nocedal and Wright, Numerical Optimization,
//! algorithm 7.1). The Hessian is only multiplied with, so thousands of n-grams cost what they hold.

use super::features::Row;

/// Steps and steps inside a step: many times what a convex problem needs.
const MAX_STEPS: usize = 200;
const MAX_INNER: usize = 2000;
/// The gradient's norm at the optimum, relative to that at 0.
const TOLERANCE: f64 = 1e-10;

pub(super) struct Solution {
    pub(super) weights: Vec<f64>,
    pub(super) intercept: f64,
}

struct Problem<'a> {
    rows: &'a [Row],
    classes: &'a [bool],
    features: usize,
    c: f64,
}

/// The weights of least loss. The last entry of every vector inside is the intercept.
pub(super) fn fit(
    rows: &[Row],
    classes: &[bool],
    features: usize,
    c: f64,
) -> Result<Solution, &'static str> {
    let problem = Problem {
        rows,
        classes,
        features,
        c,
    };
    let mut at = vec![0.0; features + 1];
    let (mut loss, mut gradient, mut curvature) = problem.evaluate(&at);
    let enough = TOLERANCE * norm(&gradient).max(1.0);
    for _ in 0..MAX_STEPS {
        let size = norm(&gradient);
        if size <= enough {
            let intercept = at.pop().unwrap_or(0.0);
            return Ok(Solution {
                weights: at,
                intercept,
            });
        }
        let direction = problem.direction(&gradient, &curvature);
        let slope = dot(&gradient, &direction);
        let mut step = 1.0;
        let next = loop {
            let next: Vec<f64> = at
                .iter()
                .zip(&direction)
                .map(|(at, by)| at + step * by)
                .collect();
            let found = problem.evaluate(&next);
            // Near the optimum the loss no longer changes in its digits, but the gradient does.
            let flat = (found.0 - loss).abs() <= 1e-12 * loss.abs() && norm(&found.1) < size;
            if found.0 <= loss + 1e-4 * step * slope || flat {
                break Some((next, found));
            }
            step *= 0.5;
            if step < 1e-12 {
                break None;
            }
        };
        let Some((next, found)) = next else {
            return Err("the fit stopped before its optimum");
        };
        at = next;
        (loss, gradient, curvature) = found;
    }
    Err("the fit did not reach its optimum")
}

impl Problem<'_> {
    /// Loss, gradient, and each row's curvature.
    fn evaluate(&self, at: &[f64]) -> (f64, Vec<f64>, Vec<f64>) {
        let (intercept, weights) = at
            .split_last()
            .map_or((0.0, at), |(last, all)| (*last, all));
        let mut loss = 0.5 * dot(weights, weights);
        let mut gradient = weights.to_vec();
        let mut by_intercept = 0.0;
        let mut curvature = Vec::with_capacity(self.rows.len());
        for (row, class) in self.rows.iter().zip(self.classes) {
            let score = score(row, weights, intercept);
            let sign = if *class { 1.0 } else { -1.0 };
            loss += self.c * softplus(-sign * score);
            let probability = sigmoid(score);
            let slope = self.c * (probability - f64::from(u8::from(*class)));
            for (feature, value) in row {
                if let Some(slot) = gradient.get_mut(*feature) {
                    *slot += slope * value;
                }
            }
            by_intercept += slope;
            curvature.push(self.c * probability * (1.0 - probability));
        }
        gradient.push(by_intercept);
        (loss, gradient, curvature)
    }

    /// The Hessian times a vector.
    fn times(&self, vector: &[f64], curvature: &[f64]) -> Vec<f64> {
        let (intercept, weights) = vector
            .split_last()
            .map_or((0.0, vector), |(last, all)| (*last, all));
        let mut product = weights.to_vec();
        let mut by_intercept = 0.0;
        for (row, curvature) in self.rows.iter().zip(curvature) {
            let along = curvature * score(row, weights, intercept);
            for (feature, value) in row {
                if let Some(slot) = product.get_mut(*feature) {
                    *slot += along * value;
                }
            }
            by_intercept += along;
        }
        product.push(by_intercept);
        product
    }

    /// Newton's direction, to the precision that the gradient's size asks for.
    fn direction(&self, gradient: &[f64], curvature: &[f64]) -> Vec<f64> {
        let mut direction = vec![0.0; self.features + 1];
        let mut residual: Vec<f64> = gradient.iter().map(|slope| -slope).collect();
        let mut search = residual.clone();
        let mut square = dot(&residual, &residual);
        let size = square.sqrt();
        let enough = size * size.sqrt().min(1e-3);
        for _ in 0..MAX_INNER {
            let product = self.times(&search, curvature);
            let along = dot(&search, &product);
            if along <= 0.0 {
                break;
            }
            let step = square / along;
            for ((direction, residual), (search, product)) in direction
                .iter_mut()
                .zip(&mut residual)
                .zip(search.iter().zip(&product))
            {
                *direction += step * search;
                *residual -= step * product;
            }
            let next = dot(&residual, &residual);
            if next.sqrt() <= enough {
                break;
            }
            let share = next / square;
            for (search, residual) in search.iter_mut().zip(&residual) {
                *search = residual + share * *search;
            }
            square = next;
        }
        // Without a curved direction at all, straight down.
        if direction.iter().all(|part| *part == 0.0) {
            return residual;
        }
        direction
    }
}

pub(super) fn score(row: &Row, weights: &[f64], intercept: f64) -> f64 {
    row.iter()
        .map(|(feature, value)| weights.get(*feature).copied().unwrap_or(0.0) * value)
        .sum::<f64>()
        + intercept
}

pub(super) fn sigmoid(score: f64) -> f64 {
    if score >= 0.0 {
        1.0 / (1.0 + (-score).exp())
    } else {
        let odds = score.exp();
        odds / (1.0 + odds)
    }
}

/// `log(1 + exp(x))` without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

fn norm(vector: &[f64]) -> f64 {
    dot(vector, vector).sqrt()
}
