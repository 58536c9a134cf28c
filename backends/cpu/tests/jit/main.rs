//! Functions through compiled code, against the interpreter.

mod elementwise;
mod networks;
mod structured;
mod support;
