//! Functional control flow: bodies of functions become regions, in which values from outside are just values.
//!
//! A condition that is known picks its branch at compile time. A loop becomes a `while` that carries what its body changes; what the body
//! hands on unchanged, handles above all, is not carried. Where a loop cannot be one because what it carries changes its type, but the
//! number of rounds follows from constants, the rounds are laid out one after another.

use super::cx::{Known, NodeCx, Res, V};
use super::error::LegaliseError;
use super::lists;
use super::{Sources, nodes, unsupported, wanted};
use crate::graph::{Attrs as RawAttrs, NodeId, RawGraph, Value as Port};
use crate::proto::NameAttrList;
use graphc_ir::{Attrs, Dim, Elem, Inst, Loc, Op, Region, Type, Value};
use hashbrown::HashMap;
use std::sync::Arc;

type Cx<'c, 'l, 'a> = &'c mut NodeCx<'l, 'a>;

/// Rounds of a loop that are laid out at most, and instructions that they may make.
const MOST_ROUNDS: usize = 256;
const MOST_INSTS: usize = 50_000;

/// The outputs of a node that the table gives to [`super::table::Rule::Control`].
pub fn apply(cx: Cx, from: &mut Sources) -> Res {
    let node = cx.node;
    let func = |name: &str| node.attr_func(name).cloned().map_err(|e| cx.malformed(e.kind().to_string()));
    match node.op.as_str() {
        "If" | "StatelessIf" => {
            let branches = [func("then_branch")?, func("else_branch")?];
            let cond = truth(cx, cx.x(0)?)?;
            let args = cx.inputs[1..].to_vec();
            choose(cx, from, &branches, &args, &mut |_, _| Ok(cond))
        }
        "Case" | "StatelessCase" => {
            let branches = node.attr_funcs("branches").map_err(|e| cx.malformed(e.kind().to_string()))?.to_vec();
            let index = cx.x(0)?;
            let args = cx.inputs[1..].to_vec();
            let last = branches.len().saturating_sub(1);
            choose(cx, from, &branches, &args, &mut |cx, left| {
                let k = cx.scalar_of((last + 1 - left) as i32);
                cx.bin(Op::Eq, index, k)
            })
        }
        "While" | "StatelessWhile" => repeat(cx, from, &func("cond")?, &func("body")?),
        _ => Err(cx.unimplemented("the op has no rule")),
    }
}

/// TensorFlow's truth of a value: a scalar other than zero, a tensor with elements.
fn truth(cx: Cx, v: V) -> Res<V> {
    let ty = cx.ty(v).clone();
    if ty.rank() > 0 {
        let n = cx.dim_scalar(Elem::I64, ty.elements());
        let zero = cx.scalar_of(0i64);
        return cx.bin(Op::Gt, n, zero);
    }
    if ty.elem == Elem::Bool {
        return Ok(v);
    }
    let zero = cx.num(0.0, ty.elem)?;
    cx.bin(Op::Ne, v, zero)
}

/// The bool, if it is known.
fn known(cx: &NodeCx, v: V) -> Option<bool> {
    cx.low.content(v)?.first()?.as_const().map(|c| c != 0)
}

/// The body of a function, with the calls in it inlined.
fn body_of(cx: &NodeCx, from: &mut Sources, f: &NameAttrList) -> Res<Arc<RawGraph>> {
    let key = format!("{} {:?}", f.name, f.attr);
    if let Some(g) = from.weights.bodies.get(&key) {
        return Ok(g.clone());
    }
    let attrs: &RawAttrs = &f.attr;
    let graph = from.model.function_inlined(&f.name, attrs).map_err(|e| cx.malformed(e.kind().to_string()))?;
    let graph = Arc::new(graph);
    from.weights.bodies.insert(key, graph.clone());
    Ok(graph)
}

