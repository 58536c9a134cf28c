//! Commands as work of a stream: put into it one by one the first time, and as a graph from then on.

use super::arguments::packed;
use super::device::{Device, done};
use super::kernel::Kernel;
use super::memory::{Buffer, Stream};
use crate::code::Code;
use crate::error::GpuError;
use crate::run::{Command, Counters, Driver, Limits, Memory, Purpose, What};
use cudarc::driver::sys::{self, CUdeviceptr, CUevent, CUfunction, CUgraph, CUgraphExec, CUgraphNode, CUmemorytype, CUresult};
use std::cell::{Cell, OnceCell};
use std::ffi::c_void;
use std::sync::Arc;

/// A command as the driver takes it.
enum Task {
    Copy { from: Place, to: Place, bytes: usize },
    Launch { function: CUfunction, groups: u32, threads: u32, shared: u32, arguments: Vec<u8> },
}

/// One end of a copy.
#[derive(Clone, Copy)]
struct Place {
    at: CUdeviceptr,
    /// Whether it is pinned memory of the host.
    host: bool,
}

struct Step {
    task: Task,
    after: Vec<usize>,
    node: String,
}

/// Commands that can be run again and again.
pub struct Sequence {
    device: Arc<Device>,
    steps: Vec<Step>,
    ran: Cell<bool>,
    graph: OnceCell<Graph>,
    /// Where it is timed, one before each step and one after the last: such a sequence is no graph.
    events: Vec<Event>,
}

/// A point in a stream, with the device's time.
struct Event {
    device: Arc<Device>,
    event: CUevent,
}

impl Event {
    fn new(device: &Arc<Device>) -> Result<Event, GpuError> {
        device.enter()?;
        let mut event = std::ptr::null_mut();
        // SAFETY: the pointer is valid for the call.
        done("cuEventCreate", unsafe { sys::cuEventCreate(&mut event, 0) })?;
        Ok(Event { device: device.clone(), event })
    }

    fn record(&self, stream: &Stream) -> Result<(), GpuError> {
        // SAFETY: event and stream are alive and of one context.
        done("cuEventRecord", unsafe { sys::cuEventRecord(self.event, stream.stream) })
    }

    /// Seconds from this event to a later one, both of which have been waited for.
    fn until(&self, later: &Event) -> Result<f64, GpuError> {
        type Elapsed = unsafe extern "C" fn(*mut f32, CUevent, CUevent) -> CUresult;
        let mut ms = 0.0;
        // SAFETY: the function has been in all versions of the driver, of this type (the newest bindings name one that older ones lack); both
        // events are alive, and the pointer is valid for the call.
        let elapsed = unsafe {
            let elapsed = sys::culib().get::<Elapsed>(b"cuEventElapsedTime");
            elapsed.map(|elapsed| elapsed(&mut ms, self.event, later.event))
        };
        done("cuEventElapsedTime", elapsed.map_err(|e| GpuError::Lacks(e.to_string()))?)?;
        Ok(f64::from(ms) * 1e-3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let _ = self.device.enter();
        // SAFETY: nothing that records it is left in a stream.
        unsafe { sys::cuEventDestroy_v2(self.event) };
    }
}

// SAFETY: functions of the driver's are used from any thread; cells are moved with the sequence, which one thread uses at a time.
unsafe impl Send for Sequence {}

/// A graph that can be launched.
struct Graph {
    device: Arc<Device>,
    exec: CUgraphExec,
}

impl Drop for Graph {
    fn drop(&mut self) {
        let _ = self.device.enter();
        // SAFETY: launches of it have been waited for.
        unsafe { sys::cuGraphExecDestroy(self.exec) };
    }
}

impl Driver for Device {
    type Buffer = Buffer;
    type Kernel = Kernel;
    type Queue = Arc<Stream>;
    type Sequence = Sequence;

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn queue(self: &Arc<Self>) -> Result<Arc<Stream>, GpuError> {
        Stream::new(self).map(Arc::new)
    }

    fn buffer(self: &Arc<Self>, queue: &Arc<Stream>, bytes: u64, purpose: Purpose) -> Result<Buffer, GpuError> {
        Buffer::new(queue, bytes, purpose)
    }

    fn kernel(self: &Arc<Self>, code: &Code) -> Result<Kernel, GpuError> {
        Kernel::new(self, code)
    }

