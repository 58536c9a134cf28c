//! Transposes.
//!
//! After joining axes that stay neighbours, either the innermost axis stays innermost and whole runs are copied, or the innermost axes
//! of source and result differ and their plane is transposed in tiles.

use super::copy::{Axis, View, copy_view};
use super::{by_size, eight};
use crate::rows::{Shared, size, split};
use graphc_abi::args::data::TransposeArgs;
use graphc_abi::{Ctx, Status};

/// Side of the tiles that a transposed plane is cut into.
const TILE: usize = 64;

/// # Safety
/// `args` describes valid arrays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_transpose(ctx: *const Ctx, args: *const TransposeArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let (ctx, a) = unsafe { (&*ctx, &*args) };
    let rank = size(a.rank).min(8);
    let extents = eight!(a, d0, d1, d2, d3, d4, d5, d6, d7).map(size);
    let perm = eight!(a, p0, p1, p2, p3, p4, p5, p6, p7).map(size);
    if perm[..rank].iter().any(|&p| p >= rank) {
        return Status::InvalidShape as i32;
    }
    let mut from = [1isize; 8];
    for i in (0..rank.saturating_sub(1)).rev() {
        from[i] = from[i + 1] * extents[i + 1] as isize;
    }
    // In the order of the result.
    let mut axes = [Axis::default(); 8];
    let mut to = 1;
    for i in (0..rank).rev() {
        let p = perm[i];
        axes[i] = Axis { extent: extents[p], from: from[p], to };
        to *= extents[p] as isize;
    }
    let view = View::new(axes.into_iter().take(rank));
    if view.count() == 0 {
        return Status::Ok as i32;
    }
    unsafe fn go<T: Copy>(ctx: &Ctx, a: &TransposeArgs, view: View) {
        // SAFETY: the caller's contract.
        unsafe { transpose_view(ctx, view, a.x.cast::<T>(), a.y.cast::<T>()) }
    }
    // SAFETY: the caller's contract.
    unsafe { by_size!(a.size, go(ctx, a, view)) }
    Status::Ok as i32
}

/// Copies a view whose axes are a permutation of a dense tensor's, into a dense result.
unsafe fn transpose_view<T: Copy>(ctx: &Ctx, view: View, x: *const T, y: *mut T) {
    let contiguous = view.axes().iter().position(|a| a.from == 1);
    // SAFETY: the caller's contract; tiles are disjoint.
    unsafe {
        let Some(column) = contiguous.filter(|&i| i + 1 < view.axes().len()) else {
            return copy_view(ctx, view, x, y);
        };
        // The plane: `rows` runs along the source's columns, `columns` along its rows, which become the result's columns.
        let mut outer = view;
        let rows = outer.pop();
        let columns = outer.remove(column);
        let (down, across) = (rows.extent.div_ceil(TILE), columns.extent.div_ceil(TILE));
        let tiles = down * across;
        let (x, y) = (Shared(x.cast_mut()), Shared(y));
        let cost = TILE.min(rows.extent) * TILE.min(columns.extent) / 2 + 1;
        split(ctx, outer.count() * tiles, cost, |range| {
            let (x, y) = (x.get().cast_const(), y.get());
            for unit in range {
                // Tiles that follow each other share their lines of the result.
                let (r, c) = (unit % tiles % down * TILE, unit % tiles / down * TILE);
                let (height, width) = (TILE.min(rows.extent - r), TILE.min(columns.extent - c));
                outer.walk(unit / tiles..unit / tiles + 1, |from, to| {
                    let x = x.offset(from + r as isize * rows.from + c as isize);
                    let y = y.offset(to + r as isize + c as isize * columns.to);
                    tile(x, rows.from, y, columns.to, height, width);
                });
            }
        });
    }
}

/// Transposes `height` lines of `width` elements, `from` apart, into `width` lines `to` apart.
///
/// # Safety
/// All of these elements are valid.
#[inline(always)]
pub(crate) unsafe fn tile<T: Copy>(x: *const T, from: isize, y: *mut T, to: isize, height: usize, width: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if size_of::<T>() == 4 && crate::tier::tier() != crate::tier::Tier::Portable {
            return tile_of_words(x.cast(), from, y.cast(), to, height, width);
        }
        plain(x, from, y, to, height, width);
    }
}

#[inline(always)]
unsafe fn plain<T: Copy>(x: *const T, from: isize, y: *mut T, to: isize, height: usize, width: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        if height < 8 {
            for c in 0..width {
                for r in 0..height {
                    *y.offset(c as isize * to).add(r) = *x.offset(r as isize * from).add(c);
                }
            }
            return;
        }
        for c0 in (0..width).step_by(8) {
            for r in 0..height {
                for c in c0..width.min(c0 + 8) {
                    *y.offset(c as isize * to).add(r) = *x.offset(r as isize * from).add(c);
                }
            }
        }
    }
}

/// `tile` of four-byte elements, eight by eight in registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn tile_of_words(x: *const f32, from: isize, y: *mut f32, to: isize, height: usize, width: usize) {
    let (h, w) = (height - height % 8, width - width % 8);
    // SAFETY: the caller's contract.
    unsafe {
        // Sixteen by sixteen, so that whole cache lines are read at once, and lines of the result are written along.
        for c16 in (0..w).step_by(16) {
            for r16 in (0..h).step_by(16) {
                for r in (r16..h.min(r16 + 16)).step_by(8) {
                    for c in (c16..w.min(c16 + 16)).step_by(8) {
                        transpose_8x8(x.offset(r as isize * from).add(c), from, y.offset(c as isize * to).add(r), to);
                    }
                }
            }
        }
        plain(x.add(w), from, y.offset(w as isize * to), to, height, width - w);
        plain(x.offset(h as isize * from), from, y.add(h), to, height - h, w);
    }
}

/// # Safety
/// Eight lines of eight elements at `x` and at `y`.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn transpose_8x8(x: *const f32, from: isize, y: *mut f32, to: isize) {
    use core::arch::x86_64::*;
    // SAFETY: the caller's contract.
    unsafe {
        // Lines i and i + 4 side by side, so that only 4x4 blocks are left to transpose.
        let line = |i: isize, half: usize| {
            let low = _mm256_castps128_ps256(_mm_loadu_ps(x.offset(i * from).add(half)));
            _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(x.offset((i + 4) * from).add(half)))
        };
        for half in [0usize, 4] {
            let [a, b, c, d] = [line(0, half), line(1, half), line(2, half), line(3, half)];
            let (ab, ab2) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let (cd, cd2) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            let y = y.offset(half as isize * to);
            _mm256_storeu_ps(y, _mm256_shuffle_ps::<0x44>(ab, cd));
            _mm256_storeu_ps(y.offset(to), _mm256_shuffle_ps::<0xee>(ab, cd));
            _mm256_storeu_ps(y.offset(2 * to), _mm256_shuffle_ps::<0x44>(ab2, cd2));
            _mm256_storeu_ps(y.offset(3 * to), _mm256_shuffle_ps::<0xee>(ab2, cd2));
        }
    }
}
