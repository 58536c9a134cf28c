//! Walks the table of ops: samples of each op infer the type that the interpreter computes, pass the verifier, and print to text that
//! parses to the same; also with symbolic dimensions.

use graphc_ir::interp::{EvalErrorKind, Interp, check_tape, eval_inst};
use graphc_ir::op::{Body, DEFS, OpDef};
use graphc_ir::tape::Tape;
use graphc_ir::{Attr, Attrs, Builder, Dim, Elem, Func, Loc, Module, Op, Sym, Tensor, Type, text, verify};

const ELEMS: &[Elem] = &[
    Elem::F32,
    Elem::F64,
    Elem::F16,
    Elem::BF16,
    Elem::I8,
    Elem::I32,
    Elem::I64,
    Elem::U8,
    Elem::U64,
    Elem::Bool,
    Elem::C64,
    Elem::F8E5M2,
];

/// A tensor with small, nonzero elements.
fn sample(elem: Elem, shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    let values: Vec<i32> = (0..n as i32).map(|i| (i * 7) % 5 + 1).collect();
    let ints = Tensor::from_slice(shape, &values).unwrap();
    match elem {
        Elem::Str => Tensor::from_strings(shape, values.iter().map(|v| v.to_string().into_bytes().into()).collect()).unwrap(),
        _ => eval_inst(Op::Cast, &Attrs::new().with("elem", elem), &[ints], &|_| None).unwrap().remove(0),
    }
}

fn ints(shape: &[usize], v: &[i32]) -> Tensor {
    Tensor::from_slice(shape, v).unwrap()
}

fn dims(v: &[i64]) -> Attr {
    Attr::Dims(v.iter().map(|&d| Dim::from(d)).collect())
}

fn list(v: &[i64]) -> Attr {
    Attr::Ints(v.to_vec())
}

/// A module whose function applies the op to parameters of the given types; the types of its results.
fn module_of(op: Op, attrs: &Attrs, types: &[Type]) -> Result<(Module, Vec<Type>), String> {
    let mut f = Func::new("main");
    let params: Vec<_> = types.iter().enumerate().map(|(k, t)| f.add_func_param(&format!("p{k}"), t.clone())).collect();
    let mut b = Builder::new(&mut f, Loc::new("graph/node"));
    let results = b.inst(op, &params, attrs.clone())?;
    let insts = std::mem::take(&mut b.insts);
    let body = f.body;
    let types = results.iter().map(|&v| f.ty(v).clone()).collect();
    f.region_mut(body).insts = insts;
    f.region_mut(body).results = results;
    Ok((Module { name: "m".into(), vars: Vec::new(), funcs: vec![f] }, types))
}

fn check(op: Op, attrs: &Attrs, inputs: &[Tensor]) {
    let context = format!("{} {attrs:?} {inputs:?}", op.name());
    let types: Vec<Type> = inputs.iter().map(Tensor::ty).collect();
    let (m, inferred) = module_of(op, attrs, &types).unwrap_or_else(|e| panic!("{context}: {e}"));
    let computed = Interp::new(&m).run("main", inputs).unwrap_or_else(|e| panic!("{context}: {e}"));
    assert_eq!(computed.iter().map(Tensor::ty).collect::<Vec<_>>(), inferred, "{context}");
    accepted(&m, &context);
}

fn accepted(m: &Module, context: &str) {
    assert_eq!(verify::module(m), [], "{context}\n{}", text::print(m));
    let mut options = text::Options { constants: text::Constants::Full, ..Default::default() };
    let once = text::print_with(m, &mut options).unwrap();
    let again = text::parse(&once).unwrap_or_else(|e| panic!("{context}: {e}\n{once}"));
    assert_eq!(text::print_with(&again, &mut options).unwrap(), once, "{context}");
    assert_eq!(verify::module(&again), [], "{context}\n{once}");
}

/// The attributes that elementwise ops need.
fn elementwise_attrs(def: &OpDef) -> Vec<Attrs> {
    match def.op {
        Op::Cast => ELEMS.iter().map(|&e| Attrs::new().with("elem", e)).collect(),
        Op::Clamp => vec![Attrs::new().with("lo", -0.5).with("hi", 2.0)],
        Op::FakeQuant => vec![
            Attrs::new().with("lo", -1.0).with("hi", 1.0).with("step", 0.125),
            Attrs::new()
                .with("lo", -1.0)
                .with("hi", 2.0)
                .with("step", 0.1)
                .with("rate", 10.0)
                .with("base", -1.0)
                .with("half_up", true),
        ],
        Op::Quantise => vec![Attrs::new().with("y_rate", 16.0).with("y_zero", 9.0).with("y_lo", 1.0).with("y_hi", 200.0)],
        Op::LeakyRelu => vec![Attrs::new().with("alpha", 0.2)],
        Op::Gelu => vec![Attrs::new(), Attrs::new().with("tanh", true)],
        _ => vec![Attrs::new()],
    }
}

