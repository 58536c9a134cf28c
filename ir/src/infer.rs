//! Result types of ops: one function a family, used by the builder and again by the verifier.

use crate::attr::Attrs;
use crate::dim::Dim;
use crate::elem::Elem;
use crate::ty::Type;

type Types = Result<Vec<Type>, String>;

/// Ops whose result types the creator gives (regions, calls, state).
pub fn given(_: &[&Type], _: &Attrs) -> Types {
    Err("this op's result types cannot be inferred; they are given when it is made".into())
}

pub fn same(x: &[&Type], _: &Attrs) -> Types {
    Ok(vec![x[0].clone()])
}

pub fn first(x: &[&Type], _: &Attrs) -> Types {
    Ok(vec![x[0].clone()])
}

/// A part or the modulus of complex numbers, which is real; other types are their own.
pub fn part(x: &[&Type], _: &Attrs) -> Types {
    Ok(vec![x[0].with_elem(x[0].elem.part())])
}

/// Complex numbers of their parts.
pub fn complex(x: &[&Type], a: &Attrs) -> Types {
    Ok(broadcast(x, a)?.into_iter().map(|t| t.with_elem(t.elem.complex())).collect())
}

pub fn to_bool(x: &[&Type], _: &Attrs) -> Types {
    Ok(vec![x[0].with_elem(Elem::Bool)])
}

pub fn cast(x: &[&Type], a: &Attrs) -> Types {
    Ok(vec![x[0].with_elem(a.elem("elem").ok_or("missing attribute elem")?)])
}

pub fn constant(_: &[&Type], a: &Attrs) -> Types {
    Ok(vec![a.tensor("value").ok_or("missing attribute value")?.ty()])
}

pub fn dims(_: &[&Type], a: &Attrs) -> Types {
    let elem = a.elem("elem").filter(|e| e.is_int()).ok_or("attribute elem must be an integer type")?;
    let n = a.dims("dims").len();
    match (a.flag("scalar"), n) {
        (true, 1) => Ok(vec![Type::scalar(elem)]),
        (true, _) => Err(format!("a scalar has one dimension value, not {n}")),
        (false, _) => Ok(vec![Type::of(elem, &[n])]),
    }
}

pub fn iota(_: &[&Type], a: &Attrs) -> Types {
    let shape = a.dims("shape");
    check_axis(a.int("axis"), shape.len())?;
    Ok(vec![Type::new(a.elem("elem").ok_or("missing attribute elem")?, shape)])
}

fn check_axis(axis: i64, rank: usize) -> Result<usize, String> {
    usize::try_from(axis).ok().filter(|&k| k < rank).ok_or_else(|| format!("axis {axis} is outside rank {rank}"))
}

fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let v = list.iter().map(|&k| check_axis(k, rank)).collect::<Result<Vec<_>, _>>()?;
    match (1..v.len()).find(|&i| v[..i].contains(&v[i])) {
        Some(i) => Err(format!("axis {} is given twice", v[i])),
        None => Ok(v),
    }
}

/// The dimension that two dimensions broadcast to; `None` if they differ and neither is 1.
pub fn broadcast_dim(a: &Dim, b: &Dim) -> Option<Dim> {
    if a == b || b.is_one() {
        Some(a.clone())
    } else if a.is_one() {
        Some(b.clone())
    } else {
        None
    }
}

