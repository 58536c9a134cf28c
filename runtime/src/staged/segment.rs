//! Parts of a graph that are compiled.

use super::{Choices, Engine, Env, Run, Staged, failed, locked, partition, transfer};
use crate::callable::Callable;
use crate::device::DeviceName;
use crate::error::{Error, Result, StatusCode};
use crate::program::RunOptions;
use crate::resident::fetched;
use crate::specialise::{Source, Spec};
use crate::view::View;
use graphc_frontend::legalise::LegaliseError;
use graphc_frontend::{Cut, DataType, NodeId, RawGraph, Value as Port, variables};
use graphc_host::{HostError, Resource, StringHandles, Value};
use graphc_ir::Tensor;
use hashbrown::HashSet;
use std::sync::{Arc, Mutex};

/// A part, and its code for each set of variables that handles from outside were seen to stand for.
pub struct Segment {
    pub cut: Cut,
    pub device: DeviceName,
    units: Mutex<Vec<Arc<Unit>>>,
    /// How the last run failed.
    failure: Mutex<Option<(StatusCode, String)>>,
}

/// The code of a part.
pub struct Unit {
    /// The variable of each value given that is a handle.
    pub bound: Vec<(Port, Arc<str>)>,
    given: Vec<Port>,
    pub callable: Callable,
    pub strings: Vec<Box<[u8]>>,
    /// Which outputs are handles to strings.
    pub of_strings: Vec<bool>,
}

impl Segment {
    pub fn new(cut: Cut, device: DeviceName) -> Segment {
        Segment { cut, device, units: Mutex::default(), failure: Mutex::default() }
    }

    /// Computes the part's values into the environment.
    ///
    /// # Errors
    /// If the part cannot be compiled ([`refused`]), or a node fails.
    pub fn run(&self, of: &Staged, env: &Env, stay: &HashSet<Port>, run: Run) -> Result<()> {
        let unit = self.unit(of, env)?;
        let on_gpu = self.device != DeviceName::Cpu && run.engine == Engine::Compiled;
        let mut strings = StringHandles::new(&unit.strings);
        let own = |e: HostError| failed("", e.status, e.message);
        let mut feeds: Vec<Tensor> = Vec::with_capacity(unit.given.len());
        for v in &unit.given {
            if self.cut.narrow.contains(v) {
                let whole = || match of.operand(*v, false, env) {
                    Ok(Value::Tensor(t)) => transfer::narrowed(&t),
                    _ => None,
                };
                let lost = || Error::Unsupported(format!("{} has not arrived", of.graph.value_name(*v)));
                feeds.push(env.narrow(*v).or_else(whole).ok_or_else(lost)?);
                continue;
            }
            if let Some(there) = env.on(*v, self.device).filter(|_| on_gpu) {
                feeds.push(there);
                continue;
            }
            match of.operand(*v, false, env) {
                Ok(Value::Tensor(t)) if on_gpu => feeds.push(strings.numbers(&t).map_err(own)?),
                Ok(Value::Tensor(t)) => feeds.push(strings.numbers(&fetched(t)?).map_err(own)?),
                Err(e) => return Err(e),
                _ => return Err(Error::Unsupported(format!("{} is no tensor where code needs one", of.graph.value_name(*v)))),
            }
        }
        let outputs = match run.engine {
            Engine::Interpreter => unit.callable.interpret(&feeds)?,
            Engine::Compiled => {
                let views: Vec<View> = feeds.iter().filter_map(|t| View::try_from(t).ok()).collect();
                let stays = |v: &Port| on_gpu && stay.contains(v) && !self.cut.narrow.contains(v);
                let stay: Vec<bool> = self.cut.wanted.iter().map(stays).collect();
                let mut options = RunOptions { cancel: run.step.cancel, ..RunOptions::default() };
                unit.callable.run_leaving(&views, &stay, &mut options).inspect_err(|e| self.fail(e))?
            }
        };
        for ((v, t), &of_strings) in self.cut.wanted.iter().zip(outputs).zip(&unit.of_strings) {
            if self.cut.narrow.contains(v) {
                env.insert_narrow(*v, t);
            } else if t.is_elsewhere() {
                env.insert_on(*v, self.device, t);
            } else {
                env.insert(*v, Value::Tensor(if of_strings { strings.strings(&t).map_err(own)? } else { t }));
            }
        }
        Ok(())
    }

    /// Whether it is cut so.
    pub fn is_of(&self, cut: &Cut, device: DeviceName) -> bool {
        let own = &self.cut;
        self.device == device
            && own.nodes == cut.nodes
            && own.given == cut.given
            && own.wanted == cut.wanted
            && own.targets == cut.targets
            && own.narrow == cut.narrow
    }

    /// Notes how the part fails.
    pub fn fail(&self, e: &Error) {
        *locked(&self.failure) = StatusCode::from_code(e.status()).map(|s| (s, e.to_string()));
    }

    /// How the last run that failed did: for a part that fails whatever it is given, before there is code.
    pub fn failure(&self) -> Option<(StatusCode, String)> {
        locked(&self.failure).clone()
    }

    /// The code so far.
    pub fn units(&self) -> Vec<Arc<Unit>> {
        locked(&self.units).clone()
    }

    /// Compiles the part for operands of which none is a handle to a variable.
    ///
    /// # Errors
    /// If it cannot be compiled.
    pub fn compile_ahead(&self, of: &Staged) -> Result<()> {
        self.unit(of, &Env::default()).map(drop)
    }

