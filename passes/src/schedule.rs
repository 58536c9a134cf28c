//! The order of instructions.

use crate::dce::has_effect;
use crate::pass::{Diag, Pass, PassCx};
use graphc_ir::op::Effect;
use graphc_ir::{Func, Inst, Module, Op, Region, Type, Value};
use hashbrown::{HashMap, HashSet};

/// What an unknown dimension counts as when sizes are compared.
const TYPICAL: i64 = 32;

/// Reorders instructions, depth first from the results and the larger operand first, where that lowers the peak of memory in use.
/// Instructions with effect keep their order.
///
/// Leaves an order that a second run does not change.
pub struct Schedule;

impl Pass for Schedule {
    fn name(&self) -> &'static str {
        "schedule"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        let mut changed = 0;
        for f in &mut m.funcs {
            let mut regions = vec![f.body];
            f.walk(f.body, &mut |f, _, i| {
                if f.inst(i).op != Op::Fused {
                    regions.extend(f.inst(i).regions.iter().copied());
                }
            });
            changed += regions.into_iter().map(|r| schedule(f, r)).sum::<usize>();
        }
        Ok(changed)
    }
}

fn bytes(t: &Type) -> i64 {
    t.elements().eval(&|_| Some(TYPICAL)).unwrap_or(i64::MAX / 4).saturating_mul(t.elem.size().max(8) as i64).max(0)
}

/// Values that an instruction needs, in its operands and inside its regions.
pub(crate) fn needs(f: &Func, i: Inst) -> Vec<Value> {
    let d = f.inst(i);
    let mut out = d.operands.clone();
    for &r in &d.regions {
        out.extend(f.region(r).results.iter().copied());
        for &inner in &f.region(r).insts {
            out.extend(needs(f, inner));
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

struct Graph<'f> {
    f: &'f Func,
    /// For each instruction of the region, what it must follow.
    after: HashMap<Inst, Vec<Inst>>,
    /// For each instruction, the values of this region that it reads.
    reads: HashMap<Inst, Vec<Value>>,
}

fn schedule(f: &mut Func, r: Region) -> usize {
    let old = f.region(r).insts.clone();
    let graph = graph(f, r, &old);
    let new = depth_first(&graph, r, &old);
    if new.len() != old.len() || peak(&graph, r, &new) >= peak(&graph, r, &old) {
        return 0;
    }
    f.region_mut(r).insts = new;
    1
}

fn graph<'f>(f: &'f Func, _: Region, insts: &[Inst]) -> Graph<'f> {
    let here: HashSet<Inst> = insts.iter().copied().collect();
    let mut g = Graph { f, after: HashMap::new(), reads: HashMap::new() };
    let mut last_write = None;
    let mut reads_since: Vec<Inst> = Vec::new();
    for &i in insts {
        let reads: Vec<Value> =
            needs(f, i).into_iter().filter(|&v| f.def_inst(v).is_some_and(|d| here.contains(&d) && d != i)).collect();
        let mut after: Vec<Inst> = reads.iter().filter_map(|&v| f.def_inst(v)).collect();
        if has_effect(f, i) {
            after.extend(last_write);
            after.append(&mut reads_since);
            last_write = Some(i);
        } else if reads_state(f, i) {
            after.extend(last_write);
            reads_since.push(i);
        }
        g.reads.insert(i, reads);
        g.after.insert(i, after);
    }
    g
}

fn reads_state(f: &Func, i: Inst) -> bool {
    let d = f.inst(i);
    d.op.def().effect == Effect::Read || d.regions.iter().any(|&r| f.region(r).insts.iter().any(|&i| reads_state(f, i)))
}

/// Instructions in the order in which a depth-first walk from the results completes them.
fn depth_first(g: &Graph, r: Region, insts: &[Inst]) -> Vec<Inst> {
    let f = g.f;
    let mut roots: Vec<Inst> = insts.iter().copied().filter(|&i| has_effect(f, i)).collect();
    roots.extend(f.region(r).results.iter().filter_map(|&v| f.def_inst(v)).filter(|i| g.after.contains_key(i)));
    roots.extend(insts.iter().copied());
    let weight = weights(g, insts);
    let mut done = HashSet::new();
    let mut order = Vec::with_capacity(insts.len());
    for root in roots {
        // An explicit stack: graphs are deeper than the machine's.
        let mut stack = vec![(root, false)];
        while let Some((i, ready)) = stack.pop() {
            if ready {
                order.push(i);
                continue;
            }
            if !done.insert(i) {
                continue;
            }
            stack.push((i, true));
            let mut deps: Vec<Inst> = g.after[&i].iter().copied().filter(|d| !done.contains(d)).collect();
            deps.sort_by_key(|d| weight[d]);
            deps.dedup();
            stack.extend(deps.into_iter().map(|d| (d, false)));
        }
    }
    order
}

/// Memory that computing each instruction needs beside its result, roughly: the register-need numbering of trees.
fn weights(g: &Graph, insts: &[Inst]) -> HashMap<Inst, i64> {
    let mut weight: HashMap<Inst, i64> = HashMap::new();
    for &i in insts {
        let out: i64 = g.f.inst(i).results.iter().map(|&v| bytes(g.f.ty(v))).fold(0, i64::saturating_add);
        let most = g.after[&i].iter().filter_map(|d| weight.get(d)).copied().max().unwrap_or(0);
        let constant = g.f.inst(i).op == Op::Const;
        weight.insert(i, if constant { 0 } else { most.max(out) });
    }
    weight
}

/// Greatest sum of live values of the region.
fn peak(g: &Graph, r: Region, order: &[Inst]) -> i64 {
    let f = g.f;
    let mut left: HashMap<Value, usize> = HashMap::new();
    for &i in order {
        for &v in &g.reads[&i] {
            *left.entry(v).or_default() += 1;
        }
    }
    for &v in &f.region(r).results {
        *left.entry(v).or_default() += 1;
    }
    let size = |v: Value| if f.def_op(v, Op::Const).is_some() { 0 } else { bytes(f.ty(v)) };
    let (mut live, mut most) = (0i64, 0i64);
    for &i in order {
        live = f.inst(i).results.iter().fold(live, |n, &v| n.saturating_add(size(v)));
        most = most.max(live);
        for &v in &f.inst(i).results {
            if !left.contains_key(&v) {
                live -= size(v);
            }
        }
        for &v in &g.reads[&i] {
            if let Some(n) = left.get_mut(&v) {
                *n -= 1;
                if *n == 0 {
                    live -= size(v);
                }
            }
        }
    }
    most
}
