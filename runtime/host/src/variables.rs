//! Variables that compiled code cannot hold: of strings, of variants, or of shapes that only assignments tell. And what only a run
//! knows of variables: whether they have a value.

use crate::call::tensor_of;
use crate::error::{invalid, not_found, out_of_range};
use crate::limits;
use crate::lists::movement;
use crate::value::{Resource, Value};
use crate::{Call, Result, Table, values};
use graphc_ir::{Elem, Tensor};

pub(crate) const TABLE: Table = &[
    ("ReadVariableOp", read),
    ("ResourceGather", gather),
    ("ResourceGatherNd", gather),
    ("ResourceScatterUpdate", scatter_update),
    ("ScatterUpdate", scatter_update),
    ("AssignVariableOp", assign),
    ("Assign", assign_reference),
    ("VarIsInitializedOp", is_initialized),
    ("IsVariableInitialized", is_initialized),
    ("DisableCopyOnRead", leave),
    ("VariableShape", shape),
    ("DestroyResourceOp", destroy),
    ("CountUpTo", count_up_to),
    ("ResourceCountUpTo", count_up_to),
];

fn name<'a>(call: &'a Call) -> Result<&'a str> {
    match call.resource(0)? {
        Resource::Variable(name) => Ok(name),
        r => Err(invalid(format!("the resource {:?} is no variable", r.name()))),
    }
}

fn read(call: &Call) -> Result {
    let (name, value) = call.variable_value(0)?;
    let elem = call.attrs.elem("dtype")?;
    if value.elem() != elem {
        return Err(invalid(format!("variable {name:?} is of type {}, and is read as {elem}", value.elem())));
    }
    Ok(vec![value])
}

/// Slices of a variable: what the op gathers from a tensor, from the value of the variable.
fn gather(call: &Call) -> Result {
    let (_, value) = call.variable_value(0)?;
    let op = call.op.trim_start_matches("Resource");
    let f = if op == "GatherNd" { movement::gather_nd } else { movement::gather };
    let inputs: Vec<Value> = std::iter::once(value).chain(call.inputs.iter().skip(1).cloned()).collect();
    f(&Call { op, inputs: &inputs, ..*call })
}

/// Rows of a variable replaced; one row, where the updates are a scalar, goes to all of them.
fn scatter_update(call: &Call) -> Result {
    let (name, old) = call.variable_value(0)?;
    let (indices, updates) = (call.ints(1)?, call.input(2)?);
    let Some((&rows, inner)) = old.shape().split_first() else { return Err(invalid("the variable is a scalar")) };
    let size = limits::count(inner)?;
    let places: Option<Vec<usize>> = indices.iter().map(|&i| usize::try_from(i).ok().filter(|&i| i < rows)).collect();
    let places = places.ok_or_else(|| invalid(format!("indices {indices:?} are not all in [0, {rows})")))?;
    let wanted = [call.tensor(1)?.shape(), inner].concat();
    let one = updates.shape().is_empty();
    if updates.elem() != old.elem() || !one && updates.shape() != wanted {
        let message =
            format!("updates of type {} and shape {:?} for {wanted:?} of {}", updates.elem(), updates.shape(), old.elem());
        return Err(invalid(message));
    }
    // Where each element of the result comes from: the updates lie behind the old elements.
    let n = limits::count(old.shape())?;
    let mut from: Vec<usize> = (0..n).collect();
    for (k, row) in places.into_iter().enumerate() {
        for i in 0..size {
            from[row * size + i] = n + if one { 0 } else { k * size + i };
        }
    }
    let all = values::join(old.elem(), vec![n + limits::count(updates.shape())?], &[&old, updates])?;
    call.variables.assign(&name, values::take(&all, old.shape().to_vec(), &from)?)?;
    Ok(if call.op == "ScatterUpdate" { vec![call.input(0)?.clone()] } else { Vec::new() })
}

fn assign(call: &Call) -> Result {
    let name = name(call)?;
    let value = call.input(1)?;
    let checked = call.attrs.bool("validate_shape").unwrap_or(false);
    if let Some(old) = call.variables.read(name)
        && (old.elem() != value.elem() || checked && old.shape() != value.shape())
    {
        let (found, wanted) = ((value.elem(), value.shape()), (old.elem(), old.shape()));
        return Err(invalid(format!("a value {found:?} is assigned to variable {name:?}, which is {wanted:?}")));
    }
    call.variables.assign(name, value.clone())?;
    Ok(Vec::new())
}

fn assign_reference(call: &Call) -> Result {
    assign(call)?;
    Ok(vec![Value::Resource(call.resource(0)?.clone())])
}

fn is_initialized(call: &Call) -> Result {
    let has = match call.resource(0)? {
        Resource::Variable(name) => call.variables.read(name).is_some(),
        Resource::Object { .. } => true,
    };
    let flag = Tensor::from_bools(&[], &[has]);
    Ok(flag.into_iter().map(Value::Tensor).collect())
}

fn shape(call: &Call) -> Result {
    let (_, value) = call.variable_value(0)?;
    let dims: Vec<i64> = value.shape().iter().map(|&d| d as i64).collect();
    let made = match call.attrs.elem("out_type")? {
        Elem::I64 => tensor_of(&[dims.len()], &dims)?,
        _ => tensor_of(&[dims.len()], &dims.iter().map(|&d| d as i32).collect::<Vec<_>>())?,
    };
    Ok(vec![made.into()])
}

/// The value of a scalar variable, which then grows by one; fails at the limit.
fn count_up_to(call: &Call) -> Result {
    let (name, value) = call.variable(0)?;
    let limit = call.attrs.int("limit")?;
    let &[now] = value.to_ints().unwrap_or_default().as_slice() else {
        return Err(invalid(format!("variable {name:?} is {}, and is counted as one integer", value.ty())));
    };
    if now >= limit {
        return Err(out_of_range(format!("Reached limit of {limit}")));
    }
    let next = match value.elem() {
        Elem::I32 => i32::try_from(now + 1).ok().map(Tensor::scalar),
        Elem::I64 => Some(Tensor::scalar(now + 1)),
        _ => None,
    };
    let next = next.ok_or_else(|| invalid(format!("variable {name:?} of type {} cannot be counted", value.elem())))?;
    call.variables.assign(&name, next.into())?;
    Ok(vec![value.into()])
}

/// Tells how a variable is kept, which is nothing that a program sees.
fn leave(_: &Call) -> Result {
    Ok(Vec::new())
}

/// Forgets the value of a variable. Other objects end with the session.
fn destroy(call: &Call) -> Result {
    if let Resource::Variable(name) = call.resource(0)?
        && !call.variables.forget(name)
        && !call.attrs.bool("ignore_lookup_error").unwrap_or(true)
    {
        return Err(not_found(format!("Resource {name} does not exist.")));
    }
    Ok(Vec::new())
}
