//! Every structured op over sample types and shapes, with open and fixed dimensions.

use crate::support::{Rng, check, module, sym, tensor_of};
use graphc_ir::op::Tolerance::{self, Exact, Scale};
use graphc_ir::{Attrs, Builder, Dim, Elem, Module, Op, Tensor, Type, Value};

const FLOATS: [Elem; 4] = [Elem::F32, Elem::F64, Elem::F16, Elem::BF16];

fn dims(v: &[i64]) -> Vec<Dim> {
    v.iter().map(|&d| Dim::from(d)).collect()
}

/// A type whose first axis is open.
fn open(elem: Elem, rest: &[i64]) -> Type {
    Type::new(elem, [vec![sym("n")], dims(rest)].concat())
}

/// Checks one op on parameters with an open first axis for several extents of it.
fn sweep(
    elem: Elem,
    shapes: &[&[i64]],
    tol: Tolerance,
    what: &str,
    build: impl FnOnce(&mut Builder, &[Value]) -> Result<Vec<Value>, String>,
) {
    let types: Vec<Type> = shapes.iter().map(|s| open(elem, s)).collect();
    let m = module(&types, build);
    run_open(&m, shapes, elem, &[3, 1, 0, 8], tol, what);
}

fn run_open(m: &Module, shapes: &[&[i64]], elem: Elem, extents: &[usize], tol: Tolerance, what: &str) {
    let mut rng = Rng(99);
    let cases: Vec<Vec<Tensor>> = extents
        .iter()
        .map(|&n| {
            let shape = |s: &&[i64]| [vec![n], s.iter().map(|&d| d as usize).collect()].concat();
            shapes.iter().map(|s| rng.tensor(elem, &shape(s))).collect()
        })
        .collect();
    check(m, &cases, tol, &format!("{what} ({elem})"));
}

fn a() -> Attrs {
    Attrs::new()
}

#[test]
fn data_movement() {
    for elem in [Elem::F32, Elem::F64, Elem::F16, Elem::U8, Elem::I64, Elem::Bool] {
        let one = |attrs: Attrs, op: Op, what: &str| sweep(elem, &[&[4, 5]], Exact, what, |b, p| Ok(vec![b.op(op, p, attrs)?]));
        one(a().with("shape", vec![sym("n"), 20i64.into()]), Op::Reshape, "reshape");
        one(a().with("perm", vec![0i64, 2, 1]), Op::Transpose, "transpose");
        one(a().with("perm", vec![2i64, 1, 0]), Op::Transpose, "transpose all");
        one(a().with("shape", vec![2i64.into(), sym("n"), 4i64.into(), 5i64.into()]), Op::Broadcast, "broadcast");
        one(a().with("axes", vec![0i64, 2]), Op::Reverse, "reverse");
        one(a().with("start", dims(&[0, 1, 0])).with("size", vec![sym("n"), 2i64.into(), 3i64.into()]), Op::Slice, "slice");
        let m = module(&[open(elem, &[4, 5])], |b, p| {
            let attrs = a().with("low", dims(&[1, 2, 0])).with("high", dims(&[0, 1, 3])).with("symmetric", true);
            Ok(vec![b.op(Op::MirrorPad, p, attrs)?])
        });
        // There is nothing to mirror where there are no elements.
        run_open(&m, &[&[4, 5]], elem, &[3, 1], Exact, "mirror_pad");
        one(
            a().with("start", dims(&[0, 0, 1]))
                .with("size", vec![sym("n"), 2i64.into(), 2i64.into()])
                .with("stride", vec![1i64, 3, 2]),
            Op::Slice,
            "strided slice",
        );
        sweep(elem, &[&[4, 5], &[4, 2], &[4, 5]], Exact, "concat", |b, p| Ok(vec![b.op(Op::Concat, p, a().with("axis", 2i64))?]));
        sweep(elem, &[&[4], &[4]], Exact, "concat rows", |b, p| Ok(vec![b.op(Op::Concat, p, a().with("axis", 0i64))?]));
        sweep(elem, &[&[4, 5]], Exact, "pad", |b, p| {
            let v = b.scalar(1.0, elem)?;
            Ok(vec![b.op(Op::Pad, &[p[0], v], a().with("low", dims(&[1, 2, 0])).with("high", dims(&[0, 1, 3])))?])
        });
    }
}

