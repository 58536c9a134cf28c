//! A run's memory and its recorded commands, for one set of sizes.

use super::executable::Executable;
use super::flow::{Piece, parts};
use super::hazards::{Bytes, Hazards};
use super::{Argument, Command, Driver, Memory, Purpose, Span, Tensor, What};
use crate::code::Binding;
use crate::error::GpuError;
use crate::program::Launch;
use graphc_ir::{Dim, Sym};
use graphc_passes::plan::{Buf, Place, Step};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Words that a failing kernel writes: see [`Binding::Status`].
pub const STATUS_WORDS: usize = 4;

/// Memory of a run and what is recorded over it. Of one run at a time.
pub struct Recorded<D: Driver> {
    pub syms: Vec<i64>,
    /// Copies from the host's memory, where there are any that no block begins with.
    pub before: Option<D::Sequence>,
    pub after: Option<D::Sequence>,
    /// By the first step.
    pub blocks: HashMap<usize, D::Sequence>,
    /// By the first step of a block, the step of each of its commands; none for copies.
    pub steps: HashMap<usize, Vec<Option<usize>>>,
    /// Each copies a condition to [`Buffers::cond`].
    pub conds: HashMap<Buf, D::Sequence>,
    /// After what refers to it, as fields are dropped in their order.
    pub memory: Buffers<D>,
    pub queue: D::Queue,
}

/// The memory of a run.
pub struct Buffers<D: Driver> {
    arena: D::Buffer,
    pub inputs: Vec<Transfer<D>>,
    pub outputs: Vec<Transfer<D>>,
    /// Variables by their numbers.
    pub vars: Vec<(usize, Transfer<D>)>,
    /// Seen by the host and by kernels.
    pub status: D::Buffer,
    /// A condition, where the host reads it.
    pub cond: D::Buffer,
}

/// A buffer of the device that the host fills or reads: straight, or through one that it sees.
pub struct Transfer<D: Driver> {
    device: D::Buffer,
    staging: Option<D::Buffer>,
    bytes: usize,
}

impl<D: Driver> Transfer<D> {
    fn new(device: &Arc<D>, queue: &D::Queue, bytes: usize) -> Result<Transfer<D>, GpuError> {
        let on_device = device.buffer(queue, bytes as u64, Purpose::Device)?;
        let staging = match on_device.host() {
            Some(_) => None,
            None => Some(device.buffer(queue, bytes as u64, Purpose::Host)?),
        };
        Ok(Transfer { device: on_device, staging, bytes })
    }

    pub fn host(&self) -> &[u8] {
        let all = self.staging.as_ref().unwrap_or(&self.device).host().unwrap_or_default();
        &all[..self.bytes.min(all.len())]
    }

    pub fn host_mut(&mut self) -> &mut [u8] {
        let bytes = self.bytes;
        let all = self.staging.as_mut().unwrap_or(&mut self.device).host_mut().unwrap_or_default();
        let bytes = bytes.min(all.len());
        &mut all[..bytes]
    }

    /// The copy that brings it to the device or back, where one is needed.
    fn copy(&self, up: bool) -> Option<(Span<'_, D>, Span<'_, D>)> {
        let staging = self.staging.as_ref().filter(|_| self.bytes > 0)?;
        let (host, device) = (Span::of(staging, self.bytes as u64), Span::of(&self.device, self.bytes as u64));
        Some(if up { (host, device) } else { (device, host) })
    }
}

/// Commands in the making, with what they wait for.
pub struct Order<'a, D: Driver> {
    pub commands: Vec<Command<'a, D>>,
    /// The step of each command that launches.
    steps: Vec<Option<usize>>,
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

    fn copies(&mut self, copies: impl Iterator<Item = (Span<'a, D>, Span<'a, D>)>) {
        copies.for_each(|(from, to)| self.push(What::Copy { from, to }, "", &[from], &[to]));
    }
}

/// The values of symbols.
type Sizes<'a> = &'a dyn Fn(&Sym) -> Option<i64>;

