//! Layout: transposes move down and meet their inverses.

use crate::pass::{Diag, Pass, PassCx};
use crate::rewriting::{At, inverse, rewrite_once};
use graphc_ir::{Attrs, Dim, Func, Module, Op, Value};
use hashbrown::HashSet;

/// Moves transposes below elementwise ops, padding, slices, concats and reductions, and into the axes of contractions. A convolution of
/// channels-first data comes from the frontend as an NHWC one between transposes, so a chain of them ends up NHWC throughout.
///
/// Leaves transposes at the function's ends, before ops that need the order, and where several uses would each need their own.
pub struct Transposes;

impl Pass for Transposes {
    fn name(&self) -> &'static str {
        "transposes"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        let mut total = 0;
        for f in &mut m.funcs {
            loop {
                let sinkable = sinkable(f);
                let n = rewrite_once(f, &mut |at| sink(at, &sinkable));
                total += n;
                if n == 0 || total > f.inst_count() * 8 {
                    break;
                }
            }
        }
        Ok(total)
    }
}

/// Transposed values of which every user takes the transpose along, so that moving it down adds none.
fn sinkable(f: &Func) -> HashSet<Value> {
    let mut all = HashSet::new();
    let mut stuck: HashSet<Value> = f.results().iter().copied().collect();
    f.walk(f.body, &mut |f, _, i| {
        let d = f.inst(i);
        if d.op == Op::Transpose {
            all.extend(d.results.iter().copied());
        }
        let takes = d.op.is_elementwise()
            || matches!(
                d.op,
                Op::Transpose | Op::Pad | Op::Slice | Op::Concat | Op::Reduce | Op::Reverse | Op::Contract | Op::Softmax
            );
        if !takes {
            stuck.extend(d.operands.iter().copied());
        }
        for &r in &d.regions {
            stuck.extend(f.region(r).results.iter().copied());
        }
    });
    all.retain(|v| !stuck.contains(v));
    all
}

fn perm_of(at: &At, v: Value) -> Option<(Value, Vec<usize>)> {
    at.def(v, Op::Transpose).map(|d| (d.operands[0], d.attrs.sizes("perm")))
}

fn sink(at: &mut At, sinkable: &HashSet<Value>) -> Option<Value> {
    let op = at.op();
    if op == Op::Contract {
        return contract(at);
    }
    if op == Op::Concat {
        return concat(at);
    }
    if op.is_elementwise() {
        return elementwise(at, sinkable);
    }
    if !matches!(op, Op::Pad | Op::Slice | Op::Reduce | Op::Reverse | Op::Softmax) {
        return None;
    }
    let t = at.operand(0);
    let (x, perm) = perm_of(at, t).filter(|_| at.only_use(t) || sinkable.contains(&t))?;
    let mut attrs = at.attrs().clone();
    let back = |list: &[Dim]| -> Vec<Dim> {
        let inv = inverse(&perm);
        inv.iter().map(|&i| list[i].clone()).collect()
    };
    match op {
        Op::Pad => {
            for key in ["low", "high"] {
                attrs.set(key, back(attrs.dims(key)));
            }
            let y = at.operand(1);
            let y = at.emit(op, &[x, y], attrs)?;
            at.b.transpose(y, &perm).ok()
        }
        Op::Slice => {
            for key in ["start", "size"] {
                attrs.set(key, back(attrs.dims(key)));
            }
            if !attrs.ints("stride").is_empty() {
                let stride: Vec<i64> = inverse(&perm).iter().map(|&i| attrs.ints("stride")[i]).collect();
                attrs.set("stride", stride);
            }
            let y = at.emit(op, &[x], attrs)?;
            at.b.transpose(y, &perm).ok()
        }
        Op::Softmax => {
            let last = perm.len().checked_sub(1)?;
            (perm[last] == last).then_some(())?;
            let y = at.emit(op, &[x], attrs)?;
            at.b.transpose(y, &perm).ok()
        }
        _ => {
            let axes: Vec<usize> = attrs.sizes("axes").iter().map(|&k| perm[k]).collect();
            let keep = op == Op::Reverse || attrs.flag("keep");
            let kept: Vec<usize> = perm.iter().copied().filter(|p| keep || !axes.contains(p)).collect();
            let mut sorted = axes;
            sorted.sort_unstable();
            attrs.set("axes", sorted);
            let y = at.emit(op, &[x], attrs)?;
            // The kept axes, renumbered among themselves.
            let rank: Vec<usize> = kept.iter().map(|p| kept.iter().filter(|q| *q < p).count()).collect();
            at.b.transpose(y, &rank).ok()
        }
    }
}

