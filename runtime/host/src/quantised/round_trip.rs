//! Floats quantised to a number of bits and back.

use crate::dense::{converted, reals, rounding};
use crate::{Call, HostError, Result, invalid};
use graphc_ir::quantise::{Symmetric, bounds};
use graphc_ir::{Elem, Tensor};

type Fallible<T> = std::result::Result<T, HostError>;

/// How numbers are quantised.
struct Rules {
    signed: bool,
    bits: i64,
    half_up: bool,
    narrow: bool,
    /// Whether the operands say the range; else it is that of the values.
    given: bool,
}

impl Rules {
    fn of(call: &Call, bits: i64) -> Fallible<Rules> {
        let signed = call.attrs.bool("signed_input").unwrap_or(true);
        if bits < 1 || bits > if signed { 62 } else { 63 } {
            return Err(invalid(format!("num_bits is out of range: {bits}")));
        }
        let half_up = match &*call.attrs.text("round_mode").unwrap_or_else(|_| "HALF_TO_EVEN".into()) {
            "HALF_UP" => true,
            "HALF_TO_EVEN" => false,
            m => return Err(invalid(format!("round_mode must be HALF_TO_EVEN or HALF_UP, not {m:?}"))),
        };
        let flag = |name: &str| call.attrs.bool(name).unwrap_or(false);
        Ok(Rules { signed, bits, half_up, narrow: flag("narrow_range"), given: flag("range_given") })
    }

    /// Quantises numbers of a range, and back.
    fn apply(&self, values: impl Iterator<Item = f64> + Clone, range: Option<(f64, f64)>, elem: Elem, mut put: impl FnMut(f64)) {
        let r = rounding(elem);
        let (low, high) =
            range.unwrap_or_else(|| values.clone().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v))));
        let [least, most] = bounds(self.bits as i32, self.signed, self.narrow);
        let greatest = match elem {
            Elem::F16 => 65504.0,
            Elem::BF16 => f64::from(half::bf16::MAX),
            Elem::F32 => f64::from(f32::MAX),
            _ => f64::MAX,
        };
        let Symmetric { low, high, scale, step } = Symmetric::new([low, high], [r(least), r(most)], greatest, r);
        for v in values {
            let v = if self.given { v.min(high).max(low) } else { v };
            let scaled = r(v * scale);
            let whole = if self.half_up { r(scaled + 0.5).floor() } else { scaled.round_ties_even() };
            put(r(whole * step));
        }
    }

    fn run(&self, call: &Call, bounds: Option<(Vec<f64>, Vec<f64>)>, axis: i64) -> Result {
        let input = call.tensor(0)?;
        check_type(input.elem())?;
        let (channels, inner) = channels(input, axis)?;
        let values = reals(call, 0)?;
        if let Some((low, high)) = &bounds {
            let wrong = low.len() != channels || high.len() != channels;
            if wrong {
                return Err(invalid(format!(
                    "a range of {} and {} bounds does not go with {channels} channels",
                    low.len(),
                    high.len()
                )));
            }
            if low.iter().zip(high).any(|(l, h)| l > h) {
                return Err(invalid("a lower bound of a range is greater than its upper bound"));
            }
        }
        let mut out = vec![0.0; values.len()];
        for c in 0..channels {
            let places = || (0..values.len()).filter(move |k| k / inner % channels == c);
            let mut targets = places();
            let range = bounds.as_ref().map(|(low, high)| (low[c], high[c]));
            self.apply(places().map(|k| values[k]), range, input.elem(), |v| {
                if let Some(k) = targets.next() {
                    out[k] = v;
                }
            });
        }
        Ok(vec![converted(input.elem(), input.shape(), &out)?.into()])
    }
}

/// TensorFlow has kernels for these types only.
fn check_type(elem: Elem) -> Fallible<()> {
    if matches!(elem, Elem::F32 | Elem::F64) { Ok(()) } else { Err(invalid(format!("numbers of type {elem} are not quantised"))) }
}

