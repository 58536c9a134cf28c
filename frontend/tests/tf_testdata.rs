//! The files of TensorFlow's own tests, where they are present: good ones load, malformed ones are errors, none panics.

use graphc_frontend::{Error, Model, OpenOptions, Request};
use std::path::{Path, PathBuf};

fn root() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/tf_testdata");
    if !dir.is_dir() {
        println!("skipped: {} is not there", dir.display());
        return None;
    }
    Some(dir)
}

/// Opens a model and goes through everything that can be asked of it.
fn exercise(path: &Path) -> Result<Model, Error> {
    let model = Model::open(path, &OpenOptions::default())?;
    for signature in model.signatures() {
        let graph = model.signature_graph(&signature.name)?;
        model.assigned_variables(&graph)?;
    }
    model.init_graph()?;
    for function in model.library().functions() {
        // A function that leaves types open cannot be built without a call.
        if function.signature().attr.is_empty() {
            model.function_inlined(function.name(), &Default::default())?;
        }
    }
    for variable in model.variables() {
        match model.variable_value(variable) {
            Err(e) if e.code() != "GC0407" => return Err(e),
            _ => {}
        }
    }
    Ok(model)
}

#[test]
fn saved_models() {
    let Some(root) = root() else { return };
    let mut wrong = Vec::new();
    for line in std::fs::read_to_string(root.join("SAVED_MODELS.tsv")).unwrap().lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        if !root.join(fields[0]).is_dir() {
            continue;
        }
        let result = exercise(&root.join(fields[0]));
        // TensorFlow also refuses models without their checkpoint and ops that are not linked in; their graphs are well formed.
        let malformed = fields[1] != "ok"
            && !["not a valid checkpoint", "not registered", "No variables to save"].iter().any(|why| fields[2].contains(why));
        println!("{}: {}", fields[0], result.as_ref().map_or_else(|e| e.to_string(), |m| format!("{} nodes", m.graph().len())));
        if result.is_ok() == malformed {
            wrong.push(format!("{} {}: {:?}", fields[0], fields[1], result.map(|_| "loads").map_err(|e| e.to_string())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn graphs() {
    let Some(root) = root() else { return };
    let mut loaded = 0;
    let mut refused = Vec::new();
    for line in std::fs::read_to_string(root.join("INDEX.tsv")).unwrap().lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let path = root.join(fields[0]);
        if fields[2] != "GraphDef" || !path.is_file() || fields[0].ends_with(".gz") {
            continue;
        }
        match exercise(&path) {
            Ok(model) => {
                loaded += 1;
                let all = model.graph().nodes().map(|(_, n)| n.name.clone()).collect();
                if let Err(e) = model.run_graph(&Request { targets: all, ..Request::default() }) {
                    refused.push(format!("{}: {e}", fields[0]));
                }
            }
            Err(e) => refused.push(e.to_string()),
        }
    }
    println!("{loaded} loaded, refused:\n{}", refused.join("\n"));
    assert!(loaded > 100, "{loaded}");
}
