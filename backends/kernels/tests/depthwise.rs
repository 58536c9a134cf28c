//! Depthwise convolutions against loops in f64.

mod support;

use graphc_abi::args::matrix::DepthwiseArgs;
use graphc_kernels::depthwise::gc_depthwise_f32;
use support::windows::Case;
use support::*;

fn check(r: &mut Rng, case: Case, in_place: bool) {
    if case.output().is_none() {
        return;
    }
    let (c, oc, rows) = (case.in_c, case.out_c, case.rows());
    let (ldx, ldc) = (c + r.pick(&[0, 3]), oc + r.pick(&[0, 5]));
    let ldr = if in_place { ldc } else { oc + r.pick(&[0, 2]) };
    let x = r.floats(case.batch * case.input[0] * case.input[1] * ldx);
    let filter = r.floats(case.k[0] * case.k[1] * oc);
    let e = TestEpilogue::random(r, rows, oc, ldr);
    let want = e.of_sums(&case.depthwise_sums(ldx, |i| x[i] as f64, |i| filter[i] as f64), oc);
    each_tier(|tier| {
        let mut y = vec![7e7f32; rows * ldc + 64];
        let (ldx, ld) = (ldx as i64, ldc as i64);
        let mut args =
            DepthwiseArgs { x: x.as_ptr(), w: filter.as_ptr(), y: y.as_mut_ptr(), ldx, ldc: ld, ..case.depthwise_args(&e) };
        if let (true, Some(values)) = (in_place, &e.residual) {
            y[..values.len()].copy_from_slice(values);
            args.residual = y.as_ptr();
        }
        assert_eq!(launch(case.threads, gc_depthwise_f32, &args), 0);
        let got: Vec<f32> = (0..rows).flat_map(|i| y[i * ldc..i * ldc + oc].to_vec()).collect();
        assert!(y[rows * ldc..].iter().all(|&v| v == 7e7), "wrote past the end");
        let err = error(&got, &want, case.k[0] * case.k[1]);
        assert!(err < 2e-6, "{tier:?} {case:?}: error {err:e}");
    });
}

#[test]
fn fast_kernels() {
    let mut r = Rng(21);
    for i in 0..160 {
        let (k, s) = (r.pick(&[3, 5]), r.pick(&[1, 2]));
        let c = r.pick(&[1, 3, 8, 16, 17, 40, 64]);
        let case = Case::depthwise(&mut r, [k, k], [s, s], [1, 1], c, 1);
        check(&mut r, case, i % 4 == 0);
    }
}

#[test]
fn any_kernel() {
    let mut r = Rng(22);
    for _ in 0..160 {
        let k = [r.pick(&[1, 2, 3, 7]), r.pick(&[1, 3, 4])];
        let (stride, dil) = ([r.pick(&[1, 2, 3]), r.pick(&[1, 2])], [r.pick(&[1, 2]), r.pick(&[1, 3])]);
        let (c, multiplier) = (r.pick(&[1, 3, 16, 33]), r.pick(&[1, 1, 2, 5]));
        let case = Case::depthwise(&mut r, k, stride, dil, c, multiplier);
        check(&mut r, case, false);
    }
}