impl<D: Driver> Recorded<D> {
    /// Memory and commands for sizes `syms`; `timed`, so that the driver tells how long commands take.
    ///
    /// # Errors
    /// If the device has not enough memory, or a buffer is larger than kernels can see.
    pub fn new(x: &Executable<D>, syms: &[i64], timed: bool) -> Result<Recorded<D>, GpuError> {
        let plan = &x.program.plan;
        let of = |s: &Sym| plan.syms.iter().position(|t| t == s).and_then(|k| syms.get(k).copied());
        let queue = x.device.queue()?;
        let memory = Buffers::new(x, &queue, &of)?;
        let record = |order: Order<D>| x.device.record(&queue, &order.commands);
        let (mut ranges, mut tested) = (Vec::new(), Vec::new());
        parts(&x.pieces, &mut |range| ranges.push(range.clone()), &mut |c| tested.push(c));
        // Transfers are part of the blocks beside them, so that a driver may let them overlap with launches.
        let outermost = |p: Option<&Piece>| match p {
            Some(Piece::Block(range)) => Some(range.start),
            _ => None,
        };
        let (first, last) = (outermost(x.pieces.first()), outermost(x.pieces.last()));
        let (mut blocks, mut steps_of) = (HashMap::new(), HashMap::new());
        for range in ranges {
            let (start, mut order) = (range.start, Order::new());
            if first == Some(start) {
                order.copies(memory.transfers(true));
            }
            memory.launches(x, range, &of, &mut order)?;
            if last == Some(start) {
                order.copies(memory.transfers(false));
            }
            steps_of.insert(start, std::mem::take(&mut order.steps));
            let sequence = if timed { x.device.record_timed(&queue, &order.commands) } else { record(order) };
            blocks.insert(start, sequence?);
        }
        let alone = |up: bool| {
            let mut order = Order::new();
            order.copies(memory.transfers(up));
            if order.commands.is_empty() { Ok(None) } else { record(order).map(Some) }
        };
        let before = if first.is_none() { alone(true)? } else { None };
        let after = if last.is_none() { alone(false)? } else { None };
        let mut conds = HashMap::new();
        tested.sort_unstable();
        tested.dedup();
        for c in tested {
            let (from, to) = (memory.span(x, c, &of)?, Span::of(&memory.cond, 1));
            let mut order = Order::new();
            order.copies(std::iter::once((Span { bytes: 1, ..from }, to)));
            conds.insert(c, record(order)?);
        }
        Ok(Recorded { syms: syms.to_vec(), before, after, blocks, steps: steps_of, conds, memory, queue })
    }
}

impl<D: Driver> Recorded<D> {
    /// Forgets failures.
    pub fn clear_status(&mut self) {
        if let Some(words) = self.memory.status.host_mut() {
            words.fill(0);
        }
    }
}

impl<D: Driver> Buffers<D> {
    fn new(x: &Executable<D>, queue: &D::Queue, of: Sizes) -> Result<Buffers<D>, GpuError> {
        let (plan, device) = (&x.program.plan, &x.device);
        let size = |d: &Dim| {
            let n = d.eval(&of).and_then(|n| u64::try_from(n).ok());
            n.ok_or_else(|| GpuError::Lacks("memory for sizes that are beyond all bounds".into()))
        };
        let port = |buf: Buf| Transfer::new(device, queue, size(&plan.buffer(buf).bytes())? as usize);
        let mut vars: Vec<(usize, Transfer<D>)> = Vec::new();
        for (k, b) in plan.buffers.iter().enumerate() {
            if let Place::Var(v) = b.place
                && vars.iter().all(|(n, _)| *n != v.index())
            {
                vars.push((v.index(), port(Buf(k as u32))?));
            }
        }
        Ok(Buffers {
            arena: device.buffer(queue, size(&plan.arena)?, Purpose::Device)?,
            inputs: plan.inputs.iter().map(|p| port(p.buf)).collect::<Result<_, _>>()?,
            outputs: plan.outputs.iter().map(|p| port(p.buf)).collect::<Result<_, _>>()?,
            vars,
            status: device.buffer(queue, 4 * STATUS_WORDS as u64, Purpose::Host)?,
            cond: device.buffer(queue, 16, Purpose::Host)?,
        })
    }

