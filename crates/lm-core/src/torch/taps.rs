//! Reading and writing at the sites of a pass.

use ndarray::Array2;
use tch::{Device, Tensor};

use super::host::to_array2;
use super::layout::Layout;
use super::stages::{ByStage, Place};
use crate::model::ModelShape;
use crate::patch::{Patch, PatchAction};
use crate::sites::{Capture, Captured, Positions, Site};
use crate::{Error, Result};

/// The tokens of a row that a pass computes.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// Tokens of the row before.
    start: usize,
    count: usize,
}

/// Patches with their values on the device.
#[derive(Debug, Default)]
pub(super) struct Patches {
    all: Vec<(Patch, Tensor)>,
}

impl Patches {
    /// The patches must have been checked.
    pub(super) fn new(patches: &[Patch], places: &ByStage<Place>) -> Result<Self> {
        let all = patches.iter().map(|patch| {
            let rows: Vec<Tensor> = patch
                .action
                .values()
                .iter()
                .map(|row| Ok(Tensor::f_from_slice(row)?))
                .collect::<Result<_>>()?;
            let values = Tensor::f_stack(&rows, 0)?;
            Ok((patch.clone(), places.of_site(patch.site).take(&values)?))
        });
        Ok(Self {
            all: all.collect::<Result<_>>()?,
        })
    }

    /// Refuses rows and positions that a pass over `chunks` does not have. `started` says that rows may have begun before,
    /// and then positions may lie in the past or the future.
    pub(super) fn check(&self, starts: &[usize], chunks: &[&[u32]], started: bool) -> Result<()> {
        for (patch, values) in &self.all {
            let rows = chunks.len();
            if let Some(row) = patch.rows.iter().flatten().find(|row| **row >= rows) {
                let name = format!("row of the patch at {:?}", patch.site);
                return Err(Error::argument(name, format!("below {rows}"), row));
            }
            let rows = starts.iter().zip(chunks).enumerate();
            for (row, (start, chunk)) in rows.filter(|(row, _)| covers(patch, *row)) {
                if !started {
                    patch.positions.check_row(row, chunk.len())?;
                }
                let (end, values) = (start + chunk.len(), values.size().first().copied());
                let many = patch.positions == Positions::All && patch.action.values().len() > 1;
                if many && values.is_none_or(|values| end as i64 > values) {
                    return Err(Error::argument(
                        format!("values of the patch at {:?}", patch.site),
                        format!("one for each of {end} positions of row {row}"),
                        patch.action.values().len(),
                    ));
                }
            }
        }
        Ok(())
    }
}

fn covers(patch: &Patch, row: usize) -> bool {
    patch.rows.as_ref().is_none_or(|rows| rows.contains(&row))
}

/// Applies patches and keeps what a [`Capture`] names, row by row, on the host.
#[derive(Debug)]
pub(super) struct Taps<'a> {
    capture: &'a Capture,
    patches: &'a Patches,
    rows: Vec<Span>,
    head_dim: i64,
    /// `[row][site]`.
    kept: Vec<Vec<Option<Array2<f32>>>>,
}

impl<'a> Taps<'a> {
    /// For a pass over `chunks`, which follow `starts[row]` tokens in each row.
    pub(super) fn new(
        capture: &'a Capture,
        patches: &'a Patches,
        shape: &ModelShape,
        starts: &[usize],
        chunks: &[&[u32]],
    ) -> Self {
        let rows = starts.iter().zip(chunks).map(|(&start, chunk)| Span {
            start,
            count: chunk.len(),
        });
        Self {
            capture,
            patches,
            rows: rows.collect(),
            head_dim: shape.head_dim as i64,
            kept: vec![vec![None; capture.sites.len()]; chunks.len()],
        }
    }

    /// Whether anything is read or written at `site`.
    pub(super) fn at(&self, site: Site) -> bool {
        self.keeps(site) || self.patches.all.iter().any(|(patch, _)| patch.site == site)
    }

    fn keeps(&self, site: Site) -> bool {
        self.capture.sites.contains(&site)
    }

    /// What goes on from `site`: `x`, `[row, position, width]`, tokens at the right end, patched.
    pub(super) fn pass(&mut self, site: Site, x: Tensor) -> Result<Tensor> {
        let x = self.patched(site, x)?;
        if self.keeps(site) {
            for row in 0..self.rows.len() {
                let own = x.f_select(0, row as i64)?;
                let device = own.device();
                self.keep(site, row, device, |indices| {
                    Ok(own.f_index_select(0, indices)?)
                })?;
            }
        }
        Ok(x)
    }

