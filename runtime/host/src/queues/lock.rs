//! Locks that a graph takes and gives back.

use super::Monitor;
use crate::call::Call;
use crate::error::invalid;
use crate::value::Value;
use crate::{Result, Table};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) const TABLE: Table = &[("MutexV2", make), ("MutexLock", lock), ("ConsumeMutexLock", consume)];

/// True while somebody holds it.
struct Lock(Monitor<bool>);

/// The right to be in; whoever drops it last gives it back.
struct Guard {
    lock: Arc<Lock>,
    released: AtomicBool,
}

impl Guard {
    fn release(&self) {
        if !self.released.swap(true, Ordering::Relaxed) {
            *self.lock.0.lock() = false;
            self.lock.0.notify();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.release();
    }
}

fn make(call: &Call) -> Result {
    Ok(vec![call.shared("mutex", || Ok(Lock(Monitor::new(false))))?])
}

fn lock(call: &Call) -> Result {
    let lock = call.object::<Lock>(0)?;
    lock.0.wait(call.step, |held| Ok((!std::mem::replace(held, true)).then_some(())))?;
    Ok(vec![Value::variant(Guard { lock, released: AtomicBool::new(false) })])
}

fn consume(call: &Call) -> Result {
    call.variant_of::<Guard>(0).map_err(|_| invalid("expected input to contain a mutex lock"))?.release();
    Ok(Vec::new())
}