/// The shape that two shapes broadcast to, aligned at the last axis.
pub fn broadcast_shape(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, String> {
    let rank = a.len().max(b.len());
    let at = |s: &[Dim], i: usize| (i + s.len()).checked_sub(rank).map_or(Dim::ONE, |k| s[k].clone());
    (0..rank)
        .map(|i| {
            let (x, y) = (at(a, i), at(b, i));
            broadcast_dim(&x, &y).ok_or_else(|| format!("dimensions {x} and {y} do not broadcast"))
        })
        .collect()
}

fn same_elem(x: &[&Type]) -> Result<Elem, String> {
    match x.iter().find(|t| t.elem != x[0].elem) {
        Some(t) => Err(format!("element types {} and {} differ", x[0].elem, t.elem)),
        None => Ok(x[0].elem),
    }
}

pub fn broadcast(x: &[&Type], _: &Attrs) -> Types {
    Ok(vec![Type::new(same_elem(x)?, broadcast_shape(&x[0].shape, &x[1].shape)?)])
}

pub fn compare(x: &[&Type], a: &Attrs) -> Types {
    Ok(vec![broadcast(x, a)?[0].with_elem(Elem::Bool)])
}

pub fn select(x: &[&Type], _: &Attrs) -> Types {
    if x[0].elem != Elem::Bool {
        return Err(format!("the condition is {}, not bool", x[0].elem));
    }
    let elem = same_elem(&x[1..])?;
    let shape = broadcast_shape(&broadcast_shape(&x[0].shape, &x[1].shape)?, &x[2].shape)?;
    Ok(vec![Type::new(elem, shape)])
}

pub fn reshape(x: &[&Type], a: &Attrs) -> Types {
    let to = x[0].with_shape(a.dims("shape"));
    if to.elements() != x[0].elements() {
        return Err(format!("{} elements cannot become {} elements", x[0].elements(), to.elements()));
    }
    Ok(vec![to])
}

pub fn transpose(x: &[&Type], a: &Attrs) -> Types {
    let perm = axes(a.ints("perm"), x[0].rank())?;
    if perm.len() != x[0].rank() {
        return Err(format!("perm has {} axes, x has {}", perm.len(), x[0].rank()));
    }
    Ok(vec![x[0].with_shape(perm.iter().map(|&p| x[0].shape[p].clone()).collect::<Vec<_>>())])
}

pub fn broadcast_to(x: &[&Type], a: &Attrs) -> Types {
    let to = a.dims("shape");
    if broadcast_shape(&x[0].shape, to).ok().as_deref() != Some(to) {
        return Err(format!("{} does not broadcast to {to:?}", x[0]));
    }
    Ok(vec![x[0].with_shape(to)])
}

fn per_axis<'a>(list: &'a [Dim], key: &str, rank: usize) -> Result<&'a [Dim], String> {
    if list.len() == rank { Ok(list) } else { Err(format!("{key} has {} entries for {rank} axes", list.len())) }
}

pub fn slice(x: &[&Type], a: &Attrs) -> Types {
    let rank = x[0].rank();
    per_axis(a.dims("start"), "start", rank)?;
    let size = per_axis(a.dims("size"), "size", rank)?;
    let stride = a.ints("stride");
    if !stride.is_empty() && stride.len() != rank || stride.iter().any(|&s| s < 1) {
        return Err("stride must have a positive entry for each axis, or none".into());
    }
    for (i, ((d, start), n)) in x[0].shape.iter().zip(a.dims("start")).zip(size).enumerate() {
        let step = stride.get(i).copied().unwrap_or(1);
        if let (Some(d), Some(s), Some(n)) = (d.as_const(), start.as_const(), n.as_const()) {
            let last = n.checked_sub(1).and_then(|k| k.checked_mul(step)).and_then(|k| k.checked_add(s));
            if s < 0 || n < 0 || n > 0 && last.is_none_or(|l| l >= d) {
                return Err(format!("axis {i}: {n} elements from {s} by {step} leave the extent {d}"));
            }
        }
    }
    Ok(vec![x[0].with_shape(size)])
}

pub fn concat(x: &[&Type], a: &Attrs) -> Types {
    let elem = same_elem(x)?;
    let axis = check_axis(a.int("axis"), x[0].rank())?;
    let mut shape = x[0].shape.clone();
    for t in &x[1..] {
        if t.rank() != shape.len() || (0..shape.len()).any(|i| i != axis && t.shape[i] != shape[i]) {
            return Err(format!("{} and {t} differ beside axis {axis}", x[0]));
        }
        shape[axis] = &shape[axis] + &t.shape[axis];
    }
    Ok(vec![Type::new(elem, shape)])
}

