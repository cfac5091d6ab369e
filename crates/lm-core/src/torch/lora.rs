//! Adapters on the device: which of them a row has, and what merging makes of the weights.

use ndarray::Axis;
use tch::{Kind, Tensor};

use super::TorchModel;
use super::decoder::Decoder;
use super::frozen::Frozen;
use super::host::from_array2;
use super::layers::Linear;
use super::overlay::{Added, Overlay};
use super::stages::{ByStage, Place};
use crate::adapter::{Adapter, modules};
use crate::spec::LayerPart;
use crate::{Error, Result};

/// Which adapter each row of a batch has; `None` for none.
pub(super) type Assigned = Vec<Option<usize>>;

/// Adapters for the rows of a batch.
#[derive(Debug)]
pub(super) struct Adapters {
    loaded: Vec<Loaded>,
    /// `None` for the sum of all adapters on every row.
    pub(super) rows: Option<Assigned>,
    pub(super) hashes: Vec<String>,
}

/// One adapter by the decoder's projections.
#[derive(Debug)]
struct Loaded {
    parts: Vec<LoadedPart>,
}

#[derive(Debug)]
struct LoadedPart {
    layer: usize,
    part: LayerPart,
    /// `[rank, in]`, `f32`.
    a: Frozen,
    /// `[out, rank]`, `f32`: of a fused matrix only this projection's rows.
    b: Frozen,
    scaling: f64,
}

impl Loaded {
    fn new(adapter: &Adapter, model: &TorchModel) -> Result<Self> {
        let places = &model.decoder().places;
        let modules = modules(model.checkpoint());
        let mut parts = Vec::new();
        for (own, module) in adapter.placed(&modules)? {
            // One matrix of the checkpoint, and so of one layer.
            let layer = module.projections.first().map(|first| first.layer);
            let device = places.of(layer.unwrap_or_default()).device;
            let a = Frozen::new(from_array2(&own.a.view(), Kind::Float, device)?);
            for projection in &module.projections {
                let picked;
                let b = match projection.outputs() {
                    None => own.b.view(),
                    Some(outputs) => {
                        picked = own.b.select(Axis(0), &outputs);
                        picked.view()
                    }
                };
                parts.push(LoadedPart {
                    layer: projection.layer,
                    part: projection.part,
                    a: a.clone(),
                    b: Frozen::new(from_array2(&b, Kind::Float, device)?),
                    scaling: own.scaling,
                });
            }
        }
        Ok(Self { parts })
    }
}

impl Adapters {
    pub(super) fn new(
        model: &TorchModel,
        adapters: &[&Adapter],
        rows: Option<Assigned>,
    ) -> Result<Self> {
        for (row, index) in rows.iter().flatten().enumerate() {
            if let Some(index) = index.filter(|&index| index >= adapters.len()) {
                let expected = format!("one of {} adapters", adapters.len());
                return Err(Error::argument(
                    format!("adapter of row {row}"),
                    expected,
                    index,
                ));
            }
        }
        let _no_grad = tch::no_grad_guard();
        let loaded = adapters.iter().map(|adapter| Loaded::new(adapter, model));
        Ok(Self {
            loaded: loaded.collect::<Result<_>>()?,
            rows,
            hashes: adapters.iter().map(|adapter| adapter.hash()).collect(),
        })
    }

    /// Whether rows have adapters of their own.
    pub(super) fn by_row(&self) -> bool {
        self.rows.is_some()
    }

    /// The assignment for a batch of `rows` rows.
    pub(super) fn assigned(&self, rows: usize) -> Result<Option<&Assigned>> {
        match &self.rows {
            Some(assigned) if assigned.len() != rows => Err(Error::argument(
                "rows",
                format!("{}, one for each adapter given", assigned.len()),
                rows,
            )),
            other => Ok(other.as_ref()),
        }
    }

    /// What is added under an assignment.
    pub(super) fn overlay(
        &self,
        assigned: Option<&Assigned>,
        places: &ByStage<Place>,
    ) -> Result<Overlay> {
        let mut overlay = Overlay::default();
        for (index, loaded) in self.loaded.iter().enumerate() {
            let rows = match assigned {
                None => None,
                Some(assigned) => {
                    let own = assigned.iter().zip(0_i64..);
                    let own: Vec<i64> = own
                        .filter(|(of_row, _)| **of_row == Some(index))
                        .map(|(_, row)| row)
                        .collect();
                    if own.is_empty() {
                        continue;
                    }
                    let all = own.len() == assigned.len();
                    let rows = Tensor::f_from_slice(&own)?;
                    let rows = places.map(|_, place| Ok(rows.f_to_device(place.device)?))?;
                    (!all).then_some(rows)
                }
            };
            for part in &loaded.parts {
                let added = Added {
                    a: part.a.shallow_clone(),
                    b: part.b.shallow_clone(),
                    outputs: None,
                    scaling: part.scaling,
                    rows: rows
                        .as_ref()
                        .map(|rows| rows.of(part.layer).shallow_clone()),
                    dropout: None,
                };
                overlay.add(part.layer, part.part, added);
            }
        }
        Ok(overlay)
    }
}

/// The decoder with `scaling · B·A` added to its weights: summed in `f32`, then the run's dtype. Weights without an addition
/// are shared with `model`.
pub(super) fn merged(model: &TorchModel, adapter: &Adapter) -> Result<Decoder> {
    let _no_grad = tch::no_grad_guard();
    let loaded = Loaded::new(adapter, model)?;
    let mut decoder = model.decoder().clone();
    for own in &loaded.parts {
        let Some(linear) = projection(&mut decoder, own.layer, own.part) else {
            let name = format!("layer {}", own.layer);
            return Err(Error::argument(name, format!("{:?}", own.part), "none"));
        };
        let delta = own.b.f_matmul(&own.a)?.f_mul_scalar(own.scaling)?;
        let kind = linear.weight.f_kind()?;
        let sum = linear.weight.f_to_kind(Kind::Float)?.f_add(&delta)?;
        let weight = sum.f_to_kind(kind)?;
        if weight.f_isfinite()?.f_all()?.f_int64_value(&[])? != 1 {
            let found = format!("{kind:?}, in which layer {} overflows", own.layer);
            return Err(Error::argument(
                "dtype",
                "one that holds merged weights",
                found,
            ));
        }
        linear.weight = Frozen::new(weight);
    }
    Ok(decoder)
}

fn projection(decoder: &mut Decoder, layer: usize, part: LayerPart) -> Option<&mut Linear> {
    let block = decoder.blocks.get_mut(layer)?;
    match part {
        LayerPart::Query => Some(&mut block.attention.query),
        LayerPart::Key => Some(&mut block.attention.key),
        LayerPart::Value => Some(&mut block.attention.value),
        LayerPart::Output => Some(&mut block.attention.output),
        LayerPart::Gate => block.mlp.gate.as_mut(),
        LayerPart::Up => Some(&mut block.mlp.up),
        LayerPart::Down => Some(&mut block.mlp.down),
        _ => None,
    }
}
