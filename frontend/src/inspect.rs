//! Facts about a whole model: which ops it has and which of them a consumer cannot take.

use crate::error::{ErrorKind, Result, UnsupportedOp};
use crate::graph::{Attrs, Library, RawGraph, Request, reached};
use crate::proto::attr_value::Value as Attr;
use std::collections::{BTreeMap, HashSet, VecDeque};

pub(crate) fn histogram<'a>(graph: &'a RawGraph, library: &'a Library) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    let main = graph.nodes().map(|(_, n)| n.op.as_str());
    let functions = library.functions().flat_map(|f| f.ops().map(|(op, _)| op));
    main.chain(functions).for_each(|op| *counts.entry(op).or_insert(0) += 1);
    counts
}

/// Names of the functions that the attributes of a node refer to.
fn referred<'a>(attrs: &'a Attrs) -> impl Iterator<Item = &'a str> {
    attrs.values().flat_map(|a| -> Vec<&'a str> {
        match &a.value {
            Some(Attr::Func(f)) => vec![&f.name],
            Some(Attr::List(l)) => l.func.iter().map(|f| f.name.as_str()).collect(),
            _ => Vec::new(),
        }
    })
}

/// Fails with every unsupported op that a request reaches. Calls that inlining removes are not ops here.
pub(crate) fn unsupported(graph: &RawGraph, library: &Library, request: &Request, supported: &dyn Fn(&str) -> bool) -> Result<()> {
    let mut found: BTreeMap<&str, UnsupportedOp> = BTreeMap::new();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut functions: VecDeque<&str> = VecDeque::new();
    let mut visit = |op, function: &str, name: &str, attrs, functions: &mut VecDeque<_>| {
        let call = library.get(op).map(|f| f.name());
        functions.extend(referred(attrs).chain(call).filter(|f| seen.insert(f)));
        if call.is_some() || matches!(op, "PartitionedCall" | "StatefulPartitionedCall") || supported(op) {
            return;
        }
        let entry = found.entry(op).or_insert_with(|| UnsupportedOp { op: op.to_string(), count: 0, nodes: Vec::new() });
        entry.count += 1;
        if entry.nodes.len() < UnsupportedOp::NAMED {
            entry.nodes.push(if function.is_empty() { name.to_string() } else { format!("{function}/{name}") });
        }
    };
    for id in reached(graph, request) {
        let node = graph.node(id);
        visit(&node.op, "", &node.name, &node.attrs, &mut functions);
    }
    while let Some(name) = functions.pop_front() {
        let Some(function) = library.get(name) else { continue };
        for (op, node, attrs) in function.named_nodes() {
            visit(op, name, node, attrs, &mut functions);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let mut ops: Vec<UnsupportedOp> = found.into_values().collect();
    ops.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.op.cmp(&b.op)));
    Err(ErrorKind::UnsupportedOps { ops }.into())
}
