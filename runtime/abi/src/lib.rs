//! The C structs that compiled code sees.
//!
//! Compiled code, the kernel library and the runtime agree on this crate and on nothing else. It has no dependencies, so that an
//! ahead-of-time object links the kernel library and this, and no compiler.
//!
//! Calling convention of everything that a compiled schedule calls:
//!
//! ```text
//! extern "C" fn(ctx: *const Ctx, args: *const Args) -> i32      0, or a `Status` code
//! ```
//!
//! `Args` is `#[repr(C)]` and consists of 8-byte words only (pointers, `usize`, `i64`, and `f64` for every real parameter), because
//! the schedule function stores it word by word. Sizes and strides are in elements, never in bytes, unless the field says so.
#![no_std]

pub mod args;
pub mod model;

use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering};

/// Bytes of private scratch that every worker of a run owns. A kernel blocks its work to fit.
pub const SCRATCH_BYTES: usize = 2 << 20;

/// Alignment in bytes of the arena, of every buffer in it, of weights and of scratch.
pub const ALIGN: usize = 64;

/// Bytes that may be read (never written) past the end of the arena, of weights and of scratch, so that kernels may load whole vectors.
pub const TAIL_BYTES: usize = 256;

/// Body of a parallel loop: `data` as given, chunk index, worker index (0 is the caller).
pub type Body = unsafe extern "C" fn(data: *const c_void, chunk: usize, worker: usize);

/// Runs `body` for each chunk in `0..chunks` and returns when all are done. Chunks are claimed in increasing order.
pub type ParallelFor = unsafe extern "C" fn(pool: *const c_void, chunks: usize, body: Body, data: *const c_void);

/// Called before (`end == 0`) and after (`end == 1`) launch number `launch`.
pub type Trace = unsafe extern "C" fn(data: *mut c_void, launch: usize, end: u32);

/// One run of a compiled function; the first argument of everything that compiled code calls.
#[repr(C)]
pub struct Ctx {
    /// Number of workers, the caller included. With 1 nothing but the caller's thread computes.
    pub threads: usize,
    pub pool: *const c_void,
    pub parallel_for: ParallelFor,
    /// `threads` areas of `SCRATCH_BYTES`, worker `w` owns the one at `scratch + w * SCRATCH_BYTES`.
    pub scratch: *mut u8,
    /// Set to non-zero by another thread to stop the run at the next launch; may be null.
    pub cancel: *const AtomicU32,
    /// Null unless the run is traced.
    pub trace: Option<Trace>,
    pub trace_data: *mut c_void,
    /// Where a failing kernel says what went wrong.
    pub error: *mut ErrorRecord,
}

/// What a failing launch leaves for the runtime, which adds node and file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorRecord {
    /// The launch that failed; filled by the schedule function.
    pub launch: usize,
    /// The offending value (an index, a divisor).
    pub value: i64,
    /// The bound it broke, where there is one.
    pub bound: i64,
}

/// Result of a launch. `0` is success.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok = 0,
    /// The run was cancelled.
    Cancelled = 1,
    /// An index lay outside its axis: `value` is the index, `bound` the extent.
    IndexOutOfRange = 2,
    /// Integer division by zero.
    DivisionByZero = 3,
    /// A dimension that the compiled code assumed to be equal to another was not.
    ShapeGuard = 4,
    /// Wrong number of elements or a negative size.
    InvalidShape = 5,
    /// A host function failed; the runtime holds its message.
    Host = 6,
}

// SAFETY: the runtime keeps what it points at valid for the run, and each worker touches its own scratch only.
unsafe impl Sync for Ctx {}

impl Status {
    /// The status that compiled code returned; what no version knows counts as a failed host function.
    pub fn from_code(code: i32) -> Status {
        match code {
            0 => Status::Ok,
            1 => Status::Cancelled,
            2 => Status::IndexOutOfRange,
            3 => Status::DivisionByZero,
            4 => Status::ShapeGuard,
            5 => Status::InvalidShape,
            _ => Status::Host,
        }
    }
}

impl Ctx {
    /// True when another thread asked for the run to stop.
    ///
    /// # Safety
    /// `self.cancel` is null or valid for the whole run.
    pub unsafe fn cancelled(&self) -> bool {
        // SAFETY: by this function's contract.
        !self.cancel.is_null() && unsafe { (*self.cancel).load(Ordering::Relaxed) } != 0
    }

    /// Scratch of one worker: `SCRATCH_BYTES` bytes, aligned to `ALIGN`.
    ///
    /// # Safety
    /// `worker < self.threads`.
    pub unsafe fn scratch_of(&self, worker: usize) -> *mut u8 {
        // SAFETY: the runtime allocates one area a worker.
        unsafe { self.scratch.add(worker * SCRATCH_BYTES) }
    }

    /// Runs `f(chunk, worker)` for each chunk, on the caller's thread alone when there is one chunk or one worker.
    ///
    /// # Safety
    /// `f` may run on several threads at once, with distinct chunks.
    pub unsafe fn parallel<F: Fn(usize, usize) + Sync>(&self, chunks: usize, f: &F) {
        unsafe extern "C" fn call<F: Fn(usize, usize) + Sync>(data: *const c_void, chunk: usize, worker: usize) {
            // SAFETY: `data` is the `f` below, alive until `parallel_for` returns.
            unsafe { (*(data as *const F))(chunk, worker) }
        }
        if self.threads <= 1 || chunks <= 1 {
            for i in 0..chunks {
                f(i, 0);
            }
        } else {
            // SAFETY: the pool calls `call::<F>` with the pointer given here, and returns when all chunks are done.
            unsafe { (self.parallel_for)(self.pool, chunks, call::<F>, f as *const F as *const c_void) }
        }
    }
}

/// Entry of a compiled function.
///
/// `inputs`, `outputs`: one data pointer each, in signature order; `arena`: as large as the plan says for these `syms`;
/// `weights`: the packed constants; `vars`: where each variable of the module lies, by its number; `syms`: one value for each symbol of
/// the signature. Variables that the function does not use may be null, and so may `vars` if it uses none.
pub type Entry = unsafe extern "C" fn(
    ctx: *const Ctx,
    inputs: *const *const u8,
    outputs: *const *mut u8,
    arena: *mut u8,
    weights: *const u8,
    vars: *const *mut u8,
    syms: *const i64,
) -> i32;
