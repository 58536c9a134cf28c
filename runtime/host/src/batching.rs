//! Ops that gather the calls of many runs into one, and functions that run row by row. A run here is a batch of its own.

use crate::call::{Call, tensor_of};
use crate::error::{HostError, failed_precondition, invalid};
use crate::limits;
use crate::value::Value;
use crate::{Result, Table, shapes, values};
use graphc_ir::{Tensor, TfStatus};
use std::sync::atomic::{AtomicI64, Ordering};

pub(crate) const TABLE: Table = &[
    ("BatchFunction", batch_function),
    ("Batch", batch),
    ("Unbatch", unbatch),
    ("UnbatchGrad", unbatch_grad),
    ("MapDefun", map_rows),
];

/// The number of rows that all operands have, which is at most what the node allows.
fn rows(call: &Call, operands: &[Value]) -> Result<usize> {
    let mut n = None;
    for v in operands {
        let first = *v.shape().first().ok_or_else(|| invalid("batching input tensors must have at least one dimension"))?;
        if n.is_some_and(|n| n != first) {
            return Err(invalid("batching input tensors supplied in a given op invocation must have equal 0th-dimension size"));
        }
        n = Some(first);
    }
    let n = n.ok_or_else(|| invalid("there is nothing to batch"))?;
    let most = call.attrs.int("max_batch_size").unwrap_or(i64::MAX);
    let splits = call.attrs.bool("enable_large_batch_splitting").unwrap_or(false);
    if !splits && usize::try_from(most).is_ok_and(|m| n > m) {
        return Err(invalid(format!("task size {n} is larger than maximum input batch size {most}")));
    }
    let allowed = call.attrs.ints("allowed_batch_sizes").unwrap_or_default();
    if allowed.windows(2).any(|w| w[0] >= w[1]) {
        return Err(invalid("allowed_batch_sizes entries must be monotonically increasing"));
    }
    let large = splits && call.attrs.int("max_batch_size").is_ok();
    if allowed.last().is_some_and(|&l| if large { l > most } else { l != most }) {
        return Err(invalid("final entry in allowed_batch_sizes must equal max_batch_size"));
    }
    Ok(n)
}

/// Calls the function for parts of the rows that are no larger than it allows, each padded to the next size that it allows.
fn batch_function(call: &Call) -> Result {
    let batched = call.attrs.elems("Tin")?.len();
    if batched > call.inputs.len() {
        return Err(invalid("a batch function with too few operands"));
    }
    let (operands, captured) = call.inputs.split_at(batched);
    let n = rows(call, operands)?;
    let f = call.attrs.function("f")?;
    let mut allowed = shapes::full_from_ints(&call.attrs.ints("allowed_batch_sizes").unwrap_or_default())?;
    let most = call.attrs.int("max_enqueued_batch_size").ok().filter(|&m| m > 0).or_else(|| call.attrs.int("max_batch_size").ok());
    let most = allowed.last().copied().or_else(|| usize::try_from(most?).ok()).filter(|&m| m > 0).unwrap_or(usize::MAX);
    allowed.sort_unstable();
    let mut parts: Vec<Vec<Value>> = Vec::new();
    let mut start = 0;
    while start < n || parts.is_empty() {
        let count = (n - start).min(most);
        let size = allowed.iter().copied().find(|&a| a >= count).unwrap_or(count);
        let mut args = Vec::with_capacity(call.inputs.len());
        for v in operands {
            let at: Vec<usize> = (0..size).map(|i| if i < count { start + i } else { start }).collect();
            args.push(picked_rows(v, &at)?);
        }
        args.extend_from_slice(captured);
        let mut outputs = call.caller.call(&f, args, call.step)?;
        for v in &mut outputs {
            if v.shape().first() != Some(&size) {
                return Err(failed_precondition(format!("a batched output of shape {:?} for {size} rows", v.shape())));
            }
            *v = values::rows(v, 0, count)?;
        }
        parts.push(outputs);
        start += count;
        if count == 0 {
            break;
        }
    }
    let width = parts.first().map_or(0, Vec::len);
    let joined = |k: usize| {
        let column: Vec<&Value> = parts.iter().filter_map(|p| p.get(k)).collect();
        let inner = column.first().and_then(|v| v.shape().get(1..)).unwrap_or_default().to_vec();
        let elem = column.first().map(|v| v.elem()).ok_or_else(|| invalid("a batch function with parts of different widths"))?;
        values::concat(elem, &inner, &column)
    };
    (0..width).map(joined).collect()
}

/// Rows of a value, in that order.
fn picked_rows(v: &Value, at: &[usize]) -> Result<Value> {
    let inner = v.shape().get(1..).ok_or_else(|| invalid("a scalar has no rows"))?;
    let size = limits::count(inner)?;
    let order: Vec<usize> = at.iter().flat_map(|r| r * size..(r + 1) * size).collect();
    values::take(v, [&[at.len()], inner].concat(), &order)
}

fn batch(call: &Call) -> Result {
    static NEXT: AtomicI64 = AtomicI64::new(1);
    let n = rows(call, call.inputs)?;
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut out = call.inputs.to_vec();
    out.push(tensor_of(&[1, 3], &[id, 0, n as i64])?.into());
    out.push(Tensor::scalar(id).into());
    Ok(out)
}

