//! Products and convolutions of 8-bit integers against loops that compute the same integers.

mod support;

use graphc_abi::args::matrix::{Conv2dArgs, GemmArgs};
use graphc_kernels::conv::forward::gc_conv2d_i8;
use graphc_kernels::matrix::gemm::gc_gemm_i8;
use graphc_kernels::pack::{PANEL_WIDTHS, pack_words, packed_words_len, panels};
use support::windows::Case;
use support::*;

/// What makes reals of sums, and integers of reals.
struct Quantised {
    scale: Vec<f32>,
    shift: Vec<i32>,
    /// None: the result is f32. Else steps a unit, the integer for 0, the greatest, and whether halves go up.
    steps: Option<(f32, f32, f32, bool)>,
    e: TestEpilogue,
}

impl Quantised {
    fn random(r: &mut Rng, rows: usize, cols: usize, ldr: usize, depth: usize) -> Quantised {
        // Sums of about one.
        let unit = 1.0 / (128.0 * 64.0 * (depth.max(1) as f32).sqrt());
        let steps = (r.below(0, 3) > 0)
            .then(|| (r.pick(&[40.0, 100.5]), r.pick(&[0.0, 13.0, 128.0]), r.pick(&[254.0, 255.0, 15.0]), r.below(0, 2) == 0));
        Quantised {
            scale: (0..cols).map(|_| unit * (1.2 + r.unit())).collect(),
            shift: (0..cols).map(|_| r.below(0, 20_000) as i32 - 10_000).collect(),
            steps: steps.map(|(rate, zero, most, up): (f32, f32, f32, bool)| (rate, zero.min(most), most, up)),
            e: TestEpilogue::random(r, rows, cols, ldr),
        }
    }

    /// Checks results `ldc` apart against sums of products.
    fn check(&self, y: &[u8], sums: &[f64], cols: usize, ldc: usize, what: &dyn Fn() -> String) {
        let reals: Vec<f64> =
            sums.iter().enumerate().map(|(i, s)| (s + f64::from(self.shift[i % cols])) * f64::from(self.scale[i % cols])).collect();
        let want = self.e.of_sums(&reals, cols);
        for (i, &want) in want.iter().enumerate() {
            let at = i / cols * ldc + i % cols;
            match self.steps {
                None => {
                    let got = f32::from_ne_bytes([y[4 * at], y[4 * at + 1], y[4 * at + 2], y[4 * at + 3]]);
                    assert!((f64::from(got) - want).abs() <= 4e-6 * want.abs().max(1.0), "{got} for {want}: {}", what());
                }
                Some((rate, zero, most, up)) => {
                    let t = (want * f64::from(rate) + f64::from(zero)).clamp(0.0, f64::from(most));
                    let near = if up { (t + 0.5).floor() } else { t.round_ties_even() };
                    let half = (t.fract() - 0.5).abs() < 1e-2;
                    let off = (f64::from(y[at]) - near).abs();
                    assert!(off == 0.0 || half && off == 1.0, "{} for {t}: {}", y[at], what());
                }
            }
        }
        let size = if self.steps.is_none() { 4 } else { 1 };
        let rows = sums.len() / cols;
        let gaps = (0..rows).flat_map(|i| i * ldc + cols..(i + 1) * ldc).chain(rows * ldc..rows * ldc + 64);
        assert!(gaps.flat_map(|i| size * i..size * (i + 1)).all(|i| y[i] == UNTOUCHED), "wrote beyond the rows: {}", what());
    }

    fn room(&self, n: usize) -> Vec<u8> {
        vec![UNTOUCHED; (n + 64) * if self.steps.is_none() { 4 } else { 1 }]
    }
}

const UNTOUCHED: u8 = 0xA7;

/// Sets the fields that both kinds of arguments have.
macro_rules! set {
    ($args:expr, $q:expr, $ldr:expr) => {{
        let (args, q) = (&mut $args, $q);
        (args.scale, args.shift, args.y_f32) = (q.scale.as_ptr(), q.shift.as_ptr(), q.steps.is_none() as i64);
        let (rate, zero, most, up) = q.steps.unwrap_or((0.0, 0.0, 0.0, false));
        (args.y_rate, args.y_zero, args.y_hi, args.y_half_up) = (f64::from(rate), f64::from(zero), f64::from(most), up as i64);
        (args.bias, args.residual, args.ldr, args.residual_after) = (q.e.bias(), q.e.residual(), $ldr as i64, q.e.after);
        (args.act, args.act_lo, args.act_hi) = (q.e.act, q.e.lo, q.e.hi);
    }};
}

