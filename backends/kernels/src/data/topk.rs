//! The largest elements of rows, and sorting.
//!
//! The results themselves are the heap of the best `k` so far, its root the worst of them; it is sorted in place at the end.

use super::number::{Number, by_number};
use crate::rows::{Shared, size, split};
use core::cmp::Ordering;
use graphc_abi::args::data::TopKArgs;
use graphc_abi::{Ctx, Status};

/// # Safety
/// `args` describes valid arrays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_topk(ctx: *const Ctx, args: *const TopKArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let (ctx, a) = unsafe { (&*ctx, &*args) };
    if a.k > a.n {
        return Status::InvalidShape as i32;
    }
    // SAFETY: the caller's contract.
    unsafe { by_number!(a.elem, rows(ctx, a)) }
    Status::Ok as i32
}

unsafe fn rows<T: Number>(ctx: &Ctx, a: &TopKArgs) {
    // SAFETY: the caller's contract.
    unsafe {
        match a.index_bytes {
            2 => rows_indexed::<T, u16>(ctx, a),
            8 => rows_indexed::<T, u64>(ctx, a),
            _ => rows_indexed::<T, u32>(ctx, a),
        }
    }
}

/// An integer that holds a position in a row.
trait Index: Copy + Ord + 'static {
    fn of(i: usize) -> Self;
}
impl Index for u16 {
    fn of(i: usize) -> u16 {
        i as u16
    }
}
impl Index for u32 {
    fn of(i: usize) -> u32 {
        i as u32
    }
}
impl Index for u64 {
    fn of(i: usize) -> u64 {
        i as u64
    }
}

unsafe fn rows_indexed<T: Number, I: Index>(ctx: &Ctx, a: &TopKArgs) {
    let (n, k) = (size(a.n), size(a.k));
    let x = Shared(a.x.cast::<T>().cast_mut());
    let (values, indices) = (Shared(a.values.cast::<T>()), Shared(a.indices.cast::<I>()));
    let row = |r: usize| {
        // SAFETY: row `r` of the arrays.
        unsafe {
            let x = core::slice::from_raw_parts(x.at(r * n).cast_const(), n);
            let values = core::slice::from_raw_parts_mut(values.at(r * k), k);
            let indices = core::slice::from_raw_parts_mut(indices.at(r * k), k);
            if a.ascending != 0 {
                best(x, Heap { values, indices, better: |a: T, b: T| b.order(a) });
            } else {
                best(x, Heap { values, indices, better: |a: T, b: T| a.order(b) });
            }
        }
    };
    // SAFETY: rows are disjoint.
    unsafe { split(ctx, size(a.rows), 2 * n + 8 * k, |r| r.for_each(row)) }
}

/// A heap with the worst element at the root.
struct Heap<'a, T, I, F> {
    values: &'a mut [T],
    indices: &'a mut [I],
    /// `Greater` where the first value is better.
    better: F,
}

impl<T: Copy, I: Index, F: Fn(T, T) -> Ordering> Heap<'_, T, I, F> {
    /// True where element `a` is to come after element `b`.
    #[inline(always)]
    fn worse(&self, a: (T, I), b: (T, I)) -> bool {
        (self.better)(a.0, b.0).reverse().then(a.1.cmp(&b.1)) == Ordering::Greater
    }
    #[inline(always)]
    fn at(&self, i: usize) -> (T, I) {
        (self.values[i], self.indices[i])
    }
    #[inline(always)]
    fn put(&mut self, i: usize, e: (T, I)) {
        (self.values[i], self.indices[i]) = e;
    }
    /// Puts `e` at place `i` of a heap of `len` or below it.
    #[inline(always)]
    fn sift(&mut self, mut i: usize, len: usize, e: (T, I)) {
        loop {
            let mut child = 2 * i + 1;
            if child >= len {
                break;
            }
            if child + 1 < len && self.worse(self.at(child + 1), self.at(child)) {
                child += 1;
            }
            if !self.worse(self.at(child), e) {
                break;
            }
            let up = self.at(child);
            self.put(i, up);
            i = child;
        }
        self.put(i, e);
    }
}

fn best<T: Copy, I: Index, F: Fn(T, T) -> Ordering>(x: &[T], mut heap: Heap<T, I, F>) {
    let k = heap.values.len().min(heap.indices.len());
    if k == 0 {
        return;
    }
    for (i, &v) in x.iter().enumerate().take(k) {
        heap.put(i, (v, I::of(i)));
    }
    for i in (0..k / 2).rev() {
        let e = heap.at(i);
        heap.sift(i, k, e);
    }
    for (i, &v) in x.iter().enumerate().skip(k) {
        // A later element must be better, not equal.
        if (heap.better)(v, heap.values[0]) == Ordering::Greater {
            heap.sift(0, k, (v, I::of(i)));
        }
    }
    for len in (1..k).rev() {
        let (worst, last) = (heap.at(0), heap.at(len));
        heap.put(len, worst);
        heap.sift(0, len, last);
    }
}
