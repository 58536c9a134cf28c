//! Pooling over windows of NHWC images.

use super::{size, size_or_one, split};
use crate::epilogue::Stored;
use crate::matrix::simd::Simd;
use crate::tier::by_tier;
use graphc_abi::args::rows::{Pool2dArgs, pool as kind};
use graphc_abi::{Ctx, Status};

/// # Safety
/// `args` describes valid arrays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_pool2d_f32(ctx: *const Ctx, args: *const Pool2dArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    unsafe { pool::<false>(&*ctx, &*args) }
}

/// # Safety
/// `args` describes valid arrays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_pool2d_bf16(ctx: *const Ctx, args: *const Pool2dArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    unsafe { pool::<true>(&*ctx, &*args) }
}

/// `BF16`: the images are, though `a` says f32.
unsafe fn pool<const BF16: bool>(ctx: &Ctx, a: &Pool2dArgs) -> i32 {
    if a.stride_h < 1 || a.stride_w < 1 || a.k_h < 1 || a.k_w < 1 {
        return Status::InvalidShape as i32;
    }
    let cost = size(a.out_w) * size(a.c) * size(a.k_h) * size(a.k_w);
    // SAFETY: each row of the result is written by one thread.
    unsafe { split(ctx, size(a.n) * size(a.out_h), cost, |rows| pool_rows::<BF16>(a, rows.start, rows.end)) };
    Status::Ok as i32
}

by_tier!(fn pool_rows<const BF16: bool>(a: &Pool2dArgs, from: usize, to: usize) = pool_rows_body, matrix::simd);

/// The part of a window along one axis that is inside the image: first index, number of indices.
#[inline(always)]
fn inside(start: i64, k: i64, dilation: i64, extent: i64) -> (i64, i64) {
    let first = if start < 0 { (-start + dilation - 1) / dilation } else { 0 };
    let last = if start + (k - 1) * dilation >= extent { (extent - 1 - start).div_euclid(dilation) } else { k - 1 };
    (first, (last - first + 1).max(0))
}

#[inline(always)]
unsafe fn pool_rows_body<V: Simd, const BF16: bool>(a: &Pool2dArgs, from: usize, to: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        match a.kind {
            // As in TensorFlow, NaN is passed over and infinities stop at the lowest finite value.
            kind::MAX => windows::<V, BF16>(a, from, to, f32::MIN, |acc, x| V::max(x, acc)),
            _ => windows::<V, BF16>(a, from, to, 0.0, |acc, x| V::add(acc, x)),
        }
    }
}

#[inline(always)]
unsafe fn values<V: Simd, const BF16: bool>(p: *const f32, n: usize) -> V::V {
    unsafe {
        match n == V::LANES {
            _ if BF16 => V::load_bf16(p.cast(), n),
            true => V::load(p),
            false => V::load_n(p, n),
        }
    }
}

#[inline(always)]
unsafe fn put<V: Simd, const BF16: bool>(p: *mut f32, v: V::V, n: usize) {
    unsafe {
        match n == V::LANES {
            _ if BF16 => V::store_bf16(p.cast(), v, n),
            true => V::store(p, v),
            false => V::store_n(p, v, n),
        }
    }
}

#[inline(always)]
unsafe fn windows<V: Simd, const BF16: bool>(
    a: &Pool2dArgs,
    from: usize,
    to: usize,
    identity: f32,
    combine: impl Fn(V::V, V::V) -> V::V,
) {
    let stored = if BF16 { Stored::Bf16 } else { Stored::F32 };
    let (h, w, c) = (a.h, a.w, size(a.c));
    let (dil_h, dil_w) = (size_or_one(a.dil_h) as i64, size_or_one(a.dil_w) as i64);
    let (out_h, out_w) = (size(a.out_h), size(a.out_w));
    let row_step = dil_h as usize * w as usize * c;
    let col_step = dil_w as usize * c;
    for line in from..to {
        let (image, r) = (line / out_h, (line % out_h) as i64);
        let top = r * a.stride_h - a.pad_top;
        let (i0, rows) = inside(top, a.k_h, dil_h, h);
        for s in 0..out_w {
            let left = s as i64 * a.stride_w - a.pad_left;
            let (j0, cols) = inside(left, a.k_w, dil_w, w);
            let count = match a.kind {
                kind::AVG_WITH_PADDING => a.k_h * a.k_w,
                _ => rows * cols,
            };
            // SAFETY: the part of the window inside the image; one pixel of the result.
            unsafe {
                let factor = V::splat(count as f32);
                let origin = if rows > 0 && cols > 0 {
                    ((image as i64 * h + top + i0 * dil_h) * w + left + j0 * dil_w) as usize * c
                } else {
                    0
                };
                let x = stored.at(a.x, origin);
                let y = stored.at_mut(a.y, (line * out_w + s) * c);
                let finish = |v: V::V| if a.kind == kind::MAX { v } else { V::div(v, factor) };
                let (rows, cols) = (rows as usize, cols as usize);
                let mut k = 0;
                while c - k >= 4 * V::LANES {
                    let mut acc = [V::splat(identity); 4];
                    for i in 0..rows {
                        for j in 0..cols {
                            let p = stored.at(x, i * row_step + j * col_step + k);
                            for (l, acc) in acc.iter_mut().enumerate() {
                                *acc = combine(*acc, values::<V, BF16>(stored.at(p, l * V::LANES), V::LANES));
                            }
                        }
                    }
                    for (l, acc) in acc.into_iter().enumerate() {
                        put::<V, BF16>(stored.at_mut(y, k + l * V::LANES), finish(acc), V::LANES);
                    }
                    k += 4 * V::LANES;
                }
                while k < c {
                    let n = V::LANES.min(c - k);
                    let mut acc = V::splat(identity);
                    for i in 0..rows {
                        for j in 0..cols {
                            let p = stored.at(x, i * row_step + j * col_step + k);
                            acc = combine(acc, values::<V, BF16>(p, n));
                        }
                    }
                    put::<V, BF16>(stored.at_mut(y, k), finish(acc), n);
                    k += n;
                }
            }
        }
    }
}
