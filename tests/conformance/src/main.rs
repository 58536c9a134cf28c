//! Runs conformance cases and says what passed, failed and is unsupported, per op and in all.
//!
//! Cases run in worker processes, so that one that crashes or hangs costs itself only.

mod case;
mod freedom;
mod pool;
mod report;
mod run;
mod scratch;

use clap::{Parser, ValueEnum};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Runs conformance cases (`.tfcases.gz`) and compares with TensorFlow's answers.
#[derive(Parser, Clone)]
pub struct Args {
    /// Case files, or folders of them
    #[arg(required_unless_present = "worker")]
    paths: Vec<PathBuf>,
    /// What computes
    #[arg(long, value_enum, default_value_t = Backend::Jit)]
    backend: Backend,
    /// Write every verdict here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write here, for each op, how many of the cases with it pass, and how many there are
    #[arg(long, value_name = "FILE")]
    ops: Option<PathBuf>,
    /// Write the cases that do not pass here, each with what happened
    #[arg(long, value_name = "FILE")]
    rest: Option<PathBuf>,
    /// Ids of cases that must pass; fails if one does not
    #[arg(long, value_name = "FILE")]
    passing: Option<PathBuf>,
    /// Add the cases that pass to the `--passing` file
    #[arg(long, requires = "passing")]
    grow: bool,
    /// Run every N-th case only
    #[arg(long, default_value_t = 1, value_name = "N")]
    sample: usize,
    /// Run only cases of this op, or the case of this id
    #[arg(long)]
    only: Option<String>,
    /// Print each case that did not pass
    #[arg(short, long)]
    verbose: bool,
    /// Worker processes
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(2, |n| n.get()))]
    jobs: usize,
    /// Seconds after which a case counts as crashed
    #[arg(long, default_value_t = 20.0)]
    timeout: f64,
    #[arg(long, hide = true)]
    worker: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Backend {
    Jit,
    Interp,
    Object,
    /// The first GPU, in builds for GPUs
    Gpu,
}

/// Every case file below the paths, sorted.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut out = Vec::new();
    for p in paths {
        let meta = std::fs::metadata(p).map_err(|e| format!("{}: {e}", p.display()))?;
        if meta.is_file() {
            out.push(p.clone());
            continue;
        }
        let entries = std::fs::read_dir(p).map_err(|e| format!("{}: {e}", p.display()))?;
        let is_case = |p: &Path| p.to_string_lossy().ends_with(".tfcases.gz");
        out.extend(entries.filter_map(Result::ok).map(|e| e.path()).filter(|p| is_case(p)));
    }
    out.sort();
    if out.is_empty() { Err("no .tfcases.gz files there".into()) } else { Ok(out) }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.worker {
        pool::work(args.backend);
        return ExitCode::SUCCESS;
    }
    match conformance(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(2)
        }
    }
}

fn conformance(args: &Args) -> Result<bool, String> {
    let files = files(&args.paths)?;
    let timeout = Duration::from_secs_f64(args.timeout.clamp(0.1, 3600.0));
    let results = pool::run(&files, args, timeout)?;
    report::print(&results, args.verbose);
    if let Some(path) = &args.json {
        report::write_json(path, &results).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    if let Some(path) = &args.ops {
        report::write_ops(path, &results).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    if let Some(path) = &args.rest {
        report::write_rest(path, &results).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    match &args.passing {
        Some(path) if args.grow => report::grow(path, &results).map(|()| true).map_err(|e| format!("{}: {e}", path.display())),
        Some(path) => report::regressions(path, &results, args.backend).map_err(|e| format!("{}: {e}", path.display())),
        None => Ok(true),
    }
}