    fn unit(&self, of: &Staged, env: &Env) -> Result<Arc<Unit>> {
        let mut bound = Vec::new();
        for v in &self.cut.given {
            if let Some(Value::Resource(Resource::Variable(name))) = env.get(*v) {
                bound.push((*v, name));
            }
        }
        if let Some(u) = locked(&self.units).iter().find(|u| u.bound == bound) {
            return Ok(u.clone());
        }
        let unit = Arc::new(self.compile(of, bound)?);
        locked(&self.units).push(unit.clone());
        Ok(unit)
    }

    fn compile(&self, of: &Staged, bound: Vec<(Port, Arc<str>)>) -> Result<Unit> {
        let limits = of.shared.model()?.limits();
        let mut cut = self.cut.clone();
        for (v, name) in &bound {
            let node = locked(&of.shared.variable_nodes).get(&**name).cloned();
            let mut node = node.ok_or_else(|| Error::Compile(format!("no node stands for the variable {name:?}")))?;
            variables::share(&mut node, name);
            cut.bound.push((*v, node));
        }
        cut.given.retain(|v| !bound.iter().any(|(b, _)| b == v));
        let part = of.graph.part(&cut, limits)?;
        let is_string = |v: &Port| of.graph.value_type(*v, limits).ok().flatten() == Some(DataType::String);
        let of_strings = cut.wanted.iter().map(is_string).collect();
        let name = if of.scope.is_empty() { "main" } else { of.scope.trim_end_matches('/') };
        let spec = Spec::of(name, &part.graph, of.state.clone());
        let callable = Callable::compiled(of.shared.clone(), Source { graph: part.graph, spec, device: self.device })?;
        let strings = part.strings.iter().map(|s| s.to_vec().into_boxed_slice()).collect();
        Ok(Unit { bound, given: cut.given, callable, strings, of_strings })
    }
}

/// Whether an error says that the compiler does not take a segment as it is cut.
pub fn refused(e: &Error) -> bool {
    e.is_unsupported() || matches!(e, Error::NoKernel { .. })
}

/// Changes the choices so that what the compiler refused is not asked for again; false if nothing is left to change.
pub fn blame(why: &Error, graph: &RawGraph, cut: &Cut, choices: &mut Choices) -> bool {
    if let Error::NoKernel { nodes, .. } = why {
        return off_the_gpu(graph, &cut.nodes, nodes, choices);
    }
    let Error::Graph { error, .. } = why else {
        // A whole segment failed: control flow goes first, then whatever has a host function.
        let control = |id: &NodeId| partition::calls(&graph.node(*id).op);
        return set_apart(cut, choices, control) || alone(graph, cut, choices);
    };
    let named: Vec<&str> = match error {
        LegaliseError::Unsupported(ops) => ops.iter().flat_map(|o| o.nodes.iter().map(String::as_str)).collect(),
        e => e.node().into_iter().collect(),
    };
    let node = |id: &NodeId| graph.node(*id);
    let mut changed = false;
    for id in cut.nodes.iter().filter(|id| named.contains(&node(id).name.as_str())) {
        if variables::name(node(id)).is_some() {
            continue;
        }
        changed |= if partition::runs_alone(node(id)) { choices.single.insert(*id) } else { choices.apart.insert(*id) };
    }
    if changed {
        return true;
    }
    // A node within a function, or a variable that code cannot hold: what calls or uses it runs alone.
    for id in &cut.nodes {
        let n = node(id);
        let of_variable = n.inputs.iter().any(|v| {
            let name = graph.node(v.node).name.as_str();
            named.iter().any(|&b| b == name || b == format!("{name}/value_{}", v.port))
        });
        if (partition::calls(&n.op) || of_variable) && partition::runs_alone(n) {
            changed |= choices.single.insert(*id);
        }
    }
    changed || alone(graph, cut, choices)
}

/// Leaves nodes that GPUs have no kernel for to the CPU; false if all are there. One that is not found is in a function: what calls
/// functions goes, or else all of `nodes`.
pub fn off_the_gpu(graph: &RawGraph, nodes: &[NodeId], named: &[String], choices: &mut Choices) -> bool {
    let before = choices.on_cpu.len();
    let name = |id: &NodeId| graph.node(*id).name.as_str();
    let found = nodes.iter().filter(|id| named.iter().any(|n| n == name(id)));
    choices.on_cpu.extend(found.filter(|id| graph.node(**id).op != "Const" && variables::name(graph.node(**id)).is_none()));
    if choices.on_cpu.len() - before < named.len() {
        choices.on_cpu.extend(nodes.iter().filter(|id| partition::calls(&graph.node(**id).op)));
    }
    if choices.on_cpu.len() == before {
        choices.on_cpu.extend(nodes);
    }
    choices.on_cpu.len() > before
}

/// Where a segment fails as a whole, those of its nodes that have a host function run one by one.
fn alone(graph: &RawGraph, cut: &Cut, choices: &mut Choices) -> bool {
    set_apart(cut, choices, |id| partition::host_function(graph.node(*id)).is_some())
}

/// Makes some nodes run one by one; false if all did already.
fn set_apart(cut: &Cut, choices: &mut Choices, which: impl Fn(&NodeId) -> bool) -> bool {
    let before = choices.single.len();
    choices.single.extend(cut.nodes.iter().copied().filter(which));
    choices.single.len() > before
}
