//! From a graph to a program: what feeds leave open stays symbolic, and what the graph must know is taken from the feeds of a run.

use crate::callable::Port;
use crate::device::DeviceName;
use crate::error::{Error, Result};
use crate::processor::{Engine, Processor};
use crate::program::Program;
use crate::shared::Shared;
use crate::staged::partition;
use crate::state::{VarPointers, VarUses};
use crate::view::View;
use graphc_cpu::EmitOptions;
use graphc_frontend::legalise::{self, Feed, Guard, LegaliseError, Legalised, elem_of};
use graphc_frontend::{DataType, GraphOutput, Limits, Model, NodeId, RawGraph, Value};
use graphc_ir::{Dim, Elem, Module, Op, Sym, Tensor, TfStatus, Var};
use graphc_passes::pass::PassCx;
use graphc_passes::pipeline;
use graphc_passes::plan::Plan;
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::sync::PoisonError;

/// What is known of the feeds before a run.
pub type Spec = legalise::Request;

/// A graph, and what is known of its feeds.
pub struct Source {
    pub graph: RawGraph,
    pub spec: Spec,
    /// What it is compiled for.
    pub device: DeviceName,
}

/// How often a graph may ask to know more before it is given up.
const ATTEMPTS: usize = 64;

/// What the graph itself declares.
///
/// # Errors
/// If the graph breaks a rule.
pub fn declared(shared: &Shared, graph: &RawGraph) -> Result<Spec> {
    let name = if graph.name.is_empty() { "main" } else { &graph.name };
    let mut state = shared.model()?.assigned_variables(graph)?;
    state.extend(shared.state_variables()?.iter().cloned());
    Ok(Spec::of(name, graph, state))
}

/// The variables that a run of the model may change: those that a signature assigns, and those that have no stored value and that
/// anything assigns. (Restoring assigns all others; that was done when the model was loaded.)
pub fn state_of(model: &Model) -> BTreeSet<String> {
    let mut state: BTreeSet<String> = model.signatures().flat_map(|s| model.assigned_by(&s.request())).collect();
    let unstored: BTreeSet<&str> = model.variables().iter().filter(|v| v.stored.is_none()).map(|v| v.name.as_str()).collect();
    if !unstored.is_empty() {
        let assigned = model.assigned_variables(model.graph()).unwrap_or_default();
        state.extend(assigned.into_iter().filter(|name| unstored.contains(name.as_str())));
    }
    state
}

pub fn input_ports(spec: &Spec) -> Vec<Port> {
    spec.feeds.iter().map(|f| Port { name: f.name.clone(), elem: f.elem, shape: f.shape.clone() }).collect()
}

pub fn output_ports(graph: &RawGraph) -> Vec<Port> {
    let port = |o: &graphc_frontend::GraphOutput| {
        let elem = o.dtype.and_then(elem_of).unwrap_or(Elem::Variant);
        Port { name: o.name.clone(), elem, shape: None }
    };
    graph.outputs.iter().map(port).collect()
}

/// True if the graph can be compiled once feeds are there.
pub fn needs_feeds(e: &Error) -> bool {
    let open = |e: &LegaliseError| {
        matches!(e, LegaliseError::NeedsRank { .. } | LegaliseError::NeedsValue { .. } | LegaliseError::NeedsShape { .. })
    };
    match e {
        Error::Graph { error, .. } => open(error),
        e => matches!(e, Error::NeedsExample(_)),
    }
}

/// Makes what targets wait for outputs, where it has no effect: TensorFlow runs it, and what fails in it fails the run.
pub fn compute_targets(graph: &mut RawGraph, limits: &Limits) {
    let mut seen: BTreeSet<NodeId> = graph.outputs.iter().map(|o| o.value.node).collect();
    let mut left = graph.targets.clone();
    while let Some(id) = left.pop() {
        let node = graph.node(id);
        if !seen.insert(id) || node.has_effect() {
            continue;
        }
        if node.op == "NoOp" {
            left.extend(&node.controls);
            continue;
        }
        let value = Value { node: id, port: 0 };
        let dtype = graph.value_type(value, limits).ok().flatten();
        let handle = |d| matches!(d, DataType::Resource | DataType::Variant);
        if dtype.is_some_and(|d| !handle(d)) && !matches!(node.op.as_str(), "Const" | "Placeholder") {
            graph.outputs.push(GraphOutput { name: node.name.clone(), value, dtype, shape: None });
        }
    }
}

/// The node of the graph that an error is about.
pub fn blamed(graph: &RawGraph, e: &Error) -> Option<NodeId> {
    let Error::Graph { error, .. } = e else { return None };
    graph.find(error.node()?)
}

