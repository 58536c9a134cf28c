//! Runs one case.

use crate::Backend;
use crate::case::{Case, Step, tensor};
use crate::freedom;
use crate::scratch::Scratch;
use graphc::frontend::{Fetch, Model, OpenOptions, Request};
use graphc::linked::Linked;
use graphc::{Callable, DeviceName, Elem, Error, PlaceBy, RunOptions, Session, SessionOptions, Tensor, View, frontend};
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// What came of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Outcome {
    Passed,
    /// Another answer than TensorFlow's, or a failure where TensorFlow has an answer.
    Failed,
    /// The graph uses what is not compiled yet, and was refused with an error that says so.
    Unsupported,
    /// The process died, or did not end in time.
    Crashed,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    pub id: String,
    pub outcome: Outcome,
    pub detail: String,
}

/// TensorFlow's codes.
const CANCELLED: i32 = 1;
const DEADLINE_EXCEEDED: i32 = 4;

enum Stop {
    Unsupported(String),
    Failed(String),
}

/// Runs a case; a panic is a crash. Cases of saved models name them as folders below `folder`.
pub fn run(case: &Case, backend: Backend, folder: &Path) -> Verdict {
    let (scratch, moved) = match Scratch::of(case) {
        Ok(s) => s.unzip(),
        Err(e) => {
            return Verdict { id: case.id.clone(), outcome: Outcome::Failed, detail: format!("no folder for its files: {e}") };
        }
    };
    let (case, files) = (moved.as_ref().unwrap_or(case), scratch.as_ref().map(Scratch::folder));
    let (outcome, detail) = match catch_unwind(AssertUnwindSafe(|| steps(case, backend, folder, files))) {
        Ok(Ok(())) => (Outcome::Passed, String::new()),
        Ok(Err(Stop::Unsupported(why))) => (Outcome::Unsupported, why),
        Ok(Err(Stop::Failed(why))) => (Outcome::Failed, why),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            (Outcome::Crashed, text.unwrap_or_else(|| "panic".into()))
        }
    };
    Verdict { id: case.id.clone(), outcome, detail }
}

fn open(case: &Case, backend: Backend, folder: &Path, files: Option<&Path>) -> Result<Session, Error> {
    let mut options = SessionOptions::default();
    if backend == Backend::Gpu {
        // Whatever can be there, however small.
        options = SessionOptions { device: DeviceName::Gpu(0), place_by: PlaceBy::Device, soft_placement: true, ..options };
    }
    if case.kind == "saved_model" {
        return Session::open(&folder.join(&case.source_test), options);
    }
    let graph = case.graph.clone().unwrap_or_default();
    let session = Session::over(Model::from_graph_def(graph, &OpenOptions::default())?, &options)?;
    Ok(session.granting(files.map(Path::to_path_buf)))
}

fn steps(case: &Case, backend: Backend, folder: &Path, files: Option<&Path>) -> Result<(), Stop> {
    if backend == Backend::Interp && matches!(case.kind.as_str(), "session" | "trace") {
        return Err(Stop::Unsupported("the interpreter keeps no state from step to step".into()));
    }
    let expected_error = case.steps.iter().find_map(|s| s.error.as_ref());
    let session = match open(case, backend, folder, files) {
        Ok(s) => s,
        Err(e) => return judge_error(e, expected_error.map(|e| e.code)),
    };
    let object = match backend {
        Backend::Object => match object(case, &session) {
            Ok(o) => Some(o),
            Err(e) => return judge_error(e, expected_error.map(|e| e.code)),
        },
        _ => None,
    };
    for (k, step) in case.steps.iter().enumerate() {
        let known = object.as_ref().and_then(|o| o.functions.get(k).cloned());
        let function = known.map_or_else(|| function(&session, step), Ok);
        let got = function.and_then(|(callable, feeds)| match (backend, &object) {
            (_, Some(o)) => o.linked.run(k, &callable, &feeds),
            (Backend::Interp, _) => callable.interpret(&feeds),
            _ if step.error.as_ref().is_some_and(|e| e.code == DEADLINE_EXCEEDED) => run_for_a_while(&callable, &feeds),
            _ => callable.run_tensors(&feeds),
        });
        match (got, &step.error) {
            (Ok(got), None) => compare_all(case, step, &got)?,
            (Ok(_), Some(e)) => {
                return Err(Stop::Failed(format!("succeeded, but TensorFlow fails with {} ({})", e.class_name, e.code)));
            }
            (Err(e), want) => judge_error(e, want.as_ref().map(|e| e.code))?,
        }
    }
    Ok(())
}

/// An error passes where TensorFlow fails with the same status. Where it was Python that refused to build the graph there is no status:
/// any refusal passes.
fn judge_error(e: Error, want: Option<i32>) -> Result<(), Stop> {
    match want {
        Some(code) if e.status() == code => Ok(()),
        _ if e.is_unsupported() => Err(Stop::Unsupported(e.to_string())),
        Some(0) => Ok(()),
        // Here a run ends at a deadline because it is cancelled from outside.
        Some(DEADLINE_EXCEEDED) if e.status() == CANCELLED => Ok(()),
        Some(code) => Err(Stop::Failed(format!("status {} instead of {code}: {e}", e.status()))),
        None => Err(Stop::Failed(e.to_string())),
    }
}

type Function = (Arc<Callable>, Vec<Tensor>);

/// All steps as functions of one object.
struct Steps {
    functions: Vec<Function>,
    linked: Linked,
}

