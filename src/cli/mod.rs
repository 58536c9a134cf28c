//! Arguments, errors and exit codes of the command line.

mod bench;
mod check;
mod compile;
mod devices;
mod inputs;
mod inspect;
mod ops;
mod opt;
mod packages;
mod progress;
mod run;

use clap::{CommandFactory, Parser, Subcommand};
use graphc::{DeviceName, PlaceBy, Precision, SessionOptions};
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

/// Compiles saved TensorFlow graphs to native code, and runs them.
#[derive(Parser)]
#[command(version, max_term_width = 110, after_help = EXIT_CODES)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  `check`: an output differs from the reference
  2  wrong usage of the command line
  3  the model or an input file cannot be read, or is not valid
  4  the model uses what graphc does not compile
  5  the run failed
  6  a file cannot be written";

#[derive(Subcommand)]
enum Command {
    /// Show signatures, variables, ops, and what is not supported
    Inspect(inspect::Args),
    /// Run a model on npy/npz or random inputs
    Run(run::Args),
    /// Print the IR between passes
    Opt(opt::Args),
    /// Write an object, a library, a program or a package
    Compile(compile::Args),
    /// Measure latency, and the share of each kernel
    Bench(bench::Args),
    /// Compare a model's outputs with references
    Check(check::Args),
    /// List the devices that models can run on
    Devices(devices::Args),
    /// List TensorFlow's ops and how each runs
    Ops(ops::Args),
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
}

