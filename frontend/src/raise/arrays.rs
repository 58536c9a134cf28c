//! Arrays of TensorFlow 1 that loops pass along, as lists.
//!
//! An array's flow value orders what is done to it; here the flow becomes the list itself. That needs every use of the array to be known:
//! its handle and its flow go to array ops only, and nobody asks for its gradient. Other arrays stay what they are.

use super::body::made;
use super::{is_enter, is_exit, is_merge, is_next, is_switch, pruned};
use crate::dtype::DataType;
use crate::error::Result;
use crate::graph::{Attrs, Library, Node, NodeId, RawGraph, Value, finish};
use crate::proto::attr_value::Value as Attr;
use crate::proto::tensor_shape_proto::Dim;
use crate::proto::{AttrValue, TensorProto, TensorShapeProto};
use crate::tensor::PartialShape;
use hashbrown::{HashMap, HashSet};
use std::sync::Arc;

/// The input of an array op that is the flow; none for other ops.
fn flow_input(op: &str) -> Option<usize> {
    Some(match op {
        "TensorArrayWriteV3" | "TensorArrayScatterV3" | "TensorArraySplitV3" => 3,
        "TensorArrayReadV3" | "TensorArrayGatherV3" => 2,
        "TensorArrayConcatV3" | "TensorArraySizeV3" => 1,
        _ => return None,
    })
}

fn changes(op: &str) -> bool {
    matches!(op, "TensorArrayWriteV3" | "TensorArrayScatterV3" | "TensorArraySplitV3")
}

fn hands_on(op: &str) -> bool {
    op == "Identity" || is_enter(op) || is_exit(op) || is_next(op) || is_merge(op) || is_switch(op)
}

/// Who reads each value, and at which input.
type Readers = HashMap<Value, Vec<(NodeId, usize)>>;

/// An array all of whose uses are known.
struct Array {
    made: NodeId,
    /// Values that are its flow.
    flow: HashSet<Value>,
    /// Nodes that do something with it.
    uses: Vec<NodeId>,
}

/// The graph with lists in the place of the arrays that allow it.
pub fn to_lists(graph: RawGraph, library: &Library) -> Result<RawGraph> {
    let mut readers: Readers = HashMap::new();
    for (id, node) in graph.nodes() {
        for (k, v) in node.inputs.iter().enumerate() {
            readers.entry(*v).or_default().push((id, k));
        }
    }
    let outputs: HashSet<Value> = graph.outputs.iter().map(|o| o.value).collect();
    let arrays: Vec<Array> = graph
        .nodes()
        .filter(|(_, n)| n.op == "TensorArrayV3" && n.inputs.len() == 1)
        .filter_map(|(id, _)| array(&graph, id, &readers, &outputs))
        .collect();
    if arrays.is_empty() {
        return Ok(graph);
    }
    let mut nodes: Vec<Node> = graph.nodes().map(|(_, n)| n.clone()).collect();
    // The flow of an array is its second output, that of a list the first.
    let mut moved: HashMap<Value, Value> = HashMap::new();
    for array in &arrays {
        rewrite(&graph, array, &mut nodes, &mut moved)?;
    }
    let here = |v: Value| moved.get(&v).copied().unwrap_or(v);
    nodes.iter_mut().for_each(|n| n.inputs.iter_mut().for_each(|v| *v = here(*v)));
    let mut out = finish(graph.name.clone(), nodes, library.limits())?;
    (out.inputs, out.outputs, out.targets) = (graph.inputs, graph.outputs, graph.targets);
    pruned(out, library)
}

