//! The precompiled kernel library: what compiled code calls for everything that is not a fused loop.
//!
//! Every kernel is an `extern "C"` function of the convention in [`graphc_abi`], with its arguments' layout in
//! [`graphc_abi::args`]. Kernels never allocate and never unwind; they work in the caller's buffers and in the worker's scratch,
//! spread over threads through [`graphc_abi::Ctx::parallel`] only, and give the same result at every number of threads. The
//! instruction set is chosen at run time, see [`tier`].

#![cfg_attr(not(any(test, feature = "std")), no_std)]

pub mod attention;
pub mod conv;
pub mod data;
pub mod depthwise;
pub mod epilogue;
pub mod math;
pub mod matrix;
pub mod pack;
#[cfg(feature = "std")]
pub mod peak;
pub mod rows;
pub mod scalar;
#[cfg(test)]
pub(crate) mod testing;
pub mod tier;

/// A symbol of the library and its address, for a process that resolves calls itself.
#[derive(Clone, Copy, Debug)]
pub struct Symbol {
    pub name: &'static str,
    pub address: *const u8,
}

// SAFETY: the address of code, never written through.
unsafe impl Sync for Symbol {}

/// Lists functions as [`Symbol`]s: `symbol_list![path::gc_a, path::gc_b]`.
macro_rules! symbol_list {
    ($($($path:ident)::+),* $(,)?) => {
        &[$($crate::Symbol { name: $crate::last_segment!($($path)::+), address: $($path)::+ as *const u8 }),*]
    };
}
macro_rules! last_segment {
    ($last:ident) => { stringify!($last) };
    ($first:ident :: $($rest:ident)::+) => { $crate::last_segment!($($rest)::+) };
}
pub(crate) use {last_segment, symbol_list};

/// All symbols of the library.
pub fn symbols() -> impl Iterator<Item = &'static Symbol> {
    [
        attention::SYMBOLS,
        conv::SYMBOLS,
        depthwise::SYMBOLS,
        math::SYMBOLS,
        matrix::SYMBOLS,
        rows::SYMBOLS,
        data::SYMBOLS,
        scalar::SYMBOLS,
    ]
    .into_iter()
    .flatten()
}
