//! `gc_scalar_*`: functions of one element, for fused loops that have no vector form of them.

use crate::tier::tier;
use core::f64::consts::PI;

/// The tier of this process, as a number of [`crate::tier::Tier`]; fused loops with several variants ask for it.
#[unsafe(no_mangle)]
pub extern "C" fn gc_tier() -> i32 {
    tier() as i32
}

macro_rules! scalars {
    ($($name:ident($($x:ident: $t:ty),*) -> $r:ty = $value:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            pub extern "C" fn $name($($x: $t),*) -> $r { $value }
        )*
        pub(crate) const SYMBOLS: &[crate::Symbol] = crate::symbol_list![gc_tier, $($name),*];
    };
}

scalars! {
    gc_scalar_exp_f32(x: f32) -> f32 = libm::expf(x);
    gc_scalar_expm1_f32(x: f32) -> f32 = libm::expm1f(x);
    gc_scalar_log_f32(x: f32) -> f32 = libm::logf(x);
    gc_scalar_log1p_f32(x: f32) -> f32 = libm::log1pf(x);
    gc_scalar_sin_f32(x: f32) -> f32 = libm::sinf(x);
    gc_scalar_cos_f32(x: f32) -> f32 = libm::cosf(x);
    gc_scalar_tan_f32(x: f32) -> f32 = libm::tanf(x);
    gc_scalar_asin_f32(x: f32) -> f32 = libm::asinf(x);
    gc_scalar_acos_f32(x: f32) -> f32 = libm::acosf(x);
    gc_scalar_atan_f32(x: f32) -> f32 = libm::atanf(x);
    gc_scalar_sinh_f32(x: f32) -> f32 = libm::sinhf(x);
    gc_scalar_cosh_f32(x: f32) -> f32 = libm::coshf(x);
    gc_scalar_tanh_f32(x: f32) -> f32 = libm::tanhf(x);
    gc_scalar_asinh_f32(x: f32) -> f32 = libm::asinhf(x);
    gc_scalar_acosh_f32(x: f32) -> f32 = if x < 1.0 { f32::NAN } else { libm::acoshf(x) };
    gc_scalar_atanh_f32(x: f32) -> f32 = libm::atanhf(x);
    gc_scalar_erf_f32(x: f32) -> f32 = libm::erff(x);
    gc_scalar_erfc_f32(x: f32) -> f32 = libm::erfcf(x);
    gc_scalar_lgamma_f32(x: f32) -> f32 = libm::lgamma(x as f64) as f32;
    gc_scalar_digamma_f32(x: f32) -> f32 = digamma(x as f64) as f32;
    gc_scalar_pow_f32(x: f32, y: f32) -> f32 = libm::powf(x, y);
    gc_scalar_atan2_f32(y: f32, x: f32) -> f32 = libm::atan2f(y, x);
    gc_scalar_fmod_f32(x: f32, y: f32) -> f32 = libm::fmodf(x, y);
    gc_scalar_exp_f64(x: f64) -> f64 = libm::exp(x);
    gc_scalar_expm1_f64(x: f64) -> f64 = libm::expm1(x);
    gc_scalar_log_f64(x: f64) -> f64 = libm::log(x);
    gc_scalar_log1p_f64(x: f64) -> f64 = libm::log1p(x);
    gc_scalar_sin_f64(x: f64) -> f64 = libm::sin(x);
    gc_scalar_cos_f64(x: f64) -> f64 = libm::cos(x);
    gc_scalar_tan_f64(x: f64) -> f64 = libm::tan(x);
    gc_scalar_asin_f64(x: f64) -> f64 = libm::asin(x);
    gc_scalar_acos_f64(x: f64) -> f64 = libm::acos(x);
    gc_scalar_atan_f64(x: f64) -> f64 = libm::atan(x);
    gc_scalar_sinh_f64(x: f64) -> f64 = libm::sinh(x);
    gc_scalar_cosh_f64(x: f64) -> f64 = libm::cosh(x);
    gc_scalar_tanh_f64(x: f64) -> f64 = libm::tanh(x);
    gc_scalar_asinh_f64(x: f64) -> f64 = libm::asinh(x);
    gc_scalar_acosh_f64(x: f64) -> f64 = if x < 1.0 { f64::NAN } else { libm::acosh(x) };
    gc_scalar_atanh_f64(x: f64) -> f64 = libm::atanh(x);
    gc_scalar_erf_f64(x: f64) -> f64 = libm::erf(x);
    gc_scalar_erfc_f64(x: f64) -> f64 = libm::erfc(x);
    gc_scalar_lgamma_f64(x: f64) -> f64 = libm::lgamma(x);
    gc_scalar_digamma_f64(x: f64) -> f64 = digamma(x);
    gc_scalar_pow_f64(x: f64, y: f64) -> f64 = libm::pow(x, y);
    gc_scalar_atan2_f64(y: f64, x: f64) -> f64 = libm::atan2(y, x);
    gc_scalar_fmod_f64(x: f64, y: f64) -> f64 = libm::fmod(x, y);
    gc_scalar_pow_i64(x: i64, y: i64) -> i64 = pow_i64(x, y);
    gc_scalar_pow_u64(x: u64, y: u64) -> u64 = wrapping_pow(x, y);
}

fn wrapping_pow(mut x: u64, mut y: u64) -> u64 {
    let mut p = 1u64;
    while y != 0 {
        if y & 1 == 1 {
            p = p.wrapping_mul(x);
        }
        x = x.wrapping_mul(x);
        y >>= 1;
    }
    p
}

/// Wraps; a negative exponent gives the quotient of one by the power, rounded to zero (and zero for a base of zero).
fn pow_i64(x: i64, y: i64) -> i64 {
    if y >= 0 {
        return wrapping_pow(x as u64, y as u64) as i64;
    }
    match x {
        1 => 1,
        -1 if y & 1 == 0 => 1,
        -1 => -1,
        _ => 0,
    }
}

/// Derivative of the logarithm of the gamma function. NaN at its poles.
fn digamma(x: f64) -> f64 {
    if x == f64::INFINITY {
        return x;
    }
    if x <= 0.0 {
        let part = x - libm::floor(x);
        return if part == 0.0 || x.is_infinite() { f64::NAN } else { digamma(1.0 - x) - PI / libm::tan(PI * part) };
    }
    let (mut x, mut sum) = (x, 0.0);
    while x < 10.0 {
        sum -= 1.0 / x;
        x += 1.0;
    }
    let r = 1.0 / (x * x);
    // Bernoulli numbers B_2k / 2k.
    let series = r
        * (1.0 / 12.0
            - r * (1.0 / 120.0 - r * (1.0 / 252.0 - r * (1.0 / 240.0 - r * (1.0 / 132.0 - r * (691.0 / 32760.0 - r / 12.0))))));
    sum + libm::log(x) - 0.5 / x - series
}