/// True if a node asks for values that only a run has, and there is a host function that takes them as they come. The length of a list is
/// compiled in all the same: a list on the host would take the loop that fills it along.
pub fn asks_for_host(graph: &RawGraph, e: &Error) -> bool {
    let hosted = |id| {
        let node = graph.node(id);
        !node.op.starts_with("TensorList") && partition::host_function(node).is_some()
    };
    matches!(e, Error::Graph { error: LegaliseError::NeedsValue { .. }, .. }) && blamed(graph, e).is_some_and(hosted)
}

/// Checks types, ranks and constant dimensions of feeds against what the graph declares.
///
/// # Errors
/// The first feed that does not fit.
pub fn check_feeds(ports: &[Port], feeds: &[View]) -> Result<()> {
    for (port, view) in ports.iter().zip(feeds) {
        let fits = |dims: &[Dim]| {
            dims.len() == view.shape().len()
                && dims.iter().zip(view.shape()).all(|(d, &n)| d.as_const().is_none_or(|c| c == n as i64))
        };
        if view.shape().iter().any(|&n| i64::try_from(n).is_err()) {
            return Err(Error::Feed {
                name: port.name.clone(),
                message: format!("{:?} has a dimension that is too large", view.shape()),
            });
        }
        if port.elem != view.elem() || port.shape.as_deref().is_some_and(|s| !fits(s)) {
            let want = port.shape.as_ref().map_or("[…]".to_owned(), |s| format!("{s:?}"));
            let message = format!("{}{:?} was given where the graph has {}{want}", view.elem(), view.shape(), port.elem);
            return Err(Error::Feed { name: port.name.clone(), message });
        }
    }
    Ok(())
}

/// Values of the symbols in `spec` for these feeds; the symbols that two feeds disagree on come second.
fn bind(spec: &Spec, feeds: &[View]) -> (HashMap<Sym, i64>, Vec<Sym>) {
    let (mut values, mut torn) = (HashMap::new(), Vec::new());
    for (f, v) in spec.feeds.iter().zip(feeds) {
        for (d, &n) in f.shape.iter().flatten().zip(v.shape()) {
            if let Some(s) = d.as_sym()
                && *values.entry(s.clone()).or_insert(n as i64) != n as i64
            {
                torn.push(s.clone());
            }
        }
    }
    (values, torn)
}

/// Puts the sizes that are fed in the place of dimensions for which `replace` is true.
fn fix_dims(spec: &mut Spec, feeds: &[View], replace: &dyn Fn(&Dim) -> bool) {
    for (f, v) in spec.feeds.iter_mut().zip(feeds) {
        for (d, &n) in f.shape.iter_mut().flatten().zip(v.shape()) {
            if replace(d) {
                *d = Dim::from(n);
            }
        }
    }
}

fn mentions(d: &Dim, syms: &[Sym]) -> bool {
    let mut found = false;
    d.for_each_sym(&mut |s| found |= syms.contains(s));
    found
}

/// Whether shapes of the spec fit the feeds for some values of the symbols.
fn takes(legalised: &[Feed], feeds: &[View]) -> bool {
    let spec = Spec { feeds: legalised.to_vec(), ..Spec::default() };
    let (values, torn) = bind(&spec, feeds);
    let of = |s: &Sym| values.get(s).copied();
    torn.is_empty()
        && legalised
            .iter()
            .zip(feeds)
            .all(|(f, v)| f.shape.iter().flatten().zip(v.shape()).all(|(d, &n)| d.eval(&of) == Some(n as i64)))
}

