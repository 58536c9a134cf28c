//! Ops that move elements without looking at them, for variants. They work on every type; compiled code serves where types are plain.

use super::slicing::strided;
use crate::broadcast::broadcast_shape;
use crate::call::{Call, ints_of};
use crate::error::{internal, invalid};
use crate::limits::count;
use crate::value::Value;
use crate::values::{self, positions, take};
use crate::variants::{add_values, conj, zeros_of};
use crate::{Result, Table};
use graphc_ir::{Elem, Tensor};

pub(crate) const TABLE: Table = &[
    ("Identity", identity),
    ("IdentityN", identity),
    ("StopGradient", identity),
    ("PreventGradient", identity),
    ("Snapshot", identity),
    ("ZerosLike", zeros_like),
    ("AddN", add_n),
    ("AccumulateNV2", add_n),
    ("Conj", conjugate),
    ("Reshape", reshape),
    ("ExpandDims", expand_dims),
    ("Squeeze", squeeze),
    ("Pack", pack),
    ("Unpack", unpack),
    ("Concat", concat),
    ("ConcatV2", concat),
    ("Split", split),
    ("SplitV", split),
    ("Gather", gather),
    ("GatherV2", gather),
    ("GatherNd", gather_nd),
    ("Slice", slice),
    ("StridedSlice", strided_slice),
    ("StridedSliceGrad", strided_slice_grad),
    ("Select", select),
    ("SelectV2", select_v2),
    ("Fill", fill),
    ("BroadcastTo", broadcast_to),
    ("Tile", tile),
    ("Transpose", transpose),
    ("ReverseV2", reverse),
    ("Shape", shape),
    ("ShapeN", shape),
    ("Size", size),
    ("Rank", rank),
];

/// Row-major distance of neighbours in each dimension.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1usize; shape.len()];
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i].saturating_mul(shape[i]);
    }
    out
}

/// An axis that may count from the end.
fn axis(a: i64, rank: usize) -> Result<usize> {
    let r = rank as i64;
    let fits = a >= -r && a < r;
    let at = if a < 0 { a.saturating_add(r) } else { a };
    if fits { Ok(at as usize) } else { Err(invalid(format!("axis {a} is not in [{}, {r})", -r))) }
}

/// A shape as the product of what is before an axis, the axis, and what is after it.
fn around(shape: &[usize], at: usize) -> Result<(usize, usize, usize)> {
    let (before, rest) = shape.split_at_checked(at).ok_or_else(|| internal("an axis beyond the rank"))?;
    let (d, after) = rest.split_first().ok_or_else(|| internal("an axis beyond the rank"))?;
    Ok((count(before)?, *d, count(after)?))
}

fn dims(call: &Call, k: usize) -> Result<Vec<usize>> {
    if call.tensor(k)?.rank() > 1 {
        return Err(invalid("a shape must be a vector"));
    }
    crate::shapes::full_from_ints(&call.ints(k)?)
}

fn identity(call: &Call) -> Result {
    Ok(call.inputs.to_vec())
}

fn zeros_like(call: &Call) -> Result {
    Ok(vec![zeros_of(call.input(0)?)?])
}

fn add_n(call: &Call) -> Result {
    let (first, rest) = call.inputs.split_first().ok_or_else(|| invalid("the sum of no operands"))?;
    Ok(vec![rest.iter().try_fold(first.clone(), |sum, v| add_values(&sum, v))?])
}

fn conjugate(call: &Call) -> Result {
    Ok(vec![conj(call.variant(0)?)?])
}

