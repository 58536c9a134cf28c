//! The ops on tensor lists.

use super::list::TensorList;
use crate::attrs::PartialShape;
use crate::call::{Call, ints_of};
use crate::error::{HostError, invalid};
use crate::value::{Item, Value, VariantTensor};
use crate::{Result, Table, shapes, values};
use graphc_ir::Elem;
use std::sync::Arc;

pub(crate) const TABLE: Table = &[
    ("EmptyTensorList", empty),
    ("TensorListReserve", reserve),
    ("TensorListPushBack", push_back),
    ("TensorListPopBack", pop_back),
    ("TensorListPushBackBatch", push_back_batch),
    ("TensorListGetItem", get_item),
    ("TensorListSetItem", set_item),
    ("TensorListLength", length),
    ("TensorListResize", resize),
    ("TensorListStack", stack),
    ("TensorListConcat", concat),
    ("TensorListConcatV2", concat),
    ("TensorListConcatLists", concat_lists),
    ("TensorListSplit", split),
    ("TensorListFromTensor", from_tensor),
    ("TensorListGather", gather),
    ("TensorListScatter", scatter),
    ("TensorListScatterV2", scatter),
    ("TensorListScatterIntoExistingList", scatter_into),
    ("TensorListElementShape", element_shape),
];

/// The list in operand `k`.
fn list(call: &Call, k: usize) -> Result<Arc<TensorList>> {
    let v = call.variant(k)?;
    if !v.shape.is_empty() {
        return Err(invalid(format!("input list must be a scalar, saw shape {:?}", v.shape)));
    }
    v.downcast().ok_or_else(|| invalid("input handle is not a list"))
}

/// The list in operand `k`, of elements of the type that the node names.
fn typed(call: &Call, k: usize) -> Result<Arc<TensorList>> {
    let l = list(call, k)?;
    l.of_type(call.attrs.elem("element_dtype")?)?;
    Ok(l)
}

fn shape_operand(call: &Call, k: usize) -> Result<PartialShape> {
    shapes::from_tensor(call.tensor(k)?)
}

fn scalar(call: &Call, k: usize, what: &str) -> Result<i64> {
    let t = call.tensor(k)?;
    if t.rank() != 0 {
        return Err(invalid(format!("{what} must be a scalar, but has shape {:?}", t.shape())));
    }
    call.int(k)
}

fn size(n: i64, what: &str) -> Result<usize> {
    usize::try_from(n).map_err(|_| invalid(format!("{what} must not be negative, but is {n}")))
}

fn one(l: TensorList) -> Result {
    Ok(vec![Value::variant(l)])
}

fn empty(call: &Call) -> Result {
    let max = scalar(call, 1, "max_num_elements")?;
    let mut l = TensorList::new(call.attrs.elem("element_dtype")?, shape_operand(call, 0)?);
    l.max = usize::try_from(max).ok();
    one(l)
}

fn reserve(call: &Call) -> Result {
    let n = size(scalar(call, 1, "the num_elements to reserve")?, "the num_elements to reserve")?;
    let mut l = TensorList::new(call.attrs.elem("element_dtype")?, shape_operand(call, 0)?);
    l.resize(n)?;
    one(l)
}

fn push_back(call: &Call) -> Result {
    let mut l = TensorList::clone(&*typed(call, 0)?);
    l.push(call.input(1)?.clone())?;
    one(l)
}

fn pop_back(call: &Call) -> Result {
    let mut l = TensorList::clone(&*typed(call, 0)?);
    let n = l.len();
    if n == 0 {
        return Err(invalid("trying to pop from an empty list"));
    }
    let last = match l.items.last() {
        Some(Some(v)) => v.clone(),
        _ => {
            let shape = shapes::merge(&shape_operand(call, 1)?, &l.shape)?;
            let full = shapes::full(&shape).ok_or_else(|| open_shape(&shape))?;
            values::zeros(l.elem, &full)?
        }
    };
    l.items.drop_last_mut();
    Ok(vec![Value::variant(l), last])
}

fn open_shape(shape: &PartialShape) -> HostError {
    invalid(format!("trying to read an uninitialized tensor but element_shape is not fully defined: {}", shapes::text(shape)))
}

