//! Scalar functions that GPUs have no exact form of: computed in f64 by argument reduction and polynomials, and rounded once.
//!
//! Results are within about two units of the last place of f64 where nothing else is said, so those of f32 are rounded correctly but for
//! ties. They need no library of any target.

use crate::build::{Build, V};
use crate::target::Flavour;
use graphc_cpu::tape::code::{Cond, Rounding, Ty};
use std::f64::consts::{FRAC_PI_2, FRAC_PI_6, LN_2, LOG2_E, PI};

/// Powers of x in sin(x) / x and cos(x), of x^2.
const SIN: [f64; 9] = series(1);
const COS: [f64; 9] = series(0);
/// Of x in exp(x).
const EXP: [f64; 15] = factorials();

/// `(-1)^k / (2 k + first)!`.
const fn series(first: usize) -> [f64; 9] {
    let mut c = [1.0; 9];
    let mut k = 1;
    while k < 9 {
        let n = 2 * k + first;
        c[k] = -c[k - 1] / ((n - 1) * n) as f64;
        k += 1;
    }
    c
}

/// `1 / k!`.
const fn factorials() -> [f64; 15] {
    let mut c = [1.0; 15];
    let mut k = 1;
    while k < 15 {
        c[k] = c[k - 1] / k as f64;
        k += 1;
    }
    c
}

/// Whether [`call`] has a function of the CPU library's name.
pub fn has(name: &str) -> bool {
    let (name, ty) = name.trim_start_matches("gc_scalar_").rsplit_once('_').unwrap_or_default();
    match ty {
        "f32" | "f64" if name == "fmod" => ty == "f32",
        "f32" | "f64" => FUNCTIONS.contains(&name),
        "i64" | "u64" => name == "pow",
        _ => false,
    }
}

