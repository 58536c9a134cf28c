//! Execution through Vulkan. The loader is opened at run time; building needs no header and no library of it.

mod device;
mod memory;
mod pipeline;
mod sequence;

pub use device::{Device, DeviceInfo, devices};
