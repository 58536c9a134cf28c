//! The allocator of the program: small blocks come from lists of the thread, by size.
//!
//! Reading and compiling a graph makes and drops some hundred thousand small blocks, for which this takes a fraction of the time that the
//! system's allocator takes. Large blocks are the system's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::{NonNull, null_mut};

/// Sizes are rounded up to a multiple of this, which is the alignment of all small blocks.
const STEP: usize = 16;
/// The size of the largest small block.
const LARGEST: usize = 512;
const CLASSES: usize = LARGEST / STEP;
/// Bytes that are taken from the system at once.
const CHUNK: usize = 64 << 10;

pub struct Heap;

/// What a thread has at hand.
struct Local {
    /// Free blocks of each size; each holds the address of the next.
    free: [Cell<*mut u8>; CLASSES],
    /// What is left of the last chunk.
    rest: Cell<*mut u8>,
    bytes: Cell<usize>,
}

thread_local! {
    // Made without code and never dropped, so that it can be used at any time in the life of a thread.
    static LOCAL: Local = const {
        Local { free: [const { Cell::new(null_mut()) }; CLASSES], rest: Cell::new(null_mut()), bytes: Cell::new(0) }
    };
}

impl Local {
    /// A block of `class`; null if the system has no memory.
    fn take(&self, class: usize) -> *mut u8 {
        let free = &self.free[class];
        if let Some(block) = NonNull::new(free.get()) {
            // SAFETY: a free block begins with the address of the next.
            free.set(unsafe { block.cast::<*mut u8>().read() });
            return block.as_ptr();
        }
        let size = (class + 1) * STEP;
        if self.bytes.get() < size {
            // SAFETY: the layout is not empty.
            let chunk = unsafe { System.alloc(Layout::from_size_align_unchecked(CHUNK, STEP)) };
            if chunk.is_null() {
                return chunk;
            }
            self.rest.set(chunk);
            self.bytes.set(CHUNK);
        }
        let block = self.rest.get();
        // SAFETY: the chunk has `size` more bytes.
        self.rest.set(unsafe { block.add(size) });
        self.bytes.set(self.bytes.get() - size);
        block
    }

    /// # Safety
    /// `block` came from [`Local::take`] of any thread for this class, and nobody uses it.
    unsafe fn give(&self, block: *mut u8, class: usize) {
        // SAFETY: it has room for an address and is aligned for one.
        unsafe { block.cast::<*mut u8>().write(self.free[class].get()) };
        self.free[class].set(block);
    }
}

/// The class of a small block; `None` for others.
fn class(size: usize, align: usize) -> Option<usize> {
    (size <= LARGEST && align <= STEP).then(|| size.div_ceil(STEP).saturating_sub(1))
}

// SAFETY: a block is in one list or in use, never both, and large enough and aligned for its class; all else is the system's.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(layout.size(), layout.align()) {
            Some(class) => LOCAL.with(|l| l.take(class)),
            // SAFETY: the caller's contract.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract; a block's layout tells where it came from.
        unsafe {
            match class(layout.size(), layout.align()) {
                Some(class) => LOCAL.with(|l| l.give(block, class)),
                None => System.dealloc(block, layout),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract; a small block has the bytes of its layout.
        unsafe {
            if class(layout.size(), layout.align()).is_none() {
                return System.alloc_zeroed(layout);
            }
            let block = self.alloc(layout);
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's contract; what is copied is in both blocks.
        unsafe {
            match (class(layout.size(), layout.align()), class(size, layout.align())) {
                (None, None) => System.realloc(block, layout, size),
                (Some(old), Some(new)) if old == new => block,
                _ => {
                    let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
                    if !moved.is_null() {
                        moved.copy_from_nonoverlapping(block, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    moved
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_apart_keep_what_they_hold_and_come_back() {
        let layout = |size, align| Layout::from_size_align(size, align).unwrap();
        let mut blocks = Vec::new();
        for size in [1, 15, 16, 17, 100, 511, 512, 513, 4000] {
            for align in [1, 8, 16, 64] {
                let l = layout(size, align);
                // SAFETY: blocks are written and read inside their layouts and freed once.
                unsafe {
                    let block = Heap.alloc_zeroed(l);
                    assert!(block as usize % align == 0 && (0..size).all(|i| *block.add(i) == 0));
                    block.write_bytes(blocks.len() as u8, size);
                    blocks.push((block, l));
                }
            }
        }
        for (i, (block, l)) in blocks.into_iter().enumerate() {
            for size in [l.size() + 1, 1, 700, l.size()] {
                // SAFETY: as above.
                unsafe {
                    let grown = Heap.realloc(Heap.alloc(l), l, size);
                    Heap.dealloc(grown, layout(size, l.align()));
                }
            }
            // SAFETY: as above.
            unsafe {
                let size = l.size() + 500;
                let moved = Heap.realloc(block, l, size);
                assert!((0..l.size()).all(|k| *moved.add(k) == i as u8));
                Heap.dealloc(moved, layout(size, l.align()));
            }
        }
        let l = layout(40, 8);
        // SAFETY: as above.
        unsafe {
            let first = Heap.alloc(l);
            Heap.dealloc(first, l);
            assert_eq!(Heap.alloc(l), first);
        }
    }
}
