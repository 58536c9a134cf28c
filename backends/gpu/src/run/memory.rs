//! The memory of a run, and where the buffers of a plan lie in it.

use super::executable::Executable;
use super::hazards::{Bytes, Hazards};
use super::value::unseen;
use super::{Argument, Command, Driver, Memory, Purpose, Span, Tensor, What};
use crate::code::Binding;
use crate::error::GpuError;
use crate::program::Launch;
use graphc_ir::{Dim, Sym};
use graphc_passes::plan::{Buf, Place, Step};
use std::ops::Range;
use std::sync::Arc;

/// Words that a failing kernel writes: see [`Binding::Status`].
pub const STATUS_WORDS: usize = 4;

/// The memory of a run.
pub struct Buffers<D: Driver> {
    arena: D::Buffer,
    /// Memory of the run's own for inputs, where one came from the host.
    pub inputs: Vec<Option<Transfer<D>>>,
    pub outputs: Vec<Transfer<D>>,
    /// Seen by the host and by kernels.
    pub status: D::Buffer,
    /// A condition, where the host reads it.
    pub cond: D::Buffer,
}

/// A buffer of the device that the host fills or reads: straight, or through one that it sees.
pub struct Transfer<D: Driver> {
    pub device: Arc<D::Buffer>,
    staging: Option<D::Buffer>,
    pub bytes: usize,
}

impl<D: Driver> Transfer<D> {
    fn new(device: &Arc<D>, queue: &D::Queue, bytes: usize) -> Result<Transfer<D>, GpuError> {
        let on_device = Arc::new(device.buffer(queue, bytes as u64, Purpose::Device)?);
        Ok(Transfer { device: on_device, staging: None, bytes })
    }

    /// Makes sure that the host sees it, if only through another buffer.
    pub fn stage(&mut self, device: &Arc<D>, queue: &D::Queue) -> Result<(), GpuError> {
        if self.staging.is_none() && self.device.host().is_none() {
            self.staging = Some(device.buffer(queue, self.bytes as u64, Purpose::Host)?);
        }
        Ok(())
    }

    pub fn host(&self) -> Result<&[u8], GpuError> {
        self.staging.as_ref().unwrap_or(&self.device).host().and_then(|h| h.get(..self.bytes)).ok_or_else(unseen)
    }

    pub fn host_mut(&mut self) -> Result<&mut [u8], GpuError> {
        let buffer = match &mut self.staging {
            Some(staging) => Some(staging),
            None => Arc::get_mut(&mut self.device),
        };
        buffer.and_then(Memory::host_mut).and_then(|h| h.get_mut(..self.bytes)).ok_or_else(unseen)
    }

    /// The copy that brings it to the device or back, where one is needed.
    pub fn copy(&self, up: bool) -> Option<(Span<'_, D>, Span<'_, D>)> {
        let staging = self.staging.as_ref().filter(|_| self.bytes > 0)?;
        let (host, device) = (Span::of(staging, self.bytes as u64), Span::of(&*self.device, self.bytes as u64));
        Some(if up { (host, device) } else { (device, host) })
    }
}

/// What a run reads and writes besides its own memory, and which of its outputs go to the host.
pub struct Ends<D: Driver> {
    /// Memory of values that inputs are, where they are on the device already.
    pub inputs: Vec<Option<Arc<D::Buffer>>>,
    /// Memory of the variables, by their numbers.
    pub vars: Vec<(usize, Arc<D::Buffer>)>,
    /// Outputs that stay on the device.
    pub stay: Vec<bool>,
    /// Whether launches are timed.
    pub timed: bool,
}

impl<D: Driver> Clone for Ends<D> {
    fn clone(&self) -> Self {
        let Ends { inputs, vars, stay, timed } = self;
        Ends { inputs: inputs.clone(), vars: vars.clone(), stay: stay.clone(), timed: *timed }
    }
}

impl<D: Driver> Ends<D> {
    /// Whether commands for the one do for the other.
    pub fn same(&self, o: &Ends<D>) -> bool {
        let address = |b: &Option<Arc<D::Buffer>>| b.as_ref().map(Arc::as_ptr);
        self.timed == o.timed
            && self.stay == o.stay
            && self.inputs.iter().map(address).eq(o.inputs.iter().map(address))
            && self.vars.iter().zip(&o.vars).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(&a.1, &b.1))
    }
}

/// The values of symbols.
pub type Sizes<'a> = &'a dyn Fn(&Sym) -> Option<i64>;

