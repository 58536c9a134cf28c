//! Execution through Vulkan. The loader is opened at run time; building needs no header and no library of it.

mod device;
mod execute;
mod flow;
mod memory;
mod pipeline;
mod record;

pub use device::{Device, DeviceInfo, Limits, devices};
pub use execute::Executable;