    fn record(self: &Arc<Self>, _queue: &Arc<Stream>, commands: &[Command<Self>]) -> Result<Sequence, GpuError> {
        let place = |b: &Buffer, from: u64| Place { at: b.at + from, host: b.host().is_some() };
        let step = |c: &Command<Self>| {
            let task = match &c.what {
                What::Copy { from, to } => {
                    Task::Copy { from: place(from.buffer, from.from), to: place(to.buffer, to.from), bytes: from.bytes as usize }
                }
                What::Launch { kernel, arguments, groups } => Task::Launch {
                    function: kernel.function,
                    groups: *groups,
                    threads: kernel.threads,
                    shared: kernel.shared,
                    arguments: packed(arguments).map_err(|e| e.at(c.node))?,
                },
            };
            Ok(Step { task, after: c.after.clone(), node: c.node.to_owned() })
        };
        let steps = commands.iter().map(step).collect::<Result<_, GpuError>>()?;
        Ok(Sequence { device: self.clone(), steps, ran: Cell::new(false), graph: OnceCell::new(), events: Vec::new() })
    }

    fn record_timed(self: &Arc<Self>, queue: &Arc<Stream>, commands: &[Command<Self>]) -> Result<Sequence, GpuError> {
        let sequence = self.record(queue, commands)?;
        let events = (0..=commands.len()).map(|_| Event::new(self)).collect::<Result<_, _>>()?;
        Ok(Sequence { events, ..sequence })
    }

    fn times(&self, sequence: &Sequence) -> Result<Vec<f64>, GpuError> {
        self.enter()?;
        sequence.events.windows(2).map(|pair| pair[0].until(&pair[1])).collect()
    }

    fn run(&self, queue: &Arc<Stream>, sequences: &[&Sequence]) -> Result<(), GpuError> {
        self.enter()?;
        let started = sequences.iter().try_for_each(|s| s.start(queue));
        // What was started is waited for even if the rest could not be.
        started.and(queue.wait())
    }

    fn copy_across(&self, queue: &Arc<Stream>, from: (&Arc<Self>, &Buffer), to: &Buffer, bytes: usize) -> Result<bool, GpuError> {
        self.copy_from(queue, (from.0, from.1), to, bytes)
    }
}

impl Device {
    /// As [`Driver::copy_across`].
    fn copy_from(&self, stream: &Stream, from: (&Device, &Buffer), to: &Buffer, bytes: usize) -> Result<bool, GpuError> {
        let (other, from) = from;
        let same = std::ptr::eq(self, other);
        if !same && !self.reads(other) {
            return Ok(false);
        }
        self.enter()?;
        // SAFETY: both ends are memory of that size that lives until the stream has been waited for, in contexts that are alive.
        if same {
            done("cuMemcpyAsync", unsafe { sys::cuMemcpyAsync(to.at, from.at, bytes, stream.stream) })?;
        } else {
            let (here, there) = (self.context, other.context);
            // SAFETY: as above.
            let r = unsafe { sys::cuMemcpyPeerAsync(to.at, here, from.at, there, bytes, stream.stream) };
            done("cuMemcpyPeerAsync", r)?;
        }
        stream.wait().map(|()| true)
    }
}

/// What the driver takes instead of a list of parameters: their memory as a whole, and its size.
fn extra(arguments: &[u8], size: &mut usize) -> [*mut c_void; 5] {
    *size = arguments.len();
    [
        // CU_LAUNCH_PARAM_BUFFER_POINTER, CU_LAUNCH_PARAM_BUFFER_SIZE, CU_LAUNCH_PARAM_END
        std::ptr::without_provenance_mut(1),
        arguments.as_ptr().cast_mut().cast(),
        std::ptr::without_provenance_mut(2),
        std::ptr::from_mut(size).cast(),
        std::ptr::null_mut(),
    ]
}

impl Sequence {
    fn start(&self, stream: &Stream) -> Result<(), GpuError> {
        if let Some((first, after)) = self.events.split_first() {
            first.record(stream)?;
            let mut timed = self.steps.iter().zip(after);
            return timed.try_for_each(|(s, e)| s.task.start(stream).and_then(|()| e.record(stream)).map_err(|e| e.at(&s.node)));
        }
        if !self.ran.replace(true) || self.steps.len() < 2 {
            return self.steps.iter().try_for_each(|s| s.task.start(stream).map_err(|e| e.at(&s.node)));
        }
        let graph = match self.graph.get() {
            Some(g) => g,
            None => {
                let made = self.graph()?;
                self.graph.get_or_init(|| made)
            }
        };
        // SAFETY: graph and stream are alive and of one context.
        done("cuGraphLaunch", unsafe { sys::cuGraphLaunch(graph.exec, stream.stream) })
    }

