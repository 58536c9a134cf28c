//! Every function in every tier against `libm` in f64.

use super::strips::*;
use crate::testing::each_tier;
use crate::tier::Tier;

type Strip = unsafe extern "C" fn(*const f32, *mut f32, usize);

/// Arguments of every sign and magnitude, dense around one, with the special ones; not a multiple of a vector's length.
fn arguments() -> Vec<f32> {
    let mut x: Vec<f32> = (0..=u32::MAX >> 14).map(|i| f32::from_bits(i << 14 | 0x155)).collect();
    x.extend((-60_000..60_000).map(|i| i as f32 * 1.7e-3 + 1e-4));
    x.extend((0..4000).map(|i| 1.0 + (i as f32 - 2000.0) * 1e-5));
    x.extend([
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        1e-45,
        -1e-45,
    ]);
    x.extend([88.7, 88.72283, 88.72284, 89.5, -87.4, -103.9, -104.1, 4.0, -4.0, 3.9999, 0.93, 0.92999]);
    x
}

/// Largest error of `strip` relative to `scale(x, exact)`, and where.
fn worst(t: Tier, name: &str, strip: Strip, exact: fn(f64) -> f64, scale: fn(f64, f64) -> f64, bound: f64) {
    let x = arguments();
    let mut y = vec![0f32; x.len() + 1];
    y[x.len()] = 7.0;
    unsafe { strip(x.as_ptr(), y.as_mut_ptr(), x.len()) };
    assert_eq!(y[x.len()], 7.0, "{name} {t:?} writes beyond its end");
    let (mut max, mut at) = (0.0, 0.0);
    for (&x, &y) in x.iter().zip(&y) {
        let e = exact(x as f64);
        if e.is_nan() || y.is_nan() {
            assert!(e.is_nan() && y.is_nan(), "{name} {t:?} of {x:e}: {y:e}, exactly {e:e}");
            continue;
        }
        if (e as f32).is_infinite() || y.is_infinite() {
            // One rounding away from the end of the range is close enough.
            let near = (e.abs() / f32::MAX as f64 - 1.0).abs() < 1e-6 && y.abs() > 3.4e38;
            assert!(near || e as f32 == y, "{name} {t:?} of {x:e}: {y:e}, exactly {e:e}");
            continue;
        }
        // Below the normal range a unit in the last place is 1.4e-45.
        let error = ((y as f64 - e).abs() - 1.5e-45).max(0.0) / scale(x as f64, e).abs().max(1e-300);
        if error > max {
            (max, at) = (error, x);
        }
    }
    println!("{name:10} {t:?}: {max:.2e} at {at:e}");
    assert!(max <= bound, "{name} {t:?}: error {max:e} at {at:e}");
}

fn relative(_: f64, exact: f64) -> f64 {
    exact
}

/// For functions that subtract near their zeros.
fn input_or_one(x: f64, _: f64) -> f64 {
    x.abs().max(1.0)
}

#[test]
fn functions_are_precise_in_every_tier() {
    each_tier(|t| {
        worst(t, "exp", gc_strip_exp_f32, libm::exp, relative, 2e-7);
        worst(t, "expm1", gc_strip_expm1_f32, libm::expm1, relative, 2.5e-7);
        worst(t, "log", gc_strip_log_f32, libm::log, relative, 2e-7);
        worst(t, "log1p", gc_strip_log1p_f32, libm::log1p, relative, 2.5e-7);
        worst(t, "tanh", gc_strip_tanh_f32, libm::tanh, relative, 3e-7);
        worst(t, "sigmoid", gc_strip_sigmoid_f32, |x| 1.0 / (1.0 + libm::exp(-x)), relative, 2.5e-7);
        worst(t, "erf", gc_strip_erf_f32, libm::erf, relative, 2.5e-7);
        worst(t, "erfc", gc_strip_erfc_f32, libm::erfc, relative, 1e-6);
        worst(t, "rsqrt", gc_strip_rsqrt_f32, |x| 1.0 / x.sqrt(), relative, 2e-7);
        worst(t, "sin", gc_strip_sin_f32, libm::sin, relative, 2.5e-7);
        worst(t, "cos", gc_strip_cos_f32, libm::cos, relative, 2.5e-7);
        worst(t, "softplus", gc_strip_softplus_f32, |x| x.max(0.0) + libm::log1p(libm::exp(-x.abs())), relative, 2.5e-7);
        worst(t, "elu", gc_strip_elu_f32, |x| if x < 0.0 { libm::expm1(x) } else { x }, relative, 2.5e-7);
        worst(t, "gelu_erf", gc_strip_gelu_erf_f32, finite(|x| 0.5 * x * libm::erfc(-x / 2f64.sqrt())), input_or_one, 3e-7);
    });
}

