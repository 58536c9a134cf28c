//! `graphc run`: one run of a model, its outputs summarised and saved.

use super::inputs::InputArgs;
use super::packages::Function;
use super::{Failure, ModelArgs, outln, print_json};
use graphc::aot::Package;
use graphc::{Callable, RunOptions, Tensor, View};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  graphc run tests/golden/mlp/saved_model                 random inputs, batch 1
  graphc run model/ --input x.npz --output y.npz          inputs by name from an npz
  graphc run model/ --shape 8 --threads 2                 random inputs, open dimensions 8
  graphc run graph.pb --feed x:0 --fetch dense/Relu:0     any tensors of the graph")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    inputs: InputArgs,
    /// Save the outputs here
    #[arg(short, long, value_name = "FILE.npz")]
    output: Option<PathBuf>,
    /// Threads that compute
    #[arg(short, long, default_value_t = 1)]
    threads: usize,
    /// Give up after so long; a graph may wait for what never comes
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Summary {
    load_ms: f64,
    compile_ms: f64,
    run_ms: f64,
    outputs: Vec<OutputSummary>,
}

#[derive(Serialize)]
struct OutputSummary {
    name: String,
    elem: String,
    shape: Vec<usize>,
    min: Option<f64>,
    max: Option<f64>,
    mean: Option<f64>,
    first: Vec<Element>,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let start = Instant::now();
    if Package::is_one(&args.model.model) {
        return run_package(args, start);
    }
    let session = args.model.open(args.threads)?;
    let loaded = start.elapsed();
    let callable = args.model.callable(&session)?;
    let compiled = start.elapsed();
    let inputs = args.inputs.tensors(callable.inputs())?;
    let before = Instant::now();
    let outputs = run_within(&callable, &inputs, args.timeout)?;
    args.model.note_integers(&session);
    let named = callable.outputs().iter().map(|p| p.name.clone()).zip(outputs).collect();
    tell(args, [loaded, compiled - loaded, before.elapsed()], named)
}

/// A run of a package, which nothing compiles.
fn run_package(args: &Args, start: Instant) -> Result<(), Failure> {
    let function = Function::open(&args.model, args.threads)?;
    let loaded = start.elapsed();
    let inputs = args.inputs.tensors(&function.inputs)?;
    let before = Instant::now();
    let results = function.run(&inputs)?;
    let named = function.outputs.iter().map(|p| p.name.clone()).zip(results).collect();
    tell(args, [loaded, Duration::ZERO, before.elapsed()], named)
}

/// Saves and prints the outputs of a run, with the times of loading, compiling and running.
fn tell(args: &Args, [load, compile, run]: [Duration; 3], named: Vec<(String, Tensor)>) -> Result<(), Failure> {
    if let Some(path) = &args.output {
        graphc::npz::write(path, &named).map_err(|e| Failure::output(format!("{}: {e}", path.display())))?;
    }
    let summary = Summary {
        load_ms: load.as_secs_f64() * 1e3,
        compile_ms: compile.as_secs_f64() * 1e3,
        run_ms: run.as_secs_f64() * 1e3,
        outputs: named.iter().map(|(n, t)| summarise(n, t)).collect(),
    };
    if args.json {
        return print_json(&summary);
    }
    for o in &summary.outputs {
        let range = match (o.min, o.max, o.mean) {
            (Some(a), Some(b), Some(m)) => format!("min {a:.6}  max {b:.6}  mean {m:.6}  "),
            _ => String::new(),
        };
        let first: Vec<String> = o.first.iter().map(Element::to_string).collect();
        outln!(
            "{}: {}{:?}  {range}[{}{}]",
            o.name,
            o.elem,
            o.shape,
            first.join(", "),
            if o.shape.iter().product::<usize>() > first.len() { ", …" } else { "" }
        );
    }
    outln!("loaded in {:.1} ms, compiled in {:.1} ms, ran in {:.3} ms", summary.load_ms, summary.compile_ms, summary.run_ms);
    if let Some(path) = &args.output {
        outln!("outputs saved to {}", path.display());
    }
    Ok(())
}

/// The outputs, unless they take longer than `seconds`.
fn run_within(callable: &Callable, inputs: &[Tensor], seconds: Option<f64>) -> Result<Vec<Tensor>, Failure> {
    let views = views(inputs)?;
    let Some(seconds) = seconds else { return Ok(callable.run(&views)?) };
    let limit = Duration::try_from_secs_f64(seconds).map_err(|_| Failure::usage("--timeout takes a number of seconds"))?;
    let cancel = AtomicU32::new(0);
    let outcome = std::thread::scope(|s| {
        let (done, waiting) = channel::<()>();
        let cancel = &cancel;
        s.spawn(move || {
            if waiting.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                cancel.store(1, Ordering::Relaxed);
            }
        });
        let outcome = callable.run_with(&views, &mut RunOptions { cancel: Some(cancel), ..RunOptions::default() });
        drop(done);
        outcome
    });
    match outcome {
        Err(_) if cancel.load(Ordering::Relaxed) != 0 => Err(Failure::run(format!("no answer within {seconds} s"))),
        outcome => Ok(outcome?),
    }
}

/// An element as it is shown.
#[derive(Serialize)]
#[serde(untagged)]
enum Element {
    Number(f64),
    Text(String),
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Number(v) => write!(f, "{v:.5}"),
            Element::Text(s) => write!(f, "{s:?}"),
        }
    }
}

fn summarise(name: &str, t: &Tensor) -> OutputSummary {
    const SHOWN: usize = 5;
    let v = t.to_reals().unwrap_or_default();
    let strings = t.strings().unwrap_or_default().iter().map(|s| Element::Text(String::from_utf8_lossy(s).into_owned()));
    let fold = |f: fn(f64, f64) -> f64| v.iter().copied().reduce(f);
    OutputSummary {
        name: name.to_owned(),
        elem: t.elem().to_string(),
        shape: t.shape().to_vec(),
        min: fold(f64::min),
        max: fold(f64::max),
        mean: (!v.is_empty()).then(|| v.iter().sum::<f64>() / v.len() as f64),
        first: v.iter().map(|&v| Element::Number(v)).chain(strings).take(SHOWN).collect(),
    }
}

/// Views of tensors, for calls that borrow.
pub fn views(tensors: &[Tensor]) -> Result<Vec<View<'_>>, Failure> {
    tensors.iter().map(|t| View::try_from(t).map_err(|()| Failure::usage("a handle cannot be fed"))).collect()
}