fn push_back_batch(call: &Call) -> Result {
    let (handles, batch) = (call.variant(0)?, call.input(1)?);
    let elem = call.attrs.elem("element_dtype")?;
    match batch.shape().first() {
        None => return Err(invalid("expected a tensor of at least rank 1 to push its rows")),
        Some(&n) if handles.shape != [n] => {
            return Err(invalid(format!("{n} rows for lists of shape {:?}", handles.shape)));
        }
        Some(_) => {}
    }
    let pushed = |(i, item): (usize, &Option<Item>)| {
        let l = item.clone().and_then(|l| l.downcast::<TensorList>().ok());
        let mut l = TensorList::clone(&*l.ok_or_else(|| invalid(format!("input handle {i} is not a list")))?);
        l.of_type(elem)?;
        l.push(values::row(batch, i)?)?;
        Ok(Some(Arc::new(l) as Item))
    };
    let items = handles.items.iter().enumerate().map(pushed).collect::<Result<_>>()?;
    Ok(vec![Value::Variant(VariantTensor { shape: handles.shape.clone(), items })])
}

fn get_item(call: &Call) -> Result {
    let l = typed(call, 0)?;
    let i = scalar(call, 1, "the index")?;
    if l.get(i)?.is_some() {
        return Ok(vec![l.read(i, &None)?]);
    }
    Ok(vec![l.read(i, &shape_operand(call, 2)?)?])
}

fn set_item(call: &Call) -> Result {
    let l = typed(call, 0)?;
    let (i, item) = (scalar(call, 1, "the index")?, call.input(2)?);
    let mut l = TensorList::clone(&l);
    let at = usize::try_from(i).ok();
    let outside = || invalid(format!("trying to modify element {i} in a list with {} elements", l.len()));
    let at = at.ok_or_else(outside)?;
    if at >= l.len() {
        if !call.attrs.bool("resize_if_index_out_of_bounds").unwrap_or(false) {
            return Err(outside());
        }
        l.resize(at + 1)?;
    }
    l.check(item.elem(), item.shape())?;
    l.set(at, item.clone());
    one(l)
}

fn length(call: &Call) -> Result {
    Ok(vec![values::scalar_i32(list(call, 0)?.len())?])
}

fn resize(call: &Call) -> Result {
    let mut l = TensorList::clone(&*list(call, 0)?);
    l.resize(size(scalar(call, 1, "size")?, "the size of a list")?)?;
    one(l)
}

fn stack(call: &Call) -> Result {
    let l = typed(call, 0)?;
    let n = call.attrs.int("num_elements").unwrap_or(-1);
    if n != -1 && usize::try_from(n).ok() != Some(l.len()) {
        return Err(invalid(format!("operation expected a list with {n} elements but got a list with {} elements", l.len())));
    }
    let items: Vec<Option<&Value>> = l.items.iter().map(Option::as_ref).collect();
    Ok(vec![l.gather(&items, &shape_operand(call, 1)?)?])
}

fn gather(call: &Call) -> Result {
    let l = typed(call, 0)?;
    let items = call.ints(1)?.into_iter().map(|i| l.get(i)).collect::<Result<Vec<_>>>()?;
    Ok(vec![l.gather(&items, &shape_operand(call, 2)?)?])
}

/// First dimension and the rest of a shape that may be open.
fn split_first(s: &PartialShape) -> Result<(Option<usize>, PartialShape)> {
    match s {
        None => Ok((None, None)),
        Some(s) => {
            let (first, rest) =
                s.split_first().ok_or_else(|| invalid("elements must be at least vectors, found scalars instead"))?;
            Ok((*first, Some(rest.to_vec())))
        }
    }
}