/// The number of channels along the axis, -1 for all as one, and the elements within each.
fn channels(t: &Tensor, axis: i64) -> Fallible<(usize, usize)> {
    if axis == -1 {
        return Ok((1, t.len().max(1)));
    }
    let axis = usize::try_from(axis).ok().filter(|&a| a < t.rank());
    let axis = axis.ok_or_else(|| invalid(format!("the axis is none of a tensor of shape {:?}", t.shape())))?;
    Ok((t.shape()[axis], t.shape()[axis + 1..].iter().product::<usize>().max(1)))
}

fn axis(call: &Call) -> i64 {
    call.attrs.int("axis").unwrap_or(-1)
}

/// The range that operands 1 and 2 say.
fn operands(call: &Call, rules: &Rules) -> Fallible<Option<(Vec<f64>, Vec<f64>)>> {
    if !rules.given {
        return Ok(None);
    }
    let rank = if axis(call) == -1 { 0 } else { 1 };
    if call.op == "QuantizeAndDequantizeV4" && rank == 1 {
        return Err(invalid("QuantizeAndDequantizeV4 takes one range for all slices only"));
    }
    for k in 1..3 {
        let t = call.tensor(k)?;
        if t.rank() != rank && !(rank == 0 && t.len() == 1) {
            return Err(invalid(format!("a bound of the range must be of rank {rank}, not of shape {:?}", t.shape())));
        }
    }
    Ok(Some((reals(call, 1)?, reals(call, 2)?)))
}

pub(super) fn by_attributes(call: &Call) -> Result {
    let rules = Rules::of(call, call.attrs.int("num_bits")?)?;
    let bound = |name: &str| Ok::<_, HostError>(vec![f64::from(call.attrs.float(name)?)]);
    let bounds = if rules.given { Some((bound("input_min")?, bound("input_max")?)) } else { None };
    rules.run(call, bounds, -1)
}

pub(super) fn by_operands(call: &Call) -> Result {
    let rules = Rules::of(call, call.attrs.int("num_bits")?)?;
    rules.run(call, operands(call, &rules)?, axis(call))
}

pub(super) fn with_bits(call: &Call) -> Result {
    if call.tensor(3)?.rank() != 0 {
        return Err(invalid(format!("num_bits must be a scalar, not of shape {:?}", call.tensor(3)?.shape())));
    }
    let rules = Rules::of(call, call.int(3)?)?;
    rules.run(call, operands(call, &rules)?, axis(call))
}

pub(super) fn gradient(call: &Call) -> Result {
    let (gradient, input) = (call.tensor(0)?, call.tensor(1)?);
    if gradient.shape() != input.shape() {
        return Err(invalid(format!(
            "a gradient of shape {:?} does not go with values of shape {:?}",
            gradient.shape(),
            input.shape()
        )));
    }
    check_type(input.elem())?;
    let axis = axis(call);
    let (channels, inner) = channels(input, axis)?;
    let shape = if axis == -1 { vec![] } else { vec![channels] };
    for k in 2..4 {
        let t = call.tensor(k)?;
        if t.shape() != shape {
            return Err(invalid(format!("a bound of the range must have the shape {shape:?}, not {:?}", t.shape())));
        }
    }
    let (low, high, values) = (reals(call, 2)?, reals(call, 3)?, reals(call, 1)?);
    let mut out = reals(call, 0)?;
    for (k, (g, v)) in out.iter_mut().zip(&values).enumerate() {
        let c = k / inner % channels;
        if !(*v >= low[c] && *v <= high[c]) {
            *g *= 0.0;
        }
    }
    let zeros = || converted(input.elem(), &shape, &vec![0.0; channels]);
    Ok(vec![converted(input.elem(), input.shape(), &out)?.into(), zeros()?.into(), zeros()?.into()])
}
