//! Numbers that a text is seen as.

use std::collections::BTreeMap;

use super::Baseline;

/// Indices and values of a text's features, ascending; all others are 0.
pub(super) type Row = Vec<(usize, f64)>;

#[derive(Clone, Debug)]
pub(super) struct Features {
    baseline: Baseline,
    index: BTreeMap<String, usize>,
    /// Mean and standard deviation of each length in the training texts.
    scale: [(f64, f64); 2],
}

const LENGTHS: [&str; 2] = ["characters", "words"];

impl Features {
    pub(super) fn new(baseline: Baseline, texts: &[&str]) -> Self {
        let names: std::collections::BTreeSet<String> = match baseline {
            Baseline::NGrams { shortest, longest } => texts
                .iter()
                .flat_map(|text| ngrams(text, shortest, longest))
                .collect(),
            Baseline::FirstWord => texts.iter().map(|text| first(text)).collect(),
            Baseline::Length => LENGTHS.map(str::to_owned).into(),
        };
        let scale = [0, 1].map(|at| {
            let values = || {
                texts.iter().map(|text| {
                    if at == 0 {
                        lengths(text).0
                    } else {
                        lengths(text).1
                    }
                })
            };
            let count = texts.len().max(1) as f64;
            let mean = values().sum::<f64>() / count;
            let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            // Equal lengths tell nothing, and their difference from the mean is 0.
            let deviation = if variance > 0.0 { variance.sqrt() } else { 1.0 };
            (mean, deviation)
        });
        Self {
            baseline,
            index: names
                .into_iter()
                .enumerate()
                .map(|(at, name)| (name, at))
                .collect(),
            scale,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (&str, usize)> {
        self.index.iter().map(|(name, at)| (name.as_str(), *at))
    }

    pub(super) fn row(&self, text: &str) -> Row {
        match self.baseline {
            Baseline::NGrams { shortest, longest } => {
                let mut counts: BTreeMap<usize, f64> = BTreeMap::new();
                for name in ngrams(text, shortest, longest) {
                    if let Some(at) = self.index.get(&name) {
                        *counts.entry(*at).or_default() += 1.0;
                    }
                }
                counts.into_iter().collect()
            }
            Baseline::FirstWord => self
                .index
                .get(&first(text))
                .map(|at| (*at, 1.0))
                .into_iter()
                .collect(),
            Baseline::Length => {
                let (characters, words) = lengths(text);
                let [(mean, deviation), (words_mean, words_deviation)] = self.scale;
                vec![
                    (0, (characters - mean) / deviation),
                    (1, (words - words_mean) / words_deviation),
                ]
            }
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn ngrams(text: &str, shortest: usize, longest: usize) -> Vec<String> {
    let words = words(text);
    (shortest..=longest.min(words.len()))
        .flat_map(|count| words.windows(count).map(|run| run.join(" ")))
        .collect()
}

/// The first word; empty for a text without one.
fn first(text: &str) -> String {
    words(text).into_iter().next().unwrap_or_default()
}

fn lengths(text: &str) -> (f64, f64) {
    (text.chars().count() as f64, words(text).len() as f64)
}
