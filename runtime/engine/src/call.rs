//! One function of an instance, with its inputs, outputs and memory.

use crate::error::{Error, ErrorKind};
use crate::instance::Instance;
use crate::memory::Memory;
use crate::model::{Function, Port, text};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Deref;
use core::ptr;
use core::sync::atomic::AtomicU32;
use graphc_abi::model::Variant;
use graphc_abi::{ALIGN, Ctx, ErrorRecord, SCRATCH_BYTES, Status, TAIL_BYTES};

/// A function that is being called: inputs are bound, then sizes are known, then it runs, any number of times.
///
/// Memory of a call is its own unless the caller gives some; a run whose shapes are those of the last one allocates nothing.
///
/// `I` is what leads to the instance: a reference, or a pointer that shares it.
pub struct Call<I> {
    instance: I,
    function: Function,
    inputs: Vec<Bound>,
    outputs: Vec<Output>,
    /// What was found out for the bound shapes; unset when one changes.
    sized: Option<&'static Variant>,
    symbols: Vec<i64>,
    /// Bytes of the arena, then the extents of the outputs.
    sizes: Vec<i64>,
    own: Option<Memory>,
    lent: Option<(*mut u8, usize)>,
    addresses: Addresses,
}

// SAFETY: the addresses are the caller's or this call's own; a call is used by one thread at a time.
unsafe impl<I: Send> Send for Call<I> {}

/// What the code is handed, kept so that a run allocates nothing.
#[derive(Default)]
struct Addresses {
    dims: Vec<*const i64>,
    inputs: Vec<*const u8>,
    outputs: Vec<*mut u8>,
    variables: Vec<*mut u8>,
}

struct Bound {
    data: *const u8,
    dims: Vec<i64>,
    set: bool,
}

#[derive(Default)]
struct Output {
    dims: Vec<i64>,
    bytes: usize,
    own: Option<Memory>,
    lent: Option<(*mut u8, usize)>,
}

impl<I: Deref<Target = Instance>> Call<I> {
    /// A call of a function of the instance's model, by its number.
    ///
    /// # Errors
    /// If the model has no such function, or runs it in stages.
    pub fn new(instance: I, function: usize) -> Result<Call<I>, Error> {
        let function = instance.model().function(function)?;
        match function.body() {
            None => Ok(Call::of(instance, function)),
            Some(_) => {
                let message =
                    format!("{:?} runs in stages; link libgraphc_rt_full.a in the place of libgraphc_rt.a", function.name());
                Err(Error::new(ErrorKind::FailedPrecondition, message))
            }
        }
    }

    /// A call of a compiled function or part of the instance's model.
    pub fn of(instance: I, function: Function) -> Call<I> {
        let unbound = || Bound { data: ptr::null(), dims: Vec::new(), set: false };
        Call {
            instance,
            function,
            inputs: function.inputs().map(|_| unbound()).collect(),
            outputs: function.outputs().map(|_| Output::default()).collect(),
            sized: None,
            symbols: Vec::new(),
            sizes: Vec::new(),
            own: None,
            lent: None,
            addresses: Addresses::default(),
        }
    }

    pub fn function(&self) -> Function {
        self.function
    }

    /// Binds an input, row-major. It is read in each run from now on, not copied.
    ///
    /// # Safety
    /// `data` holds as many elements as `dims` say in every run that reads it.
    ///
    /// # Errors
    /// If there is no such input, or a tensor of these extents cannot be it.
    pub unsafe fn set_input(&mut self, index: usize, data: *const u8, dims: &[i64]) -> Result<(), Error> {
        let port = self.function.inputs().nth(index).ok_or_else(|| self.no_port("input", index, self.inputs.len()))?;
        port.check(dims)?;
        let Some(input) = self.inputs.get_mut(index) else { return Err(Error::invalid("no such input")) };
        if !input.set || input.dims != dims {
            input.dims.clear();
            input.dims.extend_from_slice(dims);
            self.sized = None;
        }
        // Values may be compiled in: they are looked at when sizes are found.
        if self.sized.is_some_and(|v| baked(v).iter().any(|b| b.input == index)) {
            self.sized = None;
        }
        (input.data, input.set) = (data, true);
        Ok(())
    }

