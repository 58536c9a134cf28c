//! The GPUs of this machine, whatever drives them.

use crate::error::GpuError;
use crate::program::Program;
use crate::run::{Executable, Run};
use crate::target::Flavour;
use crate::vulkan;
use graphc_cpu::CompileError;
use std::sync::Arc;

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

/// An open GPU.
#[derive(Clone)]
pub enum Device {
    Vulkan(Arc<vulkan::Device>),
}

/// The devices of this machine, in the order of their numbers.
///
/// # Errors
/// If there is no driver.
pub fn devices() -> Result<Vec<DeviceInfo>, GpuError> {
    Ok(vulkan::devices()?.iter().map(vulkan::DeviceInfo::describe).collect())
}

impl Device {
    /// Device number `index`, opened; one that is open already is shared.
    ///
    /// # Errors
    /// If there is no driver or no such device, or it cannot be opened.
    pub fn open(index: usize) -> Result<Device, GpuError> {
        vulkan::Device::open(index).map(Device::Vulkan)
    }

    pub fn info(&self) -> DeviceInfo {
        match self {
            Device::Vulkan(d) => d.info.describe(),
        }
    }

    /// The language of kernels for this device.
    pub fn flavour(&self) -> Flavour {
        match self {
            Device::Vulkan(d) => d.flavour(),
        }
    }

    /// Makes a program ready to run, on `threads` threads.
    ///
    /// # Errors
    /// If the device lacks what the program needs, or a constant does not hold what its layout says.
    pub fn load(&self, program: Program, threads: usize) -> Result<Box<dyn Run>, CompileError> {
        Ok(match self {
            Device::Vulkan(d) => Box::new(Executable::new(d.clone(), program, threads)?),
        })
    }
}
