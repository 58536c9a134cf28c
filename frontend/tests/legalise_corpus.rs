//! Runs the single-op cases of a conformance corpus through legalisation and the interpreter and prints a tally for each op.
//!
//! `GRAPHC_CORPUS` names a folder of `.tfcases.gz` files, `GRAPHC_OPS` (separated by commas) restricts the ops, `GRAPHC_SYMBOLIC`
//! leaves every dimension open. A tool for finding faults, not a gate: the conformance runner is.

use graphc_frontend::legalise::{self, Feed, LegaliseError, Request};
use graphc_frontend::proto::{GraphDef, TensorProto};
use graphc_frontend::{Limits, Model, OpenOptions, RawTensor};
use graphc_ir::interp::Interp;
use graphc_ir::verify::verify;
use graphc_ir::{Dim, Elem, Sym, Tensor};
use hashbrown::HashMap;
use prost::Message;
use std::collections::BTreeMap;
use std::io::Read;

#[derive(Clone, PartialEq, Message)]
struct Case {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "4")]
    kind: String,
    #[prost(string, tag = "5")]
    op: String,
    #[prost(message, optional, tag = "6")]
    graph: Option<GraphDef>,
    #[prost(message, repeated, tag = "7")]
    steps: Vec<Step>,
    #[prost(bool, tag = "10")]
    random: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Step {
    #[prost(message, repeated, tag = "1")]
    feeds: Vec<FeedProto>,
    #[prost(string, repeated, tag = "2")]
    targets: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    fetches: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    expected: Vec<TensorProto>,
    #[prost(message, optional, tag = "5")]
    error: Option<StepError>,
}

#[derive(Clone, PartialEq, Message)]
struct FeedProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<TensorProto>,
}

#[derive(Clone, PartialEq, Message)]
struct StepError {
    #[prost(int32, tag = "2")]
    code: i32,
    #[prost(string, tag = "3")]
    message: String,
}

enum Verdict {
    Passed,
    Unsupported(String),
    Failed(String),
}

fn tensor(p: &TensorProto) -> Result<Tensor, String> {
    let raw = RawTensor::from_proto(p, &Limits::default()).map_err(|e| e.to_string())?;
    legalise::tensor(&raw, &Limits::default())
}

/// What went wrong before there was a result, and TensorFlow's status for it.
enum Stop {
    Unsupported(String),
    Error(i32, String),
}

