//! Memory that compiled code works in: arenas, scratch and outputs, aligned as the ABI demands.

use graphc_abi::{ALIGN, TAIL_BYTES};
use graphc_cpu::pages::{self, Pages};
use memmap2::MmapMut;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// From this size on, memory is mapped: its pages are zero without being written, and exist once they are touched.
const MAPPED: usize = 1 << 20;

/// Zeroed bytes, aligned to `ALIGN`, with `TAIL_BYTES` readable bytes behind them.
pub struct Block {
    ptr: NonNull<u8>,
    len: usize,
    owner: Owner,
}

enum Owner {
    Heap(Layout),
    Mapping {
        map: MmapMut,
        from: usize,
        /// Whether the system was told that huge pages are wanted.
        gathered: bool,
    },
}

// SAFETY: a `Block` owns its memory like a `Vec<u8>`.
unsafe impl Send for Block {}
// SAFETY: shared access only reads the pointer.
unsafe impl Sync for Block {}

impl Block {
    /// `None` if the size overflows, or the system has no such memory: what a graph asks for is not trusted.
    pub fn new(len: usize) -> Option<Block> {
        let whole = len.checked_add(TAIL_BYTES)?;
        if len < MAPPED {
            let layout = Layout::from_size_align(whole, ALIGN).ok()?;
            // SAFETY: the layout is not empty.
            let ptr = NonNull::new(unsafe { alloc_zeroed(layout) })?;
            return Some(Block { ptr, len, owner: Owner::Heap(layout) });
        }
        let (mut map, from) = pages::map(whole).ok()?;
        let ptr = NonNull::new(map[from..].as_mut_ptr())?;
        Some(Block { ptr, len, owner: Owner::Mapping { map, from, gathered: false } })
    }

    /// To be called once a run has written what it writes: tells the system that huge pages would do.
    pub fn written(&mut self) {
        if let Owner::Mapping { map, gathered, .. } = &mut self.owner
            && !std::mem::replace(gathered, true)
        {
            pages::gather(map);
        }
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

    /// Makes room for `len` bytes, all of which will be written; what was there is lost if it must grow. `None` as for [`Block::new`].
    pub fn reserve(&mut self, len: usize) -> Option<()> {
        if len > self.len {
            *self = Block::new(len)?;
            if let Owner::Mapping { map, from, .. } = &self.owner {
                // SAFETY: a byte of the mapping, which nobody else has seen.
                Pages::new(map, *from, len).prepare(0..len, &mut |at| unsafe { self.ptr.add(at).write(0) });
            }
        }
        Some(())
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Owner::Heap(layout) = self.owner {
            // SAFETY: allocated with this layout in `new`.
            unsafe { dealloc(self.ptr.as_ptr(), layout) }
        }
    }
}
