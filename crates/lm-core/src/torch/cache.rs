//! Keys and values of the tokens already read.

use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::spec::AttentionSpec;

/// One buffer of keys and one of values a layer, `[row, kv_head, capacity, head_dim]`, written in place.
#[derive(Debug)]
pub(super) struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    shape: CacheShape,
    rows: usize,
    capacity: usize,
    /// Where the pass under way writes.
    start: usize,
    width: usize,
}

#[derive(Clone, Copy, Debug)]
struct CacheShape {
    layers: usize,
    kv_heads: i64,
    head_dim: i64,
    limit: usize,
    kind: Kind,
    device: Device,
}

/// Slots are added in steps of this many, so that a short generation allocates once.
const STEP: usize = 128;

impl KvCache {
    /// An empty cache for `rows` rows of at most `limit` slots.
    pub(super) fn new(
        layers: usize,
        attention: &AttentionSpec,
        limit: usize,
        rows: usize,
        kind: Kind,
        device: Device,
    ) -> Self {
        let shape = CacheShape {
            layers,
            kv_heads: attention.kv_heads as i64,
            head_dim: attention.head_dim as i64,
            limit,
            kind,
            device,
        };
        Self {
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
        let needed = start + width;
        if needed > self.capacity {
            // Doubling keeps the copies of a long generation linear in its length; holes may take a session beyond the
            // context's own length.
            let doubled = (self.capacity * 2).min(self.shape.limit.max(needed));
            let capacity = (needed + 1).next_multiple_of(STEP).max(doubled);
            let mut layers = Vec::with_capacity(self.shape.layers);
            for layer in 0..self.shape.layers {
                let grown = |old: Option<&Tensor>| -> Result<Tensor> {
                    let size = [
                        self.rows as i64,
                        self.shape.kv_heads,
                        capacity as i64,
                        self.shape.head_dim,
                    ];
                    let grown = Tensor::f_empty(size, (self.shape.kind, self.shape.device))?;
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

    /// Writes the new keys and values of `layer` and returns views of all, `[row, kv_head, slot, head_dim]`.
    pub(super) fn append(
        &mut self,
        layer: usize,
        key: &Tensor,
        value: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let (start, width) = (self.start as i64, self.width as i64);
        let (keys, values) = &self.layers[layer];
        keys.f_narrow(2, start, width)?.f_copy_(key)?;
        values.f_narrow(2, start, width)?.f_copy_(value)?;
        Ok((
            keys.f_narrow(2, 0, start + width)?,
            values.f_narrow(2, 0, start + width)?,
        ))
    }

    /// Keeps, repeats and reorders rows; only the first `slots` slots are kept.
    pub(super) fn select(&mut self, rows: &[usize], slots: usize) -> Result<()> {
        let index: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let index = Tensor::f_from_slice(&index)?.f_to_device(self.shape.device)?;
        // Room for what is to come, so that the first step after a fork does not copy everything again.
        let capacity = (slots + 1).next_multiple_of(STEP);
        let size = [
            rows.len() as i64,
            self.shape.kv_heads,
            capacity as i64,
            self.shape.head_dim,
        ];
        let picked = |old: &Tensor| -> Result<Tensor> {
            let new = Tensor::f_empty(size, (self.shape.kind, self.shape.device))?;
            let old = old
                .f_narrow(2, 0, slots as i64)?
                .f_index_select(0, &index)?;
            new.f_narrow(2, 0, slots as i64)?.f_copy_(&old)?;
            Ok(new)
        };
        self.layers = self
            .layers
            .iter()
            .map(|(key, value)| Ok((picked(key)?, picked(value)?)))
            .collect::<Result<_>>()?;
        self.rows = rows.len();
        self.capacity = if self.layers.is_empty() { 0 } else { capacity };
        Ok(())
    }
}
