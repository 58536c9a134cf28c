//! Every operation on every type, over many arguments and the special ones.

use super::*;
use graphc_ir::tape::{Bin, Cmp, Un};

const ELEMS: [Elem; 13] = [
    Elem::Bool,
    Elem::I8,
    Elem::I16,
    Elem::I32,
    Elem::I64,
    Elem::U8,
    Elem::U16,
    Elem::U32,
    Elem::U64,
    Elem::F16,
    Elem::BF16,
    Elem::F32,
    Elem::F64,
];

const UNARY: [Un; 33] = [
    Un::Neg,
    Un::Abs,
    Un::Sign,
    Un::Not,
    Un::Sqrt,
    Un::Floor,
    Un::Ceil,
    Un::Round,
    Un::Trunc,
    Un::Exp,
    Un::Expm1,
    Un::Log,
    Un::Log1p,
    Un::Sin,
    Un::Cos,
    Un::Tan,
    Un::Asin,
    Un::Acos,
    Un::Atan,
    Un::Sinh,
    Un::Cosh,
    Un::Tanh,
    Un::Asinh,
    Un::Acosh,
    Un::Atanh,
    Un::Erf,
    Un::Erfc,
    Un::Lgamma,
    Un::Digamma,
    Un::IsNan,
    Un::IsInf,
    Un::IsFinite,
    Un::Neg,
];

const BINARY: [Bin; 16] = [
    Bin::Add,
    Bin::Sub,
    Bin::Mul,
    Bin::Div,
    Bin::FloorDiv,
    Bin::Rem,
    Bin::Mod,
    Bin::Pow,
    Bin::Atan2,
    Bin::Max,
    Bin::Min,
    Bin::And,
    Bin::Or,
    Bin::Xor,
    Bin::Shl,
    Bin::Shr,
];

/// Relative tolerance of one operation on `e`: what rounding to the format makes, or a bit more of functions.
fn tolerance(e: Elem) -> f64 {
    match e {
        Elem::F16 => 1.0e-3,
        Elem::BF16 => 8.0e-3,
        Elem::F32 => 1.0e-6,
        _ => 1e-12,
    }
}

/// Compiles `l` in every tier and compares with the oracle, element by element.
pub fn check(l: &Loop, inputs: &[Vec<u8>], tolerance: f64, scale: f64, what: &str) {
    let sizes: Vec<usize> = l.outputs.iter().map(|a| reach(a, &l.extents)).collect();
    let blank = || l.outputs.iter().zip(&sizes).map(|(a, n)| vec![0xa5u8; (n + 16) * a.elem.size()]).collect::<Vec<_>>();
    let mut want = blank();
    let failed = oracle::run(l, inputs, &mut want).is_err();
    for tier in tiers() {
        let compiled = compile(l, Variants::Only(tier)).unwrap_or_else(|e| panic!("{what}: {e}"));
        let mut first: Option<Vec<Vec<u8>>> = None;
        for threads in [1, 3] {
            let mut got = blank();
            let status = compiled.run(threads, inputs, &mut got, &[]);
            assert_eq!(status, if failed { 3 } else { 0 }, "{what} in {tier:?}");
            if failed {
                continue;
            }
            for (k, a) in l.outputs.iter().enumerate() {
                for i in 0..got[k].len() / a.elem.size() {
                    let (g, w) = (oracle::read(a.elem, &got[k], i), oracle::read(a.elem, &want[k], i));
                    let same = got[k][i * a.elem.size()..][..a.elem.size()] == want[k][i * a.elem.size()..][..a.elem.size()];
                    if same || i < sizes[k] && agree(a.elem, g, w, tolerance, scale) {
                        continue;
                    }
                    let arguments: Vec<_> = if l.extents.len() == 1 && l.reduced == 0 && i < sizes[k] {
                        l.inputs.iter().zip(inputs).map(|(a, b)| oracle::read(a.elem, b, i)).collect()
                    } else {
                        Vec::new()
                    };
                    panic!(
                        "{what} in {tier:?}, {threads} threads, output {k} at {i} of {}: {g:?} is not {w:?}; arguments {arguments:?}",
                        sizes[k]
                    );
                }
            }
            match &first {
                None => first = Some(got),
                Some(f) => assert!(*f == got, "{what} in {tier:?}: another result with {threads} threads"),
            }
        }
    }
}

