//! Plans to machine code through Cranelift, the same for JIT and objects.
//!
//! The function of a plan has the signature [`graphc_abi::Entry`]. It stores each launch's arguments word by word into the stack and
//! calls the kernel or the loop; sizes are computed from the symbols once.

mod control;
mod dims;
mod schedule;

use crate::error::CompileError;
use crate::tape::{TapeOptions, define_loop};
use crate::weights::Weights;
use cranelift_codegen::ir::{AbiParam, Signature, types::I64};
use cranelift_module::{FuncId, Linkage, Module, ModuleError};
use graphc_ir::Dim;
use graphc_passes::plan::Plan;
use std::fmt::Display;

/// How plans are compiled.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmitOptions {
    pub tape: TapeOptions,
    /// Leave out the checks for cancellation and tracing before each launch.
    pub no_hooks: bool,
}

pub(crate) fn codegen(e: impl Display) -> CompileError {
    CompileError::Codegen(e.to_string())
}

impl From<ModuleError> for CompileError {
    fn from(e: ModuleError) -> CompileError {
        codegen(format!("{e:?}"))
    }
}

/// A signature of `n` words that gives a status.
fn status_signature<M: Module>(module: &M, n: usize) -> Signature {
    let mut sig = module.make_signature();
    sig.params.extend((0..n).map(|_| AbiParam::new(I64)));
    sig.returns.push(AbiParam::new(cranelift_codegen::ir::types::I32));
    sig
}

/// Defines the plan's function as `symbol`, with its loops as local functions.
///
/// # Errors
/// If a loop has no code, or the plan names what it does not have.
pub fn define_plan<M: Module>(
    module: &mut M,
    plan: &Plan,
    weights: &Weights,
    symbol: &str,
    opts: &EmitOptions,
) -> Result<FuncId, CompileError> {
    let mut loops = Vec::with_capacity(plan.loops.len());
    for (i, l) in plan.loops.iter().enumerate() {
        let name = format!("{symbol}.loop{i}");
        let id = define_loop(module, l, &name, &opts.tape).map_err(|e| codegen(format!("loop {}: {e}", l.name)))?;
        loops.push(id);
    }
    let sig = status_signature(module, 7);
    let id = module.declare_function(symbol, Linkage::Export, &sig)?;
    schedule::define(module, id, sig, plan, weights, &loops, opts)?;
    Ok(id)
}

/// Defines `symbol` as `extern "C" fn(syms: *const i64, values: *mut i64)`, which stores the values of `dims`.
///
/// # Errors
/// If an expression holds a symbol that is not among the plan's.
pub fn define_sizes<M: Module>(module: &mut M, plan: &Plan, dims: &[Dim], symbol: &str) -> Result<FuncId, CompileError> {
    let mut sig = module.make_signature();
    sig.params.extend([AbiParam::new(I64), AbiParam::new(I64)]);
    let id = module.declare_function(symbol, Linkage::Export, &sig)?;
    schedule::define_sizes(module, id, sig, plan, dims)?;
    Ok(id)
}
