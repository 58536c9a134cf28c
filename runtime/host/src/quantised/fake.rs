//! Floats rounded as quantisation would, and the gradients of that.

use crate::dense::buffer;
use crate::{Call, HostError, Result, invalid, tensor_of};
use graphc_ir::quantise::Nudged;

type Fallible<T> = std::result::Result<T, HostError>;

/// The closest step. `divide` says whether to divide by the step or multiply by its inverse.
fn round(range: &Nudged, v: f32, divide: bool) -> f32 {
    if !range.open {
        return 0.0;
    }
    let above = v.min(range.high).max(range.low) - range.low;
    let steps = if divide { above / range.step } else { above * range.per_unit };
    (steps - range.zero() + 0.5).floor() * range.step
}

/// The least and the greatest quantised number.
fn limits(call: &Call) -> Fallible<(f32, f32)> {
    let bits = call.attrs.int("num_bits")?;
    if !(2..=16).contains(&bits) {
        return Err(invalid(format!("num_bits must lie between 2 and 16, and is {bits}")));
    }
    let least = if call.attrs.bool("narrow_range").unwrap_or(false) { 1.0 } else { 0.0 };
    Ok((least, ((1 << bits) - 1) as f32))
}

/// The range that attributes say.
fn by_attributes(call: &Call) -> Fallible<Nudged> {
    let (least, most) = limits(call)?;
    let (low, high) = (call.attrs.float("min")?, call.attrs.float("max")?);
    if low.is_nan() || high.is_nan() || low >= high {
        return Err(invalid(format!("min must be less than max, and they are {low} and {high}")));
    }
    Ok(Nudged::new(low, high, least, most))
}

/// The ranges that operands `k` and `k + 1` say: one, or one for each channel of `values`.
fn by_operands(call: &Call, k: usize, channels: Option<usize>) -> Fallible<Vec<Nudged>> {
    let (least, most) = limits(call)?;
    for k in [k, k + 1] {
        let shape = call.tensor(k)?.shape();
        if shape != channels.as_slice() {
            return Err(invalid(format!("a bound of the range must have the shape {:?}, not {shape:?}", channels.as_slice())));
        }
    }
    let (low, high) = (call.slice::<f32>(k)?, call.slice::<f32>(k + 1)?);
    Ok(low.iter().zip(high.iter()).map(|(&l, &h)| Nudged::new(l, h, least, most)).collect())
}

/// The number of channels of operand `k`.
fn channels(call: &Call, k: usize) -> Fallible<usize> {
    call.tensor(k)?.shape().last().copied().ok_or_else(|| invalid("a scalar has no channels"))
}

fn rounded(call: &Call, ranges: &[Nudged], divide: bool) -> Result {
    let values = call.slice::<f32>(0)?;
    let out: Vec<f32> = values.iter().zip(ranges.iter().cycle()).map(|(&v, r)| round(r, v, divide)).collect();
    Ok(vec![tensor_of(call.tensor(0)?.shape(), &out)?.into()])
}

pub(super) fn args(call: &Call) -> Result {
    rounded(call, &[by_attributes(call)?], false)
}

pub(super) fn vars(call: &Call) -> Result {
    rounded(call, &by_operands(call, 1, None)?, true)
}

pub(super) fn per_channel(call: &Call) -> Result {
    let channels = channels(call, 0)?;
    rounded(call, &by_operands(call, 1, Some(channels))?, false)
}

/// Gradients with respect to the values, operand 1, and the bounds of the range of each.
fn gradients(call: &Call, ranges: &[Nudged]) -> Fallible<(Vec<f32>, Vec<f32>, Vec<f32>)> {
    let (gradient, values) = (call.tensor(0)?, call.tensor(1)?);
    if gradient.shape() != values.shape() {
        return Err(invalid(format!(
            "a gradient of shape {:?} does not go with values of shape {:?}",
            gradient.shape(),
            values.shape()
        )));
    }
    let (mut low, mut high) = (vec![0.0f64; ranges.len()], vec![0.0f64; ranges.len()]);
    let mut out = buffer::<f32>(values.len())?;
    let (gradient, values) = (call.slice::<f32>(0)?, call.slice::<f32>(1)?);
    for (k, (&g, &v)) in gradient.iter().zip(values.iter()).enumerate() {
        let c = k % ranges.len();
        let range = &ranges[c];
        if !range.open {
            out[k] = g;
            continue;
        }
        // A gradient that is not finite stays so where it is masked.
        let masked = |keep: bool| if keep { g } else { g * 0.0 };
        out[k] = masked(v >= range.low && v <= range.high);
        low[c] += f64::from(masked(v < range.low));
        high[c] += f64::from(masked(v > range.high));
    }
    let single = |v: Vec<f64>| v.into_iter().map(|x| x as f32).collect();
    Ok((out, single(low), single(high)))
}

pub(super) fn args_gradient(call: &Call) -> Result {
    let (out, _, _) = gradients(call, &[by_attributes(call)?])?;
    Ok(vec![tensor_of(call.tensor(0)?.shape(), &out)?.into()])
}

pub(super) fn vars_gradient(call: &Call) -> Result {
    let (out, low, high) = gradients(call, &by_operands(call, 2, None)?)?;
    Ok(vec![tensor_of(call.tensor(0)?.shape(), &out)?.into(), tensor_of(&[], &low)?.into(), tensor_of(&[], &high)?.into()])
}

pub(super) fn per_channel_gradient(call: &Call) -> Result {
    let n = channels(call, 1)?;
    let (out, low, high) = gradients(call, &by_operands(call, 2, Some(n))?)?;
    Ok(vec![tensor_of(call.tensor(0)?.shape(), &out)?.into(), tensor_of(&[n], &low)?.into(), tensor_of(&[n], &high)?.into()])
}
