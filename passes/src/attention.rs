//! Scaled dot-product attention that the graph spells out.

use crate::pass::{Diag, Pass, PassCx};
use crate::rewriting::{At, rewrite};
use graphc_ir::infer::broadcast_shape;
use graphc_ir::{Attrs, Dim, Elem, InstData, Module, Op, Value};

/// Recognises `softmax(scale * q k^T + mask) v` over two batch axes (batch and heads) or one, with the mask added or selected.
///
/// Leaves none of them spelled out whose scores nothing else reads.
pub struct Attention;

impl Pass for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        rewrite(m, &mut |at| if at.op() == Op::Contract { attention(at) } else { None })
    }
}

/// A contraction of two operands without an epilogue.
fn is_plain(d: &InstData) -> bool {
    d.operands.len() == 2 && matches!(d.attrs.str("act"), "" | "none")
}

fn attention(at: &mut At) -> Option<Value> {
    let pv = at.data().clone();
    let (p, v) = (pv.operands[0], pv.operands[1]);
    if !is_plain(&pv) || pv.attrs.real("alpha") != 0.0 || at.out().elem != Elem::F32 {
        return None;
    }
    let softmax = at.def(p, Op::Softmax).filter(|d| !d.attrs.flag("log") && at.only_use(p))?;
    let rank = at.ty(p).rank();
    let batches = rank.checked_sub(2).filter(|b| matches!(b, 1 | 2))?;
    // The scores' axes are batch, t, s; the product runs over s.
    let order = pv.attrs.sizes("lhs_batch");
    let rhs = pv.attrs.sizes("rhs");
    if pv.attrs.sizes("lhs") != [rank - 1]
        || order.len() != batches
        || order.iter().any(|&a| a >= batches)
        || at.ty(v).rank() != rank
    {
        return None;
    }
    let scores = scores(at, softmax.operands[0])?;
    let Scores { q, k, axes, scale, masks } = scores;
    let shape = at.ty(p).shape.clone();
    // Axis of v for each batch axis of the scores.
    let of_v = pv.attrs.sizes("rhs_batch");
    let v_batch: Vec<usize> = (0..batches).map(|b| Some(of_v[order.iter().position(|&a| a == b)?])).collect::<Option<_>>()?;
    let v_free = (0..rank).find(|a| !v_batch.contains(a) && *a != rhs[0])?;
    let q = heads_last(at, q, &axes.q_batch, axes.q_free, axes.q_depth)?;
    let k = heads_last(at, k, &axes.k_batch, axes.k_free, axes.k_depth)?;
    let v = heads_last(at, v, &v_batch, rhs[0], v_free)?;
    let mut operands = vec![q, k, v];
    let mut mask: Option<Value> = None;
    for m in masks {
        let m = additive(at, m)?;
        if broadcast_shape(&at.ty(m).shape, &shape).ok()? != shape {
            return None;
        }
        mask = Some(match mask {
            Some(other) => at.bin(Op::Add, other, m)?,
            None => m,
        });
    }
    if let Some(m) = mask {
        // With one batch axis there is one head: [b, t, s] is [b, 1, t, s].
        let own = at.ty(m).shape.clone();
        let m = if batches == 1 && own.len() == 3 {
            let shape = [&own[..1], &[Dim::ONE], &own[1..]].concat();
            at.b.reshape(m, &shape).ok()?
        } else {
            m
        };
        operands.push(m);
    }
    let y = at.emit(Op::Attention, &operands, Attrs::new().with("scale", scale))?;
    if batches == 1 {
        let out = at.out().shape.clone();
        return at.b.reshape(y, &out).ok();
    }
    // [n, t, h, d], to the batch axes in the order that the product had, then t and d.
    let perm: Vec<usize> = order.iter().map(|&b| [0, 2][b]).chain([1, 3]).collect();
    at.b.transpose(y, &perm).ok()
}

/// `v` with axes batch, rows, heads, depth; one head where there is one batch axis only.
fn heads_last(at: &mut At, v: Value, batch: &[usize], rows: usize, depth: usize) -> Option<Value> {
    match *batch {
        [n, h] => at.b.transpose(v, &[n, rows, h, depth]).ok(),
        [n] => {
            let t = at.b.transpose(v, &[n, rows, depth]).ok()?;
            let [n, rows, depth] = at.ty(t).shape.clone().try_into().ok()?;
            at.b.reshape(t, &[n, rows, Dim::ONE, depth]).ok()
        }
        _ => None,
    }
}

