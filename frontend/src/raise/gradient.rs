//! Gradients of functions: `SymbolicGradient` nodes become the nodes that compute them.

use super::body::{attr, made};
use super::unsupported;
use crate::dtype::DataType;
use crate::error::Result;
use crate::graph::{Library, Node, NodeId, RawGraph, Value, finish, inline_body};
use crate::proto::attr_value::Value as Attr;
use hashbrown::{HashMap, HashSet};
use std::sync::Arc;

const OP: &str = "SymbolicGradient";
/// How deep gradients of gradients go.
const MOST_NESTED: usize = 4;

pub fn is_asked(graph: &RawGraph) -> bool {
    graph.nodes().any(|(_, n)| n.op == OP)
}

/// The graph with the gradients that there are rules for; other `SymbolicGradient` nodes stay.
pub fn expand(graph: RawGraph, library: &Library) -> Result<RawGraph> {
    let mut left = library.limits().max_nodes;
    expanded(graph, library, 0, &mut left)
}

/// `left` is how many nodes may still be looked at.
fn expanded(graph: RawGraph, library: &Library, depth: usize, left: &mut usize) -> Result<RawGraph> {
    *left = left.checked_sub(graph.len()).ok_or_else(|| unsupported("gradients of too many nodes"))?;
    if depth > MOST_NESTED || !is_asked(&graph) {
        return Ok(graph);
    }
    let mut made = Made { nodes: graph.nodes().map(|(_, n)| n.clone()).collect(), names: HashSet::new(), scope: String::new() };
    made.names = made.nodes.iter().map(|n| n.name.clone()).collect();
    let mut moved: HashMap<Value, Value> = HashMap::new();
    let mut waits: HashMap<NodeId, NodeId> = HashMap::new();
    for (id, node) in graph.nodes().filter(|(_, n)| n.op == OP) {
        let f = node.attr_func("f")?;
        let body = expanded(inline_body(&*library.body(&f.name, &f.attr)?, library)?, library, depth + 1, left)?;
        let start = made.nodes.len();
        made.scope = format!("{}/", node.name);
        match gradient(&mut made, &body, node, library)? {
            Some(outputs) => {
                moved.extend(outputs.iter().enumerate().map(|(k, v)| (Value { node: id, port: k as u32 }, *v)));
                if let Some(last) = outputs.last() {
                    waits.insert(id, last.node);
                }
            }
            None => made.nodes.truncate(start),
        }
    }
    // A gradient may read another's outputs.
    let here = |mut v: Value| {
        for _ in 0..=moved.len() {
            match moved.get(&v) {
                Some(&to) => v = to,
                None => break,
            }
        }
        v
    };
    for n in &mut made.nodes {
        n.inputs.iter_mut().for_each(|v| *v = here(*v));
        n.controls.iter_mut().for_each(|c| *c = waits.get(c).copied().unwrap_or(*c));
    }
    let gone: HashSet<NodeId> = moved.keys().map(|v| v.node).collect();
    for id in gone {
        let node = &mut made.nodes[id.index()];
        *node = super::body::made(&node.name.clone(), "NoOp", [], Vec::new(), node.controls.clone());
    }
    let mut out = finish(graph.name.clone(), made.nodes, library.limits())?;
    (out.inputs, out.outputs, out.targets) = (graph.inputs, graph.outputs, graph.targets);
    out.outputs.iter_mut().for_each(|o| o.value = here(o.value));
    super::pruned(out, library)
}

/// Nodes in the making.
struct Made {
    nodes: Vec<Node>,
    names: HashSet<String>,
    scope: String,
}

impl Made {
    fn push(&mut self, mut node: Node) -> NodeId {
        let name = format!("{}{}", self.scope, node.name);
        node.name = (0u64..)
            .map(|i| if i == 0 { name.clone() } else { format!("{name}_{i}") })
            .find(|n| !self.names.contains(n))
            .unwrap_or_default();
        self.names.insert(node.name.clone());
        self.nodes.push(node);
        NodeId::new(self.nodes.len() - 1)
    }

    fn op<const N: usize>(&mut self, op: &str, attrs: [(&str, Attr); N], inputs: &[Value]) -> Value {
        let node = self.push(made(&format!("grad/{op}"), op, attrs, inputs.to_vec(), Vec::new()));
        Value { node, port: 0 }
    }
}