    /// Binds memory for an output; without it the call has its own. Null undoes it.
    ///
    /// # Safety
    /// `bytes` bytes at `data` may be written in every run from now on.
    ///
    /// # Errors
    /// If there is no such output.
    pub unsafe fn set_output(&mut self, index: usize, data: *mut u8, bytes: usize) -> Result<(), Error> {
        let count = self.outputs.len();
        let none = self.no_port("output", index, count);
        let output = self.outputs.get_mut(index).ok_or(none)?;
        output.lent = (!data.is_null()).then_some((data, bytes));
        Ok(())
    }

    /// Binds working memory; without it the call has its own. Null undoes it.
    ///
    /// # Safety
    /// `bytes` bytes at `data` may be written in every run from now on, and nobody else uses them meanwhile.
    pub unsafe fn set_workspace(&mut self, data: *mut u8, bytes: usize) {
        self.lent = (!data.is_null()).then_some((data, bytes));
    }

    fn no_port(&self, what: &str, index: usize, count: usize) -> Error {
        Error::invalid(format!("{what} {index} of {:?}, which has {count}", self.function.name()))
    }

    /// Chooses the code for the bound inputs, and works out the extents of the outputs and the memory of a run.
    ///
    /// # Errors
    /// If an input is not bound, or no code takes their extents.
    pub fn prepare(&mut self) -> Result<(), Error> {
        if self.sized.is_some() {
            return Ok(());
        }
        if let Some((port, _)) = self.function.inputs().zip(&self.inputs).find(|(_, i)| !i.set) {
            return Err(Error::new(ErrorKind::FailedPrecondition, format!("input {:?} is not set", port.name())));
        }
        let mut misfit = None;
        for variant in self.function.variants() {
            match self.fit(variant)? {
                Ok(()) => {
                    self.sized = Some(variant);
                    return Ok(());
                }
                Err(why) => misfit = misfit.or(Some(why)),
            }
        }
        let why = misfit.map_or_else(String::new, |m| self.why(m));
        Err(Error::invalid(format!("{:?} was not compiled for these inputs: {why}", self.function.name())))
    }

    fn why(&self, misfit: Misfit) -> String {
        let name = |input| self.function.inputs().nth(input).map_or("", Port::name);
        match misfit {
            Misfit::Dims(input) => {
                let port = self.function.inputs().nth(input);
                let dims = self.inputs.get(input).map_or(&[][..], |i| &i.dims);
                port.map_or_else(String::new, |p| p.misfit(dims))
            }
            Misfit::Value(input) => format!("the value of input {:?} was compiled in, and is another one", name(input)),
        }
    }

    /// Sizes for a variant, or the input that it does not take.
    fn fit(&mut self, variant: &'static Variant) -> Result<Result<(), Misfit>, Error> {
        // SAFETY: tables that a compiler wrote.
        let (feeds, ranks, output_ranks) =
            unsafe { (variant.feeds.as_slice(), variant.feed_ranks.as_slice(), variant.output_ranks.as_slice()) };
        let broken = || Error::new(ErrorKind::Internal, "the tables of the model do not fit together");
        for b in baked(variant) {
            let input = self.inputs.get(b.input).ok_or_else(broken)?;
            // SAFETY: as above; the caller promised as many bytes as the extents say.
            let same = unsafe {
                b.dims.as_slice() == input.dims.as_slice()
                    && (b.bytes.count == 0 || core::slice::from_raw_parts(input.data, b.bytes.count) == b.bytes.as_slice())
            };
            if !same {
                return Ok(Err(Misfit::Value(b.input)));
            }
        }
        self.addresses.dims.clear();
        for (&feed, &rank) in feeds.iter().zip(ranks) {
            let input = self.inputs.get(feed).ok_or_else(broken)?;
            if input.dims.len() != rank {
                return Ok(Err(Misfit::Dims(feed)));
            }
            self.addresses.dims.push(input.dims.as_ptr());
        }
        self.symbols.clear();
        self.symbols.resize(variant.symbols, 0);
        self.sizes.clear();
        self.sizes.resize(1 + output_ranks.iter().sum::<usize>(), 0);
        // SAFETY: each address has as many extents as the rank that the code was compiled for, and the results have room.
        let at = unsafe { (variant.bind)(self.addresses.dims.as_ptr(), self.symbols.as_mut_ptr(), self.sizes.as_mut_ptr()) };
        if at != 0 {
            let feed = usize::try_from(at - 1).ok().and_then(|k| feeds.get(k)).copied();
            return Ok(Err(Misfit::Dims(feed.unwrap_or(0))));
        }
        let mut extents = self.sizes.iter().skip(1);
        for ((output, port), &rank) in self.outputs.iter_mut().zip(self.function.outputs()).zip(output_ranks) {
            output.dims.clear();
            output.dims.extend(extents.by_ref().take(rank));
            let bytes = output.dims.iter().try_fold(port.elem_bytes(), |n, &d| n.checked_mul(usize::try_from(d).ok()?));
            output.bytes = bytes.ok_or_else(Error::memory)?;
        }
        Ok(Ok(()))
    }

