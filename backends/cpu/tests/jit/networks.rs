//! Small networks through compiled code and the interpreter.

use crate::support::{Rng, check, compare, module, sym};
use graphc_ir::interp::Interp;
use graphc_ir::op::Tolerance;
use graphc_ir::{Attrs, Dim, Elem, Op, Type};
use graphc_passes::images::Images;
use graphc_passes::pass::{Pass, PassCx};
use graphc_passes::plan::StepKind;
use graphc_passes::precision::Precision;
use graphc_passes::strassen::Strassen;

#[test]
fn multilayer_perceptron_at_several_batch_sizes() {
    let mut rng = Rng(7);
    let [w1, b1, w2, b2] = [&[20, 33][..], &[33], &[33, 10], &[10]].map(|s| rng.tensor(Elem::F32, s));
    let m = module(&[Type::new(Elem::F32, vec![sym("n"), 20i64.into()])], |b, p| {
        let [w1, b1, w2, b2] = [w1, b1, w2, b2].map(|t| b.constant(t));
        let product = || Attrs::new().with("lhs", vec![1i64]).with("rhs", vec![0i64]);
        let h = b.op(Op::Contract, &[p[0], w1, b1], product().with("bias", true).with("act", "relu"))?;
        let y = b.op(Op::Contract, &[h, w2], product())?;
        let y = b.bin(Op::Add, y, b2)?;
        Ok(vec![b.un(Op::Softmax, y)?])
    });
    let cases: Vec<_> = [1, 2, 5, 33, 0].iter().map(|&n| vec![rng.tensor(Elem::F32, &[n, 20])]).collect();
    check(&m, &cases, Tolerance::Scale(64), "mlp");
}

/// Two large products that a pass divides into products of halves; the second one's weights lie the other way round.
#[test]
fn divided_products() {
    let mut rng = Rng(44);
    let [w1, b1, w2] = [&[512, 544][..], &[544], &[544, 544]].map(|s| rng.tensor(Elem::F32, s));
    let before = module(&[Type::new(Elem::F32, vec![sym("n"), 96i64.into(), 512i64.into()])], |b, p| {
        let [w1, b1, w2] = [w1, b1, w2].map(|t| b.constant(t));
        let product = |rhs: i64| Attrs::new().with("lhs", vec![2i64]).with("rhs", vec![rhs]);
        let h = b.op(Op::Contract, &[p[0], w1, b1], product(0).with("bias", true).with("act", "relu"))?;
        Ok(vec![b.op(Op::Contract, &[h, w2, h], product(1).with("residual", true))?])
    });
    let cx = PassCx { target: &graphc_cpu::CpuTarget, precision: Precision::Strassen };
    let mut m = before.clone();
    assert_eq!(Strassen.run(&mut m, &cx).unwrap(), 2);
    assert_eq!(Strassen.run(&mut m, &cx).unwrap(), 0);
    graphc_ir::verify::verify(&m).unwrap();
    let cases: Vec<_> = [2, 1, 0].iter().map(|&n| vec![rng.tensor(Elem::F32, &[n, 96, 512])]).collect();
    for case in &cases {
        let [want, got] = [&before, &m].map(|m| Interp::new(m).run("f", case).unwrap());
        compare(&got[0], &want[0], Tolerance::Scale(1024), "divided");
    }
    check(&m, &cases, Tolerance::Scale(1024), "divided");
}

/// Branches written straight into a concatenation of channels, inside another one of rows; residuals; fixed and open batch.
#[test]
fn branches_join_in_place() {
    let mut rng = Rng(12);
    let window = |pad: i64| {
        Attrs::new().with("strides", vec![1i64, 1]).with("low", vec![Dim::from(pad); 2]).with("high", vec![Dim::from(pad); 2])
    };
    let [w3, w1, d3] = [&[3, 3, 6, 5][..], &[1, 1, 6, 7], &[3, 3, 6, 1]].map(|s| rng.tensor(Elem::F32, s));
    let m = module(&[Type::new(Elem::F32, vec![sym("n"), 4i64.into(), 5i64.into(), 6i64.into()])], |b, p| {
        let [w3, w1, d3] = [w3, w1, d3].map(|t| b.constant(t));
        let a = b.op(Op::Conv2d, &[p[0], w3], window(1).with("act", "relu"))?;
        let c = b.op(Op::Conv2d, &[p[0], w1], window(0))?;
        let d = b.op(Op::Depthwise, &[p[0], d3, p[0]], window(1).with("residual", true))?;
        let e = b.un(Op::Tanh, p[0])?;
        let joined = b.op(Op::Concat, &[a, c, d, e], Attrs::new().with("axis", 3i64))?;
        let f = b.un(Op::Exp, p[0])?;
        let g = b.op(Op::Concat, &[f, p[0]], Attrs::new().with("axis", 3i64))?;
        let h = b.op(Op::Concat, &[p[0], g], Attrs::new().with("axis", 3i64))?;
        let sum = b.reduce("mean", joined, &[1, 2], false)?;
        Ok(vec![joined, h, sum])
    });
    let cases: Vec<_> = [2, 1, 0].iter().map(|&n| vec![rng.tensor(Elem::F32, &[n, 4, 5, 6])]).collect();
    let c = graphc_cpu::plan(&m, "f").unwrap();
    let copies = c.steps.iter().filter(|s| matches!(&s.kind, StepKind::Kernel { symbol: "gc_copy_strided", .. })).count();
    assert_eq!(copies, 2, "only what is an input has to be copied");
    // The mean of an empty batch is empty.
    check(&m, &cases, Tolerance::Scale(128), "branches");
}

