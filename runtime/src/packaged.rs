//! Functions on a GPU whose code was made before: nothing here compiles.

use crate::callable::Port;
use crate::error::{Error, Result};
use crate::processor::Engine;
use crate::program::{Mismatch, Program, RunOptions};
use crate::specialise;
use crate::state::{VarPointers, Variables};
use crate::view::View;
use graphc_engine::Pool;
use graphc_frontend::legalise::Feed;
use graphc_gpu::Run;
use graphc_ir::Tensor;
use graphc_passes::plan::Plan;

/// A function with its code on a device. Any number of threads may run it at once.
pub struct DeviceFunction {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    variants: Vec<Program>,
    pool: Pool,
    /// None; what runs asks for them all the same.
    variables: Variables,
}

/// Code of a function for some shapes.
pub struct Variant {
    /// Its interface; what it does is in `run`.
    pub plan: Plan,
    pub run: Box<dyn Run>,
    /// For each feed the value that was compiled in; such a feed is no input of the code.
    pub baked: Vec<Option<Tensor>>,
}

impl DeviceFunction {
    pub fn new(inputs: Vec<Port>, outputs: Vec<Port>, variants: Vec<Variant>) -> DeviceFunction {
        let program = |v: Variant| {
            let feed =
                |(p, value): (&Port, Option<Tensor>)| Feed { name: p.name.clone(), elem: p.elem, shape: p.shape.clone(), value };
            let known = inputs.iter().zip(v.baked).map(feed).collect();
            Program::new((v.plan, Engine::Gpu(v.run)), known, VarPointers::none())
        };
        let variants = variants.into_iter().map(program).collect();
        DeviceFunction { inputs, outputs, variants, pool: Pool::new(1), variables: Variables::default() }
    }

    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Runs and returns the outputs.
    ///
    /// # Errors
    /// If a feed does not fit, there is no code for the shapes, or a launch fails.
    pub fn run(&self, feeds: &[View], options: &mut RunOptions) -> Result<Vec<Tensor>> {
        if feeds.len() != self.inputs.len() {
            let message = format!("{} feeds for {} inputs", feeds.len(), self.inputs.len());
            return Err(Error::Feed { name: String::new(), message });
        }
        specialise::check_feeds(&self.inputs, feeds)?;
        for p in &self.variants {
            match p.run(&self.pool, &self.variables, feeds, options) {
                Ok(mut outputs) => {
                    outputs.truncate(self.outputs.len());
                    return Ok(outputs);
                }
                Err(Mismatch::Variant) => {}
                Err(Mismatch::Feed(e)) => return Err(e),
            }
        }
        let message = "the package has no code for these shapes or values; compile it with an example of them".to_owned();
        Err(Error::Feed { name: String::new(), message })
    }
}
