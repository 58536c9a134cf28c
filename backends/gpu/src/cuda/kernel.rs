//! Kernels as modules of the driver, which assembles their PTX.

use super::device::{Device, done};
use crate::code::Code;
use crate::error::GpuError;
use cudarc::driver::sys::{self, CUfunction, CUjit_option as Jit, CUmodule};
use std::ffi::CString;
use std::sync::Arc;

/// A kernel that is ready to be launched.
pub struct Kernel {
    device: Arc<Device>,
    module: CUmodule,
    pub(super) function: CUfunction,
    pub(super) threads: u32,
    /// Bytes of memory for each workgroup beside what the code declares.
    pub(super) shared: u32,
}

// SAFETY: the driver takes calls for a module from any thread.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

impl Drop for Kernel {
    fn drop(&mut self) {
        let _ = self.device.enter();
        // SAFETY: no run uses it any more.
        unsafe { sys::cuModuleUnload(self.module) };
    }
}

impl Kernel {
    /// # Errors
    /// If the driver does not take the kernel, with what its assembler says.
    pub fn new(device: &Arc<Device>, code: &Code) -> Result<Kernel, GpuError> {
        device.enter()?;
        let nul = |_| GpuError::Lacks("kernels with a NUL".into());
        // Machine code is a file that says how long it is; text ends with a NUL.
        let machine_code = code.bytes.starts_with(b"\x7fELF");
        let text = if machine_code { CString::default() } else { CString::new(code.bytes.as_slice()).map_err(nul)? };
        let image: *const std::ffi::c_void = if machine_code { code.bytes.as_ptr().cast() } else { text.as_ptr().cast() };
        let name = CString::new(code.entry.as_str()).map_err(nul)?;
        let mut said = vec![0u8; 4096];
        let mut options = [Jit::CU_JIT_ERROR_LOG_BUFFER, Jit::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        // Numbers are passed as pointers.
        let mut values = [said.as_mut_ptr().cast(), std::ptr::without_provenance_mut(said.len() - 1)];
        let (mut module, mut function) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: all pointers are valid for the call, there are as many options as values, and the log is as long as is said.
        let loaded = unsafe { sys::cuModuleLoadDataEx(&mut module, image, 2, options.as_mut_ptr(), values.as_mut_ptr()) };
        done("cuModuleLoadDataEx", loaded).map_err(|e| {
            let log: Vec<u8> = said.iter().copied().take_while(|&c| c != 0).collect();
            match e {
                GpuError::Driver { call, why, node } if !log.is_empty() => {
                    GpuError::Driver { call, why: format!("{why}: {}", String::from_utf8_lossy(&log).trim()), node }
                }
                e => e,
            }
        })?;
        let mut made = Kernel { device: device.clone(), module, function, threads: code.threads, shared: code.shared };
        // SAFETY: the module was loaded, and the name is a string.
        done("cuModuleGetFunction", unsafe { sys::cuModuleGetFunction(&mut function, made.module, name.as_ptr()) })?;
        made.function = function;
        if code.shared > 0 {
            let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is of the module that was loaded.
            done("cuFuncSetAttribute", unsafe { sys::cuFuncSetAttribute(function, most, code.shared as i32) })?;
        }
        Ok(made)
    }
}
