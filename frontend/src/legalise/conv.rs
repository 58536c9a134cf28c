//! Convolutions and pooling. The IR is NHWC; other layouts are transposed around the op.

use super::cx::{NodeCx, Res, V, with_flags};
use graphc_ir::infer::window_extent;
use graphc_ir::{Attrs, Dim, Op};

type Cx<'c, 'l, 'a> = &'c mut NodeCx<'l, 'a>;

const TO_NHWC: &[usize] = &[0, 2, 3, 1];
const TO_NCHW: &[usize] = &[0, 3, 1, 2];

/// Layout of the operand: true for NCHW.
fn nchw(cx: &NodeCx) -> Res<bool> {
    match cx.word("data_format")? {
        "NHWC" => Ok(false),
        "NCHW" => Ok(true),
        f => Err(cx.unimplemented(format!("data format {f}"))),
    }
}

fn to_nhwc(cx: Cx, x: V, nchw: bool) -> Res<V> {
    if nchw { cx.transpose(x, TO_NHWC) } else { Ok(x) }
}

fn from_nhwc(cx: Cx, y: V, nchw: bool) -> Res<V> {
    if nchw { cx.transpose(y, TO_NCHW) } else { Ok(y) }
}

fn rank4(cx: &NodeCx, v: V, what: &str) -> Res<()> {
    if cx.rank(v) == 4 { Ok(()) } else { Err(cx.invalid(format!("{what} must be 4-dimensional: {:?}", cx.shape(v)))) }
}

/// Height and width entries of a list of four, whose batch and channel entries must be 1.
fn spatial(cx: &NodeCx, list: &[i64], nchw: bool, what: &str) -> Res<[i64; 2]> {
    let &[n, a, b, c] = list else { return Err(cx.invalid(format!("{what} must specify 4 dimensions, got {list:?}"))) };
    let (c, h, w) = if nchw { (a, b, c) } else { (c, a, b) };
    if n != 1 || c != 1 {
        return Err(
            cx.unimplemented(format!("Current implementation does not yet support {what} in the batch and depth dimensions."))
        );
    }
    if let Some(v) = list.iter().find(|&&v| v > i64::from(i32::MAX)) {
        return Err(cx.invalid(format!("Attr {what} has value {v} out of range for an int32")));
    }
    if h < 1 || w < 1 {
        return Err(cx.invalid(format!("{what} must be positive, got {list:?}")));
    }
    Ok([h, w])
}

/// Where windows are put over height and width.
struct Windows {
    strides: [i64; 2],
    dilations: [i64; 2],
    low: [Dim; 2],
    high: [Dim; 2],
}

impl Windows {
    fn attrs(&self) -> Attrs {
        let a = Attrs::new().with("strides", self.strides.to_vec()).with("low", self.low.to_vec()).with("high", self.high.to_vec());
        if self.dilations == [1, 1] { a } else { a.with("dilations", self.dilations.to_vec()) }
    }

    /// How many windows fit.
    fn extents(&self, size: &[Dim; 2], window: [i64; 2]) -> [Dim; 2] {
        [0, 1].map(|i| window_extent(&size[i], window[i], self.strides[i], self.dilations[i], &self.low[i], &self.high[i]))
    }
}

/// Padding by the attribute, for an operand of that height and width.
fn windows(cx: &NodeCx, size: &[Dim; 2], window: [i64; 2], strides: [i64; 2], dilations: [i64; 2], nchw: bool) -> Res<Windows> {
    let mut w = Windows { strides, dilations, low: [Dim::ZERO, Dim::ZERO], high: [Dim::ZERO, Dim::ZERO] };
    match cx.word("padding")? {
        "VALID" => {}
        "SAME" => {
            for i in 0..2 {
                let stride = Dim::from(strides[i]);
                let reach = (window[i] - 1).saturating_mul(dilations[i]).saturating_add(1);
                let covered = &(&(&size[i].ceil_div(&stride) - &Dim::ONE) * &stride) + &Dim::from(reach);
                let total = (&covered - &size[i]).at_least(&Dim::ZERO);
                w.low[i] = total.floor_div(&Dim::from(2i64));
                w.high[i] = &total - &w.low[i];
            }
        }
        "EXPLICIT" => {
            let p = cx.ints("explicit_paddings")?;
            let at = if nchw { 4 } else { 2 };
            if p.len() != 8 || p.iter().any(|&v| v < 0) {
                return Err(cx.invalid(format!("explicit_paddings must be 8 values that are not negative, got {p:?}")));
            }
            if (0..8).any(|i| !(at..at + 4).contains(&i) && p[i] != 0) {
                return Err(cx.invalid("Nonzero explicit padding in the batch or depth dimensions is not supported"));
            }
            for i in 0..2 {
                (w.low[i], w.high[i]) = (Dim::from(p[at + 2 * i]), Dim::from(p[at + 2 * i + 1]));
            }
        }
        p => return Err(cx.invalid(format!("Unknown padding type: {p}"))),
    }
    for i in 0..2 {
        let reach = Dim::from((window[i] - 1).saturating_mul(dilations[i]).saturating_add(1));
        let room = &(&(&size[i] + &w.low[i]) + &w.high[i]) - &reach;
        if room.as_const().is_some_and(|r| r < 0 && (&Dim::from(r) + &Dim::from(strides[i])).as_const().is_some_and(|c| c < 0)) {
            return Err(cx.invalid(format!(
                "Computed output size would be negative: {room} [input_size: {}, window: {}]",
                size[i], window[i]
            )));
        }
    }
    Ok(w)
}

