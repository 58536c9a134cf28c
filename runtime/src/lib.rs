//! Sessions: loading a model, compiling what is asked of it, and running it.

mod cache;
mod callable;
mod device;
mod error;
#[cfg(feature = "gpu")]
mod landings;
mod memory;
#[cfg(feature = "gpu-driver")]
mod packaged;
mod placement;
mod processor;
mod program;
mod resident;
mod session;
mod shared;
mod specialise;
mod staged;
mod state;
mod tuning;
mod view;

pub use staged::partition::calls as is_control_flow;

/// Whether there is a host function for an op.
pub fn has_host_function(op: &str) -> bool {
    graphc_host::function(op, true).is_some()
}

pub use callable::{Callable, Port};
pub use device::{DeviceDescription, DeviceName, DeviceSpec, devices};
pub use error::{Error, Result, StatusCode};
pub use graphc_engine::Pool;
#[cfg(feature = "gpu-driver")]
pub use packaged::{DeviceFunction, Variant};
pub use placement::PlaceBy;
pub use program::{Program, RunOptions, Stage, Tracer, Watcher};
pub use session::{Session, SessionOptions};
pub use specialise::{Ahead, needs_feeds};
pub use staged::script::{Part, Scripter};
pub use state::{VarUses, Variables};
pub use view::{View, array_of};
