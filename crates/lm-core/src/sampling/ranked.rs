//! A row from its most likely token downwards, looked into without being sorted.
//!
//! Whatever a filter keeps is the beginning of that order, and a draw is a place in it: both are "the entry at which the masses
//! before it exceed a number". It is found by sums over buckets of the order, and only the one bucket that holds it is looked at
//! more closely, so that no more than [`SORTED`] entries are ever sorted.

use super::mass::Masses;
use crate::exp::{Bounds, RUN};

/// Buckets a range is cut into.
const BUCKETS: usize = 2048;

/// As many entries as are sorted rather than cut into buckets again.
const SORTED: usize = 256;

/// An entry of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Smaller for larger logits, then for smaller ids.
    rank: u64,
    pub(super) mass: u64,
}

impl Entry {
    pub(super) fn new(id: u32, logit: f32, mass: u64) -> Self {
        // Both zeros are one number.
        let bits = (logit + 0.0).to_bits();
        let ascending = if bits >> 31 == 1 {
            !bits
        } else {
            bits | 1 << 31
        };
        Self {
            rank: u64::from(!ascending) << 32 | u64::from(id),
            mass,
        }
    }

    pub(super) fn id(&self) -> u32 {
        // The lower half.
        self.rank as u32
    }
}

/// An entry and the mass of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) entry: Entry,
    pub(super) before: u64,
}

impl Place {
    /// The mass up to and including this entry.
    pub(super) fn until(&self) -> u64 {
        self.before.saturating_add(self.entry.mass)
    }
}

/// The first of `entries` in their order at which the masses, with `before` at first, exceed `target`.
pub(super) fn find(entries: &[Entry], mut before: u64, target: u64) -> Option<Place> {
    let mut narrowed;
    let mut entries = entries;
    while entries.len() > SORTED {
        let ranks = entries.iter().map(|entry| entry.rank);
        let (low, high) = (ranks.clone().min()?, ranks.max()?);
        // The lowest shift at which the range has no more than BUCKETS parts.
        let shift = (u64::BITS - (high - low).leading_zeros()).saturating_sub(BUCKETS.ilog2());
        let part = |entry: &Entry| ((entry.rank - low) >> shift) as usize;
        let mut sums = vec![0_u64; BUCKETS];
        for entry in entries {
            sums[part(entry) % BUCKETS] += entry.mass;
        }
        let wanted;
        (wanted, before) = bucket(&sums, before, target)?;
        let inside = entries.iter().filter(|entry| part(entry) == wanted);
        narrowed = inside.copied().collect::<Vec<_>>();
        entries = &narrowed;
    }
    let mut sorted = entries.to_vec();
    sorted.sort_unstable_by_key(|entry| entry.rank);
    for entry in sorted {
        let place = Place { entry, before };
        before = place.until();
        if before > target {
            return Some(place);
        }
    }
    None
}

/// The first bucket at which the sums exceed `target`, and what is before it.
fn bucket(sums: &[u64], mut before: u64, target: u64) -> Option<(usize, u64)> {
    for (index, &sum) in sums.iter().enumerate() {
        if before + sum > target {
            return Some((index, before));
        }
        before += sum;
    }
    None
}

/// A whole row in buckets of equal width from its top to where masses end.
#[derive(Debug)]
pub(super) struct Ranked<'a> {
    logits: &'a [f32],
    masses: Masses,
    /// Buckets a unit of logit.
    density: f32,
    sums: Vec<u64>,
}

impl<'a> Ranked<'a> {
    pub(super) fn new(logits: &'a [f32], bounds: Bounds, masses: Masses) -> Self {
        let width = (bounds.top - bounds.bottom).min(masses.reach());
        let mut ranked = Self {
            logits,
            masses,
            // Never infinite: 0 · ∞ would take the top out of the first bucket.
            density: ((BUCKETS - 1) as f32 / width).min(f32::MAX),
            sums: vec![0; BUCKETS],
        };
        let mut buckets = [0; RUN];
        let mut run_masses = [0; RUN];
        for run in logits.chunks(RUN) {
            ranked.place(run, &mut buckets);
            let masses = ranked.masses.fill(run, &mut run_masses);
            for (&bucket, &mass) in buckets.iter().zip(masses) {
                ranked.sums[bucket as usize % BUCKETS] += mass;
            }
        }
        ranked
    }

    /// The buckets of a run. They never fall as logits do, since no rounded operation in them reverses an order.
    #[inline]
    fn place(&self, run: &[f32], buckets: &mut [u32; RUN]) {
        const LAST: f32 = (BUCKETS - 1) as f32;
        /// Adding it leaves the nearest whole number in the lowest bits.
        const ROUNDER: f32 = 8_388_608.0; // 2^23
        for (bucket, &logit) in buckets.iter_mut().zip(run) {
            let position = (self.masses.top() - logit) * self.density;
            // What is not a number goes last too.
            let position = if position < LAST { position } else { LAST };
            *bucket = (position + ROUNDER).to_bits() & 0x7f_ffff;
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.sums.iter().sum()
    }

    /// The first entry at which the masses exceed `target`; none if `target` is the total or more.
    pub(super) fn find(&self, target: u64) -> Option<Place> {
        let (wanted, before) = bucket(&self.sums, 0, target)?;
        let wanted = u32::try_from(wanted).ok()?;
        let mut inside = Vec::new();
        let mut buckets = [0; RUN];
        for (start, run) in (0_u32..).step_by(RUN).zip(self.logits.chunks(RUN)) {
            self.place(run, &mut buckets);
            let (groups, _) = buckets.as_chunks::<16>();
            for ((offset, group), logits) in (start..).step_by(16).zip(groups).zip(run.chunks(16)) {
                // Most groups have none.
                if group
                    .iter()
                    .fold(false, |any, &bucket| any | (bucket == wanted))
                {
                    for ((id, &bucket), &logit) in (offset..).zip(group).zip(logits) {
                        if bucket == wanted && !logit.is_nan() {
                            inside.push(Entry::new(id, logit, self.masses.of(logit)));
                        }
                    }
                }
            }
        }
        find(&inside, before, target)
    }
}
