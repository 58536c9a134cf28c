//! Object files: models compiled ahead of time.
//!
//! An object exports one symbol, the tables of [`graphc_abi::model`], through which an engine finds everything else: code, packed
//! weights, first values of variables. It imports kernels by name.

mod lines;
mod tables;

use crate::emit::{DefinedPlan, EmitOptions, codegen, define_bind, define_main, define_plan};
use crate::error::CompileError;
use crate::header::identifier;
use crate::machine::Machine;
use crate::weights::{Placement, Weights};
use cranelift_codegen::ir::{AbiParam, types::I64};
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};
use graphc_abi::{ALIGN, model as raw};
use graphc_ir::{Dim, Elem, Tensor, TfStatus};
use graphc_kernels::tier::Tier;
use graphc_passes::plan::Plan;
use hashbrown::HashMap;
use lines::Lines;
use tables::{Address, Tables, WORD, words};

/// A model to be compiled.
pub struct ModelSource {
    /// Name for people, and for the exported symbol: [`symbol`].
    pub name: String,
    /// The default one first.
    pub functions: Vec<FunctionSource>,
    /// What runs once when an instance is made.
    pub initialise: Option<FunctionSource>,
    pub variables: Vec<VariableSource>,
    pub stages: Stages,
}

/// What functions need that are not compiled as a whole.
#[derive(Default)]
pub struct Stages {
    /// What runs in which order, as the runtime reads it; empty where every function is compiled as a whole.
    pub script: Vec<u8>,
    /// The compiled parts, by their numbers in the script.
    pub parts: Vec<FunctionSource>,
    /// Symbols of the runtime's tables of host functions that the script needs.
    pub families: Vec<&'static str>,
}

/// One signature.
pub struct FunctionSource {
    pub name: String,
    pub inputs: Vec<PortSource>,
    pub outputs: Vec<PortSource>,
    /// Code, each for some ranks and extents of the inputs.
    pub variants: Vec<VariantSource>,
    /// The body of the script that runs where the function is not compiled as a whole.
    pub body: Option<usize>,
}

/// An input or output of a function.
pub struct PortSource {
    pub name: String,
    pub elem: Elem,
    /// Number of the element type for users of the object: that of TensorFlow's `DataType`.
    pub number: usize,
    /// `None` where the rank is open.
    pub shape: Option<Vec<Dim>>,
}

/// A plan, and what it is good for.
pub struct VariantSource {
    pub plan: Plan,
    /// For each input of the plan, the number of the function's input.
    pub feeds: Vec<usize>,
    /// Inputs of the function that must have the value that was compiled in.
    pub baked: Vec<(usize, Tensor)>,
    /// For each variable of the plan, its number in the model.
    pub variables: Vec<usize>,
    /// Variables of the model that are read before they are assigned, with TensorFlow's status where they have no value.
    pub reads: Vec<(usize, TfStatus)>,
    /// Variables of the model that the code assigns.
    pub assigns: Vec<usize>,
    /// For each step of the plan, TensorFlow's status where it divides an integer by zero.
    pub zero_status: Vec<TfStatus>,
}

/// A variable of the model.
pub struct VariableSource {
    pub name: String,
    pub elem: Elem,
    pub number: usize,
    pub shape: Vec<usize>,
    pub init: Option<Tensor>,
}

/// Where packed weights go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightsPlace {
    /// Into the object.
    #[default]
    Embedded,
    /// Into a file of their own, which a program maps.
    File,
}

/// How an object is made.
#[derive(Clone, Debug)]
pub struct ObjectOptions {
    pub machine: Machine,
    pub place: WeightsPlace,
    /// Whether the object has the main function of a program.
    pub program: bool,
    /// The name of a listing's file, for line information that refers to it.
    pub lines: Option<String>,
    pub emit: EmitOptions,
}

/// A compiled model.
pub struct Object {
    module: ObjectModule,
    lines: Option<Lines>,
    /// The content of the file of weights, if they are not in the object.
    pub weights: Option<Vec<u8>>,
    pub report: Report,
}

/// What an object consists of.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Bytes of packed weights, each weight counted once.
    pub weights: usize,
    /// Kernels that the code calls.
    pub kernels: Vec<String>,
    /// Tables of host functions that its script calls.
    pub families: Vec<String>,
    pub functions: Vec<FunctionReport>,
}

/// What a function of an object consists of.
#[derive(Clone, Debug)]
pub struct FunctionReport {
    pub name: String,
    /// Launches and fused loops of each variant.
    pub variants: Vec<(usize, usize)>,
    /// Bytes of packed weights.
    pub weights: usize,
}

