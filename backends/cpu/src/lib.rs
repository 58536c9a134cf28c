//! Code generation for CPUs: plans to machine code.

pub mod error;
pub mod lower;
pub mod tape;
pub mod target;

pub use error::{CompileError, Unsupported};
pub use target::CpuTarget;
