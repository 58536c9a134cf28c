//! The functions, each a straight line of vector operations.
//!
//! Coefficients are our own minimax fits (iteratively reweighted least squares in extended precision), highest power first.

use super::vector::{Bits, Vector};

/// Evaluates a polynomial by Horner's rule; coefficients from the highest power down.
#[inline(always)]
pub fn polynomial<V: Vector, const N: usize>(x: V, coefficients: [f32; N]) -> V {
    let mut p = x.splat(coefficients[0]);
    for &c in &coefficients[1..] {
        p = p.mul_add(x, x.splat(c));
    }
    p
}

const LOG2_E: f32 = core::f32::consts::LOG2_E;
/// `ln 2` in two parts, the first of ten bits, so that its product with an exponent is exact.
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// `x = n ln 2 + r`; returns `n` and `exp(r) - 1`.
#[inline(always)]
fn reduced_expm1<V: Vector>(x: V) -> (V, V) {
    let n = (x * x.splat(LOG2_E)).round();
    let r = n.neg_mul_add(x.splat(LN2[1]), n.neg_mul_add(x.splat(LN2[0]), x));
    let q = polynomial(r, [1.394_631_2e-3, 8.366_522e-3, 4.166_628_4e-2, 1.666_654_3e-1, 0.5]);
    (n, (q * r).mul_add(r, r))
}

/// `exp(x)` for `-104 <= x <= 89` or NaN.
#[inline(always)]
fn exp_in_range<V: Vector>(x: V) -> V {
    let (n, p) = reduced_expm1(x);
    (p + x.splat(1.0)).scale2(n)
}

/// `e^x`.
#[inline(always)]
pub fn exp<V: Vector>(x: V) -> V {
    exp_in_range(x.splat(89.0).min(x.splat(-104.0).max(x)))
}

/// `e^x - 1`, precise near zero.
#[inline(always)]
pub fn expm1<V: Vector>(x: V) -> V {
    expm1_in_range(x.splat(89.0).min(x.splat(-30.0).max(x)))
}

#[inline(always)]
fn expm1_in_range<V: Vector>(x: V) -> V {
    let (n, p) = reduced_expm1(x);
    // Half of the result, because 2^128 is no f32: t = 2^(n-1), and p t + t - 1/2.
    let t = (n.to_int() + x.splat_bits(126)).shl::<23>().float();
    let half = p.mul_add(t, t - x.splat(0.5));
    half + half
}

/// Splits positive normal `x` into `2^e (1 + f)` with `1 + f` between the roots of 1/2 and of 2.
#[inline(always)]
fn split<V: Vector>(x: V) -> (V, V) {
    let bits = x.bits();
    let e = (bits - x.splat_bits(0x3f35_04f3)).sar::<23>();
    let m = (bits - e.shl::<23>()).float();
    (e.convert(), m - x.splat(1.0))
}

