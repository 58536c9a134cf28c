//! The interpreter on small cases whose results are known.

use graphc_ir::interp::{EvalErrorKind, Interp, eval_inst};
use graphc_ir::{Attr, Attrs, Builder, Dim, Elem, Func, Loc, Module, Op, Sym, Tensor, Type};

fn f32s(shape: &[usize], v: &[f32]) -> Tensor {
    Tensor::from_slice(shape, v).unwrap()
}

fn i32s(shape: &[usize], v: &[i32]) -> Tensor {
    Tensor::from_slice(shape, v).unwrap()
}

fn eval(op: Op, attrs: Attrs, x: &[Tensor]) -> Tensor {
    eval_inst(op, &attrs, x, &|_| None).unwrap().remove(0)
}

fn dims(v: &[i64]) -> Attr {
    Attr::Dims(v.iter().map(|&d| Dim::from(d)).collect())
}

fn counting(shape: &[usize]) -> Tensor {
    let n = shape.iter().product::<usize>();
    f32s(shape, &(0..n).map(|i| i as f32).collect::<Vec<_>>())
}

#[test]
fn elementwise_ops_broadcast_and_round() {
    let y = eval(Op::Add, Attrs::new(), &[f32s(&[2, 1], &[1.0, 2.0]), f32s(&[3], &[10.0, 20.0, 30.0])]);
    assert_eq!(y, f32s(&[2, 3], &[11.0, 21.0, 31.0, 12.0, 22.0, 32.0]));
    let y = eval(Op::Add, Attrs::new(), &[i32s(&[1], &[i32::MAX]), i32s(&[1], &[1])]);
    assert_eq!(y, i32s(&[1], &[i32::MIN]));
    let y = eval(Op::Relu, Attrs::new(), &[f32s(&[3], &[-1.0, f32::NAN, 2.0])]);
    let y = y.as_slice::<f32>().unwrap();
    assert!(y[0] == 0.0 && y[1].is_nan() && y[2] == 2.0);
    let y = eval(Op::Cast, Attrs::new().with("elem", Elem::I32), &[f32s(&[3], &[-1.9, f32::NAN, 1e20])]);
    assert_eq!(y, i32s(&[3], &[-1, i32::MIN, i32::MIN]));
}

#[test]
fn movement() {
    let x = counting(&[2, 3]);
    assert_eq!(
        eval(Op::Transpose, Attrs::new().with("perm", vec![1usize, 0]), std::slice::from_ref(&x)),
        f32s(&[3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0])
    );
    let pad = Attrs::new().with("low", dims(&[0, 1])).with("high", dims(&[1, 0]));
    let y = eval(Op::Pad, pad, &[x.clone(), Tensor::scalar(9f32)]);
    assert_eq!(y, f32s(&[3, 4], &[9.0, 0.0, 1.0, 2.0, 9.0, 3.0, 4.0, 5.0, 9.0, 9.0, 9.0, 9.0]));
    let mirror = Attrs::new().with("low", dims(&[0, 2])).with("high", dims(&[0, 1]));
    let y = eval(Op::MirrorPad, mirror, &[f32s(&[1, 3], &[1.0, 2.0, 3.0])]);
    assert_eq!(y, f32s(&[1, 6], &[3.0, 2.0, 1.0, 2.0, 3.0, 2.0]));
    let y = eval(Op::Gather, Attrs::new().with("axis", Attr::Int(1)), &[x.clone(), i32s(&[2], &[2, 0])]);
    assert_eq!(y, f32s(&[2, 2], &[2.0, 0.0, 5.0, 3.0]));
    let e = eval_inst(Op::Gather, &Attrs::new().with("axis", Attr::Int(1)), &[x.clone(), i32s(&[1], &[3])], &|_| None).unwrap_err();
    assert_eq!(e.kind, EvalErrorKind::Index);
    let y = eval(Op::Concat, Attrs::new().with("axis", Attr::Int(1)), &[x.clone(), f32s(&[2, 1], &[7.0, 8.0])]);
    assert_eq!(y, f32s(&[2, 4], &[0.0, 1.0, 2.0, 7.0, 3.0, 4.0, 5.0, 8.0]));
    let y = eval(Op::ScatterNd, Attrs::new().with("kind", "add"), &[x, i32s(&[2, 1], &[1, 1]), counting(&[2, 3])]);
    assert_eq!(y, f32s(&[2, 3], &[0.0, 1.0, 2.0, 6.0, 9.0, 12.0]));
}

