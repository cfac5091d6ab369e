//! Keys and values that several rows share, stored once, and attention over them and over a row's own.
//!
//! Softmax over two sets of keys is the sum of the softmaxes over each, weighted by their normalisers; the fused kernel gives
//! the normaliser's logarithm beside its result. So neither set is copied to stand beside the other.

use tch::{Device, Kind, Tensor};

use super::layout::{Layout, Mask};
use crate::Result;

/// Which rows share which prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owners {
    /// For each row the prefix it goes on from.
    of: Vec<i64>,
    groups: usize,
}

impl Owners {
    /// The distinct entries of `rows` in the order they first occur, and which of them each is.
    pub(super) fn distinct(rows: &[usize]) -> (Vec<usize>, Self) {
        let mut distinct: Vec<usize> = Vec::new();
        let of = rows
            .iter()
            .map(|row| {
                let known = distinct.iter().position(|known| known == row);
                known.unwrap_or_else(|| {
                    distinct.push(*row);
                    distinct.len() - 1
                }) as i64
            })
            .collect();
        let groups = distinct.len();
        (distinct, Self { of, groups })
    }

    /// `groups` prefixes with `rows` rows each, side by side.
    pub(super) fn even(groups: usize, rows: usize) -> Self {
        let of = (0..groups).flat_map(|group| std::iter::repeat_n(group as i64, rows));
        Self {
            of: of.collect(),
            groups,
        }
    }

    /// The prefix of `row`.
    pub(super) fn of(&self, row: usize) -> usize {
        self.of.get(row).map_or(0, |group| *group as usize)
    }

    pub(super) fn rows(&self) -> usize {
        self.of.len()
    }

    pub(super) fn groups(&self) -> usize {
        self.groups
    }

    pub(super) fn index(&self, device: Device) -> Result<Tensor> {
        Ok(Tensor::f_from_slice(&self.of)?.f_to_device(device)?)
    }

    /// Whether rows of one prefix stand together, as many for each and in order.
    fn is_even(&self) -> bool {
        *self == Self::even(self.groups, self.rows() / self.groups.max(1))
    }

    fn rows_of(&self, group: usize) -> Vec<i64> {
        (0_i64..)
            .zip(&self.of)
            .filter(|(_, of)| **of == group as i64)
            .map(|(row, _)| row)
            .collect()
    }
}

/// Keys and values of a layer: each row's own, `[row, kv_head, slot, head_dim]`, and before them the shared ones.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    pub(super) key: Tensor,
    pub(super) value: Tensor,
    pub(super) prefix: Option<Prefix<'a>>,
}

/// Shared keys and values of a layer, `[prefix, kv_head, slot, head_dim]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix<'a> {
    pub(super) key: &'a Tensor,
    pub(super) value: &'a Tensor,
    pub(super) owners: &'a Owners,
}

impl Stored<'_> {
    /// Nothing shared.
    pub(super) fn own(key: Tensor, value: Tensor) -> Self {
        Self {
            key,
            value,
            prefix: None,
        }
    }

    /// All keys of each row in one tensor; a copy where some are shared.
    pub(super) fn keys(&self) -> Result<Tensor> {
        self.whole(&self.key, self.prefix.map(|prefix| prefix.key))
    }

    /// All values of each row in one tensor; a copy where some are shared.
    pub(super) fn values(&self) -> Result<Tensor> {
        self.whole(&self.value, self.prefix.map(|prefix| prefix.value))
    }

    fn whole(&self, own: &Tensor, shared: Option<&Tensor>) -> Result<Tensor> {
        let (Some(shared), Some(prefix)) = (shared, &self.prefix) else {
            return Ok(own.shallow_clone());
        };
        let spread = shared.f_index_select(0, &prefix.owners.index(own.device())?)?;
        Ok(Tensor::f_cat(&[&spread, own], 2)?)
    }
}

/// What to add to scores, for shared keys and for own ones; `None` where every key is seen.
#[derive(Debug)]
pub(super) struct SplitMask {
    /// `[prefix, 1, 1, slot]`.
    shared: Option<Tensor>,
    /// `[row or 1, 1, query, slot]`.
    own: Option<Tensor>,
}