fn const_window(cx: &NodeCx, filter: V) -> Res<[i64; 2]> {
    let s = cx.shape(filter);
    match (s[0].as_const(), s[1].as_const()) {
        (Some(h), Some(w)) if h > 0 && w > 0 => Ok([h, w]),
        (Some(_), Some(_)) => Err(cx.invalid(format!("filter must not have zero elements: {s:?}"))),
        _ => Err(cx.needs_shape(s.iter(), "height and width of the filter must be constant")),
    }
}

fn image_size(cx: &NodeCx, x: V) -> [Dim; 2] {
    let s = cx.shape(x);
    [s[1].clone(), s[2].clone()]
}

pub fn conv2d(cx: Cx) -> Res {
    let (x, filter, nchw) = (cx.x(0)?, cx.x(1)?, nchw(cx)?);
    rank4(cx, x, "input")?;
    rank4(cx, filter, "filter")?;
    let strides = spatial(cx, &cx.ints("strides")?, nchw, "strides")?;
    let dilations = spatial(cx, &cx.ints("dilations")?, nchw, "dilations")?;
    let x = to_nhwc(cx, x, nchw)?;
    let w = windows(cx, &image_size(cx, x), const_window(cx, filter)?, strides, dilations, nchw)?;
    let (c, per_group) = (cx.shape(x)[3].clone(), cx.shape(filter)[2].clone());
    if per_group.is_zero() {
        return Err(cx.invalid("filter depth must be positive"));
    }
    let groups = cx.exact_quotient(&c, &per_group, "input depth must be evenly divisible by filter depth")?;
    let groups =
        groups.as_const().ok_or_else(|| cx.needs_shape([&c, &per_group].into_iter(), "the number of channels must be constant"))?;
    let attrs = if groups > 1 { w.attrs().with("groups", groups) } else { w.attrs() };
    let y = cx.op(Op::Conv2d, &[x, filter], attrs)?;
    Ok(vec![from_nhwc(cx, y, nchw)?])
}

pub fn depthwise(cx: Cx) -> Res {
    let (x, filter, nchw) = (cx.x(0)?, cx.x(1)?, nchw(cx)?);
    rank4(cx, x, "input")?;
    rank4(cx, filter, "filter")?;
    let strides = spatial(cx, &cx.ints("strides")?, nchw, "strides")?;
    let dilations = spatial(cx, &cx.ints("dilations")?, nchw, "dilations")?;
    if dilations != [1, 1] {
        return Err(cx.unimplemented("Current kernel implementation does not support dilations"));
    }
    if strides[0] != strides[1] {
        return Err(cx.invalid("Current implementation only supports equal length strides in the row and column dimensions."));
    }
    let x = to_nhwc(cx, x, nchw)?;
    cx.same_dim(&cx.shape(x)[3], &cx.shape(filter)[2], "input and filter must have the same depth")?;
    let w = windows(cx, &image_size(cx, x), const_window(cx, filter)?, strides, dilations, nchw)?;
    let y = cx.op(Op::Depthwise, &[x, filter], w.attrs())?;
    Ok(vec![from_nhwc(cx, y, nchw)?])
}

