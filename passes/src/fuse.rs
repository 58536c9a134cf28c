//! Elementwise ops become loops.

use crate::pass::{Diag, Pass, PassCx};
use graphc_ir::{Attrs, Elem, Func, Inst, Module, Op, Region, Value};
use hashbrown::HashMap;
use std::collections::BTreeSet;

/// Operands and instructions that one loop may have.
const MAX_OPERANDS: usize = 24;
const MAX_INSTS: usize = 96;

/// Joins elementwise ops that feed each other into `fused` regions: one loop over the elements of the result. The region's parameters
/// are the operands; inside are elementwise ops and broadcasts, scalar constants and index vectors. A value that is
/// read elsewhere too becomes another result if it has the loop's shape and its other readers come later. Nothing is computed twice
/// but cheap ops on operands that broadcast.
///
/// Leaves single elementwise ops, and ops on strings and complex numbers, as they are.
pub struct Fuse;

impl Pass for Fuse {
    fn name(&self) -> &'static str {
        "fuse"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        let mut total = 0;
        for f in &mut m.funcs {
            loop {
                let mut forward = HashMap::new();
                let body = f.body;
                let n = fuse_region(f, body, &mut forward);
                f.replace_uses(&forward);
                total += n;
                // Loops move to their last instruction, which may let others join.
                if n == 0 {
                    break;
                }
            }
        }
        Ok(total)
    }
}

fn loops_over(e: Elem) -> bool {
    use Elem::*;
    matches!(e, Bool | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64 | F16 | BF16 | F32 | F64)
}

/// True for what a fused region may hold beside constants.
fn fusible(f: &Func, i: Inst) -> bool {
    let d = f.inst(i);
    (d.op.is_elementwise() || matches!(d.op, Op::Broadcast | Op::Iota))
        && d.operands.iter().chain(&d.results).all(|&v| loops_over(f.ty(v).elem))
}

/// True for ops worth repeating along a broadcast instead of a launch of their own.
fn cheap(op: Op) -> bool {
    use Op::*;
    matches!(
        op,
        Add | Sub | Mul | Neg | Abs | Max | Min | Relu | Clamp | Cast | Not | And | Or | Xor | Select | Eq | Ne | Lt | Le | Gt | Ge
    ) || matches!(op, Broadcast | Iota)
}

/// A scalar that every loop holds as a copy of its own.
fn copied_in(f: &Func, v: Value) -> bool {
    let Some(d) = f.def_inst(v).map(|i| f.inst(i)) else { return false };
    loops_over(f.ty(v).elem) && f.ty(v).rank() == 0 && d.op == Op::Const
}

/// Where each value of a region is used: positions in its list; `usize::MAX` for its results.
fn use_positions(f: &Func, r: Region) -> HashMap<Value, Vec<usize>> {
    fn collect(f: &Func, i: Inst, at: usize, out: &mut HashMap<Value, Vec<usize>>) {
        let d = f.inst(i);
        let mut add = |v: Value| out.entry(v).or_default().push(at);
        d.operands.iter().for_each(|&v| add(v));
        for &inner in &d.regions {
            f.region(inner).results.iter().for_each(|&v| add(v));
        }
        for &inner in &d.regions {
            f.region(inner).insts.iter().for_each(|&i| collect(f, i, at, out));
        }
    }
    let mut out = HashMap::new();
    for (k, &i) in f.region(r).insts.iter().enumerate() {
        collect(f, i, k, &mut out);
    }
    for &v in &f.region(r).results {
        out.entry(v).or_default().push(usize::MAX);
    }
    out
}

fn fuse_region(f: &mut Func, r: Region, forward: &mut HashMap<Value, Value>) -> usize {
    let insts = f.region(r).insts.clone();
    let mut total = 0;
    for &i in insts.iter().filter(|&&i| f.inst(i).op != Op::Fused).collect::<Vec<_>>() {
        for inner in f.inst(i).regions.clone() {
            total += fuse_region(f, inner, forward);
        }
    }
    let uses = use_positions(f, r);
    let position: HashMap<Inst, usize> = insts.iter().enumerate().map(|(k, &i)| (i, k)).collect();
    let mut group_of: Vec<Option<usize>> = vec![None; insts.len()];
    let mut groups: Vec<BTreeSet<usize>> = Vec::new();
    for root in (0..insts.len()).rev() {
        if group_of[root].is_some() || !fusible(f, insts[root]) || !f.inst(insts[root]).op.is_elementwise() {
            continue;
        }
        let members = grow(f, &insts, root, &position, &uses, &group_of, &groups);
        // Broadcasts alone do not make a loop.
        if members.iter().filter(|&&k| f.inst(insts[k]).op.is_elementwise()).count() > 1 || members.len() > 1 {
            members.iter().for_each(|&k| group_of[k] = Some(groups.len()));
            groups.push(members);
        }
    }
    let mut list = Vec::with_capacity(insts.len());
    for (k, &i) in insts.iter().enumerate() {
        match group_of[k] {
            Some(g) if groups[g].last() == Some(&k) => {
                let members: Vec<Inst> = groups[g].iter().map(|&k| insts[k]).collect();
                let outputs: Vec<Value> = members
                    .iter()
                    .flat_map(|&m| f.inst(m).results.clone())
                    .filter(|v| uses.get(v).is_some_and(|u| u.iter().any(|at| !groups[g].contains(at))))
                    .collect();
                list.push(make_loop(f, &members, &outputs, forward));
                total += 1;
            }
            Some(_) => {}
            None => list.push(i),
        }
    }
    f.region_mut(r).insts = list;
    total
}

