//! `graphc bench`: latency of a model, and where the time goes.

use super::inputs::InputArgs;
use super::packages::Function;
use super::run::views;
use super::{Failure, ModelArgs, outln, print_json, print_line};
use graphc::aot::Package;
use graphc::profile::{KernelShare, Limits, Profile};
use graphc::{Port, RunOptions, Tensor};
use serde::Serialize;
use std::io::BufRead;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  graphc bench model/ --threads 2
  graphc bench model/ --shape 8 --profile --seconds 5
  graphc bench model/ --roofline model.svg
  graphc bench model.graphc                               a package that `graphc compile` made")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    inputs: InputArgs,
    /// Threads that compute
    #[arg(short, long, default_value_t = 1)]
    threads: usize,
    /// How long to measure
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Show operations, bytes and time of each kernel, and its share of what this machine allows, measured in the same run
    #[arg(long)]
    profile: bool,
    /// Draw the profile as a roofline chart
    #[arg(long, value_name = "FILE.svg")]
    roofline: Option<PathBuf>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// Save the outputs of the first run here
    #[arg(short, long, value_name = "FILE.npz")]
    output: Option<PathBuf>,
    /// After the first run, answer each line of standard input, the seconds of a burst, with a line of JSON
    #[arg(long, conflicts_with_all = ["profile", "json", "seconds"])]
    interactive: bool,
}

/// What comes before the first answer.
#[derive(Serialize)]
struct Start {
    load_ms: f64,
    compile_ms: f64,
    first_run_ms: f64,
}

impl Start {
    fn new(times: [Duration; 3]) -> Start {
        let [load_ms, compile_ms, first_run_ms] = times.map(|d| d.as_secs_f64() * 1e3);
        Start { load_ms, compile_ms, first_run_ms }
    }
}

/// Runs one after the other.
#[derive(Serialize)]
struct Burst {
    runs: usize,
    best_ms: f64,
    median_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
}

#[derive(Serialize)]
struct Report {
    threads: usize,
    #[serde(flatten)]
    start: Start,
    #[serde(flatten)]
    burst: Burst,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    profile: Option<ProfileReport>,
}

#[derive(Serialize)]
struct ProfileReport {
    /// Of all threads, measured in this run.
    limits: Limits,
    /// Operations of a run, and their share of the peak at the best latency.
    gflop: f64,
    share_of_peak: f64,
    kernels: Vec<KernelShare>,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    if Package::is_one(&args.model.model) {
        return run_package(args);
    }
    let begin = Instant::now();
    let session = args.model.open(args.threads)?;
    let loaded = begin.elapsed();
    let begin = Instant::now();
    let callable = args.model.callable(&session)?;
    let chosen = begin.elapsed();
    let inputs = args.inputs.tensors(callable.inputs())?;
    let views = views(&inputs)?;
    let begin = Instant::now();
    match callable.prepare(&views) {
        // A graph that runs in stages is compiled as it first runs.
        Err(e) if !e.is_unsupported() => return Err(e.into()),
        _ => {}
    }
    let compiled = begin.elapsed();
    let answers = callable.run(&views)?;
    let start = Start::new([loaded, chosen + compiled, begin.elapsed() - compiled]);
    args.model.note_integers(&session);
    let mut memory: Vec<Vec<u8>> = answers.iter().map(|t| t.bytes().to_vec()).collect();
    save(args, callable.outputs(), answers)?;
    let mut outputs: Vec<&mut [u8]> = memory.iter_mut().map(Vec::as_mut_slice).collect();
    let mut once = || Ok(callable.run_into(&views, &mut outputs, &mut RunOptions::default())?);
    if args.interactive {
        return converse(&mut once, &start);
    }
    let burst = burst(&mut once, args.seconds)?;
    let mut report = Report { threads: args.threads.max(1), start, burst, profile: None };
    if args.profile || args.roofline.is_some() {
        let mut profile = Profile::new(&callable, &views)?;
        for _ in 0..report.burst.runs.clamp(3, 50) {
            callable.run_into(&views, &mut outputs, &mut RunOptions { trace: Some(&mut profile), ..RunOptions::default() })?;
        }
        // Of a GPU only times are known, which are its own.
        let on_cpu = args.model.device == graphc::DeviceName::Cpu;
        let limits = if on_cpu { profile.limits(report.threads) } else { Limits::UNKNOWN };
        let (gflop, kernels) = (profile.gflop(), profile.shares(limits));
        if let Some(path) = &args.roofline {
            let chart = graphc::roofline::svg(&kernels, limits);
            std::fs::write(path, chart).map_err(|e| Failure::output(format!("{}: {e}", path.display())))?;
        }
        let share_of_peak = gflop / (report.burst.best_ms / 1e3) / limits.gflops;
        report.profile = Some(ProfileReport { limits, gflop, share_of_peak, kernels });
    }
    if args.json { print_json(&report) } else { print(&report) }
}

