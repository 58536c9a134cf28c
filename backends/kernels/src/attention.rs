//! `gc_attention_f32`: the scores of a few query rows at a time stay in the first-level cache.
//!
//! Keys are packed transposed and scaled, values as they are, per head and as many as scratch holds; with a few query rows both are
//! read in place. Where that is not all of them,
//! each row keeps its running maximum and sum, and the output is rescaled when a later block raises the maximum.

use crate::epilogue::{Epilogue, exp};
use crate::matrix::dot::dots;
use crate::matrix::gemm::{or, sizes};
use crate::matrix::gemv;
use crate::matrix::product::{Product, row_tiles};
use crate::matrix::simd::Simd;
use crate::matrix::tile::Factors;
use crate::pack::{pack_raw, panels};
use crate::tier::by_tier;
use crate::{Symbol, symbol_list};
use core::ptr::null;
use graphc_abi::args::matrix::AttentionArgs;
use graphc_abi::{Ctx, SCRATCH_BYTES, Status};

pub(crate) const SYMBOLS: &[Symbol] = symbol_list![gc_attention_f32];

/// Width of the panels of keys and values.
const NR: usize = 32;
/// Query rows whose scores are computed at once.
const ROWS: usize = 14;
/// Most query rows for which keys and values are read in place.
const FEW_ROWS: usize = 4;
/// Query rows that keep their state over blocks of keys.
const SEGMENT: usize = 2048;
/// Floats of scratch for packed keys and values, and for scores.
const PACKED_LEN: usize = 320 << 10;
const SCORES_LEN: usize = SCRATCH_BYTES / 4 - PACKED_LEN - 2 * SEGMENT;
/// Most of `d + d_v`, both rounded up to whole panels: a block of keys has at least one panel.
const MAX_WIDTH: usize = PACKED_LEN / NR;

/// One head of one batch entry.
struct Head {
    q: *const f32,
    k: *const f32,
    v: *const f32,
    mask: *const f32,
    out: *mut f32,
    q_time: usize,
    k_time: usize,
    v_time: usize,
    out_time: usize,
    mask_row: usize,
    t_k: usize,
    d: usize,
    d_v: usize,
    scale: f32,
    /// So few query rows in all that keys and values are not worth packing.
    few: bool,
}

/// What a row knows of the keys seen so far.
#[derive(Clone, Copy)]
#[repr(C)]
struct State {
    max: f32,
    sum: f32,
}

/// See [`AttentionArgs`]. `d + d_v` is at most 10,000.
///
/// # Safety
/// The context and the arguments are those of the calling convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_attention_f32(ctx: *const Ctx, args: *const AttentionArgs) -> i32 {
    // SAFETY: by the contract.
    match unsafe { run(&*ctx, &*args) } {
        Some(()) => Status::Ok as i32,
        None => Status::InvalidShape as i32,
    }
}

unsafe fn run(ctx: &Ctx, g: &AttentionArgs) -> Option<()> {
    let [batch, heads, t_q, t_k, d, d_v] = sizes([g.batch, g.heads, g.t_q, g.t_k, g.d, g.d_v])?;
    let [q_time, k_time, v_time, out_time, mask_row] = sizes([g.q_time, g.k_time, g.v_time, g.out_time, g.mask_row])?;
    let d_v = or(d_v, d);
    if d + d_v.next_multiple_of(NR) > MAX_WIDTH {
        return None;
    }
    let count = batch * heads;
    if count * t_q * d_v == 0 {
        return Some(());
    }
    let work = count.saturating_mul(t_q * t_k).saturating_mul(d + d_v);
    let wanted = if ctx.threads > 1 && work > 400_000 { (2 * ctx.threads).div_ceil(count) } else { 1 };
    let parts = wanted.min(t_q / 56).max(1);
    // SAFETY: chunks compute other rows of `out`; each worker has its own scratch.
    unsafe {
        ctx.parallel(count * parts, &|chunk, worker| {
            let (i, part) = (chunk / parts, chunk % parts);
            let (b, h) = ((i / heads) as isize, (i % heads) as isize);
            let offset = |batch: i64, head: i64| b * batch as isize + h * head as isize;
            let mask = g.mask.wrapping_offset(offset(g.mask_batch, g.mask_head));
            let head = Head {
                q: g.q.wrapping_offset(offset(g.q_batch, g.q_head)),
                k: g.k.wrapping_offset(offset(g.k_batch, g.k_head)),
                v: g.v.wrapping_offset(offset(g.v_batch, g.v_head)),
                mask: if g.mask.is_null() { null() } else { mask },
                out: g.out.wrapping_offset(offset(g.out_batch, g.out_head)),
                q_time,
                k_time,
                v_time,
                out_time,
                mask_row,
                t_k,
                d,
                d_v,
                scale: if g.scale == 0.0 { 1.0 } else { g.scale as f32 },
                few: t_q <= FEW_ROWS,
            };
            let (mut row, end) = (t_q * part / parts, t_q * (part + 1) / parts);
            while row < end {
                let rows = SEGMENT.min(end - row);
                head.rows(row, rows, ctx.scratch_of(worker).cast());
                row += rows;
            }
        })
    }
    Some(())
}