/// Legalises the body of a function where the code is now, and gives its outputs.
fn call(cx: Cx, from: &mut Sources, f: &NameAttrList, args: &[V]) -> Res {
    let graph = body_of(cx, from, f)?;
    if graph.inputs.len() != args.len() {
        return Err(cx.malformed(format!("{} arguments for the {} of \"{}\"", args.len(), graph.inputs.len(), f.name)));
    }
    if from.calls.contains(&f.name) {
        return Err(cx.unimplemented(format!("the function \"{}\" calls itself", f.name)));
    }
    let wanted = wanted(&graph);
    unsupported(&graph, &wanted)?;
    let mut values: HashMap<Port, V> = graph.inputs.iter().zip(args).map(|(i, &v)| (Port { node: i.node, port: 0 }, v)).collect();
    let (loc, scope) = (cx.low.loc.clone(), cx.low.scope.clone());
    // Nodes of raised control flow have their full names.
    if !cx.node.attrs.contains_key("_raised") {
        cx.low.scope = format!("{}/", loc.name());
    }
    from.calls.push(f.name.clone());
    let outcome = nodes(cx.low, &graph, &wanted, &mut values, from);
    from.calls.pop();
    (cx.low.loc, cx.low.scope) = (loc, scope);
    outcome?;
    let missing = || cx.malformed(format!("\"{}\" returns a value that nothing makes", f.name));
    graph.outputs.iter().map(|o| values.get(&o.value).copied().ok_or_else(missing)).collect()
}

/// What the code in a region gives, and the region.
struct Made {
    insts: Vec<Inst>,
    outputs: Vec<V>,
}

/// Runs `f` with an empty list of instructions of its own.
fn apart(cx: Cx, f: &mut dyn FnMut(&mut NodeCx) -> Res) -> Res<Made> {
    let outer = std::mem::take(&mut cx.low.insts);
    cx.low.depth += 1;
    let outputs = f(cx);
    cx.low.depth -= 1;
    let insts = std::mem::replace(&mut cx.low.insts, outer);
    Ok(Made { insts, outputs: outputs? })
}

/// The condition for the first of so many branches.
type Condition<'c> = &'c mut dyn FnMut(&mut NodeCx, usize) -> Res<V>;

/// The outputs of the first branch if its condition holds, else those of the others; the last has none.
fn choose(cx: Cx, from: &mut Sources, branches: &[NameAttrList], args: &[V], condition: Condition) -> Res {
    let [first, rest @ ..] = branches else { return Err(cx.malformed("no branches")) };
    if rest.is_empty() {
        return call(cx, from, first, args);
    }
    let cond = condition(cx, branches.len())?;
    match known(cx, cond) {
        Some(true) => return call(cx, from, first, args),
        Some(false) => return choose(cx, from, rest, args, condition),
        None => {}
    }
    let before = initialised(cx);
    cx.low.branches += 1;
    let then = apart(cx, &mut |cx| call(cx, from, first, args));
    let then = then.map_err(|e| or_needs(cx, cond, e)).map_err(|e| as_whole(cx, e))?;
    let after_then = initialised(cx);
    set_initialised(cx, &before);
    let otherwise = apart(cx, &mut |cx| choose(cx, from, rest, args, condition));
    let otherwise = otherwise.map_err(|e| or_needs(cx, cond, e)).map_err(|e| as_whole(cx, e))?;
    cx.low.branches -= 1;
    let both: Vec<bool> = initialised(cx).iter().zip(after_then).map(|(a, b)| *a && b).collect();
    set_initialised(cx, &both);
    join(cx, cond, then, otherwise).map_err(|e| or_needs(cx, cond, e)).map_err(|e| as_whole(cx, e))
}

/// What fails in a branch, or because branches differ, may not fail when it is known which one runs.
fn or_needs(cx: &NodeCx, cond: V, e: LegaliseError) -> LegaliseError {
    match e {
        LegaliseError::Node { .. } | LegaliseError::Unsupported(_) => match cx.needs_value(cond, "the condition") {
            needs @ LegaliseError::NeedsValue { .. } => needs,
            _ => e,
        },
        e => e,
    }
}

