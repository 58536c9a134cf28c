//! Functions of complex numbers, on pairs of `f64`.
//!
//! The inverse functions follow W. Kahan, "Branch cuts for complex elementary functions", and lose no digits where parts cancel.

use super::array::C;
use crate::tape::{Bin, Un};
use std::f64::consts::{FRAC_PI_2, LN_2};

/// Beyond this magnitude 1 + z and z are the same, and squares might overflow.
const LARGE: f64 = 1e100;

/// What is real of a complex number.
pub fn part(op: Un) -> Option<fn(C) -> f64> {
    match op {
        Un::Abs => Some(abs),
        Un::Real => Some(|x| x.re),
        Un::Imag => Some(|x| x.im),
        _ => None,
    }
}

/// A one-operand operation with a complex result.
pub fn un(op: Un) -> Option<fn(C) -> C> {
    Some(match op {
        Un::Neg => |x| -x,
        Un::Conj => |x| x.conj(),
        Un::Sign => |x| if abs(x) == 0.0 { C::new(0.0, 0.0) } else { x / abs(x) },
        Un::Sqrt => sqrt,
        Un::Exp => exp,
        Un::Expm1 => expm1,
        Un::Log => log,
        Un::Log1p => log1p,
        Un::Sin => |x| turned_back(sinh(turned(x))),
        Un::Cos => |x| cosh(turned(x)),
        Un::Tan => |x| turned_back(tanh(turned(x))),
        Un::Asin => |x| turned_back(asinh(turned(x))),
        Un::Acos => acos,
        Un::Atan => |x| turned_back(atanh(turned(x))),
        Un::Sinh => sinh,
        Un::Cosh => cosh,
        Un::Tanh => tanh,
        Un::Asinh => asinh,
        Un::Acosh => acosh,
        Un::Atanh => atanh,
        _ => return None,
    })
}

/// A two-operand operation.
pub fn bin(op: Bin, x: C, y: C) -> Option<C> {
    Some(match op {
        Bin::Add => x + y,
        Bin::Sub => x - y,
        Bin::Mul => x * y,
        Bin::Div => div(x, y),
        Bin::Pow => exp(y * log(x)),
        _ => return None,
    })
}

/// i z.
fn turned(z: C) -> C {
    C::new(-z.im, z.re)
}

/// -i z.
fn turned_back(z: C) -> C {
    C::new(z.im, -z.re)
}

fn abs(z: C) -> f64 {
    libm::hypot(z.re, z.im)
}

/// `x * y`, where zero times infinity or NaN is zero.
fn times(x: f64, y: f64) -> f64 {
    let p = x * y;
    if p.is_nan() && (x == 0.0 || y == 0.0) { 0.0 } else { p }
}

/// Scaled by the greater part of the divisor, so that nothing overflows on the way.
fn div(x: C, y: C) -> C {
    let scale = y.re.abs().max(y.im.abs());
    let y = C::new(y.re / scale, y.im / scale);
    let norm = y.re * y.re + y.im * y.im;
    let z = x * y.conj();
    C::new(z.re / norm / scale, z.im / norm / scale)
}

fn sqrt(z: C) -> C {
    if z.im.is_infinite() {
        return C::new(f64::INFINITY, z.im);
    }
    let root = libm::sqrt((z.re.abs() + abs(z)) / 2.0);
    if root == 0.0 {
        return C::new(0.0, z.im);
    }
    if z.re >= 0.0 { C::new(root, z.im / (2.0 * root)) } else { C::new((z.im / (2.0 * root)).abs(), root.copysign(z.im)) }
}

fn exp(z: C) -> C {
    let r = libm::exp(z.re);
    if r.is_infinite() && !z.im.is_finite() {
        return C::new(r, f64::NAN);
    }
    C::new(times(r, libm::cos(z.im)), times(r, libm::sin(z.im)))
}

fn expm1(z: C) -> C {
    let (m, half) = (libm::expm1(z.re), libm::sin(z.im / 2.0));
    C::new(m - 2.0 * times(m + 1.0, half * half), times(m + 1.0, libm::sin(z.im)))
}

fn log(z: C) -> C {
    let (r, large, small) = (abs(z), z.re.abs().max(z.im.abs()), z.re.abs().min(z.im.abs()));
    // Near the unit circle the modulus says little.
    let re = if r > 0.5 && r < 2.0 { libm::log1p((large - 1.0) * (large + 1.0) + small * small) / 2.0 } else { libm::log(r) };
    C::new(re, libm::atan2(z.im, z.re))
}

fn log1p(z: C) -> C {
    let re = if abs(z) < 0.5 { libm::log1p(z.re * (2.0 + z.re) + z.im * z.im) / 2.0 } else { log(z + 1.0).re };
    C::new(re, libm::atan2(z.im, 1.0 + z.re))
}

fn sinh(z: C) -> C {
    C::new(times(libm::sinh(z.re), libm::cos(z.im)), times(libm::cosh(z.re), libm::sin(z.im)))
}

fn cosh(z: C) -> C {
    C::new(times(libm::cosh(z.re), libm::cos(z.im)), times(libm::sinh(z.re), libm::sin(z.im)))
}

