//! The scalar operations of the tape on the interpreter's wide numbers.

use super::array::{int_bits, round, widen, wrap};
use super::error::{EvalError, EvalErrorKind};
use crate::elem::Elem;
use crate::tape::{Bin, Cmp, Un};

/// A one-operand operation on real numbers; the caller rounds. `None` for the tests.
pub fn un_real(op: Un) -> Option<fn(f64) -> f64> {
    Some(match op {
        Un::Neg => |x| -x,
        Un::Abs => f64::abs,
        Un::Sign => |x| if x.is_nan() || x == 0.0 { x } else { x.signum() },
        Un::Sqrt => f64::sqrt,
        Un::Floor => f64::floor,
        Un::Ceil => f64::ceil,
        Un::Round => f64::round_ties_even,
        Un::Trunc => f64::trunc,
        Un::Exp => libm::exp,
        Un::Expm1 => libm::expm1,
        Un::Log => libm::log,
        Un::Log1p => libm::log1p,
        Un::Sin => libm::sin,
        Un::Cos => libm::cos,
        Un::Tan => libm::tan,
        Un::Asin => libm::asin,
        Un::Acos => libm::acos,
        Un::Atan => libm::atan,
        Un::Sinh => libm::sinh,
        Un::Cosh => libm::cosh,
        Un::Tanh => libm::tanh,
        Un::Asinh => libm::asinh,
        Un::Acosh => libm::acosh,
        Un::Atanh => libm::atanh,
        Un::Erf => libm::erf,
        Un::Erfc => libm::erfc,
        Un::Lgamma => libm::lgamma,
        Un::Digamma => digamma,
        Un::Not | Un::IsNan | Un::IsInf | Un::IsFinite | Un::Real | Un::Imag | Un::Conj => return None,
    })
}

/// A test of a real number.
pub fn test_real(op: Un) -> Option<fn(f64) -> bool> {
    match op {
        Un::IsNan => Some(f64::is_nan),
        Un::IsInf => Some(f64::is_infinite),
        Un::IsFinite => Some(f64::is_finite),
        _ => None,
    }
}

/// A one-operand operation on integers, wrapping.
pub fn un_int(op: Un, elem: Elem, x: i64) -> Option<i64> {
    let v = widen(elem, x);
    let r = match op {
        Un::Neg => -v,
        Un::Abs => v.abs(),
        Un::Sign => v.signum(),
        Un::Not => !v,
        Un::Floor | Un::Ceil | Un::Round | Un::Trunc => v,
        _ => return None,
    };
    Some(wrap(elem, r))
}

/// A two-operand operation on real numbers of type `elem`; the caller rounds the result.
pub fn bin_real(op: Bin, elem: Elem, x: f64, y: f64) -> Option<f64> {
    Some(match op {
        Bin::Add => x + y,
        Bin::Sub => x - y,
        Bin::Mul => x * y,
        Bin::Div => x / y,
        Bin::FloorDiv => round(elem, x / y).floor(),
        Bin::Rem => libm::fmod(x, y),
        Bin::Mod => {
            let r = libm::fmod(x, y);
            if r != 0.0 && (r < 0.0) != (y < 0.0) { r + y } else { r }
        }
        Bin::Pow => libm::pow(x, y),
        Bin::Atan2 => libm::atan2(x, y),
        Bin::Max => greater(x, y),
        Bin::Min => lesser(x, y),
        _ => return None,
    })
}

/// The greater, NaN if either is NaN.
pub fn greater(x: f64, y: f64) -> f64 {
    if x.is_nan() || x >= y { x } else { y }
}

/// The lesser, NaN if either is NaN.
pub fn lesser(x: f64, y: f64) -> f64 {
    if x.is_nan() || x <= y { x } else { y }
}

/// A two-operand operation on integers.
///
/// # Errors
/// A zero divisor, a negative power, or an operation that integers do not have.
pub fn bin_int(op: Bin, elem: Elem, x: i64, y: i64) -> Result<i64, EvalError> {
    let (a, b) = (widen(elem, x), widen(elem, y));
    let nonzero = || match b {
        0 => Err(EvalError::new(EvalErrorKind::DivisionByZero, "integer division by zero")),
        b => Ok(b),
    };
    let width = int_bits(elem) as i128;
    let r = match op {
        Bin::Add => a + b,
        Bin::Sub => a - b,
        Bin::Mul => a.wrapping_mul(b),
        Bin::Div => a / nonzero()?,
        Bin::FloorDiv => a.div_euclid(nonzero()?) - (b < 0 && a.rem_euclid(b) != 0) as i128,
        Bin::Rem => a % nonzero()?,
        Bin::Mod => {
            let r = a % nonzero()?;
            if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
        }
        Bin::Pow => return power(elem, x, b),
        Bin::Max => a.max(b),
        Bin::Min => a.min(b),
        Bin::And => a & b,
        Bin::Or => a | b,
        Bin::Xor => a ^ b,
        Bin::Shl if (0..width).contains(&b) => a << b,
        Bin::Shl => 0,
        Bin::Shr if (0..width).contains(&b) => a >> b,
        Bin::Shr => -((a < 0) as i128),
        Bin::Atan2 | Bin::Complex => return Err(EvalError::unsupported(format!("{op:?} is not defined for {elem}"))),
    };
    Ok(wrap(elem, r))
}

