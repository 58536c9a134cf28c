//! A part of a graph as a graph of its own: what a staged run compiles between the nodes that it runs itself.
//!
//! Compiled code has no strings. In a part, a string is a handle: its number in a table that starts with the strings of the part's
//! constants. Ops that only move elements do not see the difference.

use super::build::finish;
use super::node::{Node, NodeId, Value};
use super::{GraphInput, GraphOutput, RawGraph};
use crate::dtype::DataType;
use crate::error::Result;
use crate::limits::Limits;
use crate::ops;
use crate::proto::attr_value::Value as Attr;
use crate::proto::{AttrValue, TensorProto};
use crate::tensor::RawTensor;
use bytes::Bytes;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a part is made of.
#[derive(Clone, Debug, Default)]
pub struct Cut {
    /// Its nodes.
    pub nodes: Vec<NodeId>,
    /// Values from outside, which become its inputs.
    pub given: Vec<Value>,
    /// Handles from outside to variables, and the node that stands for each.
    pub bound: Vec<(Value, Node)>,
    /// Values that become its outputs.
    pub wanted: Vec<Value>,
    /// Those of the values given and wanted, all of f32, that are bf16 outside.
    pub narrow: BTreeSet<Value>,
    /// Nodes that must run.
    pub targets: Vec<NodeId>,
}

/// A part of a graph, strings replaced by handles.
#[derive(Clone, Debug)]
pub struct Part {
    pub graph: RawGraph,
    /// The strings of its constants: handle `k` stands for `strings[k]`. The first is the empty string.
    pub strings: Vec<Bytes>,
}

impl RawGraph {
    /// Cuts a part out. Control edges to nodes outside are dropped: what they wait for must have run.
    ///
    /// # Errors
    /// If a node's attributes cannot be read.
    pub fn part(&self, cut: &Cut, limits: &Limits) -> Result<Part> {
        let mut strings = vec![Bytes::new()];
        let mut nodes = Vec::with_capacity(cut.nodes.len() + cut.given.len());
        let mut inputs = Vec::with_capacity(cut.given.len());
        let mut moved: HashMap<Value, Value> = HashMap::new();
        for &v in &cut.given {
            let here = NodeId::new(nodes.len());
            let name = format!("{}/value_{}", self.node(v.node).name, v.port);
            let dtype = self.value_type(v, limits)?.map(|d| if d == DataType::String { DataType::Int64 } else { d });
            let (mut value, mut outside) = (Value { node: here, port: 0 }, dtype);
            if cut.narrow.contains(&v) {
                outside = Some(DataType::Bfloat16);
                nodes.push(placeholder(&name, outside));
                nodes.push(cast(format!("{name}/wide"), value, [DataType::Bfloat16, DataType::Float]));
                value.node = NodeId::new(nodes.len() - 1);
            } else {
                nodes.push(placeholder(&name, outside));
            }
            inputs.push(GraphInput { name, node: here, dtype: outside, shape: None });
            moved.insert(v, value);
        }
        for (v, source) in &cut.bound {
            let here = NodeId::new(nodes.len());
            let name = format!("{}/value_{}", self.node(v.node).name, v.port);
            nodes.push(Node { name, inputs: Vec::new(), controls: Vec::new(), ..source.clone() });
            moved.insert(*v, Value { node: here, port: 0 });
        }
        let first = nodes.len();
        let map: HashMap<NodeId, NodeId> = cut.nodes.iter().enumerate().map(|(k, &id)| (id, NodeId::new(first + k))).collect();
        let here = |v: Value| moved.get(&v).copied().or_else(|| Some(Value { node: *map.get(&v.node)?, port: v.port }));
        for &id in &cut.nodes {
            let mut node = self.node(id).clone();
            node.inputs = node.inputs.iter().filter_map(|&v| here(v)).collect();
            node.controls = node.controls.iter().filter_map(|c| map.get(c).copied()).collect();
            handles(&mut node, &mut strings, limits)?;
            nodes.push(node);
        }
        let mut outputs = Vec::with_capacity(cut.wanted.len());
        for &v in &cut.wanted {
            let Some(mut value) = here(v) else { continue };
            if cut.narrow.contains(&v) {
                let name = format!("{}/narrow_{}", self.node(v.node).name, v.port);
                nodes.push(cast(name, value, [DataType::Float, DataType::Bfloat16]));
                value = Value { node: NodeId::new(nodes.len() - 1), port: 0 };
            }
            outputs.push((v, value));
        }
        let mut graph = finish(self.name.clone(), nodes, limits)?;
        graph.inputs = inputs;
        for (v, value) in outputs {
            let dtype = graph.value_type(value, limits)?;
            graph.outputs.push(GraphOutput { name: self.value_name(v), value, dtype, shape: None });
        }
        graph.targets = cut.targets.iter().filter_map(|t| map.get(t).copied()).collect();
        Ok(Part { graph, strings })
    }

