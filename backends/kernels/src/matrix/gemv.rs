//! One or two rows times packed panels: bound by reading the weights.

// Indices run over several arrays of registers at once.
#![allow(clippy::needless_range_loop)]

use super::product::Product;
use super::simd::{Portable, Simd};
use crate::epilogue::finish_rows;
#[allow(unused_imports)] // Some architectures have one tier.
use crate::tier::{Tier, tier};
use core::ops::Range;

/// Most rows that [`multiply`] takes.
pub const MAX_ROWS: usize = 2;

/// Sums of `MR` rows and `NV` vectors over `steps`, in `U` chains each, to `out[MR][NV * LANES]`. Inlined into functions of a tier;
/// safe where those elements are valid.
#[inline(always)]
unsafe fn sums<S: Simd, const MR: usize, const NV: usize, const U: usize>(
    a: *const f32,
    lda: usize,
    b: *const f32,
    ldb: usize,
    steps: usize,
    out: *mut f32,
) {
    /// Floats that the prefetch runs ahead; weights lie in reading order.
    const AHEAD: usize = 1024;
    unsafe {
        let mut acc = [[[S::zero(); NV]; MR]; U];
        let mut k = 0;
        while k + U <= steps {
            for u in 0..U {
                let row = b.add((k + u) * ldb);
                for j in 0..NV {
                    S::prefetch(row.wrapping_add(AHEAD + j * S::LANES));
                }
                let mut bv = [S::zero(); NV];
                for j in 0..NV {
                    bv[j] = S::load(row.add(j * S::LANES));
                }
                for i in 0..MR {
                    let av = S::splat(*a.add(i * lda + k + u));
                    for j in 0..NV {
                        acc[u][i][j] = S::fma(av, bv[j], acc[u][i][j]);
                    }
                }
            }
            k += U;
        }
        while k < steps {
            for i in 0..MR {
                let av = S::splat(*a.add(i * lda + k));
                for j in 0..NV {
                    acc[0][i][j] = S::fma(av, S::load(b.add(k * ldb + j * S::LANES)), acc[0][i][j]);
                }
            }
            k += 1;
        }
        for i in 0..MR {
            for j in 0..NV {
                let mut t = acc[0][i][j];
                for chain in &acc[1..] {
                    t = S::add(t, chain[i][j]);
                }
                S::store(out.add((i * NV + j) * S::LANES), t);
            }
        }
    }
}

type SumsFn = unsafe fn(*const f32, usize, *const f32, usize, usize, *mut f32);

unsafe fn portable<const MR: usize, const NV: usize, const U: usize>(
    a: *const f32,
    la: usize,
    b: *const f32,
    lb: usize,
    k: usize,
    o: *mut f32,
) {
    unsafe { sums::<Portable, MR, NV, U>(a, la, b, lb, k, o) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const MR: usize, const NV: usize, const U: usize>(
    a: *const f32,
    la: usize,
    b: *const f32,
    lb: usize,
    k: usize,
    o: *mut f32,
) {
    unsafe { sums::<super::simd::Avx2, MR, NV, U>(a, la, b, lb, k, o) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn avx512<const MR: usize, const NV: usize, const U: usize>(
    a: *const f32,
    la: usize,
    b: *const f32,
    lb: usize,
    k: usize,
    o: *mut f32,
) {
    unsafe { sums::<super::simd::Avx512, MR, NV, U>(a, la, b, lb, k, o) }
}

#[cfg(target_arch = "aarch64")]
unsafe fn neon<const MR: usize, const NV: usize, const U: usize>(
    a: *const f32,
    la: usize,
    b: *const f32,
    lb: usize,
    k: usize,
    o: *mut f32,
) {
    unsafe { sums::<super::simd::Neon, MR, NV, U>(a, la, b, lb, k, o) }
}

/// Columns of a call, and the functions for one and for two rows.
fn kernels(nr: usize) -> (usize, [SumsFn; MAX_ROWS]) {
    match (tier(), nr) {
        #[cfg(target_arch = "x86_64")]
        (Tier::Avx512, 64) => (64, [avx512::<1, 4, 2>, avx512::<2, 4, 1>]),
        #[cfg(target_arch = "x86_64")]
        (Tier::Avx512, 48) => (48, [avx512::<1, 3, 3>, avx512::<2, 3, 2>]),
        #[cfg(target_arch = "x86_64")]
        (Tier::Avx512, 32) => (32, [avx512::<1, 2, 4>, avx512::<2, 2, 2>]),
        #[cfg(target_arch = "x86_64")]
        (Tier::Avx512, _) => (16, [avx512::<1, 1, 8>, avx512::<2, 1, 4>]),
        #[cfg(target_arch = "x86_64")]
        (Tier::Avx2, _) => (16, [avx2::<1, 2, 4>, avx2::<2, 2, 2>]),
        #[cfg(target_arch = "aarch64")]
        (Tier::Neon, _) => (16, [neon::<1, 4, 4>, neon::<2, 4, 2>]),
        _ => (16, [portable::<1, 4, 2>, portable::<2, 4, 1>]),
    }
}

/// Computes rows `0..m`, `m` at most [`MAX_ROWS`], of the panels of a direct product that accumulates nothing.
///
/// # Safety
/// As [`Product::multiply`].
pub unsafe fn multiply(g: &Product, m: usize, panels: Range<usize>) {
    #[repr(align(64))]
    struct Out([f32; MAX_ROWS * 64]);
    let (width, kernels) = kernels(g.nr);
    let mut out = Out([0.0; MAX_ROWS * 64]);
    for p in panels {
        let columns = g.nr.min(g.n - p * g.nr);
        for sub in (0..columns).step_by(width) {
            let b = g.b.wrapping_add(p * g.panel_stride + sub);
            let col = p * g.nr + sub;
            // SAFETY: a panel of the caller's product.
            unsafe {
                kernels[m - 1](g.a, g.lda, b, g.ldb, g.steps, out.0.as_mut_ptr());
                finish_rows(&g.epilogue.at(0, col), out.0.as_ptr(), width, m, width.min(columns - sub), g.c.add(col), g.ldc);
            }
        }
    }
}
