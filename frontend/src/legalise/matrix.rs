//! Matrix products and einsum.

use super::cx::{NodeCx, Res, V};
use graphc_ir::{Attrs, Dim, Op};

type Cx<'c, 'l, 'a> = &'c mut NodeCx<'l, 'a>;

/// Axes of a contraction.
#[derive(Default)]
struct Axes {
    lhs: Vec<usize>,
    rhs: Vec<usize>,
    lhs_batch: Vec<usize>,
    rhs_batch: Vec<usize>,
}

fn contract(cx: Cx, x: V, y: V, a: Axes) -> Res<V> {
    let (xs, ys) = (cx.shape(x), cx.shape(y));
    for (&i, &j) in a.lhs.iter().zip(&a.rhs) {
        cx.same_dim(&xs[i], &ys[j], &format!("Matrix size-incompatible: In[0]: {xs:?}, In[1]: {ys:?}"))?;
    }
    for (&i, &j) in a.lhs_batch.iter().zip(&a.rhs_batch) {
        cx.same_dim(&xs[i], &ys[j], "batch dimensions")?;
    }
    let mut attrs = Attrs::new().with("lhs", a.lhs).with("rhs", a.rhs);
    if !a.lhs_batch.is_empty() {
        attrs = attrs.with("lhs_batch", a.lhs_batch).with("rhs_batch", a.rhs_batch);
    }
    cx.op(Op::Contract, &[x, y], attrs)
}

pub fn mat_mul(cx: Cx) -> Res {
    let (x, y) = (cx.x(0)?, cx.x(1)?);
    for v in [x, y] {
        if cx.rank(v) != 2 {
            return Err(cx.invalid(format!("In[0] and In[1] must be matrices, got shape {:?}", cx.shape(v))));
        }
    }
    let (ta, tb) = (cx.flag("transpose_a")?, cx.flag("transpose_b")?);
    let axes = Axes { lhs: vec![if ta { 0 } else { 1 }], rhs: vec![if tb { 1 } else { 0 }], ..Axes::default() };
    Ok(vec![contract(cx, x, y, axes)?])
}

/// BatchMatMul (equal batch shapes), V2 and V3 (batch shapes broadcast; V3 names the result type).
pub fn batch_mat_mul(cx: Cx, broadcasts: bool) -> Res {
    let (mut x, mut y) = (cx.x(0)?, cx.x(1)?);
    if cx.node.attr("Tout").is_some() {
        let out = cx.elem_attr("Tout")?;
        (x, y) = (cx.cast(x, out)?, cx.cast(y, out)?);
    }
    let (ax, ay) = (cx.flag("adj_x")?, cx.flag("adj_y")?);
    // The kernels transpose; an adjoint is conjugate too.
    x = if ax { cx.conj(x)? } else { x };
    y = if ay { cx.conj(y)? } else { y };
    let (xs, ys) = (cx.shape(x), cx.shape(y));
    let (rx, ry) = (xs.len(), ys.len());
    if rx < 2 || ry < 2 || !broadcasts && rx != ry {
        return Err(cx.invalid(format!("In[0] ndims and In[1] ndims must be >= 2: {rx} and {ry}")));
    }
    let (xb, yb) = (&xs[..rx - 2], &ys[..ry - 2]);
    if !broadcasts {
        cx.same_shape(xb, yb, "In[0] and In[1] must have compatible batch dimensions")?;
    }
    let batch = cx.broadcast_shape(xb, yb)?;
    // A right side without a batch of its own is one matrix for all rows.
    if yb.iter().all(Dim::is_one) && batch == xb {
        let y = cx.reshape(y, &ys[ry - 2..])?;
        let axes = Axes { lhs: vec![if ax { rx - 2 } else { rx - 1 }], rhs: vec![if ay { 1 } else { 0 }], ..Axes::default() };
        return Ok(vec![contract(cx, x, y, axes)?]);
    }
    let x = cx.broadcast(x, &[batch.as_slice(), &xs[rx - 2..]].concat())?;
    let y = cx.broadcast(y, &[batch.as_slice(), &ys[ry - 2..]].concat())?;
    let n = batch.len();
    let all: Vec<usize> = (0..n).collect();
    let axes = Axes {
        lhs: vec![if ax { n } else { n + 1 }],
        rhs: vec![if ay { n + 1 } else { n }],
        lhs_batch: all.clone(),
        rhs_batch: all,
    };
    Ok(vec![contract(cx, x, y, axes)?])
}

