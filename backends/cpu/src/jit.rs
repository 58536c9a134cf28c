//! Machine code in this process.

use crate::emit::{EmitOptions, codegen, define_plan};
use crate::error::CompileError;
use crate::machine::{Cpu, Machine};
use crate::perf::symbol_part;
use crate::weights::Weights;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, Module, default_libcall_names};
use graphc_abi::Entry;
use graphc_passes::plan::Plan;

/// A compiled plan. The code lives as long as this.
pub struct JitCode {
    module: Option<JITModule>,
    entry: Entry,
}

// SAFETY: the module is only kept to own the code, which nothing writes after it is compiled.
unsafe impl Send for JitCode {}
// SAFETY: as above.
unsafe impl Sync for JitCode {}

impl JitCode {
    /// The function; see [`Entry`]. It must not be called after `self` is dropped.
    pub fn entry(&self) -> Entry {
        self.entry
    }
}

impl Drop for JitCode {
    fn drop(&mut self) {
        if let Some(m) = self.module.take() {
            // SAFETY: the caller of `entry` promised that no call is running or will come.
            unsafe { m.free_memory() };
        }
    }
}

/// Compiles a plan to run in this process. `weights` is the layout of the constants that the code will be called with.
///
/// # Errors
/// If a loop has no code.
pub fn compile_jit(plan: &Plan, weights: &Weights, opts: &EmitOptions) -> Result<JitCode, CompileError> {
    let mut builder = JITBuilder::with_isa(Machine::here(Cpu::Native)?.isa(false)?, default_libcall_names());
    for s in graphc_kernels::symbols() {
        builder.symbol(s.name, s.address);
    }
    let mut module = JITModule::new(builder);
    let id = define_plan(&mut module, plan, weights, &symbol_part(&plan.name), Linkage::Export, opts)?.entry;
    // The JIT would panic on a symbol that it cannot find.
    let missing: Vec<&str> = module
        .declarations()
        .get_functions()
        .filter(|(_, d)| d.linkage == Linkage::Import)
        .filter_map(|(_, d)| d.name.as_deref())
        .filter(|name| !graphc_kernels::symbols().any(|s| s.name == *name))
        .collect();
    if !missing.is_empty() {
        return Err(codegen(format!("the kernel library lacks {}", missing.join(", "))));
    }
    module.finalize_definitions()?;
    let address = module.get_finalized_function(id);
    // SAFETY: `define_plan` gives the function this signature.
    let entry = unsafe { std::mem::transmute::<*const u8, Entry>(address) };
    Ok(JitCode { module: Some(module), entry })
}
