//! What is compiled ahead of time: packages, and instances of models with state.

use crate::support::{self, *};
use graphc::aot::{self, Builder, Cpu, Machine, Package, WeightsPlace};
use graphc::{Session, SessionOptions, Tensor, View, linked};
use std::path::{Path, PathBuf};

fn here() -> Machine {
    Machine::here(Cpu::Baseline).unwrap()
}

fn views(tensors: &[Tensor]) -> Vec<View<'_>> {
    tensors.iter().map(|t| View::try_from(t).unwrap()).collect()
}

/// A package of a golden model's default signature.
fn package(name: &str, folder: &Folder) -> PathBuf {
    let file = folder.0.join(format!("{name}.graphc"));
    let session = support::open(&golden(name).join("saved_model"), 1);
    let callable = session.signature(None).unwrap();
    let example = Random(7).inputs(&callable, &|_, axis| if axis == 0 { 3 } else { 6 });
    let mut builder = Builder::of(&session, name).unwrap();
    builder.function("serve", &callable, &[views(&example)]).unwrap();
    let object = builder.compile(here(), WeightsPlace::File, false, None).unwrap();
    Package::write(object, name, here(), &file).unwrap();
    file
}

fn open(file: &Path) -> Result<Package, graphc::Error> {
    // SAFETY: written by these tests, and by nobody while it is mapped.
    unsafe { Package::open(file) }
}

#[test]
fn packages_answer_as_sessions_do() {
    let folder = Folder::new("packages");
    for name in GOLDEN.into_iter().chain(["words"]) {
        let callable = golden_callable(name, 1);
        let package = open(&package(name, &folder)).unwrap();
        let function = package.model().function(0).unwrap();
        let outputs = aot::ports(function.outputs()).unwrap();
        for threads in [1, 2] {
            let instance = package.instance(threads).unwrap();
            for open in [1, 3] {
                let inputs = Random(9).inputs(&callable, &|_, axis| if axis == 0 { open } else { 6 });
                let got = linked::call(&instance, 0, &outputs, &views(&inputs)).unwrap();
                assert!(got == callable.run_tensors(&inputs).unwrap(), "{name}, {threads} threads, size {open}");
            }
        }
    }
}

#[test]
fn damaged_packages_are_refused() {
    let folder = Folder::new("packages-damaged");
    let file = package("mlp", &folder);
    let whole = std::fs::read(&file).unwrap();
    let other = folder.0.join("other.graphc");
    let refused = |bytes: &[u8], what: &str| {
        std::fs::write(&other, bytes).unwrap();
        let error = open(&other).err().unwrap_or_else(|| panic!("{what} is taken"));
        assert_eq!(error.code(), "GC0603", "{what}: {error}");
    };
    for cut in [0, 7, 15, 100, 4096, whole.len() / 2] {
        refused(&whole[..cut], &format!("a file of {cut} bytes"));
    }
    let header = 16 + u32::from_le_bytes(whole[8..12].try_into().unwrap()) as usize;
    let object = 4096..whole.len().min(4096 + 4000);
    let weights = whole.len() - 4000..whole.len();
    for at in (0..header).step_by(header / 23 + 1).chain(object.step_by(333)).chain(weights.step_by(777)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        refused(&bytes, &format!("a package with another byte {at}"));
    }
}

/// A model that learns: each instance has weights of its own, and `reset` gives back the first ones.
#[test]
fn instances_have_state_of_their_own() {
    let Some(models) = shared("models/generated") else { return };
    let model = models.join("train_mlp_sgd_raw/saved_model");
    let session = Session::open(&model, SessionOptions::default()).unwrap();
    let train = session.signature(Some("train_step")).unwrap();
    let mut builder = Builder::of(&session, "learner").unwrap();
    builder.function("train_step", &train, &[]).unwrap();
    let folder = Folder::new("learner");
    let file = folder.0.join("learner.graphc");
    Package::write(builder.compile(here(), WeightsPlace::File, false, None).unwrap(), "learner", here(), &file).unwrap();
    let package = open(&file).unwrap();
    let inputs = Random(3).inputs(&train, &|_, _| 8);
    let step = |instance: &graphc_stages::Instance| linked::call(instance, 0, train.outputs(), &views(&inputs)).unwrap();
    let (one, two) = (package.instance(1).unwrap(), package.instance(1).unwrap());
    let steps = [step(&one), step(&one), step(&one)];
    assert!(steps[0] != steps[1], "nothing is learnt");
    assert!(step(&two) == steps[0], "an instance sees what another learnt");
    one.reset().unwrap();
    assert!(step(&one) == steps[0], "what was learnt stays after a reset");
    assert!(steps[0] == train.run_tensors(&inputs).unwrap(), "a session learns otherwise");
}
