//! Shapes as values, and ops that only rearrange the shape.

use super::cx::{NodeCx, Res, V};
use graphc_ir::{Dim, Elem, Op};

type Cx<'c, 'l, 'a> = &'c mut NodeCx<'l, 'a>;

/// Shape and ShapeN.
pub fn shape(cx: Cx) -> Res {
    let elem = cx.elem_attr("out_type")?;
    cx.inputs.clone().into_iter().map(|x| Ok(cx.dims_vector(elem, cx.shape(x)))).collect()
}

pub fn size(cx: Cx) -> Res {
    let (x, elem) = (cx.x(0)?, cx.elem_attr("out_type")?);
    let n = cx.ty(x).elements();
    Ok(vec![cx.dim_scalar(elem, n)])
}

pub fn rank(cx: Cx) -> Res {
    let n = cx.rank(cx.x(0)?);
    Ok(vec![cx.dim_scalar(Elem::I32, Dim::from(n))])
}

/// Checks that sizes are not negative.
pub fn check_sizes(cx: &NodeCx, dims: &[Dim], what: &str) -> Res<()> {
    match dims.iter().find(|d| d.as_const().is_some_and(|c| c < 0)) {
        Some(d) => Err(cx.invalid(format!("{what} has a negative entry {d}"))),
        None => Ok(()),
    }
}

/// Operand `k` as a shape: a vector of sizes.
pub fn need_shape(cx: &NodeCx, k: usize, what: &str) -> Res<Vec<Dim>> {
    if cx.rank(cx.x(k)?) != 1 {
        return Err(cx.invalid(format!("{what} must be a vector of integers, got shape {:?}", cx.shape(cx.x(k)?))));
    }
    let dims = cx.need_dims(k, what)?;
    check_sizes(cx, &dims, what)?;
    Ok(dims)
}

/// No tensor of TensorFlow has as many axes.
const TENSORFLOW_RANKS: usize = 254;

pub fn reshape(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let shape_rank = cx.rank(cx.x(1)?);
    let mut to = cx.need_dims(1, "shape")?;
    if shape_rank > 1 && cx.shape(cx.x(1)?).iter().filter(|d| !d.is_one()).count() > 0
        || shape_rank == 0 && to != [Dim::from(-1i64)] && !to[0].is_one()
    {
        return Err(cx.invalid("shape must be a vector"));
    }
    if to.len() >= TENSORFLOW_RANKS {
        return Err(cx.invalid(format!("too many dimensions: must be < {TENSORFLOW_RANKS}, but received {}", to.len())));
    }
    let open: Vec<usize> = to.iter().enumerate().filter(|(_, d)| d.as_const() == Some(-1)).map(|(i, _)| i).collect();
    if open.len() > 1 {
        return Err(cx.invalid("only one input size may be -1"));
    }
    let total = cx.ty(x).elements();
    if let [i] = open.as_slice() {
        to[*i] = Dim::ONE;
        check_sizes(cx, &to, "shape")?;
        let part: Dim = to.iter().product();
        to[*i] = if part.is_zero() && total.is_zero() {
            // TensorFlow ignores the zeros of both shapes.
            let rest = |s: &[Dim]| s.iter().filter(|d| !d.is_zero()).product::<Dim>();
            cx.exact_quotient(&rest(&cx.shape(x)), &rest(&to), "the inferred size")?
        } else if part.is_zero() && total.as_const().is_none() {
            return Err(cx.needs_shape([&total].into_iter(), "the number of elements must be constant"));
        } else if part.is_zero() {
            return Err(cx.invalid("reshape cannot infer the missing input size for an empty tensor"));
        } else {
            cx.exact_quotient(&total, &part, "Input to reshape")?
        };
    }
    check_sizes(cx, &to, "shape")?;
    let wanted: Dim = to.iter().product();
    cx.same_dim(&total, &wanted, "number of elements of the input and of the requested shape")?;
    Ok(vec![cx.reshape(x, &to)?])
}

pub fn expand_dims(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let axis = cx.need_axis(1, cx.rank(x) + 1, "axis")?;
    let mut to = cx.shape(x);
    to.insert(axis, Dim::ONE);
    Ok(vec![cx.reshape(x, &to)?])
}

