//! The ops on accumulators.

use super::accumulator::{Accumulator, Config, Dense, Gradients, Rows, Sparse};
use crate::call::Call;
use crate::error::invalid;
use crate::value::Value;
use crate::{Result, Table, values};
use std::sync::Arc;

pub(crate) const TABLE: Table = &[
    ("ConditionalAccumulator", make::<Dense>),
    ("ResourceConditionalAccumulator", make::<Dense>),
    ("SparseConditionalAccumulator", make::<Sparse>),
    ("AccumulatorNumAccumulated", count),
    ("ResourceAccumulatorNumAccumulated", count),
    ("AccumulatorSetGlobalStep", set_step),
    ("ResourceAccumulatorSetGlobalStep", set_step),
    ("AccumulatorApplyGradient", apply),
    ("ResourceAccumulatorApplyGradient", apply),
    ("SparseAccumulatorApplyGradient", apply_sparse),
    ("AccumulatorTakeGradient", take),
    ("ResourceAccumulatorTakeGradient", take),
    ("SparseAccumulatorTakeGradient", take_sparse),
];

fn make<G: Gradients + 'static>(call: &Call) -> Result {
    let config = Config::of(call)?;
    let made = call.shared("accumulator", || Ok(Accumulator::<G>::new(config.clone())))?;
    if let Value::Resource(r) = &made
        && let Some(a) = r.downcast::<Accumulator<G>>()
        && a.config != config
    {
        return Err(invalid(format!("shared accumulator {:?} is {:?}, not {config:?}", r.name(), a.config)));
    }
    Ok(vec![made])
}

fn dense(call: &Call) -> Result<Arc<Accumulator<Dense>>> {
    call.object(0)
}

fn sparse(call: &Call) -> Result<Arc<Accumulator<Sparse>>> {
    call.object(0)
}

fn scalar(call: &Call, k: usize, what: &str) -> Result<i64> {
    match call.tensor(k)?.rank() {
        0 => call.int(k),
        _ => Err(invalid(format!("argument {what} must be scalar, but has shape {:?}", call.tensor(k)?.shape()))),
    }
}

fn count(call: &Call) -> Result {
    let n = match dense(call) {
        Ok(a) => a.count(),
        Err(_) => sparse(call)?.count(),
    };
    Ok(vec![values::scalar_i32(n)?])
}

fn set_step(call: &Call) -> Result {
    let step = scalar(call, 1, "new_global_step")?;
    match dense(call) {
        Ok(a) => a.set_step(step),
        Err(_) => sparse(call)?.set_step(step),
    }
    Ok(Vec::new())
}

fn apply(call: &Call) -> Result {
    dense(call)?.apply(scalar(call, 1, "local_step")?, call.tensor(2)?.clone())?;
    Ok(Vec::new())
}

fn apply_sparse(call: &Call) -> Result {
    let step = scalar(call, 1, "local_step")?;
    if call.tensor(2)?.rank() != 1 {
        return Err(invalid("the indices of a gradient must be a vector"));
    }
    let known = call.attrs.bool("has_known_shape").unwrap_or(false);
    let shape = if known { Some(call.ints(4)?) } else { None };
    sparse(call)?.apply(step, Rows { indices: call.ints(2)?, values: call.input(3)?.clone(), shape })?;
    Ok(Vec::new())
}

fn take(call: &Call) -> Result {
    dense(call)?.take(scalar(call, 1, "num_required")?, call.step)
}

fn take_sparse(call: &Call) -> Result {
    sparse(call)?.take(scalar(call, 1, "num_required")?, call.step)
}