fn supports_un(op: Un, e: Elem) -> bool {
    match op {
        Un::Not => !e.is_float(),
        Un::Neg => e != Elem::Bool,
        Un::Abs | Un::Sign | Un::Floor | Un::Ceil | Un::Round | Un::Trunc => e != Elem::Bool,
        Un::IsNan | Un::IsInf | Un::IsFinite => e.is_float(),
        _ => e.is_float(),
    }
}

fn supports_bin(op: Bin, e: Elem) -> bool {
    let bitwise = matches!(op, Bin::And | Bin::Or | Bin::Xor);
    match e {
        Elem::Bool => bitwise || matches!(op, Bin::Max | Bin::Min | Bin::Add | Bin::Mul),
        e if e.is_float() => !bitwise && !matches!(op, Bin::Shl | Bin::Shr),
        _ => op != Bin::Atan2,
    }
}

#[test]
fn unary_operations() {
    let mut rng = Rng(1);
    for e in ELEMS {
        for op in UNARY.into_iter().filter(|op| supports_un(*op, e)) {
            let mut t = Tape::default();
            let x = t.load(0, e);
            let y = t.un(op, x);
            t.outputs.push(y);
            let n = 533;
            // Poles, where a rounding decides everything, and far trigonometry, where f64 is no oracle of f64.
            let x: Vec<u8> = (0..n)
                .flat_map(|_| {
                    let mut v = rng.value(e);
                    if matches!(op, Un::Sin | Un::Cos | Un::Tan | Un::Lgamma | Un::Digamma) && (v.f.abs() >= 1e4 || v.f.is_nan()) {
                        v.f = 0.75;
                    }
                    if matches!(op, Un::Lgamma | Un::Digamma) && v.f <= 0.0 {
                        v.f = oracle::round(e, v.f.abs() + 0.125);
                    }
                    oracle::write(e, v)
                })
                .collect();
            let scale = match op {
                Un::Sin | Un::Cos | Un::Tan | Un::Lgamma | Un::Digamma => 1.0,
                _ => 1e-37,
            };
            check(&flat(n, t, &[e]), &[x], tolerance(e), scale, &format!("{op:?} of {e}"));
        }
    }
}

#[test]
fn binary_operations() {
    let mut rng = Rng(2);
    for e in ELEMS {
        for op in BINARY.into_iter().filter(|op| supports_bin(*op, e)) {
            let mut t = Tape::default();
            let (x, y) = (t.load(0, e), t.load(1, e));
            let z = t.bin(op, x, y);
            t.outputs.push(z);
            let n = 533;
            let divides = matches!(op, Bin::Div | Bin::FloorDiv | Bin::Rem | Bin::Mod) && !e.is_float();
            let x = rng.buffer(e, n as usize);
            let y: Vec<u8> = (0..n)
                .flat_map(|_| {
                    let mut v = rng.value(e);
                    if op == Bin::Pow && !e.is_float() {
                        v.i = v.i.rem_euclid(9);
                    }
                    if divides && v.i == 0 {
                        v.i = 3;
                    }
                    oracle::write(e, v)
                })
                .collect();
            check(&flat(n, t, &[e, e]), &[x, y], tolerance(e), 1e-37, &format!("{op:?} of {e}"));
        }
    }
}

#[test]
fn division_by_zero_fails() {
    for e in ELEMS.into_iter().filter(|e| e.is_int()) {
        let mut t = Tape::default();
        let (x, y) = (t.load(0, e), t.load(1, e));
        let z = t.bin(Bin::Mod, x, y);
        t.outputs.push(z);
        let x = Rng(3).buffer(e, 40);
        let mut y = vec![1u8; 40 * e.size()];
        y[37 * e.size()..38 * e.size()].fill(0);
        check(&flat(40, t, &[e, e]), &[x, y], 0.0, 0.0, "a zero divisor");
    }
}

