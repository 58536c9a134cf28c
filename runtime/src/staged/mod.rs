//! Graphs that no single compiled function can run: parts are compiled, and between them host functions and control flow run one by one.
//!
//! What a graph is cut at is found out in two ways: before a run, from the ops that have no rule in the compiler; and during the first
//! run, from what the compiler refuses once it sees the values of feeds. A refused node becomes a node of its own if there is a host
//! function for it; else what it reads is computed before, and the node is compiled for the values.

mod attrs;
mod control;
pub mod partition;
pub mod print;
pub mod script;
mod segment;
pub mod transfer;

pub use segment::off_the_gpu;

use crate::device::DeviceName;
use crate::error::{Error, Result};
use crate::shared::Shared;
use graphc_frontend::legalise::{self, LegaliseError};
use graphc_frontend::{DataType, Node, NodeId, RawGraph, UnsupportedOp, Value as Port, variables};
use graphc_host::{Attrs, Call, Resource, Step, Value};
use graphc_ir::{Tensor, TfStatus};
use hashbrown::{HashMap, HashSet};
use indexmap::IndexMap;
use partition::{Partition, Piece};
use segment::Segment;
use std::collections::{BTreeSet, VecDeque};
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use transfer::Transfer;

/// What the compiler has refused so far.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// Nodes that compile in general, but run one by one here.
    pub single: HashSet<NodeId>,
    /// Nodes that are compiled for the values that they read, which must be there.
    pub apart: HashSet<NodeId>,
    /// Nodes that GPUs have no kernel for.
    pub on_cpu: HashSet<NodeId>,
}

/// A graph, how it is cut, and the code of its parts.
pub struct Staged {
    shared: Arc<Shared>,
    graph: RawGraph,
    /// What names of nodes begin with: the function that this is the body of.
    scope: String,
    /// Names of the variables that are state.
    state: BTreeSet<String>,
    constants: HashMap<Port, Value>,
    plan: Mutex<Plan>,
    functions: Mutex<HashMap<String, Arc<Staged>>>,
    attrs: Mutex<HashMap<NodeId, Arc<Attrs>>>,
}

struct Plan {
    choices: Choices,
    steps: Arc<[Todo]>,
}

/// One step of a run.
#[derive(Clone)]
enum Todo {
    Segment(Arc<Segment>),
    Single(NodeId),
    Send(Transfer),
    Recv(Transfer),
}

/// What computes the segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    Compiled,
    Interpreter,
}

/// What holds for one run.
#[derive(Clone, Copy)]
struct Run<'a> {
    engine: Engine,
    step: &'a Step<'a>,
    /// Calls that are open.
    depth: usize,
}

/// The values of a run that are there.
#[derive(Default)]
struct Env {
    values: HashMap<Port, Value>,
    /// Values on their way between devices, as bf16.
    narrow: HashMap<Port, Tensor>,
}

impl Deref for Env {
    type Target = HashMap<Port, Value>;

    fn deref(&self) -> &HashMap<Port, Value> {
        &self.values
    }
}

impl DerefMut for Env {
    fn deref_mut(&mut self) -> &mut HashMap<Port, Value> {
        &mut self.values
    }
}

/// Calls within calls that a run may have open.
const MOST_CALLS: usize = 64;

