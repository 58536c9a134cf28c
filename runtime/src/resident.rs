//! Values in the memory of a device: results of parts that later parts read there, and copies of variables.

use crate::error::Result;
use crate::memory::Block;
use graphc_ir::Tensor;

#[cfg(feature = "gpu-driver")]
pub use on_devices::{Copies, Resident};

/// The tensor with its elements in the host's memory.
///
/// # Errors
/// If a device has them and does not give them.
#[cfg(feature = "gpu-driver")]
pub fn fetched(t: Tensor) -> Result<Tensor> {
    match t.owner::<Resident>() {
        Some(r) => r.tensor(&t),
        None => Ok(t),
    }
}

/// The tensor: there are no devices.
#[cfg(not(feature = "gpu-driver"))]
pub fn fetched(t: Tensor) -> Result<Tensor> {
    Ok(t)
}

/// Copies of a variable on devices: there are none.
#[cfg(not(feature = "gpu-driver"))]
#[derive(Default)]
pub struct Copies;

#[cfg(not(feature = "gpu-driver"))]
impl Copies {
    pub fn fetch(&mut self, _: &mut Block, _: usize) -> Result<()> {
        Ok(())
    }

    pub fn host_changed(&mut self) {}
}

#[cfg(feature = "gpu-driver")]
mod on_devices {
    use super::*;
    use crate::error::Error;
    use graphc_gpu::{DeviceValue, GpuError, Run};
    use graphc_ir::{Buffer, Data};
    use std::sync::{Arc, Mutex, OnceLock, PoisonError};

    fn failed(e: GpuError) -> Error {
        Error::Device(e.to_string())
    }

    /// The elements of a tensor on a device; in the host's memory too, once they were asked for there.
    pub struct Resident {
        pub value: DeviceValue,
        host: OnceLock<Arc<Vec<u8>>>,
        /// Held by who copies them.
        copying: Mutex<()>,
    }

    /// For who reads a tensor without [`fetched`], which tells of errors: here a value that is lost is zeros.
    impl AsRef<[u8]> for Resident {
        fn as_ref(&self) -> &[u8] {
            match self.fetch() {
                Ok(bytes) => bytes,
                Err(_) => self.host.get_or_init(|| Arc::new(vec![0; self.value.bytes()])),
            }
        }
    }

    impl Resident {
        /// A tensor over a device's memory; `None` if that is not as large as the tensor.
        pub fn over(value: DeviceValue, elem: graphc_ir::Elem, shape: Vec<usize>) -> Option<Tensor> {
            let bytes = value.bytes();
            let resident = Resident { value, host: OnceLock::new(), copying: Mutex::new(()) };
            Tensor::elsewhere(elem, shape, bytes, Arc::new(resident))
        }

        fn fetch(&self) -> Result<&Arc<Vec<u8>>> {
            let _one = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(bytes) = self.host.get() {
                return Ok(bytes);
            }
            let mut bytes = vec![0; self.value.bytes()];
            self.value.read(&mut bytes).map_err(failed)?;
            Ok(self.host.get_or_init(|| Arc::new(bytes)))
        }

        pub fn tensor(&self, t: &Tensor) -> Result<Tensor> {
            let bytes = Data::Bytes(Buffer::new(self.fetch()?.clone()));
            Tensor::new(t.elem(), t.shape().to_vec(), bytes).ok_or(Error::Memory)
        }
    }

    /// Where a variable's value is, besides the host.
    #[derive(Default)]
    pub struct Copies {
        /// Whether the host's is not the last one: then one of the copies is.
        host_is_old: bool,
        /// Each with whether it is the last one.
        copies: Vec<(DeviceValue, bool)>,
    }

    impl Copies {
        /// The variable on the device of `x`, with its last value.
        ///
        /// # Errors
        /// If the device has no memory for it, or the driver fails.
        pub fn on(&mut self, x: &dyn Run, host: &mut Block, bytes: usize) -> Result<DeviceValue> {
            let at = match self.copies.iter().position(|(v, _)| x.holds(v)) {
                Some(at) => at,
                None => {
                    self.copies.push((x.value(bytes).map_err(failed)?, false));
                    self.copies.len() - 1
                }
            };
            if !self.copies[at].1 {
                self.fetch(host, bytes)?;
                let (copy, last) = &mut self.copies[at];
                let from = host.bytes().get(..bytes).ok_or(Error::Memory)?;
                copy.write(from).map_err(failed)?;
                copy.rest();
                *last = true;
            }
            Ok(self.copies[at].0.clone())
        }

        /// From now on the value on the device of `x` is the last one.
        pub fn assigned_on(&mut self, x: &dyn Run) {
            self.host_is_old = true;
            self.copies.iter_mut().for_each(|(v, last)| *last = x.holds(v));
        }

        /// Brings the last value to the host.
        ///
        /// # Errors
        /// Those of the driver.
        pub fn fetch(&mut self, host: &mut Block, bytes: usize) -> Result<()> {
            if let (true, Some((copy, _))) = (self.host_is_old, self.copies.iter().find(|(_, last)| *last)) {
                copy.read(host.bytes_mut().get_mut(..bytes).ok_or(Error::Memory)?).map_err(failed)?;
                copy.rest();
                self.host_is_old = false;
            }
            Ok(())
        }

        /// From now on the host's value is the last one.
        pub fn host_changed(&mut self) {
            self.host_is_old = false;
            self.copies.iter_mut().for_each(|(_, last)| *last = false);
        }
    }
}
