//! Measuring: that what is counted is right. Times are noise here: others run beside.

use crate::support::{DEVICES, Rng, module};
use graphc_gpu::{Factors, measure};
use graphc_ir::{Attrs, Dim, Elem, Op, Type};

#[test]
fn launches_are_counted() {
    let mut rng = Rng(3);
    let ty = |shape: [i64; 2]| Type::new(Elem::F32, shape.map(Dim::from).to_vec());
    let m = module(&[ty([60, 33]), ty([33, 20])], |b, p| {
        let y = b.op(Op::Contract, &[p[0], p[1]], Attrs::new().with("lhs", vec![1i64]).with("rhs", vec![0i64]))?;
        Ok(vec![b.un(Op::Neg, y)?])
    });
    let inputs = [rng.tensor(Elem::F32, &[60, 33]), rng.tensor(Elem::F32, &[33, 20])];
    let inputs: Vec<&[u8]> = inputs.iter().map(|t| t.bytes()).collect();
    for device in &*DEVICES {
        let plan = graphc_gpu::plan(&m, "f").unwrap();
        let program = graphc_gpu::compile(plan, device.flavour(), Factors::F32, 1, None).unwrap();
        let launches = device.load(program, 1).unwrap().profile(&inputs, &[], 3).unwrap();
        let counted: Vec<(u64, u64)> = launches.iter().map(|l| (l.bytes, l.operations)).collect();
        assert_eq!(counted, [(4 * (60 * 33 + 33 * 20 + 60 * 20), 2 * 60 * 33 * 20), (4 * 2 * 60 * 20, 0)]);
        assert!(launches.iter().all(|l| l.seconds >= 0.0 && l.seconds.is_finite()));
    }
}

#[test]
fn devices_have_some_speed() {
    for device in &*DEVICES {
        assert!(device.bandwidth(1 << 16).unwrap() > 0.0);
        // What stands in for a driver takes its time for the full number of threads.
        if !device.info().name.starts_with("Stand-in") {
            for f in [Factors::F32, Factors::Tf32] {
                assert!(measure::peak(device, f, true).unwrap() > 0.0);
            }
        }
    }
}