fn bytes(r: &mut Rng, n: usize) -> Vec<u8> {
    // The extremes often, which saturate where sums are too narrow.
    (0..n).map(|_| if r.below(0, 4) == 0 { r.pick(&[0, 255, 128, 127]) } else { r.below(0, 256) as u8 }).collect()
}

fn signed(v: u8) -> f64 {
    f64::from(v as i8)
}

fn gemm(r: &mut Rng, [m, n, k, nr, batch, threads]: [usize; 6]) {
    let (lda, ldc, ldr) = (k + 4 * r.below(0, 3), n + r.below(0, 3), n + r.below(0, 3));
    let (x, w) = (bytes(r, batch * m * lda), bytes(r, batch * k * n));
    let q = Quantised::random(r, m, n, ldr, k);
    let len = packed_words_len::<u8>(k, n, nr);
    let mut packed = vec![0xffu8; batch * len];
    for b in 0..batch {
        pack_words::<u8>(&mut packed[b * len..], &w[b * k * n..(b + 1) * k * n], k, n, n, 1, nr, 0..panels(n, nr));
    }
    let mut sums = vec![];
    for (row, j) in (0..batch * m).flat_map(|row| (0..n).map(move |j| (row, j))) {
        let term = |i: usize| f64::from(x[row * lda + i]) * signed(w[(row / m * k + i) * n + j]);
        sums.push((0..k).map(term).sum::<f64>());
    }
    each_tier(|tier| {
        for (b, sums) in sums.chunks(m * n).enumerate() {
            let mut y = q.room(m * ldc);
            // SAFETY: all words zero is an argument list of absent operands.
            let mut args: GemmArgs = unsafe { core::mem::zeroed() };
            (args.x, args.w) = (x[b * m * lda..].as_ptr().cast(), packed[b * len..].as_ptr().cast());
            args.y = y.as_mut_ptr().cast();
            (args.m, args.n, args.k, args.nr, args.lda, args.ldc) =
                (m as i64, n as i64, k as i64, nr as i64, lda as i64, ldc as i64);
            set!(args, &q, ldr);
            assert_eq!(launch(threads, gc_gemm_i8, &args), 0);
            q.check(&y, sums, n, ldc, &|| format!("{tier:?} m {m} n {n} k {k} nr {nr} act {} steps {:?}", q.e.act, q.steps));
        }
    });
}

#[test]
fn gemm_computes_the_integers() {
    let mut r = Rng(51);
    for _ in 0..150 {
        let m = r.pick(&[1, 2, 3, 5, 13, 14, 15, 29, 49, 100]);
        let n = r.pick(&[1, 7, 16, 17, 24, 31, 32, 33, 64, 100, 130]);
        let (k, nr) = (r.pick(&[0, 4, 8, 16, 36, 64, 200]), r.pick(&PANEL_WIDTHS));
        let (batch, threads) = (r.pick(&[1, 1, 3]), r.pick(&[1, 1, 3]));
        gemm(&mut r, [m, n, k, nr, batch, threads]);
    }
    for (m, n, k, nr, threads) in [(37, 40, 9400, 32, 1), (450, 70, 300, 32, 3), (40, 33, 2048, 48, 2)] {
        gemm(&mut r, [m, n, k, nr, 1, threads]);
    }
}

#[test]
fn what_is_not_whole_or_absent_is_refused() {
    let (scale, shift) = ([1f32; 3], [0i32; 3]);
    // SAFETY: all words zero is an argument list of absent operands.
    let mut args: GemmArgs = unsafe { core::mem::zeroed() };
    (args.m, args.n, args.k, args.nr, args.y_f32) = (0, 3, 4, 16, 1);
    assert_ne!(launch(1, gc_gemm_i8, &args), 0);
    (args.scale, args.shift) = (scale.as_ptr(), shift.as_ptr());
    assert_eq!(launch(1, gc_gemm_i8, &args), 0);
    assert_ne!(launch(1, gc_gemm_i8, &GemmArgs { k: 6, ..args }), 0);
    assert_ne!(launch(1, gc_gemm_i8, &GemmArgs { y_f32: 0, y_hi: 256.0, ..args }), 0);
}

