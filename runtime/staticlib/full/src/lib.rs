//! The archive that objects link whose functions run in stages: all of `graphc-rt`, with host functions and the standard library.

pub use graphc_rt::*;
