//! Sessions: a loaded model, its state, and the functions asked of it.

use crate::cache::Cache;
use crate::callable::{Callable, Wanted};
use crate::device::DeviceName;
use crate::error::{Error, Result};
use crate::placement::{PlaceBy, Policy};
use crate::processor::Processors;
use crate::shared::Shared;
use crate::view::View;
use graphc_cpu::CpuTarget;
use graphc_frontend::{Feed, Fetch, Limits, Model, Request};
use graphc_host::{Access, Grant};
use graphc_ir::Tensor;
use graphc_passes::precision::Precision;
use graphc_passes::target::Target;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

/// How a session loads and runs.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Threads that compute, the caller's included; 1 starts none.
    pub threads: usize,
    /// Tags that choose the MetaGraph; empty chooses `serve`, or the only one.
    pub tags: Vec<String>,
    pub limits: Limits,
    /// Whether checksums of checkpoint data are verified.
    pub check_crc: bool,
    /// Checkpoint prefix (`dir/model.ckpt`) with the values of variables, for a graph that comes without one.
    pub checkpoint: Option<PathBuf>,
    /// In what numbers models of f32 compute. [`Precision::Bf16`] is faster and less exact, [`Precision::Int8`] faster for
    /// fake-quantised models; both ask for a processor that multiplies such numbers: on others they are errors.
    pub precision: Precision,
    /// Folder in which compiled programs are kept, with their weights, for the next process; `None` keeps nothing.
    pub cache: Option<PathBuf>,
    /// Whether choices among kernels are timed on this machine while compiling, which takes a second or so, instead of made by rules;
    /// with a cache they are kept there. Says nothing to a GPU.
    pub tune: bool,
    /// What computes. With a GPU, the CPU beside it computes what GPUs have no kernel for, and what the graph places there; a session on the
    /// CPU computes everything there, whatever devices the graph names.
    pub device: DeviceName,
    /// With a GPU: a device that the graph names for a node that cannot be there is passed over, and no error.
    pub soft_placement: bool,
    /// With a GPU: where nodes go for which the graph names no device, between those on the CPU.
    pub place_by: PlaceBy,
    /// With a GPU: values of f32 cross between devices as bf16, in half the bytes and with 8 significant bits.
    pub lossy_transfers: bool,
    /// Folders in which ops of the graph may read and write files. The model's own assets can always be read, and only read.
    pub files: Vec<PathBuf>,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions {
            threads: 1,
            tags: Vec::new(),
            limits: Limits::default(),
            check_crc: true,
            checkpoint: None,
            precision: Precision::F32,
            cache: None,
            tune: false,
            device: DeviceName::Cpu,
            soft_placement: false,
            place_by: PlaceBy::Cost,
            lossy_transfers: false,
            files: Vec::new(),
        }
    }
}

/// A loaded model. Any number of threads may run it at once.
pub struct Session {
    shared: Arc<Shared>,
    cache: Option<Cache>,
}

impl Session {
    /// Loads a model. With a cache, its files are read only when something is asked for that the cache lacks.
    ///
    /// # Errors
    /// If its files cannot be read or are not valid, there is no such device, or the processor lacks what the precision asks for.
    pub fn open(path: &Path, options: SessionOptions) -> Result<Session> {
        let shared = Arc::new(Session::shared_for(Shared::new(path, &options), &options)?);
        // Whole programs are kept of the CPU, of GPUs their kernels.
        let cache = options
            .cache
            .as_deref()
            .filter(|_| options.device == DeviceName::Cpu)
            .and_then(|folder| Cache::open(folder, path, &options));
        if cache.is_none() {
            shared.model()?;
        }
        Ok(Session { shared, cache })
    }

    /// A session over a model that is loaded already; nothing is kept.
    ///
    /// # Errors
    /// If there is no such device, or the processor lacks what the precision asks for.
    pub fn over(model: Model, options: &SessionOptions) -> Result<Session> {
        Ok(Session { shared: Arc::new(Session::shared_for(Shared::of(model, options), options)?), cache: None })
    }

    /// What a session shares, on the devices of the options.
    fn shared_for(mut shared: Shared, options: &SessionOptions) -> Result<Shared> {
        let on_cpu = options.device == DeviceName::Cpu;
        let lacking = match options.precision {
            Precision::Bf16 if on_cpu && !CpuTarget.has_bf16_dots() => Some("bf16 (avx512_bf16)"),
            Precision::Int8 if !CpuTarget.has_int8_dots() => Some("8-bit integers (avx512_vnni or avx_vnni)"),
            _ => None,
        };
        if let Some(what) = lacking {
            let why = format!("this processor does not multiply {what}, which the precision asks for; use f32");
            return Err(Error::Unsupported(why));
        }
        let processors = Processors::open(options)?;
        shared.policy = Policy {
            session: options.device,
            present: processors.present(),
            soft: options.soft_placement,
            by: options.place_by,
            lossy: options.lossy_transfers,
        };
        shared.processors = processors;
        Ok(shared)
    }

