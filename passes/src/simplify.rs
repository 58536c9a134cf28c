//! Ops on shapes that do nothing, or that one op can do.

use crate::pass::{Diag, Pass, PassCx};
use crate::rewriting::{At, rewrite};
use graphc_ir::infer::broadcast_shape;
use graphc_ir::{Attrs, Dim, Elem, Module, Op, Value};

/// Removes identities (a reshape to the same shape, a full slice, a concat of one, a cast to the same type, padding by nothing),
/// joins pairs (reshape of reshape, transpose of transpose, broadcast of broadcast, slice of slice), turns transposes that only move
/// extents of 1 into reshapes, and takes broadcasts off the operands of elementwise ops, which broadcast by themselves.
///
/// Leaves none of these.
pub struct Simplify;

impl Pass for Simplify {
    fn name(&self) -> &'static str {
        "simplify"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        rewrite(m, &mut simplify)
    }
}

fn simplify(at: &mut At) -> Option<Value> {
    match at.op() {
        Op::Reshape => reshape(at),
        Op::Transpose => transpose(at),
        Op::Broadcast => broadcast(at),
        Op::Slice => slice(at),
        Op::Concat => concat(at),
        Op::Pad | Op::MirrorPad => {
            let zero = |key| at.attrs().dims(key).iter().all(Dim::is_zero);
            (zero("low") && zero("high")).then(|| at.operand(0))
        }
        Op::Cast => cast(at),
        Op::Reverse => {
            let moves = at.attrs().sizes("axes").iter().any(|&k| at.out().shape.get(k).is_none_or(|d| !d.is_one()));
            (!moves).then(|| at.operand(0))
        }
        Op::Reduce => reduce(at),
        Op::Gather => gather(at),
        Op::Resize => {
            let x = at.operand(0);
            (at.ty(x) == at.out()).then_some(x)
        }
        op if op.is_elementwise() && at.data().operands.len() > 1 => drop_broadcasts(at),
        _ => None,
    }
}

fn reshape(at: &mut At) -> Option<Value> {
    let x = at.operand(0);
    if at.ty(x) == at.out() {
        return Some(x);
    }
    let shape = at.out().shape.clone();
    if let Some(inner) = at.arg_of(x, Op::Reshape, 0) {
        return at.b.reshape(inner, &shape).ok();
    }
    // A repeated scalar stays one under any shape.
    let inner = at.arg_of(x, Op::Broadcast, 0)?;
    let element = at.ty(inner).shape.iter().all(Dim::is_one);
    if !element {
        return None;
    }
    let scalar = at.b.reshape(inner, &[]).ok()?;
    at.b.broadcast(scalar, &shape).ok()
}

fn transpose(at: &mut At) -> Option<Value> {
    let x = at.operand(0);
    let perm = at.attrs().sizes("perm");
    if perm.iter().enumerate().all(|(i, &p)| i == p) {
        return Some(x);
    }
    if let Some(d) = at.def(x, Op::Transpose) {
        let inner = d.attrs.sizes("perm");
        let both: Vec<usize> = perm.iter().map(|&p| inner[p]).collect();
        let source = d.operands[0];
        return at.b.transpose(source, &both).ok();
    }
    let moved: Vec<usize> = perm.iter().copied().filter(|&p| !at.ty(x).shape[p].is_one()).collect();
    if moved.is_sorted() {
        let shape = at.out().shape.clone();
        return at.b.reshape(x, &shape).ok();
    }
    None
}

fn broadcast(at: &mut At) -> Option<Value> {
    let x = at.operand(0);
    if at.ty(x) == at.out() {
        return Some(x);
    }
    let shape = at.out().shape.clone();
    if let Some(inner) = at.arg_of(x, Op::Broadcast, 0) {
        return at.b.broadcast(inner, &shape).ok();
    }
    // Only ones in front are new.
    let own = at.ty(x);
    if own.rank() < shape.len() && shape.ends_with(&own.shape) && shape[..shape.len() - own.rank()].iter().all(Dim::is_one) {
        return at.b.reshape(x, &shape).ok();
    }
    None
}

fn slice(at: &mut At) -> Option<Value> {
    let x = at.operand(0);
    let a = at.attrs();
    let unit = |a: &Attrs| a.ints("stride").iter().all(|&s| s == 1);
    if unit(a) && a.dims("start").iter().all(Dim::is_zero) && at.ty(x) == at.out() {
        return Some(x);
    }
    let d = at.def(x, Op::Slice).filter(|d| unit(&d.attrs))?;
    let start: Vec<Dim> = d.attrs.dims("start").iter().zip(a.dims("start")).map(|(p, q)| p + q).collect();
    let (source, mut attrs) = (d.operands[0], a.clone());
    attrs.set("start", start);
    at.emit(Op::Slice, &[source], attrs)
}

