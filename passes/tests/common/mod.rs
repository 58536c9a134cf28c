//! What the tests of the passes share: running modules, comparing tensors, checking types.
#![allow(dead_code)]

pub mod graphs;

use graphc_ir::interp::Interp;
use graphc_ir::{Attrs, Builder, Dim, Elem, Func, Loc, Module, Op, Sym, Tensor, Type, Value};
use graphc_ir::{text, verify};
use graphc_passes::dce;
use graphc_passes::pass::{Pass, PassCx};
use graphc_passes::precision::Precision;
use graphc_passes::target::Target;

pub struct AnyTarget;

impl Target for AnyTarget {
    fn panel_width(&self, _: Option<usize>, _: usize, _: usize) -> usize {
        16
    }

    fn divides_product(&self, _: usize, _: usize, _: usize) -> bool {
        true
    }

    fn has_bf16_dots(&self) -> bool {
        true
    }

    fn has_int8_dots(&self) -> bool {
        true
    }
}

/// A function `f` of the given parameters, whose body `build` makes.
pub fn module(params: &[Type], build: impl FnOnce(&mut Builder, &[Value]) -> Result<Vec<Value>, String>) -> Module {
    let mut f = Func::new("f");
    let x: Vec<Value> = params.iter().enumerate().map(|(k, t)| f.add_func_param(&format!("x{k}"), t.clone())).collect();
    let mut b = Builder::new(&mut f, Loc::default());
    let results = build(&mut b, &x).unwrap();
    let insts = b.insts;
    f.result_names = (0..results.len()).map(|k| format!("y{k}")).collect();
    let body = f.body;
    f.region_mut(body).insts = insts;
    f.region_mut(body).results = results;
    Module { name: "m".into(), vars: Vec::new(), funcs: vec![f] }
}

/// Numbers in [-1, 1] that depend on `seed`.
pub fn noise(shape: &[usize], seed: u64) -> Tensor {
    let n = shape.iter().product();
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let v: Vec<f32> = (0..n)
        .map(|_| {
            s ^= s << 13;
            s ^= s >> 7;
            s ^= s << 17;
            (s >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_slice(shape, &v).unwrap()
}

/// The same in f64.
pub fn noise64(shape: &[usize], seed: u64) -> Tensor {
    Tensor::from_slice(shape, &noise(shape, seed).to_reals().unwrap()).unwrap()
}

/// Inputs for the function's parameters, with `n` for every symbol.
pub fn inputs(m: &Module, n: i64) -> Vec<Tensor> {
    let f = &m.funcs[0];
    f.params()
        .iter()
        .enumerate()
        .map(|(k, &p)| {
            let shape: Vec<usize> = f.ty(p).shape.iter().map(|d| d.eval(&|_| Some(n)).unwrap() as usize).collect();
            match f.ty(p).elem {
                Elem::F32 => noise(&shape, k as u64 + 1),
                Elem::F64 => noise64(&shape, k as u64 + 1),
                Elem::Bool => {
                    let v: Vec<bool> = noise(&shape, k as u64 + 1).to_reals().unwrap().iter().map(|&v| v > -0.5).collect();
                    Tensor::from_bools(&shape, &v).unwrap()
                }
                e => panic!("no inputs of {e}"),
            }
        })
        .collect()
}

pub fn run(m: &Module, x: &[Tensor]) -> Vec<Tensor> {
    Interp::new(m).run("f", x).unwrap()
}

pub fn assert_close(want: &[Tensor], have: &[Tensor], what: &dyn Fn() -> String) {
    assert_eq!(want.len(), have.len());
    for (w, h) in want.iter().zip(have) {
        assert_eq!(w.ty(), h.ty(), "{}", what());
        let tolerance = if w.elem() == Elem::F64 { 1e-9 } else { 2e-5 };
        let (w, h) = (w.to_reals().unwrap(), h.to_reals().unwrap());
        let scale = w.iter().fold(1f64, |s, v| s.max(v.abs()));
        for (a, b) in w.iter().zip(&h) {
            assert!(
                (a - b).abs() <= tolerance * scale || a == b || a.is_nan() && b.is_nan(),
                "{a} became {b} (scale {scale}): {}",
                what()
            );
        }
    }
}

/// Runs `passes` one by one; after each the module is valid, computes the same, and the pass has nothing left to do.
pub fn check_passes(m: &mut Module, passes: &[Box<dyn Pass>], n: i64) {
    let x = inputs(m, n);
    let want = run(m, &x);
    assert!(verify::module(m).is_empty(), "the input is broken: {:?}\n{}", verify::module(m), text::print(m));
    let work = matrix_work(m);
    let cx = PassCx { target: &AnyTarget, precision: Precision::F32 };
    for p in passes {
        let before = text::print(m);
        p.run(m, &cx).unwrap();
        let what = || format!("{}\nbefore\n{before}after\n{}", p.name(), text::print(m));
        assert!(verify::module(m).is_empty(), "{:?}\n{}", verify::module(m), what());
        assert_close(&want, &run(m, &x), &what);
        assert!(matrix_work(m) <= work, "matrix work is done twice after {}", what());
        let first = text::print(m);
        let again = p.run(m, &cx).unwrap();
        assert_eq!(again, 0, "{} changes its own result\n{first}to\n{}", p.name(), text::print(m));
    }
}

/// Number of live contractions and convolutions.
fn matrix_work(m: &Module) -> usize {
    let mut live = m.clone();
    dce::Dce.run(&mut live, &PassCx { target: &AnyTarget, precision: Precision::F32 }).unwrap();
    let mut n = 0;
    for f in &live.funcs {
        f.walk(f.body, &mut |f, _, i| n += f.inst(i).op.has_epilogue() as usize);
    }
    n
}

/// The ops of `f`, regions' contents aside, constants left out.
pub fn ops(m: &Module) -> Vec<&'static str> {
    let f = &m.funcs[0];
    f.region(f.body).insts.iter().map(|&i| f.inst(i).op).filter(|&o| o != Op::Const).map(Op::name).collect()
}

pub fn n() -> Dim {
    Dim::sym(Sym::new("n"))
}

pub fn f32s(shape: &[Dim]) -> Type {
    Type::new(Elem::F32, shape)
}

/// `[?n, rest..]` of f32.
pub fn batch(rest: &[usize]) -> Type {
    f32s(&[vec![n()], rest.iter().map(|&d| Dim::from(d)).collect()].concat())
}

pub fn dims(v: &[i64]) -> Vec<Dim> {
    v.iter().map(|&d| Dim::from(d)).collect()
}

pub fn conv_attrs(stride: i64, low: i64, high: i64) -> Attrs {
    Attrs::new().with("strides", vec![stride, stride]).with("low", dims(&[low, low])).with("high", dims(&[high, high]))
}
