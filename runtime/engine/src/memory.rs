//! Memory as compiled code wants it.

use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::ptr::{self, NonNull};
use graphc_abi::{ALIGN, TAIL_BYTES};

/// From this size on, memory is mapped: its pages are zero without being written, and exist once they are touched.
const MAPPED: usize = 1 << 20;

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
        let start = if len < MAPPED {
            // SAFETY: the layout has at least the tail.
            unsafe { alloc_zeroed(layout) }
        } else {
            map(layout.size())?
        };
        Some(Memory { start: NonNull::new(start)?, len, layout })
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
        // SAFETY: allocated or mapped by `new` with this layout.
        unsafe {
            match self.len < MAPPED {
                true => dealloc(self.start.as_ptr(), self.layout),
                false => drop(libc::munmap(self.start.as_ptr().cast(), self.layout.size())),
            }
        }
    }
}

/// New pages, huge ones where there is room for some; without those everything works, only slower.
fn map(bytes: usize) -> Option<*mut u8> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
    // SAFETY: a new mapping, which nothing else refers to.
    let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return None;
    }
    #[cfg(target_os = "linux")]
    if bytes >= 4 << 20 {
        // SAFETY: the mapping; the advice changes none of its content.
        unsafe { libc::madvise(start, bytes, libc::MADV_HUGEPAGE) };
    }
    Some(start.cast())
}
