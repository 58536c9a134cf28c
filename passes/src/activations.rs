//! Activation functions that the graph spells out.

use crate::pass::{Diag, Pass, PassCx};
use crate::rewriting::{At, close, has_formulas, rewrite, rounding};
use graphc_ir::{Attrs, Module, Op, Value};

/// Recognises gelu (through erf, erfc, tanh or sigmoid), silu, sigmoid, hard_swish, hard_sigmoid, softplus, leaky_relu and elu in the
/// forms that frameworks write. Constants may be rounded and in any place: an argument is matched as a polynomial of x, a product by
/// its factors.
///
/// Leaves none of them spelled out.
pub struct Activations;

impl Pass for Activations {
    fn name(&self) -> &'static str {
        "activations"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        rewrite(m, &mut |at| {
            if !at.op().is_elementwise() || !has_formulas(at.out().elem) {
                return None;
            }
            match at.op() {
                Op::Mul => product(at).or_else(|| hard_sigmoid(at)),
                Op::Div => sigmoid(at).or_else(|| product(at)).or_else(|| hard_sigmoid(at)),
                Op::Clamp => hard_sigmoid(at),
                Op::Log | Op::Log1p => softplus(at),
                Op::Max => leaky_relu_max(at),
                Op::Add => leaky_relu_halves(at, 1.0),
                Op::Sub => leaky_relu_halves(at, -1.0),
                Op::Select => select(at),
                _ => None,
            }
        })
    }
}

/// Coefficients of 1, x, x², x³.
type Poly = [f64; 4];

/// `v` as a polynomial of `x`, if additions, products and quotients of constants lead from one to the other.
fn poly(at: &At, v: Value, x: Value, depth: usize) -> Option<Poly> {
    if v == x {
        return Some([0.0, 1.0, 0.0, 0.0]);
    }
    if let Some(c) = at.splat(v) {
        return Some([c, 0.0, 0.0, 0.0]);
    }
    let d = at.b.func.inst(at.b.func.def_inst(v)?);
    let depth = depth.checked_sub(1)?;
    let p = |k: usize| poly(at, d.operands[k], x, depth);
    let zip = |f: fn(f64, f64) -> f64| -> Option<Poly> {
        let (a, b) = (p(0)?, p(1)?);
        Some([0, 1, 2, 3].map(|i| f(a[i], b[i])))
    };
    match d.op {
        Op::Neg => p(0).map(|a| a.map(|v| -v)),
        Op::Add => zip(|a, b| a + b),
        Op::Sub => zip(|a, b| a - b),
        Op::Mul => {
            let (a, b) = (p(0)?, p(1)?);
            let mut out = [0.0; 7];
            for (i, x) in a.iter().enumerate() {
                for (j, y) in b.iter().enumerate() {
                    out[i + j] += x * y;
                }
            }
            out[4..].iter().all(|&c| c == 0.0).then(|| [out[0], out[1], out[2], out[3]])
        }
        Op::Div => {
            let (a, b) = (p(0)?, at.splat(d.operands[1])?);
            Some(a.map(|v| v / b))
        }
        _ => None,
    }
}

/// Coefficients are products of a few constants, each rounded.
fn is_poly(have: Poly, want: Poly, rounding: f64) -> bool {
    have.iter().zip(want).all(|(&h, w)| if w == 0.0 { h == 0.0 } else { close(h, w, 5.0 * rounding) })
}

/// The factors of `v` through products and quotients by constants, and the constant among them.
fn factors(at: &At, v: Value, depth: usize, out: &mut Vec<Value>) -> f64 {
    if let Some(c) = at.splat(v) {
        return c;
    }
    if let Some(d) = at.b.func.def_inst(v).map(|i| at.b.func.inst(i)).filter(|_| depth > 0) {
        let (a, b) = (d.operands.first().copied(), d.operands.get(1).copied());
        match (d.op, a, b) {
            (Op::Mul, Some(a), Some(b)) => return factors(at, a, depth - 1, out) * factors(at, b, depth - 1, out),
            (Op::Neg, Some(a), _) => return -factors(at, a, depth - 1, out),
            (Op::Div, Some(a), Some(b)) => {
                if let Some(c) = at.splat(b) {
                    return factors(at, a, depth - 1, out) / c;
                }
            }
            _ => {}
        }
    }
    out.push(v);
    1.0
}