#[test]
fn chains_of_layouts() {
    sweep(Elem::F32, &[&[4, 6]], Exact, "transpose, slice, reshape, add", |b, p| {
        let t = b.transpose(p[0], &[0, 2, 1])?;
        let s =
            b.op(Op::Slice, &[t], a().with("start", dims(&[0, 2, 0])).with("size", vec![sym("n"), 3i64.into(), 4i64.into()]))?;
        let r = b.reshape(s, &[sym("n"), 12i64.into()])?;
        let back = b.reshape(p[0], &[sym("n"), 2i64.into(), 12i64.into()])?;
        let r3 = b.reshape(r, &[sym("n"), 1i64.into(), 12i64.into()])?;
        let sum = b.bin(Op::Add, r3, back)?;
        Ok(vec![sum, r, t, sum, p[0]])
    });
}

#[test]
fn values_of_dimensions() {
    sweep(Elem::F32, &[&[4]], Exact, "dims", |b, _| {
        let d =
            vec![sym("n"), &sym("n") * &Dim::from(4i64), 7i64.into(), (&sym("n") + &Dim::from(1i64)).floor_div(&Dim::from(2i64))];
        let v = b.op(Op::Dims, &[], a().with("dims", d).with("elem", Elem::I32))?;
        let s = b.op(Op::Dims, &[], a().with("dims", vec![sym("n")]).with("elem", Elem::I64).with("scalar", true))?;
        let i = b.op(Op::Iota, &[], a().with("shape", vec![sym("n"), 3i64.into()]).with("axis", 0i64).with("elem", Elem::F32))?;
        let j = b.op(Op::Iota, &[], a().with("shape", vec![3i64.into(), sym("n")]).with("axis", 0i64).with("elem", Elem::I32))?;
        Ok(vec![v, s, i, j])
    });
}

/// A large table that is only looked up in is not copied; one that something else reads, too, is.
#[test]
fn tables_are_read_where_they_lie() {
    let mut rng = Rng(5);
    let table = rng.tensor(Elem::F32, &[5000, 64]);
    let indices = |v: &[f64]| vec![tensor_of(Elem::I32, &[v.len()], v)];
    let cases = [indices(&[4999.0, 0.0, 17.0]), indices(&[]), indices(&[5.0; 70])];
    for (copied, read_otherwise) in [(0, false), (table.bytes_len(), true)] {
        let m = module(&[open(Elem::I32, &[])], |b, p| {
            let t = b.constant(table.clone());
            let rows = b.op(Op::Gather, &[t, p[0]], a().with("axis", 0i64))?;
            let more = match read_otherwise {
                true => Some(b.reduce("max", t, &[0], false)?),
                false => None,
            };
            Ok([Some(rows), more].into_iter().flatten().collect())
        });
        check(&m, &cases, Exact, "a table");
        let c = graphc_cpu::compile(&m, "f", 1, &graphc_cpu::EmitOptions::default()).unwrap();
        let packed = c.weights.bytes().len();
        assert!((copied..copied + 4096).contains(&packed), "{packed} bytes");
    }
}

