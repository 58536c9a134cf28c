//! Error functions, the logarithm of the gamma function and its derivative, and remainders.
//!
//! Coefficients are computed here, from their definitions.

use super::elementary::Wide;
use crate::build::V;
use graphc_cpu::tape::code::{Cond, Ty};
use std::f64::consts::{FRAC_2_SQRT_PI, PI};
use std::sync::LazyLock;

/// Euler's constant.
const GAMMA: f64 = 0.577_215_664_901_532_9;

/// Of the powers of z from the first on in `lgamma(2 + z)`: `1 - γ`, and `(-1)^k (ζ(k) - 1) / k`. To magnitudes of 1/2.
static LGAMMA: LazyLock<[f64; 27]> = LazyLock::new(|| {
    std::array::from_fn(|i| match i as i32 + 1 {
        1 => 1.0 - GAMMA,
        k => f64::from(1 - 2 * (k % 2)) * zeta_less_one(k) / f64::from(k),
    })
});

/// Of 1/x, 1/x³, … in what Stirling's formula leaves of lgamma.
const STIRLING: [f64; 7] = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0, -691.0 / 360_360.0, 1.0 / 156.0];
/// Of 1/x², 1/x⁴, … in `ln x - 1/2x - digamma(x)`.
const DIGAMMA: [f64; 7] = [1.0 / 12.0, -1.0 / 120.0, 1.0 / 252.0, -1.0 / 240.0, 1.0 / 132.0, -691.0 / 32760.0, 1.0 / 12.0];
/// From where on those series are used: by then their last terms are below the last place.
const FAR: f64 = 10.5;

/// `2^-k + 3^-k + …`, by Euler's and Maclaurin's formula for the tail.
fn zeta_less_one(k: i32) -> f64 {
    const N: f64 = 60.0;
    let (kf, last) = (f64::from(k), N.powi(-k));
    let rising = |n: i32| (0..n).map(|i| f64::from(k + i)).product::<f64>();
    let tail = N * last / (kf - 1.0) + last / 2.0 + rising(1) * last / (12.0 * N) - rising(3) * last / (720.0 * N.powi(3))
        + rising(5) * last / (30240.0 * N.powi(5));
    (2..N as i32).rev().fold(tail, |sum, n| sum + f64::from(n).powi(-k))
}

/// Where [`Wide::erfc_far`] takes the integrand: a step, and the points of it.
const STEP: f64 = 0.5;
const POINTS: i32 = 13;

