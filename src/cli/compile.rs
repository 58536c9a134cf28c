//! `graphc compile`: objects, libraries, programs and packages.

use super::inputs::InputArgs;
use super::run::views;
use super::{Failure, ModelArgs, PrecisionArg, outln, print_json, progress};
use clap::builder::PossibleValuesParser;
use graphc::aot::{self, Archive, Builder, Cpu, Linker, Machine, Object, Package, Report, WeightsPlace};
use graphc::passes::target::Target;
use graphc::{Callable, Error, Session, View};
use graphc_cpu::CpuTarget;
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "\
What is written, with --emit or by the name of the output:
  NAME.o        object    an object file; link it with libgraphc_rt.a -lm -lpthread
  libNAME.a     static    a static library, with what it needs of the runtime
  libNAME.so    shared    a shared library, with NAME.py beside it, a module for Python and NumPy
  NAME.graphc   package   one file that `graphc run` and the Rust library map and run without compiling
  NAME          program   a program that reads inputs from npz files and writes outputs to one
Objects and libraries come with NAME.h and graphc.h, which says how they are run.

Examples:
  graphc compile model/ -o mlp && ./mlp --input x.npz --output y.npz
  graphc compile model/ -o libmlp.so && python3 -c 'import mlp; print(mlp.Model()(x=...))'
  graphc compile model/ -o mlp.o && cc main.c mlp.o target/rt/libgraphc_rt.a -lm -lpthread
  graphc compile model/ -o mlp.o --weights mlp.weights --target aarch64-unknown-linux-gnu
  graphc compile model/ -o mlp.graphc --device GPU:0 && graphc run mlp.graphc --device GPU:0")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    examples: InputArgs,
    /// File to write; others are written beside it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// What to write [default: by the name of the output]
    #[arg(long, value_enum)]
    emit: Option<Emit>,
    /// Name of the model, and prefix of the exported symbols [default: the name of the output]
    #[arg(long)]
    name: Option<String>,
    /// Compile all signatures, not only the one chosen
    #[arg(long, conflicts_with_all = ["signature", "feed", "fetch"])]
    all_signatures: bool,
    /// Compile these signatures; the first is the default one
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with_all = ["signature", "feed", "fetch", "all_signatures"])]
    signatures: Vec<String>,
    /// Write the weights to a file of their own, which programs map
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// System for which code is made [default: this one]
    #[arg(long, value_name = "TRIPLE", value_parser = PossibleValuesParser::new(Machine::triples()))]
    target: Option<String>,
    /// Instructions that code may use without asking. Whatever it is, an object for x86-64 uses better ones where the machine that runs it has them
    #[arg(long, default_value = "baseline", value_parser = PossibleValuesParser::new(Cpu::ALL.map(|(name, _)| name)))]
    cpu: String,
    /// With --device GPU:0, kinds of GPUs that a package has code for: architectures of NVIDIA's, each for all that are newer too, spirv for
    /// Vulkan, spirv-basic for Vulkan on devices without 8, 16 and 64-bit integers and f64; cubin:sm_90 and so on is machine code of one
    /// generation, for which ptxas is needed
    #[arg(long, value_name = "KIND", value_delimiter = ',', default_value = "sm_80,spirv")]
    gpu_targets: Vec<String>,
    /// NVIDIA's assembler, for cubin [default: ptxas in the search path]
    #[arg(long, value_name = "FILE")]
    ptxas: Option<PathBuf>,
    /// Keep symbols, and add line information for debuggers and profilers. It refers to NAME.plan, written beside the output: a line for
    /// each launch, with its node
    #[arg(short = 'g', long)]
    debug: bool,
    /// Print what the output consists of
    #[arg(long)]
    report: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Emit {
    Object,
    Static,
    Shared,
    Program,
    Package,
    /// A static library of the object alone and a module, for `graphc-build`
    Rust,
}

impl Args {
    fn machine(&self) -> Result<Machine, Error> {
        let cpu = Cpu::named(&self.cpu).unwrap_or_default();
        let machine = match &self.target {
            Some(triple) => Machine::new(triple, cpu),
            None => Machine::here(cpu),
        };
        machine.map_err(|e| Error::Compile(e.to_string()))
    }

