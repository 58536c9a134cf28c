//! Staging areas: values that wait for their turn, in order or under a key.

use super::Monitor;
use crate::call::Call;
use crate::error::{HostError, invalid};
use crate::value::Value;
use crate::{Result, Table, values};
use graphc_ir::{Tensor, TfStatus};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub(crate) const TABLE: Table = &[
    ("Stage", stage),
    ("Unstage", unstage),
    ("StagePeek", stage_peek),
    ("StageSize", stage_size),
    ("StageClear", stage_clear),
    ("MapStage", map_stage),
    ("MapUnstage", map_unstage),
    ("MapUnstageNoKey", map_unstage_any),
    ("MapPeek", map_peek),
    ("MapSize", map_size),
    ("MapIncompleteSize", map_incomplete_size),
    ("MapClear", map_clear),
    ("OrderedMapStage", map_stage),
    ("OrderedMapUnstage", map_unstage),
    ("OrderedMapUnstageNoKey", map_unstage_any),
    ("OrderedMapPeek", map_peek),
    ("OrderedMapSize", map_size),
    ("OrderedMapIncompleteSize", map_incomplete_size),
    ("OrderedMapClear", map_clear),
];

/// How many bytes values take.
fn bytes(v: &[Value]) -> usize {
    v.iter().filter_map(Value::as_tensor).map(|t| t.strings().map_or(t.bytes().len(), |s| s.iter().map(|s| s.len()).sum())).sum()
}

/// What an area may hold; zero is no limit.
#[derive(Clone, Copy)]
struct Limit {
    capacity: usize,
    memory: usize,
}

impl Limit {
    fn of(call: &Call) -> Limit {
        let limit = |name: &str| usize::try_from(call.attrs.int(name).unwrap_or(0)).unwrap_or(0);
        Limit { capacity: limit("capacity"), memory: limit("memory_limit") }
    }

    /// Whether something of `size` bytes may join.
    fn admits(&self, count: usize, used: usize, size: usize) -> Result<bool> {
        if self.memory > 0 && size > self.memory {
            let message =
                format!("attempted to insert tensors with combined size of {size} bytes where {} are allowed", self.memory);
            return Err(HostError::new(TfStatus::ResourceExhausted, message));
        }
        Ok((self.capacity == 0 || count < self.capacity) && (self.memory == 0 || used + size <= self.memory))
    }
}

/// The object of that kind which this node shares with others of its container and name.
fn area<T: Send + 'static>(call: &Call, kind: &'static str, make: impl FnOnce() -> T) -> Result<Arc<Monitor<T>>> {
    let v = call.shared(kind, || Ok(Monitor::new(make())))?;
    let found = if let Value::Resource(r) = &v { r.downcast() } else { None };
    found.ok_or_else(|| invalid("a staging area of another kind has this name"))
}

#[derive(Default)]
struct Line {
    entries: VecDeque<Vec<Value>>,
    used: usize,
}

fn line(call: &Call) -> Result<Arc<Monitor<Line>>> {
    area(call, "stage", Line::default)
}

fn stage(call: &Call) -> Result {
    let (line, limit, size) = (line(call)?, Limit::of(call), bytes(call.inputs));
    line.wait(call.step, |l| {
        if !limit.admits(l.entries.len(), l.used, size)? {
            return Ok(None);
        }
        l.entries.push_back(call.inputs.to_vec());
        l.used += size;
        Ok(Some(()))
    })?;
    Ok(Vec::new())
}

fn unstage(call: &Call) -> Result {
    line(call)?.wait(call.step, |l| {
        let entry = l.entries.pop_front();
        l.used = l.used.saturating_sub(entry.as_deref().map_or(0, bytes));
        Ok(entry)
    })
}

fn stage_peek(call: &Call) -> Result {
    let i = call.int(0)?;
    let i = usize::try_from(i).map_err(|_| invalid(format!("index {i} must not be negative")))?;
    line(call)?.wait(call.step, |l| Ok(l.entries.get(i).cloned()))
}

fn stage_size(call: &Call) -> Result {
    Ok(vec![values::scalar_i32(line(call)?.lock().entries.len())?])
}

fn stage_clear(call: &Call) -> Result {
    let line = line(call)?;
    *line.lock() = Line::default();
    line.notify();
    Ok(Vec::new())
}

type Slots = Vec<Option<Value>>;

#[derive(Default)]
struct Keyed {
    complete: BTreeMap<i64, Slots>,
    incomplete: BTreeMap<i64, Slots>,
    used: usize,
}

fn keyed(call: &Call) -> Result<Arc<Monitor<Keyed>>> {
    let kind = if call.op.starts_with("Ordered") { "ordered map stage" } else { "map stage" };
    area(call, kind, Keyed::default)
}

