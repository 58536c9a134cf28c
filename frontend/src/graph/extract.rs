//! Cuts out of a graph what one kind of run needs.

use super::build::finish;
use super::inline::{Roots, inline, needed};
use super::library::Library;
use super::node::{Node, NodeId, Value};
use super::{GraphInput, GraphOutput, RawGraph};
use crate::dtype::DataType;
use crate::error::{Error, ErrorKind, Result};
use crate::ops;
use crate::proto::AttrValue;
use crate::proto::attr_value::Value as Attr;
use crate::tensor::PartialShape;
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A tensor that the caller provides.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    /// What the caller calls it.
    pub name: String,
    /// `node:k` in the main graph.
    pub tensor: String,
    /// None takes the type that the graph gives.
    pub dtype: Option<DataType>,
    pub shape: PartialShape,
}

/// A tensor that the caller wants.
#[derive(Clone, Debug, Default)]
pub struct Fetch {
    pub name: String,
    /// `node:k` in the main graph.
    pub tensor: String,
    pub dtype: Option<DataType>,
    pub shape: PartialShape,
}

/// One kind of run: tensors given, tensors wanted, nodes that must run.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub feeds: Vec<Feed>,
    pub fetches: Vec<Fetch>,
    /// Names of nodes of the main graph.
    pub targets: Vec<String>,
}

impl Request {
    /// Feeds and fetches by tensor name alone.
    pub fn new<S: Into<String>>(feeds: impl IntoIterator<Item = S>, fetches: impl IntoIterator<Item = S>) -> Request {
        let feed = |s: S| s.into();
        let feeds = feeds.into_iter().map(feed).map(|t| Feed { name: t.clone(), tensor: t, ..Feed::default() }).collect();
        let fetches = fetches.into_iter().map(feed).map(|t| Fetch { name: t.clone(), tensor: t, ..Fetch::default() }).collect();
        Request { feeds, fetches, targets: Vec::new() }
    }
}

/// The part of a main graph that a request needs, fed tensors cut off from what made them, calls inlined.
pub(crate) fn extract(graph: &RawGraph, library: &Library, request: &Request) -> Result<RawGraph> {
    let mut nodes: Vec<Node> = graph.nodes().map(|(_, n)| n.clone()).collect();
    let mut inputs = Vec::with_capacity(request.feeds.len());
    let mut moved: HashMap<Value, Value> = HashMap::new();
    let mut fed_names: HashSet<String> = HashSet::new();
    for feed in &request.feeds {
        let value = checked_tensor(graph, library, &feed.tensor)?;
        let declared = graph.value_type(value, library.limits())?;
        let dtype = feed.dtype.or(declared);
        if let (Some(wanted), Some(found)) = (feed.dtype, declared)
            && wanted != found
        {
            let detail = format!("input \"{}\" is declared as {wanted} but {} is {found}", feed.name, feed.tensor);
            return Err(Error::from(ErrorKind::AttrValue { attr: "dtype".into(), detail }));
        }
        let source = graph.node(value.node);
        let placeholder = matches!(source.op.as_str(), "Placeholder" | "PlaceholderV2" | "PlaceholderWithDefault");
        let node = match (placeholder, moved.get(&value)) {
            (true, _) => value.node,
            (false, Some(earlier)) => earlier.node,
            (false, None) => {
                let node = NodeId::new(nodes.len());
                let name = (0u64..).map(|i| format!("{}/feed_{}{}", source.name, value.port, "_".repeat(i as usize)));
                let free = |n: &String| graph.find(n).is_none() && !fed_names.contains(n);
                let name = name.into_iter().find(free).unwrap_or_default();
                fed_names.insert(name.clone());
                nodes.push(Node { name, ..source.clone() });
                moved.insert(value, Value { node, port: 0 });
                node
            }
        };
        make_placeholder(&mut nodes[node.index()], dtype);
        inputs.push(GraphInput { name: feed.name.clone(), node, dtype, shape: feed.shape.clone() });
    }
    let here = |v: Value| moved.get(&v).copied().unwrap_or(v);
    if !moved.is_empty() {
        nodes.iter_mut().for_each(|n| n.inputs.iter_mut().for_each(|v| *v = here(*v)));
    }
    let mut outputs = Vec::with_capacity(request.fetches.len());
    for fetch in &request.fetches {
        let value = checked_tensor(graph, library, &fetch.tensor)?;
        let dtype = fetch.dtype.or(graph.value_type(value, library.limits())?);
        outputs.push(GraphOutput { name: fetch.name.clone(), value: here(value), dtype, shape: fetch.shape.clone() });
    }
    let find = |t: &String| graph.find(t).ok_or_else(|| ErrorKind::NoSuchTensor { name: t.clone() }.into());
    let targets = request.targets.iter().map(find).collect::<Result<Vec<NodeId>>>()?;
    let cut = finish(graph.name.clone(), nodes, library.limits())?;
    let roots = outputs.iter().map(|o| o.value.node).chain(inputs.iter().map(|i| i.node)).chain(targets.iter().copied());
    let keep = needed(&cut, roots);
    inline(&cut, &keep, Roots { inputs, outputs, targets }, library)
}

/// Nodes of the main graph that a request runs, in graph order; fed placeholders and what only feeds need are left out. Names that
/// the graph does not have are passed over.
pub(crate) fn reached(graph: &RawGraph, request: &Request) -> Vec<NodeId> {
    let fed: HashSet<Value> = request.feeds.iter().filter_map(|f| graph.tensor(&f.tensor).ok()).collect();
    let mut keep = vec![false; graph.len()];
    let wanted = request.fetches.iter().filter_map(|f| graph.tensor(&f.tensor).ok()).filter(|v| !fed.contains(v)).map(|v| v.node);
    let mut stack: Vec<NodeId> = wanted.chain(request.targets.iter().filter_map(|t| graph.find(t))).collect();
    while let Some(id) = stack.pop() {
        let node = graph.node(id);
        if fed.contains(&Value { node: id, port: 0 }) && node.op.starts_with("Placeholder") {
            continue;
        }
        if !std::mem::replace(&mut keep[id.index()], true) {
            stack.extend(node.inputs.iter().filter(|v| !fed.contains(*v)).map(|v| v.node).chain(node.controls.iter().copied()));
        }
    }
    graph.nodes().map(|(id, _)| id).filter(|id| keep[id.index()]).collect()
}

/// A tensor of the graph whose output number exists.
fn checked_tensor(graph: &RawGraph, library: &Library, name: &str) -> Result<Value> {
    let value = graph.tensor(name)?;
    match graph.node(value.node).output_types(library.limits())? {
        Some(types) if value.port as usize >= types.len() => Err(ErrorKind::NoSuchTensor { name: name.to_string() }.into()),
        _ => Ok(value),
    }
}

/// Makes a node a plain placeholder: a source of one output.
fn make_placeholder(node: &mut Node, dtype: Option<DataType>) {
    let shape = node.attrs.get("shape").filter(|a| matches!(a.value, Some(Attr::Shape(_)))).cloned();
    let mut attrs = BTreeMap::new();
    if let Some(dtype) = dtype {
        attrs.insert("dtype".to_string(), AttrValue { value: Some(Attr::Type(dtype.number())) });
    }
    if let Some(shape) = shape.filter(|_| node.op.starts_with("Placeholder")) {
        attrs.insert("shape".to_string(), shape);
    }
    node.op = "Placeholder".into();
    node.def = ops::builtin("Placeholder");
    node.attrs = Arc::new(attrs);
    node.inputs.clear();
    node.controls.clear();
}
