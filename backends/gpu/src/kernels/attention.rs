//! Attention without stored scores: a workgroup for each query, which goes through the keys in pieces and keeps the greatest score, the
//! sum of the exponentials and the result so far.

use super::rows::{binary, unary};
use super::tape::{GROUP, together};
use super::{apply, indices, walk};
use crate::build::{Build, V};
use crate::design::{Args, Design, Spec};
use crate::target::Cell;
use graphc_cpu::tape::code::Cond;
use graphc_ir::tape::{Bin, Un};
use graphc_ir::{Dim, Elem};

/// Numbers of a result that one thread keeps at most.
const MOST: i64 = 4;

const STRIDES: [&str; 15] = [
    "q_batch",
    "q_head",
    "q_time",
    "k_batch",
    "k_head",
    "k_time",
    "v_batch",
    "v_head",
    "v_time",
    "out_batch",
    "out_head",
    "out_time",
    "mask_batch",
    "mask_head",
    "mask_row",
];

pub fn attention(a: &Args) -> Result<Design, String> {
    let d = a.dim("d");
    let d_v = a.dim_or("d_v", &d);
    // Each thread keeps some numbers of the result, which are counted when the kernel is written.
    let width = d_v.as_const().ok_or("attention over values of an open size")?;
    let own = (width + GROUP - 1) / GROUP;
    if own > MOST {
        return Err(format!("attention over values of {width} numbers"));
    }
    let scale = if a.real("scale") == 0.0 { 1.0 } else { a.real("scale") };
    let masked = a.has("mask");
    let queries = [&a.dim("batch"), &a.dim("heads"), &a.dim("t_q")].into_iter().product::<Dim>();
    let name = format!("attention {own} {masked} {:x}", scale.to_bits());
    let design = Design::tasks(name, GROUP, queries, move |b, s| write(b, s, own, scale as f32));
    let design = ["heads", "t_q", "t_k"].into_iter().fold(design, |d, name| d.int(name, a.dim(name)));
    let design = STRIDES.into_iter().fold(design.int("d", d).int("d_v", d_v), |d, name| d.int(name, a.dim(name)));
    Ok(a.buffers(design, &["q", "k", "v", "mask", "out"]))
}

fn write(b: &mut Build, s: &Spec, own: i64, scale: f32) -> Result<(), String> {
    let (exp, max) = (unary(Un::Exp, Elem::F32)?, binary(Bin::Max, Elem::F32)?);
    let [q, k, v, out] = ["q", "k", "v", "out"].map(|n| s.buffer(b, n, Cell::F32));
    let (q, k, v, out) = (q?, k?, v?, out?);
    let mask = s.has("mask").then(|| s.buffer(b, "mask", Cell::F32)).transpose()?;
    let [heads, t_q, t_k, d, d_v, count] = ["heads", "t_q", "t_k", "d", "d_v", "count"].map(|n| s.int(b, n));
    let strides = STRIDES.map(|n| s.int(b, n));
    let thread = b.thread();
    let (reduction, weights) = (b.shared(Cell::F32, GROUP), b.shared(Cell::F32, GROUP));
    let mut result = Ok(());
    b.tasks(count, |b, task| {
        let at = indices(b, task, &[count, heads, t_q]);
        let q_at = walk(b, &at, &strides[..3]);
        let k_at = walk(b, &at[..2], &strides[3..5]);
        let v_at = walk(b, &at[..2], &strides[6..8]);
        let out_at = walk(b, &at, &strides[9..12]);
        let mask_at = walk(b, &at, &strides[12..15]);
        let (zero, one, step) = (b.i32(0), b.i32(1), b.i32(GROUP));
        let none = b.f32(0.0);
        let lowest = b.f32(f32::NEG_INFINITY);
        // Greatest score, sum of the exponentials, own numbers of the result.
        let mut init = vec![lowest, none];
        init.extend((0..own).map(|_| none));
        let end = b.repeat(zero, t_k, step, &init, &mut |b, first, state| {
            let mut piece = || -> Result<Vec<V>, String> {
                // The score of one key for each thread; beyond the last key none.
                let key = b.add(first, thread);
                let there = b.lt(key, t_k);
                let score = b.choose(there, lowest, |b| {
                    let row = b.mul(key, strides[5]);
                    let row = b.add(k_at, row);
                    let dot = b.repeat(zero, d, one, &[none], &mut |b, i, sum| {
                        let (x, y) = (b.add(q_at, i), b.add(row, i));
                        let (x, y) = (q.load(b, x), k.load(b, y));
                        vec![b.fma(x, y, sum[0])]
                    });
                    let score = b.mul(dot[0], b.f32(scale));
                    match mask {
                        Some(m) => {
                            let at = b.add(mask_at, key);
                            let m = m.load(b, at);
                            b.add(score, m)
                        }
                        None => score,
                    }
                });
                let greatest = together(b, thread, &reduction, score, &mut |b, x, y| apply(b, &max, &[x, y]))?;
                let new = apply(b, &max, &[state[0], greatest])?;
                // Where all scores are minus infinity nothing is subtracted, so that weights are zero and not NaN.
                let base = finite(b, new);
                let w = b.sub(score, base);
                let w = apply(b, &exp, &[w])?;
                let sum = together(b, thread, &reduction, w, &mut |b, x, y| Ok(b.add(x, y)))?;
                let shrink = b.sub(state[0], base);
                let shrink = apply(b, &exp, &[shrink])?;
                let total = b.fma(state[1], shrink, sum);
                b.store(weights, thread, w);
                b.barrier();
                let keys = b.sub(t_k, first);
                let keys = b.min(keys, step);
                let mut next = vec![new, total];
                for j in 0..own {
                    let column = b.add(thread, b.i32(j * GROUP));
                    let mine = b.lt(column, d_v);
                    let column = b.select(mine, column, zero);
                    let start = b.mul(state[2 + j as usize], shrink);
                    let rows = b.mul(first, strides[8]);
                    let rows = b.add(v_at, rows);
                    let base = b.add(rows, column);
                    let part = b.repeat(zero, keys, one, &[start], &mut |b, i, sum| {
                        let w = b.load(weights, i);
                        let at = b.mul(i, strides[8]);
                        let at = b.add(base, at);
                        let x = v.load(b, at);
                        vec![b.fma(w, x, sum[0])]
                    });
                    next.push(part[0]);
                }
                // The weights may be written again only when all have read.
                b.barrier();
                Ok(next)
            };
            match piece() {
                Ok(next) => next,
                Err(e) => {
                    result = Err(e);
                    state.to_vec()
                }
            }
        });
        let inverse = b.div(b.f32(1.0), end[1]);
        for j in 0..own {
            let column = b.add(thread, b.i32(j * GROUP));
            let mine = b.lt(column, d_v);
            b.when(mine, |b| {
                let y = b.mul(end[2 + j as usize], inverse);
                let to = b.add(out_at, column);
                out.store(b, to, y);
            });
        }
    });
    result
}

/// `x`, or zero for minus infinity.
fn finite<'c>(b: &mut Build<'c>, x: V<'c>) -> V<'c> {
    let zero = b.f32(0.0);
    let lowest = b.f32(f32::NEG_INFINITY);
    let none = b.cmp(Cond::Eq, x, lowest);
    b.select(none, zero, x)
}
