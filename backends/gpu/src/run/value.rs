//! Values in the memory of a device, which outlive the run that left them there: results that later runs read, and variables.

use super::recorded::Recorded;
use super::{Command, Driver, Memory, Purpose, Span, What};
use crate::error::GpuError;
use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A value in a device's memory. Clones are the same memory.
#[derive(Clone)]
pub struct DeviceValue(Arc<dyn Held>);

/// What a value can do, whatever drives its device.
trait Held: Any + Send + Sync {
    fn bytes(&self) -> usize;
    fn read(&self, to: &mut [u8]) -> Result<(), GpuError>;
    fn write(&self, from: &[u8]) -> Result<(), GpuError>;
    fn copy_from(&self, from: &DeviceValue) -> Result<(), GpuError>;
    fn rest(&self);
}

impl DeviceValue {
    pub(super) fn new<D: Driver>(placed: Placed<D>) -> DeviceValue {
        DeviceValue(Arc::new(placed))
    }

    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Copies it to the host. Nothing that writes it may run.
    ///
    /// # Errors
    /// Those of the driver, as for all functions here.
    pub fn read(&self, to: &mut [u8]) -> Result<(), GpuError> {
        self.0.read(to)
    }

    /// Replaces it by what the host has. Nothing that uses it may run, and it is not a run's.
    pub fn write(&self, from: &[u8]) -> Result<(), GpuError> {
        self.0.write(from)
    }

    /// Replaces it by another value of the same size: straight from device to device where the driver can, or else through the host.
    pub fn copy_from(&self, from: &DeviceValue) -> Result<(), GpuError> {
        self.0.copy_from(from)
    }

    /// Gives back what copies to and from the host need besides.
    pub fn rest(&self) {
        self.0.rest();
    }

    /// Whether nobody else has it.
    pub fn is_unused(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// The value as one of `device`; `None` if it is elsewhere.
    pub(crate) fn on<D: Driver>(&self, device: &Arc<D>) -> Option<&Placed<D>> {
        self.driven::<D>().filter(|p| Arc::ptr_eq(&p.device, device))
    }

    /// The value as one of any device of a driver.
    fn driven<D: Driver>(&self) -> Option<&Placed<D>> {
        (&*self.0 as &dyn Any).downcast_ref()
    }
}

/// How often values went between the host and a device, and between devices, and how many bytes that were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the host to the device.
    pub up: Moves,
    /// From the device to the host.
    pub down: Moves,
    /// To the device from another one, past the host.
    pub across: Moves,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    pub values: u64,
    pub bytes: u64,
}

/// [`Traffic`] of a device that is open.
#[derive(Default)]
pub struct Counters {
    pub(super) up: Counter,
    pub(super) down: Counter,
    pub(super) across: Counter,
}

