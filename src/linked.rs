//! Functions run as objects: compiled ahead of time, placed in this process, and run by the engine that programs link.

use crate::aot::{Builder, Cpu, Machine, WeightsPlace};
use crate::{Callable, Elem, Error, Session, Tensor, View};
use graphc_abi::model::Text;
use graphc_cpu::object::symbol;
use graphc_cpu::{CompileError, Loaded};
use graphc_engine::{Compute, Model, Options};
use graphc_runtime::Port;
use graphc_stages::{Call, Instance};
use std::marker::PhantomData;

/// What is run: an object of one function, and a name for it.
const NAME: &str = "model";

fn failed(e: CompileError) -> Error {
    Error::Compile(e.to_string())
}

/// Functions of a session as one object in this process, with variables of their own.
pub struct Linked {
    // Dropped before the code that it runs.
    instance: Instance,
    _code: Loaded,
}

impl Linked {
    /// Compiles functions of a session to an object, each for all that its signature leaves open and where it must know more for each of
    /// these feeds. Functions that run in stages are run with the feeds, in the session.
    ///
    /// # Errors
    /// If a graph cannot be compiled.
    pub fn new(session: &Session, functions: &[(&Callable, Vec<&[Tensor]>)]) -> Result<Linked, Error> {
        let mut builder = Builder::of(session, NAME)?;
        for (k, (callable, feeds)) in functions.iter().enumerate() {
            let examples: Vec<Vec<View>> = feeds.iter().map(|f| callable.views(f)).collect::<Result<_, _>>()?;
            builder.function(&format!("f{k}"), callable, &examples)?;
        }
        let object = builder.compile(Machine::here(Cpu::Baseline).map_err(failed)?, WeightsPlace::Embedded, false, None)?;
        // SAFETY: made just now.
        let code = unsafe { Loaded::load(&object.write().map_err(failed)?, graphc_stages::symbols()) }.map_err(failed)?;
        // SAFETY: the symbol is the model's table, and `code` outlives the instance.
        let model = unsafe { Model::new(code.symbol(&symbol(NAME)).map_err(failed)?.cast())? };
        let files = session.writable();
        let files: Vec<&str> = files.iter().filter_map(|f| f.to_str()).collect();
        let options = Options { compute: Compute::Threads(1), weights: None, files: &files };
        // SAFETY: there is no pool and no file of weights.
        let instance = unsafe { Instance::new(model, options)? };
        Ok(Linked { instance, _code: code })
    }

    /// Runs function number `function`, which is `callable`, once on this thread; variables keep what the run assigned.
    ///
    /// # Errors
    /// As [`Callable::run`].
    pub fn run(&self, function: usize, callable: &Callable, feeds: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        call(&self.instance, function, callable.outputs(), &callable.views(feeds)?)
    }
}

/// Compiles `callable` to an object and runs it once.
///
/// # Errors
/// As [`Linked::new`] and [`Linked::run`].
pub fn run(session: &Session, callable: &Callable, feeds: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    Linked::new(session, &[(callable, vec![feeds])])?.run(0, callable, feeds)
}

/// Runs function number `function` of an instance on these feeds; the outputs that are asked for come first.
///
/// # Errors
/// If a feed does not fit, or a node fails.
pub fn call(instance: &Instance, function: usize, outputs: &[Port], feeds: &[View]) -> Result<Vec<Tensor>, Error> {
    let mut fed = Fed::new(instance, function, feeds)?;
    fed.run()?;
    fed.outputs(outputs)
}

/// A function of an instance with its feeds, which runs any number of times in the same memory.
pub struct Fed<'a> {
    call: Call<'a>,
    /// The strings that the call reads.
    _texts: Vec<Vec<Text>>,
    /// What the call reads outlives it.
    feeds: PhantomData<&'a [u8]>,
}

impl<'a> Fed<'a> {
    /// Function number `function` of an instance with these feeds.
    ///
    /// # Errors
    /// If a feed does not fit.
    pub fn new(instance: &'a Instance, function: usize, feeds: &[View<'a>]) -> Result<Fed<'a>, Error> {
        let mut call = Call::new(instance, function)?;
        let mut texts = Vec::with_capacity(feeds.len());
        for (k, (feed, port)) in feeds.iter().zip(call.function().inputs()).enumerate() {
            if usize::try_from(feed.elem().number()) != Ok(port.elem()) {
                let message = format!("{} was given where the model has another type", feed.elem());
                return Err(Error::Feed { name: port.name().to_owned(), message });
            }
            let dims: Vec<i64> = feed.shape().iter().map(|&n| n as i64).collect();
            let data = match feed.strings() {
                Some(strings) => {
                    texts.push(strings.iter().map(|s| Text { data: s.as_ptr(), size: s.len() }).collect::<Vec<_>>());
                    texts.last().map_or(std::ptr::null(), |t| t.as_ptr().cast())
                }
                None => feed.bytes().as_ptr(),
            };
            // SAFETY: a view has as many elements as its shape says, and outlives the call, as the strings do.
            unsafe { call.set_input(k, data, &dims)? };
        }
        Ok(Fed { call, _texts: texts, feeds: PhantomData })
    }

    /// Runs it once.
    ///
    /// # Errors
    /// If a node fails.
    pub fn run(&mut self) -> Result<(), Error> {
        Ok(self.call.run(None)?)
    }

    /// What the last run computed for the first outputs, which are these.
    ///
    /// # Errors
    /// If an output is no tensor.
    pub fn outputs(&mut self, ports: &[Port]) -> Result<Vec<Tensor>, Error> {
        let mut tensors = Vec::with_capacity(ports.len());
        for (k, port) in ports.iter().enumerate() {
            let shape: Option<Vec<usize>> = self.call.output_dims(k)?.iter().map(|&d| usize::try_from(d).ok()).collect();
            let (shape, bytes) = (shape.unwrap_or_default(), self.call.output_bytes(k)?);
            let data = self.call.output_data(k);
            let tensor = if port.elem == Elem::Str {
                // SAFETY: the run left so many strings there.
                let text = |t: &Text| unsafe { bytes_at(t.data, t.size) }.into();
                let count = bytes / size_of::<Text>();
                // SAFETY: as above.
                let texts = if count == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(data.cast(), count) } };
                Tensor::from_strings(&shape, texts.iter().map(text).collect())
            } else {
                // SAFETY: the run wrote so many bytes there.
                Tensor::from_bytes(port.elem, shape, unsafe { bytes_at(data, bytes) }.to_vec())
            };
            tensors.push(tensor.ok_or_else(|| Error::Compile(format!("output {:?} has no tensor", port.name)))?);
        }
        Ok(tensors)
    }
}

/// # Safety
/// There are so many bytes.
unsafe fn bytes_at<'a>(data: *const u8, count: usize) -> &'a [u8] {
    // SAFETY: by this function's contract.
    if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data, count) } }
}
