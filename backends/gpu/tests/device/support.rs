//! Runs functions on the device and through the interpreter.

#[path = "../../../cpu/tests/jit/support.rs"]
mod cpu;

pub use cpu::*;

use graphc_gpu::{Device, Run};
use graphc_ir::interp::Interp;
use graphc_ir::op::Tolerance;
use graphc_ir::{Module, Sym, Tensor};
use std::sync::LazyLock;

static DEVICE: LazyLock<Device> = LazyLock::new(|| Device::open(0).unwrap_or_else(|e| panic!("{e}")));

/// What GPUs have no kernel for, as their refusals say.
const REFUSED: &[&str] = &[
    "function erfc_f64",
    "function erf_f64",
    "function fmod_f64",
    "function lgamma_",
    "function digamma_",
    "means of c",
    "means of u",
    "Prod of complex numbers in loops",
    "no GPU kernel for c",
];

/// Compiles `m`'s function for the device, proves its plan, and compares with the interpreter for each set of inputs.
pub fn check(m: &Module, cases: &[Vec<Tensor>], tol: Tolerance, what: &str) {
    let plan = graphc_gpu::plan(m, "f").unwrap_or_else(|e| panic!("{what}: {e}"));
    if let Err(e) = graphc_passes::plan::check::check_plan(&plan) {
        panic!("{what}: {}\n{}", e.join("\n"), graphc_passes::plan::print::print_plan(&plan));
    }
    let program = match graphc_gpu::compile(plan, DEVICE.flavour(), 2, None) {
        Ok(p) => p,
        Err(e) if REFUSED.iter().any(|why| e.to_string().contains(why)) => return,
        Err(e) => panic!("{what}: {e}"),
    };
    let x = DEVICE.load(program, 2).unwrap_or_else(|e| panic!("{what}: {e}"));
    for inputs in cases {
        let shapes: Vec<String> = inputs.iter().map(|t| t.ty().to_string()).collect();
        let what = format!("{what} of {}", shapes.join(", "));
        let want = Interp::new(m).run("f", inputs).unwrap_or_else(|e| panic!("{what}: interpreter: {e}"));
        let got = run_on_device(&*x, inputs).unwrap_or_else(|e| panic!("{what}: failed with {e}"));
        for (g, w) in got.iter().zip(&want) {
            compare(g, w, tol, &what);
        }
    }
}

fn run_on_device(x: &dyn Run, inputs: &[Tensor]) -> Result<Vec<Tensor>, graphc_gpu::GpuError> {
    let plan = &x.program().plan;
    let mut syms = vec![-1; plan.syms.len()];
    for (p, t) in plan.inputs.iter().zip(inputs) {
        for (d, &n) in p.ty.shape.iter().zip(t.shape()) {
            if let Some(i) = d.as_sym().and_then(|s| plan.syms.iter().position(|x| x == s)) {
                syms[i] = n as i64;
            }
        }
    }
    let of = |s: &Sym| plan.syms.iter().position(|x| x == s).map(|i| syms[i]);
    let shapes: Vec<Vec<usize>> =
        plan.outputs.iter().map(|p| p.ty.shape.iter().map(|d| d.eval(&of).unwrap() as usize).collect()).collect();
    let mut outs: Vec<Vec<u8>> =
        shapes.iter().zip(&plan.outputs).map(|(s, p)| vec![0xa5; s.iter().product::<usize>() * p.ty.elem.size()]).collect();
    let ins: Vec<&[u8]> = inputs.iter().map(Tensor::bytes).collect();
    let mut slices: Vec<&mut [u8]> = outs.iter_mut().map(Vec::as_mut_slice).collect();
    x.run(&ins, &mut slices, &mut [], &syms)?;
    let ports = plan.outputs.iter().zip(shapes).zip(outs);
    Ok(ports.map(|((p, s), b)| Tensor::from_bytes(p.ty.elem, s, b).unwrap()).collect())
}