/// The gradients of a function with respect to its arguments, in order; None where an op has no rule.
fn gradient(made: &mut Made, body: &RawGraph, call: &Node, library: &Library) -> Result<Option<Vec<Value>>> {
    let n = body.inputs.len();
    if call.inputs.len() != n + body.outputs.len() || body.nodes().any(|(_, n)| n.has_effect()) {
        return Ok(None);
    }
    let mut map: HashMap<NodeId, Value> = body.inputs.iter().zip(&call.inputs).map(|(i, v)| (i.node, *v)).collect();
    let mut moves: HashSet<NodeId> = body.inputs.iter().map(|i| i.node).collect();
    for &id in body.topological_order() {
        if map.contains_key(&id) {
            continue;
        }
        let node = body.node(id);
        let here = |v: &Value| {
            let base = map.get(&v.node)?;
            Some(Value { node: base.node, port: base.port + v.port })
        };
        let Some(inputs) = node.inputs.iter().map(here).collect::<Option<Vec<_>>>() else { return Ok(None) };
        let controls = node.controls.iter().filter_map(|c| map.get(c)).map(|v| v.node).collect();
        let new = made.push(Node { inputs, controls, ..node.clone() });
        map.insert(id, Value { node: new, port: 0 });
        if node.inputs.iter().any(|v| moves.contains(&v.node)) {
            moves.insert(id);
        }
    }
    let at = |v: Value| map.get(&v.node).map_or(v, |base| Value { node: base.node, port: base.port + v.port });
    let mut given: HashMap<Value, Vec<Value>> = HashMap::new();
    for (o, dy) in body.outputs.iter().zip(&call.inputs[n..]) {
        given.entry(o.value).or_default().push(*dy);
    }
    let limits = library.limits();
    for &id in body.topological_order().iter().rev() {
        let node = body.node(id);
        let y = Value { node: id, port: 0 };
        if !moves.contains(&id) || node.op == "_Arg" {
            continue;
        }
        let Some(parts) = given.remove(&y) else { continue };
        let Some(dtype) = body.value_type(y, limits)?.filter(|t| is_real(*t)) else { return Ok(None) };
        let dy = sum(made, parts, dtype);
        let inputs: Vec<Value> = node.inputs.iter().map(|v| at(*v)).collect();
        let Some(back) = backward(made, node, &inputs, at(y), dy, dtype) else { return Ok(None) };
        for (v, d) in node.inputs.iter().zip(back) {
            if let Some(d) = d.filter(|_| moves.contains(&v.node)) {
                given.entry(*v).or_default().push(d);
            }
        }
    }
    let mut outputs = Vec::with_capacity(n);
    for (i, arg) in body.inputs.iter().zip(&call.inputs) {
        let Some(dtype) = i.dtype else { return Ok(None) };
        outputs.push(match given.remove(&Value { node: i.node, port: 0 }) {
            Some(parts) => sum(made, parts, dtype),
            None => made.op("ZerosLike", [("T", kind(dtype))], &[*arg]),
        });
    }
    Ok(Some(outputs))
}

fn is_real(t: DataType) -> bool {
    matches!(t, DataType::Float | DataType::Double | DataType::Half | DataType::Bfloat16)
}

fn kind(t: DataType) -> Attr {
    Attr::Type(t.number())
}

fn sum(made: &mut Made, parts: Vec<Value>, dtype: DataType) -> Value {
    match parts.as_slice() {
        [one] => *one,
        all => made.op("AddN", [("T", kind(dtype)), ("N", Attr::I(all.len() as i64))], all),
    }
}

