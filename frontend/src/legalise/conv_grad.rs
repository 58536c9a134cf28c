//! Gradients of two-dimensional convolutions.

use super::conv::{depthwise_steps, groups};
use super::cx::{NodeCx, Res, V};
use super::slice::spread;
use super::window::{
    Beyond, Windows, channels_first, filter_window, from_last, image, limited, need_rank, need_sizes, shape_to_last, spatial,
    to_last, windows,
};
use graphc_ir::{Attrs, Dim, Elem, Op};

type Cx<'c, 'l, 'a> = &'c mut NodeCx<'l, 'a>;

/// Checks that `dy`, channels last, is what windows over `image` give, `depth` channels deep.
pub fn check_gradient(cx: &NodeCx, dy: V, batch: &Dim, extents: &[Dim], depth: &Dim) -> Res<()> {
    let s = cx.shape(dy);
    let Some((d, rest)) = s.split_last() else { return Err(cx.invalid("out_backprop is a scalar")) };
    cx.same_dim(&rest[0], batch, "batch of the input and of out_backprop")?;
    cx.same_shape(&rest[1..], extents, "size of out_backprop and of what the convolution gives")?;
    cx.same_dim(d, depth, "out_backprop and filter must have the same number of channels")?;
    Ok(())
}

/// Conv2DBackpropInput (input_sizes, filter, out_backprop): the transposed convolution.
pub fn conv2d_input(cx: Cx) -> Res {
    let (filter, dy, first) = (cx.x(1)?, cx.x(2)?, channels_first(cx)?);
    need_rank(cx, filter, 4, "filter")?;
    need_rank(cx, dy, 4, "out_backprop")?;
    let sizes = cx.need_dims(0, "input_sizes")?;
    let dy = to_last(cx, dy, first)?;
    let f = cx.shape(filter);
    let batch = cx.shape(dy)[0].clone();
    let x = match sizes.len() {
        2 => [std::slice::from_ref(&batch), &sizes, &f[2..3]].concat(),
        4 => shape_to_last(sizes, first),
        _ => return Err(cx.invalid(format!("input_sizes must have 4 entries, got {sizes:?}"))),
    };
    if x.iter().any(|d| d.as_const().is_some_and(|d| d < 0)) {
        return Err(cx.invalid(format!("input_sizes must not be negative, got {x:?}")));
    }
    let strides = spatial(cx, &cx.ints("strides")?, 2, first, "strides", Beyond::Invalid)?;
    let dilations = spatial(cx, &cx.ints("dilations")?, 2, first, "dilations", Beyond::Invalid)?;
    let w = windows(cx, &x[1..3], filter_window(cx, &f, 2)?, strides, dilations, first)?;
    check_gradient(cx, dy, &x[0], &w.extents(&x[1..3]), &f[3])?;
    let groups = groups(cx, &x[3], &f[2], &f[3])?;
    let y = input_gradient(cx, dy, filter, &x[1..3], &w, groups)?;
    Ok(vec![from_last(cx, y, first)?])
}

/// Part `g` of so many of one axis.
fn part(cx: Cx, x: V, axis: usize, groups: i64, g: i64) -> Res<V> {
    let n = cx.shape(x)[axis].floor_div(&Dim::from(groups));
    cx.slice_axis(x, axis, &n * &Dim::from(g), n)
}

/// The gradient of a convolution for its input of height and width `size`; all channels last.
pub fn input_gradient(cx: Cx, dy: V, filter: V, size: &[Dim], w: &Windows, groups: i64) -> Res<V> {
    let attrs = w.attrs().with("size", size.to_vec());
    if groups == 1 {
        return cx.op(Op::ConvTranspose2d, &[dy, filter], attrs);
    }
    if groups < 1 {
        return Err(cx.invalid("the input has no channels"));
    }
    limited(cx, groups, "the gradient of a convolution in groups")?;
    let mut parts = Vec::new();
    for g in 0..groups {
        let (dy, filter) = (part(cx, dy, 3, groups, g)?, part(cx, filter, 3, groups, g)?);
        parts.push(cx.op(Op::ConvTranspose2d, &[dy, filter], attrs.clone())?);
    }
    cx.concat(&parts, 3)
}

/// Conv2DBackpropFilter (input, filter_sizes, out_backprop).
pub fn conv2d_filter(cx: Cx) -> Res {
    let (x, dy, first) = (cx.x(0)?, cx.x(2)?, channels_first(cx)?);
    need_rank(cx, x, 4, "input")?;
    need_rank(cx, dy, 4, "out_backprop")?;
    let f = need_sizes(cx, 1, 4, "filter_sizes")?;
    let strides = spatial(cx, &cx.ints("strides")?, 2, first, "strides", Beyond::Invalid)?;
    let dilations = spatial(cx, &cx.ints("dilations")?, 2, first, "dilations", Beyond::Invalid)?;
    let (x, dy) = (to_last(cx, x, first)?, to_last(cx, dy, first)?);
    let size = image(cx, x);
    let w = windows(cx, &size, filter_window(cx, &f, 2)?, strides, dilations, first)?;
    check_gradient(cx, dy, &cx.shape(x)[0], &w.extents(&size), &f[3])?;
    let groups = groups(cx, &cx.shape(x)[3], &f[2], &f[3])?;
    Ok(vec![filter_gradient(cx, x, dy, &w, groups)?])
}