/// The instructions (by position) that join the loop of `root`.
fn grow(
    f: &Func,
    insts: &[Inst],
    root: usize,
    position: &HashMap<Inst, usize>,
    uses: &HashMap<Value, Vec<usize>>,
    group_of: &[Option<usize>],
    groups: &[BTreeSet<usize>],
) -> BTreeSet<usize> {
    let shape = &f.ty(f.inst(insts[root]).results[0]).shape;
    let mut members = BTreeSet::from([root]);
    let mut rejected = BTreeSet::new();
    loop {
        // The latest producer first: by then all its users have been decided.
        let candidate = members
            .iter()
            .flat_map(|&k| &f.inst(insts[k]).operands)
            .filter_map(|&v| position.get(&f.def_inst(v)?).copied())
            .filter(|k| !members.contains(k) && !rejected.contains(k))
            .max();
        let Some(k) = candidate else { return members };
        let d = f.inst(insts[k]);
        let joins = group_of[k].is_none() && fusible(f, insts[k]) && d.results.len() == 1 && {
            let v = d.results[0];
            let same = f.ty(v).shape == *shape;
            let outside = uses.get(&v).into_iter().flatten().filter(|at| !members.contains(at));
            let may_leave = same && !matches!(d.op, Op::Broadcast | Op::Iota);
            // A loop runs where its last instruction stood.
            let runs = |at: usize| group_of.get(at).copied().flatten().and_then(|g| groups[g].last().copied()).unwrap_or(at);
            let visible = outside.into_iter().all(|&at| may_leave && runs(at) > root);
            visible && (same || cheap(d.op)) && members.len() < MAX_INSTS && {
                members.insert(k);
                let fits = inputs(f, members.iter().map(|&m| insts[m])).len() <= MAX_OPERANDS;
                members.remove(&k);
                fits
            }
        };
        if joins {
            members.insert(k);
        } else {
            rejected.insert(k);
        }
    }
}

/// Values that the instructions take from outside, without scalars that are copied in.
fn inputs(f: &Func, members: impl Iterator<Item = Inst> + Clone) -> Vec<Value> {
    let made: BTreeSet<Value> = members.clone().flat_map(|m| f.inst(m).results.iter().copied()).collect();
    let mut out = Vec::new();
    for m in members {
        for &v in &f.inst(m).operands {
            if !made.contains(&v) && !copied_in(f, v) && !out.contains(&v) {
                out.push(v);
            }
        }
    }
    out
}

/// Makes the `fused` instruction of `members`, which are in order, and forwards `outputs` to its results.
fn make_loop(f: &mut Func, members: &[Inst], outputs: &[Value], forward: &mut HashMap<Value, Value>) -> Inst {
    let operands = inputs(f, members.iter().copied());
    let region = f.add_region();
    let mut map = HashMap::new();
    for &v in &operands {
        let (ty, loc) = (f.ty(v).clone(), f.value(v).loc.clone());
        map.insert(v, f.add_param(region, ty, loc));
    }
    let mut body = Vec::with_capacity(members.len());
    let mut copy = |f: &mut Func, i: Inst, map: &mut HashMap<Value, Value>| {
        let d = f.inst(i).clone();
        let types = d.results.iter().map(|&v| f.ty(v).clone()).collect();
        let args = d.operands.iter().map(|v| map.get(v).copied().unwrap_or(*v)).collect();
        let new = f.make_inst(d.op, args, d.attrs, Vec::new(), types, d.loc);
        map.extend(d.results.iter().copied().zip(f.inst(new).results.clone()));
        body.push(new);
    };
    for &m in members {
        for v in f.inst(m).operands.clone() {
            if !map.contains_key(&v)
                && let Some(i) = f.def_inst(v)
            {
                copy(f, i, &mut map);
            }
        }
        copy(f, m, &mut map);
    }
    let results = outputs.iter().map(|v| map[v]).collect();
    let types = outputs.iter().map(|&v| f.ty(v).clone()).collect();
    f.region_mut(region).insts = body;
    f.region_mut(region).results = results;
    let loc = members.last().map(|&m| f.inst(m).loc.clone()).unwrap_or_default();
    let new = f.make_inst(Op::Fused, operands, Attrs::new(), vec![region], types, loc);
    forward.extend(outputs.iter().copied().zip(f.inst(new).results.clone()));
    new
}
