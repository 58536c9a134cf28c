//! The passes in order, and the runner that watches them.

use crate::pass::{Diag, Pass, PassCx};
use crate::{
    activations, arith, attention, contractions, cse, dce, epilogue, fold, fuse, images, inline, norms, padding, precision,
    projections, quantise, regions, reshapes, schedule, simplify, strassen, strides, transposes, weights,
};
use graphc_ir::Module;
use std::time::{Duration, Instant};

/// The passes that a compilation runs, in order. Some run twice, where a later pass makes work for an earlier one.
pub fn standard() -> Vec<Box<dyn Pass>> {
    vec![
        Box::new(inline::Inline),
        Box::new(dce::Dce),
        // Canonical forms, which the passes after these rely on.
        Box::new(fold::Fold),
        Box::new(simplify::Simplify),
        Box::new(arith::Arith),
        Box::new(cse::Cse),
        Box::new(regions::Regions),
        Box::new(projections::Projections),
        Box::new(dce::Dce),
        // Ops that the graph spells out.
        Box::new(activations::Activations),
        Box::new(norms::Norms),
        // Layout.
        Box::new(transposes::Transposes),
        Box::new(contractions::Contractions),
        Box::new(reshapes::Reshapes),
        Box::new(simplify::Simplify),
        Box::new(fold::Fold),
        Box::new(cse::Cse),
        // What that uncovered.
        Box::new(activations::Activations),
        Box::new(norms::Norms),
        Box::new(attention::Attention),
        Box::new(simplify::Simplify),
        Box::new(transposes::Transposes),
        Box::new(reshapes::Reshapes),
        Box::new(simplify::Simplify),
        Box::new(fold::Fold),
        Box::new(padding::Padding),
        Box::new(weights::Weights),
        Box::new(arith::Arith),
        Box::new(fold::Fold),
        Box::new(regions::Regions),
        Box::new(cse::Cse),
        Box::new(dce::Dce),
        // Launches.
        Box::new(epilogue::Epilogue),
        Box::new(strides::Strides),
        Box::new(precision::Precise),
        Box::new(strassen::Strassen),
        Box::new(quantise::Quantise),
        Box::new(fuse::Fuse),
        Box::new(images::Images),
        Box::new(dce::Dce),
        Box::new(schedule::Schedule),
    ]
}

/// The pass of that name.
pub fn find(name: &str) -> Option<Box<dyn Pass>> {
    standard().into_iter().find(|p| p.name() == name)
}

/// What one run of one pass did.
#[derive(Clone, Debug)]
pub struct PassTiming {
    pub name: &'static str,
    pub time: Duration,
    /// How many things it changed, as the pass counts.
    pub changed: usize,
}

/// Watches a pipeline: prints, verifies, measures.
pub trait Observer {
    /// Before `pass` runs.
    fn before(&mut self, _pass: &'static str, _m: &Module) {}

    /// After a pass ran.
    ///
    /// # Errors
    /// Whatever ends the pipeline, such as what a verifier found.
    fn after(&mut self, _timing: &PassTiming, _m: &Module) -> Result<(), Diag> {
        Ok(())
    }
}

/// Watches nothing.
pub struct Unobserved;

impl Observer for Unobserved {}

/// Runs `passes` over `m`. Returns what each took and changed.
///
/// # Errors
/// The first error of a pass or of the observer; the module is then in the state before that pass or after it.
pub fn run(m: &mut Module, passes: &[Box<dyn Pass>], cx: &PassCx, observer: &mut dyn Observer) -> Result<Vec<PassTiming>, Diag> {
    let mut timings = Vec::with_capacity(passes.len());
    for pass in passes {
        let name = pass.name();
        observer.before(name, m);
        let start = Instant::now();
        let changed = pass.run(m, cx)?;
        let timing = PassTiming { name, time: start.elapsed(), changed };
        observer.after(&timing, m)?;
        timings.push(timing);
    }
    Ok(timings)
}
