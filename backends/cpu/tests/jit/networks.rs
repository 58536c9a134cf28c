//! Small networks through compiled code and the interpreter.

use crate::support::{Rng, check, module, sym};
use graphc_ir::op::Tolerance;
use graphc_ir::{Attrs, Elem, Op, Type};

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
        let packed = graphc_cpu::PackedWeights::new(&plan, &layout, threads).unwrap();
        println!("{} MB on {threads} threads: {:.1} ms", packed.bytes() >> 20, start.elapsed().as_secs_f64() * 1e3);
    }
}
