//! The pool of workers that kernels and fused loops share their chunks with.
//!
//! A job is a number of chunks, of which each thread has a share of neighbours: it claims them from the first on, and then the last ones
//! of others. So a thread finds in its cache what it wrote in the job before, for rows of one tensor become rows of the next. The caller
//! claims too and waits only for chunks that somebody has started, so a worker that the system put to sleep delays a job by one chunk at
//! most.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use graphc_abi::Body;

/// Rounds that an idle worker polls before it sleeps: some tens of microseconds, the usual gap between two launches of a run.
const SPINS: u32 = 4000;

/// Bits of a share's word for its next chunk and for the end of its chunks.
const CHUNK_BITS: u32 = 24;
const CHUNK_MASK: u64 = (1 << CHUNK_BITS) - 1;

/// A cache line of its own, so that polling one field does not slow writes to another.
#[repr(align(128))]
struct Line<T>(T);

#[derive(Clone, Copy)]
struct Job {
    body: Body,
    data: *const c_void,
}

struct Shared {
    /// The number of the last job.
    generation: Line<AtomicU64>,
    /// Of each thread: `generation << 48 | end << 24 | next`; its chunks are taken while `next == end`.
    shares: Box<[Line<AtomicU64>]>,
    done: Line<AtomicUsize>,
    /// Written while nothing is claimable, read after a claim.
    job: UnsafeCell<Job>,
    /// Held by the caller whose job the pool works on.
    busy: AtomicBool,
    quit: AtomicBool,
    asleep: Line<AtomicUsize>,
    bed: Bed,
}

// SAFETY: `job` is written only by the holder of `busy` while no chunk can be claimed, and published by the release stores to `shares`.
unsafe impl Sync for Shared {}
// SAFETY: a job's data outlives the job, by the contract of `Pool::parallel_for`.
unsafe impl Send for Shared {}

/// Where workers sleep.
struct Bed {
    lock: UnsafeCell<libc::pthread_mutex_t>,
    woken: UnsafeCell<libc::pthread_cond_t>,
}

impl Bed {
    const fn new() -> Bed {
        Bed { lock: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER), woken: UnsafeCell::new(libc::PTHREAD_COND_INITIALIZER) }
    }

    /// Sleeps until woken, unless `awake` by then.
    fn sleep(&self, awake: impl Fn() -> bool) {
        // SAFETY: both are initialised, stay where they are inside an `Arc`, and are used through these functions only.
        unsafe {
            libc::pthread_mutex_lock(self.lock.get());
            while !awake() {
                libc::pthread_cond_wait(self.woken.get(), self.lock.get());
            }
            libc::pthread_mutex_unlock(self.lock.get());
        }
    }

    /// Wakes all who sleep.
    fn wake(&self) {
        // SAFETY: as above. The lock keeps a sleeper from missing the signal between its look and its wait.
        unsafe {
            libc::pthread_mutex_lock(self.lock.get());
            libc::pthread_cond_broadcast(self.woken.get());
            libc::pthread_mutex_unlock(self.lock.get());
        }
    }
}

/// Persistent workers. `Pool::new(n)` computes on `n` threads, the caller's included.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<libc::pthread_t>,
}

// SAFETY: the handles of threads may be joined from anywhere.
unsafe impl Send for Pool {}
// SAFETY: as above; nothing changes them but `drop`.
unsafe impl Sync for Pool {}

unsafe extern "C" fn idle(_: *const c_void, _: usize, _: usize) {}

impl Shared {
    /// A chunk of a share: the next one, or the last.
    fn claim_of(&self, share: usize, last: bool) -> Option<usize> {
        let mut word = self.shares[share].0.load(Acquire);
        loop {
            let (next, end) = (word & CHUNK_MASK, word >> CHUNK_BITS & CHUNK_MASK);
            if next >= end {
                return None;
            }
            let (left, chunk) = if last { (word - (1 << CHUNK_BITS), end - 1) } else { (word + 1, next) };
            match self.shares[share].0.compare_exchange_weak(word, left, AcqRel, Acquire) {
                Ok(_) => return Some(chunk as usize),
                Err(w) => word = w,
            }
        }
    }

    /// A chunk for a thread, from its own share while that has some.
    fn claim(&self, worker: usize) -> Option<usize> {
        let all = self.shares.len();
        self.claim_of(worker, false).or_else(|| (worker + 1..worker + all).find_map(|k| self.claim_of(k % all, true)))
    }

    fn run(&self, chunk: usize, worker: usize) {
        // SAFETY: the chunk was claimed and is not done, so the job is the one it belongs to and its caller is waiting.
        unsafe {
            let job = *self.job.get();
            (job.body)(job.data, chunk, worker);
        }
        self.done.0.fetch_add(1, Release);
    }

    fn work(&self, worker: usize) {
        let (mut seen, mut idle_rounds) = (0, 0);
        while !self.quit.load(Relaxed) {
            let generation = self.generation.0.load(Acquire);
            if generation != seen {
                while let Some(chunk) = self.claim(worker) {
                    self.run(chunk, worker);
                }
                (seen, idle_rounds) = (generation, 0);
            } else if idle_rounds < SPINS {
                idle_rounds += 1;
                core::hint::spin_loop();
            } else {
                self.asleep.0.fetch_add(1, SeqCst);
                self.bed.sleep(|| self.generation.0.load(SeqCst) != seen || self.quit.load(SeqCst));
                self.asleep.0.fetch_sub(1, SeqCst);
                idle_rounds = 0;
            }
        }
    }
}

/// What a new thread is told.
struct Start {
    shared: Arc<Shared>,
    worker: usize,
}

