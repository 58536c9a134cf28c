//! Uniform quantisation: a number stands for `(number - zero point) * scale`, with one pair of these for a tensor, or one for each place
//! along an axis.

use super::ranges::Kind;
use crate::broadcast::{Broadcast, broadcast_shape};
use crate::dense::cast;
use crate::{Call, HostError, Result, invalid, tensor_of};
use graphc_ir::Elem;

type Fallible<T> = std::result::Result<T, HostError>;

/// Scales and zero points.
pub(super) struct Params {
    pub scales: Vec<f32>,
    pub zeros: Vec<i32>,
    /// One pair for each place along an axis, else one pair for all.
    pub along: bool,
}

impl Params {
    /// Operands `k` and `k + 1`, for data of a shape.
    pub fn of(call: &Call, k: usize, shape: &[usize], axis: Option<usize>) -> Fallible<Params> {
        let (scales, zeros) = (call.tensor(k)?.shape(), call.tensor(k + 1)?.shape());
        if axis.is_some_and(|a| a >= shape.len()) {
            return Err(invalid(format!("a tensor of shape {shape:?} has no dimension {axis:?} to be quantised along")));
        }
        let fits = match axis {
            None => scales.is_empty(),
            Some(a) => *scales == [shape[a]],
        };
        if !fits || scales != zeros {
            return Err(invalid(format!(
                "scales of shape {scales:?} and zero points of shape {zeros:?} do not go with a tensor of shape {shape:?}"
            )));
        }
        Ok(Params {
            scales: call.slice::<f32>(k)?.into_owned(),
            zeros: call.slice::<i32>(k + 1)?.into_owned(),
            along: axis.is_some(),
        })
    }

    /// # Errors
    /// `InvalidArgument` if a scale is not positive.
    pub fn positive(self) -> Fallible<Params> {
        if self.scales.iter().all(|&s| s > 0.0) { Ok(self) } else { Err(invalid("scales must be positive")) }
    }

    /// Where the pair for place `c` along the axis is.
    fn index(&self, c: usize) -> usize {
        if self.along { c } else { 0 }
    }

    pub fn scale(&self, c: usize) -> f32 {
        self.scales.get(self.index(c)).copied().unwrap_or(1.0)
    }

    pub fn zero(&self, c: usize) -> i32 {
        self.zeros.get(self.index(c)).copied().unwrap_or(0)
    }
}

/// The axis that an attribute names; None for -1.
pub(super) fn axis(call: &Call, name: &str) -> Fallible<Option<usize>> {
    match call.attrs.int(name).unwrap_or(-1) {
        -1 => Ok(None),
        a => usize::try_from(a).map(Some).map_err(|_| invalid(format!("{name} must be at least -1, and is {a}"))),
    }
}

/// The least and the greatest number that attributes allow.
pub(super) fn bounds(call: &Call, prefix: &str) -> Fallible<(i32, i32)> {
    let one = |name: &str| {
        let name = format!("{prefix}quantization_{name}_val");
        i32::try_from(call.attrs.int(&name)?).map_err(|_| invalid(format!("{name} does not fit 32 bits")))
    };
    Ok((one("min")?, one("max")?))
}

