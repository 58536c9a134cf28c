//! Code generation of fused loops.
//!
//! A [`Loop`] becomes one function of the module, of the form [`LoopFn`]:
//!
//! ```text
//! extern "C" fn(ctx: *const Ctx, ptrs: *const *mut u8, dims: *const i64) -> i32
//! ```
//!
//! `ptrs` are the base addresses of the loop's inputs and then of its outputs; the offsets of the accesses are added by the loop.
//! `dims` are the values of the expressions of [`dim_words`], in that order; constant extents, strides and offsets are baked in.
//! The result is 0 or a [`graphc_abi::Status`]. An output may be the same memory as an input that is walked in the same way.
//!
//! The function spreads its work over [`graphc_abi::Ctx::parallel_for`] when there is enough of it; its result does not depend on
//! the number of threads.
//!
//! The imports of the emitted code are among [`graphc_kernels::symbols`].

pub mod body;
mod clif;
pub mod code;
pub mod complex;
mod complex_math;
mod convert;
pub mod expand;
mod glue;
pub mod legalize;
mod lower;
mod math;
mod nest;
mod point;
mod select;
mod vector;
mod walk;

use crate::emit::{Definer, Queue};
pub use body::Body;
use cranelift_module::{FuncId, Linkage, Module, ModuleError};
use graphc_abi::Ctx;
use graphc_ir::Dim;
use graphc_kernels::tier::Tier;
use graphc_passes::plan::Loop;
use std::fmt;

/// A compiled loop.
pub type LoopFn = unsafe extern "C" fn(ctx: *const Ctx, ptrs: *const *mut u8, dims: *const i64) -> i32;

/// Which variants of a loop are emitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variants {
    /// The one for [`graphc_kernels::tier::tier`] of this process; for code that runs here at once.
    #[default]
    Host,
    /// All from a tier on that the module's target can have; the choice is made at run time.
    AtLeast(Tier),
    /// One, whatever the machine that runs it has.
    Only(Tier),
}

/// How loops are compiled.
#[derive(Clone, Copy, Debug, Default)]
pub struct TapeOptions {
    pub variants: Variants,
}

/// Why a loop cannot be compiled.
#[derive(Debug)]
pub enum TapeError {
    /// The loop is malformed: what is wrong.
    Invalid(String),
    /// An operation or element type that has no code.
    Unsupported(String),
    /// The module refused a declaration or a function.
    Module(Box<ModuleError>),
}

impl fmt::Display for TapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TapeError::Invalid(why) => write!(f, "malformed loop: {why}"),
            TapeError::Unsupported(what) => write!(f, "no code for {what}"),
            TapeError::Module(e) => write!(f, "code generation: {e}"),
        }
    }
}

impl std::error::Error for TapeError {}

impl From<ModuleError> for TapeError {
    fn from(e: ModuleError) -> TapeError {
        TapeError::Module(Box::new(e))
    }
}

/// The expressions whose values a compiled loop reads from `dims`: the distinct extents, strides and offsets that are not constant, in
/// order of first occurrence: extents, then for each input and each output its offset and strides; for complex numbers those of their
/// parts.
pub fn dim_words(l: &Loop) -> Vec<Dim> {
    let mut words: Vec<Dim> = Vec::new();
    let accesses = complex::accesses(l);
    for d in l.extents.iter().chain(accesses.iter().flat_map(|a| std::iter::once(&a.offset).chain(&a.strides))) {
        if d.as_const().is_none() && !words.contains(d) {
            words.push(d.clone());
        }
    }
    words
}

/// Compiles `l` as function `symbol` (local to the module) of signature [`LoopFn`].
pub fn define_loop<M: Module>(module: &mut M, l: &Loop, symbol: &str, opts: &TapeOptions) -> Result<FuncId, TapeError> {
    declare_loop(&mut Queue::new(module, 1), l, symbol, opts)
}

/// As [`define_loop`], of a module that may compile later.
pub(crate) fn declare_loop<M: Definer>(module: &mut M, l: &Loop, symbol: &str, opts: &TapeOptions) -> Result<FuncId, TapeError> {
    let split = complex::split(l)?;
    let body = Body::new(&split.l)?;
    let x64 = module.isa().name() == "x64";
    let wanted: &[Tier] = match opts.variants {
        _ if !x64 => &[Tier::Portable],
        Variants::AtLeast(Tier::Avx512) => &[Tier::Avx512],
        Variants::AtLeast(Tier::Avx2) => &[Tier::Avx512, Tier::Avx2],
        Variants::AtLeast(_) => &[Tier::Avx512, Tier::Avx2, Tier::Portable],
        Variants::Host => only(graphc_kernels::tier::tier()),
        Variants::Only(t) => only(t),
    };
    let mut kernels: Vec<(Tier, FuncId)> = Vec::new();
    for &tier in wanted {
        let set = match tier {
            Tier::Avx512 => vector::Set::Avx512,
            Tier::Avx2 => vector::Set::Avx2,
            Tier::Portable | Tier::Neon => continue,
        };
        if let Ok(bytes) = walk::kernel(&body, set) {
            let name = format!("{symbol}.{}", if tier == Tier::Avx512 { "avx512" } else { "avx2" });
            let signature = clif::kernel_signature(module);
            let id = module.declare_function(&name, Linkage::Local, &signature)?;
            module.define_function_bytes(id, 64, &bytes, &[])?;
            kernels.push((tier, id));
        }
    }
    if kernels.is_empty() || wanted.contains(&Tier::Portable) {
        let id = clif::define_kernel(module, &body, &format!("{symbol}.portable"))?;
        kernels.push((Tier::Portable, id));
    }
    glue::define(module, &split, &body, symbol, &kernels)
}

fn only(t: Tier) -> &'static [Tier] {
    match t {
        // What Cranelift emits for AArch64 is in its vectors already.
        Tier::Portable | Tier::Neon => &[Tier::Portable],
        Tier::Avx2 => &[Tier::Avx2],
        Tier::Avx512 => &[Tier::Avx512],
    }
}

#[cfg(test)]
mod tests;