fn reshape(call: &Call) -> Result {
    let v = call.input(0)?;
    // A scalar counts as a vector of one, as it did in old graphs.
    if call.tensor(1)?.rank() > 1 {
        return Err(invalid("the shape to reshape to must be a vector"));
    }
    let asked = call.ints(1)?;
    if asked.len() >= 254 {
        return Err(invalid(format!("too many dimensions: must be < 254, but received {}", asked.len())));
    }
    let n = count(v.shape())?;
    let known = asked.iter().copied().filter(|&d| d != -1).collect::<Vec<_>>();
    let known = crate::shapes::full_from_ints(&known)?;
    let open = asked.len() - known.len();
    if open > 1 {
        return Err(invalid("only one input size may be -1"));
    }
    // Where zeros are asked for, the open size is found from the sizes that are not zero.
    let sizes = |shape: &[usize]| count(&shape.iter().copied().filter(|&d| d > 0).collect::<Vec<_>>());
    let missing = if open == 0 {
        1
    } else if known.contains(&0) {
        sizes(v.shape())? / sizes(&known)?
    } else {
        n / count(&known)?
    };
    if count(&known)?.checked_mul(missing) != Some(n) {
        return Err(invalid(format!("a tensor with {n} values cannot take the shape {asked:?}")));
    }
    let shape = asked.iter().map(|&d| if d == -1 { missing } else { d as usize }).collect();
    Ok(vec![values::reshaped(v, shape)?])
}

fn expand_dims(call: &Call) -> Result {
    let v = call.input(0)?;
    let at = axis(call.int(1)?, v.shape().len() + 1)?;
    let mut shape = v.shape().to_vec();
    shape.insert(at, 1);
    Ok(vec![values::reshaped(v, shape)?])
}

fn squeeze(call: &Call) -> Result {
    let v = call.input(0)?;
    let named = call.attrs.ints("squeeze_dims").unwrap_or_default();
    let gone = named.iter().map(|&a| axis(a, v.shape().len())).collect::<Result<Vec<_>>>()?;
    if let Some(&i) = gone.iter().find(|&&i| v.shape().get(i) != Some(&1)) {
        return Err(invalid(format!("cannot squeeze dim[{i}] of {:?}, expected a dimension of 1", v.shape())));
    }
    let kept = |(i, d): &(usize, &usize)| if gone.is_empty() { **d != 1 } else { !gone.contains(i) };
    let shape = v.shape().iter().enumerate().filter(kept).map(|(_, d)| *d).collect();
    Ok(vec![values::reshaped(v, shape)?])
}

/// Values of the same shape but for `at`, joined along that axis.
fn joined(parts: &[&Value], at: usize) -> Result<Value> {
    let first = *parts.first().ok_or_else(|| invalid("nothing to join"))?;
    let mut total = 0usize;
    for p in parts {
        let same = p.shape().len() == first.shape().len()
            && p.shape().iter().zip(first.shape()).enumerate().all(|(i, (a, b))| i == at || a == b);
        if !same || p.elem() != first.elem() {
            return Err(invalid(format!("values of shapes {:?} and {:?} cannot be joined", first.shape(), p.shape())));
        }
        total = total.saturating_add(p.shape().get(at).copied().unwrap_or(0));
    }
    let mut shape = first.shape().to_vec();
    if let Some(d) = shape.get_mut(at) {
        *d = total;
    }
    // Joined under each other first, then brought into order.
    let all = values::join(first.elem(), vec![count(&shape)?], parts)?;
    let mut starts = Vec::with_capacity(parts.len());
    let mut start = 0;
    for p in parts {
        starts.push(start);
        start += count(p.shape())?;
    }
    let mut order = values::room(start)?;
    let (before, ..) = around(&shape, at)?;
    for b in 0..before {
        for (p, start) in parts.iter().zip(&starts) {
            let (_, d, after) = around(p.shape(), at)?;
            let from = start + b * d * after;
            order.extend(from..from + d * after);
        }
    }
    take(&all, shape, &order)
}