    fn emit(&self) -> Emit {
        let by_name = || match self.output.extension().and_then(|e| e.to_str()) {
            Some("o" | "obj") => Emit::Object,
            Some("a") => Emit::Static,
            Some("so" | "dylib") => Emit::Shared,
            Some("graphc") => Emit::Package,
            _ => Emit::Program,
        };
        self.emit.unwrap_or_else(by_name)
    }

    /// The model's name: that of the output, without `lib` and what follows the first dot.
    fn name(&self, emit: Emit) -> String {
        let file = self.output.file_name().unwrap_or_default().to_string_lossy();
        let stem = file.split('.').next().unwrap_or("model");
        let library = matches!(emit, Emit::Static | Emit::Shared);
        let stem = stem.strip_prefix("lib").filter(|s| library && !s.is_empty()).unwrap_or(stem);
        self.name.clone().unwrap_or_else(|| stem.to_owned())
    }
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let (emit, machine) = (args.emit(), args.machine()?);
    let name = args.name(emit);
    let for_gpu = args.model.device != graphc::DeviceName::Cpu;
    if for_gpu && emit != Emit::Package {
        return Err(Failure::usage("only packages (NAME.graphc) have code for GPUs; all else runs on the CPU, without --device"));
    }
    if args.weights.is_some() && emit == Emit::Package {
        return Err(Failure::usage("a package has its weights in it; leave out --weights"));
    }
    // Code for GPUs is made without one, and multiplies what it is asked to whatever the processor here can.
    let mut model = ModelArgs { device: graphc::DeviceName::Cpu, ..args.model.clone() };
    if for_gpu && model.precision == PrecisionArg::Bf16 && !CpuTarget.has_bf16_dots() {
        model.precision = PrecisionArg::F32;
    }
    let session = model.open(1)?;
    let mut builder = Builder::of(&session, &name)?;
    let mut gpu = DeviceCode::new(args, for_gpu, &mut builder)?;
    for (function, callable) in functions(args, &session)? {
        let mut targets = |examples: &[Vec<View>]| -> Result<(), Error> {
            builder.function(&function, &callable, examples)?;
            gpu.add(&function, &callable, examples)
        };
        add(&function, &callable, &args.examples, &mut targets)?;
    }
    gpu.add_parts(&mut builder)?;
    let archive = builder.archive();
    // What links is looked for before code generation takes time.
    let linker = match emit {
        Emit::Static | Emit::Shared | Emit::Program => Some(Linker::new(machine, archive, args.debug)?),
        Emit::Object | Emit::Package | Emit::Rust => None,
    };
    let (header, module) = (builder.header(), builder.rust_module());
    let place = if args.weights.is_some() || emit == Emit::Package { WeightsPlace::File } else { WeightsPlace::Embedded };
    let listing = format!("{}.plan", aot::identifier(&name));
    let mut object = {
        let _line = progress::line("compiling");
        builder.compile(machine, place, emit == Emit::Program, args.debug.then(|| listing.clone()))?
    };
    args.model.note_integers(&session);
    drop(session);
    let report = object.report.clone();
    let mut written = vec![args.output.clone()];
    if let Some(text) = object.listing() {
        save(&args.output.with_file_name(&listing), text.as_bytes(), &mut written)?;
    }
    if let Some(path) = &args.weights {
        save(path, &object.weights.take().unwrap_or_default(), &mut written)?;
    }
    match linker {
        None if emit == Emit::Rust => {
            let bytes = object.write().map_err(|e| Failure::from(Error::Compile(e.to_string())))?;
            aot::archive(&bytes, &name, machine, &args.output)?;
            save(&args.output.with_file_name(format!("{}.rs", aot::identifier(&name))), module.as_bytes(), &mut written)?;
        }
        None if emit == Emit::Package => {
            Package::write_with(object, &name, machine, gpu.parts()?, &args.output).map_err(Failure::output)?;
        }
        linker => link(args, emit, &name, object, linker)?,
    }
    if matches!(emit, Emit::Object | Emit::Static | Emit::Shared) {
        let beside = |file: &str| args.output.with_file_name(file);
        let symbol = aot::identifier(&name);
        save(&beside(&format!("{symbol}.h")), header.as_bytes(), &mut written)?;
        save(&beside("graphc.h"), aot::API_HEADER.as_bytes(), &mut written)?;
        if emit == Emit::Shared {
            let library = args.output.file_name().unwrap_or_default().to_string_lossy();
            save(&beside(&format!("{symbol}.py")), aot::wrapper(&name, &library).as_bytes(), &mut written)?;
        }
    }
    tell(args, &name, machine, &report, &written, archive)
}

