//! Objects: the same bytes each time, and code that runs where it is placed.

use crate::support::{Rng, compare, module, sym};
use graphc_cpu::object::{FunctionSource, ModelSource, ObjectOptions, PortSource, Stages, VariantSource, WeightsPlace, symbol};
use graphc_cpu::{Cpu, EmitOptions, Loaded, Machine, compile_object, plan};
use graphc_engine::{Call, Compute, Instance, Model, Options};
use graphc_ir::interp::Interp;
use graphc_ir::op::Tolerance;
use graphc_ir::{Attrs, Elem, Module, Op, Tensor, Type};
use graphc_passes::plan::Plan;

/// Number of f32 in TensorFlow's `DataType`.
const F32: usize = 1;

/// A plan as a function called `name`.
fn function(name: String, plan: Plan) -> FunctionSource {
    let port =
        |name: &str, ty: &Type| PortSource { name: name.to_owned(), elem: ty.elem, number: F32, shape: Some(ty.shape.clone()) };
    let inputs: Vec<PortSource> = plan.inputs.iter().map(|p| port(&p.name, &p.ty)).collect();
    let outputs = plan.outputs.iter().map(|p| port(&p.name, &p.ty)).collect();
    let feeds = (0..inputs.len()).collect();
    let variant = VariantSource {
        plan,
        feeds,
        baked: Vec::new(),
        variables: Vec::new(),
        reads: Vec::new(),
        assigns: Vec::new(),
        zero_status: Vec::new(),
    };
    FunctionSource { name, inputs, outputs, variants: vec![variant], body: None }
}

/// The functions `f` of modules as a model `net` of functions `f0`, `f1`, ….
pub fn source<'a>(modules: impl IntoIterator<Item = &'a Module>) -> ModelSource {
    let functions = modules.into_iter().enumerate().map(|(k, m)| function(format!("f{k}"), plan(m, "f").unwrap())).collect();
    ModelSource { name: "net".to_owned(), functions, initialise: None, variables: Vec::new(), stages: Stages::default() }
}

/// How an object for `machine` is made, with its weights in it.
pub fn options(machine: Machine) -> ObjectOptions {
    ObjectOptions { machine, place: WeightsPlace::Embedded, program: false, lines: None, emit: EmitOptions::default() }
}

/// Two layers of open batch, with a function that is a loop of its own between them.
fn perceptron(rng: &mut Rng) -> Module {
    let [w1, b1, w2] = [&[20, 33][..], &[33], &[33, 10]].map(|s| rng.tensor(Elem::F32, s));
    module(&[Type::new(Elem::F32, vec![sym("n"), 20i64.into()])], |b, p| {
        let [w1, b1, w2] = [w1, b1, w2].map(|t| b.constant(t));
        let product = || Attrs::new().with("lhs", vec![1i64]).with("rhs", vec![0i64]);
        let h = b.op(Op::Contract, &[p[0], w1, b1], product().with("bias", true).with("act", "relu"))?;
        let y = b.op(Op::Contract, &[h, w2], product())?;
        let y = b.un(Op::Tanh, y)?;
        Ok(vec![b.un(Op::Softmax, y)?])
    })
}

#[test]
fn line_information_is_told_of_each_launch() {
    let m = perceptron(&mut Rng(7));
    let lines = Some("net.plan".to_owned());
    let made =
        || compile_object(source([&m]), &ObjectOptions { lines: lines.clone(), ..options(Machine::here(Cpu::Baseline).unwrap()) });
    let object = made().unwrap();
    let listing = object.listing().unwrap().to_owned();
    let plan = plan(&m, "f").unwrap();
    let launches = listing.lines().filter(|l| l.trim_start().starts_with('[')).count();
    assert!(launches > 0 && launches == plan.steps.len(), "{listing}");
    let bytes = object.write().unwrap();
    let has = |name: &str| bytes.windows(name.len()).any(|w| w == name.as_bytes());
    assert!([".debug_info", ".debug_line", "net.plan"].iter().all(|n| has(n)));
    assert!(bytes == made().unwrap().write().unwrap(), "two objects of one model differ");
}

#[test]
fn objects_run_where_they_are_placed() {
    let mut rng = Rng(7);
    let m = perceptron(&mut rng);
    for place in [WeightsPlace::Embedded, WeightsPlace::File] {
        let options = ObjectOptions { place, ..options(Machine::here(Cpu::Baseline).unwrap()) };
        let compiled = |threads| {
            let emit = EmitOptions { threads, ..options.emit };
            let mut o = compile_object(source([&m]), &ObjectOptions { emit, ..options.clone() }).unwrap();
            (o.weights.take(), o.write().unwrap())
        };
        let (weights, object) = compiled(1);
        for threads in [1, 2, 3] {
            assert!((&weights, &object) == (&compiled(threads).0, &compiled(threads).1), "another object on {threads} threads");
        }
        // SAFETY: made just now.
        let code = unsafe { Loaded::load(&object, []) }.unwrap();
        // SAFETY: the symbol is the model's table, and the code and weights outlive all that is made of it.
        let model = unsafe { Model::new(code.symbol(&symbol("net")).unwrap().cast()) }.unwrap();
        // SAFETY: as above.
        let made =
            |w: Option<&[u8]>| unsafe { Instance::new(model, Options { compute: Compute::Threads(2), weights: w, files: &[] }) };
        if let Some(w) = &weights {
            assert!(made(None).is_err(), "runs without its weights");
            let mut other = w.clone();
            other[8] ^= 1;
            assert!(made(Some(&other)).is_err(), "runs with other weights");
        }
        let instance = made(weights.as_deref()).unwrap();
        let mut call = Call::new(&instance, 0).unwrap();
        assert!(call.run(None).is_err(), "runs without an input");
        for n in [1usize, 5, 33, 0, 5] {
            let x = rng.tensor(Elem::F32, &[n, 20]);
            // SAFETY: the tensor outlives the runs.
            unsafe {
                assert!(call.set_input(0, x.bytes().as_ptr(), &[n as i64, 19]).is_err(), "takes another shape");
                call.set_input(0, x.bytes().as_ptr(), &[n as i64, 20]).unwrap();
            }
            assert_eq!(call.output_dims(0).unwrap(), [n as i64, 10]);
            let mut arena = vec![0u8; call.workspace_bytes().unwrap()];
            // SAFETY: the memory outlives the runs.
            unsafe { call.set_workspace(arena.as_mut_ptr(), arena.len() - 1) };
            assert!(call.run(None).is_err(), "runs in too little memory");
            // SAFETY: as above.
            unsafe { call.set_workspace(arena.as_mut_ptr(), arena.len()) };
            call.run(None).unwrap();
            let len = call.output_bytes(0).unwrap();
            let got = if len == 0 {
                Vec::new()
            } else {
                // SAFETY: the run wrote so many bytes.
                unsafe { std::slice::from_raw_parts(call.output_data(0), len) }.to_vec()
            };
            let got = Tensor::from_bytes(Elem::F32, vec![n, 10], got).unwrap();
            let want = Interp::new(&m).run("f", &[x]).unwrap();
            compare(&got, &want[0], Tolerance::Scale(64), "object");
        }
    }
}
