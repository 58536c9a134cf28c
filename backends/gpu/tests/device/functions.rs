//! Scalar functions over their whole domains, with the edges.

use crate::support::{check, module, sym, tensor_of};
use graphc_ir::op::Tolerance;
use graphc_ir::{Elem, Op, Tensor, Type};

/// Numbers of all magnitudes between `low` and `high`, and those two.
fn spread(low: f64, high: f64) -> Vec<f64> {
    let mut v = vec![low, high];
    v.extend((0..200).map(|i| low + (high - low) * f64::from(i) / 199.0));
    let small = (1..60).flat_map(|i| [0.7f64.powi(i), -0.7f64.powi(i)]);
    v.extend(small.filter(|x| (low..=high).contains(x)));
    v
}

const ANY: (f64, f64) = (-20.0, 20.0);

#[test]
fn one_argument() {
    let list = [
        (Op::Exp, (-80.0, 80.0)),
        (Op::Expm1, (-80.0, 80.0)),
        (Op::Log, (1e-30, 1e30)),
        (Op::Log1p, (-0.999, 1e6)),
        (Op::Sin, (-1e4, 1e4)),
        (Op::Cos, (-1e4, 1e4)),
        (Op::Tan, ANY),
        (Op::Asin, (-1.0, 1.0)),
        (Op::Acos, (-1.0, 1.0)),
        (Op::Atan, (-1e6, 1e6)),
        (Op::Sinh, ANY),
        (Op::Cosh, ANY),
        (Op::Tanh, ANY),
        (Op::Asinh, (-1e12, 1e12)),
        (Op::Acosh, (1.0, 1e12)),
        (Op::Atanh, (-0.9999, 0.9999)),
        (Op::Sqrt, (0.0, 1e30)),
        (Op::Floor, ANY),
        (Op::Ceil, ANY),
        (Op::Round, ANY),
        (Op::Trunc, ANY),
        (Op::Erf, (-6.5, 6.5)),
        (Op::Erfc, (-6.5, 27.0)),
        (Op::Lgamma, (1e-3, 40.0)),
        (Op::Digamma, (2.0, 40.0)),
    ];
    for (op, (low, high)) in list {
        for elem in [Elem::F32, Elem::F64] {
            let m = module(&[Type::new(elem, vec![sym("n")])], |b, p| Ok(vec![b.un(op, p[0])?]));
            let mut v = spread(low, high);
            // Both sides of the line have these.
            v.extend([f64::NAN, 0.0]);
            v.retain(|x| x.is_nan() || (low..=high).contains(x));
            let input = tensor_of(elem, &[v.len()], &v);
            let tolerance = match op.def().tolerance {
                Tolerance::Exact => Tolerance::Exact,
                Tolerance::Ulps(n) => Tolerance::Ulps(n.max(8)),
                _ => Tolerance::Ulps(8),
            };
            check(&m, &[vec![input]], tolerance, op.name());
        }
    }
}

#[test]
fn two_arguments() {
    let edges = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 7.5, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e-3, 1e4, -2.5];
    let pairs: Vec<(f64, f64)> = edges.iter().flat_map(|&x| edges.iter().map(move |&y| (x, y))).collect();
    let side = |k: usize, elem| -> Tensor {
        let v: Vec<f64> = pairs.iter().map(|p| if k == 0 { p.0 } else { p.1 }).collect();
        tensor_of(elem, &[v.len()], &v)
    };
    for (op, elem) in [
        (Op::Pow, Elem::F32),
        (Op::Atan2, Elem::F32),
        (Op::Rem, Elem::F32),
        (Op::Mod, Elem::F32),
        (Op::Atan2, Elem::F64),
        (Op::Rem, Elem::F64),
        (Op::Mod, Elem::F64),
    ] {
        let ty = Type::new(elem, vec![sym("n")]);
        let m = module(&[ty.clone(), ty], |b, p| Ok(vec![b.bin(op, p[0], p[1])?]));
        check(&m, &[vec![side(0, elem), side(1, elem)]], Tolerance::Ulps(4), op.name());
    }
}

/// To the left of zero, at poles, and far away: absolute errors count where the function has zeros.
#[test]
fn gamma_everywhere() {
    let edges = [0.0, -0.0, -1.0, -2.0, -30.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    let some = (0..160).map(|i| -0.987 + 0.31 * f64::from(i - 100));
    let v: Vec<f64> = edges.into_iter().chain(some).collect();
    for (op, elem) in [Op::Lgamma, Op::Digamma].into_iter().flat_map(|op| [(op, Elem::F32), (op, Elem::F64)]) {
        let m = module(&[Type::new(elem, vec![sym("n")])], |b, p| Ok(vec![b.un(op, p[0])?]));
        check(&m, &[vec![tensor_of(elem, &[v.len()], &v)]], Tolerance::Scale(64), op.name());
    }
    let m = module(&[Type::new(Elem::F64, vec![sym("n")])], |b, p| Ok(vec![b.un(Op::Lgamma, p[0])?]));
    let large = [1e10, 1e100, 1e305, 1e308, f64::MAX, 1e-300, 5e-324, 1e-20, -1e-20, -1e-300];
    check(&m, &[vec![tensor_of(Elem::F64, &[large.len()], &large)]], Tolerance::Ulps(16), "large and small");
}

/// Remainders are exact, whatever lies between the magnitudes.
#[test]
fn remainders() {
    let v = [
        1e308,
        1.7976931348623157e308,
        3.0,
        0.1,
        1e-300,
        5e-324,
        2.2250738585072014e-308,
        1e-310,
        7e15,
        123456789.125,
        2f64.powi(1000),
    ];
    let pairs: Vec<(f64, f64)> = v.iter().flat_map(|&x| v.iter().flat_map(move |&y| [(x, y), (-x, y), (x, -y)])).collect();
    let side = |k: usize| {
        let v: Vec<f64> = pairs.iter().map(|p| if k == 0 { p.0 } else { p.1 }).collect();
        tensor_of(Elem::F64, &[v.len()], &v)
    };
    let ty = Type::new(Elem::F64, vec![sym("n")]);
    let m = module(&[ty.clone(), ty], |b, p| Ok(vec![b.bin(Op::Rem, p[0], p[1])?]));
    check(&m, &[vec![side(0), side(1)]], Tolerance::Exact, "remainders of f64");
}