    /// A session over a model that is loaded already.
    pub fn of(model: Model, threads: usize) -> Session {
        Session { shared: Arc::new(Shared::of(model, &SessionOptions { threads, ..SessionOptions::default() })), cache: None }
    }

    /// Whether runs of the model may change variables.
    ///
    /// # Errors
    /// As [`Session::model`].
    pub fn has_variables(&self) -> Result<bool> {
        Ok(!self.shared.state_variables()?.is_empty() || !self.model()?.assigned_variables(self.model()?.graph())?.is_empty())
    }

    /// Folders in which ops of the graph may read and write files.
    pub fn writable(&self) -> Vec<PathBuf> {
        let grants = self.shared.host.grants.iter();
        grants.filter(|g| g.access == Access::Write).map(|g| g.folder.clone()).collect()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The session with more folders in which ops of the graph may read and write files. No callable may be there yet.
    #[must_use]
    pub fn granting(mut self, folders: impl IntoIterator<Item = PathBuf>) -> Session {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.host.grants.extend(folders.into_iter().map(Grant::writing));
        }
        self
    }

    /// What has moved to and from a device of the session since it was opened, by all that use it; `None` of the CPU.
    #[cfg(feature = "gpu")]
    pub fn traffic(&self, device: DeviceName) -> Option<graphc_gpu::Traffic> {
        Some(self.shared.processors.of(device).ok()?.device()?.traffic())
    }

    /// The model.
    ///
    /// # Errors
    /// If its files cannot be read or are not valid, which a session with a cache may not have found yet.
    pub fn model(&self) -> Result<&Model> {
        self.shared.model()
    }

    /// Whether anything that was compiled so far multiplies 8-bit integers, as [`Precision::Int8`] asks for; `None` where nothing was
    /// compiled, since all came from the cache.
    pub fn multiplies_integers(&self) -> Option<bool> {
        self.shared.integer_launches.lock().unwrap_or_else(PoisonError::into_inner).map(|n| n > 0)
    }

    /// The function of a signature; of the default one if none is named; of a graph without signatures, from its placeholders to the
    /// tensors that no node reads.
    ///
    /// # Errors
    /// If there is no such signature, or the graph cannot be compiled.
    pub fn signature(&self, name: Option<&str>) -> Result<Callable> {
        self.function(Wanted::Signature(name.map(str::to_owned)))
    }

    /// The function from any tensors to any tensors of the graph, named `node:k`; `targets` are nodes to run besides.
    ///
    /// # Errors
    /// If a name is unknown, or the graph cannot be compiled.
    pub fn callable(&self, feeds: &[String], fetches: &[String], targets: &[String]) -> Result<Callable> {
        let mut request = Request::new(feeds.iter().cloned(), fetches.iter().cloned());
        request.targets = targets.to_vec();
        self.request(&request)
    }

    /// The function of a request.
    ///
    /// # Errors
    /// As [`Session::callable`].
    pub fn request(&self, request: &Request) -> Result<Callable> {
        self.function(Wanted::Request(request.clone()))
    }

    fn function(&self, wanted: Wanted) -> Result<Callable> {
        let place = self.cache.as_ref().map(|c| c.entry(&wanted));
        Callable::open(self.shared.clone(), wanted, place)
    }

    /// Forgets all state: variables have the values of the model again, or none; tables, queues and random generators are new. The
    /// initialisation op runs before the next request.
    pub fn reset(&self) {
        let shared = &self.shared;
        let mut initialised = shared.initialised.lock().unwrap_or_else(PoisonError::into_inner);
        shared.variables.reset(|name| shared.stored(name));
        shared.host.resources.clear_all();
        shared.host.nodes.clear_all();
        *initialised = false;
    }

    /// Runs once: values for tensors `node:k`, and the tensors wanted.
    ///
    /// # Errors
    /// As [`Session::callable`] and [`Callable::run`].
    pub fn run(&self, feeds: &[(&str, View)], fetches: &[&str], targets: &[&str]) -> Result<Vec<Tensor>> {
        let request = Request {
            feeds: feeds.iter().map(|(n, _)| Feed { name: (*n).to_owned(), tensor: (*n).to_owned(), ..Feed::default() }).collect(),
            fetches: fetches.iter().map(|n| Fetch { name: (*n).to_owned(), tensor: (*n).to_owned(), ..Fetch::default() }).collect(),
            targets: targets.iter().map(|&t| t.to_owned()).collect(),
        };
        let views: Vec<View> = feeds.iter().map(|(_, v)| *v).collect();
        self.request(&request)?.run(&views)
    }
}
