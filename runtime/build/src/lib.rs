//! Compiles models in build scripts.
//!
//! ```no_run
//! // In the main function of build.rs:
//! graphc_build::Model::new("models/mlp").compile("mlp");
//! ```
//!
//! The program then says `graphc_model::include_model!(mlp)`. Models are compiled by the command `graphc`, which is found in the path or
//! named by the environment variable `GRAPHC`: a build script that linked the compiler would compile it first.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// A model to compile.
pub struct Model {
    path: PathBuf,
    arguments: Vec<String>,
}

impl Model {
    /// A SavedModel folder, GraphDef or MetaGraphDef; a relative path is one from the package's folder.
    pub fn new(path: impl AsRef<Path>) -> Model {
        Model { path: path.as_ref().to_owned(), arguments: Vec::new() }
    }

    /// Compiles this signature in the place of the default one.
    #[must_use]
    pub fn signature(self, name: &str) -> Model {
        self.argument("--signature").argument(name)
    }

    /// Compiles all signatures.
    #[must_use]
    pub fn all_signatures(self) -> Model {
        self.argument("--all-signatures")
    }

    /// Gives an example of the inputs, an npz file: for a model that must know more of them to be compiled.
    #[must_use]
    pub fn example(self, inputs: &str) -> Model {
        self.argument("--input").argument(inputs)
    }

    /// Adds an argument of `graphc compile`, such as `--precision` and then `bf16`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Model {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Compiles the model for the target of the build, links it, and makes the module `name`. What goes wrong is told, and ends the build.
    pub fn compile(self, name: &str) {
        if let Err(message) = self.try_compile(name) {
            eprintln!("graphc: {message}");
            exit(1);
        }
    }

    fn try_compile(self, name: &str) -> Result<(), String> {
        let variable = |name: &str| env::var(name).map_err(|_| format!("{name} is not set; this runs in a build script"));
        let (out, target) = (PathBuf::from(variable("OUT_DIR")?), variable("TARGET")?);
        println!("cargo:rerun-if-env-changed=GRAPHC");
        println!("cargo:rerun-if-changed={}", self.path.display());
        let graphc = env::var("GRAPHC").unwrap_or_else(|_| "graphc".to_owned());
        let library = out.join(format!("lib{name}.a"));
        let mut command = Command::new(&graphc);
        command.arg("compile").arg(&self.path).args(["--emit", "rust", "--name", name, "--target", &target]);
        command.args(&self.arguments).arg("-o").arg(&library);
        let done = command.output().map_err(|e| {
            format!("cannot run {graphc:?}: {e}; install graphc (`cargo install --path .` in its repository), or name it by GRAPHC")
        })?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).trim().to_owned());
        }
        println!("cargo:rustc-link-search=native={}", out.display());
        println!("cargo:rustc-link-lib=static={name}");
        Ok(())
    }
}