    /// Copies between the host's memory and the device's; none where they are the same.
    fn transfers(&self, up: bool) -> impl Iterator<Item = (Span<'_, D>, Span<'_, D>)> {
        let ports = if up { &self.inputs } else { &self.outputs };
        ports.iter().chain(self.vars.iter().map(|(_, t)| t)).filter_map(move |t| t.copy(up))
    }

    /// Where a buffer of the plan lies.
    ///
    /// # Errors
    /// If a size of it is not known.
    pub fn span<'a>(&'a self, x: &'a Executable<D>, b: Buf, of: Sizes) -> Result<Span<'a, D>, GpuError> {
        let buffer = x.program.plan.buffer(b);
        let unknown = || GpuError::Lacks(format!("a size for the result of node {:?}", buffer.loc.name()));
        let value = |d: &Dim| d.eval(&of).and_then(|n| u64::try_from(n).ok()).ok_or_else(unknown);
        let bytes = value(&buffer.bytes())?;
        Ok(match &buffer.place {
            Place::Arena { offset } => Span { buffer: &self.arena, from: value(offset)?, bytes },
            Place::Input(k) => Span::of(&self.inputs[*k].device, bytes),
            Place::Output(k) => Span::of(&self.outputs[*k].device, bytes),
            // Packed constants are larger than their tensors.
            Place::Const(c) => {
                let from = u64::try_from(x.layout.offset(*c)).map_err(|_| unknown())?;
                Span { buffer: &x.weights, from, bytes: x.packed[c.index()] as u64 }
            }
            Place::Var(v) => {
                let (_, t) = self.vars.iter().find(|(n, _)| *n == v.index()).ok_or_else(unknown)?;
                Span::of(&t.device, bytes)
            }
            Place::View { of: outer, offset } => {
                let span = self.span(x, *outer, of)?;
                Span { from: span.from + value(offset)? * buffer.ty.elem.size() as u64, bytes, ..span }
            }
            Place::Unplaced => return Err(unknown()),
        })
    }

    /// Appends the launches of some steps.
    fn launches<'a>(
        &'a self,
        x: &'a Executable<D>,
        steps: Range<usize>,
        of: Sizes,
        order: &mut Order<'a, D>,
    ) -> Result<(), GpuError> {
        for i in steps {
            let (step, Some(l)) = (&x.program.plan.steps[i], &x.program.launches[i]) else { continue };
            let first = order.commands.len();
            self.launch(x, step, l, of, order).map_err(|e| e.at(step.loc.name()))?;
            order.steps[first..].fill(Some(i));
        }
        Ok(())
    }

    /// Appends one launch, if there is something to do.
    ///
    /// # Errors
    /// If a buffer is larger than kernels can see, or a size than they can count.
    pub fn launch<'a>(
        &'a self,
        x: &'a Executable<D>,
        step: &'a Step,
        l: &Launch,
        of: Sizes,
        order: &mut Order<'a, D>,
    ) -> Result<(), GpuError> {
        let (plan, limits) = (&x.program.plan, x.device.limits());
        let value = |d: &Dim| d.eval(&of).ok_or_else(|| GpuError::Lacks("a size that is known".into()));
        let groups = value(&l.groups)?;
        if groups <= 0 {
            return Ok(());
        }
        let groups = groups.min(i64::from(limits.groups)) as u32;
        let spans = |bufs: &[Buf]| bufs.iter().map(|&b| self.span(x, b, of)).collect::<Result<Vec<_>, _>>();
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
        let status = Span::of(&self.status, 4 * STATUS_WORDS as u64);
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
        let what = What::Launch { kernel: &x.kernels[l.kernel], arguments, groups };
        order.push(what, step.loc.name(), &reads, &writes);
        Ok(())
    }
}
