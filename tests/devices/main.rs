//! Sessions over a CPU and GPUs: what moves between them, and what runs at one time. On the GPUs that are there: Mesa's driver in software, or the
//! stand-in for CUDA (`LD_LIBRARY_PATH`), which plays as many as `GRAPHC_STANDIN=devices=2` says.
#![cfg(feature = "gpu")]

#[allow(dead_code)]
#[path = "../integration/graphs.rs"]
mod graphs;
#[allow(dead_code)]
#[path = "../integration/support.rs"]
mod support;

mod overlap;
mod packages;
mod traffic;
mod two;

use graphc::{Callable, DeviceName, PlaceBy, Session, SessionOptions, Tensor};
use std::path::Path;

const GPU: DeviceName = DeviceName::Gpu(0);

/// A session on the first GPU.
fn on_gpu(model: &Path) -> Session {
    let options = SessionOptions { device: GPU, place_by: PlaceBy::Device, ..SessionOptions::default() };
    Session::open(model, options).unwrap_or_else(|e| panic!("{}: {e}", model.display()))
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|n| format!("{n}:0")).collect()
}

fn callable(session: &Session, feeds: &[&str], fetches: &[&str]) -> Callable {
    session.callable(&names(feeds), &names(fetches), &[]).unwrap_or_else(|e| panic!("{fetches:?}: {e}"))
}

fn floats(shape: &[usize], from: f32) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|k| from + (k % 7) as f32 * 0.25).collect();
    Tensor::from_slice(shape, &values).unwrap()
}
