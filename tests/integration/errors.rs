//! What callers of the library hear when something does not fit.

use crate::graphs::{F32, Graph, float, lookup, unsupported};
use crate::support::*;
use graphc::{Elem, Error, RunOptions, Tensor, View};

fn floats(shape: &[usize]) -> Tensor {
    Tensor::from_slice(shape, &vec![0.5f32; shape.iter().product()]).unwrap()
}

#[test]
fn feeds_that_do_not_fit_are_named() {
    let callable = golden_callable("small_cnn", 1);
    let good: Vec<usize> =
        callable.inputs()[0].shape.as_ref().unwrap().iter().map(|d| d.as_const().unwrap_or(2) as usize).collect();
    callable.run_tensors(&[floats(&good)]).unwrap();
    let mut wide = good.clone();
    *wide.last_mut().unwrap() += 1;
    let doubles = Tensor::from_slice(&good, &vec![0.5f64; good.iter().product()]).unwrap();
    for (what, feed) in [("a dimension", floats(&wide)), ("the rank", floats(&good[1..])), ("the type", doubles)] {
        let name = callable.inputs()[0].name.clone();
        match callable.run_tensors(&[feed]) {
            Err(Error::Feed { name: n, .. }) => assert_eq!(n, name, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    for feeds in [vec![], vec![floats(&good), floats(&good)]] {
        let e = callable.run_tensors(&feeds).unwrap_err();
        assert!(matches!(e, Error::Feed { .. }) && e.code() == "GC0701", "{e}");
    }
    assert_eq!(callable.variants(), 1);
}

#[test]
fn outputs_that_do_not_fit_are_named() {
    let callable = golden_callable("mlp", 1);
    let x = floats(&[2, 64]);
    let (mut small, mut right) = (vec![0u8; 79], vec![0u8; 80]);
    let view = [View::try_from(&x).unwrap()];
    let e = callable.run_into(&view, &mut [&mut small], &mut RunOptions::default()).unwrap_err();
    assert!(matches!(&e, Error::Output { name, .. } if *name == callable.outputs()[0].name), "{e}");
    assert!(callable.run_into(&view, &mut [], &mut RunOptions::default()).is_err());
    assert!(callable.run_into(&view, &mut [&mut right, &mut small], &mut RunOptions::default()).is_err());
    callable.run_into(&view, &mut [&mut right], &mut RunOptions::default()).unwrap();
}

#[test]
fn names_that_are_not_there_are_named() {
    let session = open(&golden("mlp").join("saved_model"), 1);
    for e in [
        session.signature(Some("nope")).err().unwrap(),
        session.callable(&[], &["nope:0".into()], &[]).err().unwrap(),
        session.callable(&["nope:0".into()], &["StatefulPartitionedCall:0".into()], &[]).err().unwrap(),
        session.run(&[], &["nope:0"], &[]).err().unwrap(),
    ] {
        assert!(e.to_string().contains("nope"), "{e}");
    }
}

#[test]
fn all_unsupported_ops_are_reported_at_once() {
    let folder = Folder::new("unsupported");
    let e = open(&unsupported().write(&folder, "graph"), 1).signature(None).err().unwrap();
    assert!(e.is_unsupported());
    let message = e.to_string();
    for part in ["NoSuchOpA ×2", "NoSuchOpB ×1", "\"a\"", "\"c\""] {
        assert!(message.contains(part), "no {part} in: {message}");
    }
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn an_index_out_of_range_names_its_node() {
    let folder = Folder::new("index");
    let callable = open(&lookup().write(&folder, "graph"), 1).signature(None).unwrap();
    let ids = |v: &[i32]| Tensor::from_slice(&[v.len()], v).unwrap();
    let good = callable.run_tensors(&[ids(&[3, 0])]).unwrap();
    assert_eq!(good[0].to_reals().unwrap(), [6.0, 7.0, 0.0, 1.0]);
    assert_eq!((good[0].elem(), good[0].shape()), (Elem::F32, &[2, 2][..]));
    for bad in [4, -1, i32::MAX, i32::MIN] {
        let e = callable.run_tensors(&[ids(&[0, bad])]).unwrap_err();
        let message = e.to_string();
        assert!(message.contains("embedding/lookup") && message.contains(&format!("index {bad} ")), "{message}");
        assert_eq!(e.status(), graphc::StatusCode::InvalidArgument as i32);
    }
    callable.run_tensors(&[ids(&[1])]).unwrap();
    assert_eq!(callable.variants(), 1);
}

/// Sizes that no memory holds are refused, and the session answers the next run as before: what was sized for the failed one is not used.
#[test]
fn sizes_without_memory_are_refused() {
    let folder = Folder::new("memory");
    let graph = Graph::new().input("x", F32, &[-1, 0]).constant("w", F32, &[0, 5], "");
    let graph = graph.node("y", "MatMul", &["x", "w"], &float()).node("z", "Exp", &["y"], &float());
    let callable = open(&graph.write(&folder, "graph"), 1).signature(None).unwrap();
    let run = |rows: usize| callable.run(&[View::new(Elem::F32, &[rows, 0], &[]).unwrap()]);
    for _ in 0..2 {
        let good = run(3).unwrap();
        assert_eq!((good[0].shape(), good[0].to_reals().unwrap()), (&[3, 5][..], vec![1.0; 15]));
        for rows in [1 << 40, 1 << 50, 1 << 60, i64::MAX as usize, usize::MAX] {
            let e = run(rows).unwrap_err();
            assert!(matches!(e, Error::Memory | Error::Feed { .. }), "{rows} rows: {e}");
        }
    }
    let x = [View::new(Elem::F32, &[1 << 50, 0], &[]).unwrap()];
    assert!(callable.run_into(&x, &mut [&mut [0; 60]], &mut RunOptions::default()).is_err());
    assert_eq!(callable.variants(), 1);
}
