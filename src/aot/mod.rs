//! Ahead of time: models as objects, libraries, programs and packages.

#[cfg(feature = "gpu-driver")]
mod device;
#[cfg(feature = "gpu-driver")]
mod gpu;
#[cfg(feature = "gpu-driver")]
mod kinds;
mod link;
mod package;
#[cfg(feature = "gpu")]
pub mod ptxas;
mod python;
mod rust;

#[cfg(feature = "gpu-driver")]
pub use device::OnDevice;
#[cfg(feature = "gpu-driver")]
pub use gpu::DeviceCode;
#[cfg(feature = "gpu")]
pub use gpu::Wanted;
#[cfg(feature = "gpu-driver")]
pub use kinds::Kind;
pub use link::{Archive, Linker, archive};
pub use package::Package;
pub use python::wrapper;

use crate::{Callable, Elem, Error, Session, View};
use graphc_cpu::EmitOptions;
use graphc_cpu::object::{self, FunctionSource, ModelSource, ObjectOptions, PortSource, VariableSource, VariantSource};
use graphc_ir::{Dim, Sym};
use graphc_runtime::{Ahead, Part, Scripter};
use std::collections::BTreeSet;

pub use graphc_cpu::header::{c_header, identifier};
pub use graphc_cpu::object::{Object, Report, WeightsPlace};
pub use graphc_cpu::{Cpu, Machine};

/// `graphc.h`, which declares what every object is run by.
pub const API_HEADER: &str = include_str!("../../runtime/staticlib/include/graphc.h");

/// The functions of a model that go into one object.
pub struct Builder {
    source: ModelSource,
    /// Of functions that run in stages.
    scripter: Scripter,
    /// Whether runs of the model change variables.
    stateful: bool,
}