#[test]
fn elementwise_ops() {
    for def in DEFS {
        let Body::Elementwise(body) = def.body else { continue };
        let mut defined = 0;
        for &elem in ELEMS {
            for attrs in elementwise_attrs(def) {
                let elems = if def.op == Op::Select { vec![Elem::Bool, elem, elem] } else { vec![elem; def.operands.0] };
                let mut t = Tape::default();
                let loads: Vec<_> = elems.iter().enumerate().map(|(k, &e)| t.load(k as u32, e)).collect();
                body(&mut t, &loads, &attrs);
                let shapes: [&[usize]; 3] = [&[2, 3], &[3], &[2, 1]];
                let inputs: Vec<Tensor> = elems.iter().zip(shapes).map(|(&e, s)| sample(e, s)).collect();
                if check_tape(&t).is_ok() {
                    defined += 1;
                    check(def.op, &attrs, &inputs);
                } else {
                    let e = eval_inst(def.op, &attrs, &inputs, &|_| None).expect_err(def.name);
                    assert_eq!(e.kind, EvalErrorKind::Unsupported, "{}: {e}", def.name);
                }
            }
        }
        assert!(defined > 0, "{} is defined for no type", def.name);
    }
}

#[test]
fn elementwise_ops_on_symbols() {
    let (n, m) = (Dim::sym(Sym::new("n")), Dim::sym(Sym::new("m")));
    for def in DEFS.iter().filter(|d| d.op.is_elementwise()) {
        let elem = match def.op {
            Op::And | Op::Or | Op::Xor | Op::Not | Op::Shl | Op::Shr => Elem::I32,
            Op::Real | Op::Imag | Op::Conj => Elem::C64,
            _ => Elem::F32,
        };
        let elems = if def.op == Op::Select { vec![Elem::Bool, elem, elem] } else { vec![elem; def.operands.0] };
        let shapes = [vec![n.clone(), m.clone()], vec![m.clone()], vec![n.clone(), Dim::ONE]];
        let types: Vec<Type> = elems.iter().zip(shapes).map(|(&e, s)| Type::new(e, s)).collect();
        let attrs = elementwise_attrs(def).remove(0);
        let (module, _) = module_of(def.op, &attrs, &types).unwrap_or_else(|e| panic!("{}: {e}", def.name));
        accepted(&module, def.name);
        for (n, m) in [(2, 3), (1, 1), (0, 4)] {
            let inputs: Vec<Tensor> = elems.iter().zip([vec![n, m], vec![m], vec![n, 1]]).map(|(&e, s)| sample(e, &s)).collect();
            Interp::new(&module).run("main", &inputs).unwrap_or_else(|e| panic!("{}: {e}", def.name));
        }
    }
}