fn concat(at: &mut At) -> Option<Value> {
    let axis = at.attrs().size("axis");
    let operands = at.data().operands.clone();
    let mut flat = Vec::with_capacity(operands.len());
    for &v in &operands {
        match at.def(v, Op::Concat).filter(|d| d.attrs.size("axis") == axis && at.only_use(v)) {
            Some(d) => flat.extend(d.operands.iter().copied()),
            None => flat.push(v),
        }
    }
    let whole = flat.clone();
    flat.retain(|&v| !at.ty(v).shape[axis].is_zero());
    match flat.as_slice() {
        [] => whole.first().copied(),
        &[x] => Some(x),
        _ if flat == operands => None,
        _ => {
            let attrs = at.attrs().clone();
            at.emit(Op::Concat, &flat, attrs)
        }
    }
}

fn cast(at: &mut At) -> Option<Value> {
    let x = at.operand(0);
    let to = at.out().elem;
    if at.ty(x).elem == to {
        return Some(x);
    }
    let inner = at.arg_of(x, Op::Cast, 0)?;
    holds(at.ty(x).elem, at.ty(inner).elem).then(|| at.b.cast(inner, to).ok())?
}

/// True if every value of `narrow` is one of `wide`.
fn holds(wide: Elem, narrow: Elem) -> bool {
    use Elem::*;
    match narrow {
        Bool => wide.is_real(),
        I8 => matches!(wide, I16 | I32 | I64 | F32 | F64),
        U8 => matches!(wide, I16 | I32 | I64 | U16 | U32 | U64 | F32 | F64),
        I16 => matches!(wide, I32 | I64 | F32 | F64),
        U16 => matches!(wide, I32 | I64 | U32 | U64 | F32 | F64),
        I32 => matches!(wide, I64 | F64),
        U32 => matches!(wide, I64 | U64 | F64),
        F16 | BF16 => matches!(wide, F32 | F64),
        F32 => wide == F64,
        _ => false,
    }
}

/// Reductions over extents of 1 move nothing.
fn reduce(at: &mut At) -> Option<Value> {
    let x = at.operand(0);
    let ones = at.attrs().sizes("axes").iter().all(|&k| at.ty(x).shape.get(k).is_some_and(Dim::is_one));
    if !ones {
        return None;
    }
    let shape = at.out().shape.clone();
    at.b.reshape(x, &shape).ok()
}

/// Indices that count up by one are a slice.
fn gather(at: &mut At) -> Option<Value> {
    let (x, axis) = (at.operand(0), at.attrs().size("axis"));
    if at.attrs().int("batch_dims") != 0 {
        return None;
    }
    let indices = at.constant(at.operand(1))?;
    if indices.len() > 1 << 12 {
        return None;
    }
    let list = indices.to_ints()?;
    let (&first, extent) = (list.first()?, at.ty(x).shape[axis].as_const()?);
    let last = first.checked_add(list.len() as i64 - 1)?;
    if !list.iter().zip(first..).all(|(&i, k)| i == k) || first < 0 || last >= extent {
        return None;
    }
    let mut start = vec![Dim::ZERO; at.ty(x).rank()];
    let mut size = at.ty(x).shape.clone();
    start[axis] = Dim::from(first);
    size[axis] = Dim::from(list.len());
    let shape = at.out().shape.clone();
    let part = at.emit(Op::Slice, &[x], Attrs::new().with("start", start).with("size", size))?;
    at.b.reshape(part, &shape).ok()
}

fn drop_broadcasts(at: &mut At) -> Option<Value> {
    let mut operands = at.data().operands.clone();
    let mut changed = false;
    for k in 0..operands.len() {
        let Some(inner) = at.arg_of(operands[k], Op::Broadcast, 0) else { continue };
        let others = (0..operands.len()).filter(|&j| j != k).map(|j| &at.ty(operands[j]).shape);
        let rest = others.chain([&at.ty(inner).shape]).try_fold(Vec::new(), |s, t| broadcast_shape(&s, t).ok());
        if rest.as_deref() == Some(&at.out().shape) {
            operands[k] = inner;
            changed = true;
        }
    }
    if !changed {
        return None;
    }
    let (op, attrs) = (at.op(), at.attrs().clone());
    at.emit(op, &operands, attrs)
}
