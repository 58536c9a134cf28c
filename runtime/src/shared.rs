//! What all functions of a session share: the model, opened when it is first needed, and its state.

use crate::callable::{Callable, Wanted};
use crate::error::{Result, StatusCode};
use crate::placement::Policy;
use crate::processor::Processors;
use crate::session::SessionOptions;
use crate::specialise;
use crate::state::{Refused, Variables};
use graphc_engine::Pool;
use graphc_frontend::{Model, Node, OpenOptions, Request};
use graphc_host::{Grant, Host, HostError, Value, VariableStore};
use graphc_ir::Tensor;
use graphc_passes::precision::Precision;
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub struct Shared {
    model: LazyModel,
    pub pool: Pool,
    pub precision: Precision,
    /// Launches that multiply 8-bit integers in what was planned, once anything was.
    pub integer_launches: Mutex<Option<usize>>,
    pub processors: Processors,
    /// How graphs are spread over devices.
    pub policy: Policy,
    pub variables: Variables,
    /// Names of the variables that are not constants; found when first asked for.
    state: OnceLock<BTreeSet<String>>,
    /// Whether the model's initialisation op has run.
    pub initialised: Mutex<bool>,
    /// Tables, queues and all else that host functions keep.
    pub host: Host,
    /// How often a graph that runs in stages was cut anew.
    pub cuts: AtomicUsize,
    /// A node that stands for each variable that graphs run in stages refer to.
    pub variable_nodes: Mutex<HashMap<String, Node>>,
}

/// A model that is opened when it is first asked for: cached code runs without it.
struct LazyModel {
    path: PathBuf,
    options: OpenOptions,
    model: OnceLock<Model>,
    opening: Mutex<()>,
}

impl Shared {
    /// State for a model at `path`, which is not opened yet; the CPU computes.
    pub fn new(path: &Path, options: &SessionOptions) -> Shared {
        let open = OpenOptions {
            tags: (!options.tags.is_empty()).then(|| options.tags.clone()),
            limits: options.limits.clone(),
            check_crc: options.check_crc,
            checkpoint: options.checkpoint.clone(),
        };
        let folder = if path.is_dir() { Some(path) } else { path.parent() };
        let assets = folder.map(|f| Grant::reading(f.join("assets")));
        let grants = assets.into_iter().chain(options.files.iter().map(Grant::writing)).collect();
        Shared {
            model: LazyModel { path: path.to_owned(), options: open, model: OnceLock::new(), opening: Mutex::new(()) },
            pool: Pool::new(options.threads),
            precision: options.precision,
            integer_launches: Mutex::default(),
            processors: Processors::default(),
            policy: Policy::of_cpu(),
            variables: Variables::default(),
            state: OnceLock::new(),
            initialised: Mutex::new(false),
            host: Host { grants, ..Host::default() },
            cuts: AtomicUsize::new(0),
            variable_nodes: Mutex::default(),
        }
    }

    /// State for a model that is open.
    pub fn of(model: Model, options: &SessionOptions) -> Shared {
        let shared = Shared::new(model.file(), options);
        let _ = shared.model.model.set(model);
        shared
    }

    /// The model.
    ///
    /// # Errors
    /// If its files, which are read now unless they were before, are missing or not valid.
    pub fn model(&self) -> Result<&Model> {
        let lazy = &self.model;
        if let Some(m) = lazy.model.get() {
            return Ok(m);
        }
        let _opening = lazy.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(m) = lazy.model.get() {
            return Ok(m);
        }
        let model = Model::open(&lazy.path, &lazy.options)?;
        Ok(lazy.model.get_or_init(|| model))
    }

    /// The file or folder that the model was or will be read from, for messages.
    pub fn file(&self) -> &Path {
        self.model.model.get().map_or(&self.model.path, Model::file)
    }

    /// Names of the variables that a run of the model may change.
    ///
    /// # Errors
    /// As [`Shared::model`].
    pub fn state_variables(&self) -> Result<&BTreeSet<String>> {
        let model = self.model()?;
        Ok(self.state.get_or_init(|| specialise::state_of(model)))
    }

    /// Runs the model's initialisation op, once, before anything else runs. One that asks for what is not supported is passed over:
    /// all that it could leave behind is state, and reading state that nothing made is an error of its own.
    ///
    /// # Errors
    /// If the op fails.
    pub fn initialise(self: &Arc<Shared>) -> Result<()> {
        let mut done = self.initialised.lock().unwrap_or_else(PoisonError::into_inner);
        if *done {
            return Ok(());
        }
        if let Some(op) = self.model()?.init_op() {
            let request = Request { targets: vec![op.to_owned()], ..Request::default() };
            match Callable::new(self.clone(), Wanted::Request(request), None).and_then(|c| c.run(&[])) {
                Err(e) if !e.is_unsupported() => return Err(e),
                _ => {}
            }
        }
        *done = true;
        Ok(())
    }

    /// The value that the model's files have for a variable.
    pub fn stored(&self, name: &str) -> Option<Tensor> {
        let model = self.model().ok()?;
        let variable = model.variables().iter().find(|v| v.name == name && v.stored.is_some())?;
        let raw = model.variable_value(variable).ok()?;
        graphc_frontend::legalise::tensor(&raw, model.limits()).ok()
    }
}

impl Shared {
    /// The value of a variable; `None` if it has none.
    ///
    /// # Errors
    /// If a device has it and does not give it.
    pub fn read(&self, name: &str) -> Result<Option<Value>> {
        Ok(self.variables.read(name)?.or_else(|| self.stored(name).map(Value::Tensor)))
    }
}

impl VariableStore for Shared {
    fn read(&self, name: &str) -> Option<Value> {
        self.read(name).ok().flatten()
    }

    fn assign(&self, name: &str, value: Value) -> Result<(), HostError> {
        let found = format!("{}{:?}", value.elem(), value.shape());
        self.variables.assign(name, value).map_err(|e| match e {
            Refused::Type(elem, shape) => {
                graphc_host::invalid(format!("{found} is assigned to variable {name:?}, which is {elem}{shape:?}"))
            }
            Refused::Memory => HostError::new(StatusCode::ResourceExhausted, format!("no memory for variable {name:?}")),
        })
    }

    fn forget(&self, name: &str) -> bool {
        self.variables.forget(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use graphc_host::Access;

    #[test]
    fn assets_are_read_and_granted_folders_written() {
        let options = SessionOptions { files: vec![PathBuf::from("/scratch")], ..SessionOptions::default() };
        let grants = Shared::new(Path::new("/models/it/graph.pb"), &options).host.grants;
        let all: Vec<_> = grants.iter().map(|g| (g.folder.to_str().unwrap_or_default(), g.access)).collect();
        assert_eq!(all, [("/models/it/assets", Access::Read), ("/scratch", Access::Write)]);
    }
}
