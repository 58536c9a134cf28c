//! An inlined, pruned TensorFlow graph to a module of the tensor IR.
//!
//! Each op has one row in the table and one short function. Shape arithmetic is followed symbolically on the way: an integer value
//! that is an expression of the symbols costs nothing until an instruction reads it.

mod content;
mod control;
mod conv;
mod conv3d;
mod conv_grad;
mod cx;
mod dequantise;
mod diag;
mod elementwise;
mod error;
mod expr;
mod index;
mod lists;
mod matrix;
mod misc;
mod norm;
mod optimise;
mod pad;
mod parts;
mod pool;
mod quantised;
mod reduce;
mod shape;
mod slice;
mod space;
mod state;
mod table;
mod value;
mod window;

pub use error::{CODES, LegaliseError, TfStatus};
pub use value::{dtype_of, elem_of};

use crate::dtype::DataType;
use crate::error::UnsupportedOp;
use crate::graph::{Node, NodeId, RawGraph, Value as Port};
use crate::limits::Limits;
use crate::model::Model;
use crate::proto::attr_value::Value as RawAttr;
use crate::tensor::{PartialShape, RawTensor, TensorData};
use crate::variables;
use cx::NodeCx;
use graphc_ir::op::Effect;
use graphc_ir::{Buffer, Data, Dim, Elem, Func, Loc, Module, Op, Sym, Tensor, Type, Value, Var, VarId};
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use table::Rule;
use value::{Lowering, Place, Res, V, VarInfo};

/// Ops of dataflow control flow, which no graph has any more when it is compiled.
const RAISED: &[&str] = &[
    "Enter",
    "RefEnter",
    "Exit",
    "RefExit",
    "NextIteration",
    "RefNextIteration",
    "LoopCond",
    "Merge",
    "RefMerge",
    "Switch",
    "RefSwitch",
    "_SwitchN",
    "XlaIf",
    "XlaWhile",
];

/// Names of all ops that are compiled, control flow that is made functional before included.
pub fn supported() -> impl Iterator<Item = &'static str> {
    table::supported().chain(RAISED.iter().copied())
}

/// What is known of one input of the graph.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Name of the parameter.
    pub name: String,
    pub elem: Elem,
    /// None where the rank is open.
    pub shape: Option<Vec<Dim>>,
    /// A value that is baked into the code; the input is no parameter then.
    pub value: Option<Tensor>,
}

/// How to legalise a graph.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Name of the module and of its function.
    pub name: String,
    /// One for each of [`RawGraph::inputs`], in order.
    pub feeds: Vec<Feed>,
    /// Names of the variables that are state. All others are constants with the value that the checkpoint gives; those without one are
    /// state too.
    pub state: BTreeSet<String>,
}

impl Request {
    /// The inputs of a graph as it declares them. An open dimension gets a symbol: `n` for the first axis of every input, so that
    /// they share the batch, and `name_axis` for others.
    pub fn of(name: &str, graph: &RawGraph, state: BTreeSet<String>) -> Request {
        let feeds = graph
            .inputs
            .iter()
            .map(|i| {
                let symbol = |axis: usize| {
                    let clean: String = i.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
                    Dim::sym(Sym::new(&if axis == 0 { "n".to_owned() } else { format!("{clean}_{axis}") }))
                };
                let declared: PartialShape = i.shape.clone().or_else(|| graph.node(i.node).attr_shape("shape").ok().flatten());
                let shape = declared.map(|s| s.iter().enumerate().map(|(k, d)| d.map_or_else(|| symbol(k), Dim::from)).collect());
                let elem = i.dtype.and_then(elem_of).unwrap_or(Elem::Variant);
                Feed { name: i.name.clone(), elem, shape, value: None }
            })
            .collect();
        Request { name: name.to_owned(), feeds, state }
    }
}

/// What a symbol had to equal.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    pub sym: Sym,
    pub dim: Dim,
    /// The node that asked for it.
    pub node: String,
}

