//! Complex numbers: inputs and results of the functions are their parts.

use crate::support::{Rng, check, module, sym, tensor_of};
use graphc_ir::op::Tolerance;
use graphc_ir::{Attrs, Builder, Dim, Elem, Op, Tensor, Type, Value};

type Built = Result<Value, String>;

/// Compiles `f` of complex values of the given shapes (`n` stands for a symbol) and compares its parts with the interpreter's.
fn compare(what: &str, shapes: &[&[i64]], elem: Elem, tolerance: u32, f: impl Fn(&mut Builder, &[Value]) -> Built) {
    let dims = |s: &[i64]| s.iter().map(|&d| if d < 0 { sym("n") } else { d.into() }).collect::<Vec<_>>();
    let types: Vec<Type> = shapes.iter().flat_map(|s| [Type::new(elem, dims(s)), Type::new(elem, dims(s))]).collect();
    let m = module(&types, |b, p| {
        let z = p.chunks(2).map(|p| b.bin(Op::Complex, p[0], p[1])).collect::<Result<Vec<_>, _>>()?;
        let y = f(b, &z)?;
        if !b.func.ty(y).elem.is_complex() {
            return Ok(vec![y]);
        }
        Ok(vec![b.un(Op::Real, y)?, b.un(Op::Imag, y)?])
    });
    let mut rng = Rng(7);
    let cases: Vec<Vec<Tensor>> = [5usize, 1, 0]
        .iter()
        .map(|&n| {
            let concrete = |s: &[i64]| s.iter().map(|&d| if d < 0 { n } else { d as usize }).collect::<Vec<_>>();
            shapes.iter().flat_map(|s| [rng.tensor(elem, &concrete(s)), rng.tensor(elem, &concrete(s))]).collect()
        })
        .collect();
    check(&m, &cases, Tolerance::Scale(tolerance), &format!("{what} of complex {elem}"));
}

#[test]
fn functions() {
    use Op::*;
    let ops = [
        Neg, Conj, Abs, Real, Imag, Sign, Sqrt, Rsqrt, Exp, Expm1, Log, Log1p, Sin, Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Tanh,
        Asinh, Acosh, Atanh, Sigmoid,
    ];
    for elem in [Elem::F32, Elem::F64] {
        for op in ops {
            compare(op.name(), &[&[-1, 3, 5]], elem, 16, |b, z| b.un(op, z[0]));
        }
        for op in [Add, Sub, Mul, Div, Pow, Eq, Ne] {
            compare(op.name(), &[&[-1, 3, 5], &[3, 1]], elem, 64, |b, z| b.bin(op, z[0], z[1]));
        }
        compare("select", &[&[-1, 4], &[4]], elem, 0, |b, z| {
            let c = b.bin(Eq, z[0], z[1])?;
            b.op(Select, &[c, z[0], z[1]], Attrs::new())
        });
        for to in [Elem::C64, Elem::C128, Elem::F32, Elem::I32, Elem::Bool] {
            compare("cast", &[&[-1, 4]], elem, 1, |b, z| b.cast(z[0], to));
        }
    }
}

#[test]
fn movement() {
    for elem in [Elem::F32, Elem::F64] {
        compare("transpose", &[&[-1, 3]], elem, 0, |b, z| b.transpose(z[0], &[1, 0]));
        compare("slice and concat", &[&[-1, 6]], elem, 0, |b, z| {
            let (start, size): (Vec<Dim>, Vec<Dim>) = (vec![0i64.into(), 1i64.into()], vec![sym("n"), 2i64.into()]);
            let attrs = Attrs::new().with("start", start).with("size", size).with("stride", vec![1i64, 3]);
            let s = b.op(Op::Slice, &[z[0]], attrs)?;
            b.op(Op::Concat, &[s, z[0]], Attrs::new().with("axis", 1i64))
        });
        compare("gather", &[&[-1, 4]], elem, 0, |b, z| {
            let indices = b.constant(tensor_of(Elem::I32, &[3], &[2.0, 0.0, 3.0]));
            b.op(Op::Gather, &[z[0], indices], Attrs::new().with("axis", 1i64))
        });
        compare("pad", &[&[-1, 4], &[]], elem, 0, |b, z| {
            let low: Vec<Dim> = vec![1i64.into(), 0i64.into()];
            let high: Vec<Dim> = vec![0i64.into(), 2i64.into()];
            b.op(Op::Pad, z, Attrs::new().with("low", low).with("high", high))
        });
        for kind in ["set", "add", "sub"] {
            compare(kind, &[&[4, -1], &[3, -1]], elem, 8, |b, z| {
                let indices = b.constant(tensor_of(Elem::I32, &[3, 1], &[2.0, 0.0, 2.0]));
                b.op(Op::ScatterNd, &[z[0], indices, z[1]], Attrs::new().with("kind", kind))
            });
        }
    }
}

#[test]
fn sums_and_products() {
    for elem in [Elem::F32, Elem::F64] {
        for kind in ["sum", "mean", "prod"] {
            compare(kind, &[&[-1, 3, 4]], elem, 32, |b, z| b.reduce(kind, z[0], &[1], false));
            compare(kind, &[&[2, 3, 4]], elem, 32, |b, z| b.reduce(kind, z[0], &[0, 2], true));
        }
        for kind in ["sum", "prod"] {
            compare(kind, &[&[-1, 5]], elem, 32, |b, z| {
                b.op(Op::Cumulative, z, Attrs::new().with("kind", kind).with("axis", 1i64).with("reverse", true))
            });
        }
        let product = || Attrs::new().with("lhs", vec![1i64]).with("rhs", vec![0i64]);
        compare("contract", &[&[-1, 7], &[7, 3]], elem, 64, |b, z| b.op(Op::Contract, z, product()));
        compare("adjoint contract", &[&[7, -1], &[7, 3]], elem, 64, |b, z| {
            let (x, y) = (b.un(Op::Conj, z[0])?, z[1]);
            b.op(Op::Contract, &[x, y], product().with("lhs", vec![0i64]))
        });
        compare("batched contract", &[&[2, -1, 5], &[2, 5, 4]], elem, 64, |b, z| {
            let batch = product().with("lhs", vec![2i64]).with("rhs", vec![1i64]);
            b.op(Op::Contract, z, batch.with("lhs_batch", vec![0i64]).with("rhs_batch", vec![0i64]))
        });
    }
}