impl<'c> Wide<'_, 'c> {
    /// `erf(x)` for magnitudes up to 1/2, by its series.
    fn erf_near(&mut self, x: V<'c>) -> V<'c> {
        let mut factorial = 1.0;
        let c: [f64; 13] = std::array::from_fn(|k| {
            factorial *= if k == 0 { 1.0 } else { -(k as f64) };
            FRAC_2_SQRT_PI / (factorial * (2 * k + 1) as f64)
        });
        let z = self.b.mul(x, x);
        let p = self.poly(z, &c);
        self.b.mul(x, p)
    }

    /// `erfc(x)` for x from 1/2 on: `x/π` times the integral of `exp(-x² - t²) / (x² + t²)` by points between which the step is even. What the rule
    /// leaves is known, and positive as all its terms are, so nothing cancels.
    fn erfc_far(&mut self, x: V<'c>) -> V<'c> {
        let square = self.b.mul(x, x);
        let mut sum = self.k(0.0);
        for i in (0..POINTS).rev() {
            let t = (f64::from(i) + 0.5) * STEP;
            let down = self.b.add(square, self.k(t * t));
            let part = self.b.div(self.k(2.0 * STEP / PI * (-t * t).exp()), down);
            sum = self.b.add(sum, part);
        }
        let sum = self.b.mul(sum, x);
        let e = self.exp_of_square(x);
        let v = self.b.mul(sum, e);
        let turn = self.b.mul(x, self.k(2.0 * PI / STEP));
        let e = self.exp(turn);
        let down = self.b.add(e, self.k(1.0));
        let rest = self.b.div(self.k(2.0), down);
        // Beyond, the rule alone is right to all digits, and this is no longer what it leaves.
        let zero = self.k(0.0);
        let rest = self.select(Cond::Lt, x, 6.0, rest, zero);
        self.b.add(v, rest)
    }

    /// `exp(-x²)`, with the digits of the square that f64 does not hold.
    fn exp_of_square(&mut self, x: V<'c>) -> V<'c> {
        let bits = self.b.unary("arith.bitcast", x, Ty::I64);
        let mask = self.int(!((1 << 27) - 1));
        let bits = self.b.and(bits, mask);
        let high = self.b.unary("arith.bitcast", bits, Ty::F64);
        let square = self.b.mul(high, high);
        let negative = self.b.sub(self.k(-0.0), square);
        let e = self.exp(negative);
        let (less, more) = (self.b.sub(high, x), self.b.add(x, high));
        let low = self.b.mul(less, more);
        let p = self.poly(low, &[1.0, 1.0, 0.5, 1.0 / 6.0]);
        self.b.mul(e, p)
    }

    pub fn erf(&mut self, x: V<'c>) -> V<'c> {
        let m = self.abs(x);
        let near = self.erf_near(x);
        let six = self.k(6.0);
        let y = self.select(Cond::Lt, m, 6.0, m, six);
        let far = self.erfc_far(y);
        let far = self.b.sub(self.k(1.0), far);
        let far = self.signed(far, x);
        let v = self.select(Cond::Lt, m, 0.5, near, far);
        let nan = self.b.cmp(Cond::Ne, x, x);
        self.b.select(nan, x, v)
    }

    pub fn erfc(&mut self, x: V<'c>) -> V<'c> {
        let m = self.abs(x);
        let near = self.erf_near(x);
        let near = self.b.sub(self.k(1.0), near);
        let most = self.k(28.0);
        let y = self.select(Cond::Lt, m, 28.0, m, most);
        let far = self.erfc_far(y);
        let other = self.b.sub(self.k(2.0), far);
        let far = self.select(Cond::Lt, x, 0.0, other, far);
        let v = self.select(Cond::Lt, m, 0.5, near, far);
        let nan = self.b.cmp(Cond::Ne, x, x);
        self.b.select(nan, x, v)
    }

    /// The logarithm of the absolute gamma function.
    pub fn lgamma(&mut self, x: V<'c>) -> V<'c> {
        let m = self.abs(x);
        let v = self.lgamma_right(m);
        // To the left of zero: π / (m sin(π m) Γ(m)).
        let whole = self.trunc(m);
        let f = self.b.sub(m, whole);
        let rest = self.b.sub(self.k(1.0), f);
        let f = self.select(Cond::Gt, f, 0.5, rest, f);
        let angle = self.b.mul(f, self.k(PI));
        let s = self.sin_cos(angle).0;
        let (s, l) = (self.log(s), self.log(m));
        let sum = self.b.add(s, l);
        let sum = self.b.add(sum, v);
        let left = self.b.sub(self.k(PI.ln()), sum);
        let infinity = self.k(f64::INFINITY);
        let left = self.select(Cond::Lt, m, 2f64.powi(52), left, infinity);
        let v = self.select(Cond::Lt, x, 0.0, left, v);
        let nan = self.b.cmp(Cond::Ne, x, x);
        self.b.select(nan, x, v)
    }

    /// As [`Wide::lgamma`], of what is not negative.
    fn lgamma_right(&mut self, x: V<'c>) -> V<'c> {
        // Down to 2.5, and the product of what was passed.
        let (lo, hi, step, one) = (self.b.i32(0), self.b.i32(8), self.b.i32(1), self.k(1.0));
        let start = self.select(Cond::Lt, x, FAR, x, one);
        let down = self.b.repeat(lo, hi, step, &[start, one], &mut |b, _, v| {
            let f = Wide { b };
            let (more, less) = (f.b.cmp(Cond::Gt, v[0], f.k(2.5)), f.b.sub(v[0], f.k(1.0)));
            let product = f.b.mul(v[1], less);
            vec![f.b.select(more, less, v[0]), f.b.select(more, product, v[1])]
        });
        let (y, product) = (down[0], down[1]);
        let by_one = self.b.sub(y, one);
        let by_two = self.b.sub(y, self.k(2.0));
        let z = self.select(Cond::Lt, y, 1.5, by_one, by_two);
        let z = self.select(Cond::Lt, y, 0.5, y, z);
        let p = self.poly(z, &*LGAMMA);
        let p = self.b.mul(p, z);
        let l = self.log1p(z);
        let less = self.b.sub(p, l);
        let near = self.select(Cond::Lt, y, 1.5, less, p);
        let small = self.small(y);
        let inverse = self.b.select(small, y, product);
        let l = self.log(inverse);
        let (sum, rest) = (self.b.add(near, l), self.b.sub(near, l));
        let near = self.select(Cond::Lt, y, 0.5, rest, sum);
        // Stirling's formula.
        let r = self.b.div(one, x);
        let z = self.b.mul(r, r);
        let p = self.poly(z, &STIRLING);
        let p = self.b.mul(p, r);
        let l = self.log(x);
        let l = self.b.sub(l, one);
        let most = self.b.sub(x, self.k(0.5));
        let far = self.b.mul(most, l);
        let p = self.b.add(p, self.k(0.5 * (2.0 * PI).ln() - 0.5));
        let far = self.b.add(far, p);
        self.select(Cond::Lt, x, FAR, near, far)
    }

    /// The derivative of lgamma: NaN at its poles.
    pub fn digamma(&mut self, x: V<'c>) -> V<'c> {
        let (zero, one) = (self.k(0.0), self.k(1.0));
        let turned = self.b.sub(one, x);
        let y = self.select(Cond::Lt, x, 0.0, turned, x);
        let (lo, hi, step) = (self.b.i32(0), self.b.i32(11), self.b.i32(1));
        let up = self.b.repeat(lo, hi, step, &[y, zero], &mut |b, _, v| {
            let f = Wide { b };
            let (less, next) = (f.b.cmp(Cond::Lt, v[0], f.k(FAR)), f.b.add(v[0], f.k(1.0)));
            let part = f.b.div(f.k(1.0), v[0]);
            let sum = f.b.sub(v[1], part);
            vec![f.b.select(less, next, v[0]), f.b.select(less, sum, v[1])]
        });
        let r = self.b.div(one, up[0]);
        let z = self.b.mul(r, r);
        let p = self.poly(z, &DIGAMMA);
        let p = self.b.mul(p, z);
        let l = self.log(up[0]);
        let half = self.b.mul(r, self.k(0.5));
        let v = self.b.add(up[1], l);
        let v = self.b.sub(v, half);
        let v = self.b.sub(v, p);
        // To the left of zero less π / tan(π x).
        let whole = self.trunc(x);
        let f = self.b.sub(x, whole);
        let angle = self.b.mul(f, self.k(PI));
        let (s, c) = self.sin_cos(angle);
        let slope = self.b.div(c, s);
        let slope = self.b.mul(slope, self.k(PI));
        let left = self.b.sub(v, slope);
        let nan = self.k(f64::NAN);
        let left = self.select(Cond::Eq, f, 0.0, nan, left);
        let v = self.select(Cond::Lt, x, 0.0, left, v);
        let v = self.select(Cond::Eq, x, 0.0, nan, v);
        self.select(Cond::Eq, x, f64::NEG_INFINITY, nan, v)
    }

    /// The remainder of f64 numbers, exact: by long division of their digits, eleven bits a step.
    pub fn fmod(&mut self, x: V<'c>, y: V<'c>) -> V<'c> {
        const BITS: i64 = 11;
        let (m, n) = (self.abs(x), self.abs(y));
        let ((digits, e), (divisor, e_divisor)) = (self.digits(m), self.digits(n));
        // What is not divided has digits all the same.
        let one = self.int(1);
        let zero = self.int(0);
        let some = self.b.cmp(Cond::Ne, divisor, zero);
        let divisor = self.b.select(some, divisor, one);
        let by = self.b.sub(e, e_divisor);
        let greater = self.b.cmp(Cond::Ge, by, zero);
        let by = self.b.select(greater, by, zero);
        let narrow = self.b.unary("arith.trunci", by, Ty::I32);
        let first = self.b.arith("arith.remui", digits, divisor);
        let (lo, step) = (self.b.i32(0), self.b.i32(BITS));
        let r = self.b.repeat(lo, narrow, step, &[first], &mut |b, done, r| {
            let left = b.sub(narrow, done);
            let shift = b.min(left, step);
            let shift = b.wide(shift);
            let r = b.arith("arith.shli", r[0], shift);
            vec![b.arith("arith.remui", r, divisor)]
        })[0];
        let r = self.b.unary("arith.sitofp", r, Ty::F64);
        // In two steps, neither of which leaves the normal exponents.
        let half = self.b.arith("arith.shrsi", e_divisor, one);
        let rest = self.b.sub(e_divisor, half);
        let r = self.scaled(r, half, false);
        let r = self.scaled(r, rest, false);
        let less = self.b.cmp(Cond::Lt, m, n);
        let r = self.b.select(less, m, r);
        let r = self.signed(r, x);
        // By zero, and of infinities: NaN.
        let nan = self.k(f64::NAN);
        let r = self.select(Cond::Lt, m, f64::INFINITY, r, nan);
        let r = self.select(Cond::Gt, n, 0.0, r, nan);
        let bad = self.b.cmp(Cond::Ne, y, y);
        self.b.select(bad, y, r)
    }

    /// The 53 digits of what is not negative, and the exponent of the last.
    fn digits(&mut self, x: V<'c>) -> (V<'c>, V<'c>) {
        const DIGITS: i64 = 52;
        let bits = self.b.unary("arith.bitcast", x, Ty::I64);
        let (shift, mask, top) = (self.int(DIGITS), self.int((1 << DIGITS) - 1), self.int(1 << DIGITS));
        let e = self.b.arith("arith.shrui", bits, shift);
        let fraction = self.b.and(bits, mask);
        let (zero, one) = (self.int(0), self.int(1));
        let subnormal = self.b.cmp(Cond::Eq, e, zero);
        let whole = self.b.arith("arith.ori", fraction, top);
        let digits = self.b.select(subnormal, fraction, whole);
        let e = self.b.select(subnormal, one, e);
        let bias = self.int(1023 + DIGITS);
        (digits, self.b.sub(e, bias))
    }

    fn small(&mut self, y: V<'c>) -> V<'c> {
        self.b.cmp(Cond::Lt, y, self.k(0.5))
    }

    /// The remainder of f32 numbers, exact: each step takes off a multiple whose product has no more digits than f64 holds.
    pub fn fmod_narrow(&mut self, x: V<'c>, y: V<'c>) -> V<'c> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coefficients_are_what_they_are_called() {
        let close = |x: f64, y: f64| assert!((x / y - 1.0).abs() < 8e-15, "{x} {y}");
        close(zeta_less_one(2), PI * PI / 6.0 - 1.0);
        close(zeta_less_one(4), PI.powi(4) / 90.0 - 1.0);
        close(zeta_less_one(30), (2..9).map(|n| f64::from(n).powi(-30)).sum());
        // lgamma(2.5) = ln(3 √π / 4)
        let p = LGAMMA.iter().rev().fold(0.0, |p, c| (p + c) * 0.5);
        close(p, (0.75 * PI.sqrt()).ln());
    }
}
