//! What all drivers have in common: the walk over a plan's control flow, the memory of a run, and the order of its commands.
//!
//! A [`Driver`] allocates, takes kernels, and runs sequences of commands. What belongs before what is said by the commands themselves,
//! so that a driver is free in how it orders the rest.

mod executable;
mod flow;
mod hazards;
mod mapped;
mod memory;
mod profile;
mod recorded;
mod value;

pub use executable::{Executable, Input, Io, Output, Run};
pub use mapped::{Mapped, allocated};
pub use profile::{Profile, bandwidth};
pub use value::{Counters, DeviceValue, Moves, Traffic};

use crate::code::{Code, Int, TensorMap};
use crate::error::GpuError;
use crate::program::{Launch, Program};
use hazards::Bytes;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What of a device's limits matters to launches.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Greatest number of bytes that a kernel sees of one buffer.
    pub range: u64,
    /// Greatest number of workgroups of a launch.
    pub groups: u32,
    /// What offsets of buffers are multiples of.
    pub alignment: u64,
}

/// What a buffer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Kernels work in it.
    Device,
    /// The host writes or reads it; the device copies it, and kernels may touch a few words of it.
    Host,
}

/// Memory that a device works in or copies from.
pub trait Memory: Send + Sync {
    /// The content, where the host sees it.
    fn mapped(&self) -> &Option<Mapped>;

    fn mapped_mut(&mut self) -> &mut Option<Mapped>;

    /// The content, where the host sees it. Nothing may run that uses the buffer.
    fn host(&self) -> Option<&[u8]> {
        self.mapped().as_ref().map(Mapped::content)
    }

    /// As [`Memory::host`].
    fn host_mut(&mut self) -> Option<&mut [u8]> {
        self.mapped_mut().as_mut().map(Mapped::content_mut)
    }
}

/// Part of a buffer.
pub struct Span<'a, D: Driver> {
    pub buffer: &'a D::Buffer,
    pub from: u64,
    pub bytes: u64,
}

impl<D: Driver> Clone for Span<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Driver> Copy for Span<'_, D> {}

impl<'a, D: Driver> Span<'a, D> {
    /// The first `bytes` bytes.
    pub fn of(buffer: &'a D::Buffer, bytes: u64) -> Span<'a, D> {
        Span { buffer, from: 0, bytes }
    }

    fn place(&self) -> Bytes {
        Bytes { buffer: std::ptr::from_ref(self.buffer).addr(), from: self.from, to: self.from + self.bytes }
    }
}

/// What a kernel is given, in the order of its bindings.
pub enum Argument<'a, D: Driver> {
    Memory(Span<'a, D>),
    /// The parameters of the launch.
    Words(Vec<i32>),
    /// A tensor that units of the device copy boxes of.
    Tensor(Span<'a, D>, Tensor),
}

/// A tensor of f32 in a buffer as [`TensorMap`] says, with its sizes.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its first element.
    pub first: u64,
    pub extents: Vec<u64>,
    /// In elements, of all axes but the first.
    pub strides: Vec<u64>,
    pub tile: Vec<u32>,
    pub swizzled: bool,
}

impl Tensor {
    /// # Errors
    /// If a size is negative.
    fn of(map: &TensorMap, params: &[i32]) -> Result<Tensor, GpuError> {
        let size = |i: &Int| u64::try_from(i.value(params)).map_err(|_| GpuError::Lacks("tensors of negative sizes".into()));
        let sizes = |list: &[Int]| list.iter().map(size).collect::<Result<Vec<_>, _>>();
        let (first, extents, strides) = (size(&map.first)?, sizes(&map.extents)?, sizes(&map.strides)?);
        Ok(Tensor { first, extents, strides, tile: map.tile.clone(), swizzled: map.swizzled })
    }
}

pub enum What<'a, D: Driver> {
    /// `to` is as large as `from`.
    Copy {
        from: Span<'a, D>,
        to: Span<'a, D>,
    },
    Launch {
        kernel: &'a D::Kernel,
        arguments: Vec<Argument<'a, D>>,
        groups: u32,
    },
}

