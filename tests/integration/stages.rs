//! Functions in stages as objects: state of their own, examples that fail, errors that name the node.

use crate::graphs::*;
use crate::support::*;
use graphc::aot::{self, Builder, Cpu, Machine, Package, WeightsPlace};
use graphc::frontend::Request;
use graphc::{Callable, Session, SessionOptions, Tensor, View, linked};
use graphc_stages::{Instance, Script};

/// A table from strings to numbers, to be filled and asked.
fn dictionary() -> Graph {
    let types = [Type("key_dtype", "DT_STRING"), Type("value_dtype", "DT_INT64")];
    let asked = [Type("Tin", "DT_STRING"), Type("Tout", "DT_INT64")];
    Graph::new()
        .input("keys", "DT_STRING", &[-1])
        .input("values", "DT_INT64", &[-1])
        .int("none", -1)
        .node("table", "MutableHashTableV2", &[], &types)
        .node("insert", "LookupTableInsertV2", &["table", "keys", "values"], &asked)
        .node("size", "LookupTableSizeV2", &["table", "^insert"], &[])
        .node("found", "LookupTableFindV2", &["table", "keys", "none"], &asked)
        .node("twice", "AddV2", &["found", "found"], &[Type("T", "DT_INT64")])
}

/// A package of functions, each with the tensors that it was shown.
fn package(session: &Session, functions: &[(&str, &Callable, &[Tensor])], folder: &Folder) -> Package {
    let machine = Machine::here(Cpu::Baseline).unwrap();
    let mut builder = Builder::of(session, "model").unwrap();
    for (name, callable, example) in functions {
        let views: Vec<View> = example.iter().map(|t| View::try_from(t).unwrap()).collect();
        builder.function(name, callable, &[views]).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let file = folder.0.join("model.graphc");
    Package::write(builder.compile(machine, WeightsPlace::File, false, None).unwrap(), "model", machine, &file).unwrap();
    // SAFETY: written just now, and by nobody while it is mapped.
    unsafe { Package::open(&file) }.unwrap()
}

fn strings(words: &[&str]) -> Tensor {
    Tensor::from_strings(&[words.len()], words.iter().map(|w| w.as_bytes().into()).collect()).unwrap()
}

fn run(instance: &Instance, function: usize, feeds: &[Tensor]) -> Result<Vec<i64>, graphc::Error> {
    let function_of = instance.model().function(function).unwrap();
    let outputs = aot::ports(function_of.outputs()).unwrap();
    let views: Vec<View> = feeds.iter().map(|t| View::try_from(t).unwrap()).collect();
    Ok(linked::call(instance, function, &outputs, &views)?.remove(0).to_ints().unwrap())
}

#[test]
fn tables_belong_to_instances() {
    let folder = Folder::new("stages-tables");
    let session = Session::open(&dictionary().write(&folder, "dictionary"), SessionOptions::default()).unwrap();
    let callable = |feeds: &[&str], fetch: &str| {
        session.request(&Request::new(feeds.iter().map(|f| format!("{f}:0")), [format!("{fetch}:0")])).unwrap()
    };
    let (fill, ask) = (callable(&["keys", "values"], "size"), callable(&["keys"], "twice"));
    let numbers = |n: &[i64]| Tensor::from_slice(&[n.len()], n).unwrap();
    let shown = [strings(&["left", "behind"]), numbers(&[1, 2])];
    let package = package(&session, &[("fill", &fill, &shown), ("ask", &ask, &shown[..1])], &folder);
    let (one, two) = (package.instance(1).unwrap(), package.instance(2).unwrap());
    // What the examples did to the session is not in the package.
    assert_eq!(run(&one, 1, &shown[..1]).unwrap(), [-2, -2]);
    assert_eq!(run(&one, 0, &[strings(&["a", "", "a b"]), numbers(&[3, 4, 5])]).unwrap(), [3]);
    let asked = [strings(&["a b", "a", "", "b"])];
    assert_eq!(run(&one, 1, &asked).unwrap(), [10, 6, 8, -2]);
    assert_eq!(run(&two, 1, &asked).unwrap(), [-2; 4], "an instance sees what another was told");
    one.reset().unwrap();
    assert_eq!(run(&one, 1, &asked).unwrap(), [-2; 4], "what was inserted stays after a reset");
    let error = run(&one, 0, &[strings(&["a", "b"]), numbers(&[3])]).unwrap_err();
    assert!(error.to_string().contains("\"insert\"") && error.status() == 3, "{error}");
    assert_eq!(run(&one, 0, &[strings(&["a"]), numbers(&[3])]).unwrap(), [1], "an instance does not run after an error");
}

#[test]
fn scripts_are_read_as_they_were_written() {
    let folder = Folder::new("stages-scripts");
    let session = open(&golden("words").join("saved_model"), 1);
    let callable = session.signature(None).unwrap();
    let example = references(&golden("words"))[1].inputs(&callable);
    let package = package(&session, &[("serve", &callable, &example)], &folder);
    let bytes = package.model().script();
    let script = Script::read(bytes).unwrap();
    assert!(script.write().unwrap() == bytes && script.files.keys().eq(["assets/vocabulary.txt"]));
    // Whatever is in them, they are read or refused.
    let mut random = Random(4);
    for cut in 0..bytes.len().min(500) {
        assert!(Script::read(&bytes[..bytes.len() - 1 - cut]).is_err());
    }
    for _ in 0..2000 {
        let mut bad = bytes.to_vec();
        let at = random.below(bad.len());
        bad[at] ^= 1 << random.below(8);
        let _ = Script::read(&bad);
    }
}
