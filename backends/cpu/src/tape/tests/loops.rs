//! Shapes, strides, reductions and random tapes.

use super::functions::check;
use super::*;

#[test]
fn sizes_and_tails() {
    let mut rng = Rng(7);
    for n in (0..70).chain([127, 128, 129, 1000, 20_000]) {
        let mut t = Tape::default();
        let (x, y) = (t.load(0, Elem::F32), t.load(1, Elem::U8));
        let y = t.cast(y, Elem::F32);
        let z = t.fma(x, y, y);
        let zero = t.constant(0.0, z);
        let c = t.cmp(graphc_ir::tape::Cmp::Gt, z, zero);
        t.outputs = vec![z, c];
        let inputs = [rng.buffer(Elem::F32, n as usize), rng.buffer(Elem::U8, n as usize)];
        check(&flat(n, t, &[Elem::F32, Elem::U8]), &inputs, 1e-6, 1e-30, &format!("{n} elements"));
    }
}

/// A random tape over the given inputs; all entries have the lane types of `elems`.
fn random_tape(rng: &mut Rng, inputs: &[Elem], length: usize, axes: usize) -> Tape {
    use graphc_ir::tape::{Bin, Cmp, T, Un};
    let mut t = Tape::default();
    let mut of_f32: Vec<T> = Vec::new();
    let mut of_i32: Vec<T> = Vec::new();
    let mut masks: Vec<T> = Vec::new();
    for (k, e) in inputs.iter().enumerate() {
        let x = t.load(k as u32, *e);
        match e {
            Elem::Bool => masks.push(x),
            Elem::F32 => of_f32.push(x),
            e if e.is_float() => of_f32.push(t.cast(x, Elem::F32)),
            _ => of_i32.push(t.cast(x, Elem::I32)),
        }
    }
    of_f32.push(t.constant_of(1.25, Elem::F32));
    of_i32.push(t.constant_of(3.0, Elem::I32));
    masks.push({
        let (a, b) = (of_f32[0], of_f32[of_f32.len() - 1]);
        t.cmp(Cmp::Le, a, b)
    });
    for _ in 0..length {
        let (f, g, h) = (rng.pick(&of_f32), rng.pick(&of_f32), rng.pick(&of_f32));
        let (i, j, m) = (rng.pick(&of_i32), rng.pick(&of_i32), rng.pick(&masks));
        match rng.below(16) {
            0 => of_f32.push(t.bin(Bin::Add, f, g)),
            1 => of_f32.push(t.bin(Bin::Sub, f, g)),
            2 => of_f32.push(t.bin(Bin::Mul, f, g)),
            3 => of_f32.push(t.select(m, f, g)),
            4 => of_f32.push(t.bin(Bin::Max, f, g)),
            5 => of_f32.push(t.bin(Bin::Min, f, g)),
            6 => of_f32.push(t.fma(f, g, h)),
            7 => {
                let op = rng.pick(&[Un::Neg, Un::Abs, Un::Sign, Un::Floor]);
                of_f32.push(t.un(op, f))
            }
            8 => of_f32.push(t.cast(i, Elem::F32)),
            9 => {
                let op = rng.pick(&[Cmp::Lt, Cmp::Ge, Cmp::Ne]);
                masks.push(t.cmp(op, i, j))
            }
            10 => {
                let op = rng.pick(&[Bin::And, Bin::Or, Bin::Xor]);
                masks.push(t.bin(op, m, masks[0]))
            }
            11 => of_i32.push(t.select(m, i, j)),
            12 => {
                let op = rng.pick(&[Bin::Add, Bin::Sub, Bin::Mul, Bin::Max, Bin::Min, Bin::And, Bin::Or, Bin::Shl, Bin::Shr]);
                of_i32.push(t.bin(op, i, j))
            }
            13 => {
                let v = t.cast(i, Elem::U8);
                of_i32.push(t.cast(v, Elem::I32))
            }
            14 => of_i32.push(t.index(rng.below(axes) as u32, Elem::I32)),
            _ => masks.push(t.un(Un::Not, m)),
        }
    }
    let (f, i, m) = (of_f32[of_f32.len() - 1], of_i32[of_i32.len() - 1], masks[masks.len() - 1]);
    let (h, b) = (t.cast(f, Elem::F16), t.cast(i, Elem::I8));
    t.outputs = vec![f, i, m, h, b];
    t
}