/// Conv2DBackpropInput (input_sizes, filter, out_backprop): the transposed convolution.
pub fn conv2d_backprop_input(cx: Cx) -> Res {
    let (filter, dy, nchw) = (cx.x(1)?, cx.x(2)?, nchw(cx)?);
    rank4(cx, filter, "filter")?;
    rank4(cx, dy, "out_backprop")?;
    let sizes = cx.need_dims(0, "input_sizes")?;
    let dy = to_nhwc(cx, dy, nchw)?;
    let size = match sizes.as_slice() {
        [h, w] => [h.clone(), w.clone()],
        [n, a, b, c] => {
            let (h, w, c) = if nchw { (b, c, a) } else { (a, b, c) };
            cx.same_dim(n, &cx.shape(dy)[0], "batch of input_sizes and out_backprop")?;
            let groups = cx.exact_quotient(c, &cx.shape(filter)[2], "input depth must be evenly divisible by filter depth")?;
            if !groups.is_one() {
                return Err(cx.unimplemented("gradients of grouped convolutions"));
            }
            [h.clone(), w.clone()]
        }
        s => return Err(cx.invalid(format!("input_sizes must have 4 entries, got {s:?}"))),
    };
    let strides = spatial(cx, &cx.ints("strides")?, nchw, "strides")?;
    let dilations = spatial(cx, &cx.ints("dilations")?, nchw, "dilations")?;
    let window = const_window(cx, filter)?;
    let w = windows(cx, &size, window, strides, dilations, nchw)?;
    let (out, have) = (w.extents(&size, window), image_size(cx, dy));
    cx.same_shape(&have, &out, "size of out_backprop")?;
    cx.same_dim(&cx.shape(dy)[3], &cx.shape(filter)[3], "depth of out_backprop and filter")?;
    let y = cx.op(Op::ConvTranspose2d, &[dy, filter], w.attrs().with("size", size.to_vec()))?;
    Ok(vec![from_nhwc(cx, y, nchw)?])
}

