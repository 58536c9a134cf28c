//! What a node would take on a device, and what values would take to get there: a model that tells small from large, no forecast.
//!
//! Sizes are those that the graph declares; what it leaves open counts as [`OPEN`], for a model on a GPU is fed more than a line at a time.
//! A node takes its operations at the device's rate or its bytes at the device's bandwidth, whichever is longer. Elementwise nodes join what
//! they follow; any other node of a GPU is a launch.

use crate::device::DeviceName;
use graphc_frontend::{DataType, Limits, Node, NodeId, RawGraph, Value as Port};
use hashbrown::HashMap;

/// What a dimension counts for that the graph leaves open.
pub const OPEN: f64 = 256.0;

/// Rates of a kind of device.
struct Rates {
    /// Operations a second.
    operations: f64,
    /// Bytes a second of its memory.
    bytes: f64,
    /// Seconds that a launch takes before anything is done.
    launch: f64,
}

/// Some cores of a server.
const CPU: Rates = Rates { operations: 100e9, bytes: 40e9, launch: 0.0 };
/// A GPU of the middle.
const GPU: Rates = Rates { operations: 10e12, bytes: 500e9, launch: 5e-6 };
/// Seconds that a transfer takes whatever its size.
const TRANSFER: f64 = 10e-6;
/// Bytes a second between devices.
const LINK: f64 = 12e9;

/// A shape as far as it is known; elements at any rate.
#[derive(Clone, Debug, Default)]
struct Size {
    dims: Option<Vec<f64>>,
    count: f64,
}

impl Size {
    fn of(dims: Vec<f64>) -> Size {
        Size { count: dims.iter().product(), dims: Some(dims) }
    }

    fn declared(shape: &graphc_frontend::tensor::PartialShape) -> Size {
        match shape {
            Some(s) => Size::of(s.iter().map(|d| d.map_or(OPEN, |n| n as f64)).collect()),
            None => Size { dims: None, count: OPEN },
        }
    }

    /// The dimension counted from the end.
    fn behind(&self, k: usize) -> Option<f64> {
        let dims = self.dims.as_ref()?;
        dims.len().checked_sub(k + 1).map(|at| dims[at])
    }
}

/// Estimates for the nodes of one graph.
pub struct Costs<'g> {
    graph: &'g RawGraph,
    limits: &'g Limits,
    sizes: HashMap<NodeId, Size>,
}

