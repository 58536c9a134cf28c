//! QuantizeV2 and Dequantize: floats of a known range as quantised numbers, and back.

use super::cx::{NodeCx, Res, V};
use graphc_ir::{Attrs, Elem, Op, Tensor};

type Cx<'c, 'l, 'a> = &'c mut NodeCx<'l, 'a>;

/// How a range of floats is laid over the numbers of a type.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Mode {
    MinCombined,
    MinFirst,
    Scaled,
}

/// What QuantizeV2 and Dequantize must agree on.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Laid {
    elem: Elem,
    mode: Mode,
    narrow: bool,
}

/// A quantised value of a range, and the floats that dequantising it gives.
pub struct Quantised {
    value: V,
    laid: Laid,
    range: [f32; 2],
    floats: V,
}

impl Laid {
    fn of(cx: Cx) -> Res<Laid> {
        let elem = cx.elem_attr("T")?;
        let mode = match cx.word("mode").unwrap_or("MIN_COMBINED") {
            "MIN_COMBINED" => Mode::MinCombined,
            "MIN_FIRST" => Mode::MinFirst,
            "SCALED" => Mode::Scaled,
            m => return Err(cx.invalid(format!("there is no mode of quantisation {m:?}"))),
        };
        Ok(Laid { elem, mode, narrow: cx.node.attr_bool("narrow_range").unwrap_or(false) })
    }

    /// The lowest and the highest number of the type.
    fn bounds(self) -> Option<[f32; 2]> {
        match self.elem {
            Elem::QI8 => Some([-128.0, 127.0]),
            Elem::QU8 => Some([0.0, 255.0]),
            Elem::QI16 => Some([-32768.0, 32767.0]),
            Elem::QU16 => Some([0.0, 65535.0]),
            _ => None,
        }
    }
}

/// The bounds that operands 1 and 2 say.
fn range(cx: Cx) -> Res<(Vec<f32>, Vec<f32>)> {
    let of = |v: Vec<f64>| v.into_iter().map(|v| v as f32).collect::<Vec<f32>>();
    let (low, high) = (of(cx.need_reals(1, "the range")?), of(cx.need_reals(2, "the range")?));
    let fits = low.len() == high.len() && !low.is_empty() && low.iter().chain(&high).all(|v| v.is_finite());
    if !fits || low.iter().zip(&high).any(|(l, h)| l >= h) {
        return Err(cx.unimplemented("a range of no bounds or an empty one"));
    }
    Ok((low, high))
}

/// The nearest whole number, halves away from zero.
fn away(cx: Cx, x: V) -> Res<V> {
    let most = f64::from(f32::MAX);
    let a = Attrs::new().with("lo", -most).with("hi", most).with("step", 1.0).with("rate", 1.0).with("half_away", true);
    cx.op(Op::FakeQuant, &[x], a)
}

fn by(cx: Cx, op: Op, x: V, v: f32) -> Res<V> {
    let v = cx.like(f64::from(v), x)?;
    cx.bin(op, x, v)
}

/// QuantizeV2 of a range that is known. Where dequantising gives whole multiples of a step, the floats of it are kept beside.
pub fn quantize(cx: Cx) -> Res {
    let laid = Laid::of(cx)?;
    let even = match cx.word("round_mode").unwrap_or("HALF_AWAY_FROM_ZERO") {
        "HALF_AWAY_FROM_ZERO" => false,
        "HALF_TO_EVEN" if laid.mode == Mode::Scaled => true,
        m => return Err(cx.invalid(format!("the rounding {m:?} does not go with the mode of quantisation"))),
    };
    let least_range = cx.node.attr_f32("ensure_minimum_range").unwrap_or(0.01);
    let ([lowest, highest], x) = match (laid.bounds(), cx.x(0)?) {
        (Some(bounds), x) if cx.elem(x) == Elem::F32 && matches!(laid.elem, Elem::QI8 | Elem::QU8) => (bounds, x),
        _ => return Err(cx.unimplemented("numbers of more than 8 bits")),
    };
    let (low, high) = range(cx)?;
    let whole = cx.node.attr_i64("axis").unwrap_or(-1) == -1;
    let ([given_low], [given_high]) = (low.as_slice(), high.as_slice()) else {
        return Err(cx.unimplemented("a range for each slice"));
    };
    if !whole {
        return Err(cx.unimplemented("a range for each slice"));
    }
    // A range that is too small is widened.
    let margin = given_low.abs().max(given_high.abs()).max(1.0) * least_range;
    let mut low = given_low.min(0.0);
    let mut high = given_high.max(low + margin).max(0.0);
    let clamp =
        |cx: Cx, x: V, lo: f32, hi: f32| cx.op(Op::Clamp, &[x], Attrs::new().with("lo", f64::from(lo)).with("hi", f64::from(hi)));
    // The numbers, and where the floats of them are multiples of a step: it, the steps of a unit, and the bounds.
    let (numbers, steps) = match laid.mode {
        Mode::Scaled => {
            let least = lowest + f32::from(laid.narrow);
            let side = |limit: f32, bound: f32| if limit * bound > 0.0 { limit / bound } else { f32::MAX };
            let rate = side(least, low).min(side(highest, high));
            (low, high) = (least / rate, highest / rate);
            let x = clamp(cx, x, low, high)?;
            let x = by(cx, Op::Mul, x, rate)?;
            let x = if even { cx.un(Op::Round, x)? } else { away(cx, x)? };
            let by_high = high / highest;
            let step = if lowest == 0.0 { by_high } else { (low / least).max(by_high) };
            (x, Some((step, rate, low, high)))
        }
        Mode::MinCombined => {
            let rate = (f64::from(highest - lowest) / f64::from(high - low)) as f32;
            let x = clamp(cx, x, low, high)?;
            let x = by(cx, Op::Sub, x, low)?;
            let x = by(cx, Op::Mul, x, rate)?;
            let x = if lowest < 0.0 { by(cx, Op::Sub, x, (highest - lowest + 1.0) / 2.0)? } else { x };
            let step = (high - low) / (highest - lowest);
            let on_zero = lowest == 0.0 && low == 0.0;
            let x = if lowest < 0.0 {
                away(cx, x)?
            } else {
                let x = by(cx, Op::Add, x, 0.5)?;
                cx.un(Op::Trunc, x)?
            };
            (x, on_zero.then_some((step, rate, low, high)))
        }
        Mode::MinFirst => {
            let count = f64::from(highest - lowest);
            let (rate, step) = ((count / f64::from(high - low)) as f32, (f64::from(high - low) / count) as f32);
            let first = (low * rate).round();
            let x = by(cx, Op::Mul, x, rate)?;
            let x = away(cx, x)?;
            let x = by(cx, Op::Sub, x, first - lowest)?;
            let x = clamp(cx, x, lowest, highest)?;
            (x, Some((step, rate, first * step, (first + (highest - lowest)) * step)))
        }
    };
    let value = cx.cast(numbers, laid.elem)?;
    if let Some((step, rate, lo, hi)) = steps {
        let real = f64::from;
        let a = Attrs::new().with("lo", real(lo)).with("hi", real(hi)).with("step", real(step)).with("rate", real(rate));
        let x = cx.x(0)?;
        let a = match laid.mode {
            Mode::Scaled if even => a,
            Mode::MinCombined => a.with("half_up", true),
            _ => a.with("half_away", true),
        };
        let floats = cx.op(Op::FakeQuant, &[x], a)?;
        cx.low.quantised.push(Quantised { value, laid, range: [low, high], floats });
    }
    let (low, high) = (cx.scalar_of(low), cx.scalar_of(high));
    Ok(vec![value, low, high])
}

