//! Compiled programs that are kept in files: the same answers, whatever happens to the files.

use crate::support::*;
use graphc::{Callable, Session, SessionOptions, Tensor};
use std::path::{Path, PathBuf};

/// The files of a folder, sorted.
fn files(folder: &Folder) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder.0).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

fn open(model: &Path, cache: &Folder) -> Callable {
    let options = SessionOptions { cache: Some(cache.0.clone()), ..SessionOptions::default() };
    Session::open(&model.join("saved_model"), options).unwrap().signature(None).unwrap()
}

fn same(a: &[Tensor], b: &[Tensor]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x == y)
}

#[test]
fn kept_programs_answer_as_new_ones() {
    for name in GOLDEN {
        let cache = Folder::new(&format!("cache-{name}"));
        let inputs = Random(5).inputs(&golden_callable(name, 1), &|_, axis| if axis == 0 { 3 } else { 6 });
        let want = golden_callable(name, 1).run_tensors(&inputs).unwrap();
        let first = open(&golden(name), &cache).run_tensors(&inputs).unwrap();
        let kept_files = files(&cache);
        assert!(!kept_files.is_empty(), "{name}: nothing was kept");
        let kept = open(&golden(name), &cache);
        assert_eq!(kept.variants(), kept_files.len(), "{name} is not taken from the cache");
        assert!(same(&first, &want) && same(&kept.run_tensors(&inputs).unwrap(), &want), "{name}: other values");
        assert_eq!(files(&cache), kept_files, "{name} was compiled again");
    }
}

#[test]
fn timed_choices_are_kept() {
    let cache = Folder::new("cache-tuned");
    let folder = golden("small_cnn");
    let open = || {
        let options = SessionOptions { cache: Some(cache.0.clone()), tune: true, ..SessionOptions::default() };
        Session::open(&folder.join("saved_model"), options).unwrap().signature(None).unwrap()
    };
    let choices = || files(&cache).into_iter().find(|f| f.extension().is_some_and(|e| e == "txt")).map(std::fs::read_to_string);
    let mut first = None;
    for _ in 0..2 {
        let callable = open();
        for reference in references(&folder) {
            let got = callable.run_tensors(&reference.inputs(&callable)).unwrap();
            let wrong = reference.differences(&callable, &got, 1e-4, "small_cnn");
            assert!(wrong.is_empty(), "{wrong:?}");
        }
        let text = choices().expect("no choices were kept").unwrap();
        assert!(text.lines().count() > 0);
        assert_eq!(*first.get_or_insert_with(|| text.clone()), text, "chosen again");
    }
}

#[test]
fn files_that_are_damaged_are_not_used() {
    let cache = Folder::new("cache-damaged");
    let model = golden("mlp");
    let inputs = Random(6).inputs(&golden_callable("mlp", 1), &|_, _| 4);
    let want = open(&model, &cache).run_tensors(&inputs).unwrap();
    let file = files(&cache).remove(0);
    let whole = std::fs::read(&file).unwrap();
    let flips = (0..whole.len()).step_by(whole.len() / 61 + 1).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        bytes
    });
    let cuts = [0, 7, 19, 100, whole.len() / 2, whole.len() - 1].into_iter().map(|n| whole[..n].to_vec());
    for bytes in flips.chain(cuts) {
        std::fs::write(&file, &bytes).unwrap();
        assert!(same(&open(&model, &cache).run_tensors(&inputs).unwrap(), &want));
        files(&cache).iter().for_each(|f| std::fs::remove_file(f).unwrap());
    }
}

#[test]
fn a_changed_model_is_compiled_anew() {
    let (cache, place) = (Folder::new("cache-changed"), Folder::new("cache-model"));
    let copy = |name: &str| {
        for folder in ["saved_model", "saved_model/variables"] {
            std::fs::create_dir_all(place.0.join(folder)).unwrap();
            for entry in std::fs::read_dir(golden(name).join(folder)).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    std::fs::copy(entry.path(), place.0.join(folder).join(entry.file_name())).unwrap();
                }
            }
        }
    };
    for name in ["mlp", "small_cnn", "mlp"] {
        copy(name);
        let want = golden_callable(name, 1);
        let inputs = Random(7).inputs(&want, &|_, _| 2);
        let got = open(&place.0, &cache).run_tensors(&inputs).unwrap();
        assert!(same(&got, &want.run_tensors(&inputs).unwrap()), "the answers are not those of {name}");
    }
}

#[test]
fn many_may_write_and_read_at_once() {
    let cache = Folder::new("cache-many");
    let inputs = Random(8).inputs(&golden_callable("mlp", 1), &|_, _| 3);
    let want = golden_callable("mlp", 1).run_tensors(&inputs).unwrap();
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                for _ in 0..4 {
                    assert!(same(&open(&golden("mlp"), &cache).run_tensors(&inputs).unwrap(), &want));
                }
            });
        }
    });
    assert!(files(&cache).iter().all(|f| f.extension().is_some_and(|e| e == "graphc")), "parts are left");
}
