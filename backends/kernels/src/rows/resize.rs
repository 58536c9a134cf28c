//! Resizing of NHWC images as TensorFlow computes it.

use super::{Shared, size, split};
use crate::data::copy_bytes;
use crate::math::vector::Vector;
use crate::tier::by_tier;
use graphc_abi::args::rows::{ResizeBilinearArgs, ResizeNearestArgs};
use graphc_abi::{Ctx, Status};

/// Source pixels for a result's pixel, along one axis of `from` pixels stretched to `to`.
fn scale(from: usize, to: usize, align_corners: bool) -> f32 {
    if align_corners && to > 1 { (from - 1) as f32 / (to - 1) as f32 } else { from as f32 / to as f32 }
}

/// The two source pixels that result pixel `i` lies between, and the weight of the second.
#[inline(always)]
fn between(i: usize, from: usize, scale: f32, half_pixel: bool) -> (usize, usize, f32) {
    let at = if half_pixel { (i as f32 + 0.5) * scale - 0.5 } else { i as f32 * scale };
    let floor = libm::floorf(at);
    let lower = (floor.max(0.0) as usize).min(from - 1);
    let upper = (libm::ceilf(at).max(0.0) as usize).min(from - 1);
    (lower, upper, at - floor)
}

/// # Safety
/// `args` describes valid arrays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_resize_bilinear_f32(ctx: *const Ctx, args: *const ResizeBilinearArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let (ctx, a) = unsafe { (&*ctx, &*args) };
    let lines = size(a.n) * size(a.out_h);
    if lines == 0 || size(a.out_w) == 0 || size(a.c) == 0 {
        return Status::Ok as i32;
    }
    if a.h < 1 || a.w < 1 {
        return Status::InvalidShape as i32;
    }
    // SAFETY: each row of the result is written by one thread.
    unsafe { split(ctx, lines, 4 * size(a.out_w) * size(a.c), |rows| bilinear_rows(a, rows.start, rows.end)) };
    Status::Ok as i32
}

/// The value between four corners: upper left, upper right, lower left, lower right.
#[inline(always)]
fn mix<V: Vector>([a, b, c, d]: [V; 4], dx: V, dy: V) -> V {
    let (upper, lower) = (a + (b - a) * dx, c + (d - c) * dx);
    upper + (lower - upper) * dy
}

by_tier!(fn bilinear_rows(a: &ResizeBilinearArgs, from: usize, to: usize) = bilinear_rows_body, math::vector);

#[inline(always)]
unsafe fn bilinear_rows_body<V: Vector>(a: &ResizeBilinearArgs, from: usize, to: usize) {
    let (h, w, c) = (size(a.h), size(a.w), size(a.c));
    let (out_h, out_w) = (size(a.out_h), size(a.out_w));
    let (align, half) = (a.align_corners != 0, a.half_pixel_centers != 0);
    let (scale_h, scale_w) = (scale(h, out_h, align), scale(w, out_w, align));
    for line in from..to {
        let (image, r) = (line / out_h, line % out_h);
        let (top, bottom, dy) = between(r, h, scale_h, half);
        // SAFETY: rows and columns below the extents.
        unsafe {
            let x0 = a.x.add((image * h + top) * w * c);
            let x1 = a.x.add((image * h + bottom) * w * c);
            for s in 0..out_w {
                let (left, right, dx) = between(s, w, scale_w, half);
                let y = a.y.add((line * out_w + s) * c);
                let corners = [x0.add(left * c), x0.add(right * c), x1.add(left * c), x1.add(right * c)];
                if c < 4 {
                    for k in 0..c {
                        let [a, b, c, d] = corners.map(|p| *p.add(k));
                        let (upper, lower) = (a + (b - a) * dx, c + (d - c) * dx);
                        *y.add(k) = upper + (lower - upper) * dy;
                    }
                    continue;
                }
                let (dx, dy) = (V::set(dx), V::set(dy));
                let whole = c - c % V::LANES;
                for k in (0..whole).step_by(V::LANES) {
                    mix(corners.map(|p| V::load(p.add(k))), dx, dy).store(y.add(k));
                }
                if whole < c {
                    mix(corners.map(|p| V::load_n(p.add(whole), c - whole)), dx, dy).store_n(y.add(whole), c - whole);
                }
            }
        }
    }
}

/// The source pixel for result pixel `i`.
#[inline(always)]
fn nearest(i: usize, from: usize, scale: f32, align_corners: bool, half_pixel: bool) -> usize {
    let at = if half_pixel { (i as f32 + 0.5) * scale } else { i as f32 * scale };
    let at = if align_corners { libm::roundf(at) } else { libm::floorf(at) };
    (at.max(0.0) as usize).min(from - 1)
}

/// # Safety
/// `args` describes valid arrays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_resize_nearest(ctx: *const Ctx, args: *const ResizeNearestArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let (ctx, a) = unsafe { (&*ctx, &*args) };
    let (h, w, out_h, out_w) = (size(a.h), size(a.w), size(a.out_h), size(a.out_w));
    let pixel = size(a.c) * size(a.size);
    let lines = size(a.n) * out_h;
    if lines == 0 || out_w == 0 || pixel == 0 {
        return Status::Ok as i32;
    }
    if a.h < 1 || a.w < 1 {
        return Status::InvalidShape as i32;
    }
    let (align, half) = (a.align_corners != 0, a.half_pixel_centers != 0);
    let (scale_h, scale_w) = (scale(h, out_h, align), scale(w, out_w, align));
    let (x, y) = (Shared(a.x.cast_mut()), Shared(a.y));
    let line = |line: usize| {
        let (image, r) = (line / out_h, line % out_h);
        // SAFETY: rows and columns below the extents.
        unsafe {
            let x = x.at((image * h + nearest(r, h, scale_h, align, half)) * w * pixel);
            for s in 0..out_w {
                copy_bytes(x.add(nearest(s, w, scale_w, align, half) * pixel), y.at((line * out_w + s) * pixel), pixel);
            }
        }
    };
    // SAFETY: each row of the result is written by one thread.
    unsafe { split(ctx, lines, out_w * pixel.div_ceil(4), |r| r.for_each(line)) };
    Status::Ok as i32
}
