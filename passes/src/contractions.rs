//! Contractions in their plainest form.

use crate::pass::{Diag, Pass, PassCx};
use crate::rewriting::{At, rewrite};
use graphc_ir::{Dim, Module, Op, Value};

/// Merges axes of contractions that lie side by side: summed axes of both operands, and free axes of the right one. An einsum over
/// heads and depth becomes a product of matrices, its bias a vector.
///
/// Leaves at most one free axis on the right, where they are not torn apart.
pub struct Contractions;

impl Pass for Contractions {
    fn name(&self) -> &'static str {
        "contractions"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        rewrite(m, &mut |at| {
            let plain = at.op() == Op::Contract && at.data().operands.len() == 2 && at.attrs().str("act").is_empty();
            if plain { summed(at).or_else(|| free(at)) } else { None }
        })
    }
}

/// `v` with axis `k + 1` merged into axis `k`.
fn merge(at: &mut At, v: Value, k: usize) -> Option<Value> {
    let mut shape = at.ty(v).shape.clone();
    let next = shape.remove(k + 1);
    shape[k] = &shape[k] * &next;
    at.b.reshape(v, &shape).ok()
}

/// Numbers of axes after axis `k + 1` has merged into `k`.
fn renumber(axes: &[usize], k: usize) -> Vec<usize> {
    axes.iter().map(|&a| if a > k { a - 1 } else { a }).collect()
}

fn summed(at: &mut At) -> Option<Value> {
    let mut attrs = at.attrs().clone();
    let (l, r) = (attrs.sizes("lhs"), attrs.sizes("rhs"));
    let k = (1..l.len()).find(|&k| l[k] == l[k - 1] + 1 && r[k] == r[k - 1] + 1)?;
    for (key, axes, at_axis) in [("lhs", &l, l[k - 1]), ("rhs", &r, r[k - 1])] {
        let mut left = axes.clone();
        left.remove(k);
        attrs.set(key, renumber(&left, at_axis));
    }
    for (key, at_axis) in [("lhs_batch", l[k - 1]), ("rhs_batch", r[k - 1])] {
        if !attrs.ints(key).is_empty() {
            let batch = renumber(&attrs.sizes(key), at_axis);
            attrs.set(key, batch);
        }
    }
    let (x, y) = (at.operand(0), at.operand(1));
    let (x, y) = (merge(at, x, l[k - 1])?, merge(at, y, r[k - 1])?);
    at.emit(Op::Contract, &[x, y], attrs)
}

fn free(at: &mut At) -> Option<Value> {
    let mut attrs = at.attrs().clone();
    let used = [attrs.sizes("rhs"), attrs.sizes("rhs_batch")].concat();
    let (x, y) = (at.operand(0), at.operand(1));
    let k = (1..at.ty(y).rank()).find(|k| !used.contains(k) && !used.contains(&(k - 1)))? - 1;
    let merged = merge(at, y, k)?;
    for key in ["rhs", "rhs_batch"] {
        if !attrs.ints(key).is_empty() {
            let axes = renumber(&attrs.sizes(key), k);
            attrs.set(key, axes);
        }
    }
    let z = at.emit(Op::Contract, &[x, merged], attrs)?;
    let out: Vec<Dim> = at.out().shape.clone();
    at.b.reshape(z, &out).ok()
}
