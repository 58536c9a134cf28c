//! Facts about a whole model: which ops it has and which of them a consumer cannot take.

use crate::error::{ErrorKind, Result, UnsupportedOp};
use crate::graph::{Attrs, Function, Library, RawGraph, Request, needed_in_body, nested_placeholder, reached};
use crate::proto::attr_value::Value as Attr;
use crate::variables::may_write;
use hashbrown::HashSet;
use std::collections::{BTreeMap, VecDeque};

pub(crate) fn histogram<'a>(graph: &'a RawGraph, library: &'a Library) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    let main = graph.nodes().map(|(_, n)| n.op.as_str());
    let functions = library.functions().flat_map(|f| f.ops().map(|(op, _)| op));
    main.chain(functions).for_each(|op| *counts.entry(op).or_insert(0) += 1);
    counts
}

/// The functions that the attributes of a node refer to, with what they are instantiated with.
fn referred(attrs: &Attrs) -> impl Iterator<Item = (&str, &Attrs)> {
    let functions = attrs.values().flat_map(|a| match &a.value {
        Some(Attr::Func(f)) => std::slice::from_ref(&**f),
        Some(Attr::List(l)) => &l.func,
        _ => &[],
    });
    functions.map(|f| (f.name.as_str(), &f.attr))
}

/// Whether a run of this request may change a variable. Quicker than to follow each variable through the graph with its calls inlined,
/// and enough for most models, of which no signature assigns anything.
pub(crate) fn may_assign(graph: &RawGraph, library: &Library, request: &Request) -> bool {
    let mut seen: HashSet<&str> = HashSet::new();
    let mut functions: Vec<&Function> = Vec::new();
    // What an open attribute stands for is known only where the function is called.
    let open = |attrs: &Attrs| attrs.values().any(|a| matches!(a.value, Some(Attr::Placeholder(_))) || nested_placeholder(a));
    let mut visit = |op: &str, attrs: &Attrs, functions: &mut Vec<_>| {
        let callees = referred(attrs).map(|(name, _)| name).chain([op]).filter_map(|name| library.get(name));
        functions.extend(callees.filter(|f| seen.insert(f.name())));
        open(attrs) || may_write(op, attrs, library)
    };
    if reached(graph, request).iter().any(|&id| visit(&graph.node(id).op, &graph.node(id).attrs, &mut functions)) {
        return true;
    }
    while let Some(function) = functions.pop() {
        if function.named_nodes().any(|(op, _, attrs)| visit(op, attrs, &mut functions)) {
            return true;
        }
    }
    false
}

/// Fails with every unsupported op that a request reaches. Calls that inlining removes are not ops here.
pub(crate) fn unsupported(graph: &RawGraph, library: &Library, request: &Request, supported: &dyn Fn(&str) -> bool) -> Result<()> {
    let mut found: BTreeMap<String, UnsupportedOp> = BTreeMap::new();
    let mut seen: HashSet<String> = HashSet::new();
    let mut functions: VecDeque<(String, Attrs)> = VecDeque::new();
    let mut visit = |op: &str, function: &str, name: &str, attrs: &Attrs, functions: &mut VecDeque<_>| {
        let call = library.get(op).map(|f| (f.name(), attrs));
        let new = referred(attrs).chain(call).filter(|(f, _)| seen.insert(f.to_string()));
        functions.extend(new.map(|(f, attrs)| (f.to_string(), attrs.clone())));
        if call.is_some() || matches!(op, "PartitionedCall" | "StatefulPartitionedCall") || supported(op) {
            return;
        }
        let new = || UnsupportedOp { op: op.to_string(), count: 0, nodes: Vec::new() };
        let entry = found.entry(op.to_string()).or_insert_with(new);
        entry.count += 1;
        if entry.nodes.len() < UnsupportedOp::NAMED {
            entry.nodes.push(if function.is_empty() { name.to_string() } else { format!("{function}/{name}") });
        }
    };
    for id in reached(graph, request) {
        let node = graph.node(id);
        visit(&node.op, "", &node.name, &node.attrs, &mut functions);
    }
    while let Some((name, attrs)) = functions.pop_front() {
        let Some(function) = library.get(&name) else { continue };
        // What is dead in a body need not be supported. A body that cannot be built is looked at whole.
        match library.body(&name, &attrs) {
            Ok(body) => {
                let keep = needed_in_body(&body);
                for ((_, node), _) in body.nodes().zip(&keep).filter(|((_, n), k)| **k && n.op != "_Arg") {
                    visit(&node.op, &name, &node.name, &node.attrs, &mut functions);
                }
            }
            Err(_) => function.named_nodes().for_each(|(op, node, attrs)| visit(op, &name, node, attrs, &mut functions)),
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let mut ops: Vec<UnsupportedOp> = found.into_values().collect();
    ops.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.op.cmp(&b.op)));
    Err(ErrorKind::UnsupportedOps { ops }.into())
}
