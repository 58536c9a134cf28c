//! Functions of complex numbers as tapes over their parts.
//!
//! The parts are f64, except in `mul`. The inverse functions follow W. Kahan, "Branch cuts for complex elementary functions"; they lose no
//! digits where parts cancel.

use graphc_ir::Elem;
use graphc_ir::tape::{Bin, Cmp, T, Tape, Un};
use std::f64::consts::{FRAC_PI_2, LN_2};

/// Real and imaginary part.
pub type Pair = (T, T);

/// Beyond this magnitude 1 + z and z are the same, and squares might overflow.
const LARGE: f64 = 1e100;

/// The function of one argument for `op`; `None` for what complex numbers do not have.
pub fn function(op: Un) -> Option<fn(&mut Tape, Pair) -> Pair> {
    Some(match op {
        Un::Sign => sign,
        Un::Sqrt => sqrt,
        Un::Exp => exp,
        Un::Expm1 => expm1,
        Un::Log => log,
        Un::Log1p => log1p,
        Un::Sin => |t, z| turned(t, z, sinh),
        Un::Cos => |t, z| {
            let z = (t.un(Un::Neg, z.1), z.0);
            cosh(t, z)
        },
        Un::Tan => |t, z| turned(t, z, tanh),
        Un::Asin => |t, z| turned(t, z, asinh),
        Un::Acos => acos,
        Un::Atan => |t, z| turned(t, z, atanh),
        Un::Sinh => sinh,
        Un::Cosh => cosh,
        Un::Tanh => tanh,
        Un::Asinh => asinh,
        Un::Acosh => acosh,
        Un::Atanh => atanh,
        _ => return None,
    })
}

/// `f` turned by a quarter: -i f(iz).
fn turned(t: &mut Tape, (a, b): Pair, f: fn(&mut Tape, Pair) -> Pair) -> Pair {
    let minus_b = t.un(Un::Neg, b);
    let (re, im) = f(t, (minus_b, a));
    (im, t.un(Un::Neg, re))
}

fn real(t: &mut Tape, v: f64) -> T {
    t.constant_of(v, Elem::F64)
}

/// `k * x`.
fn times_k(t: &mut Tape, x: T, k: f64) -> T {
    let k = real(t, k);
    t.mul(x, k)
}

/// `x + k`.
fn plus_k(t: &mut Tape, x: T, k: f64) -> T {
    let k = real(t, k);
    t.add(x, k)
}

/// `x` compared with a constant.
fn against(t: &mut Tape, how: Cmp, x: T, k: f64) -> T {
    let k = real(t, k);
    t.cmp(how, x, k)
}

/// `m ? a : b`, both parts.
fn pick(t: &mut Tape, m: T, a: Pair, b: Pair) -> Pair {
    (t.select(m, a.0, b.0), t.select(m, a.1, b.1))
}

/// True for negative numbers and for minus zero.
fn negative(t: &mut Tape, x: T) -> T {
    let one = real(t, 1.0);
    let inverse = t.div(one, x);
    let (below, zero) = (against(t, Cmp::Lt, x, 0.0), against(t, Cmp::Lt, inverse, 0.0));
    t.bin(Bin::Or, below, zero)
}

/// The magnitude of `x` with the sign of `like`.
fn with_sign(t: &mut Tape, x: T, like: T) -> T {
    let m = t.un(Un::Abs, x);
    let n = t.un(Un::Neg, m);
    let negative = negative(t, like);
    t.select(negative, n, m)
}

/// `x * y`, where zero times infinity or NaN is zero.
fn times(t: &mut Tape, x: T, y: T) -> T {
    let p = t.mul(x, y);
    let odd = t.un(Un::IsNan, p);
    let (x0, y0) = (against(t, Cmp::Eq, x, 0.0), against(t, Cmp::Eq, y, 0.0));
    let either = t.bin(Bin::Or, x0, y0);
    let both = t.bin(Bin::And, odd, either);
    let zero = real(t, 0.0);
    t.select(both, zero, p)
}

