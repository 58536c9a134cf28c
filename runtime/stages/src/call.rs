//! One function of an instance, with its inputs and outputs.

use crate::instance::{self, Instance};
use graphc_abi::model::{STRING, Text};
use graphc_engine::{self as engine, Error, ErrorKind, Function, Port};
use graphc_host::Value;
use graphc_ir::{Elem, Tensor};
use std::ptr;
use std::slice;
use std::sync::atomic::AtomicU32;

/// A function that is being called, as [`engine::Call`]. A function in stages tells the extents of its outputs after a run.
pub struct Call<'i>(Kind<'i>);

enum Kind<'i> {
    /// A function that is compiled as a whole.
    Code(engine::Call<&'i engine::Instance>),
    Stages(Stages<'i>),
}

/// A call of a function in stages.
struct Stages<'i> {
    instance: &'i Instance,
    function: Function,
    body: usize,
    inputs: Vec<Option<Bound>>,
    outputs: Vec<Output>,
}

// SAFETY: the addresses are the caller's or this call's own; a call is used by one thread at a time.
unsafe impl Send for Stages<'_> {}

struct Bound {
    data: *const u8,
    dims: Vec<i64>,
}

#[derive(Default)]
struct Output {
    lent: Option<(*mut u8, usize)>,
    /// What the last run gave.
    value: Option<Tensor>,
    dims: Vec<i64>,
    /// Where the strings of the value lie.
    texts: Vec<Text>,
}

impl<'i> Call<'i> {
    /// A call of a function of the instance's model, by its number.
    ///
    /// # Errors
    /// If the model has no such function.
    pub fn new(instance: &'i Instance, function: usize) -> Result<Call<'i>, Error> {
        let function = instance.model().function(function)?;
        Ok(Call(match function.body() {
            None => Kind::Code(engine::Call::of(&instance.state.code, function)),
            Some(body) => Kind::Stages(Stages {
                instance,
                function,
                body,
                inputs: function.inputs().map(|_| None).collect(),
                outputs: function.outputs().map(|_| Output::default()).collect(),
            }),
        }))
    }

    pub fn function(&self) -> Function {
        match &self.0 {
            Kind::Code(c) => c.function(),
            Kind::Stages(s) => s.function,
        }
    }

    /// As [`engine::Call::set_input`]; strings are an array of [`Text`].
    ///
    /// # Safety
    /// As there.
    ///
    /// # Errors
    /// As there.
    pub unsafe fn set_input(&mut self, index: usize, data: *const u8, dims: &[i64]) -> Result<(), Error> {
        match &mut self.0 {
            // SAFETY: by this function's contract.
            Kind::Code(c) => unsafe { c.set_input(index, data, dims) },
            Kind::Stages(s) => {
                s.function.inputs().nth(index).ok_or_else(|| no_port("input", index))?.check(dims)?;
                *s.inputs.get_mut(index).ok_or_else(|| no_port("input", index))? = Some(Bound { data, dims: dims.to_vec() });
                Ok(())
            }
        }
    }

    /// As [`engine::Call::set_output`]; the output of a function in stages is copied there when the run is over.
    ///
    /// # Safety
    /// As there.
    ///
    /// # Errors
    /// As there, and for strings, which the call keeps.
    pub unsafe fn set_output(&mut self, index: usize, data: *mut u8, bytes: usize) -> Result<(), Error> {
        match &mut self.0 {
            // SAFETY: by this function's contract.
            Kind::Code(c) => unsafe { c.set_output(index, data, bytes) },
            Kind::Stages(s) => {
                let port = s.function.outputs().nth(index).ok_or_else(|| no_port("output", index))?;
                if port.elem() == STRING && !data.is_null() {
                    return Err(Error::invalid(format!("output {:?} is of strings, which the call keeps", port.name())));
                }
                let output = s.outputs.get_mut(index).ok_or_else(|| no_port("output", index))?;
                output.lent = (!data.is_null()).then_some((data, bytes));
                Ok(())
            }
        }
    }

    /// As [`engine::Call::set_workspace`]; functions in stages use none of it.
    ///
    /// # Safety
    /// As there.
    pub unsafe fn set_workspace(&mut self, data: *mut u8, bytes: usize) {
        if let Kind::Code(c) = &mut self.0 {
            // SAFETY: by this function's contract.
            unsafe { c.set_workspace(data, bytes) };
        }
    }

    /// As [`engine::Call::prepare`]; of a function in stages, whether the inputs are there.
    ///
    /// # Errors
    /// As there.
    pub fn prepare(&mut self) -> Result<(), Error> {
        match &mut self.0 {
            Kind::Code(c) => c.prepare(),
            Kind::Stages(s) => s.check(),
        }
    }

    /// As [`engine::Call::workspace_bytes`]; 0 for functions in stages.
    ///
    /// # Errors
    /// As [`Call::prepare`].
    pub fn workspace_bytes(&mut self) -> Result<usize, Error> {
        match &mut self.0 {
            Kind::Code(c) => c.workspace_bytes(),
            Kind::Stages(s) => s.check().map(|()| 0),
        }
    }

    /// As [`engine::Call::output_dims`]; of a function in stages, those of the last run.
    ///
    /// # Errors
    /// As there; `FailedPrecondition` for a function in stages that has not run.
    pub fn output_dims(&mut self, index: usize) -> Result<&[i64], Error> {
        match &mut self.0 {
            Kind::Code(c) => c.output_dims(index),
            Kind::Stages(s) => {
                let output = s.outputs.get(index).ok_or_else(|| no_port("output", index))?;
                let unknown = "the function runs in stages, which tell the extents of outputs after a run";
                if output.value.is_none() {
                    return Err(Error::new(ErrorKind::FailedPrecondition, unknown));
                }
                Ok(&output.dims)
            }
        }
    }

    /// Bytes of an output.
    ///
    /// # Errors
    /// As [`Call::output_dims`].
    pub fn output_bytes(&mut self, index: usize) -> Result<usize, Error> {
        if let Kind::Code(c) = &mut self.0 {
            return c.output_bytes(index);
        }
        let count: i64 = self.output_dims(index)?.iter().product();
        let size = self.function().outputs().nth(index).map_or(0, Port::elem_bytes);
        Ok(usize::try_from(count).unwrap_or(0) * size)
    }

    /// Where an output was written by the last run; null before there was one. Strings are an array of [`Text`].
    pub fn output_data(&self, index: usize) -> *const u8 {
        match &self.0 {
            Kind::Code(c) => c.output_data(index),
            Kind::Stages(s) => s.outputs.get(index).map_or(ptr::null(), Output::data),
        }
    }

    /// As [`engine::Call::run`].
    ///
    /// # Errors
    /// As there.
    pub fn run(&mut self, cancel: Option<&AtomicU32>) -> Result<(), Error> {
        match &mut self.0 {
            Kind::Code(c) => c.run(cancel),
            Kind::Stages(s) => s.run(cancel),
        }
    }
}

fn no_port(what: &str, index: usize) -> Error {
    Error::invalid(format!("the function has no {what} {index}"))
}

impl Stages<'_> {
    fn check(&self) -> Result<(), Error> {
        match self.function.inputs().zip(&self.inputs).find(|(_, i)| i.is_none()) {
            Some((port, _)) => Err(Error::new(ErrorKind::FailedPrecondition, format!("input {:?} is not set", port.name()))),
            None => Ok(()),
        }
    }

