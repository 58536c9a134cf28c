//! Arithmetic identities.

use crate::consteval;
use crate::pass::{Diag, Pass, PassCx};
use crate::rewriting::{At, rewrite};
use graphc_ir::infer::broadcast_shape;
use graphc_ir::{Attrs, Module, Op, Tensor, Value};

/// Simplifies elementwise arithmetic: `x + 0`, `x * 1`, `x / 2^k`, double negation, powers with small exponents, chains of constants;
/// brings constants to the right of commutative ops and to rank 0 where they have one value; makes `relu`, `clamp`, `rsqrt` and
/// means of what spells them out.
///
/// Leaves none of these. Results are equal up to the sign of zero, or within the tolerance of a power or a quotient.
pub struct Arith;

impl Pass for Arith {
    fn name(&self) -> &'static str {
        "arith"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        rewrite(m, &mut |at| if at.op().is_elementwise() { rank0_constants(at).or_else(|| arith(at)) } else { None })
    }
}

/// A constant operand with one value throughout becomes a scalar, where the result keeps its shape.
fn rank0_constants(at: &mut At) -> Option<Value> {
    let mut operands = at.data().operands.clone();
    if operands.len() < 2 {
        return None;
    }
    let mut changed = false;
    for k in 0..operands.len() {
        let Some(value) = at.constant(operands[k]).filter(|t| t.rank() > 0).and_then(Tensor::splat_value) else { continue };
        let mut others = (0..operands.len()).filter(|&j| j != k).map(|j| &at.ty(operands[j]).shape);
        let rest = others.try_fold(Vec::new(), |s, t| broadcast_shape(&s, t).ok());
        if rest.as_deref() == Some(&at.out().shape) {
            operands[k] = at.b.constant(value);
            changed = true;
        }
    }
    if !changed {
        return None;
    }
    let (op, attrs) = (at.op(), at.attrs().clone());
    at.emit(op, &operands, attrs)
}

fn arith(at: &mut At) -> Option<Value> {
    let op = at.op();
    let x = at.operand(0);
    let float = at.ty(x).elem.is_float();
    match op {
        Op::Neg => at.arg_of(x, Op::Neg, 0),
        Op::Not => at.arg_of(x, Op::Not, 0),
        Op::Relu => at.def(x, Op::Relu).is_some().then_some(x),
        Op::Clamp => clamp_of(at, x),
        Op::Abs if at.ty(x).elem == at.out().elem => at.def(x, Op::Abs).map(|_| x),
        Op::Select => {
            let c = at.splat(x)?;
            let chosen = at.operand(if c != 0.0 { 1 } else { 2 });
            at.fit(chosen)
        }
        Op::Add | Op::Mul | Op::Max | Op::Min | Op::And | Op::Or | Op::Xor | Op::Eq | Op::Ne => {
            let y = at.operand(1);
            let known = |v: Value| at.constant(v).is_some() || at.splat(v).is_some();
            if known(x) && !known(y) {
                return at.bin(op, y, x);
            }
            commutative(at, x, y)
        }
        Op::Sub => {
            let y = at.operand(1);
            if at.is_splat(y, 0.0) {
                return at.fit(x);
            }
            if at.is_splat(x, 0.0) && at.ty(y) == at.out() {
                return at.un(Op::Neg, y);
            }
            if let Some(z) = at.arg_of(y, Op::Neg, 0) {
                return at.bin(Op::Add, x, z);
            }
            // Subtracting a constant is adding its negative.
            (float && at.constant(x).is_none()).then_some(())?;
            let negative = constant_op(at, Op::Neg, &[y])?;
            at.bin(Op::Add, x, negative)
        }
        Op::Div => div(at, float),
        Op::Pow if float => pow(at),
        _ => None,
    }
}

