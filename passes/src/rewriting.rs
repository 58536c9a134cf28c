//! What rewriting passes share: sweeps over a module with a rule, and questions a rule asks about values.

use crate::dce;
use crate::pass::Diag;
use graphc_ir::builder::{self, Rewrite};
use graphc_ir::{Attrs, Builder, Def, Dim, Elem, Func, Inst, InstData, Module, Op, Region, Tensor, Type, Value};
use hashbrown::HashMap;

/// Sweeps of one pass that change something, at most; a rule that needs more does not converge.
const SWEEPS: usize = 32;

/// One instruction that a rule looks at, and the builder that places new instructions before it.
pub struct At<'a, 'f> {
    pub b: &'a mut Builder<'f>,
    pub inst: Inst,
    /// Uses of each value at this point of the sweep.
    uses: &'a [u32],
}

/// A rule: the value that takes the place of the instruction's only result, or `None` to leave it. What a rule built before giving
/// up goes away, so rules use `?` freely.
pub type Rule<'r> = &'r mut dyn FnMut(&mut At) -> Option<Value>;

/// Applies `rule` to each instruction with one result in every function until nothing changes. Returns the number of changes.
///
/// # Errors
/// None at present; the signature is that of a pass.
pub fn rewrite(m: &mut Module, rule: Rule) -> Result<usize, Diag> {
    Ok(m.funcs.iter_mut().map(|f| rewrite_func(f, rule)).sum())
}

/// As [`rewrite`], for one function.
pub fn rewrite_func(f: &mut Func, rule: Rule) -> usize {
    let mut total = 0;
    for _ in 0..SWEEPS {
        let n = rewrite_once(f, rule);
        total += n;
        if n == 0 {
            break;
        }
    }
    total
}

/// One sweep over `f`, after what nothing uses has gone: uses count.
pub fn rewrite_once(f: &mut Func, rule: Rule) -> usize {
    let mut uses = dce::prune(f);
    let body = f.body;
    count_outer_uses(f, &mut uses);
    let outcome: Result<usize, std::convert::Infallible> = builder::rewrite(f, body, &mut |b, inst| {
        let &[old] = b.func.inst(inst).results.as_slice() else { return Ok(Rewrite::Keep) };
        let new = rule(&mut At { b, inst, uses: &uses }).filter(|&v| v != old && b.func.ty(v) == b.func.ty(old));
        uses.resize(b.func.value_count(), 0);
        let Some(new) = new else {
            b.insts.clear();
            return Ok(Rewrite::Keep);
        };
        // Keep count: what was made uses its operands, what goes does not, and the new value has the old one's users.
        for &made in &b.insts {
            b.func.inst(made).operands.iter().for_each(|v| uses[v.index()] += 1);
        }
        b.func.inst(inst).operands.iter().for_each(|v| uses[v.index()] = uses[v.index()].saturating_sub(1));
        uses[new.index()] += std::mem::take(&mut uses[old.index()]);
        Ok(Rewrite::Replace(vec![new]))
    });
    outcome.unwrap_or(0)
}

/// Counts each use inside a branch or loop of a value from outside once more, so that no rule takes it for the only one: moved inside
/// a loop, work would be done in each round.
fn count_outer_uses(f: &Func, uses: &mut [u32]) {
    let mut nested = false;
    f.walk(f.body, &mut |f, _, i| nested |= matches!(f.inst(i).op, Op::If | Op::While));
    if !nested {
        return;
    }
    let mut home: HashMap<Inst, Region> = HashMap::new();
    f.walk(f.body, &mut |_, r, i| _ = home.insert(i, r));
    f.walk(f.body, &mut |f, r, i| {
        for &v in &f.inst(i).operands {
            let defined = match f.value(v).def {
                Def::Param(r, _) => Some(r),
                Def::Result(i, _) => home.get(&i).copied(),
            };
            if defined != Some(r) {
                uses[v.index()] += 1;
            }
        }
    });
}

impl At<'_, '_> {
    pub fn data(&self) -> &InstData {
        self.b.func.inst(self.inst)
    }

