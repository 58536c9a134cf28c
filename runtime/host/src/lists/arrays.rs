//! Tensor arrays: elements that are each written once, and gradients that add up.

use crate::attrs::PartialShape;
use crate::call::Call;
use crate::error::{HostError, invalid, not_found, unimplemented};
use crate::value::{Resource, Value};
use crate::variants::add_values;
use crate::{Result, Table, shapes, values};
use graphc_ir::{Elem, Tensor};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) const TABLE: Table = &[
    ("TensorArrayV3", make),
    ("TensorArrayGradV3", grad),
    ("TensorArrayGradWithShape", grad_with_shape),
    ("TensorArrayWriteV3", write),
    ("TensorArrayReadV3", read),
    ("TensorArrayGatherV3", gather),
    ("TensorArrayScatterV3", scatter),
    ("TensorArrayConcatV3", concat),
    ("TensorArraySplitV3", split),
    ("TensorArraySizeV3", size),
    ("TensorArrayCloseV3", close),
    ("TensorArrayV2", make_v2),
    ("TensorArrayGradV2", grad_v2),
    ("TensorArrayWriteV2", write),
    ("TensorArrayReadV2", read),
    ("TensorArrayGatherV2", gather),
    ("TensorArrayScatterV2", scatter),
    ("TensorArrayConcatV2", concat),
    ("TensorArraySplitV2", split),
    ("TensorArraySizeV2", size),
    ("TensorArrayCloseV2", close),
    ("TensorArray", make_v2),
    ("TensorArrayGrad", grad_v2),
    ("TensorArrayWrite", write),
    ("TensorArrayRead", read),
    ("TensorArrayGather", gather),
    ("TensorArrayScatter", scatter),
    ("TensorArrayConcat", concat),
    ("TensorArraySplit", split),
    ("TensorArraySize", size),
    ("TensorArrayClose", close),
];

/// The most elements that an array may have.
const LONGEST: usize = 1 << 28;

#[derive(Clone, Default)]
struct Slot {
    value: Option<Value>,
    /// Shape of the zeros that stand for a gradient which nobody wrote.
    shape: Option<Vec<usize>>,
    written: bool,
    read: bool,
    cleared: bool,
}

struct State {
    shape: PartialShape,
    dynamic: bool,
    clear_after_read: bool,
    /// All elements have the shape of the first that is written.
    identical: bool,
    /// A gradient: writes to one element add up, and elements that nobody wrote are zero.
    is_grad: bool,
    closed: bool,
    slots: Vec<Slot>,
    /// How many elements the last scatter or split wrote.
    marked: usize,
}

struct Array {
    name: Arc<str>,
    elem: Elem,
    state: Mutex<State>,
    /// The gradients by the names of their sources.
    grads: Mutex<HashMap<String, Arc<Array>>>,
}

impl Array {
    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed { Err(invalid(format!("TensorArray {:?} has already been closed", self.name))) } else { Ok(state) }
    }

    fn of_type(&self, elem: Elem) -> Result<()> {
        let clash = || invalid(format!("TensorArray dtype is {} but op has dtype {elem}", self.elem));
        if elem == self.elem { Ok(()) } else { Err(clash()) }
    }
}

impl State {
    /// The array has at least `n` elements from now on.
    fn grow(&mut self, n: usize) -> Result<()> {
        if n > LONGEST {
            return Err(invalid(format!("a TensorArray of {n} elements is too long")));
        }
        if n > self.slots.len() {
            self.slots.resize(n, Slot::default());
        }
        Ok(())
    }

