//! Calls, branches and loops; and what is nothing where there is one device.

use crate::call::{Call, tensor_of};
use crate::error::invalid;
use crate::value::Value;
use crate::{Result, Table};

pub(crate) const TABLE: Table = &[
    ("XlaClusterOutput", identity),
    ("XlaOptimizationBarrier", identity),
    ("XlaSpmdFullToShardShape", identity),
    ("XlaSpmdShardToFullShape", identity),
    ("XlaAllReduce", first),
    ("XlaSetBound", first),
    ("XlaRemoveDynamicDimensionSize", first),
    ("XlaReplicaId", replica_id),
    ("XlaLaunch", launch),
    ("XlaLaunchV2", launch),
    ("XlaIf", branch),
    ("XlaWhile", repeat),
];

fn identity(call: &Call) -> Result {
    Ok(call.inputs.to_vec())
}

/// The first operand; the others say what does not matter here.
fn first(call: &Call) -> Result {
    Ok(vec![call.input(0)?.clone()])
}

fn replica_id(_: &Call) -> Result {
    Ok(vec![tensor_of(&[], &[0i32])?.into()])
}

fn launch(call: &Call) -> Result {
    call.caller.call(&call.attrs.function("function")?, call.inputs.to_vec(), call.step)
}

fn truth(v: Option<&Value>) -> Result<bool> {
    let t = v.and_then(Value::as_tensor).filter(|t| t.len() == 1).ok_or_else(|| invalid("a condition must be one value"))?;
    Ok(t.bytes().iter().any(|&b| b != 0))
}

fn branch(call: &Call) -> Result {
    let taken = if truth(call.inputs.first())? { "then_branch" } else { "else_branch" };
    let args = call.inputs.get(1..).unwrap_or_default().to_vec();
    call.caller.call(&call.attrs.function(taken)?, args, call.step)
}

fn repeat(call: &Call) -> Result {
    let (cond, body) = (call.attrs.function("cond")?, call.attrs.function("body")?);
    let mut values = call.inputs.to_vec();
    while truth(call.caller.call(&cond, values.clone(), call.step)?.first())? {
        call.step.check()?;
        values = call.caller.call(&body, values, call.step)?;
    }
    Ok(values)
}