pub fn pad(x: &[&Type], a: &Attrs) -> Types {
    let rank = x[0].rank();
    let (low, high) = (per_axis(a.dims("low"), "low", rank)?, per_axis(a.dims("high"), "high", rank)?);
    if x.len() == 2 && (x[1].elem != x[0].elem || x[1].rank() != 0) {
        return Err(format!("the padding value is {}, not a scalar {}", x[1], x[0].elem));
    }
    Ok(vec![x[0].with_shape(x[0].shape.iter().zip(low).zip(high).map(|((d, l), h)| &(d + l) + h).collect::<Vec<_>>())])
}

fn check_indices(t: &Type) -> Result<(), String> {
    if t.elem.is_int() { Ok(()) } else { Err(format!("indices are {}, not integers", t.elem)) }
}

pub fn gather(x: &[&Type], a: &Attrs) -> Types {
    check_indices(x[1])?;
    let axis = check_axis(a.int("axis"), x[0].rank())?;
    let batch = usize::try_from(a.int("batch_dims")).map_err(|_| "batch_dims is negative")?;
    if batch > axis || batch > x[1].rank() || x[0].shape[..batch] != x[1].shape[..batch] {
        return Err(format!("{batch} batch axes do not agree in {} and {}", x[0], x[1]));
    }
    Ok(vec![x[0].with_shape([&x[0].shape[..axis], &x[1].shape[batch..], &x[0].shape[axis + 1..]].concat())])
}

/// Length of the index tuples in the last axis of `t`.
fn tuple_len(t: &Type) -> Result<usize, String> {
    check_indices(t)?;
    t.shape
        .last()
        .and_then(Dim::as_const)
        .and_then(|d| usize::try_from(d).ok())
        .ok_or_else(|| format!("the last axis of {t} must be constant"))
}

pub fn gather_nd(x: &[&Type], a: &Attrs) -> Types {
    let k = tuple_len(x[1])?;
    let batch = usize::try_from(a.int("batch_dims")).map_err(|_| "batch_dims is negative")?;
    if batch + k > x[0].rank() || batch >= x[1].rank() || x[0].shape[..batch] != x[1].shape[..batch] {
        return Err(format!("index tuples of {k} and {batch} batch axes do not fit {}", x[0]));
    }
    Ok(vec![x[0].with_shape([&x[1].shape[..x[1].rank() - 1], &x[0].shape[batch + k..]].concat())])
}

pub fn scatter_nd(x: &[&Type], a: &Attrs) -> Types {
    let k = tuple_len(x[1])?;
    if k > x[0].rank() || x[2].elem != x[0].elem {
        return Err(format!("index tuples of {k} and updates {} do not fit {}", x[2], x[0]));
    }
    let updates = [&x[1].shape[..x[1].rank() - 1], &x[0].shape[k..]].concat();
    if x[2].shape != updates {
        return Err(format!("updates are {}, not {}", x[2], x[0].with_shape(updates)));
    }
    match a.str("kind") {
        "set" | "add" | "sub" | "mul" | "div" | "min" | "max" => first(x, a),
        kind => Err(format!("no scatter {kind:?}")),
    }
}

pub fn reverse(x: &[&Type], a: &Attrs) -> Types {
    axes(a.ints("axes"), x[0].rank())?;
    same(x, a)
}

pub fn cumulative(x: &[&Type], a: &Attrs) -> Types {
    check_axis(a.int("axis"), x[0].rank())?;
    match a.str("kind") {
        "sum" | "prod" => same(x, a),
        kind => Err(format!("no running {kind:?}")),
    }
}

pub fn softmax(x: &[&Type], a: &Attrs) -> Types {
    if x[0].rank() == 0 || !x[0].elem.is_float() {
        return Err(format!("no softmax of {}", x[0]));
    }
    same(x, a)
}

pub fn layer_norm(x: &[&Type], a: &Attrs) -> Types {
    let elem = same_elem(x)?;
    let last = x[0].shape.last().filter(|_| elem.is_float()).ok_or_else(|| format!("no layer_norm of {}", x[0]))?;
    match x[1..].iter().find(|t| t.shape.as_slice() != std::slice::from_ref(last)) {
        Some(t) => Err(format!("{t} does not fit the last axis of {}", x[0])),
        None => first(x, a),
    }
}