impl Head {
    /// Computes query rows `first..first + count`, at most `SEGMENT`.
    unsafe fn rows(&self, first: usize, count: usize, scratch: *mut f32) {
        let (d, d_v) = (self.d, self.d_v);
        let width = d + d_v.next_multiple_of(NR);
        let room = (PACKED_LEN / width).min(SCORES_LEN / ROWS - NR) / NR * NR;
        let blocks = self.t_k.div_ceil(room).max(1);
        let block = self.t_k.div_ceil(blocks).next_multiple_of(NR).max(NR);
        let keys = scratch;
        let values = scratch.wrapping_add(block * d);
        let states = scratch.wrapping_add(PACKED_LEN).cast::<State>();
        let scores = scratch.wrapping_add(PACKED_LEN + 2 * SEGMENT);
        // A stride that is no multiple of a page keeps the rows' lines in different sets.
        let lds = block + 16;
        for i in 0..blocks {
            let t0 = i * block;
            let t = block.min(self.t_k.saturating_sub(t0));
            let (start, last) = (i == 0, i + 1 == blocks);
            // SAFETY: a block of keys and values fits into the packed part of scratch, its scores into theirs, `count` states into
            // theirs; rows are those of the operands.
            unsafe {
                let (v, v_time) = (self.v.add(t0 * self.v_time), self.v_time);
                let k = self.k.add(t0 * self.k_time);
                // Panels of values that are read in place: whole ones, for microkernels read whole vectors.
                let in_place = if self.few { d_v / NR } else { 0 };
                if !self.few {
                    pack_raw(keys, k, d, t, 1, self.k_time as isize, NR, 0..panels(t, NR), self.scale);
                }
                pack_raw(values, v, t, d_v, v_time as isize, 1, NR, in_place..panels(d_v, NR), 1.0);
                for (r, rows) in row_tiles(count, ROWS) {
                    let row = first + r;
                    let product = Product {
                        a: self.q.add(row * self.q_time),
                        lda: self.q_time,
                        table: null(),
                        even_rows: false,
                        runs: 1,
                        steps: d,
                        b: keys,
                        nr: NR,
                        ldb: NR,
                        panel_stride: d * NR,
                        c: scores,
                        ldc: lds,
                        n: t,
                        accumulate: false,
                        last: false,
                        factors: Factors::F32,
                        epilogue: Epilogue::NONE,
                    };
                    if self.few {
                        for i in 0..rows {
                            dots(product.a.add(i * self.q_time), k, self.k_time as isize, d, t, self.scale, scores.add(i * lds));
                        }
                    } else {
                        product.multiply(rows, 0..panels(t, NR));
                    }
                    let out = self.out.add(row * self.out_time);
                    for i in 0..rows {
                        let mask = if self.mask.is_null() { null() } else { self.mask.add((row + i) * self.mask_row + t0) };
                        let state = states.add(r + i);
                        if start {
                            *state = State { max: f32::NEG_INFINITY, sum: 0.0 };
                        }
                        let rescale = softmax(scores.add(i * lds), mask, t, &mut *state);
                        if !start && rescale != 1.0 {
                            scale(out.add(i * self.out_time), d_v, rescale);
                        }
                    }
                    let product = Product {
                        a: scores,
                        lda: lds,
                        steps: t,
                        b: values.wrapping_sub(in_place * t * NR),
                        panel_stride: t * NR,
                        c: out,
                        ldc: self.out_time,
                        n: d_v,
                        accumulate: !start,
                        ..product
                    };
                    product.multiply(rows, in_place..panels(d_v, NR));
                    if in_place > 0 {
                        let product = Product { b: v, ldb: v_time, panel_stride: NR, ..product };
                        if rows <= gemv::MAX_ROWS && start {
                            gemv::multiply(&product, rows, 0..in_place);
                        } else {
                            product.multiply(rows, 0..in_place);
                        }
                    }
                    // Without keys the product is zero.
                    if last && self.t_k > 0 {
                        for i in 0..rows {
                            scale(out.add(i * self.out_time), d_v, 1.0 / (*states.add(r + i)).sum);
                        }
                    }
                }
            }
        }
    }
}

