//! Functions through compiled code, against the interpreter.

mod complex;
mod control;
mod elementwise;
mod emulated;
#[path = "../../../../tests/integration/emulator.rs"]
mod emulator;
mod machines;
mod networks;
mod object;
mod random;
mod state;
mod structured;
mod support;