    /// The extents of an output for the inputs that are bound.
    ///
    /// # Errors
    /// As [`Call::prepare`], and if there is no such output.
    pub fn output_dims(&mut self, index: usize) -> Result<&[i64], Error> {
        self.prepare()?;
        let none = self.no_port("output", index, self.outputs.len());
        self.outputs.get(index).map(|o| o.dims.as_slice()).ok_or(none)
    }

    /// Bytes of an output.
    ///
    /// # Errors
    /// As [`Call::output_dims`].
    pub fn output_bytes(&mut self, index: usize) -> Result<usize, Error> {
        self.output_dims(index)?;
        Ok(self.outputs.get(index).map_or(0, |o| o.bytes))
    }

    /// Where an output was written by the last run; null before there was one.
    pub fn output_data(&self, index: usize) -> *const u8 {
        match self.outputs.get(index) {
            Some(Output { lent: Some((data, _)), .. }) => *data,
            Some(Output { own: Some(m), .. }) => m.as_mut_ptr(),
            _ => ptr::null(),
        }
    }

    /// Bytes of working memory that a run needs with the inputs that are bound.
    ///
    /// # Errors
    /// As [`Call::prepare`].
    pub fn workspace_bytes(&mut self) -> Result<usize, Error> {
        self.prepare()?;
        let arena = self.sizes.first().and_then(|&n| usize::try_from(n).ok());
        let scratch = self.instance.threads().checked_mul(SCRATCH_BYTES);
        let whole = arena.zip(scratch).and_then(|(a, s)| a.checked_next_multiple_of(ALIGN)?.checked_add(s));
        whole.and_then(|n| n.checked_add(TAIL_BYTES + ALIGN)).ok_or_else(Error::memory)
    }

