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
        (Op::Erf, (-5.0, 5.0)),
    ];
    for (op, (low, high)) in list {
        for elem in [Elem::F32, Elem::F64] {
            if op == Op::Erf && elem == Elem::F64 {
                continue;
            }
            let m = module(&[Type::new(elem, vec![sym("n")])], |b, p| Ok(vec![b.un(op, p[0])?]));
            let mut v = spread(low, high);
            // Both sides of the line have these.
            v.extend([f64::NAN, 0.0]);
            v.retain(|x| x.is_nan() || (low..=high).contains(x));
            let input = tensor_of(elem, &[v.len()], &v);
            let tolerance = match op.def().tolerance {
                Tolerance::Exact => Tolerance::Exact,
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
    for (op, elem) in
        [(Op::Pow, Elem::F32), (Op::Atan2, Elem::F32), (Op::Rem, Elem::F32), (Op::Mod, Elem::F32), (Op::Atan2, Elem::F64)]
    {
        let ty = Type::new(elem, vec![sym("n")]);
        let m = module(&[ty.clone(), ty], |b, p| Ok(vec![b.bin(op, p[0], p[1])?]));
        check(&m, &[vec![side(0, elem), side(1, elem)]], Tolerance::Ulps(4), op.name());
    }
}
