//! Products of element types without microkernels: f64, i32 and i64.

use super::gemm::{or, sizes};
use graphc_abi::args::matrix::{MatmulF64Args, MatmulI32Args, MatmulI64Args};
use graphc_abi::{Ctx, Status};

/// Columns of `c` that are summed at a time, in registers or the first-level cache.
const COLS: usize = 64;
/// Rows of `c` that share the reading of `b`.
const ROWS: usize = 4;

macro_rules! matmul {
    ($name:ident, $args:ident, $t:ty, $zero:literal, |$sum:ident, $x:ident, $y:ident| $fma:expr) => {
        /// See the arguments' documentation.
        ///
        /// # Safety
        /// The context and the arguments are those of the calling convention.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(ctx: *const Ctx, args: *const $args) -> i32 {
            #[inline(always)]
            unsafe fn block(g: &$args, a: *const $t, b: *const $t, c: *mut $t, rows: usize, cols: usize) {
                unsafe {
                    let mut sums = [[$zero as $t; COLS]; ROWS];
                    for k in 0..g.k as isize {
                        let b = b.offset(k * g.b_row as isize);
                        let mut line = [$zero as $t; COLS];
                        if g.b_col == 1 {
                            core::ptr::copy_nonoverlapping(b, line.as_mut_ptr(), cols);
                        } else {
                            for (j, v) in line.iter_mut().enumerate().take(cols) {
                                *v = *b.offset(j as isize * g.b_col as isize);
                            }
                        }
                        for (i, sums) in sums.iter_mut().enumerate().take(rows) {
                            let $x = *a.offset(i as isize * g.a_row as isize + k * g.a_col as isize);
                            for ($sum, $y) in sums.iter_mut().zip(line) {
                                *$sum = $fma;
                            }
                        }
                    }
                    for (i, sums) in sums.iter().enumerate().take(rows) {
                        for (j, v) in sums.iter().enumerate().take(cols) {
                            *c.offset(i as isize * g.c_row as isize + j as isize * g.c_col as isize) = *v;
                        }
                    }
                }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn block_avx2(g: &$args, a: *const $t, b: *const $t, c: *mut $t, rows: usize, cols: usize) {
                unsafe { block(g, a, b, c, rows, cols) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            unsafe fn block_avx512(g: &$args, a: *const $t, b: *const $t, c: *mut $t, rows: usize, cols: usize) {
                unsafe { block(g, a, b, c, rows, cols) }
            }
            // SAFETY: by the contract.
            let (ctx, g) = unsafe { (&*ctx, &*args) };
            let Some([m, n, _, b0, b1, b2]) = sizes([g.m, g.n, g.k, g.batch0, g.batch1, g.batch2]) else {
                return Status::InvalidShape as i32;
            };
            let [b0, b1, b2] = [b0, b1, b2].map(|b| or(b, 1));
            let (down, across) = (m.div_ceil(ROWS), n.div_ceil(COLS));
            let blocks = down * across;
            // A chunk is a column of blocks where these are few, so that `b` is read from the cache.
            let per_chunk = down.clamp(1, 64);
            let total = blocks * b0 * b1 * b2;
            let tier = crate::tier::tier();
            // SAFETY: chunks compute disjoint blocks, each within the operands.
            unsafe {
                ctx.parallel(total.div_ceil(per_chunk), &|chunk, _| {
                    for i in chunk * per_chunk..((chunk + 1) * per_chunk).min(total) {
                        let (batch, i) = (i / blocks, i % blocks);
                        let (i0, i1, i2) = ((batch / b2 / b1) as i64, (batch / b2 % b1) as i64, (batch % b2) as i64);
                        let (row, col) = ((i % down * ROWS) as i64, (i / down * COLS) as i64);
                        let a = g.a.offset((i0 * g.a_batch0 + i1 * g.a_batch1 + i2 * g.a_batch2 + row * g.a_row) as isize);
                        let b = g.b.offset((i0 * g.b_batch0 + i1 * g.b_batch1 + i2 * g.b_batch2 + col * g.b_col) as isize);
                        let c = i0 * g.c_batch0 + i1 * g.c_batch1 + i2 * g.c_batch2 + row * g.c_row + col * g.c_col;
                        let c = g.c.offset(c as isize);
                        let (rows, cols) = (ROWS.min(m - row as usize), COLS.min(n - col as usize));
                        #[cfg(target_arch = "x86_64")]
                        match tier {
                            crate::tier::Tier::Avx512 => block_avx512(g, a, b, c, rows, cols),
                            crate::tier::Tier::Avx2 => block_avx2(g, a, b, c, rows, cols),
                            _ => block(g, a, b, c, rows, cols),
                        }
                        #[cfg(not(target_arch = "x86_64"))]
                        block(g, a, b, c, rows, cols);
                    }
                })
            }
            let _ = tier;
            Status::Ok as i32
        }
    };
}

matmul!(gc_matmul_f64, MatmulF64Args, f64, 0.0, |sum, x, y| *sum + x * y);
matmul!(gc_matmul_i32, MatmulI32Args, i32, 0, |sum, x, y| sum.wrapping_add(x.wrapping_mul(y)));
matmul!(gc_matmul_i64, MatmulI64Args, i64, 0, |sum, x, y| sum.wrapping_add(x.wrapping_mul(y)));