fn pack(call: &Call) -> Result {
    let first = call.input(0)?;
    let at = axis(call.attrs.int("axis").unwrap_or(0), first.shape().len() + 1)?;
    let mut shape = first.shape().to_vec();
    shape.insert(at, 1);
    if let Some(odd) = call.inputs.iter().find(|v| v.shape() != first.shape()) {
        return Err(invalid(format!("shapes of all inputs must match: {:?} and {:?}", first.shape(), odd.shape())));
    }
    let parts = call.inputs.iter().map(|v| values::reshaped(v, shape.clone())).collect::<Result<Vec<_>>>()?;
    Ok(vec![joined(&parts.iter().collect::<Vec<_>>(), at)?])
}

fn concat(call: &Call) -> Result {
    let (k, parts) = match (call.op, call.inputs) {
        ("Concat", [_, parts @ ..]) => (0, parts),
        (_, [parts @ .., _]) => (call.inputs.len() - 1, parts),
        _ => return Err(invalid("nothing to concatenate")),
    };
    let rank = parts.first().map_or(0, |v| v.shape().len());
    if rank == 0 {
        return Err(invalid("concat expects at least vectors"));
    }
    let at = axis(call.int(k)?, rank)?;
    Ok(vec![joined(&parts.iter().collect::<Vec<_>>(), at)?])
}

/// `n` entries of an axis from `start` on.
fn part(v: &Value, at: usize, start: usize, n: usize) -> Result<Value> {
    let (before, d, after) = around(v.shape(), at)?;
    let mut shape = v.shape().to_vec();
    if let Some(d) = shape.get_mut(at) {
        *d = n;
    }
    let mut order = values::room(count(&shape)?)?;
    for b in 0..before {
        let from = (b * d + start) * after;
        order.extend(from..from + n * after);
    }
    take(v, shape, &order)
}

fn unpack(call: &Call) -> Result {
    let v = call.input(0)?;
    let at = axis(call.attrs.int("axis").unwrap_or(0), v.shape().len())?;
    let (_, d, _) = around(v.shape(), at)?;
    if usize::try_from(call.attrs.int("num")?).ok() != Some(d) {
        return Err(invalid(format!("cannot unpack a dimension of {d} into {} values", call.attrs.int("num")?)));
    }
    let mut shape = v.shape().to_vec();
    shape.remove(at);
    (0..d).map(|i| values::reshaped(&part(v, at, i, 1)?, shape.clone())).collect()
}

fn split(call: &Call) -> Result {
    let (v, k) = if call.op == "Split" { (call.input(1)?, 0) } else { (call.input(0)?, 2) };
    let at = axis(call.int(k)?, v.shape().len())?;
    let (_, d, _) = around(v.shape(), at)?;
    let n = call.attrs.int("num_split")?;
    let uneven = || invalid(format!("a dimension of {d} cannot be split into {n} such parts"));
    let parts = usize::try_from(n).ok().filter(|&n| n > 0).ok_or_else(uneven)?;
    let sizes = if call.op == "Split" {
        if d % parts != 0 {
            return Err(uneven());
        }
        vec![d / parts; parts]
    } else {
        let given = call.ints(1)?;
        let known: i64 = given.iter().filter(|&&s| s != -1).fold(0i64, |a, &b| a.saturating_add(b));
        let open = given.iter().filter(|&&s| s == -1).count();
        if given.len() != parts || open > 1 {
            return Err(uneven());
        }
        let sizes = given.iter().map(|&s| usize::try_from(if s == -1 { d as i64 - known } else { s }).map_err(|_| uneven()));
        let sizes = sizes.collect::<Result<Vec<_>>>()?;
        if sizes.iter().fold(0usize, |a, &b| a.saturating_add(b)) != d {
            return Err(uneven());
        }
        sizes
    };
    let mut start = 0;
    let mut out = Vec::with_capacity(sizes.len());
    for n in sizes {
        out.push(part(v, at, start, n)?);
        start += n;
    }
    Ok(out)
}

