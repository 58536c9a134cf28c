//! Depthwise convolutions against loops in f64.

mod support;

use graphc_abi::args::matrix::DepthwiseArgs;
use graphc_kernels::depthwise::gc_depthwise_f32;
use support::*;

fn check(r: &mut Rng, k: [usize; 2], stride: [usize; 2], dil: [usize; 2], c: usize, multiplier: usize, in_place: bool) {
    let (batch, h, w) = (r.pick(&[1, 1, 3]), r.pick(&[1, 5, 8, 13]), r.pick(&[1, 4, 9, 20, 40]));
    let pad = [r.below(0, 3), r.below(0, 3), r.below(0, 3), r.below(0, 3)];
    let threads = r.pick(&[1, 3]);
    let axis = |i: usize, n: usize| (n + pad[i] + pad[i + 2]).checked_sub((k[i] - 1) * dil[i] + 1).map(|s| s / stride[i] + 1);
    let (Some(oh), Some(ow)) = (axis(0, h), axis(1, w)) else { return };
    let oc = c * multiplier;
    let (ldx, ldc) = (c + r.pick(&[0, 3]), oc + r.pick(&[0, 5]));
    let ldr = if in_place { ldc } else { oc + r.pick(&[0, 2]) };
    let rows = batch * oh * ow;
    let x = r.floats(batch * h * w * ldx);
    let filter = r.floats(k[0] * k[1] * oc);
    let e = TestEpilogue::random(r, rows, oc, ldr);
    let mut want = vec![];
    for row in 0..rows {
        let (b, oy, ox) = (row / oh / ow, row / ow % oh, row % ow);
        for o in 0..oc {
            let mut sum = 0f64;
            for ky in 0..k[0] {
                for kx in 0..k[1] {
                    let y = (oy * stride[0] + ky * dil[0]).wrapping_sub(pad[0]);
                    let x_ = (ox * stride[1] + kx * dil[1]).wrapping_sub(pad[1]);
                    if y < h && x_ < w {
                        sum += x[((b * h + y) * w + x_) * ldx + o / multiplier] as f64 * filter[(ky * k[1] + kx) * oc + o] as f64;
                    }
                }
            }
            want.push(e.apply(sum, row, o));
        }
    }
    each_tier(|tier| {
        let mut y = vec![7e7f32; rows * ldc + 64];
        let mut residual = e.residual();
        if let (true, Some(values)) = (in_place, &e.residual) {
            y[..values.len()].copy_from_slice(values);
            residual = y.as_ptr();
        }
        let args = DepthwiseArgs {
            x: x.as_ptr(),
            w: filter.as_ptr(),
            y: y.as_mut_ptr(),
            batch: batch as i64,
            in_h: h as i64,
            in_w: w as i64,
            in_c: c as i64,
            out_h: oh as i64,
            out_w: ow as i64,
            multiplier: multiplier as i64,
            k_h: k[0] as i64,
            k_w: k[1] as i64,
            stride_h: stride[0] as i64,
            stride_w: stride[1] as i64,
            dil_h: dil[0] as i64,
            dil_w: dil[1] as i64,
            pad_top: pad[0] as i64,
            pad_left: pad[1] as i64,
            ldx: ldx as i64,
            ldc: ldc as i64,
            bias: e.bias(),
            residual,
            ldr: ldr as i64,
            residual_after: e.after,
            act: e.act,
            act_lo: e.lo,
            act_hi: e.hi,
        };
        assert_eq!(launch(threads, gc_depthwise_f32, &args), 0);
        let got: Vec<f32> = (0..rows).flat_map(|i| y[i * ldc..i * ldc + oc].to_vec()).collect();
        assert!(y[rows * ldc..].iter().all(|&v| v == 7e7), "wrote past the end");
        let err = error(&got, &want, k[0] * k[1]);
        assert!(err < 2e-6, "{tier:?} k {k:?} stride {stride:?} c {c} x{multiplier} {batch}x{h}x{w} pad {pad:?}: error {err:e}");
    });
}

#[test]
fn fast_kernels() {
    let mut r = Rng(21);
    for i in 0..160 {
        let (k, s) = (r.pick(&[3, 5]), r.pick(&[1, 2]));
        let c = r.pick(&[1, 3, 8, 16, 17, 40, 64]);
        check(&mut r, [k, k], [s, s], [1, 1], c, 1, i % 4 == 0);
    }
}

#[test]
fn any_kernel() {
    let mut r = Rng(22);
    for _ in 0..160 {
        let k = [r.pick(&[1, 2, 3, 7]), r.pick(&[1, 3, 4])];
        let (stride, dil) = ([r.pick(&[1, 2, 3]), r.pick(&[1, 2])], [r.pick(&[1, 2]), r.pick(&[1, 3])]);
        let (c, multiplier) = (r.pick(&[1, 3, 16, 33]), r.pick(&[1, 1, 2, 5]));
        check(&mut r, k, stride, dil, c, multiplier, false);
    }
}
