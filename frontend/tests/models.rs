//! Loads every model at hand: those of the repository, and larger collections where they are present.

use graphc_frontend::{Model, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Folders of models, given by `GRAPHC_MODELS` (separated by colons) or found beside the checkout.
fn collections() -> Vec<PathBuf> {
    let given = std::env::var("GRAPHC_MODELS").unwrap_or_default();
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models");
    let mut dirs: Vec<PathBuf> = given.split(':').filter(|s| !s.is_empty()).map(PathBuf::from).collect();
    dirs.extend([beside.join("generated"), beside.join("real")]);
    dirs.retain(|d| {
        let there = d.is_dir();
        if !there {
            println!("skipped: {} is not there", d.display());
        }
        there
    });
    dirs
}

fn load(dir: &Path) -> Result<(), graphc_frontend::Error> {
    let start = Instant::now();
    let saved = dir.join("saved_model");
    let path = if saved.is_dir() { saved } else { dir.join("graph.pb") };
    let checkpoint = Some(dir.join("ckpt")).filter(|c| c.is_dir());
    let options = OpenOptions { checkpoint, ..OpenOptions::default() };
    let model = Model::open(&path, &options)?;
    let opened = start.elapsed();
    let mut nodes = Vec::new();
    for signature in model.signatures() {
        let graph = model.signature_graph(&signature.name)?;
        model.assigned_variables(&graph)?;
        assert_eq!(graph.topological_order().len(), graph.len());
        nodes.push((signature.name.clone(), graph.len(), graph.targets.len()));
    }
    model.init_graph()?;
    let inlined = start.elapsed();
    let mut bytes = 0usize;
    let mut missing = 0;
    for variable in model.variables() {
        match model.variable_value(variable) {
            Ok(value) => bytes += value.elements() * value.dtype.size().unwrap_or(1),
            Err(e) if e.code() == "GC0407" => missing += 1,
            Err(e) => return Err(e),
        }
    }
    println!(
        "{}: open {:.1} ms, inlined {:.1} ms, {} variables of {bytes} bytes ({missing} without value) {:.1} ms, {nodes:?}",
        dir.file_name().unwrap().to_string_lossy(),
        opened.as_secs_f64() * 1e3,
        (inlined - opened).as_secs_f64() * 1e3,
        model.variables().len(),
        (start.elapsed() - inlined).as_secs_f64() * 1e3,
    );
    Ok(())
}

#[test]
fn all_models_load() {
    let mut failed = Vec::new();
    for collection in collections() {
        let mut dirs: Vec<_> = std::fs::read_dir(collection).unwrap().map(|e| e.unwrap().path()).collect();
        dirs.sort();
        for dir in dirs.into_iter().filter(|d| d.is_dir()) {
            if let Err(e) = load(&dir) {
                failed.push(format!("{}: {e}", dir.display()));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