pub(crate) fn gather(call: &Call) -> Result {
    let (v, indices) = (call.input(0)?, call.tensor(1)?);
    let rank = v.shape().len();
    let at = if call.op == "GatherV2" { call.int(2)? } else { 0 };
    if rank == 0 {
        return Err(invalid("params must be at least 1 dimensional"));
    }
    let at = axis(at, rank)?;
    let batch = call.attrs.int("batch_dims").unwrap_or(0);
    let batch = if batch == 0 { 0 } else { axis(batch, indices.rank() + 1)? };
    if batch > at || v.shape().get(..batch) != indices.shape().get(..batch) {
        return Err(invalid(format!("{batch} batch dimensions of {:?} and {:?} do not fit", v.shape(), indices.shape())));
    }
    let (before, d, after) = around(v.shape(), at)?;
    let batches = count(&v.shape()[..batch])?;
    let outer = before.checked_div(batches).unwrap_or(0);
    let picked = call.ints(1)?;
    let per = picked.len().checked_div(batches).unwrap_or(0);
    let shape = [&v.shape()[..at], &indices.shape()[batch..], &v.shape()[at + 1..]].concat();
    if let Some(odd) = picked.iter().find(|&&i| usize::try_from(i).map_or(true, |i| i >= d)) {
        return Err(invalid(format!("indices = {odd} is not in [0, {d})")));
    }
    let mut order = values::room(count(&shape)?)?;
    for b in 0..batches {
        for o in 0..outer {
            for &i in picked.iter().skip(b * per).take(per) {
                let from = ((b * outer + o) * d + i as usize) * after;
                order.extend(from..from + after);
            }
        }
    }
    Ok(vec![take(v, shape, &order)?])
}

pub(crate) fn gather_nd(call: &Call) -> Result {
    let (v, indices) = (call.input(0)?, call.tensor(1)?);
    let (&depth, outer) = indices.shape().split_last().ok_or_else(|| invalid("indices must be at least a vector"))?;
    let Some((looked, inner)) = v.shape().split_at_checked(depth) else {
        return Err(invalid(format!("indices of depth {depth} into a tensor of shape {:?}", v.shape())));
    };
    let ignore = call.attrs.text("bad_indices_policy").is_ok_and(|p| p == "IGNORE");
    let (steps, after, all) = (strides(looked), count(inner)?, call.ints(1)?);
    let (mut order, mut outside) = (Vec::new(), Vec::new());
    for k in 0..count(outer)? {
        let place = all.iter().skip(k * depth).zip(looked).zip(&steps).try_fold(0, |flat, ((&i, &d), &step)| {
            let i = usize::try_from(i).ok().filter(|&i| i < d)?;
            Some(flat + step * i)
        });
        match place {
            Some(flat) => order.extend(flat * after..(flat + 1) * after),
            // Stands for zeros, which are put there below.
            None if ignore && !looked.contains(&0) => {
                outside.push(k);
                order.extend(0..after);
            }
            None => return Err(invalid(format!("indices[{k}] does not index into param of shape {:?}", v.shape()))),
        }
    }
    let found = take(v, [outer, inner].concat(), &order)?;
    let (Value::Tensor(t), false) = (&found, outside.is_empty()) else { return Ok(vec![found]) };
    let mut bytes = t.bytes().to_vec();
    let block = after * t.elem().size();
    outside.iter().for_each(|k| bytes[k * block..(k + 1) * block].fill(0));
    let zeroed = Tensor::from_bytes(t.elem(), t.shape().to_vec(), bytes);
    Ok(vec![zeroed.ok_or_else(|| invalid("out of range indices of strings cannot be ignored"))?.into()])
}

