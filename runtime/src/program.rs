//! One compiled function and the memory that its runs use.

use crate::device::DeviceName;
use crate::error::{Error, Result};
use crate::memory::Block;
use crate::processor::Engine;
#[cfg(feature = "gpu-driver")]
use crate::resident::Resident;
use crate::specialise;
use crate::state::{VarGuard, VarPointers, Variables};
use crate::view::View;
use graphc_abi::{Ctx, ErrorRecord, SCRATCH_BYTES, Status, Trace};
use graphc_cpu::{Code, PackedWeights};
use graphc_engine::Pool;
use graphc_frontend::legalise::Feed;
#[cfg(feature = "gpu-driver")]
use graphc_gpu::Output;
use graphc_ir::{Buffer, Data, Dim, Elem, Sym, Tensor, Type};
use graphc_passes::plan::{Plan, Port};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Compiled code, the conditions under which it is right, and memory for its runs.
pub struct Program {
    interface: Interface,
    engine: Engine,
    /// Feeds whose values were compiled in, by index of the request; they are no inputs of the code.
    baked: Vec<(usize, Tensor)>,
    /// For each input of the code, the index of its feed.
    feed_of: Vec<usize>,
    /// What the code was compiled for, feed by feed; empty for code from a file.
    known: Vec<Feed>,
    vars: VarPointers,
    /// Memory of runs that ended; as many as there were runs at one time.
    idle: Mutex<Vec<RunMemory>>,
}

/// What is left of a plan once it is code.
pub struct Interface {
    /// Symbols of the sizes that are open, in the order in which the code takes their values.
    pub syms: Vec<Sym>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// Bytes of the arena.
    pub arena: Dim,
    /// The source node of each launch.
    pub launches: Vec<String>,
}

impl Interface {
    fn of(plan: Plan) -> Interface {
        let launches = plan.steps.iter().map(|s| s.loc.name().to_owned()).collect();
        Interface { syms: plan.syms, inputs: plan.inputs, outputs: plan.outputs, arena: plan.arena, launches }
    }
}

/// What one run needs besides inputs and outputs.
struct RunMemory {
    arena: Block,
    scratch: Block,
    syms: Vec<i64>,
    /// Values of `syms` for which `arena` was sized and `output_shapes` computed.
    sized_for: Option<Vec<i64>>,
    output_shapes: Vec<Vec<usize>>,
    inputs: Vec<*const u8>,
    outputs: Vec<*mut u8>,
}

// SAFETY: the pointers are filled anew in each run and mean nothing between runs.
unsafe impl Send for RunMemory {}

/// Options of one run.
#[derive(Default)]
pub struct RunOptions<'a> {
    /// Set to non-zero by another thread to stop the run at the next launch.
    pub cancel: Option<&'a AtomicU32>,
    /// Told of the start and end of every launch.
    pub trace: Option<&'a mut dyn Tracer>,
    /// Told of the parts of a graph that runs in stages.
    pub watch: Option<&'a dyn Watcher>,
}

/// Hears of the parts of a run in stages, on the threads that run them: parts on several devices run at one time.
pub trait Watcher: Sync {
    fn begin(&self, stage: &Stage);
    fn end(&self, stage: &Stage);
}

/// A step of a run in stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// What it is and does, as in [`Callable::stages`](crate::Callable::stages).
    pub what: String,
    pub device: DeviceName,
}

/// Hears of every launch of a run.
pub trait Tracer {
    fn begin(&mut self, launch: usize);
    fn end(&mut self, launch: usize);
    /// A launch on a device took so long by the device's clock. It is told of after the run, and of such a launch no beginning and no end.
    fn took(&mut self, launch: usize, time: Duration) {
        let _ = (launch, time);
    }
}

/// Why inputs do not fit a program; another variant may take them.
pub enum Mismatch {
    /// Another rank, constant dimension, guard or compiled-in value.
    Variant,
    /// No variant takes this.
    Feed(Error),
}

impl Program {
    /// A plan without its constants, and what it was compiled to.
    pub fn new((plan, engine): (Plan, Engine), known: Vec<Feed>, vars: VarPointers) -> Program {
        let (baked, feed_of) = specialise::split(&known);
        Program { interface: Interface::of(plan), engine, baked, feed_of, known, vars, idle: Mutex::new(Vec::new()) }
    }