fn tanh(z: C) -> C {
    if z.re.abs() > 20.0 {
        let im = 4.0 * libm::sin(z.im) * libm::cos(z.im) * libm::exp(-2.0 * z.re.abs());
        return C::new(1.0f64.copysign(z.re), im);
    }
    let (t, s) = (libm::tan(z.im), libm::sinh(z.re));
    let (beta, rho) = (1.0 + t * t, libm::sqrt(1.0 + s * s));
    let d = 1.0 + beta * s * s;
    C::new(beta * rho * s / d, t / d)
}

fn asinh(z: C) -> C {
    if z.re.abs() > LARGE || z.im.abs() > LARGE {
        let re = libm::log(libm::hypot(z.re / 2.0, z.im / 2.0)) + 2.0 * LN_2;
        return C::new(re.copysign(z.re), libm::atan2(z.im, z.re.abs()));
    }
    let (a, b) = (sqrt(C::new(1.0 + z.im, -z.re)), sqrt(C::new(1.0 - z.im, z.re)));
    C::new(libm::asinh(a.re * b.im - b.re * a.im), libm::atan2(z.im, a.re * b.re - a.im * b.im))
}

fn acosh(z: C) -> C {
    if z.re.abs() > LARGE || z.im.abs() > LARGE {
        return C::new(libm::log(libm::hypot(z.re / 2.0, z.im / 2.0)) + 2.0 * LN_2, libm::atan2(z.im, z.re));
    }
    let (a, b) = (sqrt(z - 1.0), sqrt(z + 1.0));
    C::new(libm::asinh(a.re * b.re + a.im * b.im), 2.0 * libm::atan2(a.im, b.re))
}

fn acos(z: C) -> C {
    if z.re.abs() > LARGE || z.im.abs() > LARGE {
        let im = libm::log(libm::hypot(z.re / 2.0, z.im / 2.0)) + 2.0 * LN_2;
        return C::new(libm::atan2(z.im.abs(), z.re), -im.copysign(z.im));
    }
    let (a, b) = (sqrt(1.0 - z), sqrt(1.0 + z));
    C::new(2.0 * libm::atan2(a.re, b.re), libm::asinh(b.re * a.im - b.im * a.re))
}

fn atanh(z: C) -> C {
    if z.re.is_sign_negative() {
        return -atanh(-z);
    }
    if z.re > LARGE || z.im.abs() > LARGE {
        let h = libm::hypot(z.re / 2.0, z.im / 2.0);
        return C::new(z.re / 4.0 / h / h, FRAC_PI_2.copysign(z.im));
    }
    let (x, y2) = (1.0 - z.re, z.im * z.im);
    C::new(libm::log1p(4.0 * z.re / (x * x + y2)) / 4.0, libm::atan2(2.0 * z.im, x * (1.0 + z.re) - y2) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_functions_give_the_argument_back() {
        let pairs: [(Un, Un); 8] = [
            (Un::Asinh, Un::Sinh),
            (Un::Acosh, Un::Cosh),
            (Un::Atanh, Un::Tanh),
            (Un::Asin, Un::Sin),
            (Un::Acos, Un::Cos),
            (Un::Atan, Un::Tan),
            (Un::Log, Un::Exp),
            (Un::Log1p, Un::Expm1),
        ];
        for (inverse, forward) in pairs {
            let (f, g) = (un(forward).unwrap(), un(inverse).unwrap());
            for re in [-3.0, -1.25, -0.5, 1e-9, 0.75, 2.0] {
                for im in [-2.0, -0.3, 1e-7, 0.5, 1.5] {
                    let z = C::new(re, im);
                    let d = f(g(z)) - z;
                    assert!(d.norm() <= 1e-14 * z.norm().max(1.0), "{forward:?}({inverse:?}({z})) - {z} = {d}");
                }
            }
        }
    }

    #[test]
    fn agrees_with_the_textbook() {
        for (re, im) in [(0.3, -0.7), (-1.5, 2.5), (4.0, 0.1)] {
            let z = C::new(re, im);
            for (op, want) in [
                (Un::Sqrt, z.sqrt()),
                (Un::Exp, z.exp()),
                (Un::Log, z.ln()),
                (Un::Sin, z.sin()),
                (Un::Cos, z.cos()),
                (Un::Tan, z.tan()),
                (Un::Asin, z.asin()),
                (Un::Acos, z.acos()),
                (Un::Atan, z.atan()),
                (Un::Tanh, z.tanh()),
                (Un::Acosh, z.acosh()),
                (Un::Atanh, z.atanh()),
            ] {
                let got = un(op).unwrap()(z);
                assert!((got - want).norm() < 1e-13, "{op:?}({z}) = {got}, not {want}");
            }
            assert!((div(z, C::new(2.0, -1.0)) - z / C::new(2.0, -1.0)).norm() < 1e-15);
        }
    }

    #[test]
    fn extremes_do_not_overflow_on_the_way() {
        let big = C::new(1e300, 1e300);
        assert_eq!(div(big, big), C::new(1.0, 0.0));
        assert_eq!(exp(C::new(f64::INFINITY, 0.0)).im, 0.0);
        assert_eq!(sqrt(C::new(-4.0, 0.0)), C::new(0.0, 2.0));
        assert_eq!(bin(Bin::Pow, C::new(0.0, 0.0), C::new(2.0, 0.0)), Some(C::new(0.0, 0.0)));
        assert!((asinh(big).re - libm::log(2e300 * std::f64::consts::SQRT_2)).abs() < 1e-12);
        assert_eq!(tanh(C::new(800.0, 1.0)).re, 1.0);
    }
}
