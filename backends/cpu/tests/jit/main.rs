//! Functions through compiled code, against the interpreter.

mod complex;
mod control;
mod elementwise;
mod networks;
mod object;
mod state;
mod structured;
mod support;
