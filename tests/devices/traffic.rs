//! Values that stay on a device do not move.

use crate::graphs::*;
use crate::support::*;
use crate::{GPU, callable, floats, on_gpu};
use graphc::{Callable, DeviceName, Session, SessionOptions, Tensor, Traffic};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Devices count what all sessions move, so that one case runs at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Values and bytes that a run moves up and down.
pub fn moved(session: &Session, on: DeviceName, f: impl FnOnce()) -> [(u64, u64); 2] {
    let before: Traffic = session.traffic(on).unwrap();
    f();
    let after = session.traffic(on).unwrap();
    assert_eq!(before.across, after.across);
    [(before.up, after.up), (before.down, after.down)].map(|(b, a)| (a.values - b.values, a.bytes - b.bytes))
}

fn weights(g: Graph, name: &str, n: i64) -> Graph {
    let values: String = (0..n * n).map(|k| format!("float_val: {} ", (k % 5) as f32 * 0.1 - 0.2)).collect();
    g.constant(name, F32, &[n, n], &values)
}

fn variable(g: Graph, name: &str, n: i64) -> Graph {
    g.node(name, "VarHandleOp", &[], &[Type("dtype", F32), Shape("shape", &[n, n]), Text("shared_name", name)])
}

/// A product with a variable, which each run of `step` changes; `start` gives it a value.
pub fn model() -> Graph {
    let dtype = [Type("dtype", F32)];
    let g = variable(weights(Graph::new().input("x", F32, &[-1, 16]), "first", 16), "w", 16);
    g.node("start", "AssignVariableOp", &["w", "first"], &dtype)
        .node("read", "ReadVariableOp", &["w"], &dtype)
        .node("y", "MatMul", &["x", "read"], &float())
        .node("add", "AssignAddVariableOp", &["w", "first", "^y"], &dtype)
        .node("after", "ReadVariableOp", &["w", "^add"], &dtype)
        .node("z", "MatMul", &["x", "after"], &float())
        .node("step", "AddV2", &["y", "z"], &float())
}

#[test]
fn variables_live_on_the_device() {
    let _alone = alone();
    let folder = Folder::new("variables-on-devices");
    let file = model().write(&folder, "model");
    let (there, here) = (on_gpu(&file), Session::open(&file, SessionOptions::default()).unwrap());
    for s in [&there, &here] {
        s.run(&[], &[], &["start"]).unwrap();
    }
    let (x, steps) = (floats(&[3, 16], 1.0), [&there, &here].map(|s| callable(s, &["x"], &["step"])));
    let run = |c: &Callable| c.run_tensors(std::slice::from_ref(&x)).unwrap().remove(0);
    let same = || {
        let (a, b) = (run(&steps[0]), run(&steps[1]));
        assert!(graphc::compare::compare(&a, &b).within(1e-5, 1e-6));
    };
    same();
    // The input goes up and the output down, and the variable stays where it is.
    for _ in 0..3 {
        assert_eq!(moved(&there, GPU, same), [(1, 3 * 16 * 4), (1, 3 * 16 * 4)]);
    }
    // Whoever on the host wants the value gets the last one, which is then in both places.
    let value = |s: &Session| s.run(&[], &["read:0"], &[]).unwrap().remove(0);
    let (a, b) = (value(&there), value(&here));
    assert!(graphc::compare::compare(&a, &b).within(1e-5, 1e-6));
    same();
    assert_eq!(moved(&there, GPU, same), [(1, 3 * 16 * 4), (1, 3 * 16 * 4)]);
    // A new value on the host goes up once.
    for s in [&there, &here] {
        s.reset();
        s.run(&[], &[], &["start"]).unwrap();
    }
    same();
    assert_eq!(moved(&there, GPU, same), [(1, 3 * 16 * 4), (1, 3 * 16 * 4)]);
}

/// Two parts on a GPU with a host function between them: the second reads what the first made, and what the host made of a string.
pub fn two_parts() -> Graph {
    let g = weights(Graph::new().input("x", F32, &[-1, 16]).input("text", "DT_STRING", &[-1, 1]), "w", 16);
    g.node("a", "MatMul", &["x", "w"], &float())
        .node("b", "Tanh", &["a"], &float())
        .node("number", "StringToNumber", &["text"], &[Type("out_type", F32)])
        .node("c", "Mul", &["b", "number"], &float())
        .node("y", "MatMul", &["c", "w"], &float())
}

