//! Filling with one value.

use super::by_size;
use crate::rows::{Shared, size, split};
use graphc_abi::args::data::FillArgs;
use graphc_abi::{Ctx, Status};

/// # Safety
/// `args` describes a valid array.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_fill(ctx: *const Ctx, args: *const FillArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let (ctx, a) = unsafe { (&*ctx, &*args) };
    let given = [a.value, a.value_high];
    let from = if a.from.is_null() { given.as_ptr().cast() } else { a.from };
    unsafe fn go<T: Copy + Send + Sync>(ctx: &Ctx, y: *mut u8, n: usize, from: *const u8) {
        let y = Shared(y.cast::<T>());
        // SAFETY: `n` elements at `y`, one at `from`; ranges are disjoint.
        unsafe {
            let value = from.cast::<T>().read_unaligned();
            let cost = size_of::<T>().div_ceil(4);
            split(ctx, n.div_ceil(64), 32 * cost, |r| {
                core::slice::from_raw_parts_mut(y.at(r.start * 64), n.min(r.end * 64) - r.start * 64).fill(value);
            });
        }
    }
    // SAFETY: the caller's contract.
    unsafe { by_size!(a.size, go(ctx, a.y, size(a.n), from)) }
    Status::Ok as i32
}
