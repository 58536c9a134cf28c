//! Packages with code for GPUs: functions in stages, variables, machine code, numbers of other precision.

use crate::graphs::*;
use crate::support::*;
use crate::traffic::{alone, model, text, two_parts};
use crate::{GPU, callable, floats};
use graphc::aot::{Builder, Cpu, DeviceCode, Kind, Machine, OnDevice, Package, Wanted, WeightsPlace};
use graphc::compare::compare;
use graphc::{Callable, Session, SessionOptions, Tensor, View};
use graphc_gpu::Factors;
use std::path::PathBuf;

/// Code of these kinds.
fn kinds(list: &[&str], ptxas: Option<PathBuf>) -> Wanted {
    let kinds = list.iter().map(|k| k.parse::<Kind>().unwrap()).collect();
    Wanted { kinds, factors: Factors::F32, ptxas }
}

fn all() -> Wanted {
    kinds(&["sm_80", "spirv"], None)
}

fn views(tensors: &[Tensor]) -> Vec<View<'_>> {
    tensors.iter().map(|t| View::try_from(t).unwrap()).collect()
}

/// Functions of a session, each with what it is shown, in a package; on the first GPU.
fn on_device(session: &Session, functions: &[(&str, &Callable, &[Tensor])], wanted: &Wanted, folder: &Folder) -> OnDevice {
    let (machine, mut code) = (Machine::here(Cpu::Baseline).unwrap(), DeviceCode::default());
    let mut builder = Builder::of(session, "model").unwrap();
    builder.for_gpus();
    for (name, callable, shown) in functions {
        let examples = [views(shown)];
        builder.function(name, callable, &examples).unwrap_or_else(|e| panic!("{name}: {e}"));
        code.add(name, callable, &examples, wanted).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    code.add_parts(builder.parts_mut(), wanted).unwrap();
    let parts = [code.write().unwrap(), std::mem::take(&mut code.weights)];
    let (object, file) = (builder.compile(machine, WeightsPlace::File, false, None).unwrap(), folder.0.join("model.graphc"));
    Package::write_with(object, "model", machine, Some(parts), &file).unwrap();
    // SAFETY: written just now, and by nobody while it is mapped.
    let package = unsafe { Package::open(&file) }.unwrap();
    let names: Vec<&str> = functions.iter().map(|f| f.0).collect();
    package.on_device(&names, GPU, 2).unwrap()
}

/// Values that go up to the first GPU while something runs.
fn went_up(f: impl FnOnce()) -> u64 {
    let device = graphc_gpu::Device::open(0).unwrap();
    let before = device.traffic().up.values;
    f();
    device.traffic().up.values - before
}

fn same(a: &[Tensor], b: &[Tensor]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| compare(a, b).within(1e-5, 1e-6))
}

#[test]
fn functions_in_stages_compute_their_parts_there() {
    let _alone = alone();
    let folder = Folder::new("stages-in-packages");
    let session = Session::open(&two_parts().write(&folder, "parts"), SessionOptions::default()).unwrap();
    let parts = callable(&session, &["x", "text"], &["y"]);
    let package = on_device(&session, &[("serve", &parts, &[floats(&[2, 16], 0.0), text(2)])], &all(), &folder);
    for n in [1, 4] {
        let feeds = [floats(&[n, 16], 0.5), text(n)];
        let want = parts.run_tensors(&feeds).unwrap();
        let up = went_up(|| assert!(same(&package.run(0, &views(&feeds)).unwrap(), &want), "{n}"));
        assert!(up >= 2, "{up} values went up");
    }
    let words = open(&golden("words").join("saved_model"), 1);
    let serve = words.signature(None).unwrap();
    let references = references(&golden("words"));
    let package = on_device(&words, &[("serve", &serve, &references[1].inputs(&serve))], &all(), &folder);
    for r in &references {
        let got = package.run(0, &views(&r.inputs(&serve))).unwrap();
        assert!(r.differences(&serve, &got, 1e-4, "from a package").is_empty());
    }
}

#[test]
fn variables_of_packages_live_on_the_device() {
    let _alone = alone();
    let folder = Folder::new("variables-in-packages");
    let session = Session::open(&model().write(&folder, "model"), SessionOptions::default()).unwrap();
    let start = session.callable(&[], &[], &["start".to_owned()]).unwrap();
    let step = callable(&session, &["x"], &["step"]);
    let x = [floats(&[3, 16], 1.0)];
    let package = on_device(&session, &[("start", &start, &[]), ("step", &step, &x)], &all(), &folder);
    let unset = package.run(1, &views(&x)).unwrap_err();
    assert!(unset.to_string().contains("\"w\""), "{unset}");
    session.reset();
    start.run(&[]).unwrap();
    package.run(0, &[]).unwrap();
    for round in 0..3 {
        let want = step.run_tensors(&x).unwrap();
        let up = went_up(|| assert!(same(&package.run(1, &views(&x)).unwrap(), &want), "{round}"));
        assert_eq!(up, 1, "{round}");
    }
}

