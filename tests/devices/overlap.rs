//! Parts that do not wait for one another run at one time.

use crate::graphs::*;
use crate::support::*;
use crate::traffic::alone;
use crate::{callable, floats, on_gpu};
use graphc::{DeviceName, RunOptions, Session, SessionOptions, Stage, Tensor, View, Watcher};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// What a run did, and when.
#[derive(Default)]
struct Trace {
    events: Mutex<Vec<(Stage, bool, Instant)>>,
    moved: Condvar,
    /// Parts that wait, when they begin, until all of them have begun.
    together: Vec<DeviceName>,
}

impl Watcher for Trace {
    fn begin(&self, stage: &Stage) {
        let mut events = self.events.lock().unwrap();
        events.push((stage.clone(), true, Instant::now()));
        self.moved.notify_all();
        if stage.what.starts_with("segment of") && stage.what.contains("meet") {
            let meets = |e: &(Stage, bool, Instant), d: DeviceName| e.1 && e.0.device == d && e.0.what.contains("meet");
            // Only a run that is wrong waits so long.
            let all = |e: &mut Vec<(Stage, bool, Instant)>| !self.together.iter().all(|d| e.iter().any(|e| meets(e, *d)));
            let (_seen, timeout) = self.moved.wait_timeout_while(events, Duration::from_secs(60), all).unwrap();
            assert!(!timeout.timed_out(), "{} began, and the others did not", stage.what);
        }
    }

    fn end(&self, stage: &Stage) {
        self.events.lock().unwrap().push((stage.clone(), false, Instant::now()));
    }
}

impl Trace {
    /// The place of an event among all.
    fn at(&self, begin: bool, what: &str) -> usize {
        let events = self.events.lock().unwrap();
        let found = events.iter().position(|(s, b, _)| *b == begin && s.what.contains(what));
        found.unwrap_or_else(|| panic!("{what}: {:?}", events.iter().map(|e| (&e.0.what, e.1)).collect::<Vec<_>>()))
    }
}

/// A part on the GPU and one on the CPU that read the same input, and a part on the GPU that reads both.
fn fork() -> Graph {
    let values: String = (0..256).map(|k| format!("float_val: {} ", (k % 5) as f32 * 0.1)).collect();
    Graph::new()
        .input("x", F32, &[-1, 16])
        .constant("w", F32, &[16, 16], &values)
        .node("meet_there", "MatMul", &["x", "w"], &float())
        .on("/gpu:0")
        .node("meet_here", "Tanh", &["x"], &float())
        .on("/cpu:0")
        .node("meet_here_too", "Exp", &["meet_here"], &float())
        .on("/cpu:0")
        .node("last", "AddV2", &["meet_there", "meet_here_too"], &float())
        .on("/gpu:0")
}

#[test]
fn parts_on_two_devices_run_at_one_time() {
    let _alone = alone();
    let folder = Folder::new("overlap");
    let file = fork().write(&folder, "fork");
    let (there, here) = (on_gpu(&file), Session::open(&file, SessionOptions::default()).unwrap());
    let [a, b] = [&there, &here].map(|s| callable(s, &["x"], &["last"]));
    let x = floats(&[4, 16], 0.0);
    let want = b.run_tensors(std::slice::from_ref(&x)).unwrap().remove(0);
    let feeds = [View::try_from(&x).unwrap()];
    for _ in 0..3 {
        // Each of the two waits for the other's beginning: one after the other they would wait for ever.
        let trace = Trace { together: vec![DeviceName::Cpu, DeviceName::Gpu(0)], ..Trace::default() };
        let got = a.run_with(&feeds, &mut RunOptions { watch: Some(&trace), ..RunOptions::default() }).unwrap().remove(0);
        assert!(graphc::compare::compare(&got, &want).within(1e-5, 1e-6));
        let (cpu, gpu, last) = (trace.at(true, "on CPU:0, \"meet"), trace.at(true, "meet_there"), trace.at(true, "\"last\""));
        let ends = [trace.at(false, "on CPU:0, \"meet"), trace.at(false, "meet_there")];
        assert!(cpu.max(gpu) < ends[0].min(ends[1]), "they did not overlap");
        // What must wait does: a value is sent when it is made, received before it is read.
        assert!(ends[0] < trace.at(true, "send \"meet_here_too") && trace.at(true, "recv \"meet_here_too") < last);
        assert!(ends.iter().all(|e| *e < last), "the last part began early");
        let events = trace.events.lock().unwrap();
        assert!(events.windows(2).all(|w| w[0].2 <= w[1].2), "times of events go back");
    }
}

#[test]
fn a_part_that_fails_ends_the_run_and_no_other() {
    let _alone = alone();
    let folder = Folder::new("overlap-failing");
    let lookup = [Type("Tparams", F32), Type("Tindices", "DT_INT32"), Type("Taxis", "DT_INT64"), Int("batch_dims", 0)];
    let graph = fork()
        .input("ids", "DT_INT32", &[-1])
        .int("axis", 0)
        .node("rows", "GatherV2", &["w", "ids", "axis"], &lookup)
        .on("/gpu:0")
        .node("sum", "AddV2", &["meet_here_too", "rows"], &float())
        .on("/cpu:0");
    let session = on_gpu(&graph.write(&folder, "failing"));
    let both = callable(&session, &["x", "ids"], &["last", "sum"]);
    let run = |id: i32| both.run_tensors(&[floats(&[2, 16], 0.0), Tensor::from_slice(&[2], &[3, id]).unwrap()]);
    for _ in 0..3 {
        assert_eq!(run(15).unwrap().len(), 2);
        let e = run(16).unwrap_err();
        assert!(e.to_string().contains("\"rows\"") && e.status() == 3, "{e}");
    }
}
