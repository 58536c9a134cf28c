//! Variables of a session.

use crate::error::Result;
use crate::memory::Block;
use crate::resident::Copies;
use graphc_host::Value;
use graphc_ir::{Elem, Tensor, TfStatus, Var};
use hashbrown::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The variables of a session by name, shared by all its programs.
#[derive(Default)]
pub struct Variables {
    by_name: Mutex<HashMap<String, Arc<Variable>>>,
    /// Values of variables that no compiled code holds: of strings, of variants, or of a shape that each assignment may change.
    loose: Mutex<HashMap<String, Value>>,
    /// Held for reading by runs that only read variables, for writing by those that write one.
    order: RwLock<()>,
}

struct Variable {
    name: String,
    elem: Elem,
    shape: Vec<usize>,
    memory: Mutex<Block>,
    /// Those on devices.
    copies: Mutex<Copies>,
    /// Whether it has a value.
    ready: AtomicBool,
}

/// Which variables of a module its code reads before it assigns them, and which it assigns.
#[derive(Clone, Default)]
pub struct VarUses {
    pub read_first: Vec<(usize, TfStatus)>,
    /// Those that only a branch reads or assigns: whether a run does, only a run by branches tells.
    pub maybe: Vec<usize>,
    pub assigned: Vec<usize>,
}

/// The variables of one program, in the order of its module.
pub struct VarPointers {
    variables: Vec<Arc<Variable>>,
    pointers: Vec<*mut u8>,
    uses: VarUses,
}

// SAFETY: the pointers are those of `variables`, which live as long; access is ordered by `Variables::order`.
unsafe impl Send for VarPointers {}
// SAFETY: as above.
unsafe impl Sync for VarPointers {}

/// Keeps other runs off the variables for the time of a run.
pub struct VarGuard<'a> {
    vars: &'a VarPointers,
    _held: Held<'a>,
}

/// The lock of a run; held, never looked at.
#[expect(dead_code)]
enum Held<'a> {
    Nothing,
    Read(RwLockReadGuard<'a, ()>),
    Write(RwLockWriteGuard<'a, ()>),
}

impl VarGuard<'_> {
    pub fn pointers(&self) -> *const *mut u8 {
        if self.vars.is_empty() { ptr::null() } else { self.vars.pointers.as_ptr() }
    }
}

impl Variable {
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.elem.size()
    }

    /// Does something with the copies on devices and the host's.
    fn with_copies<R>(&self, f: impl FnOnce(&mut Copies, &mut Block) -> R) -> R {
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        f(&mut copies, &mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Brings the last value to the host, if a device has it.
    fn to_host(&self) -> Result<()> {
        self.with_copies(|c, host| c.fetch(host, self.bytes()))
    }

    /// The host has the last value, and nobody else.
    fn host_changed(&self) {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner).host_changed();
    }
}

/// Why a value could not be assigned.
pub enum Refused {
    /// Code holds the variable with another type or shape.
    Type(Elem, Vec<usize>),
    Memory,
}

impl Variables {
    /// A copy of a variable's value; `None` if the session has none.
    ///
    /// # Errors
    /// If a device has it and does not give it.
    pub fn read(&self, name: &str) -> Result<Option<Value>> {
        if let Some(t) = self.loose.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(Some(t.clone()));
        }
        let known = self.by_name.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let Some(v) = known else { return Ok(None) };
        let _order = self.order.read().unwrap_or_else(PoisonError::into_inner);
        if !v.ready.load(Ordering::Acquire) {
            return Ok(None);
        }
        v.to_host()?;
        let bytes = v.memory.lock().unwrap_or_else(PoisonError::into_inner).bytes().to_vec();
        Ok(Tensor::from_bytes(v.elem, v.shape.clone(), bytes).map(Value::Tensor))
    }

    /// Replaces a variable's value, where compiled code looks for it if there is any.
    ///
    /// # Errors
    /// If compiled code holds it with another type or shape.
    pub fn assign(&self, name: &str, value: Value) -> std::result::Result<(), Refused> {
        let Some(v) = self.by_name.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned() else {
            self.loose.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), value);
            return Ok(());
        };
        let _order = self.order.write().unwrap_or_else(PoisonError::into_inner);
        let mut memory = v.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let value = match value {
            Value::Tensor(t) if v.elem == t.elem() && v.shape == t.shape() => t,
            _ => return Err(Refused::Type(v.elem, v.shape.clone())),
        };
        let room = memory.bytes_mut().get_mut(..value.bytes().len()).ok_or(Refused::Memory)?;
        room.copy_from_slice(value.bytes());
        drop(memory);
        v.host_changed();
        v.ready.store(true, Ordering::Release);
        Ok(())
    }

    /// Gives every variable the value that `first` has for it, and none where it has none.
    pub fn reset(&self, first: impl Fn(&str) -> Option<Tensor>) {
        self.loose.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let all: Vec<_> = self.by_name.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let _order = self.order.write().unwrap_or_else(PoisonError::into_inner);
        for v in all {
            let value = first(&v.name).filter(|t| t.elem() == v.elem && t.shape() == v.shape);
            let mut memory = v.memory.lock().unwrap_or_else(PoisonError::into_inner);
            match value.as_ref().and_then(|t| Some((memory.bytes_mut().get_mut(..t.bytes().len())?, t))) {
                Some((room, t)) => room.copy_from_slice(t.bytes()),
                None => memory.bytes_mut().fill(0),
            }
            drop(memory);
            v.host_changed();
            v.ready.store(value.is_some(), Ordering::Release);
        }
    }

    /// Forgets a variable's value; false if it had none.
    pub fn forget(&self, name: &str) -> bool {
        let loose = self.loose.lock().unwrap_or_else(PoisonError::into_inner).remove(name).is_some();
        let known = self.by_name.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        known.is_some_and(|v| v.ready.swap(false, Ordering::AcqRel)) || loose
    }
}

