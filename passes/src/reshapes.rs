//! Reshapes move down, so that what they separate can fuse.

use crate::pass::{Diag, Pass, PassCx};
use crate::rewriting::{At, rewrite, strip_ones};
use graphc_ir::{Dim, Module, Op, Value};

/// Moves reshapes below elementwise ops (per-channel operands and scalars follow), softmax, layer normalisation and contractions along
/// the last axis.
///
/// Leaves reshapes only before ops that need the shape, and where operands disagree.
pub struct Reshapes;

impl Pass for Reshapes {
    fn name(&self) -> &'static str {
        "reshapes"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        rewrite(m, &mut |at| match at.op() {
            Op::Contract => contract(at),
            Op::Softmax | Op::LayerNorm => rows(at),
            op if op.is_elementwise() => elementwise(at),
            _ => None,
        })
    }
}

fn source(at: &At, v: Value) -> Option<Value> {
    at.arg_of(v, Op::Reshape, 0)
}

/// `contract(reshape(x), w)` over the last axis, which the reshape keeps.
fn contract(at: &mut At) -> Option<Value> {
    let d = at.data();
    let t = d.operands[0];
    let x = source(at, t)?;
    let (from, to) = (&at.ty(x).shape, &at.ty(t).shape);
    let whole = d.operands.len() == 2 && d.attrs.str("act").is_empty() && d.attrs.ints("lhs_batch").is_empty();
    if !whole || from.is_empty() || from.last() != to.last() || d.attrs.sizes("lhs") != [to.len() - 1] {
        return None;
    }
    let (w, mut attrs, last) = (d.operands[1], d.attrs.clone(), from.len() - 1);
    attrs.set("lhs", vec![last]);
    let y = at.emit(Op::Contract, &[x, w], attrs)?;
    let out = at.out().shape.clone();
    at.b.reshape(y, &out).ok()
}

fn rows(at: &mut At) -> Option<Value> {
    let mut operands = at.data().operands.clone();
    let x = source(at, operands[0])?;
    if at.ty(x).shape.last()? != at.out().shape.last()? {
        return None;
    }
    operands[0] = x;
    let (op, attrs, out) = (at.op(), at.attrs().clone(), at.out().shape.clone());
    let y = at.emit(op, &operands, attrs)?;
    at.b.reshape(y, &out).ok()
}

fn elementwise(at: &mut At) -> Option<Value> {
    let operands = at.data().operands.clone();
    let out = at.out().shape.clone();
    let lead =
        operands.iter().copied().find(|&v| at.ty(v).shape == out && source(at, v).is_some_and(|x| at.constant(x).is_none()))?;
    let x = source(at, lead)?;
    let shape = at.ty(x).shape.clone();
    let mut inner = Vec::with_capacity(operands.len());
    for &v in &operands {
        inner.push(if v == lead { x } else { under(at, v, x, &shape, &out)? });
    }
    let (op, attrs) = (at.op(), at.attrs().clone());
    let y = at.emit(op, &inner, attrs)?;
    at.b.reshape(y, &out).ok()
}

/// `v`, which broadcasts to `out`, as an operand that broadcasts to `shape` with the same elements in row-major order.
fn under(at: &mut At, v: Value, x: Value, shape: &[Dim], out: &[Dim]) -> Option<Value> {
    let own = at.ty(v).shape.clone();
    if own.iter().all(Dim::is_one) {
        return at.b.reshape(v, &[]).ok();
    }
    if own == out {
        return match source(at, v) {
            Some(y) if at.ty(y).shape == shape => Some(y),
            _ if is_matrix_work(at, x) && !is_matrix_work(at, v) => at.b.reshape(v, shape).ok(),
            _ => None,
        };
    }
    // Values along the last axes only, which are some last axes of `shape` too.
    let own = strip_ones(&own).to_vec();
    if !out.ends_with(&own) {
        return None;
    }
    let count: Dim = own.iter().product();
    let tail = (0..=shape.len()).rev().map(|k| &shape[k..]).find(|s| s.iter().product::<Dim>() == count)?.to_vec();
    at.b.reshape(v, &tail).ok()
}

/// True if `v` is matrix work, perhaps with elementwise ops after it.
fn is_matrix_work(at: &At, v: Value) -> bool {
    let mut v = v;
    for _ in 0..6 {
        let Some(i) = at.b.func.def_inst(v) else { return false };
        let d = at.b.func.inst(i);
        match d.op {
            op if op.has_epilogue() => return true,
            op if op.is_elementwise() || op == Op::Reshape => v = d.operands[0],
            _ => return false,
        }
    }
    false
}
