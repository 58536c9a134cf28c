//! The raw graph: TensorFlow's nodes with resolved inputs, as a `petgraph` graph.

mod build;
mod construct;
mod extract;
mod inline;
mod library;
mod node;
mod part;
#[cfg(test)]
mod tests;

pub(crate) use build::{finish, nested_placeholder};
pub(crate) use construct::check;
pub use extract::{Feed, Fetch, Request};
pub(crate) use extract::{extract, reached};
pub(crate) use inline::{inline_body, needed, needed_in_body};
pub(crate) use library::main_graph;
pub use library::{Function, Library};
pub use node::{Attrs, Node, NodeId, Value};
pub(crate) use node::{arg_count, find_attr};
pub use part::{Cut, Part};

use crate::dtype::DataType;
use crate::error::{ErrorKind, Result};
use crate::limits::Limits;
use crate::tensor::PartialShape;
use hashbrown::HashMap;
use petgraph::graph::DiGraph;

/// An edge of the `petgraph` view; the order of inputs is in [`Node::inputs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Output `output` of the source is input `input` of the target.
    Data { output: u32, input: u32 },
    /// The source must have run before the target.
    Control,
}

/// An input of a graph: a placeholder of the main graph or an argument of a function.
#[derive(Clone, Debug)]
pub struct GraphInput {
    pub name: String,
    /// A node of one output (`Placeholder`, `PlaceholderWithDefault` or `_Arg`).
    pub node: NodeId,
    /// None where the file does not say.
    pub dtype: Option<DataType>,
    pub shape: PartialShape,
}

/// An output of a graph.
#[derive(Clone, Debug)]
pub struct GraphOutput {
    pub name: String,
    pub value: Value,
    pub dtype: Option<DataType>,
    pub shape: PartialShape,
}

/// A graph that is well formed: every input resolves, names are unique, and only `NextIteration` closes cycles.
#[derive(Clone, Debug)]
pub struct RawGraph {
    /// The function's name; empty for a main graph.
    pub name: String,
    pub inputs: Vec<GraphInput>,
    pub outputs: Vec<GraphOutput>,
    /// Nodes that must run although no output needs them: targets asked for, and effects of functions that were called.
    pub targets: Vec<NodeId>,
    graph: DiGraph<Node, Edge>,
    order: Vec<NodeId>,
    by_name: HashMap<String, NodeId>,
}

impl RawGraph {
    /// The graph as `petgraph` sees it, for its algorithms.
    pub fn petgraph(&self) -> &DiGraph<Node, Edge> {
        &self.graph
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.graph[id]
    }

    pub fn len(&self) -> usize {
        self.graph.node_count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All nodes, in the order of the file.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.graph.node_indices().zip(self.graph.node_weights())
    }

    /// Whether another graph, but for the name, has the same nodes in the same order.
    pub(crate) fn same(&self, other: &RawGraph) -> bool {
        let node = |a: &Node, b: &Node| {
            let by = |n: &Node| (n.name.clone(), n.op.clone(), n.device.clone());
            by(a) == by(b) && a.inputs == b.inputs && a.controls == b.controls && a.attrs == b.attrs
        };
        let value = |o: &GraphOutput| (o.value, o.dtype);
        self.len() == other.len()
            && self.targets == other.targets
            && self.inputs.iter().map(|i| (i.node, i.dtype)).eq(other.inputs.iter().map(|i| (i.node, i.dtype)))
            && self.outputs.iter().map(value).eq(other.outputs.iter().map(value))
            && self.nodes().zip(other.nodes()).all(|((_, a), (_, b))| node(a, b))
    }

    /// All nodes, producers before consumers; edges out of `NextIteration` do not count.
    pub fn topological_order(&self) -> &[NodeId] {
        &self.order
    }

    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.by_name.get(name).copied()
    }

    /// The tensor named `node:k`, or `node` for its output 0.
    pub fn tensor(&self, name: &str) -> Result<Value> {
        let unknown = || ErrorKind::NoSuchTensor { name: name.to_string() };
        let (node, port) = match name.rsplit_once(':') {
            Some((node, port)) => (node, port.parse().map_err(|_| unknown())?),
            None => (name, 0),
        };
        Ok(Value { node: self.find(node).ok_or_else(unknown)?, port })
    }

    /// `node:k` of a value, as messages and fetches name it.
    pub fn value_name(&self, value: Value) -> String {
        format!("{}:{}", self.node(value.node).name, value.port)
    }

    /// Element type of a value; None where the op has no definition.
    pub fn value_type(&self, value: Value, limits: &Limits) -> Result<Option<DataType>> {
        Ok(self.node(value.node).output_types(limits)?.and_then(|t| t.get(value.port as usize).copied()))
    }
}
