//! Code for GPUs in packages: what a run needs of each function, its kernels for several kinds of devices, and its weights.

use super::kinds::{Kind, in_order};
use crate::{DeviceName, Error, Port, Tensor};
use graphc_gpu::stored::Stored;
use graphc_gpu::{Code, Device, Run};
use graphc_host::{TfStatus, Value as HostValue, VariableStore};
use graphc_ir::text::parse_dim;
use graphc_ir::{Dim, Elem, Type, Var};
use graphc_passes::plan::Plan;
use graphc_runtime::{DeviceFunction, VarUses, Variables, Variant as Loaded};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The functions of a package that have code for GPUs.
#[derive(Default, Serialize, Deserialize)]
pub struct DeviceCode {
    functions: Vec<Function>,
    /// Parts of functions in stages, by their numbers.
    parts: Vec<(usize, Function)>,
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
    variables: Vec<StoredPort>,
    uses: Uses,
}

/// How code uses its variables, by number.
#[derive(Serialize, Deserialize)]
struct Uses {
    /// Those that are read before they are assigned, with TensorFlow's code of the error where one has no value.
    read_first: Vec<(usize, i32)>,
    maybe: Vec<usize>,
    assigned: Vec<usize>,
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

    /// Whether nothing of the model has code for GPUs.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty() && self.parts.is_empty()
    }

    /// Brings a function to a device: the kernels that suit it best, and the weights. Variables that nobody has used yet have the values of
    /// `store`.
    ///
    /// # Errors
    /// If there is no such function, or no code that runs there.
    pub fn function(&self, name: &str, on: &Place, store: &dyn VariableStore) -> Result<DeviceFunction, Error> {
        let f = self.functions.iter().find(|f| f.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.functions().collect();
            Error::Device(format!("the package has no code for GPUs of {name:?}; it has some of {}", names.join(", ")))
        })?;
        f.load(on, store)
    }

    /// As [`DeviceCode::function`], all parts of functions in stages that have code for the device, by their numbers.
    ///
    /// # Errors
    /// As there.
    pub fn parts(&self, on: &Place, store: &dyn VariableStore) -> Result<Vec<(usize, DeviceFunction)>, Error> {
        let here = self.parts.iter().filter(|(_, f)| f.variants.iter().all(|v| !v.fitting(&on.device).is_empty()));
        here.map(|(k, f)| Ok((*k, f.load(on, store)?))).collect()
    }
}

/// Where code of a package is brought to.
pub struct Place {
    device: Device,
    weights: &'static [u8],
    threads: usize,
    variables: Arc<Variables>,
}

impl Place {
    /// # Errors
    /// If there is no such device.
    pub fn open(device: DeviceName, weights: &'static [u8], threads: usize) -> Result<Place, Error> {
        let DeviceName::Gpu(index) = device else {
            return Err(Error::Device(format!("{device} is no GPU")));
        };
        let device = Device::open(index).map_err(|e| Error::Device(e.to_string()))?;
        Ok(Place { device, weights, threads, variables: Arc::default() })
    }
}

impl Function {
    fn load(&self, on: &Place, store: &dyn VariableStore) -> Result<DeviceFunction, Error> {
        let ports = |ports: &[StoredPort]| ports.iter().map(StoredPort::port).collect::<Option<Vec<_>>>().ok_or_else(damaged);
        let variants = self.variants.iter().map(|v| v.load(on, store)).collect::<Result<_, _>>()?;
        DeviceFunction::new(ports(&self.inputs)?, ports(&self.outputs)?, variants, on.variables.clone())
    }
}

impl Compiled {
    /// Brings it to a device; its weights begin at `from`.
    fn load(&self, from: usize, on: &Place) -> Result<(Plan, Box<dyn Run>), Error> {
        let end = from.checked_add(self.program.weights());
        let own: &'static [u8] = end.and_then(|end| on.weights.get(from..end)).ok_or_else(damaged)?;
        let kernels = self.kernels.iter().cloned().map(Arc::new).collect();
        let program = self.program.program(kernels, Arc::new(own)).ok_or_else(damaged)?;
        let plan = program.plan.clone();
        let run = on.device.load(program, on.threads).map_err(|e| Error::Device(e.to_string()))?;
        Ok((plan, run))
    }
}

