//! Functions of a session: from given feeds to wanted fetches.

use crate::cache::{Entry, Kept};
use crate::device::DeviceName;
use crate::error::{Error, Result, StatusCode};
use crate::processor::Processor;
use crate::program::{Mismatch, Program, RunOptions};
use crate::shared::Shared;
use crate::specialise::{self, Ahead, Source};
use crate::staged::print::{self, View as Printed};
use crate::staged::{self, Choices, Engine, Staged, partition};
use crate::view::View;
use graphc_abi::Status;
use graphc_frontend::{Model, RawGraph, Request};
use graphc_ir::interp::Interp;
use graphc_ir::{Dim, Elem, Module, Tensor};
use graphc_passes::plan::Plan;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// An input or output of a [`Callable`].
#[derive(Clone, Debug)]
pub struct Port {
    pub name: String,
    pub elem: Elem,
    /// `None` where the graph leaves the rank open.
    pub shape: Option<Vec<Dim>>,
}

/// One function of a session: given feeds, wanted fetches. Compiled for all sizes that its signature leaves open, and again where the
/// graph makes another rank or an assumption of the compiled code necessary.
pub struct Callable {
    shared: Arc<Shared>,
    wanted: Wanted,
    /// The graph, once something must be compiled.
    source: OnceLock<Source>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    variants: RwLock<Vec<Arc<Program>>>,
    /// Set once it is clear that the graph cannot be compiled as a whole.
    staged: OnceLock<Staged>,
    /// Whether it must be.
    whole: bool,
    /// Where programs are kept.
    place: Option<Entry>,
}

/// What a function is made from.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A signature by name, or the default one.
    Signature(Option<String>),
    Request(Request),
}

impl Wanted {
    pub(crate) fn request(&self, model: &Model) -> Result<Request> {
        Ok(match self {
            Wanted::Request(r) => r.clone(),
            Wanted::Signature(Some(name)) => model.signature(name)?.request(),
            Wanted::Signature(None) => match model.default_signature() {
                Some(s) => s.request(),
                None if model.signatures().next().is_none() => ends(model.graph()),
                None => model.signature("serving_default")?.request(),
            },
        })
    }
}

/// From every placeholder of a graph to every tensor that nothing reads.
fn ends(graph: &RawGraph) -> Request {
    let mut read = vec![false; graph.len()];
    graph.nodes().flat_map(|(_, n)| &n.inputs).for_each(|v| read[v.node.index()] = true);
    let (mut feeds, mut fetches) = (Vec::new(), Vec::new());
    for (id, node) in graph.nodes() {
        match node.op.as_str() {
            "Placeholder" | "PlaceholderV2" => feeds.push(format!("{}:0", node.name)),
            "NoOp" | "Const" | "Assert" | "VarHandleOp" | "PlaceholderWithDefault" => {}
            _ if read[id.index()] || node.def.as_ref().is_some_and(|d| d.output_arg.is_empty()) => {}
            _ => fetches.push(format!("{}:0", node.name)),
        }
    }
    Request::new(feeds, fetches)
}

impl Callable {
    /// The function that is wanted: from the cache if it is there, else compiled now.
    ///
    /// # Errors
    /// If the model is not valid, has no such signature or tensors, or cannot be compiled.
    pub(crate) fn open(shared: Arc<Shared>, wanted: Wanted, place: Option<Entry>) -> Result<Callable> {
        if let Some(Kept { inputs, outputs, programs }) = place.as_ref().and_then(Entry::load) {
            let variants = RwLock::new(programs.into_iter().map(Arc::new).collect());
            let source = OnceLock::new();
            return Ok(Callable {
                shared,
                wanted,
                source,
                inputs,
                outputs,
                variants,
                staged: OnceLock::new(),
                whole: false,
                place,
            });
        }
        shared.initialise()?;
        Callable::new(shared, wanted, place)
    }

    pub(crate) fn new(shared: Arc<Shared>, wanted: Wanted, place: Option<Entry>) -> Result<Callable> {
        let (source, outputs) = Callable::resolve(&shared, &wanted)?;
        let device = staged::one_device(&shared, &source.graph)?;
        let split = device.is_none();
        let source = Source { device: device.unwrap_or_default(), ..source };
        let callable = Callable { wanted, place, outputs, ..Callable::of(shared, source) };
        if split || partition::needs_stages(callable.shared.model()?, &callable.source()?.graph) {
            callable.stage(Choices::default())?;
            return Ok(callable);
        }
        callable.compile_ahead()?;
        Ok(callable)
    }

