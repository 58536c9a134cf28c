//! Runs a program on tensors.

use graphc_gpu::Run;
use graphc_ir::{Sym, Tensor};

/// The outputs for `inputs`, whose shapes give the sizes.
pub fn run_on_device(x: &dyn Run, inputs: &[Tensor]) -> Result<Vec<Tensor>, graphc_gpu::GpuError> {
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