    /// Keeps attention weights `[row, head, query, slot]`, slots without a token left out.
    pub(super) fn weights(&mut self, site: Site, weights: &Tensor, layout: &Layout) -> Result<()> {
        for row in 0..self.rows.len() {
            let slots = Tensor::f_from_slice(&layout.token_slots(row))?;
            let own = weights.f_select(0, row as i64)?;
            let own = own.f_index_select(2, &slots.f_to_device(own.device())?)?;
            self.keep(site, row, own.device(), |indices| {
                let own = own.f_index_select(1, indices)?.f_transpose(0, 1)?;
                Ok(own.f_flatten(1, 2)?)
            })?;
        }
        Ok(())
    }

    /// Keeps `value(indices)` of a row, where `indices`, on `device`, count the pass's positions.
    fn keep(
        &mut self,
        site: Site,
        row: usize,
        device: Device,
        value: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<()> {
        let (Some(span), Some(kept)) = (self.rows.get(row), self.kept.get_mut(row)) else {
            return Ok(());
        };
        let width = self.rows.iter().map(|span| span.count).max().unwrap_or(0);
        let pads = width - span.count;
        let indices: Vec<i64> = self
            .capture
            .positions
            .within(span.start, span.count)
            .into_iter()
            .map(|index| (pads + index) as i64)
            .collect();
        let indices = Tensor::f_from_slice(&indices)?.f_to_device(device)?;
        let value = to_array2(&value(&indices)?)?;
        for (slot, wanted) in kept.iter_mut().zip(&self.capture.sites) {
            if *wanted == site {
                *slot = Some(value.clone());
            }
        }
        Ok(())
    }

    fn patched(&self, site: Site, x: Tensor) -> Result<Tensor> {
        let mut x = x;
        let mut own = false;
        for (patch, values) in self
            .patches
            .all
            .iter()
            .filter(|(patch, _)| patch.site == site)
        {
            if !own {
                // Nobody else's: what is written here must not show anywhere before.
                let mut copy = Tensor::f_empty(x.size(), (x.f_kind()?, x.device()))?;
                copy.f_copy_(&x)?;
                x = copy;
                own = true;
            }
            let width = x.size().get(1).copied().unwrap_or(0);
            let columns = match patch.head {
                Some(head) => x.f_narrow(2, head as i64 * self.head_dim, self.head_dim)?,
                None => x.shallow_clone(),
            };
            for (row, span) in self.rows.iter().enumerate() {
                if !covers(patch, row) {
                    continue;
                }
                let pads = width - span.count as i64;
                let line = columns.f_select(0, row as i64)?;
                let single = patch.action.values().len() == 1;
                if single && patch.positions == Positions::All {
                    let there = line.f_narrow(0, pads, span.count as i64)?;
                    write(&there, &patch.action, values)?;
                    continue;
                }
                for index in patch.positions.within(span.start, span.count) {
                    let position = span.start + index;
                    let number = match &patch.positions {
                        _ if single => Some(0),
                        Positions::At(list) => list.iter().position(|at| *at == position),
                        Positions::Last | Positions::All => Some(position),
                    };
                    let Some(number) = number else { continue };
                    let there = line.f_narrow(0, pads + index as i64, 1)?;
                    write(
                        &there,
                        &patch.action,
                        &values.f_narrow(0, number as i64, 1)?,
                    )?;
                }
            }
        }
        Ok(x)
    }

    pub(super) fn finish(self) -> Result<Vec<Captured>> {
        let missing =
            |site: &Site| Error::argument("site", "one the model has", format!("{site:?}"));
        let capture = self.capture;
        self.kept
            .into_iter()
            .zip(&self.rows)
            .map(|(row, span)| {
                let values = row
                    .into_iter()
                    .zip(&capture.sites)
                    .map(|(value, site)| value.ok_or_else(|| missing(site)))
                    .collect::<Result<_>>()?;
                let within = capture.positions.within(span.start, span.count);
                Ok(Captured {
                    positions: within.into_iter().map(|index| span.start + index).collect(),
                    values,
                })
            })
            .collect()
    }
}

/// Does `action` to `there`, `[position, width]`, in place.
fn write(there: &Tensor, action: &PatchAction, values: &Tensor) -> Result<()> {
    let mut there = there.shallow_clone();
    match action {
        PatchAction::Replace(_) => there.f_copy_(&values.f_expand_as(&there)?)?,
        PatchAction::Add(_) => drop(there.f_add_(values)?),
        PatchAction::Interpolate { amount, .. } => {
            let way = values.f_sub(&there)?.f_mul_scalar(f64::from(*amount))?;
            drop(there.f_add_(&way)?);
        }
    }
    Ok(())
}