impl VarPointers {
    /// Of a program without variables.
    pub fn none() -> VarPointers {
        VarPointers { variables: Vec::new(), pointers: Vec::new(), uses: VarUses::default() }
    }

    /// Finds variables in the session, making those that are new from their initial values. `None` if one has no
    /// constant shape or is too large.
    pub fn new(vars: &[Var], session: &Variables, uses: VarUses) -> Option<VarPointers> {
        let mut by_name = session.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let mut variables = Vec::with_capacity(vars.len());
        for var in vars {
            if let Some(v) = by_name.get(&var.name) {
                variables.push(v.clone());
                continue;
            }
            let shape = var.ty.const_shape()?;
            let bytes = shape.iter().try_fold(var.ty.elem.size(), |n, &d| n.checked_mul(d))?;
            let mut block = Block::new(bytes)?;
            // What a host function assigned before any code knew the variable is newer than its first value.
            let loose = session.loose.lock().unwrap_or_else(PoisonError::into_inner).remove(&var.name);
            let loose = loose.filter(|t| t.elem() == var.ty.elem && t.shape() == shape);
            let init = loose.as_ref().and_then(Value::as_tensor).or(var.init.as_ref()).filter(|t| t.bytes().len() == bytes);
            if let Some(t) = init {
                block.bytes_mut().copy_from_slice(t.bytes());
            }
            let ready = AtomicBool::new(init.is_some());
            let elem = var.ty.elem;
            let v = Arc::new(Variable {
                name: var.name.clone(),
                elem,
                shape,
                memory: Mutex::new(block),
                copies: Mutex::default(),
                ready,
            });
            by_name.insert(var.name.clone(), v.clone());
            variables.push(v);
        }
        let pointers = variables.iter().map(|v| v.memory.lock().unwrap_or_else(PoisonError::into_inner).as_mut_ptr()).collect();
        Some(VarPointers { variables, pointers, uses })
    }

    /// The first variable that the code reads and that has no value yet, and how TensorFlow says so.
    pub fn missing(&self) -> Option<(&str, TfStatus)> {
        let (k, status) = self.uses.read_first.iter().find(|(k, _)| self.unready(*k))?;
        Some((&self.variables[*k].name, *status))
    }

    /// The first variable without a value that a branch reads or assigns.
    pub fn uncertain(&self) -> Option<&str> {
        self.uses.maybe.iter().find(|k| self.unready(**k)).map(|&k| self.variables[k].name.as_str())
    }

    fn unready(&self, k: usize) -> bool {
        self.variables.get(k).is_some_and(|v| !v.ready.load(Ordering::Acquire))
    }

    /// Names of the variables, with whether the code assigns each.
    #[cfg(feature = "gpu-driver")]
    pub fn names(&self) -> impl Iterator<Item = (&str, bool)> {
        self.variables.iter().enumerate().map(|(k, v)| (v.name.as_str(), self.uses.assigned.contains(&k)))
    }

    /// Notes that a run assigned what the code assigns.
    pub fn assigned(&self) {
        self.uses.assigned.iter().filter_map(|&k| self.variables.get(k)).for_each(|v| v.ready.store(true, Ordering::Release));
    }

    /// Brings all variables to the host, for code that runs there; what it assigns is there and nowhere else.
    ///
    /// # Errors
    /// If a device has a value and does not give it.
    pub fn to_host(&self) -> Result<()> {
        if cfg!(not(feature = "gpu-driver")) {
            return Ok(());
        }
        self.variables.iter().try_for_each(|v| v.to_host())?;
        self.uses.assigned.iter().filter_map(|&k| self.variables.get(k)).for_each(|v| v.host_changed());
        Ok(())
    }

    /// The variables of a program on its device, with their last values, which are there and nowhere else of those that it assigns.
    ///
    /// # Errors
    /// If there is no memory for one, or a driver fails.
    #[cfg(feature = "gpu-driver")]
    pub fn on(&self, x: &dyn graphc_gpu::Run) -> Result<Vec<graphc_gpu::DeviceValue>> {
        let var = |(k, _): (usize, usize)| {
            let v = self.variables.get(k).ok_or_else(|| crate::error::Error::Device("a variable is missing".into()))?;
            v.with_copies(|c, host| {
                let value = c.on(x, host, v.bytes())?;
                if self.uses.assigned.contains(&k) {
                    c.assigned_on(x);
                }
                Ok(value)
            })
        };
        x.variables().into_iter().map(var).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.variables.is_empty()
    }

    pub fn lock<'a>(&'a self, session: &'a Variables) -> VarGuard<'a> {
        let held = match (self.is_empty(), !self.uses.assigned.is_empty()) {
            (true, _) => Held::Nothing,
            (false, true) => Held::Write(session.order.write().unwrap_or_else(PoisonError::into_inner)),
            (false, false) => Held::Read(session.order.read().unwrap_or_else(PoisonError::into_inner)),
        };
        VarGuard { vars: self, _held: held }
    }
}