/// A network of depthwise convolutions that a pass put into a loop over the images, with a gate for each channel of an image.
#[test]
fn image_by_image() {
    let mut rng = Rng(31);
    let window = |stride: i64| {
        let pads = || vec![Dim::ONE; 2];
        Attrs::new().with("strides", vec![stride; 2]).with("low", pads()).with("high", pads())
    };
    let shapes = [&[3, 3, 3, 32][..], &[3, 3, 32, 1], &[3, 3, 32, 1], &[3, 3, 32, 1], &[32, 32], &[32, 5]];
    let [w, d1, d2, d3, gate, last] = shapes.map(|s| rng.tensor(Elem::F32, s));
    let before = module(&[Type::new(Elem::F32, vec![sym("n"), 97i64.into(), 96i64.into(), 3i64.into()])], |b, p| {
        let [w, d1, d2, d3, gate, last] = [w, d1, d2, d3, gate, last].map(|t| b.constant(t));
        let product = || Attrs::new().with("lhs", vec![1i64]).with("rhs", vec![0i64]);
        let x = b.un(Op::Tanh, p[0])?;
        let x = b.op(Op::Conv2d, &[x, w], window(1).with("act", "relu"))?;
        let y = b.op(Op::Depthwise, &[x, d1], window(1))?;
        let y = b.un(Op::Tanh, y)?;
        let s = b.reduce("mean", y, &[1, 2], false)?;
        let s = b.op(Op::Contract, &[s, gate], product())?;
        let s = b.un(Op::Sigmoid, s)?;
        let s = b.reshape(s, &[sym("n"), Dim::ONE, Dim::ONE, 32i64.into()])?;
        let y = b.bin(Op::Mul, y, s)?;
        let y = b.op(Op::Depthwise, &[y, d2, x], window(1).with("residual", true))?;
        let y = b.op(Op::Depthwise, &[y, d3], window(2))?;
        let y = b.reduce("mean", y, &[1, 2], false)?;
        Ok(vec![b.op(Op::Contract, &[y, last], product())?])
    });
    let cx = PassCx { target: &graphc_cpu::CpuTarget, precision: Precision::F32 };
    let mut m = before.clone();
    assert_eq!(Images.run(&mut m, &cx).unwrap(), 1);
    graphc_ir::verify::verify(&m).unwrap();
    let f = &m.funcs[0];
    let outside: Vec<Op> = f.region(f.body).insts.iter().map(|&i| f.inst(i).op).filter(|&op| op != Op::Const).collect();
    assert_eq!(outside, [Op::Dims, Op::Broadcast, Op::While, Op::Contract], "the last product is for all images at once");
    assert_eq!(Images.run(&mut m, &cx).unwrap(), 0);
    let cases: Vec<_> = [2, 1, 0].iter().map(|&n| vec![rng.tensor(Elem::F32, &[n, 97, 96, 3])]).collect();
    for case in &cases {
        let [want, got] = [&before, &m].map(|m| Interp::new(m).run("f", case).unwrap());
        compare(&got[0], &want[0], Tolerance::Exact, "image by image");
    }
    check(&m, &cases, Tolerance::Scale(512), "image by image");
}

/// A chain of elementwise ops, softmax and residual products keeps to few buffers.
#[test]
fn works_in_place_where_it_can() {
    let mut rng = Rng(2);
    let w = rng.tensor(Elem::F32, &[32, 32]);
    let m = module(&[Type::new(Elem::F32, vec![sym("n"), 32i64.into()])], |b, p| {
        let w = b.constant(w);
        let mut x = b.un(Op::Tanh, p[0])?;
        for _ in 0..4 {
            let attrs = Attrs::new().with("lhs", vec![1i64]).with("rhs", vec![0i64]).with("residual", true);
            let y = b.un(Op::Sigmoid, x)?;
            x = b.op(Op::Contract, &[y, w, x], attrs)?;
            x = b.un(Op::Softmax, x)?;
        }
        Ok(vec![x])
    });
    let plan = graphc_cpu::plan(&m, "f").unwrap();
    assert_eq!(plan.arena, &sym("n") * &Dim::from(256i64), "two buffers of 128 bytes a row");
    let cases: Vec<_> = [3, 1, 70].iter().map(|&n| vec![rng.tensor(Elem::F32, &[n, 32])]).collect();
    check(&m, &cases, Tolerance::Scale(512), "in place");
}

/// Run with `--ignored --nocapture` to see how long the weights of a large network take to pack.
#[test]
#[ignore = "a measurement"]
fn packing_time() {
    let mut plan = graphc_passes::plan::Plan::default();
    for (k, n) in [(2304, 256), (4608, 512), (2048, 512), (512, 2048), (576, 64), (1024, 256), (2048, 1000)].repeat(4) {
        let tensor = graphc_ir::Tensor::zeros(Elem::F32, &[k, n]).unwrap();
        let layout = graphc_passes::plan::ConstLayout::Panels { count: 1, k, n, width: 32, strides: [0, n, 1] };
        plan.add_const(tensor, layout, graphc_ir::Loc::default());
    }
    let layout = graphc_cpu::Weights::of(&plan);
    for threads in [1, 2, 2, 2] {
        let start = std::time::Instant::now();
        let packed = graphc_cpu::PackedWeights::new(plan.consts.clone(), &layout, threads).unwrap();
        println!("{} MB on {threads} threads: {:.1} ms", packed.bytes().len() >> 20, start.elapsed().as_secs_f64() * 1e3);
    }
}
