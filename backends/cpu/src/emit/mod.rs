//! Plans to machine code through Cranelift, the same for JIT and objects.
//!
//! The function of a plan has the signature [`graphc_abi::Entry`]. It stores each launch's arguments word by word into the stack and
//! calls the kernel or the loop; sizes are computed from the symbols once.

mod control;
mod define;
mod dims;
mod schedule;

pub(crate) use define::{Defined, Definer, Queue};

use crate::error::CompileError;
use crate::perf::symbol_part;
use crate::tape::{TapeOptions, declare_loop};
use crate::weights::Weights;
use cranelift_codegen::ir::{AbiParam, InstBuilder, Signature, types::I64};
use cranelift_module::{DataId, FuncId, Linkage, Module, ModuleError};
use graphc_ir::Dim;
use graphc_passes::plan::{Loop, Plan, StepKind};
use std::fmt::Display;

/// How plans are compiled.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmitOptions {
    pub tape: TapeOptions,
    /// Leave out the checks for cancellation and tracing before each launch.
    pub no_hooks: bool,
    /// Threads that generate code; 0 counts as one. The code does not depend on them.
    pub threads: usize,
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

/// What a plan became.
pub struct DefinedPlan {
    pub entry: FuncId,
    /// All functions, in the order in which they were defined.
    pub functions: Vec<Defined>,
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
    linkage: Linkage,
    opts: &EmitOptions,
) -> Result<DefinedPlan, CompileError> {
    let mut queue = Queue::new(module, opts.threads);
    let entry = declare_plan(&mut queue, plan, weights, symbol, linkage, opts)?;
    Ok(DefinedPlan { entry, functions: queue.finish()? })
}

fn declare_plan<M: Definer>(
    module: &mut M,
    plan: &Plan,
    weights: &Weights,
    symbol: &str,
    linkage: Linkage,
    opts: &EmitOptions,
) -> Result<FuncId, CompileError> {
    let mut nodes: Vec<&str> = plan.loops.iter().map(|l| l.name.as_str()).collect();
    for step in &plan.steps {
        if let (StepKind::Loop { id, .. }, name) = (&step.kind, step.loc.name())
            && !name.is_empty()
        {
            nodes[id.index()] = name;
        }
    }
    let mut loops = Vec::with_capacity(plan.loops.len());
    for (i, l) in plan.loops.iter().enumerate() {
        // Layers of one form have loops that differ in their names alone; the code has the name of the first.
        if let Some(same) = plan.loops[..i].iter().position(|other| computes_the_same(other, l)) {
            loops.push(loops[same]);
            continue;
        }
        let name = format!("{}{}", loop_prefix(symbol, i), symbol_part(nodes[i]));
        let id = declare_loop(module, l, &name, &opts.tape).map_err(|e| codegen(format!("loop {}: {e}", l.name)))?;
        loops.push(id);
    }
    let sig = status_signature(module, 7);
    let id = module.declare_function(symbol, linkage, &sig)?;
    schedule::define(module, id, sig, plan, weights, &loops, opts)?;
    Ok(id)
}

/// What the name of a loop's function begins with.
fn loop_prefix(symbol: &str, number: usize) -> String {
    format!("{symbol}.{number}.")
}

/// The number of the loop of the plan `symbol` that a function of this name belongs to.
pub(crate) fn loop_of(symbol: &str, name: &str) -> Option<usize> {
    name.strip_prefix(symbol)?.strip_prefix('.')?.split_once('.')?.0.parse().ok()
}

fn computes_the_same(a: &Loop, b: &Loop) -> bool {
    let Loop { name: _, extents, reduced, combine, inputs, outputs, tape } = a;
    (extents, reduced, combine) == (&b.extents, &b.reduced, &b.combine)
        && (inputs, outputs) == (&b.inputs, &b.outputs)
        && *tape == b.tape
}

/// Defines `main`, which hands its arguments and a model's tables to `graphc_main`.
///
/// # Errors
/// If the module has such a function already.
pub fn define_main<M: Module>(module: &mut M, model: DataId) -> Result<FuncId, CompileError> {
    use cranelift_codegen::ir::types::I32;
    let mut sig = module.make_signature();
    sig.params.extend([AbiParam::new(I32), AbiParam::new(I64)]);
    sig.returns.push(AbiParam::new(I32));
    let id = module.declare_function("main", Linkage::Export, &sig)?;
    let mut callee = sig.clone();
    callee.params.push(AbiParam::new(I64));
    let callee = module.declare_function("graphc_main", Linkage::Import, &callee)?;
    schedule::define_function(&mut Queue::new(module, 1), id, sig, |module, b, p| {
        let model = module.declare_data_in_func(model, b.func);
        let model = b.ins().symbol_value(I64, model);
        let callee = module.declare_func_in_func(callee, b.func);
        let call = b.ins().call(callee, &[p[0], p[1], model]);
        let code = b.inst_results(call)[0];
        b.ins().return_(&[code]);
        Ok(())
    })?;
    Ok(id)
}

/// Defines `symbol` as a [`graphc_abi::model::Bind`], which stores the values of `sizes`.
///
/// # Errors
/// If an expression holds a symbol that is not among the plan's, or no input tells one.
pub fn define_bind<M: Module>(module: &mut M, plan: &Plan, sizes: &[Dim], symbol: &str) -> Result<FuncId, CompileError> {
    let mut sig = module.make_signature();
    sig.params.extend([AbiParam::new(I64); 3]);
    sig.returns.push(AbiParam::new(I64));
    let id = module.declare_function(symbol, Linkage::Local, &sig)?;
    schedule::define_bind(&mut Queue::new(module, 1), id, sig, plan, sizes)?;
    Ok(id)
}
