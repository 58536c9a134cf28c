//! Convolutions against loops in f64.

mod support;

use graphc_abi::args::matrix::{Conv2dArgs, ConvTransposeArgs, PackTransposeArgs};
use graphc_kernels::conv::forward::gc_conv2d_f32;
use graphc_kernels::conv::transpose::{gc_conv_transpose_f32, gc_pack_conv_transpose_f32};
use graphc_kernels::pack::{PANEL_WIDTHS, float_bytes, pack_conv_transpose, pack_panels, packed_len, panels};
use support::windows::Case;
use support::*;

fn check(case: Case, r: &mut Rng) {
    let Case { in_c, out_c, k: [kh, kw], groups, nr, threads, .. } = case;
    if case.output().is_none() {
        return;
    }
    let (cg, ng) = (in_c / groups, out_c / groups);
    let (ldx, ldc, ldr) = (in_c + r.pick(&[0, 0, 3]), out_c + r.pick(&[0, 0, 5]), out_c + r.pick(&[0, 0, 2]));
    let x = r.floats(case.batch * case.input[0] * case.input[1] * ldx);
    let filter = r.floats(kh * kw * cg * out_c);
    let rows = case.rows();
    let e = TestEpilogue::random(r, rows, out_c, ldr);
    let depth = kh * kw * cg;
    let len = packed_len(depth, ng, nr);
    let mut packed = vec![f32::NAN; groups * len];
    for g in 0..groups {
        pack_panels(&mut packed[g * len..], float_bytes(&filter[g * ng..]), depth, ng, out_c, 1, nr, 0..panels(ng, nr));
    }
    let want = e.of_sums(&case.sums(ldx, |i| x[i] as f64, |i| filter[i] as f64, 0.0), out_c);
    each_tier(|tier| {
        let mut y = vec![7e7f32; rows * ldc + 64];
        let (ldx, ld) = (ldx as i64, ldc as i64);
        let args = Conv2dArgs { x: x.as_ptr(), w: packed.as_ptr(), y: y.as_mut_ptr(), ldx, ldc: ld, ..case.args(&e) };
        assert_eq!(launch(threads, gc_conv2d_f32, &args), 0, "{case:?}");
        for last_first in [false, true] {
            let mut again = vec![7e7f32; y.len()];
            let other = Conv2dArgs { y: again.as_mut_ptr(), ..args };
            assert_eq!(launch_in_order(last_first, threads, gc_conv2d_f32, &other), 0);
            assert!(again == y, "{tier:?} {case:?}: the order of the parts changes the result");
        }
        let got: Vec<f32> = (0..rows).flat_map(|i| y[i * ldc..i * ldc + out_c].to_vec()).collect();
        assert!(y[rows * ldc..].iter().all(|&v| v == 7e7), "wrote past the end");
        let err = error(&got, &want, depth);
        assert!(err < 2e-6, "{tier:?} {case:?} act {}: error {err:e}", e.act);
    });
}

#[test]
fn conv2d_agrees_with_f64() {
    let mut r = Rng(11);
    for i in 0..220 {
        let groups = r.pick(&[1, 1, 1, 2, 3]);
        let case = Case {
            batch: r.pick(&[1, 1, 2, 3]),
            input: [r.pick(&[1, 3, 7, 10, 17]), r.pick(&[1, 4, 9, 14, 23])],
            in_c: groups * r.pick(&[1, 2, 3, 8, 17, 32]),
            out_c: groups * r.pick(&[1, 5, 16, 24, 33]),
            k: [r.pick(&[1, 2, 3, 5]), r.pick(&[1, 3, 4, 7])],
            stride: [r.pick(&[1, 1, 2, 3]), r.pick(&[1, 1, 2, 3])],
            dil: if i % 3 == 0 { [r.pick(&[1, 2]), r.pick(&[1, 3])] } else { [1, 1] },
            pad: [r.pick(&[0, 1, 3]), r.pick(&[0, 1, 2]), r.pick(&[0, 1, 4]), r.pick(&[0, 2, 5])],
            groups,
            nr: r.pick(&PANEL_WIDTHS),
            threads: r.pick(&[1, 1, 3]),
        };
        check(case, &mut r);
    }
}

