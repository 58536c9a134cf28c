//! `gc_gemm_f32` and `gc_gemm_bf16`: a matrix times packed weights.

use super::gemv;
use super::narrow;
use super::product::{Product, Split};
use super::tile::{Micros, pairs_micro};
use crate::epilogue::{Epilogue, Stored};
use crate::pack::{pack_raw, packed_len, panels};
use core::ops::Range;
use graphc_abi::args::bf16::GemmBf16Args;
use graphc_abi::args::matrix::{GemmArgs, PackArgs};
use graphc_abi::{Ctx, Status};

/// The sizes of an argument list, `None` where one is negative.
pub(crate) fn sizes<const N: usize>(words: [i64; N]) -> Option<[usize; N]> {
    words.iter().all(|&w| w >= 0).then(|| words.map(|w| w as usize))
}

/// `x`, or `default` where it is absent.
pub(crate) fn or(x: usize, default: usize) -> usize {
    if x == 0 { default } else { x }
}

/// Computes one thread's part of a product of `m` rows.
unsafe fn part(g: &Product, m: usize, rows: Range<usize>, panels: Range<usize>, scratch: *mut f32) {
    // SAFETY: rows and panels of the caller's product.
    unsafe {
        if m <= gemv::MAX_ROWS && g.pairs.is_none() {
            return gemv::multiply(g, m, panels);
        }
        let part = Product {
            a: g.a.wrapping_add(rows.start * g.lda),
            c: g.c_at(rows.start, 0),
            epilogue: g.epilogue.at(rows.start, 0),
            ..*g
        };
        if g.pairs.is_none() && narrow::weights_len(g.n, 1, g.steps).is_some() {
            return narrow::multiply(&part, rows.len(), scratch);
        }
        part.multiply_blocked(rows.len(), panels, g.depth_blocks(m), scratch)
    }
}

/// Runs `count` products of `m` rows that `get` gives, over all threads.
///
/// # Safety
/// As [`Product::multiply`], for each product.
pub(crate) unsafe fn run(
    ctx: &Ctx,
    m: usize,
    n: usize,
    nr: usize,
    k: usize,
    count: usize,
    get: &(impl Fn(usize) -> Product + Sync),
) {
    let work = m.saturating_mul(n).saturating_mul(k.max(1));
    let split = Split::new(ctx.threads, m, panels(n, nr), work.saturating_mul(count), count);
    // SAFETY: chunks compute disjoint parts.
    unsafe {
        ctx.parallel(split.parts() * count, &|chunk, worker| {
            let g = get(chunk / split.parts());
            let (rows, panels) = split.part(chunk % split.parts());
            part(&g, m, rows, panels, ctx.scratch_of(worker).cast());
        })
    }
}

/// See [`GemmArgs`].
///
/// # Safety
/// The context and the arguments are those of the calling convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_gemm_f32(ctx: *const Ctx, args: *const GemmArgs) -> i32 {
    // SAFETY: by the contract.
    unsafe { multiply(&*ctx, &*args, None) }
}

/// See [`GemmBf16Args`].
///
/// # Safety
/// The context and the arguments are those of the calling convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_gemm_bf16(ctx: *const Ctx, args: *const GemmBf16Args) -> i32 {
    // SAFETY: by the contract.
    let (ctx, g) = unsafe { (&*ctx, &*args) };
    let lda = if g.lda == 0 { g.k } else { g.lda };
    if [g.k, lda, g.x_batch].iter().any(|v| v % 2 != 0) {
        return Status::InvalidShape as i32;
    }
    // Pairs take the place of numbers.
    let words = GemmArgs {
        x: g.x.cast(),
        w: g.w.cast(),
        y: g.y.cast(),
        m: g.m,
        n: g.n,
        k: g.k / 2,
        nr: g.nr,
        lda: lda / 2,
        ldc: g.ldc,
        batch: g.batch,
        x_batch: g.x_batch / 2,
        w_batch: g.w_batch / 2,
        y_batch: g.y_batch,
        bias: g.bias,
        bias_batch: g.bias_batch,
        residual: g.residual.cast(),
        ldr: g.ldr,
        residual_batch: g.residual_batch,
        residual_after: g.residual_after,
        act: g.act,
        act_lo: g.act_lo,
        act_hi: g.act_hi,
    };
    // SAFETY: by the contract.
    unsafe { multiply(ctx, &words, Some(Bf16::stored(g.residual_f32, g.y_f32))) }
}