impl Builder {
    /// A model called `name` whose instances begin with what the session's model does before it runs. What of that is not supported is
    /// passed over, as sessions do: reading what it would have left behind says so.
    ///
    /// # Errors
    /// If the model is not valid.
    pub fn of(session: &Session, name: &str) -> Result<Builder, Error> {
        let (functions, variables, stages) = Default::default();
        let source = ModelSource { name: name.to_owned(), functions, initialise: None, variables, stages };
        let mut builder = Builder { source, scripter: Scripter::new(session)?, stateful: session.has_variables()? };
        if let Some(op) = session.model()?.init_op() {
            let ahead = session.callable(&[], &[], &[op.to_owned()]).and_then(|c| c.ahead(None));
            match ahead {
                Ok(a) if a.plan.steps.is_empty() => {}
                Ok(a) => {
                    let variables = &mut builder.source.variables;
                    builder.source.initialise = Some(code(variables, "__initialise", &[], Vec::new(), vec![a])?);
                }
                Err(e) if e.is_unsupported() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(builder)
    }

    /// From now on parts of functions that run in stages are for GPUs, too: see [`DeviceCode::add_parts`].
    #[cfg(feature = "gpu")]
    pub fn for_gpus(&mut self) {
        self.scripter.for_gpus();
    }

    /// The parts of functions that run in stages, so far.
    pub fn parts_mut(&mut self) -> &mut [Part] {
        self.scripter.parts_mut()
    }

    /// Adds a function: compiled for all that its signature leaves open, and where the graph must know more, or assumes what does not hold
    /// for each of the `examples`, for ranks, sizes and values that they show. A graph that cannot be compiled as a whole is run with the
    /// examples, to see what its parts must know.
    ///
    /// # Errors
    /// If the graph cannot be compiled, or must know more and there is no example.
    pub fn function(&mut self, name: &str, callable: &Callable, examples: &[Vec<View>]) -> Result<(), Error> {
        let function = match Ahead::of_all(examples, &mut |feeds| callable.ahead(feeds)) {
            Ok(ahead) => {
                // Functions that come after may need what this one leaves behind.
                if self.stateful {
                    examples.iter().for_each(|feeds| drop(self.scripter.rehearse(callable, feeds)));
                }
                let outputs = outputs(&ahead)?;
                code(&mut self.source.variables, name, callable.inputs(), outputs, ahead)?
            }
            Err(e) => match self.stages(callable, examples)? {
                Some(body) => {
                    let outputs =
                        callable.outputs().iter().map(|p| port(&p.name, p.elem, p.shape.clone())).collect::<Result<_, _>>()?;
                    FunctionSource {
                        body: Some(body),
                        ..code(&mut self.source.variables, name, callable.inputs(), outputs, Vec::new())?
                    }
                }
                None => return Err(e),
            },
        };
        self.source.functions.push(function);
        Ok(())
    }

    /// The body of a function in the script, if it runs in stages. An example that fails shows its parts all the same.
    fn stages(&mut self, callable: &Callable, examples: &[Vec<View>]) -> Result<Option<usize>, Error> {
        let failed = examples.iter().filter_map(|feeds| self.scripter.rehearse(callable, feeds).err()).next();
        self.scripter.function(callable).map_err(|e| failed.unwrap_or(e))
    }

    /// All that goes into the object, the script and its parts too.
    fn finish(self) -> Result<ModelSource, Error> {
        let Builder { mut source, scripter, .. } = self;
        let (script, parts) = scripter.finish()?;
        for part in parts {
            let outputs = outputs(&part.variants)?;
            let part = code(&mut source.variables, &part.name, &part.inputs, outputs, part.variants)?;
            source.stages.parts.push(part);
        }
        if !script.bodies.is_empty() {
            let families: BTreeSet<&str> = script.host_functions().filter_map(|(op, s)| graphc_stages::family_of(op, s)).collect();
            source.stages.families = families.into_iter().collect();
            source.stages.script = script.write().map_err(Error::Compile)?;
        }
        Ok(source)
    }

    /// The runtime's archive that the object will need.
    pub fn archive(&self) -> Archive {
        let stages = self.source.functions.iter().any(|f| f.body.is_some());
        if stages || self.scripter.has_bodies() { Archive::Full } else { Archive::Small }
    }

    /// The header that declares what the object exports.
    pub fn header(&self) -> String {
        c_header(&self.source)
    }

    /// A Rust module for programs that link the object.
    pub fn rust_module(&self) -> String {
        rust::module(&self.source)
    }

    /// Compiles the model for `machine`; with `program`, the object has a main function; with `lines`, line information that refers to a
    /// listing in a file of that name.
    ///
    /// # Errors
    /// If code generation fails.
    pub fn compile(self, machine: Machine, place: WeightsPlace, program: bool, lines: Option<String>) -> Result<Object, Error> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let options = ObjectOptions { machine, place, program, lines, emit: EmitOptions { threads, ..EmitOptions::default() } };
        object::compile_object(self.finish()?, &options).map_err(|e| Error::Compile(e.to_string()))
    }
}

/// A function of compiled code.
fn code(
    known: &mut Vec<VariableSource>,
    name: &str,
    inputs: &[crate::Port],
    outputs: Vec<PortSource>,
    variants: Vec<Ahead>,
) -> Result<FunctionSource, Error> {
    let inputs = inputs.iter().map(|p| port(&p.name, p.elem, p.shape.clone())).collect::<Result<_, _>>()?;
    let variants = variants.into_iter().map(|a| variant(known, a)).collect::<Result<_, _>>()?;
    Ok(FunctionSource { name: name.to_owned(), inputs, outputs, variants, body: None })
}

/// Code of a function; `known` are the variables of the model so far.
fn variant(known: &mut Vec<VariableSource>, a: Ahead) -> Result<VariantSource, Error> {
    let Ahead { plan, feed_of, baked, variables, uses, zero_status, .. } = a;
    let mut numbers = Vec::with_capacity(variables.len());
    for v in variables {
        let at = known.iter().position(|k| k.name == v.name);
        numbers.push(match at {
            Some(k) => k,
            None => {
                let constant = |d: &Dim| d.as_const().and_then(|n| usize::try_from(n).ok());
                let shape: Option<Vec<usize>> = v.ty.shape.iter().map(constant).collect();
                let shape = shape.ok_or_else(|| Error::Compile(format!("variable {:?} has no constant shape", v.name)))?;
                let number = number(&v.name, v.ty.elem)?;
                known.push(VariableSource { name: v.name, elem: v.ty.elem, number, shape, init: v.init });
                known.len() - 1
            }
        });
    }
    // A variable that only a branch may read is asked for before the run.
    let maybe = uses.maybe.iter().map(|&k| (k, graphc_ir::TfStatus::FailedPrecondition));
    let reads = uses.read_first.iter().copied().chain(maybe).filter_map(|(k, s)| Some((*numbers.get(k)?, s))).collect();
    let assigns = uses.assigned.iter().filter_map(|&k| numbers.get(k).copied()).collect();
    Ok(VariantSource { plan, feeds: feed_of, baked, variables: numbers, reads, assigns, zero_status })
}

fn number(name: &str, elem: Elem) -> Result<usize, Error> {
    let number = usize::try_from(elem.number()).ok().filter(|_| elem.size() > 0 || elem == Elem::Str);
    number.ok_or_else(|| Error::Unsupported(format!("{name:?} is a {elem}, which an object cannot hand over")))
}

fn port(name: &str, elem: Elem, shape: Option<Vec<Dim>>) -> Result<PortSource, Error> {
    Ok(PortSource { name: name.to_owned(), elem, number: number(name, elem)?, shape })
}

/// Inputs or outputs of a compiled function, as those of a session are described.
///
/// # Errors
/// If one is of a type that this version does not know.
pub fn ports(ports: impl Iterator<Item = graphc_engine::Port>) -> Result<Vec<crate::Port>, Error> {
    let one = |p: graphc_engine::Port| {
        let elem = i32::try_from(p.elem()).ok().and_then(Elem::from_number);
        let elem = elem.ok_or_else(|| Error::Unsupported(format!("{:?} is of type {}", p.name(), p.elem())))?;
        let dim = |(axis, &d): (usize, &i64)| if d < 0 { Dim::sym(Sym::new(&format!("d{axis}"))) } else { Dim::from(d) };
        let shape = p.dims().map(|dims| dims.iter().enumerate().map(dim).collect());
        Ok(crate::Port { name: p.name().to_owned(), elem, shape })
    };
    ports.map(one).collect()
}

/// The outputs as all variants have them: what one of them leaves open, or two see otherwise, is open.
fn outputs(variants: &[Ahead]) -> Result<Vec<PortSource>, Error> {
    let Some((first, rest)) = variants.split_first() else { return Ok(Vec::new()) };
    let alike = |k: usize| {
        let own = &first.plan.outputs[k].ty.shape;
        rest.iter().all(|v| v.plan.outputs.get(k).is_some_and(|o| o.ty.shape == *own))
    };
    let ports = first.plan.outputs.iter().enumerate();
    ports.map(|(k, o)| port(&o.name, o.ty.elem, alike(k).then(|| o.ty.shape.clone()))).collect()
}