/// What goes into a package for GPUs.
#[cfg(feature = "gpu")]
struct DeviceCode {
    code: Option<aot::DeviceCode>,
    wanted: aot::Wanted,
}

#[cfg(feature = "gpu")]
impl DeviceCode {
    fn new(args: &Args, wanted: bool, builder: &mut Builder) -> Result<DeviceCode, Failure> {
        if wanted {
            builder.for_gpus();
        }
        let kinds: Vec<aot::Kind> = args.gpu_targets.iter().map(|t| t.parse().map_err(Failure::usage)).collect::<Result<_, _>>()?;
        let ptxas = aot::ptxas::find(args.ptxas.as_deref());
        if let (Some(kind), None) = (kinds.iter().find(|k| k.cubin), &ptxas) {
            let looked = args.ptxas.as_ref().map_or("in the search path".to_owned(), |p| p.display().to_string());
            return Err(Failure::usage(format!(
                "--gpu-targets {kind} needs ptxas, which is not there ({looked}); it comes with CUDA's toolkit: name it with --ptxas"
            )));
        }
        let factors = graphc::Precision::from(args.model.precision).into();
        Ok(DeviceCode { code: wanted.then(aot::DeviceCode::default), wanted: aot::Wanted { kinds, factors, ptxas } })
    }

    fn add(&mut self, name: &str, callable: &Callable, examples: &[Vec<View>]) -> Result<(), Error> {
        self.code.as_mut().map_or(Ok(()), |c| c.add(name, callable, examples, &self.wanted))
    }

    fn add_parts(&mut self, builder: &mut Builder) -> Result<(), Error> {
        let Some(code) = &mut self.code else { return Ok(()) };
        code.add_parts(builder.parts_mut(), &self.wanted)?;
        let nothing = "nothing of the model has code for GPUs; leave --device out";
        if code.is_empty() { Err(Error::Unsupported(nothing.into())) } else { Ok(()) }
    }

    fn parts(self) -> Result<Option<[Vec<u8>; 2]>, Error> {
        let Some(mut code) = self.code else { return Ok(None) };
        let weights = std::mem::take(&mut code.weights);
        Ok(Some([code.write()?, weights]))
    }
}

/// Nothing: this build makes no code for GPUs.
#[cfg(not(feature = "gpu"))]
struct DeviceCode;

#[cfg(not(feature = "gpu"))]
impl DeviceCode {
    fn new(_: &Args, wanted: bool, _: &mut Builder) -> Result<DeviceCode, Failure> {
        let lacks = "code for GPUs: this build of graphc makes none; build it with the feature `gpu`";
        if wanted { Err(Error::Unsupported(lacks.into()).into()) } else { Ok(DeviceCode) }
    }

    fn add(&mut self, _: &str, _: &Callable, _: &[Vec<View>]) -> Result<(), Error> {
        Ok(())
    }

    fn add_parts(&mut self, _: &mut Builder) -> Result<(), Error> {
        Ok(())
    }

    fn parts(self) -> Result<Option<[Vec<u8>; 2]>, Error> {
        Ok(None)
    }
}

/// The functions that the arguments choose, by name, the default one first.
fn functions(args: &Args, session: &Session) -> Result<Vec<(String, Callable)>, Failure> {
    let model = session.model()?;
    let default = model.default_signature().map(|s| s.name.clone());
    if !args.all_signatures && args.signatures.is_empty() {
        let chosen = !args.model.feed.is_empty() || !args.model.fetch.is_empty();
        let name = args.model.signature.clone().or(default).filter(|_| !chosen).unwrap_or_else(|| "main".to_owned());
        return Ok(vec![(name, args.model.callable(session)?)]);
    }
    let mut names = args.signatures.clone();
    if args.all_signatures {
        names = model.signatures().map(|s| s.name.clone()).collect();
        names.sort_by_key(|n| Some(n) != default.as_ref());
    }
    let _line = progress::line("compiling");
    names.into_iter().map(|n| session.signature(Some(&n)).map(|c| (n, c)).map_err(Failure::from)).collect()
}