    fn write(&mut self, i: i64, v: Value) -> Result<()> {
        let n = self.slots.len();
        let outside = || invalid(format!("tried to write to index {i} but array is not resizeable and size is: {n}"));
        let at = usize::try_from(i).map_err(|_| outside())?;
        if at >= n {
            if !self.dynamic {
                return Err(outside());
            }
            self.grow(at + 1)?;
        }
        if !shapes::compatible(&self.shape, v.shape()) {
            let (got, want) = (v.shape(), shapes::text(&self.shape));
            return Err(invalid(format!("could not write to TensorArray index {i}: shape {got:?} where {want} is expected")));
        }
        if self.identical && shapes::full(&self.shape).is_none() {
            self.shape = shapes::known(v.shape());
        }
        let Some(slot) = self.slots.get_mut(at) else { return Err(outside()) };
        if slot.read {
            return Err(invalid(format!("could not write to TensorArray index {i} because it has already been read")));
        }
        if slot.written && !self.is_grad {
            return Err(invalid(format!("could not write to TensorArray index {i} because it has already been written to")));
        }
        slot.value = Some(match slot.value.take().filter(|_| slot.written) {
            Some(old) if old.shape() != v.shape() => {
                let (a, b) = (old.shape(), v.shape());
                return Err(invalid(format!("could not aggregate to TensorArray index {i} because of shapes {a:?} and {b:?}")));
            }
            Some(old) => add_values(&old, &v)?,
            None => v,
        });
        slot.written = true;
        Ok(())
    }

    fn read(&mut self, i: i64, elem: Elem) -> Result<Value> {
        let n = self.slots.len();
        let at = usize::try_from(i).ok().filter(|&i| i < n);
        let at = at.ok_or_else(|| invalid(format!("tried to read from index {i} but array size is: {n}")))?;
        let whole = shapes::full(&self.shape);
        let Some(slot) = self.slots.get_mut(at) else { return Err(invalid("no such element")) };
        if slot.cleared {
            return Err(invalid(format!("could not read index {i} twice because it was cleared after a previous read")));
        }
        let v = match &slot.value {
            Some(v) => v.clone(),
            None => {
                let shape = slot.shape.clone().or(whole).ok_or_else(|| {
                    let shape = shapes::text(&self.shape);
                    invalid(format!("could not read from TensorArray index {i}: it was not written, and its shape is {shape}"))
                })?;
                values::zeros(elem, &shape)?
            }
        };
        if self.clear_after_read {
            slot.value = None;
            slot.cleared = true;
        }
        slot.read = true;
        Ok(v)
    }

    /// Takes up what an op says of the shape of elements.
    fn restrict(&mut self, shape: &PartialShape) -> Result<()> {
        self.shape = shapes::merge(&self.shape, shape)?;
        Ok(())
    }
}

fn flow() -> Value {
    Tensor::scalar(0f32).into()
}

fn handle(array: Arc<Array>) -> Value {
    Value::Resource(Resource::Object { name: array.name.clone(), object: array })
}

fn array(call: &Call) -> Result<Arc<Array>> {
    // The handle of an array of another run, or of none: a container and a name.
    if let Some([container, name]) = call.input(0)?.as_tensor().and_then(|t| t.strings()) {
        let [container, name] = [container, name].map(|s| String::from_utf8_lossy(s));
        return Err(not_found(format!("Container {container} does not exist. (Could not find resource: {container}/{name})")));
    }
    call.object(0)
}

fn scalar(call: &Call, k: usize, what: &str) -> Result<i64> {
    match call.tensor(k)?.rank() {
        0 => call.int(k),
        _ => Err(invalid(format!("TensorArray {what} must be scalar, but had shape {:?}", call.tensor(k)?.shape()))),
    }
}

fn make(call: &Call) -> Result {
    let n = scalar(call, 0, "size")?;
    let n = usize::try_from(n).map_err(|_| invalid(format!("size should be >= 0, and is {n}")))?;
    let flag = |name: &str, default| call.attrs.bool(name).unwrap_or(default);
    let mut state = State {
        shape: call.attrs.shape("element_shape").unwrap_or(None),
        dynamic: flag("dynamic_size", false),
        clear_after_read: flag("clear_after_read", true),
        identical: flag("identical_element_shapes", false),
        is_grad: false,
        closed: false,
        slots: Vec::new(),
        marked: 0,
    };
    state.grow(n)?;
    let name = call.attrs.text("tensor_array_name").ok().filter(|n| !n.is_empty()).unwrap_or_else(|| call.node.to_owned());
    let (elem, state) = (call.attrs.elem("dtype")?, Mutex::new(state));
    Ok(vec![handle(Arc::new(Array { name: name.into(), elem, state, grads: Mutex::default() })), flow()])
}

