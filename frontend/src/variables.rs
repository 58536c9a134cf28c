//! Variables: which there are, where the checkpoint has their values, and which a graph may change.

use crate::checkpoint::{Checkpoint, Slice};
use crate::dtype::DataType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Attrs, Library, Node, NodeId, RawGraph, Request, Value, extract, find_attr};
use crate::limits::Limits;
use crate::proto::attr_value::Value as Attr;
use crate::proto::op_def::ArgDef;
use crate::proto::{AttrValue, OpDef, SaverDef, TrackableObjectGraph};
use crate::tensor::{PartialShape, RawTensor};
use hashbrown::{HashMap, HashSet};
use prost::Message as _;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The shared name that TensorFlow gives to variables that share with nobody.
const ANONYMOUS: &str = "cd2c89b7-88b7-44c8-ad83-06c2a9158347";

/// A variable of a model.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its shared name, else the name of its node. Nodes with the same name are the same variable.
    pub name: String,
    /// A node of the main graph that stands for it.
    pub node: String,
    pub dtype: DataType,
    pub shape: PartialShape,
    /// Whether it is a resource (`VarHandleOp`) and not a reference variable (`VariableV2`).
    pub resource: bool,
    /// Where the checkpoint has its value; None without a checkpoint or when the checkpoint does not have it.
    pub stored: Option<Stored>,
    pub(crate) key: String,
}

/// A value in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub key: String,
    /// The part of the stored tensor that the variable is; None is all of it.
    pub slice: Option<Slice>,
}

/// Identity of the variable that a node stands for; None for other ops.
pub(crate) fn key(node: &Node) -> Option<String> {
    if !matches!(node.op.as_str(), "VarHandleOp" | "VariableV2" | "Variable") {
        return None;
    }
    let text = |name: &str| match node.attr(name) {
        Some(Attr::S(s)) => std::str::from_utf8(s).ok().filter(|s| !s.is_empty()),
        _ => None,
    };
    let shared = text("shared_name").filter(|s| *s != ANONYMOUS);
    Some(format!("{};{}", text("container").unwrap_or_default(), shared.unwrap_or(&node.name)))
}

/// Name of the variable that a node stands for: its shared name, else its own. None for other ops.
pub fn name(node: &Node) -> Option<String> {
    key(node).map(|k| k.split_once(';').map_or("", |(_, name)| name).to_string())
}

/// Makes a node that stands for a variable do so by its shared name, whatever the node is called.
pub fn share(node: &mut Node, name: &str) {
    let shared = AttrValue { value: Some(Attr::S(name.as_bytes().to_vec())) };
    Arc::make_mut(&mut node.attrs).insert("shared_name".into(), shared);
}

/// The variables that the nodes of a graph stand for, in graph order.
pub(crate) fn declared(graph: &RawGraph) -> Result<Vec<Variable>> {
    let mut variables = Vec::new();
    let mut seen = HashSet::new();
    for (_, node) in graph.nodes() {
        let Some(key) = key(node) else { continue };
        if !seen.insert(key.clone()) {
            continue;
        }
        let name = key.split_once(';').map_or("", |(_, name)| name).to_string();
        let (dtype, shape) = (node.attr_type("dtype")?, node.attr_shape("shape")?);
        let resource = node.op == "VarHandleOp";
        variables.push(Variable { name, node: node.name.clone(), dtype, shape, resource, stored: None, key });
    }
    Ok(variables)
}

/// Finds where the checkpoint has the values: by its object graph where that names each variable once, else by what the restore op
/// assigns, which takes longer to find out, else by the object graph, else by name.
pub(crate) fn find_values(
    variables: &mut [Variable],
    graph: &RawGraph,
    library: &Library,
    saver: Option<&SaverDef>,
    checkpoint: Option<&Checkpoint>,
) -> Result<()> {
    let Some(checkpoint) = checkpoint else { return Ok(()) };
    let tracked = tracked_values(checkpoint);
    let named = |key: &str| Some(key).filter(|k| checkpoint.contains(k)).map(|k| Stored { key: k.to_string(), slice: None });
    let by_object = |v: &Variable| match tracked.get(&v.name).or_else(|| tracked.get(&v.node)).map(Vec::as_slice) {
        Some([key]) => named(key),
        _ => None,
    };
    let found: Option<Vec<Stored>> = variables.iter().map(by_object).collect();
    if let Some(found) = found {
        variables.iter_mut().zip(found).for_each(|(v, stored)| v.stored = Some(stored));
        return Ok(());
    }
    let restored = restored_values(graph, library, saver)?;
    for variable in variables {
        let tracked = |name: &str| tracked.get(name).and_then(|keys| named(keys.last()?));
        let from_restore = restored.get(&variable.key).filter(|s| checkpoint.contains(&s.key)).cloned();
        variable.stored = from_restore
            .or_else(|| tracked(&variable.name))
            .or_else(|| tracked(&variable.node))
            .or_else(|| named(&variable.name))
            .or_else(|| named(&variable.node));
    }
    Ok(())
}