/// A label of an einsum: a letter, or a dimension under the ellipsis counted from its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Label {
    Letter(char),
    Ellipsis(usize),
}

/// An operand with the label of each axis.
struct Term {
    v: V,
    labels: Vec<Label>,
}

fn parse(cx: &NodeCx, text: &str, rank: Option<usize>) -> Res<Vec<Label>> {
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let has = text.contains("...");
    if text.replacen("...", "", 1).chars().any(|c| !c.is_alphabetic()) {
        return Err(cx.invalid(format!("bad subscript \"{text}\"")));
    }
    let extra = match (rank, has) {
        (Some(r), true) if r >= letters => r - letters,
        (Some(r), false) if r == letters => 0,
        (None, _) => 0,
        (Some(r), _) => return Err(cx.invalid(format!("subscript \"{text}\" does not fit rank {r}"))),
    };
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '.' {
            out.extend((0..extra).rev().map(Label::Ellipsis));
            rest = &rest[3..];
        } else {
            out.push(Label::Letter(c));
            rest = &rest[c.len_utf8()..];
        }
    }
    Ok(out)
}

pub fn einsum(cx: Cx) -> Res {
    let equation: String = cx.word("equation")?.chars().filter(|c| !c.is_whitespace()).collect();
    let (inputs, output) =
        equation.split_once("->").ok_or_else(|| cx.invalid(format!("Expecting '->' in einsum equation: {equation}")))?;
    let parts: Vec<&str> = inputs.split(',').collect();
    if parts.len() != cx.inputs.len() || parts.len() > 2 {
        return Err(cx.invalid(format!("Expected {} input subscripts in {equation}", cx.inputs.len())));
    }
    let mut terms = Vec::new();
    for (k, part) in parts.iter().enumerate() {
        let v = cx.x(k)?;
        let labels = parse(cx, part, Some(cx.rank(v)))?;
        terms.push(diagonal(cx, Term { v, labels })?);
    }
    let hidden = terms
        .iter()
        .flat_map(|t| &t.labels)
        .filter_map(|l| if let Label::Ellipsis(k) = l { Some(k + 1) } else { None })
        .max()
        .unwrap_or(0);
    let letters = output.chars().filter(|c| c.is_alphabetic()).count();
    if hidden > 0 && !output.contains("...") {
        return Err(cx.invalid(format!("the ellipsis is missing in the output of {equation}")));
    }
    let out = parse(cx, output, output.contains("...").then_some(letters + hidden))?;
    let mut wanted: Vec<Label> = Vec::new();
    out.iter().for_each(|l| {
        if !wanted.contains(l) {
            wanted.push(*l)
        }
    });
    if let Some(l) = wanted.iter().find(|l| !terms.iter().any(|t| t.labels.contains(l))) {
        return Err(cx.invalid(format!("output label {l:?} of {equation} is in no input")));
    }
    let y = match terms.as_slice() {
        [_] => {
            let t = terms.remove(0);
            sum_out(cx, t, |l| wanted.contains(&l))?
        }
        _ => product(cx, terms, &wanted)?,
    };
    let perm: Vec<usize> = wanted.iter().filter_map(|l| y.labels.iter().position(|m| m == l)).collect();
    let v = cx.transpose(y.v, &perm)?;
    Ok(vec![spread_diagonal(cx, v, &wanted, &out)?])
}

/// Sums over the axes whose label is not kept.
fn sum_out(cx: Cx, t: Term, keep: impl Fn(Label) -> bool) -> Res<Term> {
    let axes: Vec<usize> = (0..t.labels.len()).filter(|&i| !keep(t.labels[i])).collect();
    let v = cx.reduce("sum", t.v, &axes, false)?;
    Ok(Term { v, labels: t.labels.into_iter().filter(|&l| keep(l)).collect() })
}

