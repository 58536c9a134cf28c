//! Slices and strided slices.

use super::cx::{NodeCx, Res, V};
use super::shape::need_shape;
use graphc_ir::{Attrs, Dim, Elem, Op};

type Cx<'c, 'l, 'a> = &'c mut NodeCx<'l, 'a>;

pub fn slice(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let shape = cx.shape(x);
    let (begin, mut size) = (cx.need_dims(1, "begin")?, cx.need_dims(2, "size")?);
    if begin.len() != shape.len() || size.len() != shape.len() {
        return Err(cx.invalid(format!(
            "Expected begin and size arguments to be 1-D tensors of size {}, but got {} and {}",
            shape.len(),
            begin.len(),
            size.len()
        )));
    }
    for i in 0..shape.len() {
        if size[i].as_const() == Some(-1) {
            size[i] = &shape[i] - &begin[i];
        }
        let end = &begin[i] + &size[i];
        let bad = |d: &Dim| d.as_const().is_some_and(|c| c < 0);
        if bad(&begin[i]) || bad(&size[i]) || bad(&(&shape[i] - &end)) {
            return Err(cx.invalid(format!(
                "Expected begin[{i}] and size[{i}] to lie in [0, {}], but got {} and {}",
                shape[i], begin[i], size[i]
            )));
        }
    }
    Ok(vec![cx.slice(x, begin, size, &[])?])
}

/// One axis of a strided slice, on the operand.
struct Range {
    begin: Dim,
    /// How many elements are taken.
    size: Dim,
    stride: i64,
}

/// What a strided slice does, axis by axis: ranges on the operand and the shape of the result.
pub struct Strided {
    ranges: Vec<Range>,
    /// The result before new axes are put in and shrunk ones taken out has the ranges' sizes.
    shape: Vec<Dim>,
    /// Axes whose index is computed at run time, with the operand's position in `begin`.
    dynamic: Vec<(usize, usize)>,
}

/// One entry of the sparse specification, by the masks.
struct Spec {
    begin: Vec<Option<Dim>>,
    end: Vec<Option<Dim>>,
    strides: Vec<i64>,
}

/// Reads begin, end and strides (operands `k`, `k + 1`, `k + 2`) and the masks.
pub fn strided(cx: &NodeCx, shape: &[Dim], k: usize) -> Res<Strided> {
    let begin_v = cx.x(k)?;
    let n = match cx.shape(begin_v).as_slice() {
        [n] => match n.as_const() {
            Some(n) if n < 64 => n as usize,
            Some(_) => return Err(cx.invalid("begin is too long")),
            None => return Err(cx.needs_shape([n].into_iter(), "the length of begin must be constant")),
        },
        s => return Err(cx.invalid(format!("Expected begin, end, and strides to be 1D equal size tensors, but got shape {s:?}"))),
    };
    for j in 1..3 {
        cx.same_shape(&cx.shape(begin_v), &cx.shape(cx.x(k + j)?), "Expected begin, end, and strides to be 1D equal size tensors")?;
    }
    let strides = cx.need_ints(k + 2, "strides")?;
    let mask = |name: &str| cx.int(name);
    let (begin_mask, end_mask) = (mask("begin_mask")?, mask("end_mask")?);
    let (ellipsis, new_axis, shrink) = (mask("ellipsis_mask")?, mask("new_axis_mask")?, mask("shrink_axis_mask")?);
    let bit = |m: i64, i: usize| m >> i & 1 == 1;
    let partial = |v: V, masked: i64| -> Vec<Option<Dim>> {
        match cx.low.content(v) {
            Some(d) => d.into_iter().map(Some).collect(),
            None => (0..n).map(|i| (bit(masked | new_axis | ellipsis, i)).then_some(Dim::ZERO)).collect(),
        }
    };
    let spec = Spec { begin: partial(begin_v, begin_mask), end: partial(cx.x(k + 1)?, end_mask | shrink), strides };
    if (ellipsis as u64 & ((1 << n) - 1)).count_ones() > 1 {
        return Err(cx.invalid("Multiple ellipses in slice spec not allowed"));
    }
    let used = (0..n).filter(|&i| !bit(ellipsis, i) && (!bit(new_axis, i))).count();
    if used > shape.len() {
        return Err(cx.invalid(format!("Index out of range using input dim {}; input has only {} dims", shape.len(), shape.len())));
    }
    let mut out = Strided { ranges: Vec::new(), shape: Vec::new(), dynamic: Vec::new() };
    let whole = |out: &mut Strided, d: &Dim| {
        out.ranges.push(Range { begin: Dim::ZERO, size: d.clone(), stride: 1 });
        out.shape.push(d.clone());
    };
    let mut axis = 0;
    for i in 0..n {
        if bit(ellipsis, i) {
            for _ in 0..shape.len() - used {
                whole(&mut out, &shape[axis]);
                axis += 1;
            }
            continue;
        }
        if bit(new_axis, i) {
            out.shape.push(Dim::ONE);
            continue;
        }
        let d = &shape[axis];
        let stride = spec.strides[i];
        if stride == 0 || stride == i64::MIN {
            return Err(cx.invalid(format!("strides[{i}] must be non-zero")));
        }
        if bit(shrink, i) {
            if stride < 0 {
                return Err(cx.invalid("only stride 1 allowed on non-range indexing."));
            }
            // A masked begin of a single index is the first element.
            match spec.begin[i].as_ref().filter(|_| !bit(begin_mask, i)) {
                Some(b) => out.ranges.push(Range { begin: single(cx, b, d, i)?, size: Dim::ONE, stride: 1 }),
                None if bit(begin_mask, i) => out.ranges.push(Range { begin: Dim::ZERO, size: Dim::ONE, stride: 1 }),
                None => {
                    out.dynamic.push((axis, i));
                    out.ranges.push(Range { begin: Dim::ZERO, size: d.clone(), stride: 1 });
                }
            }
        } else {
            let take = |v: &Option<Dim>, masked: bool, default: Dim, what: &str, at: usize| match v {
                _ if masked => Ok(default),
                Some(b) => Ok(clamp_bound(b, d, stride)),
                None => Err(cx.needs_value(cx.x(at)?, what)),
            };
            let (first, last) = if stride > 0 { (Dim::ZERO, d.clone()) } else { (d - &Dim::ONE, Dim::from(-1i64)) };
            let b = take(&spec.begin[i], bit(begin_mask, i), first, "begin", k)?;
            let e = take(&spec.end[i], bit(end_mask, i), last, "end", k + 1)?;
            let span = if stride > 0 { &e - &b } else { &b - &e };
            let size = span.ceil_div(&Dim::from(stride.abs())).at_least(&Dim::ZERO);
            out.shape.push(size.clone());
            out.ranges.push(Range { begin: b, size, stride });
        }
        axis += 1;
    }
    while axis < shape.len() {
        whole(&mut out, &shape[axis]);
        axis += 1;
    }
    Ok(out)
}