/// The gradient of a convolution for its filter, as a convolution of the input with the gradient over the batch; all channels last.
pub fn filter_gradient(cx: Cx, x: V, dy: V, w: &Windows, groups: i64) -> Res<V> {
    let (xs, ds) = (cx.shape(x), cx.shape(dy));
    if cx.ty(x).elements().is_zero() || cx.ty(dy).elements().is_zero() {
        let k = w.size.len() - 2;
        let window = w.size[k..].iter().map(|&s| Dim::from(s));
        let shape: Vec<Dim> = window.chain([xs[3].floor_div(&Dim::from(groups.max(1))), ds[3].clone()]).collect();
        return cx.filled(0.0, cx.elem(x), &shape);
    }
    if groups > 1 {
        limited(cx, groups, "the gradient of a convolution in groups")?;
        let mut parts = Vec::new();
        for g in 0..groups {
            let (x, dy) = (part(cx, x, 3, groups, g)?, part(cx, dy, 3, groups, g)?);
            parts.push(filter_gradient(cx, x, dy, w, 1)?);
        }
        return cx.concat(&parts, 3);
    }
    // The gradient is the kernel, its rows `stride` apart; what follows the last window is cut off.
    let at = w.size.len() - 2;
    let size = &xs[1..3];
    let mut high = [Dim::ZERO, Dim::ZERO];
    for i in 0..2 {
        let Some(o) = ds[i + 1].as_const() else { return Err(cx.needs_shape(ds[1..3].iter(), "the image size must be constant")) };
        let reach = (o - 1).saturating_mul(w.strides[at + i]).saturating_add(1);
        high[i] = &(&Dim::from(w.span(at + i).saturating_add(reach)) - &size[i]) - &w.low[at + i];
    }
    let mut x = cx.transpose(x, &[3, 1, 2, 0])?;
    // A stride may leave rows that no window reads; they go before the padding is counted.
    let mut cut = cx.shape(x);
    for i in 0..2 {
        if let Some(n) = high[i].as_const().filter(|&n| n < 0) {
            cut[i + 1] = &cut[i + 1] + &Dim::from(n);
            high[i] = Dim::ZERO;
        }
    }
    x = cx.slice(x, vec![Dim::ZERO; 4], cut, &[])?;
    let kernel = cx.transpose(dy, &[1, 2, 0, 3])?;
    let attrs = Attrs::new()
        .with("strides", w.dilations[at..].to_vec())
        .with("dilations", w.strides[at..].to_vec())
        .with("low", w.low[at..].to_vec())
        .with("high", high.to_vec());
    let y = cx.op(Op::Conv2d, &[x, kernel], attrs)?;
    cx.transpose(y, &[1, 2, 0, 3])
}

/// `x` in f32 if its type is a half one.
pub fn widened(cx: Cx, x: V) -> Res<V> {
    if matches!(cx.elem(x), Elem::F16 | Elem::BF16) { cx.cast(x, Elem::F32) } else { Ok(x) }
}

/// Elements `start .. start + n` of an axis of `x` continued with zeros.
pub fn window_of_axis(cx: Cx, x: V, axis: usize, start: &Dim, n: &Dim) -> Res<V> {
    let have = cx.shape(x)[axis].clone();
    let beyond = (&(start + n) - &have).at_least(&Dim::ZERO);
    let mut high = vec![Dim::ZERO; cx.rank(x)];
    let low = high.clone();
    high[axis] = beyond;
    let zero = cx.like(0.0, x)?;
    let x = cx.pad(x, zero, low, high)?;
    cx.slice_axis(x, axis, start.clone(), n.clone())
}