    /// The graph of what is wanted, for the CPU, with the outputs that are asked for; the graph may have more, for its targets.
    fn resolve(shared: &Shared, wanted: &Wanted) -> Result<(Source, Vec<Port>)> {
        let model = shared.model()?;
        let mut graph = model.checked_run_graph(&wanted.request(model)?)?;
        let outputs = specialise::output_ports(&graph);
        specialise::compute_targets(&mut graph, model.limits());
        let spec = specialise::declared(shared, &graph)?;
        Ok((Source { graph, spec, device: DeviceName::Cpu }, outputs))
    }

    /// A graph that has to be compiled as a whole.
    ///
    /// # Errors
    /// If it cannot be, whatever is fed.
    pub(crate) fn compiled(shared: Arc<Shared>, source: Source) -> Result<Callable> {
        let mut callable = Callable::of(shared, source);
        callable.whole = true;
        callable.compile_ahead()?;
        Ok(callable)
    }

    fn of(shared: Arc<Shared>, source: Source) -> Callable {
        Callable {
            shared,
            wanted: Wanted::Signature(None),
            inputs: specialise::input_ports(&source.spec),
            outputs: specialise::output_ports(&source.graph),
            source: source.into(),
            variants: RwLock::default(),
            staged: OnceLock::new(),
            whole: false,
            place: None,
        }
    }

    /// Compiles for all that the signature leaves open, unless the feeds must tell something first.
    fn compile_ahead(&self) -> Result<()> {
        let Err(e) = self.compile(None).map(|p| self.add(p)) else { return Ok(()) };
        match self.stage_for(e) {
            Err(e) if !specialise::needs_feeds(&e) => Err(e),
            _ => Ok(()),
        }
    }

    /// The graph; of a function from the cache, read now.
    fn source(&self) -> Result<&Source> {
        if let Some(s) = self.source.get() {
            return Ok(s);
        }
        self.shared.initialise()?;
        let (source, _) = Callable::resolve(&self.shared, &self.wanted)?;
        Ok(self.source.get_or_init(|| source))
    }

    fn add(&self, p: Arc<Program>) {
        self.variants.write().unwrap_or_else(PoisonError::into_inner).push(p);
    }

    /// Cuts the graph into stages, from now on.
    fn stage(&self, choices: Choices) -> Result<&Staged> {
        let staged = Staged::new(self.shared.clone(), self.source()?.graph.clone(), "", choices)?;
        Ok(self.staged.get_or_init(|| staged))
    }

    /// Cuts the graph into stages if that is the way out of an error of the compiler.
    ///
    /// # Errors
    /// The error if it is not; or why a node may not go where it would have to.
    fn stage_for(&self, e: Error) -> Result<&Staged> {
        let Ok(Source { graph, .. }) = self.source() else { return Err(e) };
        let asks = specialise::asks_for_host(graph, &e);
        let refused = e.is_unsupported() && !specialise::needs_feeds(&e);
        let mut choices = Choices::default();
        match &e {
            _ if self.whole => return Err(e),
            Error::NoKernel { nodes, .. } => {
                let all: Vec<_> = graph.nodes().map(|(id, _)| id).collect();
                staged::off_the_gpu(graph, &all, nodes, &mut choices);
            }
            _ if asks => choices.single.extend(specialise::blamed(graph, &e)),
            _ if refused => {}
            _ => return Err(e),
        }
        self.stage(choices).map_err(|why| if matches!(why, Error::Placement(_)) { why } else { e })
    }

    /// The ops that run one by one, between the parts that are compiled; none where the graph is compiled as a whole.
    pub fn single_ops(&self) -> BTreeSet<String> {
        self.staged.get().map(Staged::single_ops).unwrap_or_default()
    }

    /// The stages in which the graph runs, a line each; none where it is compiled as a whole.
    pub fn stages(&self) -> Vec<String> {
        self.staged.get().map(Staged::outline).unwrap_or_default()
    }

