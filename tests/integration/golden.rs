//! Models against TensorFlow's answers: code in memory on one and two threads, a linked object, the reference interpreter.

use crate::support::*;
use std::path::Path;

/// Greatest error relative to the scale of an output.
const RTOL: f64 = 1e-4;

/// Checks a model against its references; the interpreter, which is slow, against the last one only, and only if asked to.
fn check(folder: &Path, rtol: f64, interpreter: bool) -> Vec<String> {
    let model = model_file(folder);
    let references = references(folder);
    let mut wrong = Vec::new();
    for threads in [1, 2] {
        let session = open(&model, threads);
        for (k, reference) in references.iter().enumerate() {
            let callable = match callable(&session, reference) {
                Ok(c) => c,
                Err(e) => return vec![format!("{}: {e}", model.display())],
            };
            let inputs = reference.inputs(&callable);
            let mut compare = |got: Result<Vec<graphc::Tensor>, graphc::Error>, how: &str| match got {
                Ok(got) => wrong.extend(reference.differences(&callable, &got, rtol, how)),
                Err(e) => wrong.push(format!("{} {how}: {e}", reference.file)),
            };
            compare(callable.run_tensors(&inputs), &format!("jit, {threads} threads"));
            if k + 1 == references.len() && threads == 1 {
                compare(graphc::linked::run(&session, &callable, &inputs), "object");
                if interpreter {
                    compare(callable.interpret(&inputs), "interpreter");
                }
            }
        }
    }
    wrong
}

#[test]
fn golden_models_answer_as_tensorflow_does() {
    // Quantised numbers, and strings, which run in stages, besides those that all tests take.
    let names = GOLDEN.iter().chain(&["quantised", "words"]);
    let wrong: Vec<String> = names.flat_map(|name| check(&golden(name), RTOL, true)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Models beside the checkout: folder, tolerance, whether the interpreter is quick enough.
const SHARED: [(&str, f64, bool); 13] = [
    ("generated/mlp", RTOL, true),
    ("generated/small_cnn", RTOL, true),
    // Sums of halves, in another order.
    ("generated/cnn_mixed_f16", 5e-3, false),
    ("generated/cnn_mixed_bf16", 5e-3, false),
    ("generated/mobilenet_v2", RTOL, false),
    ("real/js_movenet-lightning", RTOL, false),
    ("real/js_facemesh", RTOL, false),
    ("real/js_facemesh-detection-short", RTOL, false),
    ("real/js_blazeface-front", RTOL, false),
    ("real/js_handlandmark-lite", RTOL, false),
    ("real/js_emotion", RTOL, false),
    ("real/js_age", RTOL, false),
    ("real/js_liveness", RTOL, false),
];

#[test]
fn shared_models_answer_as_tensorflow_does() {
    let Some(models) = shared("models") else { return };
    let mut wrong = Vec::new();
    for (name, rtol, interpreter) in SHARED {
        let folder = models.join(name);
        match folder.is_dir() {
            true => wrong.extend(check(&folder, rtol, interpreter)),
            false => println!("skipped: there is no {}", folder.display()),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The references of `js_selfie` were made with oneDNN, and its outputs are almost zero (1e-9): TensorFlow's two ways of computing differ by
/// 8% of that. What can be checked is that compiled code and interpreter agree.
#[test]
fn selfie_answers_as_the_interpreter_does() {
    let Some(models) = shared("models") else { return };
    let folder = models.join("real/js_selfie");
    if !folder.is_dir() {
        println!("skipped: there is no {}", folder.display());
        return;
    }
    let session = open(&model_file(&folder), 2);
    let reference = &references(&folder)[0];
    let callable = callable(&session, reference).unwrap();
    let inputs = reference.inputs(&callable);
    let (got, want) = (callable.run_tensors(&inputs).unwrap(), callable.interpret(&inputs).unwrap());
    for (g, w) in got.iter().zip(&want) {
        let d = graphc::compare::compare(g, w);
        assert!(d.within(1e-3, 0.0), "{d:?}");
    }
    let wrong = reference.differences(&callable, &got, 0.15, "jit");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every set of instructions that the kernels are written for, in processes of their own: the choice is made once in each.
#[test]
fn every_tier_answers_as_tensorflow_does() {
    for tier in ["portable", "avx2"] {
        for name in GOLDEN {
            let model = golden(name);
            let reference = model.join(if name == "basic_pitch" { "io_1.npz" } else { "io_0.npz" });
            let ended = graphc_with(&[("GRAPHC_TIER", tier)], &[Path::new("check"), &model.join("saved_model"), &reference]);
            assert_eq!(ended.code, Some(0), "{name} on {tier}: {ended:?}");
        }
    }
}
