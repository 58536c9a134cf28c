//! Constant folding.

use crate::consteval;
use crate::pass::{Diag, Pass, PassCx};
use crate::rewriting::At;
use graphc_ir::op::Effect;
use graphc_ir::{Attrs, Module, Op, Tensor, Value};

/// Bytes that folding one instruction may add to the module beyond its operands.
const GROWTH: usize = 1 << 20;
/// Bytes to which a constant may be repeated or counted out.
const REPEATED: usize = 1 << 12;
/// Elements that the interpreter computes at compile time, weighed by the work of each.
const WORK: usize = 1 << 22;

/// Computes pure instructions on constants, and the index vectors whose dimensions are known.
///
/// Leaves instructions on constants only where the result would be much larger than the operands or too slow to compute.
pub struct Fold;

impl Pass for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        crate::rewriting::rewrite(m, &mut fold)
    }
}

fn fold(at: &mut At) -> Option<Value> {
    let d = at.data();
    if d.op == Op::Const || d.op.def().effect != Effect::Pure || !d.regions.is_empty() {
        return None;
    }
    let x: Vec<&Tensor> = d.operands.iter().map(|&v| at.constant(v)).collect::<Option<_>>()?;
    let out = at.out();
    let elements = consteval::const_elements(&out.shape)?;
    let bytes = elements.checked_mul(out.elem.size().max(1))?;
    let given: usize = x.iter().map(|t| t.bytes().len()).sum();
    let limit = match d.op {
        Op::Broadcast | Op::Iota => REPEATED.max(given),
        _ => given.checked_add(GROWTH)?,
    };
    if bytes > limit {
        return None;
    }
    let value = match consteval::fast(d.op, &x, &d.attrs, out) {
        Some(t) => t,
        None if elements.checked_mul(work(d.op, &x, &d.attrs))?.max(given) <= WORK => {
            let [t] = consteval::oracle(d.op, &x, &d.attrs)?.try_into().ok()?;
            t
        }
        None => return None,
    };
    (value.ty() == *out).then(|| at.b.constant(value))
}

/// Steps for one element of the result, roughly.
fn work(op: Op, x: &[&Tensor], attrs: &Attrs) -> usize {
    let extent =
        |t: &Tensor, axes: Vec<usize>| axes.iter().map(|&k| t.shape().get(k).copied().unwrap_or(1)).product::<usize>().max(1);
    match op {
        Op::Contract => extent(x[0], attrs.sizes("lhs")),
        Op::Conv2d | Op::Depthwise | Op::ConvTranspose2d => x[1].len(),
        Op::Attention => x[1].len() + x[2].len(),
        Op::Pool2d => extent_of(attrs.ints("window")),
        _ => 1,
    }
}

fn extent_of(window: &[i64]) -> usize {
    window.iter().map(|&w| usize::try_from(w).unwrap_or(1)).product()
}