pub fn reduce(x: &[&Type], a: &Attrs) -> Types {
    let axes = axes(a.ints("axes"), x[0].rank())?;
    let keep = a.flag("keep");
    let shape: Vec<Dim> = x[0]
        .shape
        .iter()
        .enumerate()
        .filter_map(|(i, d)| match (axes.contains(&i), keep) {
            (false, _) => Some(d.clone()),
            (true, true) => Some(Dim::ONE),
            (true, false) => None,
        })
        .collect();
    let elem = x[0].elem;
    let defined = match a.str("kind") {
        "sum" | "mean" | "prod" => elem.is_real() || elem.is_complex(),
        "max" | "min" => elem.is_real() || elem == Elem::Bool,
        "any" | "all" => elem == Elem::Bool,
        _ => false,
    };
    if !defined {
        return Err(format!("no reduction {:?} of {elem}", a.str("kind")));
    }
    Ok(vec![x[0].with_shape(shape)])
}

pub fn arg_reduce(x: &[&Type], a: &Attrs) -> Types {
    let axis = check_axis(a.int("axis"), x[0].rank())?;
    let elem = a.elem("elem").filter(|e| e.is_int()).ok_or("attribute elem must be an integer type")?;
    if !matches!(a.str("kind"), "max" | "min") {
        return Err(format!("no arg_reduce {:?}", a.str("kind")));
    }
    Ok(vec![Type::new(elem, [&x[0].shape[..axis], &x[0].shape[axis + 1..]].concat())])
}

pub fn top_k(x: &[&Type], a: &Attrs) -> Types {
    let ([k], Some((_, rows))) = (a.dims("k"), x[0].shape.split_last()) else {
        return Err("k must be one dimension and x must have an axis".into());
    };
    if let Some(d) = x[0].shape.last().filter(|d| (*d - k).sign() == Some(-1)) {
        return Err(format!("the {k} greatest of {d} elements"));
    }
    let elem = a.elem("elem").unwrap_or(Elem::I32);
    if !elem.is_int() {
        return Err(format!("indices are {elem}, not integers"));
    }
    let shape = [rows, std::slice::from_ref(k)].concat();
    Ok(vec![x[0].with_shape(shape.clone()), Type::new(elem, shape)])
}

/// Numbers to u8.
pub fn quantise(x: &[&Type], _: &Attrs) -> Types {
    Ok(vec![x[0].with_elem(Elem::U8)])
}

/// Checks that the operands of matrix work are of one type; with `elem` the factors alone, or they are u8 and i8.
fn factors(x: &[&Type], a: &Attrs) -> Result<(), String> {
    if a.flag("scaled") && a.elem("elem").is_some() && x[0].elem == Elem::U8 {
        return if x[1].elem == Elem::I8 { Ok(()) } else { Err(format!("factors of {} and {}", x[0].elem, x[1].elem)) };
    }
    same_elem(if a.elem("elem").is_some() { &x[..2] } else { x }).map(drop)
}

/// Checks bias and residual of an epilogue on a result of type `y`; `rest` are the operands after the two factors.
fn epilogue(y: Type, mut rest: &[&Type], a: &Attrs) -> Types {
    let integers = a.flag("scaled");
    if integers {
        let columns = &y.shape[y.rank().saturating_sub(1)..];
        let fits = |t: &Type, elem: Elem| t.elem == elem && t.shape.as_slice() == columns;
        match rest {
            [scale, shift, others @ ..] if fits(scale, Elem::F32) && fits(shift, Elem::I32) => rest = others,
            _ => return Err("products of integers need a scale (f32) and a shift (i32) for each column".into()),
        }
    }
    let (bias, residual) = (a.flag("bias"), a.flag("residual"));
    if rest.len() != bias as usize + residual as usize {
        return Err(format!("{} operands after the factors, but bias = {bias} and residual = {residual}", rest.len()));
    }
    let (y, wide) = match a.elem("elem") {
        None if integers => return Err("products of integers need an elem".into()),
        None => (y.clone(), y.elem),
        Some(elem) if integers && y.elem == Elem::U8 && matches!(elem, Elem::F32 | Elem::U8) => (y.with_elem(elem), Elem::F32),
        Some(elem) if y.elem == Elem::BF16 && matches!(elem, Elem::F32 | Elem::BF16) => (y.with_elem(elem), Elem::F32),
        Some(elem) => return Err(format!("{} factors do not give {elem}", y.elem)),
    };
    if bias && (rest[0].elem != wide || rest[0].shape.as_slice() != &y.shape[y.rank().saturating_sub(1)..]) {
        return Err(format!("bias {} does not fit the last axis of {y}", rest[0]));
    }
    let fits = |r: &Type| *r == y || a.elem("elem").is_some() && [Elem::F32, Elem::BF16].map(|e| y.with_elem(e)).contains(r);
    if residual && !fits(rest[rest.len() - 1]) {
        return Err(format!("residual {} is not {y}", rest[rest.len() - 1]));
    }
    Ok(vec![y])
}