by_tier!(fn softmax(x: *mut f32, mask: *const f32, n: usize, state: &mut State) -> f32 = softmax_of, matrix::simd);
by_tier!(fn scale(x: *mut f32, n: usize, by: f32) = scale_of, matrix::simd);

/// Replaces the scores `x[n]` by `exp(x + mask - max)` and adds them to the row's state; the factor by which earlier results of the row
/// shrink. `x` has room for whole vectors. Masked out entirely, a row ends with the sum 0.
#[inline(always)]
unsafe fn softmax_of<S: Simd>(x: *mut f32, mask: *const f32, n: usize, state: &mut State) -> f32 {
    const U: usize = 4;
    unsafe {
        let whole = n.next_multiple_of(S::LANES);
        for i in n..whole {
            *x.add(i) = f32::NEG_INFINITY;
        }
        let mut max = [S::splat(f32::NEG_INFINITY); U];
        let mut i = 0;
        while i < whole {
            for (u, max) in max.iter_mut().enumerate() {
                let at = i + u * S::LANES;
                if at < whole {
                    let mut v = S::load(x.add(at));
                    if !mask.is_null() {
                        let m = if at + S::LANES <= n { S::load(mask.add(at)) } else { S::load_n(mask.add(at), n - at) };
                        v = S::add(v, m);
                        S::store(x.add(at), v);
                    }
                    *max = S::max(v, *max);
                }
            }
            i += U * S::LANES;
        }
        let max = S::largest(S::max(S::max(max[0], max[1]), S::max(max[2], max[3])));
        let before = state.max;
        // Finite, so that a fully masked block yields zeros.
        let max = if max > before { max } else { before };
        let shift = if max == f32::NEG_INFINITY { f32::MIN } else { max };
        let minus = S::splat(-shift);
        let mut sum = [S::zero(); U];
        let mut i = 0;
        while i < whole {
            for (u, sum) in sum.iter_mut().enumerate() {
                let at = i + u * S::LANES;
                if at < whole {
                    let e = exp::<S>(S::add(S::load(x.add(at)), minus));
                    S::store(x.add(at), e);
                    *sum = S::add(*sum, e);
                }
            }
            i += U * S::LANES;
        }
        let sum = S::sum(S::add(S::add(sum[0], sum[1]), S::add(sum[2], sum[3])));
        let rescale = S::sum(exp::<S>(S::splat(before - shift))) / S::LANES as f32;
        state.max = max;
        state.sum = state.sum * rescale + sum;
        rescale
    }
}

#[inline(always)]
unsafe fn scale_of<S: Simd>(x: *mut f32, n: usize, by: f32) {
    unsafe {
        let by = S::splat(by);
        let mut i = 0;
        while i + S::LANES <= n {
            S::store(x.add(i), S::mul(S::load(x.add(i)), by));
            i += S::LANES;
        }
        if i < n {
            S::store_n(x.add(i), S::mul(S::load_n(x.add(i), n - i), by), n - i);
        }
    }
}
