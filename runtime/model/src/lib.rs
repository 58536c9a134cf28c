//! Models that graphc compiled, as typed functions of a Rust program.
//!
//! A build script compiles the model with `graphc-build`; [`include_model!`] brings in what it made: a type `Model`, which has state of
//! its own, with a method for each signature. Types and ranks of inputs are checked by Rust's compiler, extents when a function runs.
//!
//! ```ignore
//! graphc_model::include_model!(mlp);
//! use graphc_model::Input;
//!
//! let model = mlp::Model::new(graphc_model::Options { threads: 2, ..Default::default() })?;
//! let mut predict = model.serving_default()?;
//! let x = vec![0f32; 3 * 64];
//! let y = predict.run(Input::new(&x, [3, 64])?)?.output;
//! assert_eq!(y.dims(), [3, 10]);
//! ```

use std::marker::PhantomData;

pub use graphc_engine::{Error, ErrorKind};

/// What runs the functions: in stages too, with the feature of that name.
mod engine {
    #[cfg(not(feature = "stages"))]
    pub use graphc_engine::Instance;
    #[cfg(feature = "stages")]
    pub use graphc_stages::{Call, Instance};

    #[cfg(not(feature = "stages"))]
    pub type Call<'m> = graphc_engine::Call<&'m Instance>;
}

/// What generated modules are written with; not for others.
#[doc(hidden)]
pub mod generated {
    pub use graphc_abi::model::Model as Table;
    // The object of a model calls kernels and library functions by name: they must be linked.
    pub use graphc_kernels as kernels;
    #[cfg(feature = "stages")]
    pub use graphc_stages as stages;
}

/// Brings in the module of a model that a build script compiled under this name.
#[macro_export]
macro_rules! include_model {
    ($name:ident) => {
        include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".rs"));
    };
}

/// How a model is made.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Threads that compute, the caller's included.
    pub threads: usize,
    /// The content of the file of weights, for a model that has one.
    pub weights: Option<&'a [u8]>,
    /// Folders in which ops of functions in stages may read and write files.
    pub files: &'a [&'a str],
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { threads: 1, weights: None, files: &[] }
    }
}

/// What a tensor can hold: numbers, and [`Text`].
pub trait Element: Copy + Default + private::Sealed {
    /// Number of the type in TensorFlow's `DataType`.
    const DTYPE: usize;
}

mod private {
    pub trait Sealed {}
}

macro_rules! elements {
    ($($t:ty = $n:literal),*) => {$(
        impl private::Sealed for $t {}
        impl Element for $t {
            const DTYPE: usize = $n;
        }
    )*};
}
elements!(f32 = 1, f64 = 2, i32 = 3, u8 = 4, i16 = 5, i8 = 6, i64 = 9, bool = 10, u16 = 17, u32 = 22, u64 = 23);

/// A half float, as its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct F16(pub u16);

/// A bfloat16, as its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct BF16(pub u16);

/// A complex number: real part, imaginary part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Complex<T>(pub T, pub T);

elements!(F16 = 19, BF16 = 14, Complex<f32> = 8, Complex<f64> = 18);

/// A string, of bytes that need not be UTF-8.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Text<'a>(graphc_abi::model::Text, PhantomData<&'a [u8]>);

impl<'a> Text<'a> {
    pub fn new(text: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        let bytes = text.as_ref();
        Text(graphc_abi::model::Text { data: bytes.as_ptr(), size: bytes.len() }, PhantomData)
    }

    pub fn as_bytes(self) -> &'a [u8] {
        // SAFETY: made of a slice that is borrowed as long, or by a run whose outputs are.
        if self.0.size == 0 { &[] } else { unsafe { std::slice::from_raw_parts(self.0.data, self.0.size) } }
    }

    /// The string; what is not UTF-8 in it is replaced.
    pub fn to_string_lossy(self) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(self.as_bytes())
    }
}

impl Default for Text<'_> {
    fn default() -> Self {
        Text::new("")
    }
}

impl std::fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_string_lossy().fmt(f)
    }
}

// SAFETY: a slice that is only read.
unsafe impl Send for Text<'_> {}
// SAFETY: as above.
unsafe impl Sync for Text<'_> {}

impl private::Sealed for Text<'_> {}
impl Element for Text<'_> {
    const DTYPE: usize = graphc_abi::model::STRING;
}

/// A tensor that is lent for a run, row-major, of rank `R`.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a, T, const R: usize> {
    data: &'a [T],
    dims: [i64; R],
}

impl<'a, T: Element, const R: usize> Input<'a, T, R> {
    /// A tensor of these extents.
    ///
    /// # Errors
    /// If there are not as many elements as the extents say.
    pub fn new(data: &'a [T], dims: [usize; R]) -> Result<Self, Error> {
        let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if count != Some(data.len()) {
            let message = format!("{} elements were given for a tensor of {dims:?}", data.len());
            return Err(Error { kind: ErrorKind::InvalidArgument, message });
        }
        Ok(Input { data, dims: dims.map(|d| d as i64) })
    }

    /// A tensor of any rank of the same elements.
    pub fn any_rank(&self) -> AnyInput<'_, T> {
        AnyInput { data: self.data, dims: &self.dims }
    }
}

/// A tensor that is lent for a run, row-major, where the model leaves the rank open.
#[derive(Clone, Copy, Debug)]
pub struct AnyInput<'a, T> {
    data: &'a [T],
    dims: &'a [i64],
}

