//! Staged graphs as scripts, which objects hold and run without a compiler.

use super::{Staged, Todo, attrs, control, partition, segment};
use crate::callable::{Callable, Port, Wanted};
use crate::error::{Error, Result, StatusCode};
use crate::session::Session;
use crate::shared::Shared;
use crate::specialise::{self, Ahead};
use crate::view::View;
use graphc_frontend::{DataType, NodeId, Request, Value as Edge, variables};
use graphc_host::{Attr, Attrs, Function, StoredTensor, Value};
use graphc_ir::Tensor;
use graphc_stages::{Body, Given, Script, Source, Step, Unit};
use hashbrown::{HashMap, HashSet};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A compiled part that a script calls.
pub struct Part {
    pub name: String,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub variants: Vec<Ahead>,
    /// The same for GPUs, where that is wanted and there is code.
    pub on_gpus: Vec<Ahead>,
}

/// Writes the script of a model's functions.
pub struct Scripter {
    shared: Arc<Shared>,
    script: Script,
    parts: Vec<Part>,
    /// The number of the body of each graph that was met.
    bodies: HashMap<*const Staged, usize>,
    /// Variables that host functions refer to.
    variables: BTreeSet<String>,
    /// Paths of the model's assets, as its graph has them, and in the script.
    assets: HashMap<Vec<u8>, String>,
    /// Whether parts are for GPUs, too.
    gpus: bool,
}

/// How often a graph is cut anew before it is given up.
const MOST_CUTS: usize = 1000;

/// Runs of one example.
const MOST_REHEARSALS: usize = 4;

