//! Dot products of vectors with the rows of a matrix.
//!
//! Every product of a row and a vector is summed in one order, whatever the tile, the number of vectors, the threads and the
//! instructions: sixteen lanes take a row's elements in turn, with fused multiply-adds, and are folded in halves at the end. So
//! all variants give the same bits, the plain one is the oracle of the others, and what a vector gets does not depend on what
//! runs beside it.

use std::borrow::Cow;
use std::ops::Range;

use super::lanes::{Instructions, LANES, Lanes, Work};
use super::team;

/// An element type of matrices and results.
pub(super) trait Element: Copy + Default + Send + Sync {
    /// What the lanes take of a row in one go.
    type Group: Copy;

    /// Elements that each lane takes of a group, one after the other.
    const PARTS: usize;

    /// Elements in a group.
    const GROUP: usize = Self::PARTS * LANES;

    /// A row in groups, and what is left.
    fn groups(row: &[Self]) -> (&[Self::Group], &[Self]);

    /// The rest of a row, with zeros after it.
    fn last_group(rest: &[Self]) -> Self::Group;

    /// Adds the products of a group of each of `R` rows with that of each of `M` vectors.
    fn multiply<L: Lanes, const R: usize, const M: usize>(
        lanes: L,
        sums: &mut [[L::Sums; M]; R],
        rows: [&Self::Group; R],
        vectors: [&[[f32; LANES]]; M],
    );

    /// Vectors of `width` elements as the lanes read them: `f32`, by group and by part within it, padded with zeros.
    fn vectors(x: &[Self], width: usize) -> Cow<'_, [f32]>;

    fn widen(self) -> f32;

    fn narrow(sum: f32) -> Self;
}

impl Element for f32 {
    type Group = [f32; LANES];

    const PARTS: usize = 1;

    #[inline(always)]
    fn groups(row: &[Self]) -> (&[Self::Group], &[Self]) {
        row.as_chunks()
    }

    fn last_group(rest: &[Self]) -> Self::Group {
        filled(rest)
    }

    #[inline(always)]
    fn multiply<L: Lanes, const R: usize, const M: usize>(
        lanes: L,
        sums: &mut [[L::Sums; M]; R],
        rows: [&Self::Group; R],
        vectors: [&[[f32; LANES]]; M],
    ) {
        let mut loaded = [lanes.zero(); R];
        for r in 0..R {
            loaded[r] = lanes.load(rows[r]);
        }
        multiply_loaded(lanes, sums, loaded, vectors);
    }

    fn vectors(x: &[Self], width: usize) -> Cow<'_, [f32]> {
        if width.is_multiple_of(LANES) {
            return Cow::Borrowed(x);
        }
        Cow::Owned(widened(x, width))
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(sum: f32) -> Self {
        sum
    }
}

/// A bfloat16 number: the upper half of an `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Bf16(pub(super) u16);

impl Element for Bf16 {
    /// Each lane takes a pair, because one load brings both and a shift or a mask widens one of them.
    type Group = [u16; 2 * LANES];

    const PARTS: usize = 2;

    #[inline(always)]
    fn groups(row: &[Self]) -> (&[Self::Group], &[Self]) {
        let (groups, rest) = row.as_chunks::<{ 2 * LANES }>();
        // SAFETY: `Bf16` is transparent over `u16`.
        let groups = unsafe { std::slice::from_raw_parts(groups.as_ptr().cast(), groups.len()) };
        (groups, rest)
    }

    fn last_group(rest: &[Self]) -> Self::Group {
        filled(rest).map(|Self(bits)| bits)
    }

    #[inline(always)]
    fn multiply<L: Lanes, const R: usize, const M: usize>(
        lanes: L,
        sums: &mut [[L::Sums; M]; R],
        rows: [&Self::Group; R],
        vectors: [&[[f32; LANES]]; M],
    ) {
        let mut loaded = [[lanes.zero(); 2]; R];
        for r in 0..R {
            loaded[r] = lanes.load_pairs(rows[r]);
        }
        for m in 0..M {
            for part in 0..2 {
                let vector = lanes.load(&vectors[m][part]);
                for r in 0..R {
                    sums[r][m] = lanes.multiply_add(sums[r][m], loaded[r][part], vector);
                }
            }
        }
    }

