//! A model's state and what computes it.

use crate::call::Call;
use crate::error::{Error, ErrorKind};
use crate::memory::Memory;
use crate::model::{Model, text};
use crate::pool::Pool;
use alloc::format;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};
use graphc_abi::ParallelFor;
use graphc_abi::model::{Copy, Transform, Variable, Variant, WEIGHTS_MAGIC};

/// What runs the chunks of a run.
pub enum Compute {
    /// So many threads, the caller's included, which the instance starts.
    Threads(usize),
    /// A caller's own pool of so many threads.
    Caller { threads: usize, pool: *const c_void, parallel_for: ParallelFor },
}

/// How an instance is made.
pub struct Options<'a> {
    pub compute: Compute,
    /// The content of the file of weights, for a model that has one; it must outlive the instance.
    pub weights: Option<&'a [u8]>,
    /// Folders in which ops of functions in stages may read and write files.
    pub files: &'a [&'a str],
}

/// A model with state of its own. Any number of threads may run its calls.
pub struct Instance {
    model: Model,
    pool: Option<Pool>,
    caller: Option<(usize, *const c_void, ParallelFor)>,
    weights: *const u8,
    variables: Vec<State>,
    lock: Lock,
    /// Weights that were made of stored ones, for each variant that has such.
    placed: Vec<(*const Variant, Memory)>,
}

// SAFETY: the caller's pool and weights may be used from any thread, as `Instance::new` demands; state is under a lock.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

/// The value of a variable in one instance.
struct State {
    memory: Memory,
    /// Whether it has a value.
    ready: AtomicBool,
}

impl Instance {
    /// # Safety
    /// A caller's pool does what [`ParallelFor`] says, from any thread, and lives as long as the instance; so do the weights.
    ///
    /// # Errors
    /// If the model needs a file of weights that was not given or is another, or there is no memory for its state.
    pub unsafe fn new(model: Model, options: Options) -> Result<Instance, Error> {
        let weights = match (model.raw().weights_file, options.weights) {
            (0, _) => ptr::null(),
            (bytes, Some(w)) if belongs(w, bytes, model.raw().weights_crc) => w.as_ptr(),
            (_, Some(_)) => {
                let message = "the file of weights is not the one that was made with this object; compile both again";
                return Err(Error::new(ErrorKind::DataLoss, message));
            }
            (_, None) => {
                return Err(Error::new(ErrorKind::NotFound, "the model's weights are in a file of their own, which was not given"));
            }
        };
        let variables = model.variables().iter().map(first_value).collect::<Result<_, _>>()?;
        let (pool, caller) = match options.compute {
            Compute::Threads(n) => (Some(Pool::new(n)), None),
            Compute::Caller { threads, pool, parallel_for } => (None, Some((threads.max(1), pool, parallel_for))),
        };
        let placed = Vec::new();
        let mut instance = Instance { model, pool, caller, weights, variables, lock: Lock::new(), placed };
        for variant in model.functions().chain(model.parts()).chain(model.initialise()).flat_map(|f| f.variants()) {
            if variant.placed_bytes > 0 {
                let memory = instance.place(variant)?;
                instance.placed.push((variant, memory));
            }
        }
        instance.initialise()?;
        Ok(instance)
    }

    /// Runs what the model does before anything else.
    fn initialise(&self) -> Result<(), Error> {
        self.model.initialise().map_or(Ok(()), |f| Call::of(self, f).run(None))
    }

