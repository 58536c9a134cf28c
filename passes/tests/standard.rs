//! The standard pipeline on the patterns that real graphs hold.

mod common;

use common::*;
use graphc_ir::{Attrs, Builder, Dim, Elem, Module, Op, Tensor, Value};
use graphc_passes::pipeline::standard;

fn optimised(mut m: Module) -> Module {
    check_passes(&mut m, &standard(), 3);
    m
}

fn scalar(b: &mut Builder, v: f64) -> Value {
    b.scalar(v, Elem::F32).unwrap()
}

fn constant(b: &mut Builder, shape: &[usize], seed: u64) -> Value {
    b.constant(noise(shape, seed))
}

#[test]
fn batch_normalisation_goes_into_weights() {
    let m = module(&[batch(&[8, 8, 3])], |b, x| {
        let w = constant(b, &[3, 3, 3, 4], 9);
        let zero = scalar(b, 0.0);
        let pad = Attrs::new().with("low", dims(&[0, 1, 1, 0])).with("high", dims(&[0, 1, 1, 0]));
        let x = b.op(Op::Pad, &[x[0], zero], pad)?;
        let y = b.op(Op::Conv2d, &[x, w], conv_attrs(2, 0, 0))?;
        let (mean, scale, beta) = (constant(b, &[4], 1), constant(b, &[1, 1, 1, 4], 2), constant(b, &[4], 3));
        let y = b.bin(Op::Sub, y, mean)?;
        let y = b.bin(Op::Mul, y, scale)?;
        let y = b.bin(Op::Add, y, beta)?;
        let (six, zero) = (scalar(b, 6.0), scalar(b, 0.0));
        let y = b.bin(Op::Max, y, zero)?;
        Ok(vec![b.bin(Op::Min, six, y)?])
    });
    let m = optimised(m);
    assert_eq!(ops(&m), ["conv2d"]);
}

#[test]
fn channels_first_residual_block() {
    let m = module(&[batch(&[8, 6, 6])], |b, x| {
        let mut v = x[0];
        for seed in 0..3 {
            let t = b.transpose(v, &[0, 2, 3, 1])?;
            let w = constant(b, &[3, 3, 8, 8], seed);
            let t = b.op(Op::Conv2d, &[t, w], conv_attrs(1, 1, 1))?;
            let t = b.transpose(t, &[0, 3, 1, 2])?;
            let (scale, shift) = (constant(b, &[1, 8, 1, 1], seed + 10), constant(b, &[8, 1, 1], seed + 20));
            let t = b.bin(Op::Mul, t, scale)?;
            let t = b.bin(Op::Add, t, shift)?;
            let t = if seed > 0 { b.bin(Op::Add, v, t)? } else { t };
            v = b.un(Op::Relu, t)?;
        }
        Ok(vec![b.reduce("mean", v, &[2, 3], false)?])
    });
    let m = optimised(m);
    assert_eq!(ops(&m), ["transpose", "conv2d", "conv2d", "conv2d", "reduce"]);
}

