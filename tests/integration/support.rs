//! Models of the repository and beside it, their references, and runs of the command line.

use graphc::compare::compare;
use graphc::{Callable, Elem, Error, Session, SessionOptions, Tensor};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The golden models of the repository.
pub const GOLDEN: [&str; 5] = ["mlp", "small_cnn", "transformer", "recurrent", "basic_pitch"];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of a golden model: `saved_model` and `io_*.npz`.
pub fn golden(name: &str) -> PathBuf {
    root().join("tests/golden").join(name)
}

/// A folder of what lies beside the checkout for its tests; says so if it is not there.
pub fn shared(name: &str) -> Option<PathBuf> {
    let folder = root().join("../shared").join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: there is no {}", folder.display());
    None
}

/// One reference: arrays `in/<name>` and `out/<name>`.
pub struct Reference {
    pub file: String,
    arrays: Vec<(String, Tensor)>,
}

/// The references `io_*.npz` of a folder, in order.
pub fn references(folder: &Path) -> Vec<Reference> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "npz") && p.file_name().unwrap().to_string_lossy().starts_with("io_"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no references in {}", folder.display());
    files.into_iter().map(|f| Reference { file: f.display().to_string(), arrays: graphc::npz::read(&f).unwrap() }).collect()
}

impl Reference {
    fn get(&self, name: &str) -> Option<&Tensor> {
        self.arrays.iter().find(|(n, _)| n == name).map(|(_, t)| t)
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        self.arrays.iter().filter_map(|(n, _)| n.strip_prefix(prefix)).map(str::to_owned).collect()
    }

    /// The inputs in the order of `callable`.
    pub fn inputs(&self, callable: &Callable) -> Vec<Tensor> {
        let input = |name: &str| self.get(&format!("in/{name}")).unwrap_or_else(|| panic!("{}: no in/{name}", self.file));
        callable.inputs().iter().map(|p| input(&p.name).clone()).collect()
    }

    /// What is further from the reference than `rtol` of its scale, in words.
    pub fn differences(&self, callable: &Callable, got: &[Tensor], rtol: f64, how: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut compared = 0;
        for (port, got) in callable.outputs().iter().zip(got) {
            let Some(want) = self.get(&format!("out/{}", port.name)) else { continue };
            compared += 1;
            let d = compare(got, want);
            if !d.within(rtol, 1e-6) {
                wrong.push(format!("{} {} {how}: {d:?}", self.file, port.name));
            }
        }
        assert!(compared > 0, "{}: no output has a reference", self.file);
        wrong
    }
}

/// The model file of a folder: `saved_model`, or the frozen `graph.pb`.
pub fn model_file(folder: &Path) -> PathBuf {
    let saved = folder.join("saved_model");
    if saved.exists() { saved } else { folder.join("graph.pb") }
}

pub fn open(model: &Path, threads: usize) -> Session {
    Session::open(model, SessionOptions { threads, ..SessionOptions::default() })
        .unwrap_or_else(|e| panic!("{}: {e}", model.display()))
}

/// The default signature; in a graph without signatures, what the reference names.
pub fn callable(session: &Session, reference: &Reference) -> Result<Callable, Error> {
    match session.model().unwrap().signatures().next() {
        Some(_) => session.signature(None),
        None => session.callable(&reference.names("in/"), &reference.names("out/"), &[]),
    }
}

/// The default signature of a golden model.
pub fn golden_callable(name: &str, threads: usize) -> Callable {
    open(&golden(name).join("saved_model"), threads).signature(None).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Pseudo-random numbers; equal seeds give equal sequences.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 11) % n.max(1) as u64) as usize
    }

    /// Floats in [-1, 1), integers 0 and 1, strings of up to three words.
    pub fn tensor(&mut self, elem: Elem, shape: &[usize]) -> Tensor {
        let n = shape.iter().product();
        if elem == Elem::Str {
            let word = |r: u64| ["graph", "node", "The", "unknown"][(r >> 62) as usize];
            let mut text = || (0..self.below(4)).map(|_| word(self.next())).collect::<Vec<_>>().join(" ").into_bytes().into();
            return Tensor::from_strings(shape, (0..n).map(|_| text()).collect()).unwrap();
        }
        let integer = !elem.is_float();
        let number = |r: u64| if integer { (r >> 63) as f64 } else { (r >> 11) as f64 / (1u64 << 52) as f64 - 1.0 };
        let values: Vec<f64> = (0..n).map(|_| number(self.next())).collect();
        graphc::tensor_from_reals(elem, shape, &values).unwrap()
    }

    /// Inputs of a callable, with the sizes that `size` gives open dimensions (by input and axis).
    pub fn inputs(&mut self, callable: &Callable, size: &dyn Fn(usize, usize) -> usize) -> Vec<Tensor> {
        let ports = callable.inputs().iter().enumerate();
        ports
            .map(|(k, p)| {
                let dims = p.shape.as_ref().unwrap().iter().enumerate();
                let shape: Vec<usize> = dims.map(|(axis, d)| d.as_const().map_or_else(|| size(k, axis), |c| c as usize)).collect();
                self.tensor(p.elem, &shape)
            })
            .collect()
    }
}

/// How a run of the command line ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    fn of(mut command: Command) -> Ended {
        let out = command.output().unwrap();
        let text = |b: Vec<u8>| String::from_utf8_lossy(&b).into_owned();
        Ended { code: out.status.code(), out: text(out.stdout), err: text(out.stderr) }
    }

    /// Whether the run succeeded, or failed as documented: with an exit code and one line that says why.
    pub fn is_orderly(&self) -> bool {
        match self.code {
            Some(0) => self.err.is_empty(),
            Some(2..=5) => self.err.starts_with("error: ") && self.err.trim_end().lines().count() == 1,
            _ => false,
        }
    }
}

/// Runs `graphc`.
pub fn graphc<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Ended {
    graphc_with(&[], args)
}

/// Runs `graphc` with environment variables.
pub fn graphc_with<S: AsRef<std::ffi::OsStr>>(env: &[(&str, &str)], args: &[S]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_graphc"));
    command.args(args).envs(env.iter().copied());
    Ended::of(command)
}

/// Runs `graphc` with at most 5 seconds of processor time and 4 GiB of address space; more ends it by a signal.
pub fn graphc_limited<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Ended {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -t 5; ulimit -v 4194304; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_graphc")]).args(args);
    Ended::of(command)
}

/// A folder of its own, removed when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("graphc-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
