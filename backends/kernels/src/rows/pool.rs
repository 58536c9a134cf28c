//! Pooling over windows of NHWC images.

use super::{size, size_or_one, split};
use crate::math::vector::{Vector, by_tier};
use graphc_abi::args::rows::{Pool2dArgs, pool as kind};
use graphc_abi::{Ctx, Status};

/// # Safety
/// `args` describes valid arrays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_pool2d_f32(ctx: *const Ctx, args: *const Pool2dArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let (ctx, a) = unsafe { (&*ctx, &*args) };
    if a.stride_h < 1 || a.stride_w < 1 || a.k_h < 1 || a.k_w < 1 {
        return Status::InvalidShape as i32;
    }
    let cost = size(a.out_w) * size(a.c) * size(a.k_h) * size(a.k_w);
    // SAFETY: each row of the result is written by one thread.
    unsafe { split(ctx, size(a.n) * size(a.out_h), cost, |rows| pool_rows(a, rows.start, rows.end)) };
    Status::Ok as i32
}

by_tier!(fn pool_rows(a: &Pool2dArgs, from: usize, to: usize) = pool_rows_body);

/// The part of a window along one axis that is inside the image: first index, number of indices.
#[inline(always)]
fn inside(start: i64, k: i64, dilation: i64, extent: i64) -> (i64, i64) {
    let first = if start < 0 { (-start + dilation - 1) / dilation } else { 0 };
    let last = if start + (k - 1) * dilation >= extent { (extent - 1 - start).div_euclid(dilation) } else { k - 1 };
    (first, (last - first + 1).max(0))
}

#[inline(always)]
unsafe fn pool_rows_body<V: Vector>(a: &Pool2dArgs, from: usize, to: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        match a.kind {
            // As in TensorFlow, NaN is passed over and infinities stop at the lowest finite value.
            kind::MAX => windows::<V>(a, from, to, f32::MIN, |acc, x| x.max(acc)),
            _ => windows::<V>(a, from, to, 0.0, |acc, x| acc + x),
        }
    }
}

#[inline(always)]
unsafe fn windows<V: Vector>(a: &Pool2dArgs, from: usize, to: usize, identity: f32, combine: impl Fn(V, V) -> V) {
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
                let factor = V::set(count as f32);
                let origin = if rows > 0 && cols > 0 {
                    ((image as i64 * h + top + i0 * dil_h) * w + left + j0 * dil_w) as usize * c
                } else {
                    0
                };
                let x = a.x.add(origin);
                let y = a.y.add((line * out_w + s) * c);
                let finish = |v: V| if a.kind == kind::MAX { v } else { v / factor };
                let (rows, cols) = (rows as usize, cols as usize);
                let mut k = 0;
                while c - k >= 4 * V::LANES {
                    let mut acc = [V::set(identity); 4];
                    for i in 0..rows {
                        for j in 0..cols {
                            let p = x.add(i * row_step + j * col_step + k);
                            for (l, acc) in acc.iter_mut().enumerate() {
                                *acc = combine(*acc, V::load(p.add(l * V::LANES)));
                            }
                        }
                    }
                    for (l, acc) in acc.into_iter().enumerate() {
                        finish(acc).store(y.add(k + l * V::LANES));
                    }
                    k += 4 * V::LANES;
                }
                while k < c {
                    let n = V::LANES.min(c - k);
                    let mut acc = V::set(identity);
                    for i in 0..rows {
                        for j in 0..cols {
                            let p = x.add(i * row_step + j * col_step + k);
                            acc = combine(acc, if n == V::LANES { V::load(p) } else { V::load_n(p, n) });
                        }
                    }
                    if n == V::LANES {
                        finish(acc).store(y.add(k))
                    } else {
                        finish(acc).store_n(y.add(k), n)
                    }
                    k += n;
                }
            }
        }
    }
}