    fn run(&mut self, cancel: Option<&AtomicU32>) -> Result<(), Error> {
        self.check()?;
        let bound = self.function.inputs().zip(self.inputs.iter().flatten());
        // SAFETY: callers vouched for what they bound.
        let inputs = bound.map(|(port, b)| unsafe { tensor(port, b) }.map(Value::Tensor)).collect::<Result<_, _>>()?;
        let values = instance::run(&self.instance.state, self.body, inputs, cancel)?;
        for ((output, port), value) in self.outputs.iter_mut().zip(self.function.outputs()).zip(values) {
            match value {
                Value::Tensor(t) => output.set(port, t)?,
                other => {
                    let message = format!("output {:?} is a {}, which cannot be handed out", port.name(), other.elem());
                    return Err(Error::new(ErrorKind::Unimplemented, message));
                }
            }
        }
        Ok(())
    }
}

impl Output {
    fn set(&mut self, port: Port, t: Tensor) -> Result<(), Error> {
        let text = |s: &[u8]| Text { data: s.as_ptr(), size: s.len() };
        self.texts = t.strings().map(|s| s.iter().map(|s| text(s)).collect()).unwrap_or_default();
        self.dims = t.shape().iter().map(|&n| n as i64).collect();
        if let Some((data, given)) = self.lent {
            let bytes = t.bytes();
            if given < bytes.len() {
                let message = format!("output {:?} has {} bytes, {given} were given", port.name(), bytes.len());
                return Err(Error::invalid(message));
            }
            // SAFETY: the caller lent so many bytes.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), data, bytes.len()) };
        }
        self.value = Some(t);
        Ok(())
    }

    fn data(&self) -> *const u8 {
        match (&self.lent, &self.value) {
            (Some((data, _)), _) => *data,
            (None, Some(t)) if t.elem() == Elem::Str => self.texts.as_ptr().cast(),
            (None, Some(t)) => t.bytes().as_ptr(),
            (None, None) => ptr::null(),
        }
    }
}

/// A copy of an input.
///
/// # Safety
/// There are as many elements as the extents say.
unsafe fn tensor(port: Port, bound: &Bound) -> Result<Tensor, Error> {
    let bad = || Error::invalid(format!("input {:?} is not possible", port.name()));
    let shape: Vec<usize> = bound.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>().map_err(|_| bad())?;
    let elem = i32::try_from(port.elem()).ok().and_then(Elem::from_number).ok_or_else(bad)?;
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(bad)?;
    if count == 0 {
        return Tensor::zeros(elem, &shape).ok_or_else(bad);
    }
    let tensor = if elem == Elem::Str {
        // SAFETY: by this function's contract.
        let texts = unsafe { slice::from_raw_parts(bound.data.cast::<Text>(), count) };
        let string = |t: &Text| match t.size {
            0 => Box::default(),
            // SAFETY: as above.
            n => unsafe { slice::from_raw_parts(t.data, n) }.into(),
        };
        Tensor::from_strings(&shape, texts.iter().map(string).collect())
    } else {
        let bytes = count.checked_mul(elem.size()).ok_or_else(Error::memory)?;
        // SAFETY: as above.
        Tensor::from_bytes(elem, shape, unsafe { slice::from_raw_parts(bound.data, bytes) }.to_vec())
    };
    tensor.ok_or_else(bad)
}