/// Arguments that name a model and one of its signatures.
#[derive(clap::Args, Clone)]
struct ModelArgs {
    /// SavedModel folder, GraphDef (.pb, .pbtxt) or MetaGraphDef (.meta); `run` and `check` take packages (.graphc) too
    model: PathBuf,
    /// Signature to use [default: serving_default, else the only one]
    #[arg(short, long)]
    signature: Option<String>,
    /// Tags of the MetaGraph, comma-separated [default: serve]
    #[arg(long, value_delimiter = ',')]
    tags: Vec<String>,
    /// Tensors to feed, `node:k`, instead of a signature's inputs
    #[arg(long, value_delimiter = ',')]
    feed: Vec<String>,
    /// Tensors to fetch, `node:k`, instead of a signature's outputs
    #[arg(long, value_delimiter = ',')]
    fetch: Vec<String>,
    /// Checkpoint (`dir/model.ckpt`) with the values of variables, for a graph that comes without one
    #[arg(long, value_name = "PREFIX")]
    checkpoint: Option<PathBuf>,
    /// Folder in which the graph's ops may read and write files; may be given several times
    #[arg(long, value_name = "FOLDER")]
    files: Vec<PathBuf>,
    /// Numbers that f32 models compute in, on processors that have them: bf16 is faster and less exact, tf32 is between, on GPUs alone, int8 is for fake-quantised models, strassen is f32 with fewer multiplications in large products and errors twice as large
    #[arg(long, value_enum, default_value_t = PrecisionArg::F32)]
    precision: PrecisionArg,
    /// Time the choices among kernels on this machine while compiling; with a cache they are kept there
    #[arg(long)]
    tune: bool,
    /// Folder in which compiled code and packed weights are kept for the next start
    #[arg(long, value_name = "FOLDER", env = "GRAPHC_CACHE")]
    cache: Option<PathBuf>,
    /// What computes: CPU:0, or GPU:0 and on in builds with the feature `gpu`
    #[arg(long, value_name = "DEVICE", default_value = "CPU:0")]
    device: DeviceName,
    /// With a GPU: pass over devices that the graph names for nodes that cannot be there
    #[arg(long)]
    soft_placement: bool,
    /// With a GPU: where nodes go for which the graph names no device, between those on the CPU
    #[arg(long, value_enum, default_value_t = PlaceByArg::Cost)]
    place_by: PlaceByArg,
    /// With a GPU: send values of f32 between devices as bf16, in half the bytes and with 8 significant bits
    #[arg(long)]
    lossy_transfers: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum PrecisionArg {
    F32,
    Tf32,
    Bf16,
    Int8,
    Strassen,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum PlaceByArg {
    /// Where less time is expected, transfers included
    Cost,
    /// On the device of the session
    Device,
}

impl From<PlaceByArg> for PlaceBy {
    fn from(p: PlaceByArg) -> PlaceBy {
        match p {
            PlaceByArg::Cost => PlaceBy::Cost,
            PlaceByArg::Device => PlaceBy::Device,
        }
    }
}

impl From<PrecisionArg> for Precision {
    fn from(p: PrecisionArg) -> Precision {
        match p {
            PrecisionArg::F32 => Precision::F32,
            PrecisionArg::Tf32 => Precision::Tf32,
            PrecisionArg::Bf16 => Precision::Bf16,
            PrecisionArg::Int8 => Precision::Int8,
            PrecisionArg::Strassen => Precision::Strassen,
        }
    }
}

impl ModelArgs {
    /// Opens the model, with a progress line on a terminal.
    fn open(&self, threads: usize) -> Result<graphc::Session, Failure> {
        if graphc::aot::Package::is_one(&self.model) {
            let file = self.model.display();
            return Err(Failure::usage(format!(
                "{file} is a package, which run, check and bench take; name the model it was made from"
            )));
        }
        let (tags, checkpoint, files) = (self.tags.clone(), self.checkpoint.clone(), self.files.clone());
        let options = SessionOptions {
            threads,
            tags,
            checkpoint,
            files,
            precision: self.precision.into(),
            cache: self.cache.clone(),
            tune: self.tune,
            device: self.device,
            soft_placement: self.soft_placement,
            place_by: self.place_by.into(),
            lossy_transfers: self.lossy_transfers,
            ..SessionOptions::default()
        };
        let _line = progress::line(&format!("loading {}", self.model.display()));
        Ok(graphc::Session::open(&self.model, options)?)
    }

    /// The function that the arguments choose: feeds and fetches, or a signature.
    fn callable(&self, session: &graphc::Session) -> Result<graphc::Callable, Failure> {
        let _line = progress::line("compiling");
        if self.fetch.is_empty() && self.feed.is_empty() {
            return Ok(session.signature(self.signature.as_deref())?);
        }
        Ok(session.callable(&self.feed, &self.fetch, &[])?)
    }

    /// Says so where integers were asked for and the model, which was compiled by now, has no work for them.
    fn note_integers(&self, session: &graphc::Session) {
        if self.precision == PrecisionArg::Int8 && session.multiplies_integers() == Some(false) {
            anstream::eprintln!(
                "note: the model quantises no factors of products or convolutions to 8 bits, so that all of it runs in f32 \
                 (--precision int8 is for models with FakeQuant* ops, or QuantizeV2 and Dequantize, of known ranges)"
            );
        }
    }
}

/// Why a command did not succeed, with the exit code that says so.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// An input file is missing or not valid.
    fn input(message: impl fmt::Display) -> Failure {
        Failure { code: 3, message: message.to_string() }
    }

    /// A run failed.
    fn run(message: impl fmt::Display) -> Failure {
        Failure { code: 5, message: message.to_string() }
    }

    /// A result cannot be written.
    fn output(message: impl fmt::Display) -> Failure {
        Failure { code: 6, message: message.to_string() }
    }

    /// The arguments do not fit the model.
    fn usage(message: impl fmt::Display) -> Failure {
        Failure { code: 2, message: message.to_string() }
    }

    /// A comparison found a difference, which is printed already.
    fn differs() -> Failure {
        Failure { code: 1, message: String::new() }
    }
}

impl From<graphc::Error> for Failure {
    fn from(e: graphc::Error) -> Failure {
        let code = match &e {
            e if e.is_unsupported() => 4,
            graphc::Error::Run { .. }
            | graphc::Error::Host { .. }
            | graphc::Error::Memory
            | graphc::Error::Ahead(_)
            | graphc::Error::Device(_) => 5,
            _ => 3,
        };
        Failure { code, message: e.to_string() }
    }
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Inspect(a) => inspect::run(&a),
        Command::Run(a) => run::run(&a),
        Command::Opt(a) => opt::run(&a),
        Command::Compile(a) => compile::run(&a),
        Command::Bench(a) => bench::run(&a),
        Command::Check(a) => check::run(&a),
        Command::Devices(a) => devices::run(&a),
        Command::Ops(a) => ops::run(&a),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "graphc", &mut std::io::stdout());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(f) => {
            if !f.message.is_empty() {
                let red = anstyle::AnsiColor::Red.on_default().bold();
                anstream::eprintln!("{red}error{red:#}: {}", f.message);
            }
            ExitCode::from(f.code)
        }
    }
}

/// Prints a line to standard output; a closed pipe ends the program quietly.
macro_rules! outln {
    ($($arg:tt)*) => {
        if std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($arg)*))).is_err() {
            std::process::exit(0);
        }
    };
}
use outln;

/// Prints a value as one JSON document.
fn print_json(v: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(v).map_err(Failure::output)?;
    outln!("{text}");
    Ok(())
}

/// One line of JSON.
fn print_line(v: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(v).map_err(Failure::output)?;
    outln!("{text}");
    Ok(())
}