    /// The graph with some nodes changed, wiring included.
    ///
    /// # Errors
    /// If the changed nodes close a cycle or take a name twice.
    pub fn edited(&self, limits: &Limits, mut edit: impl FnMut(NodeId, &mut Node)) -> Result<RawGraph> {
        let nodes = self.nodes().map(|(id, n)| {
            let mut n = n.clone();
            edit(id, &mut n);
            n
        });
        let mut graph = finish(self.name.clone(), nodes.collect(), limits)?;
        (graph.inputs, graph.outputs, graph.targets) = (self.inputs.clone(), self.outputs.clone(), self.targets.clone());
        Ok(graph)
    }
}

fn placeholder(name: &str, dtype: Option<DataType>) -> Node {
    let mut attrs = BTreeMap::new();
    if let Some(d) = dtype {
        attrs.insert("dtype".to_string(), AttrValue { value: Some(Attr::Type(d.number())) });
    }
    Node {
        name: name.to_owned(),
        op: "Placeholder".into(),
        device: String::new(),
        attrs: Arc::new(attrs),
        inputs: Vec::new(),
        controls: Vec::new(),
        def: ops::builtin("Placeholder"),
    }
}

/// A conversion between two types.
fn cast(name: String, value: Value, [from, to]: [DataType; 2]) -> Node {
    let ty = |d: DataType| AttrValue { value: Some(Attr::Type(d.number())) };
    let attrs = BTreeMap::from([("SrcT".to_string(), ty(from)), ("DstT".to_string(), ty(to))]);
    Node {
        name,
        op: "Cast".into(),
        device: String::new(),
        attrs: Arc::new(attrs),
        inputs: vec![value],
        controls: Vec::new(),
        def: ops::builtin("Cast"),
    }
}

/// Makes the strings of a node handles.
fn handles(node: &mut Node, strings: &mut Vec<Bytes>, limits: &Limits) -> Result<()> {
    let (string, handle) = (DataType::String.number(), DataType::Int64.number());
    let touches = |a: &AttrValue| match &a.value {
        Some(Attr::Type(t)) => *t == string,
        Some(Attr::List(l)) => l.r#type.contains(&string),
        _ => false,
    };
    if !node.attrs.values().any(touches) {
        return Ok(());
    }
    for a in Arc::make_mut(&mut node.attrs).values_mut() {
        match &mut a.value {
            Some(Attr::Type(t)) if *t == string => *t = handle,
            Some(Attr::List(l)) => l.r#type.iter_mut().filter(|t| **t == string).for_each(|t| *t = handle),
            Some(Attr::Tensor(t)) if t.dtype == string => **t = handle_tensor(t, strings, limits)?,
            _ => {}
        }
    }
    Ok(())
}

fn handle_tensor(t: &TensorProto, strings: &mut Vec<Bytes>, limits: &Limits) -> Result<TensorProto> {
    let raw = RawTensor::from_proto(t, limits)?;
    let mut content = Vec::with_capacity(raw.elements() * 8);
    let mut last: Option<(Bytes, i64)> = None;
    for s in raw.strings()? {
        // A repeated last value is one string.
        let number = match &last {
            Some((same, k)) if same == s => *k,
            _ => {
                strings.push(s.clone());
                strings.len() as i64 - 1
            }
        };
        last = Some((s.clone(), number));
        content.extend_from_slice(&number.to_le_bytes());
    }
    Ok(TensorProto {
        dtype: DataType::Int64.number(),
        tensor_shape: t.tensor_shape.clone(),
        tensor_content: content.into(),
        ..TensorProto::default()
    })
}