impl Variant {
    /// What a device runs of its code, the best first.
    fn fitting(&self, device: &Device) -> Vec<&Compiled> {
        in_order(&self.code, |c| c.made_for.parse().ok(), device.flavour())
    }

    fn load(&self, on: &Place, store: &dyn VariableStore) -> Result<Loaded, Error> {
        let device = &on.device;
        let fitting = self.fitting(device);
        let last = fitting.len().saturating_sub(1);
        let mut loaded = None;
        for (k, code) in fitting.into_iter().enumerate() {
            match code.load(self.weights, on) {
                // A driver may be older than what assembled the code.
                Err(_) if k < last && code.made_for.parse().is_ok_and(|kind: Kind| kind.cubin) => {}
                ready => {
                    loaded = Some(ready?);
                    break;
                }
            }
        }
        let (plan, run) = loaded.ok_or_else(|| {
            let made: Vec<&str> = self.code.iter().map(|c| c.made_for.as_str()).collect();
            let (name, there) = (device.info().name, device.flavour());
            Error::Device(format!("{name} runs code for {there}, the package has code for {}", made.join(", ")))
        })?;
        let baked = self.baked.iter().map(|v| v.as_ref().map(|v| v.tensor().ok_or_else(damaged)).transpose());
        let variable = |p: &StoredPort| {
            let Port { name, elem, shape } = p.port()?;
            let init = store.read(&name).and_then(|v| if let HostValue::Tensor(t) = v { Some(t) } else { None });
            Some(Var { name, ty: Type::new(elem, shape?), init })
        };
        let variables: Option<Vec<Var>> = self.variables.iter().map(variable).collect();
        let status = |&(k, code): &(usize, i32)| Some((k, TfStatus::from_code(code)?));
        let read_first: Option<Vec<_>> = self.uses.read_first.iter().map(status).collect();
        let Uses { maybe, assigned, .. } = &self.uses;
        let uses = VarUses { read_first: read_first.ok_or_else(damaged)?, maybe: maybe.clone(), assigned: assigned.clone() };
        let baked = baked.collect::<Result<_, _>>()?;
        Ok(Loaded { plan, run, baked, variables: variables.ok_or_else(damaged)?, uses })
    }
}

#[cfg(feature = "gpu")]
pub use make::Wanted;

#[cfg(feature = "gpu")]
mod make {
    use super::super::ptxas;
    use super::*;
    use crate::{Callable, View};
    use graphc_cpu::{CompileError, Weights};
    use graphc_gpu::target::Factors;
    use graphc_runtime::{Ahead, Part};
    use std::path::PathBuf;

    /// What code for GPUs is made.
    pub struct Wanted {
        /// For each of these.
        pub kinds: Vec<Kind>,
        /// What products of f32 multiply.
        pub factors: Factors,
        /// What assembles, if something is to be.
        pub ptxas: Option<PathBuf>,
    }

    /// Weights begin at multiples of this.
    const ALIGN: usize = graphc_abi::ALIGN;

    fn stored(p: &Port) -> StoredPort {
        StoredPort(p.name.clone(), p.elem.number(), p.shape.as_ref().map(|s| s.iter().map(Dim::to_string).collect()))
    }

    impl DeviceCode {
        /// Adds a function: its kernels as is wanted, made without a device. As [`super::super::Builder::function`], for all that its
        /// signature leaves open, and for what the examples show where the graph must know more.
        ///
        /// # Errors
        /// If something of it has no kernel. A function that runs in stages is passed over: see [`DeviceCode::add_parts`].
        pub fn add(&mut self, name: &str, callable: &Callable, examples: &[Vec<View>], wanted: &Wanted) -> Result<(), Error> {
            if !callable.stages().is_empty() {
                return Ok(());
            }
            let ahead = Ahead::of_all(examples, &mut |feeds| callable.ahead_on_gpu(feeds))?;
            let made = self.made(name, (callable.inputs(), callable.outputs()), ahead, wanted, false)?;
            self.functions.push(made);
            Ok(())
        }

