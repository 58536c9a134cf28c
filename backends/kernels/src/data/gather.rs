//! Gathers of slices by index.

use super::{by_size, copy_bytes, eight};
use crate::rows::{Shared, size, split};
use graphc_abi::args::data::{GatherArgs, GatherNdArgs, outside};
use graphc_abi::{Ctx, Status};

/// An array of indices of four or eight bytes.
#[derive(Clone, Copy)]
pub(super) struct Indices {
    at: *const u8,
    wide: bool,
}

// SAFETY: only read.
unsafe impl Sync for Indices {}
// SAFETY: only read.
unsafe impl Send for Indices {}

impl Indices {
    /// `bytes`: 4, or 8 and 0 for eight.
    pub fn new(at: *const u8, bytes: i64) -> Indices {
        Indices { at, wide: bytes != 4 }
    }
    /// # Safety
    /// Index `i` exists.
    #[inline(always)]
    pub unsafe fn get(&self, i: usize) -> i64 {
        // SAFETY: the caller's contract.
        unsafe {
            if self.wide {
                self.at.cast::<i64>().add(i).read_unaligned()
            } else {
                self.at.cast::<i32>().add(i).read_unaligned() as i64
            }
        }
    }
}

/// Records an index outside its axis.
///
/// # Safety
/// `ctx.error` is null or valid.
#[cold]
pub(super) unsafe fn out_of_range(ctx: &Ctx, value: i64, bound: usize) -> i32 {
    if !ctx.error.is_null() {
        // SAFETY: by contract.
        unsafe {
            (*ctx.error).value = value;
            (*ctx.error).bound = bound as i64;
        }
    }
    Status::IndexOutOfRange as i32
}

/// # Safety
/// `args` describes valid arrays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_gather(ctx: *const Ctx, args: *const GatherArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let (ctx, a) = unsafe { (&*ctx, &*args) };
    let (batch, outer, axis, count) = (size(a.batch), size(a.outer), size(a.axis), size(a.count));
    let indices = Indices::new(a.indices, a.index_bytes);
    if a.outside == outside::FAIL {
        for i in 0..batch * count {
            // SAFETY: `batch * count` indices.
            let v = unsafe { indices.get(i) };
            // Negative indices are large as `usize`.
            if v as usize >= axis {
                // SAFETY: the caller's contract.
                return unsafe { out_of_range(ctx, v, axis) };
            }
        }
    }
    let slice = size(a.inner) * size(a.size);
    unsafe fn go<T: Copy>(ctx: &Ctx, a: &GatherArgs, indices: Indices, outer: usize, axis: usize, count: usize, slice: usize) {
        let (x, y) = (Shared(a.x.cast_mut()), Shared(a.y));
        // SAFETY: indices are below `axis` or skipped; items write disjoint slices.
        unsafe {
            split(ctx, size(a.batch) * outer * count, slice / 8 + 4, |range| {
                let mut item = range.start;
                while item < range.end {
                    // Items of one line of `x`.
                    let (line, first) = (item / count, item % count);
                    let run = (count - first).min(range.end - item);
                    let (x, indices_at) = (x.at(line * axis * slice), line / outer * count + first);
                    for i in 0..run {
                        let (v, to) = (indices.get(indices_at + i) as usize, y.at((item + i) * slice));
                        if v >= axis {
                            core::ptr::write_bytes(to, 0, slice);
                        } else if slice == size_of::<T>() {
                            to.cast::<T>().write_unaligned(x.cast::<T>().add(v).read_unaligned());
                        } else {
                            copy_bytes(x.add(v * slice), to, slice);
                        }
                    }
                    item += run;
                }
            });
        }
    }
    // SAFETY: the caller's contract.
    unsafe { by_size!(a.size, go(ctx, a, indices, outer, axis, count, slice)) }
    Status::Ok as i32
}

/// Index tuples, and the extents that they point into.
#[derive(Clone, Copy)]
pub(super) struct Tuples {
    pub indices: Indices,
    pub depth: usize,
    pub extents: [usize; 8],
}

impl Tuples {
    /// Number of the slice that tuple `i` names, or the index that is outside and its bound.
    ///
    /// # Safety
    /// Tuple `i` exists.
    #[inline(always)]
    pub unsafe fn slice(&self, i: usize) -> Result<usize, (i64, usize)> {
        let mut at = 0;
        for (j, &extent) in self.extents[..self.depth].iter().enumerate() {
            // SAFETY: the caller's contract.
            let v = unsafe { self.indices.get(i * self.depth + j) };
            if v as usize >= extent {
                return Err((v, extent));
            }
            at = at * extent + v as usize;
        }
        Ok(at)
    }

    /// Fails where one of `count` tuples is outside.
    ///
    /// # Safety
    /// `count` tuples exist; `ctx.error` is null or valid.
    pub unsafe fn check(&self, ctx: &Ctx, count: usize) -> Result<(), i32> {
        for i in 0..count {
            // SAFETY: the caller's contract.
            unsafe { self.slice(i).map_err(|(value, bound)| out_of_range(ctx, value, bound))? };
        }
        Ok(())
    }
}

/// # Safety
/// `args` describes valid arrays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_gather_nd(ctx: *const Ctx, args: *const GatherNdArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let (ctx, a) = unsafe { (&*ctx, &*args) };
    let extents = eight!(a, d0, d1, d2, d3, d4, d5, d6, d7).map(size);
    let tuples = Tuples { indices: Indices::new(a.indices, a.index_bytes), depth: size(a.depth).min(8), extents };
    let count = size(a.count);
    if a.outside == outside::FAIL {
        // SAFETY: the caller's contract.
        if let Err(status) = unsafe { tuples.check(ctx, count) } {
            return status;
        }
    }
    let slice = size(a.inner) * size(a.size);
    let (x, y) = (Shared(a.x.cast_mut()), Shared(a.y));
    // SAFETY: slices lie within `x`; items write disjoint slices.
    unsafe {
        split(ctx, count, slice / 8 + 4 * tuples.depth, |range| {
            for i in range {
                match tuples.slice(i) {
                    Ok(s) => copy_bytes(x.at(s * slice), y.at(i * slice), slice),
                    Err(_) => core::ptr::write_bytes(y.at(i * slice), 0, slice),
                }
            }
        });
    }
    Status::Ok as i32
}
