//! Functions through compiled code, against the interpreter.

mod elementwise;
mod networks;
mod object;
mod state;
mod structured;
mod support;
