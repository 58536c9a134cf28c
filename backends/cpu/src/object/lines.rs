//! Line information: from addresses of an object's code to the lines of a listing, which has a line for each launch.

use super::codegen;
use crate::emit::{Defined, loop_of};
use crate::error::CompileError;
use cranelift_module::{FuncId, Module};
use cranelift_object::ObjectProduct;
use cranelift_object::object::write::{Relocation as ObjectRelocation, Symbol, SymbolSection};
use cranelift_object::object::{
    RelocationEncoding, RelocationFlags, RelocationKind, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};
use gimli::write::{
    Address, AttributeValue, DwarfUnit, EndianVec, FileInfo, LineProgram, LineString, Range, RangeList, RelocateWriter, Relocation,
    RelocationTarget, Sections, Writer,
};
use gimli::{Encoding, Format, LineEncoding, LittleEndian, constants as dw};
use graphc_passes::plan::print::print_plan;
use graphc_passes::plan::{Plan, StepKind};
use hashbrown::HashMap;

/// The listing, and what code belongs to its lines.
pub struct Lines {
    /// Name of the listing's file.
    file: String,
    pub listing: String,
    /// Lines of the listing so far.
    count: usize,
    functions: Vec<Function>,
}

struct Function {
    id: FuncId,
    name: String,
    size: usize,
    /// Where code of a line begins.
    rows: Vec<(u32, usize)>,
}

impl Lines {
    /// Of a listing that will be in a file of that name, beside the object.
    pub fn new(file: &str) -> Lines {
        let listing = String::from("; The plans of a compiled model, which its line information refers to.\n");
        Lines { file: file.to_owned(), listing, count: 1, functions: Vec::new() }
    }

    /// Adds a plan, whose code is called `symbol`.
    pub fn add(&mut self, plan: &Plan, symbol: &str, code: Vec<Defined>, module: &impl Module) {
        let text = format!("\n; {symbol}\n{}", print_plan(plan));
        // A step has the line that begins with its number.
        let mut lines: HashMap<usize, usize> = HashMap::new();
        for (k, line) in text.lines().enumerate() {
            let number = line.trim_start().strip_prefix('[').and_then(|l| l.split_once(']')).and_then(|(n, _)| n.parse().ok());
            if let Some(step) = number {
                lines.entry(step).or_insert(self.count + k + 1);
            }
        }
        let first = self.count + 3;
        let line = |step: usize| lines.get(&step).copied().unwrap_or(first);
        let of_loop = |id: usize| plan.steps.iter().position(|s| matches!(s.kind, StepKind::Loop { id: l, .. } if l.index() == id));
        for f in code {
            let name = module.declarations().get_function_decl(f.id).linkage_name(f.id).into_owned();
            let start = loop_of(symbol, &name).and_then(of_loop).map_or(first, line);
            let mut rows = vec![(0, start)];
            rows.extend(f.steps.iter().map(|&(at, step)| (at, line(step))));
            self.functions.push(Function { id: f.id, name, size: f.size, rows });
        }
        self.count += text.lines().count();
        self.listing += &text;
    }

