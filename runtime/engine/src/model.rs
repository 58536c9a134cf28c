//! A compiled model's tables, as safe values.

use crate::error::{Error, ErrorKind};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use core::ffi::{CStr, c_char, c_void};
use graphc_abi::model as raw;
use graphc_kernels::tier::Tier;

/// A model that was compiled ahead of time.
#[derive(Clone, Copy, Debug)]
pub struct Model(&'static raw::Model);

/// One of its functions.
#[derive(Clone, Copy, Debug)]
pub struct Function(pub(crate) &'static raw::Function);

/// An input or output of a function.
#[derive(Clone, Copy, Debug)]
pub struct Port(pub(crate) &'static raw::Port);

/// Text of a table.
///
/// # Safety
/// `text` is null or ends with a zero byte and is never changed.
pub(crate) unsafe fn text(text: *const c_char) -> &'static str {
    if text.is_null() {
        return "";
    }
    // SAFETY: by this function's contract.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("")
}

impl Model {
    /// The model of an object.
    ///
    /// # Safety
    /// `model` is the table that an object or package of graphc exports, which stays in memory as long as anything made of it is used.
    ///
    /// # Errors
    /// If it was compiled for another version of the engine.
    pub unsafe fn new(model: *const raw::Model) -> Result<Model, Error> {
        // SAFETY: by this function's contract.
        let model: Option<&'static raw::Model> = unsafe { model.as_ref() };
        match model {
            Some(m) if m.version == raw::MODEL_VERSION => match Tier::ALL.iter().find(|(_, t)| *t as usize == m.least_tier) {
                Some((_, tier)) if tier.is_here() => Ok(Model(m)),
                tier => {
                    let needs = tier.map_or("others than are known", |(name, _)| name);
                    let message =
                        alloc::format!("the model was compiled for processors with more instructions than this one ({needs})");
                    Err(Error::new(ErrorKind::FailedPrecondition, message))
                }
            },
            Some(m) => Err(Error::invalid(alloc::format!(
                "the model was compiled for version {} of graphc's objects, this runtime has version {}; compile it again",
                m.version,
                raw::MODEL_VERSION
            ))),
            None => Err(Error::invalid("no model was given")),
        }
    }

    /// Its tables.
    pub fn raw(self) -> &'static raw::Model {
        self.0
    }

    pub fn name(self) -> &'static str {
        // SAFETY: a table that a compiler wrote, as `new` was told.
        unsafe { text(self.0.name) }
    }

    /// Its functions, the default one first.
    pub fn functions(self) -> impl ExactSizeIterator<Item = Function> {
        // SAFETY: as above.
        unsafe { self.0.functions.as_slice() }.iter().map(Function)
    }

    /// A function by its number.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn function(self, index: usize) -> Result<Function, Error> {
        let count = self.functions().len();
        self.functions().nth(index).ok_or_else(|| Error::invalid(alloc::format!("function {index} of a model that has {count}")))
    }

    /// What runs once when an instance is made.
    pub(crate) fn initialise(self) -> Option<Function> {
        // SAFETY: as above.
        unsafe { self.0.initialise.as_ref() }.map(Function)
    }

    /// The compiled parts of functions that run in stages.
    pub fn parts(self) -> impl ExactSizeIterator<Item = Function> {
        // SAFETY: as above.
        unsafe { self.0.parts.as_slice() }.iter().map(Function)
    }

    /// How functions run that are not compiled as a whole.
    pub fn script(self) -> &'static [u8] {
        // SAFETY: as above.
        unsafe { self.0.script.as_slice() }
    }

    /// Addresses of the tables of host functions that the script needs.
    pub fn families(self) -> &'static [*const c_void] {
        // SAFETY: as above.
        unsafe { self.0.families.as_slice() }
    }

    pub(crate) fn variables(self) -> &'static [raw::Variable] {
        // SAFETY: as above.
        unsafe { self.0.variables.as_slice() }
    }
}

impl Function {
    pub fn name(self) -> &'static str {
        // SAFETY: as above.
        unsafe { text(self.0.name) }
    }

    pub fn inputs(self) -> impl ExactSizeIterator<Item = Port> {
        // SAFETY: as above.
        unsafe { self.0.inputs.as_slice() }.iter().map(Port)
    }

    pub fn outputs(self) -> impl ExactSizeIterator<Item = Port> {
        // SAFETY: as above.
        unsafe { self.0.outputs.as_slice() }.iter().map(Port)
    }

    /// The body of the model's script that this is, if it is not compiled as a whole.
    pub fn body(self) -> Option<usize> {
        self.0.body.checked_sub(1)
    }

    pub(crate) fn variants(self) -> &'static [raw::Variant] {
        // SAFETY: as above.
        unsafe { self.0.variants.as_slice() }
    }
}

impl Port {
    pub fn name(self) -> &'static str {
        // SAFETY: as above.
        unsafe { text(self.0.name) }
    }

    /// Number of the element type in TensorFlow's `DataType`.
    pub fn elem(self) -> usize {
        self.0.elem
    }

    /// Bytes of an element; those of a `graphc_abi::model::Text` for strings.
    pub fn elem_bytes(self) -> usize {
        self.0.elem_bytes
    }

    /// Extents, -1 where open; `None` where the rank is.
    pub fn dims(self) -> Option<&'static [i64]> {
        // SAFETY: as above.
        (self.0.any_rank == 0).then(|| unsafe { self.0.dims.as_slice() })
    }

    /// # Errors
    /// If a tensor of these extents cannot be this.
    pub fn check(self, dims: &[i64]) -> Result<(), Error> {
        let takes = |own: &[i64]| own.len() == dims.len() && own.iter().zip(dims).all(|(&o, &d)| o < 0 || o == d);
        if dims.iter().any(|&d| d < 0) || !self.dims().is_none_or(takes) {
            return Err(Error::invalid(self.misfit(dims)));
        }
        Ok(())
    }

    /// Why a tensor of these extents is not this input.
    pub(crate) fn misfit(self, dims: &[i64]) -> String {
        let own = self.dims().map_or_else(
            || vec![String::from("...")],
            |own| own.iter().map(|&d| if d < 0 { String::from("?") } else { format!("{d}") }).collect(),
        );
        format!("input {:?} is [{}], {dims:?} was given", self.name(), own.join(", "))
    }
}