pub fn squeeze(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let from = cx.shape(x);
    let axes = cx.ints("squeeze_dims")?.into_iter().map(|a| cx.axis(a, from.len())).collect::<Res<Vec<_>>>()?;
    let mut to = Vec::new();
    for (i, d) in from.iter().enumerate() {
        if axes.contains(&i) {
            cx.same_dim(d, &Dim::ONE, &format!("Can not squeeze dim[{i}], expected a dimension of 1"))?;
        } else if !axes.is_empty() || d.as_const().is_some_and(|c| c != 1) {
            to.push(d.clone());
        } else if d.as_const().is_none() {
            return Err(cx.needs_shape(from.iter(), "squeeze without axes needs constant sizes"));
        }
    }
    Ok(vec![cx.reshape(x, &to)?])
}

pub fn fill(cx: Cx) -> Res {
    let dims = match cx.rank(cx.x(0)?) {
        0 => cx.need_dims(0, "dims")?,
        _ => need_shape(cx, 0, "dims")?,
    };
    check_sizes(cx, &dims, "dims")?;
    let v = cx.x(1)?;
    let v = scalar(cx, v, "value")?;
    Ok(vec![cx.broadcast(v, &dims)?])
}

/// A tensor of one element as a scalar; TensorFlow takes both where it asks for a scalar by the legacy rule.
pub fn scalar(cx: Cx, v: V, what: &str) -> Res<V> {
    if cx.rank(v) > 1 || cx.ty(v).shape.iter().any(|d| !d.is_one()) {
        return Err(cx.invalid(format!("{what} must be a scalar, got shape {:?}", cx.shape(v))));
    }
    cx.reshape(v, &[])
}

/// Empty: TensorFlow leaves the elements open or sets them to zero.
pub fn empty(cx: Cx) -> Res {
    let (dims, elem) = (need_shape(cx, 0, "shape")?, cx.elem_attr("dtype")?);
    Ok(vec![cx.filled(0.0, elem, &dims)?])
}

pub fn range(cx: Cx) -> Res {
    let elem = cx.elem(cx.x(0)?);
    for k in 0..3 {
        // A vector of one counts as a scalar, as it did in old graphs.
        for d in cx.shape(cx.x(k)?) {
            cx.same_dim(&d, &Dim::ONE, "start, limit and delta must be scalars")?;
        }
    }
    let too_many = |cx: &NodeCx| cx.invalid("Requires ((limit - start) / delta) to fit a tensor");
    if elem.is_float() {
        let mut v = [0.0; 3];
        for (k, what) in ["start", "limit", "delta"].into_iter().enumerate() {
            v[k] = *cx.need_reals(k, what)?.first().ok_or_else(|| cx.malformed("empty operand"))?;
        }
        let [start, limit, delta] = v;
        check_range(cx, start, limit, delta)?;
        // TensorFlow counts in the type of the operands.
        let n = match elem {
            Elem::F64 => ((limit - start) / delta).abs().ceil(),
            _ => f64::from(((limit as f32 - start as f32) / delta as f32).abs().ceil()),
        };
        if n.is_nan() || n >= cx.low.limits.max_elements as f64 {
            return Err(too_many(cx));
        }
        return affine(cx, Dim::from(n as i64), elem);
    }
    let mut dims = Vec::new();
    for (k, what) in ["start", "limit", "delta"].into_iter().enumerate() {
        dims.push(cx.need_dims(k, what)?.first().cloned().ok_or_else(|| cx.malformed("empty operand"))?);
    }
    let (start, limit, delta) = (&dims[0], &dims[1], &dims[2]);
    let n = match (start.as_const(), limit.as_const(), delta.as_const()) {
        (Some(s), Some(l), Some(d)) => {
            check_range(cx, s as f64, l as f64, d as f64)?;
            let (span, step) = ((l as i128 - s as i128).unsigned_abs(), (d as i128).unsigned_abs());
            let n = span.div_ceil(step);
            if n > cx.low.limits.max_elements as u128 {
                return Err(too_many(cx));
            }
            Dim::from(n as i64)
        }
        (_, _, Some(0)) => return Err(cx.invalid("Requires delta != 0")),
        (_, _, Some(d)) => {
            let span = if d > 0 { limit - start } else { start - limit };
            span.ceil_div(&Dim::from(d.saturating_abs())).at_least(&Dim::ZERO)
        }
        _ => return Err(cx.needs_shape([delta].into_iter(), "delta must be constant")),
    };
    affine(cx, n, elem)
}

fn check_range(cx: &NodeCx, start: f64, limit: f64, delta: f64) -> Res<()> {
    match delta {
        0.0 => Err(cx.invalid("Requires delta != 0")),
        d if d > 0.0 && start > limit => Err(cx.invalid(format!("Requires start <= limit when delta > 0: {start}/{limit}"))),
        d if d < 0.0 && start < limit => Err(cx.invalid(format!("Requires start >= limit when delta < 0: {start}/{limit}"))),
        _ => Ok(()),
    }
}