    /// Runs the function.
    ///
    /// # Errors
    /// As [`Call::prepare`]; if there is no memory, the caller's memory is too small, a variable has no value, or a node fails.
    pub fn run(&mut self, cancel: Option<&AtomicU32>) -> Result<(), Error> {
        let bytes = self.workspace_bytes()?;
        let Some(variant) = self.sized else { return Err(Error::new(ErrorKind::Internal, "no code was chosen")) };
        let workspace = self.workspace(bytes)?;
        // SAFETY: tables that a compiler wrote.
        let (feeds, variables, reads, assigns) = unsafe {
            (variant.feeds.as_slice(), variant.variables.as_slice(), variant.reads.as_slice(), variant.assigns.as_slice())
        };
        let a = &mut self.addresses;
        a.inputs.clear();
        a.inputs.extend(feeds.iter().filter_map(|&k| self.inputs.get(k)).map(|i| i.data));
        a.outputs.clear();
        for (k, output) in self.outputs.iter_mut().enumerate() {
            let data = match output.lent {
                Some((_, given)) if given < output.bytes => {
                    let name = self.function.outputs().nth(k).map_or("", Port::name);
                    let message = format!("output {name:?} has {} bytes, {given} were given", output.bytes);
                    return Err(Error::invalid(message));
                }
                Some((data, _)) => data,
                None => {
                    if output.own.as_ref().is_none_or(|m| m.len() < output.bytes) {
                        output.own = Some(Memory::new(output.bytes).ok_or_else(Error::memory)?);
                    }
                    output.own.as_ref().map_or(ptr::null_mut(), Memory::as_mut_ptr)
                }
            };
            a.outputs.push(data);
        }
        let held = (!variables.is_empty()).then(|| self.instance.hold_state());
        reads.iter().try_for_each(|r| self.instance.needs(r.variable, r.status))?;
        a.variables.clear();
        a.variables.extend(variables.iter().map(|&k| self.instance.variable(k)));
        let weights = self.instance.weights_of(variant);
        let scratch = self.instance.threads() * SCRATCH_BYTES;
        let (threads, pool, parallel_for) = self.instance.parallel();
        let mut record = ErrorRecord::default();
        let ctx = Ctx {
            threads,
            pool,
            parallel_for,
            scratch: workspace,
            cancel: cancel.map_or(ptr::null(), ptr::from_ref),
            trace: None,
            trace_data: ptr::null_mut(),
            error: &mut record,
        };
        // SAFETY: `prepare` checked the inputs' extents; outputs, workspace and variables have the bytes that the tables say, the arena
        // behind the scratch; callers vouched for what they lent.
        let code = unsafe {
            (variant.entry)(
                &ctx,
                a.inputs.as_ptr(),
                a.outputs.as_ptr(),
                workspace.add(scratch),
                weights,
                a.variables.as_ptr(),
                self.symbols.as_ptr(),
            )
        };
        let result = match Status::from_code(code) {
            Status::Ok => {
                assigns.iter().for_each(|&k| self.instance.assigned(k));
                Ok(())
            }
            status => Err(failed(variant, status, &record)),
        };
        drop(held);
        result
    }

    /// Working memory of at least `bytes`, aligned: scratch, then the arena.
    fn workspace(&mut self, bytes: usize) -> Result<*mut u8, Error> {
        if let Some((data, given)) = self.lent {
            if given < bytes {
                return Err(Error::invalid(format!("the workspace has {given} bytes, the run needs {bytes}")));
            }
            return Ok(data.wrapping_add(data.align_offset(ALIGN)));
        }
        if self.own.as_ref().is_none_or(|m| m.len() < bytes) {
            // The old one goes first: the peak is what counts.
            self.own = None;
            self.own = Some(Memory::new(bytes).ok_or_else(Error::memory)?);
        }
        Ok(self.own.as_ref().map_or(ptr::null_mut(), Memory::as_mut_ptr))
    }
}

/// The input that code does not take.
enum Misfit {
    /// For its extents.
    Dims(usize),
    /// For its value.
    Value(usize),
}

fn baked(variant: &'static Variant) -> &'static [graphc_abi::model::Baked] {
    // SAFETY: a table that a compiler wrote.
    unsafe { variant.baked.as_slice() }
}

fn failed(variant: &'static Variant, status: Status, record: &ErrorRecord) -> Error {
    // SAFETY: a table that a compiler wrote.
    let (node, zero_status) =
        unsafe { variant.nodes.as_slice().get(record.launch).map_or(("", 13), |n| (text(n.name), n.zero_status)) };
    let (value, bound) = (record.value, record.bound);
    let (kind, what) = match status {
        Status::Cancelled => (ErrorKind::Cancelled, String::from("the run was cancelled")),
        Status::IndexOutOfRange => (ErrorKind::InvalidArgument, format!("index {value} is not in [0, {bound})")),
        Status::DivisionByZero => (ErrorKind::from_code(zero_status), String::from("integer division by zero")),
        Status::ShapeGuard => (ErrorKind::InvalidArgument, format!("dimensions that must agree do not: {value} and {bound}")),
        Status::InvalidShape => (ErrorKind::InvalidArgument, format!("the shape {value} is not possible here")),
        Status::Ok | Status::Host => (ErrorKind::Internal, String::from("the run failed")),
    };
    Error::new(kind, if node.is_empty() { what } else { format!("node {node:?}: {what}") })
}