/// What fails in code that may not run is no failure yet: the node as a whole is not compiled.
fn as_whole(cx: &NodeCx, e: LegaliseError) -> LegaliseError {
    match e {
        LegaliseError::Node { node, op, message, .. } if node != cx.node.name => {
            cx.unimplemented(format!("its node \"{node}\" ({op}): {message}"))
        }
        LegaliseError::Node { message, .. } => cx.unimplemented(message),
        e => e,
    }
}

fn initialised(cx: &NodeCx) -> Vec<bool> {
    cx.low.vars.iter().map(|v| v.initialised).collect()
}

fn set_initialised(cx: Cx, state: &[bool]) {
    cx.low.vars.iter_mut().zip(state).for_each(|(v, &s)| v.initialised = s);
}

/// The `if` of two branches.
fn join(cx: Cx, cond: V, then: Made, otherwise: Made) -> Res {
    if then.outputs.len() != otherwise.outputs.len() {
        return Err(cx.malformed("the branches give different numbers of values"));
    }
    // Each output is known, or made of some results of the instruction.
    let (mut from_then, mut from_else, mut types) = (Vec::new(), Vec::new(), Vec::new());
    let mut outputs = Vec::new();
    for (&a, &b) in then.outputs.iter().zip(&otherwise.outputs) {
        let same_content = cx.low.content(a).is_some_and(|c| cx.ty(a) == cx.ty(b) && cx.low.content(b) == Some(c));
        let same_variable = matches!((cx.low.known(a), cx.low.known(b)), (Some(Known::Var(x)), Some(Known::Var(y))) if x == y);
        if a == b || same_content || same_variable {
            outputs.push((a, None));
            continue;
        }
        let (a, b) = lists::alike(cx, a, b)?;
        let (pa, pb) = (lists::parts(cx.low, a), lists::parts(cx.low, b));
        let start = types.len();
        for (&x, &y) in pa.iter().zip(&pb) {
            if cx.elem(x) != cx.elem(y) {
                return Err(cx.invalid(format!("the branches give {} and {}", cx.ty(x), cx.ty(y))));
            }
            if cx.ty(x).shape != cx.ty(y).shape {
                let what = "the shapes that branches give";
                cx.same_shape(&cx.shape(x), &cx.shape(y), what).map_err(|e| match e {
                    LegaliseError::Node { .. } => cx.unimplemented(format!("branches that give {} and {}", cx.ty(x), cx.ty(y))),
                    e => e,
                })?;
            }
            types.push(cx.ty(x).clone());
            from_then.push(cx.ssa(x)?);
            from_else.push(cx.ssa(y)?);
        }
        outputs.push((a, Some(start..types.len())));
    }
    let cond = cx.ssa(cond)?;
    let regions =
        [(then.insts, from_then), (otherwise.insts, from_else)].map(|(insts, results)| region(cx, insts, results)).to_vec();
    let results = emit(cx, Op::If, vec![cond], regions, types);
    Ok(outputs
        .into_iter()
        .map(|(v, range)| match range {
            Some(r) => lists::rebuilt(cx.low, v, &results[r]),
            None => v,
        })
        .collect())
}

fn region(cx: Cx, insts: Vec<Inst>, results: Vec<Value>) -> Region {
    let r = cx.low.func.add_region();
    let data = cx.low.func.region_mut(r);
    (data.insts, data.results) = (insts, results);
    r
}

fn emit(cx: Cx, op: Op, operands: Vec<Value>, regions: Vec<Region>, types: Vec<Type>) -> Vec<V> {
    let loc = cx.low.loc.clone();
    let i = cx.low.func.make_inst(op, operands, Attrs::new(), regions, types, loc);
    cx.low.insts.push(i);
    let results = cx.low.func.inst(i).results.clone();
    results.into_iter().map(|v| cx.low.value(v)).collect()
}

