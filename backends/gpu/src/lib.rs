//! Plans on GPUs: kernels written through MLIR, lowered to SPIR-V or PTX in this process, and run through the driver.
//!
//! [`plan`] lowers a function of the tensor IR as for the CPU, with a GPU's choices; [`compile`] makes the kernels of a plan; a
//! [`vulkan::Executable`] holds weights and kernels on a device and runs.
#![cfg(feature = "mlir")]

pub mod build;
pub mod cache;
pub mod design;
pub mod error;
mod functions;
pub mod kernels;
pub mod lanes;
pub mod mlir;
pub mod program;
mod spirv;
pub mod target;
pub mod vulkan;

pub use cache::KernelCache;
pub use error::GpuError;
pub use program::{Listing, Program, compile, list};
pub use target::{Flavour, GpuTarget};

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
