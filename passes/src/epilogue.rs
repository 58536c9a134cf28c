//! Bias, residual and activation become the epilogue of matrix work.

use crate::pass::{Diag, Pass, PassCx};
use crate::rewriting::{At, rewrite, strip_ones};
use graphc_ir::{Attrs, InstData, Module, Op, Value};

/// Moves a per-channel addition, the addition of a tensor of the same type, and an activation after a contraction or convolution into
/// its epilogue, where the matrix work has no other use.
///
/// Leaves none that the epilogue could take.
pub struct Epilogue;

impl Pass for Epilogue {
    fn name(&self) -> &'static str {
        "epilogue"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        rewrite(m, &mut |at| match at.op() {
            Op::Add => add(at),
            _ => activation(at),
        })
    }
}

pub(crate) fn has_act(d: &InstData) -> bool {
    !matches!(d.attrs.str("act"), "" | "none")
}

/// The matrix work that makes `v` for the instruction at hand alone.
fn matrix_work(at: &At, v: Value) -> Option<InstData> {
    let d = at.b.func.inst(at.b.func.def_inst(v)?);
    (d.op.has_epilogue() && at.only_use(v) && at.ty(v).elem.is_float()).then(|| d.clone())
}

/// Ops that epilogues apply, and what they call them; gelu in its form with tanh has another name.
const ACTIVATIONS: [(Op, &str); 10] = [
    (Op::Relu, "relu"),
    (Op::Clamp, "clamp"),
    (Op::LeakyRelu, "leaky_relu"),
    (Op::Gelu, "gelu"),
    (Op::Silu, "silu"),
    (Op::Sigmoid, "sigmoid"),
    (Op::Tanh, "tanh"),
    (Op::HardSwish, "hard_swish"),
    (Op::HardSigmoid, "hard_sigmoid"),
    (Op::Elu, "elu"),
];
const GELU_TANH: &str = "gelu_tanh";

fn activation(at: &mut At) -> Option<Value> {
    let real = |key| at.attrs().real(key);
    let (_, name) = ACTIVATIONS.into_iter().find(|&(op, _)| op == at.op())?;
    let (act, lo, hi) = match at.op() {
        Op::Clamp => (name, real("lo"), real("hi")),
        Op::LeakyRelu => (name, real("alpha"), 0.0),
        Op::Gelu if at.attrs().flag("tanh") => (GELU_TANH, 0.0, 0.0),
        _ => (name, 0.0, 0.0),
    };
    let mut d = matrix_work(at, at.operand(0))?;
    if has_act(&d) || d.attrs.flag("residual_last") {
        return None;
    }
    d.attrs.set("act", act);
    if lo != 0.0 || hi != 0.0 {
        d.attrs.set("act_lo", lo);
        d.attrs.set("act_hi", hi);
    }
    at.emit(d.op, &d.operands, d.attrs)
}

/// The op that does what the activation of an epilogue does, with its attributes.
pub(crate) fn activation_of(epilogue: &Attrs) -> Option<(Op, Attrs)> {
    let (lo, hi) = (epilogue.real("act_lo"), epilogue.real("act_hi"));
    let name = epilogue.str("act");
    if name == GELU_TANH {
        return Some((Op::Gelu, Attrs::new().with("tanh", true)));
    }
    let (op, _) = ACTIVATIONS.into_iter().find(|&(_, known)| known == name)?;
    let attrs = match op {
        Op::Clamp => Attrs::new().with("lo", lo).with("hi", hi),
        Op::LeakyRelu => Attrs::new().with("alpha", lo),
        _ => Attrs::new(),
    };
    Some((op, attrs))
}

fn add(at: &mut At) -> Option<Value> {
    let (x, y) = (at.operand(0), at.operand(1));
    bias(at, x, y).or_else(|| bias(at, y, x)).or_else(|| residual(at, y, x)).or_else(|| residual(at, x, y))
}

fn bias(at: &mut At, x: Value, b: Value) -> Option<Value> {
    let mut d = matrix_work(at, x).filter(|d| !d.attrs.flag("bias") && !has_act(d))?;
    let channels = at.out().shape.last()?.clone();
    let own = strip_ones(&at.ty(b).shape);
    let per_channel = own == std::slice::from_ref(&channels) || own.is_empty() && channels.is_one();
    if at.ty(x) != at.out() || !per_channel {
        return None;
    }
    let b = at.b.reshape(b, &[channels]).ok()?;
    let k = d.operands.len() - d.attrs.flag("residual") as usize;
    d.operands.insert(k, b);
    d.attrs.set("bias", true);
    at.emit(d.op, &d.operands, d.attrs)
}

fn residual(at: &mut At, x: Value, r: Value) -> Option<Value> {
    let mut d = matrix_work(at, x).filter(|d| !d.attrs.flag("residual"))?;
    if at.ty(r) != at.ty(x) || at.constant(r).is_some() {
        return None;
    }
    if has_act(&d) {
        d.attrs.set("residual_last", true);
    }
    d.attrs.set("residual", true);
    d.operands.push(r);
    at.emit(d.op, &d.operands, d.attrs)
}