/// What the restore op assigns to each variable, by the variable's key.
fn restored_values(graph: &RawGraph, library: &Library, saver: Option<&SaverDef>) -> Result<HashMap<String, Stored>> {
    let name = saver.map(|s| s.restore_op_name.split(':').next().unwrap_or_default()).filter(|n| !n.is_empty());
    let request = name.map(|n| Request { targets: vec![n.to_string()], ..Request::default() });
    let inlined = request.map(|r| extract(graph, library, &r)).transpose()?;
    let graph = inlined.as_ref().unwrap_or(graph);
    let mut found = HashMap::new();
    let mut names = Names { graph, limits: library.limits(), tensors: HashMap::new() };
    for (_, node) in graph.nodes().filter(|(_, n)| matches!(n.op.as_str(), "AssignVariableOp" | "Assign")) {
        let (Ok(target), Ok(value)) = (node.input(0), node.input(1)) else { continue };
        let target = graph.node(through_identities(graph, target).node);
        let (Some(key), Some(stored)) = (key(target), names.source(value)) else { continue };
        found.entry(key).or_insert(stored);
    }
    Ok(found)
}

/// The names that restore ops of a graph read. One constant holds those of all variables, so each is decoded once.
struct Names<'a> {
    graph: &'a RawGraph,
    limits: &'a Limits,
    tensors: HashMap<NodeId, Option<RawTensor>>,
}

impl Names<'_> {
    /// The checkpoint tensor that a value is restored from, when it comes straight from a restore op.
    fn source(&mut self, value: Value) -> Option<Stored> {
        let graph = self.graph;
        let value = through_identities(graph, value);
        let node = graph.node(value.node);
        if node.op != "RestoreV2" {
            return None;
        }
        let spec = self.text(node.input(2).ok()?, value.port)?;
        let slice = if spec.is_empty() { None } else { Some(Slice::parse(&spec)?.1) };
        Some(Stored { key: self.text(node.input(1).ok()?, value.port)?, slice })
    }

    /// One of the strings of a constant.
    fn text(&mut self, constant: Value, index: u32) -> Option<String> {
        let id = through_identities(self.graph, constant).node;
        let tensor = self.tensors.entry(id).or_insert_with(|| {
            let constant = self.graph.node(id);
            constant.attr_tensor("value", self.limits).ok().filter(|_| constant.op == "Const")
        });
        let bytes = tensor.as_ref()?.strings().ok()?.get(index as usize)?;
        String::from_utf8(bytes.to_vec()).ok()
    }
}

fn through_identities(graph: &RawGraph, mut value: Value) -> Value {
    // Bounded, for a cycle of identities through NextIteration.
    for _ in 0..64 {
        let node = graph.node(value.node);
        match node.inputs.get(value.port as usize) {
            Some(from) if matches!(node.op.as_str(), "Identity" | "IdentityN" | "RefIdentity" | "Enter" | "RefEnter") => {
                value = *from;
            }
            _ => break,
        }
    }
    value
}

/// Checkpoint keys by the full names that the object graph in the checkpoint records.
fn tracked_values(checkpoint: &Checkpoint) -> HashMap<String, Vec<String>> {
    let proto = checkpoint.read("_CHECKPOINTABLE_OBJECT_GRAPH").ok();
    let bytes = proto.and_then(|t| t.strings().ok().and_then(|s| s.first().cloned()));
    let graph = bytes.and_then(|b| TrackableObjectGraph::decode(b).ok()).unwrap_or_default();
    let mut keys: HashMap<String, Vec<String>> = HashMap::new();
    for a in graph.nodes.into_iter().flat_map(|n| n.attributes).filter(|a| !a.full_name.is_empty()) {
        keys.entry(a.full_name).or_default().push(a.checkpoint_key);
    }
    keys
}

