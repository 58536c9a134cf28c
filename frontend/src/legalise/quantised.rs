//! Floats rounded as quantisation would, over ranges that are known.

use super::cx::{NodeCx, Res, V};
use graphc_ir::quantise::{Nudged, Symmetric, bounds};
use graphc_ir::{Attrs, Elem, Op, Tensor};

type Cx<'c, 'l, 'a> = &'c mut NodeCx<'l, 'a>;

/// The least and the greatest quantised number of fake quantisation.
fn limits(cx: Cx) -> Res<[f32; 2]> {
    let bits = cx.int("num_bits")?;
    if !(2..=16).contains(&bits) {
        return Err(cx.invalid(format!("num_bits must be between 2 and 16, inclusive, got {bits}")));
    }
    Ok([f32::from(cx.flag("narrow_range")?), ((1i32 << bits) - 1) as f32])
}

fn fake_quant(cx: Cx, r: &Nudged, divide: bool) -> Res {
    let x = cx.x(0)?;
    if !r.open {
        let zero = cx.like(0.0, x)?;
        let shape = cx.shape(x);
        return Ok(vec![cx.broadcast(zero, &shape)?]);
    }
    let real = f64::from;
    let a = Attrs::new().with("lo", real(r.low)).with("hi", real(r.high)).with("step", real(r.step)).with("base", real(r.low));
    let a = a.with("rate", if divide { 0.0 } else { real(r.per_unit) }).with("offset", real(r.zero())).with("half_up", true);
    Ok(vec![cx.op(Op::FakeQuant, &[x], a)?])
}

/// FakeQuantWithMinMaxArgs: the range is in the attributes.
pub fn fake_quant_args(cx: Cx) -> Res {
    let [least, most] = limits(cx)?;
    let (low, high) = (cx.real("min")? as f32, cx.real("max")? as f32);
    if low.is_nan() || high.is_nan() || low >= high {
        return Err(cx.invalid(format!("min has to be smaller than max, was: {low} >= {high}")));
    }
    fake_quant(cx, &Nudged::new(low, high, least, most), false)
}

/// The bounds that operands 1 and 2 say.
fn range(cx: Cx) -> Res<(Vec<f64>, Vec<f64>)> {
    let (low, high) = (cx.need_reals(1, "the range")?, cx.need_reals(2, "the range")?);
    if low.is_empty() || low.len() != high.len() {
        return Err(cx.unimplemented("a range of no bounds, or not as many lower as upper ones"));
    }
    Ok((low, high))
}

/// FakeQuantWithMinMaxVars: one range.
pub fn fake_quant_vars(cx: Cx) -> Res {
    let [least, most] = limits(cx)?;
    let (low, high) = range(cx)?;
    if cx.rank(cx.x(1)?) != 0 || cx.rank(cx.x(2)?) != 0 {
        return Err(cx.invalid("min and max must be scalars"));
    }
    fake_quant(cx, &Nudged::new(low[0] as f32, high[0] as f32, least, most), true)
}

/// FakeQuantWithMinMaxVarsPerChannel: a range for each element of the last axis.
pub fn fake_quant_per_channel(cx: Cx) -> Res {
    let [least, most] = limits(cx)?;
    let (low, high) = range(cx)?;
    let x = cx.x(0)?;
    let channels = cx.shape(x).last().and_then(|d| d.as_const());
    let vectors = cx.rank(cx.x(1)?) == 1 && cx.rank(cx.x(2)?) == 1;
    if !vectors || channels != Some(low.len() as i64) || cx.elem(x) != Elem::F32 {
        return Err(cx.unimplemented("ranges that are not one for each element of the last axis"));
    }
    let ranges: Vec<Nudged> = low.iter().zip(&high).map(|(&l, &h)| Nudged::new(l as f32, h as f32, least, most)).collect();
    if ranges.iter().any(|r| !r.open) {
        return Err(cx.unimplemented("a range from 0 to 0"));
    }
    let vector = |cx: Cx, of: fn(&Nudged) -> f32| -> Res<V> {
        let t = Tensor::from_slice(&[ranges.len()], &ranges.iter().map(of).collect::<Vec<_>>());
        t.map(|t| cx.constant(t)).ok_or_else(|| cx.unimplemented("so many ranges"))
    };
    let (lo, hi) = (vector(cx, |r| r.low)?, vector(cx, |r| r.high)?);
    let (rate, zero, step) = (vector(cx, |r| r.per_unit)?, vector(cx, Nudged::zero)?, vector(cx, |r| r.step)?);
    let y = cx.bin(Op::Min, x, hi)?;
    let y = cx.bin(Op::Max, y, lo)?;
    let y = cx.sub(y, lo)?;
    let y = cx.mul(y, rate)?;
    let y = cx.sub(y, zero)?;
    let half = cx.like(0.5, y)?;
    let y = cx.add(y, half)?;
    let y = cx.un(Op::Floor, y)?;
    Ok(vec![cx.mul(y, step)?])
}

/// QuantizeAndDequantizeV2, V3 and V4, with one range that is given; `bits` of V3 is an operand.
pub fn round_trip(cx: Cx, bits: Option<usize>) -> Res {
    let bits = match bits {
        Some(k) => cx.need_int(k, "num_bits")?,
        None => cx.int("num_bits")?,
    };
    let signed = cx.flag("signed_input")?;
    if bits < 1 || bits > if signed { 62 } else { 63 } {
        return Err(cx.invalid(format!("num_bits is out of range: {bits} with signed_input {signed}")));
    }
    let half_up = cx.node.attr_str("round_mode").is_ok_and(|m| m == "HALF_UP");
    let (narrow, axis) = (cx.node.attr_bool("narrow_range").unwrap_or(false), cx.node.attr_i64("axis").unwrap_or(-1));
    let x = cx.x(0)?;
    if axis != -1 || !cx.flag("range_given")? || cx.elem(x) != Elem::F32 {
        return Err(cx.unimplemented("a range that only the values tell, or one for each slice"));
    }
    let (low, high) = range(cx)?;
    if low.len() != 1 || low[0] > high[0] {
        return Err(cx.unimplemented("a range of several bounds, or an empty one"));
    }
    let r = |v: f64| f64::from(v as f32);
    let limits = bounds(bits as i32, signed, narrow).map(r);
    let s = Symmetric::new([low[0], high[0]], limits, f64::from(f32::MAX), r);
    let a = Attrs::new().with("lo", s.low).with("hi", s.high).with("step", s.step).with("rate", s.scale).with("half_up", half_up);
    if !(s.step > 0.0 && s.step.is_finite() && s.scale.is_finite() && s.scale > 0.0) {
        return Err(cx.unimplemented("a range without steps"));
    }
    Ok(vec![cx.op(Op::FakeQuant, &[x], a)?])
}