fn compute(case: &Case, step: &Step, symbolic: bool) -> Result<Vec<Tensor>, Stop> {
    let other = |m: String| Stop::Error(3, m);
    let model =
        Model::from_graph_def(case.graph.clone().unwrap_or_default(), &OpenOptions::default()).map_err(|e| other(e.to_string()))?;
    let feeds: Vec<Tensor> = step
        .feeds
        .iter()
        .map(|f| tensor(f.value.as_ref().ok_or("no value")?))
        .collect::<Result<_, String>>()
        .map_err(Stop::Unsupported)?;
    let request = graphc_frontend::Request::new(step.feeds.iter().map(|f| f.name.clone()), step.fetches.iter().cloned());
    let request = graphc_frontend::Request { targets: step.targets.clone(), ..request };
    let graph = model.run_graph(&request).map_err(|e| other(e.to_string()))?;
    let state = model.assigned_variables(&graph).map_err(|e| other(e.to_string()))?;
    let mut spec = Request { name: "main".into(), feeds: Vec::new(), state };
    for (k, (input, t)) in graph.inputs.iter().zip(&feeds).enumerate() {
        let dim = |axis: usize, d: usize| if symbolic { Dim::sym(Sym::new(&format!("in{k}_{axis}"))) } else { Dim::from(d) };
        let shape = t.shape().iter().enumerate().map(|(a, &d)| dim(a, d)).collect();
        spec.feeds.push(Feed { name: input.name.clone(), elem: t.elem(), shape: Some(shape), value: None });
    }
    let fix = |spec: &mut Request, which: &dyn Fn(&Dim) -> bool| {
        for (f, t) in spec.feeds.iter_mut().zip(&feeds) {
            for (d, &n) in f.shape.iter_mut().flatten().zip(t.shape()) {
                if which(d) {
                    *d = Dim::from(n);
                }
            }
        }
    };
    let legalised = loop {
        match legalise::legalise_with_assumptions(&model, &graph, &spec) {
            Ok(l) => {
                let fits = l.feeds.iter().zip(&feeds).all(|(f, t)| {
                    let known: HashMap<Sym, i64> = l
                        .feeds
                        .iter()
                        .zip(&feeds)
                        .flat_map(|(f, t)| f.shape.iter().flatten().cloned().zip(t.shape().to_vec()))
                        .filter_map(|(d, n)| Some((d.as_sym()?.clone(), n as i64)))
                        .collect();
                    let of = |s: &Sym| known.get(s).copied();
                    f.shape.iter().flatten().zip(t.shape()).all(|(d, &n)| d.eval(&of) == Some(n as i64))
                });
                if fits {
                    break l;
                }
                fix(&mut spec, &|_| true);
            }
            Err(LegaliseError::NeedsValue { feeds: which, .. }) => which.into_iter().for_each(|k| {
                spec.feeds[k].value = Some(feeds[k].clone());
                spec.feeds[k].shape = Some(feeds[k].shape().iter().map(|&d| Dim::from(d)).collect());
            }),
            Err(LegaliseError::NeedsShape { .. }) => fix(&mut spec, &|_| true),
            Err(LegaliseError::Unsupported(ops)) => return Err(Stop::Unsupported(ops[0].op.clone())),
            Err(LegaliseError::Node { code: "GC0502" | "GC0503", message, .. }) => return Err(Stop::Unsupported(message)),
            Err(LegaliseError::Node { status, message, .. }) => return Err(Stop::Error(status.code(), message)),
            Err(e) => return Err(other(e.to_string())),
        }
    };
    if let Err(e) = verify(&legalised.module) {
        return Err(Stop::Error(-1, format!("verifier: {e:?}")));
    }
    let inputs: Vec<Tensor> =
        legalised.feeds.iter().zip(&feeds).filter(|(f, _)| f.value.is_none()).map(|(_, t)| t.clone()).collect();
    Interp::new(&legalised.module).run_func(&legalised.module.funcs[0], &inputs).map_err(|e| match e.kind {
        graphc_ir::interp::EvalErrorKind::Unsupported => Stop::Unsupported(e.to_string()),
        graphc_ir::interp::EvalErrorKind::Malformed => Stop::Error(-2, e.to_string()),
        _ => Stop::Error(3, format!("at run time: {e}")),
    })
}

fn close(got: &Tensor, want: &Tensor) -> Result<(), String> {
    if got.elem() != want.elem() || got.shape() != want.shape() {
        return Err(format!("got {} for {}", got.ty(), want.ty()));
    }
    let (rtol, atol) = match got.elem() {
        Elem::F32 | Elem::C64 => (1e-4, 1e-5),
        Elem::F64 | Elem::C128 => (1e-8, 1e-9),
        Elem::F16 => (1e-2, 1e-3),
        Elem::BF16 => (3e-2, 1e-2),
        _ => return if got == want { Ok(()) } else { Err(format!("{:?} for {:?}", got.to_ints(), want.to_ints())) },
    };
    let parts = |t: &Tensor| -> Vec<f64> {
        match t.elem() {
            Elem::C64 => t.bytes().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f64).collect(),
            Elem::C128 => t.bytes().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            _ => t.to_reals().unwrap_or_default(),
        }
    };
    let (g, w) = (parts(got), parts(want));
    for (i, (a, b)) in g.iter().zip(&w).enumerate() {
        if !(a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= atol + rtol * b.abs()) {
            return Err(format!("element {i}: {a} for {b}"));
        }
    }
    Ok(())
}