pub fn contract(x: &[&Type], a: &Attrs) -> Types {
    factors(x, a)?;
    let (l, r) = (axes(a.ints("lhs"), x[0].rank())?, axes(a.ints("rhs"), x[1].rank())?);
    let (lb, rb) = (axes(a.ints("lhs_batch"), x[0].rank())?, axes(a.ints("rhs_batch"), x[1].rank())?);
    if l.len() != r.len() || lb.len() != rb.len() || lb.iter().any(|b| l.contains(b)) || rb.iter().any(|b| r.contains(b)) {
        return Err("contracted and batch axes do not pair up".into());
    }
    for (&i, &j) in l.iter().zip(&r).chain(lb.iter().zip(&rb)) {
        if x[0].shape[i] != x[1].shape[j] {
            return Err(format!("axis {i} of {} and axis {j} of {} differ", x[0], x[1]));
        }
    }
    let free = |t: &Type, used: &[usize], batch: &[usize]| {
        (0..t.rank()).filter(|i| !used.contains(i) && !batch.contains(i)).map(|i| t.shape[i].clone()).collect::<Vec<_>>()
    };
    let shape = [lb.iter().map(|&i| x[0].shape[i].clone()).collect(), free(x[0], &l, &lb), free(x[1], &r, &rb)].concat();
    epilogue(x[0].with_shape(shape), &x[2..], a)
}

/// Extent of a windowed axis: how many windows fit.
pub fn window_extent(d: &Dim, window: i64, stride: i64, dilation: i64, low: &Dim, high: &Dim) -> Dim {
    let reach = Dim::from((window - 1).saturating_mul(dilation).saturating_add(1));
    let room = &(&(d + low) + high) - &reach;
    (&room.floor_div(&Dim::from(stride)) + &Dim::ONE).at_least(&Dim::ZERO)
}

/// Spatial extents of a windowed op on NHWC `x`.
fn windows(x: &Type, window: [i64; 2], a: &Attrs) -> Result<[Dim; 2], String> {
    let (strides, low, high) = (a.ints("strides"), a.dims("low"), a.dims("high"));
    let dilations = if a.ints("dilations").is_empty() { &[1, 1] } else { a.ints("dilations") };
    if x.rank() != 4 || strides.len() != 2 || low.len() != 2 || high.len() != 2 || dilations.len() != 2 {
        return Err(format!("{x} or strides, padding and dilations are not those of a 2-d window"));
    }
    if strides.iter().chain(dilations).chain(&window).any(|&v| v < 1) {
        return Err("window, strides and dilations must be positive".into());
    }
    Ok([0, 1].map(|i| window_extent(&x.shape[i + 1], window[i], strides[i], dilations[i], &low[i], &high[i])))
}

/// Constant extents of a kernel [kh, kw, ..].
fn kernel_window(w: &Type) -> Result<[i64; 2], String> {
    match w.shape.as_slice() {
        [h, w, _, _] if h.as_const().is_some() && w.as_const().is_some() => Ok([h, w].map(|d| d.as_const().unwrap_or(0))),
        _ => Err(format!("kernel {w} is not [kh, kw, c, k] with constant window")),
    }
}