/// `start + i * delta` for `n` indices; operands 0 and 2 are start and delta.
fn affine(cx: Cx, n: Dim, elem: Elem) -> Res {
    let (start, delta) = (cx.x(0)?, cx.x(2)?);
    let (start, delta) = (cx.reshape(start, &[])?, cx.reshape(delta, &[])?);
    // Small floats count in f32, as they cannot hold the index.
    let wide = if matches!(elem, Elem::F16 | Elem::BF16) { Elem::F32 } else { elem };
    let mut i = cx.iota(&[n], 0, wide)?;
    let (start, delta) = (cx.cast(start, wide)?, cx.cast(delta, wide)?);
    if cx.low.tensor(delta).and_then(|t| t.to_reals()) != Some(vec![1.0]) {
        i = cx.mul(i, delta)?;
    }
    if cx.low.tensor(start).and_then(|t| t.to_reals()) != Some(vec![0.0]) {
        i = cx.add(i, start)?;
    }
    Ok(vec![cx.cast(i, elem)?])
}

pub fn lin_space(cx: Cx) -> Res {
    let (start, stop) = (cx.x(0)?, cx.x(1)?);
    let n = cx.need_int(2, "num")?;
    if n <= 0 {
        return Err(cx.invalid(format!("Requires num > 0: {n}")));
    }
    let (elem, n) = (cx.elem(start), Dim::from(n));
    let (start, stop) = (scalar(cx, start, "start")?, scalar(cx, stop, "stop")?);
    if n.is_one() {
        return Ok(vec![cx.reshape(start, &[Dim::ONE])?]);
    }
    let last = &n - &Dim::ONE;
    let steps = cx.num(last.as_const().unwrap_or(1) as f64, elem)?;
    let span = cx.sub(stop, start)?;
    let step = cx.div(span, steps)?;
    let i = cx.iota(std::slice::from_ref(&last), 0, elem)?;
    let y = cx.mul(i, step)?;
    let y = cx.add(y, start)?;
    // The last element is exactly `stop`.
    let end = cx.reshape(stop, &[Dim::ONE])?;
    Ok(vec![cx.concat(&[y, end], 0)?])
}

pub fn broadcast_to(cx: Cx) -> Res {
    let (x, to) = (cx.x(0)?, need_shape(cx, 1, "shape")?);
    if cx.rank(x) > to.len() {
        return Err(cx.invalid(format!(
            "Rank of input ({}) must be no greater than rank of output shape ({}).",
            cx.rank(x),
            to.len()
        )));
    }
    Ok(vec![cx.broadcast(x, &to)?])
}

pub fn broadcast_args(cx: Cx) -> Res {
    let elem = cx.elem(cx.x(0)?);
    let (a, b) = (cx.need_dims(0, "s0")?, cx.need_dims(1, "s1")?);
    let dims = cx.broadcast_shape(&a, &b)?;
    Ok(vec![cx.dims_vector(elem, dims)])
}

/// BroadcastGradientArgs: the axes to sum over to go back from a broadcast shape to each operand's.
pub fn broadcast_gradient_args(cx: Cx) -> Res {
    let elem = cx.elem(cx.x(0)?);
    let (a, b) = (cx.need_dims(0, "s0")?, cx.need_dims(1, "s1")?);
    let shape = cx.broadcast_shape(&a, &b)?;
    let rank = shape.len();
    // TensorFlow lists an axis of extent 1 in both shapes on both sides, unless the shapes are equal.
    let axes = |s: &[Dim], o: &[Dim]| -> Vec<Dim> {
        if s == o {
            return Vec::new();
        }
        (0..rank)
            .filter(|&i| {
                let at = (i + s.len()).checked_sub(rank).map(|k| &s[k]);
                at.is_none_or(Dim::is_one)
            })
            .map(Dim::from)
            .collect()
    };
    let (ra, rb) = (axes(&a, &b), axes(&b, &a));
    Ok(vec![cx.dims_vector(elem, ra), cx.dims_vector(elem, rb)])
}

pub fn transpose(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let rank = cx.rank(x);
    let perm = cx.need_axes(1, rank, "perm")?;
    if perm.len() != rank {
        return Err(
            cx.invalid(format!("transpose expects a vector of size {rank}. But input(1) is a vector of size {}", perm.len()))
        );
    }
    check_permutation(cx, &perm)?;
    Ok(vec![cx.transpose(x, &perm)?])
}

