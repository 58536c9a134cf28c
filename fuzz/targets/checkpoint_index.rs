#![cfg_attr(fuzzing, no_main)]

#[macro_use]
#[path = "target.rs"]
mod target;

fn index(bytes: &[u8]) {
    graphc_frontend::fuzz::checkpoint_index(bytes, std::path::Path::new("/nonexistent/model.ckpt"));
}

target!(index);