    /// A program that was kept in a file.
    pub fn kept(interface: Interface, code: Code, weights: PackedWeights, feed_of: Vec<usize>) -> Program {
        let engine = Engine::Cpu { code, weights };
        let (baked, known, idle) = (Vec::new(), Vec::new(), Mutex::default());
        Program { interface, engine, baked, feed_of, known, vars: VarPointers::none(), idle }
    }

    /// What the code was compiled for, feed by feed; empty for code from a file.
    pub fn known(&self) -> &[Feed] {
        &self.known
    }

    /// Whether the program is all that its code, weights and interface say: no compiled-in feeds, no variables.
    pub fn is_plain(&self) -> bool {
        self.baked.is_empty() && self.vars.is_empty()
    }

    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The packed weights; none where they are on a device.
    pub fn weights(&self) -> &[u8] {
        self.engine.weights()
    }

    /// For each input of the code, the index of its feed.
    pub fn feed_of(&self) -> &[usize] {
        &self.feed_of
    }

    /// Names of the variables that the code uses, with whether it assigns each.
    #[cfg(feature = "gpu-driver")]
    pub fn variables(&self) -> impl Iterator<Item = (&str, bool)> {
        self.vars.names()
    }

    /// Whether the code reads or writes variables of the session.
    pub fn has_variables(&self) -> bool {
        !self.vars.is_empty()
    }

