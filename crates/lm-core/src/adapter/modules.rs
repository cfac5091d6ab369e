//! The matrices of a model by the names PEFT gives them, and what of each the decoder's own projections are.

use crate::family::{Rows, Transform};
use crate::spec::{LayerPart, Part};
use crate::weights::Checkpoint;

/// A matrix of a block as Hugging Face's modules have it; several projections may be fused in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// `model.layers.0.self_attn.q_proj`.
    pub(crate) name: String,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// Whether the weight is stored input-first.
    pub(crate) transposed: bool,
    pub(crate) projections: Vec<Projection>,
}

/// One projection of the decoder in a [`Module`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Projection {
    pub(crate) layer: usize,
    pub(crate) part: LayerPart,
    /// Its rows of the module's outputs; `None` for all of them.
    pub(crate) rows: Option<Rows>,
}

impl Projection {
    /// The module's outputs that are this projection's, in its order; `None` for all of them as they are.
    #[cfg(feature = "torch")]
    pub(crate) fn outputs(&self) -> Option<Vec<usize>> {
        let rows = self.rows?;
        let all = (0..rows.groups).flat_map(|group| {
            let start = group * rows.stride + rows.start;
            start..start + rows.take
        });
        Some(all.collect())
    }
}

/// Every matrix of every block, in the order of the blocks.
pub(crate) fn modules(checkpoint: &Checkpoint) -> Vec<Module> {
    let spec = checkpoint.spec();
    let mut modules: Vec<Module> = Vec::new();
    for part in spec.parts() {
        let Part::Layer(layer, own) = part else {
            continue;
        };
        if !is_projection(own) {
            continue;
        }
        let source = checkpoint.hugging_face_source(part);
        let Some(name) = source.name.strip_suffix(".weight") else {
            continue;
        };
        // Nothing else is done to a matrix in Hugging Face's files.
        let Transform {
            rows, transposed, ..
        } = source.transform;
        let shape = spec.part_shape(part);
        let (outputs, inputs) = match shape[..] {
            [outputs, inputs] => (outputs, inputs),
            _ => continue,
        };
        let projection = Projection {
            layer,
            part: own,
            rows,
        };
        match modules.iter_mut().rev().find(|module| module.name == name) {
            Some(module) => module.projections.push(projection),
            None => modules.push(Module {
                name: name.to_owned(),
                inputs,
                outputs: rows.map_or(outputs, |rows| rows.groups * rows.stride),
                transposed,
                projections: vec![projection],
            }),
        }
    }
    modules
}

fn is_projection(part: LayerPart) -> bool {
    use LayerPart as L;
    matches!(
        part,
        L::Query | L::Key | L::Value | L::Output | L::Gate | L::Up | L::Down
    )
}
