//! One session on many threads: right answers, cancellation, memory given back.

use crate::support::*;
use graphc::{Error, RunOptions, Tensor, Tracer, View};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use std::thread;

fn views(tensors: &[Tensor]) -> Vec<View<'_>> {
    tensors.iter().map(|t| View::try_from(t).unwrap()).collect()
}

fn is_cancelled(e: &Error) -> bool {
    matches!(e, Error::Run { .. }) && e.status() == graphc::StatusCode::Cancelled as i32
}

#[test]
fn many_threads_run_one_session_at_once() {
    for (name, rounds) in [("mlp", 60), ("small_cnn", 30), ("transformer", 20)] {
        let callable = golden_callable(name, 2);
        let cases: Vec<_> = [1, 2, 5, 9]
            .iter()
            .map(|&n| {
                let inputs = Random(n as u64).inputs(&callable, &|_, axis| if axis == 0 { n } else { 7 });
                let want = callable.run_tensors(&inputs).unwrap();
                (inputs, want)
            })
            .collect();
        thread::scope(|s| {
            for k in 0..cases.len() {
                let (callable, cases) = (&callable, &cases);
                s.spawn(move || {
                    for round in 0..rounds {
                        let (inputs, want) = &cases[(k + round) % cases.len()];
                        let got = callable.run_tensors(inputs).unwrap();
                        assert!(got.iter().zip(want).all(|(g, w)| g.shape() == w.shape() && g.bytes() == w.bytes()), "{name}");
                        if round % 7 == 0 {
                            callable.trim();
                        }
                    }
                });
            }
        });
        assert_eq!(callable.variants(), 1, "{name}");
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    for name in GOLDEN {
        let answers: Vec<Vec<Tensor>> = [1, 2, 3]
            .iter()
            .map(|&threads| {
                let callable = golden_callable(name, threads);
                let inputs = Random(11).inputs(&callable, &|_, axis| if axis == 0 { 5 } else { 9 });
                callable.run_tensors(&inputs).unwrap()
            })
            .collect();
        for other in &answers[1..] {
            assert!(answers[0].iter().zip(other).all(|(a, b)| a.bytes() == b.bytes()), "{name}");
        }
    }
}

/// Cancels the run at the begin of a launch, and counts the launches that begin after.
struct CancelAt<'a> {
    launch: usize,
    cancel: &'a AtomicU32,
    after: usize,
}

impl Tracer for CancelAt<'_> {
    fn begin(&mut self, launch: usize) {
        self.after += (self.cancel.load(Relaxed) != 0) as usize;
        if launch == self.launch {
            self.cancel.store(1, Relaxed);
        }
    }

    fn end(&mut self, _: usize) {}
}

#[test]
fn a_cancelled_run_ends_before_the_next_launch() {
    let callable = golden_callable("transformer", 2);
    let inputs = Random(1).inputs(&callable, &|_, _| 8);
    let want = callable.run_tensors(&inputs).unwrap();
    for launch in [0, 3, 10] {
        let cancel = AtomicU32::new(0);
        let mut tracer = CancelAt { launch, cancel: &cancel, after: 0 };
        let mut options = RunOptions { cancel: Some(&cancel), trace: Some(&mut tracer), ..RunOptions::default() };
        let e = callable.run_with(&views(&inputs), &mut options).unwrap_err();
        assert!(is_cancelled(&e), "{e}");
        assert_eq!(tracer.after, 0, "launches after the cancellation");
    }
    let set = AtomicU32::new(1);
    let e = callable.run_with(&views(&inputs), &mut RunOptions { cancel: Some(&set), ..RunOptions::default() }).unwrap_err();
    assert!(is_cancelled(&e), "{e}");
    // The session is none the worse for it.
    let again = callable.run_tensors(&inputs).unwrap();
    assert!(again.iter().zip(&want).all(|(a, b)| a.bytes() == b.bytes()));
}

#[test]
fn another_thread_cancels() {
    let callable = golden_callable("small_cnn", 2);
    let inputs = Random(1).inputs(&callable, &|_, _| 4);
    let (cancel, running) = (AtomicU32::new(0), AtomicBool::new(false));
    let error = thread::scope(|s| {
        let run = s.spawn(|| {
            loop {
                let result = callable.run_with(&views(&inputs), &mut RunOptions { cancel: Some(&cancel), ..RunOptions::default() });
                running.store(true, Release);
                if let Err(e) = result {
                    return e;
                }
            }
        });
        while !running.load(Acquire) {
            thread::yield_now();
        }
        cancel.store(1, Release);
        run.join().unwrap()
    });
    assert!(is_cancelled(&error), "{error}");
}
