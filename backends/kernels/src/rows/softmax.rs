//! Softmax and its logarithm over rows.

use super::{size, size_or_one, split};
use crate::math::vector::Vector;
use crate::math::{exp, log};
use crate::tier::by_tier;
use graphc_abi::args::rows::{SoftmaxArgs, SoftmaxF64Args};
use graphc_abi::{Ctx, Status};

/// # Safety
/// `args` describes valid arrays; `y` is `x` or disjoint from it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_softmax_f32(ctx: *const Ctx, args: *const SoftmaxArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let (ctx, a) = unsafe { (&*ctx, &*args) };
    // SAFETY: each range of rows is written by one thread.
    unsafe { split(ctx, size(a.rows), 8 * size(a.n), |rows| softmax_rows(a, rows.start, rows.end)) };
    Status::Ok as i32
}

by_tier!(fn softmax_rows(a: &SoftmaxArgs, from: usize, to: usize) = softmax_rows_body, math::vector);

#[inline(always)]
unsafe fn softmax_rows_body<V: Vector>(a: &SoftmaxArgs, from: usize, to: usize) {
    let n = size(a.n);
    let scale = if a.scale == 0.0 { 1.0 } else { a.scale as f32 };
    let (mid, inner) = (size_or_one(a.mask_mid), size_or_one(a.mask_inner));
    for r in from..to {
        // SAFETY: row `r` of the arrays that the arguments describe.
        unsafe {
            let (x, y) = (a.x.add(r * n), a.y.add(r * n));
            if a.mask.is_null() {
                let scale = V::set(scale);
                softmax_row::<V>(y, n, a.log != 0, |i| V::load(x.add(i)) * scale, |i, k| V::load_n(x.add(i), k) * scale);
            } else {
                let (i, j, k) = (r / inner / mid, r / inner % mid, r % inner);
                let at = i as i64 * a.mask_outer_stride + j as i64 * a.mask_mid_stride + k as i64 * a.mask_inner_stride;
                let mask = a.mask.offset(at as isize);
                let scale = V::set(scale);
                softmax_row::<V>(
                    y,
                    n,
                    a.log != 0,
                    |i| V::load(x.add(i)).mul_add(scale, V::load(mask.add(i))),
                    |i, k| V::load_n(x.add(i), k).mul_add(scale, V::load_n(mask.add(i), k)),
                );
            }
        }
    }
}

/// `exp(v - max)`, stored at `y` where `keep`. (Not a closure: those are not inlined into code of another target feature when long.)
///
/// # Safety
/// `LANES` elements at `y`.
#[inline(always)]
unsafe fn step<V: Vector>(v: V, max: V, y: *mut f32, keep: bool) -> V {
    let e = exp(v - max);
    if keep {
        // SAFETY: the caller's contract.
        unsafe { e.store(y) }
    }
    e
}

/// One row of `n` values, which `get` and, for the last `k` ones, `get_n` give. A value is asked for before its place in `y` is written.
///
/// # Safety
/// `n` elements at `y`.
#[inline(always)]
unsafe fn softmax_row<V: Vector>(y: *mut f32, n: usize, log_of: bool, get: impl Fn(usize) -> V, get_n: impl Fn(usize, usize) -> V) {
    let lanes = V::LANES;
    let (unrolled, whole) = (n - n % (4 * lanes), n - n % lanes);
    // SAFETY: indices stay below `n`.
    unsafe {
        let low = V::set(f32::NEG_INFINITY);
        let mut m = [low; 4];
        for i in (0..unrolled).step_by(4 * lanes) {
            for (j, m) in m.iter_mut().enumerate() {
                *m = get(i + j * lanes).max(*m);
            }
        }
        for i in (unrolled..whole).step_by(lanes) {
            m[0] = get(i).max(m[0]);
        }
        if whole < n {
            m[1] = get_n(whole, n - whole).keep(n - whole, low).max(m[1]);
        }
        let max = V::set(m[0].max(m[1]).max(m[2].max(m[3])).max_lane());

        let zero = V::set(0.0);
        let mut s = [zero; 4];
        for i in (0..unrolled).step_by(4 * lanes) {
            for (j, s) in s.iter_mut().enumerate() {
                *s = *s + step::<V>(get(i + j * lanes), max, y.add(i + j * lanes), !log_of);
            }
        }
        for i in (unrolled..whole).step_by(lanes) {
            s[0] = s[0] + step::<V>(get(i), max, y.add(i), !log_of);
        }
        if whole < n {
            let e = exp(get_n(whole, n - whole) - max);
            if !log_of {
                e.store_n(y.add(whole), n - whole);
            }
            s[1] = s[1] + e.keep(n - whole, zero);
        }
        let sum = V::set(((s[0] + s[1]) + (s[2] + s[3])).sum());

        if log_of {
            let log = log(sum);
            for i in (0..whole).step_by(lanes) {
                (get(i) - max - log).store(y.add(i));
            }
            if whole < n {
                (get_n(whole, n - whole) - max - log).store_n(y.add(whole), n - whole);
            }
        } else {
            let factor = V::set(1.0) / sum;
            for i in (0..whole).step_by(lanes) {
                (V::load(y.add(i)) * factor).store(y.add(i));
            }
            if whole < n {
                (V::load_n(y.add(whole), n - whole) * factor).store_n(y.add(whole), n - whole);
            }
        }
    }
}

/// # Safety
/// `args` describes valid arrays; `y` is `x` or disjoint from it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_softmax_f64(ctx: *const Ctx, args: *const SoftmaxF64Args) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let (ctx, a) = unsafe { (&*ctx, &*args) };
    let n = size(a.n);
    let row = |r: usize| {
        // SAFETY: row `r` of the arrays that the arguments describe; an element is read before its place is written.
        unsafe {
            let (x, y) = (a.x.add(r * n), a.y.add(r * n));
            let max = (0..n).fold(f64::NEG_INFINITY, |m, i| m.max(*x.add(i)));
            if a.log != 0 {
                let sum: f64 = (0..n).map(|i| libm::exp(*x.add(i) - max)).sum();
                let log = libm::log(sum);
                (0..n).for_each(|i| *y.add(i) = *x.add(i) - max - log);
            } else {
                (0..n).for_each(|i| *y.add(i) = libm::exp(*x.add(i) - max));
                let sum: f64 = (0..n).map(|i| *y.add(i)).sum();
                (0..n).for_each(|i| *y.add(i) /= sum);
            }
        }
    };
    // SAFETY: each row is written by one thread.
    unsafe { split(ctx, size(a.rows), 40 * n, |rows| rows.for_each(row)) };
    Status::Ok as i32
}
