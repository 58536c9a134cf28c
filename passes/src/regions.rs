//! Branches and loops become simpler, and what does not change in a loop leaves it.

use crate::dce;
use crate::pass::{Diag, Pass, PassCx};
use graphc_ir::op::Effect;
use graphc_ir::{Func, Inst, Module, Op, Region, Value};
use hashbrown::{HashMap, HashSet};

/// Puts the taken branch in the place of an `if` whose condition is constant, gives loops what they hand on unchanged as a value from
/// outside, and moves what a loop computes from such values alone in front of it, unless it may fail: a loop may have no rounds.
///
/// Leaves no such branch, carried value or instruction.
pub struct Regions;

impl Pass for Regions {
    fn name(&self) -> &'static str {
        "regions"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        let mut changed = 0;
        for f in &mut m.funcs {
            let body = f.body;
            let mut forward = HashMap::new();
            let n = run_region(f, body, &mut forward);
            f.replace_uses(&forward);
            if n > 0 {
                dce::run_func(f);
            }
            changed += n;
        }
        Ok(changed)
    }
}

fn resolve(forward: &HashMap<Value, Value>, mut v: Value) -> Value {
    while let Some(&w) = forward.get(&v) {
        v = w;
    }
    v
}

fn run_region(f: &mut Func, r: Region, forward: &mut HashMap<Value, Value>) -> usize {
    let mut changed = 0;
    let mut new = Vec::new();
    // What is left to do, the next last: a taken branch is looked at again in its new place.
    let mut left: Vec<Inst> = std::mem::take(&mut f.region_mut(r).insts);
    left.reverse();
    while let Some(i) = left.pop() {
        if !matches!(f.inst(i).op, Op::If | Op::While) {
            new.push(i);
            continue;
        }
        f.inst_mut(i).operands.iter_mut().for_each(|v| *v = resolve(forward, *v));
        if let Some(insts) = taken(f, i, forward) {
            left.extend(insts.into_iter().rev());
            changed += 1;
            continue;
        }
        changed += unchanged(f, i, forward);
        for inner in f.inst(i).regions.clone() {
            changed += run_region(f, inner, forward);
        }
        let moved = invariant(f, i, forward);
        changed += moved.len();
        new.extend(moved);
        new.push(i);
    }
    f.region_mut(r).insts = new;
    changed
}

/// The instructions of the branch that an `if` always takes; its parameters and results are forwarded.
fn taken(f: &mut Func, i: Inst, forward: &mut HashMap<Value, Value>) -> Option<Vec<Inst>> {
    let d = f.inst(i).clone();
    if d.op != Op::If {
        return None;
    }
    let cond = f.const_of(*d.operands.first()?)?.to_ints()?;
    let branch = *d.regions.get(if *cond.first()? != 0 { 0 } else { 1 })?;
    let data = std::mem::take(f.region_mut(branch));
    forward.extend(data.params.iter().copied().zip(d.operands[1..].iter().copied()));
    forward.extend(d.results.iter().copied().zip(data.results.iter().map(|&v| resolve(forward, v)).collect::<Vec<_>>()));
    Some(data.insts)
}

/// Uses the first value for what a loop carries and never changes; the carried value itself is dead then.
fn unchanged(f: &Func, i: Inst, forward: &mut HashMap<Value, Value>) -> usize {
    let d = f.inst(i);
    let (Op::While, &[test, body]) = (d.op, d.regions.as_slice()) else { return 0 };
    let mut changed = 0;
    for k in 0..d.operands.len() {
        let (param, next) = (f.region(body).params[k], f.region(body).results[k]);
        let start = d.operands[k];
        if resolve(forward, next) != param || f.ty(param) != f.ty(start) || f.ty(d.results[k]) != f.ty(start) {
            continue;
        }
        for v in [param, f.region(test).params[k], d.results[k]] {
            changed += usize::from(forward.insert(v, start).is_none());
        }
    }
    changed
}

/// True for what gives the same in every round and may run although the loop does not.
fn movable(f: &Func, i: Inst) -> bool {
    let d = f.inst(i);
    let fails = match d.op {
        Op::Gather | Op::GatherNd | Op::ScatterNd => true,
        Op::Div | Op::FloorDiv | Op::Rem | Op::Mod | Op::Pow => d.results.iter().any(|&v| f.ty(v).elem.is_int()),
        _ => false,
    };
    d.op.def().effect == Effect::Pure && d.regions.is_empty() && !fails
}

/// Takes out of a loop what does not depend on it, in order.
fn invariant(f: &mut Func, i: Inst, forward: &HashMap<Value, Value>) -> Vec<Inst> {
    if f.inst(i).op != Op::While {
        return Vec::new();
    }
    let mut moved = Vec::new();
    for r in f.inst(i).regions.clone() {
        let mut inside: HashSet<Value> = f.region(r).params.iter().copied().collect();
        let insts = std::mem::take(&mut f.region_mut(r).insts);
        let mut kept = Vec::with_capacity(insts.len());
        for k in insts {
            let depends = f.inst(k).operands.iter().any(|&v| inside.contains(&resolve(forward, v)));
            if depends || !movable(f, k) {
                inside.extend(f.inst(k).results.iter().copied());
                kept.push(k);
            } else {
                moved.push(k);
            }
        }
        f.region_mut(r).insts = kept;
    }
    moved
}
