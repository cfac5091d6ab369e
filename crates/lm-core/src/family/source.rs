//! Where a weight stands in a checkpoint, and how it gets from the stored arrangement to the decoder's.

/// Where a weight stands in a checkpoint, and what must be done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Name in the file.
    pub(crate) name: String,
    /// From the stored arrangement to the decoder's.
    pub(crate) transform: Transform,
}

/// From a stored arrangement to the decoder's, in the order of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transform {
    /// Stored as `[in, out]`.
    pub(crate) transposed: bool,
    /// Stored in one tensor with others.
    pub(crate) rows: Option<Rows>,
    /// Heads along the rows whose two halves are interleaved, row `2i + j` for `j·dim/2 + i`, as in GGUF's llama files.
    pub(crate) interleaved_heads: Option<usize>,
    /// Stored as the difference to one.
    pub(crate) less_one: bool,
}

/// Rows of a fused tensor: from each of `groups` groups of `stride` rows, `take` from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) groups: usize,
    pub(crate) stride: usize,
    pub(crate) start: usize,
    pub(crate) take: usize,
}

impl Source {
    /// A weight stored as the decoder wants it.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            transform: Transform::default(),
        }
    }

    /// Stored as `[in, out]`.
    pub(crate) fn transposed(mut self) -> Self {
        self.transform.transposed = true;
        self
    }

    /// Rows `start..start + take` of `total`.
    pub(crate) fn slice(self, total: usize, start: usize, take: usize) -> Self {
        self.rows(Rows {
            groups: 1,
            stride: total,
            start,
            take,
        })
    }

    /// Rows of a fused tensor.
    pub(crate) fn rows(mut self, rows: Rows) -> Self {
        self.transform.rows = Some(rows);
        self
    }

    /// The two halves of each of `heads` heads are interleaved.
    pub(crate) fn interleaved(mut self, heads: usize) -> Self {
        self.transform.interleaved_heads = Some(heads);
        self
    }

    /// Stored as the difference to one.
    pub(crate) fn less_one(mut self) -> Self {
        self.transform.less_one = true;
        self
    }
}

impl Transform {
    /// The stored shape of a weight of shape `wanted`.
    pub(crate) fn stored_shape(self, wanted: &[usize]) -> Vec<usize> {
        let mut shape = wanted.to_vec();
        if let (Some(rows), Some(first)) = (self.rows, shape.first_mut()) {
            *first = rows.groups * rows.stride;
        }
        if self.transposed {
            shape.reverse();
        }
        shape
    }

    /// The stored rows that are wanted, if they stand together and need nothing else: those bytes are the weight.
    #[cfg(any(feature = "torch", test))]
    pub(crate) fn contiguous(self) -> Option<Option<(usize, usize)>> {
        let rows = match self.rows {
            None => None,
            Some(rows) if rows.groups == 1 => Some((rows.start, rows.take)),
            Some(_) => return None,
        };
        let untouched = !self.transposed && self.interleaved_heads.is_none() && !self.less_one;
        untouched.then_some(rows)
    }

    /// Applies the transform to values stored as `shape`, row-major.
    pub(crate) fn apply(self, mut values: Vec<f32>, shape: &[usize]) -> Vec<f32> {
        let (mut height, mut width) = match shape {
            [rows, columns] => (*rows, *columns),
            [rows] => (*rows, 1),
            _ => return values,
        };
        if values.is_empty() || values.len() != height * width {
            return values;
        }
        if self.transposed {
            values = transpose(&values, height, width);
            (height, width) = (width, height);
        }
        if let Some(rows) = self.rows {
            let picked =
                |row: usize| (row / rows.take) * rows.stride + rows.start + row % rows.take;
            values = reordered(&values, width, rows.groups * rows.take, picked);
            height = rows.groups * rows.take;
        }
        if let Some(heads) = self.interleaved_heads
            && heads > 0
            && height.is_multiple_of(2 * heads)
        {
            let (dim, half) = (height / heads, height / heads / 2);
            values = reordered(&values, width, height, |row| {
                let (head, within) = (row / dim, row % dim);
                head * dim + 2 * (within % half) + within / half
            });
        }
        if self.less_one {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        values
    }
}

/// `[height, width]` to `[width, height]`.
fn transpose(values: &[f32], height: usize, width: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for column in 0..width {
        out.extend((0..height).filter_map(|row| values.get(row * width + column)));
    }
    out
}

/// `count` rows, the `i`-th being row `from(i)` of `values`.
fn reordered(
    values: &[f32],
    width: usize,
    count: usize,
    from: impl Fn(usize) -> usize,
) -> Vec<f32> {
    let mut out = Vec::with_capacity(count * width);
    for row in 0..count {
        let start = from(row) * width;
        out.extend_from_slice(values.get(start..start + width).unwrap_or_default());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: u8) -> Vec<f32> {
        (0..count).map(f32::from).collect()
    }

    #[test]
    fn uninterleaving_undoes_the_converters_permutation() {
        // The converter maps [heads, 2, dim/2, width] to [heads, dim/2, 2, width].
        let (heads, dim, width) = (3, 8, 2);
        let original = numbers(48);
        let mut stored = Vec::new();
        for head in 0..heads {
            for i in 0..dim / 2 {
                for j in 0..2 {
                    let row = head * dim + j * dim / 2 + i;
                    stored.extend_from_slice(&original[row * width..(row + 1) * width]);
                }
            }
        }
        assert_ne!(stored, original);
        let source = Source::new("q").interleaved(heads);
        assert_eq!(
            source.transform.apply(stored, &[heads * dim, width]),
            original
        );
    }

    #[test]
    fn rows_of_groups() {
        // Two groups of [2 query rows, 1 key row, 1 value row], two wide.
        let key = Source::new("qkv").rows(Rows {
            groups: 2,
            stride: 4,
            start: 2,
            take: 1,
        });
        assert_eq!(key.transform.stored_shape(&[2, 2]), [8, 2]);
        assert_eq!(
            key.transform.apply(numbers(16), &[8, 2]),
            [4.0, 5.0, 12.0, 13.0]
        );
        assert_eq!(key.transform.apply(numbers(8), &[8]), [2.0, 6.0]);
    }

    #[test]
    fn columns_of_a_transposed_matrix() {
        // [in 2, out 3], the last output row.
        let value = Source::new("c_attn").transposed().slice(3, 2, 1);
        assert_eq!(value.transform.stored_shape(&[1, 2]), [2, 3]);
        assert_eq!(value.transform.apply(numbers(6), &[2, 3]), [2.0, 5.0]);
        assert_eq!(value.transform.contiguous(), None);
    }

    #[test]
    fn a_difference_to_one() {
        let norm = Source::new("norm").less_one();
        assert_eq!(norm.transform.apply(numbers(2), &[2]), [1.0, 2.0]);
    }
}
