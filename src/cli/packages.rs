//! Functions of packages, which nothing compiles.

use super::run::views;
use super::{Failure, ModelArgs};
use graphc::aot::{self, Package};
use graphc::{DeviceName, Port, Tensor, View};

/// A function of a package, on the device where it runs.
pub struct Function {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    place: Place,
}

enum Place {
    /// By its number.
    Cpu(Box<graphc_stages::Instance>, usize),
    #[cfg(feature = "gpu-driver")]
    Gpu(Box<graphc::aot::OnDevice>),
}

impl Function {
    /// The function that the arguments name, or the first, on the device that they name.
    pub fn open(args: &ModelArgs, threads: usize) -> Result<Function, Failure> {
        // SAFETY: a user names the package as one names a program.
        let package = unsafe { Package::open(&args.model)? };
        let names: Vec<&str> = package.model().functions().map(|f| f.name()).collect();
        let at = match &args.signature {
            None => 0,
            Some(name) => {
                let at = names.iter().position(|n| n == name);
                at.ok_or_else(|| Failure::usage(format!("no signature {name:?} in the package; it has {}", names.join(", "))))?
            }
        };
        if args.device != DeviceName::Cpu {
            return Function::on_gpu(package, names.get(at).copied().unwrap_or_default(), args.device, threads);
        }
        let function = package.model().function(at).map_err(graphc::Error::from)?;
        let (inputs, outputs) = (aot::ports(function.inputs())?, aot::ports(function.outputs())?);
        Ok(Function { inputs, outputs, place: Place::Cpu(Box::new(package.instance(threads)?), at) })
    }

    #[cfg(feature = "gpu-driver")]
    fn on_gpu(package: Package, name: &str, device: DeviceName, threads: usize) -> Result<Function, Failure> {
        let f = package.on_device(&[name], device, threads)?;
        Ok(Function { inputs: f.inputs(0).to_vec(), outputs: f.outputs(0).to_vec(), place: Place::Gpu(Box::new(f)) })
    }

    #[cfg(not(feature = "gpu-driver"))]
    fn on_gpu(package: Package, _: &str, device: DeviceName, _: usize) -> Result<Function, Failure> {
        let has = if package.is_for_gpus() { "the package has code for GPUs, but " } else { "" };
        let why =
            format!("no device {device}: {has}this build of graphc is for the CPU alone; build it with the feature `gpu-driver`");
        Err(graphc::Error::Device(why).into())
    }

    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Failure> {
        let feeds = views(inputs)?;
        Ok(match &self.place {
            Place::Cpu(instance, at) => graphc::linked::call(instance, *at, &self.outputs, &feeds)?,
            #[cfg(feature = "gpu-driver")]
            Place::Gpu(f) => f.run(0, &feeds)?,
        })
    }

    /// The function with its inputs, to be run many times: on the CPU in the same memory.
    pub fn fed<'a>(&'a self, feeds: &'a [View<'a>]) -> Result<Fed<'a>, Failure> {
        Ok(match &self.place {
            Place::Cpu(instance, at) => Fed::Cpu(Box::new(graphc::linked::Fed::new(instance, *at, feeds)?), &self.outputs),
            #[cfg(feature = "gpu-driver")]
            Place::Gpu(function) => Fed::Gpu { function, feeds, outputs: Vec::new() },
        })
    }
}

/// A function of a package with its inputs.
pub enum Fed<'a> {
    Cpu(Box<graphc::linked::Fed<'a>>, &'a [Port]),
    #[cfg(feature = "gpu-driver")]
    Gpu {
        function: &'a graphc::aot::OnDevice,
        feeds: &'a [View<'a>],
        outputs: Vec<Tensor>,
    },
}

impl Fed<'_> {
    pub fn run(&mut self) -> Result<(), Failure> {
        match self {
            Fed::Cpu(fed, _) => fed.run()?,
            #[cfg(feature = "gpu-driver")]
            Fed::Gpu { function, feeds, outputs } => *outputs = function.run(0, feeds)?,
        }
        Ok(())
    }

    /// What the last run computed.
    pub fn outputs(&mut self) -> Result<Vec<Tensor>, Failure> {
        Ok(match self {
            Fed::Cpu(fed, ports) => fed.outputs(ports)?,
            #[cfg(feature = "gpu-driver")]
            Fed::Gpu { outputs, .. } => outputs.clone(),
        })
    }
}
