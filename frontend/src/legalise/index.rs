//! Gathers and scatters.

use super::cx::{NodeCx, Res, V};
use super::shape::need_shape;
use graphc_ir::{Attrs, Dim, Elem, Op};

type Cx<'c, 'l, 'a> = &'c mut NodeCx<'l, 'a>;

/// Gather (params, indices) along the first axis.
pub fn gather_v1(cx: Cx) -> Res {
    let (x, i) = (cx.x(0)?, cx.x(1)?);
    gather_at(cx, x, i, 0, 0)
}

pub fn gather_v2(cx: Cx) -> Res {
    let (x, i) = (cx.x(0)?, cx.x(1)?);
    let rank = cx.rank(x);
    let batch = cx.int("batch_dims")?;
    if rank == 0 {
        return Err(cx.invalid("params must be at least 1 dimensional"));
    }
    let axis = cx.need_axis(2, rank, "axis")?;
    let r = cx.rank(i) as i64;
    if !(-r..=r).contains(&batch) {
        return Err(cx.invalid(format!("Expected batch_dims in the range [{}, {r}], but got {batch}", -r)));
    }
    let batch = if batch < 0 { batch + r } else { batch } as usize;
    if batch >= rank || batch > axis {
        return Err(cx.invalid(format!("batch_dims ({batch}) must be less than rank(params) ({rank}) and at most axis ({axis})")));
    }
    gather_at(cx, x, i, axis, batch)
}

pub fn gather_at(cx: Cx, x: V, i: V, axis: usize, batch: usize) -> Res {
    if cx.rank(x) <= axis {
        return Err(cx.invalid("params must be at least 1 dimensional"));
    }
    let (xs, is) = (cx.shape(x), cx.shape(i));
    cx.same_shape(&xs[..batch], &is[..batch], "batch dimensions of params and indices")?;
    Ok(vec![cx.gather(x, i, axis, batch)?])
}

pub fn gather_nd(cx: Cx) -> Res {
    let (x, i) = (cx.x(0)?, cx.x(1)?);
    let (x, i) = (x, check_tuples(cx, i, cx.rank(x))?);
    Ok(vec![cx.op(Op::GatherNd, &[x, i], Attrs::new())?])
}

/// Index tuples whose length is known and fits the rank.
fn check_tuples(cx: &NodeCx, i: V, rank: usize) -> Res<V> {
    if cx.node.attr("bad_indices_policy").is_some() && !matches!(cx.word("bad_indices_policy")?, "" | "DEFAULT" | "ERROR") {
        return Err(cx.unimplemented("a bad_indices_policy that ignores indices out of range"));
    }
    let shape = cx.shape(i);
    let Some(last) = shape.last() else { return Err(cx.invalid("indices must be at least a vector")) };
    match last.as_const() {
        None => Err(cx.needs_shape([last].into_iter(), "the length of index tuples must be constant")),
        Some(k) if k as usize > rank => {
            Err(cx.invalid(format!("index innermost dimension length must be <= params rank; saw: {k} vs. {rank}")))
        }
        Some(_) => Ok(i),
    }
}

/// `x` with updates at index tuples.
pub fn scatter_into(cx: Cx, x: V, i: V, updates: V, kind: &str) -> Res {
    let (xs, is) = (cx.shape(x), cx.shape(i));
    if cx.rank(i) == 0 || cx.rank(updates) == 0 {
        return Err(cx.invalid("Indices and updates must have rank at least one"));
    }
    let i = check_tuples(cx, i, xs.len())?;
    let k = is[is.len() - 1].as_const().unwrap_or(0) as usize;
    let want = [&is[..is.len() - 1], &xs[k..]].concat();
    cx.same_shape(&cx.shape(updates), &want, "updates.shape and indices.shape[:-1] + shape[indices.shape[-1]:]")?;
    let count = cx.ty(updates).elements();
    if count.is_zero() {
        return Ok(vec![x]);
    }
    if cx.ty(x).elements().is_zero() {
        return Err(cx.invalid("Indices and updates specified for empty output tensor"));
    }
    // The sum of bools is whether one is true, their product whether all are.
    let kind = match (cx.elem(x), kind) {
        (Elem::Bool, "add") => "max",
        (Elem::Bool, "mul") => "min",
        _ => kind,
    };
    Ok(vec![cx.op(Op::ScatterNd, &[x, i, updates], Attrs::new().with("kind", kind))?])
}

