//! Products with packed weights, and packing.

mod support;

use graphc_abi::args::matrix::{GemmArgs, PackArgs, act};
use graphc_kernels::matrix::gemm::{gc_gemm_f32, gc_pack_f32};
use graphc_kernels::pack::{PANEL_WIDTHS, float_bytes, pack_panels, packed_len, panel_width, panels};
use support::*;

struct Case {
    m: usize,
    n: usize,
    k: usize,
    nr: usize,
    batch: usize,
}

fn check(case: &Case, r: &mut Rng, threads: usize) {
    let &Case { m, n, k, nr, batch } = case;
    let (lda, ldc, ldr) = (k + r.below(0, 3), n + r.below(0, 3), n + r.below(0, 3));
    let x = r.floats(batch * m * lda);
    let w = r.floats(batch * k * n);
    let e = TestEpilogue::random(r, m, n, ldr);
    let len = packed_len(k, n, nr);
    let mut packed = vec![f32::NAN; batch * len];
    for b in 0..batch {
        pack_panels(&mut packed[b * len..], float_bytes(&w[b * k * n..(b + 1) * k * n]), k, n, n, 1, nr, 0..panels(n, nr));
    }
    let mut want = vec![0f64; batch * m * n];
    for b in 0..batch {
        for i in 0..m {
            for j in 0..n {
                let sum = (0..k).map(|q| x[(b * m + i) * lda + q] as f64 * w[(b * k + q) * n + j] as f64).sum();
                want[(b * m + i) * n + j] = e.apply(sum, i, j);
            }
        }
    }
    each_tier(|tier| {
        let mut y = vec![7e7f32; batch * m * ldc + 64];
        let args = GemmArgs {
            x: x.as_ptr(),
            w: packed.as_ptr(),
            y: y.as_mut_ptr(),
            m: m as i64,
            n: n as i64,
            k: k as i64,
            nr: nr as i64,
            lda: lda as i64,
            ldc: ldc as i64,
            batch: batch as i64,
            x_batch: (m * lda) as i64,
            w_batch: len as i64,
            y_batch: (m * ldc) as i64,
            bias: e.bias(),
            bias_batch: 0,
            residual: e.residual(),
            ldr: ldr as i64,
            residual_batch: 0,
            residual_after: e.after,
            act: e.act,
            act_lo: e.lo,
            act_hi: e.hi,
            // SAFETY: all words zero is an argument list of absent operands.
            ..unsafe { core::mem::zeroed() }
        };
        assert_eq!(launch(threads, gc_gemm_f32, &args), 0);
        let mut got = vec![];
        for i in 0..batch * m {
            got.extend_from_slice(&y[i * ldc..i * ldc + n]);
            assert!(y[i * ldc + n..(i + 1) * ldc].iter().all(|&v| v == 7e7), "wrote between rows");
        }
        assert!(y[batch * m * ldc..].iter().all(|&v| v == 7e7), "wrote past the end");
        let err = error(&got, &want, k);
        assert!(err < 2e-6, "{tier:?} m {m} n {n} k {k} nr {nr} batch {batch} threads {threads} act {}: error {err:e}", e.act);
    });
}

#[test]
fn gemm_agrees_with_f64() {
    let mut r = Rng(1);
    for _ in 0..150 {
        let case = Case {
            m: r.pick(&[1, 2, 3, 5, 13, 14, 15, 29, 49, 100]),
            n: r.pick(&[1, 7, 16, 17, 24, 31, 32, 33, 40, 56, 64, 100, 130]),
            k: r.pick(&[1, 2, 3, 16, 33, 64, 200]),
            nr: r.pick(&PANEL_WIDTHS),
            batch: r.pick(&[1, 1, 3]),
        };
        let threads = r.pick(&[1, 1, 3]);
        check(&case, &mut r, threads);
    }
}

#[test]
fn gemm_large_blocks_and_threads() {
    let mut r = Rng(2);
    for (m, n, k, nr, threads) in [(37, 40, 4700, 32, 1), (450, 70, 300, 32, 3), (60, 200, 2100, 64, 3), (410, 33, 1700, 48, 2)] {
        check(&Case { m, n, k, nr, batch: 1 }, &mut r, threads);
    }
}