fn concat(call: &Call) -> Result {
    let l = typed(call, 0)?;
    let v2 = call.op == "TensorListConcatV2";
    let asked = if v2 { shape_operand(call, 1)? } else { call.attrs.shape("element_shape").unwrap_or(None) };
    let leading = if v2 { call.ints(2)? } else { Vec::new() };
    let (mut first, mut rest) = split_first(&shapes::merge(&asked, &l.shape)?)?;
    if l.len() == 0 && shapes::full(&rest).is_none() {
        return Err(invalid("all except the first dimension must be fully defined when concating an empty tensor list"));
    }
    let mut firsts = Vec::new();
    for v in l.items.iter().flatten() {
        let (n, inner) =
            v.shape().split_first().ok_or_else(|| invalid("elements must be at least vectors, found scalars instead"))?;
        if first.is_some_and(|f| f != *n) {
            return Err(invalid(format!("an element of {n} rows where {first:?} are asked")));
        }
        rest = shapes::merge(&rest, &shapes::known(inner))?;
        firsts.push(*n);
    }
    if first.is_none() && firsts.windows(2).all(|w| w[0] == w[1]) {
        first = firsts.first().copied();
    }
    let inner = shapes::full(&rest).ok_or_else(|| {
        let rest = shapes::text(&rest);
        invalid(format!("trying to concat list with only uninitialized tensors but the shape of rows is not fully defined: {rest}"))
    })?;
    let mut zeros = Vec::new();
    let mut lengths = Vec::with_capacity(l.len());
    for (i, v) in l.items.iter().enumerate() {
        let n = match v {
            Some(v) => v.shape().first().copied().unwrap_or(0),
            None => {
                let given = || leading.get(i).map(|&n| size(n, "a leading dimension"));
                let n = first.map(Ok).or_else(given).ok_or_else(|| {
                    invalid(format!("list contains uninitialized tensor at index {i} but leading_dims has only {}", leading.len()))
                })??;
                zeros.push(values::zeros(l.elem, &[&[n], inner.as_slice()].concat())?);
                n
            }
        };
        lengths.push(n as i64);
    }
    let mut spare = zeros.iter();
    let mut parts: Vec<&Value> = Vec::with_capacity(l.len());
    for v in l.items.iter() {
        parts.extend(v.as_ref().or_else(|| spare.next()));
    }
    Ok(vec![values::concat(l.elem, &inner, &parts)?, values::vector(&lengths)?])
}

fn concat_lists(call: &Call) -> Result {
    let (a, b) = (call.variant(0)?, call.variant(1)?);
    let elem = call.attrs.elem("element_dtype")?;
    if a.shape != b.shape {
        return Err(invalid(format!("list handles of shapes {:?} and {:?} cannot be joined", a.shape, b.shape)));
    }
    let get = |i: &Option<Item>| {
        let l = i.clone().and_then(|l| l.downcast::<TensorList>().ok()).ok_or_else(|| invalid("an input handle is not a list"))?;
        l.of_type(elem)?;
        Ok(l)
    };
    let joined = |(x, y): (&Option<Item>, &Option<Item>)| {
        let (x, y): (Arc<TensorList>, Arc<TensorList>) = (get(x)?, get(y)?);
        if x.shape != y.shape {
            let (x, y) = (shapes::text(&x.shape), shapes::text(&y.shape));
            return Err(invalid(format!("the element shapes of two lists are not identical: {x} and {y}")));
        }
        let mut l = TensorList::clone(&x);
        l.items.extend(y.items.iter().cloned());
        Ok(Some(Arc::new(l) as Item))
    };
    let items = a.items.iter().zip(b.items.iter()).map(joined).collect::<Result<_>>()?;
    Ok(vec![Value::Variant(VariantTensor { shape: a.shape.clone(), items })])
}

/// Rows of operand 0 as elements, and the shape that they have.
fn rows<'a>(call: &'a Call, k: usize) -> Result<(&'a Value, usize, &'a [usize])> {
    let t = call.input(k)?;
    let elem = call.attrs.elem("element_dtype").unwrap_or(t.elem());
    if t.elem() != elem {
        return Err(invalid(format!("a tensor of type {} where {elem} is asked", t.elem())));
    }
    let (n, inner) = t.shape().split_first().ok_or_else(|| invalid("tensor must be at least a vector, but saw a scalar"))?;
    Ok((t, *n, inner))
}