/// Legalises for all that the spec leaves open, or, with feeds, for a class of feeds that these belong to.
///
/// # Errors
/// If the graph is not supported or breaks a rule; without feeds, also if it must know more.
pub fn legalise(model: &Model, source: &Source, feeds: Option<&[View]>) -> Result<Legalised> {
    let (graph, mut spec) = (&source.graph, source.spec.clone());
    if let Some(feeds) = feeds {
        let (_, torn) = bind(&spec, feeds);
        fix_dims(&mut spec, feeds, &|d| mentions(d, &torn));
    }
    for _ in 0..ATTEMPTS {
        match (legalise::legalise_with_assumptions(model, graph, &spec), feeds) {
            (Ok(l), Some(feeds)) if !takes(&l.feeds, feeds) => {
                // An assumption does not hold for these feeds: what it is about becomes what is fed.
                let (values, _) = bind(&spec, feeds);
                let of = |s: &Sym| values.get(s).copied();
                let holds = |g: &Guard| of(&g.sym).is_some_and(|n| g.dim.eval(&of) == Some(n));
                let (_, broken): (Vec<&Guard>, Vec<&Guard>) = l.guards.iter().partition(|g| holds(g));
                let about = if broken.is_empty() { l.guards.iter().collect() } else { broken };
                let mut syms: Vec<Sym> = about.iter().map(|g| g.sym.clone()).collect();
                about.iter().for_each(|g| g.dim.for_each_sym(&mut |s| syms.push(s.clone())));
                fix_dims(&mut spec, feeds, &|d| mentions(d, &syms));
            }
            (Ok(l), _) => return Ok(l),
            (Err(LegaliseError::NeedsRank { feeds: which }), Some(feeds)) => {
                for k in which {
                    if let (Some(f), Some(v)) = (spec.feeds.get_mut(k), feeds.get(k)) {
                        f.shape = Some((0..v.shape().len()).map(|axis| Dim::sym(Sym::new(&format!("in{k}_{axis}")))).collect());
                    }
                }
            }
            (Err(LegaliseError::NeedsValue { feeds: which, node }), Some(feeds)) => {
                let error = Error::Graph {
                    file: model.file().to_path_buf(),
                    error: LegaliseError::NeedsValue { feeds: which.clone(), node },
                };
                if asks_for_host(graph, &error) {
                    return Err(error);
                }
                for k in which {
                    if let (Some(f), Some(v)) = (spec.feeds.get_mut(k), feeds.get(k)) {
                        f.value = v.to_tensor();
                        f.shape = Some(v.shape().iter().map(|&n| Dim::from(n)).collect());
                    }
                }
            }
            (Err(LegaliseError::NeedsShape { syms, .. }), Some(feeds)) => fix_dims(&mut spec, feeds, &|d| mentions(d, &syms)),
            (Err(error), _) => return Err(Error::Graph { file: model.file().to_path_buf(), error }),
        }
    }
    Err(Error::Compile("the graph keeps asking for more than its feeds tell".into()))
}

/// How a module uses its variables.
fn variable_uses(l: &Legalised) -> VarUses {
    let mut uses = VarUses {
        read_first: l.reads.iter().map(|(v, status)| (v.index(), *status)).collect(),
        maybe: l.maybe.iter().map(|v| v.index()).collect(),
        assigned: Vec::new(),
    };
    for f in &l.module.funcs {
        f.walk(f.body, &mut |f, _, i| {
            let inst = f.inst(i);
            if let (Op::VarAssign, Some(var)) = (inst.op, inst.attrs.var("var")) {
                uses.assigned.push(var.index());
            }
        });
    }
    uses
}

/// What a plan is good for.
pub struct Planned {
    pub plan: Plan,
    /// What is known of each feed; one whose value was compiled in is no input of the plan.
    known: Vec<Feed>,
    vars: VarPointers,
}

/// A plan that is not bound to a session's state, and what it is good for.
pub struct Ahead {
    pub plan: Plan,
    /// For each input of the plan, the index of its feed.
    pub feed_of: Vec<usize>,
    /// Feeds whose values were compiled in, by index.
    pub baked: Vec<(usize, Tensor)>,
    /// The variables of the plan, in its order.
    pub variables: Vec<Var>,
    pub uses: VarUses,
    /// For each step of the plan, TensorFlow's status where it divides an integer by zero.
    pub zero_status: Vec<TfStatus>,
    known: Vec<Feed>,
}

impl Ahead {
    /// What `make` gives for all that a signature leaves open, and, where the graph must know more or assumes what does not hold for one
    /// of the examples, for that.
    ///
    /// # Errors
    /// The first of `make`; if the graph must know more and there is no example, that.
    pub fn of_all(examples: &[Vec<View>], make: &mut dyn FnMut(Option<&[View]>) -> Result<Ahead>) -> Result<Vec<Ahead>> {
        let mut all = Vec::new();
        match make(None) {
            Ok(a) => all.push(a),
            Err(e) if needs_feeds(&e) && !examples.is_empty() => {}
            Err(e) => return Err(e),
        }
        for feeds in examples {
            if !all.iter().any(|a| a.takes(feeds)) {
                all.push(make(Some(feeds))?);
            }
        }
        Ok(all)
    }

    /// Whether the code will take these feeds.
    pub fn takes(&self, feeds: &[View]) -> bool {
        let same = |(k, t): &(usize, Tensor)| feeds.get(*k).is_some_and(|v| v.shape() == t.shape() && v.bytes() == t.bytes());
        takes(&self.known, feeds) && self.baked.iter().all(same)
    }
}