    /// Makes a variant's weights of those that are stored, on all threads.
    fn place(&self, variant: &Variant) -> Result<Memory, Error> {
        /// What the chunks share.
        struct Work<'a> {
            copies: &'a [Copy],
            transforms: &'a [Transform],
            stored: *const u8,
            made: *mut u8,
        }
        unsafe extern "C" fn work(data: *const c_void, chunk: usize, _: usize) {
            // SAFETY: the `Work` below, alive until all chunks are done.
            let Work { copies, transforms, stored, made } = unsafe { &*data.cast::<Work>() };
            if let Some(c) = copies.get(chunk) {
                // SAFETY: tables that a compiler wrote, the weights that belong to them, and as much room as they ask for.
                return unsafe { ptr::copy_nonoverlapping(stored.add(c.from), made.add(c.to), c.bytes) };
            }
            let mut row = chunk - copies.len();
            for t in *transforms {
                match row.checked_sub(t.outputs + 2) {
                    // SAFETY: as above.
                    None => return unsafe { (t.run)(t, *stored, *made, row) },
                    Some(left) => row = left,
                }
            }
        }
        let memory = Memory::new(variant.placed_bytes).ok_or_else(Error::memory)?;
        // SAFETY: tables that a compiler wrote.
        let (copies, transforms) = unsafe { (variant.copies.as_slice(), variant.transforms.as_slice()) };
        let data = Work { copies, transforms, stored: self.stored(variant), made: memory.as_mut_ptr() };
        let chunks = copies.len() + transforms.iter().map(|t| t.outputs + 2).sum::<usize>();
        let (_, pool, parallel_for) = self.parallel();
        // SAFETY: chunks write distinct places, and the call returns when all are done.
        unsafe { parallel_for(pool, chunks, work, ptr::from_ref(&data).cast()) };
        Ok(memory)
    }

    /// The weights that a variant's code takes.
    pub(crate) fn weights_of(&self, variant: &Variant) -> *const u8 {
        let placed = self.placed.iter().find(|(v, _)| ptr::eq(*v, variant));
        placed.map_or_else(|| self.stored(variant), |(_, m)| m.as_mut_ptr())
    }

    pub fn model(&self) -> Model {
        self.model
    }

    /// Number of threads that compute.
    pub fn threads(&self) -> usize {
        self.parallel().0
    }

    /// Threads, and what runs chunks on them.
    pub(crate) fn parallel(&self) -> (usize, *const c_void, ParallelFor) {
        match (&self.pool, self.caller) {
            (Some(p), _) => (p.threads(), ptr::from_ref(p).cast(), Pool::parallel_for),
            (None, Some(c)) => c,
            (None, None) => (1, ptr::null(), Pool::parallel_for),
        }
    }

    /// Where a variant's weights are stored.
    fn stored(&self, variant: &Variant) -> *const u8 {
        if variant.weights.is_null() { self.weights.wrapping_add(variant.weights_at) } else { variant.weights }
    }

    /// Gives every variable its first value again.
    ///
    /// # Errors
    /// If what the model does before it runs fails.
    pub fn reset(&self) -> Result<(), Error> {
        let held = self.lock.hold();
        for (state, v) in self.variables.iter().zip(self.model.variables()) {
            if !v.init.is_null() {
                // SAFETY: both have `bytes` bytes, and nobody else uses the state while the lock is held.
                unsafe { ptr::copy_nonoverlapping(v.init, state.memory.as_mut_ptr(), v.bytes) };
            }
            state.ready.store(!v.init.is_null(), Ordering::Release);
        }
        drop(held);
        self.initialise()
    }

    /// The number of the variable of that name that compiled code holds.
    pub fn find_variable(&self, name: &str) -> Option<usize> {
        // SAFETY: a table that a compiler wrote.
        self.model.variables().iter().position(|v| unsafe { text(v.name) } == name)
    }

    /// Number of the element type in TensorFlow's `DataType`, and extents, of variable `k`.
    pub fn variable_type(&self, k: usize) -> Option<(usize, &'static [i64])> {
        // SAFETY: as above.
        self.model.variables().get(k).map(|v| (v.elem, unsafe { v.dims.as_slice() }))
    }

    /// The value of variable `k`; None if it has none.
    pub fn read_variable(&self, k: usize) -> Option<Vec<u8>> {
        let _held = self.lock.hold();
        let state = self.variables.get(k)?;
        state.ready.load(Ordering::Acquire).then(|| state.memory.bytes().to_vec())
    }

    /// Gives variable `k` a value; false if that has not as many bytes.
    pub fn assign_variable(&self, k: usize, value: &[u8]) -> bool {
        let _held = self.lock.hold();
        let Some(state) = self.variables.get(k).filter(|s| s.memory.len() == value.len()) else { return false };
        // SAFETY: both have as many bytes, and nobody else uses the state while the lock is held.
        unsafe { ptr::copy_nonoverlapping(value.as_ptr(), state.memory.as_mut_ptr(), value.len()) };
        state.ready.store(true, Ordering::Release);
        true
    }

    /// Takes the value of variable `k`; false if it had none.
    pub fn forget_variable(&self, k: usize) -> bool {
        self.variables.get(k).is_some_and(|v| v.ready.swap(false, Ordering::AcqRel))
    }

    /// Keeps other runs off the state.
    pub(crate) fn hold_state(&self) -> Held<'_> {
        self.lock.hold()
    }

    /// Where a variable's value lies.
    pub(crate) fn variable(&self, k: usize) -> *mut u8 {
        self.variables.get(k).map_or(ptr::null_mut(), |v| v.memory.as_mut_ptr())
    }

    /// An error if variable `k` has no value.
    pub(crate) fn needs(&self, k: usize, status: usize) -> Result<(), Error> {
        if self.variables.get(k).is_some_and(|v| v.ready.load(Ordering::Acquire)) {
            return Ok(());
        }
        // SAFETY: a table that a compiler wrote.
        let name = self.model.variables().get(k).map_or("", |v| unsafe { text(v.name) });
        let message = format!("variable {name:?} is read before it has a value; run what initialises it first");
        Err(Error::new(ErrorKind::from_code(status), message))
    }

    pub(crate) fn assigned(&self, k: usize) {
        if let Some(v) = self.variables.get(k) {
            v.ready.store(true, Ordering::Release);
        }
    }
}

/// Whether a file of weights is the one of so many bytes with this checksum. Its head is compared, the content is not read.
fn belongs(file: &[u8], bytes: usize, crc: usize) -> bool {
    file.len() == bytes && file.starts_with(&WEIGHTS_MAGIC) && file.get(8..16) == Some(&(crc as u64).to_le_bytes()[..])
}

fn first_value(v: &Variable) -> Result<State, Error> {
    let mut memory = Memory::new(v.bytes).ok_or_else(Error::memory)?;
    if !v.init.is_null() {
        // SAFETY: the table says that there are so many bytes.
        memory.bytes_mut().copy_from_slice(unsafe { core::slice::from_raw_parts(v.init, v.bytes) });
    }
    Ok(State { memory, ready: AtomicBool::new(!v.init.is_null()) })
}

/// A lock on the state; the standard library has none for this crate.
struct Lock(UnsafeCell<libc::pthread_mutex_t>);

pub(crate) struct Held<'a>(&'a Lock);

impl Lock {
    const fn new() -> Lock {
        Lock(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER))
    }

    fn hold(&self) -> Held<'_> {
        // SAFETY: initialised, and an `Instance` that is in use does not move: calls borrow it.
        unsafe { libc::pthread_mutex_lock(self.0.get()) };
        Held(self)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: locked by `hold` on this thread.
        unsafe { libc::pthread_mutex_unlock(self.0.0.get()) };
    }
}
