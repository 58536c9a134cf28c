//! Kernels over rows, windows and reduced axes.

mod arg_reduce;
mod fold;
mod norm;
mod pool;
mod reduce;
mod resize;
mod softmax;

pub use arg_reduce::gc_arg_reduce;
pub use norm::gc_layer_norm_f32;
pub use pool::{gc_pool2d_bf16, gc_pool2d_f32};
pub use reduce::{gc_reduce, gc_reduce_f32};
pub use resize::{gc_resize_bilinear_f32, gc_resize_nearest};
pub use softmax::{gc_softmax_f32, gc_softmax_f64};

use core::ops::Range;
use graphc_abi::Ctx;

pub(crate) const SYMBOLS: &[crate::Symbol] = crate::symbol_list![
    gc_softmax_f32,
    gc_softmax_f64,
    gc_layer_norm_f32,
    gc_reduce,
    gc_reduce_f32,
    gc_arg_reduce,
    gc_pool2d_f32,
    gc_pool2d_bf16,
    gc_resize_bilinear_f32,
    gc_resize_nearest,
];

/// Work of one chunk of a parallel loop, in cheap operations on elements: some microseconds.
const GRAIN: usize = 1 << 15;

/// Runs `f` over `0..items` in ranges of about `GRAIN` operations, of which an item takes `cost`. The ranges depend on the numbers
/// given alone.
///
/// # Safety
/// `f` may run on several threads at once, with disjoint ranges.
pub(crate) unsafe fn split(ctx: &Ctx, items: usize, cost: usize, f: impl Fn(Range<usize>) + Sync) {
    let each = (GRAIN / cost.max(1)).max(1);
    // SAFETY: ranges are disjoint.
    unsafe { ctx.parallel(items.div_ceil(each), &|chunk, _| f(chunk * each..items.min((chunk + 1) * each))) }
}

/// A size or flag of the arguments; negative ones count as zero.
#[inline(always)]
pub(crate) fn size(v: i64) -> usize {
    v.max(0) as usize
}

/// A size for which zero stands for one.
#[inline(always)]
pub(crate) fn size_or_one(v: i64) -> usize {
    v.max(1) as usize
}

/// A pointer that may go to several threads. Whoever uses it keeps the accesses disjoint.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(pub *mut T);
// SAFETY: see the type.
unsafe impl<T> Sync for Shared<T> {}
// SAFETY: see the type.
unsafe impl<T> Send for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer itself. (A closure that names the field would capture the bare pointer.)
    #[inline(always)]
    pub fn get(&self) -> *mut T {
        self.0
    }
    /// The pointer moved by `i` elements.
    ///
    /// # Safety
    /// As `pointer::add`.
    #[inline(always)]
    pub unsafe fn at(&self, i: usize) -> *mut T {
        // SAFETY: the caller's contract.
        unsafe { self.0.add(i) }
    }
}

#[cfg(test)]
mod tests;