#[test]
fn random_loops() {
    let elems = [Elem::F32, Elem::F32, Elem::I32, Elem::F16, Elem::BF16, Elem::U8, Elem::I16, Elem::Bool];
    for seed in 0..120 {
        let mut rng = Rng(100 + seed);
        let rank = 1 + rng.below(4);
        let shape: Vec<i64> = (0..rank).map(|_| rng.pick(&[0, 1, 2, 3, 5, 8, 17, 33, 70])).collect();
        if shape.iter().product::<i64>() > 40_000 {
            continue;
        }
        let inputs: Vec<Elem> = (0..1 + rng.below(5)).map(|_| rng.pick(&elems)).collect();
        let length = rng.pick(&[3, 10, 30, 80, 400]);
        let tape = random_tape(&mut rng, &inputs, length, rank);
        let in_accesses = inputs
            .iter()
            .map(|e| {
                let (kind, mask, offset) = (rng.below(4), rng.next(), rng.below(3) as i64);
                let strides = match kind {
                    0 | 1 => strides_of(&shape, &|_| true),
                    2 => strides_of(&shape, &|a| mask >> a & 1 == 1),
                    // Reversed axes.
                    _ => {
                        let turned: Vec<i64> = shape.iter().rev().copied().collect();
                        strides_of(&turned, &|_| true).into_iter().rev().collect()
                    }
                };
                access(*e, offset, &strides)
            })
            .collect::<Vec<_>>();
        let outputs = tape.outputs.iter().map(|t| access(tape.elem(*t), 1, &strides_of(&shape, &|_| true))).collect();
        let l = Loop {
            name: "random".into(),
            extents: consts(&shape),
            reduced: 0,
            combine: Combine::Sum,
            inputs: in_accesses,
            outputs,
            tape,
        };
        let buffers: Vec<Vec<u8>> = l
            .inputs
            .iter()
            .map(|a| (a.elem, reach(a, &l.extents)))
            .map(|(e, n)| {
                // Small whole numbers, so that no rounding is in doubt.
                (0..n)
                    .flat_map(|_| {
                        let v = rng.below(8) as i128 - 3;
                        oracle::write(e, oracle::cast(oracle::int(v), Elem::I64, e))
                    })
                    .collect()
            })
            .collect();
        check(&l, &buffers, 1e-3, 1e-3, &format!("random loop {seed} over {shape:?}"));
    }
}

