//! What the kernels' tests share: contexts, tiers, numbers, and the epilogue in f64.
#![allow(dead_code)]

pub mod windows;

use core::ffi::c_void;
use core::sync::atomic::{AtomicUsize, Ordering};
use graphc_abi::args::matrix::act;
use graphc_abi::{ALIGN, Body, Ctx, ErrorRecord, SCRATCH_BYTES};
use graphc_kernels::tier::{Tier, force};
use std::sync::Mutex;

/// Serialises what runs in a chosen tier.
static TIER: Mutex<()> = Mutex::new(());

/// Runs `f` in every tier of this machine, with a name for messages.
pub fn each_tier(f: impl Fn(Tier)) {
    let _guard = TIER.lock().unwrap_or_else(|e| e.into_inner());
    for (_, tier) in Tier::ALL {
        if force(tier) {
            f(tier);
        }
    }
}

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
                    // SAFETY: `data` lives until all threads of the scope have ended.
                    unsafe { body(data as *const c_void, chunk, worker) };
                }
            });
        }
    });
}

/// As a pool that claims chunks one after the other, from the last one where `pool` is not null.
unsafe extern "C" fn one_by_one(pool: *const c_void, chunks: usize, body: Body, data: *const c_void) {
    for i in 0..chunks {
        let chunk = if pool.is_null() { i } else { chunks - 1 - i };
        // SAFETY: the data is the caller's.
        unsafe { body(data, chunk, 0) };
    }
}

/// Runs a kernel with `threads` workers; its status.
pub fn launch<A>(threads: usize, kernel: unsafe extern "C" fn(*const Ctx, *const A) -> i32, args: &A) -> i32 {
    run_by(parallel_for, threads as *const c_void, threads, kernel, args)
}

/// Runs a kernel in the parts of `threads` workers, one after the other, from the first or from the last: what a part writes into another
/// one shows in one of these orders.
pub fn launch_in_order<A>(
    last_first: bool,
    threads: usize,
    kernel: unsafe extern "C" fn(*const Ctx, *const A) -> i32,
    args: &A,
) -> i32 {
    run_by(one_by_one, usize::from(last_first) as *const c_void, threads, kernel, args)
}

fn run_by<A>(
    parallel_for: unsafe extern "C" fn(*const c_void, usize, Body, *const c_void),
    pool: *const c_void,
    threads: usize,
    kernel: unsafe extern "C" fn(*const Ctx, *const A) -> i32,
    args: &A,
) -> i32 {
    // Scratch is dirty in a real run.
    let mut scratch = vec![0xffu8; threads * SCRATCH_BYTES + ALIGN];
    let mut error = ErrorRecord::default();
    let offset = scratch.as_ptr().align_offset(ALIGN);
    let ctx = Ctx {
        threads,
        pool,
        parallel_for,
        scratch: scratch[offset..].as_mut_ptr(),
        cancel: core::ptr::null(),
        trace: None,
        trace_data: core::ptr::null_mut(),
        error: &mut error,
    };
    // SAFETY: the tests give valid arguments.
    unsafe { kernel(&ctx, args) }
}

/// A small generator of test numbers.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let x = self.0 ^ (self.0 >> 29);
        (x.wrapping_mul(0xbf58476d1ce4e5b9)) >> 16
    }
    /// One of `range`.
    pub fn below(&mut self, from: usize, to: usize) -> usize {
        from + (self.next() % (to - from) as u64) as usize
    }
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(0, of.len())]
    }
    pub fn unit(&mut self) -> f32 {
        (self.next() % 2_000_001) as f32 / 1e6 - 1.0
    }
    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit()).collect()
    }
}

/// An epilogue chosen at random for an output of `rows` pixels and `cols` channels.
pub struct TestEpilogue {
    pub bias: Option<Vec<f32>>,
    pub residual: Option<Vec<f32>>,
    pub ldr: usize,
    pub after: i64,
    pub act: i64,
    pub lo: f64,
    pub hi: f64,
}

impl TestEpilogue {
    pub fn random(r: &mut Rng, rows: usize, cols: usize, ldr: usize) -> TestEpilogue {
        let act = if r.below(0, 3) == 0 { act::NONE } else { r.below(0, 12) as i64 };
        let (lo, hi) = match act {
            act::CLAMP => (-0.25, 0.5),
            act::LEAKY_RELU => (0.2, 0.0),
            _ => (0.0, 0.0),
        };
        let bias = (r.below(0, 2) == 0).then(|| r.floats(cols));
        let residual = (r.below(0, 2) == 0).then(|| r.floats(rows * ldr));
        TestEpilogue { bias, residual, ldr, after: r.below(0, 2) as i64, act, lo, hi }
    }
    /// The results of sums of rows of `cols`.
    pub fn of_sums(&self, sums: &[f64], cols: usize) -> Vec<f64> {
        sums.iter().enumerate().map(|(i, &s)| self.apply(s, i / cols, i % cols)).collect()
    }
    pub fn bias(&self) -> *const f32 {
        self.bias.as_ref().map_or(core::ptr::null(), |b| b.as_ptr())
    }
    pub fn residual(&self) -> *const f32 {
        self.residual.as_ref().map_or(core::ptr::null(), |b| b.as_ptr())
    }
    pub fn apply(&self, sum: f64, row: usize, col: usize) -> f64 {
        let t = sum + self.bias.as_ref().map_or(0.0, |b| b[col] as f64);
        let r = self.residual.as_ref().map_or(0.0, |b| b[row * self.ldr + col] as f64);
        if self.after != 0 { activate(self.act, t, self.lo, self.hi) + r } else { activate(self.act, t + r, self.lo, self.hi) }
    }
}

/// The activations in f64.
pub fn activate(code: i64, x: f64, lo: f64, hi: f64) -> f64 {
    let hard = (x + 3.0).clamp(0.0, 6.0) / 6.0;
    match code {
        act::RELU => x.max(0.0),
        act::CLAMP => x.max(lo).min(hi),
        act::LEAKY_RELU => {
            if x < 0.0 {
                lo * x
            } else {
                x
            }
        }
        act::GELU_ERF => 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt())),
        act::GELU_TANH => 0.5 * x * (1.0 + (0.7978845608028654 * (x + 0.044715 * x * x * x)).tanh()),
        act::SILU => x / (1.0 + (-x).exp()),
        act::SIGMOID => 1.0 / (1.0 + (-x).exp()),
        act::TANH => x.tanh(),
        act::HARD_SWISH => x * hard,
        act::HARD_SIGMOID => hard,
        act::ELU => {
            if x < 0.0 {
                x.exp_m1()
            } else {
                x
            }
        }
        _ => x,
    }
}

/// Largest error of `got` against `want`, relative to the scale of sums of `terms` products: an activation may have cut them off.
pub fn error(got: &[f32], want: &[f64], terms: usize) -> f64 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold((terms as f64).sqrt().max(1.0), |a, b| a.max(b.abs()));
    got.iter().zip(want).fold(0f64, |a, (g, w)| {
        let e = (*g as f64 - w).abs() / scale;
        if e.is_nan() { f64::INFINITY } else { a.max(e) }
    })
}