/// Inputs and attributes for the ops that are not elementwise.
fn structured_samples() -> Vec<(Op, Attrs, Vec<Tensor>)> {
    let f = |shape: &[usize]| sample(Elem::F32, shape);
    let a = Attrs::new;
    let conv = || a().with("strides", list(&[2, 1])).with("low", dims(&[1, 0])).with("high", dims(&[0, 1]));
    let mut out = vec![
        (Op::Const, a().with("value", f(&[3, 4])), vec![]),
        (Op::Dims, a().with("dims", dims(&[3, 4])).with("elem", Elem::I64), vec![]),
        (Op::Dims, a().with("dims", dims(&[3])).with("elem", Elem::I32).with("scalar", true), vec![]),
        (Op::Reshape, a().with("shape", dims(&[4, 3])), vec![f(&[2, 6])]),
        (Op::Transpose, a().with("perm", list(&[2, 0, 1])), vec![f(&[2, 3, 4])]),
        (Op::Broadcast, a().with("shape", dims(&[2, 3, 4])), vec![f(&[3, 1])]),
        (Op::Slice, a().with("start", dims(&[1, 0])).with("size", dims(&[2, 2])).with("stride", list(&[1, 2])), vec![f(&[3, 4])]),
        (Op::Slice, a().with("start", dims(&[3])).with("size", dims(&[0])), vec![f(&[3])]),
        (Op::Reverse, a().with("axes", list(&[1])), vec![f(&[3, 4])]),
        (Op::Concat, a().with("axis", Attr::Int(1)), vec![f(&[2, 1]), f(&[2, 0]), f(&[2, 3])]),
        (Op::Pad, a().with("low", dims(&[1, -1])).with("high", dims(&[0, 2])), vec![f(&[2, 3]), f(&[])]),
        (Op::MirrorPad, a().with("low", dims(&[1, 2])).with("high", dims(&[0, 1])), vec![f(&[2, 3])]),
        (Op::Gather, a().with("axis", Attr::Int(1)), vec![f(&[2, 3]), ints(&[2, 2], &[0, 2, 1, 1])]),
        (Op::GatherNd, a(), vec![f(&[2, 3]), ints(&[2, 1], &[1, 0])]),
        (Op::ArgReduce, a().with("kind", "max").with("axis", Attr::Int(0)).with("elem", Elem::I32), vec![f(&[3, 2])]),
        (Op::TopK, a().with("k", dims(&[2])), vec![f(&[2, 3])]),
        (Op::TopK, a().with("k", dims(&[0])).with("elem", Elem::I64), vec![f(&[3])]),
        (Op::Softmax, a(), vec![f(&[2, 3])]),
        (Op::Softmax, a().with("log", true), vec![f(&[0, 3])]),
        (Op::LayerNorm, a().with("eps", 1e-3), vec![f(&[2, 4]), f(&[4]), f(&[4])]),
        (Op::Conv2d, conv(), vec![f(&[1, 5, 4, 2]), f(&[3, 2, 2, 3])]),
        (
            Op::Conv2d,
            conv().with("groups", Attr::Int(2)).with("dilations", list(&[1, 2])),
            vec![f(&[2, 5, 4, 4]), f(&[3, 2, 2, 6])],
        ),
        (Op::Conv2d, conv(), vec![f(&[0, 5, 4, 2]), f(&[3, 2, 2, 3])]),
        (Op::Depthwise, conv(), vec![f(&[1, 5, 4, 2]), f(&[3, 2, 2, 2])]),
        (Op::ConvTranspose2d, conv().with("size", dims(&[5, 4])), vec![f(&[1, 2, 4, 3]), f(&[3, 2, 2, 3])]),
        (Op::Pool2d, conv().with("kind", "max").with("window", list(&[2, 2])), vec![f(&[1, 5, 4, 2])]),
        (Op::Pool2d, conv().with("kind", "avg").with("window", list(&[2, 2])), vec![f(&[1, 5, 4, 2])]),
        (Op::Attention, a().with("scale", 0.5), vec![f(&[1, 3, 2, 4]), f(&[1, 5, 2, 4]), f(&[1, 5, 2, 3])]),
        (Op::Attention, a().with("scale", 0.5), vec![f(&[1, 3, 2, 4]), f(&[1, 5, 2, 4]), f(&[1, 5, 2, 3]), f(&[1, 1, 1, 5])]),
    ];
    for elem in [Elem::F32, Elem::I64, Elem::U8, Elem::BF16] {
        out.push((Op::Iota, a().with("shape", dims(&[2, 3])).with("axis", Attr::Int(1)).with("elem", elem), vec![]));
        for kind in ["sum", "mean", "prod", "max", "min"] {
            for keep in [false, true] {
                let attrs = a().with("kind", kind).with("axes", list(&[2, 0])).with("keep", keep);
                out.push((Op::Reduce, attrs, vec![sample(elem, &[2, 3, 2])]));
            }
            out.push((Op::Reduce, a().with("kind", kind).with("axes", list(&[0])), vec![sample(elem, &[0, 3])]));
        }
        for kind in ["sum", "prod"] {
            let attrs = a().with("kind", kind).with("axis", Attr::Int(1)).with("exclusive", true).with("reverse", true);
            out.push((Op::Cumulative, attrs, vec![sample(elem, &[2, 3])]));
        }
        for kind in ["set", "add", "sub", "min", "max"] {
            let inputs = vec![sample(elem, &[3, 2]), ints(&[2, 1], &[2, 2]), sample(elem, &[2, 2])];
            out.push((Op::ScatterNd, a().with("kind", kind), inputs));
        }
        let product =
            a().with("lhs", list(&[2])).with("rhs", list(&[1])).with("lhs_batch", list(&[0])).with("rhs_batch", list(&[0]));
        out.push((Op::Contract, product, vec![sample(elem, &[2, 3, 4]), sample(elem, &[2, 4, 5])]));
    }
    for elem in [Elem::F32, Elem::U8, Elem::Str, Elem::QI8, Elem::C128] {
        let x = match elem {
            Elem::QI8 => Tensor::from_bytes(elem, vec![2, 3], vec![1, 2, 3, 4, 5, 255]).unwrap(),
            _ => sample(elem, &[2, 3]),
        };
        out.push((Op::Transpose, a().with("perm", list(&[1, 0])), vec![x.clone()]));
        out.push((Op::Gather, a().with("axis", Attr::Int(0)), vec![x.clone(), ints(&[], &[1])]));
        out.push((Op::Concat, a().with("axis", Attr::Int(0)), vec![x.clone(), x.clone()]));
        out.push((Op::Const, a().with("value", x), vec![]));
    }
    for elem in [Elem::C64, Elem::C128] {
        for kind in ["sum", "mean", "prod"] {
            out.push((Op::Reduce, a().with("kind", kind).with("axes", list(&[1])), vec![sample(elem, &[2, 3])]));
        }
        for kind in ["sum", "prod"] {
            out.push((Op::Cumulative, a().with("kind", kind).with("axis", Attr::Int(1)), vec![sample(elem, &[2, 3])]));
        }
        let inputs = vec![sample(elem, &[3, 2]), ints(&[2, 1], &[2, 2]), sample(elem, &[2, 2])];
        out.push((Op::ScatterNd, a().with("kind", "add"), inputs));
        let product = a().with("lhs", list(&[1])).with("rhs", list(&[0]));
        out.push((Op::Contract, product, vec![sample(elem, &[2, 3]), sample(elem, &[3, 4])]));
    }
    for kind in ["any", "all"] {
        out.push((Op::Reduce, a().with("kind", kind).with("axes", list(&[1])), vec![sample(Elem::Bool, &[2, 3])]));
    }
    for kind in ["nearest", "bilinear"] {
        let attrs = a().with("kind", kind).with("size", dims(&[4, 3])).with("half_pixel", true);
        out.push((Op::Resize, attrs.clone(), vec![f(&[1, 2, 5, 2])]));
        out.push((Op::Resize, attrs, vec![sample(Elem::U8, &[1, 2, 5, 2])]));
    }
    for act in graphc_ir::epilogue::ACTIVATIONS {
        for elem in [Elem::F32, Elem::F16] {
            let attrs = a().with("lhs", list(&[1])).with("rhs", list(&[0])).with("bias", true).with("residual", true);
            let attrs = attrs.with("act", *act).with("act_lo", 0.25).with("act_hi", 4.0).with("alpha", 0.5);
            let inputs = [&[2, 3][..], &[3, 4], &[4], &[2, 4]].map(|s| sample(elem, s)).to_vec();
            out.push((Op::Contract, attrs.clone().with("residual_last", true), inputs.clone()));
            out.push((Op::Contract, attrs, inputs));
        }
    }
    out
}