/// ScatterNd (indices, updates, shape): equal indices add up.
pub fn scatter_nd(cx: Cx) -> Res {
    let (i, updates) = (cx.x(0)?, cx.x(1)?);
    let shape = need_shape(cx, 2, "shape")?;
    let elem = cx.elem(updates);
    let zeros = cx.filled(0.0, elem, &shape)?;
    scatter_into(cx, zeros, i, updates, "add")
}

/// TensorScatter* (tensor, indices, updates) and ScatterNdNonAliasingAdd.
pub fn tensor_scatter(cx: Cx, kind: &str) -> Res {
    let (x, i, updates) = (cx.x(0)?, cx.x(1)?, cx.x(2)?);
    scatter_into(cx, x, i, updates, kind)
}

pub fn one_hot(cx: Cx) -> Res {
    let (i, on, off) = (cx.x(0)?, cx.x(2)?, cx.x(3)?);
    for (v, what) in [(cx.x(1)?, "depth"), (on, "on_value"), (off, "off_value")] {
        if cx.rank(v) != 0 {
            return Err(cx.invalid(format!("{what} must be a scalar, but got: {:?}", cx.shape(v))));
        }
    }
    let depth = cx.need_dims(1, "depth")?.first().cloned().unwrap_or_default();
    if depth.as_const().is_some_and(|d| d < 0) {
        return Err(cx.invalid(format!("depth must be non-negative, got: {depth}")));
    }
    let shape = cx.shape(i);
    let axis = match cx.int("axis")? {
        -1 => shape.len(),
        a if a >= 0 && a as usize <= shape.len() => a as usize,
        a => return Err(cx.invalid(format!("Expected axis to be -1 or between [0, {}]. But received: {a}", shape.len() + 1))),
    };
    // Small index types cannot count to the depth.
    let i = if cx.elem(i).size() < 4 { cx.cast(i, Elem::I32)? } else { i };
    let (mut wide, mut classes) = (shape.clone(), vec![Dim::ONE; shape.len() + 1]);
    wide.insert(axis, Dim::ONE);
    classes[axis] = depth;
    let i = cx.reshape(i, &wide)?;
    let elem = cx.elem(i);
    let c = cx.iota(&classes, axis, elem)?;
    let hit = cx.bin(Op::Eq, i, c)?;
    Ok(vec![cx.select(hit, on, off)?])
}

/// UnsortedSegment*: rows added up (or otherwise joined) by segment; negative ids are dropped.
pub fn unsorted_segment(cx: Cx, kind: &str) -> Res {
    let (x, ids) = (cx.x(0)?, cx.x(1)?);
    let n = cx.need_dims(2, "num_segments")?.first().cloned().unwrap_or_default();
    if n.as_const().is_some_and(|n| n < 0) {
        return Err(cx.invalid("num_segments should be >= 0"));
    }
    let (xs, is) = (cx.shape(x), cx.shape(ids));
    if is.len() > xs.len() {
        return Err(cx.invalid(format!("data.shape = {xs:?} does not start with segment_ids.shape = {is:?}")));
    }
    cx.same_shape(&xs[..is.len()], &is, "data.shape does not start with segment_ids.shape")?;
    let elem = cx.elem(x);
    let init = match kind {
        "add" => 0.0,
        "max" => lowest(elem, false).ok_or_else(|| cx.unimplemented(format!("element type {elem}")))?,
        _ => lowest(elem, true).ok_or_else(|| cx.unimplemented(format!("element type {elem}")))?,
    };
    // Rows with negative ids are dropped: they go to a row before the first segment.
    let id_elem = cx.elem(ids);
    let (before, one) = (cx.num(-1.0, id_elem)?, cx.num(1.0, id_elem)?);
    let ids = cx.bin(Op::Max, ids, before)?;
    let ids = cx.add(ids, one)?;
    let tuples = [is.as_slice(), &[Dim::ONE]].concat();
    let ids = cx.reshape(ids, &tuples)?;
    let rows = [&[&n + &Dim::ONE], &xs[is.len()..]].concat();
    let base = extreme(cx, init, elem, kind, &rows)?;
    let y =
        if cx.ty(x).elements().is_zero() { base } else { cx.op(Op::ScatterNd, &[base, ids, x], Attrs::new().with("kind", kind))? };
    Ok(vec![cx.slice_axis(y, 0, Dim::ONE, n)?])
}

