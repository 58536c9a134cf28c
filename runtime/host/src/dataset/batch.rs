//! Datasets of batches: elements under each other.

use super::{Context, Element, derived, input};
use crate::attrs::PartialShape;
use crate::call::Call;
use crate::error::invalid;
use crate::limits;
use crate::value::Value;
use crate::{Result, Table, shapes, values};

pub(crate) const TABLE: Table = &[
    ("BatchDataset", batch),
    ("BatchDatasetV2", batch_v2),
    ("ParallelBatchDataset", parallel_batch),
    ("PaddedBatchDataset", padded_batch),
    ("PaddedBatchDatasetV2", padded_batch_v2),
];

fn size(call: &Call) -> Result<usize> {
    let n = super::scalar(call, 1, "batch_size")?;
    usize::try_from(n).ok().filter(|&n| n > 0).ok_or_else(|| invalid("batch size must be greater than zero"))
}

/// Batches of `n` elements; the last may be smaller unless `whole`.
fn batches(call: &Call, whole: bool, join: impl Fn(&[Element]) -> Result<Element> + Clone + Send + Sync + 'static) -> Result {
    let (d, n) = (input(call, 0)?, size(call)?);
    let cardinality = d.cardinality().map(|c| if whole { c / n as u64 } else { c.div_ceil(n as u64) });
    derived(cardinality, move || {
        let (mut walk, join) = (d.walk(), join.clone());
        move |cx: Context| {
            let mut elements = Vec::new();
            while elements.len() < n {
                match walk.next(cx)? {
                    Some(e) => elements.push(e),
                    None => break,
                }
            }
            if elements.is_empty() || whole && elements.len() < n {
                return Ok(None);
            }
            join(&elements).map(Some)
        }
    })
}

/// The values of one component.
fn column(elements: &[Element], k: usize) -> Vec<&Value> {
    elements.iter().filter_map(|e| e.get(k)).collect()
}

fn stacked(elements: &[Element]) -> Result<Element> {
    let width = elements.first().map_or(0, Vec::len);
    let one = |k: usize| {
        let parts = column(elements, k);
        let first = *parts.first().ok_or_else(|| invalid("a batch without elements"))?;
        if let Some(odd) = parts.iter().find(|v| v.shape() != first.shape()) {
            let (a, b) = (first.shape(), odd.shape());
            return Err(invalid(format!("cannot batch tensors with different shapes in component {k}: {a:?} and {b:?}")));
        }
        values::stack(first.elem(), first.shape(), &parts)
    };
    (0..width).map(one).collect()
}

fn batch(call: &Call) -> Result {
    batches(call, false, stacked)
}

fn batch_v2(call: &Call) -> Result {
    batches(call, super::flag(call, 2, "drop_remainder")?, stacked)
}

fn parallel_batch(call: &Call) -> Result {
    batches(call, super::flag(call, 3, "drop_remainder")?, stacked)
}

/// One component padded to the shape that is asked, or where that is open to the largest of the batch.
fn padded_column(parts: &[&Value], asked: &PartialShape, value: &Value, k: usize) -> Result<Value> {
    let first = *parts.first().ok_or_else(|| invalid("a batch without elements"))?;
    let rank = first.shape().len();
    let mut shape = Vec::with_capacity(rank);
    for d in 0..rank {
        let largest = parts.iter().filter_map(|v| v.shape().get(d).copied()).max().unwrap_or(0);
        let want = asked.as_ref().and_then(|s| s.get(d).copied().flatten());
        if want.is_some_and(|w| w < largest) {
            return Err(invalid(format!("attempted to pad component {k} to a smaller size than the input element")));
        }
        shape.push(want.unwrap_or(largest));
    }
    if asked.as_ref().is_some_and(|s| s.len() != rank) || parts.iter().any(|v| v.shape().len() != rank) {
        return Err(invalid(format!("all elements in component {k} must have the same rank as the padded shape")));
    }
    let inner = limits::count(&shape)?;
    let mut all: Vec<&Value> = parts.to_vec();
    all.push(value);
    let mut total = 0usize;
    let mut starts = Vec::with_capacity(parts.len());
    for p in parts {
        starts.push(total);
        total = total.saturating_add(limits::count(p.shape())?);
    }
    let joined = values::join(first.elem(), vec![total + 1], &all)?;
    let mut order = values::room(inner.saturating_mul(parts.len()))?;
    for (p, start) in parts.iter().zip(&starts) {
        order.extend(values::positions(&shape, |at| {
            let inside = at.iter().zip(p.shape()).all(|(i, d)| i < d);
            if inside { start + at.iter().zip(p.shape()).fold(0, |flat, (i, d)| flat * d + i) } else { total }
        })?);
    }
    values::take(&joined, [&[parts.len()], shape.as_slice()].concat(), &order)
}

fn padded(call: &Call, whole: bool) -> Result {
    let n = call.attrs.elems("Toutput_types")?.len();
    let asked = (2..2 + n).map(|k| shapes::from_tensor(call.tensor(k)?)).collect::<Result<Vec<_>>>()?;
    let values = call.inputs.get(2 + n..2 + 2 * n).ok_or_else(|| invalid("too few padding values"))?.to_vec();
    if values.iter().any(|v| !v.shape().is_empty()) {
        return Err(invalid("all padding values must be scalars"));
    }
    batches(call, whole, move |elements: &[Element]| {
        let one = |(k, (asked, value))| padded_column(&column(elements, k), asked, value, k);
        asked.iter().zip(&values).enumerate().map(one).collect()
    })
}

fn padded_batch(call: &Call) -> Result {
    padded(call, false)
}

fn padded_batch_v2(call: &Call) -> Result {
    let last = call.inputs.len().saturating_sub(1);
    padded(call, super::flag(call, last, "drop_remainder")?)
}
