//! Barriers: values that belong to a key come in one component at a time, and leave when all are there.

use super::Monitor;
use crate::call::{Call, strings_of};
use crate::error::{cancelled, invalid, out_of_range};
use crate::value::Value;
use crate::{Result, Table, shapes, values};
use graphc_ir::Elem;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub(crate) const TABLE: Table = &[
    ("Barrier", make),
    ("BarrierInsertMany", insert_many),
    ("BarrierTakeMany", take_many),
    ("BarrierClose", close),
    ("BarrierReadySize", ready_size),
    ("BarrierIncompleteSize", incomplete_size),
];

type Key = Box<[u8]>;

struct Ready {
    /// Which insertion brought the key.
    index: i64,
    key: Key,
    values: Vec<Value>,
}

struct State {
    incomplete: BTreeMap<Key, (i64, Vec<Option<Value>>)>,
    ready: VecDeque<Ready>,
    next_index: i64,
    closed: bool,
    cancelled: bool,
}

struct Barrier {
    types: Vec<Elem>,
    shapes: Vec<Vec<usize>>,
    monitor: Monitor<State>,
}

impl State {
    /// No key can become ready any more.
    fn done(&self) -> bool {
        self.closed && (self.cancelled || self.incomplete.is_empty())
    }
}

fn make(call: &Call) -> Result {
    let types = call.attrs.elems("component_types")?;
    let given = call.attrs.shapes("shapes").unwrap_or_default();
    let shapes = given.iter().map(|s| shapes::full(s).ok_or_else(|| invalid("a barrier's shapes must be fully defined")));
    let shapes = shapes.collect::<Result<Vec<_>>>()?;
    if !shapes.is_empty() && shapes.len() != types.len() {
        return Err(invalid(format!("all of the component shapes must be specified: {} of {}", shapes.len(), types.len())));
    }
    if shapes.iter().any(|s| s.contains(&0)) {
        return Err(invalid("a barrier does not take components without elements"));
    }
    let made = call.shared("barrier", || {
        let state =
            State { incomplete: BTreeMap::new(), ready: VecDeque::new(), next_index: i64::MIN, closed: false, cancelled: false };
        Ok(Barrier { types: types.clone(), shapes: shapes.clone(), monitor: Monitor::new(state) })
    })?;
    if let Value::Resource(r) = &made
        && let Some(b) = r.downcast::<Barrier>()
        && (b.types != types || b.shapes != shapes)
    {
        return Err(invalid(format!("shared barrier {:?} has other components", r.name())));
    }
    Ok(vec![made])
}

fn barrier(call: &Call) -> Result<Arc<Barrier>> {
    call.object(0)
}

fn insert_many(call: &Call) -> Result {
    let b = barrier(call)?;
    let (keys, v) = (call.strings(1)?, call.input(2)?);
    let component = call.attrs.int("component_index")?;
    let at = usize::try_from(component).ok().filter(|&c| c < b.types.len());
    let at = at.ok_or_else(|| invalid(format!("component_index {component} of {} components", b.types.len())))?;
    let fits = b.shapes.get(at).is_none_or(|s| v.shape().get(1..) == Some(s));
    if b.types.get(at) != Some(&v.elem()) || v.shape().first() != Some(&keys.len()) || !fits {
        return Err(invalid(format!("{} keys with values of {}{:?} for component {at}", keys.len(), v.elem(), v.shape())));
    }
    let mut state = b.monitor.lock();
    if state.closed && (state.cancelled || (!keys.is_empty() && state.incomplete.is_empty())) {
        return Err(cancelled("the barrier is closed"));
    }
    let (index, mut fresh, mut ready) = (state.next_index, false, Vec::new());
    for (i, key) in keys.iter().enumerate() {
        if !state.incomplete.contains_key(key) {
            if state.closed {
                return Err(cancelled("the barrier is closed, but a brand new key came"));
            }
            fresh = true;
            state.incomplete.insert(key.clone(), (index, vec![None; b.types.len()]));
        }
        let Some((_, slots)) = state.incomplete.get_mut(key) else { continue };
        if let Some(slot) = slots.get_mut(at) {
            if slot.is_some() {
                return Err(invalid(format!("a key already has a value for component {at}")));
            }
            *slot = Some(values::row(v, i)?);
        }
        if slots.iter().all(Option::is_some)
            && let Some((index, slots)) = state.incomplete.remove(key)
        {
            ready.push(Ready { index, key: key.clone(), values: slots.into_iter().flatten().collect() });
        }
    }
    if fresh {
        state.next_index += 1;
    }
    for r in ready {
        let at = state.ready.partition_point(|o| o.index <= r.index);
        state.ready.insert(at, r);
    }
    drop(state);
    b.monitor.notify();
    Ok(Vec::new())
}

fn take_many(call: &Call) -> Result {
    let b = barrier(call)?;
    let n = call.int(1)?;
    let n = usize::try_from(n).map_err(|_| invalid(format!("num_elements must be positive, and is {n}")))?;
    let fewer = call.attrs.bool("allow_small_batch").unwrap_or(false);
    let taken: Vec<Ready> = b.monitor.wait(call.step, |state| {
        let there = state.ready.len();
        if there >= n {
            return Ok(Some(state.ready.drain(..n).collect()));
        }
        if !state.done() {
            return Ok(None);
        }
        if fewer && there > 0 {
            return Ok(Some(state.ready.drain(..).collect()));
        }
        Err(out_of_range(format!("the barrier is closed and has insufficient elements (requested {n}, total size {there})")))
    })?;
    let indices: Vec<i64> = taken.iter().map(|r| r.index).collect();
    let keys = taken.iter().map(|r| r.key.clone()).collect();
    let mut out = vec![values::vector(&indices)?, strings_of(&[taken.len()], keys)?.into()];
    for (i, elem) in b.types.iter().enumerate() {
        let parts: Vec<&Value> = taken.iter().filter_map(|r| r.values.get(i)).collect();
        let inner = parts.first().map(|v| v.shape().to_vec()).or_else(|| b.shapes.get(i).cloned()).unwrap_or_default();
        out.push(values::stack(*elem, &inner, &parts)?);
    }
    Ok(out)
}

fn close(call: &Call) -> Result {
    let b = barrier(call)?;
    let cancel = call.attrs.bool("cancel_pending_enqueues").unwrap_or(false);
    let mut state = b.monitor.lock();
    if state.closed && (state.cancelled || !cancel) {
        return Err(cancelled("the barrier is already closed"));
    }
    state.closed = true;
    state.cancelled |= cancel;
    if cancel {
        state.incomplete.clear();
    }
    drop(state);
    b.monitor.notify();
    Ok(Vec::new())
}

fn ready_size(call: &Call) -> Result {
    Ok(vec![values::scalar_i32(barrier(call)?.monitor.lock().ready.len())?])
}

fn incomplete_size(call: &Call) -> Result {
    Ok(vec![values::scalar_i32(barrier(call)?.monitor.lock().incomplete.len())?])
}
