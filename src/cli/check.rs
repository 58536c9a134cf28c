//! `graphc check`: a model's outputs against references.

use super::packages::Function;
use super::{Failure, ModelArgs, outln, print_json};
use graphc::aot::Package;
use graphc::compare::{Difference, compare};
use graphc::linked::Linked;
use graphc::{Callable, DeviceName, Port, Tensor};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "\
The references hold inputs as in/<name> and expected outputs as out/<name>. A file may hold several runs of one session, with names
that begin alike (step0/in/x, step0/out/loss, step1/in/x, …); each uses the signature that has these names.
An output agrees where no element is further away than atol + rtol * (greatest reference value).

Examples:
  graphc check tests/golden/mlp/saved_model tests/golden/mlp/io_*.npz
  graphc check model/ ref.npz --backend interp --rtol 1e-5
  graphc check model.graphc ref.npz --backend gpu         a package that was compiled with --device GPU:0")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// npz files with inputs and expected outputs
    #[arg(required = true)]
    references: Vec<PathBuf>,
    /// What computes: code in memory, the reference interpreter, a linked object file, or a GPU
    #[arg(long, value_enum, default_value_t = Backend::Jit)]
    backend: Backend,
    /// Tolerance relative to the output's scale
    #[arg(long, default_value_t = 1e-4)]
    rtol: f64,
    /// Absolute tolerance
    #[arg(long, default_value_t = 1e-8)]
    atol: f64,
    /// Threads that compute
    #[arg(short, long, default_value_t = 1)]
    threads: usize,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    Jit,
    Interp,
    Object,
    /// The device that --device names, or GPU:0
    Gpu,
}

#[derive(Serialize)]
struct Report {
    agrees: bool,
    outputs: Vec<OutputReport>,
}

#[derive(Serialize)]
struct OutputReport {
    reference: String,
    output: String,
    agrees: bool,
    #[serde(flatten)]
    difference: Difference,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let mut model = args.model.clone();
    if args.backend == Backend::Gpu && model.device == DeviceName::Cpu {
        model.device = DeviceName::Gpu(0);
    }
    if Package::is_one(&model.model) {
        return check_package(args, &model);
    }
    let session = model.open(args.threads)?;
    let mut callables: Vec<(ModelArgs, Callable)> = Vec::new();
    // What is run, in order: its file, its arrays, and the number of its function.
    let mut all = Vec::new();
    for path in &args.references {
        for run in runs(path)? {
            let model = chosen(&args.model, session.model()?, &run);
            let alike = |m: &ModelArgs| m.feed == model.feed && m.fetch == model.fetch && m.signature == model.signature;
            let at = match callables.iter().position(|(m, _)| alike(m)) {
                Some(at) => at,
                None => {
                    let made = model.callable(&session)?;
                    callables.push((model, made));
                    callables.len() - 1
                }
            };
            let inputs = inputs(callables[at].1.inputs(), path, &run)?;
            all.push((path, run, at, inputs));
        }
    }
    let linked = match args.backend {
        Backend::Object => {
            // All functions in one object, so that they share their variables.
            let feeds = |at| all.iter().filter(|(_, _, k, _)| *k == at).map(|(.., inputs)| inputs.as_slice()).collect();
            let functions: Vec<_> = callables.iter().enumerate().map(|(at, (_, c))| (c, feeds(at))).collect();
            Some(Linked::new(&session, &functions)?)
        }
        _ => None,
    };
    let mut outputs = Vec::new();
    for (path, run, at, inputs) in &all {
        let callable = &callables[*at].1;
        let got = match (args.backend, &linked) {
            (_, Some(l)) => l.run(*at, callable, inputs)?,
            (Backend::Interp, _) => callable.interpret(inputs)?,
            _ => callable.run_tensors(inputs)?,
        };
        outputs.extend(compared(args, callable.outputs(), path, run, &got)?);
    }
    args.model.note_integers(&session);
    tell(args, outputs)
}

/// Compares a function of a package, on the CPU or a GPU.
fn check_package(args: &Args, model: &ModelArgs) -> Result<(), Failure> {
    if matches!(args.backend, Backend::Interp | Backend::Object) {
        return Err(Failure::usage("a package has code, which no other backend runs; leave --backend out, or say gpu"));
    }
    let function = Function::open(model, args.threads)?;
    let mut outputs = Vec::new();
    for path in &args.references {
        for run in runs(path)? {
            let got = function.run(&inputs(&function.inputs, path, &run)?)?;
            outputs.extend(compared(args, &function.outputs, path, &run, &got)?);
        }
    }
    tell(args, outputs)
}

