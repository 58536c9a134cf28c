//! Turns nodes with named inputs into a [`RawGraph`].

use super::library::Library;
use super::node::{Attrs, Node, NodeId, Value, arg_count, check_attrs, find_attr, kind_name};
use super::{Edge, RawGraph};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::proto::attr_value::Value as Attr;
use crate::proto::{AttrValue, NodeDef, OpDef};
use crate::tensor::RawTensor;
use hashbrown::HashMap;
use petgraph::graph::DiGraph;
use std::borrow::Borrow;
use std::sync::Arc;

/// A node as the file has it: inputs still names.
#[derive(Clone, Debug)]
pub(crate) struct NamedNode {
    pub name: String,
    pub op: String,
    pub device: String,
    pub attrs: Arc<Attrs>,
    pub inputs: Vec<String>,
}

impl From<NodeDef> for NamedNode {
    fn from(n: NodeDef) -> Self {
        NamedNode { name: n.name, op: n.op, device: n.device, attrs: Arc::new(n.attr), inputs: n.input }
    }
}

/// Where the outputs of a node lie, for resolving inputs.
enum Ports {
    /// Number of outputs, and the first output of each named output argument.
    Known { count: usize, def: Arc<OpDef>, offsets: Vec<usize> },
    /// No definition: outputs get numbers as they are met.
    Unknown(Vec<String>),
}

/// Resolves names of inputs in one graph or function body.
pub(crate) struct Resolver<'a> {
    index: HashMap<&'a str, NodeId>,
    ports: Vec<Ports>,
    limits: &'a Limits,
}

/// A name with what it refers to in it.
enum InputName<'a> {
    /// `node` or `node:k`
    Port(&'a str, usize),
    /// `node:output_argument:k`
    Argument(&'a str, &'a str, usize),
}

fn parse_input(input: &str, in_function: bool) -> Result<InputName<'_>, &'static str> {
    if input.starts_with('^') {
        return Err("a control input cannot be a value");
    }
    let number = |s: &str| s.parse::<usize>().map_err(|_| "an output number is expected after the last colon");
    let mut parts = input.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (None | Some(""), _, _) => Err("no node name"),
        (Some(node), None, _) => Ok(InputName::Port(node, 0)),
        (Some(node), Some(port), None) => match number(port) {
            Ok(k) => Ok(InputName::Port(node, k)),
            Err(_) if in_function => Ok(InputName::Argument(node, port, 0)),
            Err(e) => Err(e),
        },
        (Some(node), Some(arg), Some(k)) => Ok(InputName::Argument(node, arg, number(k)?)),
    }
}

impl<'a> Resolver<'a> {
    /// Indexes the nodes of one graph, checks their names and attributes, and learns their outputs.
    pub fn new<N: Borrow<NamedNode>>(nodes: &'a [N], library: &Library, limits: &'a Limits) -> Result<Self> {
        let mut index = HashMap::with_capacity(nodes.len());
        let mut ports = Vec::with_capacity(nodes.len());
        for (i, node) in nodes.iter().map(N::borrow).enumerate() {
            if node.name.is_empty() {
                return Err(ErrorKind::EmptyNodeName { op: node.op.clone() }.into());
            }
            if index.insert(node.name.as_str(), NodeId::new(i)).is_some() {
                return Err(ErrorKind::DuplicateNode { name: node.name.clone() }.into());
            }
            ports.push(node_ports(node, library, limits).map_err(|e| e.at_node(&node.name))?);
        }
        Ok(Resolver { index, ports, limits })
    }

    pub fn def(&self, id: NodeId) -> Option<Arc<OpDef>> {
        match self.ports.get(id.index()) {
            Some(Ports::Known { def, .. }) => Some(def.clone()),
            _ => None,
        }
    }

    pub fn node(&self, name: &str) -> Result<NodeId> {
        self.index.get(name).copied().ok_or_else(|| ErrorKind::MissingInput { input: name.to_string() }.into())
    }

    /// The value that a data input names.
    pub fn value(&mut self, input: &str, in_function: bool) -> Result<Value> {
        match parse_input(input, in_function) {
            Ok(InputName::Port(node, port)) => self.port(input, node, port),
            Ok(InputName::Argument(node, arg, k)) => self.argument(input, node, arg, k),
            Err(why) => Err(bad_name(input, why)),
        }
    }

    fn port(&mut self, input: &str, node: &str, port: usize) -> Result<Value> {
        let id = self.node(node).map_err(|_| missing(input))?;
        match self.ports.get_mut(id.index()) {
            Some(Ports::Known { count, .. }) if port >= *count => {
                Err(ErrorKind::NoSuchOutput { input: input.to_string(), outputs: *count }.into())
            }
            Some(_) => Ok(Value { node: id, port: port_number(port, input, self.limits)? }),
            None => Err(missing(input)),
        }
    }

