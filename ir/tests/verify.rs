//! What the verifier finds in functions that text cannot express.

use graphc_ir::verify::{self, Rule};
use graphc_ir::{Attr, Attrs, Dim, Elem, Func, Loc, Module, Op, Sym, Tensor, Type, Value, Var};

fn ty() -> Type {
    Type::new(Elem::F32, [Dim::sym(Sym::new("n"))])
}

/// `y = relu(x); z = neg(y)`, changed by `break_it`; the rules that the result breaks.
fn broken(break_it: impl FnOnce(&mut Func)) -> Vec<Rule> {
    let mut f = Func::new("main");
    let x = f.add_func_param("x", ty());
    let y = f.make_inst(Op::Relu, vec![x], Attrs::new(), vec![], vec![ty()], Loc::new("y"));
    let z = f.make_inst(Op::Neg, vec![f.inst(y).results[0]], Attrs::new(), vec![], vec![ty()], Loc::new("z"));
    let results = f.inst(z).results.clone();
    let body = f.body;
    f.region_mut(body).insts = vec![y, z];
    f.region_mut(body).results = results;
    break_it(&mut f);
    let m = Module { name: "m".into(), vars: vec![], funcs: vec![f] };
    verify::module(&m).into_iter().map(|e| e.rule).collect()
}

#[test]
fn the_unbroken_function_is_right() {
    assert_eq!(broken(|_| {}), []);
}

#[test]
fn order_and_links() {
    let body = |f: &mut Func| f.body;
    assert_eq!(
        broken(|f| {
            let b = body(f);
            f.region_mut(b).insts.reverse()
        }),
        [Rule::Dominance]
    );
    assert_eq!(
        broken(|f| {
            let b = body(f);
            f.region_mut(b).insts.remove(0);
        }),
        [Rule::Dominance]
    );
    assert_eq!(
        broken(|f| {
            let b = body(f);
            let i = f.region(b).insts[0];
            f.region_mut(b).insts.push(i)
        }),
        [Rule::Structure]
    );
    assert_eq!(
        broken(|f| {
            let b = body(f);
            f.region_mut(b).results[0] = Value(99)
        }),
        [Rule::Dominance]
    );
    assert_eq!(
        broken(|f| {
            let b = body(f);
            let i = f.region(b).insts[1];
            f.inst_mut(i).operands[0] = Value(77)
        }),
        [Rule::Dominance]
    );
    assert_eq!(
        broken(|f| {
            let b = body(f);
            let i = f.region(b).insts[1];
            f.inst_mut(i).regions.push(b)
        })[..2],
        [Rule::Regions, Rule::Structure]
    );
}

#[test]
fn operands_and_attributes() {
    fn last(f: &mut Func) -> &mut graphc_ir::InstData {
        let i = f.region(f.body).insts[1];
        f.inst_mut(i)
    }
    assert_eq!(broken(|f| last(f).operands.clear()), [Rule::Operands]);
    assert_eq!(broken(|f| last(f).attrs.set("axis", Attr::Int(0))), [Rule::Attributes]);
    assert_eq!(
        broken(|f| {
            last(f).op = Op::Clamp;
            last(f).attrs = Attrs::new().with("lo", 0i64).with("hi", 1.0)
        }),
        [Rule::Attributes]
    );
    assert_eq!(broken(|f| last(f).results.clear())[0], Rule::Types);
}

#[test]
fn names() {
    assert_eq!(broken(|f| f.param_names.push("y".into())), [Rule::Names]);
    assert_eq!(broken(|f| f.result_names = vec!["a".into(), "b".into()]), [Rule::Names]);
    assert!(
        broken(|f| {
            let x = f.params()[0];
            f.value_mut(x).ty = Type::new(Elem::F32, [Dim::sym(Sym::new("a b"))])
        })
        .contains(&Rule::Names)
    );
    let var = |name: &str, ty: Type| Var { name: name.into(), ty, init: Tensor::zeros(Elem::F32, &[2]) };
    let fixed = Type::of(Elem::F32, &[2]);
    let m = Module { name: "m".into(), vars: vec![var("v", fixed.clone()), var("v", fixed)], funcs: vec![] };
    assert_eq!(verify::verify(&m).unwrap_err()[0].rule, Rule::Names);
    let m = Module { name: "m".into(), vars: vec![var("v", Type::of(Elem::F32, &[3])), var("w", ty())], funcs: vec![] };
    let errors = verify::verify(&m).unwrap_err();
    assert_eq!(errors.iter().map(|e| e.rule).collect::<Vec<_>>(), [Rule::Types]);
    assert_eq!(errors[0].to_string(), "[types] variable \"v\" of type f32[3] starts as f32[2]");
}