#[test]
fn parts_and_host_functions_see_the_same_variables() {
    let _alone = alone();
    let folder = Folder::new("both-in-packages");
    let dtype = [Type("dtype", F32)];
    let graph = two_parts()
        .node("v", "VarHandleOp", &[], &[Type("dtype", F32), Shape("shape", &[16, 16]), Text("shared_name", "v")])
        .node("start", "AssignVariableOp", &["v", "w"], &dtype)
        .node("read", "ReadVariableOp", &["v"], &dtype)
        .node("z", "MatMul", &["c", "read"], &float())
        .node("add", "AssignAddVariableOp", &["v", "w", "^z"], &dtype)
        .node("out", "Identity", &["z", "^add"], &float());
    let session = Session::open(&graph.write(&folder, "graph"), SessionOptions::default()).unwrap();
    let start = session.callable(&[], &[], &["start".to_owned()]).unwrap();
    start.run(&[]).unwrap();
    let step = callable(&session, &["x", "text"], &["out"]);
    let feeds = [floats(&[2, 16], 0.0), text(2)];
    let package = on_device(&session, &[("start", &start, &[]), ("step", &step, &feeds)], &all(), &folder);
    session.reset();
    start.run(&[]).unwrap();
    package.run(0, &[]).unwrap();
    for round in 0..3 {
        let want = step.run_tensors(&feeds).unwrap();
        assert!(same(&package.run(1, &views(&feeds)).unwrap(), &want), "{round}");
    }
}

#[test]
fn machine_code_is_tried_first_and_text_is_left() {
    let _alone = alone();
    let folder = Folder::new("machine-code");
    // What stands in for NVIDIA's assembler writes the beginning of a file of machine code.
    let ptxas = folder.file("ptxas", "#!/bin/sh\nprintf '\\177ELF%s' \"$1\" > \"$3\"\n");
    std::process::Command::new("chmod").arg("+x").arg(&ptxas).status().unwrap();
    let session = open(&golden("mlp").join("saved_model"), 1);
    let serve = session.signature(None).unwrap();
    let references = references(&golden("mlp"));
    let wanted = kinds(&["cubin:sm_90", "sm_80", "spirv"], Some(ptxas));
    let package = on_device(&session, &[("serve", &serve, &references[0].inputs(&serve))], &wanted, &folder);
    for r in &references {
        let got = package.run(0, &views(&r.inputs(&serve))).unwrap();
        assert!(r.differences(&serve, &got, 1e-4, "from a package").is_empty());
    }
    let bytes = std::fs::read(folder.0.join("model.graphc")).unwrap();
    let mark = b"\x7fELF-arch=sm_90";
    assert!(bytes.windows(mark.len()).any(|w| w == mark), "there is no machine code in the package");
    let model = golden("mlp").join("saved_model").display().to_string();
    let out = folder.0.join("none.graphc").display().to_string();
    let ended =
        graphc(&["compile", &model, "-o", &out, "--device", "GPU:0", "--gpu-targets", "cubin:sm_90", "--ptxas", "/none/ptxas"]);
    assert!(ended.code == Some(2) && ended.err.contains("needs ptxas"), "{ended:?}");
}

#[test]
fn products_of_packages_multiply_rounded_factors() {
    let _alone = alone();
    let folder = Folder::new("precision-in-packages");
    let session = open(&golden("mlp").join("saved_model"), 1);
    let serve = session.signature(None).unwrap();
    let inputs = Random(3).inputs(&serve, &|_, _| 4);
    let want = serve.run_tensors(&inputs).unwrap().remove(0);
    let mut errors = Vec::new();
    for factors in [Factors::F32, Factors::Tf32, Factors::Bf16] {
        let package = on_device(&session, &[("serve", &serve, &inputs)], &Wanted { factors, ..all() }, &folder);
        let got = package.run(0, &views(&inputs)).unwrap().remove(0);
        errors.push(compare(&got, &want).relative);
    }
    // Each rounds more than the one before it.
    assert!(errors[0] < 1e-5 && errors[0] < errors[1] && errors[1] < errors[2] && errors[2] < 0.05, "{errors:?}");
}