#[test]
fn gelu_in_all_spellings() {
    type Form = fn(&mut Builder, Value) -> Result<Value, String>;
    let forms: [(&str, Form); 6] = [
        ("gelu", |b, x| {
            let (half, one, root) = (scalar(b, 0.5), scalar(b, 1.0), scalar(b, std::f64::consts::SQRT_2));
            let (h, z) = (b.bin(Op::Mul, half, x)?, b.bin(Op::Div, x, root)?);
            let e = b.un(Op::Erf, z)?;
            let e = b.bin(Op::Add, one, e)?;
            b.bin(Op::Mul, h, e)
        }),
        ("gelu", |b, x| {
            let (half, root) = (scalar(b, 0.5), scalar(b, 0.70710677));
            let (h, z) = (b.bin(Op::Mul, half, x)?, b.un(Op::Neg, x)?);
            let z = b.bin(Op::Mul, z, root)?;
            let e = b.un(Op::Erfc, z)?;
            b.bin(Op::Mul, h, e)
        }),
        ("gelu", |b, x| {
            let (half, one, three) = (scalar(b, 0.5), scalar(b, 1.0), scalar(b, 3.0));
            let (k, c) = (scalar(b, 0.7978845608), scalar(b, 0.044715));
            let p = b.bin(Op::Pow, x, three)?;
            let p = b.bin(Op::Mul, c, p)?;
            let p = b.bin(Op::Add, x, p)?;
            let p = b.bin(Op::Mul, p, k)?;
            let t = b.un(Op::Tanh, p)?;
            let t = b.bin(Op::Add, t, one)?;
            let t = b.bin(Op::Mul, t, half)?;
            b.bin(Op::Mul, x, t)
        }),
        ("silu", |b, x| {
            let (one, n) = (scalar(b, 1.0), b.un(Op::Neg, x)?);
            let e = b.un(Op::Exp, n)?;
            let e = b.bin(Op::Add, one, e)?;
            let s = b.bin(Op::Div, one, e)?;
            b.bin(Op::Mul, s, x)
        }),
        ("hard_swish", |b, x| {
            let (three, six, zero, sixth) = (scalar(b, 3.0), scalar(b, 6.0), scalar(b, 0.0), scalar(b, 0.16666667));
            let s = b.bin(Op::Add, x, three)?;
            let s = b.bin(Op::Max, s, zero)?;
            let s = b.bin(Op::Min, s, six)?;
            let s = b.bin(Op::Mul, s, sixth)?;
            b.bin(Op::Mul, x, s)
        }),
        ("softplus", |b, x| {
            let (one, e) = (scalar(b, 1.0), b.un(Op::Exp, x)?);
            let e = b.bin(Op::Add, e, one)?;
            b.un(Op::Log, e)
        }),
    ];
    for (want, form) in forms {
        let m = optimised(module(&[batch(&[5])], |b, x| Ok(vec![form(b, x[0])?])));
        assert_eq!(ops(&m), [want]);
    }
}

/// Layer normalisation as Keras 3 writes it.
fn keras_norm(b: &mut Builder, x: Value, gamma: Value, beta: Value) -> Result<Value, String> {
    let last = b.func.ty(x).rank() - 1;
    let mean = b.reduce("mean", x, &[last], true)?;
    let d = b.bin(Op::Sub, x, mean)?;
    let d = b.bin(Op::Mul, d, d)?;
    let var = b.reduce("mean", d, &[last], true)?;
    let eps = scalar(b, 1e-6);
    let v = b.bin(Op::Add, var, eps)?;
    let r = b.un(Op::Rsqrt, v)?;
    let m = b.bin(Op::Mul, r, gamma)?;
    let n = b.un(Op::Neg, mean)?;
    let shift = b.bin(Op::Mul, n, m)?;
    let shift = b.bin(Op::Add, shift, beta)?;
    let y = b.bin(Op::Mul, x, m)?;
    b.bin(Op::Add, y, shift)
}

#[test]
fn layer_norm_in_all_spellings() {
    let keras = module(&[batch(&[5, 16])], |b, x| {
        let (g, s) = (constant(b, &[1, 1, 16], 1), constant(b, &[1, 1, 16], 2));
        Ok(vec![keras_norm(b, x[0], g, s)?])
    });
    assert_eq!(ops(&optimised(keras)), ["layer_norm"]);
    let untrained = module(&[batch(&[5, 16])], |b, x| {
        let g = b.constant(Tensor::from_slice(&[1, 1, 16], &[1f32; 16]).unwrap());
        let s = b.constant(Tensor::from_slice(&[1, 1, 16], &[0f32; 16]).unwrap());
        Ok(vec![keras_norm(b, x[0], g, s)?])
    });
    assert_eq!(ops(&optimised(untrained)), ["layer_norm"]);
    for divide in [false, true] {
        let plain = module(&[batch(&[5, 16])], |b, x| {
            let x = x[0];
            let mean = b.reduce("mean", x, &[2], true)?;
            let d = b.bin(Op::Sub, x, mean)?;
            let sq = b.bin(Op::Mul, d, d)?;
            let var = b.reduce("mean", sq, &[2], true)?;
            let eps = scalar(b, 1e-5);
            let v = b.bin(Op::Add, var, eps)?;
            let y = if divide {
                let s = b.un(Op::Sqrt, v)?;
                b.bin(Op::Div, d, s)?
            } else {
                let r = b.un(Op::Rsqrt, v)?;
                b.bin(Op::Mul, r, d)?
            };
            let (g, s) = (constant(b, &[16], 1), constant(b, &[16], 2));
            let y = b.bin(Op::Mul, y, g)?;
            Ok(vec![b.bin(Op::Add, y, s)?])
        });
        assert_eq!(ops(&optimised(plain)), ["layer_norm"]);
    }
}