impl Object {
    /// The listing that line information refers to, if there is any.
    pub fn listing(&self) -> Option<&str> {
        self.lines.as_ref().map(|l| l.listing.as_str())
    }

    /// The bytes of the object file.
    ///
    /// # Errors
    /// If it grows beyond what its format can say.
    pub fn write(self) -> Result<Vec<u8>, CompileError> {
        let mut product = self.module.finish();
        if let Some(lines) = self.lines {
            lines.write(&mut product)?;
        }
        product.object.write().map_err(codegen)
    }
}

/// The symbol that the object of a model called `name` exports.
pub fn symbol(name: &str) -> String {
    format!("{}_model", identifier(name))
}

/// Compiles a model into one relocatable object for `machine`. The same source gives the same bytes, wherever it is compiled.
/// Constants of the plans are let go as they are packed.
///
/// # Errors
/// If a loop has no code there, or a plan takes a symbol that no input tells.
pub fn compile_object(source: ModelSource, options: &ObjectOptions) -> Result<Object, CompileError> {
    let ObjectOptions { machine, place, program, emit: mut opts, ref lines } = *options;
    opts.tape.variants = machine.variants();
    let mut builder = ObjectBuilder::new(machine.isa(true)?, "graphc", default_libcall_names())?;
    builder.per_function_section(false);
    let mut writer = Writer {
        module: ObjectModule::new(builder),
        prefix: identifier(&source.name),
        least_tier: machine.least_tier(),
        place,
        file: Vec::new(),
        packed: HashMap::new(),
        report: Report::default(),
        lines: lines.as_deref().map(Lines::new),
        opts,
    };
    let mut tables = Tables::default();
    writer.model(source, &mut tables)?;
    let Writer { mut module, prefix, file, mut report, lines, .. } = writer;
    let tables = tables.define(&mut module, &format!("{prefix}_model"))?;
    if program {
        define_main(&mut module, tables)?;
    }
    let declared = module.declarations();
    let functions = declared.get_functions().filter(|(_, d)| d.linkage == Linkage::Import).filter_map(|(_, d)| d.name.clone());
    report.kernels = functions.collect();
    report.kernels.sort();
    let tables = declared.get_data_objects().filter(|(_, d)| d.linkage == Linkage::Import).filter_map(|(_, d)| d.name.clone());
    report.families = tables.collect();
    report.families.sort();
    let weights = (place == WeightsPlace::File).then_some(file);
    Ok(Object { module, lines, weights, report })
}

struct Writer {
    module: ObjectModule,
    prefix: String,
    least_tier: Tier,
    place: WeightsPlace,
    /// The file of weights.
    file: Vec<u8>,
    /// Packed weights that were placed already, by content.
    packed: HashMap<Vec<u8>, Placed>,
    report: Report,
    lines: Option<Lines>,
    opts: EmitOptions,
}

/// Where packed weights ended up.
#[derive(Clone, Copy)]
enum Placed {
    Object(DataId),
    File(usize),
}

/// The place of a field of a table that starts at word `$at`.
macro_rules! field {
    ($at:expr, $type:ident.$field:ident) => {
        $at + std::mem::offset_of!(raw::$type, $field) / WORD
    };
}

impl Writer {
    fn model(&mut self, source: ModelSource, t: &mut Tables) -> Result<(), CompileError> {
        let ModelSource { name, functions, initialise, variables, stages } = source;
        let root = t.reserve(words::<raw::Model>());
        t.number(field!(root, Model.version), raw::MODEL_VERSION as i64);
        t.text(field!(root, Model.name), &name);
        t.number(field!(root, Model.least_tier), self.least_tier as i64);
        let items = t.list::<raw::Function>(field!(root, Model.functions), functions.len());
        for (f, at) in functions.into_iter().zip(items) {
            self.function(f, at, t)?;
        }
        if let Some(f) = initialise {
            let at = t.reserve(words::<raw::Function>());
            t.own(field!(root, Model.initialise), at);
            self.function(f, at, t)?;
        }
        t.bytes(field!(root, Model.script), &stages.script);
        let items = t.list::<raw::Function>(field!(root, Model.parts), stages.parts.len());
        for (f, at) in stages.parts.into_iter().zip(items) {
            self.function(f, at, t)?;
        }
        let items = t.list::<usize>(field!(root, Model.families), stages.families.len());
        for (name, at) in stages.families.into_iter().zip(items) {
            t.address(at, Address::Data(self.module.declare_data(name, Linkage::Import, false, false)?));
        }
        let items = t.list::<raw::Variable>(field!(root, Model.variables), variables.len());
        for (v, at) in variables.iter().zip(items) {
            self.variable(v, at, t)?;
        }
        if !self.file.is_empty() {
            let crc = crc32c::crc32c(&self.file[raw::WEIGHTS_START..]);
            self.file[..8].copy_from_slice(&raw::WEIGHTS_MAGIC);
            self.file[8..16].copy_from_slice(&u64::from(crc).to_le_bytes());
            t.number(field!(root, Model.weights_file), self.file.len() as i64);
            t.number(field!(root, Model.weights_crc), i64::from(crc));
        }
        Ok(())
    }