impl<'g> Costs<'g> {
    pub fn new(graph: &'g RawGraph, limits: &'g Limits) -> Costs<'g> {
        let mut costs = Costs { graph, limits, sizes: HashMap::with_capacity(graph.len()) };
        let declared = graph.inputs.iter().filter(|i| i.shape.is_some());
        let inputs: HashMap<NodeId, Size> = declared.map(|i| (i.node, Size::declared(&i.shape))).collect();
        for &id in graph.topological_order() {
            let size = inputs.get(&id).cloned().unwrap_or_else(|| costs.estimate(graph.node(id)));
            costs.sizes.insert(id, size);
        }
        costs
    }

    fn operand(&self, node: &Node, k: usize) -> Size {
        node.inputs.get(k).and_then(|v| self.sizes.get(&v.node)).cloned().unwrap_or(Size { dims: None, count: 1.0 })
    }

    fn operands<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Size> {
        node.inputs.iter().filter_map(|v| self.sizes.get(&v.node))
    }

    /// The size of each result of a node.
    fn estimate(&self, node: &Node) -> Size {
        let largest = || {
            let largest = self.operands(node).max_by(|a, b| a.count.total_cmp(&b.count));
            largest.cloned().unwrap_or(Size { dims: None, count: 1.0 })
        };
        match node.op.as_str() {
            "Const" => {
                let value = node.attr_tensor("value", self.limits);
                value.map_or_else(|_| Size::default(), |t| Size::of(t.shape.iter().map(|&n| n as f64).collect()))
            }
            "VarHandleOp" | "VariableV2" | "Variable" | "Placeholder" | "PlaceholderV2" => {
                node.attr_shape("shape").map_or_else(|_| Size::declared(&None), |s| Size::declared(&s))
            }
            "Shape" | "ShapeN" => Size::of(vec![self.operand(node, 0).dims.map_or(4.0, |d| d.len() as f64)]),
            "Rank" | "Size" => Size::of(Vec::new()),
            "MatMul" | "BatchMatMul" | "BatchMatMulV2" | "BatchMatMulV3" => {
                let (a, b) = (self.operand(node, 0), self.operand(node, 1));
                let columns = b.behind(usize::from(transposed(node, ["transpose_b", "adj_y"]))).unwrap_or(OPEN);
                let inner = self.inner(node);
                match a.dims {
                    Some(mut dims) if dims.len() >= 2 => {
                        let rank = dims.len();
                        if transposed(node, ["transpose_a", "adj_x"]) {
                            dims.swap(rank - 1, rank - 2);
                        }
                        dims[rank - 1] = columns;
                        Size::of(dims)
                    }
                    _ => Size { dims: None, count: a.count / inner * columns },
                }
            }
            "Conv2D" | "DepthwiseConv2dNative" | "Conv3D" => {
                let (x, filter) = (self.operand(node, 0), self.operand(node, 1));
                let strides: f64 = node.attr_i64s("strides").map_or(1.0, |s| s.iter().map(|&s| s.max(1) as f64).product());
                let channels = |s: &Size, k| s.behind(k).unwrap_or(1.0);
                let out = match node.op.as_str() {
                    "DepthwiseConv2dNative" => channels(&filter, 0) * channels(&filter, 1),
                    _ => channels(&filter, 0),
                };
                Size { dims: None, count: x.count / strides * out / channels(&filter, 1).max(1.0) }
            }
            "Sum" | "Mean" | "Max" | "Min" | "Prod" | "All" | "Any" | "ArgMax" | "ArgMin" => {
                let x = self.operand(node, 0);
                Size { dims: None, count: (x.count / x.behind(0).unwrap_or(x.count)).max(1.0) }
            }
            "GatherV2" | "Gather" | "ResourceGather" | "GatherNd" => {
                let (table, indices) = (self.operand(node, 0), self.operand(node, 1));
                let row: f64 = table.dims.as_ref().map_or(1.0, |d| d.iter().skip(1).product());
                Size { dims: None, count: indices.count * row }
            }
            "StridedSlice" => {
                let x = self.operand(node, 0);
                Size { dims: None, count: x.count.min(OPEN) }
            }
            "Pack" => Size { dims: None, count: self.operands(node).map(|s| s.count).sum() },
            "ConcatV2" | "Concat" => Size { dims: None, count: self.operands(node).map(|s| s.count).sum() },
            "Reshape" | "ExpandDims" | "Squeeze" | "Transpose" => Size { dims: None, count: self.operand(node, 0).count },
            "Fill" | "Range" | "BroadcastTo" => Size { dims: None, count: OPEN.max(largest().count) },
            _ => largest(),
        }
    }

    /// The length of the sums of a product.
    fn inner(&self, node: &Node) -> f64 {
        let a = self.operand(node, 0);
        a.behind(usize::from(transposed(node, ["transpose_a", "adj_x"]))).unwrap_or(OPEN).max(1.0)
    }

    fn result(&self, id: NodeId) -> f64 {
        self.sizes.get(&id).map_or(1.0, |s| s.count)
    }

    fn bytes_of(&self, v: Port) -> f64 {
        let dtype: Option<DataType> = self.graph.value_type(v, self.limits).ok().flatten();
        let size = dtype.and_then(DataType::size).unwrap_or(8);
        self.result(v.node) * size as f64
    }

    /// Multiplications, additions and all else that is done with numbers.
    fn operations(&self, id: NodeId) -> f64 {
        let node = self.graph.node(id);
        let out = self.result(id);
        match node.op.as_str() {
            "MatMul" | "BatchMatMul" | "BatchMatMulV2" | "BatchMatMulV3" => 2.0 * out * self.inner(node),
            "Conv2D" | "Conv3D" | "DepthwiseConv2dNative" => {
                let filter = self.operand(node, 1);
                2.0 * out * filter.count / filter.behind(0).unwrap_or(1.0).max(1.0)
            }
            op if moves(op) => 0.0,
            // A loop of which nothing is known but that it is one.
            op if crate::staged::partition::calls(op) => OPEN * out,
            "Exp" | "Log" | "Tanh" | "Sigmoid" | "Erf" | "Erfc" | "Pow" | "Sin" | "Cos" | "Softmax" | "LogSoftmax" => 20.0 * out,
            _ => out.max(self.operands(node).map(|s| s.count).fold(0.0, f64::max)),
        }
    }

    /// Seconds that a node takes on a device.
    pub fn node(&self, id: NodeId, device: DeviceName) -> f64 {
        let rates = match device {
            DeviceName::Cpu => CPU,
            DeviceName::Gpu(_) => GPU,
        };
        let node = self.graph.node(id);
        if moves(&node.op) {
            return 0.0;
        }
        let bytes: f64 = node.inputs.iter().map(|&v| self.bytes_of(v)).sum::<f64>() + self.bytes_of(Port { node: id, port: 0 });
        let launch = if elementwise(&node.op) { 0.0 } else { rates.launch };
        launch + (self.operations(id) / rates.operations).max(bytes / rates.bytes)
    }

    /// Seconds that it takes to bring a value to another device.
    pub fn transfer(&self, v: Port) -> f64 {
        TRANSFER + self.bytes_of(v) / LINK
    }
}

fn transposed(node: &Node, attrs: [&str; 2]) -> bool {
    attrs.iter().any(|a| node.attr_bool(a).unwrap_or(false))
}

/// Ops that only say what another value is called, or how it is seen.
fn moves(op: &str) -> bool {
    matches!(
        op,
        "Identity"
            | "IdentityN"
            | "ReadVariableOp"
            | "Reshape"
            | "ExpandDims"
            | "Squeeze"
            | "Shape"
            | "Rank"
            | "Size"
            | "NoOp"
            | "StopGradient"
    )
}

/// Ops that join the loop that they read from or that reads them.
fn elementwise(op: &str) -> bool {
    matches!(
        op,
        "Add"
            | "AddV2"
            | "BiasAdd"
            | "Sub"
            | "Mul"
            | "Div"
            | "RealDiv"
            | "Maximum"
            | "Minimum"
            | "Relu"
            | "Relu6"
            | "Exp"
            | "Log"
            | "Tanh"
            | "Sigmoid"
            | "Erf"
            | "Erfc"
            | "Pow"
            | "Sqrt"
            | "Rsqrt"
            | "Square"
            | "Neg"
            | "Abs"
            | "Cast"
            | "SelectV2"
            | "Select"
            | "Equal"
            | "NotEqual"
            | "Less"
            | "LessEqual"
            | "Greater"
            | "GreaterEqual"
            | "LogicalAnd"
            | "LogicalOr"
            | "LogicalNot"
    )
}
