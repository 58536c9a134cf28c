//! `gc_strip_*`: functions over contiguous arrays, for fused loops that leave a transcendental function to the library.
//!
//! `fn(x, y, n)` and `fn(x, y, z, n)`; the last array is the result and may be the same as an operand. Nothing is read or written
//! beyond `n` elements.

use super::functions as f;
use super::vector::Vector;
use crate::Symbol;
use crate::tier::by_tier;

/// The body of a strip of `$f`. (A function that takes `$f` would call it through a shim, which has no target features and is not
/// inlined.)
macro_rules! strip_body {
    ($f:path, $z:ident, $n:ident, $($x:ident),*) => {
        let whole = $n - $n % V::LANES;
        // SAFETY: indices stay below `n`.
        unsafe {
            for i in (0..whole).step_by(V::LANES) {
                $f($(V::load($x.add(i))),*).store($z.add(i));
            }
            if whole < $n {
                $f($(V::load_n($x.add(whole), $n - whole)),*).store_n($z.add(whole), $n - whole);
            }
        }
    };
}

macro_rules! strips {
    (vector { $($v:ident = $vf:ident),* $(,)? } vector2 { $($b:ident = $bf:ident),* $(,)? }
     scalar { $($s:ident: $st:ty = $sf:path),* $(,)? } scalar2 { $($t:ident: $tt:ty = $tf:path),* $(,)? }) => {
        /// The body of each strip, named as its function.
        mod body {
            use super::*;
            $(
                #[inline(always)]
                pub unsafe fn $vf<V: Vector>(x: *const f32, y: *mut f32, n: usize) {
                    strip_body!(f::$vf, y, n, x);
                }
            )*
            $(
                #[inline(always)]
                pub unsafe fn $bf<V: Vector>(x: *const f32, y: *const f32, z: *mut f32, n: usize) {
                    strip_body!(f::$bf, z, n, x, y);
                }
            )*
        }
        mod tiered {
            use super::*;
            $(by_tier!(pub fn $vf(x: *const f32, y: *mut f32, n: usize) = super::body::$vf, math::vector);)*
            $(by_tier!(pub fn $bf(x: *const f32, y: *const f32, z: *mut f32, n: usize) = super::body::$bf, math::vector);)*
        }
        $(
            /// # Safety
            /// `n` elements at `x` and at `y`, equal or disjoint.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $v(x: *const f32, y: *mut f32, n: usize) {
                // SAFETY: the caller's contract.
                unsafe { tiered::$vf(x, y, n) }
            }
        )*
        $(
            /// # Safety
            /// `n` elements at `x`, `y` and `z`; `z` equal to an operand or disjoint.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $b(x: *const f32, y: *const f32, z: *mut f32, n: usize) {
                // SAFETY: the caller's contract.
                unsafe { tiered::$bf(x, y, z, n) }
            }
        )*
        $(
            /// # Safety
            /// `n` elements at `x` and at `y`, equal or disjoint.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $s(x: *const $st, y: *mut $st, n: usize) {
                for i in 0..n {
                    // SAFETY: `i < n`.
                    unsafe { *y.add(i) = $sf(*x.add(i)) }
                }
            }
        )*
        $(
            /// # Safety
            /// `n` elements at `x`, `y` and `z`; `z` equal to an operand or disjoint.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $t(x: *const $tt, y: *const $tt, z: *mut $tt, n: usize) {
                for i in 0..n {
                    // SAFETY: `i < n`.
                    unsafe { *z.add(i) = $tf(*x.add(i), *y.add(i)) }
                }
            }
        )*
        pub(crate) const SYMBOLS: &[Symbol] = crate::symbol_list![$($v,)* $($b,)* $($s,)* $($t,)*];
    };
}