impl SplitMask {
    /// `mask` of `layout` for `width` queries, cut after the first `slots` slots, which are shared as `owners` say. Every
    /// query comes after them, so which of them it sees depends on its row's holes only.
    pub(super) fn new(
        mask: &Mask,
        layout: &Layout,
        owners: &Owners,
        slots: usize,
        width: usize,
        (kind, device): (Kind, Device),
    ) -> Result<Option<Self>> {
        let own_slots = layout.slots() - slots;
        let own = match mask {
            Mask::Everything => None,
            Mask::Explicit(sees) => {
                let own: Vec<bool> = sees
                    .chunks(layout.slots())
                    .flat_map(|line| line.get(slots..).unwrap_or_default())
                    .copied()
                    .collect();
                Some(additive(
                    &own,
                    [-1, 1, width as i64, own_slots as i64],
                    kind,
                    device,
                )?)
            }
            // With a window a query may see a part of the shared keys that depends on it.
            Mask::Newest(_) | Mask::Causal => return Ok(None),
        };
        let mut sees = vec![true; owners.groups() * slots];
        for (group, line) in sees.chunks_mut(slots.max(1)).enumerate() {
            let row = (0..owners.rows()).find(|row| owners.of(*row) == group);
            for hole in row.map_or(&[][..], |row| layout.holes(row)) {
                let end = hole.end.min(slots);
                line.get_mut(hole.start.min(end)..end)
                    .unwrap_or_default()
                    .fill(false);
            }
        }
        let shared = if sees.iter().all(|sees| *sees) {
            None
        } else {
            Some(additive(&sees, [-1, 1, 1, slots as i64], kind, device)?)
        };
        Ok(Some(Self { shared, own }))
    }

    /// The same for so many times the rows, each time for another set of prefixes of which all rows see everything.
    pub(super) fn repeated(&self, times: i64) -> Result<Self> {
        let own = self.own.as_ref().map(|own| match own.size().first() {
            Some(1) | None => Ok(own.shallow_clone()),
            Some(_) => own.f_repeat([times, 1, 1, 1]),
        });
        Ok(Self {
            shared: None,
            own: own.transpose()?,
        })
    }

    /// The same for the last query alone.
    pub(super) fn of_last(&self) -> Result<Self> {
        let own = self.own.as_ref().map(|own| -> Result<Tensor> {
            let queries = own.size4()?.2;
            Ok(own.f_narrow(2, queries - 1, 1)?)
        });
        Ok(Self {
            shared: self.shared.as_ref().map(Tensor::shallow_clone),
            own: own.transpose()?,
        })
    }
}

/// 0 where `sees`, minus infinity elsewhere.
fn additive(sees: &[bool], shape: [i64; 4], kind: Kind, device: Device) -> Result<Tensor> {
    let sees = Tensor::f_from_slice(sees)?
        .f_view(shape)?
        .f_to_device(device)?;
    let zeros = Tensor::f_zeros(sees.size(), (kind, device))?;
    Ok(zeros.f_masked_fill(&sees.f_logical_not()?, f64::NEG_INFINITY)?)
}

