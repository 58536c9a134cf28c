//! What a run asks of the allocator: nothing, once its shapes have been seen; and `trim` gives memory back.
//!
//! A binary of its own, whose tests run one after another in one test function: the counts are of the whole process.

use graphc::{Callable, RunOptions, Session, SessionOptions, Tensor, View};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

static CALLS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, SeqCst);
        // SAFETY: by this function's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, SeqCst);
        // SAFETY: by this function's contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.fetch_add(1, SeqCst);
        // SAFETY: by this function's contract.
        unsafe { System.realloc(p, layout, size) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: by this function's contract.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn callable(name: &str, threads: usize) -> Callable {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).join("saved_model");
    let session = Session::open(&model, SessionOptions { threads, ..SessionOptions::default() }).unwrap();
    session.signature(None).unwrap()
}

fn zeros(callable: &Callable, open: usize) -> Vec<Tensor> {
    let make = |p: &graphc::Port| {
        let shape: Vec<usize> = p.shape.iter().flatten().map(|d| d.as_const().map_or(open, |c| c as usize)).collect();
        graphc::tensor_from_reals(p.elem, &shape, &vec![0.0; shape.iter().product()]).unwrap()
    };
    callable.inputs().iter().map(make).collect()
}

fn views(tensors: &[Tensor]) -> Vec<View<'_>> {
    tensors.iter().map(|t| View::try_from(t).unwrap()).collect()
}

fn a_steady_run_allocates_nothing(name: &str, threads: usize) {
    let callable = callable(name, threads);
    for open in [1, 5] {
        let inputs = zeros(&callable, open);
        let inputs = views(&inputs);
        let mut answers: Vec<Vec<u8>> = callable.run(&inputs).unwrap().iter().map(|t| t.bytes().to_vec()).collect();
        let mut outputs: Vec<&mut [u8]> = answers.iter_mut().map(Vec::as_mut_slice).collect();
        callable.run_into(&inputs, &mut outputs, &mut RunOptions::default()).unwrap();
        let before = CALLS.load(SeqCst);
        for _ in 0..5 {
            callable.run_into(&inputs, &mut outputs, &mut RunOptions::default()).unwrap();
        }
        let calls = CALLS.load(SeqCst) - before;
        assert_eq!(calls, 0, "{name}, {threads} threads, size {open}: {calls} allocations in 5 runs");
    }
}

/// Bytes of anonymous memory that the process has: large blocks do not come from the allocator.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Bytes that the allocator may keep of what it was given back, for what comes next.
const MOST_KEPT: usize = 512 << 10;

fn trim_gives_memory_back(name: &str) {
    let callable = callable(name, 1);
    callable.run_tensors(&zeros(&callable, 1)).unwrap();
    callable.trim();
    let before = resident();
    drop(callable.run_tensors(&zeros(&callable, 256)).unwrap());
    let held = resident().saturating_sub(before);
    callable.trim();
    let kept = resident().saturating_sub(before);
    assert!(held > 1 << 20, "{name} holds {held} bytes for its next run");
    assert!(kept < MOST_KEPT, "{name} keeps {kept} of {held} bytes after trim");
    callable.run_tensors(&zeros(&callable, 2)).unwrap();
}

#[test]
fn allocations_of_runs() {
    for name in ["mlp", "small_cnn", "transformer", "recurrent", "basic_pitch"] {
        for threads in [1, 2] {
            a_steady_run_allocates_nothing(name, threads);
        }
    }
    trim_gives_memory_back("small_cnn");
    trim_gives_memory_back("transformer");
}
