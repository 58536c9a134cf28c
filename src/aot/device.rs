//! Functions of a package on a device.

use super::gpu::{DeviceCode, Place};
use super::package::Package;
use crate::{DeviceName, Error, Port, RunOptions, Tensor, View, linked};
use graphc_engine::ErrorKind;
use graphc_host::VariableStore;
use graphc_runtime::DeviceFunction;
use graphc_stages::{Instance, Parts};

/// Functions of a package on a device, with state that they share.
pub struct OnDevice {
    functions: Vec<Function>,
    instance: Instance,
    /// Whether the host has the variables, since some functions run in stages.
    on_host: bool,
}

struct Function {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// The whole function on the device, or its number in the package, if it runs in stages.
    code: Result<DeviceFunction, usize>,
}

impl OnDevice {
    /// Brings functions to a device: those that run in stages with the parts that have code for it.
    ///
    /// # Errors
    /// If the package has no code for GPUs, or for such a device or function, or the device is not there.
    pub fn open(package: &Package, names: &[&str], device: DeviceName, threads: usize) -> Result<OnDevice, Error> {
        let [code, weights] = package.device_code()?;
        let code = DeviceCode::read(code)?;
        let place = Place::open(device, weights, threads)?;
        let instance = package.instance(threads)?;
        let number = |name: &&str| package.model().functions().position(|f| f.name() == *name);
        let in_stages = |k: usize| package.model().function(k).is_ok_and(|f| f.body().is_some());
        let mut functions = Vec::new();
        for name in names {
            let staged = number(name).filter(|k| in_stages(*k));
            functions.push(match staged {
                Some(k) => {
                    let f = package.model().function(k)?;
                    Function { inputs: super::ports(f.inputs())?, outputs: super::ports(f.outputs())?, code: Err(k) }
                }
                None => {
                    let f = code.function(name, &place, instance.variables())?;
                    Function { inputs: f.inputs().to_vec(), outputs: f.outputs().to_vec(), code: Ok(f) }
                }
            });
        }
        let on_host = functions.iter().any(|f| f.code.is_err());
        let instance = if on_host {
            let parts = code.parts(&place, instance.variables())?;
            if parts.is_empty() {
                let why = format!("the package has no code for GPUs of {}", names.join(", "));
                return Err(Error::Device(why));
            }
            instance.with_parts(Box::new(OnGpu { parts }))
        } else {
            instance
        };
        Ok(OnDevice { functions, instance, on_host })
    }

    /// Inputs of a function, by its place among those that were named.
    pub fn inputs(&self, function: usize) -> &[Port] {
        self.functions.get(function).map_or(&[], |f| &f.inputs)
    }

    pub fn outputs(&self, function: usize) -> &[Port] {
        self.functions.get(function).map_or(&[], |f| &f.outputs)
    }

    /// Runs and returns the outputs.
    ///
    /// # Errors
    /// If a feed does not fit, there is no code for the shapes, or a node fails.
    pub fn run(&self, function: usize, feeds: &[View]) -> Result<Vec<Tensor>, Error> {
        let f = self.functions.get(function).ok_or_else(|| Error::Device(format!("there is no function {function}")))?;
        let options = &mut RunOptions::default();
        match &f.code {
            Ok(whole) if self.on_host => whole.run_on(self.instance.variables(), feeds, options),
            Ok(whole) => whole.run(feeds, options),
            Err(number) => linked::call(&self.instance, *number, &f.outputs, feeds),
        }
    }
}

/// The parts of a package that are on a GPU.
struct OnGpu {
    parts: Vec<(usize, DeviceFunction)>,
}

impl Parts for OnGpu {
    fn run(
        &self,
        part: usize,
        inputs: &[Tensor],
        variables: &dyn VariableStore,
    ) -> Option<Result<Vec<Tensor>, graphc_engine::Error>> {
        let (_, f) = self.parts.iter().find(|(k, _)| *k == part)?;
        let feeds: Vec<View> = inputs.iter().map(View::try_from).collect::<Result<_, _>>().ok()?;
        // The CPU has code for what was shown; where a GPU has none, it says so better.
        if !f.takes(&feeds) {
            return None;
        }
        let ran = f.run_on(variables, &feeds, &mut RunOptions::default());
        Some(ran.map_err(|e| graphc_engine::Error::new(ErrorKind::from_code(e.status() as usize), e.to_string())))
    }
}
