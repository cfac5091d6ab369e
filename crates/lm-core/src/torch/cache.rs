//! Keys and values of the tokens already read.

use tch::Tensor;

use super::layout::Layout;
use super::prefix::{Owners, Prefix, Stored};
use super::stages::{ByStage, Place};
use crate::Result;
use crate::spec::AttentionSpec;

/// One buffer of keys and one of values a layer, `[row, kv_head, capacity, head_dim]`, written in place. After a fork what
/// was there before is kept once for all rows that came from it, and the buffers hold what follows.
#[derive(Debug)]
pub(super) struct KvCache {
    shared: Option<SharedSlots>,
    layers: Vec<(Tensor, Tensor)>,
    shape: CacheShape,
    rows: usize,
    capacity: usize,
    /// Where the pass under way writes.
    start: usize,
    width: usize,
}

#[derive(Clone, Debug)]
struct CacheShape {
    layers: usize,
    kv_heads: i64,
    head_dim: i64,
    limit: usize,
    places: ByStage<Place>,
}

/// The first slots of all rows.
#[derive(Debug)]
struct SharedSlots {
    /// Keys and values, `[prefix, kv_head, slot, head_dim]`.
    layers: Vec<(Tensor, Tensor)>,
    owners: Owners,
    slots: usize,
}

/// Slots that a fork must spare for the old ones to be shared: two kernels a layer instead of one cost more than a few copies.
const WORTH_SHARING: usize = 16;

/// Slots are added in steps of this many, so that a short generation allocates once.
const STEP: usize = 128;

impl KvCache {
    /// An empty cache for `rows` rows of at most `limit` slots.
    pub(super) fn new(
        layers: usize,
        attention: &AttentionSpec,
        limit: usize,
        rows: usize,
        places: ByStage<Place>,
    ) -> Self {
        let shape = CacheShape {
            layers,
            kv_heads: attention.kv_heads as i64,
            head_dim: attention.head_dim as i64,
            limit,
            places,
        };
        Self {
            shared: None,
            layers: Vec::new(),
            shape,
            rows,
            capacity: 0,
            start: 0,
            width: 0,
        }
    }

    /// Makes room for the slots `start..start + width`, and has the next [`KvCache::append`]s write there.
    pub(super) fn prepare(&mut self, start: usize, width: usize) -> Result<()> {
        let start = start - self.shared_slots();
        let needed = start + width;
        if needed > self.capacity {
            // Doubling keeps the copies of a long generation linear in its length; holes may take a session beyond the
            // context's own length.
            let doubled = (self.capacity * 2).min(self.shape.limit.max(needed));
            let capacity = (needed + 1).next_multiple_of(STEP).max(doubled);
            let mut layers = Vec::with_capacity(self.shape.layers);
            for layer in 0..self.shape.layers {
                let place = self.shape.places.of(layer);
                let grown = |old: Option<&Tensor>| -> Result<Tensor> {
                    let size = [
                        self.rows as i64,
                        self.shape.kv_heads,
                        capacity as i64,
                        self.shape.head_dim,
                    ];
                    let grown = Tensor::f_empty(size, (place.kind, place.device))?;
                    if let Some(old) = old.filter(|_| start > 0) {
                        let kept = old.f_narrow(2, 0, start as i64)?;
                        grown.f_narrow(2, 0, start as i64)?.f_copy_(&kept)?;
                    }
                    Ok(grown)
                };
                let old = self.layers.get(layer);
                layers.push((
                    grown(old.map(|(key, _)| key))?,
                    grown(old.map(|(_, value)| value))?,
                ));
            }
            self.layers = layers;
            self.capacity = capacity;
        }
        self.start = start;
        self.width = width;
        Ok(())
    }