fn locked<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Staged {
    /// # Errors
    /// All ops that neither compile nor have a host function, in bodies of functions too.
    pub fn new(shared: Arc<Shared>, graph: RawGraph, scope: &str, choices: Choices) -> Result<Staged> {
        unsupported(&shared, &graph)?;
        let limits = shared.model()?.limits();
        let (graph, state) = prepared(&shared, &graph)?;
        for (_, n) in graph.nodes() {
            if let Some(name) = variables::name(n) {
                locked(&shared.variable_nodes).entry(name).or_insert_with(|| n.clone());
            }
        }
        let partition = Partition::new(shared.model()?, &graph, &choices, &state, &shared.policy, !scope.is_empty())?;
        let mut constants = HashMap::new();
        for id in partition.constants() {
            let node = graph.node(id);
            let raw = node.attr_tensor("value", limits)?;
            let refused = |message: String| Error::Unsupported(format!("node {:?}: {message}", node.name));
            constants.insert(Port { node: id, port: 0 }, Value::Tensor(legalise::tensor(&raw, limits).map_err(refused)?));
        }
        let steps = todo(partition.pieces(&partition.nodes(), &choices), &[]).into();
        Ok(Staged {
            shared,
            scope: scope.to_owned(),
            state,
            constants,
            plan: Mutex::new(Plan { choices, steps }),
            functions: Mutex::default(),
            attrs: Mutex::default(),
            graph,
        })
    }

    /// Names of the ops that run one by one, for messages.
    pub fn single_ops(&self) -> BTreeSet<String> {
        let steps = locked(&self.plan).steps.clone();
        let single = |t: &Todo| if let Todo::Single(id) = t { Some(self.graph.node(*id).op.clone()) } else { None };
        steps.iter().filter_map(single).collect()
    }

    /// What runs, in order, a line a step.
    pub fn outline(&self) -> Vec<String> {
        let steps = locked(&self.plan).steps.clone();
        let name = |id: &NodeId| &self.graph.node(*id).name;
        let several = self.shared.policy.session != DeviceName::Cpu;
        let on = |device: DeviceName| if several { format!(" on {}", device.short()) } else { String::new() };
        let way = |t: &Transfer| format!("{:?} {} -> {}", self.graph.value_name(t.value), t.from.short(), t.to.short());
        let line = |t: &Todo| match t {
            Todo::Single(id) => format!("{} {:?}{}", self.graph.node(*id).op, name(id), on(DeviceName::Cpu)),
            Todo::Segment(s) => {
                let ends = s.cut.nodes.first().zip(s.cut.nodes.last());
                let ends = ends.map(|(a, b)| format!(", {:?} to {:?}", name(a), name(b))).unwrap_or_default();
                format!("segment of {} nodes{}{ends}", s.cut.nodes.len(), on(s.device))
            }
            Todo::Send(t) => format!("send {}", way(t)),
            Todo::Recv(t) => format!("recv {}", way(t)),
        };
        steps.iter().map(line).collect()
    }

    /// Runs the graph: a value for each input, in order, to a value for each output.
    ///
    /// # Errors
    /// If a node fails.
    pub fn run(&self, inputs: Vec<Value>, engine: Engine, cancel: Option<&AtomicU32>) -> Result<Vec<Value>> {
        let step = Step { cancel, ..Step::default() };
        self.execute(inputs, Run { engine, step: &step, depth: 0 })
    }

    fn execute(&self, inputs: Vec<Value>, run: Run) -> Result<Vec<Value>> {
        let inputs = self.graph.inputs.iter().zip(inputs);
        let mut env = Env { values: inputs.map(|(i, v)| (Port { node: i.node, port: 0 }, v)).collect(), ..Env::default() };
        let mut steps: VecDeque<Todo> = locked(&self.plan).steps.iter().cloned().collect();
        while let Some(next) = steps.pop_front() {
            match next {
                Todo::Single(id) => {
                    let outputs = self.single(id, &env, run)?;
                    env.extend(outputs.into_iter().enumerate().map(|(k, v)| (Port { node: id, port: k as u32 }, v)));
                }
                // Values meet in the host's memory: a segment leaves its results there, and takes its operands from there.
                Todo::Send(t) if t.narrow && !env.narrow.contains_key(&t.value) => {
                    if let Value::Tensor(whole) = self.operand(t.value, false, &env)? {
                        env.narrow.extend(transfer::narrowed(&whole).map(|n| (t.value, n)));
                    }
                }
                Todo::Recv(t) if t.to == DeviceName::Cpu && !env.contains_key(&t.value) => {
                    let wide = env.narrow.get(&t.value).and_then(transfer::widened);
                    env.extend(wide.map(|w| (t.value, Value::Tensor(w))));
                }
                Todo::Send(_) | Todo::Recv(_) => {}
                Todo::Segment(segment) => match segment.run(self, &mut env, run) {
                    Ok(()) => {}
                    Err(e) if segment::refused(&e) => {
                        steps.push_front(Todo::Segment(segment));
                        steps = self.refine(e, steps)?;
                    }
                    Err(e) => return Err(e),
                },
            }
            run.step.check().map_err(|e| Error::Host { node: String::new(), status: e.status, message: e.message })?;
        }
        let outputs = self.graph.outputs.iter().map(|o| self.operand(o.value, false, &env));
        outputs.collect()
    }

    /// Cuts what is left to do, of which the first is a segment that the compiler refused, in another way.
    fn refine(&self, why: Error, left: VecDeque<Todo>) -> Result<VecDeque<Todo>> {
        let mut plan = locked(&self.plan);
        let Some(Todo::Segment(first)) = left.front() else { return Err(why) };
        if !segment::blame(&why, &self.graph, &first.cut, &mut plan.choices) {
            return Err(why);
        }
        self.shared.cuts.fetch_add(1, Ordering::Relaxed);
        let (model, nested) = (self.shared.model()?, !self.scope.is_empty());
        let partition = Partition::new(model, &self.graph, &plan.choices, &self.state, &self.shared.policy, nested)?;
        let nodes: Vec<NodeId> = left
            .iter()
            .flat_map(|t| match t {
                Todo::Single(id) => vec![*id],
                Todo::Segment(s) => s.cut.nodes.clone(),
                Todo::Send(_) | Todo::Recv(_) => Vec::new(),
            })
            .collect();
        // What is cut as before keeps its code.
        let mut known = segments(&plan.steps);
        let now = todo(partition.pieces(&nodes, &plan.choices), &known);
        known.extend(segments(&now));
        plan.steps = todo(partition.pieces(&partition.nodes(), &plan.choices), &known).into();
        Ok(now.into())
    }

    /// The value that an operand has; `handle` asks for the variable itself.
    fn operand(&self, v: Port, handle: bool, env: &Env) -> Result<Value> {
        let node = self.graph.node(v.node);
        if let Some(value) = env.get(&v).or_else(|| self.constants.get(&v)) {
            // A body may have got a reference where it says a tensor.
            let limits = self.shared.model()?.limits();
            let dtype = || self.graph.value_type(v, limits).ok().flatten();
            return match value {
                Value::Resource(Resource::Variable(name)) if !handle && dtype() != Some(DataType::Resource) => self.read(name),
                v => Ok(v.clone()),
            };
        }
        if let Some(wide) = env.narrow.get(&v).and_then(transfer::widened) {
            return Ok(Value::Tensor(wide));
        }
        let Some(name) = variables::name(node) else {
            return Err(Error::Compile(format!("nothing has computed {}", self.graph.value_name(v))));
        };
        if handle || node.op == "VarHandleOp" {
            return Ok(Value::Resource(Resource::Variable(name.into())));
        }
        self.read(&name)
    }

    /// The value of a variable.
    fn read(&self, name: &str) -> Result<Value> {
        match graphc_host::VariableStore::read(&*self.shared, name) {
            Some(v) => Ok(v),
            None => Err(Error::Uninitialised { variable: name.to_owned(), status: TfStatus::FailedPrecondition }),
        }
    }

    /// Runs one node.
    fn single(&self, id: NodeId, env: &Env, run: Run) -> Result<Vec<Value>> {
        let node = self.graph.node(id);
        let by_reference = by_reference(node);
        let operands = node.inputs.iter().enumerate().map(|(k, &v)| self.operand(v, by_reference(k), env));
        let inputs = operands.collect::<Result<Vec<Value>>>()?;
        if partition::calls(&node.op) {
            return self.control(node, inputs, run);
        }
        if let Some(f) = partition::host_function(node) {
            let limits = self.shared.model()?.limits();
            let attrs = locked(&self.attrs).entry(id).or_insert_with(|| Arc::new(attrs::of_node(node, limits))).clone();
            let name = format!("{}{}", self.scope, node.name);
            let caller = control::Functions { staged: self, run };
            let call = Call {
                op: &node.op,
                node: &name,
                attrs: &attrs,
                inputs: &inputs,
                host: &self.shared.host,
                step: run.step,
                variables: &*self.shared,
                caller: &caller,
            };
            // A panic would be a bug of the function; it ends this run, not the process.
            let outcome = catch_unwind(AssertUnwindSafe(|| f(&call)));
            let outcome =
                outcome.unwrap_or_else(|_| Err(graphc_host::internal(format!("the host function of {} broke off", node.op))));
            return outcome.map_err(|e| Error::Host { node: name.clone(), status: e.status, message: e.message });
        }
        match node.op.as_str() {
            "NoOp" => Ok(Vec::new()),
            op if partition::forwards(op) => Ok(inputs),
            op => Err(Error::Unsupported(format!("node {:?}: {op} has no host function", node.name))),
        }
    }
}