#[test]
fn gathers_and_scatters() {
    let mut rng = Rng(21);
    for (elem, index) in [(Elem::F32, Elem::I32), (Elem::I64, Elem::I64), (Elem::U8, Elem::U8), (Elem::F16, Elem::I16)] {
        let x = [sym("n"), 4i64.into(), 6i64.into()];
        let types = [Type::new(elem, x.to_vec()), Type::of(index, &[2, 3])];
        let indices = |rng: &mut Rng, shape: &[usize], below: u64| {
            let v: Vec<f64> = (0..shape.iter().product()).map(|_| (rng.next() % below) as f64).collect();
            tensor_of(index, shape, &v)
        };
        let cases: Vec<Vec<Tensor>> =
            [2usize, 3].iter().map(|&n| vec![rng.tensor(elem, &[n, 4, 6]), indices(&mut rng, &[2, 3], 4)]).collect();
        let m = module(&types, |b, p| Ok(vec![b.op(Op::Gather, p, a().with("axis", 1i64))?]));
        check(&m, &cases, Exact, "gather");

        let batch = [Type::new(elem, x.to_vec()), Type::new(index, vec![sym("n"), 5i64.into()])];
        let cases: Vec<Vec<Tensor>> =
            [2usize, 3].iter().map(|&n| vec![rng.tensor(elem, &[n, 4, 6]), indices(&mut rng, &[n, 5], 6)]).collect();
        let m = module(&batch, |b, p| Ok(vec![b.op(Op::Gather, p, a().with("axis", 2i64).with("batch_dims", 1i64))?]));
        check(&m, &cases, Exact, "gather with batch");

        let cases: Vec<Vec<Tensor>> =
            [2usize, 3].iter().map(|&n| vec![rng.tensor(elem, &[n, 4, 6]), indices(&mut rng, &[5, 2], 2)]).collect();
        let types = [Type::new(elem, x.to_vec()), Type::of(index, &[5, 2])];
        let m = module(&types, |b, p| Ok(vec![b.op(Op::GatherNd, p, a())?]));
        check(&m, &cases, Exact, "gather_nd");

        let types =
            [Type::new(elem, vec![sym("n"), 4i64.into(), 6i64.into()]), Type::new(index, vec![sym("n"), 5i64.into(), 1i64.into()])];
        let cases: Vec<Vec<Tensor>> =
            [2usize, 3].iter().map(|&n| vec![rng.tensor(elem, &[n, 4, 6]), indices(&mut rng, &[n, 5, 1], 4)]).collect();
        let m = module(&types, |b, p| Ok(vec![b.op(Op::GatherNd, p, a().with("batch_dims", 1i64))?]));
        check(&m, &cases, Exact, "gather_nd with batch");

        let types = [Type::new(elem, x.to_vec()), Type::of(index, &[5, 2]), Type::of(elem, &[5, 6])];
        for kind in ["set", "add", "sub", "mul", "div", "min", "max"] {
            if kind == "div" && !elem.is_float() {
                continue;
            }
            let cases: Vec<Vec<Tensor>> = [2usize, 3]
                .iter()
                .map(|&n| vec![rng.tensor(elem, &[n, 4, 6]), indices(&mut rng, &[5, 2], 2), rng.tensor(elem, &[5, 6])])
                .collect();
            let m = module(&types, |b, p| Ok(vec![b.op(Op::ScatterNd, p, a().with("kind", kind))?]));
            check(&m, &cases, Scale(64), &format!("scatter {kind}"));
        }
    }
}

#[test]
fn reductions() {
    for elem in [Elem::F32, Elem::F64, Elem::F16, Elem::BF16, Elem::I32, Elem::I64, Elem::U8] {
        for kind in ["sum", "mean", "prod", "max", "min"] {
            for (axes, keep) in [
                (vec![0i64], false),
                (vec![1], true),
                (vec![0, 2], false),
                (vec![0, 1, 2], false),
                (vec![2], false),
                (vec![], true),
            ] {
                // The mean of nothing depends on the type.
                let extents: &[usize] = if kind == "mean" || kind == "max" || kind == "min" { &[3, 1] } else { &[3, 1, 0] };
                let m = module(&[open(elem, &[3, 7])], |b, p| {
                    Ok(vec![b.reduce(kind, p[0], &axes.iter().map(|&a| a as usize).collect::<Vec<_>>(), keep)?])
                });
                run_open(&m, &[&[3, 7]], elem, extents, Scale(64), &format!("{kind} over {axes:?}"));
            }
        }
    }
    for kind in ["any", "all"] {
        sweep(Elem::Bool, &[&[3, 2]], Exact, kind, |b, p| {
            Ok(vec![b.reduce(kind, p[0], &[1, 2], false)?, b.reduce(kind, p[0], &[0], false)?])
        });
    }
    // A reduction of a transposed slice.
    sweep(Elem::F32, &[&[4, 6]], Scale(64), "sum of a view", |b, p| {
        let t = b.transpose(p[0], &[2, 0, 1])?;
        let s =
            b.op(Op::Slice, &[t], a().with("start", dims(&[1, 0, 0])).with("size", vec![4i64.into(), sym("n"), 4i64.into()]))?;
        Ok(vec![b.reduce("sum", s, &[1], false)?])
    });
}

