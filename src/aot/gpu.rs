//! Code for GPUs in packages: what a run needs of each function, its kernels for several kinds of devices, and its weights.

use crate::{DeviceName, Error, Port, Tensor};
use graphc_gpu::stored::Stored;
use graphc_gpu::{Code, Device, Flavour};
use graphc_ir::text::parse_dim;
use graphc_ir::{Dim, Elem};
use graphc_runtime::{DeviceFunction, Variant as Loaded};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The functions of a package that have code for GPUs.
#[derive(Default, Serialize, Deserialize)]
pub struct DeviceCode {
    functions: Vec<Function>,
    /// Packed weights, beside the code in the file.
    #[serde(skip)]
    pub weights: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Function {
    name: String,
    inputs: Vec<StoredPort>,
    outputs: Vec<StoredPort>,
    variants: Vec<Variant>,
}

#[derive(Serialize, Deserialize)]
struct Variant {
    baked: Vec<Option<Value>>,
    code: Vec<Compiled>,
    /// Where its weights begin.
    weights: usize,
}

/// A variant for a kind of device.
#[derive(Serialize, Deserialize)]
struct Compiled {
    made_for: String,
    program: Stored,
    kernels: Vec<Code>,
}

/// Name, element type by its number, and shape where the rank is known.
#[derive(Serialize, Deserialize)]
struct StoredPort(String, i32, Option<Vec<String>>);

/// Element type, shape and bytes of a tensor.
#[derive(Serialize, Deserialize)]
struct Value(i32, Vec<usize>, Vec<u8>);

fn damaged() -> Error {
    Error::Device("the package's code for GPUs is damaged".into())
}

impl StoredPort {
    fn port(&self) -> Option<Port> {
        let dims = |s: &Vec<String>| s.iter().map(|d| parse_dim(d).ok()).collect::<Option<Vec<Dim>>>();
        let shape = match &self.2 {
            Some(s) => Some(dims(s)?),
            None => None,
        };
        Some(Port { name: self.0.clone(), elem: Elem::from_number(self.1)?, shape })
    }
}

impl Value {
    fn tensor(&self) -> Option<Tensor> {
        Tensor::from_bytes(Elem::from_number(self.0)?, self.1.clone(), self.2.clone())
    }
}

impl DeviceCode {
    /// The code as bytes, without the weights.
    ///
    /// # Errors
    /// None that is known.
    pub fn write(&self) -> Result<Vec<u8>, Error> {
        postcard::to_allocvec(self).map_err(|e| Error::Compile(e.to_string()))
    }

    /// # Errors
    /// If the bytes are not what [`DeviceCode::write`] gave.
    pub fn read(bytes: &[u8]) -> Result<DeviceCode, Error> {
        postcard::from_bytes(bytes).map_err(|_| damaged())
    }

    /// Names of the functions.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.functions.iter().map(|f| f.name.as_str())
    }

    /// Brings a function to a device: the kernels that suit it best, and the weights.
    ///
    /// # Errors
    /// If there is no such device or function, or no code that runs there.
    pub fn load(&self, name: &str, device: DeviceName, weights: &'static [u8], threads: usize) -> Result<DeviceFunction, Error> {
        let DeviceName::Gpu(index) = device else {
            return Err(Error::Device(format!("{device} is no GPU")));
        };
        let device = Device::open(index).map_err(|e| Error::Device(e.to_string()))?;
        let f = self.functions.iter().find(|f| f.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.functions().collect();
            Error::Device(format!("the package has no code for GPUs of {name:?}; it has some of {}", names.join(", ")))
        })?;
        let ports = |ports: &[StoredPort]| ports.iter().map(StoredPort::port).collect::<Option<Vec<_>>>().ok_or_else(damaged);
        let variants = f.variants.iter().map(|v| v.load(&device, weights, threads)).collect::<Result<_, _>>()?;
        Ok(DeviceFunction::new(ports(&f.inputs)?, ports(&f.outputs)?, variants))
    }
}

impl Variant {
    fn load(&self, device: &Device, weights: &'static [u8], threads: usize) -> Result<Loaded, Error> {
        let suits = |c: &&Compiled| c.made_for.parse::<Flavour>().ok()?.suits(device.flavour());
        let best = self.code.iter().filter(|c| suits(c).is_some()).max_by_key(suits);
        let best = best.ok_or_else(|| {
            let made: Vec<&str> = self.code.iter().map(|c| c.made_for.as_str()).collect();
            let (name, there) = (device.info().name, device.flavour());
            Error::Device(format!("{name} runs code for {there}, the package has code for {}", made.join(", ")))
        })?;
        let end = self.weights.checked_add(best.program.weights());
        let own: &'static [u8] = end.and_then(|end| weights.get(self.weights..end)).ok_or_else(damaged)?;
        let kernels = best.kernels.iter().cloned().map(Arc::new).collect();
        let program = best.program.program(kernels, Arc::new(own)).ok_or_else(damaged)?;
        let plan = program.plan.clone();
        let run = device.load(program, threads).map_err(|e| Error::Device(e.to_string()))?;
        let baked = self.baked.iter().map(|v| v.as_ref().map(|v| v.tensor().ok_or_else(damaged)).transpose());
        Ok(Loaded { plan, run, baked: baked.collect::<Result<_, _>>()? })
    }
}

