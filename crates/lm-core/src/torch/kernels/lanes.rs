//! Sixteen sums side by side, in the instructions that a processor has.

use std::arch::x86_64::*;

/// How many sums.
pub(super) const LANES: usize = 16;

/// The instructions to use.
#[derive(Clone, Copy, Debug)]
pub(super) enum Instructions {
    Avx512(Avx512),
    Avx2(Avx2),
    /// None but Rust's own: slow, and the oracle of the others.
    #[cfg(test)]
    Plain,
}

impl Instructions {
    /// The widest ones that this processor has, if any.
    pub(super) fn of_this_processor() -> Option<Self> {
        let avx512 = Avx512::of_this_processor().map(Self::Avx512);
        avx512.or_else(|| Avx2::of_this_processor().map(Self::Avx2))
    }

    /// `work` with these instructions enabled.
    pub(super) fn run(self, work: impl Work) {
        match self {
            // SAFETY: a value of `Avx512` or `Avx2` exists only where the processor has the instructions.
            Self::Avx512(lanes) => unsafe { in_avx512(lanes, work) },
            // SAFETY: as above.
            Self::Avx2(lanes) => unsafe { in_avx2(lanes, work) },
            #[cfg(test)]
            Self::Plain => work.run(plain::Plain),
        }
    }
}

/// What is compiled once for each set of instructions. The method and all it calls must be `#[inline(always)]`: what stays a call
/// is compiled without them.
pub(super) trait Work {
    fn run<L: Lanes>(self, lanes: L);
}

#[target_feature(enable = "avx512f,avx512vl,avx2,fma,f16c")]
fn in_avx512(lanes: Avx512, work: impl Work) {
    work.run(lanes);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn in_avx2(lanes: Avx2, work: impl Work) {
    work.run(lanes);
}

/// Arithmetic on sixteen `f32` at once.
///
/// The methods are inlined into a function that has the processor's instructions enabled; elsewhere they are calls, and slow.
pub(super) trait Lanes: Copy {
    /// How many values of [`Lanes::Sums`] the registers hold.
    const REGISTERS: usize;

    type Sums: Copy;

    fn zero(self) -> Self::Sums;
    fn load(self, numbers: &[f32; LANES]) -> Self::Sums;
    /// The even ones of 32 bfloat16 numbers, and the odd ones.
    fn load_pairs(self, numbers: &[u16; 2 * LANES]) -> [Self::Sums; 2];
    /// Sixteen `f16` numbers, by their bits.
    fn load_half(self, numbers: &[u16; LANES]) -> Self::Sums;
    /// `sums + a · b`, rounded once.
    fn multiply_add(self, sums: Self::Sums, a: Self::Sums, b: Self::Sums) -> Self::Sums;
    /// Lanes `i` and `i + 8` added, then `i + 4`, `i + 2`, `i + 1`.
    fn fold(self, sums: Self::Sums) -> f32;
    /// [`Lanes::fold`] of each.
    #[inline(always)]
    fn fold_all<const M: usize>(self, sums: [Self::Sums; M]) -> [f32; M] {
        let mut folded = [0.0; M];
        for m in 0..M {
            folded[m] = self.fold(sums[m]);
        }
        folded
    }
    /// Asks for memory that will be read soon; any address will do.
    fn prefetch<T>(self, from: *const T);
    /// The same for memory that will be read somewhat later: into the second cache.
    fn prefetch_later<T>(self, from: *const T);
}

/// The processor has AVX-512F and VL, and what [`Avx2`] says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn of_this_processor() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
        (has && Avx2::of_this_processor().is_some()).then_some(Self(()))
    }
}

impl Lanes for Avx512 {
    const REGISTERS: usize = 32;

    type Sums = __m512;

