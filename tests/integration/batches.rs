//! One compiled function takes every size that its signature leaves open.

use crate::support::*;
use graphc::compare::compare;
use graphc::{Callable, Tensor};

/// The rows `from..to` of a tensor's first axis.
fn rows(t: &Tensor, from: usize, to: usize) -> Tensor {
    let row = t.bytes().len() / t.shape()[0];
    let shape = [&[to - from], &t.shape()[1..]].concat();
    Tensor::from_bytes(t.elem(), shape, t.bytes()[from * row..to * row].to_vec()).unwrap()
}

fn all_rows(tensors: &[Tensor], from: usize, to: usize) -> Vec<Tensor> {
    tensors.iter().map(|t| rows(t, from, to)).collect()
}

fn assert_close(got: &[Tensor], want: &[Tensor], rtol: f64, what: &str) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        let d = compare(g, w);
        assert!(d.within(rtol, 1e-6), "{what}: {d:?}");
    }
}

/// Checks that each batch answers what its rows answer one by one.
fn check_batches(callable: &Callable, inputs: &[Tensor], name: &str) {
    let largest = inputs[0].shape()[0];
    let whole = callable.run_tensors(inputs).unwrap();
    for batch in [1, 2, 5, largest] {
        let got = callable.run_tensors(&all_rows(inputs, 0, batch)).unwrap();
        assert!(got.iter().all(|t| t.shape()[0] == batch));
        // Sums may be taken in another order at another size.
        assert_close(&got, &all_rows(&whole, 0, batch), 2e-5, &format!("{name}, batch {batch}"));
    }
    for row in [0, 1, largest / 2, largest - 1] {
        let got = callable.run_tensors(&all_rows(inputs, row, row + 1)).unwrap();
        assert_close(&got, &all_rows(&whole, row, row + 1), 2e-5, &format!("{name}, row {row}"));
    }
    assert_eq!(callable.variants(), 1, "{name} was compiled again");
}

#[test]
fn one_session_answers_every_batch() {
    for name in GOLDEN {
        let callable = golden_callable(name, 1);
        let inputs = Random(3).inputs(&callable, &|_, axis| if axis == 0 { 33 } else { 6 });
        check_batches(&callable, &inputs, name);
    }
}

#[test]
fn one_session_answers_every_sequence_length() {
    let callable = golden_callable("transformer", 2);
    let mut random = Random(5);
    for (batch, length) in [(1, 1), (2, 5), (3, 12), (1, 17), (5, 2)] {
        let inputs = random.inputs(&callable, &|_, axis| [batch, length][axis]);
        match callable.interpret(&inputs) {
            Ok(want) => {
                assert_close(&callable.run_tensors(&inputs).unwrap(), &want, 1e-5, &format!("batch {batch}, length {length}"))
            }
            // The table of positions ends; compiled code must find the same.
            Err(_) => assert!(callable.run_tensors(&inputs).is_err(), "batch {batch}, length {length}"),
        }
    }
    assert_eq!(callable.variants(), 1, "compiled again");
}

#[test]
fn an_empty_batch_answers_with_empty_outputs() {
    for name in GOLDEN {
        let callable = golden_callable(name, 2);
        let inputs = Random(3).inputs(&callable, &|_, axis| if axis == 0 { 0 } else { 6 });
        let got = callable.run_tensors(&inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(got.iter().all(|t| t.shape()[0] == 0 && t.bytes().is_empty()), "{name}");
        assert_eq!(callable.variants(), 1, "{name} was compiled again");
    }
}

#[test]
fn a_length_of_zero_is_answered_or_refused() {
    let callable = golden_callable("transformer", 1);
    let inputs = Random(3).inputs(&callable, &|_, axis| [2, 0][axis]);
    let (got, want) = (callable.run_tensors(&inputs), callable.interpret(&inputs));
    match (got, want) {
        (Ok(g), Ok(w)) => assert_close(&g, &w, 1e-5, "length 0"),
        (g, w) => assert_eq!(g.is_err(), w.is_err(), "{:?} and {:?}", g.err(), w.err()),
    }
}