enum Mask {
    Added(Value),
    /// The scores where the condition holds (or does not, if `inverted`), else this much.
    Selected {
        condition: Value,
        inverted: bool,
        fill: f64,
    },
}

/// Axes of q and k: the batch axes in the scores' order, the free one, the one that is summed over.
struct Axes {
    q_batch: Vec<usize>,
    q_free: usize,
    q_depth: usize,
    k_batch: Vec<usize>,
    k_free: usize,
    k_depth: usize,
}

struct Scores {
    q: Value,
    k: Value,
    axes: Axes,
    scale: f64,
    masks: Vec<Mask>,
}

/// Takes the scores apart, from the softmax back to the product of q and k.
fn scores(at: &At, mut v: Value) -> Option<Scores> {
    let (mut scale, mut masks) = (1.0, Vec::new());
    let shape = at.ty(v).shape.clone();
    for _ in 0..8 {
        if !at.only_use(v) || at.ty(v).shape != shape {
            return None;
        }
        let d = at.b.func.inst(at.b.func.def_inst(v)?);
        match d.op {
            Op::Contract => {
                let axes = axes(at, d)?;
                let alpha = d.attrs.real("alpha");
                return Some(Scores {
                    q: d.operands[0],
                    k: d.operands[1],
                    axes,
                    scale: scale * if alpha == 0.0 { 1.0 } else { alpha },
                    masks,
                });
            }
            Op::Mul | Op::Div => {
                let c = at.splat(d.operands[1])?;
                scale *= if d.op == Op::Mul { c } else { 1.0 / c };
                v = d.operands[0];
            }
            // Masks come after the scale.
            Op::Add if scale == 1.0 => {
                let (a, b) = (d.operands[0], d.operands[1]);
                let (inner, mask) = if leads_to_product(at, a) { (a, b) } else { (b, a) };
                masks.push(Mask::Added(mask));
                v = inner;
            }
            Op::Select if scale == 1.0 => {
                let (condition, yes, no) = (d.operands[0], d.operands[1], d.operands[2]);
                let (inner, fill, inverted) = match (at.splat(no), at.splat(yes)) {
                    (Some(fill), None) => (yes, fill, false),
                    (None, Some(fill)) => (no, fill, true),
                    _ => return None,
                };
                // So far below any score that adding one changes nothing.
                if fill > -1e30 {
                    return None;
                }
                masks.push(Mask::Selected { condition, inverted, fill });
                v = inner;
            }
            _ => return None,
        }
    }
    None
}

fn leads_to_product(at: &At, mut v: Value) -> bool {
    for _ in 0..8 {
        let Some(d) = at.b.func.def_inst(v).map(|i| at.b.func.inst(i)) else { return false };
        match d.op {
            Op::Contract => return true,
            Op::Mul | Op::Div | Op::Add => v = d.operands[0],
            Op::Select => v = d.operands[1],
            _ => return false,
        }
    }
    false
}

fn axes(at: &At, d: &InstData) -> Option<Axes> {
    let (q_rank, k_rank) = (at.ty(d.operands[0]).rank(), at.ty(d.operands[1]).rank());
    let (&[q_depth], &[k_depth]) = (d.attrs.sizes("lhs").as_slice(), d.attrs.sizes("rhs").as_slice()) else { return None };
    let (q_batch, k_batch) = (d.attrs.sizes("lhs_batch"), d.attrs.sizes("rhs_batch"));
    if !is_plain(d) || q_rank != q_batch.len() + 2 || k_rank != q_rank {
        return None;
    }
    let free = |depth: usize, batch: &[usize]| (0..q_rank).find(|a| *a != depth && !batch.contains(a));
    Some(Axes { q_free: free(q_depth, &q_batch)?, k_free: free(k_depth, &k_batch)?, q_batch, q_depth, k_batch, k_depth })
}

fn additive(at: &mut At, m: Mask) -> Option<Value> {
    match m {
        Mask::Added(v) => Some(v),
        Mask::Selected { condition, inverted, fill } => {
            let (zero, fill) = (at.scalar(0.0, Elem::F32)?, at.scalar(fill, Elem::F32)?);
            let (yes, no) = if inverted { (fill, zero) } else { (zero, fill) };
            at.emit(Op::Select, &[condition, yes, no], Attrs::new())
        }
    }
}
