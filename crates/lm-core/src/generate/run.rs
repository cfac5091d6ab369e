//! The loop over the rows of a batch.

use std::ops::ControlFlow;

use super::batch::Batch;
use super::limits::Limits;
use super::live::Live;
use super::{FinishReason, GenerateOptions, Generation, Piece};
use crate::Result;

/// What holds for the whole of one call.
pub(super) struct Call<'c> {
    pub(super) options: &'c GenerateOptions,
    /// Most tokens of a row.
    pub(super) context: Option<usize>,
    pub(super) limits: Limits<'c>,
    pub(super) on_piece: &'c mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
}

/// Runs replies to their ends or to the limits, dropping those that are done from the session. The results are in the
/// replies' order, each with the index of its request.
pub(super) fn run(
    call: &mut Call<'_>,
    mut batch: Batch<'_, '_>,
    replies: Vec<Live<'_>>,
) -> Result<Vec<(usize, Generation)>> {
    let mut done: Vec<Option<(usize, Generation)>> = replies.iter().map(|_| None).collect();
    let mut live: Vec<(usize, Live<'_>)> = replies.into_iter().enumerate().collect();
    loop {
        let mut going = Vec::with_capacity(live.len());
        for (slot, mut reply) in live {
            // The budget may end between two rows of one step.
            let finish = if call.limits.afford(1) {
                call.limits.spend(1);
                reply.step(call, &batch)?
            } else {
                Some(FinishReason::Budget)
            };
            match finish {
                Some(finish) => done[slot] = Some(reply.finish(finish, call)?),
                None => going.push((slot, reply)),
            }
        }
        live = going;
        if let Some(reason) = call.limits.reached() {
            for (slot, reply) in live.drain(..) {
                done[slot] = Some(reply.finish(reason, call)?);
            }
        }
        if live.is_empty() {
            return Ok(done.into_iter().flatten().collect());
        }
        let mut rows = Vec::with_capacity(live.len());
        let mut tokens = Vec::with_capacity(live.len());
        for (_, reply) in &mut live {
            reply.advance(&mut rows, &mut tokens);
        }
        batch.select(&rows)?;
        batch.append(&tokens)?;
    }
}
