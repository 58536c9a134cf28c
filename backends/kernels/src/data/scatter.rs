//! Scatters of slices by index.

use super::eight;
use super::gather::{Indices, Tuples};
use super::number::{Number, by_number_or_complex, bytes};
use crate::rows::{Shared, size, split};
use graphc_abi::args::data::{ScatterNdArgs, elem, outside, scatter as op};
use graphc_abi::{Ctx, Status};

/// # Safety
/// `args` describes valid arrays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_scatter_nd(ctx: *const Ctx, args: *const ScatterNdArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let (ctx, a) = unsafe { (&*ctx, &*args) };
    let extents = eight!(a, d0, d1, d2, d3, d4, d5, d6, d7).map(size);
    let tuples = Tuples { indices: Indices::new(a.indices, a.index_bytes), depth: size(a.depth).min(8), extents };
    if a.outside == outside::FAIL {
        // SAFETY: the caller's contract.
        if let Err(status) = unsafe { tuples.check(ctx, size(a.count)) } {
            return status;
        }
    }
    let (width, inner) = (bytes(a.elem), size(a.inner));
    let ordered = !matches!(a.elem, elem::C64 | elem::C128);
    if width == 0 || !ordered && matches!(a.op, op::MIN | op::MAX) {
        return Status::InvalidShape as i32;
    }
    // SAFETY: the caller's contract; slices lie within `y`.
    unsafe {
        match a.op {
            op::UPDATE => combine::<u8>(ctx, a, &tuples, inner * width, |y, u| *y = u),
            _ => by_number_or_complex!(a.elem, numeric(ctx, a, &tuples, inner)),
        }
    }
    Status::Ok as i32
}

unsafe fn numeric<T: Number>(ctx: &Ctx, a: &ScatterNdArgs, tuples: &Tuples, inner: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        match a.op {
            op::SUB => combine::<T>(ctx, a, tuples, inner, |y, u| *y = y.sub(u)),
            op::MIN => combine::<T>(ctx, a, tuples, inner, |y, u| *y = if u < *y { u } else { *y }),
            op::MAX => combine::<T>(ctx, a, tuples, inner, |y, u| *y = if u > *y { u } else { *y }),
            op::MUL => combine::<T>(ctx, a, tuples, inner, |y, u| *y = y.mul(u)),
            op::DIV => combine::<T>(ctx, a, tuples, inner, |y, u| *y = y.div(u)),
            _ => combine::<T>(ctx, a, tuples, inner, |y, u| *y = y.add(u)),
        }
    }
}

/// Applies all updates in order. Threads share the inner axis, so that no two write the same element.
#[inline(always)]
unsafe fn combine<T: Copy>(ctx: &Ctx, a: &ScatterNdArgs, tuples: &Tuples, inner: usize, f: impl Fn(&mut T, T) + Sync) {
    let (count, step) = (size(a.count), if a.shared != 0 { 0 } else { inner });
    let (updates, y) = (Shared(a.updates.cast::<T>().cast_mut()), Shared(a.y.cast::<T>()));
    // Parts of at least a cache line, so that threads do not write the same one.
    const PART: usize = 256;
    // SAFETY: slices lie within `y`, parts within slices.
    unsafe {
        split(ctx, inner.div_ceil(PART), count * PART, |parts| {
            let (from, to) = (parts.start * PART, inner.min(parts.end * PART));
            for i in 0..count {
                if let Ok(slice) = tuples.slice(i) {
                    let y = core::slice::from_raw_parts_mut(y.at(slice * inner + from), to - from);
                    let u = core::slice::from_raw_parts(updates.at(i * step + from).cast_const(), to - from);
                    y.iter_mut().zip(u).for_each(|(y, &u)| f(y, u));
                }
            }
        });
    }
}
