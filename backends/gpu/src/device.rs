//! The GPUs of this machine, whatever drives them.

use crate::error::GpuError;
use crate::program::Program;
use crate::run::{self, DeviceValue, Driver, Executable, Run, Traffic};
use crate::target::Flavour;
use crate::{cuda, vulkan};
use graphc_cpu::CompileError;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A GPU, before it is opened.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// The driver's name for it.
    pub name: String,
    /// What it is driven through, with its version.
    pub api: String,
    /// Bytes of its own memory.
    pub memory: u64,
}

/// A driver's devices that are open, by their numbers: one that is opened again is shared.
pub(crate) struct Opened<D>(Mutex<Vec<(usize, Weak<D>)>>);

impl<D> Opened<D> {
    pub(crate) const fn new() -> Opened<D> {
        Opened(Mutex::new(Vec::new()))
    }

    /// Device number `index`, by `open` if it is not open.
    ///
    /// # Errors
    /// Those of `open`.
    pub(crate) fn device(&self, index: usize, open: impl FnOnce() -> Result<D, GpuError>) -> Result<Arc<D>, GpuError> {
        let mut opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(d) = opened.iter().find(|(k, _)| *k == index).and_then(|(_, d)| d.upgrade()) {
            return Ok(d);
        }
        let device = Arc::new(open()?);
        opened.retain(|(k, d)| *k != index && d.strong_count() > 0);
        opened.push((index, Arc::downgrade(&device)));
        Ok(device)
    }
}

/// An open GPU.
#[derive(Clone)]
pub enum Device {
    Cuda(Arc<cuda::Device>),
    Vulkan(Arc<vulkan::Device>),
}

/// A device by its number among those of its driver.
#[derive(Clone, Copy)]
enum Number {
    Cuda(usize),
    Vulkan(usize),
}

/// All devices: NVIDIA's through CUDA where its driver is, then the others through Vulkan.
fn all() -> Result<Vec<(Number, DeviceInfo)>, GpuError> {
    let (cuda, vulkan) = (cuda::devices(), vulkan::devices());
    if let (Err(c), Err(v)) = (&cuda, &vulkan) {
        let why = |e: &GpuError| match e {
            GpuError::NoDriver(why) => why.clone(),
            e => e.to_string(),
        };
        return Err(GpuError::NoDriver(format!("Vulkan: {}; CUDA: {}", why(v), why(c))));
    }
    let (cuda, vulkan) = (cuda.unwrap_or_default(), vulkan.unwrap_or_default());
    let by_cuda = !cuda.is_empty();
    let cuda = cuda.into_iter().enumerate().map(|(k, info)| (Number::Cuda(k), info));
    let others = vulkan.iter().enumerate().filter(|(_, d)| !(by_cuda && d.nvidia));
    Ok(cuda.chain(others.map(|(k, d)| (Number::Vulkan(k), d.describe()))).collect())
}

/// The devices of this machine, in the order of their numbers.
///
/// # Errors
/// If there is no driver.
pub fn devices() -> Result<Vec<DeviceInfo>, GpuError> {
    Ok(all()?.into_iter().map(|(_, info)| info).collect())
}

impl Device {
    /// Device number `index` of [`devices`], opened; one that is open already is shared.
    ///
    /// # Errors
    /// If there is no driver or no such device, or it cannot be opened.
    pub fn open(index: usize) -> Result<Device, GpuError> {
        // Vulkan is left alone where it is not needed.
        if cuda::devices().is_ok_and(|found| index < found.len()) {
            return cuda::Device::open(index).map(Device::Cuda);
        }
        let all = all()?;
        match all.get(index) {
            Some((Number::Cuda(k), _)) => cuda::Device::open(*k).map(Device::Cuda),
            Some((Number::Vulkan(k), _)) => vulkan::Device::open(*k).map(Device::Vulkan),
            None => {
                let found = all.iter().enumerate().map(|(k, (_, d))| format!("GPU:{k} ({})", d.name)).collect();
                Err(GpuError::NoDevice { index, found })
            }
        }
    }

    pub fn info(&self) -> DeviceInfo {
        match self {
            Device::Cuda(d) => d.info.clone(),
            Device::Vulkan(d) => d.info.describe(),
        }
    }

    /// The language of kernels for this device.
    pub fn flavour(&self) -> Flavour {
        match self {
            Device::Cuda(d) => d.flavour(),
            Device::Vulkan(d) => d.flavour(),
        }
    }

    /// Memory for a value, of unknown content.
    ///
    /// # Errors
    /// If there is not enough.
    pub fn value(&self, bytes: usize) -> Result<DeviceValue, GpuError> {
        match self {
            Device::Cuda(d) => run::value(d, bytes),
            Device::Vulkan(d) => run::value(d, bytes),
        }
    }

    /// Whether a value is on the device.
    pub fn holds(&self, value: &DeviceValue) -> bool {
        match self {
            Device::Cuda(d) => value.on(d).is_some(),
            Device::Vulkan(d) => value.on(d).is_some(),
        }
    }

    /// What has moved to and from the device since it was opened, by all that use it.
    pub fn traffic(&self) -> Traffic {
        match self {
            Device::Cuda(d) => d.counters().traffic(),
            Device::Vulkan(d) => d.counters().traffic(),
        }
    }

    /// Bytes a second that copies of `bytes` bytes read and write on the device.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn bandwidth(&self, bytes: u64) -> Result<f64, GpuError> {
        match self {
            Device::Cuda(d) => run::bandwidth(d, bytes),
            Device::Vulkan(d) => run::bandwidth(d, bytes),
        }
    }

    /// Makes a program ready to run, on `threads` threads.
    ///
    /// # Errors
    /// If the device lacks what the program needs, or a constant does not hold what its layout says.
    pub fn load(&self, program: Program, threads: usize) -> Result<Box<dyn Run>, CompileError> {
        Ok(match self {
            Device::Cuda(d) => Box::new(Executable::new(d.clone(), program, threads)?),
            Device::Vulkan(d) => Box::new(Executable::new(d.clone(), program, threads)?),
        })
    }
}