#[test]
fn convolutions_agree_with_their_definition() {
    let x = counting(&[1, 3, 3, 1]);
    let w = f32s(&[2, 2, 1, 1], &[1.0, 10.0, 100.0, 1000.0]);
    let attrs = Attrs::new().with("strides", vec![1usize, 1]).with("low", dims(&[0, 0])).with("high", dims(&[0, 0]));
    let expected = f32s(&[1, 2, 2, 1], &[4310.0, 5421.0, 7643.0, 8754.0]);
    assert_eq!(eval(Op::Conv2d, attrs.clone(), &[x.clone(), w.clone()]), expected);
    assert_eq!(eval(Op::Depthwise, attrs.clone(), &[x.clone(), w.clone()]), expected);
    let y = eval(
        Op::Conv2d,
        attrs.clone().with("bias", true).with("act", "clamp").with("act_lo", 0.0).with("act_hi", 5000.0),
        &[x.clone(), w.clone(), f32s(&[1], &[-10.0])],
    );
    assert_eq!(y, f32s(&[1, 2, 2, 1], &[4300.0, 5000.0, 5000.0, 5000.0]));
    let y = eval(Op::ConvTranspose2d, attrs.with("size", dims(&[3, 3])), &[f32s(&[1, 2, 2, 1], &[1.0, 2.0, 3.0, 4.0]), w]);
    assert_eq!(y, f32s(&[1, 3, 3, 1], &[1.0, 12.0, 20.0, 103.0, 1234.0, 2040.0, 300.0, 3400.0, 4000.0]));
    let pool = Attrs::new().with("kind", "avg").with("window", vec![2usize, 2]).with("strides", vec![2usize, 2]);
    let y = eval(Op::Pool2d, pool.with("low", dims(&[0, 0])).with("high", dims(&[1, 1])), &[x]);
    assert_eq!(y, f32s(&[1, 2, 2, 1], &[2.0, 3.5, 6.5, 8.0]));
}

#[test]
fn a_function_binds_symbols_and_reports_nodes() {
    let mut f = Func::new("main");
    let n = Dim::sym(Sym::new("n"));
    let x = f.add_func_param("x", Type::new(Elem::I32, [n.clone(), Dim::from(2i64)]));
    let y = f.add_func_param("y", Type::new(Elem::I32, [n]));
    let mut b = Builder::new(&mut f, Loc::new("net/div"));
    let sum = b.reduce("sum", x, &[1], false).unwrap();
    let q = b.bin(Op::Div, sum, y).unwrap();
    let insts = std::mem::take(&mut b.insts);
    let body = f.body;
    f.region_mut(body).insts = insts;
    f.region_mut(body).results = vec![q];
    let module = Module { name: "m".into(), vars: Vec::new(), funcs: vec![f] };
    let mut interp = Interp::new(&module);
    let x = i32s(&[2, 2], &[1, 2, 3, 4]);
    assert_eq!(interp.run("main", &[x.clone(), i32s(&[2], &[2, 2])]).unwrap(), [i32s(&[2], &[1, 3])]);
    let e = interp.run("main", &[x.clone(), i32s(&[2], &[2, 0])]).unwrap_err();
    assert_eq!((e.kind, e.node.as_str()), (EvalErrorKind::DivisionByZero, "net/div"));
    assert_eq!(interp.run("main", &[x, i32s(&[3], &[2, 0, 1])]).unwrap_err().kind, EvalErrorKind::Shape);
}
