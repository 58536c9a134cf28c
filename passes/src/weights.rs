//! Constant scales and offsets after matrix work become part of its weights and bias.

use crate::arith::constant_op;
use crate::pass::{Diag, Pass, PassCx};
use crate::rewriting::{At, rewrite, strip_ones};
use graphc_ir::{Dim, Elem, InstData, Module, Op, Tensor, Value};

/// Multiplies a constant scale per output channel (batch normalisation, a dequantisation scale) into constant weights, adds a
/// constant offset to the bias, and makes a scale of a product of two variable factors its `alpha`.
///
/// Leaves no multiplication by, or addition of, such a constant right after matrix work that nothing else reads. Weights of less than 32 bits
/// are not scaled: that would round them twice.
pub struct Weights;

impl Pass for Weights {
    fn name(&self) -> &'static str {
        "weights"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        rewrite(m, &mut |at| match at.op() {
            Op::Mul => {
                let (d, c) = parts(at)?;
                scale(at, d, c)
            }
            Op::Div => {
                let (d, c) = parts(at)?;
                let one = at.scalar(1.0, at.out().elem)?;
                let finite = at.constant(c)?.to_reals()?.iter().all(|v| v.abs() > 1e-30 && v.is_finite());
                finite.then_some(())?;
                let c = constant_op(at, Op::Div, &[one, c])?;
                scale(at, d, c)
            }
            Op::Neg => {
                let d = plain(at, at.operand(0))?;
                at.constant(d.operands[1])?;
                let c = at.scalar(-1.0, at.out().elem)?;
                scale(at, d, c)
            }
            Op::Add => offset(at),
            _ => None,
        })
    }
}

/// The matrix work that makes `x` for this op alone and without an epilogue beyond a bias.
fn plain(at: &At, x: Value) -> Option<InstData> {
    let d = at.b.func.inst(at.b.func.def_inst(x)?);
    let plain = d.op.has_epilogue() && d.attrs.str("act").is_empty() && !d.attrs.flag("residual");
    (plain && at.only_use(x) && at.ty(x) == at.out()).then(|| d.clone())
}

/// The matrix work that makes operand 0, and operand 1, if that is constant and varies along the last axis at most.
fn parts(at: &At) -> Option<(InstData, Value)> {
    let c = at.operand(1);
    at.constant(c)?;
    (strip_ones(&at.ty(c).shape).len() <= 1).then(|| Some((plain(at, at.operand(0))?, c)))?
}

fn scale(at: &mut At, mut d: InstData, c: Value) -> Option<Value> {
    let elem = at.out().elem;
    if !matches!(elem, Elem::F32 | Elem::F64) {
        return None;
    }
    if d.attrs.flag("bias") {
        let k = d.operands.len() - 1;
        let vector = channel_vector(at, c)?;
        d.operands[k] = constant_op(at, Op::Mul, &[d.operands[k], vector])?;
    }
    let one_value = at.splat(c);
    if at.constant(d.operands[1]).is_some() {
        let aligned = match one_value {
            Some(v) => at.scalar(v, elem)?,
            None => along_output(at, &d, c)?,
        };
        d.operands[1] = constant_op(at, Op::Mul, &[d.operands[1], aligned])?;
    } else {
        let s = one_value.filter(|_| d.op == Op::Contract && !d.attrs.flag("bias"))?;
        let alpha = d.attrs.real("alpha");
        d.attrs.set("alpha", if alpha == 0.0 { s } else { alpha * s });
        (d.attrs.real("alpha") != 0.0).then_some(())?;
    }
    at.emit(d.op, &d.operands, d.attrs)
}

fn offset(at: &mut At) -> Option<Value> {
    let (mut d, c) = parts(at)?;
    let vector = channel_vector(at, c)?;
    if d.attrs.flag("bias") {
        let k = d.operands.len() - 1;
        d.operands[k] = constant_op(at, Op::Add, &[d.operands[k], vector])?;
    } else {
        d.operands.push(vector);
        d.attrs.set("bias", true);
    }
    at.emit(d.op, &d.operands, d.attrs)
}

/// The constant as a vector over the last axis of the result.
fn channel_vector(at: &mut At, c: Value) -> Option<Value> {
    let n = usize::try_from(at.out().shape.last()?.as_const()?).ok()?;
    let t = at.constant(c)?;
    let vector = match t.len() {
        len if len == n => t.reshaped(&[n])?,
        1 => Tensor::from_bytes(t.elem(), vec![n], t.bytes().repeat(n))?,
        _ => return None,
    };
    Some(at.b.constant(vector))
}

/// The constant with its elements along the axes of the weights that make the last axis of the result.
fn along_output(at: &mut At, d: &InstData, c: Value) -> Option<Value> {
    let c = channel_vector(at, c)?;
    let w = at.ty(d.operands[1]).shape.clone();
    let shape: Vec<Dim> = match d.op {
        Op::Conv2d => vec![w.last()?.clone()],
        Op::Depthwise => w.get(2..)?.to_vec(),
        Op::ConvTranspose2d => vec![w.get(2)?.clone(), Dim::ONE],
        _ => {
            let used = [d.attrs.sizes("rhs"), d.attrs.sizes("rhs_batch")].concat();
            let axis = (0..w.len()).rev().find(|i| !used.contains(i))?;
            let mut shape = vec![Dim::ONE; w.len() - axis];
            shape[0] = w[axis].clone();
            shape
        }
    };
    let sizes: Vec<usize> = shape.iter().map(|d| usize::try_from(d.as_const()?).ok()).collect::<Option<_>>()?;
    let t = at.constant(c)?.reshaped(&sizes)?;
    Some(at.b.constant(t))
}
