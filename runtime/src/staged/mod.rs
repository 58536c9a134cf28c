//! Graphs that no single compiled function can run: parts are compiled, and between them host functions and control flow run one by one.
//!
//! What a graph is cut at is found out in two ways: before a run, from the ops that have no rule in the compiler; and during the first
//! run, from what the compiler refuses once it sees the values of feeds. A refused node becomes a node of its own if there is a host
//! function for it; else what it reads is computed before, and the node is compiled for the values.

mod attrs;
mod control;
mod env;
mod lanes;
pub mod partition;
pub mod print;
pub mod script;
mod segment;
pub mod transfer;

pub use segment::off_the_gpu;

use crate::device::DeviceName;
use crate::error::{Error, Result};
#[cfg(feature = "gpu")]
use crate::landings::Landings;
use crate::program::{RunOptions, Stage, Watcher};
use crate::resident::fetched;
use crate::shared::Shared;
use env::Env;
use graphc_frontend::legalise::{self, LegaliseError};
use graphc_frontend::{DataType, Node, NodeId, RawGraph, UnsupportedOp, Value as Port, variables};
use graphc_host::{Attrs, Call, Resource, Step, Value};
use graphc_ir::TfStatus;
use hashbrown::{HashMap, HashSet};
use indexmap::IndexMap;
use lanes::Lanes;
use partition::{Partition, Piece};
use segment::Segment;
use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
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
    /// Memory on GPUs for values that come from elsewhere.
    #[cfg(feature = "gpu")]
    landings: Landings<(Port, DeviceName)>,
}

struct Plan {
    choices: Choices,
    schedule: Schedule,
}

