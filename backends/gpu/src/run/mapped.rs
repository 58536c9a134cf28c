//! Memory of buffers as the host sees it, whoever allocated it.

use std::ptr::NonNull;

/// What sizes of buffers are multiples of: words of all sizes, and never none.
const UNIT: u64 = 16;

/// The bytes to allocate for a buffer of `bytes` bytes.
pub fn allocated(bytes: u64) -> u64 {
    bytes.max(UNIT).next_multiple_of(UNIT)
}

/// The content of a buffer, in the address space of the host.
pub struct Mapped {
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory is that of one buffer alone, as `new` demands; it is written through `&mut self`.
unsafe impl Send for Mapped {}
// SAFETY: shared access reads.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// # Safety
    /// From `at` on, `bytes` initialised bytes live as long as the value, and nobody else on the host touches them.
    pub unsafe fn new(at: NonNull<u8>, bytes: u64) -> Mapped {
        Mapped { at, bytes: bytes as usize }
    }

    pub fn at(&self) -> NonNull<u8> {
        self.at
    }

    pub fn content(&self) -> &[u8] {
        // SAFETY: as `new` demands.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.bytes) }
    }

    pub fn content_mut(&mut self) -> &mut [u8] {
        // SAFETY: as `new` demands, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.bytes) }
    }
}