/// Takes the diagonal of axes with one label.
fn diagonal(cx: Cx, mut t: Term) -> Res<Term> {
    while let Some((i, j)) = (0..t.labels.len()).find_map(|j| t.labels[..j].iter().position(|l| *l == t.labels[j]).map(|i| (i, j)))
    {
        let shape = cx.shape(t.v);
        cx.same_dim(&shape[i], &shape[j], "axes of one label")?;
        let mask = diagonal_mask(cx, &shape, i, j)?;
        let zero = cx.like(0.0, t.v)?;
        let only = cx.select(mask, t.v, zero)?;
        t.v = cx.reduce("sum", only, &[j], false)?;
        t.labels.remove(j);
    }
    Ok(t)
}

/// Where the indices along axes `i` and `j` are equal; extent 1 along the others.
fn diagonal_mask(cx: Cx, shape: &[Dim], i: usize, j: usize) -> Res<V> {
    let along = |cx: &mut NodeCx, a: usize| {
        let mut s = vec![Dim::ONE; shape.len()];
        s[a] = shape[a].clone();
        cx.iota(&s, a, graphc_ir::Elem::I32)
    };
    let (a, b) = (along(cx, i)?, along(cx, j)?);
    cx.bin(Op::Eq, a, b)
}

/// Repeats labels of the result: what is off the diagonal is zero.
fn spread_diagonal(cx: Cx, mut v: V, have: &[Label], out: &[Label]) -> Res<V> {
    let mut labels = have.to_vec();
    for (j, l) in out.iter().enumerate() {
        if labels.get(j) == Some(l) && !out[..j].contains(l) {
            continue;
        }
        let Some(i) = out[..j].iter().position(|m| m == l) else { continue };
        let mut shape = cx.shape(v);
        shape.insert(j, Dim::ONE);
        v = cx.reshape(v, &shape)?;
        shape[j] = shape[i].clone();
        let mask = diagonal_mask(cx, &shape, i, j)?;
        let zero = cx.like(0.0, v)?;
        v = cx.select(mask, v, zero)?;
        labels.insert(j, *l);
    }
    Ok(v)
}

fn product(cx: Cx, mut terms: Vec<Term>, wanted: &[Label]) -> Res<Term> {
    let (Some(y), Some(x)) = (terms.pop(), terms.pop()) else { return Err(cx.malformed("einsum of no operands")) };
    // Axes of extent 1 under the ellipsis broadcast: they go, unless the result needs them.
    let (x, y) = (drop_ones(cx, x, &y.labels)?, drop_ones(cx, y, &[])?);
    let x_other = y.labels.clone();
    let x = sum_out(cx, x, |l| wanted.contains(&l) || x_other.contains(&l))?;
    let y = {
        let other = x.labels.clone();
        let y = drop_ones(cx, y, &other)?;
        sum_out(cx, y, |l| wanted.contains(&l) || other.contains(&l))?
    };
    let mut a = Axes::default();
    let (mut batch, mut x_free) = (Vec::new(), Vec::new());
    for (i, l) in x.labels.iter().enumerate() {
        match y.labels.iter().position(|m| m == l) {
            Some(j) if wanted.contains(l) => {
                a.lhs_batch.push(i);
                a.rhs_batch.push(j);
                batch.push(*l);
            }
            Some(j) => {
                a.lhs.push(i);
                a.rhs.push(j);
            }
            None => x_free.push(*l),
        }
    }
    let y_free: Vec<Label> =
        y.labels.iter().enumerate().filter(|(j, _)| !a.rhs.contains(j) && !a.rhs_batch.contains(j)).map(|(_, l)| *l).collect();
    let v = contract(cx, x.v, y.v, a)?;
    Ok(Term { v, labels: [batch, x_free, y_free].concat() })
}

/// Removes axes of extent 1 under the ellipsis whose label the other operand has too.
fn drop_ones(cx: Cx, t: Term, other: &[Label]) -> Res<Term> {
    let shape = cx.shape(t.v);
    let gone = |i: usize| matches!(t.labels[i], Label::Ellipsis(_)) && shape[i].is_one() && other.contains(&t.labels[i]);
    let keep: Vec<usize> = (0..t.labels.len()).filter(|&i| !gone(i)).collect();
    let to: Vec<Dim> = keep.iter().map(|&i| shape[i].clone()).collect();
    let v = cx.reshape(t.v, &to)?;
    Ok(Term { v, labels: keep.into_iter().map(|i| t.labels[i]).collect() })
}