/// TensorFlow's status where a node divides an integer by zero: only its truncating divisions make it an error of their own.
pub fn zero_status(graph: &RawGraph, node: &str) -> TfStatus {
    match graph.find(node).map(|id| graph.node(id).op.as_str()) {
        Some("TruncateDiv" | "TruncateMod") => TfStatus::Internal,
        _ => TfStatus::InvalidArgument,
    }
}

/// Legalises, optimises and plans, for an object.
///
/// # Errors
/// As [`plan`].
pub fn plan_ahead(shared: &Shared, source: &Source, feeds: Option<&[View]>, processor: &Processor) -> Result<Ahead> {
    ahead(source, lowered(shared, legalise(shared.model()?, source, feeds)?, processor)?)
}

/// Plans once more what a program was compiled for.
///
/// # Errors
/// As [`plan`].
pub fn plan_again(shared: &Shared, source: &Source, known: &[Feed], processor: &Processor) -> Result<Ahead> {
    let model = shared.model()?;
    let spec = Spec { feeds: known.to_vec(), ..source.spec.clone() };
    let legalised = legalise::legalise_with_assumptions(model, &source.graph, &spec)
        .map_err(|error| Error::Graph { file: model.file().to_path_buf(), error })?;
    ahead(source, lowered(shared, legalised, processor)?)
}

type Lowered = (Plan, Vec<Feed>, Module, VarUses);

fn ahead(source: &Source, (plan, known, module, uses): Lowered) -> Result<Ahead> {
    let zero_status = plan.steps.iter().map(|s| zero_status(&source.graph, s.loc.name())).collect();
    let (baked, feed_of) = split(&known);
    Ok(Ahead { plan, feed_of, baked, variables: module.vars, uses, zero_status, known })
}

/// Legalises, optimises and plans.
///
/// # Errors
/// As [`legalise`], and if the backend has no code for an operation.
pub fn plan(shared: &Shared, source: &Source, feeds: Option<&[View]>) -> Result<Planned> {
    let processor = shared.processors.of(source.device)?;
    let (plan, known, module, uses) = lowered(shared, legalise(shared.model()?, source, feeds)?, &processor)?;
    let vars = VarPointers::new(&module.vars, &shared.variables, uses);
    let vars = vars.ok_or_else(|| Error::Compile("a variable has no constant shape".into()))?;
    Ok(Planned { plan, known, vars })
}

fn lowered(shared: &Shared, legalised: Legalised, processor: &Processor) -> Result<Lowered> {
    let uses = variable_uses(&legalised);
    let Legalised { mut module, feeds: known, .. } = legalised;
    pipeline::run(
        &mut module,
        &pipeline::standard(),
        &PassCx { target: processor.target(), precision: shared.precision },
        &mut pipeline::Unobserved,
    )
    .map_err(failed)?;
    let name = module.funcs.first().map(|f| f.name.clone()).unwrap_or_default();
    let plan = processor.plan(&module, &name)?;
    *shared.integer_launches.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(0) += plan.integer_launches();
    Ok((plan, known, module, uses))
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::Compile(e.to_string())
}

/// Plans and compiles.
///
/// # Errors
/// As [`plan`], and if code generation fails.
pub fn compile(shared: &Shared, source: &Source, feeds: Option<&[View]>) -> Result<Program> {
    let planned = plan(shared, source, feeds)?;
    let compiled = shared.processors.of(source.device)?.compile(planned.plan, shared.pool.threads())?;
    Ok(Program::new(compiled, planned.known, planned.vars))
}

/// As [`compile`], with the object to keep the program by.
///
/// # Errors
/// As [`compile`].
pub fn compile_kept(shared: &Shared, source: &Source, feeds: Option<&[View]>) -> Result<(Program, Vec<u8>)> {
    let planned = plan(shared, source, feeds)?;
    let kept = graphc_cpu::compile_kept(planned.plan, shared.pool.threads(), &EmitOptions::default());
    let (compiled, object) = kept.map_err(failed)?;
    let engine = Engine::Cpu { code: compiled.code, weights: compiled.weights };
    Ok((Program::new((compiled.plan, engine), planned.known, planned.vars), object))
}

/// The feeds whose values were compiled in, and for each input of the code the index of its feed.
pub fn split(known: &[Feed]) -> (Vec<(usize, Tensor)>, Vec<usize>) {
    let mut baked = Vec::new();
    let mut feed_of = Vec::new();
    for (k, f) in known.iter().enumerate() {
        match &f.value {
            Some(t) => baked.push((k, t.clone())),
            None => feed_of.push(k),
        }
    }
    (baked, feed_of)
}