/// Bitcast between quantised numbers and the integers that they are.
pub fn bitcast(cx: Cx) -> Res {
    let (x, elem) = (cx.x(0)?, cx.elem_attr("type")?);
    let from = cx.elem(x);
    if from.stored() != elem.stored() || !(elem.is_quantised() || from.is_quantised() || elem == from) {
        return Err(cx.unimplemented(format!("the bits of {from} as {elem}")));
    }
    Ok(vec![cx.cast(x, elem)?])
}

/// Dequantize of a range that is known, to f32.
pub fn dequantize(cx: Cx) -> Res {
    let (laid, x) = (Laid::of(cx)?, cx.x(0)?);
    let Some([lowest, highest]) = laid.bounds() else { return Err(cx.unimplemented("numbers of more than 16 bits")) };
    if cx.node.attr_type("dtype").is_ok_and(|t| t != crate::DataType::Float) {
        return Err(cx.unimplemented("quantised numbers as other floats than f32"));
    }
    let (low, high) = range(cx)?;
    let axis = cx.node.attr_i64("axis").unwrap_or(-1);
    if let ([low], [high], -1) = (low.as_slice(), high.as_slice(), axis) {
        let known = cx.low.quantised.iter().find(|q| q.value == x && q.laid == laid && q.range == [*low, *high]);
        if let Some(q) = known {
            return Ok(vec![q.floats]);
        }
    }
    // `(number + start) * scale + base`, of each slice.
    let start = if laid.mode == Mode::MinCombined && lowest < 0.0 { (highest - lowest + 1.0) / 2.0 } else { 0.0 };
    let (scales, bases): (Vec<f32>, Vec<f32>) = low
        .iter()
        .zip(&high)
        .map(|(&low, &high)| match laid.mode {
            Mode::MinCombined => ((high - low) / (highest - lowest), low),
            Mode::MinFirst => {
                let scale = (f64::from(high - low) / f64::from(highest - lowest)) as f32;
                (scale, (low / scale).round() * scale - lowest * scale)
            }
            Mode::Scaled => {
                let by_high = high / highest;
                (if lowest == 0.0 { by_high } else { (low / (lowest + f32::from(laid.narrow))).max(by_high) }, 0.0)
            }
        })
        .unzip();
    let shape = match usize::try_from(axis) {
        Ok(axis) => {
            let extents = cx.shape(x);
            if extents.get(axis).and_then(|d| d.as_const()) != Some(scales.len() as i64) {
                return Err(cx.unimplemented("ranges that are not one for each slice"));
            }
            let mut shape = vec![1; extents.len() - axis];
            shape[0] = scales.len();
            shape
        }
        Err(_) if scales.len() == 1 && axis == -1 => vec![],
        Err(_) => return Err(cx.unimplemented("ranges that are not one for all")),
    };
    let vector = |cx: Cx, v: &[f32]| -> Res<V> {
        let t = Tensor::from_slice(&shape, v);
        t.map(|t| cx.constant(t)).ok_or_else(|| cx.unimplemented("so many ranges"))
    };
    let y = cx.cast(x, Elem::F32)?;
    let y = if start == 0.0 { y } else { by(cx, Op::Add, y, start)? };
    let scale = vector(cx, &scales)?;
    let y = cx.mul(y, scale)?;
    if bases.iter().all(|&b| b == 0.0) {
        return Ok(vec![y]);
    }
    let base = vector(cx, &bases)?;
    Ok(vec![cx.add(y, base)?])
}