/// A reduction takes the elementwise op that makes its operand into its own loop.
#[test]
fn reductions_with_producers() {
    for kind in ["sum", "mean", "prod", "max", "min"] {
        for (axes, keep) in [(vec![2], false), (vec![1], true), (vec![1, 2], false), (vec![2], true)] {
            let m = module(&[open(Elem::F32, &[5, 19]), open(Elem::F32, &[5, 1])], |b, p| {
                let x = b.bin(Op::Sub, p[0], p[1])?;
                Ok(vec![b.reduce(kind, x, &axes, keep)?])
            });
            let loops = graphc_cpu::plan(&m, "f").map(|p| (p.steps.len(), p.loops.iter().map(|l| l.reduced).max()));
            assert!(matches!(loops, Ok((1, Some(1 | 2)))), "{kind} over {axes:?}: {loops:?}");
            run_open(&m, &[&[5, 19], &[5, 1]], Elem::F32, &[3, 1, 0], Scale(64), &format!("{kind} of a difference over {axes:?}"));
        }
    }
    // One with another reader keeps its operand; so does one over an axis of open extent.
    sweep(Elem::F32, &[&[4, 6]], Scale(64), "sums of a square", |b, p| {
        let x = b.bin(Op::Mul, p[0], p[0])?;
        let y = b.bin(Op::Add, p[0], p[0])?;
        Ok(vec![b.reduce("sum", x, &[1], false)?, x, b.reduce("max", y, &[0], false)?])
    });
}

#[test]
fn scans_and_orders() {
    for elem in [Elem::F32, Elem::F64, Elem::F16, Elem::I32, Elem::I64, Elem::U8] {
        for (kind, out) in [("max", Elem::I64), ("min", Elem::I32)] {
            for axis in [0i64, 1, 2] {
                let attrs = a().with("kind", kind).with("axis", axis).with("elem", out);
                let m = module(&[open(elem, &[3, 7])], |b, p| Ok(vec![b.op(Op::ArgReduce, p, attrs)?]));
                run_open(&m, &[&[3, 7]], elem, &[3, 1], Exact, &format!("arg {kind}"));
            }
        }
        for kind in ["sum", "prod"] {
            for (axis, exclusive, reverse) in [(0i64, false, false), (1, true, false), (2, false, true), (2, true, true)] {
                let attrs = a().with("kind", kind).with("axis", axis).with("exclusive", exclusive).with("reverse", reverse);
                sweep(elem, &[&[3, 5]], Scale(64), &format!("running {kind}"), |b, p| Ok(vec![b.op(Op::Cumulative, p, attrs)?]));
            }
        }
        for k in [1i64, 3, 7] {
            sweep(elem, &[&[7]], Exact, "top_k", |b, p| b.inst(Op::TopK, p, a().with("k", dims(&[k]))));
        }
    }
}

#[test]
fn rows() {
    for elem in FLOATS {
        for log in [false, true] {
            sweep(elem, &[&[3, 17]], Scale(16), "softmax", |b, p| Ok(vec![b.op(Op::Softmax, p, a().with("log", log))?]));
        }
        let mut rng = Rng(4);
        let (gamma, beta) = (rng.tensor(elem, &[17]), rng.tensor(elem, &[17]));
        sweep(elem, &[&[3, 17]], Scale(64), "layer_norm", |b, p| {
            let (gamma, beta) = (b.constant(gamma), b.constant(beta));
            Ok(vec![b.op(Op::LayerNorm, &[p[0], gamma, beta], a().with("eps", 1e-5))?])
        });
    }
}

