//! Optionals: some values, or none.

use crate::call::Call;
use crate::error::invalid;
use crate::value::{Item, Value};
use crate::variants::{Kind, add_values, zeros_of};
use crate::{Result, Table, shapes, values};
use std::any::Any;
use std::sync::Arc;

pub(crate) const TABLE: Table =
    &[("OptionalFromValue", from_value), ("OptionalNone", none), ("OptionalHasValue", has_value), ("OptionalGetValue", get_value)];

/// Values that may be absent.
#[derive(Clone)]
pub(crate) struct Optional(pub Option<Vec<Value>>);

fn optional(call: &Call) -> Result<Arc<Optional>> {
    call.variant_of(0).map_err(|_| invalid("input 0 must be an optional"))
}

fn from_value(call: &Call) -> Result {
    Ok(vec![Value::variant(Optional(Some(call.inputs.to_vec())))])
}

fn none(_: &Call) -> Result {
    Ok(vec![Value::variant(Optional(None))])
}

fn has_value(call: &Call) -> Result {
    Ok(vec![values::scalar_bool(optional(call)?.0.is_some())?])
}

fn get_value(call: &Call) -> Result {
    let o = optional(call)?;
    let values = o.0.as_ref().ok_or_else(|| invalid("the given optional does not have a value"))?;
    let (types, wanted) = (call.attrs.elems("output_types")?, call.attrs.shapes("output_shapes")?);
    if values.len() != types.len() {
        return Err(invalid(format!("the given optional has {} components, expected {}", values.len(), types.len())));
    }
    for (i, v) in values.iter().enumerate() {
        let fits = types.get(i) == Some(&v.elem()) && wanted.get(i).is_none_or(|s| shapes::compatible(s, v.shape()));
        if !fits {
            let (elem, shape) = (v.elem(), v.shape());
            return Err(invalid(format!("component {i} of the given optional is {elem}{shape:?}, which is not what is expected")));
        }
    }
    Ok(values.clone())
}

fn as_optional(o: &(dyn Any + Send + Sync)) -> Option<&Optional> {
    o.downcast_ref()
}

fn zeros(o: &(dyn Any + Send + Sync)) -> Option<Result<Item>> {
    let o = as_optional(o)?;
    let values = o.0.as_ref().map(|v| v.iter().map(zeros_of).collect::<Result<Vec<_>>>()).transpose();
    Some(values.map(|v| Arc::new(Optional(v)) as Item))
}

fn add(a: &(dyn Any + Send + Sync), b: &(dyn Any + Send + Sync)) -> Option<Result<Item>> {
    let sum = match (&as_optional(a)?.0, &as_optional(b)?.0) {
        (None, None) => Ok(None),
        (Some(x), Some(y)) if x.len() == y.len() => {
            x.iter().zip(y).map(|(x, y)| add_values(x, y)).collect::<Result<Vec<_>>>().map(Some)
        }
        (Some(_), Some(_)) => Err(invalid("cannot add optionals because they have different numbers of components")),
        _ => Err(invalid("cannot add optionals because one has a value and the other doesn't")),
    };
    Some(sum.map(|v| Arc::new(Optional(v)) as Item))
}

/// Sums and zeros of optionals: component by component.
pub(crate) static OPTIONAL: Kind = Kind { name: "optional", zeros: Some(zeros), add: Some(add), conj: None };