/// The value of a variable, of the type and shape that the graph declares.
pub(crate) fn read_value(variable: &Variable, checkpoint: Option<&Checkpoint>) -> Result<RawTensor> {
    let (Some(checkpoint), Some(stored)) = (checkpoint, &variable.stored) else {
        return Err(ErrorKind::NoCheckpoint { variable: variable.name.clone() }.into());
    };
    let tensor = match &stored.slice {
        Some(slice) => checkpoint.read_slice(&stored.key, slice)?,
        None => checkpoint.read(&stored.key)?,
    };
    let shape_fits = variable.shape.as_ref().is_none_or(|s| {
        s.len() == tensor.shape.len() && s.iter().zip(&tensor.shape).all(|(want, have)| want.is_none_or(|w| w == *have))
    });
    if tensor.dtype != variable.dtype || !shape_fits {
        let detail = format!(
            "it is {} {:?} in the graph but {} {:?} in the checkpoint",
            variable.dtype, variable.shape, tensor.dtype, tensor.shape
        );
        return Err(Error::from(ErrorKind::VariableMismatch { variable: variable.name.clone(), detail }).at_node(&variable.node));
    }
    Ok(tensor)
}

/// Ops that take a handle of a variable and leave the variable as it is.
const READS: &[&str] = &[
    "ReadVariableOp",
    "DisableCopyOnRead",
    "_ReadVariablesOp",
    "VarIsInitializedOp",
    "IsVariableInitialized",
    "VariableShape",
    "ResourceGather",
    "ResourceGatherNd",
];

/// Whether a node may change a variable whose handle it takes; not what functions that it refers to do. `attrs` are its own.
pub(crate) fn may_write(op: &str, attrs: &Attrs, library: &Library) -> bool {
    let hands_on = matches!(
        op,
        "Identity"
            | "IdentityN"
            | "Switch"
            | "Merge"
            | "Enter"
            | "Exit"
            | "NextIteration"
            | "If"
            | "StatelessIf"
            | "Case"
            | "StatelessCase"
            | "While"
            | "StatelessWhile"
            | "PartitionedCall"
            | "StatefulPartitionedCall"
    );
    if hands_on || READS.contains(&op) || library.get(op).is_some() {
        return false;
    }
    library.op_def(op).is_none_or(|def| def.input_arg.iter().any(|arg| arg.is_ref || takes_handle(arg, attrs, &def)))
}

/// Names of the variables that running a graph may change.
pub(crate) fn assigned(graph: &RawGraph, library: &Library) -> Result<BTreeSet<String>> {
    let mut flows = Flows { library, known: HashMap::new() };
    let mut out = BTreeSet::new();
    for (id, node) in graph.nodes() {
        let Some(key) = key(node) else { continue };
        if flows.follow(graph, Value { node: id, port: 0 }, 0)?.written {
            out.insert(key.split_once(';').map_or("", |(_, name)| name).to_string());
        }
    }
    Ok(out)
}

/// Where a handle that enters a graph goes.
#[derive(Clone, Default)]
struct Flow {
    written: bool,
    /// Outputs of the graph that it leaves by.
    outputs: Vec<usize>,
}

struct Flows<'a> {
    library: &'a Library,
    /// What becomes of an argument of a function. While a function is being looked at, a call of it counts as writing.
    known: HashMap<(String, usize), Flow>,
}