fn scalar_id(call: &Call, k: usize) -> Result<i64> {
    match call.tensor(k)?.rank() {
        0 => call.int(k),
        _ => Err(invalid(format!("id must be a scalar, and has shape {:?}", call.tensor(k)?.shape()))),
    }
}

/// Rows of the table that says which rows of a batch belong to which run.
fn batch_index(call: &Call, k: usize, rows: usize) -> Result<Vec<(i64, usize, usize)>> {
    let t = call.tensor(k)?;
    if t.rank() != 2 || t.shape().get(1) != Some(&3) {
        return Err(invalid(format!("batch_index must be a matrix with three columns, and has shape {:?}", t.shape())));
    }
    let entry = |c: &[i64]| match *c {
        [id, start, end] => {
            let (s, e) = (usize::try_from(start).ok(), usize::try_from(end).ok());
            let range = s.zip(e).filter(|(s, e)| s <= e && *e <= rows);
            let (s, e) = range.ok_or_else(|| invalid(format!("batch_index names rows {start}..{end} of {rows}")))?;
            Ok((id, s, e))
        }
        _ => Err(invalid("batch_index must have three columns")),
    };
    call.ints(k)?.chunks(3).map(entry).collect()
}

fn unbatch(call: &Call) -> Result {
    let v = call.input(0)?;
    let id = scalar_id(call, 2)?;
    let n = *v.shape().first().ok_or_else(|| invalid("input data should be at least a vector"))?;
    let (_, start, end) = batch_index(call, 1, n)?
        .into_iter()
        .find(|e| e.0 == id)
        .ok_or_else(|| HostError::new(TfStatus::DeadlineExceeded, "batched data did not arrive within the timeout window"))?;
    Ok(vec![values::rows(v, start, end - start)?])
}

/// The gradient of the whole batch; rows of other runs are zero.
fn unbatch_grad(call: &Call) -> Result {
    let (x, grad) = (call.input(0)?, call.input(2)?);
    let id = scalar_id(call, 3)?;
    let n = *x.shape().first().ok_or_else(|| invalid("original input should be at least a vector"))?;
    let index = batch_index(call, 1, n)?;
    if index.is_empty() {
        // The batch went to another run.
        return Ok(vec![values::zeros(x.elem(), &[&[0], x.shape().get(1..).unwrap_or_default()].concat())?]);
    }
    let inner = x.shape().get(1..).unwrap_or_default();
    let mut parts = Vec::with_capacity(index.len());
    for (owner, start, end) in index {
        let shape = [&[end - start], inner].concat();
        parts.push(match owner == id {
            true if grad.shape() == shape => grad.clone(),
            true => return Err(invalid(format!("a gradient of shape {:?} for rows of shape {shape:?}", grad.shape()))),
            false => values::zeros(x.elem(), &shape)?,
        });
    }
    Ok(vec![values::concat(x.elem(), inner, &parts.iter().collect::<Vec<_>>())?])
}

/// Calls a function for every row of its arguments.
fn map_rows(call: &Call) -> Result {
    let arguments = call.attrs.elems("Targuments")?.len();
    if arguments == 0 || arguments > call.inputs.len() {
        return Err(invalid("must have at least one input"));
    }
    let (mapped, captured) = call.inputs.split_at(arguments);
    let mut n = None;
    for v in mapped {
        let first = *v.shape().first().ok_or_else(|| invalid("all inputs must have rank at least 1"))?;
        if n.is_some_and(|n| n != first) {
            return Err(invalid("all inputs must have the same dimension 0"));
        }
        n = Some(first);
    }
    let f = call.attrs.function("f")?;
    let (types, wanted) = (call.attrs.elems("output_types")?, call.attrs.shapes("output_shapes")?);
    let mut columns: Vec<Vec<Value>> = vec![Vec::new(); types.len()];
    for i in 0..n.unwrap_or(0) {
        call.step.check()?;
        let mut args = mapped.iter().map(|v| values::row(v, i)).collect::<Result<Vec<_>>>()?;
        args.extend_from_slice(captured);
        let out = call.caller.call(&f, args, call.step)?;
        if out.len() != types.len() {
            return Err(invalid(format!("a function with {} results where {} are expected", out.len(), types.len())));
        }
        for ((column, v), shape) in columns.iter_mut().zip(out).zip(&wanted) {
            if !shapes::compatible(shape, v.shape()) {
                let want = shapes::text(shape);
                return Err(invalid(format!("a result of shape {:?} where {want} is expected", v.shape())));
            }
            column.push(v);
        }
    }
    let stacked = columns.iter().zip(&types).zip(&wanted).map(|((column, elem), shape)| {
        let inner = match column.first() {
            Some(v) => v.shape().to_vec(),
            None => shapes::full(shape).ok_or_else(|| invalid("the shape of a result of no rows must be fully defined"))?,
        };
        values::stack(*elem, &inner, &column.iter().collect::<Vec<_>>())
    });
    stacked.collect()
}
