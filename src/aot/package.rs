//! Packages: one file with a model's code and weights, which is mapped and run without any compilation.
//!
//! A line of JSON that says what is in the file, the object, and the file of weights, each at the start of a page; for GPUs, kernels and
//! weights of their own.

use super::{Machine, Object};
use crate::Error;
use graphc_cpu::object::symbol;
use graphc_cpu::{Cpu, Loaded};
use graphc_engine::{Compute, Model, Options};
use graphc_stages::Instance;
use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

const MAGIC: &[u8; 8] = b"GRAPHCP1";
const PAGE: usize = 4096;
/// No header is longer.
const MOST_HEADER: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
struct Header {
    /// Version of graphc: the object calls the kernels of that version.
    version: String,
    target: String,
    name: String,
    object: Part,
    weights: Part,
    /// Code and weights for GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gpu: Option<[Part; 2]>,
}

/// A part of the file.
#[derive(Serialize, Deserialize)]
struct Part {
    at: usize,
    len: usize,
    crc32c: u32,
}

/// A model of a package, in memory for the rest of the program.
#[derive(Clone, Copy)]
pub struct Package {
    model: Model,
    weights: &'static [u8],
    /// Code and weights for GPUs.
    gpu: Option<[&'static [u8]; 2]>,
}

fn invalid(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::Package { file: path.to_owned(), message: what.to_string() }
}

impl Package {
    /// Writes a model, which was compiled with its weights in a file of their own, to a package.
    ///
    /// # Errors
    /// If the object or the file cannot be written.
    pub fn write(object: Object, name: &str, machine: Machine, to: &Path) -> Result<(), Error> {
        Package::write_with(object, name, machine, None, to)
    }

    /// As [`Package::write`], with code and weights for GPUs.
    ///
    /// # Errors
    /// As there.
    pub fn write_with(mut object: Object, name: &str, machine: Machine, gpu: Option<[Vec<u8>; 2]>, to: &Path) -> Result<(), Error> {
        let weights = object.weights.take().unwrap_or_default();
        let object = object.write().map_err(|e| Error::Compile(e.to_string()))?;
        let part = |at: usize, bytes: &[u8]| Part { at, len: bytes.len(), crc32c: crc32c::crc32c(bytes) };
        let weights_at = (PAGE + object.len()).next_multiple_of(PAGE);
        let mut parts = vec![(PAGE, object.as_slice()), (weights_at, &weights)];
        for bytes in gpu.iter().flatten() {
            let end = parts.last().map_or(0, |(at, bytes)| at + bytes.len());
            parts.push((end.next_multiple_of(PAGE), bytes));
        }
        let header = Header {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            target: machine.triple().to_owned(),
            name: name.to_owned(),
            object: part(PAGE, &object),
            weights: part(weights_at, &weights),
            gpu: if let [_, _, code, weights] = parts[..] {
                Some([part(code.0, code.1), part(weights.0, weights.1)])
            } else {
                None
            },
        };
        let header = serde_json::to_vec(&header).map_err(|e| invalid(to, e))?;
        let write = || -> io::Result<()> {
            let mut file = BufWriter::new(File::create(to)?);
            file.write_all(MAGIC)?;
            file.write_all(&(header.len() as u32).to_le_bytes())?;
            file.write_all(&crc32c::crc32c(&header).to_le_bytes())?;
            file.write_all(&header)?;
            for (at, bytes) in &parts {
                file.seek(SeekFrom::Start(*at as u64))?;
                file.write_all(bytes)?;
            }
            file.flush()
        };
        write().map_err(|e| invalid(to, e))
    }