    /// Where each node of the graph runs, and why, a line each.
    ///
    /// # Errors
    /// If the model cannot be read.
    pub fn placement(&self) -> Result<String> {
        self.text(Printed::Placement)
    }

    /// The parts of the graph, what each takes and gives, and what crosses between devices.
    ///
    /// # Errors
    /// As [`Callable::placement`].
    pub fn partition(&self) -> Result<String> {
        self.text(Printed::Partition)
    }

    fn text(&self, view: Printed) -> Result<String> {
        match self.staged.get() {
            Some(s) => s.text(view),
            None => print::graph(&self.shared, &self.source()?.graph, view),
        }
    }

    fn run_staged(&self, staged: &Staged, feeds: &[View], engine: Engine, options: &RunOptions) -> Result<Vec<Tensor>> {
        if feeds.len() != self.inputs.len() {
            let message = format!("{} feeds for {} inputs", feeds.len(), self.inputs.len());
            return Err(Error::Feed { name: String::new(), message });
        }
        specialise::check_feeds(&self.inputs, feeds)?;
        let values: Option<Vec<_>> = feeds.iter().map(|v| v.to_tensor().map(Into::into)).collect();
        let outputs = staged.run(values.ok_or(Error::Memory)?, engine, options)?;
        let tensor = |(v, port): (graphc_host::Value, &Port)| match v {
            graphc_host::Value::Tensor(t) => Ok(t),
            v => Err(Error::Unsupported(format!("output {:?} is a {}, which cannot be handed out", port.name, v.elem()))),
        };
        outputs.into_iter().zip(&self.outputs).map(tensor).collect()
    }

