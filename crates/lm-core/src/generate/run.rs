//! The loop over the rows of a batch.

use std::ops::ControlFlow;

use ndarray::Array2;

use super::limits::Limits;
use super::row::Row;
use super::{FinishReason, GenerateOptions, Generation, Piece};
use crate::Result;
use crate::model::{LanguageModel, Session};

/// Runs rows to their ends or to the limits, dropping those that are done from the session. The results are in the rows' order.
pub(super) fn run(
    session: &mut dyn Session,
    mut next: Array2<f32>,
    rows: Vec<Row<'_>>,
    model: &dyn LanguageModel,
    options: &GenerateOptions,
    limits: &mut Limits<'_>,
    on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
) -> Result<Vec<(usize, Generation)>> {
    let mut done: Vec<Option<(usize, Generation)>> = rows.iter().map(|_| None).collect();
    let mut live: Vec<(usize, Row<'_>)> = rows.into_iter().enumerate().collect();
    loop {
        let mut going = Vec::with_capacity(live.len());
        let mut kept = Vec::with_capacity(live.len());
        for (index, (slot, mut row)) in live.into_iter().enumerate() {
            let logits = next.row(index);
            let logits = logits.as_standard_layout();
            let logits = logits.as_slice().unwrap_or_default();
            // The budget may end between two rows of one step.
            let finish = if limits.afford(1) {
                limits.spend(1);
                row.step(logits, options, model.context_length(), on_piece)?
            } else {
                Some(FinishReason::Budget)
            };
            match finish {
                Some(finish) => done[slot] = Some(row.finish(finish, on_piece)?),
                None => {
                    kept.push(index);
                    going.push((slot, row));
                }
            }
        }
        live = going;
        if let Some(reason) = limits.reached() {
            for (slot, row) in live.drain(..) {
                done[slot] = Some(row.finish(reason, on_piece)?);
            }
        }
        if live.is_empty() {
            return Ok(done.into_iter().flatten().collect());
        }
        if kept.len() < session.rows() {
            session.select(&kept)?;
        }
        let tokens: Vec<u32> = live
            .iter()
            .filter_map(|(_, row)| row.history.last().copied())
            .collect();
        next = session.append(&tokens)?;
    }
}
