//! What the tests of the kernels share: contexts, tiers, random numbers.

use crate::tier::{self, Tier};
use core::ffi::c_void;
use core::sync::atomic::{AtomicUsize, Ordering};
use graphc_abi::{ALIGN, Body, Ctx, ErrorRecord, SCRATCH_BYTES};
use std::sync::Mutex;

/// Serialises the tests that choose a tier.
static TIER: Mutex<()> = Mutex::new(());

/// Runs `f` in every tier of this machine.
pub fn each_tier(mut f: impl FnMut(Tier)) {
    let _guard = TIER.lock().unwrap_or_else(|e| e.into_inner());
    for (_, t) in Tier::ALL {
        if tier::force(t) {
            f(t);
        }
    }
}

/// Threads that are started for each loop, `pool` being their number.
unsafe extern "C" fn parallel_for(pool: *const c_void, chunks: usize, body: Body, data: *const c_void) {
    let next = AtomicUsize::new(0);
    let data = data as usize;
    std::thread::scope(|s| {
        for worker in 0..pool as usize {
            let next = &next;
            s.spawn(move || {
                loop {
                    let chunk = next.fetch_add(1, Ordering::Relaxed);
                    if chunk >= chunks {
                        break;
                    }
                    // SAFETY: the caller of `parallel_for` waits for all of this.
                    unsafe { body(data as *const c_void, chunk, worker) }
                }
            });
        }
    });
}

/// Runs a kernel with `threads` workers; its status and error record.
pub fn launch<A>(threads: usize, kernel: unsafe extern "C" fn(*const Ctx, *const A) -> i32, args: &A) -> (i32, ErrorRecord) {
    let mut scratch = vec![0u8; threads * SCRATCH_BYTES + ALIGN];
    let mut error = ErrorRecord::default();
    let offset = scratch.as_ptr().align_offset(ALIGN);
    let ctx = Ctx {
        threads,
        pool: threads as *const c_void,
        parallel_for,
        // SAFETY: within the allocation.
        scratch: unsafe { scratch.as_mut_ptr().add(offset) },
        cancel: core::ptr::null(),
        trace: None,
        trace_data: core::ptr::null_mut(),
        error: &mut error,
    };
    // SAFETY: tests give valid arguments.
    let status = unsafe { kernel(&ctx, args) };
    (status, error)
}

/// Runs a kernel that must succeed.
pub fn run<A>(threads: usize, kernel: unsafe extern "C" fn(*const Ctx, *const A) -> i32, args: &A) {
    let (status, error) = launch(threads, kernel, args);
    assert_eq!(status, 0, "{error:?}");
}

/// Arguments of a kernel with every word zero.
pub fn zeroed<A: Copy>() -> A {
    // SAFETY: arguments consist of pointers and numbers, for all of which zero is a value.
    unsafe { core::mem::zeroed() }
}

/// A small deterministic generator of random numbers (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.word() >> 33) as usize % n
    }
    /// In `-1..1`.
    pub fn real(&mut self) -> f32 {
        (self.word() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
    /// `n` numbers in `-scale..scale`.
    pub fn reals(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.real() * scale).collect()
    }
}
