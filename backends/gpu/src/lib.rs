//! Plans on GPUs: kernels written through MLIR, lowered to SPIR-V or PTX in this process, and run through the driver.
//!
//! [`plan`] lowers a function of the tensor IR as for the CPU, with a GPU's choices; `compile` makes the kernels of a plan;
//! [`Device::load`] brings weights and kernels to a device, where they run.
//!
//! The feature `driver` runs programs that are there: of this process, or of a file ([`stored`]). The feature `mlir` makes them.
#![cfg(feature = "driver")]

#[cfg(feature = "mlir")]
pub mod build;
#[cfg(feature = "mlir")]
pub mod cache;
pub mod code;
#[cfg(feature = "mlir")]
pub mod compile;
pub mod cuda;
#[cfg(feature = "mlir")]
pub mod design;
pub mod device;
pub mod error;
#[cfg(feature = "mlir")]
mod functions;
#[cfg(feature = "mlir")]
pub mod kernels;
#[cfg(feature = "mlir")]
pub mod lanes;
#[cfg(feature = "mlir")]
pub mod measure;
#[cfg(feature = "mlir")]
pub mod mlir;
pub mod program;
pub mod run;
#[cfg(feature = "mlir")]
mod spirv;
#[cfg(feature = "mlir")]
mod split;
pub mod stored;
pub mod target;
pub mod vulkan;

#[cfg(feature = "mlir")]
pub use cache::KernelCache;
pub use code::{Binding, Code};
#[cfg(feature = "mlir")]
pub use compile::{Listing, compile, list};
pub use device::{Device, DeviceInfo, devices};
pub use error::GpuError;
pub use program::{Packed, Program};
pub use run::{DeviceValue, Input, Io, Moves, Output, Profile, Run, Traffic};
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