/// Vectors that hold two steps side by side take nothing from beyond a row and mix nothing into their neighbours.
#[test]
fn half_empty_vectors() {
    let mut r = Rng(3);
    for (n, nr) in [(17, 32), (24, 32), (33, 48), (40, 48), (72, 48), (88, 64)] {
        for m in [1, 2, 9, 13, 14, 27] {
            for k in [1, 2, 5, 8] {
                check(&Case { m, n, k, nr, batch: 1 }, &mut r, 1);
            }
        }
    }
    let (n, k, nr) = (24, 3, 32);
    let mut packed = vec![0f32; packed_len(k, n, nr)];
    pack_panels(&mut packed, float_bytes(&vec![1f32; k * n]), k, n, n, 1, nr, 0..panels(n, nr));
    // An infinite element; what lies behind the row is no number.
    let x = [1.0, f32::INFINITY, 2.0, f32::NAN, f32::NAN, f32::NAN];
    let mut y = vec![0f32; n];
    // SAFETY: all words zero is an argument list of absent operands.
    let mut args: GemmArgs = unsafe { core::mem::zeroed() };
    (args.x, args.w, args.y) = (x.as_ptr(), packed.as_ptr(), y.as_mut_ptr());
    (args.m, args.n, args.k, args.nr) = (1, n as i64, k as i64, nr as i64);
    each_tier(|tier| {
        assert_eq!(launch(1, gc_gemm_f32, &args), 0);
        assert!(y.iter().all(|&v| v == f32::INFINITY), "{tier:?} {y:?}");
    });
}

#[test]
fn gemm_without_rows_or_terms() {
    let y = &mut [3f32; 6];
    let bias = [1f32, -2.0, 3.0];
    // SAFETY: all words zero is an argument list of absent operands.
    let mut args: GemmArgs = unsafe { core::mem::zeroed() };
    args.y = y.as_mut_ptr();
    (args.m, args.n, args.k, args.nr) = (2, 3, 0, 16);
    args.bias = bias.as_ptr();
    args.act = act::RELU;
    let w = [0f32; 16];
    (args.x, args.w) = (w.as_ptr(), w.as_ptr());
    each_tier(|_| {
        assert_eq!(launch(1, gc_gemm_f32, &args), 0);
    });
    assert_eq!(*y, [1.0, 0.0, 3.0, 1.0, 0.0, 3.0]);
    args.m = 0;
    assert_eq!(launch(1, gc_gemm_f32, &args), 0);
    args.m = -1;
    assert_ne!(launch(1, gc_gemm_f32, &args), 0);
    (args.m, args.act) = (1, 99);
    assert_ne!(launch(1, gc_gemm_f32, &args), 0);
}

/// The residual may lie where the result goes.
#[test]
fn gemm_in_place_residual() {
    let mut r = Rng(3);
    for (k, code, after) in [(30, act::RELU, 0), (30, act::TANH, 1), (5000, act::NONE, 0), (5000, act::SILU, 1)] {
        let (m, n, nr) = (40, 50, 32);
        let (x, w, res) = (r.floats(m * k), r.floats(k * n), r.floats(m * n));
        let mut packed = vec![0f32; packed_len(k, n, nr)];
        pack_panels(&mut packed, float_bytes(&w), k, n, n, 1, nr, 0..panels(n, nr));
        let e = TestEpilogue { bias: None, residual: Some(res.clone()), ldr: n, after, act: code, lo: 0.0, hi: 0.0 };
        let mut want = vec![];
        for i in 0..m {
            for j in 0..n {
                want.push(e.apply((0..k).map(|q| x[i * k + q] as f64 * w[q * n + j] as f64).sum(), i, j));
            }
        }
        each_tier(|tier| {
            let mut y = res.clone();
            // SAFETY: all words zero is an argument list of absent operands.
            let mut args: GemmArgs = unsafe { core::mem::zeroed() };
            (args.x, args.w, args.y, args.residual) = (x.as_ptr(), packed.as_ptr(), y.as_mut_ptr(), y.as_ptr());
            (args.m, args.n, args.k, args.nr) = (m as i64, n as i64, k as i64, nr as i64);
            (args.act, args.residual_after) = (code, after);
            assert_eq!(launch(1, gc_gemm_f32, &args), 0);
            let err = error(&y, &want, k);
            assert!(err < 4e-6, "{tier:?} k {k} act {code}: error {err:e}");
        });
    }
}

