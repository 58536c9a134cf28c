//! `gc_matmul_f32`: products whose operands both come from memory as they are.
//!
//! Blocks of `b` are packed into scratch, of `a` only where its rows are not contiguous. With a few rows packing would cost as much
//! as the product, so there whole panels of a row-major `b` are read in place, and columns of a transposed one multiplied one by one.

use super::dot::dots;
use super::gemm::{or, sizes};
use super::gemv;
use super::product::{Product, Split, row_tiles};
use super::tile::{Factors, micro};
use crate::epilogue::{Epilogue, finish_rows};
use crate::pack::{pack_raw, panel_width, panels};
use core::ops::Range;
use core::ptr::null;
use graphc_abi::args::matrix::MatmulArgs;
use graphc_abi::{Ctx, Status};

/// Most rows for which `b` is not packed.
const FEW_ROWS: usize = 4;
/// Floats of scratch for packed `b`, packed `a`, and sums that may not lie in `c` yet.
const B_LEN: usize = 256 << 10;
const A_LEN: usize = 96 << 10;
const C_LEN: usize = 96 << 10;
const _: () = assert!(4 * (B_LEN + A_LEN + C_LEN) <= graphc_abi::SCRATCH_BYTES);
/// Floats of a packed panel above which the inner extent is divided.
const PANEL_LEN: usize = 100 << 10;

/// One product of the batch.
struct Matmul {
    a: *const f32,
    a_row: isize,
    a_col: isize,
    b: *const f32,
    b_row: isize,
    b_col: isize,
    c: *mut f32,
    c_row: isize,
    c_col: isize,
    n: usize,
    k: usize,
    nr: usize,
    alpha: f32,
    epilogue: Epilogue,
}

/// See [`MatmulArgs`].
///
/// # Safety
/// The context and the arguments are those of the calling convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_matmul_f32(ctx: *const Ctx, args: *const MatmulArgs) -> i32 {
    // SAFETY: by the contract.
    let (ctx, g) = unsafe { (&*ctx, &*args) };
    let Some([m, n, k, r_row, b0, b1, b2]) = sizes([g.m, g.n, g.k, g.r_row, g.batch0, g.batch1, g.batch2]) else {
        return Status::InvalidShape as i32;
    };
    let Some(epilogue) = Epilogue::new(g.bias, g.residual, r_row, g.residual_after, g.act, g.act_lo, g.act_hi) else {
        return Status::InvalidShape as i32;
    };
    if m == 0 || n == 0 {
        return Status::Ok as i32;
    }
    let g = &collapse(g, [or(b0, 1), or(b1, 1), or(b2, 1)]);
    let m = g.m as usize;
    let (b1, b2) = (g.batch1 as usize, g.batch2 as usize);
    let count = g.batch0 as usize * b1 * b2;
    let nr = panel_width(Some(m), n, k);
    let work = m.saturating_mul(n).saturating_mul(k.max(1)).saturating_mul(count);
    let split = Split::by_panels(ctx.threads, m, panels(n, nr), work, count);
    // SAFETY: chunks compute disjoint parts; each worker has its own scratch.
    unsafe {
        ctx.parallel(split.parts() * count, &|chunk, worker| {
            let i = chunk / split.parts();
            let at = [(i / b2 / b1) as i64, (i / b2 % b1) as i64, (i % b2) as i64];
            let offset = |s: [i64; 3]| (at[0] * s[0] + at[1] * s[1] + at[2] * s[2]) as isize;
            let residual = g.residual.wrapping_offset(offset([g.r_batch0, g.r_batch1, g.r_batch2]));
            let (rows, panels) = split.part(chunk % split.parts());
            let matmul = Matmul {
                a: g.a.wrapping_offset(offset([g.a_batch0, g.a_batch1, g.a_batch2]) + rows.start as isize * g.a_row as isize),
                a_row: g.a_row as isize,
                a_col: g.a_col as isize,
                b: g.b.wrapping_offset(offset([g.b_batch0, g.b_batch1, g.b_batch2])),
                b_row: g.b_row as isize,
                b_col: g.b_col as isize,
                c: g.c.wrapping_offset(offset([g.c_batch0, g.c_batch1, g.c_batch2]) + rows.start as isize * g.c_row as isize),
                c_row: g.c_row as isize,
                c_col: g.c_col as isize,
                n,
                k,
                nr,
                alpha: if g.alpha == 0.0 { 1.0 } else { g.alpha as f32 },
                epilogue: epilogue.with_residual(if g.residual.is_null() { null() } else { residual }).at(rows.start, 0),
            };
            matmul.part(rows.len(), panels, ctx.scratch_of(worker).cast());
        })
    }
    Status::Ok as i32
}