fn power(elem: Elem, x: i64, mut n: i128) -> Result<i64, EvalError> {
    if n < 0 {
        return Err(EvalError::new(EvalErrorKind::NegativePower, "an integer raised to a negative power"));
    }
    let (mut base, mut r) = (x, 1i64);
    while n > 0 {
        if n & 1 == 1 {
            r = wrap(elem, widen(elem, r).wrapping_mul(widen(elem, base)));
        }
        base = wrap(elem, widen(elem, base).wrapping_mul(widen(elem, base)));
        n >>= 1;
    }
    Ok(r)
}

pub fn bin_bool(op: Bin, x: bool, y: bool) -> Option<bool> {
    Some(match op {
        Bin::And | Bin::Min | Bin::Mul => x & y,
        Bin::Or | Bin::Max => x | y,
        Bin::Xor => x ^ y,
        _ => return None,
    })
}

pub fn compare<T: PartialOrd>(op: Cmp, x: &T, y: &T) -> bool {
    match op {
        Cmp::Eq => x == y,
        Cmp::Ne => x != y,
        Cmp::Lt => x < y,
        Cmp::Le => x <= y,
        Cmp::Gt => x > y,
        Cmp::Ge => x >= y,
    }
}

/// Conversion of a real number to an integer type: truncated. What does not fit wraps as on x86: types up to 32 bits go by way of `i32`
/// (`u32` by `i64`), where NaN and overflow give the least value. In `u64`, NaN and overflow give 2^63.
pub fn real_to_int(elem: Elem, x: f64) -> i64 {
    let to_i64 = |x: f64| if (-(2f64.powi(63))..2f64.powi(63)).contains(&x) { x as i64 } else { i64::MIN };
    match elem {
        Elem::I64 => to_i64(x),
        Elem::U32 => wrap(elem, to_i64(x) as i128),
        Elem::U64 if (2f64.powi(63)..2f64.powi(64)).contains(&x) => x as u64 as i64,
        Elem::U64 => to_i64(x),
        _ => wrap(elem, if x > -2147483649.0 && x < 2147483648.0 { x as i32 as i128 } else { i32::MIN as i128 }),
    }
}

/// Conversion of an integer to a float type, rounded once to `f32` for the types of at most 32 bits.
pub fn int_to_real(elem: Elem, v: i128) -> f64 {
    if elem == Elem::F64 { v as f64 } else { round(elem, v as f32 as f64) }
}

/// Derivative of the logarithm of the gamma function.
fn digamma(x: f64) -> f64 {
    if x == f64::INFINITY {
        return x;
    }
    if x <= 0.0 {
        // NaN at the poles.
        if x == x.floor() {
            return f64::NAN;
        }
        let pi = std::f64::consts::PI;
        return digamma(1.0 - x) - pi / libm::tan(pi * (x - x.floor()));
    }
    let (mut x, mut shift) = (x, 0.0);
    while x < 10.0 {
        shift -= 1.0 / x;
        x += 1.0;
    }
    // Asymptotic series with the Bernoulli numbers.
    let z = 1.0 / (x * x);
    let tail = z
        * (1.0 / 12.0
            - z * (1.0 / 120.0 - z * (1.0 / 252.0 - z * (1.0 / 240.0 - z * (1.0 / 132.0 - z * (691.0 / 32760.0 - z / 12.0))))));
    shift + libm::log(x) - 0.5 / x - tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_divide_to_both_sides() {
        for (a, b) in [(7, 2), (-7, 2), (7, -2), (-7, -2), (6, -3)] {
            let floor = (a as f64 / b as f64).floor() as i64;
            assert_eq!(bin_int(Bin::FloorDiv, Elem::I32, a, b), Ok(floor), "{a} {b}");
            assert_eq!(bin_int(Bin::Mod, Elem::I32, a, b), Ok(a - floor * b));
            assert_eq!(bin_int(Bin::Div, Elem::I32, a, b), Ok(a / b));
        }
        assert_eq!(bin_int(Bin::Div, Elem::I32, i32::MIN as i64, -1), Ok(i32::MIN as i64));
        assert_eq!(bin_int(Bin::Div, Elem::U64, -1, 2), Ok(i64::MAX));
        assert_eq!(bin_int(Bin::Shr, Elem::I8, -8, 40), Ok(-1));
        assert_eq!(bin_int(Bin::Pow, Elem::U8, 3, 6), Ok(729 % 256));
        assert!(bin_int(Bin::Rem, Elem::I64, 1, 0).is_err());
    }

    #[test]
    fn casts_follow_x86() {
        assert_eq!(real_to_int(Elem::I32, f64::NAN), i32::MIN as i64);
        assert_eq!(real_to_int(Elem::I32, 2147483647.5), 2147483647);
        assert_eq!(real_to_int(Elem::I32, -2147483648.5), -2147483648);
        assert_eq!(real_to_int(Elem::I8, 300.7), 44);
        assert_eq!(real_to_int(Elem::U8, -1.5), 255);
        assert_eq!(real_to_int(Elem::U32, 3e9), 3_000_000_000);
        assert_eq!(real_to_int(Elem::I64, 1e20), i64::MIN);
        assert_eq!(real_to_int(Elem::U64, 1e19) as u64, 10_000_000_000_000_000_000);
        assert_eq!(int_to_real(Elem::F32, (1 << 60) + (1 << 36) + 1), ((1i64 << 60) + (1 << 37)) as f64);
    }

    #[test]
    fn digamma_at_known_points() {
        assert!((digamma(1.0) + 0.577_215_664_901_532_9).abs() < 1e-14);
        assert!((digamma(0.5) + 1.963_510_026_021_423_5).abs() < 1e-14);
        assert!((digamma(-0.5) - 0.036_489_973_978_576_52).abs() < 1e-13);
    }
}