fn slice(call: &Call) -> Result {
    let v = call.input(0)?;
    let (begin, size) = (call.ints(1)?, call.ints(2)?);
    let rank = v.shape().len();
    if begin.len() != rank || size.len() != rank {
        return Err(invalid(format!("a slice of {} begins and {} sizes of rank {rank}", begin.len(), size.len())));
    }
    let mut picked = Vec::with_capacity(rank);
    for ((&b, &s), &d) in begin.iter().zip(&size).zip(v.shape()) {
        let outside = || invalid(format!("a slice [{b}, {b} + {s}) of a dimension of {d}"));
        let b = usize::try_from(b).ok().filter(|&b| b <= d).ok_or_else(outside)?;
        let s = if s == -1 { d - b } else { usize::try_from(s).ok().filter(|&s| s <= d - b).ok_or_else(outside)? };
        picked.push((b as i64, 1, s));
    }
    let shape = picked.iter().map(|p| p.2).collect();
    let selection = super::slicing::Selection { dims: picked, shape };
    let at = selection.positions(v.shape())?;
    Ok(vec![take(v, selection.shape, &at)?])
}

fn strided_slice(call: &Call) -> Result {
    let v = call.input(0)?;
    let selection = strided(call, 1, v.shape())?;
    let at = selection.positions(v.shape())?;
    Ok(vec![take(v, selection.shape, &at)?])
}

fn strided_slice_grad(call: &Call) -> Result {
    let (shape, v) = (dims(call, 0)?, call.input(4)?);
    let selection = strided(call, 1, &shape)?;
    if selection.shape != v.shape() {
        return Err(invalid(format!("shape of dy was {:?} instead of {:?}", v.shape(), selection.shape)));
    }
    let n = count(&shape)?;
    // Where each element of the result comes from: zeros lie behind the elements of the slice.
    let mut order = values::room(n)?;
    order.resize(n, count(v.shape())?);
    for (from, at) in selection.positions(&shape)?.into_iter().enumerate() {
        if let Some(o) = order.get_mut(at) {
            *o = from;
        }
    }
    let zero = values::zeros(v.elem(), &[])?;
    let all = values::join(v.elem(), vec![count(v.shape())? + 1], &[v, &zero])?;
    Ok(vec![take(&all, shape, &order)?])
}

fn conditions(call: &Call) -> Result<Vec<bool>> {
    call.tensor(0)?.as_bools().ok_or_else(|| invalid("a condition must be bool"))
}

/// The elements of `a` or of `b`, which have one shape.
fn chosen(cond: &[bool], shape: Vec<usize>, a: &Value, b: &Value) -> Result<Value> {
    let n = count(a.shape())?;
    let all = values::join(a.elem(), vec![n + count(b.shape())?], &[a, b])?;
    let at: Vec<usize> = cond.iter().enumerate().map(|(i, &c)| if c { i } else { n + i }).collect();
    take(&all, shape, &at)
}

fn select(call: &Call) -> Result {
    let (c, a, b) = (call.tensor(0)?, call.input(1)?, call.input(2)?);
    if a.shape() != b.shape() {
        return Err(invalid(format!("'then' and 'else' must have the same size, but have {:?} and {:?}", a.shape(), b.shape())));
    }
    let cond = conditions(call)?;
    let n = count(a.shape())?;
    let rows = |inner: usize| cond.iter().flat_map(|&c| std::iter::repeat_n(c, inner)).collect::<Vec<_>>();
    let cond = match (c.rank(), a.shape()) {
        (0, _) => rows(n),
        (_, s) if s == c.shape() => rows(1),
        (1, [d, inner @ ..]) if *d == c.len() => rows(count(inner)?),
        _ => return Err(invalid(format!("a condition of shape {:?} for values of shape {:?}", c.shape(), a.shape()))),
    };
    Ok(vec![chosen(&cond, a.shape().to_vec(), a, b)?])
}

/// The value with every element where broadcasting to the shape puts it.
fn spread(v: &Value, shape: &[usize]) -> Result<Value> {
    let lead = shape.len().checked_sub(v.shape().len());
    let fits = lead.is_some_and(|l| v.shape().iter().zip(&shape[l..]).all(|(a, b)| a == b || *a == 1));
    let Some(lead) = lead.filter(|_| fits) else {
        return Err(invalid(format!("incompatible shapes: {:?} vs. {shape:?}", v.shape())));
    };
    let steps: Vec<usize> = strides(v.shape()).iter().zip(v.shape()).map(|(s, d)| if *d == 1 { 0 } else { *s }).collect();
    let at = positions(shape, |at| at[lead..].iter().zip(&steps).map(|(i, s)| i * s).sum())?;
    take(v, shape.to_vec(), &at)
}

