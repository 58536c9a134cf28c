//! `graphc opt`: the IR of a model between passes, as text or as a picture.

use super::{Failure, ModelArgs, outln, print_json};
use graphc::ir::{Func, Module};
use graphc::passes::pass::Diag;
use graphc::passes::pipeline::{self, Observer, PassTiming};
use graphc::passes::target::Target;
use graphc::picture;
use serde::Serialize;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "\
Pass names are those of --list-passes; `input` is the IR before the first pass, `plan` the schedule after the last. `placement` says on
which device each node of the graph runs and why, `partition` how the graph is cut, and what is sent between devices.

Examples:
  graphc opt model/                                   the optimised IR
  graphc opt model/ --print-after fuse --print-after plan
  graphc opt model/ --print-changed all
  graphc opt model/ --device GPU:0 --print-after placement --print-after partition
  graphc opt model/ --format svg -o model.svg
  graphc opt model/ --print-after gpu-ptx             in builds with the feature `gpu`
  graphc opt model/ --timing")]
pub struct Args {
    #[command(flatten)]
    model: Option<ModelArgs>,
    /// Print the IR before this pass, or before `all`
    #[arg(long, value_name = "PASS")]
    print_before: Vec<String>,
    /// Print the IR after this pass, or after `all`
    #[arg(long, value_name = "PASS")]
    print_after: Vec<String>,
    /// Print the IR after this pass, or after `all`, where it changed something
    #[arg(long, value_name = "PASS")]
    print_changed: Vec<String>,
    /// Text, or a picture of the graph
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write the GPU kernels of the model here, as SPIR-V and as PTX
    #[cfg(feature = "gpu")]
    #[arg(long, value_name = "FOLDER")]
    kernels: Option<PathBuf>,
    /// Check the IR after each pass
    #[arg(long)]
    verify: bool,
    /// Print how long each pass took and how much it changed
    #[arg(long)]
    timing: bool,
    /// Print the names of the passes in order
    #[arg(long)]
    list_passes: bool,
    /// Print constants in full
    #[arg(long)]
    constants: bool,
    /// Write here instead of to standard output
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Print timings as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Dot,
    Svg,
}

#[derive(Serialize)]
struct Timing {
    pass: &'static str,
    micros: f64,
    changed: usize,
}

struct Printer<'a> {
    args: &'a Args,
    out: String,
}

fn wants(list: &[String], pass: &str) -> bool {
    list.iter().any(|p| p == pass || p == "all")
}

impl Printer<'_> {
    fn print(&mut self, title: &str, m: &Module) {
        match self.args.format {
            Format::Text => {
                self.out.push_str(&format!("; ---- {title}\n"));
                self.out.push_str(&graphc::ir_text(m, self.args.constants));
                self.out.push('\n');
            }
            Format::Dot => self.out.push_str(&picture::dot(m)),
            Format::Svg => self.out.push_str(&picture::svg(m)),
        }
    }
}

impl Printer<'_> {
    /// Writes all that was printed to where it is wanted.
    fn finish(self) -> Result<(), Failure> {
        match &self.args.output {
            Some(path) => std::fs::write(path, self.out).map_err(|e| Failure::output(format!("{}: {e}", path.display()))),
            None => {
                if !self.out.is_empty() {
                    outln!("{}", self.out.trim_end());
                }
                Ok(())
            }
        }
    }
}

impl Observer for Printer<'_> {
    fn before(&mut self, pass: &'static str, m: &Module) {
        if wants(&self.args.print_before, pass) {
            self.print(&format!("before {pass}"), m);
        }
    }

    fn after(&mut self, t: &PassTiming, m: &Module) -> Result<(), Diag> {
        if wants(&self.args.print_after, t.name) || t.changed > 0 && wants(&self.args.print_changed, t.name) {
            self.print(&format!("after {}, {} changes", t.name, t.changed), m);
        }
        if self.args.verify {
            graphc::verify_after(t.name, m)?;
        }
        Ok(())
    }
}

/// What may be printed of the graph before there is IR: where its nodes run, and how it is cut.
const GRAPH_STAGES: [&str; 2] = ["placement", "partition"];

/// What may be printed after the plan, in builds for GPUs.
#[cfg(feature = "gpu")]
const GPU_STAGES: &[&str] = &graphc::gpu::STAGES;
#[cfg(not(feature = "gpu"))]
const GPU_STAGES: &[&str] = &[];

/// Whether the passes choose for a GPU: its device is named, or something of its kernels is wanted.
#[cfg(feature = "gpu")]
fn for_gpu(args: &Args) -> bool {
    let named = args.model.as_ref().is_some_and(|m| m.device != graphc::DeviceName::Cpu);
    named || args.kernels.is_some() || args.print_after.iter().any(|p| GPU_STAGES.contains(&p.as_str()))
}