impl<D: Driver> Buffers<D> {
    pub fn new(x: &Executable<D>, queue: &D::Queue, of: Sizes) -> Result<Buffers<D>, GpuError> {
        let (plan, device) = (&x.program.plan, &x.device);
        Ok(Buffers {
            arena: device.buffer(queue, size(&plan.arena, of)?, Purpose::Device)?,
            inputs: plan.inputs.iter().map(|_| None).collect(),
            outputs: plan.outputs.iter().map(|p| transfer(x, queue, p.buf, of)).collect::<Result<_, _>>()?,
            status: device.buffer(queue, 4 * STATUS_WORDS as u64, Purpose::Host)?,
            cond: device.buffer(queue, 16, Purpose::Host)?,
        })
    }

    /// Makes memory for the inputs that come from the host, and for the outputs that go there.
    pub fn prepare(&mut self, x: &Executable<D>, queue: &D::Queue, ends: &Ends<D>, of: Sizes) -> Result<(), GpuError> {
        for ((own, bound), port) in self.inputs.iter_mut().zip(&ends.inputs).zip(&x.program.plan.inputs) {
            if bound.is_none() && own.is_none() {
                let mut made = transfer(x, queue, port.buf, of)?;
                made.stage(&x.device, queue)?;
                *own = Some(made);
            }
        }
        let to_host = self.outputs.iter_mut().zip(&ends.stay).filter(|(_, stay)| !**stay);
        to_host.map(|(t, _)| t).try_for_each(|t| t.stage(&x.device, queue))
    }
}

fn size(d: &Dim, of: Sizes) -> Result<u64, GpuError> {
    let n = d.eval(&of).and_then(|n| u64::try_from(n).ok());
    n.ok_or_else(|| GpuError::Lacks("memory for sizes that are beyond all bounds".into()))
}

fn transfer<D: Driver>(x: &Executable<D>, queue: &D::Queue, buf: Buf, of: Sizes) -> Result<Transfer<D>, GpuError> {
    Transfer::new(&x.device, queue, size(&x.program.plan.buffer(buf).bytes(), of)? as usize)
}

/// Commands in the making, with what they wait for.
pub struct Order<'a, D: Driver> {
    pub commands: Vec<Command<'a, D>>,
    /// The step of each command that launches.
    pub steps: Vec<Option<usize>>,
    hazards: Hazards,
}

impl<'a, D: Driver> Order<'a, D> {
    pub fn new() -> Self {
        Order { commands: Vec::new(), steps: Vec::new(), hazards: Hazards::default() }
    }

    fn push(&mut self, what: What<'a, D>, node: &'a str, reads: &[Span<'a, D>], writes: &[Span<'a, D>]) {
        let bytes = |spans: &[Span<D>]| spans.iter().map(Span::place).collect::<Vec<Bytes>>();
        let after = self.hazards.add(&bytes(reads), &bytes(writes));
        self.commands.push(Command { what, after, node });
        self.steps.push(None);
    }

    pub fn copies(&mut self, copies: impl Iterator<Item = (Span<'a, D>, Span<'a, D>)>) {
        copies.for_each(|(from, to)| self.push(What::Copy { from, to }, "", &[from], &[to]));
    }
}

/// Where everything of a run is.
pub struct Layout<'a, D: Driver> {
    pub x: &'a Executable<D>,
    pub memory: &'a Buffers<D>,
    pub ends: &'a Ends<D>,
}

impl<D: Driver> Clone for Layout<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Driver> Copy for Layout<'_, D> {}

impl<'a, D: Driver> Layout<'a, D> {
    /// Copies between the host's memory and the device's; none where they are the same.
    pub fn transfers(self, up: bool) -> Vec<(Span<'a, D>, Span<'a, D>)> {
        let (memory, ends) = (self.memory, self.ends);
        if up {
            let own = memory.inputs.iter().zip(&ends.inputs).filter(|(_, bound)| bound.is_none());
            return own.filter_map(|(t, _)| t.as_ref()?.copy(true)).collect();
        }
        memory.outputs.iter().zip(&ends.stay).filter(|(_, stay)| !**stay).filter_map(|(t, _)| t.copy(false)).collect()
    }