    fn argument(&mut self, input: &str, node: &str, arg: &str, k: usize) -> Result<Value> {
        let id = self.node(node).map_err(|_| missing(input))?;
        let port = match self.ports.get_mut(id.index()).ok_or_else(|| missing(input))? {
            Ports::Known { count, def, offsets } => {
                let position = def.output_arg.iter().position(|a| a.name == arg).ok_or_else(|| missing(input))?;
                let start = offsets.get(position).copied().ok_or_else(|| missing(input))?;
                let end = offsets.get(position + 1).copied().unwrap_or(*count);
                let port = start.checked_add(k).filter(|p| *p < end);
                port.ok_or_else(|| ErrorKind::NoSuchOutput { input: input.to_string(), outputs: end - start })?
            }
            Ports::Unknown(seen) => {
                let key = format!("{arg}:{k}");
                seen.iter().position(|s| *s == key).unwrap_or_else(|| {
                    seen.push(key);
                    seen.len() - 1
                })
            }
        };
        Ok(Value { node: id, port: port_number(port, input, self.limits)? })
    }
}

fn missing(input: &str) -> Error {
    ErrorKind::MissingInput { input: input.to_string() }.into()
}

fn bad_name(input: &str, why: &'static str) -> Error {
    ErrorKind::BadInputName { input: input.to_string(), why }.into()
}

fn port_number(port: usize, input: &str, limits: &Limits) -> Result<u32> {
    let fits = u32::try_from(port).ok().filter(|_| port < limits.max_ports);
    fits.ok_or_else(|| bad_name(input, "the output number is above Limits::max_ports"))
}

fn node_ports(node: &NamedNode, library: &Library, limits: &Limits) -> Result<Ports> {
    let Some(def) = library.op_def(&node.op) else { return Ok(Ports::Unknown(Vec::new())) };
    check_attrs(&node.attrs, &def)?;
    let attr = |name: &str| find_attr(&node.attrs, Some(&def), name);
    if node.op == "Const" {
        check_const(&node.attrs, limits)?;
    }
    let mut count = 0usize;
    let mut offsets = Vec::with_capacity(def.output_arg.len());
    for arg in &def.output_arg {
        offsets.push(count);
        count += arg_count(arg, &attr, limits)?;
    }
    let inputs = def.input_arg.iter().try_fold(0usize, |n, arg| Ok::<_, Error>(n + arg_count(arg, &attr, limits)?))?;
    let found = node.inputs.iter().filter(|i| !i.starts_with('^')).count();
    if inputs != found {
        return Err(ErrorKind::InputCount { op: node.op.clone(), expected: inputs, found }.into());
    }
    Ok(Ports::Known { count, def, offsets })
}

/// A constant must decode, and be of the type its node declares.
fn check_const(attrs: &Attrs, limits: &Limits) -> Result<()> {
    let (Some(Attr::Tensor(value)), Some(Attr::Type(dtype))) = (find_attr(attrs, None, "value"), find_attr(attrs, None, "dtype"))
    else {
        return Ok(());
    };
    if value.dtype != *dtype {
        let detail = format!("its element type is number {} but the node declares {dtype}", value.dtype);
        return Err(ErrorKind::AttrValue { attr: "value".into(), detail }.into());
    }
    // Resource and variant constants are legal; only whoever uses one needs its value.
    if value.resource_handle_val.is_empty() && value.variant_val.is_empty() {
        RawTensor::from_proto(value, limits)?;
    }
    Ok(())
}

/// Resolves all nodes of one graph.
pub(crate) fn resolve_nodes<N: Borrow<NamedNode>>(
    nodes: &[N],
    resolver: &mut Resolver<'_>,
    in_function: bool,
) -> Result<Vec<Node>> {
    let mut out = Vec::with_capacity(nodes.len());
    for (i, node) in nodes.iter().map(N::borrow).enumerate() {
        let mut inputs = Vec::with_capacity(node.inputs.len());
        let mut controls = Vec::new();
        for input in &node.inputs {
            match input.strip_prefix('^') {
                Some(control) => controls.push(resolver.node(control).map_err(|_| missing(input).at_node(&node.name))?),
                None => inputs.push(resolver.value(input, in_function).map_err(|e| e.at_node(&node.name))?),
            }
        }
        controls.sort_unstable();
        controls.dedup();
        out.push(Node {
            name: node.name.clone(),
            op: node.op.clone(),
            device: node.device.clone(),
            attrs: node.attrs.clone(),
            inputs,
            controls,
            def: resolver.def(NodeId::new(i)),
        });
    }
    Ok(out)
}

/// Replaces `placeholder` attributes of a polymorphic function's node by the attributes of the call.
pub(crate) fn instantiate(node: &mut NamedNode, by: &Attrs, signature: &OpDef) -> Result<()> {
    let open = |a: &AttrValue| matches!(a.value, Some(Attr::Placeholder(_))) || nested_placeholder(a);
    if !node.attrs.values().any(open) {
        return Ok(());
    }
    for value in Arc::make_mut(&mut node.attrs).values_mut() {
        substitute(value, by, signature, 0).map_err(|e| e.at_node(&node.name))?;
    }
    Ok(())
}