fn commutative(at: &mut At, x: Value, y: Value) -> Option<Value> {
    let (op, elem) = (at.op(), at.out().elem);
    match (op, at.splat(y)) {
        (Op::Add, Some(0.0)) | (Op::Mul, Some(1.0)) => return at.fit(x),
        (Op::Mul, Some(-1.0)) if at.ty(x) == at.out() => return at.un(Op::Neg, x),
        (Op::Mul, Some(c)) if elem.is_float() => {
            if let Some(v) = mean_of_sum(at, x, c) {
                return Some(v);
            }
        }
        (Op::Max, Some(0.0)) if elem.is_real() && at.ty(x) == at.out() => {
            // min(x, hi) first and then max with 0: a clamp, as 0 <= hi.
            return match bounded(at, x, Op::Min).filter(|&(_, hi)| hi >= 0.0) {
                Some((z, hi)) => clamp(at, z, 0.0, hi),
                None => at.un(Op::Relu, x),
            };
        }
        (Op::Max, Some(lo)) if elem.is_float() => {
            if let Some((z, hi)) = bounded(at, x, Op::Min).filter(|&(_, hi)| hi >= lo) {
                return clamp(at, z, lo, hi);
            }
        }
        (Op::Min, Some(hi)) if elem.is_float() => {
            if let Some((z, lo)) = bounded(at, x, Op::Max).filter(|&(_, lo)| hi >= lo) {
                return clamp(at, z, lo, hi);
            }
        }
        (Op::And, Some(1.0)) | (Op::Or, Some(0.0)) | (Op::Xor, Some(0.0)) if elem == graphc_ir::Elem::Bool => return at.fit(x),
        _ => {}
    }
    match op {
        Op::Add => {
            if let Some(z) = at.arg_of(y, Op::Neg, 0) {
                return at.bin(Op::Sub, x, z);
            }
            if let Some(z) = at.arg_of(x, Op::Neg, 0) {
                return at.bin(Op::Sub, y, z);
            }
        }
        Op::Mul => {
            // (-x) * c = x * (-c), (-x) * y = -(x * y)
            for (x, y) in [(x, y), (y, x)] {
                let Some(z) = at.arg_of(x, Op::Neg, 0).filter(|_| elem.is_float()) else { continue };
                if let Some(c) = constant_op(at, Op::Neg, &[y]) {
                    return at.bin(Op::Mul, z, c);
                }
                if at.only_use(x) {
                    let product = at.bin(Op::Mul, z, y)?;
                    return at.un(Op::Neg, product);
                }
            }
        }
        Op::Max | Op::Min if x == y => return Some(x),
        _ => {}
    }
    chain(at, x, y)
}

/// `(x op c) op d` is `x op (c op d)`; sums only where nothing cancels.
fn chain(at: &mut At, x: Value, y: Value) -> Option<Value> {
    let op = at.op();
    let d = at.constant(y)?.clone();
    let inner = at.def(x, op)?;
    let (z, c) = (inner.operands[0], inner.operands[1]);
    let c_value = at.constant(c)?;
    let exact = !at.out().elem.is_float() || matches!(op, Op::Max | Op::Min);
    let safe = match op {
        Op::Add => exact || one_sign(c_value, &d),
        Op::Mul => exact || [c_value, &d].iter().all(|t| moderate(t)),
        Op::Max | Op::Min | Op::And | Op::Or | Op::Xor => true,
        _ => false,
    };
    if !safe {
        return None;
    }
    let both = constant_op(at, op, &[c, y])?;
    at.bin(op, z, both)
}

/// True if all elements of both have one sign.
fn one_sign(a: &Tensor, b: &Tensor) -> bool {
    let (Some(a), Some(b)) = (a.to_reals(), b.to_reals()) else { return false };
    let all = |p: fn(f64) -> bool| a.iter().chain(&b).all(|&v| p(v));
    all(|v| v >= 0.0) || all(|v| v <= 0.0)
}

/// True if no element is so large or small that a product of two leaves the normal numbers.
fn moderate(t: &Tensor) -> bool {
    let bound = if t.elem() == graphc_ir::Elem::F16 { 1e2 } else { 1e9 };
    t.to_reals().is_some_and(|v| v.iter().all(|v| *v == 0.0 || (v.abs() < bound && v.abs() > 1.0 / bound)))
}