    fn vectors(x: &[Self], width: usize) -> Cow<'_, [f32]> {
        let mut vectors = Vec::with_capacity(x.len() / width * width.next_multiple_of(Self::GROUP));
        for vector in x.chunks(width) {
            let (groups, rest) = Self::groups(vector);
            let last = (!rest.is_empty()).then(|| Self::last_group(rest));
            for group in groups.iter().chain(&last) {
                let mut parts = [0.0; 2 * LANES];
                for lane in 0..LANES {
                    parts[lane] = Self(group[2 * lane]).widen();
                    parts[LANES + lane] = Self(group[2 * lane + 1]).widen();
                }
                vectors.extend_from_slice(&parts);
            }
        }
        Cow::Owned(vectors)
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    /// To the nearest, ties to even; without a branch, so that loops over it use the lanes.
    #[inline(always)]
    fn narrow(sum: f32) -> Self {
        let bits = sum.to_bits();
        let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let quiet_nan = bits >> 16 | 0x40;
        Self(if sum.is_nan() { quiet_nan } else { nearest } as u16)
    }
}

/// An IEEE 754 half-precision number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct F16(pub(super) u16);

impl Element for F16 {
    type Group = [u16; LANES];

    const PARTS: usize = 1;

    #[inline(always)]
    fn groups(row: &[Self]) -> (&[Self::Group], &[Self]) {
        let (groups, rest) = row.as_chunks::<LANES>();
        // SAFETY: `F16` is transparent over `u16`.
        let groups = unsafe { std::slice::from_raw_parts(groups.as_ptr().cast(), groups.len()) };
        (groups, rest)
    }

    fn last_group(rest: &[Self]) -> Self::Group {
        filled(rest).map(|Self(bits)| bits)
    }

    #[inline(always)]
    fn multiply<L: Lanes, const R: usize, const M: usize>(
        lanes: L,
        sums: &mut [[L::Sums; M]; R],
        rows: [&Self::Group; R],
        vectors: [&[[f32; LANES]]; M],
    ) {
        let mut loaded = [lanes.zero(); R];
        for r in 0..R {
            loaded[r] = lanes.load_half(rows[r]);
        }
        multiply_loaded(lanes, sums, loaded, vectors);
    }

    fn vectors(x: &[Self], width: usize) -> Cow<'_, [f32]> {
        Cow::Owned(widened(x, width))
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        half::f16::from_bits(self.0).to_f32()
    }

    #[inline(always)]
    fn narrow(sum: f32) -> Self {
        Self(half::f16::from_f32(sum).to_bits())
    }
}

/// Vectors of `width` elements, each padded to whole chunks.
fn widened<T: Element>(x: &[T], width: usize) -> Vec<f32> {
    let zeros = width.next_multiple_of(LANES) - width;
    let padded = x.chunks(width).flat_map(|vector| {
        let wide = vector.iter().map(|x| x.widen());
        wide.chain(std::iter::repeat_n(0.0, zeros))
    });
    padded.collect()
}

/// Adds the products of rows that are in registers with one chunk of each vector.
#[inline(always)]
fn multiply_loaded<L: Lanes, const R: usize, const M: usize>(
    lanes: L,
    sums: &mut [[L::Sums; M]; R],
    rows: [L::Sums; R],
    vectors: [&[[f32; LANES]]; M],
) {
    for m in 0..M {
        let vector = lanes.load(&vectors[m][0]);
        for r in 0..R {
            sums[r][m] = lanes.multiply_add(sums[r][m], rows[r], vector);
        }
    }
}

fn filled<T: Copy + Default, const N: usize>(rest: &[T]) -> [T; N] {
    std::array::from_fn(|index| rest.get(index).copied().unwrap_or_default())
}

/// `vectors` times the transpose of `matrix`, plus `bias`.
pub(super) struct Product<'a, T: Element> {
    /// `[row, width]`.
    pub(super) matrix: &'a [T],
    /// Not 0.
    pub(super) width: usize,
    /// `[vector, width padded to whole groups]`, as [`Element::vectors`] arranges them.
    pub(super) vectors: &'a [f32],
    /// `[row]`.
    pub(super) bias: Option<&'a [T]>,
}

