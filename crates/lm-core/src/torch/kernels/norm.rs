//! Root-mean-square norms in one pass over the rows instead of six.

use super::lanes::{LANES, Lanes, Work};
use super::product::Element;

/// `weight · x / √(mean(x²) + ε)` for rows of as many elements as `weight` has, statistics in `f32`; into `out`, as long as `x`.
pub(super) struct Rms<'a, T> {
    pub(super) x: &'a [T],
    /// Not empty.
    pub(super) weight: &'a [T],
    pub(super) epsilon: f32,
    /// Whether the normed values are narrowed before the weight is applied, as Hugging Face does for most families.
    pub(super) narrow_first: bool,
    pub(super) out: &'a mut [T],
}

impl<T: Element> Work for Rms<'_, T> {
    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let width = self.weight.len();
        for (x, out) in self
            .x
            .chunks_exact(width)
            .zip(self.out.chunks_exact_mut(width))
        {
            let scale = 1.0 / (mean_of_squares(x) + self.epsilon).sqrt();
            for ((out, &x), &weight) in out.iter_mut().zip(x).zip(self.weight) {
                let mut normed = x.widen() * scale;
                if self.narrow_first {
                    normed = T::narrow(normed).widen();
                }
                *out = T::narrow(weight.widen() * normed);
            }
        }
    }
}

/// In sixteen sums, which is both faster and closer than one.
#[inline(always)]
fn mean_of_squares<T: Element>(x: &[T]) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += chunk[lane].widen() * chunk[lane].widen();
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += x.widen() * x.widen();
    }
    sums.iter().sum::<f32>() / x.len() as f32
}