#[test]
fn contractions() {
    let pair = |l: &[i64], r: &[i64], lb: &[i64], rb: &[i64]| {
        a().with("lhs", l.to_vec()).with("rhs", r.to_vec()).with("lhs_batch", lb.to_vec()).with("rhs_batch", rb.to_vec())
    };
    for elem in [Elem::F32, Elem::F64, Elem::F16, Elem::BF16, Elem::I32, Elem::I64, Elem::I8] {
        let cases: [(&str, &[i64], &[i64], Attrs); 6] = [
            ("rows by rows", &[5], &[5], pair(&[1], &[1], &[], &[])),
            ("over the open axis", &[5], &[7], pair(&[0], &[0], &[], &[])),
            ("batch", &[4, 5], &[5, 6], pair(&[2], &[1], &[0], &[0])),
            ("batch with transposed factors", &[5, 4], &[6, 5], pair(&[1], &[2], &[0], &[0])),
            ("two batch axes", &[2, 4, 5], &[2, 6, 5], pair(&[3], &[3], &[0, 1], &[0, 1])),
            ("heads in the middle", &[4, 2, 5], &[6, 2, 5], pair(&[3], &[3], &[0, 2], &[0, 2])),
        ];
        for (what, l, r, attrs) in cases {
            sweep(elem, &[l, r], Scale(128), what, |b, p| Ok(vec![b.op(Op::Contract, p, attrs)?]));
        }
        // Constant second factors in several layouts.
        let mut rng = Rng(8);
        for (shape, r) in [(&[5usize, 9][..], 0i64), (&[9, 5], 1)] {
            let w = rng.tensor(elem, shape);
            sweep(elem, &[&[3, 5]], Scale(128), "constant factor", |b, p| {
                let w = b.constant(w);
                Ok(vec![b.op(Op::Contract, &[p[0], w], pair(&[2], &[r], &[], &[]))?])
            });
        }
        let w = rng.tensor(elem, &[3, 5, 9]);
        sweep(elem, &[&[3, 5]], Scale(128), "depth over two axes", |b, p| {
            let w = b.constant(w);
            Ok(vec![b.op(Op::Contract, &[p[0], w], pair(&[1, 2], &[0, 1], &[], &[]))?])
        });
    }
}

#[test]
fn epilogues() {
    let mut rng = Rng(17);
    let kinds = [Elem::F32, Elem::F64, Elem::F16, Elem::BF16];
    for (act, elem) in graphc_ir::epilogue::ACTIVATIONS.iter().flat_map(|a| kinds.map(|e| (a, e))) {
        for (bias, residual, last) in [(true, false, false), (true, true, false), (true, true, true), (false, true, false)] {
            let (w, v) = (rng.tensor(elem, &[5, 18]), rng.tensor(elem, &[18]));
            let attrs = a().with("lhs", vec![1i64]).with("rhs", vec![0i64]).with("bias", bias).with("residual", residual);
            let attrs = attrs.with("residual_last", last).with("act", *act).with("act_lo", 0.1).with("act_hi", 1.5);
            for constant in [true, false] {
                let (w, v, attrs) = (w.clone(), v.clone(), attrs.clone());
                let types = [open(elem, &[5]), open(elem, &[18]), Type::of(elem, &[5, 18])];
                let m = module(&types, |b, p| {
                    let factor = if constant { b.constant(w) } else { p[2] };
                    let mut operands = vec![p[0], factor];
                    if bias {
                        operands.push(b.constant(v));
                    }
                    if residual {
                        operands.push(p[1]);
                    }
                    Ok(vec![b.op(Op::Contract, &operands, attrs)?])
                });
                let cases: Vec<Vec<Tensor>> = [7usize, 1]
                    .iter()
                    .map(|&n| vec![rng.tensor(elem, &[n, 5]), rng.tensor(elem, &[n, 18]), rng.tensor(elem, &[5, 18])])
                    .collect();
                check(
                    &m,
                    &cases,
                    Scale(128),
                    &format!("epilogue {act} bias {bias} residual {residual} last {last} constant {constant}"),
                );
            }
        }
    }
}

fn window(strides: [i64; 2], low: [i64; 2], high: [i64; 2]) -> Attrs {
    a().with("strides", strides.to_vec()).with("low", dims(&low)).with("high", dims(&high))
}

