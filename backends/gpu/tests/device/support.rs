//! Runs functions on the device and through the interpreter.

#[path = "../../../cpu/tests/jit/support.rs"]
mod cpu;

pub use cpu::*;

use crate::run::run_on_device;
use graphc_cpu::Weights;
use graphc_gpu::stored::Stored;
use graphc_gpu::{Chip, Code, Device, Factors, Flavour, Program};
use graphc_ir::interp::Interp;
use graphc_ir::op::Tolerance;
use graphc_ir::{Module, Tensor};
use graphc_passes::plan::Plan;
use std::io::Write;
use std::process::Command;
use std::sync::{Arc, LazyLock};

/// A device of each driver that is here: Vulkan's, which on a machine without a GPU is Mesa's in software, and NVIDIA's.
pub static DEVICES: LazyLock<Vec<Device>> = LazyLock::new(|| {
    let all = graphc_gpu::devices().unwrap_or_else(|e| panic!("{e}"));
    let mut found = Vec::new();
    for api in ["Vulkan", "CUDA"] {
        match all.iter().position(|d| d.api.starts_with(api)) {
            Some(k) => found.push(Device::open(k).unwrap_or_else(|e| panic!("{e}"))),
            // Written so that it is seen where tests pass, too.
            None => drop(writeln!(std::io::stderr(), "no device of {api} is here: nothing is tested through it")),
        }
    }
    found
});

/// Compiles `m`'s function for the device, proves its plan, and compares with the interpreter for each set of inputs.
pub fn check(m: &Module, cases: &[Vec<Tensor>], tol: Tolerance, what: &str) {
    check_with(Factors::F32, m, cases, tol, what);
}

/// As [`check`], with products that multiply `factors`.
pub fn check_with(factors: Factors, m: &Module, cases: &[Vec<Tensor>], tol: Tolerance, what: &str) {
    let plan = graphc_gpu::plan(m, "f").unwrap_or_else(|e| panic!("{what}: {e}"));
    if let Err(e) = graphc_passes::plan::check::check_plan(&plan) {
        panic!("{what}: {}\n{}", e.join("\n"), graphc_passes::plan::print::print_plan(&plan));
    }
    assembled(&plan, factors, what);
    for device in &*DEVICES {
        let own = device.flavour();
        let what = format!("{what} through {}", device.info().api);
        check_on((device, own), factors, m, &plan, cases, tol, &what);
        // What older devices of the driver run, too, where it differs.
        let common = Flavour::Ptx(Chip::COMMON);
        if factors != Factors::F32 && common.suits(own).is_some() && own != common {
            check_on((device, common), factors, m, &plan, cases, tol, &format!("{what} for {common}"));
        }
    }
}

/// Makes the plan's PTX. Where `GRAPHC_PTXAS` is a path of ptxas,
/// that must take the kernels and spill no register.
fn assembled(plan: &Plan, factors: Factors, what: &str) {
    let make = |chip| match graphc_gpu::compile(plan.clone(), Flavour::Ptx(chip), factors, 2, None) {
        Ok(p) => p.kernels,
        Err(e) => panic!("{what}: PTX: {e}"),
    };
    let common = make(Chip::COMMON);
    let Some(ptxas) = std::env::var_os("GRAPHC_PTXAS") else { return };
    let hopper = if factors == Factors::F32 { Vec::new() } else { make(Chip::HOPPER) };
    let all = common.iter().map(|k| (Chip::COMMON, k)).chain(hopper.iter().map(|k| (Chip::HOPPER, k)));
    for (chip, kernel) in all {
        let name = format!("graphc-{}-{:?}.ptx", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, &kernel.bytes).unwrap();
        let output = Command::new(&ptxas).args(["-v", &format!("-arch={chip}"), "-o", "/dev/null"]).arg(&path).output().unwrap();
        std::fs::remove_file(&path).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let text = String::from_utf8_lossy(&kernel.bytes);
        assert!(output.status.success(), "{what}: {}: {said}\n{text}", kernel.entry);
        assert!(said.contains("0 bytes spill stores, 0 bytes spill loads"), "{what}: {} spills: {said}", kernel.entry);
    }
}

/// The program as it comes out of a package.
fn through_a_file(program: Program, what: &str) -> Program {
    let stored = Stored::of(&program).unwrap_or_else(|| panic!("{what}: cannot be stored"));
    let bytes = postcard::to_allocvec(&(stored, &program.kernels.iter().map(|k| (**k).clone()).collect::<Vec<_>>())).unwrap();
    let (stored, kernels): (Stored, Vec<Code>) = postcard::from_bytes(&bytes).unwrap();
    let layout = Weights::of(&program.plan);
    let mut weights = vec![0; layout.allocated()];
    layout.pack(program.plan.consts, &mut weights, 2).unwrap();
    weights.truncate(stored.weights());
    let kernels = kernels.into_iter().map(Arc::new).collect();
    stored.program(kernels, Arc::new(weights)).unwrap_or_else(|| panic!("{what}: does not come back"))
}

fn check_on(
    (device, flavour): (&Device, Flavour),
    factors: Factors,
    m: &Module,
    plan: &Plan,
    cases: &[Vec<Tensor>],
    tol: Tolerance,
    what: &str,
) {
    let program = match graphc_gpu::compile(plan.clone(), flavour, factors, 2, None) {
        Ok(p) => p,
        Err(e) => panic!("{what}: {e}"),
    };
    let x = device.load(through_a_file(program, what), 2).unwrap_or_else(|e| panic!("{what}: {e}"));
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
