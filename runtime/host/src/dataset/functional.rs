//! Datasets that call functions for their elements.

use super::{Cardinality, Context, Dataset, Element, Walk, dataset_of, derived, input};
use crate::attrs::Function;
use crate::call::Call;
use crate::error::invalid;
use crate::value::Value;
use crate::{Result, Table};
use std::sync::Arc;

pub(crate) const TABLE: Table = &[
    ("MapDataset", map),
    ("ParallelMapDataset", parallel_map),
    ("ParallelMapDatasetV2", parallel_map),
    ("FilterDataset", filter),
    ("TakeWhileDataset", take_while),
    ("FlatMapDataset", flat_map),
    ("InterleaveDataset", interleave),
    ("ParallelInterleaveDataset", interleave),
    ("ParallelInterleaveDatasetV2", interleave),
    ("ParallelInterleaveDatasetV3", interleave),
    ("ParallelInterleaveDatasetV4", interleave),
    ("ScanDataset", scan),
    ("ReduceDataset", reduce),
];

/// A function and what it has captured.
#[derive(Clone)]
struct Closure {
    f: Function,
    captured: Vec<Value>,
}

impl Closure {
    fn of(call: &Call, name: &str, captured: &[Value]) -> Result<Closure> {
        Ok(Closure { f: call.attrs.function(name)?, captured: captured.to_vec() })
    }

    fn call(&self, cx: Context, args: impl IntoIterator<Item = Value>) -> Result<Element> {
        cx.call(&self.f, args.into_iter().chain(self.captured.iter().cloned()).collect())
    }

    fn holds(&self, cx: Context, e: &Element) -> Result<bool> {
        let out = self.call(cx, e.iter().cloned())?;
        match out.first().and_then(Value::as_tensor).and_then(|t| t.as_bools()).as_deref() {
            Some([b]) => Ok(*b),
            _ => Err(invalid("a predicate must give one bool")),
        }
    }
}

fn mapped(call: &Call, captured: &[Value]) -> Result {
    let (d, f) = (input(call, 0)?, Closure::of(call, "f", captured)?);
    derived(d.cardinality(), move || {
        let (mut walk, f) = (d.walk(), f.clone());
        move |cx: Context| walk.next(cx)?.map(|e| f.call(cx, e)).transpose()
    })
}

fn map(call: &Call) -> Result {
    mapped(call, call.inputs.get(1..).unwrap_or_default())
}

fn parallel_map(call: &Call) -> Result {
    let last = call.inputs.len().saturating_sub(1);
    mapped(call, call.inputs.get(1..last).unwrap_or_default())
}

fn filter(call: &Call) -> Result {
    let (d, f) = (input(call, 0)?, Closure::of(call, "predicate", call.inputs.get(1..).unwrap_or_default())?);
    derived(Cardinality::Unknown, move || {
        let (mut walk, f) = (d.walk(), f.clone());
        move |cx: Context| {
            while let Some(e) = walk.next(cx)? {
                if f.holds(cx, &e)? {
                    return Ok(Some(e));
                }
            }
            Ok(None)
        }
    })
}

fn take_while(call: &Call) -> Result {
    let (d, f) = (input(call, 0)?, Closure::of(call, "predicate", call.inputs.get(1..).unwrap_or_default())?);
    derived(Cardinality::Unknown, move || {
        let (mut walk, f) = (Some(d.walk()), f.clone());
        move |cx: Context| {
            let Some(w) = &mut walk else { return Ok(None) };
            if let Some(e) = w.next(cx)?
                && f.holds(cx, &e)?
            {
                return Ok(Some(e));
            }
            walk = None;
            Ok(None)
        }
    })
}

/// A walk through the dataset that a function makes of an element.
fn opened(f: &Closure, cx: Context, e: Element) -> Result<Box<dyn Walk>> {
    let out = f.call(cx, e)?;
    Ok(dataset_of(out.first().ok_or_else(|| invalid("a function must give a dataset"))?)?.walk())
}