    pub fn op(&self) -> Op {
        self.data().op
    }

    pub fn operand(&self, k: usize) -> Value {
        self.data().operands[k]
    }

    pub fn attrs(&self) -> &Attrs {
        &self.data().attrs
    }

    pub fn ty(&self, v: Value) -> &Type {
        self.b.func.ty(v)
    }

    /// Type of the result.
    pub fn out(&self) -> &Type {
        self.b.func.ty(self.data().results[0])
    }

    /// The instruction that defines `v`, if it is an `op`.
    pub fn def(&self, v: Value, op: Op) -> Option<&InstData> {
        self.b.func.def_op(v, op)
    }

    /// Operand `k` of the `op` that defines `v`, if one does.
    pub fn arg_of(&self, v: Value, op: Op, k: usize) -> Option<Value> {
        Some(self.def(v, op)?.operands[k])
    }

    /// True if nothing but the instruction at hand uses `v`.
    pub fn only_use(&self, v: Value) -> bool {
        self.uses.get(v.index()) == Some(&1)
    }

    pub fn splat(&self, v: Value) -> Option<f64> {
        splat(self.b.func, v)
    }

    pub fn is_splat(&self, v: Value, x: f64) -> bool {
        self.splat(v) == Some(x)
    }

    pub fn constant(&self, v: Value) -> Option<&Tensor> {
        self.b.func.const_of(v)
    }

    /// `op` on `x` with other attributes.
    pub fn emit(&mut self, op: Op, x: &[Value], attrs: Attrs) -> Option<Value> {
        self.b.op(op, x, attrs).ok()
    }

    pub fn un(&mut self, op: Op, x: Value) -> Option<Value> {
        self.b.un(op, x).ok()
    }

    pub fn bin(&mut self, op: Op, x: Value, y: Value) -> Option<Value> {
        self.b.bin(op, x, y).ok()
    }

    pub fn scalar(&mut self, v: f64, elem: Elem) -> Option<Value> {
        self.b.scalar(v, elem).ok()
    }

    /// `x` repeated to the shape of the result, unless it has it.
    pub fn fit(&mut self, x: Value) -> Option<Value> {
        let shape = self.out().shape.clone();
        self.b.broadcast(x, &shape).ok()
    }
}

/// The number, if `v` is a real constant with one value throughout, also under broadcasts and reshapes.
pub fn splat(f: &Func, v: Value) -> Option<f64> {
    let d = f.inst(f.def_inst(v)?);
    match d.op {
        Op::Const => {
            let t = d.attrs.tensor("value").filter(|t| !t.is_deferred())?;
            if t.len() == 1 { t.to_reals()?.first().copied() } else { t.splat_value()?.to_reals()?.first().copied() }
        }
        Op::Broadcast | Op::Reshape => splat(f, d.operands[0]),
        _ => None,
    }
}

/// True for the types in which formulas are recognised. TensorFlow's f16 kernels round after every step that the graph has, so those
/// steps are kept; its bf16 kernels round once.
pub fn has_formulas(e: Elem) -> bool {
    matches!(e, Elem::BF16 | Elem::F32 | Elem::F64)
}

/// How far, relatively, a constant of a formula may be from its value, being rounded to `elem`.
pub fn rounding(elem: Elem) -> f64 {
    match elem {
        Elem::BF16 => 1e-2,
        _ => 1e-6,
    }
}

/// True if `a` is `b` within the relative error `rounding`.
pub fn close(a: f64, b: f64, rounding: f64) -> bool {
    (a - b).abs() <= rounding * b.abs().max(1e-30)
}

/// `shape` without the leading dimensions of extent 1.
pub fn strip_ones(shape: &[Dim]) -> &[Dim] {
    &shape[shape.iter().take_while(|d| d.is_one()).count()..]
}

/// The permutation that undoes `perm`.
pub fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut inv = vec![0; perm.len()];
    for (i, &p) in perm.iter().enumerate() {
        inv[p] = i;
    }
    inv
}