/// The device of all that is compiled of a graph; `None` if that is more than one.
///
/// # Errors
/// If a node asks for a device where it cannot be.
pub fn one_device(shared: &Shared, graph: &RawGraph) -> Result<Option<DeviceName>> {
    if shared.policy.session == DeviceName::Cpu {
        return Ok(Some(DeviceName::Cpu));
    }
    let (graph, state) = prepared(shared, graph)?;
    Ok(Partition::new(shared.model()?, &graph, &Choices::default(), &state, &shared.policy, false)?.one_device())
}

/// A graph as it is cut, and the names of the variables that are state to it.
fn prepared(shared: &Shared, graph: &RawGraph) -> Result<(RawGraph, BTreeSet<String>)> {
    let model = shared.model()?;
    let mut state = model.assigned_variables(graph)?;
    state.extend(shared.state_variables()?.iter().cloned());
    let graph = partition::with_direct_handles(graph, model.limits())?;
    let several = shared.policy.session != DeviceName::Cpu;
    Ok((if several { partition::with_free_forwards(&graph, model.limits())? } else { graph }, state))
}

fn todo(pieces: Vec<Piece>, known: &[Arc<Segment>]) -> Vec<Todo> {
    let step = |p| match p {
        Piece::Segment(cut, device) => {
            let same = known.iter().find(|s| s.is_of(&cut, device));
            Todo::Segment(same.cloned().unwrap_or_else(|| Arc::new(Segment::new(cut, device))))
        }
        Piece::Single(id) => Todo::Single(id),
        Piece::Send(t) => Todo::Send(t),
        Piece::Recv(t) => Todo::Recv(t),
    };
    pieces.into_iter().map(step).collect()
}

