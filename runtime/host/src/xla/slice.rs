//! Slices at positions that the run decides, and padding.

use crate::call::Call;
use crate::error::invalid;
use crate::limits;
use crate::value::Value;
use crate::{Result, Table, values};

pub(crate) const TABLE: Table =
    &[("XlaDynamicSlice", slice), ("XlaDynamicUpdateSlice", update), ("XlaPad", pad), ("XlaBroadcastHelper", broadcast_helper)];

fn vector(call: &Call, k: usize, n: usize, what: &str) -> Result<Vec<i64>> {
    let v = call.ints(k)?;
    let good = call.tensor(k)?.rank() == 1 && v.len() == n;
    if good { Ok(v) } else { Err(invalid(format!("{what} must be a vector of {n} numbers"))) }
}

/// Starts moved so far that the slice is inside.
fn clamped(starts: &[i64], whole: &[usize], size: &[usize]) -> Result<Vec<usize>> {
    let one = |((&s, &d), &n): ((&i64, &usize), &usize)| {
        let last = d.checked_sub(n).ok_or_else(|| invalid(format!("a slice of {size:?} out of {whole:?}")))?;
        Ok(usize::try_from(s).unwrap_or(0).min(last))
    };
    starts.iter().zip(whole).zip(size).map(one).collect()
}

/// Positions of a block in a whole.
fn places(whole: &[usize], start: &[usize], size: &[usize]) -> Result<Vec<usize>> {
    values::positions(size, |at| at.iter().zip(start).zip(whole).fold(0, |flat, ((i, s), d)| flat * d + s + i))
}

fn slice(call: &Call) -> Result {
    let x = call.input(0)?;
    let rank = x.shape().len();
    let size = crate::shapes::full_from_ints(&vector(call, 2, rank, "size_indices")?)?;
    let start = clamped(&vector(call, 1, rank, "start_indices")?, x.shape(), &size)?;
    Ok(vec![values::take(x, size.clone(), &places(x.shape(), &start, &size)?)?])
}

/// `x` with elements from `update` at those places.
fn overlaid(x: &Value, update: &Value, at: &[usize]) -> Result<Value> {
    let n = limits::count(x.shape())?;
    let all = values::join(x.elem(), vec![n + at.len()], &[x, update])?;
    let mut order: Vec<usize> = (0..n).collect();
    for (k, &p) in at.iter().enumerate() {
        if let Some(o) = order.get_mut(p) {
            *o = n + k;
        }
    }
    values::take(&all, x.shape().to_vec(), &order)
}

fn update(call: &Call) -> Result {
    let (x, u) = (call.input(0)?, call.input(1)?);
    let rank = x.shape().len();
    if u.shape().len() != rank {
        return Err(invalid(format!("an update of shape {:?} for {:?}", u.shape(), x.shape())));
    }
    let start = clamped(&vector(call, 2, rank, "indices")?, x.shape(), u.shape())?;
    Ok(vec![overlaid(x, u, &places(x.shape(), &start, u.shape())?)?])
}

fn pad(call: &Call) -> Result {
    let (x, value) = (call.input(0)?, call.input(1)?);
    let rank = x.shape().len();
    let (low, high) = (vector(call, 2, rank, "padding_low")?, vector(call, 3, rank, "padding_high")?);
    let between = vector(call, 4, rank, "padding_interior")?;
    if !value.shape().is_empty() || between.iter().any(|&b| b < 0) {
        return Err(invalid("padding_value must be a scalar, and padding_interior must not be negative"));
    }
    let mut shape = Vec::with_capacity(rank);
    for (d, &n) in x.shape().iter().enumerate() {
        let n = n as i64;
        let wide = n.saturating_add((n - 1).max(0).saturating_mul(between[d])).saturating_add(low[d]).saturating_add(high[d]);
        shape.push(usize::try_from(wide).map_err(|_| invalid(format!("padding dimension {d} gives a size of {wide}")))?);
    }
    let n = limits::count(x.shape())?;
    let all = values::join(x.elem(), vec![n + 1], &[x, value])?;
    let order = values::positions(&shape, |at| {
        let mut flat = 0usize;
        for (d, &size) in x.shape().iter().enumerate() {
            let (p, step) = (at[d] as i64 - low[d], between[d].saturating_add(1));
            match usize::try_from(p).ok().filter(|_| p % step == 0).map(|_| (p / step) as usize) {
                Some(i) if i < size => flat = flat * size + i,
                _ => return n,
            }
        }
        flat
    })?;
    Ok(vec![values::take(&all, shape, &order)?])
}

/// Gives the operand of lower rank dimensions of one, so that the two broadcast.
fn broadcast_helper(call: &Call) -> Result {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let dims = call.ints(2)?;
    let (low, high) = if a.shape().len() < b.shape().len() { (a, b) } else { (b, a) };
    if dims.is_empty() {
        let fits = low.shape().is_empty() || low.shape().len() == high.shape().len();
        let rank = high.shape().len();
        return if fits {
            Ok(vec![a.clone(), b.clone()])
        } else {
            Err(invalid(format!("broadcast_dims must say how to reach rank {rank}")))
        };
    }
    if dims.len() != low.shape().len() {
        return Err(invalid(format!("{} broadcast_dims for a value of shape {:?}", dims.len(), low.shape())));
    }
    let mut shape = vec![1; high.shape().len()];
    let mut last = -1;
    for (&d, &n) in dims.iter().zip(low.shape()) {
        let slot = usize::try_from(d).ok().and_then(|d| shape.get_mut(d)).filter(|_| d > last);
        *slot.ok_or_else(|| invalid(format!("broadcast_dims {dims:?} must ascend within the rank")))? = n;
        last = d;
    }
    let wider = values::reshaped(low, shape)?;
    Ok(if a.shape().len() < b.shape().len() { vec![wider, b.clone()] } else { vec![a.clone(), wider] })
}