/// `e ln 2 + log(1 + f)`.
#[inline(always)]
fn log_of_parts<V: Vector>(e: V, f: V) -> V {
    let p = polynomial(
        f,
        [
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
    let square = f * f;
    let tail = (p * f).mul_add(square, e * f.splat(LN2[1]));
    let tail = square.neg_mul_add(f.splat(0.5), tail);
    e.mul_add(f.splat(LN2[0]), f + tail)
}

/// `log` of zero, negatives, infinity and NaN, `value` elsewhere.
#[inline(always)]
fn log_edges<V: Vector>(x: V, value: V) -> V {
    let zero = x.splat(0.0);
    let infinity = x.splat(f32::INFINITY);
    // x * infinity is NaN for zero and infinity for what is positive.
    let value = x.select(x.eq(infinity) | x.is_nan(), value);
    let value = x.splat(f32::NAN).select(x.lt(zero), value);
    (-infinity).select(x.eq(zero), value)
}

/// Natural logarithm.
#[inline(always)]
pub fn log<V: Vector>(x: V) -> V {
    let tiny = x.lt(x.splat(f32::MIN_POSITIVE));
    let normal = (x * x.splat(8_388_608.0)).select(tiny, x);
    let (e, f) = split(normal);
    let e = (e - x.splat(23.0)).select(tiny, e);
    log_edges(x, log_of_parts(e, f))
}

/// `log(1 + x)`, precise near zero.
#[inline(always)]
pub fn log1p<V: Vector>(x: V) -> V {
    let one = x.splat(1.0);
    let sum = x + one;
    // What the sum lost, in units of the split's power of two.
    let lost = x - (sum - one);
    let (e, f) = split(sum);
    let value = log_of_parts(e, f + lost.scale2(-e));
    x.select(x.abs().lt(x.splat(1e-8)), log_edges(sum, value))
}

/// Hyperbolic tangent.
#[inline(always)]
pub fn tanh<V: Vector>(x: V) -> V {
    let a = x.splat(9.5).min(x.abs());
    let e = expm1_in_range(a + a);
    (e / (e + x.splat(2.0))).with_sign_of(x)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid<V: Vector>(x: V) -> V {
    let z = exp_in_range(x.splat(-104.0).max(-x.abs()));
    let one = x.splat(1.0);
    z.select(x.lt(x.splat(0.0)), one) / (one + z)
}

/// Error function.
#[inline(always)]
pub fn erf<V: Vector>(x: V) -> V {
    let a = x.splat(4.0).min(x.abs());
    let square = a * a;
    let q = polynomial(square, [-5.977_198e-4, 4.991_052e-3, -2.676_562_8e-2, 1.128_180_5e-1, -3.761_249_5e-1, 1.283_791_5e-1]);
    let near = q.mul_add(a, a);
    let g =
        polynomial(a, [-1.959_413e-4, 3.043_254_6e-3, -2.222_705_8e-2, 1.039_318_7e-1, 6.371_819_4e-1, 1.127_675_8, 1.956_395e-4]);
    let far = x.splat(1.0) - exp_in_range(-g);
    near.select(a.lt(x.splat(0.93)), far).with_sign_of(x)
}

/// `1 - erf(x)`, precise where it is small. Relative error below 1e-6.
#[inline(always)]
pub fn erfc<V: Vector>(x: V) -> V {
    let one = x.splat(1.0);
    let a = x.splat(10.2).min(x.abs());
    let three = x.splat(3.0);
    let t = (a - three) / (a + three);
    let scaled = polynomial(
        t,
        [
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
    ) / (one + a + a);
    // a^2 in two parts: the head has twelve bits, so that its square is exact.
    let head = (a.bits() & x.splat_bits(!0xfff)).float();
    let tail = (a - head) * (a + head);
    let value = exp(-(head * head)) * exp_in_range(-tail) * scaled;
    (x.splat(2.0) - value).select(x.lt(x.splat(0.0)), value)
}

/// `x Φ(x) = x/2 (1 + erf(x / √2))`. Absolute error below 3e-7 times `max(|x|, 1)`.
#[inline(always)]
pub fn gelu_erf<V: Vector>(x: V) -> V {
    let half = x * x.splat(0.5);
    half.mul_add(erf(x * x.splat(core::f32::consts::FRAC_1_SQRT_2)), half)
}

/// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`. Absolute error below 3e-7 times `max(|x|, 1)`.
#[inline(always)]
pub fn gelu_tanh<V: Vector>(x: V) -> V {
    // 1 + tanh(u) = 2 sigmoid(2 u)
    let u = x * (x * x).mul_add(x.splat(2.0 * 0.797_884_6 * 0.044_715), x.splat(2.0 * 0.797_884_6));
    // Below, the result is smaller than 1e-7 times anything; the bound keeps -infinity times zero away.
    x.splat(-60.0).max(x) * sigmoid(u)
}

/// `x sigmoid(x)`.
#[inline(always)]
pub fn silu<V: Vector>(x: V) -> V {
    x.splat(-200.0).max(x) * sigmoid(x)
}

/// `log(1 + e^x)`.
#[inline(always)]
pub fn softplus<V: Vector>(x: V) -> V {
    let z = exp_in_range(x.splat(-104.0).max(-x.abs()));
    // 1 + z lies in 1..=2.
    let one = x.splat(1.0);
    let sum = z + one;
    let (e, f) = split(sum);
    let log = log_of_parts(e, f + (z - (sum - one)).scale2(-e));
    let log = z.select(z.lt(x.splat(1e-8)), log);
    x.splat(0.0).max(x) + log
}

/// `x` above zero, `e^x - 1` below.
#[inline(always)]
pub fn elu<V: Vector>(x: V) -> V {
    expm1(x.splat(0.0).min(x)).select(x.lt(x.splat(0.0)), x)
}

/// `1 / √x`.
#[inline(always)]
pub fn rsqrt<V: Vector>(x: V) -> V {
    x.splat(1.0) / x.sqrt()
}

/// `π/2` in parts of 11, 11, 11 and 24 bits: products with integers of 13 bits are exact.
const HALF_PI: [f32; 4] = [1.570_312_5, 4.837_513e-4, 7.549_533_6e-8, 2.563_344e-12];
/// Up to here the reduction of `sin` and `cos` is precise.
const TRIG_LIMIT: f32 = 8192.0;

/// `sin(x + quarter π/2)`.
#[inline(always)]
fn sine<V: Vector>(x: V, quarter: i32, scalar: fn(f32) -> f32) -> V {
    let n = (x * x.splat(core::f32::consts::FRAC_2_PI)).round();
    let mut r = x;
    for part in HALF_PI {
        r = n.neg_mul_add(x.splat(part), r);
    }
    let square = r * r;
    let s = polynomial(square, [2.718_237_7e-6, -1.983_932_7e-4, 8.333_329e-3, -1.666_666_7e-1]);
    let sin = (s * square).mul_add(r, r);
    let c = polynomial(square, [2.443_772_8e-5, -1.388_736_2e-3, 4.166_664_6e-2]);
    let cos = (c * square).mul_add(square, square.neg_mul_add(x.splat(0.5), x.splat(1.0)));
    let quadrant = n.to_int() + x.splat_bits(quarter);
    let value = sin.select((quadrant & x.splat_bits(1)).eq_zero(), cos);
    let sign = (quadrant & x.splat_bits(2)).shl::<30>();
    let value = (value.bits() ^ sign).float();
    if V::any(x.abs().gt(x.splat(TRIG_LIMIT))) { far_lanes(x, value, scalar) } else { value }
}

/// `value` with the lanes of large magnitude replaced by `scalar`.
#[inline(always)]
fn far_lanes<V: Vector>(x: V, value: V, scalar: fn(f32) -> f32) -> V {
    let (mut xs, mut values) = ([0f32; 16], [0f32; 16]);
    // SAFETY: no vector has more than 16 lanes.
    unsafe {
        x.store(xs.as_mut_ptr());
        value.store(values.as_mut_ptr());
    }
    replace_far(&xs, &mut values, scalar);
    // SAFETY: as above.
    unsafe { V::load(values.as_ptr()) }
}

#[cold]
#[inline(never)]
fn replace_far(x: &[f32; 16], value: &mut [f32; 16], scalar: fn(f32) -> f32) {
    for (v, &x) in value.iter_mut().zip(x) {
        if x.abs() > TRIG_LIMIT {
            *v = scalar(x);
        }
    }
}

/// Sine.
#[inline(always)]
pub fn sin<V: Vector>(x: V) -> V {
    sine(x, 0, libm::sinf)
}

/// Cosine.
#[inline(always)]
pub fn cos<V: Vector>(x: V) -> V {
    sine(x, 1, libm::cosf)
}

/// `x^y`, with the special cases of C's `powf`.
#[inline(always)]
pub fn pow<V: Vector>(x: V, y: V) -> V {
    let (mut xs, mut ys) = ([0f32; 16], [0f32; 16]);
    // SAFETY: no vector has more than 16 lanes.
    unsafe {
        x.store(xs.as_mut_ptr());
        y.store(ys.as_mut_ptr());
    }
    for i in 0..V::LANES {
        xs[i] = pow_lane(xs[i], ys[i]);
    }
    // SAFETY: as above.
    unsafe { V::load(xs.as_ptr()) }
}

/// One lane of `pow` in f64, without branches, so that the compiler makes vectors of it.
#[inline(always)]
fn pow_lane(x: f32, y: f32) -> f32 {
    let magnitude = x.abs();
    // log2 |x| = e + log2 m; every f32 but zero is normal as f64.
    let bits = (magnitude as f64).to_bits() as i64;
    let e = (bits - 0x3fe6_a09e_667f_3bcd) >> 52;
    let m = f64::from_bits((bits - (e << 52)) as u64);
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let p = 0.319_905_227_805_571_96 + z * 0.282_906_911_667_680_45;
    let p = 0.961_796_694_113_565_3 + z * (0.577_077_942_266_010_3 + z * (0.412_209_263_448_019_17 + z * p));
    let log = e as i32 as f64 + s * (2.885_390_081_777_850_4 + z * p);
    let log = if magnitude == 0.0 { f64::NEG_INFINITY } else { log };
    let log = if magnitude < f32::INFINITY { log } else { magnitude as f64 };
    let power = y as f64 * log;
    let power = if power > 300.0 { 300.0 } else { power };
    let power = if power < -300.0 { -300.0 } else { power };
    // 2^power; adding 1.5 * 2^52 leaves the integer part in the low bits.
    let shifted = power + 6_755_399_441_055_744.0;
    let r = power - (shifted - 6_755_399_441_055_744.0);
    let q = 0.009_618_025_604_080_585
        + r * (0.001_333_342_269_776_416 + r * (0.000_154_697_316_775_417_3 + r * 0.000_015_316_449_720_375_57));
    let q = 0.240_226_512_135_846_86 + r * (0.055_504_109_760_439_07 + r * q);
    let q = 0.999_999_999_959_549_7 + r * (0.693_147_180_535_046_5 + r * q);
    let scale = f64::from_bits(((shifted.to_bits() as i32 as i64 + 1023) << 52) as u64);
    let value = (q * scale) as f32;
    let value = if power.is_nan() { f32::NAN } else { value };
    let whole = y as i32;
    let integral = whole as f32 == y || y.abs() >= 16_777_216.0;
    let odd = whole & 1 == 1 && y.abs() < 16_777_216.0;
    let negative = x.to_bits() >> 31 == 1;
    let value = if negative && integral && odd { -value } else { value };
    let value = if x < 0.0 && !integral && magnitude < f32::INFINITY { f32::NAN } else { value };
    let value = if magnitude == 1.0 && y.abs() == f32::INFINITY { 1.0 } else { value };
    if x == 1.0 || y == 0.0 { 1.0 } else { value }
}