/// A begin or end in range: negative ones count from the end.
fn clamp_bound(b: &Dim, d: &Dim, stride: i64) -> Dim {
    let negative = b.as_const().is_some_and(|c| c < 0) || b.sign() == Some(-1);
    let at = if negative { d + b } else { b.clone() };
    let (low, high) = if stride > 0 { (Dim::ZERO, d.clone()) } else { (Dim::from(-1i64), d - &Dim::ONE) };
    at.at_least(&low).at_most(&high)
}

fn single(cx: &NodeCx, b: &Dim, d: &Dim, i: usize) -> Res<Dim> {
    let negative = b.as_const().is_some_and(|c| c < 0) || b.sign() == Some(-1);
    let at = if negative { d + b } else { b.clone() };
    let out = at.as_const().is_some_and(|c| c < 0) || (&at - d).sign().is_some_and(|s| s >= 0);
    if out { Err(cx.invalid(format!("slice index {b} of dimension {i} out of bounds."))) } else { Ok(at) }
}

/// Ranges with negative strides become ranges over the reversed axes.
fn forward(x_shape: &[Dim], ranges: &[Range]) -> (Vec<usize>, Vec<Dim>, Vec<Dim>, Vec<i64>) {
    let reversed: Vec<usize> = (0..ranges.len()).filter(|&i| ranges[i].stride < 0).collect();
    let start = ranges
        .iter()
        .zip(x_shape)
        .map(|(r, d)| match r {
            // An empty range starts anywhere; zero is always allowed.
            r if r.size.is_zero() => Dim::ZERO,
            r if r.stride < 0 => &(d - &Dim::ONE) - &r.begin,
            r => r.begin.clone(),
        })
        .collect();
    let size = ranges.iter().map(|r| r.size.clone()).collect();
    (reversed, start, size, ranges.iter().map(|r| r.stride.abs()).collect())
}

pub fn strided_slice(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let shape = cx.shape(x);
    let s = strided(cx, &shape, 1)?;
    let mut y = x;
    // A single index known only at run time becomes a gather with one row.
    for &(axis, at) in &s.dynamic {
        let begin = cx.x(1)?;
        let i = cx.slice_axis(begin, 0, Dim::from(at), Dim::ONE)?;
        let elem = cx.elem(i);
        let d = cx.dim_scalar(elem, shape[axis].clone());
        let zero = cx.num(0.0, elem)?;
        let negative = cx.bin(Op::Lt, i, zero)?;
        let from_end = cx.add(i, d)?;
        let i = cx.select(negative, from_end, i)?;
        y = cx.gather(y, i, axis, 0)?;
    }
    let mut ranges = s.ranges;
    for &(axis, _) in &s.dynamic {
        ranges[axis].size = Dim::ONE;
    }
    let from = cx.shape(y);
    let (reversed, start, size, stride) = forward(&from, &ranges);
    if !reversed.is_empty() {
        y = cx.op(Op::Reverse, &[y], Attrs::new().with("axes", reversed))?;
    }
    y = cx.slice(y, start, size, &stride)?;
    Ok(vec![cx.reshape(y, &s.shape)?])
}

