//! Reshapes move down, so that what they separate can fuse.

use crate::pass::{Diag, Pass, PassCx};
use crate::rewriting::{At, rewrite, strip_ones};
use graphc_ir::{Dim, Module, Op, Value};
use std::ops::Range;

/// Moves reshapes below elementwise ops (operands that broadcast follow), reductions over whole groups of axes, softmax, layer
/// normalisation and contractions along the last axis.
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
            Op::Reduce => reduce(at),
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
    // In each group of axes the operand has all of them or none.
    let padded = [vec![Dim::ONE; out.len() - own.len()], own].concat();
    let mut to = Vec::with_capacity(shape.len());
    for (i, j) in groups(out, shape)? {
        if padded[i.clone()] == out[i.clone()] {
            to.extend_from_slice(&shape[j]);
        } else if padded[i].iter().all(Dim::is_one) {
            to.extend(j.map(|_| Dim::ONE));
        } else {
            return None;
        }
    }
    at.b.reshape(v, strip_ones(&to)).ok()
}

/// Ranges of axes of `a` and of `b`, two shapes with the same elements, that hold the same elements each. `None` if one may be empty.
fn groups(a: &[Dim], b: &[Dim]) -> Option<Vec<(Range<usize>, Range<usize>)>> {
    if a.iter().chain(b).any(Dim::is_zero) {
        return None;
    }
    let mut out = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        // The shortest ranges from here with equal products; ones on either side join the range before them.
        let mut found = None;
        let mut p = Dim::ONE;
        'search: for k in i..=a.len() {
            if k > i {
                p = &p * &a[k - 1];
            }
            let mut q = Dim::ONE;
            for l in j..=b.len() {
                if l > j {
                    q = &q * &b[l - 1];
                }
                if p == q && (k, l) != (i, j) {
                    found = Some((k, l));
                    break 'search;
                }
            }
        }
        let (k, l) = found?;
        out.push((i..k, j..l));
        (i, j) = (k, l);
    }
    Some(out)
}

/// `reduce(reshape(x))` over whole groups of axes.
fn reduce(at: &mut At) -> Option<Value> {
    let t = at.operand(0);
    let x = source(at, t)?;
    let (from, to) = (at.ty(t).shape.clone(), at.ty(x).shape.clone());
    let axes = at.attrs().sizes("axes");
    let mut inner = Vec::new();
    for (i, j) in groups(&from, &to)? {
        // Axes of extent 1 may be reduced or not.
        let mut reduced = i.clone().filter(|&k| !from[k].is_one()).map(|k| axes.contains(&k));
        match reduced.next() {
            Some(r) if reduced.any(|other| other != r) => return None,
            Some(true) => inner.extend(j.filter(|&k| !to[k].is_one())),
            _ => {}
        }
    }
    let (out, attrs) = (at.out().shape.clone(), at.attrs().clone().with("axes", inner));
    let y = at.emit(Op::Reduce, &[x], attrs)?;
    at.b.reshape(y, &out).ok()
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
