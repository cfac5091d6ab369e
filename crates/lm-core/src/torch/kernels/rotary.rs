//! Rotary embedding in one pass over the heads instead of seven.

use std::ops::Range;

use super::lanes::{Lanes, Work};
use super::product::Element;
use crate::spec::RotaryStyle;

/// Projected queries or keys, and the angles of their positions.
#[derive(Clone, Copy)]
pub(super) struct Rotation<'a, T> {
    /// `[row, position, head, head_dim]`.
    pub(super) x: &'a [T],
    /// `[row or 1, position, dim]`.
    pub(super) cos: &'a [T],
    pub(super) sin: &'a [T],
    /// Positions of a row; heads; elements of a head, and how many of them turn.
    pub(super) width: usize,
    pub(super) heads: usize,
    pub(super) head_dim: usize,
    pub(super) dim: usize,
    pub(super) style: RotaryStyle,
}

/// Heads `[row · head]` of a rotation, into their places of `[row, head, position, head_dim]`. Each product and sum is narrowed as
/// if it were an operator of its own, so that the bits are those of the plain way.
pub(super) struct Heads<'a, T> {
    pub(super) rotation: Rotation<'a, T>,
    pub(super) range: Range<usize>,
    pub(super) out: &'a mut [T],
}

impl<T: Element> Work for Heads<'_, T> {
    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Rotation {
            x,
            cos,
            sin,
            width,
            heads,
            head_dim,
            dim,
            style,
        } = self.rotation;
        let of_row = width * dim;
        let rows_of_angles = cos.len() / of_row;
        for (place, out) in self.range.zip(self.out.chunks_exact_mut(width * head_dim)) {
            let (row, head) = (place / heads, place % heads);
            let angles = row % rows_of_angles * of_row;
            for (position, out) in out.chunks_exact_mut(head_dim).enumerate() {
                let x = &x[((row * width + position) * heads + head) * head_dim..][..head_dim];
                let from = angles + position * dim;
                let (cos, sin) = (&cos[from..][..dim], &sin[from..][..dim]);
                let (turning, rest) = out.split_at_mut(dim);
                rest.copy_from_slice(&x[dim..]);
                match style {
                    RotaryStyle::Half => halves(turning, &x[..dim], cos, sin),
                    RotaryStyle::Interleaved => pairs(turning, &x[..dim], cos, sin),
                }
            }
        }
    }
}

/// The first half turns with the second.
#[inline(always)]
fn halves<T: Element>(out: &mut [T], x: &[T], cos: &[T], sin: &[T]) {
    let half = x.len() / 2;
    let (low, high) = x.split_at(half);
    let (out_low, out_high) = out.split_at_mut(half);
    let (cos_low, cos_high) = cos.split_at(half);
    let (sin_low, sin_high) = sin.split_at(half);
    for pair in 0..half {
        let (a, b) = (low[pair], high[pair]);
        out_low[pair] = turned(a, cos_low[pair], -b.widen(), sin_low[pair]);
        out_high[pair] = turned(b, cos_high[pair], a.widen(), sin_high[pair]);
    }
}

/// Each element turns with its neighbour.
#[inline(always)]
fn pairs<T: Element>(out: &mut [T], x: &[T], cos: &[T], sin: &[T]) {
    let both = out.chunks_exact_mut(2).zip(x.chunks_exact(2));
    for ((out, x), (cos, sin)) in both.zip(cos.chunks_exact(2).zip(sin.chunks_exact(2))) {
        out[0] = turned(x[0], cos[0], -x[1].widen(), sin[0]);
        out[1] = turned(x[1], cos[1], x[0].widen(), sin[1]);
    }
}

/// `x · cos + other · sin`.
#[inline(always)]
fn turned<T: Element>(x: T, cos: T, other: f32, sin: T) -> T {
    let kept = T::narrow(x.widen() * cos.widen()).widen();
    let crossed = T::narrow(other * sin.widen()).widen();
    T::narrow(kept + crossed)
}
