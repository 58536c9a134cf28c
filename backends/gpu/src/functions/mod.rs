//! Scalar functions that GPUs have no exact form of: computed in f64 by argument reduction and polynomials, and rounded once.
//!
//! Results are within about two units of the last place of f64 where nothing else is said, so those of f32 are rounded correctly but for
//! ties. They need no library of any target.

mod elementary;
mod special;

use crate::build::{Build, V};
use crate::target::Flavour;
use elementary::Wide;
use graphc_cpu::tape::code::{Cond, Rounding, Ty};

/// Whether [`call`] has a function of the CPU library's name.
pub fn has(name: &str) -> bool {
    let (name, ty) = name.trim_start_matches("gc_scalar_").rsplit_once('_').unwrap_or_default();
    match ty {
        "f32" | "f64" => FUNCTIONS.contains(&name),
        "i64" | "u64" => name == "pow",
        _ => false,
    }
}

const FUNCTIONS: [&str; 23] = [
    "exp", "expm1", "log", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh",
    "erf", "erfc", "lgamma", "digamma", "pow", "atan2", "fmod",
];

/// The CPU library's function `name` of `x`, and of `y` where it takes two.
///
/// # Errors
/// If there is no GPU code for it.
pub fn call<'c>(b: &mut Build<'c>, name: &str, x: V<'c>, y: Option<V<'c>>) -> Result<V<'c>, String> {
    let refused = || format!("no GPU code for the function {}", name.trim_start_matches("gc_scalar_"));
    if !has(name) {
        return Err(refused());
    }
    let (function, _) = name.trim_start_matches("gc_scalar_").rsplit_once('_').ok_or_else(refused)?;
    if !x.ty.is_float() {
        let y = y.ok_or_else(refused)?;
        return Ok(integer_power(b, x, y, name.ends_with("i64")));
    }
    if let Flavour::Spirv(f) = b.flavour
        && !f.float64
    {
        return Err(format!("{}, which needs arithmetic on f64 that this GPU lacks", refused()));
    }
    let narrow = x.ty == Ty::F32;
    let mut wide = |v: V<'c>| if narrow { b.unary("arith.extf", v, Ty::F64) } else { v };
    let (x, y) = (wide(x), y.map(&mut wide));
    let mut f = Wide { b };
    let v = match (function, y) {
        ("exp", None) => f.exp(x),
        ("expm1", None) => f.expm1(x),
        ("log", None) => f.log(x),
        ("log1p", None) => f.log1p(x),
        ("sin", None) => f.sin_cos(x).0,
        ("cos", None) => f.sin_cos(x).1,
        ("tan", None) => {
            let (s, c) = f.sin_cos(x);
            f.b.div(s, c)
        }
        ("asin", None) => f.asin(x),
        ("acos", None) => f.acos(x),
        ("atan", None) => f.atan(x),
        ("sinh", None) => f.sinh(x),
        ("cosh", None) => f.cosh(x),
        ("tanh", None) => f.tanh(x),
        ("asinh", None) => f.asinh(x),
        ("acosh", None) => f.acosh(x),
        ("atanh", None) => f.atanh(x),
        ("pow", Some(y)) => f.pow(x, y),
        ("atan2", Some(y)) => f.atan2(x, y),
        ("erf", None) => f.erf(x),
        ("erfc", None) => f.erfc(x),
        ("lgamma", None) => f.lgamma(x),
        ("digamma", None) => f.digamma(x),
        ("fmod", Some(y)) if narrow => f.fmod_narrow(x, y),
        ("fmod", Some(y)) => f.fmod(x, y),
        _ => return Err(refused()),
    };
    Ok(if narrow { b.unary("arith.truncf", v, Ty::F32) } else { v })
}