#[cfg(feature = "gpu")]
fn target(args: &Args) -> &'static dyn Target {
    if for_gpu(args) { &graphc_gpu::GpuTarget } else { &graphc_cpu::CpuTarget }
}

#[cfg(not(feature = "gpu"))]
fn target(_: &Args) -> &'static dyn Target {
    &graphc_cpu::CpuTarget
}

#[cfg(feature = "gpu")]
fn plan_text(args: &Args, module: &Module, f: &Func) -> Result<String, graphc::Error> {
    if for_gpu(args) { graphc::gpu::plan_text(module, &f.name) } else { graphc::plan_text(module, f) }
}

#[cfg(not(feature = "gpu"))]
fn plan_text(_: &Args, module: &Module, f: &Func) -> Result<String, graphc::Error> {
    graphc::plan_text(module, f)
}

/// Prints and writes what is wanted of the kernels.
#[cfg(feature = "gpu")]
fn gpu_kernels(args: &Args, module: &Module, out: &mut String) -> Result<(), Failure> {
    let precision = args.model.as_ref().map_or(graphc::Precision::F32, |m| m.precision.into());
    for f in &module.funcs {
        if args.print_after.iter().any(|p| GPU_STAGES.contains(&p.as_str())) {
            out.push_str(&graphc::gpu::stages_text(module, &f.name, precision, &|stage| {
                args.print_after.iter().any(|p| p == stage)
            })?);
        }
        if let Some(folder) = &args.kernels {
            let count = graphc::gpu::write_kernels(module, &f.name, precision, folder)?;
            out.push_str(&format!("; {count} kernels in {}\n", folder.display()));
        }
    }
    Ok(())
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let passes = pipeline::standard();
    if args.list_passes {
        GRAPH_STAGES
            .into_iter()
            .chain(passes.iter().map(|p| p.name()))
            .chain(GPU_STAGES.iter().copied())
            .for_each(|name| outln!("{name}"));
        return Ok(());
    }
    for name in args.print_before.iter().chain(&args.print_after).chain(&args.print_changed) {
        let known = matches!(name.as_str(), "all" | "input" | "plan")
            || GRAPH_STAGES.contains(&name.as_str())
            || GPU_STAGES.contains(&name.as_str());
        if !known && pipeline::find(name).is_none() {
            return Err(Failure::usage(format!("no pass {name:?}; --list-passes lists them")));
        }
    }
    let Some(model) = &args.model else { return Err(Failure::usage("a model is needed")) };
    let session = model.open(1)?;
    let callable = model.callable(&session)?;
    let mut printer = Printer { args, out: String::new() };
    let asked = |stage: &str| args.print_after.iter().any(|p| p == stage);
    if asked("placement") {
        printer.out.push_str(&format!("; ---- placement\n{}", callable.placement()?));
    }
    if asked("partition") {
        printer.out.push_str(&format!("; ---- partition\n{}", callable.partition()?));
    }
    if !args.print_after.is_empty() && args.print_after.iter().all(|p| GRAPH_STAGES.contains(&p.as_str())) {
        return printer.finish();
    }
    let stages = callable.stages();
    if !stages.is_empty() {
        printer.out.push_str("; runs in stages: compiled segments, and nodes that run one by one\n");
        stages.iter().for_each(|s| printer.out.push_str(&format!("{s}\n")));
        return printer.finish();
    }
    let mut module = callable.module(None)?;
    if wants(&args.print_after, "input") {
        printer.print("input", &module);
    }
    if args.verify {
        graphc::verify_after("input", &module).map_err(Failure::input)?;
    }
    let timings = graphc::optimise_for(target(args), &mut module, model.precision.into(), &mut printer)?;
    let silent = args.print_before.is_empty() && args.print_after.is_empty() && args.print_changed.is_empty();
    #[cfg(feature = "gpu")]
    let silent = silent && args.kernels.is_none();
    if silent && !args.timing {
        printer.print("optimised", &module);
    }
    if args.format == Format::Text && wants(&args.print_after, "plan") {
        for f in &module.funcs {
            printer.out.push_str(&format!("; ---- plan\n{}", plan_text(args, &module, f)?));
        }
    }
    #[cfg(feature = "gpu")]
    gpu_kernels(args, &module, &mut printer.out)?;
    if args.timing {
        let list: Vec<Timing> =
            timings.iter().map(|t| Timing { pass: t.name, micros: t.time.as_secs_f64() * 1e6, changed: t.changed }).collect();
        if args.json {
            print_json(&list)?;
        } else {
            list.iter().for_each(|t| outln!("{:>10.0} us {:>6} changes  {}", t.micros, t.changed, t.pass));
        }
    }
    printer.finish()
}
