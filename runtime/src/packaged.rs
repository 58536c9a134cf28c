//! Functions on a GPU whose code was made before: nothing here compiles.

use crate::callable::Port;
use crate::error::{Error, Result};
use crate::processor::Engine;
use crate::program::{Mismatch, Program, RunOptions};
use crate::specialise;
use crate::state::{VarPointers, VarUses, Variables};
use crate::view::View;
use graphc_engine::Pool;
use graphc_frontend::legalise::Feed;
use graphc_gpu::Run;
use graphc_host::VariableStore;
use graphc_ir::{Tensor, Var};
use graphc_passes::plan::Plan;
use std::sync::Arc;

/// A function with its code on a device. Any number of threads may run it at once.
pub struct DeviceFunction {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    variants: Vec<Program>,
    pool: Pool,
    variables: Arc<Variables>,
}

/// Code of a function for some shapes.
pub struct Variant {
    /// Its interface; what it does is in `run`.
    pub plan: Plan,
    pub run: Box<dyn Run>,
    /// For each feed the value that was compiled in; such a feed is no input of the code.
    pub baked: Vec<Option<Tensor>>,
    /// The variables that it uses, with the values that they have before any run, and how it does.
    pub variables: Vec<Var>,
    pub uses: VarUses,
}

impl DeviceFunction {
    /// A function that shares `variables` with others.
    ///
    /// # Errors
    /// If there is no memory for a variable.
    pub fn new(inputs: Vec<Port>, outputs: Vec<Port>, variants: Vec<Variant>, variables: Arc<Variables>) -> Result<DeviceFunction> {
        let program = |v: Variant| {
            let feed =
                |(p, value): (&Port, Option<Tensor>)| Feed { name: p.name.clone(), elem: p.elem, shape: p.shape.clone(), value };
            let known = inputs.iter().zip(v.baked).map(feed).collect();
            let pointers = VarPointers::new(&v.variables, &variables, v.uses).ok_or(Error::Memory)?;
            Ok(Program::new((v.plan, Engine::Gpu(v.run)), known, pointers))
        };
        let variants = variants.into_iter().map(program).collect::<Result<_>>()?;
        Ok(DeviceFunction { inputs, outputs, variants, pool: Pool::new(1), variables })
    }

    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Whether there is code for feeds of these shapes.
    pub fn takes(&self, feeds: &[View]) -> bool {
        self.variants.iter().any(|p| p.fits(feeds).is_ok())
    }

    /// Runs and returns the outputs.
    ///
    /// # Errors
    /// If a feed does not fit, there is no code for the shapes, or a launch fails.
    pub fn run(&self, feeds: &[View], options: &mut RunOptions) -> Result<Vec<Tensor>> {
        self.run_with(feeds, None, options)
    }

    /// As [`DeviceFunction::run`], with variables whose values `store` has: they are read before the run, and written after it.
    ///
    /// # Errors
    /// As there, and if the store takes no value.
    pub fn run_on(&self, store: &dyn VariableStore, feeds: &[View], options: &mut RunOptions) -> Result<Vec<Tensor>> {
        self.run_with(feeds, Some(store), options)
    }

    fn run_with(&self, feeds: &[View], store: Option<&dyn VariableStore>, options: &mut RunOptions) -> Result<Vec<Tensor>> {
        if feeds.len() != self.inputs.len() {
            let message = format!("{} feeds for {} inputs", feeds.len(), self.inputs.len());
            return Err(Error::Feed { name: String::new(), message });
        }
        specialise::check_feeds(&self.inputs, feeds)?;
        for p in &self.variants {
            if p.fits(feeds).is_err() {
                continue;
            }
            if let Some(store) = store {
                p.variables().for_each(|(name, _)| self.take(name, store));
            }
            let ran = match p.run(&self.pool, &self.variables, feeds, options) {
                Ok(ran) => Ok(ran),
                Err(Mismatch::Variant) => continue,
                Err(Mismatch::Feed(e)) => Err(e),
            };
            for (name, _) in p.variables().filter(|(_, assigned)| *assigned) {
                if let (Some(store), Some(value)) = (store, self.variables.read(name)?) {
                    store.assign(name, value).map_err(|e| Error::Host {
                        node: String::new(),
                        status: e.status,
                        message: e.message,
                    })?;
                }
            }
            let mut outputs = ran?;
            outputs.truncate(self.outputs.len());
            return Ok(outputs);
        }
        let message = "the package has no code for these shapes or values; compile it with an example of them".to_owned();
        Err(Error::Feed { name: String::new(), message })
    }

    /// Gives a variable the value that a store has.
    fn take(&self, name: &str, store: &dyn VariableStore) {
        // A value of another type is as good as none.
        let taken = store.read(name).is_some_and(|value| self.variables.assign(name, value).is_ok());
        if !taken {
            self.variables.forget(name);
        }
    }
}
