//! Plans on GPUs: kernels written through MLIR, lowered to SPIR-V or PTX in this process, and run through the driver.
//!
//! [`plan`] lowers a function of the tensor IR as for the CPU, with a GPU's choices; [`compile`] makes the kernels of a plan;
//! [`Device::load`] brings weights and kernels to a device, where they run.
#![cfg(feature = "mlir")]

pub mod build;
pub mod cache;
pub mod cuda;
pub mod design;
pub mod device;
pub mod error;
mod functions;
pub mod kernels;
pub mod lanes;
pub mod measure;
pub mod mlir;
pub mod program;
pub mod run;
mod spirv;
pub mod target;
pub mod vulkan;

pub use cache::KernelCache;
pub use device::{Device, DeviceInfo, devices};
pub use error::GpuError;
pub use program::{Listing, Program, compile, list};
pub use run::{Profile, Run};
pub use target::{Chip, Factors, Flavour, GpuTarget};

use graphc_cpu::CompileError;
use graphc_ir::Module;
use graphc_passes::plan::Plan;

/// Lowers `func` of `module` to a plan with all buffers placed.
///
/// # Errors
/// If there is no such function, or some of its operations have no code.
pub fn plan(module: &Module, func: &str) -> Result<Plan, CompileError> {
    let f = module.func(func).ok_or_else(|| CompileError::NoFunction(func.to_owned()))?;
    graphc_cpu::lower::lower(module, f, &GpuTarget)
}