/// An array with its uses; None if it cannot be a list, or no loop passes it along.
fn array(graph: &RawGraph, made: NodeId, readers: &Readers, outputs: &HashSet<Value>) -> Option<Array> {
    let spread = |start: Vec<Value>, ends: &mut dyn FnMut(NodeId, usize) -> Option<Option<Value>>| -> Option<HashSet<Value>> {
        let (mut seen, mut stack): (HashSet<Value>, Vec<Value>) = (start.iter().copied().collect(), start);
        while let Some(v) = stack.pop() {
            if outputs.contains(&v) {
                return None;
            }
            for &(id, k) in readers.get(&v).into_iter().flatten() {
                let op = graph.node(id).op.as_str();
                let next: Vec<Value> = if !hands_on(op) {
                    ends(id, k)?.into_iter().collect()
                } else if is_switch(op) {
                    let ports = if op == "_SwitchN" || k > 0 { return None } else { 2 };
                    (0..ports).map(|port| Value { node: id, port }).collect()
                } else {
                    vec![Value { node: id, port: 0 }]
                };
                stack.extend(next.into_iter().filter(|v| seen.insert(*v)));
            }
        }
        Some(seen)
    };
    let mut uses: Vec<NodeId> = Vec::new();
    spread(vec![Value { node: made, port: 0 }], &mut |id, k| {
        let op = graph.node(id).op.as_str();
        let known = k == 0 && (flow_input(op).is_some() || op == "TensorArrayCloseV3");
        uses.push(id);
        known.then_some(None)
    })?;
    let own: HashSet<NodeId> = uses.iter().copied().collect();
    let mut flowing: HashSet<NodeId> = HashSet::new();
    let flow = spread(vec![Value { node: made, port: 1 }], &mut |id, k| {
        let op = graph.node(id).op.as_str();
        if !own.contains(&id) || flow_input(op) != Some(k) {
            return None;
        }
        flowing.insert(id);
        Some(changes(op).then_some(Value { node: id, port: 0 }))
    })?;
    let all = uses.iter().all(|id| flowing.contains(id) || graph.node(*id).op == "TensorArrayCloseV3");
    // A merge of flows of two arrays is none of either.
    let whole = |v: &Value| {
        let node = graph.node(v.node);
        !is_merge(&node.op) || node.inputs.iter().all(|i| flow.contains(i))
    };
    let in_loop = flow.iter().any(|v| is_enter(&graph.node(v.node).op));
    (all && in_loop && flow.iter().all(whole)).then_some(Array { made, flow, uses })
}

fn rewrite(graph: &RawGraph, array: &Array, nodes: &mut Vec<Node>, moved: &mut HashMap<Value, Value>) -> Result<()> {
    let node = graph.node(array.made);
    let dtype = node.attr_type("dtype")?;
    let shape = node.attr_shape("element_shape")?;
    let resizes = node.attr_bool("dynamic_size")?;
    let variant = Attr::Type(DataType::Variant.number());
    let element = |dtype: DataType| ("element_dtype", Attr::Type(dtype.number()));
    let shape_type = || ("shape_type", Attr::Type(DataType::Int32.number()));

    let elements = shape_constant(nodes, &node.name, &shape, Some(node.input(0)?.node));
    let reserve = made(&node.name, "TensorListReserve", [element(dtype), shape_type()], Vec::new(), node.controls.clone());
    nodes[array.made.index()] = Node { inputs: vec![elements, node.input(0)?], device: node.device.clone(), ..reserve };
    moved.insert(Value { node: array.made, port: 1 }, Value { node: array.made, port: 0 });

    for v in &array.flow {
        let passing = &mut nodes[v.node.index()];
        if hands_on(&passing.op) {
            set(&mut passing.attrs, "T", variant.clone());
        }
    }
    for &id in &array.uses {
        let node = graph.node(id);
        let name = node.name.as_str();
        let list = match flow_input(&node.op) {
            Some(k) => node.input(k)?,
            None => {
                nodes[id.index()] = made(name, "NoOp", [], Vec::new(), node.controls.clone());
                continue;
            }
        };
        let given = |k: usize| node.input(k);
        let new = match node.op.as_str() {
            "TensorArrayWriteV3" => {
                let attrs = [element(dtype), ("resize_if_index_out_of_bounds", Attr::B(resizes))];
                made(name, "TensorListSetItem", attrs, vec![list, given(1)?, given(2)?], Vec::new())
            }
            "TensorArrayScatterV3" => {
                made(name, "TensorListScatterIntoExistingList", [element(dtype)], vec![list, given(2)?, given(1)?], Vec::new())
            }
            "TensorArraySplitV3" => {
                let elements = shape_constant(nodes, name, &shape, Some(list.node));
                made(name, "TensorListSplit", [element(dtype), shape_type()], vec![given(1)?, elements, given(2)?], Vec::new())
            }
            "TensorArrayReadV3" => {
                let elements = shape_constant(nodes, name, &shape, Some(list.node));
                made(name, "TensorListGetItem", [element(dtype)], vec![list, given(1)?, elements], Vec::new())
            }
            "TensorArrayGatherV3" => {
                let asked = node.attr_shape("element_shape")?.or_else(|| shape.clone());
                let elements = shape_constant(nodes, name, &asked, Some(list.node));
                made(name, "TensorListGather", [element(dtype)], vec![list, given(1)?, elements], Vec::new())
            }
            "TensorArrayConcatV3" => {
                let elements = shape_constant(nodes, name, &shape, Some(list.node));
                let leading = vector(nodes, &format!("{name}/leading_dims"), DataType::Int64, &[], Some(list.node));
                made(name, "TensorListConcatV2", [element(dtype), shape_type()], vec![list, elements, leading], Vec::new())
            }
            _ => made(name, "TensorListLength", [], vec![list], Vec::new()),
        };
        nodes[id.index()] = Node { controls: node.controls.clone(), device: node.device.clone(), ..new };
    }
    Ok(())
}

