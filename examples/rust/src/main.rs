//! Classifies rows of numbers, and a text, with models that are compiled into this program.
//!
//!     cargo build --release                               in the repository: makes the command graphc
//!     cd examples/rust
//!     GRAPHC=../../target/release/graphc cargo run --release -- 3 "compile the graph"

use graphc_model::{Error, Input, Options, Text};

graphc_model::include_model!(mlp);
graphc_model::include_model!(words);

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

    // A model of strings runs in stages: compiled parts, and library functions between them.
    let text = std::env::args().nth(2).unwrap_or_else(|| "compile the graph".to_owned());
    let model = words::Model::new(Options::default())?;
    let mut classify = model.serving_default()?;
    let answer = classify.run(Input::new(&[Text::new(&text)], [1])?)?;
    println!("{text:?} is {:?}", answer.label.data[0]);
    Ok(())
}