/// The square root of an f64, within one unit of the last place, for targets that have it for f32 alone.
pub fn sqrt<'c>(b: &mut Build<'c>, x: V<'c>) -> V<'c> {
    let mut f = Wide { b };
    // x = m * 4^e with m in [1, 4).
    let (zero, infinity) = (f.k(0.0), f.k(f64::INFINITY));
    let subnormal = f.b.cmp(Cond::Lt, x, f.k(f64::MIN_POSITIVE));
    let big = f.k(2f64.powi(108));
    let scaled = f.b.mul(x, big);
    let y = f.b.select(subnormal, scaled, x);
    let bits = f.b.unary("arith.bitcast", y, Ty::I64);
    let shift = f.int(52);
    let exponent = f.b.arith("arith.shrui", bits, shift);
    let bias = f.int(1023);
    let exponent = f.b.sub(exponent, bias);
    let one = f.int(1);
    let half = f.b.arith("arith.shrsi", exponent, one);
    let even = f.b.add(half, half);
    let m = f.scaled(y, even, true);
    let single = f.b.unary("arith.truncf", m, Ty::F32);
    let root = f.b.unary("math.sqrt", single, Ty::F32);
    let mut root = f.b.unary("arith.extf", root, Ty::F64);
    for _ in 0..2 {
        let q = f.b.div(m, root);
        let s = f.b.add(root, q);
        root = f.b.mul(s, f.k(0.5));
    }
    let small = f.int(54);
    let less = f.b.sub(half, small);
    let half = f.b.select(subnormal, less, half);
    let root = f.scaled(root, half, false);
    // Zeros and the infinity are their own roots.
    let own = f.b.cmp(Cond::Eq, x, zero);
    let root = f.b.select(own, x, root);
    let own = f.b.cmp(Cond::Eq, x, infinity);
    let root = f.b.select(own, x, root);
    let right = f.b.cmp(Cond::Ge, x, zero);
    f.b.select(right, root, f.k(f64::NAN))
}

/// An f64 rounded, for targets that round f32 alone.
pub fn round<'c>(b: &mut Build<'c>, how: Rounding, x: V<'c>) -> V<'c> {
    let mut f = Wide { b };
    let t = f.trunc(x);
    let one = f.k(1.0);
    let (less, more) = (f.b.sub(t, one), f.b.add(t, one));
    let v = match how {
        Rounding::Zero => return t,
        Rounding::Down => {
            let above = f.b.cmp(Cond::Gt, t, x);
            f.b.select(above, less, t)
        }
        Rounding::Up => {
            let below = f.b.cmp(Cond::Lt, t, x);
            f.b.select(below, more, t)
        }
        Rounding::Nearest => {
            let fraction = f.b.sub(x, t);
            let m = f.abs(fraction);
            let away = f.signed(one, x);
            let away = f.b.add(t, away);
            let half = f.b.mul(t, f.k(0.5));
            let even = f.is_whole(half);
            let tie = f.b.select(even, t, away);
            let v = f.select(Cond::Gt, m, 0.5, away, t);
            f.select(Cond::Eq, m, 0.5, tie, v)
        }
    };
    // What rounds to zero keeps its sign.
    let v = f.signed(v, x);
    let nan = f.b.cmp(Cond::Ne, x, x);
    f.b.select(nan, x, v)
}

/// Squarings and products; a negative exponent gives the quotient of one by the power, rounded to zero.
fn integer_power<'c>(b: &mut Build<'c>, x: V<'c>, y: V<'c>, signed: bool) -> V<'c> {
    let (zero, one) = (b.constant(0, Ty::I64), b.constant(1, Ty::I64));
    let (lo, hi, step) = (b.i32(0), b.i32(64), b.i32(1));
    let p = b.repeat(lo, hi, step, &[one, x, y], &mut |b, _, v| {
        let odd = b.arith("arith.andi", v[2], one);
        let odd = b.cmp(Cond::Ne, odd, zero);
        let more = b.mul(v[0], v[1]);
        vec![b.select(odd, more, v[0]), b.mul(v[1], v[1]), b.arith("arith.shrui", v[2], one)]
    })[0];
    if !signed {
        return p;
    }
    let minus = b.constant(-1i64 as u64, Ty::I64);
    let odd = b.arith("arith.andi", y, one);
    let odd = b.cmp(Cond::Ne, odd, zero);
    let of_minus = b.select(odd, minus, one);
    let is_minus = b.cmp(Cond::Eq, x, minus);
    let quotient = b.select(is_minus, of_minus, zero);
    let is_one = b.cmp(Cond::Eq, x, one);
    let quotient = b.select(is_one, one, quotient);
    let negative = b.cmp(Cond::Lt, y, zero);
    b.select(negative, quotient, p)
}