/// A module, and under which conditions on what is fed it is the graph's meaning.
#[derive(Clone, Debug)]
pub struct Legalised {
    pub module: Module,
    /// The feeds with assumptions put in their shapes. A run fits if its shapes match these for some values of the symbols.
    pub feeds: Vec<Feed>,
    pub guards: Vec<Guard>,
    /// Variables that a run reads before it assigns them, and TensorFlow's status where one has no value.
    pub reads: Vec<(VarId, TfStatus)>,
    /// Variables that only a branch reads or assigns, and that had no value when this was made.
    pub maybe: Vec<VarId>,
}

/// Constants that a graph refers to, kept between attempts.
#[derive(Default)]
struct Weights {
    variables: HashMap<String, Option<Tensor>>,
    /// Bodies of functions by name and attributes, calls inlined.
    bodies: HashMap<String, Arc<RawGraph>>,
}

/// Legalises a graph, making the assumptions on symbols that it needs.
///
/// # Errors
/// As [`legalise`], but never `Assume`.
pub fn legalise_with_assumptions(model: &Model, graph: &RawGraph, request: &Request) -> Result<Legalised, LegaliseError> {
    let mut request = request.clone();
    let mut guards: Vec<Guard> = Vec::new();
    let mut weights = Weights::default();
    loop {
        match attempt(model, graph, &request, &mut weights) {
            Ok(made) => return Ok(Legalised { feeds: request.feeds, guards, ..made }),
            Err(LegaliseError::Assume { sym, dim, node }) => {
                // Each assumption removes a symbol, so this ends.
                let before = open_symbols(&request.feeds, false);
                let by = |s: &Sym| (*s == sym).then(|| dim.clone());
                for d in request.feeds.iter_mut().flat_map(|f| f.shape.iter_mut().flatten()) {
                    *d = d.substitute(&by);
                }
                let after = open_symbols(&request.feeds, false);
                if after.len() >= before.len() || after != open_symbols(&request.feeds, true) {
                    let mut syms = vec![sym.clone()];
                    dim.for_each_sym(&mut |s| syms.push(s.clone()));
                    let message = format!("it is not known whether {sym} equals {dim}");
                    return Err(LegaliseError::NeedsShape { syms, node, message });
                }
                guards.push(Guard { sym, dim, node });
            }
            Err(e) => return Err(e),
        }
    }
}

/// The symbols in the shapes of feeds; with `bound`, those that stand alone as a dimension, so that a run gives them a value.
fn open_symbols(feeds: &[Feed], bound: bool) -> BTreeSet<Sym> {
    let mut syms = BTreeSet::new();
    for d in feeds.iter().filter(|f| f.value.is_none()).flat_map(|f| f.shape.iter().flatten()) {
        if bound {
            syms.extend(d.as_sym().cloned());
        } else {
            d.for_each_sym(&mut |s| {
                syms.insert(s.clone());
            });
        }
    }
    syms
}

/// Legalises what computes the outputs and runs the targets of a graph, as one function. The graph is inlined and has one feed for
/// each input.
///
/// # Errors
/// All ops without a rule, before anything else; what must be known or assumed for a second attempt; the first node that breaks a
/// rule of its op.
pub fn legalise(model: &Model, graph: &RawGraph, request: &Request) -> Result<Module, LegaliseError> {
    attempt(model, graph, request, &mut Weights::default()).map(|l| l.module)
}

