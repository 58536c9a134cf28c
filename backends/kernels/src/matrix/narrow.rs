//! Products with few columns: vectors run along the inner extent, not along the columns.
//!
//! A panel's columns would leave most lanes of every vector idle. Instead the weights of each column are gathered once, run by run,
//! and a block of rows and columns accumulates vectors that are summed at the end.

// Indices run over several arrays of registers at once.
#![allow(clippy::needless_range_loop)]

use super::product::{Product, row_tiles};
use super::simd::{Portable, Simd};
use crate::epilogue::{Epilogue, finish_rows};
#[allow(unused_imports)] // Some architectures have one tier.
use crate::tier::{Tier, tier};
use core::ptr::null;

/// Most columns.
pub const MAX_COLS: usize = 8;
/// Rows of a tile of the pointer table.
pub const TILE_ROWS: usize = 24;
/// Most floats of gathered weights.
pub const MAX_WEIGHTS: usize = 64 << 10;
/// Shortest run.
const MIN_STEPS: usize = 24;

/// Floats of the gathered weights, where a product of these extents is worth it.
pub fn weights_len(n: usize, runs: usize, steps: usize) -> Option<usize> {
    let len = runs.checked_mul(n)?.checked_mul(steps.next_multiple_of(16))?;
    (n <= MAX_COLS && steps >= MIN_STEPS && len <= MAX_WEIGHTS).then_some(len)
}

/// Sums of rows: pointers `[runs][stride]`, extents, weights `[runs][J][steps up to 16]`, results `[P][J]`. Safe where those are valid and
/// the processor has the tier's instructions; so for `sums`, which is inlined.
type SumsFn = unsafe fn(*const *const f32, usize, usize, usize, *const f32, *mut f32);

#[inline(always)]
unsafe fn sums<S: Simd, const P: usize, const J: usize>(
    rows: *const *const f32,
    stride: usize,
    runs: usize,
    steps: usize,
    mut w: *const f32,
    out: *mut f32,
) {
    unsafe {
        let padded = steps.next_multiple_of(16);
        let mut acc = [[S::zero(); J]; P];
        for run in 0..runs {
            let mut x = [null::<f32>(); P];
            for (p, x) in x.iter_mut().enumerate() {
                *x = *rows.add(run * stride + p);
            }
            let mut q = 0;
            while q + S::LANES <= steps {
                let mut v = [S::zero(); P];
                for p in 0..P {
                    v[p] = S::load(x[p].add(q));
                }
                for j in 0..J {
                    let wv = S::load(w.add(j * padded + q));
                    for p in 0..P {
                        acc[p][j] = S::fma(v[p], wv, acc[p][j]);
                    }
                }
                q += S::LANES;
            }
            if q < steps {
                for p in 0..P {
                    let v = S::load_n(x[p].add(q), steps - q);
                    for j in 0..J {
                        acc[p][j] = S::fma(v, S::load(w.add(j * padded + q)), acc[p][j]);
                    }
                }
            }
            w = w.add(J * padded);
        }
        for p in 0..P {
            for j in 0..J {
                *out.add(p * J + j) = S::sum(acc[p][j]);
            }
        }
    }
}