        /// Adds the parts of functions that run in stages, for the kinds of devices that have kernels for all of a part; a part for which
        /// none has, or that has nothing to do, stays on the CPU.
        ///
        /// # Errors
        /// As [`DeviceCode::add`].
        pub fn add_parts(&mut self, parts: &mut [Part], wanted: &Wanted) -> Result<(), Error> {
            for (k, part) in parts.iter_mut().enumerate() {
                let ahead = std::mem::take(&mut part.on_gpus);
                if ahead.iter().all(|a| a.plan.steps.is_empty()) {
                    continue;
                }
                match self.made(&part.name, (&part.inputs, &part.outputs), ahead, wanted, true) {
                    Ok(made) => self.parts.push((k, made)),
                    Err(Error::NoKernel { .. }) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(())
        }

        /// A function or part; `partly`: kinds of devices without a kernel for something are left out, unless all are.
        fn made(
            &mut self,
            name: &str,
            ports: (&[Port], &[Port]),
            ahead: Vec<Ahead>,
            wanted: &Wanted,
            partly: bool,
        ) -> Result<Function, Error> {
            let [inputs, outputs] = [ports.0, ports.1].map(|p| p.iter().map(stored).collect::<Vec<StoredPort>>());
            let variants = ahead.into_iter().map(|a| self.variant(a, inputs.len(), wanted, partly)).collect::<Result<_, _>>()?;
            Ok(Function { name: name.to_owned(), inputs, outputs, variants })
        }

        fn variant(&mut self, a: Ahead, inputs: usize, wanted: &Wanted, partly: bool) -> Result<Variant, Error> {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let failed = |e: CompileError| match &e {
                CompileError::Unsupported(all) => {
                    let nodes = all.iter().map(|u| u.node.clone()).collect();
                    Error::NoKernel { nodes, message: format!("{e}, for a GPU") }
                }
                e => Error::Compile(e.to_string()),
            };
            let (mut code, mut lacking) = (Vec::new(), None);
            for &kind in &wanted.kinds {
                let made = match graphc_gpu::compile(a.plan.clone(), kind.flavour, wanted.factors, threads, None) {
                    Err(e @ CompileError::Unsupported(_)) if partly => {
                        lacking = Some(e);
                        continue;
                    }
                    made => made.map_err(failed)?,
                };
                let program = Stored::of(&made).ok_or_else(|| Error::Compile("a step without a kernel".into()))?;
                let mut kernels: Vec<Code> = made.kernels.iter().map(|k| (**k).clone()).collect();
                if kind.cubin {
                    let lacks = || Error::Unsupported("machine code for GPUs without ptxas".into());
                    let ptxas = wanted.ptxas.as_deref().ok_or_else(lacks)?;
                    kernels = ptxas::assembled(ptxas, &kernels, kind.flavour, threads)?;
                }
                code.push(Compiled { made_for: kind.to_string(), program, kernels });
            }
            if let Some(e) = lacking.filter(|_| code.is_empty()) {
                return Err(failed(e));
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
            let variable = |v: &Var| Port { name: v.name.clone(), elem: v.ty.elem, shape: Some(v.ty.shape.clone()) };
            let VarUses { read_first, maybe, assigned } = a.uses;
            let read_first = read_first.into_iter().map(|(k, status)| (k, status.code())).collect();
            let variables = a.variables.iter().map(|v| stored(&variable(v))).collect();
            Ok(Variant { baked, code, weights: self.keep(&bytes), variables, uses: Uses { read_first, maybe, assigned } })
        }

        /// Where weights are; those of another variant are often the same.
        fn keep(&mut self, bytes: &[u8]) -> usize {
            let known = self.functions.iter().chain(self.parts.iter().map(|(_, f)| f)).flat_map(|f| &f.variants).map(|v| v.weights);
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