fn attempt(model: &Model, graph: &RawGraph, request: &Request, weights: &mut Weights) -> Result<Legalised, LegaliseError> {
    let wanted = wanted(graph);
    unsupported(graph, &wanted)?;
    let open: Vec<usize> =
        (0..request.feeds.len()).filter(|&k| request.feeds[k].shape.is_none() && request.feeds[k].value.is_none()).collect();
    if !open.is_empty() {
        return Err(LegaliseError::NeedsRank { feeds: open });
    }
    let mut low = Lowering::new(&request.name, model.limits());
    let mut module = Module { name: request.name.clone(), vars: Vec::new(), funcs: Vec::new() };
    let mut values: HashMap<Port, V> = HashMap::new();
    for (k, (input, feed)) in graph.inputs.iter().zip(&request.feeds).enumerate() {
        let v = match (&feed.value, &feed.shape) {
            (Some(t), _) => low.constant(t.clone()),
            (None, Some(shape)) => {
                let p = low.func.add_func_param(&feed.name, Type::new(feed.elem, shape.clone()));
                low.param_feeds.push(k);
                low.value(p)
            }
            (None, None) => continue,
        };
        values.insert(Port { node: input.node, port: 0 }, v);
    }
    let mut variables: HashMap<String, V> = HashMap::new();
    let mut sources = Sources { model, request, weights, module: &mut module, variables: &mut variables, calls: Vec::new() };
    nodes(&mut low, graph, &wanted, &mut values, &mut sources)?;
    for o in &graph.outputs {
        let node = graph.node(o.value.node);
        let v = values.get(&o.value).copied().ok_or_else(|| malformed(node, format!("output {} does not exist", o.value.port)))?;
        low.loc = Loc::new(&node.name);
        let mut cx = NodeCx { low: &mut low, node, inputs: vec![v] };
        let v = if cx.is_reference(v) { cx.read_operand(0)? } else { v };
        let s = cx.ssa(v)?;
        low.func.result_names.push(o.name.clone());
        let body = low.func.body;
        low.func.region_mut(body).results.push(s);
    }
    let insts = [std::mem::take(&mut low.prelude), std::mem::take(&mut low.insts)].concat();
    let (reads, maybe) = (low.reads, low.maybe);
    let mut func = low.func;
    let body = func.body;
    func.region_mut(body).insts = insts;
    drop_unused(&mut func, &module.vars);
    module.funcs.push(func);
    Ok(Legalised { module, feeds: Vec::new(), guards: Vec::new(), reads, maybe })
}

/// Legalises the wanted nodes of a graph, in order; `values` has the inputs and gets what they make.
fn nodes(low: &mut Lowering, graph: &RawGraph, wanted: &[bool], values: &mut HashMap<Port, V>, sources: &mut Sources) -> Res<()> {
    for &id in graph.topological_order() {
        if !wanted[id.index()] || values.contains_key(&Port { node: id, port: 0 }) {
            continue;
        }
        let node = graph.node(id);
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for p in &node.inputs {
            match values.get(p) {
                Some(&v) => inputs.push(v),
                // Only the condition of an Assert is looked at.
                None if node.op == "Assert" && !inputs.is_empty() => break,
                None => return Err(malformed(node, format!("input {} has no value", graph.value_name(*p)))),
            }
        }
        low.loc = if low.scope.is_empty() { Loc::new(&node.name) } else { Loc::new(&format!("{}{}", low.scope, node.name)) };
        let mut cx = NodeCx { low, node, inputs };
        let outputs = match node.op.as_str() {
            "Const" => vec![constant(&mut cx)?],
            "Placeholder" | "_Arg" => {
                return Err(cx.invalid(format!("You must feed a value for placeholder tensor '{}'", node.name)));
            }
            "VarHandleOp" | "VariableV2" | "Variable" | "TemporaryVariable" => {
                vec![variable(&mut cx, sources)?]
            }
            _ => {
                read_references(&mut cx)?;
                apply(&mut cx, sources)?
            }
        };
        values.extend(outputs.into_iter().enumerate().map(|(k, v)| (Port { node: id, port: k as u32 }, v)));
    }
    Ok(())
}

fn malformed(node: &Node, message: String) -> LegaliseError {
    LegaliseError::Node { code: "GC0504", node: node.name.clone(), op: node.op.clone(), message, status: TfStatus::InvalidArgument }
}

