//! Reductions, scans, sorting.

use super::cx::{NodeCx, Res, V, with_flags};
use graphc_ir::{Attrs, Dim, Elem, Op};

type Cx<'c, 'l, 'a> = &'c mut NodeCx<'l, 'a>;

/// The axes of operand 1 in order, without a second time.
fn reduced_axes(cx: &NodeCx, x: V) -> Res<Vec<usize>> {
    let mut axes = cx.need_axes(1, cx.rank(x), "reduction_indices")?;
    axes.sort_unstable();
    if axes.windows(2).any(|w| w[0] == w[1]) {
        return Err(cx.invalid("Invalid reduction arguments: Axes contains duplicate dimension"));
    }
    Ok(axes)
}

pub fn reduce(cx: Cx, kind: &str) -> Res {
    let x = cx.x(0)?;
    let (axes, keep) = (reduced_axes(cx, x)?, cx.flag("keep_dims")?);
    if kind == "mean" && !cx.elem(x).is_float() && !cx.elem(x).is_complex() {
        return int_mean(cx, x, &axes, keep);
    }
    Ok(vec![cx.reduce(kind, x, &axes, keep)?])
}

/// The mean of integers is their sum divided with rounding to zero; of no elements it is 0.
fn int_mean(cx: Cx, x: V, axes: &[usize], keep: bool) -> Res {
    let elem = cx.elem(x);
    let n: Dim = axes.iter().map(|&a| cx.ty(x).shape[a].clone()).fold(Dim::ONE, |p, d| &p * &d);
    let sum = cx.reduce("sum", x, axes, keep)?;
    if !elem.is_int() {
        return Err(cx.unimplemented(format!("the mean of {elem}")));
    }
    let n = cx.dim_scalar(Elem::I64, n.at_least(&Dim::ONE));
    let n = cx.cast(n, elem)?;
    Ok(vec![cx.div(sum, n)?])
}

pub fn euclidean_norm(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let (axes, keep) = (reduced_axes(cx, x)?, cx.flag("keep_dims")?);
    if !cx.elem(x).is_float() && !cx.elem(x).is_complex() {
        return Err(cx.unimplemented(format!("the norm of {}", cx.elem(x))));
    }
    let c = cx.conj(x)?;
    let s = cx.mul(x, c)?;
    let s = cx.reduce("sum", s, &axes, keep)?;
    Ok(vec![cx.un(Op::Sqrt, s)?])
}

pub fn arg_reduce(cx: Cx, kind: &str) -> Res {
    let x = cx.x(0)?;
    let axis = cx.need_axis(1, cx.rank(x), "dimension")?;
    if cx.shape(x)[axis].is_zero() {
        return Err(cx.invalid(format!("Reduction axis {axis} is empty in shape {:?}", cx.shape(x))));
    }
    let x = if cx.elem(x) == Elem::Bool { cx.cast(x, Elem::U8)? } else { x };
    let elem = cx.elem_attr("output_type")?;
    Ok(vec![cx.op(Op::ArgReduce, &[x], Attrs::new().with("kind", kind).with("axis", axis).with("elem", elem))?])
}

pub fn cumulative(cx: Cx, kind: &str) -> Res {
    let x = cx.x(0)?;
    let axis_v = cx.x(1)?;
    if cx.rank(axis_v) != 0 {
        return Err(cx.invalid(format!("axis must be a scalar, not {:?}", cx.shape(axis_v))));
    }
    let axis = cx.need_axis(1, cx.rank(x), "axis")?;
    let flags = [("exclusive", cx.flag("exclusive")?), ("reverse", cx.flag("reverse")?)];
    let attrs = with_flags(Attrs::new().with("kind", kind).with("axis", axis), &flags);
    Ok(vec![cx.op(Op::Cumulative, &[x], attrs)?])
}

/// TopKV2 (k is an operand) and TopK (k is an attribute).
pub fn top_k(cx: Cx, k_operand: bool) -> Res {
    let x = cx.x(0)?;
    if k_operand && cx.rank(cx.x(1)?) != 0 {
        return Err(cx.invalid("k must be scalar"));
    }
    let k = if k_operand { cx.need_dims(1, "k")?.first().cloned().unwrap_or_default() } else { Dim::from(cx.int("k")?) };
    let Some(d) = cx.shape(x).last().cloned() else { return Err(cx.invalid("input must be >= 1-D")) };
    if k.as_const().is_some_and(|k| k < 0) {
        return Err(cx.invalid(format!("Need k >= 0, got {k}")));
    }
    if (&d - &k).as_const().is_some_and(|c| c < 0) {
        return Err(cx.invalid(format!("input must have at least k columns. Had {d}, needed {k}")));
    }
    let elem = if cx.node.attr("index_type").is_some() { cx.elem_attr("index_type")? } else { Elem::I32 };
    cx.ops(Op::TopK, &[x], Attrs::new().with("k", vec![k]).with("elem", elem))
}

/// BiasAddGrad: the sum over all axes but the channels.
pub fn bias_add_grad(cx: Cx) -> Res {
    let dy = cx.x(0)?;
    let rank = cx.rank(dy);
    if rank < 2 {
        return Err(cx.invalid(format!("Input tensor must be at least 2D: {:?}", cx.shape(dy))));
    }
    let channel = if cx.word("data_format")? == "NCHW" { 1 } else { rank - 1 };
    let axes: Vec<usize> = (0..rank).filter(|&a| a != channel).collect();
    Ok(vec![cx.reduce("sum", dy, &axes, false)?])
}