#[test]
fn reductions() {
    let mut rng = Rng(9);
    // Extents, number of reduced axes, strides of the two inputs.
    type Case = (&'static [i64], usize, &'static [i64], &'static [i64]);
    let cases: [Case; 12] = [
        (&[7, 100], 1, &[100, 1], &[0, 1]),
        (&[7, 3], 1, &[3, 1], &[1, 0]),
        (&[100, 7], 1, &[1, 100], &[1, 0]),
        (&[40, 9, 5], 2, &[1, 200, 40], &[1, 0, 0]),
        (&[6, 9, 37], 2, &[37, 222, 1], &[0, 37, 1]),
        (&[1000], 1, &[1], &[1]),
        (&[3, 4, 5], 3, &[20, 5, 1], &[0, 0, 1]),
        (&[3, 0], 1, &[1, 3], &[1, 0]),
        (&[0, 3], 1, &[3, 1], &[3, 1]),
        (&[3, 20, 6], 1, &[120, 1, 20], &[0, 1, 0]),
        (&[5, 6, 7], 1, &[1, 35, 5], &[42, 7, 1]),
        (&[2, 70, 3], 1, &[210, 1, 70], &[0, 1, 70]),
    ];
    for (extents, reduced, xs, ys) in cases {
        for e in [Elem::F32, Elem::F16, Elem::I32, Elem::U8, Elem::F64, Elem::I64, Elem::Bool] {
            for how in [Combine::Sum, Combine::Prod, Combine::Max, Combine::Min, Combine::Any, Combine::All] {
                if matches!(how, Combine::Any | Combine::All) != (e == Elem::Bool) {
                    continue;
                }
                let mut t = Tape::default();
                let (x, y) = (t.load(0, e), t.load(1, e));
                let z = t.bin(if e == Elem::Bool { graphc_ir::tape::Bin::And } else { graphc_ir::tape::Bin::Max }, x, y);
                t.outputs = vec![z, x];
                let kept = &extents[..extents.len() - reduced];
                let mut strides = strides_of(kept, &|_| true);
                strides.resize(extents.len(), 0);
                let l = Loop {
                    name: "reduce".into(),
                    extents: consts(extents),
                    reduced,
                    combine: how,
                    inputs: vec![access(e, 0, xs), access(e, 0, ys)],
                    outputs: vec![access(e, 0, &strides), access(e, 0, &strides)],
                    tape: t,
                };
                let buffers: Vec<Vec<u8>> = l
                    .inputs
                    .iter()
                    .map(|a| {
                        (0..reach(a, &l.extents).max(1))
                            .flat_map(|_| {
                                let v =
                                    if how == Combine::Prod { rng.pick(&[1, 1, 1, 1, 2, -1]) } else { rng.below(6) as i128 - 2 };
                                oracle::write(e, oracle::cast(oracle::int(v), Elem::I64, e))
                            })
                            .collect()
                    })
                    .collect();
                let tolerance = if how == Combine::Prod && e == Elem::F16 { 1.0 } else { 1e-3 };
                check(&l, &buffers, tolerance, 1.0, &format!("{how:?} of {e} over {extents:?}, {reduced} reduced"));
            }
        }
    }
}

#[test]
fn symbolic_sizes() {
    use graphc_ir::Sym;
    let (n, m) = (Dim::sym(Sym::new("n")), Dim::sym(Sym::new("m")));
    let mut t = Tape::default();
    let (x, y) = (t.load(0, Elem::F32), t.load(1, Elem::F32));
    let z = t.add(x, y);
    t.outputs.push(z);
    let rows = vec![m.clone(), Dim::ONE];
    let l = Loop {
        name: "bias".into(),
        extents: vec![n.clone(), m.clone()],
        reduced: 0,
        combine: Combine::Sum,
        inputs: vec![
            Access { elem: Elem::F32, offset: n.clone(), strides: rows.clone() },
            Access { elem: Elem::F32, offset: Dim::ZERO, strides: vec![Dim::ZERO, Dim::ONE] },
        ],
        outputs: vec![Access { elem: Elem::F32, offset: Dim::ZERO, strides: rows }],
        tape: t,
    };
    let words = dim_words(&l);
    assert_eq!(words, [n.clone(), m.clone()]);
    for (n, m) in [(0, 5), (5, 0), (1, 1), (3, 40), (1000, 33), (70, 999)] {
        let x: Vec<u8> = (0..n + n * m).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let y: Vec<u8> = (0..m).flat_map(|i| (i as f32 * 0.5).to_le_bytes()).collect();
        for tier in tiers() {
            for threads in [1, 4] {
                let mut out = vec![vec![0u8; 4 * (n * m) as usize]];
                let c = compile(&l, Variants::Only(tier)).unwrap();
                assert_eq!(c.run(threads, &[x.clone(), y.clone()], &mut out, &[n, m]), 0);
                for i in 0..n * m {
                    let got = oracle::read(Elem::F32, &out[0], i as usize).f;
                    assert_eq!(got, (n + i) as f64 + (i % m) as f64 * 0.5, "{n} x {m} at {i}");
                }
            }
        }
    }
}

/// What the machine-code emitters must not leave to the general one.
#[test]
fn vector_kernels_exist() {
    use super::vector::Set;
    let mut rng = Rng(11);
    for length in [3, 20, 80, 300] {
        let inputs = [Elem::F32, Elem::BF16, Elem::U8, Elem::I32];
        let tape = random_tape(&mut rng, &inputs, length, 1);
        let body = Body::new(&flat(100, tape, &inputs)).unwrap();
        for set in [Set::Avx2, Set::Avx512] {
            assert!(walk::kernel(&body, set).is_ok(), "{set:?}, {length} entries");
        }
    }
}

/// All variants in one function, chosen at run time; and the same code in an object for any x86-64.
#[test]
fn variants_are_chosen_at_run_time() {
    let tape = random_tape(&mut Rng(12), &[Elem::F32, Elem::I32], 12, 1);
    let l = flat(777, tape, &[Elem::F32, Elem::I32]);
    let mut rng = Rng(13);
    let inputs: Vec<Vec<u8>> = vec![
        (0..777).flat_map(|_| (rng.below(8) as f32 - 3.0).to_le_bytes()).collect(),
        (0..777).flat_map(|_| (rng.below(8) as i32 - 3).to_le_bytes()).collect(),
    ];
    let blank = || l.outputs.iter().map(|a| vec![0u8; 777 * a.elem.size()]).collect::<Vec<_>>();
    let (mut one, mut all, mut want) = (blank(), blank(), blank());
    oracle::run(&l, &inputs, &mut want).unwrap();
    assert_eq!(compile(&l, Variants::Host).unwrap().run(2, &inputs, &mut one, &[]), 0);
    assert_eq!(compile(&l, Variants::AtLeast(Tier::Portable)).unwrap().run(2, &inputs, &mut all, &[]), 0);
    assert!(one == all);
    for (k, a) in l.outputs.iter().enumerate() {
        for i in 0..777 {
            assert!(
                agree(a.elem, oracle::read(a.elem, &all[k], i), oracle::read(a.elem, &want[k], i), 1e-3, 1e-3),
                "output {k} at {i}"
            );
        }
    }
    let object = || {
        let mut flags = settings::builder();
        flags.set("opt_level", "speed").unwrap();
        flags.set("is_pic", "true").unwrap();
        let isa = cranelift_codegen::isa::lookup_by_name("x86_64-unknown-linux-gnu");
        let isa = isa.unwrap().finish(settings::Flags::new(flags)).unwrap();
        let names = cranelift_module::default_libcall_names();
        let mut m = cranelift_object::ObjectModule::new(cranelift_object::ObjectBuilder::new(isa, "loops", names).unwrap());
        define_loop(&mut m, &l, "loop", &TapeOptions { variants: Variants::AtLeast(Tier::Portable) }).unwrap();
        m.finish().emit().unwrap()
    };
    assert!(object() == object(), "objects are reproducible");
}

/// A machine without SSE4.1 and FMA, as an object must expect.
#[test]
fn baseline_x86_64_is_right() {
    use graphc_ir::tape::Un;
    if cfg!(not(target_arch = "x86_64")) {
        return;
    }
    let mut t = Tape::default();
    let x = t.load(0, Elem::F32);
    t.outputs = [Un::Floor, Un::Ceil, Un::Round, Un::Trunc, Un::Exp, Un::Log, Un::Tanh].map(|op| t.un(op, x)).to_vec();
    let i = t.cast(x, Elem::I32);
    let j = t.mul(i, i);
    let j = t.bin(graphc_ir::tape::Bin::Max, i, j);
    let h = t.cast(x, Elem::F16);
    t.outputs.extend([i, j, h]);
    let l = flat(301, t, &[Elem::F32]);
    let input = Rng(14).buffer(Elem::F32, 301);
    let mut flags = settings::builder();
    flags.set("opt_level", "speed").unwrap();
    flags.set("is_pic", "false").unwrap();
    let isa =
        cranelift_codegen::isa::lookup_by_name("x86_64-unknown-linux-gnu").unwrap().finish(settings::Flags::new(flags)).unwrap();
    let mut m = JITModule::new(JITBuilder::with_isa(isa, cranelift_module::default_libcall_names()));
    let id = define_loop(&mut m, &l, "loop", &TapeOptions { variants: Variants::Only(Tier::Portable) }).unwrap();
    m.finalize_definitions().unwrap();
    // SAFETY: the code is a function of this signature.
    let f = unsafe { std::mem::transmute::<*const u8, LoopFn>(m.get_finalized_function(id)) };
    let c = Compiled { _module: m, f };
    let blank = || l.outputs.iter().map(|a| vec![0u8; 301 * a.elem.size()]).collect::<Vec<_>>();
    let (mut got, mut want) = (blank(), blank());
    assert_eq!(c.run(1, std::slice::from_ref(&input), &mut got, &[]), 0);
    oracle::run(&l, &[input], &mut want).unwrap();
    for (k, a) in l.outputs.iter().enumerate() {
        for i in 0..301 {
            let (g, w) = (oracle::read(a.elem, &got[k], i), oracle::read(a.elem, &want[k], i));
            assert!(agree(a.elem, g, w, 1e-6, 1e-37), "output {k} at {i}: {g:?} is not {w:?}");
        }
    }
}

#[test]
fn an_output_may_be_an_input() {
    let mut t = Tape::default();
    let (x, y) = (t.load(0, Elem::F32), t.load(1, Elem::F32));
    let e = t.un(graphc_ir::tape::Un::Tanh, y);
    let z = t.fma(x, e, y);
    let s = t.sub(x, y);
    t.outputs = vec![z, s];
    let n = 1003;
    let l = flat(n as i64, t, &[Elem::F32, Elem::F32]);
    let mut rng = Rng(15);
    let inputs: Vec<Vec<u8>> =
        (0..2).map(|_| (0..n).flat_map(|_| (rng.below(100) as f32 / 25.0 - 2.0).to_le_bytes()).collect()).collect();
    for tier in tiers() {
        let c = compile(&l, Variants::Only(tier)).unwrap();
        let mut apart = vec![vec![0u8; 4 * n]; 2];
        assert_eq!(c.run(3, &inputs, &mut apart, &[]), 0);
        let mut both = inputs.clone();
        let addresses: Vec<*mut u8> = both.iter_mut().map(|b| b.as_mut_ptr()).collect();
        let ptrs = [addresses[0], addresses[1], addresses[0], addresses[1]];
        // SAFETY: each output is walked as the input that it shares its memory with.
        assert_eq!(unsafe { (c.f)(&ctx(3), ptrs.as_ptr(), std::ptr::null()) }, 0);
        assert!(apart == both, "{tier:?}");
    }
}