    /// Adds sections of DWARF to an object.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(self, to: &mut ObjectProduct) -> Result<String, CompileError> {
        let encoding = Encoding { format: Format::Dwarf32, version: 5, address_size: 8 };
        let mut dwarf = DwarfUnit::new(encoding);
        let string = |text: &str| LineString::String(text.as_bytes().to_vec());
        let mut program = LineProgram::new(encoding, LineEncoding::default(), string("."), None, string(&self.file), None);
        let folder = program.default_directory();
        let file = program.add_file(string(&self.file), folder, Some(FileInfo::default()));
        for (k, f) in self.functions.iter().enumerate() {
            program.begin_sequence(Some(Address::Symbol { symbol: k, addend: 0 }));
            for &(at, line) in &f.rows {
                let row = program.row();
                (row.address_offset, row.file, row.line) = (u64::from(at), file, line as u64);
                program.generate_row();
            }
            program.end_sequence(f.size as u64);
        }
        dwarf.unit.line_program = program;
        let ranges = self.functions.iter().enumerate().map(|(k, f)| {
            let (begin, length) = (Address::Symbol { symbol: k, addend: 0 }, f.size as u64);
            Range::StartLength { begin, length }
        });
        let ranges = dwarf.unit.ranges.add(RangeList(ranges.collect()));
        let root = dwarf.unit.root();
        let producer = AttributeValue::String(concat!("graphc ", env!("CARGO_PKG_VERSION")).into());
        let unit = dwarf.unit.get_mut(root);
        unit.set(dw::DW_AT_producer, producer);
        // No language has plans; debuggers know what to do with C.
        unit.set(dw::DW_AT_language, AttributeValue::Language(dw::DW_LANG_C99));
        unit.set(dw::DW_AT_name, AttributeValue::String(self.file.clone().into()));
        unit.set(dw::DW_AT_comp_dir, AttributeValue::String(".".into()));
        unit.set(dw::DW_AT_stmt_list, AttributeValue::LineProgramRef);
        unit.set(dw::DW_AT_ranges, AttributeValue::RangeListRef(ranges));
        unit.set(dw::DW_AT_low_pc, AttributeValue::Address(Address::Constant(0)));
        for (k, f) in self.functions.iter().enumerate() {
            let entry = dwarf.unit.add(root, dw::DW_TAG_subprogram);
            let entry = dwarf.unit.get_mut(entry);
            entry.set(dw::DW_AT_name, AttributeValue::String(f.name.as_bytes().to_vec()));
            entry.set(dw::DW_AT_low_pc, AttributeValue::Address(Address::Symbol { symbol: k, addend: 0 }));
            entry.set(dw::DW_AT_high_pc, AttributeValue::Udata(f.size as u64));
            entry.set(dw::DW_AT_decl_file, AttributeValue::FileIndex(Some(file)));
            entry.set(dw::DW_AT_decl_line, AttributeValue::Udata(f.rows.first().map_or(1, |r| r.1) as u64));
        }
        let mut sections = Sections::new(Section::default());
        dwarf.write(&mut sections).map_err(codegen)?;
        self.place(&sections, to)?;
        Ok(self.listing)
    }

    /// Puts the sections into the object.
    fn place(&self, sections: &Sections<Section>, to: &mut ObjectProduct) -> Result<(), CompileError> {
        let symbols: Vec<_> = self.functions.iter().map(|f| to.function_symbol(f.id)).collect();
        let mut placed = HashMap::new();
        sections.for_each(|id, s| -> Result<(), CompileError> {
            if s.bytes.len() > 0 {
                let section = to.object.add_section(Vec::new(), id.name().as_bytes().to_vec(), SectionKind::Debug);
                to.object.set_section_data(section, s.bytes.slice().to_vec(), 1);
                let symbol = to.object.add_symbol(Symbol {
                    name: Vec::new(),
                    value: 0,
                    size: 0,
                    kind: SymbolKind::Section,
                    scope: SymbolScope::Compilation,
                    weak: false,
                    section: SymbolSection::Section(section),
                    flags: SymbolFlags::None,
                });
                placed.insert(id, (section, symbol));
            }
            Ok(())
        })?;
        sections.for_each(|id, s| {
            let Some(&(section, _)) = placed.get(&id) else { return Ok(()) };
            for r in &s.relocations {
                let symbol = match r.target {
                    RelocationTarget::Symbol(k) => symbols.get(k).copied(),
                    RelocationTarget::Section(other) => placed.get(&other).map(|p| p.1),
                };
                let relocation = ObjectRelocation {
                    offset: r.offset as u64,
                    symbol: symbol.ok_or_else(|| codegen("line information refers to nothing"))?,
                    addend: r.addend,
                    flags: RelocationFlags::Generic {
                        kind: RelocationKind::Absolute,
                        encoding: RelocationEncoding::Generic,
                        size: r.size * 8,
                    },
                };
                to.object.add_relocation(section, relocation).map_err(codegen)?;
            }
            Ok(())
        })
    }
}

/// A section of DWARF under construction.
#[derive(Clone)]
struct Section {
    bytes: EndianVec<LittleEndian>,
    relocations: Vec<Relocation>,
}

impl Default for Section {
    fn default() -> Self {
        Section { bytes: EndianVec::new(LittleEndian), relocations: Vec::new() }
    }
}

impl RelocateWriter for Section {
    type Writer = EndianVec<LittleEndian>;

    fn writer(&self) -> &Self::Writer {
        &self.bytes
    }

    fn writer_mut(&mut self) -> &mut Self::Writer {
        &mut self.bytes
    }

    fn relocate(&mut self, relocation: Relocation) {
        self.relocations.push(relocation);
    }
}
