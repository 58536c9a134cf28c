//! Dead code goes.

use crate::pass::{Diag, Pass, PassCx};
use graphc_ir::op::Effect;
use graphc_ir::{Def, Func, Inst, Module, Op, Region, Value};
use hashbrown::HashSet;

/// Removes instructions without effect whose results nobody uses, and results of branches and carried values of loops that nobody
/// reads.
///
/// Leaves only live instructions, and the parameters of functions as they are.
pub struct Dce;

impl Pass for Dce {
    fn name(&self) -> &'static str {
        "dce"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        Ok(m.funcs.iter_mut().map(run_func).sum())
    }
}

/// True if the instruction or one inside it writes state or calls.
pub fn has_effect(f: &Func, i: Inst) -> bool {
    let d = f.inst(i);
    match d.op {
        Op::If | Op::While | Op::Fused => d.regions.iter().any(|&r| f.region(r).insts.iter().any(|&i| has_effect(f, i))),
        op => op.def().effect == Effect::Write,
    }
}

/// Removes pure instructions without regions that nothing uses, and returns the use counts of what stays.
pub fn prune(f: &mut Func) -> Vec<u32> {
    fn prune_region(f: &mut Func, r: Region, uses: &mut [u32]) {
        let mut insts = std::mem::take(&mut f.region_mut(r).insts);
        let mut dead = HashSet::new();
        for &i in insts.iter().rev() {
            let d = f.inst(i);
            let regions = d.regions.clone();
            if regions.is_empty() && d.op.def().effect != Effect::Write && d.results.iter().all(|v| uses[v.index()] == 0) {
                d.operands.iter().for_each(|v| uses[v.index()] -= 1);
                dead.insert(i);
            }
            for inner in regions {
                prune_region(f, inner, uses);
            }
        }
        insts.retain(|i| !dead.contains(i));
        f.region_mut(r).insts = insts;
    }
    let mut uses = f.use_counts();
    let body = f.body;
    prune_region(f, body, &mut uses);
    uses
}

/// Removes what is dead in one function.
pub fn run_func(f: &mut Func) -> usize {
    let mut total = 0;
    loop {
        let body = f.body;
        let mut live = HashSet::new();
        let results = f.results().to_vec();
        live.extend(results);
        mark(f, body, &mut live);
        let n = sweep(f, body, &live);
        total += n;
        if n == 0 {
            return total;
        }
    }
}

/// Marks what `r` needs, given the values in `live`, from its end to its start.
fn mark(f: &Func, r: Region, live: &mut HashSet<Value>) {
    for &i in f.region(r).insts.iter().rev() {
        let d = f.inst(i);
        if has_effect(f, i) || d.results.iter().any(|v| live.contains(v)) {
            mark_inst(f, i, live);
        }
    }
}

fn mark_inst(f: &Func, i: Inst, live: &mut HashSet<Value>) {
    let d = f.inst(i);
    match (d.op, d.regions.as_slice()) {
        (Op::If, regions) => {
            live.insert(d.operands[0]);
            for &r in regions {
                let wanted = f.region(r).results.iter().zip(&d.results).filter(|(_, out)| live.contains(*out)).map(|(v, _)| *v);
                live.extend(wanted.collect::<Vec<_>>());
                mark(f, r, live);
                for (p, a) in f.region(r).params.iter().zip(d.operands.get(1..).unwrap_or(&[])) {
                    if live.contains(p) {
                        live.insert(*a);
                    }
                }
            }
        }
        (Op::While, &[cond, body]) => {
            live.extend(f.region(cond).results.iter().copied());
            // A carried value lives if it is read after the loop, by the condition, or by what makes a live one.
            loop {
                mark(f, cond, live);
                mark(f, body, live);
                let before = live.len();
                for (k, &init) in d.operands.iter().enumerate() {
                    let parts = [d.results.get(k), f.region(cond).params.get(k), f.region(body).params.get(k)];
                    if parts.iter().flatten().any(|v| live.contains(*v)) {
                        live.insert(init);
                        live.extend(parts.into_iter().flatten());
                        live.extend(f.region(body).results.get(k));
                    }
                }
                if live.len() == before {
                    break;
                }
            }
        }
        _ => {
            for &r in &d.regions {
                live.extend(f.region(r).results.iter().copied());
                mark(f, r, live);
            }
            live.extend(d.operands.iter().copied());
        }
    }
}

fn sweep(f: &mut Func, r: Region, live: &HashSet<Value>) -> usize {
    let insts = std::mem::take(&mut f.region_mut(r).insts);
    let before = insts.len();
    let mut kept = Vec::with_capacity(before);
    let mut changed = 0;
    for i in insts {
        if !has_effect(f, i) && !f.inst(i).results.iter().any(|v| live.contains(v)) {
            changed += 1;
            continue;
        }
        for inner in f.inst(i).regions.clone() {
            changed += sweep(f, inner, live);
        }
        changed += match f.inst(i).op {
            Op::If => drop_branch_results(f, i, live),
            Op::While => drop_carried(f, i, live),
            _ => 0,
        };
        kept.push(i);
    }
    f.region_mut(r).insts = kept;
    changed
}

fn drop_branch_results(f: &mut Func, i: Inst, live: &HashSet<Value>) -> usize {
    let keep: Vec<bool> = f.inst(i).results.iter().map(|v| live.contains(v)).collect();
    let dropped = keep.iter().filter(|k| !**k).count();
    if dropped > 0 {
        for r in f.inst(i).regions.clone() {
            retain(&mut f.region_mut(r).results, &keep);
        }
        drop_results(f, i, &keep);
    }
    dropped
}

fn drop_carried(f: &mut Func, i: Inst, live: &HashSet<Value>) -> usize {
    let &[cond, body] = f.inst(i).regions.as_slice() else { return 0 };
    let keep: Vec<bool> = f.region(body).params.iter().map(|v| live.contains(v)).collect();
    let dropped = keep.iter().filter(|k| !**k).count();
    if dropped > 0 {
        retain(&mut f.inst_mut(i).operands, &keep);
        retain(&mut f.region_mut(body).results, &keep);
        for r in [cond, body] {
            retain(&mut f.region_mut(r).params, &keep);
            for (k, v) in f.region(r).params.clone().into_iter().enumerate() {
                f.value_mut(v).def = Def::Param(r, k as u32);
            }
        }
        drop_results(f, i, &keep);
    }
    dropped
}

fn drop_results(f: &mut Func, i: Inst, keep: &[bool]) {
    retain(&mut f.inst_mut(i).results, keep);
    for (k, v) in f.inst(i).results.clone().into_iter().enumerate() {
        f.value_mut(v).def = Def::Result(i, k as u32);
    }
}

fn retain(list: &mut Vec<Value>, keep: &[bool]) {
    let mut k = keep.iter();
    list.retain(|_| k.next().copied().unwrap_or(true));
}
