//! What TensorFlow checks before it runs a graph: the types along edges, that there are kernels, and what shape functions and the making of
//! kernels refuse.

use super::RawGraph;
use super::inline::{callee, compiled_by_xla, needed_in_body};
use super::library::Library;
use super::node::{Attrs, Node, NodeId, Value};
use crate::error::{ErrorKind, Result};
use crate::kernels::{self, Device};
use crate::limits::Limits;
use crate::proto::NameAttrList;
use crate::proto::attr_value::Value as Attr;
use crate::tensor::PartialShape;
use hashbrown::HashSet;

/// Checks a graph with its calls inlined, and the functions that it refers to.
pub(crate) fn check(graph: &RawGraph, library: &Library) -> Result<()> {
    let mut seen: HashSet<(String, bool)> = HashSet::new();
    let mut left: Vec<(NameAttrList, bool)> = Vec::new();
    let fed: HashSet<NodeId> = graph.inputs.iter().map(|i| i.node).collect();
    for (id, node) in graph.nodes().filter(|(id, _)| !fed.contains(id)) {
        check_node(graph, id, false, library.limits()).map_err(|e| e.at_node(&node.name))?;
        functions(node, false, library, &mut left);
    }
    while let Some((f, xla)) = left.pop() {
        let key = if f.attr.is_empty() { f.name.clone() } else { format!("{} {:?}", f.name, f.attr) };
        if !seen.insert((key, xla)) {
            continue;
        }
        // What is wrong with a body matters to whoever runs it.
        let Ok(body) = library.body(&f.name, &f.attr) else { continue };
        let keep = needed_in_body(&body);
        for (id, node) in body.nodes().filter(|(id, n)| keep[id.index()] && n.op != "_Arg") {
            check_node(&body, id, xla, library.limits()).map_err(|e| e.at_node(&node.name).in_function(&f.name))?;
            functions(node, xla, library, &mut left);
        }
    }
    Ok(())
}

/// The functions that a node runs, each with whether XLA compiles it.
fn functions(node: &Node, inside: bool, library: &Library, out: &mut Vec<(NameAttrList, bool)>) {
    let mut push = |f: &NameAttrList| {
        let own = library.get(&f.name).is_some_and(|f| compiled_by_xla(f.attrs()));
        out.push((f.clone(), inside || own || compiled_by_xla(&node.attrs)));
    };
    for a in node.attrs.values() {
        match &a.value {
            Some(Attr::Func(f)) => push(f),
            Some(Attr::List(l)) => l.func.iter().for_each(&mut push),
            _ => {}
        }
    }
    // A call by the function's name.
    if let Some(name) = callee(node, library).filter(|f| *f == node.op) {
        push(&NameAttrList { name, attr: Attrs::clone(&node.attrs) });
    }
}

fn check_node(graph: &RawGraph, id: NodeId, xla: bool, limits: &Limits) -> Result<()> {
    let node = graph.node(id);
    let xla = xla || compiled_by_xla(&node.attrs);
    check_inputs(graph, node, limits)?;
    let device = if xla { Device::Xla } else { Device::Cpu };
    if !kernels::covers(node, device) {
        let device = if xla { "XLA_CPU_JIT" } else { "CPU" };
        return Err(ErrorKind::NoKernel { op: node.op.clone(), device }.into());
    }
    if !xla {
        check_pooling(graph, node, limits)?;
    }
    Ok(())
}

/// The types of a node's inputs are those of its op.
fn check_inputs(graph: &RawGraph, node: &Node, limits: &Limits) -> Result<()> {
    let Some(expected) = node.input_types(limits)? else { return Ok(()) };
    for (k, (&value, expected)) in node.inputs.iter().zip(expected).enumerate() {
        match graph.value_type(value, limits)? {
            Some(found) if found != expected => {
                return Err(ErrorKind::InputType { op: node.op.clone(), input: k, expected, found }.into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// The shape that a source of the graph declares.
fn declared_shape(graph: &RawGraph, value: Value, limits: &Limits) -> PartialShape {
    let node = graph.node(value.node);
    match node.op.as_str() {
        "Placeholder" => node.attr_shape("shape").ok().flatten(),
        "Const" => Some(node.attr_tensor("value", limits).ok()?.shape.iter().map(|&d| Some(d)).collect()),
        _ => None,
    }
}

/// Windows over the batch, which no pooling has, and windows larger than an image of declared size.
///
/// oneDNN pools images with their channels first; what it does not do is left to kernels that do not take that layout.
fn check_pooling(graph: &RawGraph, node: &Node, limits: &Limits) -> Result<()> {
    let op = node.op.as_str();
    if !matches!(op, "MaxPool" | "AvgPool" | "MaxPoolGrad" | "AvgPoolGrad") {
        return Ok(());
    }
    let (ksize, strides) = (node.attr_i64s("ksize")?, node.attr_i64s("strides")?);
    let ([kb, .., kc], [sb, ..]) = (ksize, strides) else { return Ok(()) };
    let refused = |unimplemented: bool, why: &str| -> Result<()> {
        Err(ErrorKind::KernelRefuses { op: op.to_owned(), why: why.to_owned(), unimplemented }.into())
    };
    if *kb != 1 || *sb != 1 {
        return refused(true, "Pooling is not yet supported on the batch dimension.");
    }
    let first = node.attr_str("data_format")? == "NCHW";
    let channels = if first { ksize.get(1).unwrap_or(&1) } else { kc };
    if first && op == "MaxPool" && *channels != 1 {
        return refused(false, "Default MaxPoolingOp only supports NHWC on device type CPU");
    }
    // Without the workspace that the forward op leaves there is no gradient in this layout.
    if first && op == "MaxPoolGrad" && graph.node(node.input(1)?.node).op != "MaxPool" {
        return refused(false, "Default MaxPoolingGradOp only supports NHWC on device type CPU");
    }
    if op.ends_with("Grad") || node.attr_str("padding")? != "VALID" {
        return Ok(());
    }
    let shape = declared_shape(graph, node.input(0)?, limits).unwrap_or_default();
    let larger =
        shape.iter().zip(ksize).find_map(|(d, &k)| d.filter(|&d| k > 1 && i64::try_from(d).is_ok_and(|d| d < k)).map(|d| (d, k)));
    match larger {
        Some((d, k)) => refused(false, &format!("Negative dimension size caused by subtracting {k} from {d}")),
        None => Ok(()),
    }
}
