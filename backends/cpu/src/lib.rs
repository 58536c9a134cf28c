//! Code generation for CPUs: plans to machine code.

pub mod tape;