/// Product of parts of any type.
pub fn mul(t: &mut Tape, (a, b): Pair, (c, d): Pair) -> Pair {
    let (ac, bd, ad, bc) = (t.mul(a, c), t.mul(b, d), t.mul(a, d), t.mul(b, c));
    (t.sub(ac, bd), t.add(ad, bc))
}

/// Scaled by the greater part of the divisor, so that nothing overflows on the way.
pub fn div(t: &mut Tape, x: Pair, (c, d): Pair) -> Pair {
    let (mc, md) = (t.un(Un::Abs, c), t.un(Un::Abs, d));
    let scale = t.bin(Bin::Max, mc, md);
    let (c, d) = (t.div(c, scale), t.div(d, scale));
    let (cc, dd) = (t.mul(c, c), t.mul(d, d));
    let norm = t.add(cc, dd);
    let minus_d = t.un(Un::Neg, d);
    let (re, im) = mul(t, x, (c, minus_d));
    let (re, im) = (t.div(re, norm), t.div(im, norm));
    (t.div(re, scale), t.div(im, scale))
}

/// The length of the vector: infinite if a part is.
pub fn abs(t: &mut Tape, (a, b): Pair) -> T {
    let (x, y) = (t.un(Un::Abs, a), t.un(Un::Abs, b));
    let (large, small) = (t.bin(Bin::Max, x, y), t.bin(Bin::Min, x, y));
    let ratio = t.div(small, large);
    let square = t.mul(ratio, ratio);
    let root = plus_k(t, square, 1.0);
    let root = t.un(Un::Sqrt, root);
    let length = t.mul(large, root);
    let zero = against(t, Cmp::Eq, large, 0.0);
    let length = t.select(zero, large, length);
    let (xi, yi) = (t.un(Un::IsInf, x), t.un(Un::IsInf, y));
    let (infinite, infinity) = (t.bin(Bin::Or, xi, yi), real(t, f64::INFINITY));
    t.select(infinite, infinity, length)
}

fn sign(t: &mut Tape, z: Pair) -> Pair {
    let r = abs(t, z);
    let (re, im) = (t.div(z.0, r), t.div(z.1, r));
    let (is_zero, zero) = (against(t, Cmp::Eq, r, 0.0), real(t, 0.0));
    pick(t, is_zero, (zero, zero), (re, im))
}

/// x to the y, by the logarithm of x.
pub fn pow(t: &mut Tape, x: Pair, y: Pair) -> Pair {
    let l = log(t, x);
    let l = mul(t, y, l);
    exp(t, l)
}

fn sqrt(t: &mut Tape, (a, b): Pair) -> Pair {
    let r = abs(t, (a, b));
    let m = t.un(Un::Abs, a);
    let sum = t.add(m, r);
    let half = times_k(t, sum, 0.5);
    let root = t.un(Un::Sqrt, half);
    let twice = t.add(root, root);
    let other = t.div(b, twice);
    let (magnitude, signed) = (t.un(Un::Abs, other), with_sign(t, root, b));
    let right = against(t, Cmp::Ge, a, 0.0);
    let z = pick(t, right, (root, other), (magnitude, signed));
    let (zero, is_zero) = (real(t, 0.0), against(t, Cmp::Eq, root, 0.0));
    let z = pick(t, is_zero, (zero, b), z);
    let (infinite, infinity) = (t.un(Un::IsInf, b), real(t, f64::INFINITY));
    pick(t, infinite, (infinity, b), z)
}

fn exp(t: &mut Tape, (a, b): Pair) -> Pair {
    let (r, c, s) = (t.un(Un::Exp, a), t.un(Un::Cos, b), t.un(Un::Sin, b));
    let (re, im) = (times(t, r, c), times(t, r, s));
    // Infinite even where the angle is unknown.
    let (infinite, unknown, infinity) = (t.un(Un::IsInf, r), t.un(Un::IsNan, c), real(t, f64::INFINITY));
    let both = t.bin(Bin::And, infinite, unknown);
    (t.select(both, infinity, re), im)
}

fn expm1(t: &mut Tape, (a, b): Pair) -> Pair {
    let (m, h) = (t.un(Un::Expm1, a), times_k(t, b, 0.5));
    let (r, h, s) = (plus_k(t, m, 1.0), t.un(Un::Sin, h), t.un(Un::Sin, b));
    let square = t.mul(h, h);
    let less = times(t, r, square);
    let less = t.add(less, less);
    (t.sub(m, less), times(t, r, s))
}