/// A tensor that a run gave, row-major, of rank `R`.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a, T, const R: usize> {
    data: &'a [T],
    dims: [usize; R],
}

impl<'a, T: Element, const R: usize> Output<'a, T, R> {
    pub fn data(&self) -> &'a [T] {
        self.data
    }

    pub fn dims(&self) -> [usize; R] {
        self.dims
    }
}

/// A tensor that a run gave, where the model leaves the rank open.
#[derive(Clone, Debug)]
pub struct AnyOutput<'a, T> {
    pub data: &'a [T],
    pub dims: Vec<usize>,
}

/// A model, with state of its own. Generated modules wrap it.
pub struct Instance<'w> {
    instance: engine::Instance,
    weights: PhantomData<&'w [u8]>,
}

impl<'w> Instance<'w> {
    /// # Safety
    /// `table` is the table of an object that is linked into this program.
    ///
    /// # Errors
    /// If the object is of another version, or needs weights that were not given.
    #[doc(hidden)]
    pub unsafe fn new(table: *const generated::Table, options: Options<'w>) -> Result<Self, Error> {
        // SAFETY: by this function's contract; the weights are borrowed for as long as the instance lives.
        let instance = unsafe {
            let model = graphc_engine::Model::new(table)?;
            let compute = graphc_engine::Compute::Threads(options.threads);
            engine::Instance::new(model, graphc_engine::Options { compute, weights: options.weights, files: options.files })?
        };
        Ok(Instance { instance, weights: PhantomData })
    }

    /// Gives every variable its first value again.
    ///
    /// # Errors
    /// If what the model does before it runs fails.
    pub fn reset(&self) -> Result<(), Error> {
        self.instance.reset()
    }

    /// Function number `index`.
    ///
    /// # Errors
    /// If there is none.
    #[doc(hidden)]
    pub fn function(&self, index: usize) -> Result<Function<'_>, Error> {
        Ok(Function { call: engine::Call::new(&self.instance, index)? })
    }
}

/// A function of a model, with memory that is kept from run to run. Generated modules wrap it.
pub struct Function<'m> {
    call: engine::Call<'m>,
}

impl Function<'_> {
    /// Runs with inputs that were bound for this run alone.
    ///
    /// # Errors
    /// If an input does not fit, or a node fails.
    #[doc(hidden)]
    pub fn run(&mut self, inputs: &[Bound]) -> Result<(), Error> {
        for (k, input) in inputs.iter().enumerate() {
            // SAFETY: borrowed until this function returns, with as many elements as the extents say; the next run binds anew.
            unsafe { self.call.set_input(k, input.data, input.dims)? };
        }
        self.call.run(None)
    }

    /// An output of the last run.
    #[doc(hidden)]
    pub fn output<T: Element, const R: usize>(&mut self, index: usize) -> Result<(&'static [T], [usize; R]), Error> {
        let (data, dims) = self.any_output(index)?;
        let dims =
            dims.try_into().map_err(|_| Error { kind: ErrorKind::Internal, message: "an output is of another rank".into() })?;
        Ok((data, dims))
    }

    /// An output of the last run, of any rank. The data is valid until the next run: generated code borrows the function for it.
    #[doc(hidden)]
    pub fn any_output<T: Element>(&mut self, index: usize) -> Result<(&'static [T], Vec<usize>), Error> {
        let dims: Vec<usize> = self.call.output_dims(index)?.iter().map(|&d| d as usize).collect();
        let count = self.call.output_bytes(index)? / size_of::<T>().max(1);
        let data = self.call.output_data(index).cast::<T>();
        // SAFETY: the run wrote so many elements of the type that the module was generated with; memory of runs is aligned to 64 bytes.
        let data = if count == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(data, count) } };
        Ok((data, dims))
    }
}

/// An input of a run.
#[doc(hidden)]
pub struct Bound<'a> {
    data: *const u8,
    dims: &'a [i64],
}

impl<'a, T: Element, const R: usize> From<&'a Input<'_, T, R>> for Bound<'a> {
    fn from(i: &'a Input<'_, T, R>) -> Self {
        Bound { data: i.data.as_ptr().cast(), dims: &i.dims }
    }
}

impl<'a, T: Element> From<&'a AnyInput<'_, T>> for Bound<'a> {
    fn from(i: &'a AnyInput<'_, T>) -> Self {
        Bound { data: i.data.as_ptr().cast(), dims: i.dims }
    }
}

impl<'a, T, const R: usize> Output<'a, T, R> {
    #[doc(hidden)]
    pub fn new((data, dims): (&'a [T], [usize; R])) -> Self {
        Output { data, dims }
    }
}

impl<'a, T> AnyOutput<'a, T> {
    #[doc(hidden)]
    pub fn new((data, dims): (&'a [T], Vec<usize>)) -> Self {
        AnyOutput { data, dims }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_have_as_many_elements_as_their_extents_say() {
        let x = [1f32; 6];
        assert!(Input::new(&x, [2, 3]).is_ok());
        assert!(Input::new(&x, [2, 2]).is_err());
        assert!(Input::new(&x, [usize::MAX, 2]).is_err());
        assert!(Input::new(&x[..1], []).is_ok());
        assert!(Input::new(&x[..0], [0, 3]).is_ok());
    }
}