/// The least value of a type, or the greatest.
fn lowest(elem: Elem, greatest: bool) -> Option<f64> {
    let bits = elem.size() as i32 * 8;
    match elem {
        Elem::F16 => Some(65504.0),
        Elem::BF16 => Some(f64::from(half::bf16::MAX)),
        Elem::F32 => Some(f32::MAX as f64),
        Elem::F64 => Some(f64::MAX),
        e if e.is_signed_int() => return Some(if greatest { 2f64.powi(bits - 1) - 1.0 } else { -(2f64.powi(bits - 1)) }),
        e if e.is_unsigned_int() => return Some(if greatest { 2f64.powi(bits) - 1.0 } else { 0.0 }),
        _ => None,
    }
    .map(|v| if greatest { v } else { -v })
}

/// The scalar that no element of `x` lies below: minus infinity where the type has it.
pub fn least(cx: Cx, x: V) -> Res<V> {
    let elem = cx.elem(x);
    if elem.is_float() {
        return cx.num(f64::NEG_INFINITY, elem);
    }
    let low = lowest(elem, false).ok_or_else(|| cx.unimplemented(format!("element type {elem}")))?;
    extreme(cx, low, elem, "max", &[])
}

fn extreme(cx: Cx, v: f64, elem: Elem, kind: &str, shape: &[Dim]) -> Res<V> {
    if elem == Elem::I64 && kind != "add" {
        // The ends of i64 are no f64.
        let s = cx.scalar_of(if kind == "max" { i64::MIN } else { i64::MAX });
        return cx.broadcast(s, shape);
    }
    cx.filled(v, elem, shape)
}

/// Segment* with sorted ids: the ids must be known, as they give the number of rows.
pub fn segment(cx: Cx, kind: &str) -> Res {
    let (x, ids) = (cx.x(0)?, cx.need_ints(1, "segment_ids")?);
    let xs = cx.shape(x);
    if cx.rank(cx.x(1)?) != 1 || xs.is_empty() {
        return Err(cx.invalid("segment_ids should be a vector"));
    }
    cx.same_dim(&xs[0], &Dim::from(ids.len()), "segment_ids should be the same size as dimension 0 of input")?;
    if ids.windows(2).any(|w| w[0] > w[1]) || ids.first().is_some_and(|&i| i < 0) {
        return Err(cx.invalid("segment ids are not increasing"));
    }
    let n = ids.last().map_or(0, |&i| i.saturating_add(1));
    if n > 1 << 20 {
        return Err(cx.unimplemented(format!("{n} segments")));
    }
    let elem = cx.elem(x);
    let mut rows = xs.clone();
    rows[0] = Dim::ONE;
    let mut parts = Vec::new();
    let mut at = 0usize;
    for s in 0..n {
        let count = ids[at..].iter().take_while(|&&i| i == s).count();
        if count == 0 {
            let empty = match kind {
                "prod" => 1.0,
                _ => 0.0,
            };
            parts.push(cx.filled(empty, elem, &rows)?);
            continue;
        }
        let part = cx.slice_axis(x, 0, Dim::from(at), Dim::from(count))?;
        parts.push(if kind == "mean" && !elem.is_float() {
            let sum = cx.reduce("sum", part, &[0], true)?;
            let n = cx.num(count as f64, elem)?;
            cx.div(sum, n)?
        } else {
            cx.reduce(kind, part, &[0], true)?
        });
        at += count;
    }
    if parts.is_empty() {
        rows[0] = Dim::ZERO;
        return Ok(vec![cx.filled(0.0, elem, &rows)?]);
    }
    Ok(vec![cx.concat(&parts, 0)?])
}