fn check_permutation(cx: &NodeCx, perm: &[usize]) -> Res<()> {
    match (0..perm.len()).find(|i| !perm.contains(i)) {
        Some(i) => Err(cx.invalid(format!("{i} is missing from the permutation {perm:?}"))),
        None => Ok(()),
    }
}

pub fn conjugate_transpose(cx: Cx) -> Res {
    let y = transpose(cx)?;
    y.into_iter().map(|v| cx.conj(v)).collect()
}

pub fn invert_permutation(cx: Cx) -> Res {
    let x = cx.x(0)?;
    if cx.rank(x) != 1 {
        return Err(cx.invalid("invert_permutation expects a 1D vector."));
    }
    let perm = cx.need_ints(0, "the permutation")?;
    let axes = perm
        .iter()
        .map(|&p| {
            usize::try_from(p)
                .ok()
                .filter(|&p| p < perm.len())
                .ok_or_else(|| cx.invalid(format!("{p} is not between 0 and {}", perm.len())))
        })
        .collect::<Res<Vec<_>>>()?;
    check_permutation(cx, &axes)?;
    let mut inverse = vec![Dim::ZERO; axes.len()];
    axes.iter().enumerate().for_each(|(i, &p)| inverse[p] = Dim::from(i));
    let elem = cx.elem(x);
    Ok(vec![cx.dims_vector(elem, inverse)])
}

pub fn ensure_shape(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let shape = cx.node.attr_shape("shape").map_err(|e| cx.malformed(e.kind().to_string()))?;
    if let Some(dims) = shape {
        let want: Vec<Dim> = dims.iter().zip(cx.shape(x)).map(|(d, own)| d.map_or(own, Dim::from)).collect();
        if dims.len() != cx.rank(x) {
            return Err(cx.invalid(format!("Shape of tensor {:?} is not compatible with expected shape {dims:?}.", cx.shape(x))));
        }
        cx.same_shape(&cx.shape(x), &want, "Shape of the tensor and expected shape")?;
    }
    Ok(vec![x])
}

/// ConcatOffset: where each operand starts in the concatenation.
pub fn concat_offset(cx: Cx) -> Res {
    let n = cx.inputs.len();
    for k in 1..n {
        if cx.rank(cx.x(k)?) != 1 {
            return Err(cx.invalid(format!("input {k} should be a vector, but got shape {:?}", cx.shape(cx.x(k)?))));
        }
    }
    let first = cx.need_dims(1, "shape")?;
    let axis = cx.need_axis(0, first.len(), "concat_dim")?;
    let elem = cx.elem(cx.x(1)?);
    let mut at = Dim::ZERO;
    let mut out = Vec::new();
    for k in 1..n {
        let shape = cx.need_dims(k, "shape")?;
        if shape.len() != first.len() {
            return Err(cx.invalid("the shapes must be of one length"));
        }
        for i in (0..shape.len()).filter(|&i| i != axis) {
            cx.same_dim(&first[i], &shape[i], "All dimensions except the concatenated one must match")?;
        }
        let mut offset = vec![Dim::ZERO; shape.len()];
        offset[axis] = at.clone();
        at = &at + &shape[axis];
        out.push(cx.dims_vector(elem, offset));
    }
    Ok(out)
}

/// Bucketize: how many boundaries are not above each element.
pub fn bucketize(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let bounds = cx.node.attr_f32s("boundaries").map_err(|e| cx.malformed(e.kind().to_string()))?.to_vec();
    if bounds.windows(2).any(|w| w[0] > w[1]) {
        return Err(cx.invalid("Expected sorted boundaries"));
    }
    let shape = cx.shape(x);
    if bounds.is_empty() {
        return Ok(vec![cx.filled(0.0, Elem::I32, &shape)?]);
    }
    // Boundaries are f32; f64 and 64-bit integers compare in their own width.
    let wide = if cx.elem(x) == Elem::F32 { Elem::F32 } else { Elem::F64 };
    let x = cx.cast(x, wide)?;
    let one_more = [shape.as_slice(), &[Dim::ONE]].concat();
    let x = cx.reshape(x, &one_more)?;
    let b = graphc_ir::Tensor::from_slice(&[bounds.len()], &bounds).ok_or_else(|| cx.malformed("boundaries"))?;
    let b = cx.constant(b);
    let b = cx.cast(b, wide)?;
    let above = cx.bin(Op::Ge, x, b)?;
    let count = cx.cast(above, Elem::I32)?;
    Ok(vec![cx.reduce("sum", count, &[shape.len()], false)?])
}