/// The order of summation does not depend on the number of threads.
#[test]
fn gemm_gives_the_same_bits_on_any_number_of_threads() {
    let mut r = Rng(5);
    for (m, n, k) in [(60, 200, 4000), (450, 40, 3000), (1, 300, 3000), (30, 16, 5000)] {
        let (x, w, nr) = (r.floats(m * k), r.floats(k * n), 32);
        let mut packed = vec![0f32; packed_len(k, n, nr)];
        pack_panels(&mut packed, float_bytes(&w), k, n, n, 1, nr, 0..panels(n, nr));
        each_tier(|tier| {
            let of = |threads| {
                let mut y = vec![0f32; m * n];
                // SAFETY: all words zero is an argument list of absent operands.
                let mut args: GemmArgs = unsafe { core::mem::zeroed() };
                (args.x, args.w, args.y) = (x.as_ptr(), packed.as_ptr(), y.as_mut_ptr());
                (args.m, args.n, args.k, args.nr) = (m as i64, n as i64, k as i64, nr as i64);
                assert_eq!(launch(threads, gc_gemm_f32, &args), 0);
                y
            };
            let one = of(1);
            assert!([2, 3, 8].into_iter().all(|t| of(t) == one), "{tier:?} {m}x{n}x{k}");
        });
    }
}

#[test]
fn packing_by_rows_and_columns() {
    let mut r = Rng(4);
    for _ in 0..60 {
        let (k, n, nr) = (r.pick(&[1, 5, 16, 17, 40, 64]), r.pick(&[1, 15, 16, 33, 70, 128]), r.pick(&PANEL_WIDTHS));
        let src = r.floats(k * n + 10);
        let (row, col) = if r.below(0, 2) == 0 { (n, 1) } else { (1, k) };
        let want: Vec<f32> = (0..panels(n, nr))
            .flat_map(|p| (0..k).flat_map(move |i| (0..nr).map(move |j| (i, p * nr + j))))
            .map(|(i, j)| if j < n { src[i * row + j * col] } else { 0.0 })
            .collect();
        each_tier(|tier| {
            let mut whole = vec![f32::NAN; packed_len(k, n, nr)];
            pack_panels(&mut whole, float_bytes(&src), k, n, row, col, nr, 0..panels(n, nr));
            assert_eq!(whole, want, "{tier:?}");
            let mut halves = vec![f32::NAN; want.len()];
            let cut = panels(n, nr) / 2;
            let (a, b) = halves.split_at_mut(cut * k * nr);
            pack_panels(a, float_bytes(&src), k, n, row, col, nr, 0..cut);
            pack_panels(b, float_bytes(&src), k, n, row, col, nr, cut..panels(n, nr));
            assert_eq!(halves, want);
            let mut kernel = vec![f32::NAN; want.len()];
            let args = PackArgs {
                src: src.as_ptr(),
                dst: kernel.as_mut_ptr(),
                k: k as i64,
                n: n as i64,
                nr: nr as i64,
                src_row: row as i64,
                src_col: col as i64,
                batch: 0,
                src_batch: 0,
                dst_batch: 0,
            };
            assert_eq!(launch(3, gc_pack_f32, &args), 0);
            assert_eq!(kernel, want);
        });
    }
}

#[test]
fn panel_widths_waste_little() {
    for n in 1..300 {
        for m in [None, Some(1), Some(49), Some(1000)] {
            let nr = panel_width(m, n, 64);
            assert!(PANEL_WIDTHS.contains(&nr));
        }
    }
    assert_eq!(panel_width(None, 512, 512), 32);
    assert_eq!(panel_width(None, 48, 512), 48);
    assert_eq!([8, 16, 24, 40, 240].map(|n| panel_width(None, n, 512)), [16, 16, 32, 48, 48]);
}

