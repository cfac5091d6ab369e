//! What training changes.

use ndarray::Array2;

use crate::adapter::{Adapter, SoftPrompt};

/// An adapter, a soft prompt, or both.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Learnt {
    pub(super) adapter: Option<Adapter>,
    pub(super) prompt: Option<SoftPrompt>,
}

impl Learnt {
    /// The matrices in the order A, B of each adapted one, then the prompt.
    pub(super) fn values(&self) -> impl Iterator<Item = &Array2<f32>> {
        let matrices = self.adapter.iter().flat_map(Adapter::matrices);
        let prompt = self.prompt.iter().map(SoftPrompt::values);
        matrices.flat_map(|own| [&own.a, &own.b]).chain(prompt)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Array2<f32>> {
        let matrices = self.adapter.iter_mut().flat_map(Adapter::matrices_mut);
        let prompt = self.prompt.iter_mut().map(SoftPrompt::values_mut);
        matrices.flat_map(|(a, b)| [a, b]).chain(prompt)
    }

    pub(super) fn dropout(&self) -> f64 {
        self.adapter
            .as_ref()
            .map_or(0.0, |own| own.config().dropout)
    }

    /// A description that differs wherever the numbers do.
    pub(super) fn hash(&self) -> String {
        let adapter = self.adapter.as_ref().map(Adapter::hash);
        let prompt = self.prompt.as_ref().map(SoftPrompt::hash);
        format!("{adapter:?} {prompt:?} {}", self.dropout().to_bits())
    }
}

impl From<Adapter> for Learnt {
    fn from(adapter: Adapter) -> Self {
        Self {
            adapter: Some(adapter),
            prompt: None,
        }
    }
}

impl From<SoftPrompt> for Learnt {
    fn from(prompt: SoftPrompt) -> Self {
        Self {
            adapter: None,
            prompt: Some(prompt),
        }
    }
}