/// Batch axes over which `b` repeats become rows of `a` where the strides allow it. Extents of 0 become 1.
fn collapse(g: &MatmulArgs, batch: [usize; 3]) -> MatmulArgs {
    let mut g = MatmulArgs { batch0: batch[0] as i64, batch1: batch[1] as i64, batch2: batch[2] as i64, ..*g };
    let rows = |extent: i64, a: i64, b: i64, c: i64, r: i64, g: &MatmulArgs| {
        let residual = g.residual.is_null() || r == g.m * g.r_row;
        (extent > 1 && b == 0 && a == g.m * g.a_row && c == g.m * g.c_row && residual).then_some(g.m * extent)
    };
    if let Some(m) = rows(g.batch2, g.a_batch2, g.b_batch2, g.c_batch2, g.r_batch2, &g) {
        (g.m, g.batch2) = (m, 1);
    }
    if let (1, Some(m)) = (g.batch2, rows(g.batch1, g.a_batch1, g.b_batch1, g.c_batch1, g.r_batch1, &g)) {
        (g.m, g.batch1) = (m, 1);
    }
    if let (1, 1, Some(m)) = (g.batch1, g.batch2, rows(g.batch0, g.a_batch0, g.b_batch0, g.c_batch0, g.r_batch0, &g)) {
        (g.m, g.batch0) = (m, 1);
    }
    g
}

impl Matmul {
    /// Computes rows `0..m` of the panels.
    unsafe fn part(&self, m: usize, panels: Range<usize>, scratch: *mut f32) {
        if m <= FEW_ROWS && self.b_row == 1 && self.b_col != 1 && self.a_col == 1 && self.c_col == 1 {
            // SAFETY: by the contract.
            return unsafe { self.by_dots(m, panels) };
        }
        let in_place = m <= FEW_ROWS && self.b_col == 1 && self.a_col == 1 && self.c_col == 1 && self.alpha == 1.0;
        let (in_place, packed) = if in_place && self.b_row > 0 && self.a_row >= 0 && self.c_row >= 0 {
            let whole = (self.n / self.nr).clamp(panels.start, panels.end);
            (panels.start..whole, whole..panels.end)
        } else {
            (0..0, panels)
        };
        // SAFETY: parts of the caller's product.
        unsafe {
            if !in_place.is_empty() {
                let product = Product { b: self.b, ldb: self.b_row as usize, panel_stride: self.nr, ..self.product() };
                if m <= gemv::MAX_ROWS {
                    gemv::multiply(&product, m, in_place);
                } else {
                    product.multiply(m, in_place);
                }
            }
            if !packed.is_empty() {
                self.packed(m, packed, scratch);
            }
        }
    }

    /// The panels' columns as scalar products with the columns of `b`, which are contiguous.
    unsafe fn by_dots(&self, m: usize, panels: Range<usize>) {
        let mut sums = [0f32; 64];
        for p in panels {
            let col = p * self.nr;
            let cols = self.nr.min(self.n - col);
            for i in 0..m {
                // SAFETY: rows of `a` and `c`, columns of `b`; a panel is at most as wide as `sums`.
                unsafe {
                    let a = self.a.offset(i as isize * self.a_row);
                    let b = self.b.offset(col as isize * self.b_col);
                    dots(a, b, self.b_col, self.k, cols, self.alpha, sums.as_mut_ptr());
                    let c = self.c.offset(i as isize * self.c_row).add(col);
                    finish_rows(&self.epilogue.at(i, col), sums.as_ptr(), cols, 1, cols, c, cols);
                }
            }
        }
    }

    /// The product of the whole inner extent, `a` and `c` in place.
    fn product(&self) -> Product {
        Product {
            a: self.a,
            lda: self.a_row as usize,
            table: null(),
            even_rows: false,
            runs: 1,
            steps: self.k,
            b: null(),
            nr: self.nr,
            ldb: self.nr,
            panel_stride: 0,
            c: self.c,
            ldc: self.c_row as usize,
            n: self.n,
            accumulate: false,
            last: true,
            factors: Factors::F32,
            epilogue: self.epilogue,
        }
    }

