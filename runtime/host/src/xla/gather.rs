//! Gathers and scatters with dimension numbers.

use super::wire::numbers;
use crate::call::Call;
use crate::error::invalid;
use crate::limits;
use crate::value::Value;
use crate::{Result, Table, shapes, values};

pub(crate) const TABLE: Table = &[("XlaGather", gather), ("XlaScatter", scatter)];

/// How windows and indices lie in the operands.
struct Layout {
    /// Dimensions of the result (or the updates) that run within a window.
    offsets: Vec<usize>,
    /// Dimensions of the operand that a window has only one entry of, and leaves out.
    collapsed: Vec<usize>,
    /// Dimension of the operand that each number of an index is for.
    indexed: Vec<usize>,
    /// Dimension of the indices along which an index lies.
    vector: usize,
}

impl Layout {
    fn of(call: &Call) -> Result<Layout> {
        let m = numbers(&call.attrs.bytes("dimension_numbers")?)?;
        let dims = |k: u64| shapes::full_from_ints(m.get(&k).map(Vec::as_slice).unwrap_or_default());
        let vector = dims(4)?.last().copied().unwrap_or(0);
        Ok(Layout { offsets: dims(1)?, collapsed: dims(2)?, indexed: dims(3)?, vector })
    }
}

/// Where each element of a result of the shape `out` lies in the operand; MAX where a window is outside, if `keep` is false.
fn places(call: &Call, layout: &Layout, operand: &[usize], window: &[usize], out: &[usize], keep: bool) -> Result<Vec<usize>> {
    let (indices, all) = (call.tensor(1)?, call.ints(1)?);
    let mut batch = indices.shape().to_vec();
    let depth = if layout.vector < batch.len() { batch.remove(layout.vector) } else { 1 };
    if depth != layout.indexed.len() || layout.indexed.iter().any(|&d| d >= operand.len()) || layout.vector > indices.rank() {
        return Err(invalid(format!("indices of shape {:?} for the dimensions {:?}", indices.shape(), layout.indexed)));
    }
    let within: Vec<usize> = (0..operand.len()).filter(|d| !layout.collapsed.contains(d)).collect();
    let outer: Vec<usize> = (0..out.len()).filter(|d| !layout.offsets.contains(d)).collect();
    let offsets_fit = layout.offsets.len() == within.len() && layout.offsets.iter().all(|&d| d < out.len());
    let sizes_fit = layout.offsets.iter().zip(&within).all(|(&o, &w)| out.get(o) == window.get(w) || !keep);
    let batch_fits = outer.iter().map(|&d| out[d]).eq(batch.iter().copied());
    if !offsets_fit || !sizes_fit || !batch_fits {
        return Err(invalid(format!(
            "dimension numbers do not fit operands of shapes {operand:?}, {:?}, {out:?}",
            indices.shape()
        )));
    }
    values::positions(out, |at| {
        // The number `k` of the index that this element belongs to.
        let index = |k: usize| {
            let mut flat = 0;
            let mut b = outer.iter().map(|&d| at[d]);
            for (d, n) in indices.shape().iter().enumerate() {
                flat = flat * n + if d == layout.vector { k } else { b.next().unwrap_or(0) };
            }
            all.get(flat).copied().unwrap_or(0)
        };
        let mut p: Vec<i64> = vec![0; operand.len()];
        for (k, &d) in layout.indexed.iter().enumerate() {
            let start = index(k);
            let last = operand[d] as i64 - window[d] as i64;
            if !keep && (start < 0 || start > last) {
                return usize::MAX;
            }
            p[d] = start.clamp(0, last.max(0));
        }
        for (&o, &d) in layout.offsets.iter().zip(&within) {
            p[d] += at[o] as i64;
        }
        p.iter().zip(operand).fold(0, |flat, (&i, d)| flat * d + i as usize)
    })
}

fn gather(call: &Call) -> Result {
    let (x, layout) = (call.input(0)?, Layout::of(call)?);
    let window = shapes::full_from_ints(&call.ints(2)?)?;
    if window.len() != x.shape().len() || window.iter().zip(x.shape()).any(|(w, d)| w > d) {
        return Err(invalid(format!("slices of {window:?} out of {:?}", x.shape())));
    }
    if layout.collapsed.iter().any(|&d| window.get(d) != Some(&1)) {
        return Err(invalid("a collapsed dimension must have a slice size of 1"));
    }
    let mut batch = call.tensor(1)?.shape().to_vec();
    if layout.vector < batch.len() {
        batch.remove(layout.vector);
    }
    let mut sizes = (0..window.len()).filter(|d| !layout.collapsed.contains(d)).map(|d| window[d]);
    let mut batch = batch.into_iter();
    let rank = layout.offsets.len() + batch.len();
    let next = |d: usize| if layout.offsets.contains(&d) { sizes.next() } else { batch.next() };
    let out: Vec<usize> = (0..rank).map(next).collect::<Option<_>>().ok_or_else(|| invalid("offset_dims do not fit"))?;
    let at = places(call, &layout, x.shape(), &window, &out, true)?;
    Ok(vec![values::take(x, out, &at)?])
}

fn scatter(call: &Call) -> Result {
    let (x, updates, layout) = (call.input(0)?, call.input(2)?, Layout::of(call)?);
    let mut sizes = layout.offsets.iter().map(|&d| updates.shape().get(d).copied());
    let one = |d: usize| if layout.collapsed.contains(&d) { Some(1) } else { sizes.next().flatten() };
    let window: Vec<usize> = (0..x.shape().len()).map(one).collect::<Option<_>>().ok_or_else(|| invalid("windows do not fit"))?;
    if window.iter().zip(x.shape()).any(|(w, d)| w > d) {
        return Err(invalid(format!("windows of {window:?} in {:?}", x.shape())));
    }
    let at = places(call, &layout, x.shape(), &window, updates.shape(), false)?;
    let f = call.attrs.function("update_computation")?;
    let n = limits::count(x.shape())?;
    let flat = values::reshaped(x, vec![n])?;
    let mut now = (0..n).map(|i| values::row(&flat, i)).collect::<Result<Vec<Value>>>()?;
    let new = values::reshaped(updates, vec![at.len()])?;
    for (k, &p) in at.iter().enumerate() {
        let Some(old) = now.get_mut(p) else { continue };
        let out = call.caller.call(&f, vec![old.clone(), values::row(&new, k)?], call.step)?;
        *old = out.into_iter().next().ok_or_else(|| invalid("an update computation must have a result"))?;
    }
    let all = values::stack(x.elem(), &[], &now.iter().collect::<Vec<_>>())?;
    Ok(vec![values::reshaped(&all, x.shape().to_vec())?])
}
