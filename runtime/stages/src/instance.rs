//! A model's state, for functions in stages too.

use crate::families::Functions;
use crate::run::{Run, failed};
use crate::script::Script;
use graphc_engine::{self as engine, Error, ErrorKind, Model, Options};
use graphc_host::{Grant, Host, HostError, HostFn, Value, VariableStore};
use graphc_ir::{Elem, Tensor};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What computes some of a model's parts elsewhere.
pub trait Parts: Send + Sync {
    /// The outputs of a part, with the variables of the instance; `None` if it is not one of them.
    fn run(&self, part: usize, inputs: &[Tensor], variables: &dyn VariableStore) -> Option<Result<Vec<Tensor>, Error>>;
}

/// A model with state of its own. Any number of threads may run its calls.
pub struct Instance {
    pub(crate) state: State,
}

type PartCall = engine::Call<Arc<engine::Instance>>;

/// What all runs of an instance share.
pub struct State {
    pub code: Arc<engine::Instance>,
    pub script: Script,
    pub host: Host,
    functions: Functions,
    /// Values of variables that no compiled code holds.
    loose: Mutex<HashMap<String, Value>>,
    /// For each part, calls that no run is using.
    pub idle: Vec<Mutex<Vec<PartCall>>>,
    pub elsewhere: Option<Box<dyn Parts>>,
}

fn mismatch() -> Error {
    Error::new(ErrorKind::Internal, "the tables of the model do not fit its script")
}

impl Instance {
    /// # Safety
    /// As [`engine::Instance::new`].
    ///
    /// # Errors
    /// As there, and if what the model does before it runs fails.
    pub unsafe fn new(model: Model, options: Options) -> Result<Instance, Error> {
        let damaged = |e| Error::new(ErrorKind::DataLoss, format!("the script of the model: {e}"));
        let mut script = Script::read(model.script()).map_err(damaged)?;
        let grants = options.files.iter().map(Grant::writing).collect();
        // SAFETY: by this function's contract.
        let code = Arc::new(unsafe { engine::Instance::new(model, options)? });
        // SAFETY: the object's tables refer to what this crate exports.
        let functions = unsafe { Functions::of(model.families()) };
        let idle = model.parts().map(|_| Mutex::default()).collect();
        let host = Host { files: std::mem::take(&mut script.files), grants, ..Host::default() };
        let instance = Instance { state: State { code, script, host, functions, loose: Mutex::default(), idle, elsewhere: None } };
        instance.initialise()?;
        Ok(instance)
    }

    /// The instance, with some of its parts computed elsewhere from now on.
    #[must_use]
    pub fn with_parts(mut self, parts: Box<dyn Parts>) -> Instance {
        self.state.elsewhere = Some(parts);
        self
    }

    /// The values of its variables.
    pub fn variables(&self) -> &dyn VariableStore {
        &self.state
    }

    fn initialise(&self) -> Result<(), Error> {
        match self.state.script.initialise {
            Some(body) => {
                let step = graphc_host::Step::default();
                Run { state: &self.state, step: &step, depth: 0 }.body(body, Vec::new()).map(drop)
            }
            None => Ok(()),
        }
    }

    pub fn model(&self) -> Model {
        self.state.code.model()
    }

    /// Number of threads that compute.
    pub fn threads(&self) -> usize {
        self.state.code.threads()
    }

    /// Gives every variable its first value again, and empties tables and queues.
    ///
    /// # Errors
    /// If what the model does before it runs fails.
    pub fn reset(&self) -> Result<(), Error> {
        self.state.loose.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.state.host.resources.clear_all();
        self.state.host.nodes.clear_all();
        self.state.code.reset()?;
        self.initialise()
    }
}

impl State {
    /// The host function of an op, if the program has it.
    pub fn function(&self, op: &str, of_strings: bool) -> Option<HostFn> {
        self.functions.find(op, of_strings)
    }

    /// A new call of a compiled part.
    pub fn call(&self, part: usize) -> Result<PartCall, Error> {
        let function = self.code.model().parts().nth(part).ok_or_else(mismatch)?;
        Ok(engine::Call::of(self.code.clone(), function))
    }

    /// The type of elements of an output of a part.
    pub fn output_elem(&self, part: usize, output: usize) -> Option<Elem> {
        let port = self.code.model().parts().nth(part)?.outputs().nth(output)?;
        Elem::from_number(i32::try_from(port.elem()).ok()?)
    }

    /// The value that compiled code keeps for a variable.
    fn kept(&self, name: &str) -> Option<Tensor> {
        let k = self.code.find_variable(name)?;
        let (elem, dims) = self.code.variable_type(k)?;
        let shape: Option<Vec<usize>> = dims.iter().map(|&d| usize::try_from(d).ok()).collect();
        Tensor::from_bytes(Elem::from_number(i32::try_from(elem).ok()?)?, shape?, self.code.read_variable(k)?)
    }
}

impl VariableStore for State {
    fn read(&self, name: &str) -> Option<Value> {
        let loose = self.loose.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let first = || self.script.variables.get(name).map(|t| t.0.clone());
        loose.or_else(|| self.kept(name).or_else(first).map(Value::Tensor))
    }

    fn assign(&self, name: &str, value: Value) -> Result<(), HostError> {
        let Some(k) = self.code.find_variable(name) else {
            self.loose.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), value);
            return Ok(());
        };
        let (elem, dims) = self.code.variable_type(k).unwrap_or_default();
        let same = |t: &Tensor| t.elem().number() as usize == elem && t.shape().iter().map(|&n| n as i64).eq(dims.iter().copied());
        match &value {
            Value::Tensor(t) if same(t) && self.code.assign_variable(k, t.bytes()) => Ok(()),
            v => {
                let (found, shape) = (v.elem(), v.shape());
                Err(graphc_host::invalid(format!(
                    "{found}{shape:?} is assigned to variable {name:?}, which is of another type or shape"
                )))
            }
        }
    }

    fn forget(&self, name: &str) -> bool {
        let loose = self.loose.lock().unwrap_or_else(PoisonError::into_inner).remove(name).is_some();
        self.code.find_variable(name).is_some_and(|k| self.code.forget_variable(k)) || loose
    }
}

/// The outputs of a body that a caller runs.
pub fn run(
    state: &State,
    body: usize,
    inputs: Vec<Value>,
    cancel: Option<&std::sync::atomic::AtomicU32>,
) -> Result<Vec<Value>, Error> {
    let step = graphc_host::Step { cancel, ..graphc_host::Step::default() };
    step.check().map_err(|e| failed("", e))?;
    Run { state, step: &step, depth: 0 }.body(body, inputs)
}
