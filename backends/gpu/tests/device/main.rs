//! Functions on a device of each driver, against the interpreter: the same cases that the CPU is tested with.

#[path = "../../../cpu/tests/jit/complex.rs"]
mod complex;
#[path = "../../../cpu/tests/jit/control.rs"]
mod control;
#[path = "../../../cpu/tests/jit/elementwise.rs"]
mod elementwise;
mod functions;
#[path = "../../../cpu/tests/jit/networks.rs"]
mod networks;
mod profile;
mod run;
#[path = "../../../cpu/tests/jit/structured.rs"]
mod structured;
mod support;
mod tensor;
