//! The values of a run.

use crate::device::DeviceName;
use graphc_frontend::Value as Port;
use graphc_host::Value;
use graphc_ir::Tensor;
use hashbrown::HashMap;
use std::sync::{Mutex, MutexGuard};

/// The values of a run that are there, for all threads that run its parts.
#[derive(Default)]
pub struct Env(Mutex<Values>);

#[derive(Default)]
struct Values {
    /// By what makes them; in the host's memory, or, where control flow hands them on, anywhere.
    here: HashMap<Port, Value>,
    /// On a device.
    there: HashMap<(Port, DeviceName), Tensor>,
    /// On their way between devices, as bf16.
    narrow: HashMap<Port, Tensor>,
}

impl Env {
    pub fn of(values: impl Iterator<Item = (Port, Value)>) -> Env {
        Env(Mutex::new(Values { here: values.collect(), ..Values::default() }))
    }

    fn values(&self) -> MutexGuard<'_, Values> {
        super::locked(&self.0)
    }

    pub fn get(&self, v: Port) -> Option<Value> {
        self.values().here.get(&v).cloned()
    }

    pub fn insert(&self, v: Port, value: Value) {
        self.values().here.insert(v, value);
    }

    /// The value on a device.
    pub fn on(&self, v: Port, device: DeviceName) -> Option<Tensor> {
        self.values().there.get(&(v, device)).cloned()
    }

    /// The value on any device.
    pub fn anywhere(&self, v: Port) -> Option<Tensor> {
        self.values().there.iter().find(|((p, _), _)| *p == v).map(|(_, t)| t.clone())
    }

    pub fn insert_on(&self, v: Port, device: DeviceName, t: Tensor) {
        self.values().there.insert((v, device), t);
    }

    pub fn narrow(&self, v: Port) -> Option<Tensor> {
        self.values().narrow.get(&v).cloned()
    }

    pub fn insert_narrow(&self, v: Port, t: Tensor) {
        self.values().narrow.insert(v, t);
    }
}