#[test]
fn comparisons_and_selections() {
    let mut rng = Rng(4);
    for e in ELEMS {
        for op in [Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge] {
            let mut t = Tape::default();
            let (x, y) = (t.load(0, e), t.load(1, e));
            let c = t.cmp(op, x, y);
            let s = t.select(c, x, y);
            t.outputs = vec![c, s];
            let inputs = [rng.buffer(e, 301), rng.buffer(e, 301)];
            check(&flat(301, t, &[e, e]), &inputs, 0.0, 0.0, &format!("{op:?} of {e}"));
        }
    }
}

#[test]
fn casts() {
    let mut rng = Rng(5);
    for from in ELEMS {
        for to in ELEMS {
            let mut t = Tape::default();
            let x = t.load(0, from);
            let y = t.cast(x, to);
            t.outputs.push(y);
            check(&flat(301, t, &[from]), &[rng.buffer(from, 301)], 0.0, 0.0, &format!("cast of {from} to {to}"));
        }
    }
}

/// The distance in units of the last place.
fn ulps(got: f32, want: f64) -> f64 {
    let w = want as f32;
    if w.is_nan() || got.is_nan() || w.is_infinite() {
        return if got.to_bits() == w.to_bits() || (w.is_nan() && got.is_nan()) { 0.0 } else { f64::INFINITY };
    }
    let unit = ((((w.abs().to_bits() >> 23) as i32).max(1) - 150) as f64).exp2();
    (got as f64 - want).abs() / unit
}

#[test]
fn vector_functions_are_precise() {
    // Bounds in units of the last place.
    let cases = [
        (Un::Exp, 2.0, -105.0, 90.0),
        (Un::Expm1, 3.0, -20.0, 90.0),
        (Un::Log, 2.0, 1e-40, 1e38),
        (Un::Log1p, 3.0, -0.9999, 1e4),
        (Un::Tanh, 3.5, -10.0, 10.0),
        (Un::Erf, 4.0, -4.5, 4.5),
        (Un::Erfc, 12.0, -4.0, 9.0),
    ];
    for (op, bound, lo, hi) in cases {
        let mut t = Tape::default();
        let x = t.load(0, Elem::F32);
        let y = t.un(op, x);
        t.outputs.push(y);
        let n = 100_003usize;
        let mut xs: Vec<f32> = (0..n).map(|i| (lo + (hi - lo) * (i as f64 / (n - 1) as f64)) as f32).collect();
        let mut rng = Rng(6);
        for x in xs.iter_mut().skip(n / 2) {
            // The other half spread over magnitudes.
            *x = f32::from_bits(rng.next() as u32);
            if !(*x >= lo as f32 && *x <= hi as f32) {
                *x = x.abs().fract() * 1e-3;
            }
        }
        for (i, s) in [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-45, -1e-45, 200.0, -200.0].into_iter().enumerate()
        {
            xs[100 * i] = s;
        }
        let bytes: Vec<u8> = xs.iter().flat_map(|x| x.to_le_bytes()).collect();
        let l = flat(n as i64, t, &[Elem::F32]);
        for tier in tiers() {
            let mut out = vec![vec![0u8; 4 * n]];
            compile(&l, Variants::Only(tier)).unwrap().run(1, std::slice::from_ref(&bytes), &mut out, &[]);
            let mut worst = (0.0, 0.0);
            for (i, x) in xs.iter().enumerate() {
                let x = *x as f64;
                let want = match op {
                    Un::Exp => x.exp(),
                    Un::Expm1 => x.exp_m1(),
                    Un::Log => x.ln(),
                    Un::Log1p => x.ln_1p(),
                    Un::Tanh => x.tanh(),
                    Un::Erf => graphc_kernels::scalar::gc_scalar_erf_f64(x),
                    _ => graphc_kernels::scalar::gc_scalar_erfc_f64(x),
                };
                let got = oracle::read(Elem::F32, &out[0], i).f as f32;
                let u = ulps(got, want);
                if u > worst.0 {
                    worst = (u, x);
                }
            }
            assert!(worst.0 <= bound, "{op:?} in {tier:?}: {} ulp at {:e}", worst.0, worst.1);
        }
    }
}
