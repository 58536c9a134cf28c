//! Windows over the spatial axes of images and volumes: layouts, padding, and how many windows fit.
//!
//! The IR has its channels last; other layouts are transposed around the op.

use super::cx::{NodeCx, Res, V};
use super::error::LegaliseError;
use graphc_ir::infer::window_extent;
use graphc_ir::{Attrs, Dim};

type Cx<'c, 'l, 'a> = &'c mut NodeCx<'l, 'a>;

/// True if the layout attribute puts the channels behind the batch.
pub fn channels_first(cx: &NodeCx) -> Res<bool> {
    match cx.word("data_format")? {
        "NHWC" | "NDHWC" | "CHANNELS_LAST" => Ok(false),
        "NCHW" | "NCDHW" | "CHANNELS_FIRST" => Ok(true),
        f => Err(cx.unimplemented(format!("data format {f}"))),
    }
}

/// `x` with its channels last.
pub fn to_last(cx: Cx, x: V, first: bool) -> Res<V> {
    let rank = cx.rank(x);
    if !first || rank < 3 {
        return Ok(x);
    }
    let perm: Vec<usize> = std::iter::once(0).chain(2..rank).chain([1]).collect();
    cx.transpose(x, &perm)
}

/// Takes `y` from channels last to the layout of the attribute.
pub fn from_last(cx: Cx, y: V, first: bool) -> Res<V> {
    let rank = cx.rank(y);
    if !first || rank < 3 {
        return Ok(y);
    }
    let perm: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    cx.transpose(y, &perm)
}

/// A shape with its channels last.
pub fn shape_to_last(mut shape: Vec<Dim>, first: bool) -> Vec<Dim> {
    if first && shape.len() > 2 {
        let c = shape.remove(1);
        shape.push(c);
    }
    shape
}

pub fn need_rank(cx: &NodeCx, v: V, rank: usize, what: &str) -> Res<()> {
    if cx.rank(v) == rank { Ok(()) } else { Err(cx.invalid(format!("{what} must be {rank}-dimensional: {:?}", cx.shape(v)))) }
}

/// Which status an op gives for windows over the batch or the channels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    Invalid,
    Unimplemented,
}

/// The spatial entries of a list with one for each axis, whose batch and channel entries must be 1.
pub fn spatial(cx: &NodeCx, list: &[i64], axes: usize, first: bool, what: &str, beyond: Beyond) -> Res<Vec<i64>> {
    if list.len() != axes + 2 {
        return Err(cx.invalid(format!("{what} must specify {} dimensions, got {list:?}", axes + 2)));
    }
    let channel = if first { 1 } else { axes + 1 };
    if let Some(v) = list.iter().find(|&&v| v > i64::from(i32::MAX)) {
        return Err(cx.invalid(format!("Attr {what} has value {v} out of range for an int32")));
    }
    if list.iter().any(|&v| v < 1) {
        return Err(cx.invalid(format!("{what} must be positive, got {list:?}")));
    }
    if list[0] != 1 || list[channel] != 1 {
        let message = format!("Current implementation does not yet support {what} in the batch and depth dimensions.");
        return Err(if beyond == Beyond::Invalid { cx.invalid(message) } else { cx.refused(message) });
    }
    Ok(if first { list[2..].to_vec() } else { list[1..=axes].to_vec() })
}

/// Windows of one size at regular places, by axis.
#[derive(Clone)]
pub struct Windows {
    pub size: Vec<i64>,
    pub strides: Vec<i64>,
    pub dilations: Vec<i64>,
    pub low: Vec<Dim>,
    pub high: Vec<Dim>,
}

impl Windows {
    /// Windows over axes without padding.
    fn bare(size: Vec<i64>, strides: Vec<i64>, dilations: Vec<i64>) -> Windows {
        let none = vec![Dim::ZERO; size.len()];
        Windows { size, strides, dilations, low: none.clone(), high: none }
    }

    /// Attributes of a two-dimensional op over the last two axes.
    pub fn attrs(&self) -> Attrs {
        let k = self.size.len().saturating_sub(2);
        let a = Attrs::new()
            .with("strides", self.strides[k..].to_vec())
            .with("low", self.low[k..].to_vec())
            .with("high", self.high[k..].to_vec());
        if self.dilations[k..].iter().all(|&d| d == 1) { a } else { a.with("dilations", self.dilations[k..].to_vec()) }
    }

    /// How many windows fit along each axis.
    pub fn extents(&self, image: &[Dim]) -> Vec<Dim> {
        image
            .iter()
            .enumerate()
            .map(|(i, d)| window_extent(d, self.size[i], self.strides[i], self.dilations[i], &self.low[i], &self.high[i]))
            .collect()
    }

