//! Powers, logarithms, and functions of angles.

use super::sqrt;
use crate::build::{Build, V};
use crate::target::Flavour;
use graphc_cpu::tape::code::{Cond, Ty};
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

/// Functions of f64.
pub(super) struct Wide<'b, 'c> {
    pub b: &'b mut Build<'c>,
}

impl<'c> Wide<'_, 'c> {
    pub fn k(&self, v: f64) -> V<'c> {
        self.b.constant(v.to_bits(), Ty::F64)
    }

    pub fn int(&self, v: i64) -> V<'c> {
        self.b.constant(v as u64, Ty::I64)
    }

    pub fn poly(&mut self, x: V<'c>, c: &[f64]) -> V<'c> {
        let (last, rest) = c.split_last().unwrap_or((&0.0, &[]));
        let last = self.k(*last);
        rest.iter().rev().fold(last, |v, &c| {
            let c = self.k(c);
            self.b.fma(v, x, c)
        })
    }

    pub fn abs(&mut self, x: V<'c>) -> V<'c> {
        let bits = self.b.unary("arith.bitcast", x, Ty::I64);
        let mask = self.int(i64::MAX);
        let bits = self.b.and(bits, mask);
        self.b.unary("arith.bitcast", bits, Ty::F64)
    }

    /// `x` with the sign of `s`.
    pub fn signed(&mut self, x: V<'c>, s: V<'c>) -> V<'c> {
        let (x, s) = (self.abs(x), self.b.unary("arith.bitcast", s, Ty::I64));
        let x = self.b.unary("arith.bitcast", x, Ty::I64);
        let top = self.int(i64::MIN);
        let s = self.b.and(s, top);
        let v = self.b.arith("arith.ori", x, s);
        self.b.unary("arith.bitcast", v, Ty::F64)
    }

    /// The nearest integer, halves away from zero, for magnitudes below 2^62. Conversions round where additions of large numbers would
    /// too, but Vulkan's compilers take those for nothing.
    pub fn nearest(&mut self, x: V<'c>) -> V<'c> {
        let half = self.k(0.5);
        let half = self.signed(half, x);
        let v = self.b.add(x, half);
        self.b.unary("arith.fptosi", v, Ty::I64)
    }

    /// Rounded to zero; NaN and what has no fraction stay as they are.
    pub fn trunc(&mut self, x: V<'c>) -> V<'c> {
        let m = self.abs(x);
        let small = self.b.cmp(Cond::Lt, m, self.k(2f64.powi(52)));
        let safe = self.b.select(small, x, self.k(0.0));
        let t = self.b.unary("arith.fptosi", safe, Ty::I64);
        let t = self.b.unary("arith.sitofp", t, Ty::F64);
        let t = self.signed(t, x);
        self.b.select(small, t, x)
    }

    /// `x * 2^n`, or `x / 2^n`, for `n` within the normal exponents.
    pub fn scaled(&mut self, x: V<'c>, n: V<'c>, down: bool) -> V<'c> {
        let (bias, shift) = (self.int(1023), self.int(52));
        let e = if down { self.b.sub(bias, n) } else { self.b.add(n, bias) };
        let e = self.b.arith("arith.shli", e, shift);
        let power = self.b.unary("arith.bitcast", e, Ty::F64);
        self.b.mul(x, power)
    }

    pub fn select(&mut self, how: Cond, a: V<'c>, k: f64, x: V<'c>, y: V<'c>) -> V<'c> {
        let k = self.k(k);
        let m = self.b.cmp(how, a, k);
        self.b.select(m, x, y)
    }

    /// `x - n * ln 2` and `n`, for the nearest integer `n`.
    pub fn reduced(&mut self, x: V<'c>) -> (V<'c>, V<'c>) {
        let n = self.b.mul(x, self.k(LOG2_E));
        let whole = self.nearest(n);
        let n = self.b.unary("arith.sitofp", whole, Ty::F64);
        let high = self.k(-0.693_147_180_369_123_8);
        let low = self.k(-1.908_214_929_270_587_7e-10);
        let r = self.b.fma(n, high, x);
        let r = self.b.fma(n, low, r);
        (r, whole)
    }

    pub fn exp(&mut self, x: V<'c>) -> V<'c> {
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

    pub fn expm1(&mut self, x: V<'c>) -> V<'c> {
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

    pub fn log(&mut self, x: V<'c>) -> V<'c> {
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
    pub fn of_quotient(&mut self, s: V<'c>) -> V<'c> {
        let z = self.b.mul(s, s);
        // 2 s (1 + z/3 + z²/5 + …)
        let c: [f64; 12] = std::array::from_fn(|k| 2.0 / (2 * k + 3) as f64);
        let p = self.poly(z, &c);
        let p = self.b.mul(p, z);
        let p = self.b.mul(p, s);
        let twice = self.b.add(s, s);
        self.b.add(twice, p)
    }

    pub fn log1p(&mut self, x: V<'c>) -> V<'c> {
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
    pub fn sin_cos(&mut self, x: V<'c>) -> (V<'c>, V<'c>) {
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

    pub fn atan(&mut self, x: V<'c>) -> V<'c> {
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

    pub fn atan2(&mut self, y: V<'c>, x: V<'c>) -> V<'c> {
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

    pub fn root_of(&mut self, x: V<'c>) -> V<'c> {
        match self.b.flavour {
            Flavour::Spirv(_) => sqrt(self.b, x),
            Flavour::Ptx(_) => self.b.unary("math.sqrt", x, Ty::F64),
        }
    }

    pub fn asin(&mut self, x: V<'c>) -> V<'c> {
        let one = self.k(1.0);
        let (less, more) = (self.b.sub(one, x), self.b.add(one, x));
        let p = self.b.mul(less, more);
        let root = self.root_of(p);
        self.atan2(x, root)
    }

    pub fn acos(&mut self, x: V<'c>) -> V<'c> {
        let one = self.k(1.0);
        let (less, more) = (self.b.sub(one, x), self.b.add(one, x));
        let (less, more) = (self.root_of(less), self.root_of(more));
        let half = self.atan2(less, more);
        self.b.add(half, half)
    }

    pub fn sinh(&mut self, x: V<'c>) -> V<'c> {
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

    pub fn cosh(&mut self, x: V<'c>) -> V<'c> {
        let m = self.abs(x);
        let e = self.exp(m);
        let inverse = self.b.div(self.k(1.0), e);
        let s = self.b.add(e, inverse);
        self.b.mul(s, self.k(0.5))
    }

    pub fn tanh(&mut self, x: V<'c>) -> V<'c> {
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

    pub fn asinh(&mut self, x: V<'c>) -> V<'c> {
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

    pub fn acosh(&mut self, x: V<'c>) -> V<'c> {
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

    pub fn atanh(&mut self, x: V<'c>) -> V<'c> {
        let m = self.abs(x);
        let less = self.b.sub(self.k(1.0), m);
        let q = self.b.div(m, less);
        let twice = self.b.add(q, q);
        let v = self.log1p(twice);
        let v = self.b.mul(v, self.k(0.5));
        self.signed(v, x)
    }

    /// Within `|y log x|` units of the last place.
    pub fn pow(&mut self, x: V<'c>, y: V<'c>) -> V<'c> {
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
    pub fn is_whole(&mut self, x: V<'c>) -> V<'c> {
        let t = self.trunc(x);
        self.b.cmp(Cond::Eq, t, x)
    }
}
