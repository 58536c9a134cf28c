//! Microkernels of the AVX-512 tier for columns whose last vector is at most half full, such as 24 and 40: its lanes hold two steps of
//! the inner extent side by side, which saves every second of its multiply-adds.

// Indices run over several arrays of registers at once.
#![allow(clippy::needless_range_loop)]

use super::simd::{Avx512, Simd, Singles};
use super::tile::{Sums, Tile, TileFn, store};
use core::arch::x86_64::*;

/// Lanes of the first of two steps.
const EVEN: __mmask16 = 0x5555;

/// `MR` rows by `W` whole vectors and the last (`NV = W + 1`), of which every row has sums of even and of odd steps in turns. Safe as
/// [`TileFn`] says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn halves<const MR: usize, const W: usize, const NV: usize>(t: &Tile) {
    const { assert!(NV == W + 1) }
    unsafe {
        let mut sums: Sums<Avx512, MR, NV> = [[_mm512_setzero_ps(); NV]; MR];
        for i in 0..MR {
            Avx512::prefetch(t.c.wrapping_add(i * t.ldc));
        }
        let (mut b, lda, ldb) = (t.b, t.lda, t.ldb);
        for run in 0..t.runs {
            let mut a = if t.rows.is_null() { t.a } else { (*t.rows.add(run)).wrapping_add(t.skip) };
            for _ in 0..t.steps / 2 {
                let next = b.add(ldb);
                let half = |b: *const f32| _mm256_loadu_ps(b.add(16 * W));
                let (even, odd) = (spread(half(b)), spread(half(next)));
                let both = _mm512_mask_blend_ps(EVEN, odd, even);
                for j in 0..W {
                    let (first, second) = (_mm512_loadu_ps(b.add(16 * j)), _mm512_loadu_ps(next.add(16 * j)));
                    for i in 0..MR {
                        sums[i][j] = _mm512_fmadd_ps(_mm512_set1_ps(*a.add(i * lda)), first, sums[i][j]);
                    }
                    for i in 0..MR {
                        sums[i][j] = _mm512_fmadd_ps(_mm512_set1_ps(*a.add(i * lda + 1)), second, sums[i][j]);
                    }
                }
                for i in 0..MR {
                    let pair = _mm512_castpd_ps(_mm512_set1_pd(a.add(i * lda).cast::<f64>().read_unaligned()));
                    sums[i][W] = _mm512_fmadd_ps(pair, both, sums[i][W]);
                }
                a = a.add(2);
                b = next.add(ldb);
            }
            if t.steps % 2 == 1 {
                let last = spread(_mm256_loadu_ps(b.add(16 * W)));
                for i in 0..MR {
                    let x = _mm512_set1_ps(*a.add(i * lda));
                    for j in 0..W {
                        sums[i][j] = _mm512_fmadd_ps(x, _mm512_loadu_ps(b.add(16 * j)), sums[i][j]);
                    }
                    sums[i][W] = _mm512_mask3_fmadd_ps(x, last, sums[i][W], EVEN);
                }
                b = b.add(ldb);
            }
        }
        let firsts = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 0, 0, 0, 0, 0, 0, 0, 0);
        for i in 0..MR {
            let s = _mm512_add_ps(sums[i][W], _mm512_movehdup_ps(sums[i][W]));
            sums[i][W] = _mm512_permutexvar_ps(firsts, s);
        }
        store::<Avx512, Singles, MR, NV>(t, &mut sums);
    }
}

/// Each lane twice.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn spread(v: __m256) -> __m512 {
    let twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(v))
}

macro_rules! kernels {
    ($w:literal, $nv:literal, [$($r:literal)*]) => { &[$(halves::<$r, $w, $nv> as TileFn),*] };
}

/// 17 to 24 columns.
pub(super) static BESIDE_ONE: &[TileFn] = kernels!(1, 2, [1 2 3 4 5 6 7 8 9 10 11 12 13]);
/// 33 to 40 columns.
pub(super) static BESIDE_TWO: &[TileFn] = kernels!(2, 3, [1 2 3 4 5 6 7 8 9]);
