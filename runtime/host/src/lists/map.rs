//! Maps from tensors to values, in variants.

use crate::call::{Call, strings_of};
use crate::error::{internal, invalid};
use crate::value::{Item, Value};
use crate::variants::{Kind, add_values};
use crate::{Result, Table, values};
use graphc_ir::{Elem, Tensor};
use rpds::RedBlackTreeMapSync;
use std::any::Any;
use std::sync::Arc;

pub(crate) const TABLE: Table = &[
    ("EmptyTensorMap", empty),
    ("TensorMapSize", size),
    ("TensorMapInsert", insert),
    ("TensorMapLookup", lookup),
    ("TensorMapErase", erase),
    ("TensorMapHasKey", has_key),
    ("TensorMapStackKeys", stack_keys),
];

/// A tensor as a key: equal if type, shape and all bits are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    elem: Elem,
    shape: Vec<usize>,
    bytes: Vec<u8>,
    strings: Vec<Box<[u8]>>,
}

impl Key {
    fn of(t: &Tensor) -> Key {
        let strings = t.strings().map(<[_]>::to_vec).unwrap_or_default();
        Key { elem: t.elem(), shape: t.shape().to_vec(), bytes: t.bytes().to_vec(), strings }
    }

    fn tensor(&self) -> Result<Tensor> {
        match self.elem {
            Elem::Str => strings_of(&self.shape, self.strings.clone()),
            e => Tensor::from_bytes(e, self.shape.clone(), self.bytes.clone()).ok_or_else(|| internal("a key is no tensor")),
        }
    }
}

/// A map. Copies share what they have in common.
#[derive(Clone)]
struct TensorMap {
    entries: RedBlackTreeMapSync<Key, Value>,
}

fn map(call: &Call) -> Result<Arc<TensorMap>> {
    let v = call.variant(0)?;
    if !v.shape.is_empty() {
        return Err(invalid(format!("input map must be a scalar, saw shape {:?}", v.shape)));
    }
    v.downcast().ok_or_else(|| invalid("input handle is not a map"))
}

fn key(call: &Call) -> Result<Key> {
    Ok(Key::of(call.tensor(1)?))
}

fn empty(_: &Call) -> Result {
    Ok(vec![Value::variant(TensorMap { entries: RedBlackTreeMapSync::new_sync() })])
}

fn size(call: &Call) -> Result {
    Ok(vec![values::scalar_i32(map(call)?.entries.size())?])
}

fn insert(call: &Call) -> Result {
    let entries = map(call)?.entries.insert(key(call)?, call.input(2)?.clone());
    Ok(vec![Value::variant(TensorMap { entries })])
}

fn lookup(call: &Call) -> Result {
    let m = map(call)?;
    let v = m.entries.get(&key(call)?).ok_or_else(|| invalid("trying to lookup non-existent key"))?;
    let want = call.attrs.elem("value_dtype")?;
    if v.elem() != want {
        return Err(invalid(format!("type mismatch: actual {} vs. expect {want}", v.elem())));
    }
    Ok(vec![v.clone()])
}

fn erase(call: &Call) -> Result {
    let (m, key) = (map(call)?, key(call)?);
    if !m.entries.contains_key(&key) {
        return Err(invalid("trying to erase non-existent item"));
    }
    Ok(vec![Value::variant(TensorMap { entries: m.entries.remove(&key) })])
}

fn has_key(call: &Call) -> Result {
    Ok(vec![values::scalar_bool(map(call)?.entries.contains_key(&key(call)?))?])
}

fn stack_keys(call: &Call) -> Result {
    let m = map(call)?;
    let want = call.attrs.elem("key_dtype")?;
    let first = m.entries.keys().next().ok_or_else(|| invalid("TensorMapStackKeys cannot be called on empty map"))?;
    if let Some(odd) = m.entries.keys().find(|k| k.elem != want) {
        return Err(invalid(format!("key of type {} does not match requested dtype {want}", odd.elem)));
    }
    if m.entries.keys().any(|k| k.shape != first.shape) {
        return Err(invalid("keys must all have the same shape"));
    }
    let keys = m.entries.keys().map(|k| k.tensor().map(Value::Tensor)).collect::<Result<Vec<_>>>()?;
    Ok(vec![values::stack(want, &first.shape, &keys.iter().collect::<Vec<_>>())?])
}

fn as_map(o: &(dyn Any + Send + Sync)) -> Option<&TensorMap> {
    o.downcast_ref()
}

fn zeros(o: &(dyn Any + Send + Sync)) -> Option<Result<Item>> {
    as_map(o)?;
    Some(Ok(Arc::new(TensorMap { entries: RedBlackTreeMapSync::new_sync() })))
}

fn add(a: &(dyn Any + Send + Sync), b: &(dyn Any + Send + Sync)) -> Option<Result<Item>> {
    let (x, y) = (as_map(a)?, as_map(b)?);
    let sum = || {
        let mut entries = x.entries.clone();
        for (k, v) in y.entries.iter() {
            let v = x.entries.get(k).map_or_else(|| Ok(v.clone()), |old| add_values(old, v))?;
            entries.insert_mut(k.clone(), v);
        }
        Ok(Arc::new(TensorMap { entries }) as Item)
    };
    Some(sum())
}

/// The sum of two maps has the keys of both; the zero is the empty map.
pub(crate) static MAP: Kind = Kind { name: "map", zeros: Some(zeros), add: Some(add), conj: None };