extern "C" fn start(data: *mut c_void) -> *mut c_void {
    // SAFETY: `Pool::new` leaked the box for this thread.
    let Start { shared, worker } = *unsafe { Box::from_raw(data.cast::<Start>()) };
    shared.work(worker);
    ptr::null_mut()
}

impl Pool {
    /// A pool that computes on `threads` threads, or as many as the system gives; with 0 or 1 it starts none.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            generation: Line(AtomicU64::new(0)),
            shares: (0..threads.max(1)).map(|_| Line(AtomicU64::new(0))).collect(),
            done: Line(AtomicUsize::new(0)),
            job: UnsafeCell::new(Job { body: idle, data: ptr::null() }),
            busy: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            asleep: Line(AtomicUsize::new(0)),
            bed: Bed::new(),
        });
        let mut workers = Vec::new();
        for worker in 1..threads {
            let data = Box::into_raw(Box::new(Start { shared: shared.clone(), worker }));
            let mut thread = core::mem::MaybeUninit::uninit();
            // SAFETY: the new thread owns `data`.
            let failed = unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), start, data.cast()) };
            if failed != 0 {
                // SAFETY: no thread was started that could take it.
                drop(unsafe { Box::from_raw(data) });
                break;
            }
            // SAFETY: filled by the call that succeeded.
            workers.push(unsafe { thread.assume_init() });
        }
        Pool { shared, workers }
    }

    /// Number of threads that compute, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `body` for each chunk, on this thread and the workers. While another caller's job runs, this one computes alone.
    ///
    /// # Safety
    /// `body(data, chunk, worker)` may be called from any thread, at most once for each chunk, with distinct workers at one time.
    pub unsafe fn run(&self, chunks: usize, body: Body, data: *const c_void) {
        let s = &*self.shared;
        let shared_out = chunks > 1 && (chunks as u64) <= CHUNK_MASK && !self.workers.is_empty();
        if !shared_out || s.busy.swap(true, Acquire) {
            for i in 0..chunks {
                // SAFETY: by this function's contract.
                unsafe { body(data, i, 0) };
            }
            return;
        }
        // SAFETY: `busy` is ours and every chunk of the last job is done, so no worker reads the job now.
        unsafe { *s.job.get() = Job { body, data } };
        s.done.0.store(0, Relaxed);
        let generation = s.generation.0.load(Relaxed).wrapping_add(1);
        let threads = self.threads();
        for (k, share) in s.shares.iter().enumerate().take(threads) {
            let [next, end] = [k, k + 1].map(|k| (chunks * k / threads) as u64);
            share.0.store(generation << (2 * CHUNK_BITS) | end << CHUNK_BITS | next, Release);
        }
        s.generation.0.store(generation, SeqCst);
        if s.asleep.0.load(SeqCst) > 0 {
            s.bed.wake();
        }
        while let Some(chunk) = s.claim(0) {
            s.run(chunk, 0);
        }
        let mut spins = 0u32;
        while s.done.0.load(Acquire) != chunks {
            spins += 1;
            if spins < 50_000 {
                core::hint::spin_loop();
            } else {
                // SAFETY: takes nothing.
                unsafe { libc::sched_yield() };
            }
        }
        s.busy.store(false, Release);
    }

    /// [`Pool::run`] in the form that compiled code calls.
    ///
    /// # Safety
    /// `pool` points to a `Pool`; the rest as for [`Pool::run`].
    pub unsafe extern "C" fn parallel_for(pool: *const c_void, chunks: usize, body: Body, data: *const c_void) {
        // SAFETY: by this function's contract.
        unsafe { (*(pool as *const Pool)).run(chunks, body, data) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, SeqCst);
        self.shared.bed.wake();
        for w in self.workers.drain(..) {
            // SAFETY: a thread of `new`, joined once; bodies do not unwind.
            unsafe { libc::pthread_join(w, ptr::null_mut()) };
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::sync::atomic::AtomicU32;
    use std::thread;

    unsafe extern "C" fn mark(data: *const c_void, chunk: usize, worker: usize) {
        // SAFETY: the tests below pass a slice of counters as long as there are chunks.
        unsafe { (*(data as *const AtomicU32).add(chunk)).fetch_add(1 + 1000 * (worker > 7) as u32, SeqCst) };
    }

    fn counters(n: usize) -> Vec<AtomicU32> {
        (0..n).map(|_| AtomicU32::new(0)).collect()
    }

    #[test]
    fn every_chunk_runs_once() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            for n in [0, 1, 2, 3, 64, 1000] {
                for _ in 0..50 {
                    let c = counters(n);
                    // SAFETY: `mark` may run anywhere, and `c` has `n` counters.
                    unsafe { pool.run(n, mark, c.as_ptr().cast()) };
                    assert!(c.iter().all(|c| c.load(SeqCst) == 1));
                }
            }
        }
    }

    #[test]
    fn callers_on_many_threads_share_one_pool() {
        let pool = Pool::new(3);
        thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..200 {
                        let c = counters(17);
                        // SAFETY: as above.
                        unsafe { pool.run(17, mark, c.as_ptr().cast()) };
                        assert!(c.iter().all(|c| c.load(SeqCst) == 1));
                    }
                });
            }
        });
    }

    #[test]
    fn sleeping_workers_wake() {
        let pool = Pool::new(2);
        for _ in 0..3 {
            thread::sleep(std::time::Duration::from_millis(5));
            let c = counters(8);
            // SAFETY: as above.
            unsafe { pool.run(8, mark, c.as_ptr().cast()) };
            assert!(c.iter().all(|c| c.load(SeqCst) == 1));
        }
    }
}