impl<T: Element> Product<'_, T> {
    /// Writes `[vector, row]` to `out`, with at most so many threads.
    ///
    /// # Safety
    /// `out` has room for as many elements, which nobody else reads or writes meanwhile.
    pub(super) unsafe fn run(&self, instructions: Instructions, out: *mut T, threads: usize) {
        let rows = self.matrix.len() / self.width;
        let out = Out { to: out, rows };
        let threads = if size_of_val(self.matrix) < team::ALONE {
            1
        } else {
            threads
        };
        team::run(threads, &|part, parts| {
            let at = |part: usize| part * rows / parts;
            instructions.run(Part {
                product: self,
                rows: at(part)..at(part + 1),
                out,
            });
        });
    }

    /// Vectors, in chunks of sixteen numbers.
    fn chunks(&self) -> (&[[f32; LANES]], usize) {
        let (chunks, _) = self.vectors.as_chunks();
        (chunks, self.width.div_ceil(T::GROUP) * T::PARTS)
    }
}

/// Some rows of a product.
struct Part<'a, T: Element> {
    product: &'a Product<'a, T>,
    /// No other part has them.
    rows: Range<usize>,
    /// What [`Product::run`] was given.
    out: Out<T>,
}

impl<T: Element> Work for Part<'_, T> {
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { product, rows, out } = self;
        // R·M registers hold sums, and R for each part of a group hold the rows.
        // SAFETY: the room is there, and these rows are this part's alone.
        unsafe {
            match (L::REGISTERS, T::PARTS) {
                (32.., 1) => in_tiles::<L, T, 6, 4>(lanes, product, rows, out),
                (32.., _) => in_tiles::<L, T, 4, 4>(lanes, product, rows, out),
                (8.., _) => in_tiles::<L, T, 2, 2>(lanes, product, rows, out),
                _ => in_tiles::<L, T, 1, 1>(lanes, product, rows, out),
            }
        }
    }
}

/// Where results go: `[vector, row]`.
#[derive(Clone, Copy)]
pub(super) struct Out<T> {
    to: *mut T,
    rows: usize,
}

// SAFETY: only [`Out::put`] uses the pointer, and asks for what several threads need.
unsafe impl<T: Send> Send for Out<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Out<T> {}

impl<T> Out<T> {
    /// # Safety
    /// `row` and `vector` are of the product, and no other thread has this row.
    #[inline(always)]
    unsafe fn put(self, row: usize, vector: usize, value: T) {
        // SAFETY: within what `Product::run` was given, and this thread's alone.
        unsafe { self.to.add(vector * self.rows + row).write(value) }
    }
}

/// The part `rows` of a product in tiles of `R` rows and up to `M` ≤ 4 vectors.
///
/// # Safety
/// As [`Out::put`].
#[inline(always)]
unsafe fn in_tiles<L: Lanes, T: Element, const R: usize, const M: usize>(
    lanes: L,
    product: &Product<'_, T>,
    rows: Range<usize>,
    out: Out<T>,
) {
    let mut row = rows.start;
    // SAFETY: passed on.
    unsafe {
        while row + R <= rows.end {
            all_vectors::<L, T, R, M>(lanes, product, row, out);
            row += R;
        }
        while row < rows.end {
            all_vectors::<L, T, 1, M>(lanes, product, row, out);
            row += 1;
        }
    }
}

/// `R` rows with all vectors, in even parts of at most `M`: after the first part the rows are in the nearest cache.
///
/// # Safety
/// As [`Out::put`].
#[inline(always)]
unsafe fn all_vectors<L: Lanes, T: Element, const R: usize, const M: usize>(
    lanes: L,
    product: &Product<'_, T>,
    row: usize,
    out: Out<T>,
) {
    let (chunks, of_each) = product.chunks();
    let count = chunks.len() / of_each;
    let parts = count.div_ceil(M);
    for part in 0..parts {
        let at = |part: usize| part * count / parts;
        let (first, next) = (at(part), at(part + 1));
        let place = (row, first);
        // SAFETY: passed on.
        unsafe {
            if parts == 1 {
                let ahead = EachRow {
                    bytes: R * product.width * size_of::<T>(),
                };
                part_of::<L, T, R, M>(lanes, product, place, next - first, ahead, out);
            } else {
                let ahead = Share::new(product, row + R, R, (part, parts));
                part_of::<L, T, R, M>(lanes, product, place, next - first, ahead, out);
            }
        }
    }
}