/// Conv2DBackpropFilter (input, filter_sizes, out_backprop), as a convolution of the input with the gradient over the batch.
pub fn conv2d_backprop_filter(cx: Cx) -> Res {
    let (x, dy, nchw) = (cx.x(0)?, cx.x(2)?, nchw(cx)?);
    rank4(cx, x, "input")?;
    rank4(cx, dy, "out_backprop")?;
    let f = cx.need_ints(1, "filter_sizes")?;
    let &[kh, kw, c, k] = f.as_slice() else { return Err(cx.invalid("filter_sizes must have 4 entries")) };
    if kh < 1 || kw < 1 {
        return Err(cx.invalid(format!("filter must not have zero elements: {f:?}")));
    }
    let strides = spatial(cx, &cx.ints("strides")?, nchw, "strides")?;
    let dilations = spatial(cx, &cx.ints("dilations")?, nchw, "dilations")?;
    let (x, dy) = (to_nhwc(cx, x, nchw)?, to_nhwc(cx, dy, nchw)?);
    cx.same_dim(&cx.shape(x)[3], &Dim::from(c), "depth of the input and the filter (groups have no gradient yet)")?;
    cx.same_dim(&cx.shape(dy)[3], &Dim::from(k), "depth of out_backprop and filter")?;
    let size = image_size(cx, x);
    let w = windows(cx, &size, [kh, kw], strides, dilations, nchw)?;
    let out = w.extents(&size, [kh, kw]);
    cx.same_shape(&image_size(cx, dy), &out, "size of out_backprop")?;
    // The gradient is the kernel, its rows `stride` apart; what follows the last window is cut off.
    let mut high = [Dim::ZERO, Dim::ZERO];
    for i in 0..2 {
        let Some(o) = out[i].as_const() else { return Err(cx.needs_shape(out.iter(), "the image size must be constant")) };
        let reach = (o - 1).saturating_mul(strides[i]).saturating_add(1);
        let span = ([kh, kw][i] - 1).saturating_mul(dilations[i]);
        high[i] = &(&Dim::from(span.saturating_add(reach)) - &size[i]) - &w.low[i];
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
        .with("strides", dilations.to_vec())
        .with("dilations", strides.to_vec())
        .with("low", w.low.to_vec())
        .with("high", high.to_vec());
    let y = cx.op(Op::Conv2d, &[x, kernel], attrs)?;
    Ok(vec![cx.transpose(y, &[1, 2, 0, 3])?])
}

/// MaxPool, AvgPool, and MaxPoolV2 whose window and strides are operands.
pub fn pool(cx: Cx, kind: &str, operands: bool) -> Res {
    let (x, nchw) = (cx.x(0)?, nchw(cx)?);
    rank4(cx, x, "input")?;
    let (ksize, strides) =
        if operands { (cx.need_ints(1, "ksize")?, cx.need_ints(2, "strides")?) } else { (cx.ints("ksize")?, cx.ints("strides")?) };
    let at = if nchw { 1 } else { 3 };
    let x = to_nhwc(cx, x, nchw)?;
    let y = match (ksize.get(at), strides.get(at)) {
        (Some(&k), Some(&s)) if ksize.len() == 4 && k > 1 && kind == "max" => {
            let others = (0..4).any(|i| i != at && (ksize[i] != 1 || strides[i] != 1));
            if others || k != s {
                return Err(cx.unimplemented(
                    "Depthwise max pooling requires the depth window to equal the depth stride, and no other window",
                ));
            }
            let shape = cx.shape(x);
            let groups = cx.exact_quotient(
                &shape[3],
                &Dim::from(k),
                "Depthwise max pooling requires the depth window to evenly divide the input depth",
            )?;
            let x = cx.reshape(x, &[&shape[..3], &[groups, Dim::from(k)]].concat())?;
            cx.reduce("max", x, &[4], false)?
        }
        _ => {
            let window = spatial(cx, &ksize, nchw, "ksize")?;
            let strides = spatial(cx, &strides, nchw, "strides")?;
            let w = windows(cx, &image_size(cx, x), window, strides, [1, 1], nchw)?;
            cx.op(Op::Pool2d, &[x], w.attrs().with("kind", kind).with("window", window.to_vec()))?
        }
    };
    Ok(vec![from_nhwc(cx, y, nchw)?])
}

/// BiasAdd and BiasAddV1: the bias lies along the channels.
pub fn bias_add(cx: Cx) -> Res {
    let (x, bias) = (cx.x(0)?, cx.x(1)?);
    let rank = cx.rank(x);
    if rank < 2 || cx.rank(bias) != 1 {
        return Err(cx.invalid(format!(
            "Input tensor must be at least 2D and biases must be 1D: {:?} and {:?}",
            cx.shape(x),
            cx.shape(bias)
        )));
    }
    let channels_first = cx.node.attr("data_format").is_some() && cx.word("data_format")? == "NCHW";
    let channel = if channels_first { 1 } else { rank - 1 };
    let d = cx.same_dim(
        &cx.shape(x)[channel],
        &cx.shape(bias)[0],
        "Must provide as many biases as the channel dimension of the input tensor",
    )?;
    let bias = if channel + 1 < rank {
        let mut to = vec![Dim::ONE; rank - channel];
        to[0] = d;
        cx.reshape(bias, &to)?
    } else {
        bias
    };
    Ok(vec![cx.add(x, bias)?])
}

pub fn resize(cx: Cx, kind: &str) -> Res {
    let x = cx.x(0)?;
    rank4(cx, x, "input")?;
    let size = cx.need_dims(1, "size")?;
    if size.len() != 2 || cx.rank(cx.x(1)?) != 1 {
        return Err(cx.invalid(format!("shape_t must have two elements {:?}", cx.shape(cx.x(1)?))));
    }
    if size.iter().any(|d| d.as_const().is_some_and(|c| c <= 0)) || cx.shape(x)[1..3].iter().any(Dim::is_zero) {
        return Err(cx.invalid(format!("output dimensions must be positive: {size:?}")));
    }
    let (align, half) = (cx.flag("align_corners")?, cx.flag("half_pixel_centers")?);
    if align && half {
        return Err(cx.invalid("If half_pixel_centers is True, align_corners must be False."));
    }
    let x = if kind == "bilinear" { cx.cast(x, graphc_ir::Elem::F32)? } else { x };
    let attrs = Attrs::new().with("kind", kind).with("size", size);
    let attrs = with_flags(attrs, &[("align_corners", align), ("half_pixel", half)]);
    Ok(vec![cx.op(Op::Resize, &[x], attrs)?])
}

/// ExtractImagePatches: the window around each place, flattened into the channels.
pub fn extract_image_patches(cx: Cx) -> Res {
    let x = cx.x(0)?;
    rank4(cx, x, "input")?;
    let window = spatial(cx, &cx.ints("ksizes")?, false, "ksizes")?;
    let strides = spatial(cx, &cx.ints("strides")?, false, "strides")?;
    let rates = spatial(cx, &cx.ints("rates")?, false, "rates")?;
    if window[0].saturating_mul(window[1]) > 1 << 14 {
        return Err(cx.unimplemented("a window of this size"));
    }
    let w = windows(cx, &image_size(cx, x), window, strides, rates, false)?;
    let [oh, ow] = w.extents(&image_size(cx, x), window);
    let zero = cx.like(0.0, x)?;
    let pad = |p: &[Dim; 2]| vec![Dim::ZERO, p[0].clone(), p[1].clone(), Dim::ZERO];
    let x = cx.pad(x, zero, pad(&w.low), pad(&w.high))?;
    let shape = cx.shape(x);
    let size = [shape[0].clone(), oh, ow, shape[3].clone()];
    let mut parts = Vec::new();
    for i in 0..window[0] {
        for j in 0..window[1] {
            let start = vec![Dim::ZERO, Dim::from(i.saturating_mul(rates[0])), Dim::from(j.saturating_mul(rates[1])), Dim::ZERO];
            parts.push(cx.slice(x, start, size.to_vec(), &[1, strides[0], strides[1], 1])?);
        }
    }
    Ok(vec![cx.concat(&parts, 3)?])
}