/// Whether a function attribute itself has open attributes.
pub(crate) fn nested_placeholder(attr: &AttrValue) -> bool {
    let open = |f: &crate::proto::NameAttrList| f.attr.values().any(|a| matches!(a.value, Some(Attr::Placeholder(_))));
    match &attr.value {
        Some(Attr::Func(f)) => open(f),
        Some(Attr::List(l)) => l.func.iter().any(open),
        _ => false,
    }
}

fn substitute(attr: &mut AttrValue, by: &Attrs, signature: &OpDef, depth: usize) -> Result<()> {
    match &mut attr.value {
        Some(Attr::Placeholder(name)) => {
            let Some(value) = find_attr(by, Some(signature), name) else {
                return Err(ErrorKind::MissingAttr { op: signature.name.clone(), attr: name.clone() }.into());
            };
            if matches!(value, Attr::Placeholder(_)) {
                let kind =
                    ErrorKind::AttrType { attr: name.clone(), expected: "a value at the call".into(), found: kind_name(value) };
                return Err(kind.into());
            }
            attr.value = Some(value.clone());
        }
        Some(Attr::Func(f)) if depth < 8 => {
            f.attr.values_mut().try_for_each(|a| substitute(a, by, signature, depth + 1))?;
        }
        Some(Attr::List(l)) if depth < 8 => {
            let mut inner = l.func.iter_mut().flat_map(|f| f.attr.values_mut());
            inner.try_for_each(|a| substitute(a, by, signature, depth + 1))?;
        }
        _ => {}
    }
    Ok(())
}

/// Nodes whose outgoing edges may close a cycle.
pub(crate) fn closes_loop(op: &str) -> bool {
    matches!(op, "NextIteration" | "RefNextIteration")
}

/// Builds the `petgraph` view, and checks names, size and cycles.
pub(crate) fn finish(name: String, nodes: Vec<Node>, limits: &Limits) -> Result<RawGraph> {
    if nodes.len() > limits.max_nodes {
        let (count, limit) = (nodes.len(), limits.max_nodes);
        return Err(ErrorKind::TooMany { what: "nodes in one graph", count, limit, name: "max_nodes" }.into());
    }
    let count = nodes.iter().fold(0usize, |n, node| n.saturating_add(node.inputs.len() + node.controls.len()));
    if count > limits.max_edges {
        let limit = limits.max_edges;
        return Err(ErrorKind::TooMany { what: "edges in one graph", count, limit, name: "max_edges" }.into());
    }
    let mut by_name = HashMap::with_capacity(nodes.len());
    for (i, node) in nodes.iter().enumerate() {
        if by_name.insert(node.name.clone(), NodeId::new(i)).is_some() {
            return Err(ErrorKind::DuplicateNode { name: node.name.clone() }.into());
        }
    }
    let order = topological_order(&nodes)?;
    let mut edges = Vec::with_capacity(count);
    for (i, node) in nodes.iter().enumerate() {
        let target = NodeId::new(i);
        let data = node.inputs.iter().enumerate();
        edges.extend(data.map(|(k, v)| (v.node, target, Edge::Data { output: v.port, input: k as u32 })));
        edges.extend(node.controls.iter().map(|c| (*c, target, Edge::Control)));
    }
    let mut graph = DiGraph::with_capacity(nodes.len(), edges.len());
    for node in nodes {
        graph.add_node(node);
    }
    for (source, target, edge) in edges {
        graph.add_edge(source, target, edge);
    }
    Ok(RawGraph { name, inputs: Vec::new(), outputs: Vec::new(), targets: Vec::new(), graph, order, by_name })
}

/// Producers before consumers, otherwise in the order of the file. Iterative: a graph may be a chain of a million nodes.
fn topological_order(nodes: &[Node]) -> Result<Vec<NodeId>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; nodes.len()];
    let mut order = Vec::with_capacity(nodes.len());
    // A node and how many of its predecessors have been looked at.
    let mut stack: Vec<(NodeId, usize)> = Vec::new();
    for root in (0..nodes.len()).map(NodeId::new) {
        if marks[root.index()] != Mark::New {
            continue;
        }
        marks[root.index()] = Mark::Open;
        stack.push((root, 0));
        while let Some((id, next)) = stack.last_mut() {
            let node = &nodes[id.index()];
            let predecessor =
                node.inputs.get(*next).map(|v| v.node).or_else(|| node.controls.get(*next - node.inputs.len()).copied());
            let Some(p) = predecessor else {
                marks[id.index()] = Mark::Done;
                order.push(*id);
                stack.pop();
                continue;
            };
            *next += 1;
            if closes_loop(&nodes[p.index()].op) {
                continue;
            }
            match marks[p.index()] {
                Mark::Done => {}
                Mark::New => {
                    marks[p.index()] = Mark::Open;
                    stack.push((p, 0));
                }
                Mark::Open => {
                    let start = stack.iter().position(|(n, _)| *n == p).unwrap_or(0);
                    let names = stack[start..].iter().rev().map(|(n, _)| nodes[n.index()].name.clone());
                    return Err(ErrorKind::Cycle { nodes: names.collect() }.into());
                }
            }
        }
    }
    Ok(order)
}