fn flat_map(call: &Call) -> Result {
    let (d, f) = (input(call, 0)?, Closure::of(call, "f", call.inputs.get(1..).unwrap_or_default())?);
    derived(Cardinality::Unknown, move || {
        let (mut walk, f) = (d.walk(), f.clone());
        let mut inner: Option<Box<dyn Walk>> = None;
        move |cx: Context| {
            loop {
                if let Some(w) = &mut inner {
                    if let Some(e) = w.next(cx)? {
                        return Ok(Some(e));
                    }
                    inner = None;
                }
                match walk.next(cx)? {
                    Some(e) => inner = Some(opened(&f, cx, e)?),
                    None => return Ok(None),
                }
            }
        }
    })
}

/// Takes a block of elements from each of several inner datasets in turn.
fn interleave(call: &Call) -> Result {
    let captured = call.attrs.elems("Targuments").map_or(0, |t| t.len());
    let args = call.inputs.get(1..=captured).ok_or_else(|| invalid("too few operands"))?;
    let (d, f) = (input(call, 0)?, Closure::of(call, "f", args)?);
    let positive = |k: usize, what: &str| {
        let v = super::scalar(call, k, what)?;
        // A negative number of cycles leaves the choice to the runtime.
        let v = if v == -1 { 1 } else { v };
        usize::try_from(v)
            .ok()
            .filter(|&v| v > 0 && v <= 1 << 16)
            .ok_or_else(|| invalid(format!("{what} must be greater than zero")))
    };
    let (cycle, block) = (positive(captured + 1, "cycle_length")?, positive(captured + 2, "block_length")?);
    derived(Cardinality::Unknown, move || {
        let (mut walk, f) = (Some(d.walk()), f.clone());
        let mut slots: Vec<Option<Box<dyn Walk>>> = (0..cycle).map(|_| None).collect();
        let (mut at, mut taken) = (0, 0);
        move |cx: Context| {
            loop {
                if walk.is_none() && slots.iter().all(Option::is_none) {
                    return Ok(None);
                }
                if let Some(w) = &mut slots[at] {
                    if let Some(e) = w.next(cx)? {
                        taken += 1;
                        if taken == block {
                            (at, taken) = ((at + 1) % cycle, 0);
                        }
                        return Ok(Some(e));
                    }
                    slots[at] = None;
                    (at, taken) = ((at + 1) % cycle, 0);
                    continue;
                }
                match walk.as_mut().map(|w| w.next(cx)).transpose()?.flatten() {
                    Some(e) => slots[at] = Some(opened(&f, cx, e)?),
                    None => {
                        walk = None;
                        (at, taken) = ((at + 1) % cycle, 0);
                    }
                }
            }
        }
    })
}

/// Gives what the function makes of a state and an element; the function makes the next state too.
fn scan(call: &Call) -> Result {
    let states = call.attrs.elems("Tstate")?.len();
    let rest = call.inputs.get(1..).unwrap_or_default();
    let (initial, captured) = rest.split_at_checked(states).ok_or_else(|| invalid("too few operands"))?;
    let (d, f, initial) = (input(call, 0)?, Closure::of(call, "f", captured)?, initial.to_vec());
    derived(d.cardinality(), move || {
        let (mut walk, f, mut state) = (d.walk(), f.clone(), initial.clone());
        move |cx: Context| {
            let Some(e) = walk.next(cx)? else { return Ok(None) };
            let mut out = f.call(cx, state.iter().cloned().chain(e))?;
            if out.len() < states {
                return Err(invalid("a scan function with too few results"));
            }
            let element = out.split_off(states);
            state = out;
            Ok(Some(element))
        }
    })
}

fn reduce(call: &Call) -> Result {
    let states = call.attrs.elems("Tstate")?.len();
    let rest = call.inputs.get(1..).unwrap_or_default();
    let (initial, captured) = rest.split_at_checked(states).ok_or_else(|| invalid("too few operands"))?;
    let (d, f): (Arc<dyn Dataset>, _) = (input(call, 0)?, Closure::of(call, "f", captured)?);
    let (cx, mut state, mut walk) = (Context::of(call), initial.to_vec(), d.walk());
    while let Some(e) = walk.next(cx)? {
        state = f.call(cx, state.into_iter().chain(e))?;
    }
    let (types, wanted) = (call.attrs.elems("output_types")?, call.attrs.shapes("output_shapes")?);
    super::iterators::check(&state, &types, &wanted)?;
    Ok(state)
}
