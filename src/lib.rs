//! graphc compiles saved TensorFlow graphs to native code.
//!
//! ```no_run
//! use graphc::{Session, SessionOptions, View};
//! let session = Session::open("model".as_ref(), SessionOptions::default())?;
//! let predict = session.signature(None)?;
//! let x = ndarray::Array2::<f32>::zeros((5, 784));
//! let y = predict.run(&[View::of(&x).expect("row-major")])?;
//! println!("{:?}", graphc::array_of::<f32>(&y[0]));
//! # Ok::<(), graphc::Error>(())
//! ```
//!
//! A [`Callable`] is compiled once and takes every size that its signature leaves open.

pub mod aot;
pub mod compare;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod linked;
pub mod npz;
pub mod ops;
pub mod picture;
pub mod profile;
pub mod reference;
pub mod roofline;

pub use graphc_frontend as frontend;
#[cfg(feature = "gpu-driver")]
pub use graphc_gpu::{Moves, Traffic};
pub use graphc_ir as ir;
pub use graphc_ir::{Dim, Elem, Tensor};
pub use graphc_passes as passes;
pub use graphc_passes::precision::Precision;
pub use graphc_runtime::{
    Callable, DeviceDescription, DeviceName, DeviceSpec, Error, PlaceBy, Port, Program, RunOptions, Session, SessionOptions, Stage,
    StatusCode, Tracer, View, Watcher, array_of, devices, needs_feeds,
};

use graphc_ir::{Func, Module, text};
use graphc_passes::pass::{Diag, PassCx};
use graphc_passes::pipeline::{self, Observer, PassTiming};
use graphc_passes::target::Target;
use half::{bf16, f16};

/// Runs the standard passes for this machine's CPU over a module.
///
/// # Errors
/// The first error of a pass or of the observer.
pub fn optimise(module: &mut Module, precision: Precision, observer: &mut dyn Observer) -> Result<Vec<PassTiming>, Error> {
    optimise_for(&graphc_cpu::CpuTarget, module, precision, observer)
}

/// Runs the standard passes for a target over a module.
///
/// # Errors
/// As [`optimise`].
pub fn optimise_for(
    target: &dyn Target,
    module: &mut Module,
    precision: Precision,
    observer: &mut dyn Observer,
) -> Result<Vec<PassTiming>, Error> {
    pipeline::run(module, &pipeline::standard(), &PassCx { target, precision }, observer).map_err(|e| Error::Compile(e.to_string()))
}

/// The plan of an optimised function as text.
///
/// # Errors
/// If an op has no lowering.
pub fn plan_text(module: &Module, func: &Func) -> Result<String, Error> {
    let plan = graphc_cpu::plan(module, &func.name).map_err(|e| Error::Compile(e.to_string()))?;
    Ok(graphc_passes::plan::print::print_plan(&plan))
}

/// A module as text, with constants in full or elided.
pub fn ir_text(module: &Module, constants: bool) -> String {
    let constants = if constants { text::Constants::Full } else { text::Constants::Elided };
    // Writing to memory does not fail.
    text::print_with(module, &mut text::Options { constants, ..text::Options::default() }).unwrap_or_default()
}

/// Checks a module after a pass, for [`Observer`]s.
///
/// # Errors
/// The first thing that the verifier found, as an error of the pass.
pub fn verify_after(pass: &'static str, module: &Module) -> Result<(), Diag> {
    match graphc_ir::verify::module(module).first() {
        Some(e) => Err(Diag { pass, loc: graphc_ir::Loc::default(), message: e.to_string() }),
        None => Ok(()),
    }
}

/// A tensor of any real type or bool from numbers, each rounded to it; `None` for other types or another count.
pub fn tensor_from_reals(elem: Elem, shape: &[usize], values: &[f64]) -> Option<Tensor> {
    macro_rules! cast {
        ($($e:ident $t:ty),*) => {
            match elem {
                Elem::Bool => Tensor::from_bools(shape, &values.iter().map(|&v| v != 0.0).collect::<Vec<_>>()),
                Elem::F16 => Tensor::from_slice(shape, &values.iter().map(|&v| f16::from_f64(v)).collect::<Vec<_>>()),
                Elem::BF16 => Tensor::from_slice(shape, &values.iter().map(|&v| bf16::from_f64(v)).collect::<Vec<_>>()),
                $(Elem::$e => Tensor::from_slice(shape, &values.iter().map(|&v| v as $t).collect::<Vec<_>>()),)*
                _ => None,
            }
        };
    }
    cast!(F32 f32, F64 f64, I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64)
}
