//! Running sums and products.

use super::number::{Number, by_number_or_complex};
use crate::rows::{Shared, size, split};
use graphc_abi::args::data::CumulateArgs;
use graphc_abi::{Ctx, Status};

/// Columns that are accumulated together.
const COLUMNS: usize = 64;

/// # Safety
/// `args` describes valid arrays; `y` is `x` or disjoint from it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_cumulate(ctx: *const Ctx, args: *const CumulateArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let (ctx, a) = unsafe { (&*ctx, &*args) };
    // SAFETY: the caller's contract.
    unsafe { by_number_or_complex!(a.elem, cumulate(ctx, a)) }
    Status::Ok as i32
}

unsafe fn cumulate<T: Number>(ctx: &Ctx, a: &CumulateArgs) {
    // SAFETY: the caller's contract.
    unsafe { if a.prod != 0 { columns::<T>(ctx, a, T::ONE, T::mul) } else { columns::<T>(ctx, a, T::ZERO, T::add) } }
}

#[inline(always)]
unsafe fn columns<T: Number>(ctx: &Ctx, a: &CumulateArgs, identity: T, combine: impl Fn(T, T) -> T + Sync) {
    let (outer, n, inner) = (size(a.outer), size(a.n), size(a.inner));
    let (x, y) = (Shared(a.x.cast::<T>().cast_mut()), Shared(a.y.cast::<T>()));
    let blocks = inner.div_ceil(COLUMNS);
    let unit = |u: usize| {
        let (o, first) = (u / blocks, u % blocks * COLUMNS);
        let width = COLUMNS.min(inner - first);
        let mut total = [identity; COLUMNS];
        for i in 0..n {
            let i = if a.reverse != 0 { n - 1 - i } else { i };
            let at = (o * n + i) * inner + first;
            for (c, total) in total.iter_mut().enumerate().take(width) {
                // SAFETY: column `first + c` of element `i`; it is read before it is written.
                unsafe {
                    let next = combine(*total, *x.at(at + c));
                    *y.at(at + c) = if a.exclusive != 0 { *total } else { next };
                    *total = next;
                }
            }
        }
    };
    // SAFETY: units are disjoint.
    unsafe { split(ctx, outer * blocks, 4 * n * inner.min(COLUMNS), |r| r.for_each(unit)) }
}