/// `op` on constants as a constant; `None` if an operand is none.
pub fn constant_op(at: &mut At, op: Op, x: &[Value]) -> Option<Value> {
    let tensors: Vec<&Tensor> = x.iter().map(|&v| at.constant(v)).collect::<Option<_>>()?;
    let types: Vec<_> = x.iter().map(|&v| at.ty(v)).collect();
    let out = (op.def().infer)(&types, &Attrs::new()).ok()?.pop()?;
    let t = match consteval::fast(op, &tensors, &Attrs::new(), &out) {
        Some(t) => t,
        None => consteval::oracle(op, &tensors, &Attrs::new())?.pop()?,
    };
    Some(at.b.constant(t))
}

/// `x = op(z, bound)` with a constant bound, `relu` and `clamp` included where they are one-sided the right way.
fn bounded(at: &At, x: Value, op: Op) -> Option<(Value, f64)> {
    if op == Op::Max
        && let Some(z) = at.arg_of(x, Op::Relu, 0)
    {
        return Some((z, 0.0));
    }
    let d = at.def(x, op)?;
    let c = at.splat(d.operands[1])?;
    Some((d.operands[0], c))
}

fn clamp(at: &mut At, x: Value, lo: f64, hi: f64) -> Option<Value> {
    at.emit(Op::Clamp, &[x], Attrs::new().with("lo", lo).with("hi", hi))
}

fn clamp_of(at: &mut At, x: Value) -> Option<Value> {
    let (lo, hi) = (at.attrs().real("lo"), at.attrs().real("hi"));
    if let Some(z) = at.arg_of(x, Op::Relu, 0).filter(|_| hi >= 0.0) {
        return clamp(at, z, lo.max(0.0), hi.max(0.0));
    }
    let d = at.def(x, Op::Clamp)?;
    let (z, l, h) = (d.operands[0], d.attrs.real("lo"), d.attrs.real("hi"));
    (l <= h && lo <= hi && l.max(lo) <= h.min(hi)).then(|| clamp(at, z, l.max(lo), h.min(hi)))?
}

/// `sum(x) * (1/n)` over n elements is the mean.
fn mean_of_sum(at: &mut At, x: Value, c: f64) -> Option<Value> {
    let d = at.def(x, Op::Reduce).filter(|d| d.attrs.str("kind") == "sum" && at.ty(x) == at.out())?;
    let (z, mut attrs) = (d.operands[0], d.attrs.clone());
    let extents: Vec<_> = attrs.sizes("axes").iter().map(|&k| at.ty(z).shape[k].clone()).collect();
    let n = consteval::const_elements(&extents)?;
    let elem = at.out().elem;
    if !crate::rewriting::has_formulas(elem) || !crate::rewriting::close(c * n as f64, 1.0, crate::rewriting::rounding(elem)) {
        return None;
    }
    attrs.set("kind", "mean");
    at.emit(Op::Reduce, &[z], attrs)
}

fn div(at: &mut At, float: bool) -> Option<Value> {
    let (x, y) = (at.operand(0), at.operand(1));
    if at.is_splat(y, 1.0) {
        return at.fit(x);
    }
    if !float {
        return None;
    }
    if let Some(n) = at.splat(y).filter(|&c| c != 0.0) {
        if let Some(v) = mean_of_sum(at, x, 1.0 / n) {
            return Some(v);
        }
        // The reciprocal of a power of two is exact.
        let r = 1.0 / n;
        if n.abs().log2().fract() == 0.0 && r.is_finite() && n.abs() < 1e9 && n.abs() > 1e-9 {
            let r = at.scalar(r, at.out().elem)?;
            return at.bin(Op::Mul, x, r);
        }
    }
    if at.is_splat(x, 1.0)
        && at.ty(y) == at.out()
        && let Some(z) = at.arg_of(y, Op::Sqrt, 0)
    {
        return at.un(Op::Rsqrt, z);
    }
    None
}

fn pow(at: &mut At) -> Option<Value> {
    let (x, e) = (at.operand(0), at.splat(at.operand(1))?);
    if at.ty(x) != at.out() {
        return None;
    }
    match e {
        1.0 => Some(x),
        2.0 => at.bin(Op::Mul, x, x),
        3.0 => {
            let x2 = at.bin(Op::Mul, x, x)?;
            at.bin(Op::Mul, x2, x)
        }
        -1.0 => {
            let one = at.scalar(1.0, at.out().elem)?;
            at.bin(Op::Div, one, x)
        }
        _ => None,
    }
}