    unsafe fn packed(&self, m: usize, panels: Range<usize>, scratch: *mut f32) {
        let (k, nr) = (self.k, self.nr);
        let depth_parts = (k * nr).div_ceil(PANEL_LEN).max(1);
        let depth = k.div_ceil(depth_parts).max(1);
        // Sums stay out of `c` until they are complete where `c` cannot hold them or holds the residual too.
        let aside = self.c_col != 1 || self.c_row < 0 || (depth_parts > 1 && core::ptr::eq(self.epilogue.residual, self.c));
        let copy_a = self.a_col != 1 || self.a_row < 0;
        let group = (B_LEN / (depth * nr))
            .min(panels.len())
            .min(if aside { C_LEN / (nr * micro(nr).max_rows()) } else { usize::MAX })
            .max(1);
        let mut block = m;
        if copy_a {
            block = block.min(A_LEN / depth);
        } else if 4 * m * depth > 640 << 10 {
            block = block.min((160 << 10) / depth);
        }
        if aside {
            block = block.min(C_LEN / (group * nr));
        }
        let block = block.max(1);
        let (b, a, c) = (scratch, scratch.wrapping_add(B_LEN), scratch.wrapping_add(B_LEN + A_LEN));
        for first in panels.clone().step_by(group) {
            let count = group.min(panels.end - first);
            // Where the sums lie aside, a block of rows is finished before the next one starts.
            let outer = if aside { block } else { m };
            for (row0, rows0) in row_tiles(m, outer) {
                for part in 0..depth_parts {
                    let (k0, k1) = (k * part / depth_parts, k * (part + 1) / depth_parts);
                    // SAFETY: this block of `b` fits into its scratch by the choice of `group`.
                    unsafe {
                        if row0 == 0 || depth_parts > 1 {
                            let src = self.b.offset(k0 as isize * self.b_row + (first * nr) as isize * self.b_col);
                            pack_raw(b, src, k1 - k0, self.n - first * nr, self.b_row, self.b_col, nr, 0..count, self.alpha);
                        }
                    }
                    for (row, rows) in row_tiles(rows0, block) {
                        let row = row0 + row;
                        let mut product = Product {
                            a: self.a.wrapping_offset(row as isize * self.a_row + k0 as isize * self.a_col),
                            steps: k1 - k0,
                            b,
                            panel_stride: (k1 - k0) * nr,
                            n: self.n - first * nr,
                            accumulate: part > 0,
                            last: part + 1 == depth_parts,
                            epilogue: self.epilogue.at(row, first * nr),
                            ..self.product()
                        };
                        // SAFETY: the blocks of `a` and `c` fit into their scratch by the choice of `block`.
                        unsafe {
                            if copy_a {
                                self.copy_a(product.a, rows, k1 - k0, a);
                                (product.a, product.lda) = (a, k1 - k0);
                            }
                            let cols = (count * nr).min(product.n);
                            let dst = self.c.wrapping_offset(row as isize * self.c_row + (first * nr) as isize * self.c_col);
                            if aside {
                                let last = product.last;
                                (product.c, product.ldc, product.last) = (c, count * nr, false);
                                product.multiply(rows, 0..count);
                                if last {
                                    finish_rows(&product.epilogue, c, product.ldc, rows, cols, c, product.ldc);
                                    self.scatter(c, product.ldc, rows, cols, dst);
                                }
                            } else {
                                product.c = dst;
                                product.multiply(rows, 0..count);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Rows of `a` made contiguous.
    unsafe fn copy_a(&self, src: *const f32, rows: usize, depth: usize, dst: *mut f32) {
        const BLOCK: usize = 16;
        for k0 in (0..depth).step_by(BLOCK) {
            for i in 0..rows {
                for k in k0..(k0 + BLOCK).min(depth) {
                    // SAFETY: element `[i, k]` on both sides.
                    unsafe { *dst.add(i * depth + k) = *src.offset(i as isize * self.a_row + k as isize * self.a_col) };
                }
            }
        }
    }

    unsafe fn scatter(&self, src: *const f32, lds: usize, rows: usize, cols: usize, dst: *mut f32) {
        for i in 0..rows {
            for j in 0..cols {
                // SAFETY: element `[i, j]` on both sides.
                unsafe { *dst.offset(i as isize * self.c_row + j as isize * self.c_col) = *src.add(i * lds + j) };
            }
        }
    }
}