/// What compiles a function for all that is written, with examples of its inputs.
type Compilers<'a> = &'a mut dyn FnMut(&[Vec<View>]) -> Result<(), Error>;

/// Adds a function; where the graph must know more than its signature says, with the example inputs.
fn add(name: &str, callable: &Callable, examples: &InputArgs, to: Compilers) -> Result<(), Failure> {
    match to(&[]) {
        Err(e) if graphc::needs_feeds(&e) => {
            let inputs = examples.tensors(callable.inputs()).map_err(|f| {
                Failure::usage(format!(
                    "{name:?} must know more of its inputs to be compiled; give an example with --input ({})",
                    f.message
                ))
            })?;
            Ok(to(&[views(&inputs)?])?)
        }
        Err(e) => Err(Failure { message: format!("signature {name:?}: {e}"), ..Failure::from(e) }),
        Ok(()) => Ok(()),
    }
}

fn link(args: &Args, emit: Emit, name: &str, object: Object, linker: Option<Linker>) -> Result<(), Failure> {
    let bytes = object.write().map_err(|e| Failure::from(Error::Compile(e.to_string())))?;
    let to = &args.output;
    match (linker, emit) {
        (Some(l), Emit::Static) => Ok(l.static_library(&bytes, name, to)?),
        (Some(l), Emit::Shared) => Ok(l.shared(&bytes, name, to)?),
        (Some(l), _) => Ok(l.program(&bytes, to)?),
        (None, _) => std::fs::write(to, &bytes).map_err(|e| Failure::output(format!("{}: {e}", to.display()))),
    }
}

fn save(path: &Path, bytes: &[u8], written: &mut Vec<PathBuf>) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|e| Failure::output(format!("{}: {e}", path.display())))?;
    written.push(path.to_owned());
    Ok(())
}

#[derive(Serialize)]
struct Summary {
    name: String,
    target: String,
    files: Vec<FileSummary>,
    weights_bytes: usize,
    functions: Vec<FunctionSummary>,
    kernels: Vec<String>,
    library_functions: Vec<String>,
    /// The runtime's archive that the object needs.
    runtime: &'static str,
}

#[derive(Serialize)]
struct FileSummary {
    path: String,
    bytes: u64,
}

#[derive(Serialize)]
struct FunctionSummary {
    name: String,
    variants: usize,
    launches: usize,
    loops: usize,
    weights_bytes: usize,
}

fn tell(args: &Args, name: &str, machine: Machine, report: &Report, written: &[PathBuf], archive: Archive) -> Result<(), Failure> {
    let size = |p: &PathBuf| std::fs::metadata(p).map_or(0, |m| m.len());
    let files = written.iter().map(|p| FileSummary { path: p.display().to_string(), bytes: size(p) }).collect();
    let functions = report.functions.iter().map(|f| FunctionSummary {
        name: f.name.clone(),
        variants: f.variants.len(),
        launches: f.variants.iter().map(|v| v.0).sum(),
        loops: f.variants.iter().map(|v| v.1).sum(),
        weights_bytes: f.weights,
    });
    let summary = Summary {
        name: name.to_owned(),
        target: machine.triple().to_owned(),
        files,
        weights_bytes: report.weights,
        functions: functions.collect(),
        kernels: report.kernels.clone(),
        library_functions: report.families.clone(),
        runtime: archive.file(),
    };
    if args.json {
        return print_json(&summary);
    }
    let mb = |bytes: f64| format!("{:.2} MB", bytes / 1e6);
    for f in &summary.files {
        outln!("{} ({})", f.path, mb(f.bytes as f64));
    }
    if args.emit() == Emit::Object && archive == Archive::Full {
        outln!("has functions in stages: link it with {}", archive.file());
    }
    if args.report {
        outln!("weights: {}", mb(report.weights as f64));
        if let Some(f) = summary.files.first().filter(|_| args.weights.is_none()) {
            outln!("all else: {}", mb(f.bytes as f64 - report.weights as f64));
        }
        for f in &summary.functions {
            outln!("{:?}: {} variants, {} launches, {} fused loops", f.name, f.variants, f.launches, f.loops);
        }
        outln!("kernels: {}", report.kernels.join(", "));
        if !report.families.is_empty() {
            outln!("library functions of: {}", report.families.join(", "));
        }
    }
    Ok(())
}