fn conv(r: &mut Rng, case: Case) {
    if case.output().is_none() {
        return;
    }
    let Case { in_c, out_c, k: [kh, kw], groups, nr, .. } = case;
    let (cg, ng, rows) = (in_c / groups, out_c / groups, case.rows());
    let ldx = if in_c % 4 == 0 { in_c + r.pick(&[0, 0, 4]) } else { in_c };
    let (ldc, ldr) = (out_c + r.pick(&[0, 0, 5]), out_c + r.pick(&[0, 0, 2]));
    let (x, filter) = (bytes(r, case.batch * case.input[0] * case.input[1] * ldx), bytes(r, kh * kw * cg * out_c));
    let zero = r.pick(&[0u8, 0, 3, 128]);
    let q = Quantised::random(r, rows, out_c, ldr, kh * kw * cg);
    // Kernel rows end with zeros where they are no whole words.
    let (run, whole) = (kw * cg, (kw * cg).next_multiple_of(4));
    let padded: Vec<u8> =
        filter.chunks(run * out_c).flat_map(|row| row.iter().copied().chain(vec![0; (whole - run) * out_c])).collect();
    let len = packed_words_len::<u8>(kh * whole, ng, nr);
    let mut packed = vec![0xffu8; groups * len];
    for g in 0..groups {
        pack_words::<u8>(&mut packed[g * len..], &padded[g * ng..], kh * whole, ng, out_c, 1, nr, 0..panels(ng, nr));
    }
    let sums = case.sums(ldx, |i| f64::from(x[i]), |i| signed(filter[i]), f64::from(zero));
    each_tier(|tier| {
        let mut y = q.room(rows * ldc);
        let mut args = Conv2dArgs {
            x: x.as_ptr().cast(),
            w: packed.as_ptr().cast(),
            y: y.as_mut_ptr().cast(),
            ldx: ldx as i64,
            ldc: ldc as i64,
            x_zero: i64::from(zero),
            ..case.args(&q.e)
        };
        set!(args, &q, ldr);
        assert_eq!(launch(case.threads, gc_conv2d_i8, &args), 0, "{case:?}");
        q.check(&y, &sums, out_c, ldc, &|| format!("{tier:?} {case:?} zero {zero} act {} steps {:?}", q.e.act, q.steps));
    });
}

#[test]
fn conv2d_computes_the_integers() {
    let mut r = Rng(52);
    for i in 0..160 {
        let groups = r.pick(&[1, 1, 1, 2, 3]);
        let case = Case {
            batch: r.pick(&[1, 1, 2]),
            input: [r.pick(&[1, 3, 7, 10, 17]), r.pick(&[1, 4, 9, 14, 23])],
            in_c: groups * r.pick(&[4, 8, 20, 32]),
            out_c: groups * r.pick(&[1, 5, 16, 24, 33]),
            k: [r.pick(&[1, 1, 2, 3, 5]), r.pick(&[1, 1, 3, 4])],
            stride: [r.pick(&[1, 1, 2, 3]), r.pick(&[1, 1, 2, 3])],
            dil: if i % 3 == 0 { [r.pick(&[1, 2]), r.pick(&[1, 3])] } else { [1, 1] },
            pad: [r.pick(&[0, 1, 3]), r.pick(&[0, 1, 2]), r.pick(&[0, 1, 4]), r.pick(&[0, 2, 5])],
            groups,
            nr: r.pick(&PANEL_WIDTHS),
            threads: r.pick(&[1, 1, 3]),
        };
        conv(&mut r, case);
    }
}

#[test]
fn conv2d_of_few_channels() {
    let mut r = Rng(53);
    for _ in 0..120 {
        let case = Case::of_few_channels(&mut r);
        conv(&mut r, case);
    }
}