#[test]
fn convolutions() {
    let mut rng = Rng(31);
    for elem in FLOATS {
        for constant in [true, false] {
            let mut case = |op: Op, x: &[i64], w: &[usize], attrs: Attrs, what: &str| {
                let t = rng.tensor(elem, w);
                let types = [open(elem, x), Type::of(elem, w)];
                let m = module(&types, |b, p| {
                    let w = if constant { b.constant(t) } else { p[1] };
                    Ok(vec![b.op(op, &[p[0], w], attrs)?])
                });
                let cases: Vec<Vec<Tensor>> = [2usize, 1, 0]
                    .iter()
                    .map(|&n| {
                        let shape: Vec<usize> = [vec![n], x.iter().map(|&d| d as usize).collect()].concat();
                        vec![rng.tensor(elem, &shape), rng.tensor(elem, w)]
                    })
                    .collect();
                check(&m, &cases, Scale(128), &format!("{what} of {elem}, constant {constant}"));
            };
            case(Op::Conv2d, &[7, 6, 3], &[3, 3, 3, 5], window([1, 1], [1, 1], [1, 1]), "conv 3x3");
            case(Op::Conv2d, &[7, 6, 4], &[1, 1, 4, 8], window([1, 1], [0, 0], [0, 0]), "conv 1x1");
            case(Op::Conv2d, &[8, 9, 4], &[3, 2, 4, 20], window([2, 2], [0, 1], [1, 0]), "conv stride 2");
            case(
                Op::Conv2d,
                &[9, 9, 2],
                &[3, 3, 2, 6],
                window([1, 1], [2, 2], [2, 2]).with("dilations", vec![2i64, 2]),
                "conv dilated",
            );
            case(Op::Conv2d, &[6, 6, 6], &[3, 3, 2, 9], window([1, 1], [1, 1], [1, 1]).with("groups", 3i64), "conv groups");
            case(Op::Conv2d, &[14, 13, 32], &[3, 3, 32, 40], window([1, 1], [1, 0], [0, 1]), "conv in tiles of 4");
            case(Op::Conv2d, &[6, 7, 64], &[3, 3, 64, 64], window([1, 1], [1, 1], [1, 1]), "conv in tiles of 2");
            case(Op::Depthwise, &[7, 6, 5], &[3, 3, 5, 1], window([1, 1], [1, 1], [1, 1]), "depthwise");
            case(Op::Depthwise, &[8, 8, 3], &[3, 3, 3, 2], window([2, 2], [0, 0], [1, 1]), "depthwise stride 2");
            case(
                Op::ConvTranspose2d,
                &[4, 5, 6],
                &[3, 3, 2, 6],
                window([2, 2], [1, 1], [0, 0]).with("size", dims(&[8, 10])),
                "conv transposed",
            );
        }
    }
}

#[test]
fn pooling_and_resizing() {
    for elem in [Elem::F32, Elem::F64, Elem::F16, Elem::I32] {
        for kind in ["max", "avg"] {
            if elem == Elem::I32 && kind == "avg" {
                continue;
            }
            let pool = |strides, low, high| window(strides, low, high).with("kind", kind).with("window", vec![3i64, 2]);
            for attrs in [pool([1, 1], [0, 0], [0, 0]), pool([2, 2], [1, 0], [1, 1])] {
                sweep(elem, &[&[7, 6, 5]], Scale(64), &format!("{kind} pooling"), |b, p| Ok(vec![b.op(Op::Pool2d, p, attrs)?]));
            }
        }
    }
    for elem in [Elem::F32, Elem::F16, Elem::U8] {
        for kind in ["nearest", "bilinear"] {
            for (align, half) in [(false, false), (true, false), (false, true)] {
                let attrs =
                    a().with("kind", kind).with("size", dims(&[9, 4])).with("align_corners", align).with("half_pixel", half);
                sweep(elem, &[&[5, 6, 3]], Scale(64), &format!("{kind} resize"), |b, p| Ok(vec![b.op(Op::Resize, p, attrs)?]));
            }
        }
    }
}

#[test]
fn attention() {
    for elem in FLOATS {
        let shapes: [&[i64]; 4] = [&[5, 2, 8], &[7, 2, 8], &[7, 2, 8], &[1, 1, 7]];
        sweep(elem, &shapes[..3], Scale(128), "attention", |b, p| Ok(vec![b.op(Op::Attention, p, a().with("scale", 0.3))?]));
        sweep(elem, &shapes, Scale(128), "attention with mask", |b, p| Ok(vec![b.op(Op::Attention, p, a().with("scale", 0.3))?]));
    }
}