/// What a node hands back to each of its inputs; None where there is no rule.
fn backward(m: &mut Made, node: &Node, x: &[Value], y: Value, dy: Value, dtype: DataType) -> Option<Vec<Option<Value>>> {
    let t = || ("T", kind(dtype));
    let shape = |m: &mut Made, v: Value| m.op("Shape", [t(), ("out_type", kind(DataType::Int32))], &[v]);
    let mul = |m: &mut Made, a: Value, b: Value| m.op("Mul", [t()], &[a, b]);
    let flag = |name: &str| node.attr_bool(name).unwrap_or(false);
    Some(match (node.op.as_str(), x) {
        ("Identity" | "Snapshot", &[_]) => vec![Some(dy)],
        ("StopGradient" | "ZerosLike" | "OnesLike" | "Shape" | "Size" | "Rank" | "Floor" | "Ceil" | "Round" | "Sign", x) => {
            vec![None; x.len()]
        }
        ("AddN", x) => vec![Some(dy); x.len()],
        ("Neg", &[_]) => vec![Some(m.op("Neg", [t()], &[dy]))],
        ("Square", &[a]) => {
            let twice = m.op("Add", [t()], &[a, a]);
            vec![Some(mul(m, dy, twice))]
        }
        ("Exp", &[_]) => vec![Some(mul(m, dy, y))],
        ("Log", &[a]) => vec![Some(m.op("RealDiv", [t()], &[dy, a]))],
        ("Tanh", &[_]) => vec![Some(m.op("TanhGrad", [t()], &[y, dy]))],
        ("Sigmoid", &[_]) => vec![Some(m.op("SigmoidGrad", [t()], &[y, dy]))],
        ("Sqrt", &[_]) => vec![Some(m.op("SqrtGrad", [t()], &[y, dy]))],
        ("Relu", &[a]) => vec![Some(m.op("ReluGrad", [t()], &[dy, a]))],
        ("Abs", &[a]) => {
            let sign = m.op("Sign", [t()], &[a]);
            vec![Some(mul(m, dy, sign))]
        }
        ("Sin", &[a]) => {
            let cos = m.op("Cos", [t()], &[a]);
            vec![Some(mul(m, dy, cos))]
        }
        ("Cos", &[a]) => {
            let sin = m.op("Sin", [t()], &[a]);
            let down = m.op("Neg", [t()], &[sin]);
            vec![Some(mul(m, dy, down))]
        }
        ("Add" | "AddV2" | "Sub" | "Mul" | "RealDiv" | "Div", &[a, b]) => {
            let (da, db) = match node.op.as_str() {
                "Mul" => (mul(m, dy, b), mul(m, dy, a)),
                "Sub" => (dy, m.op("Neg", [t()], &[dy])),
                "RealDiv" | "Div" => {
                    let da = m.op("RealDiv", [t()], &[dy, b]);
                    let (down, back) = (m.op("RealDiv", [t()], &[y, b]), m.op("Neg", [t()], &[dy]));
                    (da, mul(m, back, down))
                }
                _ => (dy, dy),
            };
            let (sa, sb) = (shape(m, a), shape(m, b));
            let axes = m.op("BroadcastGradientArgs", [("T", kind(DataType::Int32))], &[sa, sb]);
            let mut fit = |d: Value, port: u32, s: Value| {
                let axes = Value { port, ..axes };
                let attrs = [t(), ("Tidx", kind(DataType::Int32)), ("keep_dims", Attr::B(false))];
                let summed = m.op("Sum", attrs, &[d, axes]);
                m.op("Reshape", [t(), ("Tshape", kind(DataType::Int32))], &[summed, s])
            };
            vec![Some(fit(da, 0, sa)), Some(fit(db, 1, sb))]
        }
        ("Reshape" | "Squeeze" | "ExpandDims", &[a, ..]) => {
            let s = shape(m, a);
            let mut back = vec![None; x.len()];
            back[0] = Some(m.op("Reshape", [t(), ("Tshape", kind(DataType::Int32))], &[dy, s]));
            back
        }
        ("Sum", &[a, axes]) => {
            let mut kept = made("grad/kept", "Sum", [], vec![a, axes], Vec::new());
            kept.attrs = node.attrs.clone();
            Arc::make_mut(&mut kept.attrs).insert("keep_dims".into(), attr(Attr::B(true)));
            let kept = Value { node: m.push(kept), port: 0 };
            let (small, whole) = (shape(m, kept), shape(m, a));
            let dy = m.op("Reshape", [t(), ("Tshape", kind(DataType::Int32))], &[dy, small]);
            vec![Some(m.op("BroadcastTo", [t(), ("Tidx", kind(DataType::Int32))], &[dy, whole])), None]
        }
        ("Transpose", &[_, perm]) => {
            let index = node.attr_type("Tperm").unwrap_or(DataType::Int32);
            let inverse = m.op("InvertPermutation", [("T", kind(index))], &[perm]);
            vec![Some(m.op("Transpose", [t(), ("Tperm", kind(index))], &[dy, inverse])), None]
        }
        ("MatMul", &[a, b]) => {
            let mut matmul = |p: Value, q: Value, tp: bool, tq: bool| {
                m.op("MatMul", [t(), ("transpose_a", Attr::B(tp)), ("transpose_b", Attr::B(tq))], &[p, q])
            };
            let (da, db) = match (flag("transpose_a"), flag("transpose_b")) {
                (false, false) => (matmul(dy, b, false, true), matmul(a, dy, true, false)),
                (false, true) => (matmul(dy, b, false, false), matmul(dy, a, true, false)),
                (true, false) => (matmul(b, dy, false, true), matmul(a, dy, false, false)),
                (true, true) => (matmul(b, dy, true, true), matmul(dy, a, true, true)),
            };
            vec![Some(da), Some(db)]
        }
        _ => return None,
    })
}