/// How residual and result of a product of bf16 lie in memory.
#[derive(Clone, Copy)]
pub(crate) struct Bf16 {
    pub residual: Stored,
    pub result: Stored,
    /// The microkernels of pairs: what never multiplies them does not refer to them, and a program without bf16 is smaller.
    pub micros: Micros,
}

impl Bf16 {
    /// Factors of bf16, with residual and result of f32 where the flags say so.
    pub fn stored(residual_f32: i64, result_f32: i64) -> Bf16 {
        Bf16 { residual: stored(residual_f32), result: stored(result_f32), micros: pairs_micro }
    }
}

/// From a flag that says "f32".
fn stored(f32: i64) -> Stored {
    if f32 == 0 { Stored::Bf16 } else { Stored::F32 }
}

/// `bf16`: the factors are, in pairs that `g` counts as numbers.
unsafe fn multiply(ctx: &Ctx, g: &GemmArgs, bf16: Option<Bf16>) -> i32 {
    let Some([m, n, k, nr, lda, ldc, ldr, batch]) = sizes([g.m, g.n, g.k, g.nr, g.lda, g.ldc, g.ldr, g.batch]) else {
        return Status::InvalidShape as i32;
    };
    let ldr = or(ldr, n);
    let epilogue = Epilogue::new(g.bias, g.residual, ldr, g.residual_after, g.act, g.act_lo, g.act_hi);
    let Some(epilogue) = epilogue.filter(|_| crate::pack::PANEL_WIDTHS.contains(&nr)) else {
        return Status::InvalidShape as i32;
    };
    let epilogue = epilogue.of_bf16(bf16);
    if m == 0 || n == 0 {
        return Status::Ok as i32;
    }
    let (lda, ldc, batch) = (or(lda, k), or(ldc, n), or(batch, 1));
    let shift = |p: *const f32, s: Stored, by: i64| if p.is_null() { p } else { s.at(p, by as usize) };
    // SAFETY: by the contract.
    unsafe {
        run(ctx, m, n, nr, k, batch, &|i| {
            let i = i as i64;
            Product {
                a: shift(g.x, Stored::F32, i * g.x_batch),
                lda,
                table: core::ptr::null(),
                even_rows: false,
                runs: 1,
                steps: k,
                b: shift(g.w, Stored::F32, i * g.w_batch),
                nr,
                ldb: nr,
                panel_stride: k * nr,
                c: epilogue.stored.at_mut(g.y, (i * g.y_batch) as usize),
                ldc,
                n,
                accumulate: false,
                last: true,
                pairs: bf16.map(|b| b.micros),
                epilogue: Epilogue {
                    bias: shift(g.bias, Stored::F32, i * g.bias_batch),
                    residual: shift(g.residual, epilogue.residual_stored, i * g.residual_batch),
                    ..epilogue
                },
            }
        })
    }
    Status::Ok as i32
}

/// See [`PackArgs`].
///
/// # Safety
/// The context and the arguments are those of the calling convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_pack_f32(ctx: *const Ctx, args: *const PackArgs) -> i32 {
    // SAFETY: by the contract.
    let (ctx, g) = unsafe { (&*ctx, &*args) };
    let Some([k, n, nr, batch]) = sizes([g.k, g.n, g.nr, g.batch]) else {
        return Status::InvalidShape as i32;
    };
    if nr == 0 {
        return Status::InvalidShape as i32;
    }
    let (count, batch) = (panels(n, nr), or(batch, 1));
    let group = (16_384usize).div_ceil((k * nr).max(1));
    let groups = count.div_ceil(group);
    // SAFETY: chunks write distinct panels.
    unsafe {
        ctx.parallel(groups * batch, &|chunk, _| {
            let (b, first) = ((chunk / groups) as i64, chunk % groups * group);
            let src = g.src.wrapping_offset((b * g.src_batch) as isize);
            let dst = g.dst.wrapping_offset((b * g.dst_batch) as isize).wrapping_add(packed_len(k, first * nr, nr));
            pack_raw(dst, src, k, n, g.src_row as isize, g.src_col as isize, nr, first..(first + group).min(count), 1.0);
        })
    }
    Status::Ok as i32
}