/// Which nodes have to be legalised: targets, those whose outputs are read, and those with effects.
pub fn wanted(graph: &RawGraph) -> Vec<bool> {
    let mut reached = vec![false; graph.len()];
    let mut stack: Vec<NodeId> = graph.outputs.iter().map(|o| o.value.node).chain(graph.targets.iter().copied()).collect();
    while let Some(id) = stack.pop() {
        if !std::mem::replace(&mut reached[id.index()], true) {
            let node = graph.node(id);
            stack.extend(node.inputs.iter().map(|p| p.node).chain(node.controls.iter().copied()));
        }
    }
    let mut wanted = vec![false; graph.len()];
    graph.outputs.iter().map(|o| o.value.node).chain(graph.targets.iter().copied()).for_each(|n| wanted[n.index()] = true);
    for &id in graph.topological_order().iter().rev() {
        let node = graph.node(id);
        wanted[id.index()] |= reached[id.index()] && node.has_effect();
        if wanted[id.index()] {
            // The message of an Assert is not computed.
            let read = if node.op == "Assert" { 1 } else { node.inputs.len() };
            node.inputs.iter().take(read).for_each(|p| wanted[p.node.index()] = true);
        }
    }
    wanted
}

/// Reports every op that has no rule, or none for its types.
fn unsupported(graph: &RawGraph, wanted: &[bool]) -> Result<(), LegaliseError> {
    let mut found: indexmap::IndexMap<String, UnsupportedOp> = indexmap::IndexMap::new();
    let inputs: BTreeSet<NodeId> = graph.inputs.iter().map(|i| i.node).collect();
    for &id in graph.topological_order() {
        let node = graph.node(id);
        if !wanted[id.index()] || inputs.contains(&id) {
            continue;
        }
        let Some(what) = lacks(node) else { continue };
        let entry = found.entry(what.clone()).or_insert(UnsupportedOp { op: what, count: 0, nodes: Vec::new() });
        entry.count += 1;
        if entry.nodes.len() < UnsupportedOp::NAMED {
            entry.nodes.push(node.name.clone());
        }
    }
    if found.is_empty() { Ok(()) } else { Err(LegaliseError::Unsupported(found.into_values().collect())) }
}

/// What a node asks for that the table does not have: its op, or its op on a type.
pub fn lacks(node: &Node) -> Option<String> {
    let Some(row) = table::row(&node.op) else { return Some(node.op.clone()) };
    // The elements of a constant are looked at by those that read it.
    let types = node.attrs.values().filter_map(|a| match a.value {
        Some(RawAttr::Type(t)) => Some(t),
        _ => None,
    });
    types.into_iter().find_map(|t| match DataType::from_number(t) {
        Some(d) if elem_of(d).is_none() => Some(format!("{} of {d}", node.op)),
        Some(d) if !row.on.covers(d) => Some(format!("{} of {d}", node.op)),
        _ => None,
    })
}

/// Ops that move elements and do not look at them: right for strings too where these are handles. (`Assert` does not read its data.)
const MOVES: &[&str] = &[
    "Assert",
    "BatchToSpace",
    "BatchToSpaceND",
    "BroadcastTo",
    "Concat",
    "ConcatV2",
    "Const",
    "DynamicStitch",
    "EnsureShape",
    "ExpandDims",
    "Fill",
    "Gather",
    "GatherNd",
    "GatherV2",
    "GuaranteeConst",
    "Identity",
    "IdentityN",
    "MatrixDiag",
    "MatrixDiagPart",
    "Pack",
    "Pad",
    "ParallelConcat",
    "ParallelDynamicStitch",
    "PlaceholderWithDefault",
    "PreventGradient",
    "Rank",
    "Reshape",
    "Reverse",
    "ReverseSequence",
    "ReverseV2",
    "Roll",
    "Select",
    "SelectV2",
    "Shape",
    "ShapeN",
    "Size",
    "Slice",
    "Snapshot",
    "SpaceToBatch",
    "SpaceToBatchND",
    "Split",
    "SplitV",
    "Squeeze",
    "StopGradient",
    "StridedSlice",
    "TensorScatterUpdate",
    "Tile",
    "Transpose",
    "Unpack",
    "ZerosLike",
];

/// Whether the compiler has a rule for an op.
pub fn has_rule(op: &str) -> bool {
    table::row(op).is_some()
}

/// Whether the rule of an op takes elements of a type; strings as handles, where it only moves them.
pub fn rule_takes(op: &str, d: DataType) -> bool {
    match d {
        DataType::String => MOVES.contains(&op),
        d => elem_of(d).is_some() && table::row(op).is_some_and(|r| r.on.covers(d)),
    }
}