/// What a step runs, and its feeds.
fn function(session: &Session, step: &Step) -> Result<Function, Error> {
    let bad = |m: String| Error::Feed { name: String::new(), message: m };
    let feed = |f: &crate::case::Feed| tensor(&f.value.clone().unwrap_or_default()).map_err(bad);
    let feeds: Vec<Tensor> = step.feeds.iter().map(feed).collect::<Result<_, _>>()?;
    let name = |n: &String| n.clone();
    let request = Request {
        feeds: step
            .feeds
            .iter()
            .map(|f| frontend::Feed { name: name(&f.name), tensor: name(&f.name), ..Default::default() })
            .collect(),
        fetches: step.fetches.iter().map(|n| Fetch { name: name(n), tensor: name(n), ..Default::default() }).collect(),
        targets: step.targets.clone(),
    };
    Ok((Arc::new(session.request(&request)?), feeds))
}

/// Compiles all steps before any runs.
fn object(case: &Case, session: &Session) -> Result<Steps, Error> {
    if case.steps.iter().any(|s| s.error.as_ref().is_some_and(|e| e.code == DEADLINE_EXCEEDED)) {
        return Err(Error::Unsupported("an example that waits for ever".into()));
    }
    let functions = case.steps.iter().map(|s| function(session, s)).collect::<Result<Vec<_>, _>>()?;
    let examples: Vec<_> = functions.iter().map(|(callable, feeds)| (&**callable, vec![feeds.as_slice()])).collect();
    Ok(Steps { linked: Linked::new(session, &examples)?, functions })
}

/// Runs a step that is to fail because it takes too long; how long that is the record does not say.
fn run_for_a_while(callable: &Callable, feeds: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    let cancel = AtomicU32::new(0);
    let views: Vec<View> = feeds.iter().filter_map(|t| View::try_from(t).ok()).collect();
    std::thread::scope(|s| {
        let (done, wait) = mpsc::channel::<()>();
        let cancel = &cancel;
        s.spawn(move || {
            if wait.recv_timeout(Duration::from_millis(500)) == Err(mpsc::RecvTimeoutError::Timeout) {
                cancel.store(1, Ordering::Relaxed);
            }
        });
        let outcome = callable.run_with(&views, &mut RunOptions { cancel: Some(cancel), ..RunOptions::default() });
        drop(done);
        outcome
    })
}

fn compare_all(case: &Case, step: &Step, got: &[Tensor]) -> Result<(), Stop> {
    if got.len() != step.expected.len() {
        return Err(Stop::Failed(format!("{} outputs instead of {}", got.len(), step.expected.len())));
    }
    let want = step.expected.iter().map(tensor).collect::<Result<Vec<_>, _>>().map_err(Stop::Unsupported)?;
    for ((got, want), name) in got.iter().zip(&want).zip(&step.fetches) {
        if got.elem() != want.elem() || got.shape() != want.shape() {
            return Err(Stop::Failed(format!("{name} is {} instead of {}", got.ty(), want.ty())));
        }
    }
    if case.random {
        return Ok(());
    }
    let least = if case.kind == "op" { (0.0, 0.0) } else { coarsest(case) };
    let difference = |k: usize| difference(&got[k], &want[k], case.replay_max_abs, least);
    match (0..got.len()).find_map(|k| Some((k, difference(k)?))) {
        Some((k, why)) if freedom::agree(case, got, &want, |k| difference(k).is_none()) != Some(true) => {
            Err(Stop::Failed(format!("{} {}: {why}", step.fetches.get(k).map_or("", |n| n), got[k].ty())))
        }
        _ => Ok(()),
    }
}

/// Relative and absolute tolerance of an element type; `None` for what must be equal.
fn tolerance(e: Elem) -> Option<(f64, f64)> {
    Some(match e {
        Elem::F32 | Elem::C64 => (1e-4, 1e-5),
        Elem::F64 | Elem::C128 => (1e-8, 1e-9),
        Elem::F16 => (1e-2, 1e-2),
        Elem::BF16 => (3e-2, 3e-2),
        _ => return None,
    })
}

/// The tolerance of the coarsest type of floats that a graph computes in: what a cast widens keeps the error of what it was computed in.
fn coarsest(case: &Case) -> (f64, f64) {
    let types = case.graph.iter().flat_map(|g| &g.node).flat_map(|n| n.attr.values()).filter_map(|a| match a.value {
        Some(frontend::proto::attr_value::Value::Type(t)) => frontend::DataType::from_number(t),
        _ => None,
    });
    let tolerances = types.filter_map(|d| tolerance(frontend::legalise::elem_of(d)?));
    tolerances.fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a })
}

/// The first element that is too far away, by the tolerance of its type or that of the graph.
fn difference(got: &Tensor, want: &Tensor, slack: f64, graph: (f64, f64)) -> Option<String> {
    let own = tolerance(want.elem());
    let Some((rtol, atol)) = own.map(|own| if graph.0 > own.0 { graph } else { own }) else {
        return (got != want).then(|| match (got.to_ints(), want.to_ints()) {
            (Some(a), Some(b)) => {
                let at = a.iter().zip(&b).position(|(x, y)| x != y).unwrap_or(0);
                format!("element {at} is {:?} instead of {:?}", a.get(at), b.get(at))
            }
            _ => "the elements differ".into(),
        });
    };
    let (a, b) = (graphc::compare::parts(got)?, graphc::compare::parts(want)?);
    let near = |x: f64, y: f64| x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= atol + slack + rtol * y.abs();
    let at = a.iter().zip(&b).position(|(&x, &y)| !near(x, y))?;
    Some(format!("element {at} is {:?} instead of {:?}", a[at], b[at]))
}
