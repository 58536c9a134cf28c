//! What a session's code runs on: the CPU, or a GPU beside it.

use crate::device::DeviceName;
use crate::error::{Error, Result};
use crate::session::SessionOptions;
use crate::tuning::Tuning;
use graphc_cpu::{Code, Compiled, CpuTarget, EmitOptions, PackedWeights};
use graphc_ir::Module;
use graphc_passes::plan::Plan;
use graphc_passes::target::Target;

/// The device of a session, open.
pub enum Processor {
    Cpu,
    /// The CPU, with choices that are timed on it.
    Tuned(Tuning),
    #[cfg(feature = "gpu")]
    Gpu {
        device: graphc_gpu::Device,
        /// Whether what has no GPU code is compiled for the CPU.
        soft: bool,
        kernels: Option<graphc_gpu::KernelCache>,
    },
}

/// A compiled plan, where it runs.
pub enum Engine {
    Cpu {
        code: Code,
        weights: PackedWeights,
    },
    #[cfg(feature = "gpu")]
    Gpu(Box<dyn graphc_gpu::Run>),
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::Compile(e.to_string())
}

impl Processor {
    /// Opens the device of the options.
    ///
    /// # Errors
    /// If there is none of that name, or this build is for the CPU alone.
    pub fn open(options: &SessionOptions) -> Result<Processor> {
        match options.device {
            DeviceName::Cpu if options.tune => Ok(Processor::Tuned(Tuning::open(options.cache.as_deref()))),
            DeviceName::Cpu => Ok(Processor::Cpu),
            #[cfg(feature = "gpu")]
            DeviceName::Gpu(index) => match graphc_gpu::Device::open(index) {
                Ok(device) => {
                    let origin = options.cache.as_ref().and_then(|_| crate::cache::this_build());
                    let kernels = options.cache.as_deref().zip(origin).map(|(f, o)| graphc_gpu::KernelCache::new(f, o));
                    Ok(Processor::Gpu { device, soft: options.soft_placement, kernels })
                }
                Err(e) => Err(Error::Device(e.to_string())),
            },
            #[cfg(not(feature = "gpu"))]
            name @ DeviceName::Gpu(_) => Err(Error::Device(format!(
                "no device {name}: this build of graphc is for the CPU alone; build it with the feature `gpu`"
            ))),
        }
    }

    /// The CPU beside it, or itself: what objects are made for.
    pub fn of_cpu(&self) -> &Processor {
        match self {
            Processor::Cpu | Processor::Tuned(_) => self,
            #[cfg(feature = "gpu")]
            Processor::Gpu { .. } => &Processor::Cpu,
        }
    }

    /// What passes know of it.
    pub fn target(&self) -> &dyn Target {
        match self {
            Processor::Cpu => &CpuTarget,
            Processor::Tuned(t) => &t.cpu,
            #[cfg(feature = "gpu")]
            Processor::Gpu { .. } => &graphc_gpu::GpuTarget,
        }
    }

    /// The plan of a function after the passes.
    ///
    /// # Errors
    /// If an op has no lowering.
    pub fn plan(&self, module: &Module, func: &str) -> Result<Plan> {
        match self {
            Processor::Cpu => graphc_cpu::plan(module, func).map_err(failed),
            Processor::Tuned(t) => {
                let plan = graphc_cpu::plan_for(module, func, &t.cpu).map_err(failed);
                t.keep();
                plan
            }
            #[cfg(feature = "gpu")]
            Processor::Gpu { .. } => graphc_gpu::plan(module, func).map_err(failed),
        }
    }

    /// Compiles a plan of this processor; gives the plan without its constants.
    ///
    /// # Errors
    /// If code generation fails, or, for a GPU without soft placement, if it has no kernel for something.
    pub fn compile(&self, plan: Plan, threads: usize) -> Result<(Plan, Engine)> {
        match self {
            Processor::Cpu | Processor::Tuned(_) => on_cpu(plan, threads),
            #[cfg(feature = "gpu")]
            Processor::Gpu { device, soft, kernels } => {
                use graphc_cpu::CompileError;
                // The plan is a CPU's too: its kernels take panels of any width that a GPU asks for.
                let kept = soft.then(|| plan.clone());
                let program = match (graphc_gpu::compile(plan, device.flavour(), threads, kernels.as_ref()), kept) {
                    (Ok(p), _) => p,
                    (Err(CompileError::Unsupported(_)), Some(plan)) => return on_cpu(plan, threads),
                    (Err(e), _) => return Err(Error::Device(format!("{e}, for a GPU; with soft placement the CPU computes it"))),
                };
                let plan = Plan { consts: Vec::new(), ..program.plan.clone() };
                let x = device.load(program, threads).map_err(|e| Error::Device(e.to_string()))?;
                Ok((plan, Engine::Gpu(x)))
            }
        }
    }
}

fn on_cpu(plan: Plan, threads: usize) -> Result<(Plan, Engine)> {
    let Compiled { plan, code, weights } = graphc_cpu::compile_plan(plan, threads, &EmitOptions::default()).map_err(failed)?;
    Ok((plan, Engine::Cpu { code, weights }))
}

impl Engine {
    /// Gives memory that no run uses back.
    pub fn trim(&self) {
        match self {
            Engine::Cpu { .. } => {}
            #[cfg(feature = "gpu")]
            Engine::Gpu(x) => x.trim(),
        }
    }

    /// The packed weights, where they are in the memory of this process.
    pub fn weights(&self) -> &[u8] {
        match self {
            Engine::Cpu { weights, .. } => weights.bytes(),
            #[cfg(feature = "gpu")]
            Engine::Gpu(_) => &[],
        }
    }
}