/// Whether the compiler has a rule for a node and its types, strings being handles. What the rule asks of values only tells a trial.
pub fn compiles(node: &Node) -> bool {
    let strings = |d: Option<DataType>| d == Some(DataType::String);
    let of_strings = node.attrs.values().any(|a| match &a.value {
        Some(RawAttr::Type(t)) => strings(DataType::from_number(*t)),
        Some(RawAttr::List(l)) => l.r#type.iter().any(|&t| strings(DataType::from_number(t))),
        _ => false,
    });
    if of_strings && !MOVES.contains(&node.op.as_str()) {
        return false;
    }
    let Some(row) = table::row(&node.op) else { return false };
    node.attrs.values().all(|a| match a.value {
        Some(RawAttr::Type(t)) => {
            DataType::from_number(t).is_none_or(|d| d == DataType::String || elem_of(d).is_some() && row.on.covers(d))
        }
        _ => true,
    })
}

/// Applies the rule of the node's op.
fn apply(cx: &mut NodeCx, sources: &mut Sources) -> Res {
    let row = table::row(&cx.node.op).ok_or_else(|| cx.unimplemented("the op has no rule"))?;
    match row.rule {
        Rule::Un(op) => elementwise::unary(cx, op),
        Rule::Bin(op) => elementwise::binary(cx, op),
        Rule::Fn(f) => f(cx),
        Rule::Model(f) => f(cx, sources.model),
        Rule::Control => control::apply(cx, sources),
        Rule::Source => Err(cx.malformed("the op makes no value here")),
    }
}

/// A check that holds is nothing; one that fails for sure fails now.
fn assert(cx: &mut NodeCx) -> Res {
    match cx.low.content(cx.x(0)?).as_deref().map(|d| d.iter().map(Dim::as_const).collect::<Option<Vec<_>>>()) {
        Some(Some(c)) if c.iter().all(|&c| c != 0) => Ok(Vec::new()),
        Some(Some(_)) => Err(cx.invalid("assertion failed")),
        _ => Err(cx.unimplemented("an assertion on values computed at run time")),
    }
}

/// Operands that are reference variables are read, unless the op takes the reference itself.
fn read_references(cx: &mut NodeCx) -> Res<()> {
    let taken = |k: usize| match cx.node.op.as_str() {
        // Branches and loops hand references on to their bodies.
        "If" | "StatelessIf" | "Case" | "StatelessCase" => k > 0,
        "While" | "StatelessWhile" | "RefIdentity" => true,
        _ => cx.node.def.as_ref().is_some_and(|d| d.input_arg.get(k).is_some_and(|a| a.is_ref)),
    };
    let read: Vec<usize> = (0..cx.inputs.len()).filter(|&k| !taken(k) && cx.is_reference(cx.inputs[k])).collect();
    for k in read {
        cx.inputs[k] = cx.read_operand(k)?;
    }
    Ok(())
}

fn constant(cx: &mut NodeCx) -> Res<V> {
    let t = cx.node.attr_tensor("value", cx.low.limits).map_err(|e| cx.malformed(e.kind().to_string()))?;
    let t = tensor(&t, cx.low.limits).map_err(|m| cx.unimplemented(m))?;
    Ok(cx.constant(t))
}

/// A raw tensor as a tensor of the IR; the bytes are shared.
///
/// # Errors
/// If the IR does not have the element type, or a repeated value is too large to write out.
pub fn tensor(t: &RawTensor, limits: &Limits) -> Result<Tensor, String> {
    let elem = elem_of(t.dtype).ok_or_else(|| format!("element type {}", t.dtype))?;
    let data = match &t.data {
        TensorData::Strings(s) => Data::Strings(s.iter().map(|b| b.to_vec().into_boxed_slice()).collect()),
        _ => Data::Bytes(Buffer::new(Arc::new(t.bytes(limits).map_err(|e| e.kind().to_string())?))),
    };
    Tensor::new(elem, t.shape.clone(), data).ok_or_else(|| format!("a constant of type {elem} and shape {:?}", t.shape))
}

