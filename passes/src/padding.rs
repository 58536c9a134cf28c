//! Padding becomes part of the window that reads it.

use crate::pass::{Diag, Pass, PassCx};
use crate::rewriting::{At, rewrite};
use graphc_ir::{Dim, Func, Module, Op, Value};

/// Joins zero padding of height and width into the convolution that reads it, and into max pooling where it cannot win: padding by the
/// least value, or by zero around values that are not negative. Padding moves below reshapes that add or remove axes of extent 1.
///
/// Leaves no such pair.
pub struct Padding;

impl Pass for Padding {
    fn name(&self) -> &'static str {
        "padding"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        rewrite(m, &mut |at| if at.op() == Op::Reshape { below_reshape(at) } else { join(at) })
    }
}

/// `reshape(pad(x))`, where the reshape only adds and removes axes of extent 1, becomes `pad(reshape(x))`.
fn below_reshape(at: &mut At) -> Option<Value> {
    let t = at.operand(0);
    let pad = at.def(t, Op::Pad).filter(|_| at.only_use(t))?;
    let (x, fill) = (pad.operands[0], pad.operands[1]);
    let axes = |shape: &[Dim]| (0..shape.len()).filter(|&k| !shape[k].is_one()).collect::<Vec<_>>();
    let (from, to) = (&at.ty(t).shape, at.out().shape.clone());
    let (old, new) = (axes(from), axes(&to));
    if old.len() != new.len() || old.iter().zip(&new).any(|(&i, &j)| from[i] != to[j]) {
        return None;
    }
    let mut inner = to.clone();
    let mut attrs = pad.attrs.clone();
    for key in ["low", "high"] {
        let mut moved = vec![Dim::ZERO; to.len()];
        old.iter().zip(&new).for_each(|(&i, &j)| moved[j] = pad.attrs.dims(key)[i].clone());
        attrs.set(key, moved);
    }
    old.iter().zip(&new).for_each(|(&i, &j)| inner[j] = at.ty(x).shape[i].clone());
    let y = at.b.reshape(x, &inner).ok()?;
    at.emit(Op::Pad, &[y, fill], attrs)
}

fn join(at: &mut At) -> Option<Value> {
    let op = at.op();
    if !matches!(op, Op::Conv2d | Op::Depthwise | Op::Pool2d) {
        return None;
    }
    let pad = at.def(at.operand(0), Op::Pad)?;
    let (x, fill) = (pad.operands[0], at.splat(pad.operands[1])?);
    let (low, high) = (pad.attrs.dims("low"), pad.attrs.dims("high"));
    let [nl, hl, wl, cl] = low else { return None };
    let [nh, hh, wh, ch] = high else { return None };
    let outside = [nl, nh, cl, ch].iter().all(|d| d.is_zero());
    if !outside || ![hl, hh, wl, wh].iter().all(|d| d.never_negative()) {
        return None;
    }
    let (pad_low, pad_high) = ([hl.clone(), wl.clone()], [hh.clone(), wh.clone()]);
    let add = |have: &[Dim], more: &[Dim; 2]| -> Vec<Dim> { have.iter().zip(more).map(|(a, b)| a + b).collect() };
    let mut attrs = at.attrs().clone();
    let (low, high) = (add(attrs.dims("low"), &pad_low), add(attrs.dims("high"), &pad_high));
    match op {
        Op::Pool2d => {
            if attrs.str("kind") != "max" {
                return None;
            }
            // The window's own padding does not count, so joined it must not have any, and each window must meet real elements.
            let own = attrs.dims("low").iter().chain(attrs.dims("high")).all(Dim::is_zero);
            let window = attrs.ints("window").to_vec();
            let meets = low.iter().zip(&window).chain(high.iter().zip(&window)).all(|(p, &w)| p.as_const().is_some_and(|p| p < w));
            let least = fill == f64::NEG_INFINITY || fill == 0.0 && not_negative(at.b.func, x, 8);
            if !own || !meets || !least {
                return None;
            }
        }
        _ if fill != 0.0 => return None,
        _ => {}
    }
    attrs.set("low", low);
    attrs.set("high", high);
    let mut operands = at.data().operands.clone();
    operands[0] = x;
    at.emit(op, &operands, attrs)
}

/// True if no element of `v` is negative (NaN aside).
fn not_negative(f: &Func, v: Value, depth: usize) -> bool {
    let Some(d) = f.def_inst(v).map(|i| f.inst(i)).filter(|_| depth > 0) else { return false };
    let operand = |k: usize| not_negative(f, d.operands[k], depth - 1);
    match d.op {
        Op::Relu | Op::Sigmoid | Op::HardSigmoid | Op::Exp | Op::Softplus | Op::Sqrt => true,
        Op::Abs => f.ty(v).elem.is_float(),
        Op::Clamp => d.attrs.real("lo") >= 0.0,
        Op::Softmax => !d.attrs.flag("log"),
        Op::Reshape | Op::Transpose | Op::Slice | Op::Broadcast | Op::Reverse | Op::Pool2d => operand(0),
        Op::Concat => (0..d.operands.len()).all(operand),
        Op::Add | Op::Mul | Op::Min if f.ty(v).elem.is_float() => operand(0) && operand(1),
        Op::Max => operand(0) || operand(1),
        op if op.has_epilogue() => match d.attrs.str("act") {
            "relu" | "sigmoid" | "hard_sigmoid" => !d.attrs.flag("residual_last"),
            "clamp" => d.attrs.real("act_lo") >= 0.0 && !d.attrs.flag("residual_last"),
            _ => false,
        },
        _ => false,
    }
}