/// `[row, head, query, head_dim]` over shared and own keys, by the fused kernel of the CPU.
pub(super) fn attend(
    query: &Tensor,
    stored: &Stored<'_>,
    prefix: Prefix<'_>,
    mask: &SplitMask,
    scale: f64,
) -> Result<Tensor> {
    let (rows, heads, width, dim) = query.size4()?;
    let kv_heads = stored.key.size().get(1).copied().unwrap_or(heads);
    let groups = heads / kv_heads;
    // Query heads of one key/value head are more queries of it.
    let own_mask = match &mask.own {
        Some(mask) if groups > 1 => Some(mask.f_repeat([1, 1, groups, 1])?),
        Some(mask) => Some(mask.shallow_clone()),
        None => None,
    };
    let folded = query.f_reshape([rows, kv_heads, groups * width, dim])?;
    let own = fused(
        &folded,
        &stored.key,
        &stored.value,
        own_mask.as_ref(),
        scale,
    )?;
    let own = own.shaped(&[rows, heads, width])?;

    let owners = prefix.owners;
    let shared = if owners.is_even() {
        let of_each = rows / owners.groups() as i64;
        let mask = mask.shared.as_ref();
        over_shared(
            query,
            (prefix.key, prefix.value),
            mask,
            [of_each, kv_heads, groups],
            scale,
        )?
    } else {
        let (mut parts, mut order) = (Vec::new(), Vec::new());
        for group in 0..owners.groups() {
            let own_rows = owners.rows_of(group);
            let index = Tensor::f_from_slice(&own_rows)?.f_to_device(query.device())?;
            let at = |x: &Tensor| x.f_narrow(0, group as i64, 1);
            let mask = mask.shared.as_ref().map(at).transpose()?;
            parts.push(over_shared(
                &query.f_index_select(0, &index)?,
                (&at(prefix.key)?, &at(prefix.value)?),
                mask.as_ref(),
                [own_rows.len() as i64, kv_heads, groups],
                scale,
            )?);
            order.extend(own_rows);
        }
        // Back into the order of the rows.
        let mut back = vec![0_i64; order.len()];
        for (place, row) in (0_i64..).zip(&order) {
            if let Some(slot) = back.get_mut(*row as usize) {
                *slot = place;
            }
        }
        let back = Tensor::f_from_slice(&back)?.f_to_device(query.device())?;
        let joined = |part: fn(&Partial) -> &Tensor| -> Result<Tensor> {
            let all: Vec<&Tensor> = parts.iter().map(part).collect();
            Ok(Tensor::f_cat(&all, 0)?.f_index_select(0, &back)?)
        };
        Partial {
            output: joined(|part| &part.output)?,
            normaliser: joined(|part| &part.normaliser)?,
        }
    };

    let weight = shared.normaliser.f_sub(&own.normaliser)?.f_sigmoid()?;
    let own_output = own.output.f_to_kind(Kind::Float)?;
    let way = shared.output.f_to_kind(Kind::Float)?.f_sub(&own_output)?;
    let output = own_output.f_add(&way.f_mul(&weight.f_unsqueeze(-1)?)?)?;
    Ok(output.f_to_kind(query.f_kind()?)?)
}

/// Attention over some of the keys.
struct Partial {
    /// `[…, query, head_dim]`.
    output: Tensor,
    /// Logarithm of the sum of the exponentials of the scores, `[…, query]`, `f32`.
    normaliser: Tensor,
}

impl Partial {
    fn shaped(self, shape: &[i64]) -> Result<Self> {
        let dim = self.output.size().last().copied().unwrap_or(0);
        let with_dim: Vec<i64> = shape.iter().copied().chain([dim]).collect();
        Ok(Self {
            output: self.output.f_reshape(with_dim)?,
            normaliser: self.normaliser.f_reshape(shape)?,
        })
    }
}

/// `query` `[prefix · rows, head, query, head_dim]` over shared keys `[prefix, kv_head, slot, head_dim]`: the rows of a prefix
/// are more queries of it.
fn over_shared(
    query: &Tensor,
    (key, value): (&Tensor, &Tensor),
    mask: Option<&Tensor>,
    [rows, kv_heads, groups]: [i64; 3],
    scale: f64,
) -> Result<Partial> {
    let (all, heads, width, dim) = query.size4()?;
    let folded = query
        .f_reshape([all / rows, rows, kv_heads, groups * width, dim])?
        .f_transpose(1, 2)?
        .f_reshape([all / rows, kv_heads, rows * groups * width, dim])?;
    let mask = match mask {
        Some(mask) => Some(mask.f_expand([-1, -1, rows * groups * width, -1], false)?),
        None => None,
    };
    let found = fused(&folded, key, value, mask.as_ref(), scale)?;
    let unfolded = found.shaped(&[all / rows, kv_heads, rows, groups * width])?;
    let back = Partial {
        output: unfolded.output.f_transpose(1, 2)?,
        normaliser: unfolded.normaliser.f_transpose(1, 2)?,
    };
    back.shaped(&[all, heads, width])
}

fn fused(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: Option<&Tensor>,
    scale: f64,
) -> Result<Partial> {
    let (output, normaliser) = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, false, mask, scale,
    )?;
    Ok(Partial { output, normaliser })
}