    /// Inputs in the order in which views are given.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// Outputs in the order in which tensors are returned.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Number of variants compiled so far.
    pub fn variants(&self) -> usize {
        self.variants.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Gives the memory of runs that ended back to the system.
    pub fn trim(&self) {
        self.variants.read().unwrap_or_else(PoisonError::into_inner).iter().for_each(|p| p.trim());
        if let Some(s) = self.staged.get() {
            s.trim();
        }
    }

    /// The module before any pass, for these feeds or for all that the signature leaves open.
    ///
    /// # Errors
    /// If the graph cannot be brought into the IR.
    pub fn module(&self, feeds: Option<&[View]>) -> Result<Module> {
        Ok(specialise::legalise(self.shared.model()?, self.source()?, feeds)?.module)
    }

    /// The plan for these feeds, or for all that the signature leaves open, with its constants.
    ///
    /// # Errors
    /// If the graph cannot be compiled, or must see feeds first.
    pub fn plan(&self, feeds: Option<&[View]>) -> Result<Plan> {
        self.compiled_whole()?;
        specialise::plan(&self.shared, self.source()?, feeds).map(|p| p.plan)
    }

    /// What an object needs to know of this function, for these feeds, or for all that the signature leaves open.
    ///
    /// # Errors
    /// As [`Callable::plan`].
    pub fn ahead(&self, feeds: Option<&[View]>) -> Result<Ahead> {
        self.compiled_whole()?;
        specialise::plan_ahead(&self.shared, self.source()?, feeds, self.shared.processors.cpu())
    }

    /// As [`Callable::ahead`], for GPUs.
    ///
    /// # Errors
    /// As [`Callable::plan`].
    #[cfg(feature = "gpu")]
    pub fn ahead_on_gpu(&self, feeds: Option<&[View]>) -> Result<Ahead> {
        self.compiled_whole()?;
        specialise::plan_ahead(&self.shared, self.source()?, feeds, &Processor::AnyGpu)
    }

    /// The graph in stages, if it runs so.
    pub(crate) fn staged(&self) -> Option<&Staged> {
        self.staged.get()
    }

    /// What an object needs to know of the code that there is so far.
    ///
    /// # Errors
    /// If the graph cannot be compiled again, which would be a fault of the compiler.
    pub(crate) fn variants_ahead(&self) -> Result<Vec<Ahead>> {
        self.variants_again(self.shared.processors.cpu())
    }

    /// As [`Callable::variants_ahead`], for GPUs.
    ///
    /// # Errors
    /// If something of the graph has no code there.
    #[cfg(feature = "gpu")]
    pub(crate) fn variants_ahead_on_gpus(&self) -> Result<Vec<Ahead>> {
        self.variants_again(&Processor::AnyGpu)
    }

    fn variants_again(&self, processor: &Processor) -> Result<Vec<Ahead>> {
        let variants = self.variants.read().unwrap_or_else(PoisonError::into_inner).clone();
        variants.iter().map(|p| specialise::plan_again(&self.shared, self.source()?, p.known(), processor)).collect()
    }

    fn compile(&self, feeds: Option<&[View]>) -> Result<Arc<Program>> {
        self.compiled_whole()?;
        let source = self.source()?;
        let program = match &self.place {
            None => specialise::compile(&self.shared, source, feeds)?,
            Some(place) => {
                let (program, object) = specialise::compile_kept(&self.shared, source, feeds)?;
                place.save(&self.inputs, &self.outputs, &program, &object);
                program
            }
        };
        // The weights are packed.
        self.shared.model()?.forget_pages();
        Ok(Arc::new(program))
    }

    fn compiled_whole(&self) -> Result<()> {
        if self.staged.get().is_none() {
            return Ok(());
        }
        let ops = self.single_ops().into_iter().collect::<Vec<_>>().join(", ");
        Err(Error::Unsupported(format!("code of its own for a graph that runs in stages, for {ops}")))
    }

    /// The program that takes these feeds, compiled now if there is none yet.
    ///
    /// # Errors
    /// If the feeds do not fit the graph, or it cannot be compiled for them.
    pub fn prepare(&self, feeds: &[View]) -> Result<Arc<Program>> {
        self.with_program(feeds, |p| p.fits(feeds).map(|()| p.clone()))
    }

    /// Finds a variant on which `f` does not give `Mismatch::Variant`.
    fn with_program<R>(&self, feeds: &[View], mut f: impl FnMut(&Arc<Program>) -> Result<R, Mismatch>) -> Result<R> {
        if feeds.len() != self.inputs.len() {
            let message = format!("{} feeds for {} inputs", feeds.len(), self.inputs.len());
            return Err(Error::Feed { name: String::new(), message });
        }
        // The list is not held during a run: others may compile and add variants meanwhile.
        let variant = |k: usize| self.variants.read().unwrap_or_else(PoisonError::into_inner).get(k).cloned();
        let mut tried = 0;
        while let Some(p) = variant(tried) {
            match f(&p) {
                Ok(r) => return Ok(r),
                Err(Mismatch::Variant) => tried += 1,
                Err(Mismatch::Feed(e)) => return Err(self.classed(e)),
            }
        }
        specialise::check_feeds(&self.inputs, feeds)?;
        let program = self.compile(Some(feeds))?;
        let result = f(&program);
        self.variants.write().unwrap_or_else(PoisonError::into_inner).push(program);
        match result {
            Ok(r) => Ok(r),
            Err(Mismatch::Feed(e)) => Err(self.classed(e)),
            Err(Mismatch::Variant) => Err(Error::Compile("code compiled for these very feeds does not take them".into())),
        }
    }

    /// An error of a run with the class that TensorFlow gives it where that depends on the op.
    fn classed(&self, e: Error) -> Error {
        let Error::Run { status: Status::DivisionByZero, node, .. } = &e else { return e };
        match self.source.get().map(|s| specialise::zero_status(&s.graph, node)) {
            Some(status @ StatusCode::Internal) => {
                Error::Host { node: node.clone(), status, message: "integer division by zero".into() }
            }
            _ => e,
        }
    }

    /// The outputs by the reference interpreter, from the module before any pass.
    ///
    /// # Errors
    /// If the graph cannot be brought into the IR, or its evaluation fails.
    pub fn interpret(&self, feeds: &[Tensor]) -> Result<Vec<Tensor>> {
        let views = self.views(feeds)?;
        specialise::check_feeds(&self.inputs, &views)?;
        let staged = |staged| self.run_staged(staged, &views, Engine::Interpreter, &RunOptions::default());
        if let Some(s) = self.staged.get() {
            return staged(s);
        }
        let l = match specialise::legalise(self.shared.model()?, self.source()?, Some(&views)) {
            Err(e) => return staged(self.stage_for(e)?),
            Ok(l) => l,
        };
        let inputs: Vec<Tensor> = feeds.iter().zip(&l.feeds).filter(|(_, f)| f.value.is_none()).map(|(t, _)| t.clone()).collect();
        let name = l.module.funcs.first().map(|f| f.name.clone()).unwrap_or_default();
        let mut outputs = Interp::new(&l.module).run(&name, &inputs).map_err(Error::Interpreter)?;
        outputs.truncate(self.outputs.len());
        Ok(outputs)
    }

    /// Runs and returns the outputs.
    ///
    /// # Errors
    /// If a feed does not fit, or a node fails.
    pub fn run(&self, feeds: &[View]) -> Result<Vec<Tensor>> {
        self.run_with(feeds, &mut RunOptions::default())
    }

    /// [`Callable::run`] with options.
    ///
    /// # Errors
    /// As [`Callable::run`]; `Cancelled` if the caller cancelled.
    pub fn run_with(&self, feeds: &[View], options: &mut RunOptions) -> Result<Vec<Tensor>> {
        self.run_leaving(feeds, &[], options)
    }

    /// As [`Callable::run_with`]; outputs that are marked in `stay` stay on the device that made them, if the graph is compiled for one.
    pub(crate) fn run_leaving(&self, feeds: &[View], stay: &[bool], options: &mut RunOptions) -> Result<Vec<Tensor>> {
        let shared = &self.shared;
        if let Some(s) = self.staged.get() {
            return self.run_staged(s, feeds, Engine::Compiled, options);
        }
        match self.with_program(feeds, |p| p.run_leaving(&shared.pool, &shared.variables, feeds, stay, options)) {
            Ok(mut outputs) => {
                outputs.truncate(self.outputs.len());
                Ok(outputs)
            }
            Err(e) => self.run_staged(self.stage_for(e)?, feeds, Engine::Compiled, options),
        }
    }

    /// [`Callable::run`] on owned tensors.
    ///
    /// # Errors
    /// As [`Callable::run`].
    pub fn run_tensors(&self, feeds: &[Tensor]) -> Result<Vec<Tensor>> {
        self.run(&self.views(feeds)?)
    }

    /// Views of tensors that are fed.
    ///
    /// # Errors
    /// If one has no memory form.
    pub fn views<'a>(&self, feeds: &'a [Tensor]) -> Result<Vec<View<'a>>> {
        let names = self.inputs.iter().map(|p| p.name.clone()).chain(std::iter::repeat(String::new()));
        let view = |(t, name): (&'a Tensor, String)| {
            View::try_from(t).map_err(|()| Error::Unsupported(format!("input {name:?}: elements of type {}", t.elem())))
        };
        feeds.iter().zip(names).map(view).collect()
    }

    /// Runs into the bytes of outputs that the caller owns: no allocation when the shapes are those of the last run.
    ///
    /// # Errors
    /// As [`Callable::run`], and if an output has not the size that is written.
    pub fn run_into(&self, feeds: &[View], outputs: &mut [&mut [u8]], options: &mut RunOptions) -> Result<()> {
        let shared = &self.shared;
        if self.staged.get().is_some() || self.source.get().is_some_and(|s| s.graph.outputs.len() > self.outputs.len()) {
            return self.run_copied(feeds, outputs, options);
        }
        let ran = self.with_program(feeds, |p| p.run_into(&shared.pool, &shared.variables, feeds, outputs, options));
        match ran {
            Err(e) => {
                self.stage_for(e)?;
                self.run_copied(feeds, outputs, options)
            }
            ran => ran,
        }
    }

    /// [`Callable::run_into`] where only a run knows how large the outputs are, or more is computed than is wanted.
    fn run_copied(&self, feeds: &[View], outputs: &mut [&mut [u8]], options: &mut RunOptions) -> Result<()> {
        let made = self.run_with(feeds, options)?;
        for ((t, port), out) in made.iter().zip(&self.outputs).zip(outputs) {
            if t.bytes().len() != out.len() {
                let message = format!("{} bytes were given where {} is written", out.len(), t.ty());
                return Err(Error::Output { name: port.name.clone(), message });
            }
            out.copy_from_slice(t.bytes());
        }
        Ok(())
    }
}
