//! Products of two operands as they lie in memory.

mod support;

use graphc_abi::args::matrix::{MatmulArgs, MatmulF64Args, MatmulI32Args, MatmulI64Args, act};
use graphc_kernels::matrix::matmul::gc_matmul_f32;
use graphc_kernels::matrix::matmul_any::{gc_matmul_f64, gc_matmul_i32, gc_matmul_i64};
use support::*;

/// Strides of an operand: row, column, three batch axes.
type Strides = [usize; 5];

#[derive(Debug, Clone, Copy)]
struct Case {
    m: usize,
    n: usize,
    k: usize,
    batch: [usize; 3],
    a: Strides,
    b: Strides,
    c: Strides,
    threads: usize,
}

/// A layout of `[batch, rows, cols]`: row-major or transposed, batch axes inside or outside, an operand repeated over some of them.
fn layout(r: &mut Rng, rows: usize, cols: usize, batch: [usize; 3], repeat: bool) -> (Strides, usize) {
    let pad = r.pick(&[0, 0, 2]);
    let matrix = if r.below(0, 2) == 0 { (cols + pad, 1, rows * (cols + pad)) } else { (1, rows + pad, cols * (rows + pad)) };
    let mut s = [matrix.0, matrix.1, 0, 0, 0];
    let mut len = matrix.2.max(1);
    for i in [2, 1, 0] {
        if !(repeat && r.below(0, 3) == 0) {
            s[2 + i] = len;
            len *= batch[i];
        }
    }
    if r.below(0, 8) == 0 {
        // Every second element.
        s = s.map(|v| 2 * v);
        len *= 2;
    }
    (s, len)
}

fn random(r: &mut Rng, m: usize, n: usize, k: usize) -> (Case, [usize; 3]) {
    let batch = [r.pick(&[1, 1, 2]), r.pick(&[1, 3]), r.pick(&[1, 2, 4])];
    let (a, a_len) = layout(r, m, k, batch, true);
    let (b, b_len) = layout(r, k, n, batch, true);
    let (c, c_len) = layout(r, m, n, batch, false);
    (Case { m, n, k, batch, a, b, c, threads: r.pick(&[1, 1, 3]) }, [a_len, b_len, c_len])
}