    /// Where a buffer of the plan lies.
    ///
    /// # Errors
    /// If a size of it is not known.
    pub fn span(self, b: Buf, of: Sizes) -> Result<Span<'a, D>, GpuError> {
        let (x, memory) = (self.x, self.memory);
        let buffer = x.program.plan.buffer(b);
        let unknown = || GpuError::Lacks(format!("a size for the result of node {:?}", buffer.loc.name()));
        let value = |d: &Dim| d.eval(&of).and_then(|n| u64::try_from(n).ok()).ok_or_else(unknown);
        let bytes = value(&buffer.bytes())?;
        Ok(match &buffer.place {
            Place::Arena { offset } => Span { buffer: &memory.arena, from: value(offset)?, bytes },
            Place::Input(k) => match (self.ends.inputs.get(*k).and_then(Option::as_ref), memory.inputs.get(*k)) {
                (Some(bound), _) => Span::of(&**bound, bytes),
                (None, Some(Some(own))) => Span::of(&*own.device, bytes),
                _ => return Err(unknown()),
            },
            Place::Output(k) => Span::of(&*memory.outputs[*k].device, bytes),
            // Packed constants are larger than their tensors.
            Place::Const(c) => {
                let from = u64::try_from(x.layout.offset(*c)).map_err(|_| unknown())?;
                Span { buffer: &x.loaded.weights, from, bytes: x.packed[c.index()] as u64 }
            }
            Place::Var(v) => {
                let (_, t) = self.ends.vars.iter().find(|(n, _)| *n == v.index()).ok_or_else(unknown)?;
                Span::of(&**t, bytes)
            }
            Place::View { of: outer, offset } => {
                let span = self.span(*outer, of)?;
                Span { from: span.from + value(offset)? * buffer.ty.elem.size() as u64, bytes, ..span }
            }
            Place::Unplaced => return Err(unknown()),
        })
    }

    /// Appends the launches of some steps.
    pub fn launches(self, steps: Range<usize>, of: Sizes, order: &mut Order<'a, D>) -> Result<(), GpuError> {
        for i in steps {
            let (step, Some(l)) = (&self.x.program.plan.steps[i], &self.x.program.launches[i]) else { continue };
            let first = order.commands.len();
            self.launch(step, l, of, order).map_err(|e| e.at(step.loc.name()))?;
            order.steps[first..].fill(Some(i));
        }
        Ok(())
    }

    /// Appends one launch, if there is something to do.
    ///
    /// # Errors
    /// If a buffer is larger than kernels can see, or a size than they can count.
    pub fn launch(self, step: &'a Step, l: &Launch, of: Sizes, order: &mut Order<'a, D>) -> Result<(), GpuError> {
        let x = self.x;
        let (plan, limits) = (&x.program.plan, x.device.limits());
        let value = |d: &Dim| d.eval(&of).ok_or_else(|| GpuError::Lacks("a size that is known".into()));
        let groups = value(&l.groups)?;
        if groups <= 0 {
            return Ok(());
        }
        let groups = groups.min(i64::from(limits.groups)) as u32;
        let spans = |bufs: &[Buf]| bufs.iter().map(|&b| self.span(b, of)).collect::<Result<Vec<_>, _>>();
        let (reads, mut writes, seen) = (spans(&step.reads)?, spans(&step.writes)?, spans(&l.buffers)?);
        for (s, &b) in seen.iter().zip(&l.buffers) {
            if s.bytes > limits.range || s.bytes / plan.buffer(b).ty.elem.size().max(1) as u64 > i32::MAX as u64 {
                return Err(GpuError::Lacks(format!("kernels over {} bytes of one buffer", s.bytes)));
            }
        }
        let word =
            |p: &Dim| value(p).and_then(|v| i32::try_from(v).map_err(|_| GpuError::Lacks(format!("sizes beyond 32 bits: {v}"))));
        let words = l.params.iter().map(word).collect::<Result<Vec<i32>, _>>()?;
        let code = &x.program.kernels[l.kernel];
        let status = Span::of(&self.memory.status, 4 * STATUS_WORDS as u64);
        if code.bindings.contains(&Binding::Status) {
            writes.push(status);
        }
        let argument = |b: &Binding| {
            Ok(match b {
                Binding::Buffer(k) => Argument::Memory(seen[*k as usize]),
                Binding::Params => Argument::Words(words.clone()),
                Binding::Status => Argument::Memory(status),
                Binding::Map(m) => Argument::Tensor(seen[m.buffer as usize], Tensor::of(m, &words)?),
            })
        };
        let arguments = code.bindings.iter().map(argument).collect::<Result<_, GpuError>>()?;
        let what = What::Launch { kernel: &x.loaded.kernels[l.kernel], arguments, groups };
        order.push(what, step.loc.name(), &reads, &writes);
        Ok(())
    }
}