unsafe fn portable<const P: usize, const J: usize>(x: *const *const f32, l: usize, r: usize, s: usize, w: *const f32, o: *mut f32) {
    unsafe { sums::<Portable, P, J>(x, l, r, s, w, o) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const P: usize, const J: usize>(x: *const *const f32, l: usize, r: usize, s: usize, w: *const f32, o: *mut f32) {
    unsafe { sums::<super::simd::Avx2, P, J>(x, l, r, s, w, o) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn avx512<const P: usize, const J: usize>(x: *const *const f32, l: usize, r: usize, s: usize, w: *const f32, o: *mut f32) {
    unsafe { sums::<super::simd::Avx512, P, J>(x, l, r, s, w, o) }
}

#[cfg(target_arch = "aarch64")]
unsafe fn neon<const P: usize, const J: usize>(x: *const *const f32, l: usize, r: usize, s: usize, w: *const f32, o: *mut f32) {
    unsafe { sums::<super::simd::Neon, P, J>(x, l, r, s, w, o) }
}

/// Rows of a block, its function, and that for one row.
type Kernel = (usize, SumsFn, SumsFn);

/// The kernels of a tier for 1 to 8 columns, with the given numbers of rows.
macro_rules! kernels {
    ($f:ident, [$($j:literal: $p:literal),*]) => { [$(($p, $f::<$p, $j> as SumsFn, $f::<1, $j> as SumsFn)),*] };
}

static PORTABLE: [Kernel; MAX_COLS] = kernels!(portable, [1: 8, 2: 4, 3: 3, 4: 2, 5: 1, 6: 1, 7: 1, 8: 1]);
#[cfg(target_arch = "x86_64")]
static AVX2: [Kernel; MAX_COLS] = kernels!(avx2, [1: 8, 2: 4, 3: 3, 4: 2, 5: 1, 6: 1, 7: 1, 8: 1]);
#[cfg(target_arch = "x86_64")]
static AVX512: [Kernel; MAX_COLS] = kernels!(avx512, [1: 8, 2: 8, 3: 6, 4: 6, 5: 4, 6: 4, 7: 3, 8: 3]);
#[cfg(target_arch = "aarch64")]
static NEON: [Kernel; MAX_COLS] = kernels!(neon, [1: 8, 2: 8, 3: 6, 4: 6, 5: 4, 6: 4, 7: 3, 8: 3]);

/// Computes rows `0..m` of a product that accumulates nothing; a table holds tiles of [`row_tiles`] of at most [`TILE_ROWS`].
///
/// # Safety
/// As [`Product::multiply`]; [`weights_len`] admits the product, and `scratch` has room for so many floats.
pub unsafe fn multiply(g: &Product, m: usize, scratch: *mut f32) {
    let n = g.n;
    let kernels = match tier() {
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512 => &AVX512,
        #[cfg(target_arch = "x86_64")]
        Tier::Avx2 => &AVX2,
        #[cfg(target_arch = "aarch64")]
        Tier::Neon => &NEON,
        _ => &PORTABLE,
    };
    let (block, many, one) = kernels[n - 1];
    // Bias goes to the sums, so that rows without gaps can pass the epilogue as one.
    let dense = g.ldc == n && (g.epilogue.residual.is_null() || g.epilogue.ldr == n);
    let mut sums = [0f32; TILE_ROWS * MAX_COLS];
    let mut direct = [null::<f32>(); TILE_ROWS];
    // SAFETY: by the contract; a tile has at most `TILE_ROWS` rows.
    unsafe {
        gather(g, scratch);
        let mut table = g.table;
        for (row, rows) in row_tiles(m, TILE_ROWS) {
            let pointers = if g.table.is_null() {
                for (i, p) in direct.iter_mut().enumerate().take(rows) {
                    *p = g.a.wrapping_add((row + i) * g.lda);
                }
                direct.as_ptr()
            } else {
                table
            };
            table = table.wrapping_add(rows * g.runs);
            let mut i = 0;
            while i < rows {
                let (kernel, count) = if rows - i >= block { (many, block) } else { (one, 1) };
                kernel(pointers.add(i), rows, g.runs, g.steps, scratch, sums.as_mut_ptr().add(i * n));
                i += count;
            }
            if !g.epilogue.bias.is_null() {
                for sums in sums[..rows * n].chunks_exact_mut(n) {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        *sum += *g.epilogue.bias.add(j);
                    }
                }
            }
            let epilogue = Epilogue { bias: null(), ..g.epilogue.at(row, 0) };
            let (rows, cols) = if dense { (1, rows * n) } else { (rows, n) };
            finish_rows(&epilogue, sums.as_ptr(), n, rows, cols, g.c.add(row * g.ldc), g.ldc);
        }
    }
}

/// The weights of each run and column, zeros up to a whole vector.
unsafe fn gather(g: &Product, to: *mut f32) {
    let padded = g.steps.next_multiple_of(16);
    for run in 0..g.runs {
        for j in 0..g.n {
            for q in 0..padded {
                // SAFETY: element `[run * steps + q, j]` of the only panel; room by the contract.
                unsafe {
                    let w = if q < g.steps { *g.b.add((run * g.steps + q) * g.ldb + j) } else { 0.0 };
                    *to.add((run * g.n + j) * padded + q) = w;
                }
            }
        }
    }
}
