//! One run of a script.

use crate::instance::State;
use crate::script::{Given, Source, Step, Unit};
use graphc_engine::{Error, ErrorKind};
use graphc_host::{Attrs, Caller, Function, HostError, Resource, StringHandles, TfStatus, Value, VariableStore};
use graphc_ir::Tensor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;

/// Calls within calls that a run may have open.
const MOST_CALLS: usize = 64;

#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub state: &'a State,
    pub step: &'a graphc_host::Step<'a>,
    /// Calls that are open.
    pub depth: usize,
}

type Env = Vec<Option<Value>>;

/// An error of a node; of the run, where that has no name.
pub fn failed(node: &str, e: HostError) -> Error {
    let message = if node.is_empty() { e.message } else { format!("node {node:?}: {}", e.message) };
    Error::new(ErrorKind::from_code(e.status as usize), message)
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("the script of the model: {what}"))
}

impl Run<'_> {
    /// The outputs of a body.
    ///
    /// # Errors
    /// If a node fails, or the run is cancelled.
    pub fn body(self, number: usize, inputs: Vec<Value>) -> Result<Vec<Value>, Error> {
        if self.depth >= MOST_CALLS {
            return Err(Error::new(ErrorKind::Unimplemented, format!("more than {MOST_CALLS} calls within calls")));
        }
        let run = Run { depth: self.depth + 1, ..self };
        let body = self.state.script.bodies.get(number).ok_or_else(|| broken("no such body"))?;
        if body.inputs.len() != inputs.len() {
            return Err(Error::invalid(format!("{} arguments for the {} of a function", inputs.len(), body.inputs.len())));
        }
        let mut env: Env = vec![None; body.places];
        for (&place, value) in body.inputs.iter().zip(inputs) {
            put(&mut env, place, value)?;
        }
        for (place, tensor) in &body.constants {
            put(&mut env, *place, Value::Tensor(tensor.0.clone()))?;
        }
        for step in &body.steps {
            run.one(step, &mut env)?;
            self.step.check().map_err(|e| failed("", e))?;
        }
        run.operands(&body.outputs, &env)
    }

    fn one(self, step: &Step, env: &mut Env) -> Result<(), Error> {
        let (outputs, values) = match step {
            Step::Part { given, units, places } => return self.part(given, units, places, env),
            Step::Missing { status, why } => return Err(Error::new(ErrorKind::from_code(*status as usize), why)),
            Step::Forward { inputs, outputs } => (outputs, self.operands(inputs, env)?),
            Step::Control { node, control, inputs, outputs } => {
                let call = |&body: &usize, inputs| self.body(body, inputs);
                (outputs, control.run(self.operands(inputs, env)?, self.step, call, |e| failed(node, e))?)
            }
            Step::Host { op, of_strings, node, attrs, inputs, outputs } => {
                let inputs = self.operands(inputs, env)?;
                (outputs, self.host(op, *of_strings, node, attrs, &inputs).map_err(|e| failed(node, e))?)
            }
        };
        for &(output, place) in outputs {
            let value = values.get(output).ok_or_else(|| broken("a node with too few outputs"))?;
            put(env, place, value.clone())?;
        }
        Ok(())
    }

    fn host(self, op: &str, of_strings: bool, node: &str, attrs: &Attrs, inputs: &[Value]) -> graphc_host::Result {
        let f = self.state.function(op, of_strings);
        let f = f.ok_or_else(|| graphc_host::unimplemented(format!("{op} has no host function in this program")))?;
        let (host, variables) = (&self.state.host, self.state);
        let call = graphc_host::Call { op, node, attrs, inputs, host, step: self.step, variables, caller: &self };
        // A panic would be a bug of the function; it ends this run, not the process.
        catch_unwind(AssertUnwindSafe(|| f(&call)))
            .unwrap_or_else(|_| Err(graphc_host::internal(format!("the host function of {op} broke off"))))
    }

    fn operands(self, sources: &[Source], env: &Env) -> Result<Vec<Value>, Error> {
        sources.iter().map(|s| self.operand(s, env)).collect()
    }

    fn operand(self, source: &Source, env: &Env) -> Result<Value, Error> {
        let at = |place: usize| env.get(place).and_then(Option::as_ref).ok_or_else(|| broken("a value that nothing has computed"));
        match source {
            Source::Place(place) => at(*place).cloned(),
            Source::Read(place) => match at(*place)? {
                Value::Resource(Resource::Variable(name)) => self.variable(name),
                value => Ok(value.clone()),
            },
            Source::Handle(name) => Ok(Value::Resource(Resource::Variable(name.as_str().into()))),
            Source::Variable(name) => self.variable(name),
        }
    }

    fn variable(self, name: &str) -> Result<Value, Error> {
        self.state.read(name).ok_or_else(|| {
            let message = format!("variable {name:?} is read before it has a value; run what initialises it first");
            Error::new(ErrorKind::FailedPrecondition, message)
        })
    }

    /// Runs the compiled code for the variables that handles stand for.
    fn part(self, given: &[Source], units: &[Unit], places: &[usize], env: &mut Env) -> Result<(), Error> {
        let handle = |s: &Source| match s {
            Source::Place(p) | Source::Read(p) => match env.get(*p) {
                Some(Some(Value::Resource(Resource::Variable(name)))) => Some(name.clone()),
                _ => None,
            },
            Source::Handle(_) | Source::Variable(_) => None,
        };
        let handles: Vec<_> = given.iter().map(handle).collect();
        let fits = |u: &&Unit| {
            u.given.len() == handles.len()
                && u.given.iter().zip(&handles).all(|(g, h)| match (g, h) {
                    (Given::Operand, None) => true,
                    (Given::Variable(name), Some(h)) => **name == **h,
                    _ => false,
                })
        };
        let unit = units.iter().find(fits).ok_or_else(|| {
            let names: Vec<_> = handles.iter().flatten().map(|h| &**h).collect();
            let message = format!("no code was compiled for the variables {names:?}; give an example input that leads to them");
            Error::new(ErrorKind::Unimplemented, message)
        })?;
        let mut strings = StringHandles::new(&unit.strings);
        let mut tensors = Vec::with_capacity(given.len());
        for (source, _) in given.iter().zip(&handles).filter(|(_, h)| h.is_none()) {
            match self.operand(source, env)? {
                Value::Tensor(t) => tensors.push(strings.numbers(&t).map_err(|e| failed("", e))?),
                other => return Err(broken(&format!("code is given a {}", other.elem()))),
            }
        }
        let outputs = self.compute(unit.part, &tensors)?;
        for ((&place, tensor), &of_strings) in places.iter().zip(outputs).zip(&unit.of_strings) {
            let tensor = if of_strings { strings.strings(&tensor).map_err(|e| failed("", e))? } else { tensor };
            put(env, place, Value::Tensor(tensor))?;
        }
        Ok(())
    }

    /// The outputs of a compiled part.
    fn compute(self, part: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        if let Some(there) = self.state.elsewhere.as_ref().and_then(|e| e.run(part, inputs, self.state)) {
            return there;
        }
        let idle = self.state.idle.get(part).ok_or_else(|| broken("no such part"))?;
        let mut call = match idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            Some(call) => call,
            None => self.state.call(part)?,
        };
        for (k, t) in inputs.iter().enumerate() {
            let dims: Vec<i64> = t.shape().iter().map(|&n| n as i64).collect();
            // SAFETY: a tensor has as many bytes as its shape says, and lives until the run is over; the next one binds all anew.
            unsafe { call.set_input(k, t.bytes().as_ptr(), &dims)? };
        }
        let mut memory: Vec<Vec<u8>> = Vec::new();
        for k in 0..call.function().outputs().len() {
            let mut bytes = vec![0; call.output_bytes(k)?];
            // SAFETY: the memory lives until it is taken back below, or the call is dropped with an error.
            unsafe { call.set_output(k, bytes.as_mut_ptr(), bytes.len())? };
            memory.push(bytes);
        }
        call.run(self.step.cancel)?;
        let mut outputs = Vec::with_capacity(memory.len());
        for (k, bytes) in memory.into_iter().enumerate() {
            let shape: Vec<usize> = call.output_dims(k)?.iter().map(|&d| d as usize).collect();
            // SAFETY: null takes the memory back.
            unsafe { call.set_output(k, std::ptr::null_mut(), 0)? };
            let elem = self.state.output_elem(part, k);
            let tensor = elem.and_then(|e| Tensor::from_bytes(e, shape, bytes));
            outputs.push(tensor.ok_or_else(|| broken("an output of a part that is no tensor"))?);
        }
        idle.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        Ok(outputs)
    }
}

impl Caller for Run<'_> {
    fn call(&self, function: &Function, inputs: Vec<Value>, step: &graphc_host::Step<'_>) -> graphc_host::Result {
        let body = self.state.script.functions.iter().find(|(f, _)| f == function).map(|(_, body)| *body);
        let missing = || graphc_host::unimplemented(format!("the function {:?} was not compiled", function.name));
        let run = Run { state: self.state, step, depth: self.depth };
        run.body(body.ok_or_else(missing)?, inputs)
            .map_err(|e| HostError::new(TfStatus::from_code(e.kind as i32).unwrap_or(TfStatus::Internal), e.message))
    }
}

fn put(env: &mut Env, place: usize, value: Value) -> Result<(), Error> {
    *env.get_mut(place).ok_or_else(|| broken("no such place"))? = Some(value);
    Ok(())
}