    /// The feeds that are inputs of the code, in its order.
    pub fn inputs_of<'a>(&self, feeds: &[View<'a>]) -> Vec<View<'a>> {
        self.feed_of.iter().map(|&k| feeds[k]).collect()
    }

    /// The symbols of the program and their values for these feeds.
    pub fn symbols(&self, feeds: &[View]) -> Vec<(Sym, i64)> {
        let mut values = vec![-1; self.interface.syms.len()];
        // Feeds that do not fit leave symbols unknown.
        let _ = self.bind(feeds, &mut values);
        self.interface.syms.iter().cloned().zip(values).filter(|(_, v)| *v >= 0).collect()
    }

    /// Gives memory that no run uses back to the system.
    pub fn trim(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.engine.trim();
    }

    fn take_memory(&self, threads: usize) -> Result<RunMemory> {
        if let Some(m) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(m);
        }
        let plan = &self.interface;
        let block = |len| Block::new(len).ok_or(Error::Memory);
        Ok(RunMemory {
            arena: block(0)?,
            scratch: block(threads * SCRATCH_BYTES)?,
            syms: vec![-1; plan.syms.len()],
            sized_for: None,
            output_shapes: vec![Vec::new(); plan.outputs.len()],
            inputs: vec![ptr::null(); plan.inputs.len()],
            outputs: vec![ptr::null_mut(); plan.outputs.len()],
        })
    }

    /// Values of the symbols for these feeds.
    fn bind(&self, feeds: &[View], syms: &mut [i64]) -> Result<(), Mismatch> {
        let plan = &self.interface;
        syms.fill(-1);
        for (port, &feed) in plan.inputs.iter().zip(&self.feed_of) {
            let view = &feeds[feed];
            if view.elem() != port.ty.elem {
                let message = format!("{} was given where the graph has {}", view.elem(), port.ty.elem);
                return Err(Mismatch::Feed(Error::Feed { name: port.name.clone(), message }));
            }
            if view.shape().len() != port.ty.rank() {
                return Err(Mismatch::Variant);
            }
            for (d, &n) in port.ty.shape.iter().zip(view.shape()) {
                if let Some(k) = d.as_sym().and_then(|s| plan.syms.iter().position(|t| t == s)) {
                    if syms[k] >= 0 && syms[k] != n as i64 {
                        return Err(Mismatch::Variant);
                    }
                    syms[k] = n as i64;
                }
            }
        }
        let of = |s: &Sym| plan.syms.iter().position(|t| t == s).map(|k| syms[k]).filter(|&v| v >= 0);
        for (port, &feed) in plan.inputs.iter().zip(&self.feed_of) {
            for (d, &n) in port.ty.shape.iter().zip(feeds[feed].shape()) {
                if d.eval(&of) != Some(n as i64) {
                    return Err(Mismatch::Variant);
                }
            }
        }
        for (feed, value) in &self.baked {
            let view = &feeds[*feed];
            if view.elem() != value.elem() || view.shape() != value.shape() || view.bytes() != value.bytes() {
                return Err(Mismatch::Variant);
            }
        }
        Ok(())
    }

    /// Whether these feeds are of the types, shapes and values that the code was compiled for.
    pub fn fits(&self, feeds: &[View]) -> Result<(), Mismatch> {
        self.bind(feeds, &mut vec![-1; self.interface.syms.len()])
    }

    /// Runs with new outputs.
    pub fn run(&self, pool: &Pool, vars: &Variables, feeds: &[View], options: &mut RunOptions) -> Result<Vec<Tensor>, Mismatch> {
        self.run_leaving(pool, vars, feeds, &[], options)
    }

    /// As [`Program::run`]; outputs that are marked in `stay` stay on the device, if the program runs on one.
    #[cfg_attr(not(feature = "gpu-driver"), expect(unused_variables))]
    pub fn run_leaving(
        &self,
        pool: &Pool,
        vars: &Variables,
        feeds: &[View],
        stay: &[bool],
        options: &mut RunOptions,
    ) -> Result<Vec<Tensor>, Mismatch> {
        let mut memory = self.take_memory(pool.threads()).map_err(Mismatch::Feed)?;
        let result = self.size(&mut memory, feeds).and_then(|()| match &self.engine {
            #[cfg(feature = "gpu-driver")]
            Engine::Gpu(x) if stay.contains(&true) => {
                self.run_there(&**x, vars, feeds, stay, options, &memory).map_err(Mismatch::Feed)
            }
            _ => self.run_new(pool, vars, feeds, options, &mut memory),
        });
        self.give_back(memory);
        result
    }

    fn run_new(
        &self,
        pool: &Pool,
        vars: &Variables,
        feeds: &[View],
        options: &mut RunOptions,
        memory: &mut RunMemory,
    ) -> Result<Vec<Tensor>, Mismatch> {
        let ports = &self.interface.outputs;
        let mut blocks = Vec::with_capacity(ports.len());
        for (port, shape) in ports.iter().zip(&memory.output_shapes) {
            let bytes = shape.iter().try_fold(port.ty.elem.size(), |n, &d| n.checked_mul(d));
            let block = bytes.and_then(Block::new);
            blocks.push(block.ok_or(Mismatch::Feed(Error::Memory))?);
        }
        for (p, b) in memory.outputs.iter_mut().zip(&mut blocks) {
            *p = b.as_mut_ptr();
        }
        self.enter(pool, vars, feeds, options, memory).map_err(Mismatch::Feed)?;
        Ok(ports
            .iter()
            .zip(blocks)
            .zip(&memory.output_shapes)
            .filter_map(|((port, block), shape)| tensor_over(port.ty.elem, shape, block))
            .collect())
    }

    /// Runs into outputs of the right type and shape. Allocates nothing when the shapes are those of the last run.
    pub fn run_into(
        &self,
        pool: &Pool,
        vars: &Variables,
        feeds: &[View],
        outputs: &mut [&mut [u8]],
        options: &mut RunOptions,
    ) -> Result<(), Mismatch> {
        let mut memory = self.take_memory(pool.threads()).map_err(Mismatch::Feed)?;
        let result = self.size(&mut memory, feeds).and_then(|()| {
            if outputs.len() != memory.outputs.len() {
                let message = format!("{} outputs were given where the graph has {}", outputs.len(), memory.outputs.len());
                return Err(Mismatch::Feed(Error::Output { name: String::new(), message }));
            }
            for ((port, shape), (p, out)) in
                self.interface.outputs.iter().zip(&memory.output_shapes).zip(memory.outputs.iter_mut().zip(outputs))
            {
                let bytes = shape.iter().try_fold(port.ty.elem.size(), |n, &d| n.checked_mul(d));
                if bytes != Some(out.len()) {
                    let message = format!("{} bytes were given where {}{shape:?} is written", out.len(), port.ty.elem);
                    return Err(Mismatch::Feed(Error::Output { name: port.name.clone(), message }));
                }
                *p = out.as_mut_ptr();
            }
            self.enter(pool, vars, feeds, options, &mut memory).map_err(Mismatch::Feed)
        });
        self.give_back(memory);
        result
    }

    fn give_back(&self, mut memory: RunMemory) {
        memory.arena.written();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }

    /// Binds the symbols, and sizes arena and outputs if they changed.
    fn size(&self, memory: &mut RunMemory, feeds: &[View]) -> Result<(), Mismatch> {
        self.bind(feeds, &mut memory.syms)?;
        if memory.sized_for.as_deref() == Some(&memory.syms) {
            return Ok(());
        }
        // Until all is sized anew, the memory is of no size: the next run must not trust it if this fails.
        memory.sized_for = None;
        let plan = &self.interface;
        let of = |s: &Sym| plan.syms.iter().position(|t| t == s).map(|k| memory.syms[k]).filter(|&v| v >= 0);
        let too_large = || Mismatch::Feed(Error::Memory);
        let arena = plan.arena.eval(&of).and_then(|n| usize::try_from(n).ok()).ok_or_else(too_large)?;
        for (shape, port) in memory.output_shapes.iter_mut().zip(&plan.outputs) {
            *shape = eval_shape(&port.ty, &of).ok_or_else(too_large)?;
        }
        if matches!(self.engine, Engine::Cpu { .. }) {
            memory.arena.reserve(arena).ok_or_else(too_large)?;
        }
        memory.sized_for = Some(memory.syms.clone());
        Ok(())
    }

    fn enter(&self, pool: &Pool, vars: &Variables, feeds: &[View], options: &mut RunOptions, memory: &mut RunMemory) -> Result<()> {
        match &self.engine {
            Engine::Cpu { code, weights } => {
                let guard = self.guarded(vars)?;
                self.vars.to_host()?;
                self.call(code, weights, pool, guard.pointers(), feeds, options, memory)?;
                self.vars.assigned();
                Ok(())
            }
            #[cfg(feature = "gpu-driver")]
            Engine::Gpu(x) => {
                let plan = &self.interface;
                let sizes =
                    plan.outputs.iter().zip(&memory.output_shapes).map(|(p, s)| s.iter().product::<usize>() * p.ty.elem.size());
                let outputs = memory.outputs.iter().zip(sizes);
                // SAFETY: outputs are as large as `size` computed, and nothing else refers to them during the run.
                let outputs = outputs.map(|(&p, n)| Output::Host(unsafe { std::slice::from_raw_parts_mut(p, n) }));
                self.launch(&**x, vars, feeds, &mut outputs.collect::<Vec<_>>(), options, memory)
            }
        }
    }

    /// The variables, for a run that may have them.
    fn guarded<'v>(&'v self, vars: &'v Variables) -> Result<VarGuard<'v>> {
        let guard = self.vars.lock(vars);
        if let Some((name, status)) = self.vars.missing() {
            return Err(Error::Uninitialised { variable: name.to_owned(), status });
        }
        match self.vars.uncertain() {
            Some(name) => Err(Error::Unsupported(format!("variable {name:?}, which has no value, in a branch of compiled code"))),
            None => Ok(guard),
        }
    }

    /// Runs on a GPU, and leaves the outputs there that are marked.
    #[cfg(feature = "gpu-driver")]
    fn run_there(
        &self,
        x: &dyn graphc_gpu::Run,
        vars: &Variables,
        feeds: &[View],
        stay: &[bool],
        options: &mut RunOptions,
        memory: &RunMemory,
    ) -> Result<Vec<Tensor>> {
        let ports = || self.interface.outputs.iter().zip(&memory.output_shapes);
        let mut made = Vec::new();
        for (k, (port, shape)) in ports().enumerate() {
            let bytes = shape.iter().try_fold(port.ty.elem.size(), |n, &d| n.checked_mul(d)).ok_or(Error::Memory)?;
            let there = stay.get(k) == Some(&true);
            made.push(if there { (None, None) } else { (Some(Block::new(bytes).ok_or(Error::Memory)?), None) });
        }
        let mut outputs: Vec<Output> = made
            .iter_mut()
            .map(|(here, there)| match here {
                Some(block) => Output::Host(block.bytes_mut()),
                None => Output::Device(there),
            })
            .collect();
        self.launch(x, vars, feeds, &mut outputs, options, memory)?;
        drop(outputs);
        let mut tensors = Vec::with_capacity(made.len());
        for ((port, shape), (here, there)) in ports().zip(made) {
            let made = match (here, there) {
                (Some(block), _) => tensor_over(port.ty.elem, shape, block),
                (None, there) => there.and_then(|v| Resident::over(v, port.ty.elem, shape.clone())),
            };
            tensors.push(made.ok_or(Error::Memory)?);
        }
        Ok(tensors)
    }

    /// Runs on a GPU.
    #[cfg(feature = "gpu-driver")]
    fn launch(
        &self,
        x: &dyn graphc_gpu::Run,
        vars: &Variables,
        feeds: &[View],
        outputs: &mut [Output],
        options: &mut RunOptions,
        memory: &RunMemory,
    ) -> Result<()> {
        use graphc_gpu::{GpuError, Input, Io};
        let plan = &self.interface;
        let _guard = self.guarded(vars)?;
        let variables = self.vars.on(x)?;
        let input = |&k: &usize| match feeds[k].elsewhere().and_then(Tensor::owner::<Resident>) {
            Some(r) => Input::Device(&r.value),
            None => Input::Host(feeds[k].bytes()),
        };
        let inputs: Vec<Input> = self.feed_of.iter().map(input).collect();
        let mut io = Io { inputs: &inputs, outputs, vars: &variables, syms: &memory.syms };
        let ran = match &mut options.trace {
            Some(t) => {
                let mut heard = |step: usize, seconds: f64| t.took(step, Duration::from_secs_f64(seconds.max(0.0)));
                x.execute(&mut io, Some(&mut heard))
            }
            None => x.execute(&mut io, None),
        };
        ran.map_err(|e| match e {
            GpuError::Launch { status, step, value, bound } => {
                let node = plan.launches.get(step).cloned().unwrap_or_default();
                Error::Run { status, node, record: ErrorRecord { launch: step, value, bound } }
            }
            e => Error::Device(e.to_string()),
        })?;
        self.vars.assigned();
        Ok(())
    }

    /// Runs machine code.
    #[expect(clippy::too_many_arguments)]
    fn call(
        &self,
        code: &Code,
        weights: &PackedWeights,
        pool: &Pool,
        vars: *const *mut u8,
        feeds: &[View],
        options: &mut RunOptions,
        memory: &mut RunMemory,
    ) -> Result<()> {
        for (p, &feed) in memory.inputs.iter_mut().zip(&self.feed_of) {
            *p = feeds[feed].bytes().as_ptr();
        }
        let mut record = ErrorRecord::default();
        let mut tracer = options.trace.take();
        let ctx = Ctx {
            threads: pool.threads(),
            pool: ptr::from_ref(pool).cast(),
            parallel_for: Pool::parallel_for,
            scratch: memory.scratch.as_mut_ptr(),
            cancel: options.cancel.map_or(ptr::null(), ptr::from_ref),
            trace: tracer.as_ref().map(|_| trace as Trace),
            trace_data: ptr::from_mut(&mut tracer).cast(),
            error: &mut record,
        };
        // SAFETY: inputs were checked against the ports by `bind`, outputs are as large as `size` computed, the arena as the plan says,
        // and the code, weights and variables live as long as `self` and the session.
        let code = unsafe {
            (code.entry())(
                &ctx,
                memory.inputs.as_ptr(),
                memory.outputs.as_ptr(),
                memory.arena.as_mut_ptr(),
                weights.bytes().as_ptr(),
                vars,
                memory.syms.as_ptr(),
            )
        };
        options.trace = tracer;
        match Status::from_code(code) {
            Status::Ok => Ok(()),
            status => {
                let node = self.interface.launches.get(record.launch).cloned().unwrap_or_default();
                Err(Error::Run { status, node, record })
            }
        }
    }
}

/// The concrete shape of a type.
fn eval_shape(ty: &Type, of: &dyn Fn(&Sym) -> Option<i64>) -> Option<Vec<usize>> {
    ty.shape.iter().map(|d| usize::try_from(d.eval(of)?).ok()).collect()
}

unsafe extern "C" fn trace(data: *mut c_void, launch: usize, end: u32) {
    // SAFETY: `data` is the `tracer` of `enter`, which outlives the run and is used by nobody else during it.
    if let Some(t) = unsafe { &mut *data.cast::<Option<&mut dyn Tracer>>() } {
        if end == 0 { t.begin(launch) } else { t.end(launch) }
    }
}

fn tensor_over(elem: Elem, shape: &[usize], block: Block) -> Option<Tensor> {
    Tensor::new(elem, shape.to_vec(), Data::Bytes(Buffer::new(Arc::new(Owned(block)))))
}

/// Output memory as the owner of a tensor's bytes.
struct Owned(Block);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}
