//! Values on GPUs that come from elsewhere.

use crate::error::{Error, Result};
use crate::resident::Resident;
use graphc_gpu::{DeviceValue, GpuError};
use graphc_ir::Tensor;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

fn failed(e: GpuError) -> Error {
    Error::Device(e.to_string())
}

/// Memory on devices for values that come from elsewhere, by what comes; used again once nobody has it.
pub struct Landings<K>(Mutex<HashMap<K, Vec<DeviceValue>>>);

impl<K> Default for Landings<K> {
    fn default() -> Landings<K> {
        Landings(Mutex::default())
    }
}

impl<K: Eq + Hash> Landings<K> {
    /// A tensor of the device where it is wanted.
    ///
    /// # Errors
    /// If there is no memory for it, or a driver fails.
    pub fn land(&self, key: K, t: &Tensor, on: &graphc_gpu::Device) -> Result<Tensor> {
        if t.owner::<Resident>().is_some_and(|r| on.holds(&r.value)) {
            return Ok(t.clone());
        }
        let bytes = t.bytes_len();
        let to = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let known = all.entry(key).or_default();
            // What was for other sizes makes room.
            known.retain(|v| v.bytes() == bytes || !v.is_unused());
            match known.iter().find(|v| v.is_unused()) {
                Some(v) => v.clone(),
                None => {
                    let made = on.value(bytes).map_err(failed)?;
                    known.push(made.clone());
                    made
                }
            }
        };
        match t.owner::<Resident>() {
            Some(from) => to.copy_from(&from.value),
            None => to.write(t.bytes()),
        }
        .map_err(failed)?;
        Resident::over(to, t.elem(), t.shape().to_vec()).ok_or(Error::Memory)
    }

    /// Gives memory that nobody uses back.
    pub fn trim(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