fn split(call: &Call) -> Result {
    let (t, n, inner) = rows(call, 0)?;
    let shape = shape_operand(call, 1)?;
    let (_, rest) = split_first(&shape)?;
    if call.tensor(2)?.rank() != 1 {
        return Err(invalid(format!("expected lengths to be a vector, received shape {:?}", call.tensor(2)?.shape())));
    }
    if !shapes::compatible(&rest, inner) {
        return Err(invalid(format!("rows of shape {inner:?} are not compatible with element_shape {}", shapes::text(&shape))));
    }
    let mut l = TensorList::new(t.elem(), shape);
    let mut start = 0usize;
    for len in call.ints(2)? {
        let len = size(len, "a length")?;
        if len > n - start {
            return Err(invalid(format!("attempting to slice [{start}, {start} + {len}] from tensor with length {n}")));
        }
        l.items.push_back_mut(Some(values::rows(t, start, len)?));
        start += len;
    }
    if start != n {
        return Err(invalid(format!("unused values in tensor. Length of tensor: {n} Values used: {start}")));
    }
    one(l)
}

fn from_tensor(call: &Call) -> Result {
    let (t, n, inner) = rows(call, 0)?;
    let shape = shape_operand(call, 1)?;
    if !shapes::compatible(&shape, inner) {
        let shape = shapes::text(&shape);
        return Err(invalid(format!("specified a list with shape {shape} from a tensor with shape {:?}", t.shape())));
    }
    let mut l = TensorList::new(t.elem(), shape);
    for i in 0..n {
        l.items.push_back_mut(Some(values::row(t, i)?));
    }
    one(l)
}

/// Puts the rows of `t` at the positions in operand `k`.
fn put_rows(
    call: &Call,
    l: &mut TensorList,
    (t, n, inner): (&Value, usize, &[usize]),
    k: usize,
    fixed: Option<usize>,
) -> Result<()> {
    let at = call.ints(k)?;
    if call.tensor(k)?.rank() != 1 {
        return Err(invalid("the indices to scatter to must be a vector"));
    }
    if at.len() != n {
        return Err(invalid(format!("{} indices for {n} rows", at.len())));
    }
    if !shapes::compatible(&l.shape, inner) {
        let shape = shapes::text(&l.shape);
        return Err(invalid(format!("rows of shape {inner:?} in a list of elements of shape {shape}")));
    }
    let at = at.into_iter().map(|i| size(i, "an index to scatter to")).collect::<Result<Vec<_>>>()?;
    let needed = at.iter().max().map_or(0, |m| m.saturating_add(1));
    if let Some(fixed) = fixed
        && needed > fixed
    {
        return Err(invalid(format!("scatter indices must be less than num_elements {fixed}, and one is {}", needed - 1)));
    }
    l.resize(fixed.unwrap_or(needed).max(l.len()))?;
    for (row, i) in at.into_iter().enumerate() {
        l.set(i, values::row(t, row)?);
    }
    Ok(())
}

fn scatter(call: &Call) -> Result {
    let source = rows(call, 0)?;
    let fixed = match call.op {
        "TensorListScatterV2" => match scalar(call, 3, "num_elements")? {
            -1 => None,
            n => Some(size(n, "num_elements")?),
        },
        _ => None,
    };
    let mut l = TensorList::new(source.0.elem(), shape_operand(call, 2)?);
    put_rows(call, &mut l, source, 1, fixed)?;
    one(l)
}

fn scatter_into(call: &Call) -> Result {
    let mut l = TensorList::clone(&*typed(call, 0)?);
    let source = rows(call, 1)?;
    put_rows(call, &mut l, source, 2, None)?;
    one(l)
}

fn element_shape(call: &Call) -> Result {
    let l = list(call, 0)?;
    let elem = call.attrs.elem("shape_type").unwrap_or(Elem::I32);
    let dims: Option<Vec<i64>> = l.shape.as_ref().map(|s| s.iter().map(|d| d.map_or(-1, |d| d as i64)).collect());
    let t = match dims {
        None => ints_of(elem, &[], &[-1])?,
        Some(d) => ints_of(elem, &[d.len()], &d)?,
    };
    Ok(vec![t.into()])
}