impl Scripter {
    /// A script for functions of a session, which begins with what the model does before anything else, where that runs in stages.
    ///
    /// # Errors
    /// If the model is not valid, or its initialisation cannot be compiled.
    pub fn new(session: &Session) -> Result<Scripter> {
        let shared = session.shared().clone();
        let path = |a: &graphc_frontend::Asset| {
            let file = a.path.file_name()?.to_str()?;
            Some((a.path.as_os_str().as_encoded_bytes().to_vec(), format!("assets/{file}")))
        };
        let assets = shared.model()?.assets().iter().filter_map(path).collect();
        let (script, parts, bodies, variables) = Default::default();
        let mut scripter = Scripter { shared, script, parts, bodies, variables, assets, gpus: false };
        if let Some(op) = scripter.shared.model()?.init_op() {
            let request = Request { targets: vec![op.to_owned()], ..Request::default() };
            match Callable::new(scripter.shared.clone(), Wanted::Request(request), None) {
                Ok(init) => scripter.script.initialise = scripter.function(&init)?,
                Err(e) if e.is_unsupported() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(scripter)
    }

    /// The number of the body of a function; None if it is compiled as a whole. What its parts must know of their inputs they know from
    /// the runs that were.
    ///
    /// # Errors
    /// If a part of the function cannot be compiled, or must know more than the runs have shown.
    pub fn function(&mut self, callable: &Callable) -> Result<Option<usize>> {
        let Some(staged) = callable.staged() else { return Ok(None) };
        let (bodies, functions, parts) = (self.script.bodies.len(), self.script.functions.len(), self.parts.len());
        let body = self.complete(staged);
        if body.is_err() {
            self.script.bodies.truncate(bodies);
            self.script.functions.truncate(functions);
            self.parts.truncate(parts);
            self.bodies.retain(|_, number| *number < bodies);
        }
        body.map(Some)
    }

    /// A body of which every run has what it comes by; branches that no run has taken may miss something.
    fn complete(&mut self, staged: &Staged) -> Result<usize> {
        let body = self.body(staged)?;
        match self.script.bodies.get(body).and_then(|b| b.steps.iter().find(|s| matches!(s, Step::Missing { .. }))) {
            Some(Step::Missing { why, .. }) => Err(Error::NeedsExample(why.clone())),
            _ => Ok(body),
        }
    }

    /// From now on parts are for GPUs, too.
    #[cfg(feature = "gpu")]
    pub fn for_gpus(&mut self) {
        self.gpus = true;
    }

    /// The parts so far, in the order of their numbers.
    pub fn parts_mut(&mut self) -> &mut [Part] {
        &mut self.parts
    }

    /// A part for GPUs; nothing where it stays on the CPU.
    fn on_gpus(&self, callable: &Callable) -> Vec<Ahead> {
        #[cfg(feature = "gpu")]
        if self.gpus {
            return callable.variants_ahead_on_gpus().unwrap_or_default();
        }
        let _ = (callable, self.gpus);
        Vec::new()
    }

    /// Whether anything runs in stages.
    pub fn has_bodies(&self) -> bool {
        !self.script.bodies.is_empty()
    }

    /// Runs a function that runs in stages until a run cuts nothing anew, so that every part that these feeds lead to is compiled for
    /// them.
    ///
    /// # Errors
    /// The first one of a run.
    pub fn rehearse(&self, callable: &Callable, feeds: &[View]) -> Result<()> {
        for _ in 0..MOST_REHEARSALS {
            let before = self.shared.cuts.load(Ordering::Relaxed);
            callable.run(feeds)?;
            if self.shared.cuts.load(Ordering::Relaxed) == before {
                break;
            }
        }
        Ok(())
    }

    /// The script, and the parts that it calls.
    ///
    /// # Errors
    /// If a file that belongs to the model cannot be read.
    pub fn finish(mut self) -> Result<(Script, Vec<Part>)> {
        let held: HashSet<&str> =
            self.parts.iter().flat_map(|p| &p.variants).flat_map(|v| &v.variables).map(|v| v.name.as_str()).collect();
        for name in self.variables.iter().filter(|n| !held.contains(n.as_str())) {
            if let Some(t) = self.shared.stored(name) {
                self.script.variables.insert(name.clone(), StoredTensor(t));
            }
        }
        drop(held);
        for asset in self.shared.model()?.assets() {
            let at = self.assets.get(asset.path.as_os_str().as_encoded_bytes());
            let Some(name) = at.filter(|_| !self.script.bodies.is_empty()) else { continue };
            let bytes = std::fs::read(&asset.path)
                .map_err(|e| Error::Compile(format!("cannot read the asset {}: {e}", asset.path.display())))?;
            self.script.files.insert(name.clone(), bytes);
        }
        Ok((self.script, self.parts))
    }

    fn body(&mut self, staged: &Staged) -> Result<usize> {
        if let Some(&known) = self.bodies.get(&std::ptr::from_ref(staged)) {
            return Ok(known);
        }
        // Known before it is written: it may call itself.
        let number = self.script.bodies.len();
        self.script.bodies.push(Body::default());
        self.bodies.insert(staged, number);
        match self.written(staged) {
            Ok(body) => self.script.bodies[number] = body,
            Err(e) => {
                self.bodies.remove(&std::ptr::from_ref(staged));
                return Err(e);
            }
        }
        Ok(number)
    }

    fn written(&mut self, staged: &Staged) -> Result<Body> {
        staged.settle()?;
        let mut writer = Writer { staged, places: HashMap::new(), constants: Vec::new() };
        let graph = &staged.graph;
        let inputs = graph.inputs.iter().map(|i| writer.place(Edge { node: i.node, port: 0 })).collect();
        let read: HashSet<Edge> =
            graph.nodes().flat_map(|(_, n)| n.inputs.iter().copied()).chain(graph.outputs.iter().map(|o| o.value)).collect();
        let todo = staged.steps();
        let mut steps = Vec::new();
        for step in todo.iter() {
            steps.extend(match step {
                Todo::Segment(s) => Some(self.segment(&mut writer, s)?),
                Todo::Single(id) => self.single(&mut writer, *id, &read)?,
                // Objects run on the CPU.
                Todo::Send(_) | Todo::Recv(_) => None,
            });
        }
        let outputs = graph.outputs.iter().map(|o| self.source(&mut writer, o.value, false)).collect();
        let Writer { places, constants, .. } = writer;
        let constants = constants.into_iter().map(|(at, t)| (at, StoredTensor(self.own_tensor(t)))).collect();
        Ok(Body { places: places.len(), inputs, constants, steps, outputs })
    }

    /// Where an operand comes from; see [`Staged::operand`].
    fn source(&mut self, w: &mut Writer, v: Edge, handle: bool) -> Source {
        let graph = &w.staged.graph;
        let node = graph.node(v.node);
        let fed = || graph.inputs.iter().any(|i| i.node == v.node);
        if let Some(name) = variables::name(node).filter(|_| !fed()) {
            self.variables.insert(name.clone());
            return if handle || node.op == "VarHandleOp" { Source::Handle(name) } else { Source::Variable(name) };
        }
        let known = w.places.contains_key(&v);
        let place = w.place(v);
        if let (false, Some(Value::Tensor(t))) = (known, w.staged.constants.get(&v)) {
            w.constants.push((place, t.clone()));
        }
        if handle || w.dtype(v) == Some(DataType::Resource) { Source::Place(place) } else { Source::Read(place) }
    }

    fn single(&mut self, w: &mut Writer, id: NodeId, read: &HashSet<Edge>) -> Result<Option<Step>> {
        let staged = w.staged;
        let node = staged.graph.node(id);
        let by_reference = super::by_reference(node);
        let inputs: Vec<Source> = node.inputs.iter().enumerate().map(|(k, &v)| self.source(w, v, by_reference(k))).collect();
        let mut ports: Vec<Edge> = read.iter().copied().filter(|v| v.node == id).collect();
        ports.sort_unstable();
        let outputs = ports.into_iter().map(|v| (v.port as usize, w.place(v))).collect();
        let name = format!("{}{}", staged.scope, node.name);
        if let Some(control) = control::of_node(node)? {
            let control = control.try_map(|f| self.body(&*staged.function(&f.name, &f.attr)?))?;
            return Ok(Some(Step::Control { node: name, control, inputs, outputs }));
        }
        if partition::host_function(node).is_some() {
            let attrs = attrs::of_node(node, self.shared.model()?.limits());
            self.callees(staged, &attrs);
            let of_strings = partition::of_strings(node);
            let attrs = Attrs(attrs.0.into_iter().map(|(name, a)| (name, self.own_attr(a))).collect());
            return Ok(Some(Step::Host { op: node.op.clone(), of_strings, node: name, attrs, inputs, outputs }));
        }
        Ok(match node.op.as_str() {
            "NoOp" => None,
            op if partition::forwards(op) => Some(Step::Forward { inputs, outputs }),
            op => Some(missing(StatusCode::Unimplemented, format!("node {name:?}: {op} has no host function"))),
        })
    }

    /// Takes the functions in a host function's attributes in. One that cannot be compiled is missed when it is called.
    fn callees(&mut self, staged: &Staged, attrs: &Attrs) {
        let mut left: Vec<&Attr> = attrs.0.values().collect();
        while let Some(a) = left.pop() {
            match a {
                Attr::List(l) => left.extend(l),
                Attr::Function(f) if !f.name.is_empty() => self.callee(staged, f),
                _ => {}
            }
        }
    }

    fn callee(&mut self, staged: &Staged, f: &Function) {
        if self.script.functions.iter().any(|(known, _)| known == f) {
            return;
        }
        let body = staged.function(&f.name, &attrs::of_function(f)).and_then(|s| self.body(&s));
        if let Ok(body) = body {
            self.script.functions.push((f.clone(), body));
        }
    }

    fn segment(&mut self, w: &mut Writer, segment: &segment::Segment) -> Result<Step> {
        let given = segment.cut.given.iter().map(|&v| self.source(w, v, false)).collect();
        let places = segment.cut.wanted.iter().map(|&v| w.place(v)).collect();
        let mut units = Vec::new();
        let compiled = segment.units();
        for unit in &compiled {
            let variants = unit.callable.variants_ahead()?;
            if variants.is_empty() {
                continue;
            }
            let of = |v: &Edge| match unit.bound.iter().find(|(b, _)| b == v) {
                Some((_, name)) => Given::Variable(name.to_string()),
                None => Given::Operand,
            };
            let known = segment.cut.given.iter().map(of).collect();
            let strings = unit.strings.iter().map(|s| self.own_string(s)).collect();
            units.push(Unit { given: known, part: self.parts.len(), strings, of_strings: unit.of_strings.clone() });
            self.parts.push(Part {
                name: format!("part{}", self.parts.len()),
                inputs: unit.callable.inputs().to_vec(),
                outputs: unit.callable.outputs().to_vec(),
                variants,
                on_gpus: self.on_gpus(&unit.callable),
            });
        }
        if let (true, Some((status, why))) = (units.is_empty(), segment.failure()) {
            return Ok(missing(status, why));
        }
        if units.is_empty() {
            let first = segment.cut.nodes.iter().find(|id| !w.staged.graph.node(**id).inputs.is_empty());
            let node = first.or(segment.cut.nodes.first()).map(|id| w.staged.graph.node(*id).name.as_str());
            let (scope, node) = (&w.staged.scope, node.unwrap_or_default());
            let why = format!(
                "the part around node \"{scope}{node}\" must know more to be compiled; give an example input that leads to it"
            );
            return Ok(missing(StatusCode::Unimplemented, why));
        }
        Ok(Step::Part { given, units, places })
    }

    /// Strings of the script in the place of those of the graph: an asset comes with the script, wherever it was.
    fn own_string(&self, s: &[u8]) -> Box<[u8]> {
        self.assets.get(s).map_or(s, String::as_bytes).into()
    }

    fn own_tensor(&self, t: Tensor) -> Tensor {
        let strings = t.strings().map(|s| s.iter().map(|s| self.own_string(s)).collect());
        strings.and_then(|s| Tensor::from_strings(t.shape(), s)).unwrap_or(t)
    }

    fn own_attr(&self, a: Attr) -> Attr {
        match a {
            Attr::Tensor(t) => Attr::Tensor(self.own_tensor(t)),
            Attr::Str(s) => Attr::Str(self.own_string(&s).into()),
            other => other,
        }
    }
}

fn missing(status: StatusCode, why: String) -> Step {
    Step::Missing { status: status.code(), why }
}

/// What is known of one body.
struct Writer<'s> {
    staged: &'s Staged,
    places: HashMap<Edge, usize>,
    /// Constants that steps read, by place.
    constants: Vec<(usize, Tensor)>,
}

impl Writer<'_> {
    fn place(&mut self, v: Edge) -> usize {
        let next = self.places.len();
        *self.places.entry(v).or_insert(next)
    }

