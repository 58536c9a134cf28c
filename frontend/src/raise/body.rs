//! Bodies of functions in the making, and the nodes that refer to them.

use super::pruned;
use crate::dtype::DataType;
use crate::error::Result;
use crate::graph::{Attrs, GraphInput, GraphOutput, Library, Node, NodeId, RawGraph, Value, finish};
use crate::ops;
use crate::proto::attr_value::{ListValue, Value as Attr};
use crate::proto::{AttrValue, NameAttrList, TensorProto, TensorShapeProto};
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Values from outside that bodies read: their arguments, in order.
#[derive(Default)]
pub struct Captures {
    pub values: Vec<Value>,
    index: HashMap<Value, usize>,
}

impl Captures {
    pub fn add(&mut self, value: Value) -> usize {
        *self.index.entry(value).or_insert_with(|| {
            self.values.push(value);
            self.values.len() - 1
        })
    }
}

/// Nodes of a graph in the making.
#[derive(Default)]
pub struct Draft {
    pub nodes: Vec<Node>,
    names: HashSet<String>,
    args: HashMap<usize, NodeId>,
}

impl Draft {
    /// Adds a node; its name gets a number where it is taken.
    pub fn push(&mut self, mut node: Node) -> NodeId {
        node.name = self.unique(node.name);
        self.nodes.push(node);
        NodeId::new(self.nodes.len() - 1)
    }

    fn unique(&mut self, name: String) -> String {
        if self.names.insert(name.clone()) {
            return name;
        }
        let free = (1u64..).map(|i| format!("{name}_{i}")).find(|n| !self.names.contains(n)).unwrap_or(name);
        self.names.insert(free.clone());
        free
    }

    /// The argument of that number.
    pub fn arg(&mut self, k: usize, name: &str, dtype: DataType) -> Value {
        if let Some(&node) = self.args.get(&k) {
            return Value { node, port: 0 };
        }
        let attrs = [("T", Attr::Type(dtype.number())), ("index", Attr::I(k as i64))];
        let node = self.push(made(name, "_Arg", attrs, Vec::new(), Vec::new()));
        self.args.insert(k, node);
        Value { node, port: 0 }
    }

    /// The function: all nodes with effects run, and of the others those that the outputs need. Arguments are those whose numbers are in
    /// `args`, with their names and types.
    pub fn function(
        &self,
        name: String,
        outputs: &[(Value, DataType)],
        args: &[(usize, String, DataType)],
        library: &Library,
    ) -> Result<RawGraph> {
        let mut draft = Draft { nodes: self.nodes.clone(), names: self.names.clone(), args: self.args.clone() };
        let mut inputs = Vec::with_capacity(args.len());
        for (position, (k, name, dtype)) in args.iter().enumerate() {
            let node = draft.arg(*k, name, *dtype).node;
            if let Some(n) = draft.nodes.get_mut(node.index()) {
                Arc::make_mut(&mut n.attrs).insert("index".into(), attr(Attr::I(position as i64)));
            }
            let name = draft.nodes.get(node.index()).map(|n| n.name.clone()).unwrap_or_default();
            inputs.push(GraphInput { name, node, dtype: Some(*dtype), shape: None });
        }
        let mut graph = finish(name, draft.nodes, library.limits())?;
        graph.targets = graph.nodes().filter(|(_, n)| n.has_effect()).map(|(id, _)| id).collect();
        graph.inputs = inputs;
        let output = |(k, (value, dtype)): (usize, &(Value, DataType))| GraphOutput {
            name: format!("output_{k}"),
            value: *value,
            dtype: Some(*dtype),
            shape: None,
        };
        graph.outputs = outputs.iter().enumerate().map(output).collect();
        pruned(graph, library)
    }

    /// The numbers of the arguments that outputs and effects need.
    pub fn needed_args(&self, outputs: &[Value]) -> BTreeSet<usize> {
        let mut keep = vec![false; self.nodes.len()];
        let effects = (0..self.nodes.len()).filter(|&i| self.nodes[i].has_effect());
        let mut stack: Vec<usize> = outputs.iter().map(|v| v.node.index()).chain(effects).collect();
        while let Some(i) = stack.pop() {
            let Some(seen) = keep.get_mut(i) else { continue };
            if !std::mem::replace(seen, true) {
                let node = &self.nodes[i];
                stack.extend(node.inputs.iter().map(|v| v.node.index()).chain(node.controls.iter().map(|c| c.index())));
            }
        }
        self.args.iter().filter(|(_, n)| keep[n.index()]).map(|(k, _)| *k).collect()
    }

    pub fn has_effect(&self) -> bool {
        self.nodes.iter().any(Node::has_effect)
    }

    pub fn is_stateful(&self) -> bool {
        is_stateful(self.nodes.iter())
    }
}

/// Whether what the nodes do depends on more than their inputs.
pub fn is_stateful<'a>(mut nodes: impl Iterator<Item = &'a Node>) -> bool {
    nodes.any(|n| n.op != "_Arg" && n.def.as_deref().is_none_or(|d| d.is_stateful || d.input_arg.iter().any(|a| a.is_ref)))
}

/// A node that is made here.
pub fn made<const N: usize>(name: &str, op: &str, attrs: [(&str, Attr); N], inputs: Vec<Value>, controls: Vec<NodeId>) -> Node {
    let attrs: Attrs = attrs.into_iter().map(|(k, v)| (k.to_string(), attr(v))).collect();
    let (name, device) = (name.to_string(), String::new());
    Node { name, op: op.to_string(), device, attrs: Arc::new(attrs), inputs, controls, def: ops::builtin(op) }
}

pub fn attr(value: Attr) -> AttrValue {
    AttrValue { value: Some(value) }
}

pub fn types(types: &[DataType]) -> Attr {
    Attr::List(Box::new(ListValue { r#type: types.iter().map(|t| t.number()).collect(), ..ListValue::default() }))
}

pub fn function_attr(name: String) -> Attr {
    Attr::Func(Box::new(NameAttrList { name, ..NameAttrList::default() }))
}

pub fn function_list(names: Vec<String>) -> Attr {
    let func = names.into_iter().map(|name| NameAttrList { name, ..NameAttrList::default() }).collect();
    Attr::List(Box::new(ListValue { func, ..ListValue::default() }))
}

/// A scalar constant.
pub fn scalar(name: &str, dtype: DataType, value: i32) -> Node {
    let mut tensor =
        TensorProto { dtype: dtype.number(), tensor_shape: Some(TensorShapeProto::default()), ..TensorProto::default() };
    if dtype == DataType::Bool {
        tensor.bool_val = vec![value != 0]
    } else {
        tensor.int_val = vec![value]
    }
    let attrs = [("dtype", Attr::Type(dtype.number())), ("value", Attr::Tensor(Box::new(tensor)))];
    made(name, "Const", attrs, Vec::new(), Vec::new())
}

/// Whether a node from outside is written into a body again rather than handed to it: a small constant.
pub fn is_copied(node: &Node) -> bool {
    const MOST_BYTES: usize = 256;
    let Some(Attr::Tensor(t)) = node.attr("value").filter(|_| node.op == "Const") else { return false };
    let listed = t.float_val.len() + t.double_val.len() + t.int_val.len() + t.int64_val.len() + t.bool_val.len() + t.half_val.len();
    let text: usize = t.string_val.iter().map(|s| s.len()).sum();
    t.tensor_content.len() + listed * 8 + text <= MOST_BYTES
}
