//! Iterators: walks through datasets that runs share.

use super::{Context, Dataset, Element, Walk, dataset_of, input};
use crate::attrs::PartialShape;
use crate::call::{Call, strings_of};
use crate::error::{failed_precondition, invalid, not_found, out_of_range};
use crate::lists::Optional;
use crate::resources::ResourceKey;
use crate::value::{Resource, Value};
use crate::{Result, Table, shapes};
use graphc_ir::{Elem, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) const TABLE: Table = &[
    ("Iterator", shared),
    ("IteratorV2", shared),
    ("AnonymousIterator", anonymous),
    ("AnonymousIteratorV2", anonymous),
    ("AnonymousIteratorV3", anonymous),
    ("OneShotIterator", one_shot),
    ("MakeIterator", make),
    ("IteratorGetNext", get_next),
    ("IteratorGetNextSync", get_next),
    ("IteratorGetNextAsOptional", get_next_as_optional),
    ("IteratorToStringHandle", to_string),
    ("IteratorFromStringHandle", from_string),
    ("IteratorFromStringHandleV2", from_string),
    ("DeleteIterator", delete),
    ("DatasetCardinality", cardinality),
    ("ExperimentalDatasetCardinality", cardinality),
    ("DatasetToSingleElement", single_element),
];

/// A walk that can be begun anew.
#[derive(Default)]
struct Cursor {
    walk: Mutex<Option<Box<dyn Walk>>>,
}

impl Cursor {
    fn start(&self, d: &dyn Dataset) {
        *self.walk.lock().unwrap_or_else(PoisonError::into_inner) = Some(d.walk());
    }

    fn next(&self, cx: Context) -> Result<Option<Element>> {
        let mut walk = self.walk.lock().unwrap_or_else(PoisonError::into_inner);
        let none = || failed_precondition("the iterator has not been initialized; ensure that its initializer has run");
        walk.as_mut().ok_or_else(none)?.next(cx)
    }
}

/// Whether an element has the types and shapes that a node expects.
pub(super) fn check(e: &[Value], types: &[Elem], wanted: &[PartialShape]) -> Result<()> {
    if e.len() != types.len() {
        return Err(invalid(format!("an element of {} components where {} are expected", e.len(), types.len())));
    }
    for (i, (v, t)) in e.iter().zip(types).enumerate() {
        let fits = v.elem() == *t && wanted.get(i).is_none_or(|s| shapes::compatible(s, v.shape()));
        if !fits {
            let (elem, shape) = (v.elem(), v.shape());
            return Err(invalid(format!("component {i} of an element is {elem}{shape:?}, which is not what is expected")));
        }
    }
    Ok(())
}

fn expected(call: &Call, e: &[Value]) -> Result<()> {
    check(e, &call.attrs.elems("output_types")?, &call.attrs.shapes("output_shapes")?)
}

fn shared(call: &Call) -> Result {
    Ok(vec![call.shared("iterator", || Ok(Cursor::default()))?])
}

fn anonymous(call: &Call) -> Result {
    let object = Arc::new(Cursor::default());
    let handle = Value::Resource(Resource::Object { name: call.node.into(), object: object.clone() });
    // The second version gives what deletes the iterator as well.
    Ok(if call.op == "AnonymousIteratorV2" { vec![handle, Value::variant(object)] } else { vec![handle] })
}

fn one_shot(call: &Call) -> Result {
    let made = shared(call)?;
    if let Some(Value::Resource(r)) = made.first()
        && let Some(it) = r.downcast::<Cursor>()
    {
        let mut walk = it.walk.lock().unwrap_or_else(PoisonError::into_inner);
        if walk.is_none() {
            let out = Context::of(call).call(&call.attrs.function("dataset_factory")?, Vec::new())?;
            *walk = Some(dataset_of(out.first().ok_or_else(|| invalid("a dataset factory must give a dataset"))?)?.walk());
        }
    }
    Ok(made)
}

fn make(call: &Call) -> Result {
    let it: Arc<Cursor> = call.object(1)?;
    it.start(&*input(call, 0)?);
    Ok(Vec::new())
}

fn get_next(call: &Call) -> Result {
    let it: Arc<Cursor> = call.object(0)?;
    let element = it.next(Context::of(call))?.ok_or_else(|| out_of_range("end of sequence"))?;
    expected(call, &element)?;
    Ok(element)
}

fn get_next_as_optional(call: &Call) -> Result {
    let it: Arc<Cursor> = call.object(0)?;
    let element = it.next(Context::of(call))?;
    if let Some(e) = &element {
        expected(call, e)?;
    }
    Ok(vec![Value::variant(Optional(element))])
}

/// Iterators that a string stands for.
const NAMED: &str = "iterator handle";

fn to_string(call: &Call) -> Result {
    let r = call.resource(0)?;
    let it: Arc<Cursor> = call.object(0)?;
    let name = format!("{}@{:p}", r.name(), Arc::as_ptr(&it));
    let key = ResourceKey { container: String::new(), kind: NAMED, name: name.clone() };
    call.host.resources.get_or_make(&key, || Ok(it))?;
    Ok(vec![strings_of(&[], vec![name.into_bytes().into()])?.into()])
}

fn from_string(call: &Call) -> Result {
    let name = String::from_utf8_lossy(call.string(0)?).into_owned();
    let key = ResourceKey { container: String::new(), kind: NAMED, name: name.clone() };
    let it = call.host.resources.find::<Arc<Cursor>>(&key).ok_or_else(|| not_found(format!("no iterator {name:?}")))?;
    Ok(vec![Value::Resource(Resource::Object { name: name.into(), object: (*it).clone() })])
}

fn delete(call: &Call) -> Result {
    call.host.resources.remove(call.resource(0)?);
    Ok(Vec::new())
}

fn cardinality(call: &Call) -> Result {
    Ok(vec![Tensor::scalar(input(call, 0)?.cardinality().code()).into()])
}

fn single_element(call: &Call) -> Result {
    let (cx, mut walk) = (Context::of(call), input(call, 0)?.walk());
    let element = walk.next(cx)?.ok_or_else(|| invalid("dataset was empty"))?;
    if walk.next(cx)?.is_some() {
        return Err(invalid("dataset had more than one element"));
    }
    expected(call, &element)?;
    Ok(element)
}