/// `R` rows with `count` vectors, at most `M`.
///
/// # Safety
/// As [`Out::put`].
#[inline(always)]
unsafe fn part_of<L: Lanes, T: Element, const R: usize, const M: usize>(
    lanes: L,
    product: &Product<'_, T>,
    place: (usize, usize),
    count: usize,
    ahead: impl Ahead,
    out: Out<T>,
) {
    // SAFETY: passed on.
    unsafe {
        match count {
            1 => tile::<L, T, R, 1>(lanes, product, place, ahead, out),
            2 if M >= 2 => tile::<L, T, R, 2>(lanes, product, place, ahead, out),
            3 if M >= 3 => tile::<L, T, R, 3>(lanes, product, place, ahead, out),
            _ if M >= 4 => tile::<L, T, R, 4>(lanes, product, place, ahead, out),
            _ => {}
        }
    }
}

/// What to ask the memory for while a group of rows is multiplied: the rows that come next. The processor's own guess ends at each
/// row's end.
trait Ahead {
    fn ask<L: Lanes, G, const R: usize>(&mut self, lanes: L, groups: [&G; R]);
}

/// What stands so many bytes after each row.
struct EachRow {
    bytes: usize,
}

impl Ahead for EachRow {
    #[inline(always)]
    fn ask<L: Lanes, G, const R: usize>(&mut self, lanes: L, groups: [&G; R]) {
        for group in groups {
            lanes.prefetch(std::ptr::from_ref(group).wrapping_byte_add(self.bytes));
        }
    }
}

/// A part's share of the next rows, so that the memory is as busy in every part: a part that asked for all would wait for all, and
/// the others would find it idle.
struct Share {
    next: *const u8,
    /// Groups of theirs to ask for with each group that is multiplied.
    of_group: usize,
}

impl Share {
    #[inline(always)]
    fn new<T: Element>(
        product: &Product<'_, T>,
        first: usize,
        count: usize,
        (part, parts): (usize, usize),
    ) -> Self {
        let of_group = count.div_ceil(parts);
        let row = product.width * size_of::<T>();
        let start = product.matrix.as_ptr().wrapping_byte_add(first * row);
        Self {
            next: start.wrapping_byte_add(part * of_group * row).cast(),
            of_group,
        }
    }
}

impl Ahead for Share {
    #[inline(always)]
    fn ask<L: Lanes, G, const R: usize>(&mut self, lanes: L, _: [&G; R]) {
        for _ in 0..self.of_group {
            lanes.prefetch_later(self.next);
            self.next = self.next.wrapping_add(size_of::<G>());
        }
    }
}