/// Where values of variables come from, and where state goes.
struct Sources<'s> {
    model: &'s Model,
    request: &'s Request,
    weights: &'s mut Weights,
    module: &'s mut Module,
    variables: &'s mut HashMap<String, V>,
    /// Functions whose bodies are open.
    calls: Vec<String>,
}

/// A handle to the variable that a node stands for.
fn variable(cx: &mut NodeCx, from: &mut Sources) -> Res<V> {
    let node = cx.node;
    let declared = from.model.variable(node);
    let name = declared.map_or_else(|| variables::name(node).unwrap_or_else(|| node.name.clone()), |v| v.name.clone());
    let name = match node.op.as_str() {
        "TemporaryVariable" => state::temporary_name(Some(cx.word("var_name")?).filter(|n| !n.is_empty()).unwrap_or(&node.name)),
        _ => name,
    };
    if let Some(&v) = from.variables.get(&name) {
        return Ok(v);
    }
    let stored = match from.weights.variables.get(&name) {
        Some(t) => t.clone(),
        None => {
            let t = match declared.filter(|v| v.stored.is_some()) {
                Some(v) => {
                    let raw = from.model.variable_value(v).map_err(|e| cx.malformed(e.to_string()))?;
                    Some(tensor(&raw, cx.low.limits).map_err(|m| cx.unimplemented(m))?)
                }
                None => None,
            };
            from.weights.variables.insert(name.clone(), t.clone());
            t
        }
    };
    let is_state = from.request.state.contains(&name);
    let ty = match &stored {
        Some(t) => t.ty(),
        None => {
            let elem = cx.elem_attr("dtype")?;
            let shape = node.attr_shape("shape").map_err(|e| cx.malformed(e.kind().to_string()))?;
            let dims = shape.and_then(|s| s.into_iter().collect::<Option<Vec<usize>>>());
            Type::of(elem, &dims.ok_or_else(|| cx.unimplemented(format!("variable \"{name}\" has no known shape")))?)
        }
    };
    let initialised = stored.is_some();
    let place = match stored {
        Some(t) if !is_state => Place::Constant(cx.low.constant(t)),
        // A variable without a value is state: another run gives it one.
        init => {
            from.module.vars.push(Var { name: name.clone(), ty: ty.clone(), init });
            Place::State(VarId(from.module.vars.len() as u32 - 1))
        }
    };
    let reference = node.op != "VarHandleOp";
    cx.low.vars.push(VarInfo { name: name.clone(), ty, reference, place, initialised });
    let v = cx.low.handle(cx.low.vars.len() - 1);
    from.variables.insert(name, v);
    Ok(v)
}

/// Removes instructions without effect whose results nothing reads. Reads of variables without a first value stay: they tell which must have
/// one by then.
fn drop_unused(func: &mut Func, vars: &[Var]) {
    let body = func.body;
    let mut read = vec![false; func.value_count()];
    let mark = |read: &mut [bool], vs: &[Value]| vs.iter().for_each(|v| read[v.index()] = true);
    mark(&mut read, &func.region(body).results);
    let insts = func.region(body).insts.clone();
    let mut kept = Vec::with_capacity(insts.len());
    for &i in insts.iter().rev() {
        let d = func.inst(i);
        let asks = d.op == Op::VarRead && d.attrs.var("var").is_some_and(|v| vars.get(v.index()).is_some_and(|v| v.init.is_none()));
        if asks || d.op.def().effect == Effect::Write || d.results.iter().any(|v| read[v.index()]) {
            mark(&mut read, &d.operands);
            for &r in &d.regions {
                mark(&mut read, &func.region(r).results);
                func.walk(r, &mut |f, _, i| {
                    mark(&mut read, &f.inst(i).operands);
                    f.inst(i).regions.iter().for_each(|&r| mark(&mut read, &f.region(r).results));
                });
            }
            kept.push(i);
        }
    }
    kept.reverse();
    func.region_mut(body).insts = kept;
}
