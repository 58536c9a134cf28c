//! Winograd convolutions against a loop in f64, and against the direct kernel.

mod support;

use graphc_abi::args::matrix::{Conv2dArgs, WinogradArgs};
use graphc_kernels::conv::forward::gc_conv2d_f32;
use graphc_kernels::conv::winograd::filter::{pack_rows, packed_len, points};
use graphc_kernels::conv::winograd::gc_winograd_f32;
use graphc_kernels::pack::{PANEL_WIDTHS, float_bytes, pack_panels, panels};
use graphc_kernels::tier::{Tier, force};
use support::*;

#[derive(Debug, Clone, Copy)]
struct Case {
    batch: usize,
    input: [usize; 2],
    c: usize,
    n: usize,
    /// Top, left, bottom, right.
    pad: [usize; 4],
    outputs: usize,
    nr: usize,
    threads: usize,
}

fn packed(filter: &[f32], case: &Case) -> Vec<f32> {
    let Case { c, n, outputs, nr, .. } = *case;
    let mut u = vec![f32::NAN; packed_len(outputs, c, n, nr)];
    let row = u.len() / points(outputs);
    // In two parts, as threads may.
    let (first, rest) = u.split_at_mut(row);
    pack_rows(first, float_bytes(filter), outputs, c, n, nr, 0..1);
    pack_rows(rest, float_bytes(filter), outputs, c, n, nr, 1..points(outputs));
    u
}

fn check(case: Case, r: &mut Rng) {
    let Case { batch, input: [h, w], c, n, pad, outputs, nr, threads } = case;
    let direct_case = windows::Case {
        batch,
        input: [h, w],
        in_c: c,
        out_c: n,
        k: [3, 3],
        stride: [1, 1],
        dil: [1, 1],
        pad,
        groups: 1,
        nr: 32,
        threads,
    };
    let Some([oh, ow]) = direct_case.output() else { return };
    let (ldx, ldc, ldr) = (c + r.pick(&[0, 0, 3]), n + r.pick(&[0, 0, 5]), n + r.pick(&[0, 0, 2]));
    let x = r.floats(batch * h * w * ldx);
    let filter = r.floats(9 * c * n);
    let rows = batch * oh * ow;
    let e = TestEpilogue::random(r, rows, n, ldr);
    let want = e.of_sums(&direct_case.sums(ldx, |i| x[i] as f64, |i| filter[i] as f64, 0.0), n);
    let (direct_nr, mut direct) = (32, vec![0f32; graphc_kernels::pack::packed_len(9 * c, n, 32)]);
    pack_panels(&mut direct, float_bytes(&filter), 9 * c, n, n, 1, direct_nr, 0..panels(n, direct_nr));
    let weights = packed(&filter, &case);
    each_tier(|tier| {
        assert_eq!(packed(&filter, &case), weights, "packed weights depend on the tier");
        let mut y = vec![7e7f32; rows * ldc + 64];
        let args = WinogradArgs {
            x: x.as_ptr(),
            w: weights.as_ptr(),
            y: y.as_mut_ptr(),
            batch: batch as i64,
            in_h: h as i64,
            in_w: w as i64,
            in_c: c as i64,
            out_h: oh as i64,
            out_w: ow as i64,
            out_c: n as i64,
            pad_top: pad[0] as i64,
            pad_left: pad[1] as i64,
            outputs: outputs as i64,
            nr: nr as i64,
            ldx: ldx as i64,
            ldc: ldc as i64,
            bias: e.bias(),
            residual: e.residual(),
            ldr: ldr as i64,
            residual_after: e.after,
            act: e.act,
            act_lo: e.lo,
            act_hi: e.hi,
        };
        assert_eq!(launch(threads, gc_winograd_f32, &args), 0, "{case:?}");
        let pixels = |y: &[f32]| -> Vec<f32> { (0..rows).flat_map(|i| y[i * ldc..i * ldc + n].to_vec()).collect() };
        let got = pixels(&y);
        let untouched = |y: &[f32]| (0..rows).all(|i| y[i * ldc + n..(i + 1) * ldc].iter().all(|&v| v == 7e7));
        assert!(untouched(&y) && y[rows * ldc..].iter().all(|&v| v == 7e7), "wrote beyond the output");
        let err = error(&got, &want, 9 * c);
        // A product adds its channels one after the other.
        let bound = 4e-6 * (c as f64 / 512.0).max(1.0).sqrt();
        assert!(err < bound, "{tier:?} {case:?} act {}: error {err:e}", e.act);
        // The same bits on any number of threads.
        let mut again = vec![7e7f32; rows * ldc + 64];
        let other = WinogradArgs { y: again.as_mut_ptr(), ..args };
        assert_eq!(launch(if threads == 1 { 2 } else { 1 }, gc_winograd_f32, &other), 0);
        assert!(again == y, "{tier:?} {case:?}: threads change the result");
        let mut plain = vec![7e7f32; rows * ldc + 64];
        let args = Conv2dArgs {
            x: x.as_ptr(),
            w: direct.as_ptr(),
            y: plain.as_mut_ptr(),
            ldx: ldx as i64,
            ldc: ldc as i64,
            ..direct_case.args(&e)
        };
        assert_eq!(launch(threads, gc_conv2d_f32, &args), 0, "{case:?}");
        let plain: Vec<f64> = pixels(&plain).iter().map(|&v| v as f64).collect();
        assert!(error(&got, &plain, 9 * c) < 2.0 * bound, "{tier:?} {case:?}: far from the direct kernel");
    });
}

