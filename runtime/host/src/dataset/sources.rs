//! Datasets made of tensors.

use super::{Cardinality, Context, derived};
use crate::call::{Call, ints_of};
use crate::error::invalid;
use crate::{Result, Table, values};
use graphc_ir::Elem;

pub(crate) const TABLE: Table = &[("TensorDataset", whole), ("TensorSliceDataset", slices), ("RangeDataset", range)];

fn whole(call: &Call) -> Result {
    let element = call.inputs.to_vec();
    derived(Cardinality::Exactly(1), move || {
        let mut left = Some(element.clone());
        move |_: Context| Ok(left.take())
    })
}

fn slices(call: &Call) -> Result {
    let components = call.inputs.to_vec();
    let mut n = None;
    for v in &components {
        let first = *v.shape().first().ok_or_else(|| invalid("all components must be at least 1-dimensional"))?;
        if n.is_some_and(|n| n != first) {
            return Err(invalid("all components must have the same size in the 0th dimension"));
        }
        n = Some(first);
    }
    let n = n.ok_or_else(|| invalid("a dataset without components"))?;
    derived(Cardinality::Exactly(n as u64), move || {
        let (components, mut at) = (components.clone(), 0);
        move |_: Context| {
            if at >= n {
                return Ok(None);
            }
            at += 1;
            components.iter().map(|v| values::row(v, at - 1)).collect::<Result<Vec<_>>>().map(Some)
        }
    })
}

fn range(call: &Call) -> Result {
    let (start, stop, step) = (super::scalar(call, 0, "start")?, super::scalar(call, 1, "stop")?, super::scalar(call, 2, "step")?);
    if step == 0 {
        return Err(invalid("step must be a non-zero integer"));
    }
    let elem = call.attrs.elems("output_types").ok().and_then(|t| t.first().copied()).unwrap_or(Elem::I64);
    let span = if step > 0 { i128::from(stop) - i128::from(start) } else { i128::from(start) - i128::from(stop) };
    let n = if span <= 0 { 0 } else { (span as u128).div_ceil(u128::from(step.unsigned_abs())) as u64 };
    derived(Cardinality::Exactly(n), move || {
        let mut at = 0u64;
        move |_: Context| {
            if at >= n {
                return Ok(None);
            }
            let v = start.wrapping_add((at as i64).wrapping_mul(step));
            at += 1;
            let t = match elem {
                Elem::F32 => crate::call::tensor_of(&[], &[v as f32])?,
                Elem::F64 => crate::call::tensor_of(&[], &[v as f64])?,
                e => ints_of(e, &[], &[v])?,
            };
            Ok(Some(vec![t.into()]))
        }
    })
}
