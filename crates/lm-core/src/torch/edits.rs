//! Changes to attention as tensors on the device, by layer.

use tch::{Kind, Tensor};

use super::stages::{ByStage, Place};
use crate::Result;
use crate::heads::{AblationKind, HeadAblation};
use crate::kv_heads::{KvAblation, KvAblationKind};
use crate::spec::{AttentionSpec, DecoderSpec};

/// What is done to the heads of each layer; empty where nothing is.
#[derive(Debug, Default)]
pub(super) struct Edits {
    layers: Vec<LayerEdit>,
}

/// What is done to the heads of one layer.
#[derive(Debug, Default)]
pub(super) struct LayerEdit {
    query: Side,
    key: Side,
    value: Side,
    /// Query heads that attend equally to all they may see.
    uniform: Vec<i64>,
    /// `[1, head, 1, 1]`: multiplied into the heads' outputs.
    output: Option<Tensor>,
}

/// Queries, keys or values of a layer: first the mean, then the factor.
#[derive(Debug, Default)]
struct Side {
    /// `[1, head, 1, 1]`, boolean: heads that become the mean over the layer's heads.
    mean: Option<Tensor>,
    /// `[1, head, 1, 1]`.
    factor: Option<Tensor>,
}

impl Side {
    /// `x`: `[row, head, position, head_dim]`.
    fn apply(&self, x: Tensor) -> Result<Tensor> {
        let mut x = x;
        if let Some(heads) = &self.mean {
            let mean = x.f_mean_dim(1, true, x.f_kind()?)?;
            x = mean.f_where_self(heads, &x)?;
        }
        Ok(match &self.factor {
            Some(factor) => x.f_mul(factor)?,
            None => x,
        })
    }
}

/// Factors and means of one layer while they are gathered.
#[derive(Clone, Default)]
struct Plan {
    query: SidePlan,
    key: SidePlan,
    value: SidePlan,
    output: Option<Vec<f32>>,
    uniform: Vec<i64>,
}

#[derive(Clone, Default)]
struct SidePlan {
    mean: Option<Vec<f32>>,
    factor: Option<Vec<f32>>,
}

/// Sets the entry of `head` in a list of `heads` that begins as `default`.
fn set(slot: &mut Option<Vec<f32>>, heads: usize, default: f32, head: usize, value: f32) {
    let all = slot.get_or_insert_with(|| vec![default; heads]);
    if let Some(own) = all.get_mut(head) {
        *own = value;
    }
}

impl Edits {
    /// The heads must have been checked.
    pub(super) fn new(
        ablation: &HeadAblation,
        kv_ablation: &KvAblation,
        spec: &DecoderSpec,
        places: &ByStage<Place>,
    ) -> Result<Self> {
        if ablation.is_empty() && kv_ablation.is_empty() {
            return Ok(Self::default());
        }
        let AttentionSpec {
            heads, kv_heads, ..
        } = spec.attention;
        let mut plans = vec![Plan::default(); spec.layers];
        for edit in ablation.edits() {
            let Some(plan) = plans.get_mut(edit.head.layer) else {
                continue;
            };
            let head = edit.head.head;
            match edit.kind {
                AblationKind::Undifferentiated { epsilon: 0.0 } => {
                    plan.uniform.push(head as i64);
                }
                AblationKind::Undifferentiated { epsilon } => {
                    set(&mut plan.query.factor, heads, 1.0, head, epsilon);
                }
                AblationKind::Contribution { factor } => {
                    set(&mut plan.output, heads, 1.0, head, factor);
                }
                AblationKind::MeanQuery => set(&mut plan.query.mean, heads, 0.0, head, 1.0),
            }
        }
        for edit in kv_ablation.edits() {
            let Some(plan) = plans.get_mut(edit.head.layer) else {
                continue;
            };
            let head = edit.head.kv_head;
            match edit.kind {
                KvAblationKind::ScaleKey { factor } => {
                    set(&mut plan.key.factor, kv_heads, 1.0, head, factor);
                }
                KvAblationKind::ScaleValue { factor } => {
                    set(&mut plan.value.factor, kv_heads, 1.0, head, factor);
                }
                KvAblationKind::MeanKey => set(&mut plan.key.mean, kv_heads, 0.0, head, 1.0),
                KvAblationKind::MeanValue => set(&mut plan.value.mean, kv_heads, 0.0, head, 1.0),
            }
        }
        let by_head = |values: Option<Vec<f32>>, place: Place| -> Result<Option<Tensor>> {
            values
                .map(|values| {
                    let tensor = Tensor::f_from_slice(&values)?.f_view([1, -1, 1, 1])?;
                    place.take(&tensor)
                })
                .transpose()
        };
        let side = |plan: SidePlan, place: Place| -> Result<Side> {
            let kind = Kind::Bool;
            Ok(Side {
                mean: by_head(plan.mean, Place { kind, ..place })?,
                factor: by_head(plan.factor, place)?,
            })
        };
        let layers = plans.into_iter().enumerate().map(|(layer, plan)| {
            let place = *places.of(layer);
            Ok(LayerEdit {
                query: side(plan.query, place)?,
                key: side(plan.key, place)?,
                value: side(plan.value, place)?,
                output: by_head(plan.output, place)?,
                uniform: plan.uniform,
            })
        });
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
        })
    }

    pub(super) fn of(&self, layer: usize) -> Option<&LayerEdit> {
        self.layers.get(layer)
    }
}

impl LayerEdit {
    /// Queries, keys and values as they meet, after everything that could undo it: a scale on the projection would leave a
    /// bias in, and a norm after it would take it out again.
    pub(super) fn inputs(&self, [query, key, value]: [Tensor; 3]) -> Result<[Tensor; 3]> {
        Ok([
            self.query.apply(query)?,
            self.key.apply(key)?,
            self.value.apply(value)?,
        ])
    }

    /// Query heads whose attention is uniform.
    pub(super) fn uniform(&self) -> &[i64] {
        &self.uniform
    }

    /// `[row, head, position, head_dim]`, before the output projection.
    pub(super) fn outputs(&self, heads: Tensor) -> Result<Tensor> {
        Ok(match &self.output {
            Some(factor) => heads.f_mul(factor)?,
            None => heads,
        })
    }
}