    #[inline(always)]
    fn zero(self) -> __m512 {
        // SAFETY: `self` exists, so the processor has the instruction.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    fn load(self, numbers: &[f32; LANES]) -> __m512 {
        // SAFETY: as above; the address is that of sixteen numbers, and need not be aligned.
        unsafe { _mm512_loadu_ps(numbers.as_ptr()) }
    }

    #[inline(always)]
    fn load_pairs(self, numbers: &[u16; 2 * LANES]) -> [__m512; 2] {
        // SAFETY: as above.
        unsafe {
            let pairs = _mm512_loadu_si512(numbers.as_ptr().cast());
            let upper = _mm512_set1_epi32(UPPER_HALF);
            [
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)),
                _mm512_castsi512_ps(_mm512_and_si512(pairs, upper)),
            ]
        }
    }

    #[inline(always)]
    fn load_half(self, numbers: &[u16; LANES]) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(numbers.as_ptr().cast())) }
    }

    #[inline(always)]
    fn multiply_add(self, sums: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(a, b, sums) }
    }

    #[inline(always)]
    fn fold(self, sums: __m512) -> f32 {
        // SAFETY: as above.
        unsafe {
            let upper = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(sums));
            let eight = _mm256_add_ps(_mm512_castps512_ps256(sums), _mm256_castpd_ps(upper));
            Avx2(()).fold_eight(eight)
        }
    }

    /// Four at once: each step halves what is left of two, side by side in one register.
    #[inline(always)]
    fn fold_all<const M: usize>(self, sums: [__m512; M]) -> [f32; M] {
        let mut folded = [0.0; M];
        if M != 4 {
            for m in 0..M {
                folded[m] = self.fold(sums[m]);
            }
            return folded;
        }
        // SAFETY: as above.
        unsafe {
            // Quarters of a register, by their numbers.
            let halved = |a: __m512, b: __m512| {
                let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
                _mm512_add_ps(low, _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b))
            };
            let (first, second) = (halved(sums[0], sums[1]), halved(sums[2], sums[3]));
            // One quarter for each of the four.
            let even = _mm512_shuffle_f32x4::<0b10_00_10_00>(first, second);
            let four = _mm512_add_ps(even, _mm512_shuffle_f32x4::<0b11_01_11_01>(first, second));
            let two = _mm512_add_ps(four, _mm512_permute_ps::<0b11_10_11_10>(four));
            let one = _mm512_add_ps(two, _mm512_permute_ps::<0b01_01_01_01>(two));
            let mut all = [0.0; LANES];
            _mm512_storeu_ps(all.as_mut_ptr(), one);
            for m in 0..M {
                folded[m] = all[4 * m];
            }
        }
        folded
    }

    #[inline(always)]
    fn prefetch<T>(self, from: *const T) {
        Avx2(()).prefetch(from);
    }

    #[inline(always)]
    fn prefetch_later<T>(self, from: *const T) {
        Avx2(()).prefetch_later(from);
    }
}

/// The processor has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn of_this_processor() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }

    #[inline(always)]
    fn fold_eight(self, eight: __m256) -> f32 {
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe {
            let upper = _mm256_extractf128_ps::<1>(eight);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), upper);
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}

impl Lanes for Avx2 {
    const REGISTERS: usize = 8;

    /// Lanes 0 to 7 and 8 to 15.
    type Sums = [__m256; 2];

    #[inline(always)]
    fn zero(self) -> [__m256; 2] {
        // SAFETY: `self` exists, so the processor has the instruction.
        unsafe { [_mm256_setzero_ps(); 2] }
    }

    #[inline(always)]
    fn load(self, numbers: &[f32; LANES]) -> [__m256; 2] {
        let [low, high] = halves(numbers);
        // SAFETY: as above; the addresses are those of eight numbers each, and need not be aligned.
        unsafe {
            [
                _mm256_loadu_ps(low.as_ptr()),
                _mm256_loadu_ps(high.as_ptr()),
            ]
        }
    }