    fn function(&mut self, f: FunctionSource, at: usize, t: &mut Tables) -> Result<(), CompileError> {
        t.text(field!(at, Function.name), &f.name);
        for (list, ports) in [(field!(at, Function.inputs), &f.inputs), (field!(at, Function.outputs), &f.outputs)] {
            let items = t.list::<raw::Port>(list, ports.len());
            ports.iter().zip(items).for_each(|(p, at)| port(p, at, t));
        }
        t.number(field!(at, Function.body), f.body.map_or(0, |b| b as i64 + 1));
        let mut report = FunctionReport { name: f.name.clone(), variants: Vec::new(), weights: 0 };
        let count = f.variants.len();
        let items = t.list::<raw::Variant>(field!(at, Function.variants), count);
        for (k, (v, at)) in f.variants.into_iter().zip(items).enumerate() {
            let number = if count > 1 { format!(".{k}") } else { String::new() };
            report.variants.push((v.plan.steps.len(), v.plan.loops.len()));
            report.weights += self.variant(v, &format!("{}.{}{number}", self.prefix, f.name), at, t)?;
        }
        self.report.functions.push(report);
        Ok(())
    }

    /// Emits a variant's code and weights; the bytes of these.
    fn variant(&mut self, v: VariantSource, name: &str, at: usize, t: &mut Tables) -> Result<usize, CompileError> {
        let VariantSource { mut plan, feeds, baked, variables, reads, assigns, zero_status } = v;
        let layout = Weights::of(&plan);
        // Weights as they are stored, and what is done to have them as the code wants them.
        let (stored, placement) = layout.stored(&plan).unwrap_or_else(|| (layout.clone(), Placement::default()));
        let consts = std::mem::take(&mut plan.consts);
        let DefinedPlan { entry, functions } = define_plan(&mut self.module, &plan, &layout, name, Linkage::Local, &self.opts)?;
        if let Some(lines) = &mut self.lines {
            lines.add(&plan, name, functions, &self.module);
        }
        let bind = define_bind(&mut self.module, &plan, &sizes(&plan), &format!("{name}.bind"))?;
        let mut bytes = vec![0u8; stored.allocated()];
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        stored.pack(consts, &mut bytes, threads)?;
        t.address(field!(at, Variant.entry), Address::Function(entry));
        t.address(field!(at, Variant.bind), Address::Function(bind));
        match self.place_weights(bytes, &format!("{name}.weights"))? {
            Placed::Object(data) => t.address(field!(at, Variant.weights), Address::Data(data)),
            Placed::File(offset) => t.number(field!(at, Variant.weights_at), offset as i64),
        }
        if !placement.filters.is_empty() {
            t.number(field!(at, Variant.placed_bytes), layout.bytes() as i64);
        }
        let items = t.list::<raw::Copy>(field!(at, Variant.copies), placement.copies.len());
        for ([from, to, bytes], at) in placement.copies.iter().zip(items) {
            t.number(field!(at, Copy.from), *from as i64);
            t.number(field!(at, Copy.to), *to as i64);
            t.number(field!(at, Copy.bytes), *bytes as i64);
        }
        let items = t.list::<raw::Transform>(field!(at, Variant.transforms), placement.filters.len());
        for (l, at) in placement.filters.iter().zip(items) {
            t.address(field!(at, Transform.run), Address::Function(self.transform()?));
            let numbers = [
                (field!(at, Transform.from), l.from),
                (field!(at, Transform.to), l.to),
                (field!(at, Transform.outputs), l.outputs),
                (field!(at, Transform.input), l.input),
                (field!(at, Transform.out), l.out),
                (field!(at, Transform.width), l.width),
            ];
            numbers.into_iter().for_each(|(at, n)| t.number(at, n as i64));
        }
        t.number(field!(at, Variant.symbols), plan.syms.len() as i64);
        t.numbers(field!(at, Variant.feeds), feeds.iter().map(|&k| k as i64));
        t.numbers(field!(at, Variant.feed_ranks), plan.inputs.iter().map(|p| p.ty.rank() as i64));
        let items = t.list::<raw::Baked>(field!(at, Variant.baked), baked.len());
        for ((input, value), at) in baked.iter().zip(items) {
            t.number(field!(at, Baked.input), *input as i64);
            t.numbers(field!(at, Baked.dims), value.shape().iter().map(|&n| n as i64));
            t.bytes(field!(at, Baked.bytes), value.bytes());
        }
        t.numbers(field!(at, Variant.output_ranks), plan.outputs.iter().map(|p| p.ty.rank() as i64));
        let items = t.list::<raw::Node>(field!(at, Variant.nodes), plan.steps.len());
        for ((step, at), status) in
            plan.steps.iter().zip(items).zip(zero_status.into_iter().chain(std::iter::repeat(TfStatus::Internal)))
        {
            t.text(field!(at, Node.name), step.loc.name());
            t.number(field!(at, Node.zero_status), status as i64);
        }
        t.numbers(field!(at, Variant.variables), variables.iter().map(|&k| k as i64));
        let items = t.list::<raw::Read>(field!(at, Variant.reads), reads.len());
        for (&(variable, status), at) in reads.iter().zip(items) {
            t.number(field!(at, Read.variable), variable as i64);
            t.number(field!(at, Read.status), status as i64);
        }
        t.numbers(field!(at, Variant.assigns), assigns.iter().map(|&k| k as i64));
        Ok(stored.bytes())
    }