#[test]
fn softmax_over_the_last_axis() {
    let m = module(&[batch(&[7])], |b, x| {
        let max = b.reduce("max", x[0], &[1], true)?;
        let d = b.bin(Op::Sub, x[0], max)?;
        let e = b.un(Op::Exp, d)?;
        let sum = b.reduce("sum", e, &[1], true)?;
        let log = b.un(Op::Log, sum)?;
        Ok(vec![b.bin(Op::Div, e, sum)?, b.bin(Op::Sub, d, log)?])
    });
    assert_eq!(ops(&optimised(m)), ["softmax", "softmax"]);
}

/// Dense as TensorFlow's tensordot writes it.
fn dense(b: &mut Builder, x: Value, n_out: usize, seed: u64) -> Result<Value, String> {
    let shape = b.func.ty(x).shape.clone();
    let (d, rows) = (shape[2].clone(), &shape[0] * &shape[1]);
    let flat = b.reshape(x, &[rows, d.clone()])?;
    let w = constant(b, &[d.as_const().unwrap() as usize, n_out], seed);
    let y = b.op(Op::Contract, &[flat, w], Attrs::new().with("lhs", vec![1usize]).with("rhs", vec![0usize]))?;
    let y = b.reshape(y, &[shape[0].clone(), shape[1].clone(), Dim::from(n_out)])?;
    let bias = constant(b, &[n_out], seed + 100);
    b.bin(Op::Add, y, bias)
}

#[test]
fn transformer_layer() {
    for select in [false, true] {
        let mask_ty = if select { batch(&[1, 1, 5]).with_elem(Elem::Bool) } else { batch(&[1, 1, 5]) };
        let m = module(&[batch(&[5, 8]), mask_ty], |b, p| {
            let x = p[0];
            let heads = |b: &mut Builder, v: Value| -> Result<Value, String> {
                let v = b.reshape(v, &[vec![n()], dims(&[5, 2, 4])].concat())?;
                b.transpose(v, &[0, 2, 1, 3])
            };
            let (q, k, v) = (dense(b, x, 8, 1)?, dense(b, x, 8, 2)?, dense(b, x, 8, 3)?);
            let (q, k, v) = (heads(b, q)?, heads(b, k)?, heads(b, v)?);
            let axes = |l: usize, r: usize| {
                Attrs::new()
                    .with("lhs", vec![l])
                    .with("rhs", vec![r])
                    .with("lhs_batch", vec![0usize, 1])
                    .with("rhs_batch", vec![0usize, 1])
            };
            let s = b.op(Op::Contract, &[q, k], axes(3, 3))?;
            let two = scalar(b, 2.0);
            let s = b.bin(Op::Div, s, two)?;
            let s = if select {
                let low = scalar(b, -2.3e38);
                b.op(Op::Select, &[p[1], s, low], Attrs::new())?
            } else {
                b.bin(Op::Add, s, p[1])?
            };
            let s = b.un(Op::Softmax, s)?;
            let y = b.op(Op::Contract, &[s, v], axes(3, 2))?;
            let y = b.transpose(y, &[0, 2, 1, 3])?;
            let y = b.reshape(y, &b.func.ty(x).shape.clone())?;
            let y = dense(b, y, 8, 4)?;
            let y = b.bin(Op::Add, x, y)?;
            let (g, s) = (constant(b, &[1, 1, 8], 5), constant(b, &[1, 1, 8], 6));
            let y = keras_norm(b, y, g, s)?;
            let h = dense(b, y, 16, 7)?;
            let (half, root) = (scalar(b, 0.5), scalar(b, 0.70710677));
            let z = b.un(Op::Neg, h)?;
            let z = b.bin(Op::Mul, z, root)?;
            let e = b.un(Op::Erfc, z)?;
            let h2 = b.bin(Op::Mul, half, h)?;
            let h = b.bin(Op::Mul, h2, e)?;
            let h = dense(b, h, 8, 8)?;
            Ok(vec![b.bin(Op::Add, y, h)?])
        });
        let m = optimised(m);
        let heavy: Vec<_> = ops(&m).into_iter().filter(|o| *o != "reshape").collect();
        let mask = if select { vec!["select"] } else { vec![] };
        let mut want = vec!["contract"; 3];
        want.extend(mask);
        want.extend(["attention", "contract", "layer_norm", "contract", "contract"]);
        let (mut a, mut b) = (heavy.clone(), want.clone());
        a.sort_unstable();
        b.sort_unstable();
        assert_eq!(a, b, "{heavy:?}");
    }
}

