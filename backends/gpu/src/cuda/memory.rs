//! Streams, and memory that belongs to them.

use super::device::{Device, done};
use crate::error::GpuError;
use crate::run::{Mapped, Memory, Purpose, allocated};
use cudarc::driver::sys::{self, CUdeviceptr, CUstream};
use std::ptr::NonNull;
use std::sync::Arc;

/// A stream: what is put into it runs in its order.
pub struct Stream {
    pub(super) device: Arc<Device>,
    pub(super) stream: CUstream,
}

// SAFETY: the driver takes calls for a stream from any thread.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    pub fn new(device: &Arc<Device>) -> Result<Stream, GpuError> {
        device.enter()?;
        let mut stream = std::ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the pointer is valid for the call.
        done("cuStreamCreate", unsafe { sys::cuStreamCreate(&mut stream, flags) })?;
        Ok(Stream { device: device.clone(), stream })
    }

    /// Waits for all that was put into it.
    pub fn wait(&self) -> Result<(), GpuError> {
        // SAFETY: the stream is alive.
        done("cuStreamSynchronize", unsafe { sys::cuStreamSynchronize(self.stream) })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Errors here have been told of where what failed was waited for.
        let _ = self.device.enter();
        // SAFETY: the stream is alive; the driver ends what is left in it first.
        unsafe { sys::cuStreamDestroy_v2(self.stream) };
    }
}

/// Memory of the device, or of the host where the device copies from and to it.
pub struct Buffer {
    stream: Arc<Stream>,
    /// Where kernels and copies find it.
    pub(super) at: CUdeviceptr,
    /// Pinned memory of the host.
    host: Option<Mapped>,
}

impl Buffer {
    /// A buffer of at least `bytes` bytes, of unknown content.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn new(stream: &Arc<Stream>, bytes: u64, purpose: Purpose) -> Result<Buffer, GpuError> {
        stream.device.enter()?;
        let bytes = allocated(bytes);
        let size = usize::try_from(bytes).map_err(|_| GpuError::Lacks(format!("{bytes} bytes of memory")))?;
        let mut made = Buffer { stream: stream.clone(), at: 0, host: None };
        match purpose {
            Purpose::Device if stream.device.pools => {
                // SAFETY: the pointer is valid for the call, and the stream is alive.
                done("cuMemAllocAsync", unsafe { sys::cuMemAllocAsync(&mut made.at, size, stream.stream) })?;
            }
            // SAFETY: the pointer is valid for the call.
            Purpose::Device => done("cuMemAlloc", unsafe { sys::cuMemAlloc_v2(&mut made.at, size) })?,
            Purpose::Host => {
                let mut at = std::ptr::null_mut();
                let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
                // SAFETY: the pointer is valid for the call.
                done("cuMemHostAlloc", unsafe { sys::cuMemHostAlloc(&mut at, size, flags) })?;
                // SAFETY: pinned memory is as long as was asked for and lives as long as the buffer.
                made.host = NonNull::new(at.cast()).map(|p| unsafe { Mapped::new(p, bytes) });
                // Addresses are the same on both sides.
                made.at = at.addr() as CUdeviceptr;
            }
        }
        Ok(made)
    }
}

impl Memory for Buffer {
    fn mapped(&self) -> &Option<Mapped> {
        &self.host
    }

    fn mapped_mut(&mut self) -> &mut Option<Mapped> {
        &mut self.host
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let _ = self.stream.device.enter();
        // SAFETY: the memory was allocated by the function that its branch belongs to, runs that use it have ended, and its stream is alive.
        unsafe {
            match &self.host {
                Some(p) => sys::cuMemFreeHost(p.at().as_ptr().cast()),
                None if self.at == 0 => return,
                None if self.stream.device.pools => sys::cuMemFreeAsync(self.at, self.stream.stream),
                None => sys::cuMemFree_v2(self.at),
            };
        }
    }
}