/// Logarithm of the modulus; near the unit circle the modulus itself says little.
fn log_abs(t: &mut Tape, (a, b): Pair) -> T {
    let r = abs(t, (a, b));
    let far = t.un(Un::Log, r);
    let (x, y) = (t.un(Un::Abs, a), t.un(Un::Abs, b));
    let (large, small) = (t.bin(Bin::Max, x, y), t.bin(Bin::Min, x, y));
    let (below, above) = (plus_k(t, large, -1.0), plus_k(t, large, 1.0));
    let (p, q) = (t.mul(below, above), t.mul(small, small));
    let excess = t.add(p, q);
    let near = t.un(Un::Log1p, excess);
    let near = times_k(t, near, 0.5);
    let (low, high) = (against(t, Cmp::Gt, r, 0.5), against(t, Cmp::Lt, r, 2.0));
    let is_near = t.bin(Bin::And, low, high);
    t.select(is_near, near, far)
}

fn log(t: &mut Tape, (a, b): Pair) -> Pair {
    (log_abs(t, (a, b)), t.bin(Bin::Atan2, b, a))
}

fn log1p(t: &mut Tape, (a, b): Pair) -> Pair {
    let r = abs(t, (a, b));
    let (a1, a2, bb) = (plus_k(t, a, 1.0), plus_k(t, a, 2.0), t.mul(b, b));
    let p = t.mul(a, a2);
    let excess = t.add(p, bb);
    let near = t.un(Un::Log1p, excess);
    let near = times_k(t, near, 0.5);
    let far = log_abs(t, (a1, b));
    let is_near = against(t, Cmp::Lt, r, 0.5);
    (t.select(is_near, near, far), t.bin(Bin::Atan2, b, a1))
}

fn sinh(t: &mut Tape, (a, b): Pair) -> Pair {
    let (sh, ch, s, c) = (t.un(Un::Sinh, a), t.un(Un::Cosh, a), t.un(Un::Sin, b), t.un(Un::Cos, b));
    (times(t, sh, c), times(t, ch, s))
}

fn cosh(t: &mut Tape, (a, b): Pair) -> Pair {
    let (sh, ch, s, c) = (t.un(Un::Sinh, a), t.un(Un::Cosh, a), t.un(Un::Sin, b), t.un(Un::Cos, b));
    (times(t, ch, c), times(t, sh, s))
}

fn tanh(t: &mut Tape, (a, b): Pair) -> Pair {
    let (tan, s) = (t.un(Un::Tan, b), t.un(Un::Sinh, a));
    let (tt, ss) = (t.mul(tan, tan), t.mul(s, s));
    let (beta, rho) = (plus_k(t, tt, 1.0), plus_k(t, ss, 1.0));
    let rho = t.un(Un::Sqrt, rho);
    let d = t.mul(beta, ss);
    let d = plus_k(t, d, 1.0);
    let re = t.mul(beta, rho);
    let re = t.mul(re, s);
    let near = (t.div(re, d), t.div(tan, d));
    // Where the real part is one to the last digit.
    let m = t.un(Un::Abs, a);
    let e = times_k(t, m, -2.0);
    let (e, sin, cos) = (t.un(Un::Exp, e), t.un(Un::Sin, b), t.un(Un::Cos, b));
    let im = t.mul(sin, cos);
    let im = times_k(t, im, 4.0);
    let one = real(t, 1.0);
    let far = (with_sign(t, one, a), t.mul(im, e));
    let is_far = against(t, Cmp::Gt, m, 20.0);
    pick(t, is_far, far, near)
}

/// True if a part of `z` is large; and the logarithm of |2z|.
fn large(t: &mut Tape, (a, b): Pair) -> (T, T) {
    let (ma, mb) = (t.un(Un::Abs, a), t.un(Un::Abs, b));
    let (la, lb) = (against(t, Cmp::Gt, ma, LARGE), against(t, Cmp::Gt, mb, LARGE));
    let (x, y) = (times_k(t, a, 0.5), times_k(t, b, 0.5));
    let r = abs(t, (x, y));
    let l = t.un(Un::Log, r);
    (t.bin(Bin::Or, la, lb), plus_k(t, l, 2.0 * LN_2))
}

