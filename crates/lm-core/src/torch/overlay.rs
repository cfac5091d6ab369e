//! What adapters add to the projections in one pass.

use std::collections::HashMap;

use tch::{Kind, Tensor};

use super::layers::{Linear, Norm};
use super::train::Dropout;
use crate::Result;
use crate::spec::LayerPart;

/// Additions by layer and projection; empty where nothing is added.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    added: HashMap<(usize, LayerPart), Vec<Added>>,
    /// `[virtual token, hidden]`, `f32`, by the ids after the vocabulary.
    soft: Option<Tensor>,
    /// Of training.
    learning: bool,
}

/// `scaling · B(A(x))`, in `f32` whatever the run is in, as PEFT holds its adapters.
#[derive(Debug)]
pub(super) struct Added {
    /// `[rank, in]`.
    pub(super) a: Tensor,
    /// `[out, rank]`.
    pub(super) b: Tensor,
    /// Its rows that are this projection's, `i64`, where it is over several; `None` for all.
    pub(super) outputs: Option<Tensor>,
    pub(super) scaling: f64,
    /// Rows of the batch it is for, `i64`; `None` for all.
    pub(super) rows: Option<Tensor>,
    /// Of training.
    pub(super) dropout: Option<Dropout>,
}

impl Overlay {
    /// One that is being trained: a block may be computed twice, once without gradients and once with them, and both must be
    /// the same to the bit, so all operators are those that autograd knows.
    pub(super) fn learning() -> Self {
        Self {
            learning: true,
            ..Self::default()
        }
    }

    pub(super) fn set_soft_prompt(&mut self, prompt: Tensor) {
        self.soft = Some(prompt);
    }

    pub(super) fn soft_prompt(&self) -> Option<&Tensor> {
        self.soft.as_ref()
    }

    pub(super) fn add(&mut self, layer: usize, part: LayerPart, added: Added) {
        self.added.entry((layer, part)).or_default().push(added);
    }

    /// Whether anything is added to a projection.
    pub(super) fn is_on(&self, layer: usize, part: LayerPart) -> bool {
        self.added.contains_key(&(layer, part))
    }

    /// `x` through a norm of the model.
    pub(super) fn norm(&self, norm: &Norm, x: &Tensor) -> Result<Tensor> {
        if self.learning {
            norm.forward_for_gradients(x)
        } else {
            norm.forward(x)
        }
    }

    /// `x`, `[row, position, in]`, through a projection and what is added to it: `[row, position, out]`.
    pub(super) fn linear(
        &self,
        layer: usize,
        part: LayerPart,
        linear: &Linear,
        x: &Tensor,
    ) -> Result<Tensor> {
        let plain = if self.learning {
            linear.forward_for_gradients(x)?
        } else {
            linear.forward(x)?
        };
        let Some(all) = self.added.get(&(layer, part)) else {
            return Ok(plain);
        };
        let kind = plain.f_kind()?;
        let wide = x.f_to_kind(Kind::Float)?;
        let mut sum = plain.f_to_kind(Kind::Float)?;
        for added in all {
            sum = added.onto(&sum, &wide)?;
        }
        Ok(sum.f_to_kind(kind)?)
    }
}

impl Added {
    fn onto(&self, sum: &Tensor, x: &Tensor) -> Result<Tensor> {
        let of = |x: &Tensor| -> Result<Tensor> {
            let dropped = self.dropout.as_ref().map(|dropout| dropout.apply(x));
            let dropped = dropped.transpose()?;
            let inner = dropped
                .as_ref()
                .unwrap_or(x)
                .f_linear::<&Tensor>(&self.a, None)?;
            // Selected here and not before: in training each block's backward pass frees its own graph.
            let own = self
                .outputs
                .as_ref()
                .map(|own| self.b.f_index_select(0, own));
            let own = own.transpose()?;
            let outer = inner.f_linear::<&Tensor>(own.as_ref().unwrap_or(&self.b), None)?;
            Ok(outer.f_mul_scalar(self.scaling)?)
        };
        Ok(match &self.rows {
            None => sum.f_add(&of(x)?)?,
            Some(rows) => sum.f_index_add(0, rows, &of(&x.f_index_select(0, rows)?)?)?,
        })
    }
}
