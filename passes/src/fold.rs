//! Constant folding.

use crate::consteval;
use crate::pass::{Diag, Pass, PassCx};
use crate::rewriting::{At, rewrite_func};
use graphc_ir::op::Effect;
use graphc_ir::{Attrs, Module, Op, Tensor, Value};
use hashbrown::HashSet;

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
        let mut changed = 0;
        for f in &mut m.funcs {
            // Fused regions hold no constants but scalars.
            let mut fused = HashSet::new();
            f.walk(f.body, &mut |f, _, i| {
                if f.inst(i).op == Op::Fused {
                    fused.extend(f.inst(i).regions.iter().flat_map(|&r| f.region(r).insts.iter().copied()));
                }
            });
            changed += rewrite_func(f, &mut |at| fold(at).filter(|&v| at.ty(v).rank() == 0 || !fused.contains(&at.inst)));
        }
        Ok(changed)
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
    let given: usize = x.iter().map(|t| t.bytes_len()).sum();
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