const FUNCTIONS: [&str; 18] = [
    "exp", "expm1", "log", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh",
    "pow", "atan2",
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

/// Functions of f64.
struct Wide<'b, 'c> {
    b: &'b mut Build<'c>,
}

impl<'c> Wide<'_, 'c> {
    fn k(&self, v: f64) -> V<'c> {
        self.b.constant(v.to_bits(), Ty::F64)
    }

    fn int(&self, v: i64) -> V<'c> {
        self.b.constant(v as u64, Ty::I64)
    }

    fn poly(&mut self, x: V<'c>, c: &[f64]) -> V<'c> {
        let (last, rest) = c.split_last().unwrap_or((&0.0, &[]));
        let last = self.k(*last);
        rest.iter().rev().fold(last, |v, &c| {
            let c = self.k(c);
            self.b.fma(v, x, c)
        })
    }

    fn abs(&mut self, x: V<'c>) -> V<'c> {
        let bits = self.b.unary("arith.bitcast", x, Ty::I64);
        let mask = self.int(i64::MAX);
        let bits = self.b.and(bits, mask);
        self.b.unary("arith.bitcast", bits, Ty::F64)
    }

    /// `x` with the sign of `s`.
    fn signed(&mut self, x: V<'c>, s: V<'c>) -> V<'c> {
        let (x, s) = (self.abs(x), self.b.unary("arith.bitcast", s, Ty::I64));
        let x = self.b.unary("arith.bitcast", x, Ty::I64);
        let top = self.int(i64::MIN);
        let s = self.b.and(s, top);
        let v = self.b.arith("arith.ori", x, s);
        self.b.unary("arith.bitcast", v, Ty::F64)
    }

    /// The nearest integer, halves away from zero, for magnitudes below 2^62. Conversions round where additions of large numbers would
    /// too, but Vulkan's compilers take those for nothing.
    fn nearest(&mut self, x: V<'c>) -> V<'c> {
        let half = self.k(0.5);
        let half = self.signed(half, x);
        let v = self.b.add(x, half);
        self.b.unary("arith.fptosi", v, Ty::I64)
    }

    /// Rounded to zero; NaN and what has no fraction stay as they are.
    fn trunc(&mut self, x: V<'c>) -> V<'c> {
        let m = self.abs(x);
        let small = self.b.cmp(Cond::Lt, m, self.k(2f64.powi(52)));
        let safe = self.b.select(small, x, self.k(0.0));
        let t = self.b.unary("arith.fptosi", safe, Ty::I64);
        let t = self.b.unary("arith.sitofp", t, Ty::F64);
        let t = self.signed(t, x);
        self.b.select(small, t, x)
    }

    /// `x * 2^n`, or `x / 2^n`, for `n` within the normal exponents.
    fn scaled(&mut self, x: V<'c>, n: V<'c>, down: bool) -> V<'c> {
        let (bias, shift) = (self.int(1023), self.int(52));
        let e = if down { self.b.sub(bias, n) } else { self.b.add(n, bias) };
        let e = self.b.arith("arith.shli", e, shift);
        let power = self.b.unary("arith.bitcast", e, Ty::F64);
        self.b.mul(x, power)
    }

    fn select(&mut self, how: Cond, a: V<'c>, k: f64, x: V<'c>, y: V<'c>) -> V<'c> {
        let k = self.k(k);
        let m = self.b.cmp(how, a, k);
        self.b.select(m, x, y)
    }

    /// `x - n * ln 2` and `n`, for the nearest integer `n`.
    fn reduced(&mut self, x: V<'c>) -> (V<'c>, V<'c>) {
        let n = self.b.mul(x, self.k(LOG2_E));
        let whole = self.nearest(n);
        let n = self.b.unary("arith.sitofp", whole, Ty::F64);
        let high = self.k(-0.693_147_180_369_123_8);
        let low = self.k(-1.908_214_929_270_587_7e-10);
        let r = self.b.fma(n, high, x);
        let r = self.b.fma(n, low, r);
        (r, whole)
    }

    fn exp(&mut self, x: V<'c>) -> V<'c> {
        let (low, high) = (self.k(-750.0), self.k(710.0));
        let y = self.select(Cond::Gt, x, -750.0, x, low);
        let y = self.select(Cond::Lt, y, 710.0, y, high);
        let (r, n) = self.reduced(y);
        let v = self.poly(r, &EXP);
        let one = self.int(1);
        let half = self.b.arith("arith.shrsi", n, one);
        let rest = self.b.sub(n, half);
        let v = self.scaled(v, half, false);
        let v = self.scaled(v, rest, false);
        let nan = self.b.cmp(Cond::Ne, x, x);
        self.b.select(nan, x, v)
    }

    fn expm1(&mut self, x: V<'c>) -> V<'c> {
        let e = self.exp(x);
        let far = self.b.sub(e, self.k(1.0));
        // x (1 + x/2 + x²/6 + …)
        let mut c = [0.0; 14];
        c.copy_from_slice(&EXP[1..]);
        let p = self.poly(x, &c);
        let near = self.b.mul(x, p);
        let m = self.abs(x);
        self.select(Cond::Lt, m, 0.35, near, far)
    }

    fn log(&mut self, x: V<'c>) -> V<'c> {
        let big = self.k(2f64.powi(54));
        let scaled = self.b.mul(x, big);
        let y = self.select(Cond::Lt, x, f64::MIN_POSITIVE, scaled, x);
        let bits = self.b.unary("arith.bitcast", y, Ty::I64);
        // The mantissa in [1/√2, √2), and the exponent that is left.
        let offset = self.int(0x3fe6_a09e_667f_3bcd);
        let above = self.b.sub(bits, offset);
        let shift = self.int(52);
        let n = self.b.arith("arith.shrsi", above, shift);
        let back = self.b.arith("arith.shli", n, shift);
        let m = self.b.sub(bits, back);
        let m = self.b.unary("arith.bitcast", m, Ty::F64);
        let n = self.b.unary("arith.sitofp", n, Ty::F64);
        let less = self.b.sub(n, self.k(54.0));
        let n = self.select(Cond::Lt, x, f64::MIN_POSITIVE, less, n);
        let one = self.k(1.0);
        let (over, under) = (self.b.sub(m, one), self.b.add(m, one));
        let s = self.b.div(over, under);
        let v = self.of_quotient(s);
        let low = self.k(1.908_214_929_270_587_7e-10);
        let v = self.b.fma(n, low, v);
        let high = self.k(0.693_147_180_369_123_8);
        let v = self.b.fma(n, high, v);
        let (zero, infinity) = (self.k(f64::NEG_INFINITY), self.k(f64::INFINITY));
        let v = self.select(Cond::Eq, x, f64::INFINITY, infinity, v);
        let v = self.select(Cond::Eq, x, 0.0, zero, v);
        let nan = self.k(f64::NAN);
        self.select(Cond::Ge, x, 0.0, v, nan)
    }

    /// `log((1 + s) / (1 - s))` for magnitudes up to 0.18.
    fn of_quotient(&mut self, s: V<'c>) -> V<'c> {
        let z = self.b.mul(s, s);
        // 2 s (1 + z/3 + z²/5 + …)
        let c: [f64; 12] = std::array::from_fn(|k| 2.0 / (2 * k + 3) as f64);
        let p = self.poly(z, &c);
        let p = self.b.mul(p, z);
        let p = self.b.mul(p, s);
        let twice = self.b.add(s, s);
        self.b.add(twice, p)
    }

    fn log1p(&mut self, x: V<'c>) -> V<'c> {
        let u = self.b.add(x, self.k(1.0));
        let far = self.log(u);
        // Near one the series of the logarithm, which needs no sum that loses digits.
        let down = self.b.add(x, self.k(2.0));
        let s = self.b.div(x, down);
        let near = self.of_quotient(s);
        let m = self.abs(x);
        self.select(Cond::Lt, m, 0.35, near, far)
    }

    /// Sine and cosine. Magnitudes beyond 2^30 lose digits to the reduction.
    fn sin_cos(&mut self, x: V<'c>) -> (V<'c>, V<'c>) {
        let n = self.b.mul(x, self.k(1.0 / FRAC_PI_2));
        let whole = self.nearest(n);
        let n = self.b.unary("arith.sitofp", whole, Ty::F64);
        let mut r = x;
        // π/2 in three pieces, of which the first two have 33 bits.
        for part in [1.570_796_326_734_125_6, 6.077_100_506_303_966e-11, 2.022_266_248_795_950_6e-21] {
            let part = self.k(-part);
            r = self.b.fma(n, part, r);
        }
        let z = self.b.mul(r, r);
        let s = self.poly(z, &SIN);
        let s = self.b.mul(s, r);
        let c = self.poly(z, &COS);
        let n = whole;
        let (zero, one, two) = (self.int(0), self.int(1), self.int(2));
        let swap = self.b.and(n, one);
        let swap = self.b.cmp(Cond::Ne, swap, zero);
        let (sin, cos) = (self.b.select(swap, c, s), self.b.select(swap, s, c));
        let negate = |f: &mut Self, v: V<'c>, n: V<'c>| {
            let bit = f.b.and(n, two);
            let bit = f.b.cmp(Cond::Ne, bit, zero);
            let minus = f.b.sub(f.k(-0.0), v);
            f.b.select(bit, minus, v)
        };
        let sin = negate(self, sin, n);
        let next = self.b.add(n, one);
        let cos = negate(self, cos, next);
        // Of infinities: NaN.
        let m = self.abs(x);
        let nan = self.b.sub(x, x);
        (self.select(Cond::Lt, m, f64::INFINITY, sin, nan), self.select(Cond::Lt, m, f64::INFINITY, cos, nan))
    }

    fn atan(&mut self, x: V<'c>) -> V<'c> {
        let m = self.abs(x);
        let one = self.k(1.0);
        let inverse = self.b.div(one, m);
        let far = self.b.cmp(Cond::Gt, m, one);
        let y = self.b.select(far, inverse, m);
        // tan(π/12)
        let root = self.k(3f64.sqrt());
        let up = self.b.mul(y, root);
        let up = self.b.sub(up, one);
        let down = self.b.add(y, root);
        let turned = self.b.div(up, down);
        let middle = self.b.cmp(Cond::Gt, y, self.k(0.267_949_192_431_122_7));
        let t = self.b.select(middle, turned, y);
        let z = self.b.mul(t, t);
        let c: [f64; 15] = std::array::from_fn(|k| if k % 2 == 0 { 1.0 } else { -1.0 } / (2 * k + 1) as f64);
        let p = self.poly(z, &c);
        let v = self.b.mul(p, t);
        let more = self.b.add(v, self.k(FRAC_PI_6));
        let v = self.b.select(middle, more, v);
        let right = self.k(FRAC_PI_2);
        let rest = self.b.sub(right, v);
        let v = self.b.select(far, rest, v);
        let v = self.signed(v, x);
        let nan = self.b.cmp(Cond::Ne, x, x);
        self.b.select(nan, x, v)
    }

    fn atan2(&mut self, y: V<'c>, x: V<'c>) -> V<'c> {
        let (m, n) = (self.abs(y), self.abs(x));
        let (zero, one) = (self.k(0.0), self.k(1.0));
        // Equal magnitudes, zeros and infinities among them, have the quotient one; none of zero by zero.
        let q = self.b.div(m, n);
        let same = self.b.cmp(Cond::Eq, m, n);
        let q = self.b.select(same, one, q);
        let none = self.b.cmp(Cond::Eq, m, zero);
        let q = self.b.select(none, zero, q);
        let a = self.atan(q);
        let bits = self.b.unary("arith.bitcast", x, Ty::I64);
        let left = self.b.cmp(Cond::Lt, bits, self.int(0));
        let turned = self.b.sub(self.k(PI), a);
        let a = self.b.select(left, turned, a);
        let v = self.signed(a, y);
        let sum = self.b.add(x, y);
        let nan_x = self.b.cmp(Cond::Ne, x, x);
        let nan_y = self.b.cmp(Cond::Ne, y, y);
        let v = self.b.select(nan_x, sum, v);
        self.b.select(nan_y, sum, v)
    }

    fn root_of(&mut self, x: V<'c>) -> V<'c> {
        match self.b.flavour {
            Flavour::Spirv(_) => sqrt(self.b, x),
            Flavour::Ptx(_) => self.b.unary("math.sqrt", x, Ty::F64),
        }
    }

    fn asin(&mut self, x: V<'c>) -> V<'c> {
        let one = self.k(1.0);
        let (less, more) = (self.b.sub(one, x), self.b.add(one, x));
        let p = self.b.mul(less, more);
        let root = self.root_of(p);
        self.atan2(x, root)
    }

    fn acos(&mut self, x: V<'c>) -> V<'c> {
        let one = self.k(1.0);
        let (less, more) = (self.b.sub(one, x), self.b.add(one, x));
        let (less, more) = (self.root_of(less), self.root_of(more));
        let half = self.atan2(less, more);
        self.b.add(half, half)
    }

    fn sinh(&mut self, x: V<'c>) -> V<'c> {
        let m = self.abs(x);
        let t = self.expm1(m);
        let more = self.b.add(t, self.k(1.0));
        let q = self.b.div(t, more);
        let s = self.b.add(t, q);
        let s = self.b.mul(s, self.k(0.5));
        let infinity = self.k(f64::INFINITY);
        let s = self.select(Cond::Eq, t, f64::INFINITY, infinity, s);
        let s = self.signed(s, x);
        let nan = self.b.cmp(Cond::Ne, x, x);
        self.b.select(nan, x, s)
    }

    fn cosh(&mut self, x: V<'c>) -> V<'c> {
        let m = self.abs(x);
        let e = self.exp(m);
        let inverse = self.b.div(self.k(1.0), e);
        let s = self.b.add(e, inverse);
        self.b.mul(s, self.k(0.5))
    }

    fn tanh(&mut self, x: V<'c>) -> V<'c> {
        let m = self.abs(x);
        let twice = self.b.add(m, m);
        let t = self.expm1(twice);
        let more = self.b.add(t, self.k(2.0));
        let v = self.b.div(t, more);
        let one = self.k(1.0);
        let v = self.select(Cond::Gt, m, 22.0, one, v);
        let v = self.signed(v, x);
        let nan = self.b.cmp(Cond::Ne, x, x);
        self.b.select(nan, x, v)
    }

    fn asinh(&mut self, x: V<'c>) -> V<'c> {
        let m = self.abs(x);
        let square = self.b.mul(m, m);
        let one = self.k(1.0);
        let root = self.b.add(square, one);
        let root = self.root_of(root);
        let down = self.b.add(root, one);
        let q = self.b.div(square, down);
        let sum = self.b.add(m, q);
        let near = self.log1p(sum);
        let far = self.log(m);
        let far = self.b.add(far, self.k(LN_2));
        let v = self.select(Cond::Gt, m, 1e9, far, near);
        let v = self.signed(v, x);
        let nan = self.b.cmp(Cond::Ne, x, x);
        self.b.select(nan, x, v)
    }

    fn acosh(&mut self, x: V<'c>) -> V<'c> {
        let t = self.b.sub(x, self.k(1.0));
        let two = self.k(2.0);
        let sum = self.b.add(t, two);
        let p = self.b.mul(t, sum);
        let root = self.root_of(p);
        let sum = self.b.add(t, root);
        let near = self.log1p(sum);
        let far = self.log(x);
        let far = self.b.add(far, self.k(LN_2));
        self.select(Cond::Gt, x, 1e9, far, near)
    }

    fn atanh(&mut self, x: V<'c>) -> V<'c> {
        let m = self.abs(x);
        let less = self.b.sub(self.k(1.0), m);
        let q = self.b.div(m, less);
        let twice = self.b.add(q, q);
        let v = self.log1p(twice);
        let v = self.b.mul(v, self.k(0.5));
        self.signed(v, x)
    }

    /// Within `|y log x|` units of the last place.
    fn pow(&mut self, x: V<'c>, y: V<'c>) -> V<'c> {
        let m = self.abs(x);
        let l = self.log(m);
        let e = self.b.mul(y, l);
        let (zero, one) = (self.k(0.0), self.k(1.0));
        // An exponent of zero and a base of one give one, whatever the other is; so does 0 · ∞ in the product.
        let v = self.exp(e);
        // Of a negative base only whole exponents have powers: odd ones keep the sign.
        let half = self.b.mul(y, self.k(0.5));
        let (whole, even) = (self.is_whole(y), self.is_whole(half));
        let top = self.b.unary("arith.bitcast", x, Ty::I64);
        let negative = self.b.cmp(Cond::Lt, top, self.int(0));
        let minus = self.b.sub(zero, v);
        let minus = self.b.select(even, v, minus);
        let nan = self.k(f64::NAN);
        let is_zero = self.b.cmp(Cond::Eq, m, zero);
        let is_infinite = self.b.cmp(Cond::Eq, m, self.k(f64::INFINITY));
        let plain = self.b.select(is_zero, v, nan);
        let plain = self.b.select(is_infinite, v, plain);
        let of_negative = self.b.select(whole, minus, plain);
        let v = self.b.select(negative, of_negative, v);
        // (-1)^±∞ is one.
        let is_one = self.b.cmp(Cond::Eq, m, one);
        let n = self.abs(y);
        let endless = self.b.cmp(Cond::Eq, n, self.k(f64::INFINITY));
        let both = self.b.and(is_one, endless);
        let v = self.b.select(both, one, v);
        let nan = self.b.cmp(Cond::Ne, x, x);
        let v = self.b.select(nan, x, v);
        let v = self.select(Cond::Eq, x, 1.0, one, v);
        self.select(Cond::Eq, y, 0.0, one, v)
    }

    /// Whether `x` is an integer; large magnitudes and infinities are.
    fn is_whole(&mut self, x: V<'c>) -> V<'c> {
        let t = self.trunc(x);
        self.b.cmp(Cond::Eq, t, x)
    }

    /// The remainder of f32 numbers, exact: each step takes off a multiple whose product has no more digits than f64 holds.
    fn fmod(&mut self, x: V<'c>, y: V<'c>) -> V<'c> {
        /// Steps for the greatest quotient, of 25 digits each at least.
        const STEPS: i64 = 12;
        let (m, n) = (self.abs(x), self.abs(y));
        let (lo, hi, one) = (self.b.i32(0), self.b.i32(STEPS), self.b.i32(1));
        let mask = self.int(!((1 << 27) - 1));
        let zero = self.k(0.0);
        let r = self.b.repeat(lo, hi, one, &[m], &mut |b, _, r| {
            let mut f = Wide { b };
            let q = f.b.div(r[0], n);
            // Not above the quotient: 25 digits, and whole.
            let bits = f.b.unary("arith.bitcast", q, Ty::I64);
            let bits = f.b.and(bits, mask);
            let q = f.b.unary("arith.bitcast", bits, Ty::F64);
            let q = f.trunc(q);
            let p = f.b.mul(q, n);
            let next = f.b.sub(r[0], p);
            let more = f.b.cmp(Cond::Ge, r[0], n);
            vec![f.b.select(more, next, r[0])]
        })[0];
        let r = self.signed(r, x);
        // By zero, and of infinities: NaN. By an infinity: x.
        let nan = self.k(f64::NAN);
        let r = self.select(Cond::Eq, n, f64::INFINITY, x, r);
        let r = self.select(Cond::Lt, m, f64::INFINITY, r, nan);
        let some = self.b.cmp(Cond::Gt, n, zero);
        let r = self.b.select(some, r, nan);
        let bad = self.b.cmp(Cond::Ne, y, y);
        self.b.select(bad, y, r)
    }
}