/// A command of a sequence.
pub struct Command<'a, D: Driver> {
    pub what: What<'a, D>,
    /// The commands before it, by number, whose effects it must see or must not disturb; what those wait for is not repeated.
    pub after: Vec<usize>,
    /// The source node, for errors.
    pub node: &'a str,
}

/// An API through which a device computes.
pub trait Driver: Sized + Send + Sync + 'static {
    type Buffer: Memory;
    /// A kernel that is ready to be launched.
    type Kernel: Send + Sync;
    /// Where one run at a time takes place.
    type Queue: Send;
    /// Commands that can be run again and again. Buffers, kernels and the queue that they name outlive them.
    type Sequence: Send;

    fn limits(&self) -> &Limits;

    /// What has moved to and from the device.
    fn counters(&self) -> &Counters;

    /// # Errors
    /// Those of the driver, as for all functions here.
    fn queue(self: &Arc<Self>) -> Result<Self::Queue, GpuError>;

    /// A buffer of at least `bytes` bytes, of unknown content, for use in `queue` until something has been waited for there.
    fn buffer(self: &Arc<Self>, queue: &Self::Queue, bytes: u64, purpose: Purpose) -> Result<Self::Buffer, GpuError>;

    fn kernel(self: &Arc<Self>, code: &Code) -> Result<Self::Kernel, GpuError>;

    fn record(self: &Arc<Self>, queue: &Self::Queue, commands: &[Command<Self>]) -> Result<Self::Sequence, GpuError>;

    /// As [`Driver::record`], one command after another, so that [`Driver::times`] tells how long each takes.
    fn record_timed(self: &Arc<Self>, queue: &Self::Queue, commands: &[Command<Self>]) -> Result<Self::Sequence, GpuError> {
        self.record(queue, commands)
    }

    /// Seconds that each command of a sequence took in its last run, by the device's clock; none where it was not recorded so, or the
    /// device has no such clock.
    fn times(&self, _sequence: &Self::Sequence) -> Result<Vec<f64>, GpuError> {
        Ok(Vec::new())
    }

    /// Runs sequences, one after another, and waits for the last. The host sees what was written.
    fn run(&self, queue: &Self::Queue, sequences: &[&Self::Sequence]) -> Result<(), GpuError>;

    /// Copies `bytes` bytes between buffers of which at least `to` is this device's, past the host, and waits; false if that cannot be done.
    fn copy_across(
        &self,
        _queue: &Self::Queue,
        _from: (&Arc<Self>, &Self::Buffer),
        _to: &Self::Buffer,
        _bytes: usize,
    ) -> Result<bool, GpuError> {
        Ok(false)
    }
}

/// Memory for a value on a device, of unknown content.
///
/// # Errors
/// If there is not enough.
pub fn value<D: Driver>(device: &Arc<D>, bytes: usize) -> Result<DeviceValue, GpuError> {
    value::Placed::new(device, bytes).map(DeviceValue::new)
}

/// All kernels, made on `threads` threads.
fn kernels<D: Driver>(device: &Arc<D>, program: &Program, threads: usize) -> Result<Vec<D::Kernel>, GpuError> {
    let codes = &program.kernels;
    // The node that first asks for a kernel.
    let node = |kernel: usize| {
        let asks = |l: &Option<Launch>| l.as_ref().is_some_and(|l| l.kernel == kernel);
        program.launches.iter().position(asks).map_or("", |step| program.plan.steps[step].loc.name())
    };
    let made: Vec<OnceLock<Result<D::Kernel, GpuError>>> = codes.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(k) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|k| *k < codes.len()) {
            made[k].get_or_init(|| device.kernel(&codes[k]).map_err(|e| e.at(node(k))));
        }
    };
    std::thread::scope(|s| {
        (1..threads.min(codes.len())).for_each(|_| drop(s.spawn(work)));
        work();
    });
    made.into_iter().filter_map(OnceLock::into_inner).collect()
}