fn only_handle(mut out: Vec<Value>) -> Vec<Value> {
    out.truncate(1);
    out
}

fn make_v2(call: &Call) -> Result {
    make(call).map(only_handle)
}

/// The gradient of an array for one source; `prepend` are dimensions that its elements have more.
fn grad_of(call: &Call, prepend: &[usize]) -> Result {
    let array = array(call)?;
    let source = call.attrs.text("source")?;
    let mut grads = array.grads.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(grad) = grads.get(&source) {
        return Ok(vec![handle(grad.clone()), flow()]);
    }
    let mut state = array.lock()?;
    // The sizes of the two stay equal from here on.
    state.dynamic = false;
    let longer = |s: &[usize]| [prepend, s].concat();
    let slot = |s: &Slot| Slot { shape: s.value.as_ref().map(Value::shape).or(s.shape.as_deref()).map(longer), ..Slot::default() };
    let shape = state.shape.as_ref().map(|s| prepend.iter().map(|d| Some(*d)).chain(s.iter().copied()).collect());
    let grad = State {
        shape,
        dynamic: false,
        clear_after_read: true,
        identical: state.identical,
        is_grad: true,
        closed: false,
        slots: state.slots.iter().map(slot).collect(),
        marked: state.marked,
    };
    let name = format!("{}@{source}", array.name).into();
    let grad = Arc::new(Array { name, elem: array.elem, state: Mutex::new(grad), grads: Mutex::default() });
    grads.insert(source, grad.clone());
    Ok(vec![handle(grad), flow()])
}

fn grad(call: &Call) -> Result {
    grad_of(call, &[])
}

fn grad_v2(call: &Call) -> Result {
    grad_of(call, &[]).map(only_handle)
}

fn grad_with_shape(call: &Call) -> Result {
    if call.tensor(2)?.rank() > 1 {
        return Err(invalid("shape_to_prepend must be a vector"));
    }
    grad_of(call, &shapes::full_from_ints(&call.ints(2)?)?)
}

/// The flow that goes on after a write.
fn written(call: &Call) -> Result {
    Ok(vec![call.inputs.last().cloned().unwrap_or_else(flow)])
}

fn write(call: &Call) -> Result {
    let (array, i) = (array(call)?, scalar(call, 1, "index")?);
    let v = call.input(2)?;
    array.of_type(v.elem())?;
    array.lock()?.write(i, v.clone())?;
    written(call)
}

fn asked_type(call: &Call, array: &Array) -> Result<Elem> {
    let elem = call.attrs.elem("dtype")?;
    array.of_type(elem)?;
    Ok(elem)
}

fn read(call: &Call) -> Result {
    let (array, i) = (array(call)?, scalar(call, 1, "index")?);
    let elem = asked_type(call, &array)?;
    Ok(vec![array.lock()?.read(i, elem)?])
}

fn nothing(shape: &PartialShape) -> HostError {
    let shape = shapes::text(shape);
    unimplemented(format!("TensorArray has size zero, but element shape {shape} is not fully defined"))
}

fn gather(call: &Call) -> Result {
    let array = array(call)?;
    let elem = asked_type(call, &array)?;
    if call.tensor(1)?.rank() != 1 {
        return Err(invalid(format!("expected indices to be a vector, but received shape: {:?}", call.tensor(1)?.shape())));
    }
    let indices = call.ints(1)?;
    let mut state = array.lock()?;
    state.restrict(&call.attrs.shape("element_shape").unwrap_or(None))?;
    let values = indices.iter().map(|&i| state.read(i, elem)).collect::<Result<Vec<_>>>()?;
    let inner = match values.first() {
        Some(v) => v.shape().to_vec(),
        None => shapes::full(&state.shape).ok_or_else(|| nothing(&state.shape))?,
    };
    Ok(vec![values::stack(elem, &inner, &values.iter().collect::<Vec<_>>())?])
}