    fn dtype(&self, v: Edge) -> Option<DataType> {
        let limits = self.staged.shared.model().ok()?.limits();
        self.staged.graph.value_type(v, limits).ok().flatten()
    }
}

impl Staged {
    /// Compiles what no run has compiled yet, as far as that can be done without values, and cuts the graph anew where the compiler
    /// refuses a segment.
    ///
    /// # Errors
    /// If the graph cannot be cut in another way.
    fn settle(&self) -> Result<()> {
        for _ in 0..MOST_CUTS {
            let steps = self.steps();
            let mut refused = None;
            for t in steps.iter() {
                let Todo::Segment(s) = t else { continue };
                if !s.units().is_empty() {
                    continue;
                }
                match s.compile_ahead(self) {
                    Ok(()) => {}
                    Err(e) if segment::refused(&e) => {
                        refused = Some((e, s.clone()));
                        break;
                    }
                    // It must know more.
                    Err(e) if specialise::needs_feeds(&e) => {}
                    // It fails when it runs: a branch that breaks a rule may be one that no run takes.
                    Err(e) => s.fail(&e),
                }
            }
            match refused {
                Some((e, s)) => drop(self.refine(e, VecDeque::from([Todo::Segment(s)]))?),
                None => break,
            }
        }
        Ok(())
    }
}
