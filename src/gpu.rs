//! Kernels for GPUs, to read: MLIR between its stages, SPIR-V and PTX.

use crate::Error;
use graphc_gpu::target::{Chip, Features};
use graphc_gpu::{Flavour, Listing};
use graphc_ir::Module;
use graphc_passes::precision::Precision;
use std::fmt::Write as _;
use std::path::Path;

/// The stages of kernels, after the plan: MLIR as it is written, tidied, and as SPIR-V or for NVVM; then PTX.
pub const STAGES: [&str; 5] = ["gpu-kernel", "gpu-canonical", "gpu-spirv", "gpu-nvvm", "gpu-ptx"];

/// SPIR-V for a device with all that kernels can use.
const SPIRV: Flavour = Flavour::Spirv(Features::ALL);

/// PTX for all devices from compute capability 8.0 on.
const PTX: Flavour = Flavour::Ptx(Chip::COMMON);

/// PTX for compute capability 9.0 alone.
const HOPPER: Flavour = Flavour::Ptx(Chip::HOPPER);

fn failed(e: impl std::fmt::Display) -> Error {
    Error::Compile(e.to_string())
}

/// The plan of an optimised function for GPUs, as text.
///
/// # Errors
/// If an op has no lowering.
pub fn plan_text(module: &Module, func: &str) -> Result<String, Error> {
    Ok(graphc_passes::plan::print::print_plan(&graphc_gpu::plan(module, func).map_err(failed)?))
}

/// The kernels of an optimised function after each of [`STAGES`] that is wanted.
///
/// # Errors
/// If something has no kernel.
pub fn stages_text(module: &Module, func: &str, precision: Precision, wanted: &dyn Fn(&str) -> bool) -> Result<String, Error> {
    let plan = graphc_gpu::plan(module, func).map_err(failed)?;
    let mut out = String::new();
    let mut show = |l: &Listing, stage: &str, text: &str| {
        let name = format!("gpu-{stage}");
        if wanted(&name) {
            // Writing to memory does not fail.
            let _ = writeln!(out, "// ---- {name} of {} for node {:?}\n{}", l.code.entry, l.node, text.trim_end());
        }
    };
    if ["gpu-kernel", "gpu-canonical", "gpu-spirv"].into_iter().any(wanted) {
        for l in graphc_gpu::list(&plan, SPIRV, precision.into()).map_err(failed)? {
            l.stages.iter().for_each(|(stage, text)| show(&l, stage, text));
        }
    }
    if ["gpu-nvvm", "gpu-ptx"].into_iter().any(wanted) {
        for l in graphc_gpu::list(&plan, PTX, precision.into()).map_err(failed)? {
            l.stages.iter().filter(|(stage, _)| stage == "nvvm").for_each(|(stage, text)| show(&l, stage, text));
            show(&l, "ptx", &String::from_utf8_lossy(&l.code.bytes));
        }
    }
    Ok(out)
}

/// Writes the kernels of an optimised function to files of a folder: `K_NAME.spv`, `K_NAME.ptx` and `K_NAME.sm_90a.ptx`, numbered in the order of their
/// first launch.
///
/// # Errors
/// If something has no kernel, or a file cannot be written.
pub fn write_kernels(module: &Module, func: &str, precision: Precision, folder: &Path) -> Result<usize, Error> {
    let plan = graphc_gpu::plan(module, func).map_err(failed)?;
    let file = |path: &Path, e: std::io::Error| Error::Device(format!("{}: {e}", path.display()));
    std::fs::create_dir_all(folder).map_err(|e| file(folder, e))?;
    let mut count = 0;
    for (flavour, extension) in [(SPIRV, "spv"), (PTX, "ptx"), (HOPPER, "sm_90a.ptx")] {
        for (k, l) in graphc_gpu::list(&plan, flavour, precision.into()).map_err(failed)?.into_iter().enumerate() {
            let path = folder.join(format!("{k:03}_{}.{extension}", l.code.entry));
            std::fs::write(&path, &l.code.bytes).map_err(|e| file(&path, e))?;
            count += 1;
        }
    }
    Ok(count)
}