/// Prints what was compared; a difference is a failure.
fn tell(args: &Args, outputs: Vec<OutputReport>) -> Result<(), Failure> {
    let report = Report { agrees: outputs.iter().all(|o| o.agrees), outputs };
    if args.json {
        print_json(&report)?;
    } else {
        for o in &report.outputs {
            let verdict = if o.agrees { "agrees " } else { "DIFFERS" };
            match &o.difference.mismatch {
                Some(why) => outln!("{verdict} {} {}: {why}", o.reference, o.output),
                None => outln!(
                    "{verdict} {} {}: absolute {:.3e}, relative to scale {:.3e} (scale {:.4})",
                    o.reference,
                    o.output,
                    o.difference.max_abs,
                    o.difference.relative,
                    o.difference.scale
                ),
            }
        }
    }
    if report.agrees { Ok(()) } else { Err(Failure::differs()) }
}

/// The arrays of one run.
struct Run {
    /// What their names begin with: "", or "step0/".
    label: String,
    inputs: Vec<(String, Tensor)>,
    outputs: Vec<(String, Tensor)>,
}

/// The runs that a reference file describes, in its order. They happen in one session, so that state goes from one to the next.
fn runs(path: &Path) -> Result<Vec<Run>, Failure> {
    let arrays = graphc::npz::read(path).map_err(|e| Failure::input(format!("{}: {e}", path.display())))?;
    let mut runs: Vec<Run> = Vec::new();
    for (name, tensor) in arrays {
        let at = |part: &str| if name.starts_with(part) { Some(0) } else { name.find(&format!("/{part}")).map(|k| k + 1) };
        let Some((at, input)) = at("in/").map(|k| (k, true)).or_else(|| at("out/").map(|k| (k, false))) else { continue };
        let label = &name[..at];
        let k = runs.iter().position(|r| r.label == label).unwrap_or_else(|| {
            runs.push(Run { label: label.to_owned(), inputs: Vec::new(), outputs: Vec::new() });
            runs.len() - 1
        });
        let rest = &name[at..];
        match input {
            true => runs[k].inputs.push((rest.trim_start_matches("in/").to_owned(), tensor)),
            false => runs[k].outputs.push((rest.trim_start_matches("out/").to_owned(), tensor)),
        }
    }
    if runs.is_empty() {
        return Err(Failure::input(format!("{}: no arrays named in/<name> and out/<name>", path.display())));
    }
    Ok(runs)
}

/// What to feed and fetch: as the arguments say; for a graph without signatures, what the reference names. Where the reference has other
/// names than the signature, another signature that has them.
fn chosen(args: &ModelArgs, model: &graphc::frontend::Model, run: &Run) -> ModelArgs {
    let mut choice = args.clone();
    if !args.feed.is_empty() || !args.fetch.is_empty() {
        return choice;
    }
    let named = |list: &[(String, Tensor)]| list.iter().map(|(n, _)| n.clone()).collect();
    if model.signatures().next().is_none() {
        choice.feed = named(&run.inputs);
        choice.fetch = named(&run.outputs);
        return choice;
    }
    let fits = |s: &&graphc::frontend::Signature| {
        s.inputs.iter().all(|i| run.inputs.iter().any(|(n, _)| *n == i.name))
            && run.outputs.iter().all(|(n, _)| s.outputs.iter().any(|o| o.name == *n))
    };
    let first = match &args.signature {
        Some(name) => model.signature(name).ok(),
        None => model.default_signature(),
    };
    if let Some(s) = first.filter(|s| fits(s)).or_else(|| model.signatures().find(fits)) {
        choice.signature = Some(s.name.clone());
    }
    choice
}

/// The array of a tensor in a list of them.
fn find(list: &[(String, Tensor)], name: &str) -> Option<Tensor> {
    list.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone())
}

/// The inputs of a run, in the function's order.
fn inputs(ports: &[Port], path: &Path, run: &Run) -> Result<Vec<Tensor>, Failure> {
    let none = |name: &str| Failure::input(format!("{}: no array \"{}in/{name}\"", path.display(), run.label));
    ports.iter().map(|p| find(&run.inputs, &p.name).ok_or_else(|| none(&p.name))).collect()
}

/// What a run gave beside its reference.
fn compared(args: &Args, ports: &[Port], path: &Path, run: &Run, got: &[Tensor]) -> Result<Vec<OutputReport>, Failure> {
    let label = |name: &str| format!("{}{name}", run.label);
    let mut reports = Vec::new();
    for (port, got) in ports.iter().zip(got) {
        let Some(want) = find(&run.outputs, &port.name) else { continue };
        let difference = compare(got, &want);
        let agrees = difference.within(args.rtol, args.atol);
        reports.push(OutputReport { reference: path.display().to_string(), output: label(&port.name), agrees, difference });
    }
    if reports.is_empty() {
        let name = label("out/<name>");
        return Err(Failure::input(format!("{}: no array \"{name}\" for any output", path.display())));
    }
    Ok(reports)
}