/// Axes of an operand's transpose become axes of what it transposes, if its free axes stay in order.
fn contract(at: &mut At) -> Option<Value> {
    let mut operands = at.data().operands.clone();
    let mut attrs = at.attrs().clone();
    let mut changed = false;
    for (k, own, batch) in [(0, "lhs", "lhs_batch"), (1, "rhs", "rhs_batch")] {
        let Some((x, perm)) = perm_of(at, operands[k]) else { continue };
        let (axes, batches) = (attrs.sizes(own), attrs.sizes(batch));
        let free = perm.iter().enumerate().filter(|(i, _)| !axes.contains(i) && !batches.contains(i)).map(|(_, &p)| p);
        if !free.is_sorted() {
            continue;
        }
        attrs.set(own, axes.iter().map(|&a| perm[a]).collect::<Vec<_>>());
        if !batches.is_empty() {
            attrs.set(batch, batches.iter().map(|&a| perm[a]).collect::<Vec<_>>());
        }
        operands[k] = x;
        changed = true;
    }
    if !changed {
        return None;
    }
    at.emit(Op::Contract, &operands, attrs)
}

fn concat(at: &mut At) -> Option<Value> {
    let operands = at.data().operands.clone();
    let (_, perm) = perm_of(at, operands[0])?;
    let inner: Vec<Value> =
        operands.iter().map(|&v| perm_of(at, v).filter(|(_, p)| *p == perm).map(|(x, _)| x)).collect::<Option<_>>()?;
    let axis = perm[at.attrs().size("axis")];
    let y = at.emit(Op::Concat, &inner, Attrs::new().with("axis", axis))?;
    at.b.transpose(y, &perm).ok()
}

fn elementwise(at: &mut At, sinkable: &HashSet<Value>) -> Option<Value> {
    let operands = at.data().operands.clone();
    let out = at.out().shape.clone();
    let first = operands.iter().find_map(|&v| perm_of(at, v).filter(|_| at.ty(v).shape == out).map(|(_, p)| (v, p)));
    let (lead, perm) = first?;
    let inv = inverse(&perm);
    let several = operands.iter().filter(|&&v| perm_of(at, v).is_some_and(|(_, p)| p == perm)).count() > 1;
    if !several && !at.only_use(lead) && !sinkable.contains(&lead) {
        return None;
    }
    let mut inner = Vec::with_capacity(operands.len());
    for &v in &operands {
        let shape = at.ty(v).shape.clone();
        inner.push(match perm_of(at, v).filter(|(_, p)| *p == perm) {
            Some((x, _)) => x,
            None if shape.is_empty() => v,
            None => {
                // A constant or a vector along one axis is cheap to bring into the other order.
                let axes = shape.iter().filter(|d| !d.is_one()).count();
                if at.constant(v).is_none() && axes > 1 {
                    return None;
                }
                let full = [vec![Dim::ONE; out.len() - shape.len()], shape].concat();
                let v = at.b.reshape(v, &full).ok()?;
                if axes > 1 {
                    at.b.transpose(v, &inv).ok()?
                } else {
                    let to: Vec<Dim> = inv.iter().map(|&i| full[i].clone()).collect();
                    at.b.reshape(v, &to).ok()?
                }
            }
        });
    }
    let (op, attrs) = (at.op(), at.attrs().clone());
    let y = at.emit(op, &inner, attrs)?;
    at.b.transpose(y, &perm).ok()
}