impl Case {
    fn each(&self, mut f: impl FnMut(usize, usize, [usize; 3], usize)) {
        for i0 in 0..self.batch[0] {
            for i1 in 0..self.batch[1] {
                for i2 in 0..self.batch[2] {
                    let at = |s: Strides| i0 * s[2] + i1 * s[3] + i2 * s[4];
                    for i in 0..self.m {
                        for j in 0..self.n {
                            f(
                                i,
                                j,
                                [at(self.a), at(self.b), at(self.c)],
                                ((i0 * self.batch[1] + i1) * self.batch[2] + i2) * self.m + i,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// An argument struct of the family with the case's sizes and strides.
macro_rules! args {
    ($t:ident, $case:expr, $a:expr, $b:expr, $c:expr) => {{
        let case: &Case = $case;
        // SAFETY: all words zero is an argument list of absent operands.
        let mut g: $t = unsafe { core::mem::zeroed() };
        (g.a, g.b, g.c) = ($a.as_ptr(), $b.as_ptr(), $c.as_mut_ptr());
        (g.m, g.n, g.k) = (case.m as i64, case.n as i64, case.k as i64);
        [g.batch0, g.batch1, g.batch2] = case.batch.map(|b| b as i64);
        [g.a_row, g.a_col, g.a_batch0, g.a_batch1, g.a_batch2] = case.a.map(|s| s as i64);
        [g.b_row, g.b_col, g.b_batch0, g.b_batch1, g.b_batch2] = case.b.map(|s| s as i64);
        [g.c_row, g.c_col, g.c_batch0, g.c_batch1, g.c_batch2] = case.c.map(|s| s as i64);
        g
    }};
}

fn check_f32(case: Case, lens: [usize; 3], r: &mut Rng) {
    let (a, b) = (r.floats(lens[0]), r.floats(lens[1]));
    let alpha = r.pick(&[0.0, 1.0, 0.5, -3.0]);
    let scale = if alpha == 0.0 { 1.0 } else { alpha };
    let count = case.batch.iter().product::<usize>();
    let e = TestEpilogue::random(r, count * case.m, case.n, case.n + 1);
    let mut want = vec![];
    let mut places = vec![];
    case.each(|i, j, [a0, b0, c0], row| {
        let sum: f64 =
            (0..case.k).map(|q| a[a0 + i * case.a[0] + q * case.a[1]] as f64 * b[b0 + q * case.b[0] + j * case.b[1]] as f64).sum();
        want.push(e.apply(sum * scale, row, j));
        places.push(c0 + i * case.c[0] + j * case.c[1]);
    });
    each_tier(|tier| {
        let mut c = vec![7e7f32; lens[2] + 64];
        let mut g = args!(MatmulArgs, &case, a, b, c);
        g.alpha = alpha;
        (g.bias, g.residual, g.r_row, g.residual_after) = (e.bias(), e.residual(), e.ldr as i64, e.after);
        let matrix = case.m * e.ldr;
        (g.r_batch0, g.r_batch1, g.r_batch2) =
            ((matrix * case.batch[1] * case.batch[2]) as i64, (matrix * case.batch[2]) as i64, matrix as i64);
        (g.act, g.act_lo, g.act_hi) = (e.act, e.lo, e.hi);
        assert_eq!(launch(case.threads, gc_matmul_f32, &g), 0);
        let got: Vec<f32> = places.iter().map(|&p| std::mem::replace(&mut c[p], 7e7)).collect();
        assert!(c.iter().all(|&v| v == 7e7), "wrote elsewhere");
        let err = error(&got, &want, case.k);
        assert!(err < 5e-6, "{tier:?} {case:?} alpha {alpha} act {}: error {err:e}", e.act);
    });
}

#[test]
fn matmul_f32_agrees_with_f64() {
    let mut r = Rng(41);
    for _ in 0..250 {
        let (m, n) = (r.pick(&[1, 2, 4, 7, 15, 33, 70]), r.pick(&[1, 3, 16, 31, 64, 65, 130]));
        let k = r.pick(&[0, 1, 2, 17, 40, 128]);
        let (case, lens) = random(&mut r, m, n, k);
        check_f32(case, lens, &mut r);
    }
}

#[test]
fn matmul_f32_in_blocks() {
    let mut r = Rng(42);
    for (m, n, k) in [(40, 40, 9000), (300, 500, 90), (500, 20, 1200), (3, 70, 20_000), (20, 1200, 1000)] {
        for _ in 0..4 {
            let (mut case, _) = random(&mut r, m, n, k);
            case.batch = [1, 1, 1];
            let len = |s: Strides, rows: usize, cols: usize| (rows - 1) * s[0] + (cols - 1) * s[1] + 1;
            let lens = [len(case.a, m, k), len(case.b, k, n), len(case.c, m, n)];
            check_f32(case, lens, &mut r);
        }
    }
}

/// The residual may lie where the result goes, in products of several blocks too.
#[test]
fn matmul_f32_in_place_residual() {
    let mut r = Rng(43);
    let (m, n, k) = (30, 50, 12_000);
    let (a, b, res) = (r.floats(m * k), r.floats(k * n), r.floats(m * n));
    let e = TestEpilogue { bias: None, residual: Some(res.clone()), ldr: n, after: 1, act: act::RELU, lo: 0.0, hi: 0.0 };
    let case = Case { m, n, k, batch: [1; 3], a: [k, 1, 0, 0, 0], b: [n, 1, 0, 0, 0], c: [n, 1, 0, 0, 0], threads: 1 };
    let mut want = vec![];
    case.each(|i, j, _, _| {
        want.push(e.apply((0..k).map(|q| a[i * k + q] as f64 * b[q * n + j] as f64).sum(), i, j));
    });
    each_tier(|tier| {
        let mut c = res.clone();
        let mut g = args!(MatmulArgs, &case, a, b, c);
        (g.residual, g.r_row, g.residual_after, g.act) = (c.as_ptr(), n as i64, 1, act::RELU);
        assert_eq!(launch(1, gc_matmul_f32, &g), 0);
        assert!(error(&c, &want, k) < 5e-6, "{tier:?}");
    });
}

macro_rules! exact {
    ($name:ident, $t:ty, $args:ident, $kernel:ident, $seed:literal, |$r:ident| $value:expr, |$sum:ident, $x:ident, $y:ident| $fma:expr) => {
        #[test]
        fn $name() {
            let mut r = Rng($seed);
            for _ in 0..120 {
                let (m, n) = (r.pick(&[1, 2, 5, 9, 40]), r.pick(&[1, 3, 63, 64, 65, 130]));
                let k = r.pick(&[0, 1, 2, 17, 40]);
                let (case, lens) = random(&mut r, m, n, k);
                let mut values = |len: usize| -> Vec<$t> {
                    (0..len)
                        .map(|_| {
                            let $r = &mut r;
                            $value
                        })
                        .collect()
                };
                let (a, b) = (values(lens[0]), values(lens[1]));
                let mut want = vec![77 as $t; lens[2]];
                case.each(|i, j, [a0, b0, c0], _| {
                    let mut $sum = 0 as $t;
                    for q in 0..k {
                        let ($x, $y) = (a[a0 + i * case.a[0] + q * case.a[1]], b[b0 + q * case.b[0] + j * case.b[1]]);
                        $sum = $fma;
                    }
                    want[c0 + i * case.c[0] + j * case.c[1]] = $sum;
                });
                each_tier(|tier| {
                    let mut c = vec![77 as $t; lens[2]];
                    let g = args!($args, &case, a, b, c);
                    assert_eq!(launch(case.threads, $kernel, &g), 0);
                    assert_eq!(c, want, "{tier:?} {case:?}");
                });
            }
        }
    };
}

exact!(matmul_f64, f64, MatmulF64Args, gc_matmul_f64, 44, |r| r.unit() as f64, |sum, x, y| sum + x * y);
exact!(matmul_i32, i32, MatmulI32Args, gc_matmul_i32, 45, |r| r.next() as i32, |sum, x, y| sum.wrapping_add(x.wrapping_mul(y)));
exact!(matmul_i64, i64, MatmulI64Args, gc_matmul_i64, 46, |r| r.next() as i64, |sum, x, y| sum.wrapping_add(x.wrapping_mul(y)));