fn segments(steps: &[Todo]) -> Vec<Arc<Segment>> {
    steps.iter().filter_map(|t| if let Todo::Segment(s) = t { Some(s.clone()) } else { None }).collect()
}

/// Reports every op, in the graph and in the functions it calls, that neither compiles nor runs alone.
fn unsupported(shared: &Shared, graph: &RawGraph) -> Result<()> {
    let model = shared.model()?;
    let mut found: IndexMap<String, UnsupportedOp> = IndexMap::new();
    let mut seen: HashSet<String> = HashSet::new();
    let mut look = |graph: &RawGraph, more: &mut Vec<RawGraph>| {
        let wanted = legalise::wanted(graph);
        let inputs: HashSet<NodeId> = graph.inputs.iter().map(|i| i.node).collect();
        for (_, node) in graph.nodes().filter(|(id, n)| wanted[id.index()] && !inputs.contains(id) && n.op != "Const") {
            if partition::calls(&node.op) {
                for f in partition::functions(node) {
                    if seen.insert(f.name.clone())
                        && let Ok(body) = model.function_inlined(&f.name, &f.attr)
                    {
                        more.push(body);
                    }
                }
            } else if !legalise::compiles(node) && !partition::runs_alone(node) && variables::name(node).is_none() {
                let what = legalise::lacks(node).unwrap_or_else(|| format!("{} of string", node.op));
                let entry = found.entry(what.clone()).or_insert(UnsupportedOp { op: what, count: 0, nodes: Vec::new() });
                entry.count += 1;
                if entry.nodes.len() < UnsupportedOp::NAMED {
                    entry.nodes.push(node.name.clone());
                }
            }
        }
    };
    let mut left = Vec::new();
    look(graph, &mut left);
    while let Some(g) = left.pop() {
        look(&g, &mut left);
    }
    if found.is_empty() {
        return Ok(());
    }
    let error = LegaliseError::Unsupported(found.into_values().collect());
    Err(Error::Graph { file: shared.file().to_path_buf(), error })
}

/// Which operands of a node are handed on as references where they are variables.
fn by_reference(node: &Node) -> impl Fn(usize) -> bool {
    // Raised control flow hands references on to its bodies; what it chooses by is read.
    let first = usize::from(!node.op.ends_with("While"));
    let raised = node.attrs.contains_key("_raised");
    move |k| raised && k >= first || node.def.as_ref().is_some_and(|d| d.input_arg.get(k).is_some_and(|a| a.is_ref))
}

/// An error of a node, from the executor itself.
fn failed(node: &str, status: TfStatus, message: impl Into<String>) -> Error {
    Error::Host { node: node.to_owned(), status, message: message.into() }
}