/// Most rounds of a loop that counts up from a known number, by one, while it is less than another.
fn rounds(test: &RawGraph, body: &RawGraph, cx: &NodeCx, args: &[V], fixed: &[bool]) -> Option<Dim> {
    let source = |g: &RawGraph, mut p: Port| -> Port {
        while let ("Identity", Some(&next)) = (g.node(p.node).op.as_str(), g.node(p.node).inputs.first()) {
            p = next;
        }
        p
    };
    let arg = |g: &RawGraph, p: Port| g.inputs.iter().position(|i| i.node == source(g, p).node);
    let number = |v: V| cx.low.content(v)?.first().cloned();
    let constant = |g: &RawGraph, p: Port| -> Option<Dim> {
        let node = g.node(source(g, p).node);
        let t = node.attr_tensor("value", cx.low.limits).ok().filter(|_| node.op == "Const")?;
        super::tensor(&t, cx.low.limits).ok()?.to_ints()?.first().map(|&n| Dim::from(n))
    };
    let counts = |k: usize| -> Option<()> {
        let next = body.node(source(body, body.outputs.get(k)?.value).node);
        let &[a, b] = next.inputs.as_slice() else { return None };
        let step = if arg(body, a) == Some(k) { b } else { a };
        let steps = arg(body, a) == Some(k) || arg(body, b) == Some(k);
        let one = match arg(body, step) {
            Some(j) => fixed[j].then(|| number(args[j]))?,
            None => constant(body, step),
        };
        (matches!(next.op.as_str(), "AddV2" | "Add") && steps && one?.is_one()).then_some(())
    };
    let mut open = vec![test.outputs.first()?.value];
    while let Some(p) = open.pop() {
        let node = test.node(source(test, p).node);
        match (node.op.as_str(), node.inputs.as_slice()) {
            ("LogicalAnd", both) => open.extend(both),
            ("Less", &[a, b]) => {
                let Some(k) = arg(test, a).filter(|&k| counts(k).is_some()) else { continue };
                let bound = match arg(test, b) {
                    Some(j) => fixed[j].then(|| number(args[j])).flatten(),
                    None => constant(test, b),
                };
                if let (Some(bound), Some(start)) = (bound, number(args[k])) {
                    return Some((&bound - &start).at_least(&Dim::ZERO));
                }
            }
            _ => {}
        }
    }
    None
}

/// Which arguments of a loop's body it hands on unchanged.
fn invariants(graph: &RawGraph) -> Vec<bool> {
    let source = |mut p: Port| -> NodeId {
        loop {
            let node = graph.node(p.node);
            match node.inputs.get(p.port as usize) {
                Some(&next) if matches!(node.op.as_str(), "Identity" | "IdentityN") => p = next,
                _ => return p.node,
            }
        }
    };
    graph.inputs.iter().zip(&graph.outputs).map(|(i, o)| source(o.value) == i.node).collect()
}

fn repeat(cx: Cx, from: &mut Sources, cond: &NameAttrList, body: &NameAttrList) -> Res {
    let args = cx.inputs.clone();
    let graph = body_of(cx, from, body)?;
    if graph.inputs.len() != args.len() || graph.outputs.len() != args.len() {
        return Err(cx.malformed("the body of a loop takes or gives another number of values"));
    }
    let fixed = invariants(&graph);
    let (made, ready, insts) = (cx.low.insts.len(), initialised(cx), cx.low.func.inst_count());
    let branches = cx.low.branches;
    // Constants that a failed attempt emits must stay, so they go where those of regions go.
    cx.low.depth += 1;
    let outcome = looped(cx, from, cond, body, &args, &fixed);
    cx.low.depth -= 1;
    let error = match outcome {
        Err(e @ (LegaliseError::Node { .. } | LegaliseError::Unsupported(_))) => e,
        outcome => return outcome,
    };
    cx.low.insts.truncate(made);
    cx.low.branches = branches;
    set_initialised(cx, &ready);
    // Rounds one after another, if it is known how many.
    let mut args = args;
    for _ in 0..MOST_ROUNDS {
        let Ok(verdict) = call(cx, from, cond, &args) else { break };
        let Some(&verdict) = verdict.first() else { break };
        let verdict = truth(cx, verdict)?;
        match known(cx, verdict) {
            Some(true) if cx.low.func.inst_count() < insts + MOST_INSTS => {
                args = call(cx, from, body, &args).map_err(|e| as_whole(cx, e))?;
            }
            Some(false) => return Ok(args),
            Some(true) => break,
            None => return Err(as_whole(cx, or_needs(cx, verdict, error))),
        }
    }
    Err(as_whole(cx, error))
}

