//! Execution through NVIDIA's driver. Its library is opened at run time; building needs nothing of CUDA, and running nothing but the
//! driver.

mod arguments;
mod device;
mod kernel;
mod memory;
mod sequence;

pub use device::{Device, devices};
