//! Copies between strided views, the core of slices, concatenations, transposes of blocks and broadcasts.

use super::{by_size, copy_bytes, eight};
use crate::rows::{Shared, size, split};
use graphc_abi::args::data::CopyStridedArgs;
use graphc_abi::{Ctx, Status};

/// One axis of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Axis {
    pub extent: usize,
    /// Strides in elements: in the source and in the result.
    pub from: isize,
    pub to: isize,
}

/// The axes of a copy from the outermost to the innermost, without those of one element, neighbours joined where both strides allow.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    axis: [Axis; 8],
    len: usize,
}

impl View {
    pub fn new(axes: impl IntoIterator<Item = Axis>) -> View {
        let mut view = View { axis: [Axis::default(); 8], len: 0 };
        for a in axes.into_iter().filter(|a| a.extent != 1) {
            if let Some(last) = view.len.checked_sub(1).map(|i| &mut view.axis[i])
                && last.from == a.extent as isize * a.from
                && last.to == a.extent as isize * a.to
            {
                *last = Axis { extent: last.extent * a.extent, ..a };
            } else {
                view.axis[view.len] = a;
                view.len += 1;
            }
        }
        view
    }
    pub fn axes(&self) -> &[Axis] {
        &self.axis[..self.len]
    }
    pub fn count(&self) -> usize {
        self.axes().iter().map(|a| a.extent).product()
    }
    /// Takes the innermost axis away; of a view without axes, one of one element.
    pub fn pop(&mut self) -> Axis {
        if self.len == 0 {
            return Axis { extent: 1, from: 0, to: 0 };
        }
        self.len -= 1;
        self.axis[self.len]
    }
    /// Takes axis `i` away.
    pub fn remove(&mut self, i: usize) -> Axis {
        let a = self.axis[i];
        self.axis.copy_within(i + 1..self.len, i);
        self.len -= 1;
        a
    }
    /// Calls `f` with the offsets in source and result of the indices `range`, counted row-major.
    #[inline(always)]
    pub fn walk(&self, range: core::ops::Range<usize>, mut f: impl FnMut(isize, isize)) {
        let mut index = [0usize; 8];
        let (mut from, mut to) = (0isize, 0isize);
        let mut rest = range.start;
        for (i, a) in self.axes().iter().enumerate().rev() {
            index[i] = rest % a.extent;
            rest /= a.extent;
            from += index[i] as isize * a.from;
            to += index[i] as isize * a.to;
        }
        for _ in range {
            f(from, to);
            for i in (0..self.len).rev() {
                let a = self.axis[i];
                index[i] += 1;
                from += a.from;
                to += a.to;
                if index[i] < a.extent {
                    break;
                }
                index[i] = 0;
                from -= a.extent as isize * a.from;
                to -= a.extent as isize * a.to;
            }
        }
    }
}

/// Elements of an inner run that one step of a copy takes.
const RUN: usize = 1 << 14;

/// Copies a view.
///
/// # Safety
/// The view describes valid, disjoint elements from `x` and `y` on, no element of the result twice.
pub(super) unsafe fn copy_view<T: Copy>(ctx: &Ctx, view: View, x: *const T, y: *mut T) {
    let mut outer = view;
    let inner = outer.pop();
    // A long run is several steps, so that threads share it.
    let steps = inner.extent.div_ceil(RUN);
    let (x, y) = (Shared(x.cast_mut()), Shared(y));
    let items = outer.count() * steps;
    let bytes = inner.extent.min(RUN) * size_of::<T>();
    // Copies are counted by eight bytes.
    let cost = if inner.from == 1 && inner.to == 1 { bytes.div_ceil(8) + 2 } else { inner.extent.min(RUN) };
    // SAFETY: by the view; `Shared` pointers are used on disjoint elements.
    unsafe {
        if steps == 1 {
            split(ctx, items, cost, |r| {
                let (x, y) = (x.get(), y.get());
                outer.walk(r, |from, to| copy_run(x.offset(from), y.offset(to), inner));
            });
        } else {
            split(ctx, items, cost, |r| {
                for step in r {
                    let first = step % steps * RUN;
                    let part = Axis { extent: RUN.min(inner.extent - first), ..inner };
                    let (x, y) = (x.get().offset(first as isize * inner.from), y.get().offset(first as isize * inner.to));
                    outer.walk(step / steps..step / steps + 1, |from, to| copy_run(x.offset(from), y.offset(to), part));
                }
            });
        }
    }
}

#[inline(always)]
unsafe fn copy_run<T: Copy>(x: *const T, y: *mut T, a: Axis) {
    // SAFETY: the caller's contract.
    unsafe {
        match (a.from, a.to) {
            (1, 1) => copy_bytes(x.cast(), y.cast(), a.extent * size_of::<T>()),
            (0, 1) => {
                let v = *x;
                (0..a.extent).for_each(|i| *y.add(i) = v);
            }
            (-1, 1) => (0..a.extent).for_each(|i| *y.add(i) = *x.sub(i)),
            (from, to) => (0..a.extent as isize).for_each(|i| *y.offset(i * to) = *x.offset(i * from)),
        }
    }
}

/// # Safety
/// `args` describes valid arrays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_copy_strided(ctx: *const Ctx, args: *const CopyStridedArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let (ctx, a) = unsafe { (&*ctx, &*args) };
    let extents = eight!(a, d0, d1, d2, d3, d4, d5, d6, d7);
    let from = eight!(a, s0, s1, s2, s3, s4, s5, s6, s7);
    let to = eight!(a, t0, t1, t2, t3, t4, t5, t6, t7);
    let rank = size(a.rank).min(8);
    let view = View::new((0..rank).map(|i| Axis { extent: size(extents[i]), from: from[i] as isize, to: to[i] as isize }));
    if view.count() == 0 {
        return Status::Ok as i32;
    }
    unsafe fn go<T: Copy>(ctx: &Ctx, a: &CopyStridedArgs, view: View) {
        // SAFETY: the caller's contract.
        unsafe { copy_view(ctx, view, a.x.cast::<T>().offset(a.x_offset as isize), a.y.cast::<T>().offset(a.y_offset as isize)) }
    }
    // SAFETY: the caller's contract.
    unsafe { by_size!(a.size, go(ctx, a, view)) }
    Status::Ok as i32
}