/// A loop as a `while`.
fn looped(cx: Cx, from: &mut Sources, cond: &NameAttrList, body: &NameAttrList, args: &[V], fixed: &[bool]) -> Res {
    let mut args = args.to_vec();
    if (0..args.len()).any(|k| !fixed[k] && lists::is_list(cx.low, args[k])) {
        // A list learns the type of its elements, and whether it grows, from what the body does to it.
        let (_, inside) = carried(cx, &args, fixed);
        let ready = initialised(cx);
        let probe = apart(cx, &mut |cx| call(cx, from, body, &inside))?;
        set_initialised(cx, &ready);
        let rounds = rounds(&*body_of(cx, from, cond)?, &*body_of(cx, from, body)?, cx, &args, fixed);
        for k in (0..args.len()).filter(|&k| !fixed[k]) {
            args[k] = lists::ready(cx, args[k], probe.outputs[k], rounds.as_ref())?;
        }
    }
    let inits: Vec<V> = (0..args.len()).filter(|&k| !fixed[k]).flat_map(|k| lists::parts(cx.low, args[k])).collect();
    let types: Vec<Type> = inits.iter().map(|&v| cx.ty(v).clone()).collect();
    let operands = inits.iter().map(|&v| cx.ssa(v)).collect::<Res<Vec<_>>>()?;

    let (test_region, inside) = carried(cx, &args, fixed);
    let test = apart(cx, &mut |cx| {
        let verdict = call(cx, from, cond, &inside)?;
        let &[verdict] = verdict.as_slice() else { return Err(cx.malformed("the condition of a loop gives no value")) };
        Ok(vec![truth(cx, verdict)?])
    })?;
    if known(cx, test.outputs[0]) == Some(false) {
        return Ok(args);
    }
    let verdict = cx.ssa(test.outputs[0])?;
    let data = cx.low.func.region_mut(test_region);
    (data.insts, data.results) = (test.insts, vec![verdict]);

    let (body_region, inside) = carried(cx, &args, fixed);
    let ready = initialised(cx);
    let round = apart(cx, &mut |cx| {
        let outputs = call(cx, from, body, &inside)?;
        let mut next = Vec::new();
        for k in (0..args.len()).filter(|&k| !fixed[k]) {
            if !lists::same_each(cx.low, args[k], outputs[k]) {
                return Err(cx.unimplemented("a list whose elements are known in some rounds only"));
            }
            let (_, after) = lists::alike(cx, args[k], outputs[k])?;
            next.extend(lists::parts(cx.low, after));
        }
        Ok(next)
    })?;
    set_initialised(cx, &ready);
    if round.outputs.len() != types.len() {
        return Err(cx.unimplemented("a loop that changes the kind of what it carries"));
    }
    for (ty, &v) in types.iter().zip(&round.outputs) {
        if cx.elem(v) != ty.elem || cx.rank(v) != ty.rank() {
            return Err(cx.unimplemented(format!("a loop that carries {ty} and then {}", cx.ty(v))));
        }
        cx.same_shape(&ty.shape, &cx.shape(v), "the shapes that a loop carries").map_err(|e| match e {
            LegaliseError::Node { .. } => cx.unimplemented(format!("a loop that carries {ty} and then {}", cx.ty(v))),
            e => e,
        })?;
    }
    let results = round.outputs.iter().map(|&v| cx.ssa(v)).collect::<Res<Vec<_>>>()?;
    let data = cx.low.func.region_mut(body_region);
    (data.insts, data.results) = (round.insts, results);

    let results = emit(cx, Op::While, operands, vec![test_region, body_region], types);
    Ok(over(cx, &args, fixed, &results))
}