    /// The steps as a graph, in which each waits only for those that it must.
    fn graph(&self) -> Result<Graph, GpuError> {
        let mut graph = std::ptr::null_mut();
        // SAFETY: the pointer is valid for the call.
        done("cuGraphCreate", unsafe { sys::cuGraphCreate(&mut graph, 0) })?;
        let mut nodes: Vec<CUgraphNode> = Vec::new();
        let mut add = |s: &Step| -> Result<(), GpuError> {
            let after: Vec<CUgraphNode> = s.after.iter().map(|&k| nodes[k]).collect();
            nodes.push(s.task.node(&self.device, graph, &after).map_err(|e| e.at(&s.node))?);
            Ok(())
        };
        let added = self.steps.iter().try_for_each(&mut add);
        let mut exec = std::ptr::null_mut();
        // SAFETY: the graph is alive until here; what was instantiated does not need it.
        let made = added
            .and_then(|()| done("cuGraphInstantiateWithFlags", unsafe { sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0) }));
        // SAFETY: as above.
        unsafe { sys::cuGraphDestroy(graph) };
        made.map(|()| Graph { device: self.device.clone(), exec })
    }
}

impl Task {
    /// Puts it into a stream.
    fn start(&self, stream: &Stream) -> Result<(), GpuError> {
        match self {
            Task::Copy { from, to, bytes } => {
                // SAFETY: both ends are memory of that size that lives until the stream has been waited for.
                done("cuMemcpyAsync", unsafe { sys::cuMemcpyAsync(to.at, from.at, *bytes, stream.stream) })
            }
            Task::Launch { function, groups, threads, shared, arguments } => {
                let mut size = 0;
                let mut extra = extra(arguments, &mut size);
                let (none, extra) = (std::ptr::null_mut(), extra.as_mut_ptr());
                // SAFETY: the function is of a module that is alive, and the driver copies the arguments, which are those of its kernel.
                let r =
                    unsafe { sys::cuLaunchKernel(*function, *groups, 1, 1, *threads, 1, 1, *shared, stream.stream, none, extra) };
                done("cuLaunchKernel", r)
            }
        }
    }

    /// Adds it to a graph.
    fn node(&self, device: &Device, graph: CUgraph, after: &[CUgraphNode]) -> Result<CUgraphNode, GpuError> {
        let mut node = std::ptr::null_mut();
        match self {
            Task::Copy { from, to, bytes } => {
                let copy = copied(*from, *to, *bytes);
                // SAFETY: as for `start`; the structures are valid for the call.
                let r = unsafe { sys::cuGraphAddMemcpyNode(&mut node, graph, after.as_ptr(), after.len(), &copy, device.context) };
                done("cuGraphAddMemcpyNode", r)?;
            }
            Task::Launch { function, groups, threads, shared, arguments } => {
                let mut size = 0;
                let mut extra = extra(arguments, &mut size);
                // SAFETY: zeros are a launch without a function.
                let mut launch: sys::CUDA_KERNEL_NODE_PARAMS = unsafe { std::mem::zeroed() };
                launch.func = *function;
                (launch.gridDimX, launch.gridDimY, launch.gridDimZ) = (*groups, 1, 1);
                (launch.blockDimX, launch.blockDimY, launch.blockDimZ) = (*threads, 1, 1);
                launch.sharedMemBytes = *shared;
                launch.extra = extra.as_mut_ptr();
                // SAFETY: as for `start`; the structures are valid for the call.
                let r = unsafe { sys::cuGraphAddKernelNode_v2(&mut node, graph, after.as_ptr(), after.len(), &launch) };
                done("cuGraphAddKernelNode", r)?;
            }
        }
        Ok(node)
    }
}

/// A copy of one row.
fn copied(from: Place, to: Place, bytes: usize) -> sys::CUDA_MEMCPY3D {
    // SAFETY: zeros are a copy of nothing; the memory types are set below.
    let mut copy: sys::CUDA_MEMCPY3D = unsafe {
        let mut copy = std::mem::MaybeUninit::<sys::CUDA_MEMCPY3D>::zeroed();
        (*copy.as_mut_ptr()).srcMemoryType = kind(from);
        (*copy.as_mut_ptr()).dstMemoryType = kind(to);
        copy.assume_init()
    };
    if from.host {
        copy.srcHost = std::ptr::with_exposed_provenance(from.at as usize);
    } else {
        copy.srcDevice = from.at;
    }
    if to.host {
        copy.dstHost = std::ptr::with_exposed_provenance_mut(to.at as usize);
    } else {
        copy.dstDevice = to.at;
    }
    (copy.srcPitch, copy.srcHeight, copy.dstPitch, copy.dstHeight) = (bytes, 1, bytes, 1);
    (copy.WidthInBytes, copy.Height, copy.Depth) = (bytes, 1, 1);
    copy
}

fn kind(p: Place) -> CUmemorytype {
    if p.host { CUmemorytype::CU_MEMORYTYPE_HOST } else { CUmemorytype::CU_MEMORYTYPE_DEVICE }
}
