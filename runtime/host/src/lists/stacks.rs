//! Stacks, on which gradients of loops keep what the forward pass computed.

use crate::call::Call;
use crate::error::{internal, invalid};
use crate::value::{Resource, Value};
use crate::{Result, Table};
use graphc_ir::Elem;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) const TABLE: Table = &[
    ("StackV2", stack),
    ("StackPushV2", push),
    ("StackPopV2", pop),
    ("StackCloseV2", close),
    ("Stack", stack),
    ("StackPush", push),
    ("StackPop", pop),
    ("StackClose", close),
];

struct Stack {
    elem: Elem,
    /// The most elements; None for any number.
    max: Option<usize>,
    /// None once closed.
    items: Mutex<Option<Vec<Value>>>,
}

impl Stack {
    fn with<T>(&self, f: impl FnOnce(&mut Vec<Value>) -> Result<T>) -> Result<T> {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        f(items.as_mut().ok_or_else(|| invalid("stack has already been closed"))?)
    }
}

fn stack(call: &Call) -> Result {
    let max = match call.inputs.is_empty() {
        true => None,
        false if call.tensor(0)?.rank() != 0 => return Err(invalid("stack size must be a scalar")),
        false => usize::try_from(call.int(0)?).ok(),
    };
    let stack = Stack { elem: call.attrs.elem("elem_type")?, max, items: Mutex::new(Some(Vec::new())) };
    let name = call.attrs.text("stack_name").ok().filter(|n| !n.is_empty()).unwrap_or_else(|| call.node.to_owned());
    Ok(vec![Value::Resource(Resource::Object { name: name.into(), object: Arc::new(stack) })])
}

fn push(call: &Call) -> Result {
    let (stack, v) = (call.object::<Stack>(0)?, call.input(1)?);
    if v.elem() != stack.elem {
        return Err(invalid(format!("must have type {} but got {}", stack.elem, v.elem())));
    }
    stack.with(|items| {
        if stack.max.is_some_and(|max| items.len() >= max) {
            return Err(invalid(format!("stack overflowed its max_size ({})", items.len())));
        }
        items.push(v.clone());
        Ok(())
    })?;
    Ok(vec![v.clone()])
}

fn pop(call: &Call) -> Result {
    let stack = call.object::<Stack>(0)?;
    let v = stack.with(|items| items.pop().ok_or_else(|| invalid("stack is empty when calling Pop()")))?;
    match call.attrs.elem("elem_type") {
        Ok(want) if want != v.elem() => Err(internal(format!("a value of type {} popped as {want}", v.elem()))),
        _ => Ok(vec![v]),
    }
}

fn close(call: &Call) -> Result {
    let stack = call.object::<Stack>(0)?;
    *stack.items.lock().unwrap_or_else(PoisonError::into_inner) = None;
    Ok(Vec::new())
}
