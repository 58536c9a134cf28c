//! Streams, and memory that belongs to them.

use super::device::{Device, done};
use crate::error::GpuError;
use crate::run::{Memory, Purpose};
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
    bytes: u64,
    /// Pinned memory of the host.
    host: Option<NonNull<u8>>,
}

// SAFETY: the memory is the buffer's alone; it is written through `&mut self`.
unsafe impl Send for Buffer {}
// SAFETY: shared access reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// A buffer of at least `bytes` bytes, of unknown content.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn new(stream: &Arc<Stream>, bytes: u64, purpose: Purpose) -> Result<Buffer, GpuError> {
        stream.device.enter()?;
        // Never none.
        let bytes = bytes.max(16).next_multiple_of(16);
        let size = usize::try_from(bytes).map_err(|_| GpuError::Lacks(format!("{bytes} bytes of memory")))?;
        let mut made = Buffer { stream: stream.clone(), at: 0, bytes, host: None };
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
                made.host = NonNull::new(at.cast());
                // Addresses are the same on both sides.
                made.at = at.addr() as CUdeviceptr;
            }
        }
        Ok(made)
    }
}

impl Memory for Buffer {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn host(&self) -> Option<&[u8]> {
        // SAFETY: pinned memory is as long as the buffer and lives as long.
        self.host.map(|p| unsafe { std::slice::from_raw_parts(p.as_ptr(), self.bytes as usize) })
    }

    fn host_mut(&mut self) -> Option<&mut [u8]> {
        // SAFETY: as for `host`, and `self` is borrowed alone.
        self.host.map(|p| unsafe { std::slice::from_raw_parts_mut(p.as_ptr(), self.bytes as usize) })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let _ = self.stream.device.enter();
        // SAFETY: the memory was allocated by the function that its branch belongs to, runs that use it have ended, and its stream is alive.
        unsafe {
            match self.host {
                Some(p) => sys::cuMemFreeHost(p.as_ptr().cast()),
                None if self.at == 0 => return,
                None if self.stream.device.pools => sys::cuMemFreeAsync(self.at, self.stream.stream),
                None => sys::cuMemFree_v2(self.at),
            };
        }
    }
}
