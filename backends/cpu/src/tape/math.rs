//! Functions of `F32` lanes as polynomials; the same sequences as the kernel library's, in lane code.
//!
//! Relative errors are below 2e-7 (erfc 1e-6); zeros, infinities, NaN and subnormal arguments give what the C library gives.

use super::code::{Code, Cond, Op, Rounding, Ty, V};

/// Horner's rule, coefficients from the highest power down.
fn polynomial(c: &mut Code, x: V, coefficients: &[f32]) -> V {
    let mut p = c.f32(coefficients[0]);
    for &k in &coefficients[1..] {
        let k = c.f32(k);
        p = c.fma(p, x, k);
    }
    p
}

/// `ln 2` in two parts, the first of ten bits, so that its product with an exponent is exact.
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// `x = n ln 2 + r`; returns `n` and `exp(r) - 1`.
fn reduced_expm1(c: &mut Code, x: V) -> (V, V) {
    let log2_e = c.f32(std::f32::consts::LOG2_E);
    let n = c.mul(x, log2_e);
    let n = c.push(Op::Round(Rounding::Nearest, n), Ty::F32);
    let (hi, lo) = (c.f32(LN2[0]), c.f32(LN2[1]));
    let r = c.fnma(n, hi, x);
    let r = c.fnma(n, lo, r);
    let q = polynomial(c, r, &[1.394_631_2e-3, 8.366_522e-3, 4.166_628_4e-2, 1.666_654_3e-1, 0.5]);
    let qr = c.mul(q, r);
    let p = c.fma(qr, r, r);
    (n, p)
}

/// `exp(x)` for `-104 <= x <= 89` or NaN.
fn exp_in_range(c: &mut Code, x: V) -> V {
    let (n, p) = reduced_expm1(c, x);
    let one = c.f32(1.0);
    let p = c.add(p, one);
    c.push(Op::Scale2(p, n), Ty::F32)
}

fn clamp(c: &mut Code, x: V, lo: f32, hi: f32) -> V {
    let (lo, hi) = (c.f32(lo), c.f32(hi));
    let x = c.max(lo, x);
    c.min(hi, x)
}

pub fn exp(c: &mut Code, x: V) -> V {
    let x = clamp(c, x, -104.0, 89.0);
    exp_in_range(c, x)
}

pub fn expm1(c: &mut Code, x: V) -> V {
    let inner = clamp(c, x, -30.0, 89.0);
    let v = expm1_in_range(c, inner);
    // The sign of zero survives.
    let zero = c.f32(0.0);
    let is_zero = c.cmp(Cond::Eq, x, zero);
    c.select(is_zero, x, v)
}

fn expm1_in_range(c: &mut Code, x: V) -> V {
    let (n, p) = reduced_expm1(c, x);
    // Half of the result, because 2^128 is no f32: t = 2^(n-1), and p t + t - 1/2.
    let n = c.push(Op::Int(n), Ty::I32);
    let bias = c.int(126, Ty::I32);
    let t = c.add(n, bias);
    let t = c.shl(t, 23);
    let t = c.bits(t);
    let half = c.f32(0.5);
    let t_half = c.sub(t, half);
    let h = c.fma(p, t, t_half);
    c.add(h, h)
}

/// Splits positive normal `x` into `2^e (1 + f)` with `1 + f` between the roots of 1/2 and of 2.
fn split(c: &mut Code, x: V) -> (V, V) {
    let bits = c.bits(x);
    let root = c.int(0x3f35_04f3, Ty::I32);
    let e = c.sub(bits, root);
    let e = c.sar(e, 23);
    let shifted = c.shl(e, 23);
    let m = c.sub(bits, shifted);
    let m = c.bits(m);
    let one = c.f32(1.0);
    let e = c.push(Op::Float(e), Ty::F32);
    (e, c.sub(m, one))
}

/// `e ln 2 + log(1 + f)`.
fn log_of_parts(c: &mut Code, e: V, f: V) -> V {
    let p = polynomial(
        c,
        f,
        &[
            6.915_182_6e-2,
            -1.178_971_4e-1,
            1.187_301e-1,
            -1.238_436_7e-1,
            1.421_865_5e-1,
            -1.666_925e-1,
            2.000_222_7e-1,
            -2.499_998_7e-1,
            3.333_331e-1,
        ],
    );
    let (hi, lo, half) = (c.f32(LN2[0]), c.f32(LN2[1]), c.f32(0.5));
    let square = c.mul(f, f);
    let el = c.mul(e, lo);
    let pf = c.mul(p, f);
    let tail = c.fma(pf, square, el);
    let tail = c.fnma(square, half, tail);
    let sum = c.add(f, tail);
    c.fma(e, hi, sum)
}

/// `log` of zero, negatives, infinity and NaN, `value` elsewhere.
fn log_edges(c: &mut Code, x: V, value: V) -> V {
    let zero = c.f32(0.0);
    let infinity = c.f32(f32::INFINITY);
    let least = c.f32(f32::NEG_INFINITY);
    let nan = c.f32(f32::NAN);
    // False for infinity and for NaN.
    let finite = c.cmp(Cond::Lt, x, infinity);
    let value = c.select(finite, value, x);
    let negative = c.cmp(Cond::Lt, x, zero);
    let value = c.select(negative, nan, value);
    let is_zero = c.cmp(Cond::Eq, x, zero);
    c.select(is_zero, least, value)
}

