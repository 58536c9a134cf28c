//! Products and convolutions with factors of few bits.

use crate::support::{Rng, check_with, module, sym, tensor_of};
use graphc_gpu::Factors;
use graphc_ir::op::Tolerance;
use graphc_ir::{Attrs, Dim, Elem, Module, Op, Tensor, Type};

const FACTORS: [Factors; 2] = [Factors::Tf32, Factors::Bf16];

/// Numbers that bf16 holds, and whose products f32 sums without rounding.
fn exact(shape: &[usize], seed: usize) -> Tensor {
    let n: usize = shape.iter().product();
    let v: Vec<f64> = (0..n).map(|i| ((i * 7 + i / 5 + seed) % 33) as f64 / 4.0 - 4.0).collect();
    tensor_of(Elem::F32, shape, &v)
}

fn f32s(shape: Vec<Dim>) -> Type {
    Type::new(Elem::F32, shape)
}

fn check_exactly(m: &Module, cases: &[Vec<Tensor>], what: &str) {
    FACTORS.iter().for_each(|&f| check_with(f, m, cases, Tolerance::Exact, &format!("{what} of {f:?}")));
}

/// A product with constant weights, a bias and an activation: tall and low tiles, wide and narrow ones, ends in every direction.
#[test]
fn products_with_weights() {
    for (k, n) in [(16, 64), (40, 24), (33, 9), (7, 130), (300, 200)] {
        let (w, bias) = (exact(&[k, n], 3), exact(&[n], 5));
        let m = module(&[f32s(vec![sym("m"), (k as i64).into()])], |b, p| {
            let (w, bias) = (b.constant(w), b.constant(bias));
            let attrs = Attrs::new().with("lhs", vec![1i64]).with("rhs", vec![0i64]).with("bias", true).with("act", "relu");
            Ok(vec![b.op(Op::Contract, &[p[0], w, bias], attrs)?])
        });
        let cases: Vec<_> = [130, 64, 17, 1, 0].iter().map(|&rows| vec![exact(&[rows, k], rows)]).collect();
        check_exactly(&m, &cases, &format!("{k} by {n}"));
    }
}

#[test]
fn products_of_two_tensors() {
    for (lhs, rhs) in [(2i64, 1i64), (1, 2)] {
        let (x, y) = (vec![3i64.into(), 20i64.into(), sym("m")], vec![3i64.into(), sym("m"), 20i64.into()]);
        let m = module(&[f32s(if lhs == 2 { x.clone() } else { y.clone() }), f32s(if rhs == 1 { y } else { x })], |b, p| {
            let attrs = Attrs::new().with("lhs", vec![lhs]).with("rhs", vec![rhs]);
            let attrs = attrs.with("lhs_batch", vec![0i64]).with("rhs_batch", vec![0i64]);
            Ok(vec![b.op(Op::Contract, &[p[0], p[1]], attrs)?])
        });
        let shapes = |n: usize| {
            let (x, y) = ([3, 20, n], [3, n, 20]);
            vec![exact(if lhs == 2 { &x } else { &y }, n), exact(if rhs == 1 { &y } else { &x }, n + 1)]
        };
        let cases: Vec<_> = [1, 19, 72, 150].iter().map(|&n| shapes(n)).collect();
        check_exactly(&m, &cases, &format!("axes {lhs} and {rhs}"));
    }
}

#[test]
fn convolutions() {
    let cases = [
        (6, [3, 3, 6, 20], 1i64, 1i64, 1i64),
        (6, [1, 1, 6, 8], 1, 0, 1),
        (8, [1, 1, 8, 70], 1, 0, 1),
        (6, [3, 2, 3, 10], 2, 2, 2),
        (20, [3, 3, 20, 70], 1, 1, 1),
    ];
    for (channels, filter, stride, pad, groups) in cases {
        let w = exact(&filter, 2);
        let m = module(&[f32s(vec![sym("n"), 9i64.into(), 11i64.into(), (channels as i64).into()])], |b, p| {
            let w = b.constant(w);
            let attrs = Attrs::new().with("strides", vec![stride; 2]).with("groups", groups);
            let attrs = attrs.with("low", vec![Dim::from(pad); 2]).with("high", vec![Dim::from(pad); 2]);
            Ok(vec![b.op(Op::Conv2d, &[p[0], w], attrs)?])
        });
        let cases: Vec<_> = [1, 2, 0].iter().map(|&n| vec![exact(&[n, 9, 11, channels], n)]).collect();
        check_exactly(&m, &cases, &format!("filter {filter:?}"));
    }
}

/// Factors are rounded to the nearest: results are as close as their bits allow.
#[test]
fn rounding() {
    let mut rng = Rng(5);
    let w = rng.tensor(Elem::F32, &[96, 48]);
    let m = module(&[f32s(vec![sym("m"), 96i64.into()])], |b, p| {
        let w = b.constant(w);
        Ok(vec![b.op(Op::Contract, &[p[0], w], Attrs::new().with("lhs", vec![1i64]).with("rhs", vec![0i64]))?])
    });
    let cases = [vec![rng.tensor(Elem::F32, &[70, 96])]];
    // Half a unit in the last place of each factor, and sums that hide most of it: in units of f32's rounding, 2^-24.
    for (f, units) in [(Factors::Tf32, 1 << 12), (Factors::Bf16, 1 << 15)] {
        check_with(f, &m, &cases, Tolerance::Scale(units), &format!("{f:?}"));
    }
}

/// Few tiles and a great depth: parts of the depth are summed on their own, and then together, with all that comes after.
#[test]
fn products_in_parts() {
    for (m, k, n, batch) in [(70, 2000, 18, 1i64), (6, 1501, 40, 2)] {
        let numbers = |shape: &[usize], seed: usize| {
            let n: usize = shape.iter().product();
            tensor_of(Elem::F32, shape, &(0..n).map(|i| ((i * 5 + i / 7 + seed) % 17) as f64 / 4.0 - 2.0).collect::<Vec<_>>())
        };
        let w = numbers(&[batch as usize, k, n], 3);
        let shape = [batch, m, k as i64].map(Dim::from);
        let module = module(&[f32s(shape.to_vec())], |b, p| {
            let w = b.constant(w);
            let attrs = Attrs::new().with("lhs", vec![2i64]).with("rhs", vec![1i64]);
            let y = b.op(Op::Contract, &[p[0], w], attrs.with("lhs_batch", vec![0i64]).with("rhs_batch", vec![0i64]))?;
            Ok(vec![b.un(Op::Relu, y)?])
        });
        let cases = [vec![numbers(&[batch as usize, m as usize, k], 1)]];
        check_exactly(&module, &cases, &format!("{m} by {k} by {n}"));
        check_with(Factors::F32, &module, &cases, Tolerance::Exact, &format!("{m} by {k} by {n}"));
    }
    let (w, bias) = (exact(&[2, 2, 256, 24], 4), exact(&[24], 2));
    let m = module(&[f32s([1i64, 5, 5, 256].map(Dim::from).to_vec())], |b, p| {
        let (w, bias) = (b.constant(w), b.constant(bias));
        let attrs = Attrs::new().with("strides", vec![1i64; 2]).with("groups", 1i64).with("bias", true).with("act", "relu");
        let attrs = attrs.with("low", vec![Dim::from(0i64); 2]).with("high", vec![Dim::from(0i64); 2]);
        Ok(vec![b.op(Op::Conv2d, &[p[0], w, bias], attrs)?])
    });
    check_exactly(&m, &[vec![exact(&[1, 5, 5, 256], 3)]], "a deep convolution");
}
