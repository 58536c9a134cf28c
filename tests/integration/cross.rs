//! Golden models as programs for other architectures, run by an emulator.

use crate::emulator::{AARCH64, Emulator, OLD_X86_64, RISCV64};
use crate::support::*;
use graphc::Tensor;
use std::path::Path;
use std::time::Instant;

/// The emulator takes its time: all models on one architecture, small ones on the others. Models, with the number of references to run.
const RUNS: [(Emulator, &[(&str, usize)]); 3] = [
    (AARCH64, &[("mlp", 2), ("small_cnn", 2), ("transformer", 2), ("recurrent", 2), ("basic_pitch", 1)]),
    (RISCV64, &[("mlp", 2), ("small_cnn", 1), ("recurrent", 1)]),
    (OLD_X86_64, &[("mlp", 1), ("small_cnn", 1)]),
];

/// What the program `model` of `folder` answers to a reference, further from it than it may be.
fn differences(emulator: &Emulator, reference: &Reference, name: &str, folder: &Path) -> Result<Vec<String>, String> {
    let callable = golden_callable(name, 1);
    let output = folder.join("out.npz");
    emulator.run(folder, &["--input".as_ref(), reference.file.as_ref(), "--output".as_ref(), &output])?;
    let arrays = graphc::npz::read(&output).map_err(|e| e.to_string())?;
    let array = |name: &str| arrays.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone());
    let got: Option<Vec<Tensor>> = callable.outputs().iter().map(|p| array(&p.name)).collect();
    let got = got.ok_or_else(|| format!("not all outputs are in {:?}", arrays.iter().map(|(n, _)| n).collect::<Vec<_>>()))?;
    Ok(reference.differences(&callable, &got, 1e-4, emulator.triple))
}

#[test]
#[ignore = "tests/cross.sh builds what it needs"]
fn golden_models_answer_on_other_architectures() {
    let folder = std::env::temp_dir().join(format!("graphc-cross-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut wrong = Vec::new();
    for (emulator, models) in RUNS.iter().filter(|(emulator, _)| emulator.links_here()) {
        for (name, count) in *models {
            let started = Instant::now();
            let model = golden(name).join("saved_model");
            let program = folder.join("model");
            let args: [&Path; 6] =
                ["compile".as_ref(), &model, "-o".as_ref(), &program, "--target".as_ref(), emulator.triple.as_ref()];
            let compiled = graphc_with(&[], &args);
            assert_eq!(compiled.code, Some(0), "{name} for {}: {compiled:?}", emulator.triple);
            // The last references are those of larger batches.
            for reference in references(&golden(name)).iter().rev().take(*count) {
                match differences(emulator, reference, name, &folder) {
                    Ok(list) => wrong.extend(list),
                    Err(e) => wrong.push(format!("{} {}: {e}", reference.file, emulator.triple)),
                }
            }
            println!("{} {name}: {:.1} s", emulator.triple, started.elapsed().as_secs_f64());
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
