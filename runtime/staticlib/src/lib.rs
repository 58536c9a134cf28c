//! The archive that ahead-of-time objects link: the kernel library, the engine, their C interface (`include/graphc.h`), and the main
//! function of standalone programs. With the feature `stages`, also what runs functions in stages.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

mod api;
mod file;
mod standalone;

pub use graphc_kernels as kernels;

#[cfg(not(feature = "stages"))]
use graphc_engine::Instance;
#[cfg(feature = "stages")]
use graphc_stages::{Call, Instance};

/// A function of an instance.
#[cfg(not(feature = "stages"))]
type Call<'i> = graphc_engine::Call<&'i Instance>;

/// What the standard library would bring.
#[cfg(not(feature = "std"))]
mod bare {
    use core::alloc::{GlobalAlloc, Layout};
    use core::ffi::c_void;

    /// The memory of the C library.
    struct CMemory;

    #[global_allocator]
    static MEMORY: CMemory = CMemory;

    /// What `malloc` aligns to on every machine that objects are made for.
    const ALIGNED: usize = 16;

    // SAFETY: blocks come from the C library with the size and alignment asked for, and go back there.
    unsafe impl GlobalAlloc for CMemory {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            if layout.align() <= ALIGNED {
                // SAFETY: any size may be asked for.
                return unsafe { libc::malloc(layout.size()) }.cast();
            }
            let mut block: *mut c_void = core::ptr::null_mut();
            // SAFETY: the alignment is a power of two and a multiple of a pointer's size.
            match unsafe { libc::posix_memalign(&mut block, layout.align(), layout.size()) } {
                0 => block.cast(),
                _ => core::ptr::null_mut(),
            }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            if layout.align() <= ALIGNED {
                // SAFETY: as above. Fresh pages are zero already, which `calloc` knows.
                return unsafe { libc::calloc(1, layout.size()) }.cast();
            }
            // SAFETY: as above; the block has as many bytes.
            unsafe {
                let block = self.alloc(layout);
                if !block.is_null() {
                    core::ptr::write_bytes(block, 0, layout.size());
                }
                block
            }
        }

        unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
            // SAFETY: a block of `alloc`.
            unsafe { libc::free(block.cast()) }
        }
    }

    /// What tables for unwinding name; nothing unwinds, so nobody calls it.
    #[unsafe(no_mangle)]
    extern "C" fn rust_eh_personality() {}

    /// Nothing here panics on data that a caller may bring; what does is a fault of this library, and no caller can go on from it.
    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo) -> ! {
        // SAFETY: ends the process.
        unsafe { libc::abort() }
    }
}