/// A region with the carried values as parameters, and what the arguments are inside of it.
fn carried(cx: Cx, args: &[V], fixed: &[bool]) -> (Region, Vec<V>) {
    let r = cx.low.func.add_region();
    let mut params = Vec::new();
    for k in (0..args.len()).filter(|&k| !fixed[k]) {
        for v in lists::parts(cx.low, args[k]) {
            let ty = cx.ty(v).clone();
            let p = cx.low.func.add_param(r, ty, Loc::default());
            params.push(cx.low.value(p));
        }
    }
    let inside = over(cx, args, fixed, &params);
    (r, inside)
}

/// The arguments with those that are not fixed made anew from `values`.
fn over(cx: Cx, args: &[V], fixed: &[bool], values: &[V]) -> Vec<V> {
    let mut at = 0;
    args.iter()
        .zip(fixed)
        .map(|(&v, &fixed)| {
            if fixed {
                return v;
            }
            let n = lists::parts(cx.low, v).len();
            at += n;
            lists::rebuilt(cx.low, v, &values[at - n..at])
        })
        .collect()
}

/// What a round makes of the carried values, given its number.
pub type Round<'c> = &'c mut dyn FnMut(&mut NodeCx, V, &[V]) -> Res<Vec<V>>;

/// Carries values through `n` rounds.
pub fn for_each(cx: Cx, n: &Dim, start: &[V], round: Round) -> Res<Vec<V>> {
    let zero = cx.scalar_of(0i64);
    match n.as_const() {
        Some(n) if n <= 0 => return Ok(start.to_vec()),
        Some(1) => return round(cx, zero, start),
        _ => {}
    }
    cx.low.depth += 1;
    let outcome = rounds_of(cx, n, zero, start, round);
    cx.low.depth -= 1;
    outcome
}

fn rounds_of(cx: Cx, n: &Dim, zero: V, start: &[V], round: Round) -> Res<Vec<V>> {
    let args: Vec<V> = [&[zero], start].concat();
    let types: Vec<Type> = args.iter().map(|&v| cx.ty(v).clone()).collect();
    let operands = args.iter().map(|&v| cx.ssa(v)).collect::<Res<Vec<_>>>()?;
    let fixed = vec![false; args.len()];

    let (test_region, inside) = carried(cx, &args, &fixed);
    let test = apart(cx, &mut |cx| {
        let n = cx.dim_scalar(Elem::I64, n.clone());
        Ok(vec![cx.bin(Op::Lt, inside[0], n)?])
    })?;
    let verdict = cx.ssa(test.outputs[0])?;
    let data = cx.low.func.region_mut(test_region);
    (data.insts, data.results) = (test.insts, vec![verdict]);

    let (body_region, inside) = carried(cx, &args, &fixed);
    let mut results = Vec::new();
    let made = apart(cx, &mut |cx| {
        let one = cx.scalar_of(1i64);
        let next = cx.add(inside[0], one)?;
        let after = round(cx, inside[0], &inside[1..])?;
        let all = [&[next], after.as_slice()].concat();
        results = all.iter().map(|&v| cx.ssa(v)).collect::<Res<Vec<_>>>()?;
        Ok(all)
    })?;
    if made.outputs.iter().map(|&v| cx.ty(v)).ne(types.iter()) {
        return Err(cx.malformed("a loop that carries values of other types"));
    }
    let data = cx.low.func.region_mut(body_region);
    (data.insts, data.results) = (made.insts, results);
    let after = emit(cx, Op::While, operands, vec![test_region, body_region], types);
    Ok(after[1..].to_vec())
}
