//! Row kernels in every tier and with several threads against plain loops in f64.

use super::*;
use crate::testing::{Random, each_tier, run, zeroed};
use graphc_abi::args::data::elem;
use graphc_abi::args::rows::{pool, reduce, *};

fn close(what: &str, got: &[f32], want: &[f64], bound: f64) {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().filter(|v| v.is_finite()).fold(1e-30, |m: f64, v| m.max(v.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let same = g as f64 == w || g.is_nan() && w.is_nan();
        assert!(same || (g as f64 - w).abs() <= bound * scale, "{what} [{i}]: {g}, exactly {w}");
    }
}

const LENGTHS: [usize; 12] = [1, 2, 3, 7, 8, 15, 17, 31, 64, 129, 384, 1000];

#[test]
fn softmax_with_scale_and_mask() {
    each_tier(|t| {
        let mut random = Random::new(1);
        for n in LENGTHS {
            for (log, masked) in [(0, false), (1, false), (0, true), (1, true)] {
                let (b, h, q) = (2, 3, 4);
                let rows = b * h * q;
                let x = random.reals(rows * n, 8.0);
                // One row of the mask for each of b and q, shared over h.
                let mask = random.reals(b * q * n, 4.0);
                let mut y = vec![0f32; rows * n + 1];
                let a = SoftmaxArgs {
                    x: x.as_ptr(),
                    mask: if masked { mask.as_ptr() } else { core::ptr::null() },
                    y: y.as_mut_ptr(),
                    rows: rows as i64,
                    n: n as i64,
                    log,
                    scale: if masked { 0.25 } else { 0.0 },
                    mask_mid: h as i64,
                    mask_inner: q as i64,
                    mask_outer_stride: (q * n) as i64,
                    mask_mid_stride: 0,
                    mask_inner_stride: n as i64,
                };
                run(1, gc_softmax_f32, &a);
                let want = (0..rows).flat_map(|r| {
                    let m = r / (h * q) * q + r % q;
                    let v: Vec<f64> = (0..n)
                        .map(|i| if masked { 0.25 * x[r * n + i] as f64 + mask[m * n + i] as f64 } else { x[r * n + i] as f64 })
                        .collect();
                    let max = v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = v.iter().map(|v| (v - max).exp()).sum();
                    v.into_iter().map(move |v| if log != 0 { v - max - sum.ln() } else { (v - max).exp() / sum })
                });
                close(&format!("softmax {t:?} {n} log {log}"), &y[..rows * n], &want.collect::<Vec<_>>(), 5e-7);
                assert_eq!(y[rows * n], 0.0);
                let once = y.clone();
                run(3, gc_softmax_f32, &a);
                assert_eq!(once, y);
            }
        }
    });
}

#[test]
fn softmax_of_special_values() {
    let inf = f32::INFINITY;
    each_tier(|_| {
        let softmax = |x: &[f32], log| {
            let mut y = x.to_vec();
            let a = SoftmaxArgs { x: y.as_ptr(), y: y.as_mut_ptr(), rows: 1, n: x.len() as i64, log, ..zeroed() };
            run(1, gc_softmax_f32, &a);
            y
        };
        assert!(softmax(&[1.0, f32::NAN], 0).iter().all(|v| v.is_nan()));
        assert!(softmax(&[inf, 1.0], 0)[0].is_nan());
        assert!(softmax(&[-inf, -inf, -inf], 0).iter().all(|v| v.is_nan()));
        assert_eq!(softmax(&[3.4e38, -3.4e38, -inf], 0), [1.0, 0.0, 0.0]);
        assert_eq!(softmax(&[-inf, 3.0], 1), [-inf, 0.0]);
    });
    let x = [0.5f64, -2.0, 3.0];
    let mut y = [0f64; 3];
    run(1, gc_softmax_f64, &SoftmaxF64Args { x: x.as_ptr(), y: y.as_mut_ptr(), rows: 1, n: 3, log: 0 });
    let sum: f64 = x.iter().map(|v| v.exp()).sum();
    (0..3).for_each(|i| assert!((y[i] - x[i].exp() / sum).abs() < 1e-15));
}

#[test]
fn layer_norm_with_residual() {
    each_tier(|t| {
        let mut random = Random::new(2);
        for n in LENGTHS {
            for case in 0..16 {
                let (rms, affine, residual, keep) = (case & 1, case & 2 != 0, case & 4 != 0, case & 8 != 0);
                let rows = 5;
                let x: Vec<f32> = random.reals(rows * n, 2.0).iter().map(|v| v + 10.0).collect();
                let (r, gamma, beta) = (random.reals(rows * n, 2.0), random.reals(n, 1.0), random.reals(n, 1.0));
                let (mut y, mut sum) = (vec![0f32; rows * n], vec![0f32; rows * n]);
                let null = core::ptr::null();
                let a = LayerNormArgs {
                    x: x.as_ptr(),
                    residual: if residual { r.as_ptr() } else { null },
                    gamma: if affine { gamma.as_ptr() } else { null },
                    beta: if affine { beta.as_ptr() } else { null },
                    y: y.as_mut_ptr(),
                    sum: if keep { sum.as_mut_ptr() } else { core::ptr::null_mut() },
                    rows: rows as i64,
                    n: n as i64,
                    rms,
                    eps: 1e-3,
                };
                run(1, gc_layer_norm_f32, &a);
                let v: Vec<f32> = (0..rows * n).map(|i| if residual { x[i] + r[i] } else { x[i] }).collect();
                if keep {
                    assert_eq!(sum, v);
                }
                let (mut want, mut condition) = (Vec::new(), 1.0f64);
                for row in v.chunks(n) {
                    let mean = if rms != 0 { 0.0 } else { row.iter().map(|&v| v as f64).sum::<f64>() / n as f64 };
                    let variance = row.iter().map(|&v| (v as f64 - mean).powi(2)).sum::<f64>() / n as f64;
                    condition = condition.max(mean.abs() / (variance + 1e-3).sqrt());
                    want.extend((0..n).map(|i| {
                        let z = (row[i] as f64 - mean) / (variance + 1e-3).sqrt();
                        if affine { z * gamma[i] as f64 + beta[i] as f64 } else { z }
                    }));
                }
                close(&format!("layer norm {t:?} {n} case {case}"), &y, &want, 5e-7 * condition);
                if residual {
                    let mut inout = r.clone();
                    run(2, gc_layer_norm_f32, &LayerNormArgs { residual: inout.as_ptr(), y: inout.as_mut_ptr(), ..a });
                    assert_eq!(inout, y);
                }
            }
        }
    });
}

/// Arguments of a reduction of a dense tensor.
fn reduction(x: *const u8, y: *mut u8, elem: i64, kind: i64, dims: &[usize], mask: i64) -> ReduceArgs {
    let d = |i: usize| dims.get(i).map_or(0, |&d| d as i64);
    ReduceArgs {
        x,
        y,
        elem,
        kind,
        rank: dims.len() as i64,
        mask,
        d0: d(0),
        d1: d(1),
        d2: d(2),
        d3: d(3),
        d4: d(4),
        d5: d(5),
        d6: d(6),
        d7: d(7),
        ..zeroed()
    }
}

/// The elements of each result, in order.
fn gathered<T: Copy>(x: &[T], dims: &[usize], mask: i64) -> Vec<Vec<T>> {
    let kept: Vec<usize> = (0..dims.len()).filter(|i| mask >> i & 1 == 0).collect();
    let mut groups = vec![Vec::new(); kept.iter().map(|&i| dims[i]).product()];
    for (at, &v) in x.iter().enumerate() {
        let mut index = vec![0; dims.len()];
        let mut rest = at;
        for i in (0..dims.len()).rev() {
            index[i] = rest % dims[i];
            rest /= dims[i];
        }
        groups[kept.iter().fold(0, |o, &i| o * dims[i] + index[i])].push(v);
    }
    groups
}

const SHAPES: [(&[usize], i64); 18] = [
    (&[], 0),
    (&[5], 1),
    (&[1000], 1),
    (&[70_001], 1),
    (&[300, 1000], 3),
    (&[7, 33], 2),
    (&[7, 33], 1),
    (&[49, 200], 1),
    (&[3, 49, 130], 2),
    (&[2, 5, 6, 7], 0b1010),
    (&[2, 5, 6, 7], 0b0101),
    (&[4, 1, 9, 3], 0b0110),
    (&[9000, 3], 1),
    (&[5000, 70], 1),
    (&[3, 3, 3, 3, 3, 3], 0b101010),
    (&[6, 11], 0),
    (&[0, 4], 1),
    (&[4, 0], 1),
];

#[test]
fn reductions_of_f32() {
    each_tier(|t| {
        let mut random = Random::new(3);
        for (dims, mask) in SHAPES {
            let n = dims.iter().product();
            for kind in [reduce::SUM, reduce::MEAN, reduce::PROD, reduce::MAX, reduce::MIN, reduce::NORM, reduce::SUM_SQUARES] {
                let x: Vec<f32> =
                    (0..n).map(|_| if kind == reduce::PROD { 1.0 + random.real() * 1e-3 } else { random.real() + 0.5 }).collect();
                let want: Vec<f64> = gathered(&x, dims, mask)
                    .iter()
                    .map(|g| {
                        let g = || g.iter().map(|&v| v as f64);
                        match kind {
                            reduce::SUM => g().sum(),
                            reduce::MEAN => g().sum::<f64>() / g().count() as f64,
                            reduce::PROD => g().product(),
                            reduce::MAX => g().fold(f64::NEG_INFINITY, f64::max),
                            reduce::MIN => g().fold(f64::INFINITY, f64::min),
                            reduce::NORM => g().map(|v| v * v).sum::<f64>().sqrt(),
                            _ => g().map(|v| v * v).sum::<f64>(),
                        }
                    })
                    .collect();
                let mut y = vec![9f32; want.len() + 1];
                let a = reduction(x.as_ptr().cast(), y.as_mut_ptr().cast(), elem::F32, kind, dims, mask);
                run(1, gc_reduce_f32, &a);
                assert_eq!(y.pop(), Some(9.0));
                let bound = if kind == reduce::PROD { 5e-7 + 1e-8 * n as f64 } else { 5e-7 };
                close(&format!("reduce {t:?} {dims:?} {mask:b} kind {kind}"), &y, &want, bound);
                let one = y.clone();
                run(3, gc_reduce_f32, &ReduceArgs { y: y.as_mut_ptr().cast(), ..a });
                assert!(one.iter().zip(&y).all(|(a, b)| a.to_bits() == b.to_bits()), "{dims:?} depends on threads");
            }
        }
    });
}

#[test]
fn strided_reductions() {
    let mut random = Random::new(4);
    let x = random.reals(20 * 30, 1.0);
    each_tier(|_| {
        // The transpose, every second column, each way round.
        for mask in [1, 2] {
            let mut y = vec![0f32; 30];
            let a = ReduceArgs {
                strided: 1,
                s0: 2,
                s1: 30,
                ..reduction(x.as_ptr().cast(), y.as_mut_ptr().cast(), 0, reduce::SUM, &[15, 20], mask)
            };
            run(1, gc_reduce_f32, &a);
            let view: Vec<f32> = (0..15).flat_map(|i| (0..20).map(move |j| (i, j))).map(|(i, j)| x[2 * i + 30 * j]).collect();
            let want: Vec<f64> = gathered(&view, &[15, 20], mask).iter().map(|g| g.iter().map(|&v| v as f64).sum()).collect();
            close("strided", &y[..want.len()], &want, 1e-6);
        }
    });
}

#[test]
fn largest_and_smallest_keep_nan() {
    each_tier(|t| {
        for n in [3, 40, 300, 70_000] {
            for at in [0, n / 2, n - 1] {
                for kind in [reduce::MAX, reduce::MIN] {
                    let mut x = vec![1f32; n];
                    x[at] = f32::NAN;
                    let mut y = [0f32; 3];
                    run(1, gc_reduce_f32, &reduction(x.as_ptr().cast(), y.as_mut_ptr().cast(), 0, kind, &[n], 1));
                    assert!(y[0].is_nan(), "{t:?} {n} {at}");
                    let x: Vec<f32> = x.iter().flat_map(|&v| [2.0, v, 3.0]).collect();
                    run(1, gc_reduce_f32, &reduction(x.as_ptr().cast(), y.as_mut_ptr().cast(), 0, kind, &[n, 3], 1));
                    assert!(y[0] == 2.0 && y[1].is_nan() && y[2] == 3.0, "{t:?} {n} {at} {y:?}");
                }
            }
        }
    });
}

#[test]
fn reductions_of_other_types() {
    let mut random = Random::new(5);
    for (dims, mask) in SHAPES {
        let n = dims.iter().product();
        let x: Vec<i32> = (0..n).map(|_| random.word() as i32).collect();
        let groups = gathered(&x, dims, mask);
        let check = |kind, f: &dyn Fn(&[i32]) -> i32| {
            let mut y = vec![0i32; groups.len()];
            run(2, gc_reduce, &reduction(x.as_ptr().cast(), y.as_mut_ptr().cast(), elem::I32, kind, dims, mask));
            let want: Vec<i32> = groups.iter().map(|g| f(g)).collect();
            assert_eq!(y, want, "{dims:?} {mask:b} {kind}");
        };
        check(reduce::SUM, &|g| g.iter().fold(0, |a, &b| a.wrapping_add(b)));
        check(reduce::PROD, &|g| g.iter().fold(1, |a, &b| a.wrapping_mul(b)));
        check(reduce::MAX, &|g| g.iter().copied().max().unwrap_or(i32::MIN));
        check(reduce::MEAN, &|g| g.iter().fold(0, |a: i32, &b| a.wrapping_add(b)).checked_div(g.len() as i32).unwrap_or(0));

        let x: Vec<u8> = (0..n).map(|_| (random.below(4) == 0) as u8).collect();
        for (kind, of) in [(reduce::ANY, 1), (reduce::ALL, 0)] {
            let mut y = vec![7u8; groups.len()];
            run(1, gc_reduce, &reduction(x.as_ptr().cast(), y.as_mut_ptr(), elem::BOOL, kind, dims, mask));
            let want: Vec<u8> = gathered(&x, dims, mask).iter().map(|g| if g.contains(&of) { of } else { 1 - of }).collect();
            assert_eq!(y, want);
        }

        let x: Vec<half::bf16> = (0..n).map(|_| half::bf16::from_f32(random.real())).collect();
        let mut y = vec![half::bf16::ZERO; groups.len()];
        run(2, gc_reduce, &reduction(x.as_ptr().cast(), y.as_mut_ptr().cast(), elem::BF16, reduce::SUM, dims, mask));
        for (y, g) in y.iter().zip(gathered(&x, dims, mask)) {
            let (exact, size) = g.iter().fold((0f64, 0f64), |(s, a), v| (s + v.to_f64(), a + v.to_f64().abs()));
            assert!((y.to_f64() - exact).abs() <= exact.abs() / 256.0 + size * 1e-6);
        }

        let x: Vec<[f64; 2]> = (0..n).map(|_| [1.0 + random.real() as f64 * 1e-3, random.real() as f64 * 1e-3]).collect();
        let mut y = vec![[0f64; 2]; groups.len()];
        run(2, gc_reduce, &reduction(x.as_ptr().cast(), y.as_mut_ptr().cast(), elem::C128, reduce::PROD, dims, mask));
        for (y, g) in y.iter().zip(gathered(&x, dims, mask)) {
            let want = g.iter().fold([1.0, 0.0], |[a, b], &[c, d]| [a * c - b * d, a * d + b * c]);
            assert!((y[0] - want[0]).abs() + (y[1] - want[1]).abs() < 1e-9 * want[0].hypot(want[1]).max(1e-30));
        }
    }
}

#[test]
fn arg_reductions_follow_tensorflow() {
    let (nan, inf, low) = (f32::NAN, f32::INFINITY, f32::MIN);
    let rows = [[1.0, nan, 3.0, 3.0], [nan; 4], [-inf; 4], [nan, 5.0, 1.0, 2.0], [-inf, low, -inf, low], [nan, -inf, 2.0, 2.0]];
    let arg = |x: &[f32], outer, n, inner, min| {
        let mut y = vec![9i64; (outer * inner) as usize];
        let a = ArgReduceArgs { x: x.as_ptr().cast(), y: y.as_mut_ptr().cast(), elem: 0, min, outer, n, inner, index_bytes: 0 };
        run(2, gc_arg_reduce, &a);
        y
    };
    let x = rows.concat();
    assert_eq!(arg(&x, 6, 4, 1, 0), [2, 0, 0, 1, 0, 2]);
    let negative: Vec<f32> = x.iter().map(|v| -v).collect();
    assert_eq!(arg(&negative, 6, 4, 1, 1), [2, 0, 0, 1, 0, 2]);
    let across: Vec<f32> = (0..24).map(|i| x[i % 6 * 4 + i / 6]).collect();
    assert_eq!(arg(&across, 1, 4, 6, 0), [2, 0, 0, 1, 0, 2]);

    let mut random = Random::new(6);
    for n in [1usize, 63, 64, 65, 1000] {
        let x: Vec<i16> = (0..3 * n * 70).map(|_| random.below(50) as i16 - 25).collect();
        let mut y = vec![0i32; 210];
        let a = ArgReduceArgs {
            x: x.as_ptr().cast(),
            y: y.as_mut_ptr().cast(),
            elem: elem::I16,
            min: 0,
            outer: 3,
            n: n as i64,
            inner: 70,
            index_bytes: 4,
        };
        run(2, gc_arg_reduce, &a);
        for (i, &y) in y.iter().enumerate() {
            let column: Vec<i16> = (0..n).map(|j| x[(i / 70 * n + j) * 70 + i % 70]).collect();
            let max = column.iter().copied().max();
            assert_eq!(Some(y as usize), column.iter().position(|&v| Some(v) == max));
        }
        run(1, gc_arg_reduce, &ArgReduceArgs { outer: 210, inner: 1, ..a });
        for (i, &y) in y.iter().enumerate() {
            let row = &x[i * n..(i + 1) * n];
            assert_eq!(Some(y as usize), row.iter().position(|v| Some(v) == row.iter().max()));
        }
    }
}

#[test]
fn pooling() {
    each_tier(|t| {
        let mut random = Random::new(7);
        for _ in 0..40 {
            let (n, h, w, c) = (1 + random.below(2), 1 + random.below(9), 1 + random.below(9), 1 + random.below(80));
            let (k_h, k_w, s_h, s_w) = (1 + random.below(3), 1 + random.below(4), 1 + random.below(3), 1 + random.below(2));
            let (d_h, d_w) = (1 + random.below(2), 1 + random.below(2));
            let (p_t, p_l) = (random.below(k_h), random.below(k_w));
            let (o_h, o_w) = (h.div_ceil(s_h), w.div_ceil(s_w));
            let x = random.reals(n * h * w * c, 1.0);
            for kind in [pool::AVG, pool::MAX, pool::AVG_WITH_PADDING] {
                let mut y = vec![0f32; n * o_h * o_w * c];
                let a = Pool2dArgs {
                    x: x.as_ptr(),
                    y: y.as_mut_ptr(),
                    kind,
                    n: n as i64,
                    h: h as i64,
                    w: w as i64,
                    c: c as i64,
                    out_h: o_h as i64,
                    out_w: o_w as i64,
                    k_h: k_h as i64,
                    k_w: k_w as i64,
                    stride_h: s_h as i64,
                    stride_w: s_w as i64,
                    pad_top: p_t as i64,
                    pad_left: p_l as i64,
                    dil_h: d_h as i64,
                    dil_w: d_w as i64,
                };
                run(2, gc_pool2d_f32, &a);
                let mut want = Vec::new();
                for o in 0..n * o_h * o_w * c {
                    let (ch, s, r, b) = (o % c, o / c % o_w, o / c / o_w % o_h, o / c / o_w / o_h);
                    let (mut sum, mut max, mut count) = (0f64, f32::MIN as f64, 0);
                    for (i, j) in (0..k_h).flat_map(|i| (0..k_w).map(move |j| (i, j))) {
                        let (row, col) = ((r * s_h + i * d_h) as i64 - p_t as i64, (s * s_w + j * d_w) as i64 - p_l as i64);
                        if row >= 0 && col >= 0 && row < h as i64 && col < w as i64 {
                            let v = x[((b * h + row as usize) * w + col as usize) * c + ch] as f64;
                            (sum, max, count) = (sum + v, max.max(v), count + 1);
                        }
                    }
                    want.push(match kind {
                        pool::AVG => sum / count as f64,
                        pool::MAX => max,
                        _ => sum / (k_h * k_w) as f64,
                    });
                }
                close(&format!("pool {t:?} {a:?}"), &y, &want, 1e-6);
            }
        }
        // As in TensorFlow.
        let x = [f32::NAN, 2.0, f32::NAN, f32::NAN, f32::NEG_INFINITY, f32::NEG_INFINITY];
        let mut y = [0f32; 3];
        let a = Pool2dArgs {
            x: x.as_ptr(),
            y: y.as_mut_ptr(),
            kind: pool::MAX,
            n: 3,
            h: 1,
            w: 2,
            c: 1,
            out_h: 1,
            out_w: 1,
            k_h: 1,
            k_w: 2,
            stride_h: 1,
            stride_w: 1,
            ..zeroed()
        };
        run(1, gc_pool2d_f32, &a);
        assert_eq!(y, [2.0, f32::MIN, f32::MIN]);
    });
}

#[test]
fn resizing() {
    // From TensorFlow: x = [0, 1, 4, 9, 16] along the width, to 3 and to 8 columns.
    let x = [0f32, 1.0, 4.0, 9.0, 16.0];
    // Result's columns, align_corners, half_pixel_centers, bilinear, nearest.
    type Case = (usize, i64, i64, &'static [f64], &'static [f32]);
    let cases: [Case; 6] = [
        (3, 0, 0, &[0.0, 3.0, 11.333333015441895], &[0.0, 1.0, 9.0]),
        (3, 1, 0, &[0.0, 4.0, 16.0], &[0.0, 4.0, 16.0]),
        (3, 0, 1, &[0.3333333134651184, 4.0, 13.666666030883789], &[0.0, 4.0, 16.0]),
        (8, 0, 0, &[0.0, 0.625, 1.75, 3.625, 6.5, 9.875, 14.25, 16.0], &[0.0, 0.0, 1.0, 1.0, 4.0, 9.0, 9.0, 16.0]),
        (
            8,
            1,
            0,
            &[
                0.0,
                0.5714285969734192,
                1.4285715818405151,
                3.142857551574707,
                5.428571701049805,
                8.285715103149414,
                12.000001907348633,
                16.0,
            ],
            &[0.0, 1.0, 1.0, 4.0, 4.0, 9.0, 9.0, 16.0],
        ),
        (8, 0, 1, &[0.0, 0.4375, 1.1875, 3.0625, 5.5625, 8.6875, 12.9375, 16.0], &[0.0, 0.0, 1.0, 4.0, 4.0, 9.0, 16.0, 16.0]),
    ];
    each_tier(|t| {
        for (to, align_corners, half_pixel_centers, bilinear, nearest) in cases {
            for c in [1usize, 3, 21] {
                for vertical in [false, true] {
                    let xs: Vec<f32> = x.iter().flat_map(|&v| vec![v; c]).collect();
                    let (h, w, out_h, out_w) = if vertical { (5, 1, to as i64, 1) } else { (1, 5, 1, to as i64) };
                    let mut y = vec![0f32; to * c];
                    let a = ResizeBilinearArgs {
                        x: xs.as_ptr(),
                        y: y.as_mut_ptr(),
                        n: 1,
                        h,
                        w,
                        c: c as i64,
                        out_h,
                        out_w,
                        align_corners,
                        half_pixel_centers,
                    };
                    run(1, gc_resize_bilinear_f32, &a);
                    let want: Vec<f64> = bilinear.iter().flat_map(|&v| vec![v; c]).collect();
                    close(&format!("bilinear {t:?} {to} {align_corners} {half_pixel_centers}"), &y, &want, 1e-7);
                    let a = ResizeNearestArgs {
                        x: xs.as_ptr().cast(),
                        y: y.as_mut_ptr().cast(),
                        size: 4,
                        n: 1,
                        h,
                        w,
                        c: c as i64,
                        out_h,
                        out_w,
                        align_corners,
                        half_pixel_centers,
                    };
                    run(1, gc_resize_nearest, &a);
                    let want: Vec<f32> = nearest.iter().flat_map(|&v| vec![v; c]).collect();
                    assert_eq!(y, want, "nearest {to} {align_corners} {half_pixel_centers}");
                }
            }
        }
    });
}
