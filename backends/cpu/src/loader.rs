//! Objects in memory: placed, and linked to this process's kernels.

use crate::emit::codegen;
use crate::error::CompileError;
use crate::perf;
use cranelift_object::object::{
    self, Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SectionKind, SymbolKind, elf,
};
use hashbrown::HashMap;
use memmap2::{Mmap, MmapMut};
use std::ffi::c_void;

/// An object whose code can be called and whose data can be read.
pub struct Loaded {
    code: Mmap,
    /// Where each exported symbol lies.
    exported: HashMap<String, usize>,
}

/// Bytes of an address.
const WORD: usize = 8;

impl Loaded {
    /// Places and links an ELF object of this backend for x86-64, with the kernels of this process and `more` that it may refer to.
    ///
    /// # Safety
    /// The object was made by this very build, for a machine with the same instructions: its code will be run.
    ///
    /// # Errors
    /// If it is not such an object, or the system gives no memory for code.
    pub unsafe fn load(
        object: &[u8],
        more: impl IntoIterator<Item = (&'static str, *const c_void)>,
    ) -> Result<Loaded, CompileError> {
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
        // Addresses of kernels, which code for any place reads from a table; at most one for each symbol.
        let mut table_end = size.next_multiple_of(WORD);
        let room = file.symbols().count().saturating_mul(WORD).saturating_add(table_end).max(1);
        let mut code = MmapMut::map_anon(room).map_err(|e| CompileError::System(format!("memory for code: {e}")))?;
        for s in file.sections() {
            if let Some(&at) = places.get(&s.index()) {
                let data = s.data().map_err(codegen)?;
                code[at..at + data.len()].copy_from_slice(data);
            }
        }
        let base = code.as_ptr() as u64;
        let more = more.into_iter().map(|(name, address)| (name, address as u64));
        let kernels: HashMap<&str, u64> = graphc_kernels::symbols().map(|s| (s.name, s.address as u64)).chain(more).collect();
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
        let mut table: HashMap<object::SymbolIndex, usize> = HashMap::new();
        for s in file.sections() {
            let Some(&section) = places.get(&s.index()) else { continue };
            for (offset, r) in s.relocations() {
                let RelocationTarget::Symbol(symbol) = r.target() else { return Err(bad("relocation target")) };
                let at = usize::try_from(offset).ok().and_then(|o| section.checked_add(o)).ok_or_else(|| bad("offset"))?;
                let from = base.wrapping_add(at as u64);
                let RelocationFlags::Elf { r_type } = r.flags() else { return Err(bad("object format")) };
                let mut target = address_of(symbol)?;
                if matches!(r_type, elf::R_X86_64_GOTPCREL | elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX) {
                    let entry = *table.entry(symbol).or_insert_with(|| {
                        let entry = table_end;
                        table_end += WORD;
                        entry
                    });
                    code.get_mut(entry..entry + WORD).ok_or_else(|| bad("table"))?.copy_from_slice(&target.to_le_bytes());
                    target = base + entry as u64;
                }
                let target = target.wrapping_add_signed(r.addend());
                let bytes: &[u8] = match r_type {
                    elf::R_X86_64_64 => &target.to_le_bytes(),
                    elf::R_X86_64_PC32
                    | elf::R_X86_64_PLT32
                    | elf::R_X86_64_GOTPCREL
                    | elf::R_X86_64_GOTPCRELX
                    | elf::R_X86_64_REX_GOTPCRELX => {
                        let distance = i32::try_from(target.wrapping_sub(from) as i64).map_err(|_| bad("a jump too far"))?;
                        &distance.to_le_bytes()
                    }
                    other => return Err(bad(&format!("relocation {other}"))),
                };
                code.get_mut(at..at + bytes.len()).ok_or_else(|| bad("offset"))?.copy_from_slice(bytes);
            }
        }
        let mut exported = HashMap::new();
        for s in file.symbols().filter(|s| s.is_global() && s.is_definition()) {
            let place = address_of(s.index())?.wrapping_sub(base) as usize;
            if place < size {
                exported.insert(s.name().map_err(codegen)?.to_owned(), place);
            }
        }
        if perf::wanted() {
            let text = file.symbols().filter(|s| s.kind() == SymbolKind::Text && s.is_definition());
            let function = |s: object::Symbol| {
                let address = address_of(s.index()).ok()?;
                Some(perf::Function { name: s.name().ok()?.to_owned(), address, size: s.size() })
            };
            perf::tell(&text.filter_map(function).collect::<Vec<_>>());
        }
        let code = code.make_exec().map_err(|e| CompileError::System(format!("memory for code: {e}")))?;
        Ok(Loaded { code, exported })
    }

    /// The address of an exported symbol. It means nothing after `self` is dropped.
    ///
    /// # Errors
    /// If the object exports no such symbol.
    pub fn symbol(&self, name: &str) -> Result<*const u8, CompileError> {
        let at = self.exported.get(name).ok_or_else(|| bad(&format!("no symbol {name}")))?;
        Ok(self.code[*at..].as_ptr())
    }
}

fn bad(what: &str) -> CompileError {
    CompileError::Invalid(format!("compiled code: {what}"))
}

fn is_loaded(kind: SectionKind) -> bool {
    matches!(kind, SectionKind::Text | SectionKind::ReadOnlyData | SectionKind::ReadOnlyDataWithRel | SectionKind::Data)
}