fn set(attrs: &mut Arc<Attrs>, name: &str, value: Attr) {
    Arc::make_mut(attrs).insert(name.to_string(), AttrValue { value: Some(value) });
}

/// The shape of elements as a constant, in the frame of the node that it waits for.
fn shape_constant(nodes: &mut Vec<Node>, name: &str, shape: &PartialShape, after: Option<NodeId>) -> Value {
    let name = format!("{name}/element_shape");
    match shape {
        Some(dims) => {
            let dims: Vec<i64> = dims.iter().map(|d| d.and_then(|d| i64::try_from(d).ok()).unwrap_or(-1)).collect();
            vector(nodes, &name, DataType::Int32, &dims, after)
        }
        None => {
            let mut node = super::body::scalar(&name, DataType::Int32, -1);
            node.controls.extend(after);
            add(nodes, node)
        }
    }
}

fn vector(nodes: &mut Vec<Node>, name: &str, dtype: DataType, values: &[i64], after: Option<NodeId>) -> Value {
    let shape = TensorShapeProto { dim: vec![Dim { size: values.len() as i64, ..Dim::default() }], ..TensorShapeProto::default() };
    let mut tensor = TensorProto { dtype: dtype.number(), tensor_shape: Some(shape), ..TensorProto::default() };
    if dtype == DataType::Int64 {
        tensor.int64_val = values.to_vec();
    } else {
        tensor.int_val = values.iter().map(|&v| i32::try_from(v).unwrap_or(-1)).collect();
    }
    let attrs = [("dtype", Attr::Type(dtype.number())), ("value", Attr::Tensor(Box::new(tensor)))];
    add(nodes, made(name, "Const", attrs, Vec::new(), after.into_iter().collect()))
}

/// Adds a node; its name gets a number where it is taken.
fn add(nodes: &mut Vec<Node>, mut node: Node) -> Value {
    let taken = |name: &str| nodes.iter().any(|n| n.name == name);
    if taken(&node.name) {
        let free = (1u64..).map(|i| format!("{}_{i}", node.name)).find(|n| !taken(n));
        node.name = free.unwrap_or_default();
    }
    nodes.push(node);
    Value { node: NodeId::new(nodes.len() - 1), port: 0 }
}
