//! Products and convolutions of bf16 against loops in f64 over the same rounded numbers.

mod support;

use graphc_abi::args::matrix::{Conv2dArgs, DepthwiseArgs, GemmArgs};
use graphc_abi::args::rows::{Pool2dArgs, pool};
use graphc_kernels::conv::forward::gc_conv2d_bf16;
use graphc_kernels::depthwise::gc_depthwise_bf16;
use graphc_kernels::matrix::gemm::gc_gemm_bf16;
use graphc_kernels::pack::{PANEL_WIDTHS, pack_words, packed_words_len, panels};
use graphc_kernels::rows::gc_pool2d_bf16;
use half::bf16;
use support::windows::Case;
use support::*;

/// Numbers that bf16 holds.
fn halves(r: &mut Rng, n: usize) -> Vec<bf16> {
    r.floats(n).into_iter().map(bf16::from_f32).collect()
}

fn bytes(v: &[bf16]) -> Vec<u8> {
    v.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Numbers stored as f32 or as bf16.
struct Stored {
    f32: bool,
    bytes: Vec<u8>,
}

impl Stored {
    fn new(v: &[f32], f32: bool) -> Stored {
        let bytes = match f32 {
            true => v.iter().flat_map(|v| v.to_ne_bytes()).collect(),
            false => v.iter().flat_map(|&v| bf16::from_f32(v).to_bits().to_ne_bytes()).collect(),
        };
        Stored { f32, bytes }
    }

    fn get(&self, i: usize) -> f32 {
        let b = &self.bytes;
        match self.f32 {
            true => f32::from_ne_bytes([b[4 * i], b[4 * i + 1], b[4 * i + 2], b[4 * i + 3]]),
            false => bf16::from_bits(u16::from_ne_bytes([b[2 * i], b[2 * i + 1]])).to_f32(),
        }
    }
}

/// An epilogue whose residual is stored in one of the two ways.
fn epilogue(r: &mut Rng, rows: usize, cols: usize, ldr: usize) -> (TestEpilogue, Option<Stored>) {
    let mut e = TestEpilogue::random(r, rows, cols, ldr);
    let f32 = r.below(0, 2) == 0;
    let residual = e.residual.as_ref().map(|v| Stored::new(v, f32));
    if let (Some(v), Some(s)) = (&mut e.residual, &residual) {
        v.iter_mut().enumerate().for_each(|(i, v)| *v = s.get(i));
    }
    (e, residual)
}

fn at(residual: &Option<Stored>) -> *const f32 {
    residual.as_ref().map_or(core::ptr::null(), |r| r.bytes.as_ptr().cast())
}

fn is_f32(residual: &Option<Stored>) -> i64 {
    residual.as_ref().is_some_and(|r| r.f32) as i64
}

fn no_args() -> GemmArgs {
    // SAFETY: all words zero is an argument list of absent operands.
    unsafe { core::mem::zeroed() }
}

/// The value that marks places nobody may write; bf16 holds it.
const UNTOUCHED: f32 = 7.0 * 1_048_576.0;

/// Checks rows of `cols` results that lie `ldc` apart.
fn compare(y: &Stored, rows: usize, cols: usize, ldc: usize, want: &[f64], terms: usize, what: &dyn Fn() -> String) {
    let got: Vec<f32> = (0..rows).flat_map(|i| (0..cols).map(move |j| i * ldc + j)).map(|i| y.get(i)).collect();
    let untouched = (0..rows).flat_map(|i| (cols..ldc).map(move |j| i * ldc + j)).chain(rows * ldc..rows * ldc + 64);
    assert!(untouched.map(|i| y.get(i)).all(|v| v == UNTOUCHED), "wrote beyond the rows: {}", what());
    let limit = if y.f32 { 4e-6 } else { 1.0 / 256.0 };
    let err = error(&got, want, terms);
    assert!(err < limit, "error {err:e}: {}", what());
}

fn gemm(r: &mut Rng, [m, n, k, nr, batch, threads]: [usize; 6]) {
    let (lda, ldc, ldr) = (k + 2 * r.below(0, 3), n + r.below(0, 3), n + r.below(0, 3));
    let (x, w) = (halves(r, batch * m * lda), halves(r, batch * k * n));
    let (e, residual) = epilogue(r, m, n, ldr);
    let len = packed_words_len::<u16>(k, n, nr);
    let mut packed = vec![0xffffu16; batch * len];
    let by_columns = r.below(0, 2) == 0;
    let place = |q: usize, j: usize| if by_columns { j * k + q } else { q * n + j };
    for b in 0..batch {
        let (row, col) = if by_columns { (1, k) } else { (n, 1) };
        pack_words::<u16>(&mut packed[b * len..], &bytes(&w[b * k * n..(b + 1) * k * n]), k, n, row, col, nr, 0..panels(n, nr));
    }
    let mut want = vec![];
    for row in 0..batch * m {
        for j in 0..n {
            let term = |q: usize| x[row * lda + q].to_f64() * w[row / m * k * n + place(q, j)].to_f64();
            want.push(e.apply((0..k).map(term).sum(), row % m, j));
        }
    }
    let y_f32 = r.below(0, 2) == 0;
    each_tier(|tier| {
        let mut y = Stored::new(&vec![UNTOUCHED; batch * m * ldc + 64], y_f32);
        let args = GemmArgs {
            x: x.as_ptr().cast(),
            w: packed.as_ptr().cast(),
            y: y.bytes.as_mut_ptr().cast(),
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
            residual: at(&residual),
            ldr: ldr as i64,
            residual_after: e.after,
            residual_f32: is_f32(&residual),
            y_f32: y_f32 as i64,
            act: e.act,
            act_lo: e.lo,
            act_hi: e.hi,
            ..no_args()
        };
        assert_eq!(launch(threads, gc_gemm_bf16, &args), 0);
        let what = || format!("{tier:?} m {m} n {n} k {k} nr {nr} batch {batch} act {} f32 {y_f32}", e.act);
        compare(&y, batch * m, n, ldc, &want, k, &what);
    });
}

#[test]
fn gemm_agrees_with_f64() {
    let mut r = Rng(41);
    for _ in 0..150 {
        let m = r.pick(&[1, 2, 3, 5, 13, 14, 15, 29, 49, 100]);
        let n = r.pick(&[1, 7, 16, 17, 24, 31, 32, 33, 64, 100, 130]);
        let (k, nr) = (r.pick(&[0, 2, 4, 16, 34, 64, 200]), r.pick(&PANEL_WIDTHS));
        let (batch, threads) = (r.pick(&[1, 1, 3]), r.pick(&[1, 1, 3]));
        gemm(&mut r, [m, n, k, nr, batch, threads]);
    }
}

#[test]
fn gemm_large_blocks_and_threads() {
    let mut r = Rng(42);
    for (m, n, k, nr, threads) in [(37, 40, 9400, 32, 1), (450, 70, 300, 32, 3), (60, 200, 4100, 64, 3), (40, 33, 2048, 48, 2)] {
        gemm(&mut r, [m, n, k, nr, 1, threads]);
    }
}

#[test]
fn odd_extents_are_refused() {
    let mut args = no_args();
    (args.m, args.n, args.k, args.nr) = (2, 3, 3, 16);
    assert_ne!(launch(1, gc_gemm_bf16, &args), 0);
}

/// What bf16 and pairs cannot do to extremes: sums of zeros stay zero, infinities and NaN stay what they are.
#[test]
fn extremes_are_kept() {
    let x = [bf16::INFINITY, bf16::ZERO, bf16::NAN, bf16::ONE, bf16::MAX, bf16::ZERO].map(bf16::to_bits);
    let w = vec![bf16::ONE; 2 * 16];
    let mut packed = vec![0u16; 32];
    pack_words::<u16>(&mut packed, &bytes(&w), 2, 16, 16, 1, 16, 0..1);
    each_tier(|tier| {
        let mut y = vec![0u16; 3 * 16];
        let mut args = no_args();
        (args.x, args.w, args.y) = (x.as_ptr().cast(), packed.as_ptr().cast(), y.as_mut_ptr().cast());
        (args.m, args.n, args.k, args.nr) = (3, 16, 2, 16);
        assert_eq!(launch(1, gc_gemm_bf16, &args), 0);
        let y: Vec<f32> = y.iter().map(|&v| bf16::from_bits(v).to_f32()).collect();
        assert!(y[0] == f32::INFINITY && y[16].is_nan() && y[32] == bf16::MAX.to_f32(), "{tier:?} {y:?}");
    });
}

fn conv(r: &mut Rng, case: Case) {
    let Case { batch, input: [h, w], in_c, out_c, k: [kh, kw], groups, nr, threads, .. } = case;
    if case.output().is_none() {
        return;
    }
    let (cg, ng) = (in_c / groups, out_c / groups);
    let (ldx, ldc, ldr) =
        (if in_c % 2 == 0 { in_c + r.pick(&[0, 0, 4]) } else { in_c }, out_c + r.pick(&[0, 0, 5]), out_c + r.pick(&[0, 0, 2]));
    let (x, filter) = (halves(r, batch * h * w * ldx), halves(r, kh * kw * cg * out_c));
    let rows = case.rows();
    let (e, residual) = epilogue(r, rows, out_c, ldr);
    let depth = kh * kw * cg;
    // Kernel rows of an odd length end with zeros.
    let run = kw * cg;
    let padded: Vec<bf16> =
        filter.chunks(run * out_c).flat_map(|row| row.iter().copied().chain(vec![bf16::ZERO; run % 2 * out_c])).collect();
    let depth_padded = kh * run.next_multiple_of(2);
    let len = packed_words_len::<u16>(depth_padded, ng, nr);
    let mut packed = vec![0xffffu16; groups * len];
    for g in 0..groups {
        pack_words::<u16>(&mut packed[g * len..], &bytes(&padded[g * ng..]), depth_padded, ng, out_c, 1, nr, 0..panels(ng, nr));
    }
    let want = e.of_sums(&case.sums(ldx, |i| x[i].to_f64(), |i| filter[i].to_f64(), 0.0), out_c);
    let y_f32 = r.below(0, 2) == 0;
    each_tier(|tier| {
        let mut y = Stored::new(&vec![UNTOUCHED; rows * ldc + 64], y_f32);
        let args = Conv2dArgs {
            x: x.as_ptr().cast(),
            w: packed.as_ptr().cast(),
            y: y.bytes.as_mut_ptr().cast(),
            ldx: ldx as i64,
            ldc: ldc as i64,
            residual: at(&residual),
            residual_f32: is_f32(&residual),
            y_f32: y_f32 as i64,
            ..case.args(&e)
        };
        assert_eq!(launch(threads, gc_conv2d_bf16, &args), 0, "{case:?}");
        compare(&y, rows, out_c, ldc, &want, depth, &|| format!("{tier:?} {case:?} act {} f32 {y_f32}", e.act));
    });
}

#[test]
fn conv2d_agrees_with_f64() {
    let mut r = Rng(43);
    for i in 0..160 {
        let groups = r.pick(&[1, 1, 1, 2, 3]);
        let case = Case {
            batch: r.pick(&[1, 1, 2, 3]),
            input: [r.pick(&[1, 3, 7, 10, 17]), r.pick(&[1, 4, 9, 14, 23])],
            in_c: groups * r.pick(&[2, 4, 8, 18, 32]),
            out_c: groups * r.pick(&[1, 5, 16, 24, 33]),
            k: [r.pick(&[1, 1, 2, 3, 5]), r.pick(&[1, 1, 3, 4, 7])],
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
    let mut r = Rng(46);
    for _ in 0..120 {
        let case = Case::of_few_channels(&mut r);
        conv(&mut r, case);
    }
}

#[test]
fn conv2d_of_real_shapes() {
    let mut r = Rng(44);
    let base = Case {
        batch: 1,
        input: [14, 14],
        in_c: 64,
        out_c: 64,
        k: [3, 3],
        stride: [1, 1],
        dil: [1, 1],
        pad: [1, 1, 1, 1],
        groups: 1,
        nr: 32,
        threads: 2,
    };
    conv(&mut r, base);
    conv(&mut r, Case { stride: [2, 2], pad: [0, 0, 1, 1], nr: 48, ..base });
    // A strided pointwise convolution of many columns gathers its rows.
    conv(&mut r, Case { k: [1, 1], stride: [2, 2], pad: [0; 4], in_c: 128, out_c: 160, ..base });
    conv(&mut r, Case { k: [1, 1], pad: [0; 4], in_c: 256, nr: 64, ..base });
    conv(&mut r, Case { in_c: 96, out_c: 96, groups: 6, ..base });
}

fn depthwise(r: &mut Rng, case: Case) {
    if case.output().is_none() {
        return;
    }
    let (c, rows) = (case.in_c, case.rows());
    let (ldx, ldc, ldr) = (c + r.pick(&[0, 3]), c + r.pick(&[0, 5]), c + r.pick(&[0, 2]));
    let (x, filter) = (halves(r, case.batch * case.input[0] * case.input[1] * ldx), r.floats(case.k[0] * case.k[1] * c));
    let mut e = TestEpilogue::random(r, rows, c, ldr);
    let residual = e.residual.as_ref().map(|v| Stored::new(v, false));
    if let (Some(v), Some(s)) = (&mut e.residual, &residual) {
        v.iter_mut().enumerate().for_each(|(i, v)| *v = s.get(i));
    }
    let want = e.of_sums(&case.depthwise_sums(ldx, |i| x[i].to_f64(), |i| filter[i] as f64), c);
    each_tier(|tier| {
        let mut y = Stored::new(&vec![UNTOUCHED; rows * ldc + 64], false);
        let args = DepthwiseArgs {
            x: x.as_ptr().cast(),
            w: filter.as_ptr(),
            y: y.bytes.as_mut_ptr().cast(),
            ldx: ldx as i64,
            ldc: ldc as i64,
            residual: at(&residual),
            ..case.depthwise_args(&e)
        };
        assert_eq!(launch(case.threads, gc_depthwise_bf16, &args), 0);
        compare(&y, rows, c, ldc, &want, case.k[0] * case.k[1], &|| format!("{tier:?} {case:?} act {}", e.act));
    });
}

#[test]
fn depthwise_agrees_with_f64() {
    let mut r = Rng(45);
    for _ in 0..120 {
        let (k, s, c) = (r.pick(&[3, 5]), r.pick(&[1, 2]), r.pick(&[1, 3, 8, 16, 17, 40, 64]));
        let case = Case::depthwise(&mut r, [k, k], [s, s], [1, 1], c, 1);
        depthwise(&mut r, case);
    }
    for _ in 0..120 {
        let k = [r.pick(&[1, 2, 3, 7]), r.pick(&[1, 3, 4])];
        let (stride, dil) = ([r.pick(&[1, 2, 3]), r.pick(&[1, 2])], [r.pick(&[1, 2]), r.pick(&[1, 3])]);
        let c = r.pick(&[1, 3, 16, 33]);
        let case = Case::depthwise(&mut r, k, stride, dil, c, 1);
        depthwise(&mut r, case);
    }
}

#[test]
fn pooling_agrees_with_a_loop() {
    let mut r = Rng(47);
    for _ in 0..80 {
        let (n, h, w, c) = (r.pick(&[1, 2]), r.pick(&[1, 4, 9]), r.pick(&[1, 5, 8]), r.pick(&[1, 8, 17, 64, 70]));
        let (k, stride, pad) = (r.pick(&[1, 2, 3]), r.pick(&[1, 2]), r.below(0, 2));
        let extent = |n: usize| (n + 2 * pad).checked_sub(k).map(|d| d / stride + 1);
        let (Some(oh), Some(ow), true) = (extent(h), extent(w), pad < k) else { continue };
        let x = halves(&mut r, n * h * w * c);
        let max = r.below(0, 2) == 0;
        let mut want = vec![];
        for i in 0..n * oh * ow * c {
            let (b, oy, ox, ch) = (i / c / ow / oh, i / c / ow % oh, i / c % ow, i % c);
            let tap = |y: usize, x: usize| ((oy * stride + y).wrapping_sub(pad), (ox * stride + x).wrapping_sub(pad));
            let taps = (0..k).flat_map(|y| (0..k).map(move |x| tap(y, x))).filter(|t| t.0 < h && t.1 < w);
            let v: Vec<f64> = taps.map(|t| x[((b * h + t.0) * w + t.1) * c + ch].to_f64()).collect();
            let mean = v.iter().sum::<f64>() / v.len() as f64;
            want.push(if max { v.iter().fold(f64::from(f32::MIN), |a, &b| a.max(b)) } else { mean });
        }
        each_tier(|tier| {
            let mut y = vec![0u16; want.len()];
            // SAFETY: all words zero is an argument list of absent operands.
            let mut args: Pool2dArgs = unsafe { core::mem::zeroed() };
            (args.x, args.y, args.kind) = (x.as_ptr().cast(), y.as_mut_ptr().cast(), if max { pool::MAX } else { pool::AVG });
            (args.n, args.h, args.w, args.c, args.out_h, args.out_w) =
                (n as i64, h as i64, w as i64, c as i64, oh as i64, ow as i64);
            (args.k_h, args.k_w, args.stride_h, args.stride_w) = (k as i64, k as i64, stride as i64, stride as i64);
            (args.pad_top, args.pad_left) = (pad as i64, pad as i64);
            assert_eq!(launch(2, gc_pool2d_bf16, &args), 0);
            for (got, want) in y.iter().zip(&want) {
                let (got, want) = (bf16::from_bits(*got).to_f64(), bf16::from_f64(*want).to_f64());
                assert!((got - want).abs() <= want.abs() / 128.0 + 1e-6, "{tier:?} {args:?}: {got} for {want}");
            }
        });
    }
}
