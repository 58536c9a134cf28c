//! Every elementwise op on every type that the interpreter defines it for.

use crate::support::{Rng, check, module, sym, tensor_of};
use graphc_cpu::{CompileError, plan};
use graphc_ir::interp::Interp;
use graphc_ir::op::{DEFS, OpDef, Tolerance};
use graphc_ir::{Attrs, Elem, Module, Op, Tensor, Type};

const ELEMS: &[Elem] = &[
    Elem::F32,
    Elem::F64,
    Elem::F16,
    Elem::BF16,
    Elem::I8,
    Elem::I16,
    Elem::I32,
    Elem::I64,
    Elem::U8,
    Elem::U16,
    Elem::U32,
    Elem::U64,
    Elem::Bool,
];

/// Operand `k` of `op`: numbers that the op is defined for.
fn operand(rng: &mut Rng, op: Op, k: usize, elem: Elem, shape: &[usize]) -> Tensor {
    let t = rng.tensor(elem, shape);
    let v = t.to_reals().unwrap();
    let map = |f: &dyn Fn(f64) -> f64| tensor_of(elem, shape, &v.iter().map(|&x| f(x)).collect::<Vec<_>>());
    match op {
        Op::Div | Op::FloorDiv | Op::Rem | Op::Mod if k == 1 => map(&|x| if x == 0.0 { 3.0 } else { x }),
        Op::Pow if k == 1 => map(&|x| x.abs() % 4.0),
        Op::Shl | Op::Shr if k == 1 => map(&|x| x.abs() % 8.0),
        // Beside its zero, where few digits are right in any way of computing it.
        Op::Digamma => map(&|x| x.abs() + 1.75),
        Op::Lgamma | Op::Log | Op::Sqrt | Op::Rsqrt | Op::Pow => map(&|x| x.abs() + 0.5),
        Op::Acosh => map(&|x| x.abs() + 1.5),
        Op::Asin | Op::Acos | Op::Atanh => map(&|x| x * 0.4),
        _ => t,
    }
}

fn attrs(def: &OpDef) -> Attrs {
    match def.op {
        Op::Clamp => Attrs::new().with("lo", -1.0).with("hi", 1.0),
        Op::FakeQuant => {
            let a = Attrs::new().with("lo", -1.0).with("hi", 1.0).with("step", 0.3).with("base", -1.0).with("offset", 3.0);
            a.with("half_up", true)
        }
        Op::Quantise => {
            Attrs::new().with("y_rate", 16.0).with("y_zero", 9.0).with("y_lo", 1.0).with("y_hi", 200.0).with("y_half_up", true)
        }
        Op::LeakyRelu => Attrs::new().with("alpha", 0.25),
        _ => Attrs::new(),
    }
}

fn tolerance(def: &OpDef, elem: Elem) -> Tolerance {
    match def.tolerance {
        // Half precision is computed wider and rounded once or per step.
        Tolerance::Exact if !elem.is_float() => Tolerance::Exact,
        Tolerance::Exact => Tolerance::Ulps(1),
        t => t,
    }
}

/// A function of one op with inputs of several sizes.
pub struct Case {
    pub module: Module,
    pub inputs: Vec<Vec<Tensor>>,
    pub tolerance: Tolerance,
    pub what: String,
}

