//! Layer normalisation and root-mean-square normalisation over rows.

use super::{size, split};
use crate::math::vector::Vector;
use crate::tier::by_tier;
use graphc_abi::args::rows::LayerNormArgs;
use graphc_abi::{Ctx, Status};

/// # Safety
/// `args` describes valid arrays; `y` and `sum` may be `x` or `residual` and overlap nothing otherwise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_layer_norm_f32(ctx: *const Ctx, args: *const LayerNormArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let (ctx, a) = unsafe { (&*ctx, &*args) };
    // SAFETY: each range of rows is written by one thread.
    unsafe { split(ctx, size(a.rows), 4 * size(a.n), |rows| norm_rows(a, rows.start, rows.end)) };
    Status::Ok as i32
}

by_tier!(fn norm_rows(a: &LayerNormArgs, from: usize, to: usize) = norm_rows_body, math::vector);

#[inline(always)]
unsafe fn norm_rows_body<V: Vector>(a: &LayerNormArgs, from: usize, to: usize) {
    let n = size(a.n);
    let whole = n - n % V::LANES;
    for r in from..to {
        // SAFETY: row `r` of the arrays that the arguments describe, indices below `n`.
        unsafe {
            let mut v = a.x.add(r * n);
            let y = a.y.add(r * n);
            if !a.residual.is_null() {
                let residual = a.residual.add(r * n);
                let kept = if a.sum.is_null() { y } else { a.sum.add(r * n) };
                for i in (0..whole).step_by(V::LANES) {
                    (V::load(v.add(i)) + V::load(residual.add(i))).store(kept.add(i));
                }
                if whole < n {
                    let k = n - whole;
                    (V::load_n(v.add(whole), k) + V::load_n(residual.add(whole), k)).store_n(kept.add(whole), k);
                }
                v = kept;
            } else if !a.sum.is_null() && !core::ptr::eq(a.sum, a.x) {
                core::ptr::copy_nonoverlapping(v, a.sum.add(r * n), n);
            }
            let zero = V::set(0.0);
            let mean = if a.rms != 0 { 0.0 } else { total::<V>(v, n, |x| x) / n as f32 };
            let center = V::set(mean);
            let variance = total::<V>(v, n, |x| (x - center) * (x - center)) / n as f32;
            let factor = V::set(1.0 / libm::sqrtf(variance + a.eps as f32));
            let one = V::set(1.0);
            let load = |p: *const f32, i: usize, k: usize, absent: V| match (p.is_null(), k == V::LANES) {
                (true, _) => absent,
                (false, true) => V::load(p.add(i)),
                (false, false) => V::load_n(p.add(i), k),
            };
            let normal = |i: usize, k: usize| {
                let (gamma, beta) = (load(a.gamma, i, k, one), load(a.beta, i, k, zero));
                ((load(v, i, k, zero) - center) * factor).mul_add(gamma, beta)
            };
            for i in (0..whole).step_by(V::LANES) {
                normal(i, V::LANES).store(y.add(i));
            }
            if whole < n {
                normal(whole, n - whole).store_n(y.add(whole), n - whole);
            }
        }
    }
}

/// Sum of `f` of `n` elements.
///
/// # Safety
/// `n` elements at `x`.
#[inline(always)]
unsafe fn total<V: Vector>(x: *const f32, n: usize, f: impl Fn(V) -> V) -> f32 {
    let lanes = V::LANES;
    let (unrolled, whole) = (n - n % (4 * lanes), n - n % lanes);
    // SAFETY: indices stay below `n`.
    unsafe {
        let zero = V::set(0.0);
        let mut s = [zero; 4];
        for i in (0..unrolled).step_by(4 * lanes) {
            for (j, s) in s.iter_mut().enumerate() {
                *s = *s + f(V::load(x.add(i + j * lanes)));
            }
        }
        for i in (unrolled..whole).step_by(lanes) {
            s[0] = s[0] + f(V::load(x.add(i)));
        }
        if whole < n {
            s[1] = s[1] + f(V::load_n(x.add(whole), n - whole)).keep(n - whole, zero);
        }
        ((s[0] + s[1]) + (s[2] + s[3])).sum()
    }
}
