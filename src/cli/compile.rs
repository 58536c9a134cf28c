//! `graphc compile`: an object file and a C header.

use super::{Failure, ModelArgs, outln};
use clap::builder::PossibleValuesParser;
use graphc::{Error, linked};
use graphc_cpu::{Cpu, Machine};
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "\
Link the object with libgraphc_rt.a, which `cargo build --release` leaves in target/release.

Examples:
  graphc compile model/ -o predict.o                  writes predict.o and predict.h
  cc main.c predict.o target/release/libgraphc_rt.a -lm -lpthread -ldl")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Object file; the header is written beside it
    #[arg(short, long, value_name = "FILE.o")]
    output: PathBuf,
    /// Prefix of the exported symbols [default: the name of the object file]
    #[arg(long)]
    name: Option<String>,
    /// System for which code is made [default: this one]
    #[arg(long, value_name = "TRIPLE", value_parser = PossibleValuesParser::new(Machine::triples()))]
    target: Option<String>,
    /// Instructions that code may use without asking. Whatever it is, an object for x86-64 uses better ones where the machine that runs it has them
    #[arg(long, default_value = "baseline", value_parser = PossibleValuesParser::new(Cpu::ALL.map(|(name, _)| name)))]
    cpu: String,
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
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let session = args.model.open(1)?;
    let callable = args.model.callable(&session)?;
    let plan = callable.plan(None)?;
    let stem = args.output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let object = linked::object(&plan, args.machine()?, args.name.as_deref().unwrap_or(&stem))?;
    let header = args.output.with_extension("h");
    for (path, bytes) in [(&args.output, object.bytes.as_slice()), (&header, object.header.as_bytes())] {
        std::fs::write(path, bytes).map_err(|e| Failure::output(format!("{}: {e}", path.display())))?;
    }
    outln!(
        "{} ({:.2} MB), {}: call {}(&io)",
        args.output.display(),
        object.bytes.len() as f64 / 1e6,
        header.display(),
        object.name
    );
    match linked::runtime_archive() {
        Some(a) => outln!("link with {} -lm -lpthread -ldl", a.display()),
        None => outln!("link with libgraphc_rt.a (cargo build --release -p graphc-rt) -lm -lpthread -ldl"),
    }
    Ok(())
}
