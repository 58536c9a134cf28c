//! Indices of the elements that are not zero.

use super::eight;
use super::number::bytes;
use crate::rows::size;
use graphc_abi::args::data::{WhereArgs, elem};
use graphc_abi::{Ctx, Status};

/// # Safety
/// `args` describes valid arrays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_where(_ctx: *const Ctx, args: *const WhereArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let a = unsafe { &*args };
    let extents = eight!(a, d0, d1, d2, d3, d4, d5, d6, d7).map(size);
    let rank = size(a.rank).min(8);
    // A float is zero where all bits but the sign are.
    let count = match (a.elem, bytes(a.elem)) {
        (_, 0) => return Status::InvalidShape as i32,
        // SAFETY: the caller's contract.
        (elem::F16 | elem::BF16, _) => unsafe { find(a, &extents[..rank], |i| a.x.cast::<u16>().add(i).read() << 1 != 0) },
        (elem::F32, _) => unsafe { find(a, &extents[..rank], |i| a.x.cast::<u32>().add(i).read() << 1 != 0) },
        (elem::F64, _) => unsafe { find(a, &extents[..rank], |i| a.x.cast::<u64>().add(i).read() << 1 != 0) },
        (elem::C64, _) => unsafe { find(a, &extents[..rank], |i| a.x.cast::<[f32; 2]>().add(i).read() != [0.0; 2]) },
        (elem::C128, _) => unsafe { find(a, &extents[..rank], |i| a.x.cast::<[f64; 2]>().add(i).read() != [0.0; 2]) },
        (_, 1) => unsafe { find(a, &extents[..rank], |i| a.x.add(i).read() != 0) },
        (_, 2) => unsafe { find(a, &extents[..rank], |i| a.x.cast::<u16>().add(i).read() != 0) },
        (_, 4) => unsafe { find(a, &extents[..rank], |i| a.x.cast::<u32>().add(i).read() != 0) },
        _ => unsafe { find(a, &extents[..rank], |i| a.x.cast::<u64>().add(i).read() != 0) },
    };
    // SAFETY: `count` holds one number.
    unsafe { *a.count = count as i64 };
    Status::Ok as i32
}

#[inline(always)]
unsafe fn find(a: &WhereArgs, extents: &[usize], set: impl Fn(usize) -> bool) -> usize {
    let total = extents.iter().product();
    let (rank, mut found) = (extents.len(), 0);
    for i in (0..total).filter(|&i| set(i)) {
        let mut rest = i;
        for (axis, &extent) in extents.iter().enumerate().rev() {
            // SAFETY: there is a row of the result for each element.
            unsafe { *a.y.add(found * rank + axis) = (rest % extent) as i64 };
            rest /= extent;
        }
        found += 1;
    }
    found
}
