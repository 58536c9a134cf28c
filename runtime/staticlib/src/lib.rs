//! The archive that an ahead-of-time object links: the kernel library, the ABI, and a way to run an entry from C.

pub use graphc_kernels as kernels;

use graphc_abi::{ALIGN, Body, Ctx, Entry, ErrorRecord, SCRATCH_BYTES, TAIL_BYTES};
use std::alloc::{Layout, alloc, dealloc};
use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr::{null, null_mut};

/// Status of a run for which the system has no memory; the others are [`graphc_abi::Status`].
pub const OUT_OF_MEMORY: i32 = 100;

/// Memory with the ABI's alignment.
struct Memory {
    start: *mut u8,
    layout: Layout,
}

impl Memory {
    fn new(bytes: usize) -> Option<Memory> {
        let layout = Layout::from_size_align(bytes, ALIGN).ok()?;
        // SAFETY: callers ask for at least the tail, so the size is not zero.
        let start = unsafe { alloc(layout) };
        (!start.is_null()).then_some(Memory { start, layout })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout.
        unsafe { dealloc(self.start, self.layout) }
    }
}

thread_local! {
    /// Scratch of the kernels, kept from run to run.
    static SCRATCH: RefCell<Option<Memory>> = const { RefCell::new(None) };
}

/// Runs chunks one after another on the caller's thread.
unsafe extern "C" fn in_turn(_: *const c_void, chunks: usize, body: Body, data: *const c_void) {
    for i in 0..chunks {
        // SAFETY: as the caller promises; worker 0 is the caller.
        unsafe { body(data, i, 0) };
    }
}

/// Runs a compiled function on the calling thread; see the header that comes with the object. 0, a status, or [`OUT_OF_MEMORY`].
///
/// # Safety
/// `entry` and `weights` belong together; inputs, outputs, variables and the arena (if not null) are as large as the function says
/// for these symbol values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_run(
    entry: Entry,
    weights: *const u8,
    inputs: *const *const u8,
    outputs: *const *mut u8,
    arena: *mut u8,
    arena_bytes: i64,
    vars: *const *mut u8,
    symbols: *const i64,
) -> i32 {
    let own = match usize::try_from(arena_bytes).ok().and_then(|n| n.checked_add(TAIL_BYTES)) {
        _ if !arena.is_null() => None,
        Some(bytes) => match Memory::new(bytes) {
            Some(m) => Some(m),
            None => return OUT_OF_MEMORY,
        },
        None => return graphc_abi::Status::InvalidShape as i32,
    };
    let arena = own.as_ref().map_or(arena, |m| m.start);
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.is_none() {
            *scratch = Memory::new(SCRATCH_BYTES + TAIL_BYTES);
        }
        let Some(scratch) = scratch else { return OUT_OF_MEMORY };
        let mut error = ErrorRecord::default();
        let ctx = Ctx {
            threads: 1,
            pool: null(),
            parallel_for: in_turn,
            scratch: scratch.start,
            cancel: null(),
            trace: None,
            trace_data: null_mut(),
            error: &mut error,
        };
        // SAFETY: by this function's contract; scratch and arena are as the ABI asks.
        unsafe { entry(&ctx, inputs, outputs, arena, weights, vars, symbols) }
    })
}