/// StridedSliceGrad: the gradient put back at its place in zeros.
pub fn strided_slice_grad(cx: Cx) -> Res {
    let shape = need_shape(cx, 0, "shape")?;
    let s = strided(cx, &shape, 1)?;
    if !s.dynamic.is_empty() {
        return Err(cx.needs_value(cx.x(1)?, "begin"));
    }
    let dy = cx.x(4)?;
    cx.same_shape(&cx.shape(dy), &s.shape, "shape of dy and of the slice")?;
    let (reversed, start, size, stride) = forward(&shape, &s.ranges);
    let mut y = cx.reshape(dy, &size)?;
    if size.iter().any(Dim::is_zero) {
        let elem = cx.elem(dy);
        return Ok(vec![cx.filled(0.0, elem, &shape)?]);
    }
    for (i, &step) in stride.iter().enumerate().filter(|(_, s)| **s > 1) {
        y = spread(cx, y, i, step)?;
    }
    let zero = cx.like(0.0, y)?;
    let now = cx.shape(y);
    // Spreading leaves `stride - 1` zeros behind the last element; they may leave the axis.
    let room: Vec<Dim> = shape.iter().zip(&start).map(|(d, s)| d - s).collect();
    let keep: Vec<Dim> = now.iter().zip(&room).map(|(n, r)| n.at_most(r)).collect();
    let zeros = vec![Dim::ZERO; shape.len()];
    y = cx.slice(y, zeros, keep.clone(), &[])?;
    let high = room.iter().zip(&keep).map(|(r, k)| r - k).collect();
    y = cx.pad(y, zero, start, high)?;
    if !reversed.is_empty() {
        y = cx.op(Op::Reverse, &[y], Attrs::new().with("axes", reversed))?;
    }
    Ok(vec![y])
}

/// Puts `step - 1` zeros behind each element of an axis.
pub fn spread(cx: &mut NodeCx, x: V, axis: usize, step: i64) -> Res<V> {
    let mut shape = cx.shape(x);
    let n = shape[axis].clone();
    shape.insert(axis + 1, Dim::ONE);
    let x = cx.reshape(x, &shape)?;
    let zero = cx.like(0.0, x)?;
    let low = vec![Dim::ZERO; shape.len()];
    let mut high = low.clone();
    high[axis + 1] = Dim::from(step - 1);
    let x = cx.pad(x, zero, low, high)?;
    shape.remove(axis + 1);
    shape[axis] = &n * &Dim::from(step);
    cx.reshape(x, &shape)
}

/// TensorStridedSliceUpdate: a tensor with a slice of it overwritten.
pub fn tensor_strided_slice_update(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let shape = cx.shape(x);
    let s = strided(cx, &shape, 1)?;
    if !s.dynamic.is_empty() {
        return Err(cx.needs_value(cx.x(1)?, "begin"));
    }
    let value = cx.x(4)?;
    let value = cx.broadcast(value, &s.shape)?;
    let (reversed, start, size, stride) = forward(&shape, &s.ranges);
    if size.iter().any(Dim::is_zero) {
        return Ok(vec![x]);
    }
    let mut v = cx.reshape(value, &size)?;
    // Ones mark the places that are written.
    let mut mark = cx.filled(1.0, Elem::U8, &size)?;
    for (i, &step) in stride.iter().enumerate().filter(|(_, s)| **s > 1) {
        v = spread(cx, v, i, step)?;
        mark = spread(cx, mark, i, step)?;
    }
    let now = cx.shape(v);
    let room: Vec<Dim> = shape.iter().zip(&start).map(|(d, s)| d - s).collect();
    let keep: Vec<Dim> = now.iter().zip(&room).map(|(n, r)| n.at_most(r)).collect();
    let high: Vec<Dim> = room.iter().zip(&keep).map(|(r, k)| r - k).collect();
    let mut placed = Vec::new();
    for y in [v, mark] {
        let y = cx.slice(y, vec![Dim::ZERO; shape.len()], keep.clone(), &[])?;
        let zero = cx.like(0.0, y)?;
        let mut y = cx.pad(y, zero, start.clone(), high.clone())?;
        if !reversed.is_empty() {
            y = cx.op(Op::Reverse, &[y], Attrs::new().with("axes", reversed.clone()))?;
        }
        placed.push(y);
    }
    let written = cx.cast(placed[1], Elem::Bool)?;
    Ok(vec![cx.select(written, placed[0], x)?])
}