#[test]
fn activations_at_their_edges() {
    let values = [0.0, -0.0, 1e-8, -1e-8, 0.3, -0.3, 3.0, -3.0, 9.0, -9.0, 40.0, -40.0, 87.0, -87.0, 100.0, -100.0, 1e4, -1e4];
    let mut all: Vec<f32> = values.to_vec();
    all.extend((0..4000).map(|i| i as f32 * 0.005 - 10.0));
    let (n, nr) = (all.len(), 32);
    let mut packed = vec![0f32; packed_len(1, n, nr)];
    pack_panels(&mut packed, float_bytes(&all), 1, n, n, 1, nr, 0..panels(n, nr));
    for code in 0..12 {
        each_tier(|tier| {
            let one = [1f32];
            let mut y = vec![0f32; n];
            // SAFETY: all words zero is an argument list of absent operands.
            let mut args: GemmArgs = unsafe { core::mem::zeroed() };
            (args.x, args.w, args.y) = (one.as_ptr(), packed.as_ptr(), y.as_mut_ptr());
            (args.m, args.n, args.k, args.nr, args.act) = (1, n as i64, 1, nr as i64, code);
            (args.act_lo, args.act_hi) = (if code == act::LEAKY_RELU { 0.1 } else { -1.0 }, 2.0);
            assert_eq!(launch(1, gc_gemm_f32, &args), 0);
            for (x, y) in all.iter().zip(&y) {
                let want = activate(code, *x as f64, args.act_lo, args.act_hi);
                let err = (*y as f64 - want).abs() / want.abs().max(1.0);
                assert!(err < 1e-6, "{tier:?} act {code} x {x}: {y} for {want}, error {err:e}");
            }
            let nan = [f32::NAN];
            args.x = nan.as_ptr();
            assert_eq!(launch(1, gc_gemm_f32, &args), 0);
            assert!(y.iter().all(|v| v.is_nan()), "{tier:?} act {code} drops NaN");
        });
    }
}

/// Products that share their weights, with rows `[m, batch]` apart as well as `[batch, m]`: whichever is longer.
#[test]
fn gemm_of_batches_with_common_weights() {
    let mut r = Rng(7);
    for (m, batch) in [(1, 9), (1, 40), (3, 20), (20, 3), (2, 2)] {
        for (outer_batch, with_residual, threads) in [(true, false, 1), (true, true, 3), (false, false, 3), (false, true, 1)] {
            let (n, k, nr) = (40, 33, 32);
            let (x, w, residual) = (r.floats(m * batch * k), r.floats(k * n), r.floats(m * batch * n));
            let bias = r.floats(n);
            let mut packed = vec![0f32; packed_len(k, n, nr)];
            pack_panels(&mut packed, float_bytes(&w), k, n, n, 1, nr, 0..panels(n, nr));
            // Row `i` of product `b` is row `b * of_batch + i * of_row` of all.
            let [of_row, of_batch] = if outer_batch { [1, m] } else { [batch, 1] };
            let mut want = vec![0f64; m * batch * n];
            for at in 0..m * batch {
                for j in 0..n {
                    let sum: f64 = (0..k).map(|q| x[at * k + q] as f64 * w[q * n + j] as f64).sum();
                    let added = if with_residual { residual[at * n + j] as f64 } else { 0.0 };
                    want[at * n + j] = sum + bias[j] as f64 + added;
                }
            }
            each_tier(|tier| {
                let mut y = vec![0f32; m * batch * n];
                let args = GemmArgs {
                    x: x.as_ptr(),
                    w: packed.as_ptr(),
                    y: y.as_mut_ptr(),
                    m: m as i64,
                    n: n as i64,
                    k: k as i64,
                    nr: nr as i64,
                    lda: (of_row * k) as i64,
                    ldc: (of_row * n) as i64,
                    ldr: (of_row * n) as i64,
                    batch: batch as i64,
                    x_batch: (of_batch * k) as i64,
                    y_batch: (of_batch * n) as i64,
                    residual_batch: (of_batch * n) as i64,
                    bias: bias.as_ptr(),
                    residual: if with_residual { residual.as_ptr() } else { core::ptr::null() },
                    // SAFETY: all words zero is an argument list of absent operands.
                    ..unsafe { core::mem::zeroed() }
                };
                assert_eq!(launch(threads, gc_gemm_f32, &args), 0);
                let err = error(&y, &want, k);
                assert!(err < 2e-6, "{tier:?} m {m} batch {batch} of_row {of_row} residual {with_residual}: error {err:e}");
            });
        }
    }
}