impl Flows<'_> {
    fn follow(&mut self, graph: &RawGraph, start: Value, depth: usize) -> Result<Flow> {
        let mut flow = Flow::default();
        if depth > self.library.limits().max_call_depth {
            flow.written = true;
            return Ok(flow);
        }
        let mut seen: HashSet<Value> = HashSet::from([start]);
        let mut stack = vec![start];
        while let Some(value) = stack.pop() {
            flow.outputs.extend(graph.outputs.iter().enumerate().filter(|(_, o)| o.value == value).map(|(i, _)| i));
            for edge in graph.petgraph().edges(value.node) {
                use petgraph::visit::EdgeRef as _;
                let super::graph::Edge::Data { output, input } = *edge.weight() else { continue };
                if output != value.port {
                    continue;
                }
                let outputs = self.consumer(graph, edge.target(), input as usize, depth, &mut flow)?;
                for port in outputs {
                    let next = Value { node: edge.target(), port };
                    if seen.insert(next) {
                        stack.push(next);
                    }
                }
            }
        }
        Ok(flow)
    }

    /// What a node does with a handle at one of its inputs: the outputs that carry the handle on.
    fn consumer(&mut self, graph: &RawGraph, id: NodeId, input: usize, depth: usize, flow: &mut Flow) -> Result<Vec<u32>> {
        let node = graph.node(id);
        let (functions, skipped): (Vec<Callee<'_>>, usize) = match node.op.as_str() {
            op if READS.contains(&op) => return Ok(Vec::new()),
            "Identity" | "RefIdentity" | "Enter" | "RefEnter" | "Exit" | "RefExit" | "NextIteration" | "RefNextIteration"
            | "Merge" | "RefMerge" => return Ok(vec![0]),
            "IdentityN" => return Ok(vec![input as u32]),
            "Switch" | "RefSwitch" if input == 0 => return Ok(vec![0, 1]),
            "If" | "StatelessIf" => (callees(node, &["then_branch", "else_branch"])?, 1),
            "Case" | "StatelessCase" => (node.attr_funcs("branches")?.iter().map(|f| (f.name.as_str(), &f.attr)).collect(), 1),
            "While" | "StatelessWhile" => (callees(node, &["cond", "body"])?, 0),
            "PartitionedCall" | "StatefulPartitionedCall" => (callees(node, &["f"])?, 0),
            op if self.library.get(op).is_some() => (vec![(op, &*node.attrs)], 0),
            _ => {
                flow.written |= !reads_only(node, input);
                return Ok(Vec::new());
            }
        };
        let Some(argument) = input.checked_sub(skipped) else { return Ok(Vec::new()) };
        let mut outputs = Vec::new();
        for (function, attrs) in functions {
            let inner = self.argument(function, argument, attrs, depth + 1)?;
            flow.written |= inner.written;
            // The condition of a loop returns no handle, so only the body's outputs are here.
            outputs.extend(inner.outputs.into_iter().map(|o| o as u32));
        }
        Ok(outputs)
    }

    fn argument(&mut self, function: &str, argument: usize, attrs: &Attrs, depth: usize) -> Result<Flow> {
        let memo = (function.to_string(), argument);
        if let Some(flow) = self.known.get(&memo) {
            return Ok(flow.clone());
        }
        self.known.insert(memo.clone(), Flow { written: true, outputs: Vec::new() });
        let body = self.library.body(function, attrs)?;
        let flow = match body.inputs.get(argument) {
            Some(arg) => self.follow(&body, Value { node: arg.node, port: 0 }, depth)?,
            None => Flow::default(),
        };
        self.known.insert(memo, flow.clone());
        Ok(flow)
    }
}

/// A function with the attributes that it is called with.
type Callee<'a> = (&'a str, &'a Attrs);

fn callees<'a>(node: &'a Node, attrs: &[&str]) -> Result<Vec<Callee<'a>>> {
    attrs.iter().map(|a| node.attr_func(a).map(|f| (f.name.as_str(), &f.attr))).collect()
}

/// Whether an op takes a reference variable by value at this input. Resources are never taken by value.
fn reads_only(node: &Node, input: usize) -> bool {
    let Some(def) = node.def.as_deref() else { return false };
    let limits = Limits::default();
    let mut next = 0usize;
    let mut found: Option<&ArgDef> = None;
    for arg in &def.input_arg {
        next += crate::graph::arg_count(arg, &|a| node.attr(a), &limits).unwrap_or(1);
        if input < next {
            found = Some(arg);
            break;
        }
    }
    found.is_some_and(|arg| !takes_handle(arg, &node.attrs, def) && !arg.is_ref)
}

/// Whether an argument of an op is a resource or a variant, or may be one.
fn takes_handle(arg: &ArgDef, attrs: &Attrs, def: &OpDef) -> bool {
    let is = |t: &i32| *t == DataType::Resource.number() || *t == DataType::Variant.number();
    let attr = |name: &str| find_attr(attrs, Some(def), name);
    is(&arg.r#type)
        || !arg.type_attr.is_empty() && matches!(attr(&arg.type_attr), Some(Attr::Type(t)) if is(t))
        || !arg.type_list_attr.is_empty() && matches!(attr(&arg.type_list_attr), Some(Attr::List(l)) if l.r#type.iter().any(is))
}
