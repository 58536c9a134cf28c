//! Models at hand: legalised, verified, and the small ones run by the interpreter against TensorFlow's answers.

use graphc_frontend::legalise::{self, LegaliseError, Request};
use graphc_frontend::{Model, OpenOptions, RawGraph};
use graphc_ir::interp::Interp;
use graphc_ir::verify::verify;
use graphc_ir::{Elem, Tensor};
use hashbrown::HashMap;
use npyz::{DType, NpyFile, TypeChar};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Models that must legalise, and whether the interpreter is quick enough to run them.
const MODELS: &[(&str, bool)] = &[
    ("mlp", true),
    ("transformer", true),
    ("small_cnn", true),
    ("mobilenet_v2", false),
    ("resnet50", false),
    ("efficientnet_b0", false),
    ("mobilenet_v3_small", false),
    ("bert_base", false),
    ("minilm_l6_trained", false),
    ("basic_pitch", false),
    ("cnn_mixed_f16", true),
    ("cnn_mixed_bf16", true),
    ("js_movenet-lightning", false),
    ("js_facemesh", false),
    ("js_facemesh-detection-short", false),
    ("js_blazeface-front", false),
    ("js_selfie", false),
    ("js_handlandmark-lite", false),
    ("js_emotion", false),
    ("js_age", false),
    ("js_liveness", false),
];

/// Folders of models, given by `GRAPHC_MODELS` (separated by colons) or found beside the checkout.
fn collections() -> Vec<PathBuf> {
    let given = std::env::var("GRAPHC_MODELS").unwrap_or_default();
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models");
    let mut dirs: Vec<PathBuf> = given.split(':').filter(|s| !s.is_empty()).map(PathBuf::from).collect();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    dirs.extend([golden, beside.join("generated"), beside.join("real")]);
    dirs
}

fn find(name: &str) -> Option<PathBuf> {
    let dir = collections().into_iter().map(|d| d.join(name)).find(|d| d.is_dir());
    if dir.is_none() {
        println!("skipped: {name} is not there");
    }
    dir
}

/// The arrays of an `.npz` file.
fn arrays(path: &Path) -> HashMap<String, Tensor> {
    let mut archive = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    let mut out = HashMap::new();
    for i in 0..archive.len() {
        let entry = archive.by_index(i).unwrap();
        let name = entry.name().unwrap().trim_end_matches(".npy").to_owned();
        let npy = NpyFile::new(entry).unwrap();
        let shape: Vec<usize> = npy.shape().iter().map(|&d| d as usize).collect();
        let DType::Plain(ty) = npy.dtype() else { panic!("{name}") };
        let elem = match (ty.type_char(), ty.size_field()) {
            (TypeChar::Float, 4) => Elem::F32,
            (TypeChar::Float, 2) => Elem::F16,
            (TypeChar::Int, 4) => Elem::I32,
            (TypeChar::Int, 8) => Elem::I64,
            (TypeChar::RawData, 2) => Elem::BF16,
            t => panic!("{name}: {t:?}"),
        };
        let t = match elem {
            Elem::F32 => Tensor::from_slice(&shape, &npy.into_vec::<f32>().unwrap()),
            Elem::I32 => Tensor::from_slice(&shape, &npy.into_vec::<i32>().unwrap()),
            Elem::I64 => Tensor::from_slice(&shape, &npy.into_vec::<i64>().unwrap()),
            e => panic!("{name}: {e}"),
        };
        out.insert(name, t.unwrap());
    }
    out
}

fn open(dir: &Path) -> Model {
    let saved = dir.join("saved_model");
    let path = if saved.is_dir() { saved } else { dir.join("graph.pb") };
    Model::open(path, &OpenOptions::default()).unwrap()
}

/// What the default signature runs; of a graph without signatures, what the reference arrays name.
fn graph_of(model: &Model, dir: &Path) -> RawGraph {
    if let Some(s) = model.default_signature() {
        return model.signature_graph(&s.name).unwrap();
    }
    let values = arrays(&dir.join("io_0.npz"));
    let names = |prefix: &str| {
        let mut v: Vec<String> = values.keys().filter_map(|k| k.strip_prefix(prefix).map(str::to_owned)).collect();
        v.sort();
        v
    };
    model.run_graph(&graphc_frontend::Request::new(names("in/"), names("out/"))).unwrap()
}

/// Largest difference, relative to the largest expected element. Outputs of a sigmoid that are all but zero count as zeros.
fn error(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.shape(), want.shape());
    let (got, want) = (got.to_reals().unwrap(), want.to_reals().unwrap());
    let scale = want.iter().fold(1e-6f64, |m, v| m.max(v.abs()));
    got.iter().zip(&want).fold(0.0f64, |m, (a, b)| if a == b { m } else { m.max((a - b).abs() / scale) })
}

#[test]
fn models_legalise_and_agree() {
    let only = std::env::var("GRAPHC_ONLY").ok();
    let all = std::env::var("GRAPHC_SLOW").is_ok();
    let mut bad = Vec::new();
    for &(name, quick) in MODELS {
        if only.as_deref().is_some_and(|o| !o.split(',').any(|o| o == name)) {
            continue;
        }
        let Some(dir) = find(name) else { continue };
        let start = std::time::Instant::now();
        let model = open(&dir);
        let graph = graph_of(&model, &dir);
        let request = Request::of("main", &graph, model.assigned_variables(&graph).unwrap());
        let opened = start.elapsed();
        let legalised = match legalise::legalise_with_assumptions(&model, &graph, &request) {
            Ok(l) => l,
            Err(e) => {
                println!("{name}: {e}");
                bad.push(name);
                continue;
            }
        };
        let func = &legalised.module.funcs[0];
        let insts = func.region(func.body).insts.len();
        println!(
            "{name}: {} nodes -> {insts} instructions, open {:.0} ms, legalise {:.0} ms, guards {:?}",
            graph.len(),
            opened.as_secs_f64() * 1e3,
            (start.elapsed() - opened).as_secs_f64() * 1e3,
            legalised.guards
        );
        if std::env::var("GRAPHC_PRINT").is_ok() {
            println!("{}", graphc_ir::text::print(&legalised.module));
        }
        if let Err(e) = verify(&legalised.module) {
            println!("{name}: {e:?}");
            bad.push(name);
            continue;
        }
        if !(quick || all) {
            continue;
        }
        for io in ["io_0.npz", "io_1.npz"] {
            let values = arrays(&dir.join(io));
            let inputs: Vec<Tensor> = func.param_names.iter().map(|n| values[&format!("in/{n}")].clone()).collect();
            let outputs = Interp::new(&legalised.module).run_func(func, &inputs).unwrap();
            for (n, got) in func.result_names.iter().zip(&outputs) {
                let e = error(got, &values[&format!("out/{n}")]);
                println!("{name} {io} {n}: {e:.2e}");
                let bound = if name.starts_with("cnn_mixed") { 2e-2 } else { 1e-4 };
                if e.is_nan() || e > bound {
                    bad.push(name);
                }
            }
        }
    }
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn every_unsupported_op_is_named_at_once() {
    let Some(dir) = find("example_parse") else { return };
    let model = open(&dir);
    let graph = graph_of(&model, &dir);
    let request = Request::of("main", &graph, model.assigned_variables(&graph).unwrap());
    let Err(LegaliseError::Unsupported(ops)) = legalise::legalise_with_assumptions(&model, &graph, &request) else {
        panic!("strings are not supported")
    };
    assert!(ops.len() > 1, "{ops:?}");
}
