//! `graphc check`: a model's outputs against references.

use super::{Failure, ModelArgs, outln, print_json};
use graphc::compare::{Difference, compare};
use graphc::{Callable, Session, Tensor};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "\
The references hold inputs as in/<name> and expected outputs as out/<name>.
An output agrees where no element is further away than atol + rtol * (greatest reference value).

Examples:
  graphc check tests/golden/mlp/saved_model tests/golden/mlp/io_*.npz
  graphc check model/ ref.npz --backend interp --rtol 1e-5")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// npz files with inputs and expected outputs
    #[arg(required = true)]
    references: Vec<PathBuf>,
    /// What computes: code in memory, the reference interpreter, or a linked object file
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
    let session = args.model.open(args.threads)?;
    let mut outputs = Vec::new();
    let mut callable: Option<(ModelArgs, Callable)> = None;
    for path in &args.references {
        let arrays = graphc::npz::read(path).map_err(|e| Failure::input(format!("{}: {e}", path.display())))?;
        let model = chosen(&args.model, &session, &arrays);
        let same = callable.as_ref().is_some_and(|(m, _)| m.feed == model.feed && m.fetch == model.fetch);
        let (_, callable) = match &mut callable {
            Some(c) if same => c,
            c => {
                let made = model.callable(&session)?;
                c.insert((model, made))
            }
        };
        outputs.extend(check(args, callable, path, &arrays)?);
    }
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

/// What to feed and fetch: as the arguments say; for a graph without signatures, what the reference names.
fn chosen(args: &ModelArgs, session: &Session, arrays: &[(String, Tensor)]) -> ModelArgs {
    let mut model = args.clone();
    let named = |prefix: &str| arrays.iter().filter_map(|(n, _)| n.strip_prefix(prefix)).map(str::to_owned).collect();
    if session.model().signatures().next().is_none() && args.feed.is_empty() && args.fetch.is_empty() {
        model.feed = named("in/");
        model.fetch = named("out/");
    }
    model
}

fn check(args: &Args, callable: &Callable, path: &Path, arrays: &[(String, Tensor)]) -> Result<Vec<OutputReport>, Failure> {
    let find = |prefix: &str, name: &str| arrays.iter().find(|(n, _)| n.strip_prefix(prefix) == Some(name)).map(|(_, t)| t);
    let inputs: Vec<Tensor> = callable
        .inputs()
        .iter()
        .map(|p| {
            find("in/", &p.name).cloned().ok_or_else(|| Failure::input(format!("{}: no array \"in/{}\"", path.display(), p.name)))
        })
        .collect::<Result<_, _>>()?;
    let got = match args.backend {
        Backend::Jit => callable.run_tensors(&inputs)?,
        Backend::Interp => callable.interpret(&inputs)?,
        Backend::Object => graphc::linked::run(callable, &inputs)?,
    };
    let mut reports = Vec::new();
    for (port, got) in callable.outputs().iter().zip(&got) {
        let Some(want) = find("out/", &port.name) else { continue };
        let difference = compare(got, want);
        let agrees = difference.within(args.rtol, args.atol);
        reports.push(OutputReport { reference: path.display().to_string(), output: port.name.clone(), agrees, difference });
    }
    if reports.is_empty() {
        return Err(Failure::input(format!("{}: no array \"out/<name>\" for any output", path.display())));
    }
    Ok(reports)
}
