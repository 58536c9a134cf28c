//! `gc_gemm_f32`, `gc_gemm_bf16` and `gc_gemm_i8`: a matrix times packed weights.

use super::gemv;
use super::narrow;
use super::product::{Product, Split};
use super::simd::Numbers;
use super::tile::Factors;
use crate::epilogue::{Epilogue, Steps, Stored};
use crate::pack::{pack_raw, packed_len, panels};
use core::ops::Range;
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
        if m <= gemv::MAX_ROWS && g.factors.numbers == Numbers::F32 {
            return gemv::multiply(g, m, panels);
        }
        let part = Product {
            a: g.a.wrapping_add(rows.start * g.lda),
            c: g.c_at(rows.start, 0),
            epilogue: g.epilogue.at(rows.start, 0),
            ..*g
        };
        if g.factors.numbers == Numbers::F32 && narrow::weights_len(g.n, 1, g.steps).is_some() {
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
    let split = Split::new(ctx.threads, [m, n, k], nr, count);
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
    unsafe { multiply(&*ctx, &*args, Factors::F32) }
}

/// See [`GemmArgs`].
///
/// # Safety
/// The context and the arguments are those of the calling convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_gemm_bf16(ctx: *const Ctx, args: *const GemmArgs) -> i32 {
    // SAFETY: by the contract.
    unsafe { multiply_words(&*ctx, &*args, Factors::BF16) }
}

/// See [`GemmArgs`].
///
/// # Safety
/// The context and the arguments are those of the calling convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_gemm_i8(ctx: *const Ctx, args: *const GemmArgs) -> i32 {
    // SAFETY: by the contract.
    unsafe { multiply_words(&*ctx, &*args, Factors::I8) }
}

/// The epilogue that the arguments of a product of `numbers` say; `None` if they are not valid.
macro_rules! epilogue_of {
    ($g:expr, $ldr:expr, $numbers:expr) => {{
        let (g, numbers): (_, Numbers) = ($g, $numbers);
        let stored = |f32: i64| match numbers {
            Numbers::Bf16 if f32 == 0 => Stored::Bf16,
            _ => Stored::F32,
        };
        Epilogue::new(g.bias, g.residual, $ldr, g.residual_after, g.act, g.act_lo, g.act_hi).and_then(|e| {
            let e = e.stored(stored(g.residual_f32), stored(g.y_f32));
            if numbers != Numbers::I8 {
                return Some(e);
            }
            let (rate, zero, lo, hi) = (g.y_rate as f32, g.y_zero as f32, g.y_lo as f32, g.y_hi as f32);
            let stored = if g.y_f32 == 0 { Stored::U8 } else { Stored::F32 };
            let valid = !g.scale.is_null() && !g.shift.is_null() && (g.y_f32 != 0 || (0.0 <= lo && lo <= hi && hi <= 255.0));
            let steps = Steps { rate, zero, lo, hi, half_up: g.y_half_up != 0 };
            valid.then_some(Epilogue { scale: g.scale, shift: g.shift, steps, stored, ..e })
        })
    }};
}
pub(crate) use epilogue_of;

/// A product whose factors lie in words of several numbers.
unsafe fn multiply_words(ctx: &Ctx, g: &GemmArgs, factors: Factors) -> i32 {
    let count = factors.numbers.per_word() as i64;
    let lda = if g.lda == 0 { g.k } else { g.lda };
    if [g.k, lda, g.x_batch, g.w_batch].iter().any(|v| v % count != 0) {
        return Status::InvalidShape as i32;
    }
    let words = GemmArgs { k: g.k / count, lda: lda / count, x_batch: g.x_batch / count, w_batch: g.w_batch / count, ..*g };
    // SAFETY: by the contract.
    unsafe { multiply(ctx, &words, factors) }
}

/// Products that have their weights in common, with the longer of `m` and `batch` as the rows: few rows read weights as often as many.
fn by_longer(g: &GemmArgs, sizes: [usize; 5]) -> GemmArgs {
    let [lda, ldc, ldr, m, batch] = sizes.map(|v| v as i64);
    let apart = g.x_batch > 0 && g.y_batch > 0 && (g.residual.is_null() || g.residual_batch > 0);
    if batch <= m || g.w_batch != 0 || g.bias_batch != 0 || !apart {
        return GemmArgs { m, batch, lda, ldc, ldr, ..*g };
    }
    GemmArgs {
        m: batch,
        batch: m,
        lda: g.x_batch,
        x_batch: lda,
        ldc: g.y_batch,
        y_batch: ldc,
        ldr: g.residual_batch,
        residual_batch: ldr,
        ..*g
    }
}

/// `g` counts words of the factors.
unsafe fn multiply(ctx: &Ctx, g: &GemmArgs, factors: Factors) -> i32 {
    let Some([m, n, k, nr, lda, ldc, ldr, batch]) = sizes([g.m, g.n, g.k, g.nr, g.lda, g.ldc, g.ldr, g.batch]) else {
        return Status::InvalidShape as i32;
    };
    if !crate::pack::PANEL_WIDTHS.contains(&nr) {
        return Status::InvalidShape as i32;
    }
    let (lda, ldc, ldr, batch) = (or(lda, k), or(ldc, n), or(ldr, n), or(batch, 1));
    let g = &by_longer(g, [lda, ldc, ldr, m, batch]);
    let [m, batch, lda, ldc] = [g.m, g.batch, g.lda, g.ldc].map(|v| v as usize);
    let Some(epilogue) = epilogue_of!(g, g.ldr as usize, factors.numbers) else { return Status::InvalidShape as i32 };
    if m == 0 || n == 0 {
        return Status::Ok as i32;
    }
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
                factors,
                epilogue: Epilogue {
                    bias: shift(g.bias, Stored::F32, i * g.bias_batch),
                    residual: shift(g.residual, epilogue.residual_stored, i * g.residual_batch),
                    scale: g.scale,
                    shift: g.shift,
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
