//! Common subexpressions are computed once.

use crate::pass::{Diag, Pass, PassCx};
use graphc_ir::op::Effect;
use graphc_ir::{Attr, Func, Inst, Module, Op, Region, Tensor, Value};
use hashbrown::{DefaultHashBuilder, HashMap};
use std::hash::{BuildHasher, Hash, Hasher};

/// Replaces a pure instruction by an earlier one of the same op, operands and attributes, in its region or one around it.
///
/// Leaves no two equal pure instructions (without regions) where one sees the other.
pub struct Cse;

impl Pass for Cse {
    fn name(&self) -> &'static str {
        "cse"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        let mut changed = 0;
        for f in &mut m.funcs {
            let mut forward = HashMap::new();
            let body = f.body;
            changed += sweep(f, body, &mut HashMap::new(), &mut forward);
            f.replace_uses(&forward);
        }
        Ok(changed)
    }
}

/// Instructions seen so far, by hash.
type Seen = HashMap<u64, Vec<Inst>>;

fn sweep(f: &mut Func, r: Region, seen: &mut Seen, forward: &mut HashMap<Value, Value>) -> usize {
    let insts = std::mem::take(&mut f.region_mut(r).insts);
    let mut kept = Vec::with_capacity(insts.len());
    let mut added = Vec::new();
    let mut changed = 0;
    for i in insts {
        for v in &mut f.inst_mut(i).operands {
            while let Some(&w) = forward.get(v) {
                *v = w;
            }
        }
        // Constants of a fused region stay inside it.
        let apart = f.inst(i).op == Op::Fused;
        for inner in f.inst(i).regions.clone() {
            changed += if apart { sweep(f, inner, &mut Seen::new(), forward) } else { sweep(f, inner, seen, forward) };
        }
        let d = f.inst(i);
        if d.op.def().effect != Effect::Pure || !d.regions.is_empty() {
            kept.push(i);
            continue;
        }
        let key = hash(f, i, seen.hasher().build_hasher());
        let bucket = seen.entry(key).or_default();
        match bucket.iter().find(|&&o| same(f, o, i)) {
            Some(&earlier) => {
                changed += 1;
                forward.extend(f.inst(i).results.iter().copied().zip(f.inst(earlier).results.iter().copied()));
            }
            None => {
                bucket.push(i);
                added.push(key);
                kept.push(i);
            }
        }
    }
    // What was made in this region is not visible after it.
    for key in added {
        if let Some(bucket) = seen.get_mut(&key) {
            bucket.pop();
        }
    }
    f.region_mut(r).insts = kept;
    changed
}

fn commutes(op: Op) -> bool {
    matches!(op, Op::Add | Op::Mul | Op::Max | Op::Min | Op::And | Op::Or | Op::Xor | Op::Eq | Op::Ne)
}

fn hash(f: &Func, i: Inst, mut h: <DefaultHashBuilder as BuildHasher>::Hasher) -> u64 {
    let d = f.inst(i);
    d.op.hash(&mut h);
    match d.operands.as_slice() {
        [a, b] if commutes(d.op) => (a.min(b), a.max(b)).hash(&mut h),
        operands => operands.hash(&mut h),
    }
    for (key, a) in d.attrs.iter() {
        key.hash(&mut h);
        match a {
            Attr::Int(v) => v.hash(&mut h),
            Attr::Real(v) => v.to_bits().hash(&mut h),
            Attr::Bool(v) => v.hash(&mut h),
            Attr::Str(v) => v.hash(&mut h),
            Attr::Ints(v) => v.hash(&mut h),
            Attr::Dims(v) => v.hash(&mut h),
            Attr::Elem(v) => v.hash(&mut h),
            Attr::Tensor(v) => hash_tensor(v, &mut h),
            Attr::Sym(v) => v.hash(&mut h),
            Attr::Func(v) => v.hash(&mut h),
            Attr::Var(v) => v.hash(&mut h),
        }
    }
    h.finish()
}

/// Hashes type, size and a sample of the bytes: weights may be large.
fn hash_tensor(t: &Tensor, h: &mut impl Hasher) {
    const SAMPLE: usize = 64;
    t.elem().hash(h);
    t.shape().hash(h);
    if t.is_deferred() {
        return;
    }
    let bytes = t.bytes();
    bytes[..bytes.len().min(SAMPLE)].hash(h);
    bytes[bytes.len() / 2..].iter().take(SAMPLE).for_each(|b| b.hash(h));
    if let Some(s) = t.strings() {
        s.iter().take(SAMPLE).for_each(|s| s.hash(h));
    }
}

fn same(f: &Func, a: Inst, b: Inst) -> bool {
    let (x, y) = (f.inst(a), f.inst(b));
    let swapped = || commutes(x.op) && x.operands.len() == 2 && x.operands[0] == y.operands[1] && x.operands[1] == y.operands[0];
    x.op == y.op
        && (x.operands == y.operands || swapped())
        && x.results.len() == y.results.len()
        && x.results.iter().zip(&y.results).all(|(&p, &q)| f.ty(p) == f.ty(q))
        && x.attrs.iter().count() == y.attrs.iter().count()
        && x.attrs.iter().zip(y.attrs.iter()).all(|((k, v), (l, w))| k == l && same_attr(v, w))
}

/// Equality by bits, so that 0.0 and -0.0 stay apart and a NaN equals itself.
fn same_attr(a: &Attr, b: &Attr) -> bool {
    match (a, b) {
        (Attr::Real(x), Attr::Real(y)) => x.to_bits() == y.to_bits(),
        (Attr::Tensor(x), Attr::Tensor(y)) => {
            let shared = x.elem() == y.elem() && x.shape() == y.shape() && x.shares(y);
            shared || !(x.is_deferred() || y.is_deferred()) && x == y
        }
        _ => a == b,
    }
}
