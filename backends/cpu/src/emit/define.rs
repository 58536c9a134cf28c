//! From Cranelift's functions to code in a module.

use crate::error::CompileError;
use crate::machine::{Cpu, Machine};
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::{CodegenError, Context};
use cranelift_module::{FuncId, Module, ModuleError, ModuleReloc};
use std::sync::OnceLock;

/// Defines a function that runs a few times in a run: one of the schedule, or what leads to the kernel of a loop. In this process compiling
/// it quickly matters more than its own speed; in an object, which is compiled once and linked, it is compiled as all else.
pub(crate) fn define_quickly<M: Module>(module: &mut M, id: FuncId, context: &mut Context) -> Result<(), Box<ModuleError>> {
    static QUICK: OnceLock<Result<OwnedTargetIsa, CompileError>> = OnceLock::new();
    if module.isa().flags().is_pic() {
        return module.define_function(id, context).map_err(Box::new);
    }
    let isa = QUICK.get_or_init(|| Machine::here(Cpu::Native)?.quick_isa());
    let isa = isa.as_ref().map_err(|e| failed(CodegenError::Unsupported(e.to_string())))?;
    let code = context.compile(&**isa, &mut ControlPlane::default()).map_err(|e| failed(e.inner))?;
    let (align, bytes, relocs) = (u64::from(code.buffer.alignment), code.code_buffer().to_vec(), code.buffer.relocs().to_vec());
    let relocs: Vec<ModuleReloc> = relocs.iter().map(|r| ModuleReloc::from_mach_reloc(r, &context.func, id)).collect();
    module.define_function_bytes(id, align, &bytes, &relocs).map_err(Box::new)
}

fn failed(e: CodegenError) -> Box<ModuleError> {
    Box::new(ModuleError::Compilation(e))
}
