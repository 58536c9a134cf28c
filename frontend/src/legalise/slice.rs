//! Taking parts out of tensors: slices, splits, strided slices.

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
    if (ellipsis & ((1 << n) - 1)).count_ones() > 1 {
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
        if stride == 0 {
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

/// Split (axis, value) into `num_split` equal parts.
pub fn split(cx: Cx) -> Res {
    let (x, n) = (cx.x(1)?, cx.int("num_split")?);
    let axis = cx.need_axis(0, cx.rank(x), "split_dim")?;
    if n <= 0 {
        return Err(cx.invalid(format!("Number of ways to split should be > 0, but got {n}")));
    }
    let d = cx.shape(x)[axis].clone();
    let part = cx.exact_quotient(&d, &Dim::from(n), "Number of ways to split should evenly divide the split dimension")?;
    split_into(cx, x, axis, vec![part; n as usize])
}

/// SplitV (value, sizes, axis); one size may be -1.
pub fn split_v(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let axis = cx.need_axis(2, cx.rank(x), "split_dim")?;
    let mut sizes = cx.need_dims(1, "size_splits")?;
    let d = cx.shape(x)[axis].clone();
    let open: Vec<usize> = (0..sizes.len()).filter(|&i| sizes[i].as_const() == Some(-1)).collect();
    match open.as_slice() {
        [] => {}
        &[i] => {
            sizes[i] = Dim::ZERO;
            let rest: Dim = sizes.iter().sum();
            sizes[i] = &d - &rest;
        }
        _ => return Err(cx.invalid("There can only be one -1 in the input.")),
    }
    if let Some(s) = sizes.iter().find(|s| s.as_const().is_some_and(|c| c < 0)) {
        return Err(cx.invalid(format!("Split size at index must be >= 0. Got: {s}")));
    }
    let total: Dim = sizes.iter().sum();
    cx.same_dim(&total, &d, "Determined shape must match the split dimension")?;
    if sizes.len() as i64 != cx.int("num_split")? {
        return Err(cx.invalid("the number of sizes and num_split differ"));
    }
    split_into(cx, x, axis, sizes)
}

fn split_into(cx: Cx, x: V, axis: usize, sizes: Vec<Dim>) -> Res {
    let mut at = Dim::ZERO;
    sizes
        .into_iter()
        .map(|n| {
            let part = cx.slice_axis(x, axis, at.clone(), n.clone())?;
            at = &at + &n;
            Ok(part)
        })
        .collect()
}

pub fn unpack(cx: Cx) -> Res {
    let (x, n) = (cx.x(0)?, cx.int("num")?);
    let axis = cx.axis(cx.int("axis")?, cx.rank(x))?;
    let mut shape = cx.shape(x);
    let d = shape.remove(axis);
    cx.same_dim(&d, &Dim::from(n), "num and the unpacked dimension")?;
    (0..n)
        .map(|k| {
            let part = cx.slice_axis(x, axis, Dim::from(k), Dim::ONE)?;
            cx.reshape(part, &shape)
        })
        .collect()
}

/// Pack: operands of one shape along a new axis.
pub fn pack(cx: Cx) -> Res {
    let xs = cx.inputs.clone();
    let shape = cx.shape(cx.x(0)?);
    let axis = cx.axis(cx.int("axis")?, shape.len() + 1)?;
    let mut to = shape.clone();
    to.insert(axis, Dim::ONE);
    let mut parts = Vec::with_capacity(xs.len());
    for x in xs {
        cx.same_shape(&shape, &cx.shape(x), "Shapes of all inputs must match")?;
        parts.push(cx.reshape(x, &to)?);
    }
    Ok(vec![cx.concat(&parts, axis)?])
}

/// Concat (axis first) and ConcatV2 (axis last).
pub fn concat(cx: Cx, axis_first: bool) -> Res {
    let n = cx.inputs.len();
    if n < 2 {
        return Err(cx.malformed("no operands"));
    }
    let (axis_at, values) = if axis_first { (0, 1..n) } else { (n - 1, 0..n - 1) };
    let xs = cx.inputs[values].to_vec();
    // TensorFlow leaves out vectors of no elements.
    let rank = xs.iter().map(|&x| cx.rank(x)).max().unwrap_or(0);
    if rank == 0 {
        return Err(cx.invalid("Can't concatenate scalars (use tf.stack instead)"));
    }
    let axis = cx.need_axis(axis_at, rank, "axis")?;
    let xs: Vec<V> = xs.iter().copied().filter(|&x| !(cx.rank(x) == 1 && rank > 1 && cx.shape(x)[0].is_zero())).collect();
    Ok(vec![cx.concat(&xs, axis)?])
}

pub fn tile(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let shape = cx.shape(x);
    let n = need_shape(cx, 1, "multiples")?;
    if n.len() != shape.len() {
        return Err(cx.invalid(format!(
            "Expected multiples argument to be a vector of length {} but got length {}",
            shape.len(),
            n.len()
        )));
    }
    // [n0, d0, n1, d1, ..] without the factors that are 1.
    let (mut from, mut to, mut out) = (Vec::new(), Vec::new(), Vec::new());
    for (n, d) in n.iter().zip(&shape) {
        if !n.is_one() {
            from.push(Dim::ONE);
            to.push(n.clone());
        }
        from.push(d.clone());
        to.push(d.clone());
        out.push(n * d);
    }
    let y = cx.reshape(x, &from)?;
    let y = cx.broadcast(y, &to)?;
    Ok(vec![cx.reshape(y, &out)?])
}

/// ReverseV2: axes as numbers; Reverse: as a flag per axis.
pub fn reverse(cx: Cx, flags: bool) -> Res {
    let x = cx.x(0)?;
    let rank = cx.rank(x);
    let axes = if flags {
        let f = cx.need_ints(1, "dims")?;
        if f.len() != rank {
            return Err(cx.invalid("'dims' must have one entry for each axis"));
        }
        (0..rank).filter(|&i| f[i] != 0).collect()
    } else {
        cx.need_axes(1, rank, "axis")?
    };
    if (1..axes.len()).any(|i| axes[..i].contains(&axes[i])) {
        return Err(cx.invalid("an axis is given twice"));
    }
    if axes.is_empty() {
        return Ok(vec![x]);
    }
    Ok(vec![cx.op(Op::Reverse, &[x], Attrs::new().with("axes", axes))?])
}

/// Roll (input, shift, axis).
pub fn roll(cx: Cx) -> Res {
    let mut x = cx.x(0)?;
    let shifts = cx.need_ints(1, "shift")?;
    let axes = cx.need_axes(2, cx.rank(x), "axis")?;
    if shifts.len() != axes.len() {
        return Err(cx.invalid("shift and axis must have the same size"));
    }
    for (s, axis) in shifts.into_iter().zip(axes) {
        let d = cx.shape(x)[axis].clone();
        if d.is_zero() {
            continue;
        }
        // The last `s mod d` elements come first.
        let s = Dim::from(s).rem(&d);
        let rest = &d - &s;
        let tail = cx.slice_axis(x, axis, rest.clone(), s)?;
        let head = cx.slice_axis(x, axis, Dim::ZERO, rest)?;
        x = cx.concat(&[tail, head], axis)?;
    }
    Ok(vec![x])
}

pub fn pad(cx: Cx, with_value: bool) -> Res {
    let x = cx.x(0)?;
    let (low, high) = paddings(cx, x)?;
    let value = if with_value { cx.x(2)? } else { cx.like(0.0, x)? };
    let value = super::shape::scalar(cx, value, "constant_values")?;
    Ok(vec![cx.pad(x, value, low, high)?])
}

/// The [rank, 2] matrix of operand 1.
fn paddings(cx: &NodeCx, x: V) -> Res<(Vec<Dim>, Vec<Dim>)> {
    let rank = cx.rank(x);
    let want = [Dim::from(rank), Dim::from(2i64)];
    cx.same_shape(&cx.shape(cx.x(1)?), &want, "paddings must have a row of two for each axis of the input")?;
    let p = cx.need_dims(1, "paddings")?;
    if let Some(d) = p.iter().find(|d| d.as_const().is_some_and(|c| c < 0)) {
        return Err(cx.invalid(format!("Paddings must be non-negative: {d}")));
    }
    Ok((p.iter().step_by(2).cloned().collect(), p.iter().skip(1).step_by(2).cloned().collect()))
}

pub fn mirror_pad(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let (low, high) = paddings(cx, x)?;
    let symmetric = match cx.word("mode")? {
        "SYMMETRIC" => true,
        "REFLECT" => false,
        m => return Err(cx.invalid(format!("mode must be either REFLECT or SYMMETRIC, not {m}"))),
    };
    let shape = cx.shape(x);
    for (p, d) in low.iter().chain(&high).zip(shape.iter().chain(&shape)) {
        let most = if symmetric { d.clone() } else { d - &Dim::ONE };
        if (&most - p).as_const().is_some_and(|c| c < 0) {
            return Err(cx.invalid(format!("paddings must be no greater than the dimension size: {p} greater than {most}")));
        }
    }
    if low.iter().chain(&high).all(Dim::is_zero) {
        return Ok(vec![x]);
    }
    Ok(vec![cx.op(Op::MirrorPad, &[x], Attrs::new().with("low", low).with("high", high).with("symmetric", symmetric))?])
}

/// Block size and axes [channels, height, width] of a space/depth op.
fn block(cx: &NodeCx, x: V) -> Res<(i64, bool)> {
    let b = cx.int("block_size")?;
    if b < 2 || cx.rank(x) != 4 {
        return Err(cx.invalid(format!("Block size should be > 1 and the input of rank 4, but was {b} and {}", cx.rank(x))));
    }
    match cx.word("data_format")? {
        "NHWC" => Ok((b, false)),
        "NCHW" => Ok((b, true)),
        f => Err(cx.unimplemented(format!("data format {f}"))),
    }
}

/// Runs `f` on the NHWC form of operand 0.
fn in_nhwc(cx: Cx, nchw: bool, f: impl FnOnce(&mut NodeCx, V) -> Res<V>) -> Res {
    let x = cx.x(0)?;
    if !nchw {
        return Ok(vec![f(cx, x)?]);
    }
    let x = cx.transpose(x, &[0, 2, 3, 1])?;
    let y = f(cx, x)?;
    Ok(vec![cx.transpose(y, &[0, 3, 1, 2])?])
}

pub fn space_to_depth(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let (b, nchw) = block(cx, x)?;
    in_nhwc(cx, nchw, |cx, x| {
        let s = cx.shape(x);
        let b = Dim::from(b);
        let (h, w) = (cx.exact_quotient(&s[1], &b, "height")?, cx.exact_quotient(&s[2], &b, "width")?);
        let y = cx.reshape(x, &[s[0].clone(), h.clone(), b.clone(), w.clone(), b.clone(), s[3].clone()])?;
        let y = cx.transpose(y, &[0, 1, 3, 2, 4, 5])?;
        cx.reshape(y, &[s[0].clone(), h, w, &(&b * &b) * &s[3]])
    })
}

pub fn depth_to_space(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let (b, nchw) = block(cx, x)?;
    in_nhwc(cx, nchw, |cx, x| {
        let s = cx.shape(x);
        let b = Dim::from(b);
        let c = cx.exact_quotient(&s[3], &(&b * &b), "depth")?;
        let y = cx.reshape(x, &[s[0].clone(), s[1].clone(), s[2].clone(), b.clone(), b.clone(), c.clone()])?;
        let y = cx.transpose(y, &[0, 1, 3, 2, 4, 5])?;
        cx.reshape(y, &[s[0].clone(), &s[1] * &b, &s[2] * &b, c])
    })
}

/// The block shape and the [axes, 2] paddings or crops; the ops without ND take a block size attribute and work on two axes.
fn blocks(cx: &NodeCx, nd: bool, what: &str) -> Res<(Vec<i64>, Vec<Dim>)> {
    let x = cx.x(0)?;
    let (block, at) = if nd { (cx.need_ints(1, "block_shape")?, 2) } else { (vec![cx.int("block_size")?; 2], 1) };
    let table = cx.need_dims(at, what)?;
    if cx.rank(x) < block.len() + 1 || table.len() != 2 * block.len() {
        return Err(cx.invalid(format!("input rank should be >= {} and {what} of shape [{}, 2]", block.len() + 1, block.len())));
    }
    if let Some(b) = block.iter().find(|&&b| b < 1) {
        return Err(cx.invalid(format!("All values in block_shape must be positive, got value, {b}")));
    }
    if let Some(d) = table.iter().find(|d| d.as_const().is_some_and(|c| c < 0)) {
        return Err(cx.invalid(format!("{what} must be non-negative, got {d}")));
    }
    Ok((block, table))
}

pub fn space_to_batch(cx: Cx, nd: bool) -> Res {
    let x = cx.x(0)?;
    let (block, paddings) = blocks(cx, nd, "paddings")?;
    let m = block.len();
    let rank = cx.rank(x);
    let (mut low, mut high) = (vec![Dim::ZERO; rank], vec![Dim::ZERO; rank]);
    for i in 0..m {
        (low[i + 1], high[i + 1]) = (paddings[2 * i].clone(), paddings[2 * i + 1].clone());
    }
    let zero = cx.like(0.0, x)?;
    let x = cx.pad(x, zero, low, high)?;
    let s = cx.shape(x);
    let (mut split, mut out) = (vec![s[0].clone()], vec![&s[0] * &Dim::from(block.iter().product::<i64>())]);
    for i in 0..m {
        let q = cx.exact_quotient(&s[i + 1], &Dim::from(block[i]), "padded shape and block_shape")?;
        split.extend([q.clone(), Dim::from(block[i])]);
        out.push(q);
    }
    split.extend_from_slice(&s[m + 1..]);
    out.extend_from_slice(&s[m + 1..]);
    let y = cx.reshape(x, &split)?;
    let perm: Vec<usize> =
        (0..m).map(|i| 2 * i + 2).chain([0]).chain((0..m).map(|i| 2 * i + 1)).chain(2 * m + 1..split.len()).collect();
    let y = cx.transpose(y, &perm)?;
    Ok(vec![cx.reshape(y, &out)?])
}

pub fn batch_to_space(cx: Cx, nd: bool) -> Res {
    let x = cx.x(0)?;
    let (block, crops) = blocks(cx, nd, "crops")?;
    let m = block.len();
    let s = cx.shape(x);
    let batch = cx.exact_quotient(&s[0], &Dim::from(block.iter().product::<i64>()), "batch size and the product of block_shape")?;
    let split: Vec<Dim> = block.iter().map(|&b| Dim::from(b)).chain([batch.clone()]).chain(s[1..].iter().cloned()).collect();
    let y = cx.reshape(x, &split)?;
    let perm: Vec<usize> = [m].into_iter().chain((0..m).flat_map(|i| [m + 1 + i, i])).chain(2 * m + 1..split.len()).collect();
    let y = cx.transpose(y, &perm)?;
    let mut joined = vec![batch];
    joined.extend((0..m).map(|i| &s[i + 1] * &Dim::from(block[i])));
    joined.extend_from_slice(&s[m + 1..]);
    let y = cx.reshape(y, &joined)?;
    let mut start = vec![Dim::ZERO; joined.len()];
    let mut size = joined;
    for i in 0..m {
        start[i + 1] = crops[2 * i].clone();
        size[i + 1] = &(&size[i + 1] - &crops[2 * i]) - &crops[2 * i + 1];
        if size[i + 1].as_const().is_some_and(|c| c < 0) {
            return Err(cx.invalid("cropped size must be non-negative"));
        }
    }
    Ok(vec![cx.slice(y, start, size, &[])?])
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
