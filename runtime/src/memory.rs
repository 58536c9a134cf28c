//! Memory that compiled code works in: arenas, scratch and outputs, aligned as the ABI demands.

use graphc_abi::{ALIGN, TAIL_BYTES};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// From this size on, memory is asked for in huge pages.
const HUGE: usize = 2 << 20;

/// Zeroed bytes, aligned to `ALIGN`, with `TAIL_BYTES` readable bytes behind them.
pub struct Block {
    ptr: NonNull<u8>,
    len: usize,
    layout: Layout,
}

// SAFETY: a `Block` owns its memory like a `Vec<u8>`.
unsafe impl Send for Block {}
// SAFETY: shared access only reads the pointer.
unsafe impl Sync for Block {}

impl Block {
    /// `None` if the size overflows, or the system has no such memory: what a graph asks for is not trusted.
    pub fn new(len: usize) -> Option<Block> {
        let align = if len >= HUGE { HUGE } else { ALIGN };
        let layout = Layout::from_size_align(len.checked_add(TAIL_BYTES)?, align).ok()?;
        // SAFETY: the layout is not empty.
        let ptr = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        #[cfg(target_os = "linux")]
        if len >= HUGE {
            // SAFETY: advice on memory just allocated; a refusal changes nothing.
            unsafe { libc::madvise(ptr.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
        }
        Some(Block { ptr, len, layout })
    }

    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes that this block owns.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }

    /// Makes room for `len` bytes; what was there is lost if it must grow. `None` as for [`Block::new`].
    pub fn reserve(&mut self, len: usize) -> Option<()> {
        if len > self.len {
            *self = Block::new(len)?;
        }
        Some(())
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`.
        unsafe { dealloc(self.ptr.as_ptr(), self.layout) }
    }
}
