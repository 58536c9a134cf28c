//! Object files: plans compiled ahead of time, with their weights.
//!
//! For a function `NAME` an object exports `NAME_entry` ([`graphc_abi::Entry`]), `NAME_sizes` (`void (const int64_t *symbols,
//! int64_t *sizes)`: bytes of the arena, then the extents of each output) and `NAME_weights`. It imports the kernel library, which
//! `libgraphc_rt.a` holds. [`crate::header`] declares a simpler interface over these.

use crate::emit::{EmitOptions, codegen, define_plan, define_sizes};
use crate::error::CompileError;
use crate::header::identifier;
use crate::machine::Machine;
use crate::weights::Weights;
use cranelift_module::{DataDescription, Linkage, Module, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};
use graphc_abi::ALIGN;
use graphc_ir::Dim;
use graphc_passes::plan::Plan;

/// Compiles plans into one relocatable object for `machine`. The same plans give the same bytes, wherever they are compiled.
///
/// # Errors
/// If a loop has no code there, or two plans have one name.
pub fn compile_object(plans: &[Plan], machine: Machine, opts: &EmitOptions) -> Result<Vec<u8>, CompileError> {
    let mut opts = *opts;
    opts.tape.variants = machine.variants();
    let mut builder = ObjectBuilder::new(machine.isa(true)?, "graphc", default_libcall_names())?;
    builder.per_function_section(false);
    let mut module = ObjectModule::new(builder);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for plan in plans {
        let name = identifier(&plan.name);
        let weights = Weights::of(plan);
        define_plan(&mut module, plan, &weights, &format!("{name}_entry"), &opts)?;
        define_sizes(&mut module, plan, &sizes(plan), &format!("{name}_sizes"))?;
        let mut bytes = vec![0u8; weights.allocated()];
        weights.pack(plan.consts.clone(), &mut bytes, threads)?;
        let id = module.declare_data(&format!("{name}_weights"), Linkage::Export, false, false)?;
        let mut data = DataDescription::new();
        data.define(bytes.into_boxed_slice());
        data.set_align(ALIGN as u64);
        data.set_used(true);
        module.define_data(id, &data)?;
    }
    let object = module.finish().object;
    object.write().map_err(codegen)
}

/// What `NAME_sizes` gives, in order.
pub fn sizes(plan: &Plan) -> Vec<Dim> {
    let mut list = vec![plan.arena.clone()];
    plan.outputs.iter().for_each(|p| list.extend(p.ty.shape.iter().cloned()));
    list
}