fn asinh(t: &mut Tape, (a, b): Pair) -> Pair {
    let one = real(t, 1.0);
    let (up, down, minus_a) = (t.add(one, b), t.sub(one, b), t.un(Un::Neg, a));
    let (p, q) = (sqrt(t, (up, minus_a)), sqrt(t, (down, a)));
    let (x, y) = (t.mul(p.0, q.1), t.mul(q.0, p.1));
    let re = t.sub(x, y);
    let re = t.un(Un::Asinh, re);
    let (x, y) = (t.mul(p.0, q.0), t.mul(p.1, q.1));
    let d = t.sub(x, y);
    let near = (re, t.bin(Bin::Atan2, b, d));
    let (is_far, l) = large(t, (a, b));
    let m = t.un(Un::Abs, a);
    let far = (with_sign(t, l, a), t.bin(Bin::Atan2, b, m));
    pick(t, is_far, far, near)
}

fn acosh(t: &mut Tape, (a, b): Pair) -> Pair {
    let (less, more) = (plus_k(t, a, -1.0), plus_k(t, a, 1.0));
    let (p, q) = (sqrt(t, (less, b)), sqrt(t, (more, b)));
    let (x, y) = (t.mul(p.0, q.0), t.mul(p.1, q.1));
    let re = t.add(x, y);
    let angle = t.bin(Bin::Atan2, p.1, q.0);
    let near = (t.un(Un::Asinh, re), t.add(angle, angle));
    let (is_far, l) = large(t, (a, b));
    let far = (l, t.bin(Bin::Atan2, b, a));
    pick(t, is_far, far, near)
}

fn acos(t: &mut Tape, (a, b): Pair) -> Pair {
    let one = real(t, 1.0);
    let (less, more, minus_b) = (t.sub(one, a), t.add(one, a), t.un(Un::Neg, b));
    let (p, q) = (sqrt(t, (less, minus_b)), sqrt(t, (more, b)));
    let angle = t.bin(Bin::Atan2, p.0, q.0);
    let (x, y) = (t.mul(q.0, p.1), t.mul(q.1, p.0));
    let im = t.sub(x, y);
    let near = (t.add(angle, angle), t.un(Un::Asinh, im));
    let (is_far, l) = large(t, (a, b));
    let m = t.un(Un::Abs, b);
    let far = (t.bin(Bin::Atan2, m, a), with_sign(t, l, minus_b));
    pick(t, is_far, far, near)
}

fn atanh(t: &mut Tape, (a, b): Pair) -> Pair {
    // An odd function, computed in the right half of the plane.
    let left = negative(t, a);
    let (na, nb) = (t.un(Un::Neg, a), t.un(Un::Neg, b));
    let (x, y) = pick(t, left, (na, nb), (a, b));
    let one = real(t, 1.0);
    let (less, more, yy) = (t.sub(one, x), t.add(one, x), t.mul(y, y));
    let square = t.mul(less, less);
    let d = t.add(square, yy);
    let four = times_k(t, x, 4.0);
    let excess = t.div(four, d);
    let l = t.un(Un::Log1p, excess);
    let product = t.mul(less, more);
    let (under, over) = (t.sub(product, yy), t.add(y, y));
    let angle = t.bin(Bin::Atan2, over, under);
    let near = (times_k(t, l, 0.25), times_k(t, angle, 0.5));
    let (hx, hy) = (times_k(t, x, 0.5), times_k(t, y, 0.5));
    let h = abs(t, (hx, hy));
    let re = times_k(t, x, 0.25);
    let re = t.div(re, h);
    let (quarter, re) = (real(t, FRAC_PI_2), t.div(re, h));
    let far = (re, with_sign(t, quarter, y));
    let (is_far, _) = large(t, (x, y));
    let (re, im) = pick(t, is_far, far, near);
    let (minus_re, minus_im) = (t.un(Un::Neg, re), t.un(Un::Neg, im));
    pick(t, left, (minus_re, minus_im), (re, im))
}