/// Every elementwise op that `filter` admits, on every type that the interpreter defines it for.
pub fn ops(filter: impl Fn(&OpDef) -> bool) -> Vec<Case> {
    let mut rng = Rng(11);
    let mut list = Vec::new();
    for def in DEFS.iter().filter(|d| d.op.is_elementwise() && d.op != Op::Cast && filter(d)) {
        let arity = def.operands.0;
        for &elem in ELEMS {
            let types: Vec<Type> = (0..arity)
                .map(|k| {
                    let shape = match k {
                        0 => vec![sym("n"), 3i64.into(), 5i64.into()],
                        1 => vec![3i64.into(), 1i64.into()],
                        _ => vec![5i64.into()],
                    };
                    Type::new(if def.op == Op::Select && k == 0 { Elem::Bool } else { elem }, shape)
                })
                .collect();
            let m = module(&types, |b, p| Ok(vec![b.op(def.op, p, attrs(def))?]));
            let inputs: Vec<Vec<Tensor>> = [4usize, 1, 0]
                .iter()
                .map(|&n| {
                    let shapes = [vec![n, 3, 5], vec![3, 1], vec![5]];
                    (0..arity).map(|k| operand(&mut rng, def.op, k, types[k].elem, &shapes[k])).collect()
                })
                .collect();
            // What the interpreter does not define has no meaning to compile.
            if Interp::new(&m).run("f", &inputs[0]).is_ok() {
                list.push(Case { module: m, inputs, tolerance: tolerance(def, elem), what: format!("{} of {elem}", def.name) });
            }
        }
    }
    list
}

/// Casts from every type to every other.
pub fn casts() -> Vec<Case> {
    let mut rng = Rng(5);
    let pairs = ELEMS.iter().flat_map(|&from| ELEMS.iter().map(move |&to| (from, to)));
    pairs
        .map(|(from, to)| {
            let cast = Attrs::new().with("elem", to);
            let m = module(&[Type::new(from, vec![sym("n")])], |b, p| Ok(vec![b.op(Op::Cast, p, cast)?]));
            let inputs = [37, 1].map(|n| {
                let t = rng.tensor(from, &[n]);
                let v = t.to_reals().unwrap();
                vec![if to.is_unsigned_int() { tensor_of(from, &[n], &v.iter().map(|x| x.abs()).collect::<Vec<_>>()) } else { t }]
            });
            Case { module: m, inputs: inputs.into(), tolerance: Tolerance::Exact, what: format!("cast of {from} to {to}") }
        })
        .collect()
}

fn sweep(cases: Vec<Case>) {
    let mut missing = Vec::new();
    for c in cases {
        match plan(&c.module, "f") {
            Err(CompileError::Unsupported(_)) => missing.push(c.what),
            _ => check(&c.module, &c.inputs, c.tolerance, &c.what),
        }
    }
    assert!(missing.is_empty(), "no code for: {}", missing.join(", "));
}

#[test]
fn one_operand() {
    sweep(ops(|d| d.operands.0 == 1));
}

#[test]
fn several_operands() {
    sweep(ops(|d| d.operands.0 > 1));
}

#[test]
fn casts_of_every_type() {
    sweep(casts());
}

#[test]
fn fused_body_with_two_results_and_constants() {
    let mut rng = Rng(3);
    let bias = rng.tensor(Elem::F32, &[6]);
    let ty = Type::new(Elem::F32, vec![sym("n"), 6i64.into()]);
    let m = module(std::slice::from_ref(&ty.clone()), |b, p| {
        let (bias, scale) = (b.constant(bias), b.scalar(0.5, Elem::F32)?);
        let region = b.func.add_region();
        let params: Vec<_> = [(ty.clone()), b.func.ty(bias).clone(), b.func.ty(scale).clone()]
            .into_iter()
            .map(|t| b.func.add_param(region, t, graphc_ir::Loc::default()))
            .collect();
        let outer = std::mem::take(&mut b.insts);
        let s = b.bin(Op::Add, params[0], params[1])?;
        let t = b.bin(Op::Mul, s, params[2])?;
        let u = b.un(Op::Tanh, t)?;
        let inner = std::mem::replace(&mut b.insts, outer);
        b.func.region_mut(region).insts = inner;
        b.func.region_mut(region).results = vec![s, u];
        Ok(b.inst_of(Op::Fused, &[p[0], bias, scale], Attrs::new(), vec![region], vec![ty.clone(), ty]))
    });
    let cases = [3usize, 1, 0].map(|n| vec![rng.tensor(Elem::F32, &[n, 6])]);
    check(&m, &cases, Tolerance::Ulps(16), "fused");
}