fn select_v2(call: &Call) -> Result {
    let (c, a, b) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let shape = broadcast_shape(&[c.shape(), a.shape(), b.shape()])?;
    let (c, a, b) = (spread(c, &shape)?, spread(a, &shape)?, spread(b, &shape)?);
    let cond = c.as_tensor().and_then(|c| c.as_bools()).ok_or_else(|| invalid("a condition must be bool"))?;
    Ok(vec![chosen(&cond, shape, &a, &b)?])
}

fn fill(call: &Call) -> Result {
    let (shape, v) = (dims(call, 0)?, call.input(1)?);
    // A vector of one counts as a scalar, as it did in old graphs.
    if !matches!(v.shape(), [] | [1]) {
        return Err(invalid("value must be a scalar"));
    }
    Ok(vec![spread(&values::reshaped(v, Vec::new())?, &shape)?])
}

fn broadcast_to(call: &Call) -> Result {
    Ok(vec![spread(call.input(0)?, &dims(call, 1)?)?])
}

fn tile(call: &Call) -> Result {
    let (v, times) = (call.input(0)?, dims(call, 1)?);
    if times.len() != v.shape().len() {
        return Err(invalid(format!("{} multiples for a value of shape {:?}", times.len(), v.shape())));
    }
    let shape: Vec<usize> = v.shape().iter().zip(&times).map(|(d, n)| d.saturating_mul(*n)).collect();
    let steps = strides(v.shape());
    let at = positions(&shape, |at| at.iter().zip(v.shape()).zip(&steps).map(|((i, d), s)| i % d * s).sum())?;
    Ok(vec![take(v, shape, &at)?])
}

fn transpose(call: &Call) -> Result {
    let (v, perm) = (call.input(0)?, dims(call, 1)?);
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..v.shape().len()) {
        return Err(invalid(format!("{perm:?} is not a permutation of the dimensions of {:?}", v.shape())));
    }
    let steps = strides(v.shape());
    let (shape, steps): (Vec<usize>, Vec<usize>) = perm.iter().map(|&p| (v.shape()[p], steps[p])).unzip();
    let at = positions(&shape, |at| at.iter().zip(&steps).map(|(i, s)| i * s).sum())?;
    Ok(vec![take(v, shape, &at)?])
}

fn reverse(call: &Call) -> Result {
    let v = call.input(0)?;
    let turned = call.ints(1)?.into_iter().map(|a| axis(a, v.shape().len())).collect::<Result<Vec<_>>>()?;
    let steps = strides(v.shape());
    let flip = |k: usize, i: usize, d: usize| if turned.contains(&k) { d - 1 - i } else { i };
    let at = positions(v.shape(), |at| {
        at.iter().zip(v.shape()).zip(&steps).enumerate().map(|(k, ((i, d), s))| flip(k, *i, *d) * s).sum()
    })?;
    Ok(vec![take(v, v.shape().to_vec(), &at)?])
}

fn out_type(call: &Call) -> Elem {
    call.attrs.elem("out_type").unwrap_or(Elem::I32)
}

fn shape(call: &Call) -> Result {
    let one = |v: &Value| {
        let dims: Vec<i64> = v.shape().iter().map(|&d| d as i64).collect();
        Ok(ints_of(out_type(call), &[dims.len()], &dims)?.into())
    };
    call.inputs.iter().map(one).collect()
}

fn size(call: &Call) -> Result {
    Ok(vec![ints_of(out_type(call), &[], &[count(call.input(0)?.shape())? as i64])?.into()])
}

fn rank(call: &Call) -> Result {
    Ok(vec![values::scalar_i32(call.input(0)?.shape().len())?])
}