fn judge(case: &Case, symbolic: bool) -> Verdict {
    for step in &case.steps {
        match (compute(case, step, symbolic), &step.error) {
            (Err(Stop::Unsupported(m)), _) => return Verdict::Unsupported(m),
            (Err(Stop::Error(code, _)), Some(e)) if code == e.code => {}
            (Err(Stop::Error(code, m)), Some(e)) => {
                return Verdict::Failed(format!("status {code} ({m}) for {} ({})", e.code, e.message));
            }
            (Err(Stop::Error(code, m)), None) => return Verdict::Failed(format!("status {code}: {m}")),
            (Ok(_), Some(e)) => return Verdict::Failed(format!("no error for {}: {}", e.code, e.message)),
            (Ok(got), None) => {
                if case.random {
                    continue;
                }
                for (g, w) in got.iter().zip(&step.expected) {
                    let w = match tensor(w) {
                        Ok(w) => w,
                        Err(m) => return Verdict::Unsupported(m),
                    };
                    if let Err(m) = close(g, &w) {
                        return Verdict::Failed(m);
                    }
                }
            }
        }
    }
    Verdict::Passed
}

#[test]
fn single_op_cases() {
    let Ok(folder) = std::env::var("GRAPHC_CORPUS") else {
        println!("skipped: GRAPHC_CORPUS is not set");
        return;
    };
    let kinds = std::env::var("GRAPHC_KINDS").unwrap_or_else(|_| "op".into());
    let only = std::env::var("GRAPHC_OPS").ok();
    let symbolic = std::env::var("GRAPHC_SYMBOLIC").is_ok();
    let supported: Vec<&str> = legalise::supported().collect();
    let mut tally: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    let mut shown: HashMap<String, usize> = HashMap::new();
    let most: usize = std::env::var("GRAPHC_SHOW").ok().and_then(|s| s.parse().ok()).unwrap_or(3);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "gz"))
        .collect();
    files.sort();
    for file in files {
        let mut bytes = Vec::new();
        flate2::read::MultiGzDecoder::new(std::fs::File::open(&file).unwrap()).read_to_end(&mut bytes).unwrap();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let case = Case::decode_length_delimited(&mut rest).unwrap();
            if !kinds.split(',').any(|k| k == case.kind) || case.kind == "op" && !supported.contains(&case.op.as_str()) {
                continue;
            }
            if only.as_deref().is_some_and(|o| !o.split(',').any(|o| o == case.op)) {
                continue;
            }
            if std::env::var("GRAPHC_TRACE").is_ok() {
                println!("{} {}", case.kind, case.id);
            }
            let verdict = std::panic::catch_unwind(|| judge(&case, symbolic)).unwrap_or(Verdict::Failed("PANIC".into()));
            let slot = match &verdict {
                Verdict::Passed => 0,
                Verdict::Failed(_) => 1,
                Verdict::Unsupported(_) => 2,
            };
            let op = if case.kind == "op" { case.op.clone() } else { case.kind.clone() };
            tally.entry(op.clone()).or_default()[slot] += 1;
            let (label, message) = match verdict {
                Verdict::Passed => continue,
                Verdict::Failed(m) => ("FAILED", m),
                Verdict::Unsupported(m) => ("unsupported", m),
            };
            let key = format!("{op} {label} {}", message.chars().filter(|c| !c.is_ascii_digit()).take(40).collect::<String>());
            let n = shown.entry(key).or_default();
            *n += 1;
            if *n <= most {
                println!("{label} {op} {}: {}", case.id, message.chars().take(300).collect::<String>());
            }
        }
    }
    let mut sum = [0; 3];
    for (op, t) in &tally {
        if t[1] + t[2] > 0 {
            println!("{op}: {} passed, {} failed, {} unsupported", t[0], t[1], t[2]);
        }
        (0..3).for_each(|i| sum[i] += t[i]);
    }
    println!("in all: {} passed, {} failed, {} unsupported", sum[0], sum[1], sum[2]);
}
