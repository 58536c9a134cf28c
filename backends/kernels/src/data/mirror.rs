//! Padding with mirror images.

use super::{by_size, copy_bytes, eight};
use crate::rows::{Shared, size, split};
use graphc_abi::args::data::PadMirrorArgs;
use graphc_abi::{Ctx, Status};

/// The source index for index `i` of an axis of `extent` elements, `before` of the margin before it. A margin wider than the axis
/// starts again, so that no index leaves it.
#[inline(always)]
fn mirror(i: usize, before: usize, extent: usize, symmetric: bool) -> usize {
    // Images alternate with a period of two extents, less the two borders that REFLECT does not repeat.
    let period = if symmetric { 2 * extent } else { (2 * extent).saturating_sub(2).max(1) };
    let at = (i as i64 - before as i64).rem_euclid(period as i64) as usize;
    if at < extent { at } else { period - at - symmetric as usize }
}

/// # Safety
/// `args` describes valid arrays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_pad_mirror(ctx: *const Ctx, args: *const PadMirrorArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let (ctx, a) = unsafe { (&*ctx, &*args) };
    // SAFETY: the caller's contract.
    unsafe { by_size!(a.size, pad(ctx, a)) }
}

unsafe fn pad<T: Copy>(ctx: &Ctx, a: &PadMirrorArgs) -> i32 {
    let extents = eight!(a, d0, d1, d2, d3, d4, d5, d6, d7).map(size);
    let before = eight!(a, b0, b1, b2, b3, b4, b5, b6, b7).map(size);
    let after = eight!(a, a0, a1, a2, a3, a4, a5, a6, a7).map(size);
    let (rank, symmetric) = (size(a.rank).min(8), a.symmetric != 0);
    let padded: [usize; 8] = core::array::from_fn(|i| extents[i] + before[i] + after[i]);
    let (x, y) = (Shared(a.x.cast::<T>().cast_mut()), Shared(a.y.cast::<T>()));
    if rank == 0 {
        // SAFETY: one element each.
        unsafe { *y.0 = *x.0 };
        return Status::Ok as i32;
    }
    if padded[..rank].contains(&0) {
        return Status::Ok as i32;
    }
    if extents[..rank].contains(&0) {
        return Status::InvalidShape as i32;
    }
    let last = rank - 1;
    let lines = padded[..last].iter().product();
    let (width, first, end) = (padded[last], before[last], before[last] + extents[last]);
    let line = |l: usize| {
        let (mut rest, mut from, mut stride) = (l, 0, extents[last]);
        for i in (0..last).rev() {
            from += mirror(rest % padded[i], before[i], extents[i], symmetric) * stride;
            rest /= padded[i];
            stride *= extents[i];
        }
        // SAFETY: `mirror` stays within each axis; line `l` of the result.
        unsafe {
            let (x, y) = (x.at(from), y.at(l * width));
            let place = |i: usize| *y.add(i) = *x.add(mirror(i, first, extents[last], symmetric));
            (0..first).for_each(place);
            copy_bytes(x.cast(), y.add(first).cast(), extents[last] * size_of::<T>());
            (end..width).for_each(place);
        }
    };
    // SAFETY: lines are disjoint.
    unsafe { split(ctx, lines, width, |r| r.for_each(line)) };
    Status::Ok as i32
}