    /// From the first element of a window to its last, less one.
    pub fn span(&self, axis: usize) -> i64 {
        (self.size[axis] - 1).saturating_mul(self.dilations[axis])
    }

    /// Elements of a window.
    pub fn taps(&self) -> i64 {
        self.size.iter().fold(1i64, |n, &s| n.saturating_mul(s))
    }

    /// The same windows over one axis and another that they do not touch.
    pub fn along(&self, axis: usize) -> Attrs {
        Attrs::new()
            .with("window", vec![self.size[axis], 1])
            .with("strides", vec![self.strides[axis], 1])
            .with("low", vec![self.low[axis].clone(), Dim::ZERO])
            .with("high", vec![self.high[axis].clone(), Dim::ZERO])
    }
}

/// Windows over axes of those extents, padded as the attributes say.
pub fn windows(cx: &NodeCx, image: &[Dim], size: Vec<i64>, strides: Vec<i64>, dilations: Vec<i64>, first: bool) -> Res<Windows> {
    let mut w = Windows::bare(size, strides, dilations);
    let axes = image.len();
    match cx.word("padding")? {
        "VALID" => {}
        "SAME" => {
            for (i, extent) in image.iter().enumerate() {
                let stride = Dim::from(w.strides[i]);
                let reach = w.span(i).saturating_add(1);
                let covered = &(&(&extent.ceil_div(&stride) - &Dim::ONE) * &stride) + &Dim::from(reach);
                let total = (&covered - extent).at_least(&Dim::ZERO);
                w.low[i] = total.floor_div(&Dim::from(2i64));
                w.high[i] = &total - &w.low[i];
            }
        }
        "EXPLICIT" => {
            let p = cx.ints("explicit_paddings")?;
            let at = if first { 4 } else { 2 };
            let all = 2 * (axes + 2);
            if p.len() != all || p.iter().any(|&v| v < 0) {
                return Err(cx.invalid(format!("explicit_paddings must be {all} values that are not negative, got {p:?}")));
            }
            if (0..all).any(|i| !(at..at + 2 * axes).contains(&i) && p[i] != 0) {
                return Err(cx.invalid("Nonzero explicit padding in the batch or depth dimensions is not supported"));
            }
            for i in 0..axes {
                (w.low[i], w.high[i]) = (Dim::from(p[at + 2 * i]), Dim::from(p[at + 2 * i + 1]));
            }
        }
        p => return Err(cx.invalid(format!("Unknown padding type: {p}"))),
    }
    for (i, extent) in image.iter().enumerate() {
        let reach = Dim::from(w.span(i).saturating_add(1));
        let room = &(&(extent + &w.low[i]) + &w.high[i]) - &reach;
        if room.as_const().is_some_and(|r| r.saturating_add(w.strides[i]) < 0) {
            return Err(
                cx.invalid(format!("Computed output size would be negative: {room} [input_size: {extent}, window: {}]", w.size[i]))
            );
        }
    }
    Ok(w)
}

/// The extents of a filter's window, which must be constant and positive.
pub fn filter_window(cx: &NodeCx, filter: &[Dim], axes: usize) -> Res<Vec<i64>> {
    filter[..axes.min(filter.len())]
        .iter()
        .map(|d| match d.as_const() {
            Some(n) if n > 0 => Ok(n),
            Some(_) => {
                Err(cx.invalid(format!("filter must not have zero elements (i.e. all dimensions must be non-zero): {filter:?}")))
            }
            None => Err(cx.needs_shape([d].into_iter(), "the window of the filter must be constant")),
        })
        .collect()
}

/// The sizes that an operand gives, which must not be negative.
pub fn need_sizes(cx: &NodeCx, k: usize, rank: usize, what: &str) -> Res<Vec<Dim>> {
    let sizes = cx.need_dims(k, what)?;
    if sizes.len() != rank || sizes.iter().any(|d| d.as_const().is_some_and(|d| d < 0)) {
        return Err(cx.invalid(format!("{what} must have {rank} entries that are not negative, got {sizes:?}")));
    }
    Ok(sizes)
}

/// The spatial extents of a value with its channels last.
pub fn image(cx: &NodeCx, x: V) -> Vec<Dim> {
    let s = cx.shape(x);
    s.get(1..s.len().saturating_sub(1)).unwrap_or_default().to_vec()
}

/// A number of slices that is laid out one after another.
pub fn limited(cx: &NodeCx, n: i64, what: &str) -> Result<(), LegaliseError> {
    const MOST: i64 = 1 << 10;
    if n <= MOST { Ok(()) } else { Err(cx.unimplemented(format!("{what} of {n}"))) }
}
