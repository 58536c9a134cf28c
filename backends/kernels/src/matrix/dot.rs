//! Scalar products of one row with many: what a product with few rows and a transposed right operand is made of.

use super::simd::Simd;
use crate::tier::by_tier;

/// Rows of `b` at a time.
const J: usize = 4;

#[inline(always)]
unsafe fn dots_of<S: Simd>(a: *const f32, b: *const f32, ldb: isize, k: usize, n: usize, scale: f32, out: *mut f32) {
    unsafe {
        let mut j = 0;
        while j < n {
            let count = J.min(n - j);
            // Rows past the end repeat the last one.
            let mut rows = [b; J];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = b.offset((j + i.min(count - 1)) as isize * ldb);
            }
            let mut acc = [[S::zero(); 2]; J];
            let mut q = 0;
            while q + 2 * S::LANES <= k {
                let (a0, a1) = (S::load(a.add(q)), S::load(a.add(q + S::LANES)));
                for (acc, row) in acc.iter_mut().zip(rows) {
                    acc[0] = S::fma(a0, S::load(row.add(q)), acc[0]);
                    acc[1] = S::fma(a1, S::load(row.add(q + S::LANES)), acc[1]);
                }
                q += 2 * S::LANES;
            }
            while q < k {
                let rest = S::LANES.min(k - q);
                let a0 = S::load_n(a.add(q), rest);
                for (acc, row) in acc.iter_mut().zip(rows) {
                    acc[0] = S::fma(a0, S::load_n(row.add(q), rest), acc[0]);
                }
                q += rest;
            }
            for (i, acc) in acc.iter().enumerate().take(count) {
                *out.add(j + i) = scale * S::sum(S::add(acc[0], acc[1]));
            }
            j += count;
        }
    }
}

by_tier!(
    /// `out[j] = scale * sum(a[i] * b[j * ldb + i])` for `i < k` and `j < n`.
    ///
    /// # Safety
    /// `a` holds `k` values, `out` has room for `n`, and each row of `b` holds `k`.
    pub fn dots(a: *const f32, b: *const f32, ldb: isize, k: usize, n: usize, scale: f32, out: *mut f32) = dots_of, matrix::simd
);
