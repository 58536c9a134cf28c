//! Classifies rows of numbers with a model that is compiled into this program.
//!
//!     cargo build --release                               in the repository: makes the command graphc
//!     cd examples/rust
//!     GRAPHC=../../target/release/graphc cargo run --release -- 3

use graphc_model::{Error, Input, Options};

graphc_model::include_model!(mlp);

fn main() -> Result<(), Error> {
    let rows = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(3);
    let x: Vec<f32> = (0..rows * 64).map(|i| (i as f32).sin()).collect();

    let model = mlp::Model::new(Options { threads: 2, ..Options::default() })?;
    let mut predict = model.serving_default()?;
    let y = predict.run(Input::new(&x, [rows, 64])?)?.output;
    for (k, row) in y.data().chunks(y.dims()[1]).enumerate() {
        let (class, p) = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap_or((0, &0.0));
        println!("row {k}: class {class} with probability {p:.4}");
    }

    // Types and ranks are Rust's; an extent is told when the function runs.
    match predict.run(Input::new(&x, [rows * 2, 32])?) {
        Err(e) => println!("a wrong shape: {e}"),
        Ok(_) => println!("a wrong shape was taken"),
    }
    Ok(())
}