fn key(call: &Call, k: usize) -> Result<i64> {
    match call.tensor(k)?.rank() {
        0 => call.int(k),
        _ => Err(invalid(format!("key must be an int64 scalar, and has shape {:?}", call.tensor(k)?.shape()))),
    }
}

/// Which of the `n` components the indices in operand `k` name.
fn indices(call: &Call, k: usize, n: usize) -> Result<Vec<usize>> {
    let at = call.ints(k)?.into_iter().map(|i| {
        usize::try_from(i).ok().filter(|&i| i < n).ok_or_else(|| invalid(format!("index {i} is out of bounds: {n} components")))
    });
    at.collect()
}

fn map_stage(call: &Call) -> Result {
    let (map, limit) = (keyed(call)?, Limit::of(call));
    let n = call.attrs.elems("dtypes")?.len();
    let (key, at) = (key(call, 0)?, indices(call, 1, n)?);
    let given = call.inputs.get(2..).unwrap_or_default();
    if at.len() != given.len() {
        return Err(invalid(format!("{} values for {} indices", given.len(), at.len())));
    }
    let size = bytes(given);
    map.wait(call.step, |m| {
        let joins = m.incomplete.contains_key(&key);
        if !joins && m.complete.contains_key(&key) {
            return Err(invalid(format!("key {key} is already in the staging area")));
        }
        if !joins && !limit.admits(m.complete.len() + m.incomplete.len(), m.used, size)? {
            return Ok(None);
        }
        let mut slots = m.incomplete.get(&key).cloned().unwrap_or_else(|| vec![None; n]);
        for (&i, v) in at.iter().zip(given) {
            match slots.get_mut(i) {
                Some(slot @ None) => *slot = Some(v.clone()),
                _ => return Err(invalid(format!("the tensor for index {i} of key {key} was already inserted"))),
            }
        }
        m.used += size;
        if slots.iter().all(Option::is_some) {
            m.incomplete.remove(&key);
            m.complete.insert(key, slots);
        } else {
            m.incomplete.insert(key, slots);
        }
        Ok(Some(()))
    })?;
    Ok(Vec::new())
}

/// Copies or moves components out of an entry.
fn picked(slots: &mut Slots, at: &[usize], key: i64, take: bool) -> Result<Vec<Value>> {
    let gone = |i: usize| invalid(format!("the tensor at index {i} for key {key} has already been removed"));
    let pick = |&i: &usize| {
        let slot = slots.get_mut(i).ok_or_else(|| gone(i))?;
        let v = if take { slot.take() } else { slot.clone() };
        v.ok_or_else(|| gone(i))
    };
    at.iter().map(pick).collect()
}

/// Takes components of an entry, which is gone once it has none left.
fn removed(m: &mut Keyed, key: i64, at: &[usize]) -> Result<Option<Vec<Value>>> {
    let Some(slots) = m.complete.get_mut(&key) else { return Ok(None) };
    let out = picked(slots, at, key, true)?;
    if slots.iter().all(Option::is_none) {
        m.complete.remove(&key);
    }
    m.used = m.used.saturating_sub(bytes(&out));
    Ok(Some(out))
}

fn map_unstage(call: &Call) -> Result {
    let (map, key) = (keyed(call)?, key(call, 0)?);
    let at = indices(call, 1, call.attrs.elems("dtypes")?.len())?;
    map.wait(call.step, |m| removed(m, key, &at))
}

fn map_unstage_any(call: &Call) -> Result {
    let map = keyed(call)?;
    let at = indices(call, 0, call.attrs.elems("dtypes")?.len())?;
    let (key, out) = map.wait(call.step, |m| match m.complete.keys().next().copied() {
        Some(key) => Ok(removed(m, key, &at)?.map(|v| (key, v))),
        None => Ok(None),
    })?;
    let mut all = vec![Value::from(Tensor::scalar(key))];
    all.extend(out);
    Ok(all)
}

fn map_peek(call: &Call) -> Result {
    let (map, key) = (keyed(call)?, key(call, 0)?);
    let at = indices(call, 1, call.attrs.elems("dtypes")?.len())?;
    map.wait(call.step, |m| m.complete.get_mut(&key).map(|s| picked(s, &at, key, false)).transpose())
}

fn map_size(call: &Call) -> Result {
    Ok(vec![values::scalar_i32(keyed(call)?.lock().complete.len())?])
}

fn map_incomplete_size(call: &Call) -> Result {
    Ok(vec![values::scalar_i32(keyed(call)?.lock().incomplete.len())?])
}

fn map_clear(call: &Call) -> Result {
    let map = keyed(call)?;
    *map.lock() = Keyed::default();
    map.notify();
    Ok(Vec::new())
}
