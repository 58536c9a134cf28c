//! Softmax and layer normalisation that the graph spells out.

use crate::pass::{Diag, Pass, PassCx};
use crate::rewriting::{At, has_formulas, rewrite, strip_ones};
use graphc_ir::{Attrs, InstData, Module, Op, Tensor, Value};

/// Recognises `softmax` and `log_softmax` over the last axis, and `layer_norm` over the last axis in any grouping of centring, scaling
/// by the reciprocal deviation, gamma and beta.
///
/// Leaves none of them spelled out.
pub struct Norms;

impl Pass for Norms {
    fn name(&self) -> &'static str {
        "norms"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        rewrite(m, &mut |at| {
            if !at.op().is_elementwise() || !has_formulas(at.out().elem) {
                return None;
            }
            match at.op() {
                Op::Mul => normalised(at).or_else(|| gamma(at)),
                Op::Div => softmax(at).or_else(|| normalised(at)),
                Op::Sub => log_softmax(at).or_else(|| folded_form(at)),
                Op::Add => beta(at).or_else(|| folded_form(at)),
                _ => None,
            }
        })
    }
}

/// What `v` is the reduction of over the last axis, kept with extent 1.
fn reduced(at: &At, v: Value, kind: &str) -> Option<Value> {
    let x = reduced_rows(at, squeezed(at, v), kind)?;
    is_column(at, v, x).then_some(x)
}

/// What `v` is the reduction of over the last axis, kept with extent 1 or not.
fn reduced_rows(at: &At, v: Value, kind: &str) -> Option<Value> {
    let d = at.def(v, Op::Reduce)?;
    let x = d.operands[0];
    let last = at.ty(x).rank().checked_sub(1)?;
    (d.attrs.str("kind") == kind && d.attrs.sizes("axes") == [last]).then_some(x)
}

/// `v` before a reshape that adds an axis of extent 1 at the end, if it comes from one.
fn squeezed(at: &At, v: Value) -> Value {
    let inner = at.arg_of(v, Op::Reshape, 0);
    inner.filter(|&x| at.ty(v).shape.split_last().is_some_and(|(l, rows)| l.is_one() && rows == at.ty(x).shape)).unwrap_or(v)
}

/// True if `v` has the shape of `x` but for the last axis, where it has extent 1.
fn is_column(at: &At, v: Value, x: Value) -> bool {
    match (at.ty(v).shape.split_last(), at.ty(x).shape.split_last()) {
        (Some((one, rows)), Some((_, own))) => one.is_one() && rows == own,
        _ => false,
    }
}

/// `x - reduced(x)`: x.
fn less_reduced(at: &At, v: Value, kind: &str) -> Option<Value> {
    let d = at.def(v, Op::Sub)?;
    (reduced(at, d.operands[1], kind)? == d.operands[0]).then(|| d.operands[0])
}

/// `exp(x - max x) / sum(..)`.
fn softmax(at: &mut At) -> Option<Value> {
    let (e, sum) = (at.operand(0), at.operand(1));
    let x = less_reduced(at, at.arg_of(e, Op::Exp, 0)?, "max")?;
    (reduced(at, sum, "sum")? == e && at.ty(x) == at.out()).then(|| at.un(Op::Softmax, x))?
}

/// `(x - max x) - log(sum(exp(x - max x)))`.
fn log_softmax(at: &mut At) -> Option<Value> {
    let (d, l) = (at.operand(0), at.operand(1));
    let x = less_reduced(at, d, "max")?;
    let e = reduced(at, at.arg_of(l, Op::Log, 0)?, "sum")?;
    let same = at.arg_of(e, Op::Exp, 0)? == d && at.ty(x) == at.out();
    same.then(|| at.emit(Op::Softmax, &[x], Attrs::new().with("log", true)))?
}

/// x, if `v` is its variance over the last axis, kept or not.
fn variance(at: &At, v: Value) -> Option<Value> {
    let v = squeezed(at, v);
    if let Some(square) = reduced_rows(at, v, "mean") {
        let d = at.def(square, Op::Mul).filter(|d| d.operands[0] == d.operands[1])?;
        return less_reduced(at, d.operands[0], "mean");
    }
    // mean(x * x) - mean(x)², perhaps kept from going below zero.
    let v = at.arg_of(v, Op::Relu, 0).unwrap_or(v);
    let d = at.def(v, Op::Sub)?;
    let (x2, m2) = (at.def(reduced_rows(at, d.operands[0], "mean")?, Op::Mul)?, at.def(d.operands[1], Op::Mul)?);
    let x = reduced_rows(at, m2.operands[0], "mean")?;
    (x2.operands == [x, x] && m2.operands[0] == m2.operands[1]).then_some(x)
}

fn variance_and_eps(at: &At, v: Value) -> Option<(Value, f64)> {
    match at.def(v, Op::Add) {
        Some(d) => Some((variance(at, d.operands[0])?, at.splat(d.operands[1])?)),
        None if at.def(v, Op::Reshape).is_some() => None,
        None => Some((variance(at, v)?, 0.0)),
    }
}

/// `v = 1 / sqrt(variance(x) + eps)`, kept: x and eps.
fn reciprocal_deviation(at: &At, v: Value) -> Option<(Value, f64)> {
    variance_and_eps(at, at.arg_of(squeezed(at, v), Op::Rsqrt, 0)?).filter(|&(x, _)| is_column(at, v, x))
}

/// A value along the last axis of the result as a vector of its full extent.
fn vector(at: &mut At, v: Value) -> Option<Value> {
    let n = at.out().shape.last()?.clone();
    (strip_ones(&at.ty(v).shape) == std::slice::from_ref(&n) || at.ty(v).rank() == 1 && at.ty(v).shape[0] == n).then_some(())?;
    at.b.reshape(v, &[n]).ok()
}