/// What runs, in order.
#[derive(Clone)]
struct Schedule {
    steps: Arc<[Todo]>,
    /// Values that stay on GPUs.
    stay: Arc<HashSet<Port>>,
    /// How parts run at one time, where several devices have some that do not wait for one another.
    lanes: Option<Arc<Lanes>>,
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
    watch: Option<&'a dyn Watcher>,
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
        let schedule = Schedule::new(&partition, &graph, &choices, &[], !scope.is_empty());
        Ok(Staged {
            shared,
            scope: scope.to_owned(),
            state,
            constants,
            plan: Mutex::new(Plan { choices, schedule }),
            functions: Mutex::default(),
            attrs: Mutex::default(),
            #[cfg(feature = "gpu")]
            landings: Landings::default(),
            graph,
        })
    }

    /// Names of the ops that run one by one, for messages.
    pub fn single_ops(&self) -> BTreeSet<String> {
        let steps = self.steps();
        let single = |t: &Todo| if let Todo::Single(id) = t { Some(self.graph.node(*id).op.clone()) } else { None };
        steps.iter().filter_map(single).collect()
    }

    /// What runs, in order, a line a step.
    pub fn outline(&self) -> Vec<String> {
        self.steps().iter().map(|t| self.line(t)).collect()
    }

    /// What runs, in order.
    fn steps(&self) -> Arc<[Todo]> {
        locked(&self.plan).schedule.steps.clone()
    }

    /// Gives memory that no run uses back.
    pub fn trim(&self) {
        for s in segments(&self.steps()) {
            s.units().iter().for_each(|u| u.callable.trim());
        }
        #[cfg(feature = "gpu")]
        self.landings.trim();
    }

    /// A step in words.
    fn line(&self, t: &Todo) -> String {
        let name = |id: &NodeId| &self.graph.node(*id).name;
        let several = self.shared.policy.session != DeviceName::Cpu;
        let on = |device: DeviceName| if several { format!(" on {}", device.short()) } else { String::new() };
        let way = |t: &Transfer| format!("{:?} {} -> {}", self.graph.value_name(t.value), t.from.short(), t.to.short());
        match t {
            Todo::Single(id) => format!("{} {:?}{}", self.graph.node(*id).op, name(id), on(DeviceName::Cpu)),
            Todo::Segment(s) => {
                let ends = s.cut.nodes.first().zip(s.cut.nodes.last());
                let ends = ends.map(|(a, b)| format!(", {:?} to {:?}", name(a), name(b))).unwrap_or_default();
                format!("segment of {} nodes{}{ends}", s.cut.nodes.len(), on(s.device))
            }
            Todo::Send(t) => format!("send {}", way(t)),
            Todo::Recv(t) => format!("recv {}", way(t)),
        }
    }

    /// Runs the graph: a value for each input, in order, to a value for each output.
    ///
    /// # Errors
    /// If a node fails.
    pub fn run(&self, inputs: Vec<Value>, engine: Engine, options: &RunOptions) -> Result<Vec<Value>> {
        let step = Step { cancel: options.cancel, ..Step::default() };
        self.execute(inputs, Run { engine, step: &step, depth: 0, watch: options.watch })
    }

    fn execute(&self, inputs: Vec<Value>, run: Run) -> Result<Vec<Value>> {
        let inputs = self.graph.inputs.iter().zip(inputs);
        let env = Env::of(inputs.map(|(i, v)| (Port { node: i.node, port: 0 }, v)));
        let Schedule { steps, mut stay, lanes } = locked(&self.plan).schedule.clone();
        let mut left: VecDeque<Todo> = match lanes.filter(|_| run.engine == Engine::Compiled) {
            None => steps.iter().cloned().collect(),
            Some(lanes) => match lanes.run(self, &steps, &env, &stay, run) {
                None => VecDeque::new(),
                Some(lanes::Failure { why, left }) => {
                    let again = left.into_iter().map(|k| steps[k].clone()).collect();
                    let (again, now) = self.refine(why, again)?;
                    stay = now;
                    again
                }
            },
        };
        while let Some(next) = left.pop_front() {
            match self.step(&next, &env, &stay, run) {
                Ok(()) => {}
                Err(e) => {
                    left.push_front(next);
                    (left, stay) = self.refine(e, left)?;
                }
            }
        }
        self.graph.outputs.iter().map(|o| self.result(o.value, &env)).collect()
    }

    /// One step of a run.
    fn step(&self, todo: &Todo, env: &Env, stay: &HashSet<Port>, run: Run) -> Result<()> {
        let stage = run.watch.map(|w| (w, Stage { what: self.line(todo), device: todo.device() }));
        if let Some((w, stage)) = &stage {
            w.begin(stage);
        }
        match todo {
            Todo::Single(id) => {
                for (port, v) in (0..).zip(self.single(*id, env, run)?) {
                    env.insert(Port { node: *id, port }, v);
                }
            }
            Todo::Send(t) => self.send(t, env)?,
            Todo::Recv(t) => self.receive(t, env)?,
            Todo::Segment(segment) => segment.run(self, env, stay, run)?,
        }
        if let Some((w, stage)) = &stage {
            w.end(stage);
        }
        run.step.check().map_err(|e| Error::Host { node: String::new(), status: e.status, message: e.message })
    }

    /// Values wait where they are made until they are received.
    fn send(&self, t: &Transfer, env: &Env) -> Result<()> {
        if t.narrow
            && env.narrow(t.value).is_none()
            && let Value::Tensor(whole) = self.operand(t.value, false, env)?
            && let Some(narrow) = transfer::narrowed(&fetched(whole)?)
        {
            env.insert_narrow(t.value, narrow);
        }
        Ok(())
    }

    /// Brings a value to where it goes, unless the only part that reads it there takes it along.
    fn receive(&self, t: &Transfer, env: &Env) -> Result<()> {
        if t.to == DeviceName::Cpu {
            if env.get(t.value).is_none() {
                let there = || env.on(t.value, t.from).map(fetched).transpose();
                let narrow = || env.narrow(t.value).map(fetched).transpose().map(|n| n.as_ref().and_then(transfer::widened));
                let here = if t.narrow { narrow()? } else { there()? };
                here.into_iter().for_each(|here| env.insert(t.value, Value::Tensor(here)));
            }
            return Ok(());
        }
        #[cfg(feature = "gpu")]
        if !t.narrow && (t.shared || t.from != DeviceName::Cpu) && env.on(t.value, t.to).is_none() {
            let from = match env.on(t.value, t.from) {
                Some(there) => Value::Tensor(there),
                None => self.operand(t.value, false, env)?,
            };
            let to = self.shared.processors.of(t.to)?;
            if let (Value::Tensor(from), Some(device)) = (from, to.device()) {
                env.insert_on(t.value, t.to, self.landings.land((t.value, t.to), &from, device)?);
            }
        }
        Ok(())
    }

    /// An output: of a nested graph it may stay on a device, but for single numbers, by which control flow may go.
    fn result(&self, v: Port, env: &Env) -> Result<Value> {
        let nested = !self.scope.is_empty();
        match env.anywhere(v).filter(|_| env.get(v).is_none()) {
            Some(t) if nested && !t.shape().is_empty() => Ok(Value::Tensor(t)),
            Some(t) => fetched(t).map(Value::Tensor),
            None => self.operand(v, false, env),
        }
    }

    /// Cuts what is left to do, of which the first is a segment that the compiler refused, in another way.
    fn refine(&self, why: Error, left: VecDeque<Todo>) -> Result<(VecDeque<Todo>, Arc<HashSet<Port>>)> {
        let mut plan = locked(&self.plan);
        let Some(Todo::Segment(first)) = left.front().filter(|_| segment::refused(&why)) else { return Err(why) };
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
        let mut known = segments(&plan.schedule.steps);
        let pieces = partition.pieces(&nodes, &plan.choices);
        let stay = transfer::staying(&pieces, &self.graph, nested);
        let now = todo(pieces, &known);
        known.extend(segments(&now));
        plan.schedule = Schedule::new(&partition, &self.graph, &plan.choices, &known, nested);
        Ok((now.into(), Arc::new(stay)))
    }

    /// The value that an operand has; `handle` asks for the variable itself.
    fn operand(&self, v: Port, handle: bool, env: &Env) -> Result<Value> {
        let node = self.graph.node(v.node);
        if let Some(value) = env.get(v).or_else(|| self.constants.get(&v).cloned()) {
            // A body may have got a reference where it says a tensor.
            let limits = self.shared.model()?.limits();
            let dtype = || self.graph.value_type(v, limits).ok().flatten();
            return match value {
                Value::Resource(Resource::Variable(name)) if !handle && dtype() != Some(DataType::Resource) => self.read(&name),
                v => Ok(v),
            };
        }
        if let Some(there) = env.anywhere(v) {
            return Ok(Value::Tensor(there));
        }
        if let Some(narrow) = env.narrow(v)
            && let Some(wide) = transfer::widened(&fetched(narrow)?)
        {
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
        match Shared::read(&self.shared, name)? {
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
        let here = |v| if let Value::Tensor(t) = v { fetched(t).map(Value::Tensor) } else { Ok(v) };
        let inputs = inputs.into_iter().map(here).collect::<Result<Vec<Value>>>()?;
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

impl Schedule {
    /// All that is to be done; `known` are segments that have code.
    fn new(partition: &Partition, graph: &RawGraph, choices: &Choices, known: &[Arc<Segment>], nested: bool) -> Schedule {
        let pieces = partition.pieces(&partition.nodes(), choices);
        let stay = Arc::new(transfer::staying(&pieces, graph, nested));
        let steps: Arc<[Todo]> = todo(pieces, known).into();
        let lanes = Lanes::of(graph, &steps).map(Arc::new);
        Schedule { steps, stay, lanes }
    }
}

impl Todo {
    /// Where it runs: a value is sent where it is made, and received where it goes.
    fn device(&self) -> DeviceName {
        match self {
            Todo::Segment(s) => s.device,
            Todo::Single(_) => DeviceName::Cpu,
            Todo::Send(t) => t.from,
            Todo::Recv(t) => t.to,
        }
    }
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
