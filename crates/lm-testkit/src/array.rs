/// A dense array in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<T> {
    /// Length of every axis, outermost first.
    pub shape: Vec<usize>,
    /// The elements; as many as the product of `shape`.
    pub values: Vec<T>,
}

impl<T> Array<T> {
    /// The contiguous part under the leading indices `at`: with shape `[2, 3, 4]`, `at(&[1])` is 12 elements,
    /// `at(&[1, 2])` is 4, `at(&[])` is all.
    ///
    /// # Panics
    /// When an index is out of range or there are more indices than axes: in a test that is a bug of the test.
    #[track_caller]
    pub fn at(&self, at: &[usize]) -> &[T] {
        assert!(
            at.len() <= self.shape.len(),
            "{} indices into an array of shape {:?}",
            at.len(),
            self.shape
        );
        let (leading, rest) = self.shape.split_at(at.len());
        let size: usize = rest.iter().product();
        let mut offset = 0;
        for (&index, &length) in at.iter().zip(leading) {
            assert!(
                index < length,
                "index {at:?} is outside of shape {:?}",
                self.shape
            );
            offset = offset * length + index;
        }
        &self.values[offset * size..(offset + 1) * size]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted() -> Array<usize> {
        Array {
            shape: vec![2, 3, 4],
            values: (0..24).collect(),
        }
    }

    #[test]
    fn parts_follow_row_major_order() {
        let array = counted();
        assert_eq!(array.at(&[]), &array.values);
        assert_eq!(array.at(&[1]), (12..24).collect::<Vec<_>>());
        assert_eq!(array.at(&[1, 2]), [20, 21, 22, 23]);
        assert_eq!(array.at(&[0, 1, 3]), [7]);
    }

    #[test]
    #[should_panic(expected = "index [1, 3] is outside of shape [2, 3, 4]")]
    fn an_index_out_of_range_is_named() {
        counted().at(&[1, 3]);
    }
}