strips! {
    vector {
        gc_strip_exp_f32 = exp, gc_strip_expm1_f32 = expm1, gc_strip_log_f32 = log, gc_strip_log1p_f32 = log1p,
        gc_strip_tanh_f32 = tanh, gc_strip_sigmoid_f32 = sigmoid, gc_strip_erf_f32 = erf, gc_strip_erfc_f32 = erfc,
        gc_strip_gelu_erf_f32 = gelu_erf, gc_strip_gelu_tanh_f32 = gelu_tanh, gc_strip_silu_f32 = silu,
        gc_strip_softplus_f32 = softplus, gc_strip_elu_f32 = elu, gc_strip_rsqrt_f32 = rsqrt, gc_strip_sin_f32 = sin,
        gc_strip_cos_f32 = cos,
    }
    vector2 { gc_strip_pow_f32 = pow }
    scalar {
        gc_strip_tan_f32: f32 = libm::tanf, gc_strip_asin_f32: f32 = libm::asinf, gc_strip_acos_f32: f32 = libm::acosf,
        gc_strip_atan_f32: f32 = libm::atanf, gc_strip_sinh_f32: f32 = libm::sinhf, gc_strip_cosh_f32: f32 = libm::coshf,
        gc_strip_asinh_f32: f32 = libm::asinhf, gc_strip_acosh_f32: f32 = libm::acoshf, gc_strip_atanh_f32: f32 = libm::atanhf,
        gc_strip_lgamma_f32: f32 = libm::lgammaf,
        gc_strip_exp_f64: f64 = libm::exp, gc_strip_expm1_f64: f64 = libm::expm1, gc_strip_log_f64: f64 = libm::log,
        gc_strip_log1p_f64: f64 = libm::log1p, gc_strip_tanh_f64: f64 = libm::tanh, gc_strip_sigmoid_f64: f64 = sigmoid_f64,
        gc_strip_erf_f64: f64 = libm::erf, gc_strip_erfc_f64: f64 = libm::erfc, gc_strip_gelu_erf_f64: f64 = gelu_erf_f64,
        gc_strip_gelu_tanh_f64: f64 = gelu_tanh_f64, gc_strip_silu_f64: f64 = silu_f64, gc_strip_softplus_f64: f64 = softplus_f64,
        gc_strip_elu_f64: f64 = elu_f64, gc_strip_rsqrt_f64: f64 = rsqrt_f64, gc_strip_sin_f64: f64 = libm::sin,
        gc_strip_cos_f64: f64 = libm::cos, gc_strip_tan_f64: f64 = libm::tan, gc_strip_asin_f64: f64 = libm::asin,
        gc_strip_acos_f64: f64 = libm::acos, gc_strip_atan_f64: f64 = libm::atan, gc_strip_sinh_f64: f64 = libm::sinh,
        gc_strip_cosh_f64: f64 = libm::cosh, gc_strip_asinh_f64: f64 = libm::asinh, gc_strip_acosh_f64: f64 = libm::acosh,
        gc_strip_atanh_f64: f64 = libm::atanh, gc_strip_lgamma_f64: f64 = libm::lgamma,
    }
    scalar2 {
        gc_strip_atan2_f32: f32 = libm::atan2f, gc_strip_atan2_f64: f64 = libm::atan2, gc_strip_pow_f64: f64 = libm::pow,
    }
}

fn sigmoid_f64(x: f64) -> f64 {
    let z = libm::exp(-x.abs());
    (if x < 0.0 { z } else { 1.0 }) / (1.0 + z)
}

fn gelu_erf_f64(x: f64) -> f64 {
    0.5 * x * (1.0 + libm::erf(x * core::f64::consts::FRAC_1_SQRT_2))
}

fn gelu_tanh_f64(x: f64) -> f64 {
    0.5 * x * (1.0 + libm::tanh(0.797_884_560_802_865_4 * (x + 0.044_715 * x * x * x)))
}

fn silu_f64(x: f64) -> f64 {
    x * sigmoid_f64(x)
}

fn softplus_f64(x: f64) -> f64 {
    x.max(0.0) + libm::log1p(libm::exp(-x.abs()))
}

fn elu_f64(x: f64) -> f64 {
    if x < 0.0 { libm::expm1(x) } else { x }
}

fn rsqrt_f64(x: f64) -> f64 {
    1.0 / libm::sqrt(x)
}