#[test]
fn conv2d_of_real_shapes() {
    let mut r = Rng(12);
    let base = Case {
        batch: 1,
        input: [30, 30],
        in_c: 3,
        out_c: 40,
        k: [7, 7],
        stride: [2, 2],
        dil: [1, 1],
        pad: [3, 3, 3, 3],
        groups: 1,
        nr: 32,
        threads: 3,
    };
    check(base, &mut r);
    check(Case { batch: 2, input: [61, 47], pad: [2, 2, 3, 3], ..base }, &mut r);
    check(Case { in_c: 1, input: [90, 1200], k: [3, 39], stride: [1, 3], pad: [1, 18, 1, 19], out_c: 8, ..base }, &mut r);
    check(Case { in_c: 64, input: [28, 28], k: [3, 3], stride: [1, 1], pad: [1; 4], out_c: 33, ..base }, &mut r);
    check(Case { in_c: 5000, input: [3, 3], k: [3, 3], stride: [1, 1], pad: [1; 4], out_c: 4, ..base }, &mut r);
    check(Case { in_c: 1100, input: [6, 9], k: [1, 1], pad: [0, 1, 0, 1], out_c: 130, ..base }, &mut r);
    for out_c in 1..=9 {
        let (k, stride) = ([3, 5], [1, r.pick(&[1, 3])]);
        check(Case { in_c: 33, input: [12, 26], k, stride, pad: [1, 2, 1, 2], out_c, nr: 16, ..base }, &mut r);
        check(Case { in_c: 70, input: [9, 11], k: [1, 1], stride: [1, 1], pad: [0; 4], out_c, nr: 16, ..base }, &mut r);
    }
    check(Case { in_c: 1, input: [1, 5000], k: [1, 256], stride: [1, 2], pad: [0; 4], out_c: 1, nr: 16, ..base }, &mut r);
    // Lines long enough for products of their own, ragged or not, in one panel.
    for (w, out_c, nr, pad) in
        [(60, 16, 16, [0, 0, 1, 1]), (75, 24, 32, [1, 1, 1, 1]), (49, 32, 32, [0, 0, 0, 0]), (97, 40, 48, [2, 3, 1, 2])]
    {
        let k = [3, r.pick(&[3, 5])];
        check(Case { batch: 2, input: [9, w], k, out_c, nr, pad, ..base }, &mut r);
    }
    // Few output channels, which go by planes.
    for out_c in 1..=4 {
        for in_c in [1, 3, 8, 16, 33] {
            let stride = [r.pick(&[1, 1, 2]), r.pick(&[1, 1, 2, 3])];
            let dil = [r.pick(&[1, 1, 2]), r.pick(&[1, 1, 3])];
            let k = [r.pick(&[1, 3, 5, 7]), r.pick(&[1, 3, 4, 6])];
            let (input, pad) = ([r.pick(&[1, 9, 16]), r.pick(&[60, 91, 130])], [2, 3, r.pick(&[0, 4]), r.pick(&[1, 2])]);
            check(Case { batch: 2, in_c, input, k, stride, dil, pad, out_c, nr: 16, ..base }, &mut r);
        }
    }
    // Long kernels of few output channels, pixels of which fold into columns.
    for (c, out_c, k, stride) in
        [(1, 1, [1, 100], [1, 2]), (2, 1, [2, 50], [1, 1]), (1, 3, [3, 40], [2, 2]), (1, 4, [1, 31], [1, 2])]
    {
        check(Case { batch: 2, in_c: c, input: [4, 2100], k, stride, pad: [1, 9, 1, 20], out_c, nr: 16, ..base }, &mut r);
        check(Case { in_c: c, input: [3, 2300], k, stride, pad: [0; 4], out_c, nr: 32, ..base }, &mut r);
    }
    check(Case { in_c: 1, input: [1, 9000], k: [1, 4000], stride: [1, 400], pad: [0, 1999, 0, 2000], out_c: 4, ..base }, &mut r);
}