#[test]
fn max_pooling_takes_zero_padding_of_what_is_not_negative() {
    for relu in [true, false] {
        let m = module(&[batch(&[6, 6, 3])], |b, x| {
            let v = if relu { b.un(Op::Relu, x[0])? } else { x[0] };
            let zero = scalar(b, 0.0);
            let v = b.op(Op::Pad, &[v, zero], Attrs::new().with("low", dims(&[0, 1, 1, 0])).with("high", dims(&[0, 1, 1, 0])))?;
            let attrs = conv_attrs(2, 0, 0).with("kind", "max").with("window", vec![3i64, 3]);
            Ok(vec![b.op(Op::Pool2d, &[v], attrs)?])
        });
        let want: &[&str] = if relu { &["relu", "pool2d"] } else { &["pad", "pool2d"] };
        assert_eq!(ops(&optimised(m)), want);
    }
}

#[test]
fn elementwise_chain_with_broadcasts_is_one_loop() {
    let m = module(&[batch(&[4, 8]), batch(&[1, 8])], |b, x| {
        let t = b.bin(Op::Mul, x[0], x[1])?;
        let c = constant(b, &[8], 3);
        let u = b.bin(Op::Add, t, c)?;
        let s = b.un(Op::Exp, u)?;
        let shape = b.func.ty(x[0]).shape.clone();
        let w = b.broadcast(x[1], &shape)?;
        let r = b.bin(Op::Sub, s, w)?;
        let sum = b.reduce("sum", u, &[2], false)?;
        Ok(vec![r, sum])
    });
    assert_eq!(ops(&optimised(m)), ["fused", "reduce"]);
}

#[test]
fn calls_of_symbolic_functions_are_inlined() {
    let mut m = module(&[batch(&[4])], |b, x| {
        let t = batch(&[4]);
        let y = b.inst_of(Op::Call, &[x[0]], Attrs::new().with("func", graphc_ir::FuncId(1)), Vec::new(), vec![t]);
        Ok(vec![b.un(Op::Neg, y[0])?])
    });
    let callee = module(&[f32s(&[Dim::sym(graphc_ir::Sym::new("rows")), Dim::from(4i64)])], |b, x| {
        let shape = b.func.ty(x[0]).shape.clone();
        let flat = b.reshape(x[0], &[&shape[0] * &shape[1]])?;
        let y = b.un(Op::Tanh, flat)?;
        Ok(vec![b.reshape(y, &shape)?])
    });
    let mut callee = callee.funcs.into_iter().next().unwrap();
    callee.name = "g".into();
    m.funcs.push(callee);
    assert_eq!(ops(&optimised(m)), ["fused"]);
}

