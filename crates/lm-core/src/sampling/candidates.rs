//! The tokens that the filters keep, and a place among them.

use super::Sampling;
use super::mass::{Masses, share_of};
use super::ranked::{self, Entry, Ranked};
use crate::exp::{Bounds, RUN};
use crate::logits;

/// What may be chosen from one row of logits, as masses in an order: by ids if nothing but min-p filters, else from the most
/// likely token downwards, ties by ids. Filters keep the beginning of that order.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    logits: &'a [f32],
    masses: Masses,
    /// The smallest logit that min-p keeps.
    least: f32,
    order: Order<'a>,
    kept: u64,
}

#[derive(Debug)]
enum Order<'a> {
    /// The mass of each run of ids.
    Ids(Vec<u64>),
    /// What top-k keeps.
    Few(Vec<Entry>),
    All(Ranked<'a>),
}

impl<'a> Candidates<'a> {
    /// The largest logit is finite, the temperature above 0.
    pub(super) fn new(sampling: &Sampling, logits: &'a [f32], bounds: Bounds) -> Option<Self> {
        let masses = Masses::new(bounds.top, sampling.temperature, logits.len());
        let least = least(sampling, bounds.top);
        let runs = || logits.chunks(RUN).map(|run| masses.sum(run, least));
        let (order, kept) = if let Some(k) = sampling.top_k.filter(|&k| k < logits.len()) {
            let entries: Vec<Entry> = logits::largest(logits, k)
                .into_iter()
                .map(|(id, logit)| Entry::new(id, logit, masses.of(logit)))
                .collect();
            let mut kept = entries.iter().map(|entry| entry.mass).sum();
            if let Some(p) = sampling.top_p {
                kept = ranked::find(&entries, 0, share_of(p, kept) - 1)?.until();
            }
            if sampling.min_p.is_some() {
                let above = entries.iter().filter(|entry| {
                    let logit = logits.get(entry.id() as usize);
                    logit.is_some_and(|&logit| logit >= least)
                });
                kept = kept.min(above.map(|entry| entry.mass).sum());
            }
            (Order::Few(entries), kept)
        } else if let Some(p) = sampling.top_p {
            let ranked = Ranked::new(logits, bounds, masses);
            let mut kept = ranked.find(share_of(p, ranked.total()) - 1)?.until();
            if sampling.min_p.is_some() {
                kept = kept.min(runs().sum());
            }
            (Order::All(ranked), kept)
        } else {
            let sums: Vec<u64> = runs().collect();
            let kept = sums.iter().sum();
            (Order::Ids(sums), kept)
        };
        Some(Self {
            logits,
            masses,
            least,
            order,
            kept,
        })
    }

    /// The mass of all of them.
    pub(super) fn kept(&self) -> u64 {
        self.kept
    }

    /// The token at which the masses in order exceed `target`, for each target below [`Candidates::kept`].
    pub(super) fn at(&self, target: u64) -> Option<u32> {
        let place = match &self.order {
            Order::Ids(sums) => return self.by_id(sums, target),
            Order::Few(entries) => ranked::find(entries, 0, target),
            Order::All(ranked) => ranked.find(target),
        };
        place.map(|place| place.entry.id())
    }

    fn by_id(&self, sums: &[u64], mut target: u64) -> Option<u32> {
        let runs = (0_u32..).step_by(RUN).zip(self.logits.chunks(RUN));
        for ((start, run), &sum) in runs.zip(sums) {
            if target >= sum {
                target -= sum;
                continue;
            }
            for (id, &logit) in (start..).zip(run) {
                let mass = if logit >= self.least {
                    self.masses.of(logit)
                } else {
                    0
                };
                if target < mass {
                    return Some(id);
                }
                target -= mass;
            }
        }
        None
    }
}

/// The smallest logit that min-p keeps, given the largest.
fn least(sampling: &Sampling, top: f32) -> f32 {
    let Some(p) = sampling.min_p else {
        return f32::NEG_INFINITY;
    };
    let bound = f64::from(top) + f64::from(sampling.temperature) * f64::from(p).ln();
    let nearest = bound as f32;
    if f64::from(nearest) < bound {
        nearest.next_up()
    } else {
        nearest
    }
}