#[test]
fn structured_ops() {
    let samples = structured_samples();
    for def in DEFS {
        let has = samples.iter().any(|(op, ..)| *op == def.op);
        let elsewhere = matches!(def.op, Op::Fused | Op::Call | Op::If | Op::While | Op::VarRead | Op::VarAssign);
        assert!(has || elsewhere || def.op.is_elementwise(), "{} has no sample", def.name);
    }
    for (op, attrs, inputs) in &samples {
        check(*op, attrs, inputs);
    }
}

/// Ops that compute with numbers refuse strings, and no op panics on operands or attributes that do not fit.
#[test]
fn misfits_are_errors() {
    let samples = structured_samples();
    let shapes: [&[usize]; 5] = [&[], &[0], &[3], &[2, 3], &[1, 4, 4, 2]];
    let strange = [
        Attr::Int(-1),
        Attr::Int(99),
        list(&[]),
        list(&[-3, 7, 7]),
        list(&[0, 0]),
        dims(&[]),
        dims(&[-1, 5]),
        Attr::from("?"),
        Attr::Real(f64::NAN),
    ];
    for (op, attrs, inputs) in &samples {
        for elem in [Elem::F32, Elem::Str, Elem::I32, Elem::Bool] {
            for shape in shapes {
                for k in 0..inputs.len() {
                    let mut inputs = inputs.clone();
                    inputs[k] = sample(elem, shape);
                    let _ = eval_inst(*op, attrs, &inputs, &|_| None);
                }
            }
        }
        for (key, _) in attrs.iter() {
            for value in &strange {
                let _ = eval_inst(*op, &attrs.clone().with(key, value.clone()), inputs, &|_| None);
            }
        }
        for n in 0..inputs.len() {
            assert!(eval_inst(*op, attrs, &inputs[..n], &|_| None).is_err() || *op == Op::Concat || *op == Op::Attention);
        }
    }
}
