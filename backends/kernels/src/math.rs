//! Transcendental functions on vectors of `f32`, and strips of them.
//!
//! Relative errors are below 2e-7 (about 2 units in the last place) in every tier unless a function says otherwise; infinities, NaN,
//! zeros and subnormal arguments give what the C library gives.

mod functions;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod strips;
pub mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use functions::*;
pub use strips::*;

#[cfg(test)]
mod tests;