/// The latency of a package, which nothing compiles.
fn run_package(args: &Args) -> Result<(), Failure> {
    if args.profile || args.roofline.is_some() {
        return Err(Failure::usage("--profile and --roofline are for models: name the one that the package was compiled from"));
    }
    let begin = Instant::now();
    let function = Function::open(&args.model, args.threads)?;
    let loaded = begin.elapsed();
    let inputs = args.inputs.tensors(&function.inputs)?;
    let feeds = views(&inputs)?;
    let begin = Instant::now();
    let mut fed = function.fed(&feeds)?;
    fed.run()?;
    let start = Start::new([loaded, Duration::ZERO, begin.elapsed()]);
    if args.output.is_some() {
        save(args, &function.outputs, fed.outputs()?)?;
    }
    let mut once = || fed.run();
    if args.interactive {
        return converse(&mut once, &start);
    }
    let burst = burst(&mut once, args.seconds)?;
    let report = Report { threads: args.threads.max(1), start, burst, profile: None };
    if args.json { print_json(&report) } else { print(&report) }
}

/// Saves the outputs of the first run where the arguments say.
fn save(args: &Args, ports: &[Port], outputs: Vec<Tensor>) -> Result<(), Failure> {
    let Some(path) = &args.output else { return Ok(()) };
    let named: Vec<(String, Tensor)> = ports.iter().map(|p| p.name.clone()).zip(outputs).collect();
    graphc::npz::write(path, &named).map_err(|e| Failure::output(format!("{}: {e}", path.display())))
}

/// Runs for some seconds, at least three times.
fn burst(once: &mut dyn FnMut() -> Result<(), Failure>, seconds: f64) -> Result<Burst, Failure> {
    let limit = Duration::from_secs_f64(seconds.clamp(0.01, 3600.0));
    let mut times = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < limit || times.len() < 3 {
        let t = Instant::now();
        once()?;
        times.push(t.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let at = |q: f64| times[((times.len() - 1) as f64 * q).round() as usize];
    Ok(Burst { runs: times.len(), best_ms: at(0.0), median_ms: at(0.5), p90_ms: at(0.9), p99_ms: at(0.99) })
}

/// One line of JSON for the start, then one for each burst that standard input asks for: so bursts of several programs can be interleaved.
fn converse(once: &mut dyn FnMut() -> Result<(), Failure>, start: &Start) -> Result<(), Failure> {
    print_line(start)?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| Failure::usage(format!("standard input: {e}")))?;
        let seconds = line.trim().parse().map_err(|_| Failure::usage(format!("`{line}` is no number of seconds")))?;
        print_line(&burst(once, seconds)?)?;
    }
    Ok(())
}

fn print(r: &Report) -> Result<(), Failure> {
    outln!("load {:.1} ms, compile {:.1} ms, first run {:.2} ms", r.start.load_ms, r.start.compile_ms, r.start.first_run_ms);
    outln!(
        "best {:.4} ms, median {:.4}, 90% {:.4}, 99% {:.4}  ({} runs, {} threads)",
        r.burst.best_ms,
        r.burst.median_ms,
        r.burst.p90_ms,
        r.burst.p99_ms,
        r.burst.runs,
        r.threads
    );
    if let Some(p) = &r.profile {
        let Limits { gflops, gbytes } = p.limits;
        let share = p.share_of_peak * 100.0;
        if gflops.is_finite() {
            outln!(
                "{:.3} GFLOP: {share:.1}% of the FMA peak ({gflops:.0} GFLOP/s; memory as large as the model's reads {gbytes:.0} GB/s)",
                p.gflop
            );
        }
        outln!("{:>7} {:>9} {:>8} {:>8} {:>8}  kernel", "time %", "us", "GFLOP", "MB", "limit %");
        for k in &p.kernels {
            let (time, limit) = (k.time_share * 100.0, k.limit_share * 100.0);
            outln!("{time:>7.2} {:>9.1} {:>8.4} {:>8.2} {limit:>8.1}  {}  {}", k.micros, k.gflop, k.mbytes, k.kernel, k.node);
        }
    }
    Ok(())
}