pub fn text(n: usize) -> Tensor {
    let numbers = (0..n).map(|k| format!("{}.5", k).into_bytes().into_boxed_slice()).collect();
    Tensor::from_strings(&[n, 1], numbers).unwrap()
}

#[test]
fn values_between_parts_stay_on_the_device() {
    let _alone = alone();
    let folder = Folder::new("parts-on-devices");
    let file = two_parts().write(&folder, "model");
    let (there, here) = (on_gpu(&file), Session::open(&file, SessionOptions::default()).unwrap());
    let [a, b] = [&there, &here].map(|s| callable(s, &["x", "text"], &["y"]));
    let same = |n: usize| {
        let feeds = [floats(&[n, 16], 0.5), text(n)];
        let (a, b) = (a.run_tensors(&feeds).unwrap().remove(0), b.run_tensors(&feeds).unwrap().remove(0));
        assert!(graphc::compare::compare(&a, &b).within(1e-5, 1e-6), "{n}");
    };
    same(3);
    let outline = a.stages();
    assert!(outline.iter().filter(|s| s.starts_with("segment") && s.contains("GPU:0")).count() == 2, "{outline:?}");
    // The input and the host's number go up, the output down.
    for n in [3, 3, 5, 3] {
        let bytes = n as u64 * 16 * 4;
        assert_eq!(moved(&there, GPU, || same(n)), [(2, bytes + n as u64 * 4), (1, bytes)], "{n}");
    }
    a.trim();
    same(3);
    std::thread::scope(|s| {
        for k in 1..4 {
            let same = &same;
            s.spawn(move || (0..4).for_each(|_| same(k)));
        }
    });
}

#[test]
fn what_the_cpu_reads_too_comes_down_once() {
    let _alone = alone();
    let folder = golden("split");
    let session = on_gpu(&folder.join("saved_model"));
    let callable = session.signature(None).unwrap();
    for reference in references(&folder) {
        let inputs = reference.inputs(&callable);
        let n = inputs[0].shape()[0] as u64;
        let run = || {
            let got = callable.run_tensors(&inputs).unwrap();
            let wrong = reference.differences(&callable, &got, 1e-4, "on two devices");
            assert!(wrong.is_empty(), "{wrong:?}");
        };
        run();
        let [up, down] = moved(&session, GPU, run);
        let parts = callable.partition().unwrap();
        // Up go the input, the softmax and the sums; down go the layer, once for both that read it on the CPU, and the outputs.
        assert!(up.0 <= 3 && up.1 <= n * (16 + 8 + 1) * 4, "{up:?} {parts}");
        assert!(down.0 <= 3 && down.1 <= n * (32 + 8 + 8) * 4, "{down:?} {parts}");
    }
}

#[test]
fn what_a_loop_hands_on_stays_on_the_device() {
    let _alone = alone();
    let folder = golden("rounds");
    let session = on_gpu(&folder.join("saved_model"));
    let callable = session.signature(None).unwrap();
    for reference in references(&folder) {
        let inputs = reference.inputs(&callable);
        let input = |name: &str| &inputs[callable.inputs().iter().position(|p| p.name == name).unwrap()];
        let (rows, rounds) = (input("x").shape()[0] as u64, input("n").to_ints().unwrap()[0] as u64);
        let run = || {
            let got = callable.run_tensors(&inputs).unwrap();
            let wrong = reference.differences(&callable, &got, 1e-4, "round by round");
            assert!(wrong.is_empty(), "{wrong:?}");
        };
        run();
        let [up, down] = moved(&session, GPU, run);
        // The state goes up and comes down once; in each round move some numbers.
        let (state, numbers) = (rows * 16 * 4, 32 * (rounds + 1));
        assert!(up.1 <= 2 * state + numbers && down.1 <= state + numbers, "{rounds} rounds of {state} bytes: {up:?} {down:?}");
    }
}