/// A number of 32 bits as TensorFlow's arithmetic sees it: its type converts to a float first.
fn through_float(n: i64) -> i32 {
    cast(f64::from(n as f32), i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

/// The numbers of operand `k`, as arithmetic sees them.
pub(super) fn numbers(call: &Call, k: usize) -> Fallible<(Kind, Vec<i32>)> {
    let (kind, numbers) = Kind::operand(call, k)?;
    let wide = kind.elem == Elem::QI32;
    Ok((kind, numbers.into_iter().map(|n| if wide { through_float(n) } else { n as i32 }).collect()))
}

fn widened(v: Vec<i32>) -> Vec<i64> {
    v.into_iter().map(i64::from).collect()
}

/// The place along an axis of every element; 0 without an axis.
fn places(shape: &[usize], axis: Option<usize>) -> impl Fn(usize) -> usize {
    let (inner, size) = match axis {
        Some(a) => (shape[a + 1..].iter().product::<usize>().max(1), shape[a].max(1)),
        None => (1, 1),
    };
    move |k| k / inner % size
}

/// Multiplication by a positive real number, in fixed point: by `multiplier / 2^shift`, half of a step rounding up.
pub(super) struct Rescale {
    multiplier: i64,
    shift: u32,
    zero: i32,
    bounds: (i32, i32),
}

impl Rescale {
    /// Numbers times `by`, from zero point 0 to `zero`, within bounds.
    ///
    /// # Errors
    /// `InvalidArgument` if `by` is not positive and finite.
    pub fn new(by: f64, zero: i32, bounds: (i32, i32)) -> Fallible<Rescale> {
        if !by.is_finite() || by <= 0.0 {
            return Err(invalid(format!("numbers cannot be rescaled by {by}")));
        }
        let (fraction, mut exponent) = libm::frexp(by);
        let mut multiplier = (fraction * (1u64 << 31) as f64).round() as i64;
        if multiplier == 1 << 31 {
            (multiplier, exponent) = (multiplier / 2, exponent + 1);
        }
        if exponent < -31 {
            (multiplier, exponent) = (0, 0);
        }
        if exponent > 30 {
            (multiplier, exponent) = ((1 << 31) - 1, 30);
        }
        Ok(Rescale { multiplier, shift: (31 - exponent) as u32, zero, bounds })
    }

    pub fn apply(&self, v: i32) -> i32 {
        let product = (i64::from(v) * self.multiplier + (1 << (self.shift - 1))) >> self.shift;
        let number = product.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        number.wrapping_add(self.zero).min(self.bounds.1).max(self.bounds.0)
    }
}

/// The number of a float.
pub(super) fn number(v: f32, inverse_scale: f32, zero: i32, (low, high): (i32, i32)) -> i32 {
    let steps = (v * inverse_scale + 0.5).floor();
    let steps = cast(f64::from(steps), i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
    steps.wrapping_add(zero).min(high).max(low)
}

pub(super) fn quantize(call: &Call) -> Result {
    let shape = call.tensor(0)?.shape();
    let axis = axis(call, "quantization_axis")?;
    let (params, bounds) = (Params::of(call, 1, shape, axis)?, bounds(call, "")?);
    let place = places(shape, axis);
    let input = call.slice::<f32>(0)?;
    let out = input.iter().enumerate().map(|(k, &v)| {
        let c = place(k);
        i64::from(number(v, 1.0 / params.scale(c), params.zero(c), bounds))
    });
    let out: Vec<i64> = out.collect();
    Ok(vec![Kind::of(call.attrs.elem("Tout")?)?.tensor(shape, &out)?.into()])
}

pub(super) fn dequantize(call: &Call) -> Result {
    let shape = call.tensor(0)?.shape();
    let axis = axis(call, "quantization_axis")?;
    let params = Params::of(call, 1, shape, axis)?.positive()?;
    let place = places(shape, axis);
    let out = numbers(call, 0)?.1.into_iter().enumerate().map(|(k, n)| {
        let c = place(k);
        n.wrapping_sub(params.zero(c)) as f32 * params.scale(c)
    });
    Ok(vec![tensor_of(shape, &out.collect::<Vec<f32>>())?.into()])
}

/// Numbers under other scales, whose zero points are `zero` of each place along the axis.
fn moved(
    mut numbers: Vec<i32>,
    (shape, axis): (&[usize], Option<usize>),
    from: &Params,
    to: &Params,
    zero: impl Fn(usize) -> i32,
    bounds: (i32, i32),
) -> Fallible<Vec<i32>> {
    let channels = axis.map_or(1, |a| shape[a]);
    let rescale = |c| Rescale::new(f64::from(from.scale(c)) / f64::from(to.scale(c)), zero(c), bounds);
    let rescales = (0..channels).map(rescale).collect::<Fallible<Vec<_>>>()?;
    let place = places(shape, axis);
    for (k, n) in numbers.iter_mut().enumerate() {
        let c = place(k);
        *n = rescales[c].apply(n.wrapping_sub(from.zero(c)));
    }
    Ok(numbers)
}

pub(super) fn requantize(call: &Call) -> Result {
    let shape = call.tensor(0)?.shape();
    let (from_axis, to_axis) = (axis(call, "input_quantization_axis")?, axis(call, "output_quantization_axis")?);
    if from_axis.is_some() && to_axis.is_some() && from_axis != to_axis {
        return Err(invalid("numbers cannot move from scales along one axis to scales along another"));
    }
    let (from, to) = (Params::of(call, 1, shape, from_axis)?.positive()?, Params::of(call, 3, shape, to_axis)?.positive()?);
    let along = (shape, from_axis.or(to_axis));
    let out = moved(numbers(call, 0)?.1, along, &from, &to, |c| to.zero(c), bounds(call, "output_")?)?;
    Ok(vec![Kind::of(call.attrs.elem("Tout")?)?.tensor(shape, &widened(out))?.into()])
}

pub(super) fn add(call: &Call) -> Result {
    let shapes = [call.tensor(0)?.shape(), call.tensor(1)?.shape()];
    let shape = broadcast_shape(&shapes)?;
    let axes = [axis(call, "lhs_quantization_axis")?, axis(call, "rhs_quantization_axis")?];
    let out_axis = axis(call, "output_quantization_axis")?;
    let from = [Params::of(call, 2, shapes[0], axes[0])?.positive()?, Params::of(call, 4, shapes[1], axes[1])?.positive()?];
    let to = Params::of(call, 6, &shape, out_axis)?.positive()?;
    let (low, high) = bounds(call, "output_")?;
    let mut terms = Vec::new();
    for (k, (from, (&of, axis))) in from.iter().zip(shapes.iter().zip(axes)).enumerate() {
        // Along which dimension of the operand the scales of the result go.
        let expected = out_axis.and_then(|a| (a + of.len()).checked_sub(shape.len()));
        if out_axis.is_some() && (axis.is_some() && axis != expected || axis.or(expected).is_none()) {
            return Err(invalid(format!("operand {k} cannot take scales along dimension {out_axis:?} of the result")));
        }
        let along = (of, axis.or(expected));
        let term = moved(numbers(call, k)?.1, along, from, &to, |_| 0, (i32::MIN, i32::MAX))?;
        terms.push(term.into_iter().map(|n| through_float(i64::from(n))).collect::<Vec<_>>());
    }
    let place = places(&shape, out_axis);
    let sum = |(k, [l, r]): (usize, [usize; 2])| {
        let v = terms[0][l].wrapping_add(terms[1][r]).wrapping_add(to.zero(place(k)));
        i64::from(if v < low { low } else { v.min(high) })
    };
    let out: Vec<i64> = Broadcast::new(shapes)?.places().enumerate().map(sum).collect();
    Ok(vec![Kind::of(Elem::QI32)?.tensor(&shape, &out)?.into()])
}

pub(super) fn clip(call: &Call) -> Result {
    let shape = call.tensor(0)?.shape();
    let axis = axis(call, "quantization_axis")?;
    let params = Params::of(call, 3, shape, axis)?;
    if (1..3).any(|k| call.tensor(k).is_ok_and(|t| t.shape() != call.inputs[3].shape())) {
        return Err(invalid("bounds must have the shape of the scales"));
    }
    let (kind, mut numbers) = Kind::operand(call, 0)?;
    let (least, most) = (Kind::operand(call, 1)?.1, Kind::operand(call, 2)?.1);
    let place = places(shape, axis);
    for (k, n) in numbers.iter_mut().enumerate() {
        let c = params.index(place(k));
        *n = (*n).max(least[c]).min(most[c]);
    }
    Ok(vec![kind.tensor(shape, &numbers)?.into()])
}