#[test]
fn winograd_agrees_with_f64() {
    let mut r = Rng(21);
    for i in 0..160 {
        let case = Case {
            batch: r.pick(&[1, 1, 2, 3]),
            input: [r.below(1, 19), r.pick(&[1, 2, 4, 5, 7, 9, 14, 23])],
            c: r.pick(&[1, 2, 3, 8, 16, 17, 32, 50]),
            n: r.pick(&[1, 5, 16, 24, 33, 70]),
            pad: match i % 3 {
                0 => [1; 4],
                1 => [0; 4],
                _ => [r.below(0, 4), r.below(0, 3), r.below(0, 3), r.below(0, 6)],
            },
            outputs: r.pick(&[2, 4]),
            nr: r.pick(&PANEL_WIDTHS),
            threads: r.pick(&[1, 2, 3]),
        };
        check(case, &mut r);
    }
}

#[test]
fn winograd_of_real_shapes() {
    let mut r = Rng(22);
    for outputs in [2, 4] {
        let base = Case { batch: 1, input: [14, 14], c: 256, n: 256, pad: [1; 4], outputs, nr: 32, threads: 2 };
        check(base, &mut r);
        check(Case { input: [28, 28], c: 128, n: 128, ..base }, &mut r);
        check(Case { batch: 5, input: [7, 7], c: 200, n: 72, nr: 64, ..base }, &mut r);
        // Columns in several parts, blocks of few tiles.
        check(Case { input: [10, 9], c: 700, n: 130, ..base }, &mut r);
        check(Case { input: [8, 8], c: 4096, n: 20, ..base }, &mut r);
    }
}

#[test]
fn only_documented_sizes() {
    // SAFETY: arguments consist of pointers and numbers, for all of which zero is a value.
    let zero: WinogradArgs = unsafe { core::mem::zeroed() };
    let args = WinogradArgs { outputs: 4, nr: 32, ..zero };
    assert_eq!(launch(1, gc_winograd_f32, &args), 0);
    assert_ne!(launch(1, gc_winograd_f32, &WinogradArgs { outputs: 3, ..args }), 0);
    assert_ne!(launch(1, gc_winograd_f32, &WinogradArgs { nr: 33, ..args }), 0);
    assert_ne!(launch(1, gc_winograd_f32, &WinogradArgs { in_c: 4097, ..args }), 0);
    assert_ne!(launch(1, gc_winograd_f32, &WinogradArgs { in_h: -1, ..args }), 0);
}

/// Images as networks have them after a rectifier, at the sizes of a ResNet.
#[test]
fn error_of_rectified_images() {
    if !force(Tier::Avx512) {
        return;
    }
    let mut r = Rng(23);
    for outputs in [2, 4] {
        let (h, c, n) = (14, 256, 32);
        let x: Vec<f32> = r.floats(h * h * c).iter().map(|v| v.max(0.0)).collect();
        let case = Case { batch: 1, input: [h, h], c, n, pad: [0; 4], outputs, nr: 32, threads: 1 };
        let filter: Vec<f32> = r.floats(9 * c * n);
        let weights = packed(&filter, &case);
        let o = h - 2;
        let mut y = vec![0f32; o * o * n];
        // SAFETY: as above.
        let zero: WinogradArgs = unsafe { core::mem::zeroed() };
        let args = WinogradArgs {
            x: x.as_ptr(),
            w: weights.as_ptr(),
            y: y.as_mut_ptr(),
            batch: 1,
            in_h: h as i64,
            in_w: h as i64,
            in_c: c as i64,
            out_h: o as i64,
            out_w: o as i64,
            out_c: n as i64,
            outputs: outputs as i64,
            nr: 32,
            ..zero
        };
        assert_eq!(launch(1, gc_winograd_f32, &args), 0);
        let (mut worst, mut scale) = (0f64, 0f64);
        for (i, &got) in y.iter().enumerate() {
            let (oy, ox, col) = (i / n / o, i / n % o, i % n);
            let terms = (0..9 * c).map(|t| {
                let (tap, ch) = (t / c, t % c);
                x[((oy + tap / 3) * h + ox + tap % 3) * c + ch] as f64 * filter[t * n + col] as f64
            });
            let want: f64 = terms.sum();
            worst = worst.max((got as f64 - want).abs());
            scale = scale.max(want.abs());
        }
        assert!(worst / scale < 4e-6, "F({outputs}): {:e}", worst / scale);
    }
}