fn filled(at: &mut At, v: f64) -> Option<Value> {
    let n = usize::try_from(at.out().shape.last()?.as_const()?).ok()?;
    let one = graphc_ir::builder::scalar_tensor(v, at.out().elem)?;
    let t = Tensor::from_bytes(one.elem(), vec![n], one.bytes().repeat(n))?;
    Some(at.b.constant(t))
}

fn layer_norm(at: &mut At, x: Value, gamma: Value, beta: Value, eps: f64) -> Option<Value> {
    (at.ty(x) == at.out()).then(|| at.emit(Op::LayerNorm, &[x, gamma, beta], Attrs::new().with("eps", eps)))?
}

/// `(x - mean) * rsqrt(var + eps) [* gamma]` and `(x - mean) / sqrt(var + eps)`, as a layer_norm with beta 0.
fn normalised(at: &mut At) -> Option<Value> {
    let (a, b) = (at.operand(0), at.operand(1));
    if at.op() == Op::Div {
        let x = less_reduced(at, a, "mean")?;
        let (y, eps) = variance_and_eps(at, at.arg_of(squeezed(at, b), Op::Sqrt, 0)?)?;
        (x == y && is_column(at, b, x)).then_some(())?;
        let (g, z) = (filled(at, 1.0)?, filled(at, 0.0)?);
        return layer_norm(at, x, g, z, eps);
    }
    for (centred, scale) in [(a, b), (b, a)] {
        let Some(x) = less_reduced(at, centred, "mean") else { continue };
        let Some((y, eps, gamma)) = scaled_deviation(at, scale) else { continue };
        if x != y {
            continue;
        }
        let z = filled(at, 0.0)?;
        let g = match gamma {
            Some(g) => vector(at, g)?,
            None => filled(at, 1.0)?,
        };
        return layer_norm(at, x, g, z, eps);
    }
    None
}

/// `rsqrt(var(x) + eps) [* gamma]`: x, eps and gamma.
fn scaled_deviation(at: &At, v: Value) -> Option<(Value, f64, Option<Value>)> {
    if let Some((x, eps)) = reciprocal_deviation(at, v) {
        return Some((x, eps, None));
    }
    let d = at.def(v, Op::Mul)?;
    let (a, b) = (d.operands[0], d.operands[1]);
    let (x, eps, g) =
        reciprocal_deviation(at, a).map(|(x, e)| (x, e, b)).or_else(|| reciprocal_deviation(at, b).map(|(x, e)| (x, e, a)))?;
    Some((x, eps, Some(g)))
}

/// A gamma joins a layer_norm that has none.
fn gamma(at: &mut At) -> Option<Value> {
    for (n, g) in [(at.operand(0), at.operand(1)), (at.operand(1), at.operand(0))] {
        let Some(d) = at.def(n, Op::LayerNorm).filter(|_| at.only_use(n)) else { continue };
        if !at.is_splat(d.operands[1], 1.0) || !at.is_splat(d.operands[2], 0.0) {
            continue;
        }
        let (x, z, eps) = (d.operands[0], d.operands[2], d.attrs.real("eps"));
        let g = vector(at, g)?;
        return layer_norm(at, x, g, z, eps);
    }
    None
}

/// A beta joins a layer_norm that has none.
fn beta(at: &mut At) -> Option<Value> {
    for (n, b) in [(at.operand(0), at.operand(1)), (at.operand(1), at.operand(0))] {
        let Some(d) = at.def(n, Op::LayerNorm).filter(|_| at.only_use(n)) else { continue };
        if !at.is_splat(d.operands[2], 0.0) {
            continue;
        }
        let (x, g, eps) = (d.operands[0], d.operands[1], d.attrs.real("eps"));
        let b = vector(at, b)?;
        return layer_norm(at, x, g, b, eps);
    }
    None
}

/// `x * m + (beta - mean * m)` with `m = rsqrt(var + eps) * gamma`, and `x * m - mean * m`.
fn folded_form(at: &mut At) -> Option<Value> {
    let (a, b) = (at.operand(0), at.operand(1));
    let (x, eps, gamma, beta) = match at.op() {
        Op::Sub => folded_parts(at, a, b).map(|(x, eps, gamma)| (x, eps, gamma, None))?,
        _ => [(a, b), (b, a)].into_iter().find_map(|(product, rest)| {
            let r = at.def(rest, Op::Sub)?;
            folded_parts(at, product, r.operands[1]).map(|(x, eps, gamma)| (x, eps, gamma, Some(r.operands[0])))
        })?,
    };
    let mut side = |v: Option<Value>, absent: f64| match v {
        Some(v) => vector(at, v),
        None => filled(at, absent),
    };
    let (g, b) = (side(gamma, 1.0)?, side(beta, 0.0)?);
    layer_norm(at, x, g, b, eps)
}

/// x, eps and gamma of `product = x * m` and `shift = mean * m`.
fn folded_parts(at: &At, product: Value, shift: Value) -> Option<(Value, f64, Option<Value>)> {
    let whole = |v: Value| at.arg_of(v, Op::Broadcast, 0).unwrap_or(v);
    let (p, s) = (at.def(product, Op::Mul)?, at.def(shift, Op::Mul)?);
    let either = |d: &InstData| [(d.operands[0], whole(d.operands[1])), (d.operands[1], whole(d.operands[0]))];
    for (x, m) in either(p) {
        let Some((y, eps, gamma)) = scaled_deviation(at, m) else { continue };
        let fits = |(mean, n)| n == m && reduced(at, mean, "mean") == Some(x);
        if x == y && either(s).into_iter().any(fits) {
            return Some((x, eps, gamma));
        }
    }
    None
}