#[cfg(feature = "gpu")]
mod make {
    use super::*;
    use crate::{Callable, View};
    use graphc_cpu::{CompileError, Weights};
    use graphc_gpu::target::Factors;
    use graphc_runtime::Ahead;

    /// Weights begin at multiples of this.
    const ALIGN: usize = graphc_abi::ALIGN;

    fn stored(p: &Port) -> StoredPort {
        StoredPort(p.name.clone(), p.elem.number(), p.shape.as_ref().map(|s| s.iter().map(Dim::to_string).collect()))
    }

    impl DeviceCode {
        /// Adds a function: its kernels for each of `targets`, made without a device; products of f32 multiply `factors`. As [`super::super::Builder::function`], for all that its
        /// signature leaves open, and for what the examples show where the graph must know more.
        ///
        /// # Errors
        /// If the function runs in stages, changes variables, or something of it has no kernel.
        pub fn add(
            &mut self,
            name: &str,
            callable: &Callable,
            examples: &[Vec<View>],
            targets: &[Flavour],
            factors: Factors,
        ) -> Result<(), Error> {
            if !callable.single_ops().is_empty() {
                let ops = callable.single_ops().into_iter().collect::<Vec<_>>().join(", ");
                return Err(Error::Unsupported(format!(
                    "code for GPUs of {name:?}, which runs in stages, for {ops}; leave --device out"
                )));
            }
            let ahead = Ahead::of_all(examples, &mut |feeds| callable.ahead_on_gpu(feeds))?;
            let outputs = callable.outputs().iter().map(stored).collect();
            let inputs: Vec<StoredPort> = callable.inputs().iter().map(stored).collect();
            let variants = ahead.into_iter().map(|a| self.variant(a, inputs.len(), targets, factors)).collect::<Result<_, _>>()?;
            self.functions.push(Function { name: name.to_owned(), inputs, outputs, variants });
            Ok(())
        }

        fn variant(&mut self, a: Ahead, inputs: usize, targets: &[Flavour], factors: Factors) -> Result<Variant, Error> {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let failed = |e: CompileError| match &e {
                CompileError::Unsupported(all) => {
                    let nodes = all.iter().map(|u| u.node.clone()).collect();
                    Error::NoKernel { nodes, message: format!("{e}, for a GPU") }
                }
                e => Error::Compile(e.to_string()),
            };
            let mut code = Vec::new();
            for &flavour in targets {
                let made = graphc_gpu::compile(a.plan.clone(), flavour, factors, threads, None).map_err(failed)?;
                let lacks = || Error::Unsupported("code for GPUs of a function that changes variables".into());
                let program = Stored::of(&made).ok_or_else(lacks)?;
                let kernels = made.kernels.iter().map(|k| (**k).clone()).collect();
                code.push(Compiled { made_for: flavour.to_string(), program, kernels });
            }
            let layout = Weights::of(&a.plan);
            let mut bytes = vec![0; layout.allocated()];
            layout.pack(a.plan.consts, &mut bytes, threads).map_err(failed)?;
            bytes.truncate(layout.bytes());
            let mut baked: Vec<Option<Value>> = (0..inputs).map(|_| None).collect();
            for (k, t) in &a.baked {
                if let Some(b) = baked.get_mut(*k) {
                    *b = Some(Value(t.elem().number(), t.shape().to_vec(), t.bytes().to_vec()));
                }
            }
            Ok(Variant { baked, code, weights: self.keep(&bytes) })
        }

        /// Where weights are; those of another variant are often the same.
        fn keep(&mut self, bytes: &[u8]) -> usize {
            let known = self.functions.iter().flat_map(|f| &f.variants).map(|v| v.weights);
            let same = known.chain([0]).find(|&at| self.weights.get(at..at + bytes.len()) == Some(bytes));
            same.unwrap_or_else(|| {
                let at = self.weights.len().next_multiple_of(ALIGN);
                self.weights.resize(at, 0);
                self.weights.extend_from_slice(bytes);
                at
            })
        }
    }
}
