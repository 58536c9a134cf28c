//! Code that was compiled before: an object in memory, placed and linked to this process's kernels.

use crate::emit::{EmitOptions, codegen, define_plan};
use crate::error::CompileError;
use crate::machine::{Cpu, Machine};
use crate::weights::Weights;
use cranelift_module::default_libcall_names;
use cranelift_object::object::{self, Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SectionKind, elf};
use cranelift_object::{ObjectBuilder, ObjectModule};
use graphc_abi::Entry;
use graphc_passes::plan::Plan;
use memmap2::{Mmap, MmapMut};
use std::collections::HashMap;

const ENTRY: &str = "plan";

/// Compiles a plan to an object for this machine alone, which [`Image::load`] takes. The weights, laid out as `weights` says, are not in it.
///
/// # Errors
/// If a loop has no code.
pub fn compile_image(plan: &Plan, weights: &Weights, opts: &EmitOptions) -> Result<Vec<u8>, CompileError> {
    let builder = ObjectBuilder::new(Machine::here(Cpu::Native)?.isa(false)?, "graphc", default_libcall_names())?;
    let mut module = ObjectModule::new(builder);
    define_plan(&mut module, plan, weights, ENTRY, opts)?;
    module.finish().object.write().map_err(codegen)
}

/// Executable code of a plan, read from an object.
pub struct Image {
    _code: Mmap,
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
    /// `object` was made by [`compile_image`] of this very build on a machine with the same instructions: its code will be run.
    ///
    /// # Errors
    /// If it is not such an object, or the system gives no memory for code.
    pub unsafe fn load(object: &[u8]) -> Result<Image, CompileError> {
        let bad = |what: &str| CompileError::Invalid(format!("compiled code: {what}"));
        let file = object::File::parse(object).map_err(codegen)?;
        let mut places = HashMap::new();
        let mut size = 0usize;
        for s in file.sections().filter(|s| is_loaded(s.kind())) {
            let align =
                usize::try_from(s.align()).ok().filter(|a| a.is_power_of_two() && *a <= 4096).ok_or_else(|| bad("alignment"))?;
            size = size.next_multiple_of(align);
            places.insert(s.index(), size);
            size = size.checked_add(s.data().map_err(codegen)?.len()).ok_or_else(|| bad("size"))?;
        }
        let mut code = MmapMut::map_anon(size.max(1)).map_err(|e| CompileError::System(format!("memory for code: {e}")))?;
        for s in file.sections() {
            if let Some(&at) = places.get(&s.index()) {
                let data = s.data().map_err(codegen)?;
                code[at..at + data.len()].copy_from_slice(data);
            }
        }
        let base = code.as_ptr() as u64;
        let kernels: HashMap<&str, u64> = graphc_kernels::symbols().map(|s| (s.name, s.address as u64)).collect();
        let address_of = |symbol: object::SymbolIndex| {
            let symbol = file.symbol_by_index(symbol).map_err(codegen)?;
            match symbol.section_index().and_then(|s| places.get(&s)) {
                Some(&at) => Ok(base + at as u64 + symbol.address()),
                None => {
                    let name = symbol.name().map_err(codegen)?;
                    kernels.get(name).copied().ok_or_else(|| bad(&format!("the kernel library lacks {name}")))
                }
            }
        };
        for s in file.sections() {
            let Some(&section) = places.get(&s.index()) else { continue };
            for (offset, r) in s.relocations() {
                let RelocationTarget::Symbol(symbol) = r.target() else { return Err(bad("relocation target")) };
                let target = address_of(symbol)?.wrapping_add_signed(r.addend());
                let at = usize::try_from(offset).ok().and_then(|o| section.checked_add(o)).ok_or_else(|| bad("offset"))?;
                let from = base.wrapping_add(at as u64);
                let bytes: &[u8] = match r.flags() {
                    RelocationFlags::Elf { r_type: elf::R_X86_64_64 } => &target.to_le_bytes(),
                    RelocationFlags::Elf { r_type: elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 } => {
                        let distance = i32::try_from(target.wrapping_sub(from) as i64).map_err(|_| bad("a jump too far"))?;
                        &distance.to_le_bytes()
                    }
                    other => return Err(bad(&format!("relocation {other:?}"))),
                };
                code.get_mut(at..at + bytes.len()).ok_or_else(|| bad("offset"))?.copy_from_slice(bytes);
            }
        }
        let entry = file.symbols().find(|s| s.is_global() && s.name() == Ok(ENTRY)).ok_or_else(|| bad("no entry"))?;
        let address = address_of(entry.index())? as *const u8;
        let code = code.make_exec().map_err(|e| CompileError::System(format!("memory for code: {e}")))?;
        // SAFETY: `define_plan` gives the function this signature, and the caller vouches for where the object comes from.
        let entry = unsafe { std::mem::transmute::<*const u8, Entry>(address) };
        Ok(Image { _code: code, entry })
    }
}

fn is_loaded(kind: SectionKind) -> bool {
    matches!(kind, SectionKind::Text | SectionKind::ReadOnlyData | SectionKind::ReadOnlyDataWithRel | SectionKind::Data)
}