    /// Slots that are shared.
    pub(super) fn shared_slots(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| shared.slots)
    }

    /// Which rows share what, if any do.
    pub(super) fn owners(&self) -> Option<&Owners> {
        self.shared.as_ref().map(|shared| &shared.owners)
    }

    /// Writes the new keys and values of `layer` and returns views of all.
    pub(super) fn append(
        &mut self,
        layer: usize,
        key: &Tensor,
        value: &Tensor,
    ) -> Result<Stored<'_>> {
        let (start, width) = (self.start as i64, self.width as i64);
        let (keys, values) = &self.layers[layer];
        keys.f_narrow(2, start, width)?.f_copy_(key)?;
        values.f_narrow(2, start, width)?.f_copy_(value)?;
        let shared = self.shared.as_ref();
        let prefix = shared.and_then(|shared| {
            let (key, value) = shared.layers.get(layer)?;
            Some(Prefix {
                key,
                value,
                owners: &shared.owners,
            })
        });
        Ok(Stored {
            key: keys.f_narrow(2, 0, start + width)?,
            value: values.f_narrow(2, 0, start + width)?,
            prefix,
        })
    }

    /// Keeps, repeats and reorders rows; only the slots of `layout` are kept.
    pub(super) fn select(&mut self, rows: &[usize], layout: &Layout) -> Result<()> {
        let slots = layout.slots();
        let (distinct, owners) = Owners::distinct(rows);
        let spared = (rows.len() - distinct.len()).saturating_mul(slots);
        // The join of two sets of keys is a kernel of the CPU, and needs a key in each.
        let joins = self.shape.places.on_cpu()
            && distinct
                .iter()
                .all(|row| layout.lengths().get(*row).is_some_and(|length| *length > 0));
        if self.shared.is_none() && joins && spared >= WORTH_SHARING {
            let layers = self.picked(&self.layers, &distinct, slots, slots)?;
            self.shared = Some(SharedSlots {
                layers,
                owners,
                slots,
            });
            self.layers = Vec::new();
            self.capacity = 0;
        } else {
            if let Some(shared) = &mut self.shared {
                shared.keep(rows, &self.shape.places)?;
            }
            let own = slots - self.shared_slots();
            // Room for what is to come, so that the first step after a fork does not copy everything again.
            let capacity = (own + 1).next_multiple_of(STEP);
            self.layers = self.picked(&self.layers, rows, own, capacity)?;
            self.capacity = if self.layers.is_empty() { 0 } else { capacity };
        }
        self.rows = rows.len();
        Ok(())
    }

    /// Rows of buffers, with their first `slots` slots and room for `capacity`.
    fn picked(
        &self,
        layers: &[(Tensor, Tensor)],
        rows: &[usize],
        slots: usize,
        capacity: usize,
    ) -> Result<Vec<(Tensor, Tensor)>> {
        let index = index(rows, &self.shape.places)?;
        let size = [
            rows.len() as i64,
            self.shape.kv_heads,
            capacity as i64,
            self.shape.head_dim,
        ];
        let picked = |layer: usize, old: &Tensor| -> Result<Tensor> {
            let place = self.shape.places.of(layer);
            let new = Tensor::f_empty(size, (place.kind, place.device))?;
            let old = old
                .f_narrow(2, 0, slots as i64)?
                .f_index_select(0, index.of(layer))?;
            new.f_narrow(2, 0, slots as i64)?.f_copy_(&old)?;
            Ok(new)
        };
        let layers = layers.iter().enumerate();
        layers
            .map(|(layer, (key, value))| Ok((picked(layer, key)?, picked(layer, value)?)))
            .collect()
    }

    /// Makes ready for rows that end at `slots`: what is shared is each row's own again if they end inside of it, and may
    /// then be written over.
    pub(super) fn rewind(&mut self, slots: usize, cut: bool) -> Result<()> {
        let Some(shared) = self.shared.take_if(|shared| cut || slots < shared.slots) else {
            return Ok(());
        };
        let own = slots.saturating_sub(shared.slots);
        let layers = shared
            .layers
            .iter()
            .enumerate()
            .map(|(layer, (key, value))| {
                let whole = |old: &Tensor, own_of: Option<&Tensor>| -> Result<Tensor> {
                    let spread = old.f_index_select(0, &shared.owners.index(old.device())?)?;
                    Ok(match own_of.filter(|_| own > 0) {
                        Some(after) => {
                            Tensor::f_cat(&[spread, after.f_narrow(2, 0, own as i64)?], 2)?
                        }
                        None => spread,
                    })
                };
                let after = self.layers.get(layer);
                Ok((
                    whole(key, after.map(|(key, _)| key))?,
                    whole(value, after.map(|(_, value)| value))?,
                ))
            });
        self.layers = layers.collect::<Result<_>>()?;
        self.capacity = shared.slots + own;
        Ok(())
    }
}

impl SharedSlots {
    /// Keeps, repeats and reorders rows; prefixes that no row goes on from are let go.
    fn keep(&mut self, rows: &[usize], places: &ByStage<Place>) -> Result<()> {
        let of: Vec<usize> = rows.iter().map(|row| self.owners.of(*row)).collect();
        let (used, owners) = Owners::distinct(&of);
        if !used.iter().copied().eq(0..self.owners.groups()) {
            let index = index(&used, places)?;
            for (layer, (key, value)) in self.layers.iter_mut().enumerate() {
                *key = key.f_index_select(0, index.of(layer))?;
                *value = value.f_index_select(0, index.of(layer))?;
            }
        }
        self.owners = owners;
        Ok(())
    }
}

/// Numbers of rows, wherever layers are.
fn index(rows: &[usize], places: &ByStage<Place>) -> Result<ByStage<Tensor>> {
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    let index = Tensor::f_from_slice(&rows)?;
    places.map(|_, place| Ok(index.f_to_device(place.device)?))
}
