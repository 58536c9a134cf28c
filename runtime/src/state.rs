//! Variables of a session.

use crate::memory::Block;
use graphc_ir::Module;
use std::collections::HashMap;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The variables of a session by name, shared by all its programs.
#[derive(Default)]
pub struct Variables {
    by_name: Mutex<HashMap<String, Arc<Variable>>>,
    /// Held for reading by runs that only read variables, for writing by those that write one.
    order: RwLock<()>,
}

struct Variable {
    memory: Mutex<Block>,
}

/// The variables of one program, in the order of its module.
pub struct VarPointers {
    variables: Vec<Arc<Variable>>,
    pointers: Vec<*mut u8>,
    writes: bool,
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

impl VarPointers {
    /// Finds the variables of `module` in the session, making those that are new from their initial values. `None` if one has no
    /// constant shape or is too large.
    pub fn new(module: &Module, session: &Variables, writes: bool) -> Option<VarPointers> {
        let mut by_name = session.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let mut variables = Vec::with_capacity(module.vars.len());
        for var in &module.vars {
            if let Some(v) = by_name.get(&var.name) {
                variables.push(v.clone());
                continue;
            }
            let shape = var.ty.const_shape()?;
            let bytes = shape.iter().try_fold(var.ty.elem.size(), |n, &d| n.checked_mul(d))?;
            let mut block = Block::new(bytes)?;
            if let Some(t) = var.init.as_ref().filter(|t| t.bytes().len() == bytes) {
                block.bytes_mut().copy_from_slice(t.bytes());
            }
            let v = Arc::new(Variable { memory: Mutex::new(block) });
            by_name.insert(var.name.clone(), v.clone());
            variables.push(v);
        }
        let pointers = variables.iter().map(|v| v.memory.lock().unwrap_or_else(PoisonError::into_inner).as_mut_ptr()).collect();
        Some(VarPointers { variables, pointers, writes })
    }

    pub fn is_empty(&self) -> bool {
        self.variables.is_empty()
    }

    pub fn lock<'a>(&'a self, session: &'a Variables) -> VarGuard<'a> {
        let held = match (self.is_empty(), self.writes) {
            (true, _) => Held::Nothing,
            (false, true) => Held::Write(session.order.write().unwrap_or_else(PoisonError::into_inner)),
            (false, false) => Held::Read(session.order.read().unwrap_or_else(PoisonError::into_inner)),
        };
        VarGuard { vars: self, _held: held }
    }
}
