//! Code of one plan that was compiled before, for the cache of sessions.

use crate::emit::{EmitOptions, codegen, define_plan};
use crate::error::CompileError;
use crate::loader::Loaded;
use crate::machine::{Cpu, Machine};
use crate::weights::Weights;
use cranelift_module::{Linkage, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};
use graphc_abi::Entry;
use graphc_passes::plan::Plan;

const ENTRY: &str = "plan";

/// Compiles a plan to an object for this machine alone, which [`Image::load`] takes. The weights, laid out as `weights` says, are not in it.
///
/// # Errors
/// If a loop has no code.
pub fn compile_image(plan: &Plan, weights: &Weights, opts: &EmitOptions) -> Result<Vec<u8>, CompileError> {
    let builder = ObjectBuilder::new(Machine::here(Cpu::Native)?.isa(false)?, "graphc", default_libcall_names())?;
    let mut module = ObjectModule::new(builder);
    define_plan(&mut module, plan, weights, ENTRY, Linkage::Export, opts)?;
    module.finish().object.write().map_err(codegen)
}

/// Executable code of a plan, read from an object.
pub struct Image {
    _code: Loaded,
    entry: Entry,
}

impl Image {
    /// The function; see [`Entry`]. It must not be called after `self` is dropped.
    pub fn entry(&self) -> Entry {
        self.entry
    }

    /// Places and links an object of [`compile_image`].
    ///
    /// # Safety
    /// As for [`Loaded::load`].
    ///
    /// # Errors
    /// As [`Loaded::load`].
    pub unsafe fn load(object: &[u8]) -> Result<Image, CompileError> {
        // SAFETY: by this function's contract.
        let code = unsafe { Loaded::load(object, [])? };
        let address = code.symbol(ENTRY)?;
        // SAFETY: `define_plan` gives the function this signature, and the caller vouches for where the object comes from.
        let entry = unsafe { std::mem::transmute::<*const u8, Entry>(address) };
        Ok(Image { _code: code, entry })
    }
}