    /// Puts packed weights where they belong, equal ones in one place.
    fn place_weights(&mut self, bytes: Vec<u8>, name: &str) -> Result<Placed, CompileError> {
        // Looking for equal ones costs a copy: only small weights are looked for.
        const MOST_COMPARED: usize = 64 << 20;
        let key = (bytes.len() <= MOST_COMPARED).then(|| bytes.clone());
        if let Some(&placed) = key.as_ref().and_then(|k| self.packed.get(k)) {
            return Ok(placed);
        }
        self.report.weights += bytes.len() - graphc_abi::TAIL_BYTES;
        let placed = match self.place {
            WeightsPlace::Embedded => Placed::Object(self.data(name, bytes)?),
            WeightsPlace::File => {
                let at = self.file.len().max(1).next_multiple_of(raw::WEIGHTS_START);
                self.file.resize(at, 0);
                self.file.extend_from_slice(&bytes);
                Placed::File(at)
            }
        };
        if let Some(key) = key {
            self.packed.insert(key, placed);
        }
        Ok(placed)
    }

    fn variable(&mut self, v: &VariableSource, at: usize, t: &mut Tables) -> Result<(), CompileError> {
        let bytes = v.shape.iter().product::<usize>() * v.elem.size();
        t.text(field!(at, Variable.name), &v.name);
        t.number(field!(at, Variable.elem), v.number as i64);
        t.numbers(field!(at, Variable.dims), v.shape.iter().map(|&n| n as i64));
        t.number(field!(at, Variable.bytes), bytes as i64);
        if let Some(init) = v.init.as_ref().filter(|i| i.bytes().len() == bytes) {
            let name = format!("{}.{}", self.prefix, v.name);
            // An empty value is a value.
            let content = if bytes == 0 { vec![0] } else { init.bytes().to_vec() };
            let data = self.data(&name, content)?;
            t.address(field!(at, Variable.init), Address::Data(data));
        }
        Ok(())
    }

    /// The function of the kernel library that transforms filters.
    fn transform(&mut self) -> Result<FuncId, CompileError> {
        let mut sig = self.module.make_signature();
        sig.params.extend([AbiParam::new(I64); 4]);
        Ok(self.module.declare_function("gc_transform_filter", Linkage::Import, &sig)?)
    }

    fn data(&mut self, name: &str, bytes: Vec<u8>) -> Result<DataId, CompileError> {
        let id = self.module.declare_data(name, Linkage::Local, false, false)?;
        let mut data = DataDescription::new();
        data.define(bytes.into_boxed_slice());
        data.set_align(ALIGN as u64);
        self.module.define_data(id, &data)?;
        Ok(id)
    }
}

fn port(p: &PortSource, at: usize, t: &mut Tables) {
    t.text(field!(at, Port.name), &p.name);
    t.number(field!(at, Port.elem), p.number as i64);
    let bytes = if p.number == raw::STRING { size_of::<raw::Text>() } else { p.elem.size() };
    t.number(field!(at, Port.elem_bytes), bytes as i64);
    match &p.shape {
        Some(shape) => t.numbers(field!(at, Port.dims), shape.iter().map(|d| d.as_const().unwrap_or(-1))),
        None => t.number(field!(at, Port.any_rank), 1),
    }
}

/// What binding gives, in order: bytes of the arena, then the extents of each output.
fn sizes(plan: &Plan) -> Vec<Dim> {
    let mut list = vec![plan.arena.clone()];
    plan.outputs.iter().for_each(|p| list.extend(p.ty.shape.iter().cloned()));
    list
}