/// `R` rows from `row` with `M` vectors from `first`.
///
/// # Safety
/// As [`Out::put`].
#[allow(
    clippy::needless_range_loop,
    reason = "loops of a constant length over several arrays, which the compiler unrolls"
)]
#[inline(always)]
unsafe fn tile<L: Lanes, T: Element, const R: usize, const M: usize>(
    lanes: L,
    product: &Product<'_, T>,
    (row, first): (usize, usize),
    mut ahead: impl Ahead,
    out: Out<T>,
) {
    let width = product.width;
    let (chunks, of_each) = product.chunks();
    let groups = width / T::GROUP;
    // Slices of one length that the compiler sees, so that no index below is checked again.
    let mut rows: [&[T::Group]; R] = [&[]; R];
    for r in 0..R {
        rows[r] = &T::groups(&product.matrix[(row + r) * width..][..width]).0[..groups];
    }
    let mut vectors: [&[[f32; LANES]]; M] = [&[]; M];
    for m in 0..M {
        vectors[m] = &chunks[(first + m) * of_each..][..of_each];
    }
    let mut sums = [[lanes.zero(); M]; R];
    for group in 0..groups {
        let mut own: [&T::Group; R] = [&rows[0][group]; R];
        for r in 0..R {
            own[r] = &rows[r][group];
        }
        let mut read: [&[[f32; LANES]]; M] = [&[]; M];
        for m in 0..M {
            read[m] = &vectors[m][group * T::PARTS..][..T::PARTS];
        }
        ahead.ask(lanes, own);
        T::multiply(lanes, &mut sums, own, read);
    }
    if !width.is_multiple_of(T::GROUP) {
        let mut last = [T::last_group(&[]); R];
        for r in 0..R {
            let rest = T::groups(&product.matrix[(row + r) * width..][..width]).1;
            last[r] = T::last_group(rest);
        }
        let mut own: [&T::Group; R] = [&last[0]; R];
        for r in 0..R {
            own[r] = &last[r];
        }
        let mut read: [&[[f32; LANES]]; M] = [&[]; M];
        for m in 0..M {
            read[m] = &vectors[m][groups * T::PARTS..];
        }
        T::multiply(lanes, &mut sums, own, read);
    }
    for r in 0..R {
        let bias = product.bias.map_or(0.0, |bias| bias[row + r].widen());
        let folded = lanes.fold_all(sums[r]);
        for m in 0..M {
            // SAFETY: passed on.
            unsafe { out.put(row + r, first + m, T::narrow(folded[m] + bias)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    use super::*;
    use crate::torch::kernels::lanes::{Avx2, Avx512};

    /// Every set of instructions that this processor has, the plain one first.
    fn all() -> Vec<Instructions> {
        let avx2 = Avx2::of_this_processor().map(Instructions::Avx2);
        let avx512 = Avx512::of_this_processor().map(Instructions::Avx512);
        let plain = Some(Instructions::Plain);
        [plain, avx2, avx512].into_iter().flatten().collect()
    }

    /// `[vector, row]`.
    fn product<T: Element>(
        instructions: Instructions,
        threads: usize,
        (x, matrix, width): (&[T], &[T], usize),
        bias: Option<&[T]>,
    ) -> Vec<T> {
        let vectors = T::vectors(x, width);
        let mut out = vec![T::default(); x.len() / width * (matrix.len() / width)];
        let product = Product {
            matrix,
            width,
            vectors: &vectors,
            bias,
        };
        // SAFETY: `out` has room for vectors times rows, and is not used elsewhere.
        unsafe { product.run(instructions, out.as_mut_ptr(), threads) };
        out
    }

    /// In `f64`, with the sum of the products' sizes, which bounds the rounding.
    fn exact(x: &[f32], row: &[f32]) -> (f64, f64) {
        let products = x
            .iter()
            .zip(row)
            .map(|(&a, &b)| f64::from(a) * f64::from(b));
        products.fold((0.0, 0.0), |(sum, sizes), product| {
            (sum + product, sizes + product.abs())
        })
    }

    fn numbers(count: usize) -> impl Strategy<Value = Vec<f32>> {
        let number = prop_oneof![8 => -4.0_f32..4.0, 1 => Just(0.0), 1 => -1e6_f32..1e6];
        prop::collection::vec(number, count)
    }

    fn case() -> impl Strategy<Value = (Vec<f32>, Vec<f32>, Vec<f32>, usize)> {
        (1_usize..80, 1_usize..12, 1_usize..30).prop_flat_map(|(width, count, rows)| {
            let parts = (numbers(count * width), numbers(rows * width), numbers(rows));
            parts.prop_map(move |(x, matrix, bias)| (x, matrix, bias, width))
        })
    }

    proptest! {
        #[test]
        fn products_are_the_plain_sums_to_the_bit((x, matrix, bias, width) in case()) {
            let input = (x.as_slice(), matrix.as_slice(), width);
            let expected = product(Instructions::Plain, 1, input, Some(&bias));
            for (vector, found) in x.chunks(width).zip(expected.chunks(bias.len())) {
                for ((row, &bias), &found) in matrix.chunks(width).zip(&bias).zip(found) {
                    let (sum, sizes) = exact(vector, row);
                    let bound = (width as f64 + 4.0) * f64::from(f32::EPSILON)
                        * (sizes + f64::from(bias.abs()));
                    prop_assert!((f64::from(found) - sum - f64::from(bias)).abs() <= bound);
                }
            }
            for instructions in all() {
                for threads in [1, 2, 5] {
                    let found = product(instructions, threads, input, Some(&bias));
                    prop_assert_eq!(bits(&found), bits(&expected));
                }
                // Alone as in company.
                for (vector, expected) in x.chunks(width).zip(expected.chunks(bias.len())) {
                    let alone = product(instructions, 2, (vector, &matrix, width), Some(&bias));
                    prop_assert_eq!(bits(&alone), bits(expected));
                }
            }
        }

        #[test]
        fn half_products_are_rounded_once((x, matrix, bias, width) in case()) {
            // Within what half precision holds.
            let narrow = |values: &[f32]| -> Vec<F16> {
                values.iter().map(|&value| F16::narrow(value.clamp(-9.0, 9.0))).collect()
            };
            let (x, matrix, bias) = (narrow(&x), narrow(&matrix), narrow(&bias));
            let input = (x.as_slice(), matrix.as_slice(), width);
            let expected = product(Instructions::Plain, 1, input, Some(&bias));
            let wide = |values: &[F16]| -> Vec<f32> {
                values.iter().map(|value| value.widen()).collect()
            };
            for (vector, found) in x.chunks(width).zip(expected.chunks(bias.len())) {
                for ((row, bias), found) in matrix.chunks(width).zip(wide(&bias)).zip(wide(found)) {
                    let (sum, sizes) = exact(&wide(vector), &wide(row));
                    let exact = sum + f64::from(bias);
                    let bound = (width as f64 + 4.0) * f64::from(f32::EPSILON)
                        * (sizes + f64::from(bias.abs()))
                        + exact.abs() / 2048.0
                        + 6e-8;
                    prop_assert!((f64::from(found) - exact).abs() <= bound, "{found} {exact}");
                }
            }
            for instructions in all() {
                for threads in [1, 3] {
                    prop_assert_eq!(&product(instructions, threads, input, Some(&bias)), &expected);
                }
            }
        }

        #[test]
        fn bfloat16_products_are_rounded_once((x, matrix, bias, width) in case()) {
            let narrow = |values: &[f32]| -> Vec<Bf16> {
                values.iter().map(|&value| Bf16(bf16::from_f32(value).to_bits())).collect()
            };
            let (x, matrix, bias) = (narrow(&x), narrow(&matrix), narrow(&bias));
            let input = (x.as_slice(), matrix.as_slice(), width);
            let expected = product(Instructions::Plain, 1, input, Some(&bias));
            let wide = |values: &[Bf16]| -> Vec<f32> {
                values.iter().map(|value| bf16::from_bits(value.0).to_f32()).collect()
            };
            for (vector, found) in x.chunks(width).zip(expected.chunks(bias.len())) {
                for ((row, bias), found) in matrix.chunks(width).zip(wide(&bias)).zip(wide(found)) {
                    let (sum, sizes) = exact(&wide(vector), &wide(row));
                    let exact = sum + f64::from(bias);
                    let bound = (width as f64 + 4.0) * f64::from(f32::EPSILON)
                        * (sizes + f64::from(bias.abs()))
                        + exact.abs() / 256.0;
                    prop_assert!((f64::from(found) - exact).abs() <= bound, "{found} {exact}");
                }
            }
            for instructions in all() {
                for threads in [1, 3] {
                    prop_assert_eq!(&product(instructions, threads, input, Some(&bias)), &expected);
                }
            }
        }
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn a_large_product_is_shared_among_threads() {
        let (width, rows) = (600, 301);
        let matrix: Vec<f32> = (0..rows * width)
            .map(|index| (index % 13) as f32 - 6.0)
            .collect();
        assert!(size_of_val(matrix.as_slice()) > team::ALONE);
        let x: Vec<f32> = (0..3 * width)
            .map(|index| (index % 7) as f32 - 3.0)
            .collect();
        let expected: Vec<f32> = x
            .chunks(width)
            .flat_map(|vector| matrix.chunks(width).map(|row| exact(vector, row).0 as f32))
            .collect();
        for instructions in all() {
            // Whole numbers this small are summed without rounding.
            let found = product(instructions, 2, (&x, &matrix, width), None);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn numbers_are_narrowed_to_the_nearest() {
        // Every exponent, and mantissas around each place where rounding turns.
        for high in 0..=u16::MAX {
            for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let value = f32::from_bits(u32::from(high) << 16 | low);
                let expected = bf16::from_f32(value);
                assert_eq!(Bf16::narrow(value).0, expected.to_bits(), "{value:e}");
                let (found, expected) = (Bf16(high).widen(), bf16::from_bits(high).to_f32());
                // A signalling NaN may be quieted on the way.
                assert!(
                    found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan()
                );
            }
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        for instructions in all() {
            let found = product(instructions, 1, (&[1.0, f32::NAN], &[0.0, 0.0], 2), None);
            assert!(found[0].is_nan());
            let found = product(
                instructions,
                1,
                (&[1.0_f32, 1.0], &[f32::INFINITY, 1.0], 2),
                None,
            );
            assert_eq!(found, [f32::INFINITY]);
            let nan = product(instructions, 1, (&[Bf16(0x3f80)], &[Bf16(0x7f81)], 1), None);
            assert!(bf16::from_bits(nan[0].0).is_nan());
        }
    }
}
