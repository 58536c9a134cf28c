//! Memory as compiled code wants it.

use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::ptr::NonNull;
use graphc_abi::{ALIGN, TAIL_BYTES};

/// Zeroed bytes, aligned to [`ALIGN`], with [`TAIL_BYTES`] readable bytes behind them.
pub struct Memory {
    start: NonNull<u8>,
    len: usize,
    layout: Layout,
}

// SAFETY: a `Memory` owns its bytes like a `Vec<u8>`.
unsafe impl Send for Memory {}
// SAFETY: shared access only reads the address.
unsafe impl Sync for Memory {}

impl Memory {
    /// `None` if the size overflows or the system has no such memory.
    pub fn new(len: usize) -> Option<Memory> {
        let layout = Layout::from_size_align(len.checked_add(TAIL_BYTES)?, ALIGN).ok()?;
        // SAFETY: the layout has at least the tail.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        advise_huge(start.as_ptr(), len);
        Some(Memory { start, len, layout })
    }

    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Bytes, without the tail.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes that this owns.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, borrowed mutably.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// Asks for huge pages where there is room for some; without them everything works, only slower.
fn advise_huge(start: *mut u8, len: usize) {
    #[cfg(target_os = "linux")]
    {
        const HUGE: usize = 2 << 20;
        const PAGE: usize = 4096;
        if len >= 2 * HUGE {
            let skip = start.align_offset(PAGE);
            // SAFETY: whole pages inside the memory; the advice changes none of its content.
            unsafe { libc::madvise(start.add(skip).cast(), (len - skip) & !(PAGE - 1), libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, len);
}