/// `v = p + q * t` where `t` comes from a function that activations are made of: `(p, q, t)`.
fn linear_in_atom(at: &At, v: Value, depth: usize) -> Option<(f64, f64, Value)> {
    let d = at.b.func.inst(at.b.func.def_inst(v)?);
    if matches!(d.op, Op::Erf | Op::Erfc | Op::Tanh | Op::Sigmoid | Op::HardSigmoid | Op::Clamp) {
        return Some((0.0, 1.0, v));
    }
    let depth = depth.checked_sub(1)?;
    let operand = |k: usize| linear_in_atom(at, d.operands[k], depth);
    let (splat0, splat1) = (at.splat(*d.operands.first()?), d.operands.get(1).and_then(|&b| at.splat(b)));
    match (d.op, splat0, splat1) {
        (Op::Add, _, Some(c)) => operand(0).map(|(p, q, t)| (p + c, q, t)),
        (Op::Add, Some(c), _) => operand(1).map(|(p, q, t)| (p + c, q, t)),
        (Op::Sub, _, Some(c)) => operand(0).map(|(p, q, t)| (p - c, q, t)),
        (Op::Sub, Some(c), _) => operand(1).map(|(p, q, t)| (c - p, -q, t)),
        (Op::Mul, _, Some(c)) => operand(0).map(|(p, q, t)| (p * c, q * c, t)),
        (Op::Mul, Some(c), _) => operand(1).map(|(p, q, t)| (p * c, q * c, t)),
        (Op::Div, _, Some(c)) => operand(0).map(|(p, q, t)| (p / c, q / c, t)),
        (Op::Neg, ..) => operand(0).map(|(p, q, t)| (-p, -q, t)),
        _ => None,
    }
}

/// `c * x * (p + q * f(x))`.
fn product(at: &mut At) -> Option<Value> {
    let (a, b) = (at.operand(0), at.operand(1));
    let mut list = Vec::new();
    let mut c = factors(at, a, 3, &mut list);
    if at.op() == Op::Mul {
        c *= factors(at, b, 3, &mut list);
    } else {
        c /= at.splat(b)?;
    }
    let &[a, b] = list.as_slice() else { return None };
    if at.ty(a) != at.out() || at.ty(b) != at.out() {
        return None;
    }
    gated(at, a, b, c).or_else(|| gated(at, b, a, c))
}

fn gated(at: &mut At, x: Value, gate: Value, c: f64) -> Option<Value> {
    const ROOT_HALF: f64 = std::f64::consts::FRAC_1_SQRT_2;
    let (p, q, t) = linear_in_atom(at, gate, 4)?;
    let d = at.b.func.inst(at.b.func.def_inst(t)?);
    let arg = poly(at, d.operands[0], x, 6)?;
    let (p, q) = (p * c, q * c);
    let rounding = rounding(at.out().elem);
    let near = |v: f64, w: f64| (v - w).abs() <= 2.0 * rounding;
    let is_poly = |have, want| is_poly(have, want, rounding);
    // The tanh formula's argument: sqrt(2/pi) * (x + 0.044715 x³).
    let k = (2.0 / std::f64::consts::PI).sqrt();
    let cubic = [0.0, k, 0.0, k * 0.044715];
    let op = match d.op {
        Op::Erf | Op::Erfc => {
            // erfc(z) = 1 - erf(z)
            let (p, q) = if d.op == Op::Erfc { (p + q, -q) } else { (p, q) };
            let sign = arg[1].signum();
            (near(p, 0.5) && near(q * sign, 0.5) && is_poly(arg, [0.0, sign * ROOT_HALF, 0.0, 0.0])).then_some((Op::Gelu, false))
        }
        Op::Tanh if near(p, 0.5) && near(q, 0.5) => {
            if is_poly(arg, cubic) {
                Some((Op::Gelu, true))
            } else {
                is_poly(arg, [0.0, 0.5, 0.0, 0.0]).then_some((Op::Silu, false))
            }
        }
        Op::Sigmoid if near(p, 0.0) && near(q, 1.0) => {
            if is_poly(arg, cubic.map(|v| 2.0 * v)) {
                Some((Op::Gelu, true))
            } else {
                is_poly(arg, [0.0, 1.0, 0.0, 0.0]).then_some((Op::Silu, false))
            }
        }
        Op::HardSigmoid if near(p, 0.0) && near(q, 1.0) => is_poly(arg, [0.0, 1.0, 0.0, 0.0]).then_some((Op::HardSwish, false)),
        Op::Clamp if near(p, 0.0) => is_hard_sigmoid(arg, q, &d.attrs, rounding).then_some((Op::HardSwish, false)),
        _ => None,
    };
    let (op, tanh) = op?;
    let attrs = if tanh { Attrs::new().with("tanh", true) } else { Attrs::new() };
    at.emit(op, &[x], attrs)
}

/// True if `q * clamp(arg(x))` is `min(max(x + 3, 0), 6) / 6`.
fn is_hard_sigmoid(arg: Poly, q: f64, clamp: &Attrs, rounding: f64) -> bool {
    let s = arg[1];
    s > 0.0
        && is_poly(arg, [3.0 * s, s, 0.0, 0.0], rounding)
        && clamp.real("lo") == 0.0
        && close(clamp.real("hi"), 6.0 * s, 5.0 * rounding)
        && close(q * s * 6.0, 1.0, 5.0 * rounding)
}

