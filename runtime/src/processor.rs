//! What a session's code runs on: the CPU, or a GPU beside it.

use crate::device::DeviceName;
use crate::error::{Error, Result};
use crate::session::SessionOptions;
use crate::tuning::Tuning;
use graphc_cpu::{Code, Compiled, CpuTarget, EmitOptions, PackedWeights};
use graphc_ir::Module;
use graphc_passes::plan::Plan;
use graphc_passes::precision::Precision;
use graphc_passes::target::Target;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The device of a session, open.
pub enum Processor {
    Cpu,
    /// The CPU, with choices that are timed on it.
    Tuned(Tuning),
    /// Some GPU, for which code is made ahead of time.
    #[cfg(feature = "gpu")]
    AnyGpu,
    #[cfg(feature = "gpu")]
    Gpu {
        device: graphc_gpu::Device,
        /// In what f32 products are multiplied.
        factors: graphc_gpu::Factors,
        kernels: Option<graphc_gpu::KernelCache>,
    },
}

/// The devices of a session: the CPU, and GPUs from when they are first asked for.
pub struct Processors {
    cpu: Arc<Processor>,
    gpus: Mutex<BTreeMap<usize, Arc<Processor>>>,
    cache: Option<PathBuf>,
    precision: Precision,
}

impl Default for Processors {
    fn default() -> Processors {
        Processors { cpu: Arc::new(Processor::Cpu), gpus: Mutex::default(), cache: None, precision: Precision::F32 }
    }
}

impl Processors {
    /// Opens the device of the options.
    ///
    /// # Errors
    /// If there is none of that name, or this build is for the CPU alone.
    pub fn open(options: &SessionOptions) -> Result<Processors> {
        let cpu = match options.device {
            DeviceName::Cpu if options.tune => Processor::Tuned(Tuning::open(options.cache.as_deref())),
            _ => Processor::Cpu,
        };
        let (cache, precision) = (options.cache.clone(), options.precision);
        let all = Processors { cpu: Arc::new(cpu), cache, precision, ..Processors::default() };
        all.of(options.device)?;
        Ok(all)
    }

    /// A device, opened if it was not before.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn of(&self, device: DeviceName) -> Result<Arc<Processor>> {
        let DeviceName::Gpu(index) = device else { return Ok(self.cpu.clone()) };
        let mut gpus = self.gpus.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(p) = gpus.get(&index) {
            return Ok(p.clone());
        }
        let opened = Arc::new(Processor::gpu(index, self.cache.as_deref(), self.precision)?);
        gpus.insert(index, opened.clone());
        Ok(opened)
    }

    /// The CPU: what objects are made for.
    pub fn cpu(&self) -> &Processor {
        &self.cpu
    }

    /// The devices that a graph may name; those of this machine if a GPU is open.
    pub fn present(&self) -> Vec<DeviceName> {
        if self.gpus.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return vec![DeviceName::Cpu];
        }
        crate::device::devices().0.iter().filter_map(|d| d.name.parse().ok()).collect()
    }
}

/// A compiled plan, where it runs.
pub enum Engine {
    Cpu {
        code: Code,
        weights: PackedWeights,
    },
    #[cfg(feature = "gpu-driver")]
    Gpu(Box<dyn graphc_gpu::Run>),
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::Compile(e.to_string())
}

impl Processor {
    /// Opens a GPU.
    ///
    /// # Errors
    /// If there is none of that number, or this build is for the CPU alone.
    fn gpu(index: usize, cache: Option<&Path>, precision: Precision) -> Result<Processor> {
        #[cfg(feature = "gpu")]
        match graphc_gpu::Device::open(index) {
            Ok(device) => {
                let origin = cache.and_then(|_| crate::cache::this_build());
                let kernels = cache.zip(origin).map(|(f, o)| graphc_gpu::KernelCache::new(f, o));
                Ok(Processor::Gpu { device, factors: precision.into(), kernels })
            }
            Err(e) => Err(Error::Device(e.to_string())),
        }
        #[cfg(not(feature = "gpu"))]
        {
            let _ = (cache, precision);
            let name = DeviceName::Gpu(index);
            let does = if cfg!(feature = "gpu-driver") { "runs packages on GPUs, not models" } else { "is for the CPU alone" };
            Err(Error::Device(format!("no device {name}: this build of graphc {does}; build it with the feature `gpu`")))
        }
    }

    /// The device, if it is a GPU that is open.
    #[cfg(feature = "gpu")]
    pub fn device(&self) -> Option<&graphc_gpu::Device> {
        match self {
            Processor::Gpu { device, .. } => Some(device),
            Processor::Cpu | Processor::Tuned(_) | Processor::AnyGpu => None,
        }
    }

    /// What passes know of it.
    pub fn target(&self) -> &dyn Target {
        match self {
            Processor::Cpu => &CpuTarget,
            Processor::Tuned(t) => &t.cpu,
            #[cfg(feature = "gpu")]
            Processor::Gpu { .. } | Processor::AnyGpu => &graphc_gpu::GpuTarget,
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
            Processor::Gpu { .. } | Processor::AnyGpu => graphc_gpu::plan(module, func).map_err(failed),
        }
    }

    /// Compiles a plan of this processor; gives the plan without its constants.
    ///
    /// # Errors
    /// If code generation fails, or, of a GPU, if it has no kernel for something.
    pub fn compile(&self, plan: Plan, threads: usize) -> Result<(Plan, Engine)> {
        match self {
            Processor::Cpu | Processor::Tuned(_) => on_cpu(plan, threads),
            #[cfg(feature = "gpu")]
            Processor::AnyGpu => Err(failed("code for a GPU that is not there does not run here")),
            #[cfg(feature = "gpu")]
            Processor::Gpu { device, factors, kernels } => {
                use graphc_cpu::CompileError;
                let compiled = graphc_gpu::compile(plan, device.flavour(), *factors, threads, kernels.as_ref());
                let program = compiled.map_err(|e| match &e {
                    CompileError::Unsupported(all) => {
                        let nodes = all.iter().map(|u| u.node.clone()).collect();
                        Error::NoKernel { nodes, message: format!("{e}, for a GPU") }
                    }
                    _ => Error::Device(e.to_string()),
                })?;
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
            #[cfg(feature = "gpu-driver")]
            Engine::Gpu(x) => x.trim(),
        }
    }

    /// The packed weights, where they are in the memory of this process.
    pub fn weights(&self) -> &[u8] {
        match self {
            Engine::Cpu { weights, .. } => weights.bytes(),
            #[cfg(feature = "gpu-driver")]
            Engine::Gpu(_) => &[],
        }
    }
}