pub fn conv2d(x: &[&Type], a: &Attrs) -> Types {
    factors(x, a)?;
    let [h, w] = windows(x[0], kernel_window(x[1])?, a)?;
    let groups = Dim::from(a.int("groups").max(1));
    if &x[1].shape[2] * &groups != x[0].shape[3] {
        return Err(format!("{} channels in {groups} groups do not fit the kernel {}", x[0].shape[3], x[1]));
    }
    let k = x[1].shape[3].clone();
    if !k.rem(&groups).is_zero() {
        return Err(format!("{k} output channels do not divide into {groups} groups"));
    }
    epilogue(x[0].with_shape([x[0].shape[0].clone(), h, w, k]), &x[2..], a)
}

pub fn depthwise(x: &[&Type], a: &Attrs) -> Types {
    if a.elem("elem").is_none() {
        same_elem(x)?;
    } else if x[1].elem != Elem::F32 {
        return Err(format!("a filter of {} for an image of {}", x[1].elem, x[0].elem));
    }
    let [h, w] = windows(x[0], kernel_window(x[1])?, a)?;
    if x[1].shape[2] != x[0].shape[3] {
        return Err(format!("{} channels do not fit the kernel {}", x[0].shape[3], x[1]));
    }
    epilogue(x[0].with_shape([x[0].shape[0].clone(), h, w, &x[1].shape[2] * &x[1].shape[3]]), &x[2..], a)
}

pub fn conv_transpose2d(x: &[&Type], a: &Attrs) -> Types {
    factors(x, a)?;
    let [size_h, size_w] = a.dims("size") else { return Err("size must have two entries".into()) };
    let y = x[0].with_shape([
        x[0].shape.first().cloned().unwrap_or(Dim::ONE),
        size_h.clone(),
        size_w.clone(),
        x[1].shape.get(2).cloned().unwrap_or(Dim::ONE),
    ]);
    let [h, w] = windows(&y, kernel_window(x[1])?, a)?;
    if x[0].rank() != 4 || h != x[0].shape[1] || w != x[0].shape[2] || x[1].shape[3] != x[0].shape[3] {
        return Err(format!("conv2d of {y} with kernel {} does not give {}", x[1], x[0]));
    }
    epilogue(y, &x[2..], a)
}

pub fn pool2d(x: &[&Type], a: &Attrs) -> Types {
    let &[wh, ww] = a.ints("window") else { return Err("window must have two entries".into()) };
    let [h, w] = windows(x[0], [wh, ww], a)?;
    match a.str("kind") {
        "max" | "avg" => Ok(vec![x[0].with_shape([x[0].shape[0].clone(), h, w, x[0].shape[3].clone()])]),
        k => Err(format!("no pooling {k:?}")),
    }
}

pub fn resize(x: &[&Type], a: &Attrs) -> Types {
    let ([h, w], 4) = (a.dims("size"), x[0].rank()) else { return Err(format!("cannot resize {}", x[0])) };
    let elem = match a.str("kind") {
        "nearest" => x[0].elem,
        "bilinear" => Elem::F32,
        k => return Err(format!("no resize {k:?}")),
    };
    Ok(vec![Type::new(elem, [x[0].shape[0].clone(), h.clone(), w.clone(), x[0].shape[3].clone()])])
}

pub fn attention(x: &[&Type], _: &Attrs) -> Types {
    let (q, k, v) = (x[0], x[1], x[2]);
    same_elem(x)?;
    if q.rank() != 4 || k.rank() != 4 || v.rank() != 4 || k.shape[..3] != v.shape[..3] || q.shape[3] != k.shape[3] {
        return Err(format!("{q}, {k} and {v} are not q, k and v"));
    }
    if q.shape[0] != k.shape[0] || q.shape[2] != k.shape[2] {
        return Err(format!("batch and heads of {q} and {k} differ"));
    }
    let y = q.with_shape([q.shape[0].clone(), q.shape[1].clone(), q.shape[2].clone(), v.shape[3].clone()]);
    if let Some(mask) = x.get(3) {
        let scores = [&q.shape[0], &q.shape[2], &q.shape[1], &k.shape[1]].map(Dim::clone);
        if broadcast_shape(&mask.shape, &scores)?.as_slice() != scores {
            return Err(format!("mask {mask} does not broadcast to {scores:?}"));
        }
    }
    Ok(vec![y])
}