    #[inline(always)]
    fn load_pairs(self, numbers: &[u16; 2 * LANES]) -> [[__m256; 2]; 2] {
        let [low, high] = halves(numbers);
        // SAFETY: as above.
        unsafe {
            let low = _mm256_loadu_si256(low.as_ptr().cast());
            let high = _mm256_loadu_si256(high.as_ptr().cast());
            let upper = _mm256_set1_epi32(UPPER_HALF);
            let evens = [_mm256_slli_epi32::<16>(low), _mm256_slli_epi32::<16>(high)];
            let odds = [_mm256_and_si256(low, upper), _mm256_and_si256(high, upper)];
            [
                [_mm256_castsi256_ps(evens[0]), _mm256_castsi256_ps(evens[1])],
                [_mm256_castsi256_ps(odds[0]), _mm256_castsi256_ps(odds[1])],
            ]
        }
    }

    #[inline(always)]
    fn load_half(self, numbers: &[u16; LANES]) -> [__m256; 2] {
        let [low, high] = halves(numbers);
        // SAFETY: as above.
        unsafe {
            [
                _mm256_cvtph_ps(_mm_loadu_si128(low.as_ptr().cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(high.as_ptr().cast())),
            ]
        }
    }

    #[inline(always)]
    fn multiply_add(self, sums: [__m256; 2], a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: as above.
        unsafe {
            [
                _mm256_fmadd_ps(a[0], b[0], sums[0]),
                _mm256_fmadd_ps(a[1], b[1], sums[1]),
            ]
        }
    }

    #[inline(always)]
    fn fold(self, sums: [__m256; 2]) -> f32 {
        // SAFETY: as above.
        self.fold_eight(unsafe { _mm256_add_ps(sums[0], sums[1]) })
    }

    #[inline(always)]
    fn prefetch<T>(self, from: *const T) {
        // SAFETY: a hint, which no address makes fail.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }

    #[inline(always)]
    fn prefetch_later<T>(self, from: *const T) {
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }
}

/// Of two bfloat16 numbers read as one `u32`, the second with zeros after it: an `f32`.
const UPPER_HALF: i32 = 0xffff_0000_u32.cast_signed();

#[inline(always)]
fn halves<T, const N: usize>(numbers: &[T; N]) -> [&[T]; 2] {
    let (low, high) = numbers.split_at(N / 2);
    [low, high]
}

#[cfg(test)]
pub(super) mod plain {
    use super::{LANES, Lanes};

    /// Nothing but Rust.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Plain;

    impl Lanes for Plain {
        const REGISTERS: usize = 1;

        type Sums = [f32; LANES];

        fn zero(self) -> [f32; LANES] {
            [0.0; LANES]
        }

        fn load(self, numbers: &[f32; LANES]) -> [f32; LANES] {
            *numbers
        }

        fn load_pairs(self, numbers: &[u16; 2 * LANES]) -> [[f32; LANES]; 2] {
            let wide = |index: usize| half::bf16::from_bits(numbers[index]).to_f32();
            [
                std::array::from_fn(|lane| wide(2 * lane)),
                std::array::from_fn(|lane| wide(2 * lane + 1)),
            ]
        }

        fn load_half(self, numbers: &[u16; LANES]) -> [f32; LANES] {
            numbers.map(|bits| half::f16::from_bits(bits).to_f32())
        }

        fn multiply_add(
            self,
            sums: [f32; LANES],
            a: [f32; LANES],
            b: [f32; LANES],
        ) -> [f32; LANES] {
            std::array::from_fn(|lane| a[lane].mul_add(b[lane], sums[lane]))
        }

        fn fold(self, mut sums: [f32; LANES]) -> f32 {
            for half in [8, 4, 2, 1] {
                for lane in 0..half {
                    sums[lane] += sums[lane + half];
                }
            }
            sums[0]
        }

        fn prefetch<T>(self, _: *const T) {}

        fn prefetch_later<T>(self, _: *const T) {}
    }
}
