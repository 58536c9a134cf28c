//! Runs models that were compiled ahead of time: what an object, a library or a package needs besides the kernels.
//!
//! A [`Model`] is read-only data of an object. An [`Instance`] has the model's state and the threads that compute; a [`Call`] is one
//! function of an instance with its inputs, outputs and memory. Nothing here allocates in a run whose shapes are those of the last one.
//! There is no standard library in here, so that an object stays small.
#![no_std]

extern crate alloc;

mod call;
mod error;
mod instance;
mod memory;
mod model;
mod pool;

pub use call::Call;
pub use error::{Error, ErrorKind};
pub use instance::{Compute, Instance, Options};
pub use memory::Memory;
pub use model::{Function, Model, Port};
pub use pool::Pool;