pub fn log(c: &mut Code, x: V) -> V {
    let smallest = c.f32(f32::MIN_POSITIVE);
    let tiny = c.cmp(Cond::Lt, x, smallest);
    let (scale, shift, zero) = (c.f32(8_388_608.0), c.f32(23.0), c.f32(0.0));
    let scaled = c.mul(x, scale);
    let normal = c.select(tiny, scaled, x);
    let (e, f) = split(c, normal);
    let shift = c.select(tiny, shift, zero);
    let e = c.sub(e, shift);
    let value = log_of_parts(c, e, f);
    log_edges(c, x, value)
}

pub fn log1p(c: &mut Code, x: V) -> V {
    let one = c.f32(1.0);
    let sum = c.add(x, one);
    // What the sum lost, in units of the split's power of two.
    let kept = c.sub(sum, one);
    let lost = c.sub(x, kept);
    let (e, f) = split(c, sum);
    let minus_e = c.neg(e);
    let lost = c.push(Op::Scale2(lost, minus_e), Ty::F32);
    let f = c.add(f, lost);
    let value = log_of_parts(c, e, f);
    let value = log_edges(c, sum, value);
    let magnitude = c.abs(x);
    let tiny = c.f32(1e-8);
    let near = c.cmp(Cond::Lt, magnitude, tiny);
    c.select(near, x, value)
}

/// The non-negative `v` with the sign of `x`.
fn with_sign_of(c: &mut Code, v: V, x: V) -> V {
    let sign = c.f32(-0.0);
    let sign = c.and(x, sign);
    c.or(v, sign)
}

pub fn tanh(c: &mut Code, x: V) -> V {
    let magnitude = c.abs(x);
    let limit = c.f32(9.5);
    let a = c.min(limit, magnitude);
    let twice = c.add(a, a);
    let e = expm1_in_range(c, twice);
    let two = c.f32(2.0);
    let d = c.add(e, two);
    let q = c.div(e, d);
    with_sign_of(c, q, x)
}

pub fn erf(c: &mut Code, x: V) -> V {
    let magnitude = c.abs(x);
    let limit = c.f32(4.0);
    let a = c.min(limit, magnitude);
    let square = c.mul(a, a);
    let q = polynomial(c, square, &[-5.977_198e-4, 4.991_052e-3, -2.676_562_8e-2, 1.128_180_5e-1, -3.761_249_5e-1, 1.283_791_5e-1]);
    let near = c.fma(q, a, a);
    let g = polynomial(
        c,
        a,
        &[-1.959_413e-4, 3.043_254_6e-3, -2.222_705_8e-2, 1.039_318_7e-1, 6.371_819_4e-1, 1.127_675_8, 1.956_395e-4],
    );
    let g = c.neg(g);
    let e = exp_in_range(c, g);
    let one = c.f32(1.0);
    let far = c.sub(one, e);
    let bound = c.f32(0.93);
    let is_near = c.cmp(Cond::Lt, a, bound);
    let v = c.select(is_near, near, far);
    with_sign_of(c, v, x)
}

pub fn erfc(c: &mut Code, x: V) -> V {
    let one = c.f32(1.0);
    let magnitude = c.abs(x);
    let limit = c.f32(10.2);
    let a = c.min(limit, magnitude);
    let three = c.f32(3.0);
    let (below, above) = (c.sub(a, three), c.add(a, three));
    let t = c.div(below, above);
    let p = polynomial(
        c,
        t,
        &[
            -2.671_764_2e-4,
            -7.751_096e-4,
            2.003_357_5e-3,
            2.566_557_4e-3,
            -2.379_854_2e-2,
            6.829_575e-2,
            -1.192_707_94e-1,
            1.296_464_4e-1,
            -4.756_241e-2,
            -1.356_211_5e-1,
            1.253_008,
        ],
    );
    let d = c.add(one, a);
    let d = c.add(d, a);
    let scaled = c.div(p, d);
    // a^2 in two parts: the head has twelve bits, so that its square is exact.
    let bits = c.bits(a);
    let head_bits = c.int(!0xfff, Ty::I32);
    let head = c.and(bits, head_bits);
    let head = c.bits(head);
    let (difference, sum) = (c.sub(a, head), c.add(a, head));
    let tail = c.mul(difference, sum);
    let tail = c.neg(tail);
    let square = c.mul(head, head);
    let square = c.neg(square);
    let (e1, e2) = (exp(c, square), exp_in_range(c, tail));
    let value = c.mul(e1, e2);
    let value = c.mul(value, scaled);
    let (zero, two) = (c.f32(0.0), c.f32(2.0));
    let negative = c.cmp(Cond::Lt, x, zero);
    let mirrored = c.sub(two, value);
    c.select(negative, mirrored, value)
}
