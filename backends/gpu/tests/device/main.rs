//! Functions on a Vulkan device, against the interpreter: the same cases that the CPU is tested with.
//!
//! The first device is used, which on a machine without a GPU is Mesa's driver in software.

#[path = "../../../cpu/tests/jit/complex.rs"]
mod complex;
#[path = "../../../cpu/tests/jit/control.rs"]
mod control;
#[path = "../../../cpu/tests/jit/elementwise.rs"]
mod elementwise;
mod functions;
#[path = "../../../cpu/tests/jit/networks.rs"]
mod networks;
#[path = "../../../cpu/tests/jit/structured.rs"]
mod structured;
mod support;