fn scatter(call: &Call) -> Result {
    let (array, v) = (array(call)?, call.input(2)?);
    array.of_type(v.elem())?;
    let indices = call.ints(1)?;
    let n = *v.shape().first().ok_or_else(|| invalid("input value for unpack must be at least a vector but received a scalar"))?;
    if call.tensor(1)?.rank() != 1 {
        return Err(invalid(format!("expected indices to be a vector, but received shape: {:?}", call.tensor(1)?.shape())));
    }
    if indices.len() != n {
        return Err(invalid(format!("expected len(indices) == values.shape[0], but saw: {} vs. {n}", indices.len())));
    }
    let mut state = array.lock()?;
    let size = state.slots.len();
    let max = indices.iter().max().copied().unwrap_or(-1);
    if usize::try_from(max).is_ok_and(|m| m >= size) && !state.dynamic {
        return Err(invalid(format!("max scatter index must be < array size ({max} vs. {size})")));
    }
    for (row, i) in indices.into_iter().enumerate() {
        state.write(i, values::row(v, row)?)?;
    }
    state.marked = state.slots.len();
    drop(state);
    written(call)
}

fn concat(call: &Call) -> Result {
    let array = array(call)?;
    let elem = asked_type(call, &array)?;
    let rest: PartialShape = call.attrs.shape("element_shape_except0").unwrap_or(None);
    let mut state = array.lock()?;
    let n = if state.is_grad { state.marked } else { state.slots.len() };
    let values = (0..n).map(|i| state.read(i as i64, elem)).collect::<Result<Vec<_>>>()?;
    let mut lengths = Vec::with_capacity(n);
    for (i, v) in values.iter().enumerate() {
        let first = v.shape().first().ok_or_else(|| invalid(format!("concat saw a scalar at index {i} but requires vectors")))?;
        lengths.push(*first as i64);
    }
    let inner = match values.first().and_then(|v| v.shape().get(1..)) {
        Some(s) => s.to_vec(),
        None => shapes::full(&rest).ok_or_else(|| nothing(&rest))?,
    };
    if !shapes::compatible(&rest, &inner) {
        return Err(invalid(format!("elements with rows of shape {inner:?} where {} is asked", shapes::text(&rest))));
    }
    Ok(vec![values::concat(elem, &inner, &values.iter().collect::<Vec<_>>())?, values::vector(&lengths)?])
}

fn split(call: &Call) -> Result {
    let (array, v) = (array(call)?, call.input(1)?);
    array.of_type(v.elem())?;
    if call.tensor(2)?.rank() != 1 {
        return Err(invalid(format!("expected lengths to be a vector, received shape: {:?}", call.tensor(2)?.shape())));
    }
    let lengths = shapes::full_from_ints(&call.ints(2)?)?;
    let rows = *v.shape().first().ok_or_else(|| invalid("expected value to be at least a vector, but received a scalar"))?;
    let sum = lengths.iter().try_fold(0usize, |a, &b| a.checked_add(b));
    if sum != Some(rows) {
        return Err(invalid(format!("expected sum of lengths to be equal to values.shape[0], which is {rows}")));
    }
    let mut state = array.lock()?;
    if state.dynamic {
        state.grow(lengths.len())?;
    }
    if state.slots.len() != lengths.len() {
        let n = state.slots.len();
        return Err(invalid(format!("TensorArray's size is not equal to the size of lengths ({n} vs. {})", lengths.len())));
    }
    let mut start = 0;
    for (i, n) in lengths.into_iter().enumerate() {
        state.write(i as i64, values::rows(v, start, n)?)?;
        start += n;
    }
    state.marked = state.slots.len();
    drop(state);
    written(call)
}

fn size(call: &Call) -> Result {
    Ok(vec![values::scalar_i32(array(call)?.lock()?.slots.len())?])
}

fn close(call: &Call) -> Result {
    let array = array(call)?;
    let mut state = array.state.lock().unwrap_or_else(PoisonError::into_inner);
    state.closed = true;
    state.slots.clear();
    Ok(Vec::new())
}