#[test]
fn scalar_constants_fold_through_fast_paths_and_the_interpreter() {
    let m = module(&[batch(&[3])], |b, x| {
        let a = b.constant(Tensor::from_slice(&[3], &[1f32, 2.0, 3.0]).unwrap());
        let e = b.un(Op::Exp, a)?;
        let e = b.bin(Op::Mul, e, a)?;
        let e = b.cast(e, Elem::F64)?;
        let e = b.cast(e, Elem::F32)?;
        Ok(vec![b.bin(Op::Add, x[0], e)?])
    });
    assert_eq!(ops(&optimised(m)), ["add"]);
}

/// Layer normalisation as Keras 2 writes it: a training batch normalisation of rows as channels.
#[test]
fn layer_norm_through_batch_norm() {
    let m = module(&[batch(&[5, 16])], |b, x| {
        let x = x[0];
        let rows = &n() * &Dim::from(5i64);
        let flat = b.reshape(x, &[Dim::ONE, rows.clone(), Dim::from(16i64), Dim::ONE])?;
        let column = [rows.clone(), Dim::ONE, Dim::ONE];
        let one = scalar(b, 1.0);
        let scale = b.broadcast(one, std::slice::from_ref(&rows))?;
        let mean = b.reduce("mean", flat, &[0, 2, 3], false)?;
        let mean = b.reshape(mean, &column)?;
        let d = b.bin(Op::Sub, flat, mean)?;
        let sq = b.bin(Op::Mul, d, d)?;
        let var = b.reduce("mean", sq, &[0, 2, 3], false)?;
        let eps = scalar(b, 1e-5);
        let v = b.bin(Op::Add, var, eps)?;
        let r = b.un(Op::Rsqrt, v)?;
        let f = b.bin(Op::Mul, r, scale)?;
        let f = b.reshape(f, &column)?;
        let y = b.bin(Op::Mul, d, f)?;
        let y = b.reshape(y, &b.func.ty(x).shape.clone())?;
        let (g, s) = (constant(b, &[16], 1), constant(b, &[16], 2));
        let y = b.bin(Op::Mul, y, g)?;
        Ok(vec![b.bin(Op::Add, y, s)?])
    });
    assert_eq!(ops(&optimised(m)), ["layer_norm"]);
}

#[test]
fn einsum_over_heads_is_a_product_of_matrices() {
    let m = module(&[batch(&[5, 8])], |b, x| {
        let (w, bias) = (constant(b, &[8, 2, 3], 1), constant(b, &[2, 3], 2));
        let y = b.op(Op::Contract, &[x[0], w], Attrs::new().with("lhs", vec![2usize]).with("rhs", vec![0usize]))?;
        let y = b.bin(Op::Add, y, bias)?;
        let y = b.un(Op::Tanh, y)?;
        let (v, bias) = (constant(b, &[2, 3, 4], 3), constant(b, &[4], 4));
        let y = b.op(Op::Contract, &[y, v], Attrs::new().with("lhs", vec![2usize, 3]).with("rhs", vec![0usize, 1]))?;
        Ok(vec![b.bin(Op::Add, y, bias)?])
    });
    assert_eq!(ops(&optimised(m)), ["contract", "contract"]);
}

#[test]
fn a_convolution_with_two_readers_is_done_once() {
    let m = module(&[batch(&[4, 4, 2])], |b, x| {
        let w = constant(b, &[1, 1, 2, 2], 1);
        let y = b.op(Op::Conv2d, &[x[0], w], conv_attrs(1, 0, 0))?;
        let y = b.bin(Op::Add, y, x[0])?;
        // A leaky relu with a slope for each channel.
        let slope = constant(b, &[2], 2);
        let (p, n) = (b.un(Op::Relu, y)?, b.un(Op::Neg, y)?);
        let n = b.un(Op::Relu, n)?;
        let n = b.bin(Op::Mul, n, slope)?;
        Ok(vec![b.bin(Op::Add, p, n)?])
    });
    assert_eq!(ops(&optimised(m)), ["conv2d", "fused"]);
}