/// DynamicStitch: slices put at known indices; the last one wins.
pub fn dynamic_stitch(cx: Cx) -> Res {
    let n = cx.inputs.len() / 2;
    let mut rows: Vec<Option<(usize, i64)>> = Vec::new();
    let mut parts = Vec::new();
    let mut offset = 0i64;
    let mut inner: Option<Vec<Dim>> = None;
    for k in 0..n {
        let (i, data) = (cx.x(k)?, cx.x(n + k)?);
        let indices = cx.need_ints(k, "indices")?;
        let (is, ds) = (cx.shape(i), cx.shape(data));
        if is.len() > ds.len() {
            return Err(cx.invalid("data shape does not start with indices shape"));
        }
        cx.same_shape(&is, &ds[..is.len()], "data shape does not start with indices shape")?;
        let rest = ds[is.len()..].to_vec();
        if let Some(first) = &inner {
            cx.same_shape(first, &rest, "data shapes beside the indices")?;
        }
        for (j, &at) in indices.iter().enumerate() {
            let at = usize::try_from(at)
                .ok()
                .filter(|&a| a < 1 << 24)
                .ok_or_else(|| cx.invalid(format!("indices[{j}] = {at} is out of range")))?;
            if rows.len() <= at {
                rows.resize(at + 1, None);
            }
            rows[at] = Some((k, offset + j as i64));
        }
        let flat = [&[Dim::from(indices.len())], rest.as_slice()].concat();
        parts.push(cx.reshape(data, &flat)?);
        offset += indices.len() as i64;
        inner.get_or_insert(rest);
    }
    let all = cx.concat(&parts, 0)?;
    let shape = [&[Dim::from(rows.len())], inner.unwrap_or_default().as_slice()].concat();
    if rows.is_empty() || cx.ty(all).elements().is_zero() {
        let elem = cx.elem(all);
        return Ok(vec![cx.filled(0.0, elem, &shape)?]);
    }
    // Rows that no index names have no defined value.
    let from: Vec<Dim> = rows.iter().map(|r| Dim::from(r.map_or(0, |(_, at)| at))).collect();
    let from = cx.dims_vector(Elem::I64, from);
    Ok(vec![cx.gather(all, from, 0, 0)?])
}

/// InplaceUpdate, InplaceAdd and InplaceSub (x, i, v): rows of `x` changed; an index counts round.
pub fn inplace(cx: Cx, kind: &str) -> Res {
    let (x, i, v) = (cx.x(0)?, cx.x(1)?, cx.x(2)?);
    let (xs, vs) = (cx.shape(x), cx.shape(v));
    if cx.rank(i) != 1 {
        return Err(cx.invalid(format!("i must be a vector. {:?}", cx.shape(i))));
    }
    if xs.is_empty() || xs.len() != vs.len() {
        return Err(cx.invalid(format!("x and v shape doesn't match (ranks differ): {xs:?} vs. {vs:?}")));
    }
    cx.same_shape(&xs[1..], &vs[1..], "x and v shape doesn't match")?;
    let n = cx.same_dim(&cx.shape(i)[0], &vs[0], "i and x shape doesn't match at index 0")?;
    if n.is_zero() || cx.ty(x).elements().is_zero() {
        return Ok(vec![x]);
    }
    let rows = cx.dim_scalar(cx.elem(i), xs[0].clone());
    let i = cx.bin(Op::Mod, i, rows)?;
    let tuples = cx.reshape(i, &[n, Dim::ONE])?;
    Ok(vec![cx.op(Op::ScatterNd, &[x, tuples, v], Attrs::new().with("kind", kind))?])
}