    /// Whether a file begins as packages do.
    pub fn is_one(path: &Path) -> bool {
        let mut magic = [0; 8];
        File::open(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && magic == *MAGIC
    }

    /// Maps a package and links its code, which stays in memory for the rest of the program.
    ///
    /// # Safety
    /// The package comes from somebody whose programs you would run: it is one. Nobody writes to the file while it is mapped.
    ///
    /// # Errors
    /// If it is no package, is damaged, or was made for another machine or version.
    pub unsafe fn open(path: &Path) -> Result<Package, Error> {
        let bad = |what: &str| invalid(path, what);
        let file = File::open(path).map_err(|e| invalid(path, e))?;
        // SAFETY: by this function's contract.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| invalid(path, e))?;
        let number = |at: usize| Some(u32::from_le_bytes(map.get(at..at + 4)?.try_into().ok()?));
        let (length, crc) = number(8).zip(number(12)).ok_or_else(|| bad("the file is cut off"))?;
        let text = map.get(16..16 + (length as usize).min(MOST_HEADER)).ok_or_else(|| bad("the file is cut off"))?;
        if !map.starts_with(MAGIC) || crc32c::crc32c(text) != crc {
            return Err(bad("this is no package of graphc, or it is damaged"));
        }
        let header: Header = serde_json::from_slice(text).map_err(|e| invalid(path, e))?;
        let here = Machine::here(Cpu::Baseline).map_err(|e| Error::Compile(e.to_string()))?;
        if header.version != env!("CARGO_PKG_VERSION") || header.target != here.triple() {
            let (version, target) = (env!("CARGO_PKG_VERSION"), here.triple());
            let made = format!("it was made by graphc {} for {}", header.version, header.target);
            return Err(invalid(path, format_args!("{made}, this is graphc {version} for {target}; compile the model again")));
        }
        let part = |p: &Part| {
            let bytes = p.at.checked_add(p.len).and_then(|end| map.get(p.at..end)).ok_or_else(|| bad("the file is cut off"))?;
            Ok::<_, Error>(bytes)
        };
        let (object, weights) = (part(&header.object)?, part(&header.weights)?);
        for (what, bytes, crc) in [("code", object, header.object.crc32c), ("content of weights", weights, header.weights.crc32c)] {
            if crc32c::crc32c(bytes) != crc {
                return Err(bad(&format!("its {what} is damaged")));
            }
        }
        let mut gpu = None;
        if let Some(parts) = &header.gpu {
            for p in parts {
                if crc32c::crc32c(part(p)?) != p.crc32c {
                    return Err(bad("its code for GPUs is damaged"));
                }
            }
            gpu = Some(parts.each_ref().map(|p| p.at..p.at + p.len));
        }
        let range = header.weights.at..header.weights.at + weights.len();
        // SAFETY: the header names this version and system, and the checksum says that the object is as it was written.
        let code = unsafe { Loaded::load(object, graphc_stages::symbols()) }.map_err(|e| invalid(path, e))?;
        let model = code.symbol(&symbol(&header.name)).map_err(|e| invalid(path, e))?;
        std::mem::forget(code);
        let map: &'static Mmap = Box::leak(Box::new(map));
        // SAFETY: the symbol is a model's table, which stays where it is.
        let model = unsafe { Model::new(model.cast()) }.map_err(|e| invalid(path, e))?;
        Ok(Package { model, weights: &map[range], gpu: gpu.map(|parts| parts.map(|r| &map[r])) })
    }

    pub fn model(&self) -> Model {
        self.model
    }

    /// Functions on a GPU, with the package's code for it, and with state of their own.
    ///
    /// # Errors
    /// If the package has no such code, or the device is not there.
    #[cfg(feature = "gpu-driver")]
    pub fn on_device(&self, names: &[&str], device: crate::DeviceName, threads: usize) -> Result<super::OnDevice, Error> {
        super::OnDevice::open(self, names, device, threads)
    }

    /// Code and weights for GPUs.
    #[cfg(feature = "gpu-driver")]
    pub(super) fn device_code(&self) -> Result<[&'static [u8]; 2], Error> {
        let none = || Error::Device("the package has no code for GPUs; compile the model with --device GPU:0".into());
        self.gpu.ok_or_else(none)
    }

    /// Whether there is code for GPUs in it.
    pub fn is_for_gpus(&self) -> bool {
        self.gpu.is_some()
    }

    /// An instance of the model that computes on `threads` threads.
    ///
    /// # Errors
    /// If there is no memory for its state.
    pub fn instance(&self, threads: usize) -> Result<Instance, Error> {
        let weights = Some(self.weights).filter(|w| !w.is_empty());
        // SAFETY: the weights stay mapped.
        let instance = unsafe { Instance::new(self.model, Options { compute: Compute::Threads(threads), weights, files: &[] }) };
        instance.map_err(Error::from)
    }
}