/// `clamp(x + 3, 0, 6) / 6`, or `clamp(x / 6 + 1/2, 0, 1)`.
fn hard_sigmoid(at: &mut At) -> Option<Value> {
    let (t, q) = match at.op() {
        Op::Clamp => (at.data().results[0], 1.0),
        Op::Mul => (at.operand(0), at.splat(at.operand(1))?),
        _ => (at.operand(0), 1.0 / at.splat(at.operand(1))?),
    };
    let clamp = at.def(t, Op::Clamp)?;
    // x is what the argument is a scale and a shift of.
    let mut x = clamp.operands[0];
    for _ in 0..3 {
        let Some(d) = at.b.func.def_inst(x).map(|i| at.b.func.inst(i)) else { break };
        let constant = d.operands.get(1).is_some_and(|&c| at.splat(c).is_some());
        if !matches!(d.op, Op::Add | Op::Sub | Op::Mul | Op::Div) || !constant {
            break;
        }
        x = d.operands[0];
        let arg = poly(at, clamp.operands[0], x, 4)?;
        if is_hard_sigmoid(arg, q, &clamp.attrs, rounding(at.out().elem)) && at.ty(x) == at.out() {
            return at.un(Op::HardSigmoid, x);
        }
    }
    None
}

/// `1 / (1 + exp(-x))`.
fn sigmoid(at: &mut At) -> Option<Value> {
    if !at.is_splat(at.operand(0), 1.0) {
        return None;
    }
    let d = at.def(at.operand(1), Op::Add)?;
    let e = if at.is_splat(d.operands[1], 1.0) { d.operands[0] } else { d.operands[1] };
    let one = at.is_splat(d.operands[0], 1.0) || at.is_splat(d.operands[1], 1.0);
    let x = at.arg_of(at.arg_of(e, Op::Exp, 0)?, Op::Neg, 0)?;
    (one && at.ty(x) == at.out()).then(|| at.un(Op::Sigmoid, x))?
}

/// `log(exp(x) + 1)`, `log1p(exp(x))`.
fn softplus(at: &mut At) -> Option<Value> {
    let mut e = at.operand(0);
    if at.op() == Op::Log {
        let d = at.def(e, Op::Add).filter(|d| at.is_splat(d.operands[1], 1.0))?;
        e = d.operands[0];
    }
    let x = at.arg_of(e, Op::Exp, 0)?;
    (at.ty(x) == at.out()).then(|| at.un(Op::Softplus, x))?
}

/// `x * alpha`, with alpha.
fn scaled(at: &At, v: Value, x: Value) -> Option<f64> {
    let d = at.def(v, Op::Mul)?;
    if d.operands[0] == x { at.splat(d.operands[1]) } else { at.splat(d.operands[0]).filter(|_| d.operands[1] == x) }
}

fn leaky_relu(at: &mut At, x: Value, alpha: f64) -> Option<Value> {
    (at.ty(x) == at.out()).then(|| at.emit(Op::LeakyRelu, &[x], Attrs::new().with("alpha", alpha)))?
}

/// `max(x, alpha * x)` with alpha in (0, 1).
fn leaky_relu_max(at: &mut At) -> Option<Value> {
    let (a, b) = (at.operand(0), at.operand(1));
    let (x, alpha) = scaled(at, b, a).map(|c| (a, c)).or_else(|| scaled(at, a, b).map(|c| (b, c)))?;
    (alpha > 0.0 && alpha < 1.0).then(|| leaky_relu(at, x, alpha))?
}

/// `relu(x) - alpha * relu(-x)`, the second term with `sign`.
fn leaky_relu_halves(at: &mut At, sign: f64) -> Option<Value> {
    let (a, b) = (at.operand(0), at.operand(1));
    let parts = |p: Value, n: Value| {
        let x = at.arg_of(p, Op::Relu, 0)?;
        let d = at.def(n, Op::Mul)?;
        let below = at.arg_of(at.arg_of(d.operands[0], Op::Relu, 0)?, Op::Neg, 0)?;
        let c = at.splat(d.operands[1])?;
        (below == x).then_some((x, -c * sign))
    };
    let (x, alpha) = parts(a, b).or_else(|| if sign > 0.0 { parts(b, a) } else { None })?;
    leaky_relu(at, x, alpha)
}

/// `x > 0 ? x : alpha * x` and `x > 0 ? x : expm1(x)`.
fn select(at: &mut At) -> Option<Value> {
    let (c, yes, no) = (at.operand(0), at.operand(1), at.operand(2));
    let d = at.b.func.inst(at.b.func.def_inst(c)?);
    let (&[x, zero], op) = (d.operands.as_slice(), d.op) else { return None };
    if !at.is_splat(zero, 0.0) {
        return None;
    }
    let (positive, negative) = match op {
        Op::Gt | Op::Ge => (yes, no),
        Op::Lt | Op::Le => (no, yes),
        _ => return None,
    };
    if positive != x {
        return None;
    }
    if at.arg_of(negative, Op::Expm1, 0) == Some(x) && at.ty(x) == at.out() {
        return at.un(Op::Elu, x);
    }
    let alpha = scaled(at, negative, x)?;
    leaky_relu(at, x, alpha)
}