#[derive(Default)]
pub(super) struct Counter {
    values: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    /// Counts a value; one of no bytes does not move.
    pub fn add(&self, bytes: usize) {
        self.values.fetch_add(u64::from(bytes > 0), Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn moves(&self) -> Moves {
        Moves { values: self.values.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

impl Counters {
    pub fn traffic(&self) -> Traffic {
        Traffic { up: self.up.moves(), down: self.down.moves(), across: self.across.moves() }
    }
}

/// A value on a device, and whose memory it is.
pub struct Placed<D: Driver> {
    pub device: Arc<D>,
    pub buffer: Arc<D::Buffer>,
    bytes: usize,
    of: Of<D>,
}

enum Of<D: Driver> {
    /// An output of a run, by number. The run's memory is not used again while the value is there.
    Run { lease: Arc<Lease<D>>, output: usize },
    /// Nobody else's; with the way to the host, where one was needed.
    Own(Mutex<Option<Way<D>>>),
}

/// The memory of a run that ended, while values in it are used; goes back to where it came from.
pub struct Lease<D: Driver> {
    recorded: Mutex<Option<Recorded<D>>>,
    idle: Weak<Mutex<Vec<Recorded<D>>>>,
    /// What sequences of the memory refer to, which goes after them.
    _loaded: Arc<dyn Any + Send + Sync>,
}

impl<D: Driver> Drop for Lease<D> {
    fn drop(&mut self) {
        let recorded = self.recorded.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(idle), Some(r)) = (self.idle.upgrade(), recorded) {
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(r);
        }
    }
}

impl<D: Driver> Lease<D> {
    pub fn new(recorded: Recorded<D>, idle: &Arc<Mutex<Vec<Recorded<D>>>>, loaded: Arc<dyn Any + Send + Sync>) -> Arc<Lease<D>> {
        Arc::new(Lease { recorded: Mutex::new(Some(recorded)), idle: Arc::downgrade(idle), _loaded: loaded })
    }

    /// An output of the run as a value.
    pub fn output(lease: &Arc<Lease<D>>, device: &Arc<D>, buffer: Arc<D::Buffer>, output: usize, bytes: usize) -> DeviceValue {
        let of = Of::Run { lease: lease.clone(), output };
        DeviceValue::new(Placed { device: device.clone(), buffer, bytes, of })
    }
}

/// Memory of the host's beside a value, and the copies between them.
struct Way<D: Driver> {
    up: D::Sequence,
    down: D::Sequence,
    staging: D::Buffer,
    queue: D::Queue,
}

impl<D: Driver> Way<D> {
    fn new(device: &Arc<D>, buffer: &D::Buffer, bytes: usize) -> Result<Way<D>, GpuError> {
        let queue = device.queue()?;
        let staging = device.buffer(&queue, bytes as u64, Purpose::Host)?;
        let (host, there) = (Span::of(&staging, bytes as u64), Span::of(buffer, bytes as u64));
        let copy = |from, to| device.record(&queue, &[Command { what: What::Copy { from, to }, after: Vec::new(), node: "" }]);
        let (up, down) = (copy(host, there)?, copy(there, host)?);
        Ok(Way { up, down, staging, queue })
    }
}

pub(super) fn unseen() -> GpuError {
    GpuError::Lacks("memory that the host sees".into())
}

impl<D: Driver> Placed<D> {
    /// Memory for a value of `bytes` bytes, of unknown content.
    pub fn new(device: &Arc<D>, bytes: usize) -> Result<Placed<D>, GpuError> {
        let queue = device.queue()?;
        let buffer = Arc::new(device.buffer(&queue, bytes as u64, Purpose::Device)?);
        // From here on other queues may use it.
        device.run(&queue, &[])?;
        Ok(Placed { device: device.clone(), buffer, bytes, of: Of::Own(Mutex::new(None)) })
    }

    fn way<R>(&self, way: &Mutex<Option<Way<D>>>, f: impl FnOnce(&mut Way<D>) -> Result<R, GpuError>) -> Result<R, GpuError> {
        let mut way = way.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ready = match way.take() {
            Some(w) => w,
            None => Way::new(&self.device, &self.buffer, self.bytes)?,
        };
        let result = f(&mut ready);
        *way = Some(ready);
        result
    }
}

impl<D: Driver> Held for Placed<D> {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn read(&self, to: &mut [u8]) -> Result<(), GpuError> {
        if self.bytes == 0 {
            return Ok(());
        }
        self.device.counters().down.add(self.bytes);
        match &self.of {
            Of::Run { lease, output } => {
                let mut recorded = lease.recorded.lock().unwrap_or_else(PoisonError::into_inner);
                recorded.as_mut().ok_or_else(unseen)?.read_output(&self.device, *output, to)
            }
            Of::Own(way) => self.way(way, |w| {
                self.device.run(&w.queue, &[&w.down])?;
                let from = w.staging.host().and_then(|h| h.get(..to.len())).ok_or_else(unseen)?;
                to.copy_from_slice(from);
                Ok(())
            }),
        }
    }

    fn write(&self, from: &[u8]) -> Result<(), GpuError> {
        let Of::Own(way) = &self.of else { return Err(GpuError::Lacks("results that can be written".into())) };
        if self.bytes == 0 {
            return Ok(());
        }
        self.device.counters().up.add(self.bytes);
        self.way(way, |w| {
            let to = w.staging.host_mut().and_then(|h| h.get_mut(..from.len())).ok_or_else(unseen)?;
            to.copy_from_slice(from);
            self.device.run(&w.queue, &[&w.up])
        })
    }

    fn copy_from(&self, from: &DeviceValue) -> Result<(), GpuError> {
        if let (Some(other), Of::Own(way)) = (from.driven::<D>().filter(|o| o.bytes == self.bytes), &self.of)
            && self.way(way, |w| self.device.copy_across(&w.queue, (&other.device, &other.buffer), &self.buffer, self.bytes))?
        {
            self.device.counters().across.add(self.bytes);
            return Ok(());
        }
        let mut bytes = vec![0; self.bytes];
        from.read(&mut bytes)?;
        self.write(&bytes)
    }

    fn rest(&self) {
        if let Of::Own(way) = &self.of {
            way.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }
}