fn check_transpose(case: Case, r: &mut Rng) {
    // `input` is the forward input, so the larger image: here the output.
    let Case { batch, input: [out_h, out_w], in_c, out_c, k: [kh, kw], stride, dil, pad, nr, threads, .. } = case;
    let Some([h, w]) = case.output() else { return };
    let x = r.floats(batch * h * w * in_c);
    let filter = r.floats(kh * kw * out_c * in_c);
    let rows = batch * out_h * out_w;
    let e = TestEpilogue::random(r, rows, out_c, out_c);
    let len = packed_len(kh * kw * in_c, out_c, nr);
    let mut packed = vec![f32::NAN; len];
    pack_conv_transpose(&mut packed, float_bytes(&filter), [kh, kw], out_c, in_c, stride, dil, nr);
    let mut sums = vec![0f64; rows * out_c];
    for b in 0..batch {
        for (iy, ix) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
            for (ky, kx) in (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))) {
                let (oy, ox) =
                    ((iy * stride[0] + ky * dil[0]).wrapping_sub(pad[0]), (ix * stride[1] + kx * dil[1]).wrapping_sub(pad[1]));
                if oy < out_h && ox < out_w {
                    for o in 0..out_c {
                        for c in 0..in_c {
                            sums[((b * out_h + oy) * out_w + ox) * out_c + o] += x[((b * h + iy) * w + ix) * in_c + c] as f64
                                * filter[((ky * kw + kx) * out_c + o) * in_c + c] as f64;
                        }
                    }
                }
            }
        }
    }
    let want: Vec<f64> = sums.iter().enumerate().map(|(i, &s)| e.apply(s, i / out_c, i % out_c)).collect();
    each_tier(|tier| {
        let mut again = vec![f32::NAN; len];
        let args = PackTransposeArgs {
            src: filter.as_ptr(),
            dst: again.as_mut_ptr(),
            k_h: kh as i64,
            k_w: kw as i64,
            out_c: out_c as i64,
            in_c: in_c as i64,
            stride_h: stride[0] as i64,
            stride_w: stride[1] as i64,
            dil_h: dil[0] as i64,
            dil_w: dil[1] as i64,
            nr: nr as i64,
        };
        assert_eq!(launch(1, gc_pack_conv_transpose_f32, &args), 0);
        assert_eq!(again, packed);
        let mut y = vec![7e7f32; rows * out_c + 64];
        let args = ConvTransposeArgs {
            x: x.as_ptr(),
            w: packed.as_ptr(),
            y: y.as_mut_ptr(),
            batch: batch as i64,
            in_h: h as i64,
            in_w: w as i64,
            in_c: in_c as i64,
            out_h: out_h as i64,
            out_w: out_w as i64,
            out_c: out_c as i64,
            k_h: kh as i64,
            k_w: kw as i64,
            stride_h: stride[0] as i64,
            stride_w: stride[1] as i64,
            dil_h: dil[0] as i64,
            dil_w: dil[1] as i64,
            pad_top: pad[0] as i64,
            pad_left: pad[1] as i64,
            nr: nr as i64,
            bias: e.bias(),
            residual: e.residual(),
            residual_after: e.after,
            act: e.act,
            act_lo: e.lo,
            act_hi: e.hi,
        };
        assert_eq!(launch(threads, gc_conv_transpose_f32, &args), 0, "{case:?}");
        assert!(y[rows * out_c..].iter().all(|&v| v == 7e7), "wrote past the end");
        let err = error(&y[..rows * out_c], &want, kh * kw * in_c);
        assert!(err < 2e-6, "{tier:?} {case:?}: error {err:e}");
    });
}

#[test]
fn conv_transpose_agrees_with_f64() {
    let mut r = Rng(13);
    for _ in 0..150 {
        let case = Case {
            batch: r.pick(&[1, 1, 3]),
            input: [r.pick(&[1, 4, 7, 16]), r.pick(&[2, 6, 9, 21])],
            in_c: r.pick(&[1, 3, 16, 40]),
            out_c: r.pick(&[1, 5, 16, 33, 100]),
            k: [r.pick(&[1, 2, 3, 5]), r.pick(&[1, 3, 4])],
            stride: [r.pick(&[1, 2, 3]), r.pick(&[1, 2, 4])],
            dil: [r.pick(&[1, 1, 2]), r.pick(&[1, 1, 3])],
            pad: [r.pick(&[0, 1, 2]), r.pick(&[0, 1, 3]), r.pick(&[0, 1]), r.pick(&[0, 2])],
            groups: 1,
            nr: r.pick(&PANEL_WIDTHS),
            threads: r.pick(&[1, 3]),
        };
        check_transpose(case, &mut r);
    }
}