/// DepthwiseConv2dNativeBackpropInput (input_sizes, filter, out_backprop): a depthwise convolution of the gradient, its rows `stride` apart, with
/// the filter turned round.
pub fn depthwise_input(cx: Cx) -> Res {
    let (filter, dy, first) = (cx.x(1)?, cx.x(2)?, channels_first(cx)?);
    need_rank(cx, filter, 4, "filter")?;
    need_rank(cx, dy, 4, "out_backprop")?;
    let sizes = need_sizes(cx, 0, 4, "input_sizes")?;
    let (strides, dilations) = depthwise_steps(cx, first)?;
    let (xs, dy, f) = (shape_to_last(sizes, first), to_last(cx, dy, first)?, cx.shape(filter));
    let w = windows(cx, &xs[1..3], filter_window(cx, &f, 2)?, strides, dilations, first)?;
    cx.same_dim(&xs[3], &f[2], "input and filter must have the same depth")?;
    check_gradient(cx, dy, &xs[0], &w.extents(&xs[1..3]), &(&f[2] * &f[3]))?;
    let elem = cx.elem(dy);
    if cx.ty(dy).elements().is_zero() {
        let y = cx.filled(0.0, elem, &xs)?;
        return Ok(vec![from_last(cx, y, first)?]);
    }
    let multiplier = f[3].as_const().ok_or_else(|| cx.needs_shape([&f[3]].into_iter(), "the depth multiplier must be constant"))?;
    limited(cx, multiplier, "a depth multiplier")?;
    let (dy, filter) = (widened(cx, dy)?, widened(cx, filter)?);
    let filter = cx.op(Op::Reverse, &[filter], Attrs::new().with("axes", vec![0i64, 1]))?;
    let mut shape = cx.shape(dy);
    shape.truncate(3);
    shape.extend([f[2].clone(), f[3].clone()]);
    let dy = cx.reshape(dy, &shape)?;
    let steps = Attrs::new()
        .with("strides", vec![1i64, 1])
        .with("low", vec![Dim::from(w.span(0)), Dim::from(w.span(1))])
        .with("high", vec![Dim::from(w.span(0)), Dim::from(w.span(1))]);
    let steps = if w.dilations == [1, 1] { steps } else { steps.with("dilations", w.dilations.clone()) };
    let mut sum: Option<V> = None;
    for m in 0..multiplier {
        let part = cx.slice_axis(dy, 4, Dim::from(m), Dim::ONE)?;
        let mut part = cx.reshape(part, &shape[..4])?;
        for i in 0..2 {
            if w.strides[i] > 1 {
                part = spread(cx, part, i + 1, w.strides[i])?;
                let n = &cx.shape(part)[i + 1] - &Dim::from(w.strides[i] - 1);
                part = cx.slice_axis(part, i + 1, Dim::ZERO, n)?;
            }
        }
        let kernel = cx.slice_axis(filter, 3, Dim::from(m), Dim::ONE)?;
        let y = cx.op(Op::Depthwise, &[part, kernel], steps.clone())?;
        sum = Some(match sum {
            Some(s) => cx.add(s, y)?,
            None => y,
        });
    }
    let Some(mut y) = sum else { return Err(cx.invalid("a depth multiplier of 0")) };
    for i in 0..2 {
        y = window_of_axis(cx, y, i + 1, &w.low[i], &xs[i + 1])?;
    }
    let y = cx.cast(y, elem)?;
    Ok(vec![from_last(cx, y, first)?])
}

/// DepthwiseConv2dNativeBackpropFilter (input, filter_sizes, out_backprop): for each place of the filter a sum of products.
pub fn depthwise_filter(cx: Cx) -> Res {
    let (x, dy, first) = (cx.x(0)?, cx.x(2)?, channels_first(cx)?);
    need_rank(cx, x, 4, "input")?;
    need_rank(cx, dy, 4, "out_backprop")?;
    let f = need_sizes(cx, 1, 4, "filter_sizes")?;
    let (strides, dilations) = depthwise_steps(cx, first)?;
    let (x, dy) = (to_last(cx, x, first)?, to_last(cx, dy, first)?);
    let xs = cx.shape(x);
    let w = windows(cx, &xs[1..3], filter_window(cx, &f, 2)?, strides, dilations, first)?;
    cx.same_dim(&xs[3], &f[2], "input and filter must have the same depth")?;
    let out = w.extents(&xs[1..3]);
    check_gradient(cx, dy, &xs[0], &out, &(&f[2] * &f[3]))?;
    let elem = cx.elem(x);
    if cx.ty(x).elements().is_zero() || cx.ty(dy).elements().is_zero() {
        return Ok(vec![cx.filled(0.0, elem, &f)?]);
    }
    limited(cx, w.taps(), "a filter")?;
    let (x, dy) = (widened(cx, x)?, widened(cx, dy)?);
    let zero = cx.like(0.0, x)?;
    let around = |p: &[Dim]| vec![Dim::ZERO, p[0].clone(), p[1].clone(), Dim::ZERO];
    let x = cx.pad(x, zero, around(&w.low), around(&w.high))?;
    let wide = [&xs[..1], out.as_slice(), &f[2..]].concat();
    let dy = cx.reshape(dy, &wide)?;
    let mut taps = Vec::new();
    for i in 0..w.size[0] {
        for j in 0..w.size[1] {
            let at = |k: usize, t: i64| Dim::from(t.saturating_mul(w.dilations[k]));
            let start = vec![Dim::ZERO, at(0, i), at(1, j), Dim::ZERO];
            let size = [&xs[..1], out.as_slice(), &xs[3..]].concat();
            let part = cx.slice(x, start, size, &[1, w.strides[0], w.strides[1], 1])?;
            let mut column = wide.clone();
            column[4] = Dim::ONE;
            let part = cx.reshape(part, &column)?;
            let product = cx.mul(part, dy)?;
            let sum = cx.reduce("sum", product, &[0, 1, 2], false)?;
            let row = [&[Dim::ONE], &f[2..]].concat();
            taps.push(cx.reshape(sum, &row)?);
        }
    }
    let y = cx.concat(&taps, 0)?;
    let y = cx.reshape(y, &f)?;
    Ok(vec![cx.cast(y, elem)?])
}