fn finite(f: fn(f64) -> f64) -> fn(f64) -> f64 {
    f
}

#[test]
fn gated_functions_are_precise_on_finite_arguments() {
    each_tier(|t| {
        let x: Vec<f32> = (-40_000..40_000).map(|i| i as f32 * 3.7e-3).chain([-1e9, -1e30, 1e30, f32::INFINITY]).collect();
        let check = |name: &str, strip: Strip, exact: fn(f64) -> f64| {
            let mut y = vec![0f32; x.len()];
            unsafe { strip(x.as_ptr(), y.as_mut_ptr(), x.len()) };
            for (&x, &y) in x.iter().zip(&y) {
                let e = exact(x as f64);
                assert!(
                    e as f32 == y || (y as f64 - e).abs() <= 3e-7 * x.abs().max(1.0) as f64,
                    "{name} {t:?} of {x}: {y}, exactly {e}"
                );
            }
        };
        check("gelu_tanh", gc_strip_gelu_tanh_f32, |x| {
            x / (1.0 + libm::exp(-2.0 * 0.7978845608028654 * (x + 0.044715 * x * x * x)))
        });
        check("gelu_erf", gc_strip_gelu_erf_f32, |x| 0.5 * x * libm::erfc(-x / 2f64.sqrt()));
        check("silu", gc_strip_silu_f32, |x| x / (1.0 + libm::exp(-x)));
    });
}

#[test]
fn pow_is_precise_and_has_the_special_cases_of_c() {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        2.0,
        -2.0,
        3.0,
        -3.0,
        2.5,
        1e-40,
        1e38,
        16_777_216.0,
        16_777_217.0,
        -8388607.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        0.999_999_94,
        1.000_000_1,
    ];
    let mut pairs: Vec<(f32, f32)> = special.iter().flat_map(|&x| special.map(|y| (x, y))).collect();
    for i in 0..40_000 {
        let x = f32::from_bits((i as u32).wrapping_mul(2_654_435_761) >> 1);
        let y = ((i * 7919) % 20_011) as f32 * 2e-3 - 20.0;
        pairs.push((x, y));
        pairs.push((0.5 + (i % 977) as f32 * 2e-3, y * 4.0));
    }
    let (x, y): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
    each_tier(|t| {
        let mut z = vec![0f32; x.len()];
        unsafe { gc_strip_pow_f32(x.as_ptr(), y.as_ptr(), z.as_mut_ptr(), x.len()) };
        for i in 0..x.len() {
            let e = libm::pow(x[i] as f64, y[i] as f64);
            let same = e as f32 == z[i] && (e.is_sign_negative() == z[i].is_sign_negative()) || e.is_nan() && z[i].is_nan();
            assert!(
                same || (z[i] as f64 - e).abs() <= 1.3e-7 * e.abs() + 1.5e-45,
                "{t:?} {:e}^{:e}: {:e}, exactly {e:e}",
                x[i],
                y[i],
                z[i]
            );
        }
    });
}

#[test]
fn strips_work_in_place_and_at_every_length() {
    each_tier(|_| {
        for n in 0..40 {
            let mut x: Vec<f32> = (0..n + 1).map(|i| i as f32 * 0.1).collect();
            let p = x.as_mut_ptr();
            unsafe { gc_strip_exp_f32(p, p, n) };
            assert_eq!(x[n], n as f32 * 0.1);
            for (i, v) in x.iter().enumerate().take(n) {
                assert!((v - (i as f32 * 0.1).exp()).abs() < 1e-5);
            }
        }
    });
}
