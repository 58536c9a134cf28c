#![cfg_attr(fuzzing, no_main)]

#[macro_use]
#[path = "target.rs"]
mod target;

target!(graphc_frontend::fuzz::saved_model);
